import itertools
import weakref
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linprog
from torch import nn

from adversarial_lab import data, nets
from adversarial_lab.certified import (
    METHODS,
    RULES,
    Interval,
    bound,
    certified_radius,
    certify,
    ibp,
    margins,
    polytope,
    radius_path,
    region,
    trace,
    worst_input,
)
from adversarial_lab.certified.affine import AFFINE, rounding
from adversarial_lab.certified.crown import relax
from adversarial_lab.certified.relaxation import RELAXATIONS
from adversarial_lab.pgd import attack_model, pgd_path, strongest
from adversarial_lab.threat import ThreatModel

NORMS = ("linf", "l2", "l1")
FAST = ("ibp-logits", "ibp", "crown-ibp", "crown")
free = partial(ThreatModel, box=None)


def worst(bounds):
    return bounds.amin(1)


def gaps(logits, y):
    """z_y - z_j, +inf at j = y."""
    right = logits.gather(1, y[:, None])
    return (right - logits).scatter(1, y[:, None], torch.inf)


def mlp(seed, widths=(2, 5, 4, 3), act=nn.ReLU):
    torch.manual_seed(seed)
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1]).double()


class Residual(nn.Module):
    """Two paths, a layer used twice, functions and methods in forward."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Conv2d(1, 3, 3, padding=1)
        self.twice = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.out = nn.Linear(3 * 4, 3)

    def forward(self, x):
        x = self.enter(x)
        y = F.relu(self.norm(self.twice(x)))
        x = x + self.twice(y)
        x = F.max_pool2d(torch.tanh(x), 2)
        x = F.avg_pool2d(x, 2, 1, padding=1).relu()
        return self.out(F.adaptive_avg_pool2d(x, 2).flatten(1))


def pooled():
    return nn.Sequential(
        nets.Normalize((0.5,), (0.3,)),
        nn.Conv2d(1, 4, 3, stride=2, padding=2, padding_mode="circular"),
        nn.BatchNorm2d(4),
        nn.LeakyReLU(0.2, inplace=True),
        nn.MaxPool2d(3, 2, 1),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(16, 6),
        nn.BatchNorm1d(6),
        nn.ELU(),
        nn.Linear(6, 3),
    )


def smooth():
    parts = [nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Hardtanh, partial(nn.ELU, 1.7)]
    layers = [nn.Flatten(), nn.Linear(36, 6)]
    for part in parts:
        layers += [part(), nn.Linear(6, 6)]
    return nn.Sequential(*layers, nn.Linear(6, 3))


NETWORKS = {"residual": Residual, "pooled": pooled, "smooth": smooth}


def lively(name):
    """One of those networks in double, with batch statistics and weights that matter."""
    torch.manual_seed(3)
    model = NETWORKS[name]().double()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.2, 2)
                module.weight.normal_()  # of both signs
                module.bias.normal_()
            elif isinstance(module, nn.Linear):
                module.weight.mul_(2)
    return model.eval()


@pytest.fixture
def images(rng):
    return torch.rand(3, 1, 6, 6, generator=rng, dtype=torch.float64)


# -- ground truth --------------------------------------------------------------------------------


def layers_of(model):
    return [(m.weight.numpy(), m.bias.numpy()) for m in model if isinstance(m, nn.Linear)]


def enumerated(model, c, low, high):
    """min c.z over a box by one small program for each pattern of a two-hidden-layer ReLU net."""
    (w1, b1), (w2, b2), (w3, b3) = [(w.astype(float), b) for w, b in layers_of(model)]
    best = np.inf
    for pattern in itertools.product([0.0, 1.0], repeat=len(b1) + len(b2)):
        d1, d2 = np.array(pattern[: len(b1)]), np.array(pattern[len(b1) :])
        v, v0 = w2 @ (d1[:, None] * w1), w2 @ (d1 * b1) + b2
        out, out0 = c @ w3 @ (d2[:, None] * v), c @ (w3 @ (d2 * v0) + b3)
        sides = np.concatenate([1 - 2 * d1, 1 - 2 * d2])  # the sign that the pattern forbids
        rows, right = np.concatenate([w1, v]), np.concatenate([b1, v0])
        answer = linprog(
            out, sides[:, None] * rows, -sides * right, bounds=list(zip(low, high, strict=True))
        )
        if answer.status == 0:
            best = min(best, answer.fun + out0)
    return best


@pytest.mark.slow
@pytest.mark.claim(
    "17.4.2", "interval, linear, polytope bounds: each tighter, none above the true minimum"
)
def test_every_bound_in_its_place_below_the_true_minimum():
    strict = torch.zeros(5, dtype=torch.bool)
    for seed in range(4):
        model = mlp(seed, (2, 4, 3, 3)).requires_grad_(False)
        x = torch.rand(2, 2, generator=torch.Generator().manual_seed(seed)).double()
        y, threat = torch.tensor([0, 1]), ThreatModel(norm="linf", eps=0.4)
        names = ("ibp-logits", "ibp", "crown", "lp", "milp")
        chain = torch.stack([margins(model, x, y, threat, m, outward=False) for m in names])
        assert (chain[1:] >= chain[:-1] - 1e-7)[:, chain[0] < torch.inf].all()
        box = region(x, threat).box
        for i, j in itertools.product(range(2), range(3)):
            if j == y[i]:
                continue
            c = np.eye(3)[y[i]] - np.eye(3)[j]
            true = enumerated(model, c, box.lower[i].tolist(), box.upper[i].tolist())
            assert chain[4, i, j].item() == pytest.approx(true, abs=1e-6)
            proved = [margins(model, x, y, threat, m)[i, j] for m in names[:4]]
            assert max(proved) <= true + 1e-12
            assert margins(model, x, y, threat, "crown-ibp")[i, j] <= true + 1e-12
            strict[:4] |= chain[1:, i, j] > chain[:-1, i, j] + 1e-4
    assert strict[:4].all()  # and none of the steps is empty


def test_the_enumerated_minimum_is_that_of_a_dense_grid():
    model, c = mlp(1, (2, 4, 3, 3)).requires_grad_(False), np.array([1.0, 0.0, -1.0])
    u = torch.linspace(0, 1, 301, dtype=torch.float64)
    z = model(torch.cartesian_prod(u, u))
    grid = (z[:, 0] - z[:, 2]).min().item()
    true = enumerated(model, c, [0, 0], [1, 1])
    assert true <= grid + 1e-12 and grid - true < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l1"])
@pytest.mark.claim(
    "17.4.3", "inside a certified set there is no adversarial example; outside one is found"
)
def test_complete_verification_and_its_counterexample(norm):
    model = mlp(3, (3, 8, 8, 3)).requires_grad_(False)
    x = torch.rand(12, 3, generator=torch.Generator().manual_seed(0)).double()
    y, threat = model(x).argmax(1), ThreatModel(norm=norm, eps=0.25)
    z, least = worst_input(model, x, y, threat)
    assert threat.contains(x, z).all()
    torch.testing.assert_close(worst(gaps(model(z), y)), least, atol=1e-6, rtol=0)
    exact = margins(model, x, y, threat, "milp", outward=False)
    torch.testing.assert_close(worst(exact), least, atol=1e-6, rtol=0)
    broken = least < 0
    assert broken.any() and not broken.all()
    assert (model(z).argmax(1) != y)[broken].all()
    assert torch.equal(certify(model, x, y, threat, "milp"), least > 1e-5)


@pytest.mark.claim("17.4.2", "linear programs: guaranteed by the multipliers, not by the solver")
def test_what_multipliers_prove_needs_no_solver(rng):
    # any multipliers prove a bound below the optimum, and the optimal ones prove the optimum
    model = mlp(6, (3, 8, 8, 3)).requires_grad_(False)
    x, y = torch.rand(1, 3, generator=rng).double(), torch.tensor([0])
    where = region(x, ThreatModel(norm="linf", eps=0.3))
    for _, j, program, result in polytope._solved(trace(model), where, y, exact=False):
        c = polytope._objective(program, 0, j)
        assert polytope._proved(program, c, result) == pytest.approx(result.fun, abs=1e-9)
        assert polytope._proved(program, c, result) <= result.fun
        for _ in range(20):
            for part in (result.ineqlin, result.eqlin):
                noise = torch.randn(len(part.marginals), generator=rng, dtype=torch.float64)
                part.marginals = part.marginals + 0.1 * noise.numpy()
            assert polytope._proved(program, c, result) < result.fun


def test_milp_in_l1_agrees_with_every_corner_of_a_linear_network():
    model = nn.Sequential(nn.Linear(4, 3)).double().requires_grad_(False)
    x = torch.full((1, 4), 0.5, dtype=torch.float64)
    y, threat = torch.tensor([0]), ThreatModel(norm="l1", eps=0.3)
    corners = torch.cat([x + 0.3 * s * torch.eye(4, dtype=torch.float64) for s in (1, -1)])
    true = gaps(model(corners), y.expand(8)).amin(0)
    for method in ("crown", "lp", "milp"):
        found = margins(model, x, y, threat, method, outward=False)[0]
        torch.testing.assert_close(found, true)


# -- cases done by hand --------------------------------------------------------------------------


def by_hand(first, second, bias=0.0):
    """x -> relu(first x) -> second, as logit 0, against logit 1 = 0."""
    model = nn.Sequential(nn.Linear(1, len(first)), nn.ReLU(), nn.Linear(len(first), 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(first)[:, None])
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([second, [0.0] * len(first)]))
        model[2].bias.copy_(torch.tensor([bias, 0.0]))
    return model.requires_grad_(False)


def bounds_by_hand(model, x, eps):
    x = torch.tensor([[x]], dtype=torch.float64)
    y, threat = torch.tensor([0]), free(norm="linf", eps=eps)
    names = ("ibp", "crown", "lp", "milp")
    return [margins(model, x, y, threat, m, outward=False)[0, 1].item() for m in names]


@pytest.mark.claim("17.4.2", "interval bounds are conservative: they forget that x - x = 0")
def test_x_minus_x_by_hand():
    # x in [1, 3]: intervals give [1, 3] - [1, 3] = [-2, 2], the others know that it is one x
    assert bounds_by_hand(by_hand([1.0, 1.0], [1.0, -1.0]), 2.0, 1.0) == pytest.approx(
        [-2, 0, 0, 0]
    )


def test_the_triangle_by_hand():
    # -relu(x) - relu(-x) = -|x| on [-1, 1]: true minimum -1; each triangle's roof is (1 +- x)/2,
    # together 1: the polytope is tight here; intervals say -2
    assert bounds_by_hand(by_hand([1.0, -1.0], [-1.0, -1.0]), 0.0, 1.0) == pytest.approx(
        [-2, -1, -1, -1]
    )
    # relu(x) - relu(-x) = x on [-1, 3]: minimum -1. Roof of relu(-x): (3 - x)/4. Linear bounds take
    # x below relu(x): x - (3 - x)/4 at -1 is -2. The polytope takes max(x, 0), at -1: 0 - 1 = -1,
    # at 0: -3/4.
    assert bounds_by_hand(by_hand([1.0, -1.0], [1.0, -1.0]), 1.0, 2.0) == pytest.approx(
        [-1, -1, -1, -1]
    )
    # relu(x) - 2 relu(-x)/... both hidden values wanted small: relu(x) + relu(-x) = |x| on [-1, 3]
    # is 0 at 0. Linear bounds take x + 0 and give -1 (intervals give 0, so does the best of both)
    assert bounds_by_hand(by_hand([1.0, -1.0], [1.0, 1.0]), 1.0, 2.0) == pytest.approx([0, 0, 0, 0])


@pytest.mark.claim(
    "17.4.2", "the logit criterion is sound but weaker than bounding margins with elision"
)
def test_logits_that_move_together():
    # z_0 = h + 1, z_1 = h with h in [-1, 1]: the margin is 1, the logits' intervals overlap
    model = nn.Sequential(nn.Linear(1, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.ones(2, 1))
        model[0].bias.copy_(torch.tensor([1.0, 0.0]))
    x, y, threat = torch.zeros(1, 1).double(), torch.tensor([0]), free(norm="linf", eps=1.0)
    assert margins(model, x, y, threat, "ibp", outward=False)[0, 1].item() == pytest.approx(1)
    assert margins(model, x, y, threat, "ibp-logits", outward=False)[0, 1].item() == pytest.approx(
        -1
    )
    assert certify(model, x, y, threat, "ibp") and not certify(model, x, y, threat, "ibp-logits")


# -- what one layer, or none that bends, must give -------------------------------------------------


@pytest.mark.parametrize("norm, dual", [("linf", 1), ("l2", 2), ("l1", torch.inf)])
def test_a_linear_model_has_its_dual_norm_margin(norm, dual, rng):
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4)).double()
    x = torch.randn(5, 2, 3, generator=rng, dtype=torch.float64)
    y = torch.randint(4, (5,), generator=rng)
    w = model[1].weight
    true = gaps(model(x), y) - 0.3 * (w[y][:, None] - w).norm(dual, dim=2)
    for method in ("crown-ibp", "crown"):
        found = margins(model, x, y, free(norm=norm, eps=0.3), method, outward=False)
        torch.testing.assert_close(found, true)


@pytest.mark.claim("17.4.2", "for one affine layer over a box interval bounds are exact")
def test_intervals_are_attained_behind_one_layer(rng):
    layer = nn.Conv2d(2, 3, 3, padding=1).double()
    x = torch.rand(2, 2, 4, 4, generator=rng, dtype=torch.float64)
    threat = ThreatModel(norm="linf", eps=0.2)
    low, high = ibp(nn.Sequential(layer, nn.Flatten()), x, threat)
    box = region(x, threat).box
    for at in [(0, 0, 0), (2, 3, 1)]:
        v = x.clone().requires_grad_()
        g = torch.autograd.grad(layer(v)[(slice(None), *at)].sum(), v)[0]
        corner = torch.where(g > 0, box.upper, box.lower)
        top = layer(corner)[(slice(None), *at)]
        torch.testing.assert_close(high.view(2, 3, 4, 4)[(slice(None), *at)], top)
    assert (low < high).all()


def test_two_linear_layers_are_one_to_linear_bounds_but_not_to_intervals(rng):
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    one = nn.Linear(5, 6).double()
    with torch.no_grad():
        one.weight.copy_(model[1].weight @ model[0].weight)
        one.bias.copy_(model[1].weight @ model[0].bias + model[1].bias)
    x = torch.rand(4, 5, generator=rng, dtype=torch.float64)
    y, threat = torch.tensor([0, 1, 2, 0]), ThreatModel(norm="linf", eps=0.2)
    merged = nn.Sequential(one, *model[2:])
    for method in ("crown", "crown-ibp"):
        both = [margins(m, x, y, threat, method, outward=False) for m in (model, merged)]
        torch.testing.assert_close(*both)
    first, second = (margins(m, x, y, threat, outward=False) for m in (model, merged))
    assert (first < second - 1e-3).any()


def by_neuron(model, low, high):
    """Interval arithmetic neuron by neuron, as in a textbook."""
    for layer in model:
        if isinstance(layer, nn.ReLU):
            low, high = np.maximum(low, 0), np.maximum(high, 0)
            continue
        w, b = layer.weight.numpy(), layer.bias.numpy()
        ends = [[sum(min(v * lo, v * hi) for v, lo, hi in zip(r, low, high)) for r in w]]  # noqa: B905
        ends += [[sum(max(v * lo, v * hi) for v, lo, hi in zip(r, low, high)) for r in w]]  # noqa: B905
        low, high = np.array(ends[0]) + b, np.array(ends[1]) + b
    return low, high


@pytest.mark.claim("17.4.2", "IBP: explicit bounds of phi(Wz+b) by intervals and monotonicity")
def test_interval_bounds_neuron_by_neuron():
    model = mlp(7).requires_grad_(False)
    x, threat = torch.rand(1, 2).double(), ThreatModel(norm="linf", eps=0.3)
    box = region(x, threat).box
    low, high = by_neuron(model, box.lower[0].numpy(), box.upper[0].numpy())
    found = ibp(model, x, threat)
    np.testing.assert_allclose(found.lower[0], low)
    np.testing.assert_allclose(found.upper[0], high)


def test_linear_bounds_solve_the_program_of_their_lines():
    """Substituting back is exact for one line on each side: here the program is written out."""
    model = mlp(11, (2, 5, 3)).requires_grad_(False)
    x, y = torch.full((1, 2), 0.5, dtype=torch.float64), torch.tensor([0])
    threat = ThreatModel(norm="linf", eps=0.45)
    box = region(x, threat).box
    (w1, b1), (w2, b2) = layers_of(model)
    low, high = by_neuron([model[0]], box.lower[0].numpy(), box.upper[0].numpy())
    roof = np.where(low >= 0, 1, np.where(high <= 0, 0, high / (high - low)))
    floor = np.where(low >= 0, 1, np.where(high <= 0, 0, high > -low)).astype(float)
    offset = np.where((low < 0) & (high > 0), -roof * low, 0)
    # variables x (2) and v (5): floor z <= v <= roof z + offset, z = w1 x + b1
    rows = np.block([[floor[:, None] * w1, -np.eye(5)], [-roof[:, None] * w1, np.eye(5)]])
    right = np.concatenate([-floor * b1, roof * b1 + offset])
    bounds = list(zip(box.lower[0].tolist(), box.upper[0].tolist(), strict=True)) + 5 * [
        (None, None)
    ]
    crown = margins(model, x, y, threat, "crown", outward=False)[0]
    interval = margins(model, x, y, threat, "ibp", outward=False)[0]
    assert ((low < 0) & (high > 0)).any()
    for j in (1, 2):
        c = np.concatenate([np.zeros(2), w2[0] - w2[j]])
        line = linprog(c, rows, right, bounds=bounds).fun + b2[0] - b2[j]
        assert crown[j].item() == pytest.approx(max(line, interval[j].item()), abs=1e-9)


# -- soundness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("norm, eps", [("linf", 0.05), ("l2", 0.3), ("l1", 0.8)])
@pytest.mark.claim(
    "17.4.3", "one pair of bounds holds for every x' in N(x): samples and attacks stay inside"
)
def test_nothing_in_the_ball_goes_below_the_bounds(name, norm, eps, images, rng):
    model, threat = lively(name), ThreatModel(norm=norm, eps=eps)
    y = torch.tensor([0, 1, 2])
    found = {m: margins(model, images, y, threat, m).detach() for m in FAST}
    low, high = ibp(model, images, threat)
    lowest = torch.full((3, 3), torch.inf, dtype=torch.float64)
    for j in range(3):
        f = lambda z, j=j: (lambda v: v[:, j] - v.gather(1, y[:, None])[:, 0])(model(z))  # noqa: E731
        for start in range(2):
            rng.manual_seed(start)
            z = strongest(f, pgd_path(f, images, threat, steps=15, rng=rng))
            lowest = torch.minimum(lowest, gaps(model(z), y).detach())
    for _ in range(60):
        logits = model(threat.sample(images, rng)).detach()
        assert (low <= logits).all() and (logits <= high).all()
        lowest = torch.minimum(lowest, gaps(logits, y))
    for method, bounds in found.items():
        assert (bounds <= lowest).all(), method
    finite = found["ibp"] < torch.inf
    assert (found["ibp"] >= found["ibp-logits"])[finite].all()
    for method in ("crown", "crown-ibp"):
        assert (found[method] >= found["ibp"] - 1e-9)[finite].all()
        assert (found[method] > found["ibp"] + 1e-3)[finite].any()
    # near enough to mean something: most of the way from the intervals to what was attained
    reach = (lowest - found["crown"])[finite].mean() / (lowest - found["ibp"])[finite].mean()
    assert reach < 0.75


@pytest.mark.parametrize("norm", NORMS)
def test_bounds_close_in_on_the_network_as_the_ball_shrinks(norm, images):
    for name in NETWORKS:
        model, y = lively(name), torch.tensor([0, 1, 2])
        true = gaps(model(images), y)
        for method in FAST:
            found = margins(model, images, y, free(norm=norm, eps=1e-9), method)
            torch.testing.assert_close(found, true, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "layer",
    [a() for a in (nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Hardtanh)]
    + [nn.ReLU(), nn.LeakyReLU(0.3), nn.ELU(0.5), nn.ELU(2.0)],
)
def test_lines_lie_on_their_sides_of_the_activation(layer, rng):
    ends = 4 * torch.randn(2, 500, 1, generator=rng, dtype=torch.float64)
    box = Interval(ends.amin(0), ends.amax(0))
    lines = RELAXATIONS[type(layer)](layer, box)
    below = 0.0 if lines.lower_offset is None else lines.lower_offset
    z = box.lower + (box.upper - box.lower) * torch.linspace(0, 1, 101, dtype=torch.float64)
    assert (lines.lower_slope * z + below <= layer(z) + 1e-12).all()
    assert (lines.upper_slope * z + lines.upper_offset >= layer(z) - 1e-12).all()


def test_pooling_keeps_the_winner_and_caps_the_rest():
    pool = nn.MaxPool2d(2)
    low = torch.tensor([[[[5.0, 0.0], [0.0, 0.0]]], [[[0.0, 1.0], [0.0, 0.0]]]]).double()
    lines = RELAXATIONS[nn.MaxPool2d](pool, Interval(low, low + 2))
    assert lines.read.flatten().tolist() == [0, 1]
    assert lines.upper_slope.flatten().tolist() == [1, 0]  # 5..7 beats 2; 1..3 does not
    assert lines.upper_offset.flatten().tolist() == [0, 3]


def test_preact_resnet_is_bounded(rng):
    torch.manual_seed(0)
    model = nets.preact_resnet18(2).eval()
    x = torch.rand(2, 3, 8, 8, generator=rng)
    y, threat = model(x).argmax(1), ThreatModel(norm="linf", eps=0.5 / 255)
    torch.testing.assert_close(trace(model)(x), model(x))
    found = {m: margins(model, x, y, threat, m).detach() for m in FAST[1:]}
    for _ in range(10):
        lowest = gaps(model(threat.sample(x, rng)), y)
        assert all((bounds <= lowest).all() for bounds in found.values())
    finite = found["ibp"] < torch.inf
    assert (found["crown"] > found["ibp"] + 0.1)[finite].all()


@pytest.mark.claim("17.4.3", "certified implies that no attack succeeds")
def test_no_attack_succeeds_where_a_certificate_holds():
    model = nets.shipped("mnist-pgd")
    x, y = data.load("mnist-mini", "test", n=60)
    for eps, method, n in [(0.01, "ibp", 60), (0.02, "crown-ibp", 60), (0.06, "crown", 8)]:
        threat = ThreatModel(norm="linf", eps=eps)
        sure = certify(model, x[:n], y[:n], threat, method)
        rng = torch.Generator().manual_seed(0)
        fooled = attack_model(model, x[:n], y[:n], threat, steps=20, restarts=2, rng=rng).fooled
        assert sure.any() and not (sure & fooled).any()


@pytest.mark.claim("17.4.3", "certificates do not use gradients, so masking does not deceive them")
def test_logits_scaled_until_gradients_vanish_change_no_certificate():
    model = nets.shipped("mnist-pgd")
    x, y = data.load("mnist-mini", "test", n=60)
    scale = nn.Linear(10, 10, bias=False)
    with torch.no_grad():
        scale.weight.copy_(2.0**12 * torch.eye(10))
    steep = nn.Sequential(model, scale)
    z = x.clone().requires_grad_()
    g = torch.autograd.grad(F.cross_entropy(steep(z), y, reduction="sum"), z)[0]
    assert (g == 0).flatten(1).all(1).double().mean() > 0.8
    threat = ThreatModel(norm="linf", eps=0.02)
    plain, masked = (certify(m, x, y, threat, "crown-ibp") for m in (model, steep))
    assert torch.equal(plain, masked) and plain.any()
    assert not certify(steep, x, y, threat.with_eps(0.3), "ibp").any()


# -- floating point --------------------------------------------------------------------------------


def cancels_last(g):
    """float32, with hidden values in the thousands whose margins cancel to about nothing."""
    first, second = 30 * torch.randn(2, 64, 64, generator=g)
    row = torch.randn(1, 64, generator=g)
    return first, second, row + 1e-9 * torch.randn(4, 64, generator=g)


def cancels_before(g):
    """float32: the second layer subtracts each hidden value from its twin and leaves nothing."""
    first, second = 300 * torch.randn(32, 64, generator=g), torch.randn(4, 32, generator=g)
    return torch.cat([first, first]), torch.cat([second, -second], 1), torch.eye(4)


def with_weights(weights):
    layers = [nn.Linear(w.shape[1], w.shape[0], bias=False) for w in weights]
    for layer, w in zip(layers, weights, strict=True):
        layer.weight = nn.Parameter(w, requires_grad=False)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.LeakyReLU(0.5), layers[2])


@pytest.mark.parametrize("weights", [cancels_last, cancels_before])
@pytest.mark.claim("17.4.2", "sound in floating point: what rounding can do is paid for")
def test_rounding_never_lets_a_bound_rise_above_the_truth(weights):
    y, threat = torch.zeros(8, dtype=torch.long), ThreatModel(norm="linf", eps=0.0)
    deceived = dict.fromkeys(FAST, False)
    for seed in range(6):
        g = torch.Generator().manual_seed(seed)
        model, x = with_weights(weights(g)), torch.rand(8, 64, generator=g)
        here = torch.stack([gaps(model(x), y), gaps(torch.cat([model(v[None]) for v in x]), y)])
        found = {
            method: [
                margins(model, x, y, threat, method, outward=o).double() for o in (True, False)
            ]
            for method in FAST
        }
        true = gaps(model.double()(x.double()), y)  # of the same float32 weights
        slack = 1e-12 * (true.abs() < torch.inf) * 1e5  # of double itself, where 1e5 cancels
        for method, (proved, plain) in found.items():
            assert (proved <= true + slack).all() and (proved <= here).all()
            deceived[method] |= (plain > true + slack).any().item()
    assert all(deceived.values())  # plain arithmetic is not sound: the test can tell


def test_each_layer_pays_for_its_own_rounding(images):
    """The box is one float32 point: what comes out must hold what exact arithmetic makes of it."""
    fooled = set()
    for name in NETWORKS:
        model, exact = lively(name).float(), lively(name).float().double()
        layers = {node.name: node.layer for node in trace(exact).nodes}

        def step(node, *values, layers=layers):
            points = [Interval(v, v) for v in values]
            true = layers[node.name](*[v.double() for v in values])
            low, high = bound(node, *points, outward=True)
            out = node.layer(*values)
            assert (low <= true).all() and (true <= high).all(), node
            assert (low <= out).all() and (out <= high).all(), node
            low, high = bound(node, *points, outward=False)
            if (low > true).any() or (high < true).any():
                fooled.add(type(node.layer))
            return out

        trace(model).run(images.float(), step)
    exactly = {nn.ReLU, nn.Hardtanh, nn.MaxPool2d, nn.Flatten, nn.Dropout, nn.Identity}
    seen = {type(node.layer) for name in NETWORKS for node in trace(lively(name)).nodes}
    assert fooled == seen - exactly  # where plain arithmetic is not enough


def test_float32_bounds_hold_the_double_ones_and_lose_little():
    x, y = data.load("mnist-mini", "test", n=6)
    model, threat = nets.shipped("mnist-pgd"), ThreatModel(norm="linf", eps=0.02)
    wide = nets.shipped("mnist-pgd").double()
    for method in ("ibp", "crown-ibp"):
        proved = margins(model, x, y, threat, method).double()
        plain = margins(wide, x.double(), y, threat, method, outward=False)
        best = margins(wide, x.double(), y, threat, method)
        finite = plain < torch.inf
        assert (proved < plain)[finite].all() and (best <= plain).all()
        assert (plain - proved)[finite].max() < 0.2
        assert (plain - best)[finite].max() < 1e-8


def test_rounding_is_highams_and_refuses_what_says_nothing():
    k = rounding(100, torch.zeros(1))
    u = 2.0**-24
    assert 100 * u / (1 - 100 * u) < k < 110 * u
    with pytest.raises(ValueError, match="sums of 1000 products say nothing in torch.float16"):
        rounding(1000, torch.zeros(1, dtype=torch.float16))


def test_the_box_is_the_ball_cut_with_the_valid_range():
    x = torch.tensor([[0.1, 0.5, 1.0]])
    low, high = region(x, ThreatModel(norm="linf", eps=0.2)).box
    torch.testing.assert_close(low, torch.tensor([[0.0, 0.3, 0.8]]))
    torch.testing.assert_close(high, torch.tensor([[0.3, 0.7, 1.0]]))
    out = region(x, ThreatModel(norm="linf", eps=0.2), outward=True).box
    assert (out.lower <= low).all() and (out.upper >= high).all() and (out.upper <= 1).all()
    fine = region(x, ThreatModel(norm="l1", eps=0.7), outward=True)
    assert torch.tensor(0.7).item() < 0.7 <= fine.eps.double().item()  # float32 has no 0.7
    x = torch.rand(100, 3, generator=torch.Generator().manual_seed(0))
    threat = free(norm="linf", eps=1e-3)
    low, high = (side.double() for side in region(x, threat, outward=True).box)
    assert (low <= x.double() - 1e-3).all() and (high >= x.double() + 1e-3).all()
    assert (region(x, threat).box.lower.double() > x.double() - 1e-3).any()
    each = region(x[:2], free(norm="l2", eps=9), eps=torch.tensor([0.0, 1.0])).box
    assert torch.equal(each.upper, x[:2] + torch.tensor([[0.0], [1.0]]))


# -- training through bounds -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ibp", "ibp-logits", "crown-ibp", "crown"])
def test_bounds_have_the_gradient_of_finite_differences(method):
    model, y = mlp(5), torch.tensor([0, 1])
    x = torch.tensor([[0.3, 0.6], [0.7, 0.2]], dtype=torch.float64)
    threat = ThreatModel(norm="linf", eps=0.1)

    def total():
        bounds = margins(model, x, y, threat, method, outward=False)
        return bounds[bounds < torch.inf].sum()

    for weight in model.parameters():
        (g,) = torch.autograd.grad(total(), weight)
        direction = torch.randn_like(weight)
        with torch.no_grad():
            values = []
            for step in (1e-6, -1e-6):
                weight += step * direction
                values.append(total().item())
                weight -= step * direction
        slope = (values[0] - values[1]) / 2e-6
        assert (g * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-6)


# -- certificates and radii ------------------------------------------------------------------------


@pytest.mark.claim("17.4.1", "a certificate proves stability; that h(x) = y is a separate matter")
def test_a_certificate_is_about_the_class_it_is_asked_for():
    model, threat = mlp(2).requires_grad_(False), ThreatModel(norm="linf", eps=1e-3)
    x = torch.rand(20, 2, generator=torch.Generator().manual_seed(1)).double()
    given = model(x).argmax(1)
    assert certify(model, x, given, threat).any()
    assert not certify(model, x, (given + 1) % 3, threat).any()  # stable, and wrong


@pytest.mark.parametrize("norm, dual", [("linf", 1), ("l2", 2), ("l1", torch.inf)])
def test_radius_of_a_linear_model(norm, dual, rng):
    model = nn.Sequential(nn.Linear(4, 3)).double().requires_grad_(False)
    x = torch.randn(9, 4, generator=rng, dtype=torch.float64)
    y = model(x).argmax(1)
    y[0] = (y[0] + 1) % 3
    w = model[0].weight
    distance = worst(gaps(model(x), y) / (w[y][:, None] - w).norm(dual, dim=2))
    threat = free(norm=norm, eps=0.5)
    true = distance.clamp(0, 0.5)
    found = certified_radius(model, x, y, threat, "crown", steps=20)
    assert (found <= true).all() and found[0] == 0 and (found == 0.5).any()
    torch.testing.assert_close(found, true, atol=1e-6, rtol=0)


def test_radii_close_in_from_both_sides_and_certify():
    model, threat = mlp(4).requires_grad_(False), ThreatModel(norm="linf", eps=0.5)
    x = torch.rand(15, 2, generator=torch.Generator().manual_seed(2)).double()
    y = model(x).argmax(1)
    path = list(radius_path(model, x, y, threat, "ibp", steps=10))
    assert len(path) == 11
    for before, after in itertools.pairwise(path):
        assert (before.lower <= after.lower).all() and (after.upper <= before.upper).all()
    low, high = path[-1]
    assert torch.equal(low, certified_radius(model, x, y, threat, "ibp", steps=10))
    for i in ((low > 0) & (low < 0.5)).nonzero()[:, 0]:
        one = x[i : i + 1], y[i : i + 1]
        assert certify(model, *one, threat.with_eps(low[i].item()), "ibp")
        assert not certify(model, *one, threat.with_eps(high[i].item()), "ibp")
        assert high[i] - low[i] == pytest.approx(0.5 / 2**10)


def test_batches_do_not_change_a_certificate():
    model, threat = mlp(3, (2, 9, 9, 3)).requires_grad_(False), ThreatModel(norm="linf", eps=0.02)
    x = torch.rand(450, 2, generator=torch.Generator().manual_seed(2)).double()
    y = model(x).argmax(1)
    assert METHODS["ibp"].batch < 450
    whole = (margins(model, x, y, threat) > 0).all(1)
    assert torch.equal(certify(model, x, y, threat), whole) and 0 < whole.sum() < 450


def test_rows_in_chunks_give_the_same_bounds(images, monkeypatch):
    model, y = lively("residual"), torch.tensor([0, 1, 2])
    for norm in NORMS:
        threat = ThreatModel(norm=norm, eps=0.05)
        whole = margins(model, images, y, threat, "crown")
        with monkeypatch.context() as patch:
            patch.setattr("adversarial_lab.certified.crown.MEMORY", 4000)
            torch.testing.assert_close(margins(model, images, y, threat, "crown"), whole)


@pytest.mark.claim("17.4.4", "interval bounds cost about two forward passes")
def test_interval_bounds_apply_each_layer_twice(monkeypatch):
    model, calls = nets.mnist_cnn(), []
    for name in ("linear", "conv2d"):
        plain = getattr(F, name)
        monkeypatch.setattr(F, name, lambda *a, f=plain, **k: calls.append(f) or f(*a, **k))
    x = torch.rand(2, 1, 28, 28)
    model(x)
    forward = len(calls)
    ibp(model, x, ThreatModel(norm="linf", eps=0.1))
    assert forward == 4 and len(calls) - forward == 2 * forward


# -- the graph -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_is_the_network(name, images):
    model = lively(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.testing.assert_close(trace(model)(images), model(images))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    graph = trace(model)
    assert trace(graph) is graph
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    torch.testing.assert_close(graph(images), model(images))  # nothing was copied


class Forward(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.layer, self.body = nn.Linear(4, 4), forward
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.body(self, x)


BAD = {
    "could not be read symbolically": lambda self, x: x if x.sum() > 0 else -x,
    "calls 'sin'": lambda self, x: torch.sin(self.layer(x)),
    "must act on one value of the network": lambda self, x: F.linear(self.weight, x),
    "multiplies or divides two values": lambda self, x: self.layer(x) * x,
    "divides by a value of the network": lambda self, x: 1.0 / self.layer(x),
    "join values of the network alone": lambda self, x: torch.cat([x, self.weight[None]], 1),
    "writes over a value": lambda self, x: F.relu(h := self.layer(x), inplace=True) + h,
    "must return one tensor": lambda self, x: (self.layer(x), x),
    "alpha=2": lambda self, x: torch.add(self.layer(x), x, alpha=2),
    "keep the batch": lambda self, x: torch.flatten(self.layer(x)),
    "do something": lambda self, x: x,
}


@pytest.mark.parametrize("message", BAD)
def test_networks_that_cannot_be_read(message):
    with pytest.raises(ValueError, match=message):
        trace(Forward(BAD[message]))


FUNCTIONS = [
    lambda z: F.max_pool2d(z, 2),
    lambda z: F.max_pool2d(z, 2, 2, 0, 1, True),  # ceil_mode, where the layer has return_indices
    lambda z: F.max_pool2d(z, 3, stride=1, padding=1),
    lambda z: F.avg_pool2d(z, 2, 1, 1, False, False),
    lambda z: F.leaky_relu(z, 0.3),
    lambda z: F.elu(z, alpha=0.5),
    lambda z: F.hardtanh(z, -0.5, 0.2),
    lambda z: F.softplus(z, beta=2),
    lambda z: torch.flatten(torch.sigmoid(z), 1),
    lambda z: z.add(torch.relu(z)).tanh(),
    lambda z: z.relu().sigmoid().flatten(2),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_becomes_the_layer_with_its_arguments(function, rng):
    x = torch.randn(2, 3, 5, 5, generator=rng)
    torch.testing.assert_close(trace(Calls(function))(x), function(x))


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_values_are_dropped_once_they_are_read():
    graph = trace(nn.Sequential(*[nn.Linear(2, 2) for _ in range(20)]))
    alive = []

    def step(node, value):
        out = Interval(value.lower + 1, value.upper)
        alive.append(weakref.ref(out.lower))
        assert sum(ref() is not None for ref in alive) <= 2
        return out

    graph.run(Interval(torch.zeros(1), torch.zeros(1)), step)


def test_hooks_are_refused():
    model = mlp(0)
    model[2].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="layer '2' has hooks"):
        trace(model)


def test_in_place_layers_do_not_write_over_bounds(images):
    x = images.clone()
    model = nn.Sequential(nn.LeakyReLU(0.1, inplace=True), nn.Flatten(), nn.Linear(36, 2)).double()
    box = region(x, free(norm="linf", eps=2.0)).box
    kept = box.lower.clone()
    ibp(model, x, free(norm="linf", eps=2.0))
    trace(model).run(box, lambda node, *b: RULES[type(node.layer)](node.layer, *b, outward=False))
    assert torch.equal(box.lower, kept) and torch.equal(x, images) and model[0].inplace


def test_what_the_output_does_not_need_is_not_bounded():
    model = Forward(lambda self, x: (F.relu(x), self.layer(x))[1])
    assert [node.name for node in trace(model).nodes] == ["layer"]


# -- errors ----------------------------------------------------------------------------------------


@pytest.fixture
def case():
    return mlp(0), torch.rand(3, 2).double(), torch.tensor([0, 1, 2])


def test_an_unknown_method_lists_the_known_ones(case):
    threat = ThreatModel(norm="linf", eps=0.1)
    for call in (margins, certify, certified_radius):
        with pytest.raises(ValueError, match=r"method must be one of \['crown', .*got 'sdp'"):
            call(*case, threat, "sdp")


def test_a_method_says_which_norms_it_covers(case):
    with pytest.raises(ValueError, match="'lp' has no bounds for l2; these have: .*'crown'"):
        certify(*case, ThreatModel(norm="l2", eps=0.1), "lp")


def test_bad_labels_and_steps(case, unchecked):
    model, x, y = case
    threat = ThreatModel(norm="linf", eps=0.1)
    with pytest.raises(ValueError, match="labels 0..2, got 0..7"):
        margins(model, x, torch.tensor([0, 1, 7]), threat)
    for call in (margins, certify, certified_radius):
        with pytest.raises(ValueError, match="one label per example, got 2 for 3"):
            call(model, x, y[:2], threat)
    with pytest.raises(ValueError, match="steps must be >= 0, got -1"):
        certified_radius(*case, threat, steps=-1)
    with pytest.raises(ValueError, match="lie in the box"):
        margins(model, x + 1, y, threat)


def test_a_layer_without_a_rule_is_named():
    model = nn.Sequential(nn.Linear(2, 4), nn.Sequential(nn.LayerNorm(4)), nn.Linear(4, 3))
    with pytest.raises(ValueError, match="layer '1.0' is a LayerNorm.*known: .*AdaptiveAvgPool2d"):
        ibp(model, torch.rand(1, 2), ThreatModel(norm="linf", eps=0.1))


def test_training_mode_is_refused(images):
    threat = ThreatModel(norm="linf", eps=0.1)
    y = torch.tensor([0, 1, 2])
    model = lively("residual")
    model.norm.train()
    before = model.norm.running_mean.clone()
    for method in FAST:
        with pytest.raises(ValueError, match="layer 'norm': batch norm .* eval mode"):
            margins(model, images, y, threat, method)
    assert torch.equal(model.norm.running_mean, before)
    model = lively("pooled")
    model[6].train()
    with pytest.raises(ValueError, match="layer '6': dropout is random"):
        ibp(model, images, threat)


def test_programs_know_their_limits(case, images, monkeypatch):
    threat = ThreatModel(norm="linf", eps=0.1)
    with pytest.raises(ValueError, match="layer 'tanh' is a Tanh, which has no linear program"):
        margins(lively("residual"), images, torch.tensor([0, 1, 2]), threat, "lp")
    monkeypatch.setattr("adversarial_lab.certified.linear_program.LIMIT", 20)
    with pytest.raises(ValueError, match="has 23 values, more than the 20 .* use 'crown'"):
        margins(*case, threat, "milp")


def test_a_program_that_is_not_solved_is_no_success(case, monkeypatch):
    model, x, y = case
    threat = ThreatModel(norm="linf", eps=0.4)
    true = margins(model, x, y, threat, "milp", outward=False)
    monkeypatch.setattr(polytope, "SECONDS", 0.0)
    late = margins(model, x, y, threat, "milp")
    assert (late <= true).all() and (worst(late) < worst(true)).any()
    assert not certify(model, x, y, threat, "milp")[worst(true) < 0].any()
    with pytest.raises(RuntimeError, match="was not solved in 0.0 s"):
        worst_input(model, x, y, threat)


AFFINE_LAYERS = {
    "dense": (nn.Linear(5, 4), (5,)),
    "signal": (nn.Conv1d(2, 3, 3, 2, 1), (2, 7)),
    "one channel": (nn.Conv2d(1, 3, 4, 2, 1), (1, 8, 7)),
    "one channel, dilated": (nn.Conv2d(1, 2, 2, dilation=2, bias=False), (1, 6, 6)),
    "channels": (nn.Conv2d(3, 2, 3, 2, 1), (3, 6, 7)),
    "groups": (nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 5, 5)),
    "same": (nn.Conv2d(2, 3, 3, padding="same"), (2, 5, 4)),
    "circular": (nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), (1, 5, 5)),
    "batch norm": (nn.BatchNorm2d(2), (2, 3, 3)),
    "average": (nn.AvgPool2d(2), (2, 5, 4)),
}


@pytest.mark.parametrize("name", AFFINE_LAYERS)
def test_an_affine_layer_and_its_transpose_belong_together(name, rng):
    """<Wz, a> = <z, aW> for all z and a."""
    layer, shape = AFFINE_LAYERS[name]
    affine = AFFINE[type(layer)](layer.double().eval(), (1, *shape))
    z = torch.randn(3, *shape, generator=rng, dtype=torch.float64)
    moved = affine.apply(z) - affine.apply(torch.zeros_like(z))
    rows = torch.randn(moved.shape, generator=rng, dtype=torch.float64)
    back = affine.transpose(rows)
    assert back.shape == z.shape
    torch.testing.assert_close((moved * rows).flatten(1).sum(1), (z * back).flatten(1).sum(1))


def test_every_rule_has_what_linear_bounds_need():
    assert set(AFFINE) | set(RELAXATIONS) <= set(RULES)


def test_relax_keeps_every_interval_inside_the_plain_one(images):
    model, threat = lively("residual"), ThreatModel(norm="l2", eps=0.2)
    graph, where = trace(model), region(images, threat)
    loose = relax(graph, where, outward=False, refine=False).boxes
    tight = relax(graph, where, outward=False, refine=True).boxes
    plain = Interval(*ibp(model, images, threat))
    last = graph.nodes[-1].name
    assert (tight[last].lower >= loose[last].lower - 1e-9).all()
    assert (loose[last].lower >= plain.lower - 1e-9).all()
    assert (tight[last].lower > plain.lower + 1e-3).any()

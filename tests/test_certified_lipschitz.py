import math

import pytest
import torch
from torch import nn

from adversarial_lab import data, nets
from adversarial_lab.certified import METHODS, certify, margins, region, trace
from adversarial_lab.certified.jacobian import jacobian, local_constants
from adversarial_lab.certified.lipschitz import layer_constants, lipschitz_bound, pair_constants
from adversarial_lab.certified.spectral import (
    dense,
    exact_norm,
    fourier_norm,
    spectral_norm,
    spectral_path,
    stretch,
)
from adversarial_lab.pgd import attack_model
from adversarial_lab.threat import ThreatModel

torch.manual_seed(0)
CONVOLUTIONS = {
    "plain": (nn.Conv2d(2, 3, 3), (2, 7, 7)),
    "padded": (nn.Conv2d(2, 3, 3, padding=1), (2, 6, 5)),
    "strided": (nn.Conv2d(2, 4, 4, 2, 1), (2, 8, 8)),
    "uneven": (nn.Conv2d(3, 2, (3, 2), (2, 3)), (3, 9, 8)),
    "dilated": (nn.Conv2d(2, 3, 3, dilation=2), (2, 8, 7)),
    "grouped": (nn.Conv2d(4, 6, 3, 2, 1, groups=2), (4, 7, 8)),
    "pixels left out": (nn.Conv2d(2, 3, 1, 2), (2, 6, 6)),
    "same": (nn.Conv2d(2, 3, 3, padding="same"), (2, 5, 6)),
}
METHOD_NAMES = ["lipschitz", "lipschitz-pair", "lipschitz-local"]


def network(seed=0, activation=nn.ReLU):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 3, 3, 2, 1), activation(), nn.Flatten(), nn.Linear(27, 6), activation()]
    return nn.Sequential(*layers, nn.Linear(6, 3)).eval()


class Block(nn.Module):
    """z + W phi(z)"""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(4, 4)

    def forward(self, z):
        return z + self.dense(torch.relu(z))


def linear(w, b=None):
    model = nn.Linear(w.shape[1], w.shape[0]).to(w.dtype).requires_grad_(False)
    model.weight.copy_(w)
    model.bias.copy_(torch.zeros(len(w)) if b is None else b)
    return model


# -- one layer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_is_measured_as_an_operator(name):
    """Against the singular values of its dense matrix, and from above."""
    layer, shape = CONVOLUTIONS[name]
    matrix = dense(layer, shape)
    x = torch.randn(2, *shape, dtype=torch.float64)
    applied = layer.double()(x).flatten(1) - layer(torch.zeros_like(x)).flatten(1)
    layer.float()
    torch.testing.assert_close(x.flatten(1) @ matrix, applied)
    largest = torch.linalg.svdvals(matrix)[0].item()
    assert exact_norm(layer, shape) == pytest.approx(largest, rel=1e-10)
    assert largest <= spectral_norm(layer, shape) <= largest * (1 + 1e-8)
    assert largest * (1 - 1e-12) <= fourier_norm(layer, shape) < 2 * largest


def test_the_fourier_bound_comes_close_on_large_images():
    layer = CONVOLUTIONS["strided"][0]
    small, large = (fourier_norm(layer, (2, s, s)) / exact_norm(layer, (2, s, s)) for s in (8, 32))
    assert 1 <= large < 1.01 < small


def test_a_large_convolution_takes_the_fourier_bound():
    layer, shape = nn.Conv2d(2, 2, 3, padding=1), (2, 20, 20)
    assert spectral_norm(layer, shape) == pytest.approx(fourier_norm(layer, shape), rel=1e-8)
    assert spectral_norm(layer, shape) > exact_norm(layer, shape)


def test_a_mean_over_a_circle_by_hand():
    """The kernel (1, 1, 1) / 3 keeps a constant image, but for its border: the norm is below 1."""
    layer = nn.Conv2d(1, 1, (1, 3), padding=(0, 1), bias=False).requires_grad_(False)
    layer.weight.fill_(1 / 3)
    expected = (1 + 2 * math.cos(math.pi / 13)) / 3  # tridiagonal of size 12
    assert exact_norm(layer, (1, 1, 12)) == pytest.approx(expected, rel=1e-6)
    assert fourier_norm(layer, (1, 1, 12)) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("name", ["padded", "strided", "grouped"])
@pytest.mark.claim("17.4.2", "power iteration bounds a Lipschitz constant from below")
def test_power_iteration_rises_to_the_norm_from_below(name, rng):
    layer, shape = CONVOLUTIONS[name]
    path = list(spectral_path(layer, shape, steps=2000, rng=rng))
    values, norm = [value for value, _ in path], exact_norm(layer, shape)
    assert all(a <= b + 1e-12 for a, b in zip(values, values[1:], strict=False))
    assert values[0] < 0.9 * norm and max(values) <= norm * (1 + 1e-12)
    assert values[-1] == pytest.approx(norm, rel=1e-4)
    assert all(v.norm().item() == pytest.approx(1) for _, v in path)


def test_power_iteration_can_stand_still_below_the_norm():
    """Singular values 1 and 0.999: after 20 steps it barely moves and is still too small."""
    layer = linear(torch.diag(torch.cat([torch.tensor([1.0]), torch.full((200,), 0.999)])))
    rng = torch.Generator().manual_seed(0)
    values = [value for value, _ in spectral_path(layer, (201,), steps=20, rng=rng)]
    assert values[-1] - values[-2] < 1e-6 and values[-1] < 0.9995
    assert spectral_norm(layer, (201,)) >= 1


def test_a_zero_layer_has_norm_zero():
    layer = linear(torch.zeros(3, 4))
    assert [value for value, _ in spectral_path(layer, (4,), steps=3)] == [0, 0, 0]
    assert spectral_norm(layer, (4,)) == 0


def trained_norm():
    torch.manual_seed(1)
    layer = nn.BatchNorm2d(2)
    layer(3 * torch.randn(20, 2, 6, 6))
    nn.init.normal_(layer.weight)
    return layer.eval()


LAYERS = {
    "dense": nn.Flatten(),
    "average": nn.AvgPool2d(2),
    "overlapping average": nn.AvgPool2d(3, 1, 1),
    "global average": nn.AdaptiveAvgPool2d(1),
    "max": nn.MaxPool2d(2),
    "overlapping max": nn.MaxPool2d(3, 1),
    "dilated max": nn.MaxPool2d(2, 2, dilation=2),
    "batch norm": trained_norm(),
    "normalize": nets.Normalize((0.1, 0.2), (0.5, 0.25)),
    "relu": nn.ReLU(),
    "leaky": nn.LeakyReLU(1.5),
    "elu": nn.ELU(2.0),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "softplus": nn.Softplus(),
    "dropout": nn.Dropout().eval(),
}


@pytest.mark.parametrize("name", LAYERS)
def test_no_quotient_exceeds_what_a_layer_can_stretch(name, rng):
    """Random pairs, near and far, and pairs along the layer's steepest direction at a point."""
    layer, constant = LAYERS[name], stretch(LAYERS[name], (2, 6, 6))
    with torch.no_grad():
        u, v = torch.randn(2, 300, 2, 6, 6, generator=rng)
        near = torch.cat([u, u]), torch.cat([v, u + 1e-2 * v])
        change = (layer(near[0]) - layer(near[1])).flatten(1).norm(dim=1)
        assert (change <= constant * (near[0] - near[1]).flatten(1).norm(dim=1) + 1e-5).all()


@pytest.mark.parametrize("name", ["average", "global average", "batch norm", "normalize", "leaky"])
def test_the_constants_of_simple_layers_are_their_norms(name):
    largest = torch.linalg.svdvals(dense(LAYERS[name], (2, 6, 6)))[0].item()
    if name == "leaky":
        largest = 1.5  # linear on negative inputs
    assert stretch(LAYERS[name], (2, 6, 6)) == pytest.approx(largest, rel=1e-6)


@pytest.mark.parametrize(("size", "stride", "seen"), [(3, 1, 9), (3, 2, 4), (2, 2, 1)])
def test_max_pooling_stretches_by_hand(size, stride, seen):
    """A pixel in so many windows changes as many outputs."""
    x = torch.zeros(1, 1, 5, 5)
    z = x.clone()
    z[0, 0, 2, 2] = 1
    layer = nn.MaxPool2d(size, stride)
    assert (layer(z) - layer(x)).norm() == math.sqrt(seen) == stretch(layer, (1, 5, 5))


# -- a network -----------------------------------------------------------------------------------


@pytest.mark.claim("17.4.2", "the product of layer norms is a Lipschitz constant")
def test_the_product_and_the_sum_of_a_shortcut_by_hand():
    a, b = (
        linear(torch.diag(torch.tensor([3.0, 1.0]))),
        linear(torch.diag(torch.tensor([1.0, 4.0]))),
    )
    model = nn.Sequential(a, nn.ReLU(), b)
    assert lipschitz_bound(model, (2,)) == pytest.approx(12)  # the true constant is 4
    assert list(layer_constants(model, (2,)).values()) == pytest.approx([3, 1, 4])
    block = Block()
    norm = torch.linalg.matrix_norm(block.dense.weight, ord=2).item()
    assert lipschitz_bound(block, (4,)) == pytest.approx(1 + norm)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_sampled_quotients_never_exceed_the_constants(activation, rng):
    model, shape = network(activation=activation), (1, 6, 6)
    pairs = pair_constants(model, shape)
    with torch.no_grad():
        u, v = 3 * torch.randn(2, 500, *shape, generator=rng)
        v = torch.cat([v, u + 0.01 * v])
        u = torch.cat([u, u])
        change = model(v) - model(u)
    length = (v - u).flatten(1).norm(dim=1)
    assert (change.norm(dim=1) <= lipschitz_bound(model, shape) * length).all()
    gaps = (change[:, :, None] - change[:, None]).abs()
    assert (gaps <= pairs * length[:, None, None] + 1e-6).all()
    assert (pairs <= math.sqrt(2) * lipschitz_bound(model, shape) * (1 + 1e-8)).all()
    assert pairs.diagonal().eq(0).all() and torch.equal(pairs, pairs.T)


@pytest.mark.claim("17.4.2", "Lipschitz constants are exact for a linear model")
def test_a_linear_model_is_certified_exactly_up_to_its_distance(rng):
    """Distance to class j: (margin to j) / ||W_y - W_j||."""
    last = linear(torch.randn(4, 5, generator=rng).double(), torch.randn(4, generator=rng))
    model = nn.Sequential(last)
    x = torch.randn(4, 5, generator=rng, dtype=torch.float64)
    logits = model(x)
    y, w = logits.argmax(1), last.weight
    gaps = logits.gather(1, y[:, None]) - logits
    away = (gaps / (w[y][:, None] - w).norm(dim=2)).nan_to_num(torch.inf)
    for i, distance in enumerate(away.amin(1).tolist()):
        for scale, proved in ((0.999, True), (1.001, False)):
            threat = ThreatModel(norm="l2", eps=scale * distance, box=None)
            for method in ("lipschitz-pair", "lipschitz-local"):
                assert certify(model, x[i : i + 1], y[i : i + 1], threat, method).item() is proved


@pytest.mark.claim("17.4.2", "an L-Lipschitz network's margin changes by sqrt(2) L eps, no more")
def test_the_square_root_of_two_is_needed():
    """Logits (u.x, -u.x) / sqrt(2): L = 1, and a step along u moves the margin sqrt(2) times it."""
    u = torch.tensor([0.6, 0.8], dtype=torch.float64)
    model = nn.Sequential(linear(torch.stack([u, -u]) / math.sqrt(2)))
    assert lipschitz_bound(model, (2,)) == pytest.approx(1)
    x, y = (0.5 * u)[None], torch.tensor([0])
    assert margins(model, x, y, ThreatModel(norm="l2", eps=0.0), "lipschitz")[
        0, 1
    ] == pytest.approx(math.sqrt(2) * 0.5)
    for eps, proved in ((0.499, True), (0.501, False)):
        threat = ThreatModel(norm="l2", eps=eps, box=None)
        assert certify(model, x, y, threat, "lipschitz").item() is proved
        assert (model(x - eps * u).argmax(1) == y).item() is proved
    # with L eps in place of sqrt(2) L eps, eps = 0.6 would be certified, and there it is wrong
    assert (model(x)[0, 0] - model(x)[0, 1]).item() > 0.6


def test_the_larger_ball_around_linf_is_used(rng):
    model, x = network(), torch.rand(3, 1, 6, 6, generator=rng)
    y = model(x).argmax(1)
    other = margins(model, x, y, ThreatModel(norm="linf", eps=0.01), "lipschitz-pair")
    round_ = margins(model, x, y, ThreatModel(norm="l2", eps=0.06), "lipschitz-pair")
    torch.testing.assert_close(other, round_)  # sqrt(36) = 6


# -- local constants -----------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.claim("17.4.2", "a local Lipschitz constant bounds the gradient on N(x)")
def test_local_constants_bound_every_sampled_gradient(norm, activation, rng):
    model = network(3, activation)
    x, y = torch.rand(3, 1, 6, 6, generator=rng), torch.tensor([0, 1, 2])
    threat = ThreatModel(norm=norm, eps={"linf": 0.1, "l2": 0.4, "l1": 0.8}[norm])
    graph, where = trace(model), region(x, threat)
    constants, bounds = local_constants(graph, where, y), jacobian(graph, where, y)
    dual = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
    for _ in range(30):
        z = threat.sample(x, rng).requires_grad_()
        logits = model(z)
        for j in range(3):
            gap = (logits.gather(1, y[:, None])[:, 0] - logits[:, j]).sum()
            (g,) = torch.autograd.grad(gap, z, retain_graph=True)
            assert (g.flatten(1).norm(p=dual, dim=1) <= constants[:, j] + 1e-6).all()
            low, high = (end.unflatten(0, (3, 3))[:, j] for end in bounds)
            assert ((low - 1e-6 <= g) & (g <= high + 1e-6)).all()


@pytest.mark.claim("17.4.2", "local constants shrink with N(x) to the length of the gradient")
def test_the_local_constant_becomes_the_gradient(rng):
    model = network(3)
    x, y = torch.rand(4, 1, 6, 6, generator=rng).requires_grad_(), torch.tensor([0, 1, 2, 0])
    logits, expected = model(x), []
    for j in range(3):
        gap = (logits.gather(1, y[:, None])[:, 0] - logits[:, j]).sum()
        (g,) = torch.autograd.grad(gap, x, retain_graph=True)
        expected.append(g.flatten(1).norm(dim=1))
    x = x.detach()
    at = lambda eps: local_constants(  # noqa: E731
        trace(model), region(x, ThreatModel(norm="l2", eps=eps)), y
    )
    torch.testing.assert_close(at(1e-6), torch.stack(expected, 1).double(), rtol=1e-4, atol=1e-6)
    radii = [at(eps) for eps in (1e-6, 0.05, 0.2, 0.8, 3.0)]
    assert all((a <= b + 1e-9).all() for a, b in zip(radii, radii[1:], strict=False))
    pairs = pair_constants(model, (1, 6, 6))[y]
    assert (radii[-1] <= pairs).all() and (radii[0] < 0.5 * pairs)[pairs > 0].all()


def test_a_dead_neuron_is_left_out_by_hand():
    """z = relu(3 a) + 4 relu(b - 1), minus nothing: near (1, 0) only the first term is awake."""
    model = nn.Sequential(
        linear(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([0.0, -1.0])),
        nn.ReLU(),
        linear(torch.tensor([[1.0, 4.0], [0.0, 0.0]])),
    )
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    for eps, constant in ((0.5, 3.0), (1.2, 5.0)):
        where = region(x, ThreatModel(norm="l2", eps=eps, box=None))
        assert local_constants(trace(model), where, y)[0, 1] == pytest.approx(constant)
    assert pair_constants(model, (2,))[0, 1] == pytest.approx(3 * math.sqrt(17))


def test_local_constants_go_through_shortcuts(rng):
    torch.manual_seed(0)
    model = nn.Sequential(Block(), nn.Linear(4, 2))
    x, y, threat = (
        torch.rand(5, 4, generator=rng),
        torch.zeros(5).long(),
        ThreatModel(norm="l2", eps=0.1),
    )
    constants = local_constants(trace(model), region(x, threat), y)[:, 1]
    z = threat.sample(x.repeat(200, 1), rng).requires_grad_()
    logits = model(z)
    (g,) = torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), z)
    reached = g.norm(dim=1).view(200, 5).amax(0)
    assert (reached <= constants + 1e-6).all() and (constants < 1.6 * reached).all()


# -- certificates --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_margins_are_below_every_margin_in_the_ball(method, norm, rng):
    model = network(7)
    x = torch.rand(4, 1, 6, 6, generator=rng)
    y, threat = model(x).argmax(1), ThreatModel(norm=norm, eps=0.05)
    low = margins(model, x, y, threat, method)
    for _ in range(100):
        logits = model(threat.sample(x, rng))
        assert (logits.gather(1, y[:, None]) - logits >= low - 1e-6)[low.isfinite()].all()
    assert torch.equal(low.isinf(), nn.functional.one_hot(y, 3).bool())


@pytest.mark.claim("17.4.3", "no attack succeeds where a Lipschitz certificate holds")
def test_no_attack_fools_a_certified_digit():
    model, (x, y) = nets.shipped("mnist-pgd"), data.load("mnist-mini", "test", 60)
    threat, rng = ThreatModel(norm="l2", eps=0.05), torch.Generator().manual_seed(0)
    proved = {m: certify(model, x, y, threat, m) for m in METHOD_NAMES}
    fooled = attack_model(model, x, y, threat.with_eps(2.0), steps=20, rng=rng).fooled
    assert fooled.any()  # the attack is able to fool this network at a larger radius
    fooled = attack_model(model, x, y, threat, steps=40, rng=rng).fooled
    assert not any((hits & fooled).any() for hits in proved.values())
    counts = [int(proved[m].sum()) for m in METHOD_NAMES]
    assert counts == sorted(counts) and counts[0] < counts[2] and counts[2] > 20


def test_the_rows_of_the_table():
    assert set(METHOD_NAMES) <= set(METHODS)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: stretch(nn.Softmax(1), (3,)), ValueError, "no Lipschitz rule for Softmax; known"),
        (lambda: stretch(nn.BatchNorm2d(2), (2, 3, 3)), ValueError, "eval mode"),
        (lambda: stretch(nn.Dropout(), (3,)), ValueError, "eval mode"),
        (lambda: list(spectral_path(nn.Linear(2, 2), (2,), steps=0)), ValueError, "steps .*got 0"),
        (
            lambda: fourier_norm(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), (1, 5, 5)),
            ValueError,
            "padding_mode must be 'zeros', got 'circular'",
        ),
        (
            lambda: margins(
                nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2)),
                torch.rand(1, 1, 4, 4),
                torch.tensor([0]),
                ThreatModel(norm="l2", eps=0.1),
                "lipschitz-local",
            ),
            ValueError,
            "layer '0' is a MaxPool2d, whose Jacobian has no bounds here; known: .*ReLU",
        ),
    ],
)
def test_what_cannot_be_bounded_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_parametrised_layer_is_measured_as_it_acts():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 4), n_power_iterations=50).eval()
    expected = torch.linalg.matrix_norm(layer.weight.double(), ord=2).item()
    assert stretch(layer, (5,)) == pytest.approx(expected) == pytest.approx(1, abs=1e-3)

from functools import partial

import pytest
import torch
from safetensors import safe_open
from scipy.optimize import linprog, minimize
from torch import nn

from adversarial_lab import data, nets
from adversarial_lab.attacks import (
    Damping,
    along,
    apgd,
    apgd_path,
    apgd_targets,
    attack_survivors,
    evaluation_path,
    fab_targets,
    nearest_wrong,
    random_signs,
    square,
    standard_evaluation,
    start_survey,
    targeted_dlr,
    transfer,
    verified,
)
from adversarial_lab.attacks.apgd import checkpoints
from adversarial_lab.attacks.fab import to_hyperplane
from adversarial_lab.attacks.margins import margin
from adversarial_lab.attacks.square import _bump, _move_mass, _side
from adversarial_lab.attacks.targets import each_target, wrong_classes
from adversarial_lab.masking import Quantised, Scaled, gradient, top_curvature
from adversarial_lab.pgd import attack_model, cross_entropy
from adversarial_lab.threat import ThreatModel

norms = pytest.mark.parametrize("norm", ["linf", "l2"])


class Dual:
    """The norm that pairs with each: what a step of length one gains on w."""

    linf = staticmethod(lambda w: w.abs().sum())
    l2 = staticmethod(lambda w: w.norm())


def two_classes(w, shape=None):
    """Logits -w.x/2 and w.x/2 of flattened inputs."""
    linear = nn.Linear(w.numel(), 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([-w / 2, w / 2]))
    return nn.Sequential(nn.Flatten(), linear).requires_grad_(False)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 5))


@pytest.fixture
def images(net, rng):
    x = torch.rand(30, 1, 6, 6, generator=rng)
    return x, net(x).argmax(1)


# --- APGD ---


def test_checkpoints_are_those_of_the_paper_for_100_steps():
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checkpoints(1)) == [1]


@norms
def test_apgd_reaches_the_optimum_of_a_linear_model(norm, rng):
    w, x = torch.randn(9, generator=rng), torch.randn(20, 9, generator=rng)
    y = torch.randint(2, (20,), generator=rng)
    threat = ThreatModel(norm=norm, eps=0.3, box=None)
    loss = lambda logits, y: (1 - 2 * y) * (logits[:, 1] - logits[:, 0])  # noqa: E731
    settings = {"loss": loss, "steps": 100, "rng": rng, "stop_when_fooled": False}
    *_, last = apgd_path(two_classes(w), x, y, threat, **settings)
    best = (1 - 2 * y) * (x @ w) + 0.3 * getattr(Dual, norm)(w)
    torch.testing.assert_close(last.best_value, best, rtol=1e-4, atol=1e-4)
    assert threat.contains(x, last.best).all()


@norms
def test_apgd_halves_its_step_near_a_smooth_maximum(norm, rng):
    """The maximum of a concave bowl inside the ball: a constant step would bounce around it."""
    peak = 0.05 * torch.randn(1, 9, generator=rng)

    class Bowl(nn.Module):
        def forward(self, z):
            return torch.stack([(z - peak).square().sum(1), 0 * z[:, 0]], 1)

    x, threat = torch.zeros(1, 9), ThreatModel(norm=norm, eps=1.0, box=None)
    loss = lambda logits, y: -logits[:, 0]  # noqa: E731
    settings = {"loss": loss, "rng": rng, "stop_when_fooled": False}
    states = list(apgd_path(Bowl(), x, torch.zeros(1).long(), threat, **settings))
    assert len(states) == 101
    assert (states[-1].best - peak).norm() < 0.05 * (states[0].z - peak).norm()
    assert states[-1].step.item() < states[0].step.item() / 8
    values = torch.cat([s.best_value for s in states])
    assert (values.diff() >= 0).all()
    halved = [b for a, b in zip(states, states[1:], strict=False) if b.step < a.step]
    assert len(halved) > 3 and all(
        torch.equal(s.z, s.best) for s in halved
    )  # from there it goes on


def test_apgd_stays_in_the_ball_and_drops_the_fooled(net, images, rng):
    x, y = images
    threat = ThreatModel(norm="linf", eps=0.15)
    sizes = []
    for state in apgd_path(net, x, y, threat, steps=20, rng=rng):
        assert threat.contains(state.x, state.z).all()
        assert (state.wrong == (net(state.z).argmax(1) != state.goal)).all()
        sizes.append(len(state.rows))
    assert sizes[0] == 30 > sizes[-1] and sizes == sorted(sizes, reverse=True)
    z = apgd(net, x, y, threat, steps=20, rng=torch.Generator().manual_seed(0)).z
    assert (net(z).argmax(1) != y).sum() >= 30 - sizes[-1] > 0


def test_the_targeted_dlr_by_hand_and_its_invariance(rng):
    logits = torch.tensor([[5.0, 3.0, 1.0, 0.0, -2.0]])
    goal = torch.tensor([[0, 2]])
    assert targeted_dlr(logits, goal).item() == pytest.approx((1 - 5) / (5 - 0.5))
    many, goals = torch.randn(9, 6, generator=rng), torch.tensor([[1, 3]] * 9)
    torch.testing.assert_close(targeted_dlr(1e3 * many + 7, goals), targeted_dlr(many, goals))
    with pytest.raises(ValueError, match="at least 4 classes, got 3"):
        targeted_dlr(torch.zeros(1, 3), torch.tensor([[0, 1]]))


def test_the_margin_is_positive_exactly_where_the_network_is_wrong(rng):
    logits, y = torch.randn(200, 5, generator=rng), torch.randint(5, (200,), generator=rng)
    assert torch.equal(margin(logits, y) > 0, logits.argmax(1) != y)
    by_hand = margin(torch.tensor([[5.0, 3.0, 1.0], [5.0, 3.0, 1.0]]), torch.tensor([0, 1]))
    assert by_hand.tolist() == [-2.0, 2.0]


def test_targets_are_the_likeliest_wrong_classes(net, images):
    x, y = images
    classes = torch.stack(wrong_classes(net, x, y, 9), 1)
    assert classes.shape == (30, 4)  # all of five but the label
    assert (classes != y[:, None]).all()
    assert (net(x).gather(1, classes).diff(dim=1) <= 0).all()


def test_every_target_is_tried_until_one_succeeds(net, images):
    x, y = images
    tried = []

    def attack(model, x, y, target):
        tried.append((len(x), target))
        z = x.clone()
        if len(tried) == 2:  # half of them fall to their second target
            z[::2] = elsewhere[::2]
        return z

    elsewhere = (x + 0.9).clamp(0, 1)
    wrong = net(elsewhere).argmax(1) != y
    x, y, elsewhere = x[wrong], y[wrong], elsewhere[wrong]
    z = each_target(attack, net, x, y, ThreatModel(norm="linf", eps=1.0), targets=3)
    n = len(x)
    assert n > 4 and [size for size, _ in tried] == [n, n, n // 2]
    assert torch.equal(z[::2], elsewhere[::2]) and torch.equal(z[1::2], x[1::2])
    classes = wrong_classes(net, x, y, 3)
    assert all(torch.equal(a, b) for (_, a), b in zip(tried[:2], classes[:2], strict=True))


# --- FAB ---


@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
@norms
def test_the_way_to_a_hyperplane_is_the_shortest(norm, box, rng):
    x = torch.rand(12, 5, generator=rng).double()
    w = torch.randn(12, 5, generator=rng).double()
    w[0, 2] = 0
    gap = (0.3 * w.abs().sum(1) * (2 * torch.rand(12, generator=rng) - 1)).double()
    d = to_hyperplane(x, w, gap, norm, box)
    torch.testing.assert_close((w * d).sum(1), -gap)
    length = ThreatModel(norm=norm, eps=1.0, box=None).distance(torch.zeros_like(d), d)
    for i in range(12):
        assert length[i].item() == pytest.approx(shortest(x[i], w[i], gap[i], norm, box), rel=1e-4)


def shortest(x, w, gap, norm, box):
    """The same length by another solver: HiGHS for linf, SLSQP for l2."""
    x, w, gap = x.numpy(), w.numpy(), gap.item()
    bounds = [(None, None) if box is None else (-v, 1 - v) for v in x]
    if norm == "linf":
        cost = [0] * 5 + [1]
        rows = [[*[s * (i == j) for j in range(5)], -1] for i in range(5) for s in (1, -1)]
        solved = linprog(cost, rows, [0] * 10, [[*w, 0]], [-gap], [*bounds, (0, None)])
        return solved.fun
    on_plane = {"type": "eq", "fun": lambda d: w @ d + gap}
    solved = minimize(lambda d: d @ d, 0 * x, bounds=bounds, constraints=[on_plane], tol=1e-14)
    return solved.fun**0.5


def test_a_hyperplane_outside_the_box_is_approached_as_far_as_the_box_goes():
    x, w = torch.tensor([[0.2, 0.9]]), torch.tensor([[1.0, -1.0]])
    for norm in ("linf", "l2"):
        d = to_hyperplane(x, w, torch.tensor([-50.0]), norm, (0.0, 1.0))
        torch.testing.assert_close(x + d, torch.tensor([[1.0, 0.0]]))


@norms
@pytest.mark.claim("17.2.3", "FAB measures the exact distance to a linear boundary")
def test_fab_finds_the_distance_to_a_linear_boundary(norm, rng):
    w, x = torch.randn(9, generator=rng), torch.randn(20, 9, generator=rng)
    model, threat = two_classes(w), ThreatModel(norm=norm, eps=9.0, box=None)
    y = model(x).argmax(1)
    z = nearest_wrong(model, x, y, 1 - y, threat, steps=50)
    assert (model(z).argmax(1) != y).all()
    exact = (x @ w).abs() / getattr(Dual, norm)(w)
    torch.testing.assert_close(threat.distance(x, z), exact, rtol=2e-3, atol=1e-5)


@norms
def test_the_backward_step_of_fab_finds_nearer_points(norm, net, images):
    """On a curved boundary; the linear one is found at once, with or without it."""
    x, y = images
    threat = ThreatModel(norm=norm, eps=1.0)
    attack = partial(nearest_wrong, net, x, y, (y + 1) % 5, threat, steps=20)
    with_it, without = (threat.distance(x, attack(damping=Damping(back=b))) for b in (0.9, 1.0))
    assert (with_it <= without + 1e-4).double().mean() > 0.8 and with_it.mean() < without.mean()


def test_fab_does_not_mind_the_scale_of_the_logits(net, images):
    x, y = images
    threat = ThreatModel(norm="l2", eps=1.0)
    target = (y + 1) % 5
    near, far = (
        threat.distance(x, nearest_wrong(m, x, y, target, threat, steps=20))
        for m in (net, Scaled(net, 1000.0))
    )
    torch.testing.assert_close(near, far, rtol=1e-3, atol=1e-4)


# --- Square ---


class Counting(nn.Module):
    """A network that remembers how often each call asked it, and about what."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, x):
        self.seen.append(x)
        return self.model(x)


@norms
def test_square_stays_in_the_ball_and_in_its_budget(norm, rng):
    x = torch.rand(1, 2, 9, 9, generator=rng)
    w = torch.randn(162, generator=rng)
    model = Counting(two_classes(w))
    y = model(x).argmax(1)
    threat = ThreatModel(norm=norm, eps=0.01 if norm == "linf" else 0.05)
    z = square.search(model, x, y, threat, queries=60, rng=rng)
    assert len(model.seen) == 1 + 60
    assert all(threat.contains(x, seen).all() for seen in model.seen[1:])
    margins = [(m[0, y] - m[0, 1 - y]).item() for m in map(model.model, model.seen[1:])]
    assert (model.model(z)[0, y] - model.model(z)[0, 1 - y]).item() == pytest.approx(min(margins))
    assert min(margins) < margins[0]


@norms
@pytest.mark.claim("17.2.3", "a black-box attack breaks a network whose gradient is zero")
def test_square_breaks_what_has_no_gradient(norm, rng):
    w = torch.randn(64, generator=rng)
    model = Quantised(two_classes(w), 8)
    x = 0.5 + 0.04 * torch.randn(20, 1, 8, 8, generator=rng)
    y = model(x).argmax(1)
    threat = ThreatModel(norm=norm, eps=0.1 if norm == "linf" else 0.6)
    assert gradient(lambda z: cross_entropy(model(z), y), x).abs().max() == 0
    found = attack_survivors(partial(square, queries=300), model, x, y, threat, rng=rng)
    assert found.robust_accuracy < 0.3


def test_square_sides_shrink_and_bumps_have_unit_length(rng):
    x = torch.zeros(1, 1, 28, 28)
    assert [_side(x, s, "linf") for s in (0.8, 0.2, 0.001)] == [25, 13, 1]
    assert [_side(x, s, "l2") for s in (0.8, 0.2, 0.001)] == [25, 13, 3]
    for side in (2, 3, 5, 7):
        bump = _bump(side, x, rng)
        assert bump.shape == (side, side) and bump.norm().item() == pytest.approx(1)
        assert bump.max() > 0 > bump.min()


def test_an_l2_move_of_square_spends_what_is_left_of_the_budget(rng):
    x, threat = torch.full((4, 2, 9, 9), 0.5), ThreatModel(norm="l2", eps=0.3)
    z = x + 0.1 * threat.steepest(torch.randn(x.shape, generator=rng))  # a third of it is spent
    for _ in range(5):
        moved = _move_mass(x, z, 5, threat, rng)
        torch.testing.assert_close(threat.distance(x, moved), torch.full((4,), 0.3))


# --- What counts, and the sequence ---


def test_only_verified_points_count(net, images):
    x, y = images
    threat = ThreatModel(norm="linf", eps=0.02)
    cheat = lambda model, x, y, threat, rng: (x + 0.5).clamp(0, 1)  # noqa: E731
    found = attack_survivors(cheat, net, x, y, threat)
    assert found.robust_accuracy == 1 and torch.equal(found.z, x)
    y = y.clone()
    y[:3] = (y[:3] + 1) % 5  # wrong at x: broken before any attack
    before = start_survey(net, x, y, threat)
    assert before.fooled.sum() == 3
    assert attack_survivors(cheat, net, x, y, threat, before=before).fooled.sum() == 3


def test_autocast_does_not_count(rng):
    """In bfloat16 the two logits tie or turn around; in float32 the network is right."""
    w = torch.ones(4)
    model = two_classes(w)
    x = torch.full((1, 4), 1e-4)
    y, threat = torch.tensor([1]), ThreatModel(norm="linf", eps=0.1)

    class Low(nn.Module):
        def forward(self, z):
            logits = model(z) + 100.0
            return logits.bfloat16().float() if torch.is_autocast_enabled("cpu") else logits

    assert verified(model, x, y, x, threat).item() is False
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Low()(x).argmax(1).item() == 0  # fooled, by rounding alone
        assert verified(Low(), x, y, x, threat).item() is False


SHORT = {
    "apgd-ce": partial(apgd, steps=10),
    "apgd-t": partial(apgd_targets, steps=5, targets=2),
    "fab-t": partial(fab_targets, steps=5, targets=2),
    "square": partial(square, queries=20),
}


@norms
def test_the_sequence_only_falls_and_resumes_where_it_stopped(norm, net, images, tmp_path):
    x, y = images
    threat = ThreatModel(norm=norm, eps=0.05 if norm == "linf" else 0.2)
    whole = standard_evaluation(net, x, y, threat, attacks=SHORT, seed=3)
    assert [s.name for s in whole] == ["clean", *SHORT]
    assert whole[0].found.robust_accuracy == 1 > whole[-1].found.robust_accuracy
    for a, b in zip(whole, whole[1:], strict=False):
        assert (b.found.fooled | ~a.found.fooled).all()
    last = whole[-1].found
    assert (verified(net, x, y, last.z, threat) == last.fooled).all()
    file = tmp_path / "evaluation.safetensors"
    path = evaluation_path(net, x, y, threat, attacks=SHORT, seed=3, checkpoint=file)
    assert [next(path).name for _ in range(3)] == ["clean", "apgd-ce", "apgd-t"]
    del path
    again = standard_evaluation(net, x, y, threat, attacks=SHORT, seed=3, checkpoint=file)
    assert [s.name for s in again] == [s.name for s in whole]
    assert torch.equal(again[-1].found.z, last.z)
    assert "stand" in str(again[-1])
    other = nn.Sequential(nn.Flatten(), nn.Linear(36, 5))
    for model, seed, attacks in (
        (net, 4, SHORT),
        (other, 3, SHORT),
        (net, 3, {**SHORT, "a": apgd}),
    ):
        with pytest.raises(ValueError, match="belongs to another evaluation"):
            standard_evaluation(model, x, y, threat, attacks=attacks, seed=seed, checkpoint=file)
    with safe_open(file, framework="pt") as saved:  # an address would differ in the next process
        assert " at 0x" not in saved.metadata()["evaluation"]


@norms
def test_robust_accuracy_of_a_linear_classifier_is_known(norm, rng):
    """Four classes, each a rotated copy: x falls iff its distance to some boundary is below eps."""
    weights = torch.randn(4, 16, generator=rng)
    linear = nn.Linear(16, 4, bias=False)
    with torch.no_grad():
        linear.weight.copy_(weights)
    model = nn.Sequential(nn.Flatten(), linear)
    x = torch.randn(60, 1, 4, 4, generator=rng)
    logits = model(x).detach()
    y = logits.argmax(1)
    gaps = logits.gather(1, y[:, None]) - logits
    sizes = torch.stack(
        [torch.stack([getattr(Dual, norm)(a - b) for b in weights]) for a in weights]
    )
    distance = (gaps / sizes[y].clamp(min=1e-9)).scatter(1, y[:, None], torch.inf).amin(1)
    threat = ThreatModel(norm=norm, eps=distance.median().item(), box=None)
    clear = (distance - threat.eps).abs() > 0.02 * threat.eps
    for name in ("apgd-t", "fab-t"):
        attack = partial({"apgd-t": apgd_targets, "fab-t": fab_targets}[name], steps=40, targets=3)
        found = attack_survivors(attack, model, x, y, threat, rng=rng)
        assert (found.fooled == (distance <= threat.eps))[clear].all(), name


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.08), ("l2", 0.9)])
def test_agreement_with_the_reference_implementation(norm, eps):
    """The published AutoAttack on 500 digits: robust accuracy within half a point."""
    autoattack = pytest.importorskip("pyautoattack", reason="pip install pyautoattack to compare")
    model = nets.shipped("mnist-standard")
    x, y = data.load("mnist-mini", "test", 500)
    threat = ThreatModel(norm=norm, eps=eps)
    ours = standard_evaluation(model, x, y, threat)[-1].found.robust_accuracy
    peer = autoattack.AutoAttack(model, norm=norm.capitalize(), eps=eps, seed=0)
    z, _ = peer.run_standard_evaluation(x, y, batch_size=500)
    theirs = (model(z).argmax(1) == y).double().mean().item()
    assert 0 < ours < 0.8  # a radius at which the attacks have something to disagree about
    assert abs(ours - theirs) <= 0.005


# --- Borrowed gradients and none ---


@pytest.mark.claim("17.2.3", "adversarial examples of another network break a masked one")
def test_transfer_breaks_a_network_without_gradient(net, images, rng):
    x, y = images
    masked = Quantised(net, 32)
    threat = ThreatModel(norm="linf", eps=0.15)
    stuck = attack_model(masked, x, y, threat, steps=20, rng=rng).robust_accuracy
    found = attack_survivors(partial(transfer, source=net), masked, x, y, threat, rng=rng)
    assert found.robust_accuracy < stuck - 0.3


@pytest.mark.claim("17.2.3", "a second-order method finds what a vanishing gradient hides")
def test_the_hessian_shows_the_way_where_the_gradient_vanishes(rng):
    """The margin 2 - 9 (w.z)^2 has a ridge along w.z = 0: flat at x, and down on both sides."""
    w = torch.nn.functional.normalize(torch.randn(9, generator=rng), dim=0)

    class Ridge(nn.Module):
        def forward(self, z):
            return torch.stack([2 - 9 * (z @ w).square(), 0 * z[:, 0]], 1)

    model, x, y = Ridge(), torch.randn(20, 9, generator=rng), torch.zeros(20).long()
    x = x - (x @ w)[:, None] * w
    threat = ThreatModel(norm="l2", eps=0.5, box=None)
    f = lambda z: cross_entropy(model(z), y)  # noqa: E731
    assert gradient(f, x).abs().max() < 1e-5
    value, v = top_curvature(f, x, rng=rng)
    torch.testing.assert_close((v @ w).abs(), torch.ones(20))
    torch.testing.assert_close(value, torch.full((20,), 18 / (1 + torch.e**2)))  # 18 p_1

    def sharpest(model, x, y, threat, rng):
        return top_curvature(lambda z: cross_entropy(model(z), y), x, rng=rng)[1][None]

    second_order = partial(along, directions=sharpest)
    assert attack_survivors(second_order, model, x, y, threat).robust_accuracy == 0


@norms
def test_a_line_search_along_the_right_direction_is_exact(norm, rng):
    w, x = torch.randn(9, generator=rng), torch.randn(20, 9, generator=rng)
    model, threat = two_classes(w), ThreatModel(norm=norm, eps=0.3, box=None)
    y = model(x).argmax(1)
    direction = (w.sign() if norm == "linf" else w).expand(1, 20, 9)
    z = along(model, x, y, threat, directions=lambda *_, rng: direction).z
    lost = (model(x) - model(z)).gather(1, y[:, None]).squeeze(1)
    torch.testing.assert_close(2 * lost, torch.full((20,), 0.3 * getattr(Dual, norm)(w).item()))
    chance = along(model, x, y, threat, directions=partial(random_signs, count=5), rng=rng).z
    assert threat.contains(x, chance).all()
    assert (model(chance).gather(1, y[:, None]) <= model(x).gather(1, y[:, None])).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.full((3, 1, 6, 6), 2.0)}, "x must lie in the box"),
        ({"y": torch.zeros(4, dtype=torch.long)}, "one label per example, got 4 for 3"),
        ({"y": torch.full((3,), 9)}, r"labels 0\.\.4"),
        ({"threat": ThreatModel(norm="l1", eps=1.0)}, "norm must be one of.*got 'l1'"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Softmax(1))}, "got probabilities"),
    ],
)
def test_bad_input_is_refused(net, change, message, unchecked):
    x = torch.full((3, 1, 6, 6), 0.5)
    settings = {"model": net, "x": x, "y": net(x).argmax(1)}
    settings |= {"threat": ThreatModel(norm="linf", eps=0.1), **change}
    with pytest.raises(ValueError, match=message):
        standard_evaluation(**settings)


def test_a_network_of_nans_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 5))
    model[1].weight.data.fill_(torch.nan)
    x, threat = torch.full((3, 1, 6, 6), 0.5), ThreatModel(norm="linf", eps=0.1)
    with pytest.raises(ValueError, match="finite logits, got NaN or inf for 3 of 3"):
        standard_evaluation(model, x, torch.zeros(3).long(), threat)


def test_settings_that_make_no_sense_are_refused(net, images, unchecked):
    x, y = images
    linf, l1 = ThreatModel(norm="linf", eps=0.1), ThreatModel(norm="l1", eps=0.1)
    with pytest.raises(ValueError, match="steps must be >= 1, got 0"):
        apgd(net, x, y, linf, steps=0)
    with pytest.raises(ValueError, match="norm must be one of.*for APGD, got 'l1'"):
        apgd(net, x, y, l1, steps=1)
    with pytest.raises(ValueError, match="targets must be >= 1, got 0"):
        apgd_targets(net, x, y, linf, targets=0)
    with pytest.raises(ValueError, match="steps must be >= 1, got 0"):
        nearest_wrong(net, x, y, y, linf, steps=0)
    with pytest.raises(ValueError, match="norm must be one of.*for FAB, got 'l1'"):
        fab_targets(net, x, y, l1)
    with pytest.raises(ValueError, match="queries must be >= 1, got 0"):
        square(net, x, y, linf, queries=0)
    with pytest.raises(ValueError, match="norm must be one of.*for FAB, got 'l1'"):
        to_hyperplane(torch.rand(1, 2), torch.ones(1, 2), torch.ones(1), "l1", None)
    with pytest.raises(ValueError, match="norm must be one of.*for Square"):
        square(net, x, y, l1)
    with pytest.raises(ValueError, match="radii must be >= 1, got 0"):
        along(net, x, y, linf, directions=random_signs, radii=0)

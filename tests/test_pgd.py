from functools import partial
from itertools import chain

import pytest
import torch
from torch import nn

from adversarial_lab.classifier import evaluating
from adversarial_lab.pgd import (
    attack_model,
    cross_entropy,
    fgsm,
    first_wrong,
    noise_fgsm,
    pgd,
    pgd_path,
    strongest,
)
from adversarial_lab.threat import GEOMETRIES, ThreatModel

norms = pytest.mark.parametrize("norm", sorted(GEOMETRIES))


def linear(w):
    return lambda z: (z * w).flatten(1).sum(1)


def dual(norm, w):
    return {"linf": w.abs().sum(), "l2": w.norm(), "l1": w.abs().max()}[norm]


@norms
@pytest.mark.parametrize("shape", [(1, 8), (3, 4, 6), (8, 2, 5, 5)])
@pytest.mark.claim("17.1.1", "projected steepest ascent reaches the maximum of a linear loss")
def test_a_linear_loss_is_maximised_exactly(norm, shape, rng):
    x, w = torch.randn(shape, generator=rng), torch.randn(shape[1:], generator=rng)
    threat = ThreatModel(norm=norm, eps=0.3, box=None)
    z = pgd(linear(w), x, threat, steps=100, step_size=0.1, rng=rng)
    best = linear(w)(x) + 0.3 * dual(norm, w)
    torch.testing.assert_close(linear(w)(z), best, rtol=1e-3, atol=1e-3)


def best_in_box(norm, eps, x, w):
    """The largest w.z over ball and box: (linf) clip, (l1) fill by |w|, (l2) clip(x + t w)."""
    room = torch.where(w > 0, 1 - x, x)
    if norm == "linf":
        move = room.clamp(max=eps)
    elif norm == "l1":
        order = w.abs().argsort(descending=True)
        filled = room[:, order]
        filled = torch.minimum((eps - (filled.cumsum(1) - filled)).clamp(min=0), filled)
        move = torch.zeros_like(room)
        move[:, order] = filled
    else:
        low, high = torch.zeros(len(x), 1), torch.full((len(x), 1), 1e3)
        for _ in range(60):
            t = (low + high) / 2
            short = torch.minimum(t * w.abs(), room).norm(dim=1, keepdim=True) < eps
            low, high = torch.where(short, t, low), torch.where(short, high, t)
        move = torch.minimum(low * w.abs(), room)
    return (x * w).sum(1) + (move * w.abs()).sum(1)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.3), ("l2", 1.5), ("l1", 4.0)])
def test_a_linear_loss_in_a_box_is_maximised(norm, eps, rng):
    """Half of the pixels are at a wall, as in a digit."""
    x, w = torch.rand(20, 60, generator=rng), torch.randn(60, generator=rng)
    x[:, ::2] = x[:, ::2].round()
    threat = ThreatModel(norm=norm, eps=eps)
    path = pgd_path(linear(w), x, threat, steps=300, step_size=eps / 20, rng=rng)
    gain = linear(w)(strongest(linear(w), path)) - linear(w)(x)
    best = best_in_box(norm, eps, x, w) - linear(w)(x)
    assert (gain <= best * (1 + 1e-4)).all() and (gain >= 0.97 * best).all()


@pytest.mark.parametrize(
    ("step", "steps", "gain"), [(0.3 / 40, 40, 3 / 4), (0.01, 40, 8 / 9), (2 * 0.3 / 40, 40, 1)]
)
@pytest.mark.claim("17.1.1", "with step size eps/K a random start reaches 3/4 of the linear gain")
def test_share_of_the_optimal_gain_by_step_size(step, steps, gain, rng):
    # a coordinate starts at u ~ U(-1, 1) eps and ends at min(1, u + steps * step / eps) eps
    threat = ThreatModel(norm="linf", eps=0.3, box=None)
    x = torch.zeros(50, 2000)
    z = pgd(lambda z: z.sum(1), x, threat, steps=steps, step_size=step, rng=rng)
    assert (z.mean() / 0.3).item() == pytest.approx(gain, abs=0.004)


@pytest.mark.parametrize(("step", "distance"), [(1, 0.495), (0.5, 0.253), (0.1, 0.05)])
@pytest.mark.claim("17.1.1", "steps near eps bounce: the distance to the optimum is step/2")
def test_long_steps_bounce_around_an_inner_optimum(step, distance, rng):
    eps = 0.3
    x = torch.zeros(1, 20_000)
    optimum = eps * (2 * torch.rand(x.shape, generator=rng) - 1)
    threat = ThreatModel(norm="linf", eps=eps, box=None)
    f = lambda z: -(z - optimum).square().sum(1)  # noqa: E731
    z = pgd(f, x, threat, steps=200, step_size=step * eps, rng=rng)
    assert ((z - optimum).abs().mean() / eps).item() == pytest.approx(distance, rel=0.03)


@pytest.mark.claim("17.1.1", "the sign update is specific to linf: it is not l2 ascent")
def test_sign_steps_in_an_l2_ball_fall_short(rng):
    w, x = torch.tensor([3.0, 0.1, 0.1, 0.1]), torch.zeros(1, 4)
    threat = ThreatModel(norm="l2", eps=1.0, box=None)
    z = x
    for _ in range(200):
        z = threat.project(x, z + 0.05 * w.sign())
    best = pgd(linear(w), x, threat, steps=200, step_size=0.05, rng=rng)
    assert linear(w)(z) < 0.6 * linear(w)(best)


def test_path_starts_in_the_ball_and_has_one_point_a_step(rng):
    x = torch.rand(4, 3, generator=rng)
    threat = ThreatModel(norm="linf", eps=0.2)
    points = list(pgd_path(lambda z: z.sin().sum(1), x, threat, steps=5, rng=rng))
    assert len(points) == 6
    assert all(threat.contains(x, z).all() for z in points)
    assert not any(z.requires_grad for z in points)


def test_a_given_start_is_used_and_projected():
    x, threat = torch.full((1, 2), 0.5), ThreatModel(norm="linf", eps=0.1)
    first, *_ = pgd_path(lambda z: z.sum(1), x, threat, steps=1, start=torch.tensor([[0.45, 9.0]]))
    torch.testing.assert_close(first, torch.tensor([[0.45, 0.6]]))


@norms
def test_examples_do_not_mix(norm, rng):
    """Summed, not averaged: an example's path is the same alone and in a batch."""
    x = torch.rand(6, 8, generator=rng)
    f = lambda z: (3 * z).sin().prod(1)  # noqa: E731
    attack = partial(pgd, f, threat=ThreatModel(norm=norm, eps=0.4), steps=7)
    alone = torch.cat([attack(row[None], start=row[None]) for row in x])
    torch.testing.assert_close(attack(x, start=x), alone)


def test_fgsm_is_the_optimum_of_a_linear_loss_and_one_step_of_pgd(rng):
    x, w = torch.randn(3, 7, generator=rng), torch.randn(7, generator=rng)
    threat = ThreatModel(norm="linf", eps=0.2, box=None)
    torch.testing.assert_close(fgsm(linear(w), x, threat), x + 0.2 * w.sign())
    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    one = fgsm(linear(w), x, threat, step_size=0.25, rng=seeds[0], random_start=True)
    torch.testing.assert_close(
        one, pgd(linear(w), x, threat, steps=1, step_size=0.25, rng=seeds[1])
    )


@pytest.mark.claim(
    "17.1.3", "evaluation takes the strongest point of each example, not the clean one"
)
def test_strongest_picks_per_example_and_never_the_clean_point():
    f = lambda z: z[:, 0]  # noqa: E731
    low, high = torch.tensor([[1.0], [5.0]]), torch.tensor([[4.0], [2.0]])
    assert strongest(f, [low, high]).tolist() == [[4], [5]]
    assert strongest(f, iter([torch.tensor([[-9.0]])])).item() == -9
    with pytest.raises(ValueError, match="candidates must hold at least one"):
        strongest(f, [])


@pytest.mark.claim("17.1.1", "restarts help against local maxima, whatever the step size")
def test_restarts_find_what_one_start_misses(rng):
    # the gradient at 0.5 points left to a low hill; the high one is at 0.95
    hill = lambda z, c, h, w: h * torch.exp(-(((z - c) / w) ** 2))  # noqa: E731
    f = lambda z: hill(z[:, 0], 0.3, 1.0, 0.2) + hill(z[:, 0], 0.95, 3.0, 0.05)  # noqa: E731
    x, threat = torch.full((200, 1), 0.5), ThreatModel(norm="linf", eps=0.5)
    path = partial(pgd_path, f, x, threat, steps=30, rng=rng)
    for size in (0.003, 0.02, 0.1, 0.25, 0.5):
        assert (f(strongest(f, path(step_size=size))) > 2).float().mean() < 0.4
    many = chain.from_iterable(path(step_size=0.01) for _ in range(20))
    assert (f(strongest(f, many)) > 2).float().mean() > 0.95


def share_on_the_highest_hill(f, highest, size, rng):
    """Of uniform starts, by the best of 31 iterates; `highest(value)` says who is there."""
    x, threat = torch.full((1000, 1), 0.5), ThreatModel(norm="linf", eps=0.5)
    path = pgd_path(f, x, threat, steps=30, step_size=size, rng=rng)
    return highest(f(strongest(f, path))).float().mean().item()


@pytest.mark.claim("17.1.4", "a step comparable to eps helps against local maxima: it depends")
def test_whether_a_long_step_finds_a_distant_hill_depends_on_the_loss(rng):
    """A wide hill: more often. A narrow one, or a thousand sums of sines: less often."""
    hill = lambda z, c, h, w: h * torch.exp(-(((z - c) / w) ** 2))  # noqa: E731
    found = {}
    for width in (0.05, 0.15):
        f = lambda z, w=width: hill(z[:, 0], 0.3, 1.0, 0.2) + hill(z[:, 0], 0.95, 3.0, w)  # noqa: E731
        found[width] = [
            share_on_the_highest_hill(f, lambda v: v > 2, size, rng) for size in (0.02, 0.5)
        ]
    draw = lambda scale: scale * torch.rand(1000, 8, generator=rng)  # noqa: E731
    frequency, phase, height = draw(12.0), draw(2 * torch.pi), draw(2.0) - 1
    sines = lambda z: (height * torch.sin(frequency * z + phase)).sum(1)  # noqa: E731
    every = torch.stack([sines(v.expand(1000, 1)) for v in torch.linspace(0, 1, 1001)])
    top = every.max(0).values - 0.02 * (every.max(0).values - every.min(0).values)
    found["sines"] = [
        share_on_the_highest_hill(sines, lambda v: v > top, size, rng) for size in (0.02, 0.5)
    ]
    assert found[0.15][1] > found[0.15][0] + 0.08
    assert found[0.05][1] < found[0.05][0] - 0.05
    assert found["sines"][1] < found["sines"][0] - 0.2


@pytest.fixture
def net(rng):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 4))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_robust_accuracy_of_a_linear_classifier_is_known(norm, rng):
    """Two classes: x falls iff its margin is at most eps times the dual norm of w."""
    w = torch.randn(9, generator=rng)
    model = nn.Linear(9, 2)
    with torch.no_grad():
        model.weight.copy_(torch.stack([-w / 2, w / 2]))
        model.bias.zero_()
    x, y = torch.randn(200, 9, generator=rng), torch.randint(2, (200,), generator=rng)
    threat = ThreatModel(norm=norm, eps=0.2, box=None)
    margin = (2 * y - 1) * (x @ w)
    falls = margin <= 0.2 * dual(norm, w)
    found = attack_model(model, x, y, threat, steps=60, step_size=0.03, rng=rng)
    clear = (margin - 0.2 * dual(norm, w)).abs() > 5e-3
    assert (found.fooled == falls)[clear].all() and 0.1 < falls.float().mean() < 0.9
    assert found.robust_accuracy == 1 - found.fooled.double().mean().item()


@pytest.mark.claim("17.1.1", "steps of 2.5 eps/K cross the ball from a random start")
def test_the_default_step_crosses_the_ball(rng):
    x, threat = torch.zeros(1, 500), ThreatModel(norm="linf", eps=0.3, box=None)
    first, second, *_, last = pgd_path(lambda z: z.sum(1), x, threat, steps=20, rng=rng)
    free = second < 0.3
    torch.testing.assert_close((second - first)[free], torch.full_like(first[free], 2.5 * 0.3 / 20))
    assert (last == 0.3).all()


def test_the_last_iterate_counts_and_is_what_a_standing_example_gets(rng):
    """One step of 2 eps solves a linear problem, so only the last iterate can break the rest."""
    w = torch.randn(9, generator=rng)
    model = nn.Linear(9, 2)
    with torch.no_grad():
        model.weight.copy_(torch.stack([-w / 2, w / 2]))
        model.bias.zero_()
    x, threat = torch.randn(200, 9, generator=rng), ThreatModel(norm="linf", eps=0.2, box=None)
    y = (x @ w > 0).long()
    found = attack_model(model, x, y, threat, steps=1, step_size=0.4, rng=rng)
    falls = (x @ w).abs() <= 0.2 * w.abs().sum()
    assert torch.equal(found.fooled, falls) and 20 < falls.sum() < 180
    worst = x - 0.2 * torch.outer((2 * y - 1).float(), w.sign())
    torch.testing.assert_close(found.z[~falls], worst[~falls])


@pytest.mark.claim("17.1", "Eq. (1) is an expectation: as a maximum it would be 1 for any error")
def test_with_a_maximum_over_the_data_every_imperfect_classifier_has_risk_one(net, rng):
    x = torch.rand(100, 3, 4, generator=rng)
    y, threat = net(x).argmax(1), ThreatModel(norm="linf", eps=0.0)
    for wrong in (1, 10, 50):
        labels = torch.where(torch.arange(100) < wrong, (y + 1) % 4, y)
        loss = attack_model(net, x, labels, threat, steps=1).fooled.double()
        assert loss.mean().item() == pytest.approx(wrong / 100) and loss.max() == 1


@pytest.mark.parametrize("restarts", [1, 3])
def test_stopping_gives_the_same_answer(net, restarts, rng):
    x, y = torch.rand(300, 3, 4, generator=rng), torch.randint(4, (300,), generator=rng)
    y = torch.where(torch.rand(300, generator=rng) < 0.8, net(x).argmax(1), y)
    threat = ThreatModel(norm="linf", eps=0.15)
    rng = torch.Generator().manual_seed(5)
    stop = attack_model(net, x, y, threat, steps=20, restarts=restarts, rng=rng)
    rng, right = torch.Generator().manual_seed(5), net(x).argmax(1) == y
    go, fooled = x.clone(), ~right
    for _ in range(restarts):  # every example, every step: the first wrong point or the last
        f = lambda z: cross_entropy(net(z), y)  # noqa: E731
        for z in pgd_path(f, x, threat, steps=20, rng=rng):
            go[~fooled] = z[~fooled]
            fooled |= net(z).argmax(1) != y
    assert torch.equal(stop.fooled, fooled) and 20 < stop.fooled.sum() < 280
    torch.testing.assert_close(stop.z, go)
    with evaluating(net) as model:
        start = threat.sample(x, torch.Generator().manual_seed(5))
        search = partial(first_wrong, model, x[right], y[right], threat, start[right], steps=20)
        torch.testing.assert_close(search(), search(stop_when_fooled=False))
    assert threat.contains(x, stop.z).all()
    assert torch.equal(net(stop.z).argmax(1) != y, stop.fooled)


def test_more_restarts_never_find_less_and_every_restart_counts(net, rng):
    x = torch.rand(400, 3, 4, generator=rng)
    y = net(x).argmax(1)
    attack = partial(attack_model, net, x, y, ThreatModel(norm="l2", eps=0.2), steps=3)
    rates = [attack(restarts=r, rng=torch.Generator().manual_seed(1)).fooled for r in (1, 2, 8)]
    assert (rates[0] <= rates[1]).all() and (rates[1] <= rates[2]).all()
    assert rates[0].sum() < rates[2].sum()


def test_misclassified_examples_count_as_fallen_without_attack(net, rng):
    x = torch.rand(10, 3, 4, generator=rng)
    wrong = (net(x).argmax(1) + 1) % 4
    found = attack_model(net, x, wrong, ThreatModel(norm="linf", eps=0.0), steps=1)
    assert found.fooled.all() and torch.equal(found.z, x)


class Fussy(nn.Module):
    """The usual flattening, which cannot take an empty batch."""

    def __init__(self, w):
        super().__init__()
        self.w = w

    def forward(self, z):
        score = z.view(z.size(0), -1) @ self.w
        return torch.stack([-score, score], 1)


@pytest.mark.parametrize("fallen", [0.0, 1.0])
def test_a_network_never_sees_an_empty_batch(fallen, rng):
    x, w = torch.rand(7, 3, 2, generator=rng), torch.ones(6)
    threat, y = ThreatModel(norm="linf", eps=0.01), torch.full((7,), 1 - int(fallen))
    assert attack_model(Fussy(w), x, y, threat, steps=2, restarts=3).robust_accuracy == 1 - fallen


def test_a_nan_gradient_is_an_error_not_robustness(rng):
    f = lambda z: (z - z.detach()).abs().sqrt().sum(1)  # noqa: E731 - its slope at 0 is inf * 0
    x = torch.rand(4, 3, generator=rng)
    with pytest.raises(ValueError, match="NaN gradient in 4 of 4"):
        pgd(f, x, ThreatModel(norm="linf", eps=0.1), steps=1)


@pytest.mark.parametrize("start", [torch.zeros(2, 2), torch.full((2, 3), float("nan"))])
def test_a_bad_start_is_refused(start, unchecked):
    x = torch.full((2, 3), 0.5)
    with pytest.raises(ValueError, match=r"start must be finite and of x's shape \(2, 3\)"):
        pgd(lambda z: z.sum(1), x, ThreatModel(norm="linf", eps=0.1), steps=1, start=start)


class Hiccup(nn.Module):
    """Right at every input, except that its second answer is wrong."""

    calls = 0

    def forward(self, z):
        self.calls += 1
        right = z.flatten(1)[:, :1].square() + (-1 if self.calls == 2 else 1)
        return torch.cat([right, torch.zeros_like(right)], 1)


def test_what_does_not_fool_the_model_again_does_not_count(rng):
    x, y = torch.rand(10, 3, generator=rng) / 4, torch.zeros(10, dtype=torch.long)
    found = attack_model(Hiccup(), x, y, ThreatModel(norm="linf", eps=0.1), steps=5, rng=rng)
    assert not found.fooled.any()


def test_an_attack_never_hands_back_the_clean_point(net, rng):
    x = torch.rand(50, 3, 4, generator=rng)
    found = attack_model(
        net, x, net(x).argmax(1), ThreatModel(norm="linf", eps=1e-3), steps=4, rng=rng
    )
    assert not found.fooled.all()
    assert ((found.z != x).flatten(1).any(1) | found.fooled).all()


def test_the_model_is_left_as_it_was(rng):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[1].eval()
    model[0].weight.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x, y = torch.rand(8, 3, generator=rng), torch.randint(2, (8,), generator=rng)
    attack_model(model, x, y, ThreatModel(norm="l2", eps=0.1), steps=2)
    assert [m.training for m in model] == [True, False, True]
    assert [p.requires_grad for p in model[0].parameters()] == [False, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def probabilities(z):
    return z.flatten(1)[:, :4].softmax(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.full((5, 3, 4), float("nan"))}, "x must be finite"),
        ({"x": torch.full((5, 3, 4), 2.0)}, "x must lie in the box"),
        ({"x": torch.zeros(5, 3, 4, dtype=torch.uint8)}, "x must be floating point"),
        ({"x": torch.zeros(0, 3, 4)}, "non-empty batch"),
        ({"y": torch.zeros(4, dtype=torch.long)}, "one label per example, got 4 for 5"),
        ({"y": torch.full((5,), 4)}, r"labels 0\.\.3, got 4\.\.4"),
        ({"y": torch.full((5,), -1)}, r"labels 0\.\.3, got -1"),
        ({"y": torch.zeros(5)}, "integer labels"),
        ({"model": nn.Flatten(0)}, r"logits of shape \(n, k\) for 5 labels, got \(60,\)"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"restarts": 0}, "must be >= 1, got restarts=0"),
        ({"batch_size": 0}, "must be >= 1, got restarts=1, batch_size=0"),
        ({"step_size": -0.1}, "step_size must be finite and >= 0"),
        ({"step_size": float("inf")}, "step_size must be finite"),
    ],
)
def test_bad_input_is_refused(net, change, message, unchecked):
    settings = {"model": net, "x": torch.full((5, 3, 4), 0.5), "y": torch.zeros(5).long()}
    settings |= {"threat": ThreatModel(norm="linf", eps=0.1), "steps": 2, **change}
    with pytest.raises(ValueError, match=message):
        attack_model(**settings)


def test_a_model_that_returns_probabilities_is_refused(rng):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Softmax(1))
    x, y = torch.rand(5, 3, 4, generator=rng), torch.zeros(5, dtype=torch.long)
    with pytest.raises(ValueError, match="must return logits, got probabilities"):
        attack_model(model, x, y, ThreatModel(norm="linf", eps=0.1), steps=2)


@pytest.mark.parametrize(
    ("f", "shape"),
    [(lambda z: z.sum(), r"\(\)"), (lambda z: z.sum(1, keepdim=True), r"\(2, 1\)")],
)
def test_an_objective_that_is_not_per_example_is_refused(f, shape):
    x = torch.full((2, 3), 0.5)
    with pytest.raises(ValueError, match=rf"one differentiable value per example.*{shape}"):
        pgd(f, x, ThreatModel(norm="linf", eps=0.1), steps=1)


def test_an_objective_without_gradient_is_refused():
    x = torch.full((2, 3), 0.5)
    with pytest.raises(ValueError, match="requires_grad=False"):
        pgd(lambda z: z.detach().sum(1), x, ThreatModel(norm="linf", eps=0.1), steps=1)


def test_a_gradient_too_small_for_half_precision_still_gives_the_step(rng):
    """1e-8, as where TRADES starts, is 0 in fp16; scaled by a power of 2 it keeps its sign."""
    x, threat = torch.rand(4, 10, generator=rng).half() / 2, ThreatModel(norm="linf", eps=0.1)
    z = pgd(lambda z: (z * 1e-4 * 1e-4).sum(1), x, threat, steps=1, start=x)
    assert (z > x).all()


def test_half_precision_examples_all_keep_a_gradient(rng):
    """A mean over 512 examples underflows in fp16; the sum does not."""
    x = torch.rand(512, 10, generator=rng).half()
    w = (1e-5 * torch.randn(10, generator=rng)).half()
    z = pgd(linear(w), x, ThreatModel(norm="linf", eps=0.1, box=None), steps=1, start=x)
    assert ((z != x).sum(1) > 5).all()


def test_cross_entropy_is_per_example_in_nats():
    values = cross_entropy(torch.zeros(3, 10), torch.arange(3))
    torch.testing.assert_close(values, torch.full((3,), 10.0).log())


@norms
def test_noise_fgsm_is_noise_and_a_step_that_is_not_projected_back(norm, rng):
    x, w = torch.rand((50, 1, 4, 4), generator=rng), torch.randn((1, 4, 4), generator=rng)
    threat = ThreatModel(norm=norm, eps=0.1, box=None)
    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    z = noise_fgsm(linear(w), x, threat, rng=seeds[0])
    start = threat.with_eps(0.2).sample(x, seeds[1])
    step = threat.steepest(w.expand(x.shape))
    torch.testing.assert_close(z, start + 0.1 * step)
    assert 0.15 < threat.distance(x, z).max() <= 0.3 + 1e-6  # beyond eps, within 3 eps
    torch.testing.assert_close(noise_fgsm(linear(w), x, threat, noise=0.0), x + 0.1 * step)


def test_noise_fgsm_stays_in_the_box_however_wide_its_noise(rng):
    x, threat = torch.rand((20, 6), generator=rng), ThreatModel(norm="linf", eps=0.6)
    z = noise_fgsm(linear(torch.ones(6)), x, threat, rng=rng)
    assert z.min() >= 0 and z.max() <= 1
    for noise in (-1.0, float("inf")):
        with pytest.raises(ValueError, match="noise must be finite and >= 0"):
            noise_fgsm(linear(torch.ones(6)), x, threat, noise=noise)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_linear_model_falls_to_its_closed_form_in_every_precision(dtype):
    torch.manual_seed(0)
    m, x = torch.nn.Linear(30, 2), torch.rand(400, 30)
    with torch.no_grad():
        m.bias -= m(torch.full((1, 30), 0.5))[0]
    y, threat = m(x).argmax(1), ThreatModel(norm="linf", eps=8 / 255)
    m, x = m.to(dtype), x.to(dtype)
    w, b = (p.detach().double().diff(dim=0)[0] for p in (m.weight, m.bias))
    side = (2.0 * y - 1)[:, None] * w
    worst = torch.where(side > 0, x.double() - threat.eps, x.double() + threat.eps).clamp(0, 1)
    closed = ((2 * y - 1) * (worst @ w + b) > 0).double().mean().item()
    found = attack_model(m, x, y, threat, steps=20).robust_accuracy
    assert found == pytest.approx(closed, abs=2.5 / 400)  # what two roundings can decide

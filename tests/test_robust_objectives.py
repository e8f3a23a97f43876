"""Robust objectives: three formulations, the ladder, WRM, and what an adversary regularises."""

import json
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import brentq, linprog
from torch import nn

from adversarial_lab import nets, runs
from adversarial_lab.gaussian_risk import univariate
from adversarial_lab.masking.curvature import gradient, top_curvature
from adversarial_lab.multimarginal import agnostic, meeting_places, optimal_risk, play
from adversarial_lab.pgd import cross_entropy, pgd
from adversarial_lab.robust_objectives import (
    ascent,
    ball,
    ball_cost,
    certify,
    curvature_bound,
    dilate,
    dual_norm,
    erode,
    first_order,
    gradient_penalty,
    linear,
    optimal_sets,
    penalised,
    perimeter,
    risk_with_changes,
    robust_risk,
    sampled_curvature,
    smooth,
    squared_distance,
    transport_ball,
    wrm,
)
from adversarial_lab.robust_objectives.perimeter import UNITS
from adversarial_lab.robust_objectives.wrm import slack
from adversarial_lab.runs.__main__ import main
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import adversarial, fit
from adversarial_lab.transport import risk_on_the_line

NORMS = ("linf", "l2", "l1")
LOSSES = ("hinge", "logistic", "squared")


def free(norm, eps):
    return ThreatModel(norm=norm, eps=eps, box=None)


def table(seed, n=5, places=12):
    """Losses, distances (each point stands on one of the places) and weights."""
    rng = np.random.default_rng(seed)
    spots = rng.random((places, 2))
    distance = np.linalg.norm(spots[:n, None] - spots, axis=-1)
    return rng.random((n, places)), distance, rng.dirichlet(np.ones(n))


def program(loss, weights, cost, budget=None, price=0.0):
    """The adversary's problem as a linear program over transport plans."""
    n, places = loss.shape
    reachable = np.isfinite(cost)
    finite = np.where(reachable, cost, 0)
    marginal = np.kron(np.eye(n), np.ones(places))
    limit = {} if budget is None else {"A_ub": finite.reshape(1, -1), "b_ub": [budget]}
    sides = [(0, None if r else 0) for r in reachable.ravel()]
    objective = -(loss - price * finite).ravel()
    return -linprog(objective, A_eq=marginal, b_eq=weights, bounds=sides, **limit).fun


# -- three formulations --------------------------------------------------------------------------


@pytest.mark.claim("lecture", "with the cost 0 in the ball, inf outside, the penalty is the ball")
@pytest.mark.parametrize("eps", [0.0, 0.2, 0.5, 2.0])
def test_the_ball_cost_turns_the_penalty_into_the_ball(eps):
    for seed in range(5):
        loss, distance, w = table(seed)
        inside = [max(row[d <= eps]) for row, d in zip(loss, distance, strict=True)]
        by_hand = sum(weight * best for weight, best in zip(w, inside, strict=True))
        cost = ball_cost(distance, eps)
        assert ball(loss, distance, w, eps) == pytest.approx(by_hand, abs=1e-15)
        assert penalised(loss, cost, w) == pytest.approx(program(loss, w, cost), abs=1e-12)
        assert penalised(loss, 3 * cost, w) == penalised(loss, cost, w)


def test_a_point_at_distance_eps_is_in_the_ball():
    distance = np.array([[0.0, 0.1 + 0.2]])  # 0.30000000000000004
    assert ball(np.array([[0.0, 1.0]]), distance, np.ones(1), 0.3) == 1


@pytest.mark.claim("lecture", "explicit penalization: the plan splits into one problem a point")
def test_the_penalty_is_the_program_over_all_plans():
    for seed in range(5):
        loss, distance, w = table(seed)
        value = penalised(loss, 1.7 * distance**2, w)
        assert value == pytest.approx(program(loss, w, distance**2, price=1.7), abs=1e-12)


@pytest.mark.claim("lecture", "DRO over a transport ball: duality with the penalty's multiplier")
@pytest.mark.parametrize("budget", [0.0, 0.01, 0.1, 0.3, 5.0])
def test_the_transport_ball_is_the_program_over_all_plans(budget):
    for seed in range(6):
        loss, distance, w = table(seed)
        cost = np.where(distance > 0.9, np.inf, distance**2)
        worst = transport_ball(loss, cost, w, budget)
        assert worst.value == pytest.approx(program(loss, w, cost, budget=budget), abs=1e-9)
        assert worst.bound == pytest.approx(worst.value, abs=1e-12)
        assert worst.moved.min() >= 0 and worst.spent <= budget + 1e-12
        assert worst.moved.sum(1) == pytest.approx(w, abs=1e-15)
        paid = (worst.moved * np.where(worst.moved > 0, cost, 0)).sum()
        assert paid == pytest.approx(worst.spent, abs=1e-12)
        if worst.price > 0:
            ahead = penalised(loss, worst.price * cost, w)
            assert worst.value == pytest.approx(ahead + worst.price * budget, abs=1e-12)


def test_one_fractional_move_by_hand():
    # a unit of mass, two ways to lose: 1 for the price 1, 3 for the price 4; half of each
    loss, cost = np.array([[0.0, 1.0, 3.0]]), np.array([[0.0, 1.0, 4.0]])
    worst = transport_ball(loss, cost, np.ones(1), 2.5)
    assert (worst.value, worst.price) == pytest.approx((2.0, 2 / 3))
    assert worst.moved == pytest.approx(np.array([[0.0, 0.5, 0.5]]))
    with np.errstate(all="raise"):
        assert transport_ball(loss, cost, np.ones(1), 9.0).price == 0


def test_equal_losses_cost_nothing():
    worst = transport_ball(np.ones((2, 3)), table(0, 2, 3)[1], np.full(2, 0.5), 1.0)
    assert (worst.value, worst.spent) == (1, 0)


@pytest.mark.claim("lecture", "the DRO version is the ball only for the distance W_inf")
def test_wasserstein_balls_shrink_to_the_ball_as_p_grows():
    loss, distance, w = table(3)
    eps = 0.4
    values = [transport_ball(loss, distance**p, w, eps**p).value for p in (1, 2, 4, 16, 100)]
    limit = ball(loss, distance, w, eps)
    assert values == sorted(values, reverse=True)
    assert values[0] > limit + 0.05  # the same eps, another problem
    assert values[-1] == pytest.approx(limit, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost": np.array([[-1.0, 0.0]])}, "cost must be >= 0 and not NaN, the least entry"),
        ({"cost": np.array([[0.5, 1.0]])}, "cost must be 0 at one place for each point, point 0"),
        ({"budget": -1.0}, "budget must be finite and >= 0, got -1.0"),
        ({"budget": np.nan}, "budget must be finite"),
        ({"loss": np.array([[0.0, np.nan]])}, "loss must be finite"),
        ({"weights": -np.ones(1)}, r"weights must be finite and >= 0, got \[-1.\]"),
        ({"weights": np.ones(2)}, r"must be \(n, l\), .* got \(\(1, 2\), \(1, 2\), \(2,\)\)"),
    ],
)
def test_bad_costs_are_refused(unchecked, change, message):
    cost = np.array([[0.0, 1.0]])
    good = {"loss": np.zeros((1, 2)), "cost": cost, "weights": np.ones(1), "budget": 1.0}
    with pytest.raises(ValueError, match=message):
        transport_ball(**{**good, **change})
    with pytest.raises(ValueError, match="eps must be finite and >= 0, got -0.1"):
        ball_cost(good["cost"], -0.1)


# -- the ladder ----------------------------------------------------------------------------------


def line(seed, n=7):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.integers(0, 2, n), rng.dirichlet(np.ones(n))


def by_enumeration(x, y, eps, changes, w):
    """Every classifier with this many changes, each between two interval ends."""
    ends = np.unique(np.concatenate([x - eps, x + eps]))
    middles = np.concatenate([[-np.inf], (ends[1:] + ends[:-1]) / 2, [np.inf]])
    best = 0.0
    for cuts in product(middles, repeat=changes):
        for first in (0, 1):
            left, right = ((v[:, None] > np.array(cuts)).sum(1) for v in (x - eps, x + eps))
            best = max(best, w[(left == right) & ((first + left) % 2 == y)].sum())
    return 1 - best


@pytest.mark.parametrize("seed", range(4))
def test_the_ladder_is_the_best_of_all_classifiers_with_so_many_changes(seed):
    x, y, w = line(seed)
    ours = risk_with_changes(x, y, 0.15, 2, w)
    for k in range(3):
        assert ours[k] == pytest.approx(by_enumeration(x, y, 0.15, k, w), abs=1e-12)


@pytest.mark.claim("lecture", "the infimum over all measurable f is at most that over a family")
@pytest.mark.parametrize("eps", [0.0, 0.05, 0.2, 0.6])
def test_the_ladder_falls_to_the_bound_by_transport(eps):
    for seed in range(5):
        x, y, w = line(seed, n=40)
        risks = risk_with_changes(x, y, eps, 40, w)
        assert (np.diff(risks) <= 1e-15).all()
        assert risks[0] == pytest.approx(min(w[y == 0].sum(), w[y == 1].sum()))
        parts = [w[y == k] for k in (0, 1)]
        bound = risk_on_the_line(x[y == 0], x[y == 1], eps, weights=tuple(parts))
        assert risks[-1] == pytest.approx(bound, abs=1e-12)


@pytest.mark.claim(
    "lecture", "lower bounds for more general AT problems: soft, then hard, then few"
)
def test_the_agnostic_learner_stands_below_the_ladder():
    x, y, w = line(1, n=8)
    points, labels = torch.from_numpy(x)[:, None], torch.from_numpy(y)
    places, cost = meeting_places(points, labels, free("l2", 0.3))
    game = play(cost, y, w)
    packing = optimal_risk(points, labels, free("l2", 0.3), weights=w)
    assert game.value == pytest.approx(packing.risk, abs=1e-9)
    risks = risk_with_changes(x, y, 0.3, 8, w)
    assert game.value == pytest.approx(risks[-1], abs=1e-9) and risks[0] > risks[-1] + 0.01
    loss = 1 - game.f.T[y]  # the same game through the formulations
    assert penalised(loss, cost, w) == pytest.approx(game.value, abs=1e-9)
    assert agnostic.risk(game.f, cost, y, w) == pytest.approx(penalised(loss, cost, w), abs=1e-15)


def test_intervals_that_touch_are_in_conflict():
    x, y = np.array([0.0, 0.2]), np.array([0, 1])  # 0.1 + 0.1 and 0.2 differ by rounding elsewhere
    for shift in (0.0, 0.1, 0.7, 1e3):
        assert risk_with_changes(x + shift, y, 0.1, 1)[1] == 0.5
        assert risk_with_changes(x + shift, y, 0.0999, 1)[1] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.array([0, 2])}, r"y must hold 2 labels 0 or 1, got \[0, 2\]"),
        ({"eps": -1.0}, "eps must be finite and >= 0, got -1.0"),
        ({"x": np.array([0, np.nan])}, "x must hold one finite number or more, got"),
        ({"x": np.zeros(0), "y": np.zeros(0, int)}, "x must hold one finite number or more, got"),
        ({"changes": -1}, "changes must be >= 0, got -1"),
        ({"weights": np.ones(2)}, "weights must sum to one"),
    ],
)
def test_bad_ladders_are_refused(change, message):
    good = {"x": np.zeros(2), "y": np.array([0, 1]), "eps": 0.1, "changes": 1}
    with pytest.raises(ValueError, match=message):
        risk_with_changes(**{**good, **change})


# -- linear models: exact ------------------------------------------------------------------------


def linear_case(rng, loss, n=40, d=4):
    x = torch.randn(n, d, generator=rng, dtype=torch.float64)
    w = torch.randn(d, generator=rng, dtype=torch.float64)
    b = torch.tensor(0.3, dtype=torch.float64)
    y = torch.randn(n, generator=rng, dtype=torch.float64)
    return w, b, x, (y if loss == "squared" else y.sign())


def plain(loss, t, y):
    forms = {
        "hinge": lambda: (1 - y * t).clamp(min=0),
        "logistic": lambda: (1 + (-y * t).exp()).log(),
        "squared": lambda: (t - y) ** 2,
    }
    return forms[loss]()


@pytest.mark.claim("lecture", "AT of a linear model is its dual-norm regularised ERM, exactly")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("norm", NORMS)
def test_the_worst_loss_of_a_linear_model_has_the_dual_norm(rng, loss, norm):
    w, b, x, y = linear_case(rng, loss)
    threat = free(norm, 0.4)
    value = linear.robust(w, b, x, y, threat, loss)
    worst = linear.worst_points(w, b, x, y, threat, loss)
    assert threat.contains(x, worst).all()
    assert plain(loss, worst @ w + b, y).mean().item() == pytest.approx(value.item(), abs=1e-12)
    for _ in range(300):  # and nothing in the ball is worse
        z = threat.project(x, x + torch.randn(x.shape, generator=rng, dtype=x.dtype))
        assert (plain(loss, z @ w + b, y) <= plain(loss, worst @ w + b, y) + 1e-12).all()


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_finds_no_more_than_the_dual_norm(rng, norm):
    w, b, x, y = linear_case(rng, "logistic")
    threat = free(norm, 0.4)
    z = pgd(lambda z: F.softplus(-y * (z @ w + b)), x, threat, steps=60, step_size=0.1, rng=rng)
    found = F.softplus(-y * (z @ w + b)).mean().item()
    exact = linear.robust(w, b, x, y, threat).item()
    assert exact - 2e-3 <= found <= exact + 1e-12


def test_the_dual_norm_by_hand():
    v = torch.tensor([[3.0, -4.0], [0.0, 0.0]], dtype=torch.float64)
    known = {"linf": [7.0, 0.0], "l2": [5.0, 0.0], "l1": [4.0, 0.0]}
    for norm, values in known.items():
        assert dual_norm(v, free(norm, 1.0)).tolist() == values
        w = v.clone().requires_grad_()
        dual_norm(w, free(norm, 1.0)).sum().backward()
        assert w.grad[0] == pytest.approx(free(norm, 1.0).steepest(v[:1])[0].numpy())
        assert w.grad[1].tolist() == [0, 0]


def test_the_gradient_of_the_identity_is_that_of_the_worst_points(rng):
    """Danskin: the weights' gradient at the worst points is that of loss plus dual norm."""
    for loss, norm in product(LOSSES, NORMS):
        w, b, x, y = linear_case(rng, loss)
        threat = free(norm, 0.2)
        w.requires_grad_()
        (ours,) = torch.autograd.grad(linear.robust(w, b, x, y, threat, loss), w)
        z = linear.worst_points(w.detach(), b, x, y, threat, loss)
        (theirs,) = torch.autograd.grad(plain(loss, z @ w + b, y).mean(), w)
        assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.claim("lecture", "the identity of linear models needs a space without walls")
def test_in_a_box_the_linear_identity_is_only_an_upper_bound(rng):
    w, b, x, y = linear_case(rng, "logistic")
    x, eps = x.sigmoid(), 0.3
    boxed = ThreatModel(norm="linf", eps=eps)
    end = (x - y[:, None] * eps * w.sign()).clamp(0, 1)  # the exact worst point in the box
    exact = F.softplus(-y * (end @ w + b)).mean()
    assert exact < linear.robust(w, b, x, y, free("linf", eps)) - 0.02
    with pytest.raises(ValueError, match="threat must have box=None"):
        linear.robust(w, b, x, y, boxed)


def transport_on_a_grid(loss, w, x, y, eps, p, reach, step=0.02):
    """The transport ball by the general solver, places on a grid of the line."""
    grid = np.unique(np.concatenate([np.arange(-reach, reach, step), x]))
    losses = plain(loss, torch.from_numpy(w * grid)[None], torch.from_numpy(y)[:, None]).numpy()
    distance = np.abs(x[:, None] - grid)
    return transport_ball(losses, distance**p, np.full(len(x), 1 / len(x)), eps**p)


@pytest.mark.claim("lecture", "W_1 ball, linear model, hinge or logistic loss: loss + eps |w|_*")
@pytest.mark.parametrize("loss", LOSSES)
def test_transport_balls_of_linear_models(loss):
    rng = np.random.default_rng(0)
    x, w, eps = rng.normal(size=6), 1.3, 0.25
    y = rng.normal(size=6) if loss == "squared" else np.sign(rng.normal(size=6))
    p = 2 if loss == "squared" else 1
    arrays = (
        torch.from_numpy(np.array([w])),
        torch.zeros((), dtype=torch.float64),
        torch.from_numpy(x)[:, None],
    )
    exact = linear.distributional(*arrays, torch.from_numpy(y), free("l2", eps), loss).item()
    found = [transport_on_a_grid(loss, w, x, y, eps, p, reach).value for reach in (4, 12, 60)]
    assert max(found) <= exact + 1e-9
    assert found[2] == pytest.approx(exact, abs=2e-3)


@pytest.mark.claim("lecture", "a loss that is Lipschitz in the margin is not enough: the ramp loss")
def test_for_the_ramp_loss_the_penalty_is_too_large():
    """min(1, [1 - t]_+) has Lipschitz constant 1, and no distribution makes it more than 1."""
    rng = np.random.default_rng(0)
    x, w, eps = rng.normal(size=6), 1.5, 2.0
    y = np.sign(x)
    grid = np.unique(np.concatenate([np.linspace(-20, 20, 801), x]))
    ramp = lambda t: np.clip(1 - t, 0, 1)  # noqa: E731
    losses, distance = ramp(y[:, None] * w * grid), np.abs(x[:, None] - grid)
    found = transport_ball(losses, distance, np.full(6, 1 / 6), eps).value
    penalised = ramp(y * w * x).mean() + eps * w
    assert found == pytest.approx(1.0) and penalised > 3


@pytest.mark.claim("lecture", "ball, transport ball and penalty give three different regularisers")
def test_the_three_formulations_of_a_linear_model_are_in_order(rng):
    w, b, x, y = linear_case(rng, "squared")
    threat = free("l2", 0.3)
    at_most = linear.robust(w, b, x, y, threat, "squared")
    together = linear.distributional(w, b, x, y, threat, "squared")
    assert at_most < together  # one budget for all is worse than the same for each
    rho = threat.eps**2
    sizes = torch.linspace(1.001, 20, 600) * w.square().sum()
    paid = [linear.penalised_squared(w, b, x, y, g) + g * rho for g in sizes.tolist()]
    assert min(paid).item() == pytest.approx(together.item(), rel=1e-3)  # duality


@pytest.mark.claim("lecture", "W_2 ball, squared loss: the roots add, with the dual norm of w")
@pytest.mark.parametrize("norm", NORMS)
def test_one_budget_is_spent_where_the_residuals_are(rng, norm):
    """Each example goes as far as its residual is large, along the steepest direction."""
    w, b, x, y = linear_case(rng, "squared")
    eps = 0.4
    r = x @ w + b - y
    far = eps * r / r.square().mean().sqrt()
    z = x + far[:, None] * free(norm, 1.0).steepest(w[None])
    size = torch.linalg.vector_norm(z - x, {"linf": torch.inf, "l2": 2, "l1": 1}[norm], dim=1)
    assert size.square().mean().item() == pytest.approx(eps**2, rel=1e-12)  # W_2 = eps
    reached = (z @ w + b - y).square().mean().item()
    value = linear.distributional(w, b, x, y, free(norm, eps), "squared").item()
    assert value == pytest.approx(reached, rel=1e-12)


def test_unknown_losses_are_refused(rng):
    with pytest.raises(ValueError, match=r"loss must be one of \['hinge'.*got 'ramp'"):
        linear.robust(*linear_case(rng, "hinge"), free("l2", 0.1), "ramp")


def test_labels_that_no_margin_has_are_refused(rng):
    w, b, x, y = linear_case(rng, "hinge")
    for of in (linear.robust, linear.worst_points, linear.distributional):
        with pytest.raises(ValueError, match=r"y must be -1 or 1 for 'hinge', got \[0.0, 1.0\]"):
            of(w, b, x, (y + 1) / 2, free("l2", 0.1), "hinge")
    with pytest.raises(ValueError, match="gamma must be finite and > 0, got nan"):
        linear.penalised_squared(w, b, x, y, float("nan"))


# -- networks: to first order --------------------------------------------------------------------


def small_network(activation=nn.Tanh, d=5):
    model = nn.Sequential(nn.Linear(d, 16), activation(), nn.Linear(16, 3)).double()
    for p in model.parameters():
        p.data.mul_(2)
    return model


@pytest.mark.claim("lecture", "AT is a gradient-norm penalty up to second order, for smooth losses")
@pytest.mark.parametrize("norm", NORMS)
def test_the_error_of_the_first_order_is_of_second_order(rng, norm):
    model, x = small_network(), torch.randn(8, 5, generator=rng, dtype=torch.float64)
    y = torch.arange(8) % 3
    f = lambda z: cross_entropy(model(z), y)  # noqa: E731
    left = []
    for eps in (0.02, 0.01, 0.005):
        threat = free(norm, eps)
        z = pgd(f, x, threat, steps=80, step_size=eps / 10, start=x)
        left.append((f(z) - first_order(f, x, threat)).abs().mean().item())
    assert left[0] / left[1] == pytest.approx(4, rel=0.15)
    assert left[1] / left[2] == pytest.approx(4, rel=0.15)


@pytest.mark.claim(
    "lecture", "the first order misses at most L eps^2 / 2, and is below for convex f"
)
@pytest.mark.parametrize("norm", NORMS)
def test_for_a_linear_classifier_the_first_order_is_a_lower_bound(rng, norm):
    w, b, x, y = linear_case(rng, "logistic")
    f = lambda z: F.softplus(-y * (z @ w + b))  # noqa: E731
    size = dual_norm(w[None], free(norm, 1.0)).item()
    for eps in (0.01, 0.1, 1.0, 5.0):
        exact = linear.robust(w, b, x, y, free(norm, eps)).item()
        missed = exact - first_order(f, x, free(norm, eps)).mean().item()
        assert -1e-12 <= missed <= (eps * size) ** 2 / 8


@pytest.mark.claim("lecture", "across a kink the first-order penalty sees nothing, at any eps")
def test_at_a_kink_the_error_is_of_first_order():
    f = lambda z: z[:, 0].relu()  # noqa: E731
    for eps in (0.1, 0.01, 0.001):
        x = torch.tensor([[-eps / 2]], dtype=torch.float64)
        assert first_order(f, x, free("l2", eps)).item() == 0  # the truth is eps / 2


def test_double_backward_is_the_derivative_of_the_penalty(rng):
    threat = free("l2", 0.3)
    model, x = small_network(), torch.randn(6, 5, generator=rng, dtype=torch.float64)
    y = torch.arange(6) % 3
    value = gradient_penalty(model, x, y, threat=threat)
    by_hand = first_order(lambda z: cross_entropy(model(z), y), x, threat).mean()
    assert value.item() == pytest.approx(by_hand.item(), abs=1e-14)
    value.backward()
    weight = model[0].weight
    h, i, j = 1e-6, 3, 2
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[i, j] += sign * h
        ends.append(gradient_penalty(model, x, y, threat=threat).item())
        with torch.no_grad():
            weight[i, j] -= sign * h
    assert weight.grad[i, j].item() == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


def test_the_penalty_of_a_linear_classifier_has_the_gradient_of_one_step(rng):
    """Training on FGSM and on the penalty are the same to first order in eps."""
    x, y = torch.randn(20, 5, generator=rng, dtype=torch.float64), torch.arange(20) % 3
    model = small_network()
    grads = []
    for eps in (1e-3, 1e-4):
        threat = free("linf", eps)
        step = lambda f, x, t: x + t.eps * gradient(f, x).sign()  # noqa: E731
        one = adversarial(model, x, y, threat=threat, attack=step)
        two = gradient_penalty(model, x, y, threat=threat)
        pair = [torch.autograd.grad(v, list(model.parameters())) for v in (one, two)]
        grads.append(max((a - b).abs().max().item() for a, b in zip(*pair, strict=True)))
    assert grads[0] / grads[1] == pytest.approx(100, rel=0.1)


# -- penalised Wasserstein training --------------------------------------------------------------


@pytest.mark.claim("lecture", "squared loss, linear model: sup = gamma r^2 / (gamma - |w|^2)")
def test_the_penalised_inner_problem_of_a_linear_model(rng):
    w, b, x, y = linear_case(rng, "squared")
    gamma = 2.5 * w.square().sum().item()
    f = lambda z: (z @ w + b - y).square()  # noqa: E731
    *_, z = ascent(f, x, gamma=gamma, steps=80, box=None)
    value = (f(z) - gamma * squared_distance(x, z)).mean().item()
    exact = linear.penalised_squared(w, b, x, y, gamma).item()
    assert value == pytest.approx(exact, rel=1e-12)
    r = x @ w + b - y
    by_hand = x + (r / (gamma - w.square().sum()))[:, None] * w
    assert torch.allclose(z, by_hand, atol=1e-10)
    assert linear.penalised_squared(w, b, x, y, 0.99 * w.square().sum().item()) == float("inf")


@pytest.mark.claim("lecture", "the ascent contracts by L / (2 gamma) where 2 gamma exceeds L")
def test_the_ascent_contracts_where_the_problem_is_concave(rng):
    w, b, x, y = linear_case(rng, "squared")
    size = 2 * w.square().sum().item()  # the Hessian's eigenvalue
    f = lambda z: (z @ w + b - y).square()  # noqa: E731
    path = list(ascent(f, x, gamma=size, steps=6, box=None))
    moves = [(b - a).norm().item() for a, b in zip(path, path[1:], strict=False)]
    assert [b / a for a, b in zip(moves, moves[1:], strict=False)] == pytest.approx([0.5] * 5)
    far = list(ascent(f, x, gamma=0.4 * size, steps=30, box=None))  # 2 gamma < L: no supremum
    assert squared_distance(x, far[-1]).mean() > 100 * squared_distance(x, far[5]).mean()


def logistic_line():
    x = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)[:, None]
    y = torch.tensor([-1.0, -1, -1, 1, -1, 1, 1], dtype=torch.float64)
    return x, lambda z: F.softplus(-y * 8 * (z[:, 0] - 0.5)), 64 / 4


@pytest.mark.claim(
    "lecture", "Sinha et al.: gamma rho + E phi bounds every distribution within rho"
)
@pytest.mark.parametrize("gamma", [9.0, 12.0, 40.0])
def test_the_certificate_against_the_worst_distribution(gamma):
    x, f, curvature = logistic_line()
    proof = certify(f, x, gamma=gamma, curvature=curvature, steps=200)
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64)
    losses = torch.stack([f(g.expand(7, 1)) for g in grid], 1).numpy()
    cost = ((x - grid) ** 2).numpy()
    cost[np.arange(7), cost.argmin(1)] = 0
    for rho in (0.0, 0.001, proof.spent, 0.03, 0.3):
        worst = transport_ball(losses, cost, np.full(7, 1 / 7), rho)
        assert worst.value <= proof.bound(rho) + 1e-5
    tight = transport_ball(losses, cost, np.full(7, 1 / 7), proof.spent)
    assert tight.value == pytest.approx(proof.bound(proof.spent), abs=2e-5)
    assert tight.value == pytest.approx(proof.loss, abs=2e-5)
    assert tight.price == pytest.approx(gamma, rel=0.02)
    assert proof.gap < 1e-12 and proof.n == 7


def test_a_damped_step_goes_part_of_the_way():
    x, f, _ = logistic_line()
    paths = [list(ascent(f, x, gamma=40.0, steps=2, damping=s)) for s in (1.0, 0.25)]
    torch.testing.assert_close(paths[1][1] - x, (paths[0][1] - x) / 4)
    full = x + gradient(f, paths[1][1]) / 80
    torch.testing.assert_close(paths[1][2], 0.75 * paths[1][1] + 0.25 * full)


def test_a_short_ascent_is_made_good_by_its_gap():
    x, f, curvature = logistic_line()
    exact = certify(f, x, gamma=9.0, curvature=curvature, steps=400)
    for steps in (1, 2, 5):
        short = certify(f, x, gamma=9.0, curvature=curvature, steps=steps, damping=0.5)
        assert short.surrogate < exact.surrogate < short.surrogate + short.gap
        promised = 9 * 0.1 + short.surrogate + short.gap
        assert short.bound(0.1) == pytest.approx(promised, abs=1e-12)


@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
def test_the_slack_of_a_quadratic_is_exact(rng, box):
    z = torch.rand(5, 3, generator=rng, dtype=torch.float64)
    g = 4 * torch.randn(5, 3, generator=rng, dtype=torch.float64)
    grid = torch.linspace(0, 1, 4001, dtype=torch.float64)
    if box is None:
        by_hand = g.square().sum(1) / (2 * 3.0)
    else:
        step = grid - z[..., None]
        by_hand = (g[..., None] * step - 1.5 * step**2).amax(-1).sum(1)
    assert slack(g, z, 3.0, box).numpy() == pytest.approx(by_hand.numpy(), abs=1e-6)


@pytest.mark.claim(
    "lecture", "strong concavity can be refuted by a Hessian, and holds for large gamma"
)
def test_the_sampled_curvature_of_a_logistic_model():
    x, f, curvature = logistic_line()
    centre = torch.full_like(x, 0.5)
    met = sampled_curvature(f, x, centre, points=3)
    assert met.numpy() == pytest.approx(curvature, rel=1e-9)  # largest at the boundary
    s = torch.sigmoid(8 * (x[:, 0] - 0.5))
    assert torch.allclose(sampled_curvature(f, x, x), 64 * s * (1 - s))


@pytest.mark.claim("lecture", "strong concavity can be proven: L from products of layer norms")
def test_the_curvature_bound_is_attained_by_logistic_models(rng):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[1].weight += 3  # what all logits share does not count
    w = model[1].weight.detach()
    apart, shift = w[1] - w[0], model[1].bias.detach()
    bound = curvature_bound(model, (2, 2))
    assert bound == pytest.approx(apart.square().sum().item() / 4, rel=1e-6)
    between = -(shift[1] - shift[0]) * apart / apart.square().sum()  # both classes are even
    f = lambda z: cross_entropy(model(z), torch.zeros(1, dtype=torch.long))  # noqa: E731
    met, _ = top_curvature(f, between.view(1, 2, 2), rng=rng)
    assert met.item() == pytest.approx(bound, rel=1e-6)


def test_the_curvature_bound_is_attained_by_a_sure_neuron():
    """l = a tanh(2x) + 10 up to e^-10: no part of it is the softmax's."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 2)).double()
    values = ([[2.0]], [0.0], [[0.01], [0.0]], [10.0, 0.0])
    for p, v in zip(model.parameters(), values, strict=True):
        p.data = torch.tensor(v, dtype=torch.float64)
    x = torch.linspace(-1, 1, 2001, dtype=torch.float64)[:, None]
    f = lambda z: cross_entropy(model(z), torch.ones(len(z), dtype=torch.long))  # noqa: E731
    met = top_curvature(f, x, steps=1)[0].max().item()
    assert met == pytest.approx(curvature_bound(model, (1,)), rel=0.01)


class Shortcut(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))

    def forward(self, x):
        return x + self.inner(x)


def bending_networks():
    image = [nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ELU(), nn.Flatten(), nn.Linear(27, 3)]
    deep = [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 3)]
    nets_ = [(image, (1, 6, 6)), (deep, (6,)), ([Shortcut(), nn.ELU(), nn.Linear(6, 3)], (6,))]
    return [(nn.Sequential(*layers).double(), shape) for layers, shape in nets_]


@pytest.mark.parametrize("k", range(3))
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_no_curvature_is_above_its_bound(rng, k, scale):
    model, shape = bending_networks()[k]
    for p in model.parameters():
        p.data.mul_(scale)
    x = 2 * torch.randn(200, *shape, generator=rng, dtype=torch.float64)
    y = torch.arange(200) % 3
    f = lambda z: cross_entropy(model(z), y)  # noqa: E731
    met = sampled_curvature(f, x, x.flip(0), points=3, rng=rng).max().item()
    assert 0 < met <= curvature_bound(model, shape)


def test_a_kink_has_no_curvature_bound_and_unknown_layers_are_refused():
    for kink in (nn.ReLU(), nn.LeakyReLU(0.1), nn.ELU(alpha=0.5)):
        assert curvature_bound(nn.Sequential(nn.Linear(2, 3), kink, nn.Linear(3, 2)), (2,)) == (
            float("inf")
        )
    with pytest.raises(TypeError, match=r"no curvature rule for MaxPool2d; known: \['AdaptiveAvg"):
        curvature_bound(nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2)), (1, 4, 4))


def test_the_certificate_of_a_network_with_a_proven_bound(rng):
    model = nn.Sequential(nn.Linear(1, 6), nn.ELU(), nn.Linear(6, 2)).double()
    x, y = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)[:, None], torch.arange(7) % 2
    f = lambda z: cross_entropy(model(z), y)  # noqa: E731
    curvature = curvature_bound(model, (1,))
    proof = certify(f, x, gamma=0.6 * curvature, curvature=curvature, steps=200)
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64)
    losses = torch.stack([f(g.expand(7, 1)) for g in grid], 1).detach().numpy()
    cost = ((x - grid) ** 2).numpy()
    cost[np.arange(7), cost.argmin(1)] = 0
    for rho in (0.0, proof.spent, 0.01, 0.1):
        worst = transport_ball(losses, cost, np.full(7, 1 / 7), rho)
        assert worst.value <= proof.bound(rho) + 1e-5


@pytest.mark.claim(
    "lecture", "ReLU networks are not concave for any gamma, smooth ones are for large"
)
def test_a_kink_breaks_concavity_at_any_price():
    f = lambda z: 2 * (z[:, 0] - 0.5).abs()  # noqa: E731
    x = torch.tensor([[0.5]], dtype=torch.float64)
    for gamma in (5.0, 500.0):
        ends = [x + side / gamma for side in (-1, 1)]
        middle, outer = f(x), sum(f(z) - gamma * squared_distance(x, z) for z in ends) / 2
        assert outer > middle  # two maxima, one on either side of the kink
        *_, z = ascent(f, x, gamma=gamma, steps=5)
        assert z.item() == 0.5  # and ascent from the kink finds neither


def test_wrm_of_a_network_falls_and_restores_the_model(rng):
    model = smooth(nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2)))
    assert isinstance(model[1], nn.ELU)
    x = torch.rand(64, 2, generator=rng)
    y = (x[:, 0] > 0.5).long()
    adam = torch.optim.Adam(model.parameters(), lr=0.05)
    objective = partial(wrm, gamma=4.0, steps=3)
    rows = fit(model, [(x, y)], objective, epochs=12, optimizer=adam, rng=rng, progress=False)
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.1


def test_wrm_at_a_high_price_is_erm_and_below_it_is_more(rng):
    model, x = small_network(), torch.rand(30, 5, generator=rng, dtype=torch.float64)
    y = torch.arange(30) % 3
    plain_loss = F.cross_entropy(model(x), y).item()
    values = [wrm(model, x, y, gamma=g, steps=20).item() for g in (1e6, 30.0, 10.0)]
    assert values[0] == pytest.approx(plain_loss, abs=1e-4)
    assert values[0] < values[1] < values[2]


def test_the_gradient_of_wrm_is_danskins(rng):
    model, x = small_network(), torch.rand(6, 5, generator=rng, dtype=torch.float64)
    y = torch.arange(6) % 3
    loss = partial(wrm, model, x, y, gamma=20.0, steps=60)
    loss().backward()
    weight, h = model[0].weight, 1e-5
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[3, 2] += sign * h
        ends.append(loss().item())
        with torch.no_grad():
            weight[3, 2] -= sign * h
    assert weight.grad[3, 2].item() == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 0.0}, "gamma must be finite and > 0, got 0.0"),
        ({"steps": 0}, "need steps >= 1 and damping in"),
        ({"damping": 1.5}, "got 3 and 1.5"),
    ],
)
def test_a_bad_ascent_is_refused(change, message):
    x, f, _ = logistic_line()
    with pytest.raises(ValueError, match=message):
        list(ascent(f, x, **{"gamma": 1.0, "steps": 3, **change}))
    with pytest.raises(ValueError, match="points must be >= 1, got 0"):
        sampled_curvature(f, x, x, points=0)


def test_certificates_without_concavity_are_refused():
    x, f, curvature = logistic_line()
    with pytest.raises(ValueError, match="curvature must be below 2 gamma = 16, got 16"):
        certify(f, x, gamma=8.0, curvature=curvature)
    with pytest.raises(ValueError, match="rho must be finite and >= 0"):
        certify(f, x, gamma=9.0, curvature=curvature).bound(-1)


def test_the_smooth_network_has_the_shipped_networks_shape():
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (nets.mnist_cnn(),) * 2]
    assert {k: v.shape for k, v in smooth(nets.mnist_cnn()).state_dict().items()} == shapes[0]


# -- perimeter -----------------------------------------------------------------------------------


def cells(n=60, width=3.0):
    """Centres of n x n cells of a square around 0, and their width."""
    h = 2 * width / n
    side = -width + h * (np.arange(n) + 0.5)
    return np.stack(np.meshgrid(side, side, indexing="ij")), h


def two_clouds(n=24):
    at, h = cells(n)
    rng = np.random.default_rng(0)
    masses = rng.random((2, n, n)) ** 4
    masses /= masses.sum()
    return masses[0], masses[1], h


@pytest.mark.claim("lecture", "0-1 loss: robust risk = risk + eps times the nonlocal perimeter")
@pytest.mark.parametrize("eps", [0.3, 0.5, 1.0])
def test_robust_risk_is_risk_plus_perimeter(eps):
    mass0, mass1, h = two_clouds()
    inside = np.random.default_rng(1).random(mass0.shape) < 0.3
    inside[5:18, 4:15] = True
    total = robust_risk(inside, mass0, mass1, eps, h)
    plain_risk = mass0[inside].sum() + mass1[~inside].sum()
    assert robust_risk(inside, mass0, mass1, 0.0, h) == pytest.approx(plain_risk)
    assert total == pytest.approx(plain_risk + eps * perimeter(inside, mass0, mass1, eps, h))
    by_hand = 0.0
    at, _ = cells(24)
    for i, j in product(range(24), repeat=2):  # from the definition, cell by cell
        near = inside[np.hypot(*(at - at[:, i, j][:, None, None])) <= eps + 1e-9]
        by_hand += mass0[i, j] * near.any() + mass1[i, j] * (not near.all())
    assert total == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.claim("lecture", "for a disc and uniform densities the perimeter is 4 pi r")
def test_the_perimeter_of_a_disc():
    at, h = cells(400)
    one = np.full(at.shape[1:], h * h)  # Lebesgue measure for both classes
    inside = np.hypot(*at) <= 1.5
    for eps in (0.2, 0.5):
        layers = perimeter(inside, one, one, eps, h)  # pi[(r+e)^2 - r^2 + r^2 - (r-e)^2] / e
        assert layers == pytest.approx(4 * np.pi * 1.5, rel=0.75 * h / eps)  # a cell is lost


@pytest.mark.claim("lecture", "the nonlocal perimeter is submodular: optimal sets form a lattice")
def test_the_perimeter_is_submodular():
    mass0, mass1, h = two_clouds()
    rng = np.random.default_rng(2)
    for _ in range(10):
        a, b = (dilate(rng.random(mass0.shape) < 0.02, 0.6, h) for _ in range(2))
        per = [perimeter(s, mass0, mass1, 0.5, h) for s in (a, b, a | b, a & b)]
        assert per[2] + per[3] <= per[0] + per[1] + 1e-12


def test_dilation_and_erosion_are_dual_and_know_the_empty_set():
    nothing = np.zeros((4, 5), bool)
    assert not dilate(nothing, 1.0, 1.0).any() and erode(~nothing, 1.0, 1.0).all()
    dot = nothing.copy()
    dot[1, 2] = True
    assert dilate(dot, 1.0, 1.0).sum() == 5 and not erode(dot, 1.0, 1.0).any()
    assert dilate(dot, 0.0, 1.0).sum() == 1


def test_a_cell_at_distance_eps_is_within_eps():
    row = np.zeros((1, 7), bool)
    row[0, 3] = True
    assert dilate(row, 0.3, 0.1).all() and not erode(~row, 0.3, 0.1).any()  # 3 * 0.1 > 0.3
    assert dilate(row, 0.2999, 0.1).sum() == 5


def by_program(mass0, mass1, eps, h):
    """The same minimum by a linear program: a label in [0, 1] for each cell."""
    n = mass0.size
    at = h * np.stack(np.unravel_index(np.arange(n), mass0.shape), -1)
    i, j = np.nonzero(np.linalg.norm(at[:, None] - at, axis=-1) <= eps + 1e-9)
    rows = np.arange(len(i))
    up = np.zeros((2 * len(i), 3 * n))  # labels, highest in reach, 1 - lowest in reach
    up[rows, j], up[rows, n + i] = 1, -1
    up[len(i) + rows, j], up[len(i) + rows, 2 * n + i] = -1, -1
    limit = np.concatenate([np.zeros(len(i)), -np.ones(len(i))])
    price = np.concatenate([np.zeros(n), mass0.ravel(), mass1.ravel()])
    return linprog(price, A_ub=up, b_ub=limit, bounds=(0, 1)).fun


@pytest.mark.claim("lecture", "two classes: hard sets are optimal among soft classifiers")
@pytest.mark.parametrize("eps", [0.0, 1.0, 1.5, 2.3])
def test_the_minimum_cut_is_the_program_over_soft_classifiers(eps):
    rng = np.random.default_rng(3)
    mass0, mass1 = rng.random((2, 6, 7)) ** 3
    total = mass0.sum() + mass1.sum()
    best = optimal_sets(mass0 / total, mass1 / total, eps, 1.0)
    assert best.risk == pytest.approx(by_program(mass0 / total, mass1 / total, eps, 1.0), abs=1e-7)
    largest = robust_risk(best.largest, mass0 / total, mass1 / total, eps, 1.0)
    assert largest == pytest.approx(best.risk, abs=100 / UNITS)
    assert (best.smallest <= best.largest).all()


def test_smallest_and_largest_differ_where_nothing_decides():
    mass0, mass1 = np.zeros((1, 9)), np.zeros((1, 9))
    mass0[0, 0] = mass1[0, 8] = 0.5
    best = optimal_sets(mass0, mass1, 1.0, 1.0)
    assert best.risk == 0
    assert best.smallest.ravel().nonzero()[0].tolist() == [7, 8]
    assert best.largest.ravel().nonzero()[0].tolist() == [2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("eps", [0.25, 0.5])
def test_one_row_of_cells_is_the_gaussian_of_17_6(eps):
    model = univariate.TwoGaussians(mu=(0.0, 1.0), sigma=(1.0, 2.0))
    h = 0.02
    at = np.arange(-9, 11, h)
    masses = [
        np.exp(-((at - m) ** 2) / (2 * s * s)) / (s * (2 * np.pi) ** 0.5) * h / 2
        for m, s in ((0.0, 1.0), (1.0, 2.0))
    ]
    best = optimal_sets(masses[0][None], masses[1][None], eps, h)
    assert best.risk == pytest.approx(univariate.optimal_risk(model, eps), abs=5e-3)


@pytest.mark.claim(
    "lecture", "optimal sets move with eps: (r - eps) rho_1(r - eps) = (r + eps) rho_0(r + eps)"
)
@pytest.mark.parametrize("eps", [0.2, 0.4])
def test_the_optimal_disc_is_stationary(eps):
    rho1 = lambda r: np.exp(-(r**2))  # noqa: E731
    rho0 = lambda r: 0.25 * np.exp(-(r**2) / 4)  # noqa: E731
    at, h = cells(100, 4.0)
    r = np.hypot(*at)
    total = (rho0(r) + rho1(r)).sum()
    best = optimal_sets(rho0(r) / total, rho1(r) / total, eps, h)
    stationary = lambda r: (r - eps) * rho1(r - eps) - (r + eps) * rho0(r + eps)  # noqa: E731
    radius = brentq(stationary, 2 * eps, 3.0)
    area = best.smallest.sum() * h * h
    assert (area / np.pi) ** 0.5 == pytest.approx(radius, abs=h)


@pytest.mark.claim("lecture", "an island vanishes once eps >= a/2 max(1, sqrt(1 + rho/sigma) - 1)")
@pytest.mark.parametrize(("sigma", "threshold"), [(0.3, 0.5408), (0.6, 0.5)])
def test_an_island_vanishes_at_its_threshold(sigma, threshold):
    """The page's exercise: even density 1 in the unit disc, sigma around it."""
    assert max(1, (1 + 1 / sigma) ** 0.5 - 1) / 2 == pytest.approx(threshold, abs=1e-4)
    at, h = cells(60, 2.4)
    disc = np.hypot(*at) <= 1
    for eps, stays in ((threshold - 0.07, True), (threshold + 0.07, False)):
        best = optimal_sets(sigma * ~disc, 1.0 * disc, eps, h)
        assert best.smallest.any() == stays


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mass1": np.ones((2, 3))}, r"need one shape, got \(2, 2\) and \(2, 3\)"),
        ({"mass1": -np.ones((2, 2))}, "finite and >= 0, the least is -1.0"),
        ({"eps": -0.1}, "need eps >= 0 and spacing > 0, got -0.1"),
        ({"spacing": 0.0}, "need eps >= 0 and spacing > 0"),
    ],
)
def test_bad_masses_are_refused(unchecked, change, message):
    good = {"mass0": np.ones((2, 2)), "mass1": np.ones((2, 2)), "eps": 1.0, "spacing": 1.0}
    with pytest.raises(ValueError, match=message):
        optimal_sets(**{**good, **change})
    nothing = np.zeros((2, 2))
    with pytest.raises(ValueError, match="zero everywhere: every set is optimal"):
        optimal_sets(nothing, nothing, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"inside must have the masses' shape .* got \(1, 2\)"):
        robust_risk(np.ones((1, 2), bool), np.ones((2, 2)), np.ones((2, 2)), 1.0, 1.0)
    with pytest.raises(ValueError, match="eps must be > 0"):
        perimeter(np.ones((2, 2), bool), np.ones((2, 2)), np.ones((2, 2)), 0.0, 1.0)


# -- the run -------------------------------------------------------------------------------------

TINY = "dataset=mnist-mini train_images=128 test_images=40 attacked_images=8 epochs=1 steps=2"


@pytest.mark.parametrize("training", ["wrm", "pgd"])
def test_the_run_measures_every_training_alike(tmp_path, capsys, training):
    settings = [*TINY.split(), "bent_images=1", "radii=1,2", "prices=2,8", f"training={training}"]
    assert main(["wrm", *settings, "--out", str(tmp_path), "--quiet"]) == 0
    metrics = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["metrics"]
    assert metrics["clean"]["n"] == 40 and metrics["pgd-40 at 1"]["n"] == 8
    assert metrics["pgd-40 at 2"]["value"] <= metrics["pgd-40 at 1"]["value"]
    assert metrics["spent at price 8"] < metrics["spent at price 2"]
    assert metrics["loss at price 8"] < metrics["loss at price 2"]
    met = [metrics[f"curvature, {name}"] for name in ("median", "largest", "proven bound")]
    assert met == sorted(met)


def test_the_run_refuses_an_unknown_training():
    with pytest.raises(ValueError, match=r"training must be one of \['pgd'.*got 'dro'"):
        runs.wrm.Config(training="dro")
    for radii, why in (("1,x", "must be numbers with commas"), ("1,-2", "must be positive")):
        with pytest.raises(ValueError, match=f"radii {why}, got '{radii}'"):
            runs.wrm.Config(radii=radii)

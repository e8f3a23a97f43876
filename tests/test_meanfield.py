"""Mean field: payoff, flow, ascent-descent, certified Nikaido-Isoda error, the limit."""

import json
import math
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import ot
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import linear_sum_assignment, minimize, minimize_scalar
from scipy.stats import wasserstein_distance

from adversarial_lab.meanfield import (
    Game,
    State,
    ascent_descent,
    average,
    best_attack,
    best_label,
    best_response,
    concave_from,
    decaying,
    dense_early,
    distance,
    flow,
    lipschitz,
    maximise,
    network,
    nikaido_isoda,
    payoff,
    snapshots,
    start,
    step,
    time_average,
    w1,
)
from adversarial_lab.meanfield import game as game_module
from adversarial_lab.meanfield import response as response_module
from adversarial_lab.meanfield.attack import _reach
from adversarial_lab.meanfield.bound import Maximum
from adversarial_lab.meanfield.game import ACTIVATIONS, network_and_gradient, within
from adversarial_lab.meanfield.response import fitted, steepest
from adversarial_lab.runs import meanfield as runs
from adversarial_lab.runs.__main__ import main

DOUBLE = torch.float64


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=DOUBLE)


def random_game(seed=0, n=5, d=1, cost=3.0, **more):
    return Game(x=normal(n, d, seed=seed), y=normal(n, seed=seed + 1), cost=cost, **more)


def random_state(game, neurons=6, copies=4, seed=0):
    """Particles anywhere, with unequal weights."""
    s = start(game, neurons=neurons, copies=copies, spread=0.5, rng=seeded(seed))
    weight = torch.rand(neurons, generator=seeded(seed), dtype=DOUBLE) + 0.1
    rows = torch.rand(len(game.x), copies, generator=seeded(seed + 1), dtype=DOUBLE) + 0.1
    return replace(s, alpha=weight / weight.sum(), omega=rows / rows.sum(1, keepdim=True))


def last(path):
    for state in path:
        end = state
    return end


def linear(slope, x, y, cost):
    """One neuron, f = slope . x, and its game."""
    game = Game(x=x, y=y, cost=cost, activation="linear", bias=False, largest=(1.0, 10.0))
    theta = torch.cat([torch.ones(1, dtype=DOUBLE), slope])[None]
    return game, theta, torch.ones(1, dtype=DOUBLE)


# --- the game -----------------------------------------------------------------------------------


@pytest.mark.claim("lecture", "f_nu(x) is the integral of a h(b.x) over nu: mean field networks")
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_the_network_is_a_weighted_sum_of_neurons(activation):
    game = random_game(d=2, activation=activation, bias=False)
    s = random_state(game)
    h = {"tanh": math.tanh, "sin": math.sin, "linear": float}[activation]
    want = [
        sum(
            float(w) * float(t[0]) * h(float(t[1] * x[0] + t[2] * x[1]))
            for w, t in zip(s.alpha, s.theta, strict=True)
        )
        for x in game.x
    ]
    torch.testing.assert_close(network(game, s.theta, s.alpha, game.x), torch.tensor(want).double())


def test_the_bias_is_the_last_entry_and_chunks_change_nothing(monkeypatch):
    game = random_game(bias=True)
    theta = torch.tensor([[2.0, 3.0, 0.5]], dtype=DOUBLE)
    want = 2 * torch.tanh(3 * game.x[:, 0] + 0.5)
    monkeypatch.setattr(game_module, "_AT_ONCE", 2)
    found, gradient = network_and_gradient(game, theta, torch.ones(1, dtype=DOUBLE), game.x)
    torch.testing.assert_close(network(game, theta, torch.ones(1, dtype=DOUBLE), game.x), want)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(gradient[:, 0], 6 * (1 - (want / 2) ** 2))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_an_activation_has_its_derivatives_and_bounds(activation):
    rule = ACTIVATIONS[activation]
    s = torch.linspace(-6, 6, 4001, dtype=DOUBLE, requires_grad=True)
    h = rule.value(s)
    (slope,) = torch.autograd.grad(h.sum(), s, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum() + 0 * s.square().sum(), s)
    found = [h, rule.slope(s, h), rule.bend(s, h)]
    torch.testing.assert_close(found[1], slope)
    torch.testing.assert_close(found[2], bend)
    torch.testing.assert_close(rule.value(-s), -h)  # odd, as `response` needs
    for values, bound in zip(found, rule.bounds, strict=True):
        largest = float(values.detach().abs().max())
        assert largest <= bound * (1 + 1e-9)
        if 0 < bound < math.inf:
            assert largest > 0.999 * bound


def test_the_payoff_is_the_double_sum_of_the_slides():
    game = random_game(d=2, cost=1.7)
    s = random_state(game)
    total = 0.0
    for i in range(5):
        for j in range(4):
            moved = s.z[i, j]
            f = network(game, s.theta, s.alpha, moved[None, :2]).item()
            price = (moved[:2] - game.x[i]).square().sum() + (moved[2] - game.y[i]) ** 2
            total += s.omega[i, j] / 5 * ((f - moved[2]) ** 2 - 1.7 * price)
    assert payoff(game, s) == pytest.approx(float(total), abs=1e-12)


def differentiable_payoff(game, theta, alpha, z, omega):
    x, y = z[..., :-1].flatten(0, 1), z[..., -1]
    f = network(game, theta, alpha, x).view_as(y)
    price = (z - game.data[:, None]).square().sum(-1)
    return (omega * ((f - y) ** 2 - game.cost * price)).sum() / len(game.x)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize(("d", "bias"), [(1, True), (2, False)])
@pytest.mark.claim("lecture", "the dynamics follow the first variations of U, means subtracted")
def test_the_flow_is_the_gradient_of_the_first_variations(activation, d, bias):
    game = random_game(d=d, activation=activation, bias=bias)
    s = random_state(game)
    parts = [v.clone().requires_grad_() for v in (s.theta, s.alpha, s.z, s.omega)]
    theta, alpha, z, omega = torch.autograd.grad(differentiable_payoff(game, *parts), parts)
    found = flow(game, s)
    torch.testing.assert_close(found.theta, -theta / s.alpha[:, None])
    torch.testing.assert_close(found.z, 5 * z / s.omega[..., None])
    torch.testing.assert_close(found.alpha, -(alpha - (s.alpha * alpha).sum()))
    torch.testing.assert_close(found.omega, 5 * (omega - (s.omega * omega).sum(1, keepdim=True)))


@pytest.mark.claim("lecture", "signs: ascent in pi, descent in nu, in positions and in weights")
def test_each_part_of_the_flow_moves_the_payoff_its_way():
    game = random_game(seed=3)
    s = random_state(game, seed=3)
    moved = step(game, s, flow(game, s), 1e-4, 1e-4)
    base = payoff(game, s)
    for name, sign in {"theta": -1, "alpha": -1, "z": 1, "omega": 1}.items():
        assert sign * (payoff(game, replace(s, **{name: getattr(moved, name)})) - base) > 1e-7


# --- the dynamics -------------------------------------------------------------------------------


@pytest.mark.claim(
    "lecture", "with the conditional mean subtracted, the marginal of pi on the data stays fixed"
)
@pytest.mark.parametrize("extragradient", [False, True])
def test_weights_keep_their_sums_point_by_point(extragradient):
    game = random_game(cost=4.0)
    s = random_state(game)
    end = last(ascent_descent(game, s, steps=100, kappa=0.5, extragradient=extragradient))
    torch.testing.assert_close(end.alpha.sum(), torch.ones((), dtype=DOUBLE))
    torch.testing.assert_close(end.omega.sum(1), torch.ones(5, dtype=DOUBLE))
    assert (end.omega - s.omega).abs().max() > 0.1  # and they did move
    rates = flow(game, s)
    assert (s.omega * rates.omega).sum(1).abs().max() < 1e-12
    assert (s.alpha * rates.alpha).sum().abs() < 1e-12


def test_a_variant_moves_its_part_only():
    game, steps = random_game(), 5
    s = random_state(game)
    end = {
        v: last(ascent_descent(game, s, steps=steps, variant=v))
        for v in ("wfr", "wasserstein", "fisher-rao")
    }
    for name in ("theta", "z"):
        assert torch.equal(getattr(end["fisher-rao"], name), getattr(s, name))
        assert not torch.allclose(getattr(end["wasserstein"], name), getattr(s, name))
    for name in ("alpha", "omega"):
        assert torch.equal(getattr(end["wasserstein"], name), getattr(s, name))
        assert not torch.allclose(getattr(end["fisher-rao"], name), getattr(s, name))
    still = last(ascent_descent(game, s, steps=steps, speeds=(1, 0)))
    assert torch.equal(still.theta, s.theta)
    torch.testing.assert_close(still.alpha, s.alpha)
    assert not torch.allclose(still.z, s.z)
    erm = last(ascent_descent(game, s, steps=steps, eta=0.5, speeds=(0, 1)))
    assert torch.equal(erm.z, s.z) and not torch.allclose(erm.theta, s.theta)
    torch.testing.assert_close(erm.omega, s.omega)


def as_ode(game, s, parts):
    """The particle system as one vector, and its right-hand side as on the slides."""
    names = ("theta", "alpha", "z", "omega")
    sizes = [getattr(s, name).numel() for name in names]

    def unpack(v):
        pieces = torch.from_numpy(np.asarray(v)).split(sizes)
        shaped = (p.view_as(getattr(s, n)) for p, n in zip(pieces, names, strict=True))
        return State(**dict(zip(names, shaped, strict=True)))

    def rate(_, v):
        state = unpack(v)
        found = flow(game, state)
        rates = {
            "theta": parts[0] * found.theta,
            "alpha": parts[1] * state.alpha * found.alpha,
            "z": parts[0] * found.z,
            "omega": parts[1] * state.omega * found.omega,
        }
        return torch.cat([rates[n].flatten() for n in names]).numpy()

    return rate, torch.cat([getattr(s, n).flatten() for n in names]).numpy(), unpack


@pytest.mark.parametrize("extragradient", [False, True])
@pytest.mark.parametrize(("variant", "parts"), [("wfr", (1, 1)), ("fisher-rao", (0, 1))])
@pytest.mark.claim("lecture", "small steps follow the differential equations of the particles")
def test_small_steps_follow_the_particle_system(variant, parts, extragradient):
    game = random_game(cost=2.5)
    s = random_state(game)
    rate, first, unpack = as_ode(game, s, parts)
    want = unpack(solve_ivp(rate, (0, 0.4), first, rtol=1e-9, atol=1e-11).y[:, -1])
    errors = []
    for steps in (40, 80):
        size = 0.4 / steps
        end = last(
            ascent_descent(
                game,
                s,
                steps=steps,
                eta=size,
                kappa=size,
                variant=variant,
                extragradient=extragradient,
            )
        )
        errors.append(
            max(
                float((getattr(end, n) - getattr(want, n)).abs().max())
                for n in ("theta", "alpha", "z", "omega")
            )
        )
    assert errors[1] < 0.05
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)  # first order


def test_the_replicator_equation_on_a_fixed_grid_in_closed_form():
    r"""With the learner still, $\omega_t\propto\omega_0e^{tU}$, for any step."""
    game = random_game(cost=2.0)
    s = random_state(game, copies=9)
    residual = network(game, s.theta, s.alpha, s.z[..., :-1].flatten(0, 1)) - s.z[..., -1].flatten()
    gain = residual.square().view(5, 9) - 2 * (s.z - game.data[:, None]).square().sum(-1)
    want = s.omega * (3 * gain).exp()
    for steps in (1, 6):
        end = last(
            ascent_descent(
                game, s, steps=steps, kappa=3 / steps, variant="fisher-rao", speeds=(1, 0)
            )
        )
        torch.testing.assert_close(end.omega, want / want.sum(1, keepdim=True))


def test_an_attack_without_mass_stays_so_and_breaks_nothing():
    game = random_game(cost=2.0)
    s = random_state(game)
    z, omega = s.z.clone(), s.omega.clone()
    z[:, 0, -1] += 1000.0  # an attack so good that beside it e^U of the others is 0
    omega[:, 0] = 0.0
    s = replace(s, z=z, omega=omega / omega.sum(1, keepdim=True))
    other = replace(s, z=s.z[:, 1:], omega=s.omega[:, 1:])
    game = replace(game, cost=0.5)
    end, want = (
        last(ascent_descent(game, v, steps=3, variant="fisher-rao", speeds=(1, 0)))
        for v in (s, other)
    )
    assert (end.omega[:, 0] == 0).all()
    torch.testing.assert_close(end.omega[:, 1:], want.omega)


@pytest.mark.claim("lecture", "the particle system is the limit's equation for empirical measures")
def test_splitting_particles_changes_nothing():
    """What happens depends on the measures only: halves of a particle stay together."""
    game = random_game()
    s = random_state(game)
    twice = State(
        s.theta.repeat(2, 1), s.alpha.repeat(2) / 2, s.z.repeat(1, 2, 1), s.omega.repeat(1, 2) / 2
    )
    one, two = (last(ascent_descent(game, v, steps=50)) for v in (s, twice))
    torch.testing.assert_close(two.theta[:6], one.theta)
    torch.testing.assert_close(two.alpha[6:] * 2, one.alpha)
    torch.testing.assert_close(two.z[:, 4:], one.z)
    torch.testing.assert_close(two.omega[:, :4] * 2, one.omega)


def test_an_extragradient_step_by_hand():
    game = random_game()
    s = random_state(game)
    _, found = ascent_descent(game, s, steps=1, eta=0.03, kappa=0.2, extragradient=True)
    ahead = step(game, s, flow(game, s), 0.03, 0.2)
    want = step(game, s, flow(game, ahead), 0.03, 0.2)
    for name in ("theta", "alpha", "z", "omega"):
        torch.testing.assert_close(getattr(found, name), getattr(want, name))


def pennies(size=8.0):
    """Two attacks of one point, f = s x with |s| <= 1: U = s^2 + size^2 - 2 size s u - cost."""
    game = Game(
        x=torch.zeros(1, 1, dtype=DOUBLE),
        y=torch.zeros(1, dtype=DOUBLE),
        cost=2.0,
        activation="linear",
        bias=False,
        largest=(1.0, 1.0),
    )
    theta = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=DOUBLE)
    z = torch.tensor([[[1.0, size], [-1.0, size]]], dtype=DOUBLE)
    alpha = torch.tensor([0.6, 0.4], dtype=DOUBLE)
    return game, State(theta, alpha, z, torch.tensor([[0.5, 0.5]], dtype=DOUBLE))


def test_extragradient_settles_where_plain_steps_go_round():
    """The equilibrium is the even mixture of both players."""
    game, s = pennies()
    ends = [
        last(ascent_descent(game, s, steps=200, kappa=0.03, variant="fisher-rao", extragradient=e))
        for e in (False, True)
    ]
    off = [max(float((v - 0.5).abs().max()) for v in (end.alpha, end.omega)) for end in ends]
    assert off[0] > 0.4  # from 0.1 at the start
    assert off[1] < 1e-3


def test_schedules():
    game = random_game()
    s = random_state(game)
    assert [decaying(0.1)(k) for k in (0, 3)] == pytest.approx([0.1, 0.05])
    sizes = decaying(0.02, power=1.0)
    slow = list(ascent_descent(game, s, steps=2, eta=sizes, kappa=0.0))
    again = step(game, slow[1], flow(game, slow[1]), 0.01, 0.0)
    torch.testing.assert_close(slow[2].z, again.z)
    with pytest.raises(ValueError, match="power must be >= 0"):
        decaying(0.1, power=-1)


def test_neurons_stay_in_theta():
    game = random_game(largest=(0.5, 0.7))
    s = start(game, neurons=50, copies=2, rng=seeded(0))
    end = last(ascent_descent(game, s, steps=50))
    assert end.theta[:, 0].abs().max() == 0.5
    assert end.theta[:, 1:].abs().max() == 0.7
    assert torch.equal(within(game, end.theta), end.theta)


def test_a_start_is_around_the_data_and_keeps_the_dtype():
    game = Game(x=torch.zeros(3, 2), y=torch.ones(3), cost=2.0)
    s = start(game, neurons=7, copies=2000, spread=0.2, rng=seeded(0))
    assert s.z.dtype == s.theta.dtype == torch.float32
    shift = s.z - game.data[:, None]
    assert shift.mean((0, 1)).abs().max() < 0.02
    assert shift.std() == pytest.approx(0.2, rel=0.03)
    assert torch.equal(s.omega.sum(1).round(decimals=5), torch.ones(3))
    assert last(ascent_descent(game, s, steps=2)).z.dtype == torch.float32


def test_the_adversary_contracts_to_the_data_where_the_learner_is_zero():
    """f = 0 and y = 0: U = y~^2 - c |z - z~|^2, so x~ - x shrinks by 1 - 2 c eta a step."""
    game = Game(x=normal(4, 1), y=torch.zeros(4, dtype=DOUBLE), cost=5.0)
    s = start(game, neurons=1, copies=3, rng=seeded(0))
    s = replace(s, theta=0 * s.theta)
    end = last(ascent_descent(game, s, steps=10, eta=0.03, speeds=(1, 0)))
    rate = torch.tensor([(1 - 10 * 0.03) ** 10, (1 - 8 * 0.03) ** 10]).double()
    torch.testing.assert_close(end.z - game.data[:, None], rate * (s.z - game.data[:, None]))


# --- averages -----------------------------------------------------------------------------------


def test_the_time_average_is_the_mean_of_functions_and_of_payoffs():
    game = random_game()
    taken = list(snapshots(ascent_descent(game, random_state(game), steps=6), range(7)))
    mean = time_average(taken, 6)
    weights = [0.5, 1, 1, 1, 1, 1, 0.5]
    f = (
        sum(
            w * network(game, s.theta, s.alpha, game.x)
            for w, (_, s) in zip(weights, taken, strict=True)
        )
        / 6
    )
    torch.testing.assert_close(network(game, mean.theta, mean.alpha, game.x), f)
    fixed = taken[0][1]
    against = [payoff(game, replace(fixed, z=s.z, omega=s.omega)) for _, s in taken]
    mixed = payoff(game, replace(fixed, z=mean.z, omega=mean.omega))
    assert mixed == pytest.approx(float(np.dot(weights, against)) / 6)
    torch.testing.assert_close(mean.omega.sum(1), torch.ones(5, dtype=DOUBLE))


def test_sparse_snapshots_stand_for_the_times_around_them():
    game = random_game()
    taken = list(snapshots(ascent_descent(game, random_state(game), steps=6), [0, 1, 6]))
    mean = time_average(taken, 6)
    shares = mean.alpha.view(3, -1).sum(1)
    torch.testing.assert_close(shares, torch.tensor([0.5, 3, 2.5]).double() / 6)
    times = dense_early(3000, 60)
    assert times[0] == 0 and times[-1] == 3000 and len(times) <= 61
    assert all(a < b for a, b in pairwise(times))


# --- certified maxima ---------------------------------------------------------------------------


def wavy(centre, owner):
    """sin(3x) + cos(2y) and its negative, Hessian at most 9."""
    sign = torch.where(owner == 0, 1.0, -1.0).to(centre.dtype)
    x, y = centre.T
    value = sign * (torch.sin(3 * x) + torch.cos(2 * y))
    return value, sign[:, None] * torch.stack([3 * torch.cos(3 * x), -2 * torch.sin(2 * y)], 1)


def test_maximise_brackets_a_known_maximum():
    box = torch.tensor([[2.0, 3.0]] * 2, dtype=DOUBLE)
    found = maximise(wavy, -box, box, torch.full((2,), 9.0, dtype=DOUBLE), tolerance=1e-6)
    assert found.gap <= 1e-6
    assert (found.value <= 2).all() and (found.upper >= 2 - 1e-12).all()
    value, _ = wavy(found.where, torch.arange(2))
    torch.testing.assert_close(value, found.value)
    short = maximise(
        wavy, -box, box, torch.full((2,), 9.0, dtype=DOUBLE), tolerance=1e-6, budget=40
    )
    assert (short.upper >= 2).all() and short.gap > 1e-3


def test_maximise_knows_maxima_on_the_border():
    def evaluate(x, owner):
        return x[:, 0] + 2 * x[:, 1], torch.tensor([1.0, 2.0]).to(x).expand_as(x)

    box = torch.ones(1, 2, dtype=DOUBLE)
    found = maximise(evaluate, -box, box, torch.zeros(1, dtype=DOUBLE), tolerance=1e-3)
    assert 3 - 1e-3 <= float(found.value) <= 3 <= float(found.upper)


def test_maximise_needs_one_look_at_the_top_of_a_concave_function():
    seen = []

    def evaluate(x, owner):
        seen.extend(x)
        return -2 * x.square().sum(1), -4 * x

    box = torch.full((1, 3), 7.0, dtype=DOUBLE)
    found = maximise(evaluate, -box, box, torch.full((1,), -4.0).double(), tolerance=0.0)
    assert float(found.value) == float(found.upper) == 0 and len(seen) == 1


# --- the best attack ----------------------------------------------------------------------------


@pytest.mark.claim("lecture", "linear f: sup over attacks is c r^2/(c-1-|b|^2) for c_a > 1+|b|^2")
@pytest.mark.parametrize("d", [1, 2])
def test_the_best_attack_on_a_linear_learner_in_closed_form(d):
    slope = normal(d, seed=4)
    cost = 1.5 + float(slope.square().sum())
    game, theta, alpha = linear(slope, normal(6, d), normal(6, seed=1), cost)
    found = best_attack(game, theta, alpha, tolerance=1e-6)
    r = game.x @ slope - game.y
    want = cost * r**2 / (cost - 1 - slope.square().sum())
    torch.testing.assert_close(found.value, want, atol=2e-6, rtol=0)
    assert (found.upper >= want - 1e-12).all() and found.gap <= 1e-6
    with pytest.raises(ValueError, match=r"must be > 1 \+ \|grad f\|\^2"):
        best_attack(replace(game, cost=cost - 0.6), theta, alpha)


@pytest.mark.claim("lecture", "the cost |z - z~|^2 moves labels: sup over y~ is c/(c-1) (f-y)^2")
def test_the_best_label_against_a_grid():
    game = random_game(cost=1.8)
    f = normal(5, seed=7)
    labels = torch.linspace(-20, 20, 400_001, dtype=DOUBLE)
    gain = (f[:, None] - labels) ** 2 - 1.8 * (game.y[:, None] - labels) ** 2
    torch.testing.assert_close(
        labels[gain.argmax(1)], best_label(game, f, game.y), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(gain.amax(1), 1.8 / 0.8 * (f - game.y) ** 2, atol=1e-6, rtol=0)


@pytest.mark.claim("lecture", "needs c_a > 1: below, every learner can be hurt without limit")
def test_at_a_low_price_the_payoff_has_no_supremum():
    game = random_game(cost=0.9)
    s = random_state(game)
    values = []
    for far in (10.0, 100.0, 1000.0):
        z = s.z.clone()
        z[..., -1] = far
        values.append(payoff(game, replace(s, z=z)))
    assert values[2] > 50 * values[1] > 0 and values[2] > 1e4
    for refused in (best_attack, lambda g, t, a: best_label(g, a[:5], g.y)):
        with pytest.raises(ValueError, match="also moves labels"):
            refused(game, s.theta, s.alpha)


@pytest.mark.parametrize("activation", ["tanh", "sin"])
def test_the_best_attack_against_a_grid_over_inputs_and_labels(activation):
    game = random_game(seed=5, n=3, cost=1.6, activation=activation)
    s = random_state(game, seed=5)
    s = replace(s, theta=2.5 * s.theta)
    found = best_attack(game, s.theta, s.alpha, tolerance=1e-5)
    xs = torch.linspace(-8, 8, 2001, dtype=DOUBLE)
    f = network(game, s.theta, s.alpha, xs[:, None])
    for i in range(3):
        labels = torch.linspace(-12, 12, 3001, dtype=DOUBLE)
        gain = (f[:, None] - labels) ** 2 - 1.6 * (
            (xs - game.x[i, 0])[:, None] ** 2 + (labels - game.y[i]) ** 2
        )
        assert float(found.upper[i]) >= float(gain.max())
        assert float(found.value[i]) == pytest.approx(float(gain.max()), abs=2e-3)


@pytest.mark.claim("lecture", "the game over mu~ and W_2 is the game over plans pi with pi_z = mu")
def test_the_best_plan_is_an_optimal_coupling_of_its_marginals():
    """So its price is c_a W_2^2, and no other plan with that second marginal costs less."""
    game = random_game(seed=2, n=30, cost=2.2)
    s = random_state(game, seed=2)
    found = best_attack(game, s.theta, s.alpha, tolerance=1e-9)
    f = network(game, s.theta, s.alpha, found.where)
    z = torch.cat([found.where, best_label(game, f, game.y)[:, None]], 1)
    price = torch.cdist(game.data, z).square()
    rows, columns = linear_sum_assignment(price.numpy())
    assert price.diagonal().sum() == pytest.approx(float(price[rows, columns].sum()), abs=1e-6)
    assert price.diagonal().sum() > 0.5
    whole = replace(s, z=z[:, None], omega=torch.ones(30, 1, dtype=DOUBLE))
    assert payoff(game, whole) == pytest.approx(float(found.value.mean()), abs=1e-9)


def test_the_best_attack_in_the_plane_against_a_grid():
    game = random_game(seed=6, n=3, d=2, cost=1.7)
    s = random_state(game, seed=6)
    found = best_attack(game, 2 * s.theta, s.alpha, tolerance=1e-4)
    line = torch.linspace(-6, 6, 601, dtype=DOUBLE)
    xs = torch.cartesian_prod(line, line)
    f = network(game, 2 * s.theta, s.alpha, xs)
    for i in range(3):
        gain = 1.7 / 0.7 * (f - game.y[i]) ** 2 - 1.7 * (xs - game.x[i]).square().sum(1)
        assert float(found.upper[i]) >= float(gain.max())
        assert float(found.value[i]) == pytest.approx(float(gain.max()), abs=2e-3)


def test_the_residual_is_bounded_up_to_the_corners_of_the_box():
    """Where the Hessian's bound is used: branch and bound looks at centres of boxes anywhere."""
    x, y = torch.zeros(1, 2, dtype=DOUBLE), -torch.ones(1, dtype=DOUBLE)
    game = Game(x=x, y=y, cost=2.0, bias=False)
    theta, alpha = torch.tensor([[1.0, 0.1, 0.1]], dtype=DOUBLE), torch.ones(1, dtype=DOUBLE)
    slope, _ = lipschitz(game, theta, alpha)
    radius, largest = _reach(game, 1.0, slope, torch.ones(1, dtype=DOUBLE))
    corner = network(game, theta, alpha, radius[:, None].expand(1, 2)) - y
    assert float(corner) <= float(largest)


def test_lipschitz_bounds_hold_and_are_attained_by_one_neuron():
    game = random_game(d=2, bias=False)
    s = random_state(game)
    slope, bend = lipschitz(game, s.theta, s.alpha)
    x = 3 * normal(2000, 2)
    _, gradient = network_and_gradient(game, s.theta, s.alpha, x)
    assert gradient.norm(dim=1).max() <= slope
    one = torch.tensor([[3.0, 0.8, -0.6]], dtype=DOUBLE)
    assert lipschitz(game, one, torch.ones(1).double()) == pytest.approx((3, 3 * 4 / 27**0.5))


# --- strong concavity ---------------------------------------------------------------------------


def hessian_of_attack(game, theta, alpha, z, origin):
    def gain(v):
        f = network(game, theta, alpha, v[None, :-1])[0]
        return (f - v[-1]) ** 2 - game.cost * (v - origin).square().sum()

    return torch.autograd.functional.hessian(gain, z)


@pytest.mark.claim("lecture", "concave in z~ where c_a > 1 + |grad f|^2 + |f - y~| ||hess f||")
@pytest.mark.parametrize("d", [1, 2])
def test_the_hessian_is_bounded_by_the_threshold(d):
    game = random_game(d=d, n=8, cost=2.0)
    s = random_state(game)
    theta = 2 * s.theta
    z = game.data + normal(8, d + 1, seed=9)
    from_ = concave_from(game, theta, s.alpha, z[:, :-1], z[:, -1])
    for i in range(8):
        top = torch.linalg.eigvalsh(
            hessian_of_attack(game, theta, s.alpha, z[i], game.data[i])
        ).max()
        assert top <= 2 * (from_[i] - game.cost) + 1e-9
    flat = concave_from(game, 0 * theta, s.alpha, z[:, :-1], z[:, -1])
    torch.testing.assert_close(flat, torch.ones(8, dtype=DOUBLE))


@pytest.mark.claim("lecture", "(PL): |grad U_pi|^2 >= lambda (m* - U) once c_a is large enough")
def test_pl_above_the_threshold():
    game = random_game(n=6, cost=40.0)
    s = random_state(game, copies=50)
    x = torch.linspace(-4, 4, 801, dtype=DOUBLE)[:, None]
    labels = torch.full((801,), 4.0, dtype=DOUBLE)
    worst = max(
        float(concave_from(game, s.theta, s.alpha, x, sign * labels).max()) for sign in (-1, 1)
    )
    assert worst < 40
    moved = game.data[:, None] + 1.2 * normal(6, 50, 2, seed=8)
    s = replace(s, z=moved.clamp(-4, 4))  # where the threshold was looked at
    best = float(best_attack(game, s.theta, s.alpha, tolerance=1e-9).upper.mean())
    squared = (s.omega * flow(game, s).z.square().sum(-1)).sum(1).mean()
    assert float(squared) >= 4 * (40 - worst) * (best - payoff(game, s))
    still = replace(s, theta=0 * s.theta, omega=torch.full_like(s.omega, 0.02))
    still_game = replace(game, y=0 * game.y)
    still = replace(still, z=torch.cat([game.x[:, None].expand(6, 50, 1), s.z[..., 1:]], -1))
    squared = flow(still_game, still).z.square().sum(-1).mean()
    assert float(squared) == pytest.approx(4 * 39 * -payoff(still_game, still))  # with equality


def two_humps(cost):
    """One datum at 0.1 and f = 2 sin(2 x): attacks to the left and to the right, unequal."""
    game = Game(
        x=torch.tensor([[0.1]], dtype=DOUBLE),
        y=torch.zeros(1, dtype=DOUBLE),
        cost=cost,
        activation="sin",
        bias=False,
    )
    theta = torch.tensor([[2.0, 2.0]], dtype=DOUBLE)
    return game, theta, torch.ones(1, dtype=DOUBLE)


@pytest.mark.claim("lecture", "under (PL) pi_0 is arbitrary; without, particles stay on their hill")
@pytest.mark.parametrize(("cost", "found"), [(3.0, False), (24.0, True)])
def test_where_positions_alone_fail(cost, found):
    game, theta, alpha = two_humps(cost)
    z = torch.tensor([[[-0.6, 0.0]]], dtype=DOUBLE)
    s = State(theta, alpha, z, torch.ones(1, 1, dtype=DOUBLE))
    best = float(best_attack(game, theta, alpha, tolerance=1e-6).value)
    end = last(ascent_descent(game, s, steps=300, eta=0.03, kappa=0.1, speeds=(1, 0)))
    assert (best - payoff(game, end) < 1e-3) == found
    assert (best - payoff(game, end) > 0.1) != found
    near = concave_from(game, theta, alpha, s.z[0, :, :-1], s.z[0, :, -1])
    assert (float(near) < cost) == found
    both = replace(
        s,
        z=torch.tensor([[[-0.6, 0.0], [0.6, 0.0]]], dtype=DOUBLE),
        omega=torch.tensor([[0.999, 0.001]], dtype=DOUBLE),
    )
    end = last(ascent_descent(game, both, steps=300, eta=0.03, kappa=0.1, speeds=(1, 0)))
    assert best - payoff(game, end) < 0.01  # the weights move the mass to the better hill


@pytest.mark.claim("lecture", "the threshold for concavity is sufficient, not necessary")
def test_below_the_threshold_there_may_be_one_hill_or_several():
    """Hills of the payoff of one datum, its label the best one, on a grid of the line."""
    z = torch.linspace(-3, 3, 2001, dtype=DOUBLE)
    hills = {}
    for share in (0.3, 0.9, 1.0):
        game, theta, alpha = two_humps(2.0)
        f = network(game, theta, alpha, z[:, None])
        for _ in range(200):  # the threshold depends on the best label, which depends on the price
            labels = best_label(game, f, torch.zeros_like(f))
            threshold = float(concave_from(game, theta, alpha, z[:, None], labels).max())
            game = replace(game, cost=game.cost + 0.2 * (share * threshold - game.cost))
        gain = game.cost / (game.cost - 1) * f**2 - game.cost * (z - 0.1) ** 2
        assert game.cost == pytest.approx(share * threshold, rel=1e-3)
        hills[share] = int(((gain[1:-1] > gain[:-2]) & (gain[1:-1] > gain[2:])).sum())
    assert hills[0.3] > 1 and hills[0.9] == 1 and hills[1.0] == 1


# --- the best response and the error ------------------------------------------------------------


def test_the_weights_fit_as_a_general_solver_does():
    outputs, y = normal(30, 4), 3 * normal(30, seed=1)
    mass = torch.full((30,), 1 / 30, dtype=DOUBLE)
    w = fitted(outputs, y, mass)
    assert float(w.abs().sum()) == pytest.approx(1, abs=1e-9)

    def loss(v):
        plus, minus = np.split(v, 2)
        return float(((outputs.numpy() @ (plus - minus) - y.numpy()) ** 2).mean())

    found = minimize(
        loss,
        np.full(8, 0.1),
        bounds=[(0, 1)] * 8,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda v: 1 - v.sum()},
        options={"ftol": 1e-12},
    )
    assert loss(np.r_[w.clamp(min=0), (-w).clamp(min=0)]) == pytest.approx(found.fun, abs=1e-6)
    inside = fitted(outputs, outputs @ torch.tensor([0.2, -0.3, 0.1, 0.0]).double(), mass)
    torch.testing.assert_close(
        inside, torch.tensor([0.2, -0.3, 0.1, 0]).double(), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("bias", [False, True])
def test_the_steepest_neuron_against_a_grid(bias):
    game = random_game(bias=bias, largest=(2.0, 3.0))
    x, push = normal(40, 1), normal(40, seed=1) / 40
    _, bound = steepest(game, x, push, 1e-3)
    line = torch.linspace(-3, 3, 301, dtype=DOUBLE)
    b = torch.cartesian_prod(line, line) if bias else line[:, None]
    s = x @ b[:, :1].T + (b[:, 1] if bias else 0)
    grid = 2 * float((push @ torch.tanh(s)).abs().max())
    assert grid <= bound <= grid + 2e-3


def test_what_merging_hides_is_added_to_the_bound(monkeypatch):
    game = random_game(bias=False, largest=(2.0, 3.0))
    x, push = torch.tensor([[0.0], [1e-3]]).double(), torch.full((2,), 0.5, dtype=DOUBLE)
    nothing = torch.zeros(1, dtype=DOUBLE)
    monkeypatch.setattr(
        response_module, "_over_the_box", lambda *a: Maximum(nothing, nothing[None], nothing)
    )
    _, bound = steepest(game, x, push, 1.0)  # both at 5e-4: a second moment of 2.5e-7
    assert bound == pytest.approx(2 * 4 / 27**0.5 * 9 * 2.5e-7 / 2)


@pytest.mark.parametrize("largest", [0.3, 5.0])
def test_the_best_response_of_a_linear_learner_is_least_squares(largest):
    """f = beta x with |beta| <= largest: clipped least squares."""
    game = Game(
        x=normal(6, 1),
        y=normal(6, seed=1),
        cost=2.0,
        activation="linear",
        bias=False,
        largest=(largest, 1.0),
    )
    s = random_state(game)
    x, y = s.z[..., 0].flatten(), s.z[..., 1].flatten()
    mass = (s.omega / 6).flatten()
    beta = ((mass * x * y).sum() / (mass * x * x).sum()).clamp(-largest, largest)
    price = 2 * (s.omega * (s.z - game.data[:, None]).square().sum(-1)).sum(1).mean()
    want = float((mass * (beta * x - y) ** 2).sum() - price)
    found = best_response(game, s, tolerance=1e-6)
    assert found.lower - 1e-9 <= want <= found.upper + 1e-9
    assert found.upper - found.lower <= 1e-6


def test_the_best_response_against_dense_neurons():
    game = random_game(n=6, largest=(3.0, 4.0))
    s = random_state(game, seed=6)
    found = best_response(game, s, tolerance=1e-4)
    assert found.upper - found.lower <= 1e-4
    line = torch.linspace(-4, 4, 41, dtype=DOUBLE)
    b = torch.cartesian_prod(line, line)
    flat, mass = s.z.flatten(0, 1), (s.omega / 6).flatten()
    outputs = 3 * torch.tanh(flat[:, :1] * b[:, 0] + b[:, 1])
    f = outputs @ fitted(outputs, flat[:, 1], mass)
    price = 3 * (s.omega * (s.z - game.data[:, None]).square().sum(-1)).sum(1).mean()
    grid = float((mass * (f - flat[:, 1]) ** 2).sum() - price)
    assert found.lower <= grid
    assert found.upper == pytest.approx(grid, abs=2e-3)
    for seed in range(20):  # no learner beats the lower bound
        other = start(game, neurons=3, copies=1, rng=seeded(seed))
        tried = replace(s, theta=within(game, 2 * other.theta), alpha=other.alpha)
        assert payoff(game, tried) >= found.lower


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_attacks_without_mass_do_not_count(dtype):
    game = Game(x=normal(4, 1).to(dtype), y=normal(4, seed=1).to(dtype), cost=3.0, bias=False)
    s = start(game, neurons=8, copies=3, rng=seeded(0))
    with_idle = replace(
        s,
        z=torch.cat([s.z, s.z + 1], 1),
        omega=torch.cat([s.omega, torch.zeros_like(s.omega)], 1),
    )
    one, two = (nikaido_isoda(game, v, tolerance=5e-3) for v in (s, with_idle))
    assert one.lower <= two.upper and two.lower <= one.upper
    assert 0 < two.upper - two.lower < 0.011


def saddle_on_the_line(x, y, cost):
    """min over slopes of mean c r^2/(c-1-slope^2): one number, by a scalar solver."""

    def worst(slope):
        return float((cost * (slope * x[:, 0] - y) ** 2 / (cost - 1 - slope**2)).mean())

    found = minimize_scalar(worst, bounds=(-1.0, 1.0), method="bounded", options={"xatol": 1e-10})
    return found.x, found.fun


@pytest.mark.claim("lecture", "the min-max over nu and pi has a saddle; its error is zero")
def test_the_error_is_zero_at_the_saddle_of_a_linear_game_and_not_elsewhere():
    x, y, cost = normal(6, 1), 0.5 * normal(6, seed=1), 6.0
    slope, value = saddle_on_the_line(x, y, cost)
    game, theta, alpha = linear(torch.tensor([slope]).double(), x, y, cost)
    game = replace(game, largest=(1.0, 2.0))
    r = slope * x[:, 0] - y
    moved = x[:, 0] + slope * r / (cost - 1 - slope**2)
    z = torch.stack([moved, best_label(game, slope * moved, y)], 1)[:, None]
    s = State(theta, alpha, z, torch.ones(6, 1, dtype=DOUBLE))
    assert payoff(game, s) == pytest.approx(value, abs=1e-9)
    error = nikaido_isoda(game, s, tolerance=1e-5)
    assert error.lower == 0 and error.upper < 3e-5
    off = replace(s, theta=s.theta + torch.tensor([0.0, 0.3]).double())
    error = nikaido_isoda(game, off, tolerance=1e-5)
    assert error.lower > 0.01
    gain = float(
        (cost * ((slope + 0.3) * x[:, 0] - y) ** 2 / (cost - 1 - (slope + 0.3) ** 2)).mean()
    )
    assert error.attack.lower == pytest.approx(gain, abs=2e-5)
    assert error.lower == pytest.approx(gain - value, abs=4e-5)


@pytest.mark.claim("lecture", "strongly concave case: time averages come within any delta")
def test_the_flow_finds_the_saddle_of_a_linear_game():
    x, y, cost = normal(6, 1), 0.5 * normal(6, seed=1), 6.0
    slope, value = saddle_on_the_line(x, y, cost)
    game, _, _ = linear(torch.zeros(1).double(), x, y, cost)
    game = replace(game, largest=(2.0, 2.0))
    s = start(game, neurons=20, copies=3, spread=1.0, rng=seeded(0))  # pi_0 far from the data
    times = {*dense_early(300), 30, 90}
    taken = list(snapshots(ascent_descent(game, s, steps=300, eta=0.1), times))
    end = taken[-1][1]
    found = float((end.alpha * end.theta[:, 0] * end.theta[:, 1]).sum())
    assert found == pytest.approx(slope, abs=1e-3)
    assert payoff(game, end) == pytest.approx(value, abs=1e-4)
    errors = [nikaido_isoda(game, time_average(taken, t)).upper for t in (30, 90, 300)]
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]
    assert errors[2] < 0.05


@pytest.mark.claim("lecture", "Fisher-Rao alone: the support is frozen, the error stays")
def test_weights_alone_do_not_converge_and_the_whole_flow_does():
    x = torch.linspace(-1, 1, 6, dtype=DOUBLE)
    game = Game(x=x[:, None], y=torch.sin(2 * x), cost=8.0)
    s = start(game, neurons=30, copies=4, rng=seeded(1))
    errors = {}
    for variant in ("wfr", "wasserstein", "fisher-rao"):
        path = ascent_descent(game, s, steps=150, eta=0.1, kappa=0.2, variant=variant)
        end = time_average(list(snapshots(path, dense_early(150, 25))), 150)
        errors[variant] = nikaido_isoda(game, end, tolerance=1e-2)
    assert errors["fisher-rao"].lower > 5 * errors["wfr"].upper
    assert errors["fisher-rao"].lower > 5 * errors["wasserstein"].upper


@pytest.mark.claim("lecture", "conditions on nu_0 are stringent: equal neurons stay one neuron")
def test_equal_neurons_stay_equal():
    game = random_game()
    s = start(game, neurons=8, copies=3, rng=seeded(0))
    s = replace(s, theta=s.theta[:1].expand(8, -1))
    end = last(ascent_descent(game, s, steps=60))
    torch.testing.assert_close(end.theta, end.theta[:1].expand(8, -1))
    torch.testing.assert_close(end.alpha, s.alpha)


# --- the limit ----------------------------------------------------------------------------------


def test_w1_on_the_line_and_in_space():
    x, y = normal(7, 1), normal(9, 1, seed=1)
    p, q = torch.rand(7, generator=seeded(2)).double(), torch.rand(9, generator=seeded(3)).double()
    want = wasserstein_distance(x[:, 0], y[:, 0], p, q)
    assert w1(x, p, y, q) == pytest.approx(want, abs=1e-9)
    x, y = normal(7, 3), normal(9, 3, seed=1)
    want = ot.emd2((p / p.sum()).numpy(), (q / q.sum()).numpy(), torch.cdist(x, y).numpy())
    assert w1(x, p, y, q) == pytest.approx(want, abs=1e-9)
    shift = torch.tensor([3.0, 0.0, -4.0], dtype=DOUBLE)
    assert w1(x, p, x + shift, 2 * p) == pytest.approx(5)
    assert w1(x, p, x.flip(0), p.flip(0)) == pytest.approx(0, abs=1e-9)


def test_the_distance_of_plans_sees_the_data_too():
    game = random_game()
    s = random_state(game)
    same = distance(game, s, s)
    assert same.plan == pytest.approx(0, abs=1e-9) and same.neurons == pytest.approx(0, abs=1e-9)
    other = replace(game, x=game.x + 0.3)
    assert distance(game, s, s, other).plan == pytest.approx(0.3)
    moved = replace(s, z=s.z + torch.tensor([0.0, 0.2]).double(), theta=s.theta + 1.0)
    found = distance(game, s, moved)
    assert found.plan == pytest.approx(0.2, abs=0.02)
    assert found.neurons == pytest.approx(3**0.5)


def on_the_line(n, copies, seed):
    """mu on x = 0..1 with y = 0, pi_0(.|z) uniform around z; the learner f = 2 tanh x."""
    rng = seeded(seed)
    x = torch.rand(n, 1, generator=rng, dtype=DOUBLE)
    game = Game(x=x, y=torch.zeros(n, dtype=DOUBLE), cost=1.5, bias=False)
    noise = torch.rand(n, copies, 1, generator=rng, dtype=DOUBLE) * 2 - 1
    z = game.data[:, None] + torch.cat([noise, torch.zeros_like(noise)], -1)
    theta, one = torch.tensor([[2.0, 1.0]], dtype=DOUBLE), torch.ones(1, dtype=DOUBLE)
    return game, State(theta, one, z, torch.full((n, copies), 1 / copies, dtype=DOUBLE))


def tilted_mean(x, time):
    """The mean of x~ - x under the limit, where the density is e^(time U) on the window."""
    shift = torch.linspace(-1, 1, 2001, dtype=DOUBLE)
    gain = (2 * torch.tanh(x + shift)) ** 2 - 1.5 * shift**2
    weight = (time * gain).softmax(-1)
    return (weight * shift).sum(-1)


@pytest.mark.claim(
    "lecture",
    "well prepared: several copies a point, whose conditionals converge; one is not enough",
)
def test_one_copy_a_point_does_not_converge_to_the_limit():
    """As many particles; but a conditional of one atom has no weights to share."""
    found = {}
    for copies in (1, 40):
        game, s = on_the_line(4000 // copies, copies, seed=copies)
        end = last(ascent_descent(game, s, steps=4, kappa=0.5, variant="fisher-rao", speeds=(1, 0)))
        mean = (end.omega * (end.z - game.data[:, None])[..., 0]).sum(1).mean()
        found[copies] = float(mean)
        limit = float(tilted_mean(game.x, 2.0).mean())
    assert limit > 0.3
    assert found[40] == pytest.approx(limit, abs=0.06)
    assert found[1] == pytest.approx(0, abs=0.06)  # where it began


@pytest.mark.claim("lecture", "mean field limit: sup over [0, T] of W_1 goes to 0 as N grows")
def test_runs_at_n_and_4n_approach_each_other():
    x = torch.tensor([[-0.7], [0.6]], dtype=DOUBLE)
    game = Game(x=x, y=torch.sin(2 * x[:, 0]), cost=4.0, bias=False)

    def run(size, seed):
        s = start(game, neurons=size, copies=size // 2, spread=0.3, rng=seeded(seed))
        return last(ascent_descent(game, s, steps=20, eta=0.05))

    mean = {}
    for size in (4, 24):
        apart = [distance(game, run(size, k), run(4 * size, k + 9)) for k in range(4)]
        mean[size] = np.mean([(d.plan, d.neurons) for d in apart], axis=0)
    assert (mean[24] < 0.7 * mean[4]).all()


@pytest.mark.claim("lecture", "Lemma: conditionals get close along couplings that concentrate")
def test_the_lemma_for_a_kernel_that_jumps():
    """mu uniform on [0, 1], mu_u = delta at 1[u > 1/2]: W_1 averages to the chance to cross."""
    rng = np.random.default_rng(0)
    u = rng.random(100_000)
    costs = []
    for shift in (0.1, 0.01, 0.001):
        other = (u + shift) % 1  # a coupling of mu with itself, close but for the wrap-around
        costs.append(np.mean((u > 0.5) != (other > 0.5)))
        assert costs[-1] == pytest.approx(2 * shift, rel=0.2)
    assert costs[0] > 5 * costs[1] > 25 * costs[2]


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"activation": "relu"},
            r"activation must be one of \['linear', 'sin', 'tanh'\], got 'relu'",
        ),
        ({"cost": 0.0}, "cost must be finite and > 0, got 0.0"),
        ({"cost": math.inf}, "cost must be finite"),
        (
            {"y": torch.zeros(3).double()},
            r"x and y must be \(n, d\) and \(n,\), got \(5, 1\), \(3,\)",
        ),
        ({"y": torch.full((5,), math.nan).double()}, "x and y must be finite"),
        ({"y": torch.zeros(5)}, "one floating dtype, got torch.float64 and torch.float32"),
        ({"largest": (1.0, math.inf)}, "largest must be two finite numbers > 0"),
    ],
)
def test_a_bad_game_is_refused(change, message, unchecked):
    with pytest.raises(ValueError, match=message):
        replace(random_game(), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "fisher"}, r"variant must be one of \['fisher-rao', 'wasserstein', 'wfr'\]"),
        ({"eta": -0.1}, "eta must be finite and >= 0, got -0.1 at step 0"),
        ({"kappa": lambda k: math.nan}, "kappa must be finite"),
        ({"eta": 0.4}, "eta=0.4 is too long for cost=3"),
        ({"speeds": (1.0, -1.0)}, r"speeds must be two finite numbers >= 0, got \(1.0, -1.0\)"),
    ],
)
def test_bad_steps_are_refused(change, message):
    game = random_game()
    with pytest.raises(ValueError, match=message):
        last(ascent_descent(game, random_state(game), steps=2, **change))


def test_other_refusals():
    game = random_game()
    s = random_state(game)
    with pytest.raises(ValueError, match="neurons must be >= 1, got 0"):
        start(game, neurons=0, copies=1)
    with pytest.raises(ValueError, match="spread must be finite and >= 0, got -1.0"):
        start(game, neurons=1, copies=1, spread=-1.0)
    with pytest.raises(ValueError, match="need tolerance > 0 and rounds >= 1, got 0.001 and 0"):
        best_response(game, s, rounds=0)
    with pytest.raises(ValueError, match="tolerance must be >= 0, got nan"):
        best_attack(game, s.theta, s.alpha, tolerance=math.nan)
    box = torch.ones(1, 1, dtype=DOUBLE)
    with pytest.raises(ValueError, match="low must be <= high"):
        maximise(wavy, box, -box, box[0], tolerance=0.1)
    with pytest.raises(ValueError, match="states is empty"):
        average([])
    with pytest.raises(ValueError, match="weights must be 2 numbers >= 0"):
        average([s, s], [1.0, -1.0])
    with pytest.raises(ValueError, match="snapshots must start at 0 and include until=3"):
        time_average([(0, s), (2, s)], 3)
    with pytest.raises(ValueError, match="steps must be >= 1 and count >= 2"):
        dense_early(0)
    with pytest.raises(ValueError, match="w1 is exact up to"):
        w1(normal(1000, 1), torch.ones(1000).double(), normal(300, 1), torch.ones(300).double())
    with pytest.raises(ValueError, match="weights p must be finite and >= 0"):
        w1(s.theta, -s.alpha, s.theta, s.alpha)


# --- the run ------------------------------------------------------------------------------------

TINY = "points=5 neurons=12 copies=2 times=4,9 draws=2 tolerance=0.5 sizes=2 pairs=1".split()


def test_the_run_records_brackets_and_distances(tmp_path, capsys):
    assert main(["meanfield", *TINY, "--out", str(tmp_path), "--quiet"]) == 0
    record = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    errors = record["history"]
    apart = record["limit"]
    assert {(r["draw"], r["line"], r["t"]) for r in errors} == set(
        product((0, 1), runs.LINES, (4, 9))
    )
    for row, end in product(errors, ("", "last_")):
        lower, upper = row[end + "lower"], row[end + "upper"]
        assert 0 <= lower <= upper and upper - lower <= max(0.5 * upper, 2e-4)
    values = [r["upper"] for r in errors if (r["line"], r["t"]) == ("c=2", 9)]
    assert values[0] != values[1]
    assert record["metrics"]["error at 9, c=2, median"] == {"value": sum(values) / 2, "n": 2}
    assert [r["t"] for r in apart] == [0, 25, 50, 100]
    assert all(r["plan"] > 0 and r["neurons"] > 0 for r in apart)
    assert main(["meanfield", "times=4,x", "--out", str(tmp_path), "--quiet"]) == 2
    assert "times must be numbers with commas" in capsys.readouterr().err
    with pytest.raises(ValueError, match="sizes must be positive, got '8,0'"):
        runs.Config(sizes="8,0")
    with pytest.raises(ValueError, match=r"tolerance in \(0, 1\), got 0 and 0.1"):
        runs.Config(draws=0)


def test_the_lines_of_a_draw_start_alike_and_draws_differ():
    config = runs.Config()
    (game, first), (other, second) = (runs.lab(config, cost, 3) for cost in (2.0, 16.0))
    assert torch.equal(game.data, other.data) and torch.equal(first.theta, second.theta)
    assert (game.cost, other.cost, game.bias) == (2.0, 16.0, False)
    assert not torch.equal(game.x, runs.lab(config, 2.0, 4)[0].x)
    many = replace(config, points=4000, neurons=4000)
    game, first = runs.lab(many, 2.0, 0)
    assert game.x.std().item() == pytest.approx(0.9, rel=0.05)
    assert (game.y - torch.sin(2 * game.x[:, 0])).std().item() == pytest.approx(0.1, rel=0.05)
    assert (first.z - game.data[:, None]).std().item() == pytest.approx(0.3, rel=0.05)
    assert first.theta[:, 1].std().item() == pytest.approx(1.5, rel=0.05)


RECORDS = [
    r
    for r in (json.loads(p.read_text()) for p in Path("book/results").glob("meanfield-*.json"))
    if r["scale"] == "full"
]


TIMES = (100, 300, 1000, 3000)

# the same experiment by other code, one draw of a data set and a start that were not kept
ELSEWHERE = {
    "c=2": (0.227, 0.089, 0.028, 0.015),
    "c=2, Wasserstein only": (0.247, 0.094, 0.044, 0.018),
    "c=2, Fisher-Rao only": (0.66, None, None, 1.20),
    "c=16": (0.030, 0.011, 0.0025, 0.0011),
}


@pytest.mark.skipif(not RECORDS, reason="no full record of this run")
def test_other_code_found_errors_among_those_of_our_draws():
    """12 of its 14 numbers lie between our draws, 9 within 20 % of one and the same draw.

    The other two, c = 16 at the last times, are half of our smallest.
    """
    found = {}
    for row in RECORDS[0]["history"]:
        found.setdefault((row["line"], row["t"]), []).append(row["upper"])
    theirs = {(k, t): v for k, row in ELSEWHERE.items() for t, v in zip(TIMES, row, strict=True)}
    theirs = {key: value for key, value in theirs.items() if value is not None}
    outside = {k for k, v in theirs.items() if not min(found[k]) <= v <= max(found[k])}
    assert outside == {("c=16", 1000), ("c=16", 3000)}
    assert all(min(found[key]) < 2.2 * theirs[key] for key in outside)
    close = [sum(abs(found[k][d] / v - 1) < 0.2 for k, v in theirs.items()) for d in range(12)]
    assert max(close) == 9


@pytest.mark.claim("lecture", "the error of time averages falls; weights alone do not converge")
@pytest.mark.skipif(not RECORDS, reason="no full record of this run")
def test_the_record_shows_what_the_page_says():
    rows = {(r["draw"], r["line"], r["t"]): r for r in RECORDS[0]["history"]}
    for draw in range(12):
        for line in ("c=2", "c=2, extragradient", "c=2, Wasserstein only", "c=16"):
            steps = [rows[draw, line, t] for t in TIMES]
            assert all(b["upper"] < a["lower"] for a, b in pairwise(steps))
        stalled, moving = rows[draw, "c=2, Fisher-Rao only", 3000], rows[draw, "c=2", 3000]
        assert stalled["lower"] > 0.5 > 10 * moving["upper"]
    limit = RECORDS[0]["limit"]
    sizes, times = (sorted({r[name] for r in limit}) for name in ("size", "t"))
    plan, neurons = (
        np.array(
            [
                [np.mean([r[key] for r in limit if (r["size"], r["t"]) == (n, t)]) for t in times]
                for n in sizes
            ]
        )
        for key in ("plan", "neurons")
    )
    assert (np.diff(neurons, axis=0) < 0).all() and (np.diff(neurons, axis=1) > 0).all()
    assert (np.diff(plan[:, 0]) < 0).all() and (plan[:, 1] < plan[:, 0] / 5).all()
    assert not (np.diff(plan[:, -1]) < 0).all()

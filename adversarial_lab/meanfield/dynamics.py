r"""Lecture, mean field: projected ascent-descent in the Wasserstein-Fisher-Rao geometry.

Positions move along gradients (Wasserstein), weights grow and shrink with the payoff
(Fisher-Rao). Projected: the marginal of $\pi$ on the data is fixed, because the mean under the
conditional is subtracted point by point.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from torch import Tensor

from adversarial_lab.meanfield.game import Game, within
from adversarial_lab.meanfield.particles import Flow, State, average, flow, mean_under

Schedule = Callable[[int], float]  # the step's number, from 0 -> its size

# which part moves: (positions, weights)
VARIANTS: dict[str, tuple[float, float]] = {
    "wfr": (1.0, 1.0),
    "wasserstein": (1.0, 0.0),
    "fisher-rao": (0.0, 1.0),
}


def decaying(size: float, power: float = 0.5) -> Schedule:
    r"""$\eta_k=\text{size}/(1+k)^{\text{power}}$."""
    if not power >= 0:
        raise ValueError(f"power must be >= 0, got {power}")
    return lambda k: size / (1 + k) ** power


def ascent_descent(
    game: Game,
    state: State,
    *,
    steps: int,
    eta: float | Schedule = 0.02,
    kappa: float | Schedule = 0.05,
    variant: str = "wfr",
    extragradient: bool = False,
    speeds: tuple[float, float] = (1.0, 1.0),
) -> Iterator[State]:
    r"""The lecture's particle system in steps; yields the start and then every state.

    eta, kappa: the step of positions and of log-weights, numbers or functions of the step's number.
    variant: a key of `VARIANTS`. extragradient: look one step ahead, then step from where you were
    with the velocities found there (Korpelevich); two evaluations a step. speeds: of adversary
    and learner, as factors of both steps; 0 leaves a player where it is.
    Raises ValueError where the adversary's step would overshoot: $2c_a\eta\ge2$.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {sorted(VARIANTS)}, got {variant!r}")
    _check_speeds(speeds)
    positions, weights = VARIANTS[variant]
    yield state
    for k in range(steps):
        size = positions * _size("eta", eta, k)
        growth = weights * _size("kappa", kappa, k)
        if game.cost * size * speeds[0] >= 1:
            raise ValueError(
                f"eta={size * speeds[0]:g} is too long for cost={game.cost:g}: the price pulls x~"
                f" back at the rate 2 c_a, steps of 1 / c_a = {1 / game.cost:g} or more swing apart"
            )
        velocity = _scaled(flow(game, state), *speeds)
        if extragradient:
            ahead = step(game, state, velocity, size, growth)
            velocity = _scaled(flow(game, ahead), *speeds)
        state = step(game, state, velocity, size, growth)
        yield state


def step(game: Game, state: State, velocity: Flow, eta: float, kappa: float) -> State:
    r"""Positions by $\eta$ times velocity, weights by $e^{\kappa\cdot\text{rate}}$, sums kept.

    The exponential is the exact flow of the weights' equation while the payoff stands still; it
    needs no clipping, and each row of omega keeps its sum: the marginal on the data is fixed.
    """
    return State(
        within(game, state.theta + eta * velocity.theta),
        _grow(state.alpha, kappa * velocity.alpha),
        state.z + eta * velocity.z,
        _grow(state.omega, kappa * velocity.omega),
    )


def _check_speeds(speeds: tuple[float, float]) -> None:
    if not all(speed >= 0 and math.isfinite(speed) for speed in speeds):
        raise ValueError(f"speeds must be two finite numbers >= 0, got {speeds}")


def _scaled(velocity: Flow, adversary: float, learner: float) -> Flow:
    if adversary == learner == 1:
        return velocity
    return Flow(
        theta=learner * velocity.theta,
        alpha=learner * velocity.alpha,
        z=adversary * velocity.z,
        omega=adversary * velocity.omega,
    )


def _grow(weight: Tensor, rate: Tensor) -> Tensor:
    rate = rate.masked_fill(weight == 0, -math.inf)  # no weight, no part in the largest rate
    factor = (rate - rate.amax(-1, keepdim=True)).exp()
    return weight * factor / mean_under(factor, weight)


def _size(name: str, given: float | Schedule, k: int) -> float:
    size = given(k) if callable(given) else given
    if not (size >= 0 and math.isfinite(size)):
        raise ValueError(f"{name} must be finite and >= 0, got {size} at step {k}")
    return size


def snapshots(path: Iterable[State], times: Iterable[int]) -> Iterator[tuple[int, State]]:
    """The states at the given steps, in order, with their numbers."""
    wanted = set(times)
    for k, state in enumerate(path):
        if k in wanted:
            yield k, state


def dense_early(steps: int, count: int = 60) -> list[int]:
    """About `count` step numbers from 0 to `steps`, spaced evenly on a logarithmic scale."""
    if steps < 1 or count < 2:
        raise ValueError(f"steps must be >= 1 and count >= 2, got {steps} and {count}")
    return sorted({0, steps, *(round(steps ** (k / (count - 1))) for k in range(count))})


def time_average(taken: Iterable[tuple[int, State]], until: int) -> State:
    r"""$\bar\nu=\frac1t\int_0^t\nu_sds$, and $\bar\pi$, from snapshots up to t = until.

    Exact if every step was taken; else each snapshot stands for the times nearest to it.
    """
    kept = [(k, state) for k, state in taken if k <= until]
    if not kept or kept[0][0] != 0 or kept[-1][0] != until or until < 1:
        raise ValueError(f"snapshots must start at 0 and include until={until} >= 1")
    times = [k for k, _ in kept]
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(times)), float(until)]
    return average([state for _, state in kept], [b - a for a, b in pairwise(edges)])

r"""Lecture, mean field: the pair $(\pi,\nu)$ as weighted particles, its payoff and its flow.

$\nu^N=\sum_i\alpha_i\delta_{\theta_i}$ has N neurons, and
$\pi^N=\frac1n\sum_{ij}\omega_{ij}\delta_{(z_i,\tilde z_{ij})}$ has m moved copies of every point:
every conditional $\pi^N(\cdot|z_i)$ has weights to share.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adversarial_lab.meanfield.game import (
    ACTIVATIONS,
    Game,
    Neurons,
    Weights,
    activations,
    network,
    with_one,
    within,
)
from adversarial_lab.threat import Rng, normal_like

Moved = Float[Tensor, "n m dy"]  # a row is (x~, y~): dy = d + 1


@dataclass(frozen=True)
class State:
    """The particles of both players.

    alpha sums to one, and so does each row of omega. (The slides have weights with mean 1 and a
    factor 1/N in front of the sum.)
    """

    theta: Neurons
    alpha: Weights
    z: Moved
    omega: Float[Tensor, "n m"]


def start(
    game: Game,
    *,
    neurons: int,
    copies: int,
    spread: float = 0.1,
    scale: tuple[float, float] = (1.0, 1.0),
    rng: Rng = None,
) -> State:
    r"""Well prepared: $\tilde z_{ij}\sim N(z_i,\text{spread}^2I)$ for j = 1..copies, weights equal.

    The neurons are normal with the standard deviations `scale` of a and of b, cut to the game's
    bounds.
    """
    for name, count in (("neurons", neurons), ("copies", copies)):
        if count < 1:
            raise ValueError(f"{name} must be >= 1, got {count}")
    for name, size in (("spread", spread), ("scale[0]", scale[0]), ("scale[1]", scale[1])):
        if not (size >= 0 and math.isfinite(size)):
            raise ValueError(f"{name} must be finite and >= 0, got {size}")
    like = game.x
    deviations = like.new_tensor([scale[0]] + [scale[1]] * (game.width - 1))
    theta = within(game, deviations * normal_like(like.new_empty(neurons, game.width), rng))
    noise = normal_like(like.new_empty(len(like), copies, like.shape[1] + 1), rng)
    return State(
        theta,
        like.new_full((neurons,), 1 / neurons),
        game.data[:, None] + spread * noise,
        like.new_full((len(like), copies), 1 / copies),
    )


def payoff(game: Game, state: State) -> float:
    r"""$U(\pi,\nu)=\int(f_\nu(\tilde x)-\tilde y)^2d\pi-c_a\int|z-\tilde z|^2d\pi$."""
    flat = state.z.flatten(0, 1)
    residual = network(game, state.theta, state.alpha, flat[:, :-1]) - flat[:, -1]
    moved = (state.z - game.data[:, None]).square().sum(-1)
    gain = residual.square().view_as(moved) - game.cost * moved
    return float((state.omega * gain).sum(1).mean())


@dataclass(frozen=True)
class Flow:
    r"""The right-hand sides of the particle system for $\eta=\kappa=1$.

    z, theta: velocities. omega, alpha: rates of growth, $\frac{d}{dt}\log\omega$; the mean under
    the conditional $\pi(\cdot|z_i)$, and under $\nu$, is 0.
    """

    theta: Neurons
    alpha: Weights
    z: Moved
    omega: Float[Tensor, "n m"]


def flow(game: Game, state: State) -> Flow:
    r"""The lecture's ascent-descent, in closed form:

    $\dot{\tilde z}=\nabla_{\tilde z}U_\pi$, $\dot\omega=\omega(U_\pi-\int U_\pi d\pi(\cdot|z))$,
    $\dot\theta=-\nabla_\theta U_\nu$, $\dot\alpha=-\alpha(U_\nu-\int U_\nu d\nu)$, with
    $U_\pi=(f_\nu(\tilde x)-\tilde y)^2-c_a|z-\tilde z|^2$ and
    $U_\nu=\int2(f_\nu(\tilde x)-\tilde y)\,a\,h(b\cdot\tilde x)\,d\pi$.
    """
    flat = state.z.flatten(0, 1)
    x, d = flat[:, :-1], game.x.shape[1]
    s, h = activations(game, state.theta[:, 1:], x)
    slope = ACTIVATIONS[game.activation].slope(s, h)
    a, b = state.theta[:, 0], state.theta[:, 1 : d + 1]
    heights = state.alpha * a
    residual = h @ heights - flat[:, -1]

    shift = state.z - game.data[:, None]
    gain = residual.square().view_as(state.omega) - game.cost * shift.square().sum(-1)
    gradient = slope @ (heights[:, None] * b)
    rise = 2 * residual[:, None] * torch.cat([gradient, -torch.ones_like(x[:, :1])], 1)

    push = 2 * residual * (state.omega / len(game.x)).flatten()
    along_a = h.T @ push
    moment = slope.T @ (push[:, None] * (with_one(x) if game.bias else x))
    loss = a * along_a
    return Flow(
        theta=-torch.cat([along_a[:, None], a[:, None] * moment], 1),
        alpha=mean_under(loss, state.alpha) - loss,
        z=rise.view_as(shift) - 2 * game.cost * shift,
        omega=gain - mean_under(gain, state.omega),
    )


def mean_under(values: Float[Tensor, "*r k"], weights: Float[Tensor, "*r k"]) -> Tensor:
    """The mean of each row under its own weights, (*r, 1)."""
    return (weights * values).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)


def average(states: Sequence[State], weights: Sequence[float] | None = None) -> State:
    r"""$\bar\nu=\sum_sq_s\nu_s$, $\bar\pi=\sum_sq_s\pi_s$: all particles, their weights times q.

    weights: q, by default equal; they are divided by their sum.
    """
    if not states:
        raise ValueError("states is empty: there is nothing to average")
    q = torch.tensor(weights if weights is not None else [1.0] * len(states), dtype=torch.float64)
    if len(q) != len(states) or not (q.min() >= 0 and q.sum() > 0):
        raise ValueError(
            f"weights must be {len(states)} numbers >= 0 with a positive sum, got {weights}"
        )
    share = [float(v) for v in q / q.sum()]
    return State(
        torch.cat([s.theta for s in states]),
        torch.cat([v * s.alpha for v, s in zip(share, states, strict=True)]),
        torch.cat([s.z for s in states], 1),
        torch.cat([v * s.omega for v, s in zip(share, states, strict=True)], 1),
    )

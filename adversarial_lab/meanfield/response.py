r"""Lecture, mean field: $\inf_{\tilde\nu\in P(\Theta)}U(\pi,\tilde\nu)$, the best response.

Convex in $\nu$: weights of given neurons are a least-squares problem, and the Frank-Wolfe gap, a
maximum over one neuron, proves how far the rest is.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

from adversarial_lab.meanfield.bound import Maximum, maximise
from adversarial_lab.meanfield.game import (
    ACTIVATIONS,
    Game,
    Inner,
    Inputs,
    Values,
    activations,
    with_one,
)
from adversarial_lab.meanfield.particles import State
from adversarial_lab.threat import normal_like

_FITS, _NEIGHBOURS = 5, 6  # a round: fits, and new neurons around each that is in use


@dataclass(frozen=True)
class Bracket:
    """A number that lies between lower and upper."""

    lower: float
    upper: float


@dataclass(frozen=True)
class Atoms:
    """What the learner sees of the plan: moved inputs, labels, and their mass."""

    x: Inputs
    y: Values
    mass: Values


def best_response(
    game: Game, state: State, *, tolerance: float = 1e-3, rounds: int = 10
) -> Bracket:
    r"""$\inf_{\tilde\nu\in P(\Theta)}U(\pi,\tilde\nu)$: Frank-Wolfe with all weights refitted.

    It is at least $U(\pi,\nu)-\max_\theta\int2(f_\nu-\tilde y)(f_\nu-a\,h)\,d\pi$ for any $\nu$.
    Stops at the tolerance (absolute) or after that many rounds; the bracket holds either way.
    Costs grow quickly with the number of inputs; meant for one or two.
    """
    if not (tolerance > 0 and rounds >= 1):
        raise ValueError(f"need tolerance > 0 and rounds >= 1, got {tolerance} and {rounds}")
    flat = state.z.flatten(0, 1)
    atoms = Atoms(flat[:, :-1], flat[:, -1], (state.omega / len(game.x)).flatten())
    moved = (state.z - game.data[:, None]).square().sum(-1).flatten()
    paid = game.cost * float(atoms.mass @ moved)
    inner, rng = _candidates(game, state), torch.Generator().manual_seed(0)
    lower, upper = -math.inf, math.inf
    for _ in range(rounds):
        inner, f = _refined(game, inner, atoms, rng)
        loss = float(atoms.mass @ (f - atoms.y).square())
        push = 2 * atoms.mass * (f - atoms.y)
        worst, reach = steepest(game, atoms.x, push, tolerance / 2)
        upper, lower = min(upper, loss), max(lower, loss - float(push @ f) - reach)
        if upper - lower <= tolerance:
            break
        inner = torch.cat([inner, worst])
    return Bracket(max(lower, 0.0) - paid, upper - paid)


def _candidates(game: Game, state: State) -> Inner:
    """Neurons to begin with: a coarse grid of the box, and some of the state's own."""
    own = state.theta[:: max(1, len(state.theta) // 100), 1:]
    line = torch.linspace(-game.largest[1], game.largest[1], 7).to(own)
    grid = torch.cartesian_prod(*[line] * min(own.shape[1], 3)).view(7 ** min(own.shape[1], 3), -1)
    rest = grid.new_zeros(len(grid), own.shape[1] - grid.shape[1])
    return torch.cat([own, torch.cat([grid, rest], 1)])


def _refined(
    game: Game, inner: Inner, atoms: Atoms, rng: torch.Generator
) -> tuple[Float[Tensor, "k e_inner"], Values]:
    """Fit the weights, keep the neurons in use, add neighbours of them, and again."""
    scale, largest = game.largest
    for fit in range(_FITS):
        if fit:
            near = inner.repeat(_NEIGHBOURS, 1)
            step = largest / 2 * torch.rand(len(near), 1, generator=rng).to(near) ** 3
            near = (near + step * normal_like(near, rng)).clamp(-largest, largest)
            inner = torch.cat([inner, near])
        outputs = scale * activations(game, inner, atoms.x)[1]
        weight = fitted(outputs, atoms.y, atoms.mass)
        used = weight != 0
        inner, outputs, weight = inner[used], outputs[:, used], weight[used]
    return inner, outputs @ weight


def fitted(outputs: Float[Tensor, "p k"], y: Values, mass: Values) -> Float[Tensor, " k"]:
    r"""The w with $\sum|w|\le1$ for which $\sum_kw_kh_k$ is nearest to y in mean square.

    Non-negative least squares on the features with both signs, and one that is zero; a heavy row
    asks for the sum one, and a division makes it so.
    """
    root = mass.sqrt()[:, None]
    rows = torch.linalg.qr(root * torch.cat([outputs, y[:, None]], 1)).R.double().cpu().numpy()
    features = np.concatenate([rows[:, :-1], -rows[:, :-1], 0 * rows[:, :1]], 1)
    heavy = 1e3 * max(float(np.abs(rows).max()), 1e-6)
    system = np.concatenate([features, np.full((1, features.shape[1]), heavy)])
    w, _ = nnls(system, np.append(rows[:, -1], heavy), maxiter=100 * system.shape[1])
    k = outputs.shape[1]
    return torch.from_numpy((w[:k] - w[k : 2 * k]) / w.sum()).to(outputs)


def steepest(game: Game, x: Inputs, push: Values, tolerance: float) -> tuple[Inner, float]:
    r"""$\max_\theta|\int a\,h(b\cdot\tilde x)\,dq|$, q = push, signed: a good b, and a bound.

    The bound is at most `tolerance` above the maximum. Close atoms are merged first; what that
    changes, at most half of the second moment around the new places, is added.
    """
    share = tolerance / game.largest[0]
    bend = ACTIVATIONS[game.activation].bounds[2]
    longest = bend * game.largest[1] ** 2 * x.shape[1]
    places, mass, spread = _merged(x, push, share, longest)
    found = _over_the_box(game, places, mass, share / 2)
    return found.where, game.largest[0] * (float(found.upper) + longest * spread / 2)


def _merged(
    x: Inputs, push: Values, share: float, longest: float
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"], float]:
    """Atoms of one sign in one cell, at their mean; and their second moment around the means."""
    size = push.abs()
    worst = longest * float(size.sum()) * x.shape[1]
    width = math.sqrt(12 * share / 2 / worst) if worst else math.inf
    keys = torch.cat([(x / width).round(), push.sign()[:, None]], 1)
    cells, index = keys.unique(dim=0, return_inverse=True)
    total = x.new_zeros(len(cells)).index_add(0, index, size)
    middle = x.new_zeros(len(cells), x.shape[1]).index_add(0, index, size[:, None] * x)
    middle = middle / total.clamp(min=torch.finfo(x.dtype).tiny)[:, None]
    spread = float(size @ (x - middle[index]).square().sum(1))
    return middle, total * cells[:, -1], spread


def _over_the_box(game: Game, x: Inputs, push: Values, tolerance: float) -> Maximum:
    entries = with_one(x) if game.bias else x
    rule = ACTIVATIONS[game.activation]
    bend = rule.bounds[2] * (push.abs() @ entries.square().sum(1))

    def evaluate(b: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        values, gradients = [], []
        for part in b.split(max(1, 2**20 // len(x))):
            s = entries @ part.T
            h = rule.value(s)
            values.append((push @ h).abs())
            gradients.append((rule.slope(s, h) * push[:, None]).T @ entries)
        return torch.cat(values), torch.cat(gradients)

    high = torch.full_like(entries[:1], game.largest[1])
    low = -high
    low[:, 0] = 0  # every activation is odd: b and -b have the same absolute value
    return maximise(evaluate, low, high, bend[None], tolerance=tolerance)

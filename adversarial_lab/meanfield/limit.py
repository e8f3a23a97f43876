r"""Lecture, mean field: the limit $N\to\infty$, measured by $W_1$ between clouds of particles."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linprog
from scipy.sparse import identity, kron, vstack
from torch import Tensor

from adversarial_lab.meanfield.game import Game
from adversarial_lab.meanfield.particles import State

_LARGEST = 200_000  # pairs of particles: a linear program of minutes


def w1(
    x: Float[Tensor, "p d"],
    p: Float[Tensor, " p"],
    y: Float[Tensor, "q d"],
    q: Float[Tensor, " q"],
) -> float:
    r"""$W_1=\min_\gamma\sum\gamma_{ij}|x_i-y_j|$ of two weighted clouds, by linear programming.

    Exact, and slow beyond a few hundred particles. The two masses are scaled to one.
    """
    if len(p) * len(q) > _LARGEST:
        raise ValueError(f"{len(p)} x {len(q)} particles: w1 is exact up to {_LARGEST} pairs")
    for name, weight in (("p", p), ("q", q)):
        if not (float(weight.min()) >= 0 and 0 < float(weight.sum()) < math.inf):
            raise ValueError(f"weights {name} must be finite and >= 0 with a positive sum")
    mass = torch.cat([p / p.sum(), q / q.sum()]).double().cpu().numpy()
    cost = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist")
    rows = kron(identity(len(p)), np.ones((1, len(q))))
    columns = kron(np.ones((1, len(p))), identity(len(q)))
    sides = vstack([rows, columns]).tocsr()[:-1]  # one equation follows from the others
    solved = linprog(cost.flatten().cpu().numpy(), A_eq=sides, b_eq=mass[:-1], method="highs")
    if solved.status != 0:
        raise RuntimeError(f"linear program of W1: {solved.message}")
    return float(solved.fun)


@dataclass(frozen=True)
class Distance:
    r"""$W_1(\pi,\pi')$ and $W_1(\nu,\nu')$."""

    plan: float
    neurons: float


def distance(game: Game, first: State, second: State, other: Game | None = None) -> Distance:
    r"""$W_1$ between the plans, on pairs $(z,\tilde z)$, and between the neurons of two states.

    other: the game of the second state, where its data are others.
    """
    one, two = plan(game, first), plan(other or game, second)
    return Distance(w1(*one, *two), w1(first.theta, first.alpha, second.theta, second.alpha))


def plan(game: Game, state: State) -> tuple[Float[Tensor, "p e"], Float[Tensor, " p"]]:
    r"""The atoms $(z_i,\tilde z_{ij})$ of $\pi$ and their masses $\omega_{ij}/n$."""
    origin = game.data[:, None].expand_as(state.z)
    atoms = torch.cat([origin, state.z], -1).flatten(0, 1)
    return atoms, (state.omega / len(game.x)).flatten()

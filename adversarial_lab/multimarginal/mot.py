r"""Lecture, theorem: $(AT)(\mu)=\mu(Z)\,(1-2\inf_\pi\int\mathbf c\,d\pi)$, multimarginal transport.

$\pi$ couples K copies of $\frac{1}{2\mu(Z)}\mu+\frac12\delta_{\mathrm{ghost}}$, K the number of
classes; the cost of a tuple is what is left to a classifier when only the tuple is there:
$\mathbf c(z_1..z_K)=\hat\mu(Z)-(AT)(\hat\mu)$, $\hat\mu=\frac1K\sum_{z_l\ne\mathrm{ghost}}
\delta_{z_l}$. The slides print 1/2 for 2, and do not normalise the mass.
Source: Garcia Trillos, Jacobs and Kim 2023.

There are (n + 1)^K tuples and a game to play for each: a check for n <= 6 or so.
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement, permutations

import numpy as np
from jaxtyping import Float, Int

from adversarial_lab.measures import Numbers, Weights, as_float64
from adversarial_lab.multimarginal.agnostic import (
    Classes,
    Cost,
    Game,
    play,
    with_the_slack,
)
from adversarial_lab.multimarginal.coupling import Table, couple

TUPLES = 20_000  # more are refused


@dataclass(frozen=True, eq=False)
class Transport:
    """An optimal coupling pi, the value of its cost, and the potentials phi, (K, n + 1)."""

    value: float
    pi: Table
    phi: Float[np.ndarray, "K m"]

    def risk(self, mass: float = 1.0, factor: float = 2.0) -> float:
        """(AT) by the theorem; factor=1/2 is what the slides print."""
        return mass * (1 - factor * self.value)


def tuple_game(
    members: tuple[int, ...], cost: Cost, y: Classes
) -> tuple[Int[np.ndarray, " p"], Game | None]:
    """The game of a tuple's points, 1/K each as often as they occur; None if all are ghosts."""
    real = np.array([i for i in members if i < len(y)], int)
    points, counts = np.unique(real, return_counts=True)
    if len(points) == 0:
        return points, None
    return points, play(cost[points], y[points], counts / len(members))


def induced_cost(cost: Numbers, y: Numbers) -> Table:
    r"""$\mathbf c(z_1..z_K)=\hat\mu(Z)-(AT)(\hat\mu)$ for all (n + 1)^K tuples; index n: ghost."""
    cost, y = as_float64(cost, "cost"), np.asarray(y)
    n, classes = len(y), int(y.max()) + 1
    if (n + 1) ** classes > TUPLES:
        raise ValueError(
            f"(n + 1)^K = {n + 1}^{classes} tuples are more than {TUPLES}: use `exact.bound`"
        )
    table = np.zeros((n + 1,) * classes)
    for members in combinations_with_replacement(range(n + 1), classes):
        points, game = tuple_game(members, cost, y)
        if game is not None:
            mass = sum(i < n for i in members) / classes
            for order in set(permutations(members)):
                table[order] = mass - game.value
    return table


def marginal(weights: Numbers) -> Float[np.ndarray, " m"]:
    r"""$\frac{1}{2\mu(Z)}\mu+\frac12\delta_{\mathrm{ghost}}$: what each of the K copies is."""
    w = as_float64(weights, "weights")
    return np.append(w / (2 * w.sum()), 0.5)


def transport(table: Numbers, weights: Numbers) -> Transport:
    r"""$\inf_\pi\int\mathbf c\,d\pi$ over couplings of K equal marginals, as a linear program."""
    axes = as_float64(table, "table").ndim
    solution = couple(table, [marginal(weights)] * axes)
    return Transport(solution.value, solution.pi, np.stack(solution.phi))


def worth(phi: Float[np.ndarray, "K m"]) -> Weights:
    r"""$g(z)=\max\{\sum_j\phi_j(z)+\sum_j\phi_j(\mathrm{ghost}),0\}$: the q of the dual."""
    total = phi.sum(0)
    return np.maximum(total[:-1] + total[-1], 0)


def classifier(
    phi: Float[np.ndarray, "K m"], cost: Cost, y: Classes
) -> Float[np.ndarray, "places K"]:
    r"""$f^*_i(l)=\max\{0,\sup\{g(x,i)-c(x,l)\}\}$ over the points of class i, second theorem.

    Returns f* at every place, (places, K). Points without mass have no g; the sum is at most one,
    and what is left to one may go to any class.
    """
    value = worth(phi)[:, None] - cost
    f = np.zeros((cost.shape[1], int(y.max()) + 1))
    np.maximum.at(f.T, y, value)
    return with_the_slack(f)


def attack(pi: Table, cost: Cost, y: Classes, weights: Weights) -> Cost:
    r"""$\tilde\mu^*=2\mu(Z)\int\tilde\mu_z\,d\pi^*(z)$, each tuple attacked optimally.

    Returns the mass moved from each point to each place. The slides leave out $2\mu(Z)$, without
    which half of the mass, or another part of it, is all that is attacked.
    """
    moved = np.zeros_like(cost)
    for members in zip(*np.nonzero(pi > 0), strict=True):
        points, game = tuple_game(tuple(int(i) for i in members), cost, y)
        if game is not None:
            moved[points] += 2 * weights.sum() * pi[members] * game.moved
    return moved

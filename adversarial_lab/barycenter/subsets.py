r"""Lecture, generalized barycenters by who meets: $\min\sum_A\int(1+c_A)\,d\pi_A$, A the subsets.

$\pi_A\ge0$ couples the measures in A, of any mass; each point's mass is in its couplings, all
together. $c_A$ is the barycenter cost $\inf_{\xi'}\sum_{k\in A}c(\xi_k,\xi')$. For $c_\varepsilon$
it is 0 or inf, and this is the cover by groups; its dual is the packing, with a price:
$\max\sum_i\mu_iq_i$ s.t. $\sum_{k\in A}q(\xi_k)\le1+c_A(\xi)$.
Source: Garcia Trillos, Jacobs and Kim 2023, who call it stratified.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import vstack

from adversarial_lab.barycenter.costs import Points, pairwise_cost
from adversarial_lab.measures import Masses, Numbers, check_masses, incidence, least_cost
from adversarial_lab.multimarginal.coupling import TUPLES, Table

Subset = tuple[int, ...]
Tables = Callable[[Subset], Table]


@dataclass(frozen=True, eq=False)
class Plans:
    """A solved problem: its value, for each subset its tuples and their mass, and q of the dual.

    tuples[A]: (k, m), the points of the k measures in A; masses[A]: (m,), > 0. q[k]: (n_k,).
    """

    value: float
    tuples: dict[Subset, Int[np.ndarray, "_ _"]]
    masses: dict[Subset, Float[np.ndarray, "_"]]
    q: list[Masses]


def squared_price(points: Sequence[Points], price: float) -> Tables:
    r"""$c_A=\tau\min_{\xi'}\sum_{k\in A}|\xi_k-\xi'|^2$, tau the price; met at the mean."""

    if not 0 <= price < np.inf:
        raise ValueError(f"price must be finite and >= 0, got {price}")

    def table(subset: Subset) -> Table:
        some = [points[k] for k in subset]
        return price / len(subset) * pairwise_cost(some, np.square)

    return table


def by_subsets(tables: Tables, measures: Sequence[Numbers]) -> Plans:
    """An optimal set of couplings. tables(A): c_A of all tuples, an axis a measure; any masses.

    Tuples that cost no less than their points one by one are left out.
    """
    sides = check_masses(measures, "measures")
    alone = [_alone(tables((k,)), k) for k in range(len(measures))]
    tuples = {a: _worthwhile(tables(a), [alone[k] for k in a]) for a in _subsets(len(measures))}
    sizes = [len(m) for m in sides]
    offset = np.concatenate([[0], np.cumsum(sizes)])
    prices = np.concatenate([price for _, price in tuples.values()])
    if len(prices) > TUPLES:
        raise ValueError(f"{len(prices)} tuples are worth while, more than {TUPLES}")
    groups = [t.T + offset[list(a)] for a, (t, _) in tuples.items()]
    sums = vstack([incidence(g, int(offset[-1])) for g in groups]).T
    result = least_cost(
        prices, task="the generalized barycenter", A_eq=sums, b_eq=np.concatenate(sides)
    )
    ends = np.cumsum([t.shape[1] for t, _ in tuples.values()])[:-1]
    mass = dict(zip(tuples, np.split(result.x, ends), strict=True))
    return Plans(
        result.fun,
        {a: t[:, mass[a] > 0] for a, (t, _) in tuples.items()},
        {a: m[m > 0] for a, m in mass.items()},
        np.split(result.eqlin.marginals, offset[1:-1]),
    )


def _subsets(k: int) -> list[Subset]:
    return [a for size in range(1, k + 1) for a in combinations(range(k), size)]


def _alone(table: Table, k: int) -> Masses:
    """What a unit of each point costs that meets nobody: 1, where it may stay for nothing."""
    if not np.isfinite(table).all():
        raise ValueError(f"tables(({k},)) must be finite: a point that meets nobody goes somewhere")
    return 1 + table


def _worthwhile(
    table: Table, alone: Sequence[Masses]
) -> tuple[Int[np.ndarray, "k m"], Float[np.ndarray, " m"]]:
    """The single points, or the tuples with 1 + c_A below the sum of those; and their prices."""
    keep = (1 + table < sum(np.ix_(*alone))) | (len(alone) == 1)
    return np.stack(np.nonzero(keep)), 1 + table[keep]

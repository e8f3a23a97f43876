r"""Lecture, multimarginal part: $\max\langle w,q\rangle$ s.t. $\sum_{i\in g}q_i\le1$, and its dual.

q_i is the probability with which a classifier is right on all of N(x_i). The dual is a cover: each
group g gets a mass, and the groups of a point get at least its weight together. It is the attack:
the adversary moves the mass of a group to a point that all its balls share. The best risk is one
minus the value of either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array, vstack

from adversarial_lab.measures import Numbers, Weights, given_or_equal, incidence, solve
from adversarial_lab.multimarginal.groups import common_point, levels, norm_of
from adversarial_lab.transport.neighbours import Conflicts


@dataclass(frozen=True, eq=False)
class Packing:
    """A packing and a cover: the best risk lies in [1 - cover, 1 - packing], gap = the difference.

    q: (n,), in [0, 1]. groups and masses: the attack; arrays of groups of one size, and the mass
    of each. Groups of one point are masses the adversary leaves where they are.
    """

    q: Weights
    groups: Sequence[np.ndarray]
    masses: Sequence[np.ndarray]
    weights: Weights
    kernel: int = 0  # points that groups of three or more decided, in `exact.bound`
    rounds: int = 0  # of cut generation
    order: int = 2  # the largest group that was looked at

    @property
    def risk(self) -> float:
        return float(self.weights @ (1 - self.q))

    @property
    def gap(self) -> float:
        return sum(float(mass.sum()) for mass in self.masses) - (1 - self.risk)


def solve_packing(
    rows: csr_array, weights: Weights, *, method: str = "highs"
) -> tuple[Weights, Float[np.ndarray, " m"]]:
    """An optimal q, feasible to rounding, and the masses of the groups (rows), by HiGHS.

    q is a vertex. method: of scipy's linprog; "highs-ipm" is the fast one for many groups.
    """
    if rows.shape[0] == 0:
        return np.ones(len(weights)), np.zeros(0)
    scale = weights.max()  # else HiGHS would compare weights of 1e-5 with its tolerances
    result = solve(
        -weights / scale,
        task="the packing problem",
        A_ub=rows,
        b_ub=np.ones(rows.shape[0]),
        bounds=(0, 1),
        method=method,
    )
    q = np.clip(result.x, 0, 1)
    return q / max(1.0, (rows @ q).max()), np.maximum(-result.ineqlin.marginals, 0) * scale


def enumerated(
    conflicts: Conflicts,
    norm: str | None = None,
    *,
    weights: Numbers | None = None,
    order: int | None = None,
    rips: bool = False,
) -> Packing:
    """The packing problem with all groups written out, up to `order` points; for small n.

    order=m: the truncated bound L*(m) <= L*, since fewer groups bind. rips: a clique counts as a
    group, which bounds L* from above.
    Source: the published way, Dai et al. 2023; `exact.bound` finds the few groups that matter.
    """
    check_order(order)
    w = given_or_equal(weights, conflicts.n)
    meets = common_point(norm_of(conflicts, norm), rips=rips or order == 2)(conflicts)
    groups = [level.members for level in levels(conflicts, meets, order)]
    nothing = incidence(np.empty((0, 1), int), conflicts.n)
    rows = vstack([nothing, *(incidence(g, conflicts.n) for g in groups)], format="csr")
    q, masses = solve_packing(rows, w)
    cuts = np.cumsum([len(g) for g in groups])[:-1]
    return completed(q, groups, np.split(masses, cuts) if groups else [], w)


def completed(
    q: Weights, groups: Sequence[np.ndarray], masses: Sequence[np.ndarray], weights: Weights
) -> Packing:
    """Weak duality made good: what the masses leave uncovered becomes groups of one point."""
    n = len(weights)
    covered = np.zeros(n)
    for g, mass in zip(groups, masses, strict=True):
        covered += np.bincount(g.ravel(), np.repeat(mass, g.shape[1]), minlength=n)
    alone = np.maximum(weights - covered, 0)
    point: Int[np.ndarray, " m"] = np.flatnonzero(alone)
    used = [mass > 0 for mass in masses]
    return Packing(
        q,
        [point[:, None], *(g[u] for g, u in zip(groups, used, strict=True) if u.any())],
        [alone[point], *(mass[u] for mass, u in zip(masses, used, strict=True) if u.any())],
        weights,
    )


def check_order(order: int | None) -> None:
    if order is not None and (order < 2 or order != int(order)):
        raise ValueError(
            f"order must be a whole number >= 2, or None for groups of any size, got {order}"
        )

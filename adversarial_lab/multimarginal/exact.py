r"""Lecture, multimarginal part: the best risk over groups of any size, at full scale, with proof.

1. Groups of two, exactly (`pairs`): every q is 0, 1/2 or 1.
2. Only the points at 1/2, the kernel, can change when larger groups count. Proof: let V1 and V0 be
   the points at 1 and at 0. Beside a V1 point a group holds V0 points only, so 1 on V1 and 0 on V0
   break no group; and since the pairs' q is optimal, what V1 gains by that is at least what V0
   loses, whatever q was before.
3. The kernel's packing problem by cut generation: solve with some groups, search for violated ones
   (`cuts.search`), add them, solve again. When there is none left, the groups of every size are
   satisfied. Each round is a lower bound of the risk; the last one is the risk.

The masses are a cover and prove that no packing is better: `gap` says how far the two are apart.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int
from scipy.sparse import vstack
from scipy.sparse.csgraph import connected_components
from tqdm.auto import tqdm

from adversarial_lab.measures import Numbers, Weights, given_or_equal, incidence
from adversarial_lab.multimarginal.cuts import chosen, search
from adversarial_lab.multimarginal.groups import (
    Level,
    Meets,
    Members,
    common_point,
    next_level,
    norm_of,
    pairs_level,
)
from adversarial_lab.multimarginal.packing import (
    Packing,
    check_order,
    completed,
    solve_packing,
)
from adversarial_lab.multimarginal.pairs import adjacency, pairs
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels
from adversarial_lab.transport.neighbours import Conflicts, conflicts

FIRST_CUTS = 3  # groups per point added in the first round, twice as many in every later one


def optimal_risk(
    x: Points,
    labels: Labels,
    threat: ThreatModel,
    *,
    weights: Numbers | None = None,
    order: int | None = None,
    rips: bool = False,
    progress: bool = False,
    **finding: Any,
) -> Packing:
    r"""$L^*=\inf_f\mathbb E\max_{x'\in N(x)}(1-f_y(x'))$ over all soft classifiers: lecture, (AT).

    For the measure that puts `weights` (default 1/n) on the points. Exact over groups of any size;
    order=m gives the truncated bound L*(m) <= L*, and rips the bound from above by cliques.
    finding: memory and cache of `transport.conflicts`.
    Shapes: x (n, *d), labels (n,), weights (n,). Errors: those of `bound` and of `conflicts`.
    """
    found = conflicts(x, labels, threat, progress=progress, **finding)
    return bound(found, labels, weights=weights, order=order, rips=rips, progress=progress)


def bound(
    conflicts: Conflicts,
    labels: Labels,
    norm: str | None = None,
    *,
    weights: Numbers | None = None,
    order: int | None = None,
    rips: bool = False,
    progress: bool = False,
) -> Packing:
    """`optimal_risk` from the conflict graph; its q is optimal and its gap about 1e-10.

    norm: that of the graph, and no other. Raises ValueError for one, for weights that are no
    probabilities, an order below 2, and for l1 with groups of three.
    """
    *_, last = cutting(
        conflicts, labels, norm, weights=weights, order=order, rips=rips, progress=progress
    )
    return last


def cutting(
    conflicts: Conflicts,
    labels: Labels,
    norm: str | None = None,
    *,
    weights: Numbers | None = None,
    order: int | None = None,
    rips: bool = False,
    progress: bool = False,
) -> Iterator[Packing]:
    """Yields the optimum for pairs, then that of each round: lower bounds of the risk that rise.

    The first is L*(2), the last the risk itself, and the last one with order <= m is L*(m): larger
    groups are looked at only when all smaller ones are satisfied.
    """
    check_order(order)
    w = given_or_equal(weights, conflicts.n)
    if labels.shape != (conflicts.n,):
        raise ValueError(f"labels must have shape ({conflicts.n},), got {tuple(labels.shape)}")
    test = common_point(norm_of(conflicts, norm), rips=rips)
    classes, y = np.unique(labels.cpu().numpy(), return_inverse=True)
    start = pairs(conflicts, w)
    yield start
    if len(classes) == 2 or order == 2:
        return
    if kernel := _kernel(conflicts, np.flatnonzero(start.q == 0.5), test):
        bar = tqdm(desc="rounds of cuts", leave=False, disable=not progress)
        for result in _rounds(kernel, start, y, w, order):
            bar.update()
            bar.set_postfix_str(f"risk >= {result.risk:.6f}")
            yield result
        bar.close()


@dataclass(frozen=True, eq=False)
class Kernel:
    """The part that larger groups can change, its points numbered by increasing degree."""

    points: Int[np.ndarray, " k"]  # in the numbers of the whole problem
    known: list[Level]  # its groups of two and three
    meets: Meets


def _kernel(
    conflicts: Conflicts, points: Int[np.ndarray, " k"], test: Callable[[Conflicts], Meets]
) -> Kernel | None:
    """Of the points at 1/2, the connected components with a group of three; None without any."""
    part = induced(conflicts, points)
    graph = adjacency(part)
    rank = np.argsort(np.diff(graph.indptr), kind="stable")  # few groups begin at a hub
    points, part = points[rank], induced(conflicts, points[rank])
    meets, edges = test(part), pairs_level(part)
    triples = next_level(edges, meets)
    component = connected_components(adjacency(part), directed=False)[1]
    active = np.isin(component, component[triples.members.ravel()])
    if not active.all():
        return _kernel(conflicts, points[active], test) if active.any() else None
    return Kernel(points, [edges, triples], meets) if len(points) else None


def induced(conflicts: Conflicts, points: Int[np.ndarray, " k"]) -> Conflicts:
    """The conflicts among some points, which become 0, 1, 2, ... in the order given."""
    number = np.full(conflicts.n, -1)
    number[points] = np.arange(len(points))
    i, j = number[conflicts.i], number[conflicts.j]
    inside = (i >= 0) & (j >= 0)
    i, j = np.minimum(i, j)[inside], np.maximum(i, j)[inside]
    distance = conflicts.distance[inside]
    return replace(conflicts, i=i, j=j, distance=distance, n=len(points))


def _rounds(
    kernel: Kernel, start: Packing, labels: Int[np.ndarray, " n"], w: Weights, order: int | None
) -> Iterator[Packing]:
    """Cut generation in the kernel; outside of it, q and masses stay what pairs made them."""
    inside = np.isin(np.arange(len(w)), kernel.points)
    outer = [~inside[g].any(1) for g in start.groups]
    groups, q = [_cover(kernel, start)], start.q.copy()
    per_point, rounds = FIRST_CUTS, 0
    while new := list(_cuts(kernel, q[kernel.points], labels[kernel.points], order, per_point)):
        groups += new
        rows = vstack([incidence(g, len(kernel.points)) for g in groups], format="csr")
        q[kernel.points], masses = solve_packing(rows, w[kernel.points], method="highs-ipm")
        mass = np.split(masses, np.cumsum([len(g) for g in groups])[:-1])
        result = completed(
            q.copy(),
            [g[out] for g, out in zip(start.groups, outer, strict=True)]
            + [kernel.points[g] for g in groups],
            [m[out] for m, out in zip(start.masses, outer, strict=True)] + mass,
            w,
        )
        per_point, rounds = 2 * per_point, rounds + 1
        largest = max(g.shape[1] for g in groups)
        yield replace(result, kernel=len(kernel.points), rounds=rounds, order=largest)


def _cover(kernel: Kernel, start: Packing) -> Members:
    """The pairs of the kernel that carry the mass of the optimal cover by pairs."""
    number = np.full(len(start.q), -1)
    number[kernel.points] = np.arange(len(kernel.points))
    pairs = number[start.groups[-1]]
    return np.unique(np.sort(pairs[(pairs >= 0).all(1)], 1), axis=0)


def _cuts(
    kernel: Kernel,
    q: Weights,
    labels: Int[np.ndarray, " k"],
    order: int | None,
    per_point: int,
) -> Iterator[Members]:
    """Violated groups, of four points and more only when those of two and three are satisfied."""
    found = False
    for members, total in search(kernel.known, q, labels, kernel.meets, order):
        if len(members):
            found = True
            yield members[chosen(members, total, len(q), per_point)]
        if found and members.shape[1] > 2:
            return

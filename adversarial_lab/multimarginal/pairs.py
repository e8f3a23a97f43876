r"""Lecture, multimarginal part: L*(2), the packing with groups of two, whose q is 0, 1/2 or 1.

It is a two-class problem in disguise: take every point twice, once in each of two classes, with
half its weight, and every conflict in both directions (the bipartite double cover). There a point
is given up or not; q_i is one minus half the number of copies of i that are. For equal weights
L*(2) is the size of a maximum matching of the double cover over 2n.
Source: Nemhauser and Trotter 1975.

The points at 1/2 are the kernel. The others keep their value with groups of any size: a group is
a clique of conflicts, so a group with a point at 1 has only points at 0 beside it.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from adversarial_lab.measures import Weights
from adversarial_lab.multimarginal.packing import Packing, completed
from adversarial_lab.transport.neighbours import Conflicts
from adversarial_lab.transport.overlap import optimal_plan


def pairs(conflicts: Conflicts, weights: Weights) -> Packing:
    """The best packing when only conflicting pairs count, with as few halves as we can see."""
    n = conflicts.n
    i, j = np.r_[conflicts.i, conflicts.j], np.r_[conflicts.j, conflicts.i]
    twice = replace(conflicts, i=i, j=j + n, distance=np.tile(conflicts.distance, 2), n=2 * n)
    copy = torch.arange(2).repeat_interleave(n)
    plan = optimal_plan(twice, copy, np.tile(weights / 2, 2))
    q = 1 - plan.given_up.reshape(2, n).sum(0) / 2
    half = np.flatnonzero(q == 0.5)
    begin, end = plan.i.astype(np.int64), plan.j.astype(np.int64) - n
    graph = _among(half, i, j, n)
    q[half] = _decided(graph, graph @ _among(half, end, begin, n))
    members = np.sort(np.stack([begin, end], 1), 1)
    return completed(q, [members], [plan.mass], weights)


def adjacency(conflicts: Conflicts) -> csr_array:
    """The conflict graph, both directions."""
    i, j = np.r_[conflicts.i, conflicts.j], np.r_[conflicts.j, conflicts.i]
    return _matrix(i, j, conflicts.n)


def _among(
    points: Int[np.ndarray, " r"], i: Int[np.ndarray, " m"], j: Int[np.ndarray, " m"], n: int
) -> csr_array:
    """The arcs i -> j between some of n points, numbered as they come."""
    number = np.full(n, -1)
    number[points] = np.arange(len(points))
    i, j = number[i], number[j]
    inside = (i >= 0) & (j >= 0)
    return _matrix(i[inside], j[inside], len(points))


def _matrix(i: Int[np.ndarray, " m"], j: Int[np.ndarray, " m"], n: int) -> csr_array:
    return csr_array((np.ones(len(i), np.float32), (i, j)), shape=(n, n))


def _decided(graph: csr_array, implies: csr_array) -> Float[np.ndarray, " r"]:
    """q on the points at 1/2: 1 and 0 where that loses nothing, 1/2 where we cannot tell.

    implies: u -> v where mass flows from v to a neighbour of u. Every copy here gives and takes
    all its mass, so a set that these arrows do not leave weighs as much as its neighbours: it can
    be 1 and they 0, if no point is in both. We try strongly connected components, those that imply
    no other first.
    Source: Iwata, Oka and Yoshida 2014, who call such solutions extreme.
    """
    q = np.full(graph.shape[0], 0.5)
    count, label = connected_components(implies, directed=True, connection="strong")
    members = np.split(np.argsort(label, kind="stable"), np.cumsum(np.bincount(label))[:-1])
    taken = np.zeros(count, bool)
    begin, near = graph.indptr, graph.indices
    for component in _sinks_first(implies, label, taken):
        points = members[component]
        if (q[points] == 0).any():
            continue
        q[points] = 1
        around = np.concatenate([near[begin[i] : begin[i + 1]] for i in points])
        if (q[around] == 1).any():  # one of the points themselves, or of those taken before
            q[points] = 0.5
            continue
        q[around], taken[component] = 0, True
    return q


def _sinks_first(
    arcs: csr_array, label: Int[np.ndarray, " r"], taken: Bool[np.ndarray, " c"]
) -> Iterator[int]:
    """Yields the components all of whose successors were taken."""
    row, column = np.repeat(label, np.diff(arcs.indptr)), label[arcs.indices]
    back = np.unique(np.stack([column, row], 1)[row != column], axis=0)  # successor, component
    left = np.bincount(back[:, 1], minlength=len(taken))
    start = np.searchsorted(back[:, 0], np.arange(len(taken) + 1))
    ready = np.flatnonzero(left == 0).tolist()
    while ready:
        component = ready.pop()
        yield component
        if taken[component]:
            before = back[start[component] : start[component + 1], 1]
            left[before] -= 1
            ready += before[left[before] == 0].tolist()

r"""$\max\sum_{ij}m_{ij}$ along pairs (i, j), no point giving more than its weight.

i is of one class, j of the other. The solvers of `SOLVERS` find the masses m; by Konig's theorem
their sum is the weight of the smallest set of points that meets every pair, which `cover` finds.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array, csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_bipartite_matching, maximum_flow

from adversarial_lab.measures.masses import Weights
from adversarial_lab.measures.programs import incidence, least_cost

Indices = Int[np.ndarray, " m"]
Mass = Float[np.ndarray, " m"]
CAPACITY = 2**31 - 1  # the largest whole number that scipy's maximum flow can send
NOTHING = 1e-11  # mass below this is rounding; a unit of the flow is more


def fastest(w: Weights) -> str:
    """The key of `SOLVERS` that is quickest for these weights."""
    if w.min() == w.max():
        return "matching"
    return "lp" if _units(w) is None else "flow"


def _units(w: Weights) -> Int[np.ndarray, " n"] | None:
    """The weights as whole multiples of one unit, if there is one that the flow can count in."""
    values, index = np.unique(w, return_inverse=True)
    shares = [Fraction(value).limit_denominator(10**6) for value in values]
    total = math.lcm(*(share.denominator for share in shares))
    if total > CAPACITY or not np.allclose([float(s) for s in shares], values, rtol=1e-13, atol=0):
        return None
    return np.array([int(share * total) for share in shares])[index]


def matching(i: Indices, j: Indices, w: Weights) -> Mass:
    """Each point has at most one partner; every pair moves the weight of a point."""
    if w.min() != w.max():
        raise ValueError("solver 'matching' needs equal weights; use 'flow' or 'lp'")
    partner = maximum_bipartite_matching(_graph(i, j, len(w)), perm_type="column")
    return np.where(partner[i] == j, w[0], 0.0)


def flow(i: Indices, j: Indices, w: Weights) -> Mass:
    """From a source through i and j to a sink, every point passing on its weight at most."""
    if (units := _units(w)) is None:
        raise ValueError("solver 'flow' needs weights that are multiples of one unit; use 'lp'")
    n, left, right = len(w), np.unique(i), np.unique(j)
    source, sink = np.full(len(left), n), np.full(len(right), n + 1)
    begin, end = np.concatenate([i, source, right]), np.concatenate([j, left, sink])
    room = np.concatenate([np.minimum(units[i], units[j]), units[left], units[right]])
    graph = csr_array((room.astype(np.int32), (begin, end)), shape=(n + 2, n + 2))
    sent = csr_matrix(maximum_flow(graph, n, n + 1).flow)
    return np.asarray(sent[i, j]).ravel() / units.sum()


def linear_program(i: Indices, j: Indices, w: Weights) -> Mass:
    """The linear program itself, by HiGHS."""
    load = incidence(np.stack([i, j], 1), len(w)).T.tocsr()
    solution = least_cost(-np.ones(len(i)), task="the matching", A_ub=load, b_ub=w)
    return np.maximum(solution.x, 0)


SOLVERS: dict[str, Callable[[Indices, Indices, Weights], Mass]] = {
    "matching": matching,
    "flow": flow,
    "lp": linear_program,
}


def cover(
    i: Indices, j: Indices, mass: Mass, w: Weights, first: Bool[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Konig: what cannot be reached from weight to spare in the first class, and what can in the
    second. Steps go along any conflict to the second class, and back along conflicts with mass.
    """
    n, used = len(w), mass > NOTHING
    spare = first & (w - np.bincount(i, mass, n) > NOTHING)
    begin = np.concatenate([i, j[used], np.full(spare.sum(), n)])
    end = np.concatenate([j, i[used], np.flatnonzero(spare)])
    reached = np.zeros(n + 1, bool)
    order = breadth_first_order(_graph(begin, end, n + 1), n, return_predecessors=False)
    reached[order] = True
    return np.where(first, ~reached[:n], reached[:n])


def _graph(begin: Indices, end: Indices, n: int) -> csr_array:
    return csr_array((np.ones(len(begin), np.int8), (begin, end)), shape=(n, n))

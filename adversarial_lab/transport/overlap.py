r"""Section 17.6.6: $D_N(P_0,P_1)=\inf_\pi\pi\{\|x-x'\|>2\varepsilon\}$ and $L^*=\frac12(1-D_N)$.

The coupling that costs least moves as much mass as it can along the conflicts: a maximum matching
when all points weigh the same, a maximum flow otherwise. By duality (Konig's theorem) that mass is
the weight of the smallest set of points whose removal leaves no conflict: those that the optimal
classifier gives up. With priors pi the same program on (pi_0 P_0, pi_1 P_1) gives L* itself.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array, csr_array, csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_bipartite_matching, maximum_flow
from torch import Tensor

from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels
from adversarial_lab.transport.neighbours import Conflicts, conflicts
from adversarial_lab.transport.program import least_cost

Weights = Float[np.ndarray, " n"]
Indices = Int[np.ndarray, " m"]
Mass = Float[np.ndarray, " m"]
CAPACITY = 2**31 - 1  # the largest whole number that scipy's maximum flow can send
ENOUGH = 1e-9  # how far apart the primal and the dual value may be
NOTHING = 1e-11  # mass below this is rounding; a unit of the flow is more


@dataclass(frozen=True, eq=False)
class Plan:
    """The optimal sub-coupling: `mass` moved on pairs (i, j), i of the smaller label.

    risk: its total mass, the optimal risk L*. given_up: the points on which the optimal classifier
    errs; they weigh `risk` too, and without them there is no conflict.
    """

    i: Indices
    j: Indices
    mass: Mass
    risk: float
    given_up: Bool[np.ndarray, " n"]


def optimal_risk(
    x: Points, labels: Labels, threat: ThreatModel, weights: Weights | None = None
) -> float:
    r"""$L_N^*=\inf_hL_N(h)$ over all classifiers, Section 17.6.5, for n weighted points.

    Two classes, closed balls. weights (n,) sum to one; by default every point weighs 1/n.
    """
    return optimal_plan(conflicts(x, labels, threat), labels, weights).risk


def divergence(
    x0: Points,
    x1: Float[Tensor, "m *d"],
    threat: ThreatModel,
    weights0: Weights | None = None,
    weights1: Float[np.ndarray, " m"] | None = None,
) -> float:
    r"""$D_N(P_0,P_1)=1-2L^*$ of two weighted samples with equal priors, Section 17.6.6.

    Weights sum to one in each sample; by default they are equal. D_N is in [0, 1], symmetric, and
    no metric: it is 0 for different samples within 2 eps, and breaks the triangle inequality.
    """
    labels = torch.cat([torch.zeros(len(x0)), torch.ones(len(x1))]).long()
    given = (weights0, weights1)
    if min(len(x0), len(x1)) == 0:
        raise ValueError(f"x0 and x1 must hold points, got {len(x0)} and {len(x1)} of them")
    halves = [
        np.full(len(x), 0.5 / len(x)) if w is None else check_weights(w, len(x), f"weights{k}") / 2
        for k, (x, w) in enumerate(zip((x0, x1), given, strict=True))
    ]
    return 1 - 2 * optimal_risk(torch.cat([x0, x1]), labels, threat, np.concatenate(halves))


def class_weights(labels: Labels, priors: Sequence[float] = (0.5, 0.5)) -> Weights:
    r"""$\pi_y/n_y$ for each point: the classes weigh `priors`, in the order of their labels."""
    classes, index, counts = labels.unique(return_inverse=True, return_counts=True)
    shares = check_weights(np.asarray(priors, float), len(classes), "priors")
    return (shares / counts.cpu().numpy())[index.cpu().numpy()]


def optimal_plan(
    found: Conflicts, labels: Labels, weights: Weights | None = None, solver: str | None = None
) -> Plan:
    r"""$\max_\mu\sum_{ij}\mu_{ij}$ over conflicts, no point giving more than its weight (17.6.6).

    The value is L*. solver: a key of `SOLVERS`; by default the matching for equal weights, the
    flow where the weights are multiples of one unit (both in whole numbers), else the LP.
    Shapes: labels (n,) with two values, weights (n,) summing to one, by default 1/n.
    """
    if labels.shape != (found.n,):
        raise ValueError(f"labels must have shape ({found.n},), got {tuple(labels.shape)}")
    if len(classes := labels.unique()) != 2:
        raise ValueError(f"labels must name two classes, got {classes.tolist()}")
    w = np.full(found.n, 1 / found.n) if weights is None else check_weights(weights, found.n)
    name = solver or _fastest(w)
    if name not in SOLVERS:
        raise ValueError(f"solver must be one of {sorted(SOLVERS)}, got {solver!r}")
    first = (labels == classes[0]).cpu().numpy()
    swap = ~first[found.i]
    i, j = np.where(swap, found.j, found.i), np.where(swap, found.i, found.j)
    mass = SOLVERS[name](i, j, w) if len(i) else np.zeros(0)
    given_up = _cover(i, j, mass, w, first)
    risk, dual = mass.sum().item(), w[given_up].sum()
    if abs(risk - dual) > ENOUGH:
        raise RuntimeError(f"solver {name!r} is not optimal: it moves {risk}, the cover has {dual}")
    sent = mass > 0
    return Plan(i[sent], j[sent], mass[sent], risk, given_up)


def check_weights(weights: Weights, n: int, name: str = "weights") -> Weights:
    """The weights in float64, if they are n numbers >= 0 that sum to one."""
    weights = np.asarray(weights, float)
    if weights.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {weights.shape}")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(f"{name} must be finite and >= 0, the least is {weights.min()}")
    if abs(weights.sum() - 1) > ENOUGH:
        raise ValueError(f"{name} must sum to one, got {weights.sum()}")
    return weights


def _fastest(w: Weights) -> str:
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


def _matching(i: Indices, j: Indices, w: Weights) -> Mass:
    """Each point has at most one partner; every pair moves the weight of a point."""
    if w.min() != w.max():
        raise ValueError("solver 'matching' needs equal weights; use 'flow' or 'lp'")
    partner = maximum_bipartite_matching(_graph(i, j, len(w)), perm_type="column")
    return np.where(partner[i] == j, w[0], 0.0)


def _flow(i: Indices, j: Indices, w: Weights) -> Mass:
    """From a source through i and j to a sink, every point passing on its weight at most."""
    if (units := _units(w)) is None:
        raise ValueError("solver 'flow' needs weights that are multiples of one unit; use 'lp'")
    n, left, right = len(w), np.unique(i), np.unique(j)
    source, sink = np.full(len(left), n), np.full(len(right), n + 1)
    begin, end = np.concatenate([i, source, right]), np.concatenate([j, left, sink])
    room = np.concatenate([np.minimum(units[i], units[j]), units[left], units[right]])
    graph = csr_array((room.astype(np.int32), (begin, end)), shape=(n + 2, n + 2))
    flow = csr_matrix(maximum_flow(graph, n, n + 1).flow)
    return np.asarray(flow[i, j]).ravel() / units.sum()


def _lp(i: Indices, j: Indices, w: Weights) -> Mass:
    """The linear program itself, by HiGHS."""
    m = len(i)
    ends = (np.concatenate([i, j]), np.concatenate([np.arange(m)] * 2))
    load = coo_array((np.ones(2 * m), ends), shape=(len(w), m)).tocsr()
    solution = least_cost(-np.ones(m), A_ub=load, b_ub=w)
    if not solution.success:
        raise RuntimeError(f"solver 'lp' failed: {solution.message}")
    return np.maximum(solution.x, 0)


SOLVERS: dict[str, Callable[[Indices, Indices, Weights], Mass]] = {
    "matching": _matching,
    "flow": _flow,
    "lp": _lp,
}


def _cover(
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

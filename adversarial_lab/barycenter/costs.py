r"""Lecture, the costs: $\sum_{i<j}f(d(\xi_i,\xi_j))$ and $\inf_{\xi'}\sum_ic(\xi_i,\xi')$.

The first is the cost of particles that attract or repel each other, the second that of a meeting:
all travel to the place where it costs least. With $c=|\xi-\xi'|^2$ and weights, the second is a
case of the first: $\sum_{i<j}\lambda_i\lambda_j|\xi_i-\xi_j|^2$, met at the weighted mean.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from adversarial_lab.measures import Numbers, Weights, as_float64, check_weights
from adversarial_lab.multimarginal.coupling import Table

Points = Float[np.ndarray, "_ d"]
Cost = Float[np.ndarray, "_ places"]


def distances(a: Points, b: Points) -> Float[np.ndarray, "n m"]:
    return np.sqrt(((a[:, None] - b) ** 2).sum(-1))


def coulomb(r: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """1/r, the repulsion of two electrons; inf where they meet."""
    with np.errstate(divide="ignore"):
        return 1 / r


def pairwise_cost(
    points: Sequence[Points],
    f: Callable[[Float[np.ndarray, "n m"]], Float[np.ndarray, "n m"]],
    weights: Numbers | None = None,
) -> Table:
    r"""$\sum_{i<j}\lambda_i\lambda_jf(|\xi_i-\xi_j|)$ for all tuples; K axes, weights 1 if None."""
    k = len(points)
    lam = _factors(weights, k)
    table = np.zeros([len(p) for p in points])
    for i, j in combinations(range(k), 2):
        pair = times(lam[i] * lam[j], f(distances(points[i], points[j])))
        table = table + np.expand_dims(pair, [axis for axis in range(k) if axis not in (i, j)])
    return table


def meeting_cost(
    costs: Sequence[Numbers], weights: Numbers | None = None
) -> tuple[Table, Int[np.ndarray, "..."]]:
    r"""$\mathbf c=\min_l\sum_k\lambda_kc_k(\xi_k,l)$ over the places l, and the l that attains it.

    costs[k]: (n_k, places), what it costs the points of measure k to get there; weights 1 if None.
    """
    ways = [as_float64(c, "costs") for c in costs]
    shape, places = tuple(len(c) for c in ways), ways[0].shape[1]
    if any(c.shape[1] != places for c in ways):
        raise ValueError(f"costs must have one set of places, got {[c.shape for c in ways]}")
    lam = _factors(weights, len(ways))
    table, where = np.full(shape, np.inf), np.zeros(shape, int)
    for place in range(places):
        here = sum(_along(times(lam[k], c[:, place]), k, len(ways)) for k, c in enumerate(ways))
        better = here < table
        table, where = np.where(better, here, table), np.where(better, place, where)
    return table, where


def mean_place(points: Sequence[Numbers], weights: Numbers) -> Float[np.ndarray, "... d"]:
    """The weighted mean of every tuple: where points meet that pay the squared distance."""
    k = len(points)
    w = check_weights(weights, k)
    terms = [
        np.expand_dims(w[i] * as_float64(p, "points"), [axis for axis in range(k) if axis != i])
        for i, p in enumerate(points)
    ]
    return sum(terms[1:], terms[0])


def times(weight: float, cost: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """weight times cost. A forbidden way, of cost inf, is forbidden at weight 0 too."""
    return np.multiply(weight, cost, out=np.full(cost.shape, np.inf), where=cost != np.inf)


def _factors(weights: Numbers | None, k: int) -> Weights:
    """Ones, or the weights if they are k finite numbers >= 0, of any sum."""
    lam = np.ones(k) if weights is None else as_float64(weights, "weights")
    if lam.shape != (k,) or not ((lam >= 0) & (lam < np.inf)).all():
        raise ValueError(f"weights must be {k} finite numbers >= 0, got {weights}")
    return lam


def _along(v: Float[np.ndarray, " n"], axis: int, ndim: int) -> Table:
    return np.expand_dims(v, tuple(k for k in range(ndim) if k != axis))

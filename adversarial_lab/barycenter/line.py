r"""Lecture, barycenters on the line: quantiles are averaged, $Q_\rho=\sum_k\lambda_kQ_{\rho_k}$.

Behind it is one coupling for every number of measures: the u-th quantiles go together. It is
optimal for every cost $\inf_{\xi'}\sum_k\lambda_kh(\xi_k-\xi')$ with h convex, since that cost is
submodular; no linear program is needed, and a million points are no trouble.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from adversarial_lab.measures import Masses, Numbers, as_float64, check_one_total, check_weights

Line = Float[np.ndarray, "_"]
TINY = 1e-13  # of the total mass: quantile levels closer than this are one


@dataclass(frozen=True)
class Chain:
    """A coupling that climbs: tuple t holds point index[k, t] of measure k, and mass[t]."""

    mass: Line
    index: Int[np.ndarray, "K m"]


def comonotone(marginals: Sequence[Numbers]) -> Chain:
    """The coupling of the u-th quantiles, of at most sum(n_k) tuples.

    marginals: masses on points in ascending order, >= 0, of one total mass.
    """
    sides = check_one_total(marginals)
    levels = [np.cumsum(side)[:-1] for side in sides]
    edges = _apart(np.sort(np.concatenate(levels)), float(sides[0].sum()))
    middle = (edges[1:] + edges[:-1]) / 2
    index = np.stack([np.searchsorted(level, middle) for level in levels])
    return Chain(np.diff(edges), index)


def _apart(levels: Line, total: float) -> Line:
    """0, the levels, the total; what lies within rounding of the one before counts once."""
    inside = levels[(levels > TINY * total) & (levels < (1 - TINY) * total)]
    return np.concatenate([[0.0], inside[np.diff(inside, prepend=0.0) > TINY * total], [total]])


def quantile_average(
    points: Sequence[Numbers], marginals: Sequence[Numbers], weights: Numbers
) -> tuple[Line, Line]:
    r"""The barycenter $Q_\rho=\sum_k\lambda_kQ_{\rho_k}$: its points, ascending, and their masses.

    points: (n_k,) in any order, with masses of one total; weights >= 0, sum one. It minimises
    $\sum_k\lambda_kW_2^2(\rho_k,\rho)$ over all measures, on a grid or not.
    """
    lam = check_weights(weights, len(points))
    sides = [_ascending(x, masses) for x, masses in zip(points, marginals, strict=True)]
    chain = comonotone([masses for _, masses in sides])
    quantiles = [x[i] for (x, _), i in zip(sides, chain.index, strict=True)]
    return lam @ np.stack(quantiles), chain.mass


def cost_between(x: Numbers, a: Numbers, y: Numbers, b: Numbers, p: float = 2.0) -> float:
    r"""$W_p^p=\int|Q_a(u)-Q_b(u)|^pdu$, exact; p >= 1."""
    if not p >= 1:
        raise ValueError(f"p must be >= 1, got {p}: below, the monotone coupling is not optimal")
    (x, a), (y, b) = _ascending(x, a), _ascending(y, b)  # in float64 from here on
    chain = comonotone([a, b])
    return float(chain.mass @ np.abs(x[chain.index[0]] - y[chain.index[1]]) ** p)


def _ascending(x: Numbers, masses: Numbers) -> tuple[Line, Masses]:
    """The points in ascending order, each with its mass."""
    x, masses = as_float64(x, "points"), as_float64(masses, "marginals")
    if x.shape != masses.shape or not np.isfinite(x).all():
        raise ValueError(
            f"points must be finite, one for each mass, got {x.shape} for {masses.shape} masses"
        )
    order = np.argsort(x, kind="stable")
    return x[order], masses[order]

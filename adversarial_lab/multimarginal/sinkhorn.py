r"""Lecture, multimarginal transport by entropic regularisation: what off-the-shelf solvers do.

$\min_\pi\int c\,d\pi+\eta\,\mathrm{KL}(\pi\,\|\,\rho_1\otimes\dots\otimes\rho_K)$, solved by
scaling one marginal after the other (Sinkhorn; Benamou et al. 2015 for several marginals). The
coupling is blurred: its cost is too high, by about eta times a constant, so the risk that
`sinkhorn` reports for the lecture's theorem is too low.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from adversarial_lab.measures import Numbers, as_float64
from adversarial_lab.multimarginal.coupling import Table, check_marginals
from adversarial_lab.multimarginal.mot import marginal


@dataclass(frozen=True, eq=False)
class Step:
    """After one round over all marginals: the coupling, its cost, and how far it is from one.

    error: the largest total variation between its marginals and the given ones.
    """

    value: float
    error: float
    pi: Table


def sinkhorn(
    table: Numbers,
    weights: Numbers,
    *,
    eta: float,
    steps: int = 1000,
    tolerance: float = 1e-9,
) -> Iterator[Step]:
    """`scaling` for the theorem's problem: every marginal half the weights, half the ghost.

    table: the cost of every tuple, K axes of n + 1 entries.
    """
    table = as_float64(table, "table")
    sides = [marginal(weights)] * table.ndim
    yield from scaling(table, sides, eta=eta, steps=steps, tolerance=tolerance)


def scaling(
    table: Numbers,
    marginals: Sequence[Numbers],
    *,
    eta: float,
    steps: int = 1000,
    tolerance: float = 1e-9,
) -> Iterator[Step]:
    """Yields a `Step` a round until the marginals are right to `tolerance`, or `steps` are done.

    table: the cost of every tuple, inf for a forbidden one. eta > 0: in units of the cost.
    Works on logarithms, so a small eta is slow but does not overflow.
    """
    if not (eta > 0 and np.isfinite(eta)):
        raise ValueError(f"eta must be finite and > 0, got {eta}: without entropy use `couple`")
    table, marginals = check_marginals(table, marginals)
    some = [np.flatnonzero(side) for side in marginals]  # a point without mass takes no part
    inner = table[np.ix_(*some)]
    if any(np.isinf(inner).all(_others(axis, inner.ndim)).any() for axis in range(inner.ndim)):
        raise ValueError("table is inf on every tuple of a point that has mass")
    sides = [side[i] for side, i in zip(marginals, some, strict=True)]
    log_sides = [_along(np.log(side), axis, table.ndim) for axis, side in enumerate(sides)]
    log_pi = -inner / eta + sum(log_sides)
    for _ in range(steps):
        for axis, log_side in enumerate(log_sides):
            log_pi = log_pi + log_side - _along(_log_marginal(log_pi, axis), axis, table.ndim)
        found = [np.exp(_log_marginal(log_pi, axis)) for axis in range(table.ndim)]
        error = max(float(np.abs(f - s).sum()) / 2 for f, s in zip(found, sides, strict=True))
        pi = np.zeros(table.shape)
        pi[np.ix_(*some)] = np.exp(log_pi)
        yield Step(float(pi[pi > 0] @ table[pi > 0]), error, pi)
        if error <= tolerance:
            return


def _log_marginal(log_pi: Float[np.ndarray, "..."], axis: int) -> Float[np.ndarray, " m"]:
    return logsumexp(log_pi, axis=_others(axis, log_pi.ndim))


def _along(v: Float[np.ndarray, " m"], axis: int, ndim: int) -> Float[np.ndarray, "..."]:
    return np.expand_dims(v, _others(axis, ndim))


def _others(axis: int, ndim: int) -> tuple[int, ...]:
    return tuple(k for k in range(ndim) if k != axis)

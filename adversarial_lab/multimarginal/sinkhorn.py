r"""Lecture, multimarginal transport by entropic regularisation: what off-the-shelf solvers do.

$\min_\pi\int\mathbf c\,d\pi+\eta\,\mathrm{KL}(\pi\,\|\,m\otimes\dots\otimes m)$, solved by scaling
one marginal after the other (Sinkhorn; Benamou et al. 2015 for several marginals). The coupling is
blurred: its cost is too high, by about eta times a constant, so the risk it reports is too low.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from adversarial_lab.multimarginal.mot import marginal


@dataclass(frozen=True)
class Step:
    """After one round over all marginals: the cost of the coupling, and how far it is from one.

    error: the largest total variation between its marginals and the given ones.
    """

    value: float
    error: float


def sinkhorn(
    table: Float[np.ndarray, "..."],
    weights: Float[np.ndarray, " n"],
    *,
    eta: float,
    steps: int = 1000,
    tolerance: float = 1e-9,
) -> Iterator[Step]:
    """Yields a `Step` a round until the marginals are right to `tolerance`, or `steps` are done.

    table: the cost of every tuple, K axes of n + 1 entries. eta > 0: in units of the cost.
    Works on logarithms, so a small eta is slow but does not overflow.
    """
    if not (eta > 0 and np.isfinite(eta)):
        raise ValueError(f"eta must be finite and > 0, got {eta}: without entropy use `transport`")
    side = marginal(weights)
    with np.errstate(divide="ignore"):
        log_side = np.log(side)
    log_pi = -table / eta
    for axis in range(table.ndim):
        log_pi = log_pi + _along(log_side, axis, table.ndim)
    for _ in range(steps):
        for axis in range(table.ndim):
            log_pi = log_pi + _along(log_side - _log_marginal(log_pi, axis), axis, table.ndim)
        sides = [np.exp(_log_marginal(log_pi, axis)) for axis in range(table.ndim)]
        error = max(float(np.abs(found - side).sum()) / 2 for found in sides)
        yield Step(float((np.exp(log_pi) * table).sum()), error)
        if error <= tolerance:
            return


def _log_marginal(log_pi: Float[np.ndarray, "..."], axis: int) -> Float[np.ndarray, " m"]:
    others = tuple(k for k in range(log_pi.ndim) if k != axis)
    return logsumexp(log_pi, axis=others)


def _along(v: Float[np.ndarray, " m"], axis: int, ndim: int) -> Float[np.ndarray, "..."]:
    return np.expand_dims(v, tuple(k for k in range(ndim) if k != axis))

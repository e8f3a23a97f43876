r"""Lecture, barycenters of images by entropy: $\min_\rho\sum_k\lambda_kC_\eta(\rho_k,\rho)$.

$C_\eta$ is transport plus $\eta$ times relative entropy. Each measure has two scalings, updated in
turn (Benamou et al. 2015), here as logarithms: no eta is too small for the numbers, only for
patience. The result is blurred by about sqrt(eta). The debiased version (Janati, Cuturi and
Gramfort 2020) divides that out: the barycenter of equal measures is the measure again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from adversarial_lab.measures import Numbers, Weights, as_float64, check_weights

Grid = Float[np.ndarray, "*grid"]
Kernel = Float[np.ndarray, "_ _"]  # -cost / eta along one axis


@dataclass(frozen=True, eq=False)
class Step:
    """The barycenter so far, and the largest total variation between a measure and its plan's.

    Debiased, there is one plan more, from the barycenter to itself.
    """

    rho: Grid
    error: float


def axis_cost(n: int) -> Float[np.ndarray, "n n"]:
    """Squared distances of n pixels in a row of length one."""
    x = np.arange(n) / n
    return (x[:, None] - x) ** 2


def entropic(
    measures: Numbers,
    weights: Numbers,
    *,
    eta: float,
    debiased: bool = False,
    steps: int = 200,
    tolerance: float = 1e-6,
) -> Iterator[Step]:
    """Yields a `Step` a round until the plans' marginals are right to `tolerance`.

    measures: masses on a grid of any dimension, each of sum one. The cost is the squared distance
    in a box whose sides have length one, and so is the unit of eta > 0. It is a sum over the axes:
    a round costs K m^(d+1) operations for m^d pixels, not K m^(2d).
    """
    measures, lam = _checked(measures, weights, eta)
    lam = lam.reshape(-1, *[1] * (measures.ndim - 1))
    kernels = [-axis_cost(n) / eta for n in measures.shape[1:]]
    with np.errstate(divide="ignore"):
        goal = np.log(measures)
    prior = np.zeros(measures.shape[1:])
    spread = smooth(np.zeros_like(goal), kernels)
    for _ in range(steps):
        arrived = smooth(goal - spread, kernels)
        log_rho = (lam * arrived).sum(0) + prior
        previous, spread = spread, smooth(log_rho - arrived, kernels)
        error = _variation(np.exp(goal - previous + spread), measures)
        rho = np.exp(log_rho - log_rho.max())
        rho = rho / rho.sum()
        if debiased:
            to_itself = prior + smooth(prior[None], kernels)[0]
            error = max(error, _variation(np.exp(to_itself)[None], rho[None]))
            prior = prior + (log_rho - to_itself) / 2
        yield Step(rho, error)
        if error <= tolerance:
            return


def _variation(a: Float[np.ndarray, "K *grid"], b: Float[np.ndarray, "K *grid"]) -> float:
    """The largest total variation between two measures of the same number."""
    return float(np.abs(a - b).reshape(len(a), -1).sum(1).max()) / 2


def smooth(
    log_f: Float[np.ndarray, "K *grid"], kernels: Sequence[Kernel]
) -> Float[np.ndarray, "K *grid"]:
    r"""$\log\sum_je^{k_{ij}+f_j}$, one axis after the other; the largest term leads each sum."""
    for axis, kernel in enumerate(kernels, start=1):
        terms = np.moveaxis(log_f, axis, -1)[..., None, :] + kernel
        top = terms.max(-1, keepdims=True)
        top = np.where(np.isfinite(top), top, 0.0)  # a line without mass stays -inf
        with np.errstate(divide="ignore"):
            sums = np.log(np.exp(terms - top).sum(-1)) + top[..., 0]
        log_f = np.moveaxis(sums, -1, axis)
    return log_f


def _checked(
    measures: Numbers, weights: Numbers, eta: float
) -> tuple[Float[np.ndarray, "K *grid"], Weights]:
    if not (eta > 0 and np.isfinite(eta)):
        raise ValueError(f"eta must be finite and > 0, got {eta}")
    grids = as_float64(measures, "measures")
    rows = [check_weights(m.ravel(), m.size, "measures") for m in grids]
    return np.stack(rows).reshape(grids.shape), check_weights(weights, len(grids))

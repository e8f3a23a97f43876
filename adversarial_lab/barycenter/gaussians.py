r"""Lecture, Gaussian barycenters: $S=\sum_k\lambda_k(S^{1/2}\Sigma_kS^{1/2})^{1/2}$.

The barycenter of Gaussians is Gaussian, with the mean of the means (Agueh and Carlier 2011). Its
covariance is found by the fixed-point iteration of Alvarez-Esteban et al. (2016). Where
covariances commute, as on the line, their roots are averaged:
$S^{1/2}=\sum_k\lambda_k\Sigma_k^{1/2}$.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from adversarial_lab.measures import Numbers, as_float64, check_weights

Matrix = Float[np.ndarray, "d d"]
Matrices = Float[np.ndarray, "K d d"]
THIN = 1e-9  # of the largest eigenvalue: in between steps, what is below gets lost in rounding
CLOSE = 1e-5  # a larger residual is no longer the rounding of unequal axes


@dataclass(frozen=True)
class Step:
    r"""A covariance, and $\|I-\sum_k\lambda_kT_k\|_F$, zero at the barycenter.

    T_k is the linear map that transports it to the k-th Gaussian.
    """

    cov: Matrix
    residual: float


def root(cov: Float[np.ndarray, "*K d d"]) -> Float[np.ndarray, "*K d d"]:
    """The symmetric square root of covariances; rounding below zero counts as zero."""
    values, vectors = np.linalg.eigh(cov)
    return (vectors * np.sqrt(values.clip(0))[..., None, :]) @ vectors.swapaxes(-1, -2)


def squared_distance(a: Matrix, b: Matrix) -> float:
    r"""$W_2^2$ of centred Gaussians: $\mathrm{tr}(A+B-2(A^{1/2}BA^{1/2})^{1/2})$."""
    half = root(a)
    return float(np.trace(a + b - 2 * root(half @ b @ half)))


def fixed_point(
    covs: Numbers, weights: Numbers, *, steps: int = 200, tolerance: float = 1e-12
) -> Iterator[Step]:
    r"""$S\leftarrow S^{-1/2}\big(\sum_k\lambda_k(S^{1/2}\Sigma_kS^{1/2})^{1/2}\big)^2S^{-1/2}$.

    covs: positive definite. Yields a `Step` an iteration, the start included, until the residual
    is at most `tolerance`.
    """
    covs = as_float64(covs, "covs")
    weights = check_weights(weights, len(covs))
    if not np.allclose(covs, covs.swapaxes(1, 2)):  # NaN is caught here too
        raise ValueError("covs must be symmetric and finite")
    values = np.linalg.eigvalsh(covs)
    if values.min() <= THIN * values.max():
        raise ValueError(
            f"covs must be positive definite, with eigenvalues above {THIN:g} times the largest,"
            f" {values.max():.3g}; the least is {values.min():.3g}"
        )
    cov = np.einsum("k,kij->ij", weights, covs)
    for _ in range(steps):
        half = root(cov)
        inverse = np.linalg.inv(half)
        mean = np.einsum("k,kij->ij", weights, root(half @ covs @ half))
        maps = inverse @ mean @ inverse
        yield Step(cov, float(np.linalg.norm(np.eye(len(cov)) - maps)))
        if np.linalg.norm(np.eye(len(cov)) - maps) <= tolerance:
            return
        cov = maps @ cov @ maps


def gaussian_barycenter(
    means: Numbers, covs: Numbers, weights: Numbers
) -> tuple[Float[np.ndarray, " d"], Matrix]:
    """The mean and the covariance of the barycenter.

    RuntimeError where the iteration does not get there: `fixed_point` shows its steps.
    """
    *_, last = fixed_point(covs, weights)
    if last.residual > CLOSE:
        raise RuntimeError(f"covs are too thin: the residual is still {last.residual:.1e}")
    return check_weights(weights, len(covs)) @ as_float64(means, "means"), last.cov

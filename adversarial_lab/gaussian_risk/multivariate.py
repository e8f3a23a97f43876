r"""Section 17.6.3 in $\mathbb R^d$: $X|Y=k\sim N(\mu_k,\Sigma)$, and the linear classifier.

With $\mu=(\mu_1-\mu_0)/2$ and the ball B of the threat, everything follows from one convex program,
$\alpha=\min_{z\in\varepsilon B}\|\mu-z\|_{\Sigma^{-1}}$: the adversary moves the means as close
together as it can, and no classifier does better than on what is left. Source: Bhagoji, Cullina,
Mittal 2019; Dan, Wei, Ravikumar 2020.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.linalg import solve_triangular
from scipy.optimize import brentq, lsq_linear
from torch import Tensor

from adversarial_lab.gaussian_risk.univariate import (
    Pair,
    check_prior,
    normal_cdf,
)
from adversarial_lab.norms import row_of
from adversarial_lab.threat import ThreatModel

Vector = Float[Tensor, " d"]
Matrix = Float[Tensor, "d d"]


@dataclass(frozen=True, kw_only=True)
class SharedCovariance:
    r"""$X|Y=k\sim N(\mu_k,\Sigma)$ with $P(Y=k)=\pi_k$ in $\mathbb R^d$.

    Raises ValueError on values that are not finite, a cov that is not symmetric and positive
    definite, and priors that are not positive or do not sum to one.
    """

    mu0: Vector
    mu1: Vector
    cov: Matrix
    prior: Pair = (0.5, 0.5)

    def __post_init__(self) -> None:
        for name in ("mu0", "mu1", "cov"):
            if not getattr(self, name).isfinite().all():
                raise ValueError(f"{name} must be finite, got NaN or inf values")
        d = len(self.mu0)
        if len(self.mu1) != d or self.cov.shape != (d, d):
            raise ValueError(
                f"mu0, mu1 and cov must have shapes (d,), (d,), (d, d), got"
                f" {tuple(self.mu0.shape)}, {tuple(self.mu1.shape)}, {tuple(self.cov.shape)}"
            )
        symmetric = torch.allclose(self.cov, self.cov.T, rtol=1e-5, atol=0)
        smallest = torch.linalg.eigvalsh(self.cov.double())[0].item()
        if not (symmetric and smallest > 0):
            raise ValueError(
                "cov must be symmetric and positive definite, got smallest eigenvalue"
                f" {smallest:.3g}, symmetric: {symmetric} (add a small multiple of the identity)"
            )
        check_prior(self.prior)


@dataclass(frozen=True)
class Contraction:
    r"""The solution of $\min_{z\in\varepsilon B}\|\mu-z\|_{\Sigma^{-1}}$ with its certificate.

    z: the adversary's shift. w = Sigma^-1 (mu - z). primal: the value at z, an upper bound on
    alpha. dual: $(w^\top\mu-\varepsilon\|w\|_*)/\sqrt{w^\top\Sigma w}$, what the linear classifier
    w guarantees, a lower bound on alpha (0 where it is negative).
    """

    z: Float[Tensor, " d"]
    w: Float[Tensor, " d"]
    primal: float
    dual: float

    @property
    def gap(self) -> float:
        """primal - dual: the true alpha lies between them."""
        return self.primal - self.dual


@dataclass(frozen=True)
class LinearClassifier:
    """Class 1 where w.x > c, class 0 elsewhere; w = 0 is a constant."""

    w: Vector
    c: float

    def predict(self, x: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """The class of each row."""
        return (x.to(self.w) @ self.w > self.c).long()

    def errs(self, x: Float[Tensor, "n d"], y: Int[Tensor, " n"], threat: ThreatModel) -> Tensor:
        r"""True where $\min_{x'\in N(x)}$ of the signed margin is not positive: Section 17.6.1.

        The adversary takes exactly eps times the dual norm of w from the margin; no box.
        """
        score = x.to(self.w) @ self.w - self.c
        reach = _reach(self.w, threat)
        return torch.where(y == 1, score - reach <= 0, score + reach > 0)

    def risk(self, model: SharedCovariance, threat: ThreatModel) -> float:
        r"""$\sum_k\pi_k\Phi(\cdot)$, the exact adversarial risk: a Gaussian score moved by eps."""
        w = self.w.double()
        spread = math.sqrt(w @ model.cov.double() @ w)
        reach = _reach(w, threat)
        slack0 = self.c - (w @ model.mu0.double()).item() - reach  # >= 0: class 0 is right
        slack1 = (w @ model.mu1.double()).item() - self.c - reach
        if spread == 0:
            return model.prior[0] * float(slack0 < 0) + model.prior[1] * float(slack1 <= 0)
        errors = (normal_cdf(-slack / spread) for slack in (slack0, slack1))
        return sum(prior * error for prior, error in zip(model.prior, errors, strict=True))


def contract(model: SharedCovariance, threat: ThreatModel) -> Contraction:
    r"""$\alpha=\min_{\|z\|\le\varepsilon}\|\mu-z\|_{\Sigma^{-1}}$ with $\mu=(\mu_1-\mu_0)/2$.

    threat: norm linf or l2, without a box, since Gaussians have no limits. At equal priors the
    least adversarial risk is Phi(-alpha). linf is exact for some hundred dimensions: an active-set
    solver. Raises ValueError on another norm and on a box.
    """
    check_threat(threat)
    mu, cov = _centred(model).numpy(), model.cov.double().numpy()
    root = np.linalg.cholesky(cov)
    z = PROGRAMS[threat.norm](mu, cov, threat.eps)
    white = solve_triangular(root, mu - z, lower=True)
    w = solve_triangular(root.T, white, lower=False)
    primal = float(np.linalg.norm(white))
    reach = _reach(torch.from_numpy(w), threat)
    dual = max(0.0, (w @ mu - reach) / primal) if primal > 0 else 0.0
    return Contraction(torch.from_numpy(z), torch.from_numpy(w), primal, float(dual))


def optimal_linear(model: SharedCovariance, threat: ThreatModel) -> LinearClassifier:
    r"""$h^*(x)=1[w^\top x>c]$, $w=\Sigma^{-1}(\mu-z^*)$: the best of all measurable classifiers.

    Along w the adversary leaves two Gaussians at distance 2 alpha, whose optimal threshold without
    an adversary is c: Section 17.6.3 once more. A constant (w = 0) where alpha = 0.
    """
    solved = contract(model, threat)
    prior0, prior1 = model.prior
    if solved.primal == 0:
        return LinearClassifier(torch.zeros_like(solved.w), 0.0 if prior0 >= prior1 else -1.0)
    middle = (solved.w @ (model.mu0.double() + model.mu1.double())).item() / 2
    return LinearClassifier(solved.w, middle + math.log(prior0 / prior1) / 2)


def isotropic_alpha(mu: Vector, sigma: float, threat: ThreatModel) -> float:
    r"""$\min_{z\in\varepsilon B}\|\mu-z\|_2/\sigma$ for $\Sigma=\sigma^2I$: the projection of mu.

    $(\|\mu\|_2-\varepsilon)_+/\sigma$ for l2 and $\|(|\mu|-\varepsilon)_+\|_2/\sigma$ for linf.
    """
    check_threat(threat)
    if not (sigma > 0 and math.isfinite(sigma)):
        raise ValueError(f"sigma must be finite and > 0, got {sigma}")
    wide = mu.double()[None]
    left = wide - threat.project(torch.zeros_like(wide), wide)
    return torch.linalg.vector_norm(left).item() / sigma


def check_threat(threat: ThreatModel) -> None:
    """Raise ValueError unless the threat has a norm of `PROGRAMS` and no box."""
    row_of(threat.norm, PROGRAMS)
    if threat.box is not None:
        raise ValueError(f"box must be None: Gaussians have no limits, got {threat.box}")


def _centred(model: SharedCovariance) -> Tensor:
    return (model.mu1.double() - model.mu0.double()) / 2


def _reach(w: Tensor, threat: ThreatModel) -> float:
    """How far the adversary moves w.x: eps times the dual norm of w."""
    check_threat(threat)
    return threat.eps * threat.dual_norm(w.double()[None]).item()


def _linf_program(mu: np.ndarray, cov: np.ndarray, eps: float) -> np.ndarray:
    """Bounded least squares in whitened coordinates, by active sets."""
    if eps == 0 or np.abs(mu).max() <= eps:
        return np.clip(mu, -eps, eps)
    whiten = solve_triangular(np.linalg.cholesky(cov), np.eye(len(mu)), lower=True)
    steps = 100 + 10 * len(mu)
    solved = lsq_linear(whiten, whiten @ mu, (-eps, eps), method="bvls", max_iter=steps)
    return solved.x


def _l2_program(mu: np.ndarray, cov: np.ndarray, eps: float) -> np.ndarray:
    """z = (I + m cov)^-1 mu with the multiplier m >= 0 at which |z| = eps: one root to find."""
    length = np.linalg.norm(mu)
    if eps == 0 or length <= eps:
        return mu * (eps > 0)
    values, vectors = np.linalg.eigh(cov)
    along = vectors.T @ mu

    def excess(m: float) -> float:
        return 1 / float(np.linalg.norm(along / (1 + m * values))) - 1 / eps  # nearly linear in m

    most = 2 * (length / eps) / values[0]
    m = brentq(excess, 0.0, most, xtol=1e-300, rtol=1e-15, maxiter=500)
    z = vectors @ (along / (1 + m * values))
    return z * (eps / np.linalg.norm(z))


Program = Callable[[np.ndarray, np.ndarray, float], np.ndarray]  # (mu, cov, eps) -> z
PROGRAMS: dict[str, Program] = {"linf": _linf_program, "l2": _l2_program}

r"""Section 17.6.1: excess risk, generalisation gap and optimal risk, on two Gaussians.

A learner sees a sample and returns a `LineClassifier`; its risk is then exact, not estimated.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from adversarial_lab.gaussian_risk.univariate import (
    Labels,
    LineClassifier,
    TwoGaussians,
    Values,
    check_eps,
    optimal_classifier,
    optimal_risk,
)
from adversarial_lab.threat import Rng

Learner = Callable[[Values, Labels, float], LineClassifier]  # (x, y, eps) -> classifier


@dataclass(frozen=True)
class Quantities:
    r"""The three quantities of Section 17.6.1 for one learnt classifier.

    risk: $L_{\mathcal N}(\hat h)$. empirical: the same on the sample it was learnt from. optimal:
    $L^*_{\mathcal N}$ over all measurable classifiers.
    """

    risk: float
    empirical: float
    optimal: float

    @property
    def excess(self) -> float:
        """The excess risk; the chapter's "adversarial optimization error"."""
        return self.risk - self.optimal

    @property
    def generalization_gap(self) -> float:
        """Risk less empirical risk: how much the sample flatters."""
        return self.risk - self.empirical


def sample(model: TwoGaussians, n: int, rng: Rng = None) -> tuple[Values, Labels]:
    """n independent draws (x, y) from the model, x in float64."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    y = (torch.rand(n, generator=rng, dtype=torch.float64) < model.prior[1]).long()
    mu, sigma = (torch.tensor(pair, dtype=torch.float64)[y] for pair in (model.mu, model.sigma))
    return mu + sigma * torch.randn(n, generator=rng, dtype=torch.float64), y


def fit_gaussians(x: Values, y: Labels, *, equal_sigma: bool = False) -> TwoGaussians:
    """The model of largest likelihood, with one sigma for both classes if `equal_sigma`.

    Raises ValueError where a class has fewer than two different values.
    """
    _check_sample(x, y)
    classes = [x[y == label].double() for label in (0, 1)]
    for label, values in enumerate(classes):
        if len(values.unique()) < 2:
            raise ValueError(f"class {label} needs two different values, got {values.tolist()}")
    share = len(classes[1]) / len(x)
    variances = [values.var(correction=0).item() for values in classes]
    if equal_sigma:
        variances = [(1 - share) * variances[0] + share * variances[1]] * 2
    return TwoGaussians(
        mu=(classes[0].mean().item(), classes[1].mean().item()),
        sigma=(variances[0] ** 0.5, variances[1] ** 0.5),
        prior=(1 - share, share),
    )


def erm_threshold(x: Values, y: Labels, eps: float) -> LineClassifier:
    r"""$\hat h\in\arg\min_{t}\frac1N\sum_i\max_{|x'-x_i|\le\varepsilon}1[1[x'>t]\ne y_i]$, exact.

    Adversarial empirical risk minimiser of Section 17.6.1 among the thresholds 1[x > t], constants
    included. The sum is a step function of t: down by one where t reaches x_i + eps of class 0, up
    by one where it reaches x_i - eps of class 1. Ties: the middle of the first lowest step.
    """
    check_eps(eps)
    _check_sample(x, y)
    ends, order = torch.where(y == 0, x + eps, x - eps).double().sort()
    steps = torch.where(y == 0, -1, 1)[order]
    at, groups = ends.unique_consecutive(return_inverse=True)
    errors = torch.zeros(len(at) + 1, dtype=torch.long)  # relative to t = -inf, where all is 1
    errors[1:] = torch.zeros(len(at), dtype=torch.long).index_add(0, groups, steps).cumsum(0)
    best = int(errors.argmin())
    if best == 0:
        return LineClassifier((), 1)
    if best == len(at):
        return LineClassifier((), 0)
    return LineClassifier((at[best - 1 : best + 1].mean().item(),), 0)


def plug_in(x: Values, y: Labels, eps: float) -> LineClassifier:
    """The optimal classifier of the Gaussians fitted to the sample."""
    return optimal_classifier(fit_gaussians(x, y), eps)


def plug_in_equal(x: Values, y: Labels, eps: float) -> LineClassifier:
    """The same with one sigma for both classes."""
    return optimal_classifier(fit_gaussians(x, y, equal_sigma=True), eps)


LEARNERS: dict[str, Learner] = {
    "erm": erm_threshold,
    "plug-in": plug_in,
    "plug-in, equal sigma": plug_in_equal,
}


def quantities(
    h: LineClassifier, x: Values, y: Labels, model: TwoGaussians, eps: float
) -> Quantities:
    """The three quantities of h, learnt from the sample (x, y), on the model it was drawn from."""
    empirical = h.errs(x, y, eps).double().mean().item()
    return Quantities(h.risk(model, eps), empirical, optimal_risk(model, eps))


def learning_curve(
    learner: str, model: TwoGaussians, eps: float, *, n: int, repeats: int, rng: Rng = None
) -> Iterator[Quantities]:
    """The three quantities for `repeats` fresh samples of n examples, one after the other.

    learner: a key of `LEARNERS`.
    """
    if learner not in LEARNERS:
        raise ValueError(f"learner must be one of {sorted(LEARNERS)}, got {learner!r}")
    for _ in range(repeats):
        x, y = sample(model, n, rng)
        yield quantities(LEARNERS[learner](x, y, eps), x, y, model, eps)


def _check_sample(x: Tensor, y: Tensor) -> None:
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"x and y must have one length > 0, got {len(x)} and {len(y)}")
    if not x.isfinite().all():
        raise ValueError(f"x must be finite, got {int((~x.isfinite()).sum())} NaN or inf values")
    if not ((y == 0) | (y == 1)).all():
        raise ValueError(f"y must hold classes 0 and 1, got {sorted(set(y.tolist()))}")

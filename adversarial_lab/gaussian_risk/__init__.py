r"""Section 17.6.1 to 17.6.3: the least adversarial risk of Gaussian classes, exactly.

`univariate` has the model of Section 17.6.3 on the line, with any priors, variances and budget,
and its optimal classifier. `multivariate` has R^d with a shared covariance, where the optimal
classifier is linear and comes from a small convex program. `learning` has the three quantities of
Section 17.6.1 for classifiers learnt from a sample.
"""

from adversarial_lab.gaussian_risk.learning import (
    LEARNERS,
    Quantities,
    erm_threshold,
    fit_gaussians,
    learning_curve,
    quantities,
    sample,
)
from adversarial_lab.gaussian_risk.multivariate import (
    PROGRAMS,
    Contraction,
    LinearClassifier,
    SharedCovariance,
    contract,
    isotropic_alpha,
    optimal_linear,
)
from adversarial_lab.gaussian_risk.univariate import (
    LineClassifier,
    TwoGaussians,
    divergence,
    optimal_classifier,
    optimal_risk,
)

__all__ = [
    "LEARNERS",
    "PROGRAMS",
    "Contraction",
    "LineClassifier",
    "LinearClassifier",
    "Quantities",
    "SharedCovariance",
    "TwoGaussians",
    "contract",
    "divergence",
    "erm_threshold",
    "fit_gaussians",
    "isotropic_alpha",
    "learning_curve",
    "optimal_classifier",
    "optimal_linear",
    "optimal_risk",
    "quantities",
    "sample",
]

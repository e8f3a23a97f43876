r"""Section 17.2: gradient masking: how it looks, how it is measured, how it is caught.

`slices` draws the loss around an input (Section 17.2.2), `curvature` measures what the gradient
leaves out (Eq. (3)), `masked` makes networks that hide their gradient, and `masking_report` asks
a network the questions that hiding cannot answer (Section 17.2.3). The attacks are in
`adversarial_lab.attacks`.
"""

from adversarial_lab.masking.checks import CHECKS, Check, Finding
from adversarial_lab.masking.curvature import (
    curvature_along,
    gradient,
    gradient_cosine,
    hessian_product,
    linearisation_error,
    power_path,
    taylor,
    top_curvature,
)
from adversarial_lab.masking.masked import Noisy, Probabilities, Quantised, Scaled
from adversarial_lab.masking.report import Report, masking_report
from adversarial_lab.masking.slices import (
    adversarial_direction,
    gradient_direction,
    loss_slice,
    orthonormal,
    random_direction,
)

__all__ = [
    "CHECKS",
    "Check",
    "Finding",
    "Noisy",
    "Probabilities",
    "Quantised",
    "Report",
    "Scaled",
    "adversarial_direction",
    "curvature_along",
    "gradient",
    "gradient_cosine",
    "gradient_direction",
    "hessian_product",
    "linearisation_error",
    "loss_slice",
    "masking_report",
    "orthonormal",
    "power_path",
    "random_direction",
    "taylor",
    "top_curvature",
]

r"""Lecture, robust objectives: one adversary limited in three ways, and what that regularises.

`formulations` has the three problems and the cost that joins them, `ladder` the lower bounds from
all classifiers down to few. `wrm` trains against an adversary who pays (Sinha et al. 2018) and
certifies against distributions; `curvature` proves how much a network's loss can bend. `linear` is
adversarial training as regularisation where it is exact, `gradient` to first order for networks,
`perimeter` for 0-1 loss in the plane.
"""

from adversarial_lab.robust_objectives.curvature import curvature_bound
from adversarial_lab.robust_objectives.formulations import (
    WorstCase,
    ball,
    ball_cost,
    penalised,
    transport_ball,
)
from adversarial_lab.robust_objectives.gradient import first_order, gradient_penalty
from adversarial_lab.robust_objectives.ladder import risk_with_changes
from adversarial_lab.robust_objectives.linear import LOSSES, dual_norm
from adversarial_lab.robust_objectives.perimeter import (
    Optimum,
    dilate,
    erode,
    optimal_sets,
    perimeter,
    robust_risk,
)
from adversarial_lab.robust_objectives.wrm import (
    Certificate,
    ascent,
    certify,
    sampled_curvature,
    smooth,
    squared_distance,
    wrm,
)

__all__ = [
    "LOSSES",
    "Certificate",
    "Optimum",
    "WorstCase",
    "ascent",
    "ball",
    "ball_cost",
    "certify",
    "curvature_bound",
    "dilate",
    "dual_norm",
    "erode",
    "first_order",
    "gradient_penalty",
    "optimal_sets",
    "penalised",
    "perimeter",
    "risk_with_changes",
    "robust_risk",
    "sampled_curvature",
    "smooth",
    "squared_distance",
    "transport_ball",
    "wrm",
]

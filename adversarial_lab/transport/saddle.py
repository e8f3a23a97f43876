r"""Sections 17.6.4 to 17.6.6: the optimal attack and the classifier that is optimal against it.

The attack merges the pairs of the optimal plan at their midpoints, where every classifier is wrong
on one of the two: no risk is below L*. The classifier gives up the smallest set of points that
leaves no conflict, and has risk L*: no attack does more.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from adversarial_lab.measures import Numbers, given_or_equal
from adversarial_lab.norms import distances
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels
from adversarial_lab.transport.overlap import Plan

Predict = Callable[[Points], Int[Tensor, " n"]]
PAIRS = 2**22  # distances held at once


def optimal_classifier(
    x: Points, labels: Labels, given_up: Bool[np.ndarray, " n"], threat: ThreatModel
) -> Predict:
    r"""$h^*(z)$ = the label of the nearest point that is not given up, Section 17.6.5.

    Kept neighbourhoods of different labels are disjoint, and inside one the nearest kept point has
    its label: robustly right on every kept point. Outside all of them any label would do.
    """
    if given_up.all():
        raise ValueError("given_up must leave at least one point")
    keep = torch.from_numpy(~given_up)
    kept, answers = x[keep].flatten(1).double(), labels[keep]

    def predict(z: Points) -> Int[Tensor, " n"]:
        rows = z.flatten(1).double().split(max(1, PAIRS // len(kept)))
        return answers[torch.cat([distances(r, kept, threat.norm).argmin(1) for r in rows])]

    return predict


def merged(x: Points, plan: Plan) -> Float[Tensor, "m *d"]:
    r"""$\frac12(x_i+x_j)$ for each pair of the plan: inside both neighbourhoods and the box."""
    return (x[torch.from_numpy(plan.i)] + x[torch.from_numpy(plan.j)]) / 2


def risk_when_merged(
    predict: Predict, x: Points, labels: Labels, plan: Plan, weights: Numbers | None = None
) -> float:
    r"""The 0-1 risk of a classifier under the optimal attack: never below $L^*$, Section 17.6.6.

    Mass in the plan goes to the midpoints, all other mass stays where it is.
    """
    w = given_or_equal(weights, len(x))
    middle = predict(merged(x, plan))
    wrong = [(middle != labels[torch.from_numpy(side)]).numpy() for side in (plan.i, plan.j)]
    moved = sum(np.bincount(side, plan.mass, len(x)) for side in (plan.i, plan.j))
    stay = (w - moved)[(predict(x) != labels).numpy()].sum()
    return float(stay + plan.mass[wrong[0]].sum() + plan.mass[wrong[1]].sum())

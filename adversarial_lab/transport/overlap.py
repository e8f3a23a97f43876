r"""Section 17.6.6: $D_N(P_0,P_1)=\inf_\pi\pi\{\|x-x'\|>2\varepsilon\}$ and $L^*=\frac12(1-D_N)$.

The coupling that costs least moves as much mass as it can along the conflicts: a maximum matching
when all points weigh the same, a maximum flow otherwise. By duality (Konig's theorem) that mass is
the weight of the smallest set of points whose removal leaves no conflict: those that the optimal
classifier gives up. With priors pi the same program on (pi_0 P_0, pi_1 P_1) gives L* itself.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from adversarial_lab.measures import (
    SOLVERS,
    Numbers,
    Weights,
    check_weights,
    cover,
    fastest,
    given_or_equal,
)
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels
from adversarial_lab.transport.neighbours import Conflicts, conflicts

Indices = Int[np.ndarray, " m"]
Mass = Float[np.ndarray, " m"]
ENOUGH = 1e-9  # how far apart the primal and the dual value may be


@dataclass(frozen=True, eq=False)
class Plan:
    """The optimal sub-coupling: `mass` moved on pairs (i, j), i of the smaller label.

    risk: its total mass, the optimal risk L*. given_up: the points on which the optimal classifier
    errs; they weigh `risk` too, and without them there is no conflict.
    """

    i: Indices
    j: Indices
    mass: Mass
    risk: float
    given_up: Bool[np.ndarray, " n"]


def optimal_risk(
    x: Points, labels: Labels, threat: ThreatModel, weights: Numbers | None = None
) -> float:
    r"""$L_N^*=\inf_hL_N(h)$ over all classifiers, Section 17.6.5, for n weighted points.

    Two classes, closed balls. weights (n,) sum to one; by default every point weighs 1/n.
    """
    return optimal_plan(conflicts(x, labels, threat), labels, weights).risk


def divergence(
    x0: Points,
    x1: Float[Tensor, "m *d"],
    threat: ThreatModel,
    weights0: Numbers | None = None,
    weights1: Numbers | None = None,
) -> float:
    r"""$D_N(P_0,P_1)=1-2L^*$ of two weighted samples with equal priors, Section 17.6.6.

    Weights sum to one in each sample; by default they are equal. D_N is in [0, 1], symmetric, and
    no metric: it is 0 for different samples within 2 eps, and breaks the triangle inequality.
    """
    labels = torch.cat([torch.zeros(len(x0)), torch.ones(len(x1))]).long()
    given = (weights0, weights1)
    if min(len(x0), len(x1)) == 0:
        raise ValueError(f"x0 and x1 must hold points, got {len(x0)} and {len(x1)} of them")
    halves = [
        given_or_equal(w, len(x), f"weights{k}") / 2
        for k, (x, w) in enumerate(zip((x0, x1), given, strict=True))
    ]
    return 1 - 2 * optimal_risk(torch.cat([x0, x1]), labels, threat, np.concatenate(halves))


def class_weights(labels: Labels, priors: Numbers = (0.5, 0.5)) -> Weights:
    r"""$\pi_y/n_y$ for each point: the classes weigh `priors`, in the order of their labels."""
    classes, index, counts = labels.unique(return_inverse=True, return_counts=True)
    shares = check_weights(priors, len(classes), "priors")
    return (shares / counts.cpu().numpy())[index.cpu().numpy()]


def optimal_plan(
    found: Conflicts, labels: Labels, weights: Numbers | None = None, solver: str | None = None
) -> Plan:
    r"""$\max_\mu\sum_{ij}\mu_{ij}$ over conflicts, no point giving more than its weight (17.6.6).

    The value is L*. solver: a key of `SOLVERS`; by default the matching for equal weights, the
    flow where the weights are multiples of one unit (both in whole numbers), else the LP.
    Shapes: labels (n,) with two values, weights (n,) summing to one, by default 1/n.
    """
    if labels.shape != (found.n,):
        raise ValueError(f"labels must have shape ({found.n},), got {tuple(labels.shape)}")
    if len(classes := labels.unique()) != 2:
        raise ValueError(f"labels must name two classes, got {classes.tolist()}")
    w = given_or_equal(weights, found.n)
    name = solver or fastest(w)
    if name not in SOLVERS:
        raise ValueError(f"solver must be one of {sorted(SOLVERS)}, got {solver!r}")
    first = (labels == classes[0]).cpu().numpy()
    swap = ~first[found.i]
    i, j = np.where(swap, found.j, found.i), np.where(swap, found.i, found.j)
    mass = SOLVERS[name](i, j, w) if len(i) else np.zeros(0)
    given_up = cover(i, j, mass, w, first)
    risk, dual = mass.sum().item(), w[given_up].sum()
    if abs(risk - dual) > ENOUGH:
        raise RuntimeError(f"solver {name!r} is not optimal: it moves {risk}, the cover has {dual}")
    sent = mass > 0
    return Plan(i[sent], j[sent], mass[sent], risk, given_up)

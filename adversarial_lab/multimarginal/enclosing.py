r"""Lecture, multimarginal part: when closed balls share a point, and which point they share.

Balls of radius eps around z_1..z_k share a point iff one ball of radius eps holds all the z's. In
l2 that is the smallest enclosing ball, and everything about it follows from the squared distances
D: its squared radius is $\max\{\frac12\lambda^\top D\lambda:\lambda\ge0,\sum\lambda=1\}$ and its
centre is $\sum_i\lambda_iz_i$. In linf it is enough that the balls meet in pairs (Helly number 2).
The centre lies between the points, so a box around the points changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from adversarial_lab.norms import Rows, row_of
from adversarial_lab.threat import Points, ThreatModel

Squares = Float[np.ndarray, "*m k k"]  # squared distances within groups of k points
Weights = Float[np.ndarray, "*m k"]
RIDGE = 1e-14  # of the trace: four points on a circle have no unique weights, any will do


def circumweights(squares: Squares) -> Weights:
    r"""$\lambda$, $\sum\lambda=1$: the point of the span at equal distance from all k points.

    Negative weights mean that the centre lies outside the points' hull.
    """
    first = squares[..., 1:, 0]
    gram = (first[..., :, None] + first[..., None, :] - squares[..., 1:, 1:]) / 2
    size = np.trace(gram, axis1=-2, axis2=-1)[..., None, None]
    ridge = RIDGE * np.where(size > 0, size, 1) * np.eye(gram.shape[-1])
    rest = np.linalg.solve(2 * (gram + ridge), first[..., None])[..., 0]
    return np.concatenate([1 - rest.sum(-1, keepdims=True), rest], -1)


def squared_radius(weights: Weights, squares: Squares) -> Float[np.ndarray, "*m"]:
    r"""$\frac12\lambda^\top D\lambda$, for weights >= 0 never above the smallest ball's.

    An error of the weights enters squared, so float64 decides to about 1e-15.
    """
    return np.asarray(np.einsum("...i,...ij,...j->...", weights, squares, weights) / 2)


def ball_weights(distance: Float[np.ndarray, "k k"]) -> Float[np.ndarray, " k"]:
    """The l2 centre's weights: the best of all subsets with their circumcentre inside the hull."""
    k = len(distance)
    best, best_value = np.eye(k)[0], 0.0
    for size in range(2, k + 1):
        subsets = np.array(list(combinations(range(k), size)))
        squares = distance[subsets[:, :, None], subsets[:, None, :]] ** 2
        weights = circumweights(squares)
        value = np.where((weights >= 0).all(1), squared_radius(weights, squares), -1)
        top = int(value.argmax())
        if value[top] > best_value:
            best, best_value = np.zeros(k), value[top]
            best[subsets[top]] = weights[top]
    return best


def _l2_radius(distance: Float[np.ndarray, "k k"]) -> float:
    return float(np.sqrt(squared_radius(ball_weights(distance), distance**2)))


def _half_the_diameter(distance: Float[np.ndarray, "k k"]) -> float:
    return float(distance.max()) / 2


def _l1_radius(distance: Float[np.ndarray, "k k"]) -> float:
    if len(distance) > 2:
        raise ValueError(
            "norm='l1' has no exact test for three points or more: their distances do not decide"
            " whether their balls share a point; use order=2, or l2 or linf"
        )
    return _half_the_diameter(distance)


def _l2_centre(z: Rows) -> Float[Tensor, " d"]:
    weights = torch.from_numpy(ball_weights(torch.cdist(z, z).numpy()))
    return weights @ z


def _midrange(z: Rows) -> Float[Tensor, " d"]:
    return (z.amin(0) + z.amax(0)) / 2


def _l1_centre(z: Rows) -> Float[Tensor, " d"]:
    if len(z) > 2:
        raise ValueError("norm='l1' has no centre here for three points or more")
    return z.mean(0)


@dataclass(frozen=True)
class Enclosing:
    """What a norm means for the smallest ball around a group."""

    radius: Callable[[np.ndarray], float]  # from the k by k distances
    centre: Callable[[Rows], Tensor]  # from the k points, in float64


ENCLOSING: dict[str, Enclosing] = {
    "l2": Enclosing(_l2_radius, _l2_centre),
    "linf": Enclosing(_half_the_diameter, _midrange),
    "l1": Enclosing(_l1_radius, _l1_centre),
}


def radius(distance: Float[np.ndarray, "k k"], norm: str) -> float:
    """The smallest eps at which closed balls of these pairwise distances share a point.

    Exact for groups of up to ten or so; l1 has pairs only.
    """
    return row_of(norm, ENCLOSING).radius(np.asarray(distance, float))


def centre(z: Points, threat: ThreatModel) -> Float[Tensor, "*d"]:
    """The barycentre of a group: the point whose largest distance to it is smallest."""
    flat = z.detach().cpu().double().flatten(1)
    return row_of(threat.norm, ENCLOSING).centre(flat).view(z.shape[1:])

r"""Lecture, (AT): the agnostic learner against an adversary with any cost, at finitely many places.

$\inf_f\sup_{\tilde\mu}\{\mathbb E_{\tilde\mu}[1-f_{\tilde y}(\tilde x)]-C(\mu,\tilde\mu)\}$ over
soft classifiers f. The adversary moves the point x_i, of class y_i, to a place at cost[i, place],
inf where that is out of reach; labels stay. Budgets are the cost 0 in the ball and inf outside.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array, hstack, vstack
from torch import Tensor

from adversarial_lab.measures import TOUCH, Numbers, Weights, as_float64, solve
from adversarial_lab.multimarginal.enclosing import centre
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels
from adversarial_lab.transport.neighbours import in_float64

Cost = Float[np.ndarray, "n places"]
Classes = Int[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Game:
    """A solved game: value = AT(mu), attained by both sides.

    q: (n,), what each point is worth: the least of f_y + cost over all places. f: (places, K), the
    classifier, rows summing to one. moved: (n, places), the mass that the attack puts there.
    """

    value: float
    q: Weights
    f: Float[np.ndarray, "places K"]
    moved: Cost


def play(cost: Numbers, y: Numbers, weights: Numbers) -> Game:
    r"""(AT) as a linear program: $\mu(Z)-\max\sum_iw_iq_i$ s.t. $q_i\le f_{y_i}(l)+c(x_i,l)$.

    And f >= 0 with sum at most one at every place l. The multipliers are the optimal attack.
    weights >= 0 of any sum; y in 0..K-1; each row of cost needs a finite entry. ValueError else.
    """
    cost, weights = as_float64(cost, "cost"), as_float64(weights, "weights")
    y = np.asarray(y)
    check_game(cost, y, weights)
    n, places = cost.shape
    classes = int(y.max()) + 1
    i, place = np.nonzero(np.isfinite(cost))
    one = np.ones(len(i))
    rows = np.arange(len(i))
    of_f = csr_array((-one, (rows, place * classes + y[i])), shape=(len(i), places * classes))
    worth = hstack([csr_array((one, (rows, i)), shape=(len(i), n)), of_f])
    block = csr_array(np.kron(np.eye(places), np.ones((1, classes))))
    sums = hstack([csr_array((places, n)), block])
    limit = np.concatenate([cost[i, place], np.ones(places)])
    gain = np.concatenate([-weights, np.zeros(places * classes)])
    sides = [(None, None)] * n + [(0, None)] * (places * classes)  # q free: moved sums to w
    matrix = vstack([worth, sums], format="csr")
    result = solve(gain, task="the game", A_ub=matrix, b_ub=limit, bounds=sides)
    moved = np.zeros((n, places))
    moved[i, place] = np.maximum(-result.ineqlin.marginals[: len(i)], 0)
    f = with_the_slack(result.x[n:].reshape(places, classes))
    return Game(weights.sum() + result.fun, (f.T[y] + cost).min(1), f, moved)


def check_game(cost: Cost, y: Classes, weights: Weights) -> None:
    """Raise ValueError unless the three describe one game."""
    if not len(cost) == len(y) == len(weights) > 0:
        raise ValueError(
            f"cost, y and weights must have one length > 0, got {len(cost)},"
            f" {len(y)} and {len(weights)}"
        )
    if y.min() < 0:
        raise ValueError(f"y must hold classes 0, 1, 2, ..., got {y.min()}")
    if not (np.isfinite(weights).all() and weights.min() >= 0):
        raise ValueError(f"weights must be finite and >= 0, the least is {weights.min()}")
    if not (cost >= 0).all():  # NaN is caught here too
        raise ValueError("cost must be >= 0, inf for what is out of reach, and never NaN")
    if not np.isfinite(cost).any(1).all():
        raise ValueError("cost must have a finite entry for every point: somewhere it has to go")


def with_the_slack(f: Float[np.ndarray, "places K"]) -> Float[np.ndarray, "places K"]:
    """The rest to one goes to the last class: f becomes a classifier and no q falls."""
    f = np.maximum(f, 0)
    f = f / np.maximum(f.sum(1, keepdims=True), 1)
    f[:, -1] += 1 - f.sum(1)
    return f


def risk(f: Float[np.ndarray, "places K"], cost: Cost, y: Classes, weights: Weights) -> float:
    r"""$\sum_iw_i\max_l\{1-f_{y_i}(l)-c(x_i,l)\}$: what the best attack on this f achieves."""
    return float(weights @ (1 - f.T[y] - cost).max(1))


def damage(moved: Cost, cost: Cost, y: Classes) -> float:
    r"""The risk no classifier can go below under this attack, minus what the attack costs.

    At each place the best answer is the class with the most mass.
    """
    mass = np.zeros((int(y.max()) + 1, moved.shape[1]))
    np.add.at(mass, y, moved)
    paid = (moved * np.where(moved > 0, cost, 0)).sum()
    return float(mass.sum() - mass.max(0).sum() - paid)


def meeting_places(
    x: Points, labels: Labels, threat: ThreatModel
) -> tuple[Float[Tensor, "places *d"], Cost]:
    """The centres of all groups, single points included, and the cost 0 or inf to reach them.

    Written from the definition, subset by subset: for a handful of points.
    """
    z = in_float64(x)
    places = torch.stack(list(_centres(z, labels, threat)))
    distance = torch.stack([threat.distance(places, p.expand_as(places)) for p in z]).numpy()
    return places, np.where(distance <= reach(threat), 0.0, np.inf)


def reach(threat: ThreatModel) -> float:
    """eps, and a hair more for the rounding of a centre's coordinates."""
    return threat.eps * (1 + TOUCH) + 1e-15


def _centres(z: Points, labels: Labels, threat: ThreatModel) -> Iterator[Tensor]:
    for size in range(1, len(labels.unique()) + 1):
        for group in combinations(range(len(z)), size):
            some = list(group)
            if len(labels[some].unique()) < size:
                continue
            middle = centre(z[some], threat) if size > 1 else z[group[0]]
            distance = threat.distance(z[some], middle.expand(size, *z.shape[1:]))
            if distance.max() <= reach(threat):
                yield middle

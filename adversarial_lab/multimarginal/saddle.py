r"""Lecture, second theorem, for budgets: the classifier and the attack that attain the bound.

From a packing and its cover. The classifier answers class i at z with the largest q of the points
of class i within reach; those of different classes form a group, so the answers sum to at most
one. The attack moves each group's mass to its centre. Neither can gain: a saddle.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from adversarial_lab.measures import Weights
from adversarial_lab.multimarginal.agnostic import reach
from adversarial_lab.multimarginal.enclosing import centre
from adversarial_lab.multimarginal.packing import Packing
from adversarial_lab.norms import distances
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels
from adversarial_lab.transport.neighbours import in_float64

Soft = Callable[[Points], Float[Tensor, "m K"]]


def soft_classifier(x: Points, labels: Labels, q: Weights, threat: ThreatModel) -> Soft:
    r"""$f^*_i(z)=\max\{q_j:y_j=i,\ \|x_j-z\|\le\varepsilon\}$, and the rest to the nearest label.

    For z (m, *d) it returns (m, K), rows summing to one; K = largest label + 1. Its probability of
    being right is at least q_j all over N(x_j).
    """
    known = in_float64(x).flatten(1)
    y = check_classes(labels)
    worth, classes = torch.from_numpy(q), int(y.max()) + 1
    member = torch.nn.functional.one_hot(y, classes).double()

    def classify(z: Points) -> Float[Tensor, "m K"]:
        rows = z.detach().cpu().double().flatten(1)
        distance = distances(rows, known, threat.norm)
        within = distance <= reach(threat)
        f = torch.stack([(within * worth * side).amax(1) for side in member.T], 1)
        nearest = member[distance.argmin(1)]
        return f + (1 - f.sum(1, keepdim=True)).clamp(min=0) * nearest

    return classify


@dataclass(frozen=True, eq=False)
class Attack:
    """Mass moved from points to places: `mass[k]` of point[k] goes to places[place[k]].

    labels: the classes 0, 1, 2, ... as `soft_classifier` takes them.
    """

    places: Points
    point: Int[np.ndarray, " r"]
    place: Int[np.ndarray, " r"]
    mass: Float[np.ndarray, " r"]

    def damage(self, labels: Labels) -> float:
        """The risk of the best answer at every place: no classifier has less."""
        y = check_classes(labels).numpy()
        table = np.zeros((len(self.places), int(y.max()) + 1))
        np.add.at(table, (self.place, y[self.point]), self.mass)
        return float(table.sum() - table.max(1).sum())

    def risk(self, classify: Soft, labels: Labels) -> float:
        """The risk of a soft classifier under this attack."""
        f = classify(self.places).numpy()
        y = check_classes(labels).numpy()
        return float(self.mass @ (1 - f[self.place, y[self.point]]))


def check_classes(labels: Labels) -> Labels:
    """The labels on the CPU, if they number columns: whole and >= 0."""
    if labels.is_floating_point() or labels.min() < 0:
        raise ValueError(f"labels must be whole numbers >= 0, got {labels.unique().tolist()[:5]}")
    return labels.cpu()


def optimal_attack(x: Points, packing: Packing, threat: ThreatModel) -> Attack:
    """Every group's mass to its centre; a point covered more than once over shares its weight.

    Raises ValueError where a group has no common point: a packing with `rips`, or a larger eps.
    """
    z = in_float64(x)
    groups = [g for members in packing.groups for g in members]
    mass = np.concatenate(packing.masses)
    size = np.array([len(g) for g in groups])
    point, place = np.concatenate(groups), np.repeat(np.arange(len(groups)), size)
    covered = np.bincount(point, mass[place], minlength=len(z))
    share = mass[place] * (packing.weights / np.where(covered > 0, covered, 1))[point]
    places = torch.stack([z[g[0]] if len(g) == 1 else centre(z[g], threat) for g in groups])
    many = size[place] > 1
    far = threat.distance(z[point[many]], places[place[many]]).max().item() if many.any() else 0.0
    if far > reach(threat) + 1e-9 * far:
        raise ValueError(f"packing has a group {far:.6g} from its centre, beyond eps={threat.eps}")
    return Attack(places, point, place, share)

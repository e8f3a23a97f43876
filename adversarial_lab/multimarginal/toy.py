r"""Lecture, toy example: three weighted points of three classes, in closed form.

With weights w that sum to one, the best risk and the best q depend on which balls meet:

- none: risk 0. One pair: the lighter of the two. A path: min(w_middle, w_a + w_b).
- All three pairs but no common point, the lecture's case 4. (i) One point weighs at least as much
  as the other two: their weight. (ii) Otherwise: 1/2, q = 1/2 for all, and each pair's attack has
  mass (w_i + w_j - w_k) / 2.
- A common point: 1 - max w.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from adversarial_lab.measures import TOUCH, Numbers, check_weights
from adversarial_lab.multimarginal.enclosing import radius
from adversarial_lab.norms import distances
from adversarial_lab.threat import ThreatModel

Three = Float[np.ndarray, "3"]
Group = tuple[int, ...]


@dataclass(frozen=True)
class Toy:
    """The pattern's name, the risk, q, and the mass of each group with several points."""

    pattern: str
    risk: float
    q: tuple[float, float, float]
    masses: dict[Group, float]


def toy(x: Float[Tensor, "3 d"], weights: Numbers, threat: ThreatModel) -> Toy:
    """The solution for three points, the k-th of class k; exact in l2 and linf."""
    if len(x) != 3:
        raise ValueError(f"x must hold three points, got {len(x)}")
    w = check_weights(weights, 3)
    distance = distances(x.double(), x.double(), threat.norm).numpy()
    limit = threat.eps * (1 + TOUCH)
    meet: list[Group] = [p for p in combinations(range(3), 2) if distance[p] <= 2 * limit]
    if len(meet) == 3 and radius(distance, threat.norm) <= limit:
        return _common_point(w)
    return [_apart, _pair, _path, _ring][len(meet)](w, meet)


def _apart(w: Three, meet: list[Group]) -> Toy:
    return Toy("no overlap", 0.0, (1.0, 1.0, 1.0), {})


def _pair(w: Three, meet: list[Group]) -> Toy:
    light = min(meet[0], key=lambda i: w[i])
    return Toy("one pair", float(w[light]), _zero_at(light), {meet[0]: float(w[light])})


def _path(w: Three, meet: list[Group]) -> Toy:
    (middle,) = set(meet[0]) & set(meet[1])
    ends = [i for i in range(3) if i != middle]
    if w[middle] <= w[ends].sum():
        first = min(w[ends[0]], w[middle])
        sent = {ends[0]: first, ends[1]: w[middle] - first}
        risk, q = w[middle], _zero_at(middle)
    else:
        sent = {i: w[i] for i in ends}
        risk, q = w[ends].sum(), _zero_at(*ends)
    masses = {_pair_of(i, middle): float(mass) for i, mass in sent.items()}
    return Toy("path", float(risk), q, masses)


def _ring(w: Three, meet: list[Group]) -> Toy:
    heavy = int(w.argmax())
    others = [i for i in range(3) if i != heavy]
    if w[heavy] >= w[others].sum():
        masses = {_pair_of(i, heavy): float(w[i]) for i in others}
        return Toy("case 4 (i): one heavy point", float(w[others].sum()), _zero_at(*others), masses)
    masses = {(i, j): float(w[i] + w[j] - w[3 - i - j]) / 2 for i, j in meet}
    return Toy("case 4 (ii): balanced", 0.5, (0.5, 0.5, 0.5), masses)


def _common_point(w: Three) -> Toy:
    """The attack merges all three as far as the lightest goes, then the two that are left."""
    light, middle, heavy = (int(i) for i in np.argsort(w, kind="stable"))
    masses = {(0, 1, 2): float(w[light]), _pair_of(middle, heavy): float(w[middle] - w[light])}
    return Toy("common point", float(1 - w[heavy]), _zero_at(light, middle), masses)


def _pair_of(i: int, j: int) -> Group:
    return (min(i, j), max(i, j))


def _zero_at(*points: int) -> tuple[float, float, float]:
    q = [0.0 if i in points else 1.0 for i in range(3)]
    return q[0], q[1], q[2]

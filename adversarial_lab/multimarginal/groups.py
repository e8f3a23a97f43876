r"""Lecture, multimarginal part: the groups, points of different classes whose balls share a point.

A group is first of all a clique of the conflict graph. Groups are closed under taking subsets, so
those with k + 1 points are found from those with k (as frequent item sets are, Agrawal and Srikant
1994): two that differ in their last point are joined, and every subset must be a group already.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from adversarial_lab.measures import TOUCH
from adversarial_lab.multimarginal.enclosing import circumweights, squared_radius
from adversarial_lab.norms import GEOMETRIES, row_of
from adversarial_lab.transport.neighbours import Conflicts

CHUNK = 2**20  # candidates looked at together
Members = Int[np.ndarray, "m k"]
Meets = Callable[[Members], Bool[np.ndarray, " m"]]  # for candidates whose subsets are groups


@dataclass(frozen=True, eq=False)
class Level:
    """All groups of k points: members ascending, rows in lexicographic order.

    faces[r, t] is the row, in the level below, of group r without its t-th member.
    """

    members: Members
    faces: Members
    n: int

    @property
    def keys(self) -> Int[np.ndarray, " m"]:
        """The row of a group without its last member, and that member, as one number."""
        return self.faces[:, -1] * self.n + self.members[:, -1]

    def keep(self, mask: Bool[np.ndarray, " m"]) -> "Level":
        return Level(self.members[mask], self.faces[mask], self.n)


def pairs_level(conflicts: Conflicts) -> Level:
    """The groups of two: the conflicts themselves."""
    i, j = conflicts.i.astype(np.int64), conflicts.j.astype(np.int64)
    order = np.argsort(i * conflicts.n + j)
    members = np.stack([i, j], 1)[order]
    return Level(members, members[:, ::-1], conflicts.n)


def next_level(level: Level, meets: Meets) -> Level:
    """The groups of k + 1 points, from all groups of k points."""
    found = [
        part.keep(meets(part.members)) for part in _joined(level, level.keys) if len(part.members)
    ]
    k = level.members.shape[1] + 1
    nothing = np.empty((0, k), np.int64)
    members = np.concatenate([nothing, *(part.members for part in found)])
    faces = np.concatenate([nothing, *(part.faces for part in found)])
    return Level(members, faces, level.n)


def levels(conflicts: Conflicts, meets: Meets, order: int | None = None) -> Iterator[Level]:
    """Yields all groups of 2 points, of 3, and so on up to `order`, while there are any."""
    level = pairs_level(conflicts)
    while len(level.members) and (order is None or level.members.shape[1] <= order):
        yield level
        level = next_level(level, meets)


def _joined(level: Level, keys: Int[np.ndarray, " m"]) -> Iterator[Level]:
    """Candidates, all of whose subsets are groups, a chunk at a time."""
    prefix = level.faces[:, -1]
    followers = np.searchsorted(prefix, prefix, side="right") - np.arange(len(prefix)) - 1
    ends = np.cumsum(followers)
    begin = 0
    while begin < len(prefix):
        before = ends[begin] - followers[begin]
        end = max(begin + 1, int(np.searchsorted(ends, before + CHUNK, side="right")))
        counts = followers[begin:end]
        first = np.repeat(np.arange(begin, end), counts)
        offset = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield _with_all_faces(level, keys, first, first + 1 + offset)
        begin = end


def _with_all_faces(
    level: Level,
    keys: Int[np.ndarray, " m"],
    first: Int[np.ndarray, " c"],
    second: Int[np.ndarray, " c"],
) -> Level:
    """The unions of groups `first` and `second`, which share all but their last points."""
    k = level.members.shape[1]
    rows = np.empty((len(first), k - 1), np.int64)
    alive = np.arange(len(first))
    for t in range(k - 1):
        key = level.faces[first[alive], t] * level.n + level.members[second[alive], -1]
        row = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        hit = keys[row] == key
        alive = alive[hit]
        rows[alive, t] = row[hit]
    first, second = first[alive], second[alive]
    members = np.column_stack([level.members[first], level.members[second, -1]])
    return Level(members, np.column_stack([rows[alive], second, first]), level.n)


def cliques(conflicts: Conflicts) -> Meets:
    """Every clique is a group: exact where balls that meet in pairs all meet (Helly number 2).

    That is linf, whose balls are boxes; otherwise it is the Rips complex, above the true risk.
    """
    return lambda members: np.ones(len(members), bool)


def in_a_ball(conflicts: Conflicts) -> Meets:
    """l2: the smallest ball around the candidates has radius <= eps, up to a share of 1e-12.

    Where all subsets are groups, a candidate fails only if its ball touches all its points: the
    ball is then the circumscribed one.
    """
    level = pairs_level(conflicts)
    order = np.argsort(conflicts.i.astype(np.int64) * conflicts.n + conflicts.j)
    keys, squares = level.keys, conflicts.distance[order] ** 2
    limit = np.square(conflicts.radius / 2 * (1 + TOUCH))

    def meets(members: Members) -> Bool[np.ndarray, " m"]:
        m, k = members.shape
        table = np.zeros((m, k, k))
        for a, b in zip(*np.triu_indices(k, 1), strict=True):
            row = np.searchsorted(keys, members[:, a] * conflicts.n + members[:, b])
            table[:, a, b] = table[:, b, a] = squares[row]
        weights = circumweights(table)
        return ~((weights >= 0).all(1) & (squared_radius(weights, table) > limit))

    return meets


def refused(conflicts: Conflicts) -> Meets:
    """l1 has pairs only: the distances of three points do not say whether their balls meet."""
    raise ValueError("norm='l1' has no exact test for groups of three: ask for order=2, or rips")


COMMON: dict[str, Callable[[Conflicts], Meets]] = {"l2": in_a_ball, "l1": refused}


def common_point(norm: str, *, rips: bool = False) -> Callable[[Conflicts], Meets]:
    """The test of a norm, still without its conflicts; ValueError lists the norms."""
    pairs_decide = row_of(norm, GEOMETRIES).helly == 2
    return cliques if rips or pairs_decide else row_of(norm, COMMON, " for groups of three")


def norm_of(conflicts: Conflicts, norm: str | None) -> str:
    """The norm of the conflicts; ValueError if another one is asked for."""
    if norm is not None and row_of(norm, GEOMETRIES) is not GEOMETRIES[conflicts.norm]:
        raise ValueError(f"norm must be that of the conflicts, {conflicts.norm!r}, got {norm!r}")
    return conflicts.norm

r"""Lecture, multimarginal part: the groups that a packing q violates, $\sum_{i\in g}q_i>1$.

The search is complete: a group is given up only if no group that contains it can be violated.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from adversarial_lab.multimarginal.groups import CHUNK, Level, Meets, Members, next_level

Values = Float[np.ndarray, " n"]
VIOLATED = 1e-10  # what a sum may exceed one by; the answer is scaled down by as much


def reach(pairs: Level, q: Values, labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n K"]:
    """The largest q among the conflicts of each point with each class; 0 where there is none."""
    best = np.zeros((pairs.n, int(labels.max()) + 1))
    i, j = pairs.members.T
    np.maximum.at(best, (i, labels[j]), q[j])
    np.maximum.at(best, (j, labels[i]), q[i])
    return best


def potential(
    members: Members, q: Values, best: Float[np.ndarray, "n K"]
) -> Float[np.ndarray, " m"]:
    """An upper bound of the sum of q over any group that contains the members.

    A further point is of a class of its own and in conflict with every member.
    """
    bound = np.empty(len(members))
    step = max(1, CHUNK // best.shape[1])
    for k in range(0, len(members), step):
        some = members[k : k + step]
        further = best[some[:, 0]]
        for column in some.T[1:]:
            further = np.minimum(further, best[column])
        bound[k : k + step] = q[some].sum(1) + further.sum(1)
    return bound


def search(
    known: Sequence[Level],
    q: Values,
    labels: Int[np.ndarray, " n"],
    meets: Meets,
    order: int | None = None,
) -> Iterator[tuple[Members, Values]]:
    """Yields, for 2, 3, ... points up to `order`, the violated groups and the sums of their q.

    known: all groups of two, and of three or more if they are at hand; larger ones are built from
    what can still become violated.
    """
    best = reach(known[0], q, labels)
    level, size = known[0], 2
    while len(level.members):
        level = level.keep(potential(level.members, q, best) > 1 + VIOLATED)
        total = q[level.members].sum(1)
        violated = total > 1 + VIOLATED
        yield level.members[violated], total[violated]
        if size == order:
            return
        size += 1
        level = known[size - 2] if size - 2 < len(known) else next_level(level, meets)


def chosen(
    members: Members, total: Float[np.ndarray, " m"], n: int, per_point: int
) -> Bool[np.ndarray, " m"]:
    """The most violated groups, greedily, while one of the points is in fewer than `per_point`."""
    count = np.zeros(n, np.int64).tolist()
    keep = np.zeros(len(members), bool)
    rank = np.argsort(-total, kind="stable")
    for row, group in zip(rank.tolist(), members[rank].tolist(), strict=True):
        if all(count[i] >= per_point for i in group):
            continue
        keep[row] = True
        for i in group:
            count[i] += 1
    return keep

"""The exact bound for many classes: `bound` and the published way, every group written out.

Same images, same groups, same value to 1e-7. The published way, re-expressed here from its
description, computes all distances, enumerates the groups of every size by extending each one by
the common neighbours of its points, tests each for a common point, and gives the whole packing
problem to HiGHS. The promise is end to end, from images to bound; what either takes once the
distances are known is shown beside it.

    python -m benchmarks.bench_multimarginal
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from statistics import median

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist

from adversarial_lab import data
from adversarial_lab.multimarginal import bound, radius
from adversarial_lab.runs.bounds import Config, chosen_rows
from adversarial_lab.threat import ThreatModel
from adversarial_lab.transport import Conflicts, conflicts
from benchmarks import harness

PUBLISHED, OURS = "every group written out", "conflicts and bound"
LATER_PUBLISHED, LATER_OURS = "  distances known", "  distances known, bound"
AGREE = 1e-7


@dataclass(frozen=True)
class Setting:
    """The first images of some classes, an l2 radius, and the promised speed-up."""

    classes: str | None
    per_class: int
    eps: float
    promised: float
    dataset: str = "mnist"
    rounds: int = 3
    threads: int = 1


SETTINGS = {
    "1, 4 and 7": Setting("1,4,7", 1000, 3.5, promised=20),
    "ten classes": Setting(None, 300, 3.0, promised=8),
}


def groups(found: Conflicts, eps: float) -> Iterator[tuple[int, ...]]:
    """All groups of two points or more, each once, from its first point on."""
    after: list[set[int]] = [set() for _ in range(found.n)]
    distance = {}
    for i, j, d in zip(found.i.tolist(), found.j.tolist(), found.distance.tolist(), strict=True):
        after[i].add(j)
        distance[i, j] = d
    stack = [((i,), after[i]) for i in range(found.n)]
    while stack:
        group, candidates = stack.pop()
        for j in candidates:
            larger = (*group, j)
            if share_a_point(larger, distance, eps):
                yield larger
                stack.append((larger, candidates & after[j]))


def share_a_point(group: tuple[int, ...], distance: dict, eps: float) -> bool:
    """Whether the balls of a clique meet; two always do, and three have a closed form."""
    squares = [distance[pair] ** 2 for pair in combinations(group, 2)]
    limit = (eps * (1 + 1e-12)) ** 2
    if len(group) == 2:
        return True
    if len(group) == 3:
        a, b, c = sorted(squares)
        if a + b <= c:  # the longest side is a diameter
            return c / 4 <= limit
        return a * b * c <= limit * (2 * (a * b + b * c + a * c) - a * a - b * b - c * c)
    table = np.zeros((len(group), len(group)))
    table[np.triu_indices(len(group), 1)] = np.sqrt(squares)
    return radius(table + table.T, "l2") ** 2 <= limit


def all_distances(x: torch.Tensor, labels: torch.Tensor, eps: float) -> Conflicts:
    """The conflicts from the full matrix of distances."""
    distance = cdist(*[x.flatten(1).double().numpy()] * 2)
    i, j = np.nonzero(np.triu((distance <= 2 * eps) & (labels[:, None] != labels).numpy()))
    return Conflicts(i, j, distance[i, j], len(x), 2 * eps, "l2")


def published(found: Conflicts, eps: float, seed: int) -> torch.Tensor:
    """One minus the packing LP over all groups."""
    rows = list(groups(found, eps))
    ends = np.cumsum([0, *map(len, rows)])
    members = np.concatenate([np.array(g) for g in rows])
    matrix = csr_array((np.ones(len(members)), members, ends), shape=(len(rows), found.n))
    weights = np.full(found.n, 1 / found.n)
    lp = linprog(-weights, A_ub=matrix, b_ub=np.ones(len(rows)), bounds=(0, 1), method="highs")
    return torch.tensor(1 + lp.fun, dtype=torch.float64)


def ours(found: Conflicts, labels: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.tensor(bound(found, labels).risk, dtype=torch.float64)


def measure(s: Setting) -> list[harness.Row]:
    """Both contenders; the row's `accuracy` holds the bound of a round."""
    images = data.load(s.dataset, "train")
    config = Config(dataset=s.dataset, classes=s.classes, per_class=s.per_class, eps=s.eps)
    rows = chosen_rows(images.y, config)
    x, labels = images.x[rows], images.y[rows]
    threat = ThreatModel(norm="l2", eps=s.eps)
    found = conflicts(x, labels, threat)
    makers = {
        PUBLISHED: lambda: lambda seed: published(all_distances(x, labels, s.eps), s.eps, seed),
        OURS: lambda: lambda seed: ours(conflicts(x, labels, threat), labels, seed),
        LATER_PUBLISHED: lambda: partial(published, found, s.eps),
        LATER_OURS: lambda: partial(ours, found, labels),
    }
    result = harness.race(makers, lambda risk: risk.item(), s.rounds, (PUBLISHED, LATER_PUBLISHED))
    values = [value for row in result for value in row.accuracy]
    if max(values) - min(values) > AGREE:
        raise AssertionError(f"the bounds differ: {values}")
    return result


def report(name: str, rows: list[harness.Row], s: Setting) -> str:
    """Seconds of both, and the speed-up beside what is promised."""
    lines = [
        f"Exact bound: {s.dataset}, {name}, {s.per_class} a class, l2 eps {s.eps},"
        f" {s.threads} thread(s), {s.rounds} rounds"
    ]
    for row in rows:
        seconds = median(row.seconds)
        lines.append(f"{row.name:26} {seconds:9.3f} s, lowest risk {row.accuracy[-1]:.9f}")
    kept, later = promise(name, rows, s), 1 / rows[3].ratios[LATER_PUBLISHED]
    lines.append(f"{kept.found} times faster, {later:.1f} times once distances are known; {kept}")
    return "\n".join(lines)


def promise(name: str, rows: list[harness.Row], s: Setting) -> harness.Promise:
    return harness.at_least(name, 1 / rows[1].ratios[PUBLISHED], s.promised, PUBLISHED)


def benchmark(rounds: int = Setting.rounds) -> harness.Said:
    """The exact bound for many classes against the published way."""
    for name, setting in SETTINGS.items():
        s = replace(setting, rounds=rounds)
        torch.set_num_threads(s.threads)
        rows = measure(s)
        yield report(name, rows, s) + "\n"
        yield promise(name, rows, s)
    yield harness.told("torch", "numpy", "scipy")


if __name__ == "__main__":
    sys.exit(harness.main(benchmark, rounds=(harness.positive, Setting.rounds)))

"""Section 17.6.5 on MNIST 3 vs 7: our optimal risk against emd, assignment, and one product.

Everybody starts from the same images, and all values must agree.

- `emd` and `scipy assignment` are given the dense 0/1 cost for nothing: only the solver counts.
- The way of 2019 is that of the code published with Bhagoji et al. 2019, re-expressed: distances
  by cdist, dense cost, and the Hungarian method in NumPy, on dense matrices. It is stopped once it
  has taken longer than promised; that its value is ours is checked at 200 a class.
- The product is the float32 one that the distances need.

Promised: 10 times faster than emd, 50 times than the way of 2019, and at most 2 products.
"""

import sys
import time
from collections.abc import Iterator
from functools import partial
from statistics import median

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from adversarial_lab import data
from adversarial_lab.threat import ThreatModel
from adversarial_lab.transport import optimal_risk
from benchmarks import harness

OURS, EMD, ASSIGNMENT, PRODUCT = "ours", "POT emd", "scipy assignment", "float32 product"
PROMISED = {EMD: 10.0, PRODUCT: 0.5}  # how many times faster than
PROMISED_2019 = 50.0


def digits(per_class: int) -> tuple[Tensor, Tensor]:
    """The first images of a 3 and of a 7 in the training set, as the published protocol has it."""
    x, labels = data.load("mnist", "train")
    rows = torch.cat([(labels == k).nonzero()[:per_class, 0] for k in (3, 7)])
    return x[rows], labels[rows]


def cost(x: Tensor, eps: float) -> np.ndarray:
    """1 where the neighbourhoods are disjoint; in whole numbers, exact."""
    whole = (x * 255).round().flatten(1).double().numpy()
    first, second = np.split(whole, 2)
    return (cdist(first, second, "sqeuclidean") > (2 * eps * 255) ** 2).astype(np.float64)


def hungarian(dense: np.ndarray) -> Iterator[np.ndarray]:
    """The Hungarian method on a dense cost: yields the column of each row, -1 where there is none.

    Zeros are starred when they are in the assignment, and primed when they may get into it.
    """
    n, star = len(dense), np.full(len(dense), -1)
    dense = dense - dense.min(1, keepdims=True)
    while (star < 0).any():
        yield star
        prime, row_open, column_open = np.full(n, -1), np.ones(n, bool), np.ones(n, bool)
        column_open[star[star >= 0]] = False
        zeros = (dense == 0) & column_open
        while True:
            yield star
            row, column = np.unravel_index(zeros.argmax(), zeros.shape)
            if not zeros[row, column]:
                least = dense[np.ix_(row_open, column_open)].min()
                dense[~row_open] += least
                dense[:, column_open] -= least
                zeros = (dense == 0) & row_open[:, None] & column_open
                continue
            prime[row] = column
            if star[row] < 0:
                break
            row_open[row], column_open[star[row]] = False, True
            zeros[:, star[row]] = (dense[:, star[row]] == 0) & row_open
            zeros[row] = False
        _augment(star, prime, row)
    yield star


def _augment(star: np.ndarray, prime: np.ndarray, row: int) -> None:
    """Along primes and stars in turn, every prime becomes a star and every star none."""
    while row >= 0:
        column = prime[row]
        before = np.flatnonzero(star == column)
        star[row] = column
        row = before[0] if len(before) else -1


def way_of_2019(x: Tensor, eps: float, limit: float) -> tuple[float, float | None]:
    """CPU seconds, and the optimal risk if it was found within `limit` seconds."""
    began = time.process_time()
    first, second = np.split(x.flatten(1).numpy(), 2)
    dense = (cdist(first, second) > 2 * eps).astype(float)
    star = np.arange(len(dense))
    for columns in hungarian(dense):
        star = columns
        if time.process_time() - began > limit:
            return time.process_time() - began, None
    risk = (1 - dense[np.arange(len(dense)), star].mean()) / 2
    return time.process_time() - began, risk


_double = partial(torch.tensor, dtype=torch.float64)


def makers(x: Tensor, labels: Tensor, eps: float, slow: bool) -> dict:
    """name -> contender: seed -> the optimal risk, as a tensor."""
    dense, threat = cost(x, eps), ThreatModel(norm="l2", eps=eps)
    n, flat = len(dense), x.flatten(1)

    def product(seed: int) -> Tensor:
        return flat[:n] @ flat[n:].T

    def assignment(seed: int) -> Tensor:
        return _double((1 - dense[linear_sum_assignment(dense)].mean()) / 2)

    def emd():
        import ot

        return lambda seed: _double((1 - ot.emd2([], [], dense, numItermax=10**8)) / 2)

    found = {
        OURS: lambda: lambda seed: _double(optimal_risk(x, labels, threat)),
        PRODUCT: lambda: product,
    }
    return {**found, EMD: emd, ASSIGNMENT: lambda: assignment} if slow else found


def versus_2019(ours: float, per_class: int, eps: float) -> harness.Said:
    """A line on the way of 2019, after a check of its value on fewer digits; and the promise."""
    x, labels = digits(200)
    _, few = way_of_2019(x, eps, np.inf)
    if few is None or abs(few - optimal_risk(x, labels, ThreatModel(norm="l2", eps=eps))) > 1e-9:
        raise AssertionError(f"the way of 2019 finds {few} at 200 a class")
    seconds, risk = way_of_2019(digits(per_class)[0], eps, 1.2 * PROMISED_2019 * ours)
    stopped = "" if risk is not None else ", stopped"
    yield f"{'the way of 2019':18} {seconds:8.3f} s, {seconds / ours:.1f} times ours{stopped}"
    yield harness.at_least(OURS, seconds / ours, PROMISED_2019, "the way of 2019")


def measure(per_class: int, eps: float, rounds: int) -> list[harness.Row]:
    """Ours beside the product in all rounds, and beside the slow ones in one."""
    x, labels = digits(per_class)
    value = lambda answer: answer.item() if answer.ndim == 0 else float("nan")  # noqa: E731
    rows = harness.race(makers(x, labels, eps, False), value, rounds, (OURS,))
    slow = harness.race(makers(x, labels, eps, True), value, 1, (OURS,))
    rows += [row for row in slow if row.name in (EMD, ASSIGNMENT)]
    values = [v for row in rows if row.name != PRODUCT for v in row.accuracy]
    if np.ptp(values) > 1e-9:
        raise AssertionError(f"the values differ: {values}")
    return rows


def report(rows: list[harness.Row], per_class: int, eps: float) -> str:
    """Seconds, the value, and the ratio to ours beside what is promised."""
    lines = [
        f"Optimal risk: MNIST 3 vs 7, {per_class:,} a class, l2 eps {eps:g},"
        f" {torch.get_num_threads()} thread(s)"
    ]
    for row in rows:
        if row.absent:
            lines.append(f"{row.name:18} not run: {row.absent}")
            continue
        value = "" if row.name == PRODUCT else f", value {row.accuracy[-1]:.4f}"
        times = f", {row.ratios[OURS]:.2f} times ours"
        lines.append(f"{row.name:18} {median(row.seconds):8.3f} s{value}{times}")
    return "\n".join(lines)


def promises(rows: list[harness.Row]) -> list[harness.Promise]:
    """Ours against what it is promised to be faster than; absent ones are not measured."""
    found = {row.name: row.ratios.get(OURS) for row in rows}
    return [
        harness.at_least(OURS, found.get(name), least, name) for name, least in PROMISED.items()
    ]


def benchmark(
    per_class: int = 5000, eps: float = 4.0, rounds: int = 5, threads: int = 1
) -> harness.Said:
    """The optimal risk of MNIST 3 against 7, against solvers and the way of 2019."""
    torch.set_num_threads(threads)  # one thread: CPU time, which a busy machine hardly changes
    rows = measure(per_class, eps, rounds)
    yield report(rows, per_class, eps)
    yield from promises(rows)
    yield from versus_2019(median(rows[0].seconds), per_class, eps)


if __name__ == "__main__":
    count = harness.positive
    sizes = {"per_class": (count, 5000), "eps": (float, 4.0)}
    sys.exit(harness.main(benchmark, **sizes, rounds=(count, 5), threads=(count, 1)))

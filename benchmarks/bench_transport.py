"""Section 17.6.5 on MNIST 3 vs 7: our optimal risk against emd, assignment, and one product.

Everybody starts from the same images. `emd` and `assignment` are given the dense 0/1 cost for
nothing: only their solver is timed. Assignment on the dense cost is the approach of the code of
Bhagoji et al. 2019, re-expressed. The product is the float32 one that the distances need.
All values must agree. Promised: 10 times faster than emd, 50 times than assignment, and at most
2 products.
"""

import argparse
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
PROMISED = {EMD: 10.0, ASSIGNMENT: 50.0, PRODUCT: 0.5}  # how many times faster than


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
        promise = ""
        if row.name in PROMISED:
            ratio, least = row.ratios[OURS], PROMISED[row.name]
            kept = "kept" if ratio >= least else "MISSED"
            promise = f", {ratio:.2f} times ours; promised >= {least:g}: {kept}"
        value = "" if row.name == PRODUCT else f", value {row.accuracy[-1]:.4f}"
        lines.append(f"{row.name:18} {median(row.seconds):8.3f} s{value}{promise}")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-class", type=int, default=5000)
    parser.add_argument("--eps", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(words)
    torch.set_num_threads(args.threads)
    rows = measure(args.per_class, args.eps, args.rounds)
    print(report(rows, args.per_class, args.eps))


if __name__ == "__main__":
    main()

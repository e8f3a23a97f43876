"""The pieces of the standard evaluation on MNIST: this library, torchattacks and pyautoattack.

Same network, images, radius, steps and queries; one start for each attack. Adversarial images are
judged here: one outside the ball or the box is an error, and robust accuracy is what the network
gets right on them. Run it by `python -m benchmarks.bench_attacks`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import mean

import torch
from torch import Tensor, nn

from adversarial_lab import data, nets
from adversarial_lab.attacks import apgd, apgd_targets, attack_survivors, fab_targets, square
from adversarial_lab.threat import ThreatModel
from benchmarks import harness

OURS, PEERS = "adversarial_lab", ("torchattacks", "pyautoattack")
POINTS = 0.005  # of robust accuracy: as good as the best peer


@dataclass(frozen=True)
class Setting:
    """The attacks, in data units, and how they are measured."""

    network: str = "mnist-pgd"
    images: int = 200
    eps: float = 0.3
    steps: int = 100
    fab_steps: int = 20  # of FAB: projections sort all pixels, so each takes longer
    queries: int = 1000
    rounds: int = 1
    threads: int = 1


def ours(name: str, model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> harness.Contender:
    attack = {
        "apgd-ce": partial(apgd, steps=s.steps),
        "apgd-t": partial(apgd_targets, steps=s.steps, targets=9),
        "fab-t": partial(fab_targets, steps=s.fab_steps, targets=9),
        "square": partial(square, queries=s.queries),
    }[name]
    threat = ThreatModel(norm="linf", eps=s.eps)

    def contender(seed: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        return attack_survivors(attack, model, x, y, threat, rng=rng).z

    return contender


def torchattacks(
    name: str, model: nn.Module, x: Tensor, y: Tensor, s: Setting
) -> harness.Contender:
    import torchattacks as ta

    make = {
        "apgd-ce": partial(ta.APGD, steps=s.steps),
        "apgd-t": partial(ta.APGDT, steps=s.steps, n_classes=10),
        "fab-t": partial(ta.FAB, steps=s.fab_steps, multi_targeted=True, n_classes=10),
        "square": partial(ta.Square, n_queries=s.queries),
    }[name]
    return lambda seed: make(model, norm="Linf", eps=s.eps, n_restarts=1, seed=seed)(x, y)


def pyautoattack(
    name: str, model: nn.Module, x: Tensor, y: Tensor, s: Setting
) -> harness.Contender:
    import pyautoattack as pa

    def contender(seed: int) -> Tensor:
        settings = {"norm": "Linf", "eps": s.eps, "seed": seed, "version": "custom"}
        whole = pa.AutoAttack(model, attacks=[name], **settings)
        whole.verbose = False
        for part in (whole.apgd, whole.apgd_targeted, whole.fab):
            part.n_restarts, part.n_iter = 1, s.steps
        whole.fab.n_iter = s.fab_steps
        whole.fab.n_target_classes = whole.apgd_targeted.n_target_classes = 9
        whole.square.n_queries = s.queries
        return whole.run_standard_evaluation(x, y, batch_size=100)[0]

    return contender


LIBRARIES: dict[str, Callable[..., harness.Contender]] = {
    OURS: ours,
    "torchattacks": torchattacks,
    "pyautoattack": pyautoattack,
}
ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")


def judge(model: nn.Module, x: Tensor, y: Tensor, s: Setting, z: Tensor) -> float:
    """Share of the images that stay right; an error if one counts that is not allowed."""
    with torch.no_grad():
        wrong = model(z).argmax(1) != y
    allowed = ThreatModel(norm="linf", eps=s.eps).contains(x, z)
    if (wrong & ~allowed).any():
        raise AssertionError(f"{int((wrong & ~allowed).sum())} counted images are not allowed")
    return 1 - wrong.double().mean().item()


def measure(name: str, s: Setting) -> list[harness.Row]:
    """All libraries on one attack."""
    model = nets.shipped(s.network).requires_grad_(False)
    x, y = data.load("mnist-mini", "test", s.images)
    makers, warm = (
        {lib: partial(make, name, model, x[:n], y[:n], s) for lib, make in LIBRARIES.items()}
        for n in (len(x), 10)
    )
    return harness.race(makers, partial(judge, model, x, y, s), s.rounds, (OURS,), warm)


def promise(name: str, rows: list[harness.Row]) -> harness.Promise:
    """As fast as every peer that is here, and as strong."""
    peers = [row for row in rows if row.name != OURS and not row.absent]
    mine = next(row for row in rows if row.name == OURS)
    promised = f"as fast as every peer, as strong within {POINTS:.1%}"
    if not peers:
        return harness.Promise(name, promised, "", None)
    slowest, best = min(row.ratios[OURS] for row in peers), min(mean(r.accuracy) for r in peers)
    behind = mean(mine.accuracy) - best
    kept = slowest >= 1 and behind <= POINTS + 1e-9
    return harness.Promise(name, promised, f"{slowest:.2f}, {behind:+.1%}", kept)


def report(name: str, rows: list[harness.Row], s: Setting) -> str:
    """The table of one attack, with what the project promises: as fast, as strong."""
    limits = {OURS: str(promise(name, rows))}
    title = (
        f"{name}: {s.network}, linf eps {s.eps}, {s.images} MNIST test images, {s.rounds} rounds"
    )
    return harness.table(title, rows, (OURS,), limits)


def benchmark(rounds: int = Setting.rounds) -> harness.Said:
    """The pieces of the standard evaluation against two libraries."""
    s = Setting(rounds=rounds)
    torch.set_num_threads(s.threads)
    for name in ATTACKS:
        rows = measure(name, s)
        yield report(name, rows, s) + "\n"
        yield promise(name, rows)
    yield harness.told("torch", *PEERS)


if __name__ == "__main__":
    sys.exit(harness.main(benchmark, rounds=(harness.positive, Setting.rounds)))

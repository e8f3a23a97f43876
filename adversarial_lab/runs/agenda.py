"""The runs that a plan wants, in order, and which of them comes next."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adversarial_lab.runs import RUNS, attacks, certified, cka, costs, robust
from adversarial_lab.runs.costs import Cost, Measured
from adversarial_lab.runs.record import Job
from adversarial_lab.runs.settings import configure

WAYS = (
    ("method=pgd",),
    ("method=n-fgsm",),
    ("method=trades", "beta=6"),
    ("method=standard",),
    ("method=fgsm-rs",),
    ("method=fgsm",),
    ("method=trades", "beta=1"),
)


@dataclass(frozen=True)
class Item:
    """One run of the plan, by the words of its command."""

    name: str
    scale: str
    settings: tuple[str, ...]
    out: Path
    of: tuple["Item", ...] = ()  # runs whose networks it reads

    @property
    def config(self) -> Any:
        return configure(RUNS[self.name].SCALES[self.scale], list(self.settings))

    def job(self, progress: bool = False) -> Job:
        """A fresh one: it counts its seconds from now."""
        return Job(self.name, self.scale, self.config, self.out, progress)

    @property
    def run_id(self) -> str:
        return self.job().run_id

    @property
    def command(self) -> str:
        words = ["python -m adversarial_lab.runs", self.name, *self.settings, "--scale", self.scale]
        usual = Path("book/results").resolve()
        return " ".join([*words, *(() if self.out == usual else ("--out", str(self.out)))])

    @property
    def done(self) -> bool:
        return self.job().path(".json").exists()

    @property
    def ready(self) -> bool:
        return all(item.done for item in self.of)

    def cost(self, found: Measured) -> Cost | None:
        """What is left of it, or None where the probe did not measure it."""
        return COSTS[self.name](self, found)


COSTS: dict[str, Callable[[Item, Measured], Cost | None]] = {
    "robust": lambda item, found: costs.robust_cost(item.config, item.job(), found),
    "cka": lambda item, found: costs.cka_cost(item.config, item.job(), found),
    "certified": lambda item, found: costs.certified_cost(item.config, item.job(), found),
    "attacks": lambda item, found: costs.attacks_cost(
        item.config, item.job(), found, item.of[0].config, item.of[0].job()
    ),
}


def agenda(scale: str, settings: list[str], out: Path) -> list[Item]:
    """All runs of a scale on the data set of its robust runs, the most wanted first.

    ValueError for a scale that `robust` does not have, or settings that the plan makes itself.
    """
    if scale not in robust.SCALES:
        raise ValueError(f"scale must be one of {sorted(robust.SCALES)}, got {scale!r}")
    if taken := [word for word in settings if word.startswith(("method=", "beta="))]:
        raise ValueError(f"settings must leave method and beta to the plan, got {taken}")
    ways = [Item("robust", scale, (*way, *settings), out) for way in WAYS]
    dataset = ways[0].config.dataset
    found = {item.config.method: item for item in ways}
    pair = (found["standard"], found["pgd"])
    words = tuple(f"{kind}={item.run_id}" for kind, item in zip(cka.KINDS, pair, strict=True))
    rest = []
    if scale in cka.SCALES and cka.SCALES[scale].dataset == dataset:
        rest.append(Item("cka", scale, words, out, pair))
    if scale in certified.SCALES and certified.SCALES[scale].dataset == dataset:
        rest.append(Item("certified", scale, (), out))
    if scale in attacks.SCALES:
        rest += [Item("attacks", scale, (f"record={i.run_id}",), out, (i,)) for i in ways]
    return [*ways, *rest]


def next_item(
    items: list[Item], tried: Collection[Item], found: Measured, seconds: float
) -> Item | None:
    """The first that fits whole; else the first of which a piece fits, to go on another day."""
    waiting = [i for i in items if i not in tried and not i.done and i.ready]
    costs = [(item, cost) for item in waiting if (cost := item.cost(found))]
    whole = [item for item, cost in costs if cost.seconds <= seconds]
    pieces = [item for item, cost in costs if cost.piece and cost.piece <= seconds]
    return next(iter([*whole, *pieces]), None)

"""Lecture, multimarginal part, on real data: the risk below which no classifier of K classes gets.

`risk` counts groups of every size and is exact, `risk_pairs` and `risk_triples` are the truncated
bounds L*(2) and L*(3) below it, and `risk_rips` is the bound above it, from cliques.
"""

import shutil
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from adversarial_lab import data
from adversarial_lab.multimarginal import bound, cutting
from adversarial_lab.norms import GEOMETRIES
from adversarial_lab.runs.classifier import known, numbers
from adversarial_lab.runs.record import Job
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import Labels
from adversarial_lab.transport import Conflicts, conflicts


@dataclass(frozen=True)
class Config:
    """All that decides the result: the first images of each class, all of one weight, and eps."""

    dataset: str = "mnist"
    split: str = "train"
    classes: str | None = "3,7"  # their labels; all: every class
    per_class: int | None = 200  # all: every image
    norm: str = "l2"
    eps: float = 3.0  # in data units
    curve: str = ""  # further, smaller radii: "2,2.5"

    def __post_init__(self) -> None:
        known("dataset", self.dataset, data.LOADERS)
        known("norm", self.norm, GEOMETRIES)
        if self.per_class is not None and self.per_class < 1:
            raise ValueError(f"per_class must be >= 1, or all, got {self.per_class}")
        if max(self.radii) > self.eps:
            raise ValueError(f"curve must have radii of at most eps={self.eps}, got {self.curve}")
        chosen = numbers("classes", self.classes or "", int)
        if self.classes is not None and len(set(chosen)) < 2:
            raise ValueError(f"classes must name two classes or more, got {self.classes!r}")

    @property
    def radii(self) -> list[float]:
        """Those of the curve and eps, rising."""
        return sorted({*numbers("curve", self.curve, float), self.eps})


SCALES = {"quick": Config(), "full": Config(classes=None, per_class=None)}
COST = {"quick": "seconds", "full": "five minutes on one CPU core"}


def run(config: Config, job: Job) -> dict:
    """The conflicts of the largest radius, then every bound at each radius; returns the record."""
    images = data.load(config.dataset, config.split)
    rows = chosen_rows(images.y, config)
    x, labels = images.x[rows], images.y[rows]
    cache = job.path(".conflicts")
    threat = ThreatModel(norm=config.norm, eps=config.eps)
    found = conflicts(x, labels, threat, progress=job.progress, cache=cache)
    history = [at(found.within(eps), labels, job) for eps in config.radii]
    last = history[-1]
    metrics = {k: last[k] for k in ("risk", "risk_pairs", "risk_triples", "risk_rips", "gap")}
    if len(found):
        metrics["first_eps"] = float(found.distance.min()) / 2
    described = {
        "name": images.name,
        "split": images.split,
        "classes": labels.unique().tolist(),
        "n": len(x),
    }
    record = job.save(metrics, history, described)
    shutil.rmtree(cache, ignore_errors=True)
    return record


def at(found: Conflicts, labels: Labels, job: Job) -> dict[str, float | int]:
    """A row of the record: all bounds at one radius."""
    rounds = list(cutting(found, labels, progress=job.progress))
    exact = rounds[-1]
    cliques_are_groups = GEOMETRIES[found.norm].helly == 2
    rips = partial(bound, found, labels, rips=True, progress=job.progress)
    above = exact if cliques_are_groups else rips()
    return {
        "eps": found.radius / 2,
        "risk_pairs": rounds[0].risk,
        "risk_triples": [r for r in rounds if r.order <= 3][-1].risk,
        "risk": exact.risk,
        "risk_rips": above.risk,
        "gap": exact.gap,
        "conflicts": len(found),
        "kernel": exact.kernel,
        "rounds": exact.rounds,
        "order": exact.order,
    }


def chosen_rows(y: Labels, config: Config) -> Int[Tensor, " r"]:
    """The first `per_class` images of each class, in the order of the data set."""
    wanted = numbers("classes", config.classes or "", int) or y.unique().tolist()
    keep = torch.zeros(len(y), dtype=torch.bool)
    for k in wanted:
        rows = (y == k).nonzero()[: config.per_class, 0]
        if len(rows) < (config.per_class or 1):
            raise ValueError(
                f"class {k} has {len(rows)} images in {config.dataset} {config.split}, asked for"
                f" {config.per_class or 'all'}; its classes are {y.unique().tolist()}"
            )
        keep[rows] = True
    return keep.nonzero()[:, 0]

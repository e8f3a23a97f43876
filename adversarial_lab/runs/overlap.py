"""Section 17.6.5 on real data: the optimal risk of two classes against the radius, Figure 17.4."""

from dataclasses import dataclass

import numpy as np
import torch

from adversarial_lab import data
from adversarial_lab.runs.record import Job
from adversarial_lab.threat import ThreatModel
from adversarial_lab.transport import conflicts, optimal_plan


@dataclass(frozen=True)
class Config:
    """All that decides the result: the first images of two classes, and the radii."""

    dataset: str = "mnist"
    split: str = "train"
    first: int = 3
    second: int = 7
    per_class: int = 5000
    norm: str = "l2"
    eps_from: float = 2.0
    eps_to: float = 5.0
    points: int = 13  # radii, evenly spaced, both ends included

    def __post_init__(self) -> None:
        if self.first == self.second:
            raise ValueError(f"first and second must be two classes, got {self.first} twice")


SCALES = {"quick": Config(per_class=200), "full": Config()}
COST = {"quick": "seconds", "full": "a minute on two CPU cores"}


def run(config: Config, job: Job) -> dict:
    """The conflicts of the largest radius, and a maximum matching for each; returns the record."""
    radii = np.linspace(config.eps_from, config.eps_to, config.points).tolist()
    images = data.load(config.dataset, config.split)
    classes = (config.first, config.second)
    rows = torch.cat([(images.y == k).nonzero()[: config.per_class, 0] for k in classes])
    x, labels = images.x[rows], images.y[rows]
    threat = ThreatModel(norm=config.norm, eps=radii[-1])
    found = conflicts(x, labels, threat, progress=job.progress)
    history = []
    for eps in radii:
        near = found.within(eps)
        plan = optimal_plan(near, labels)
        history.append(
            {"eps": eps, "risk": plan.risk, "pairs": len(plan.i), "conflicts": len(near)}
        )
    metrics = {f"risk-{row['eps']:g}": {"value": row["risk"], "n": len(x)} for row in history}
    described = {"name": images.name, "split": images.split, "classes": classes, "n": len(x)}
    return job.save(metrics, history, described)

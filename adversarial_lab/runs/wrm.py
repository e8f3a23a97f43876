"""Lecture, robust objectives on real data: WRM, PGD in an l2 ball and plain training, compared.

One training a run. What is measured is the same for each: accuracy in l2 balls, and the loss
against an adversary who pays for every move, at many prices.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from adversarial_lab import data, nets
from adversarial_lab.pgd import attack_model, cross_entropy, pgd
from adversarial_lab.robust_objectives.curvature import curvature_bound
from adversarial_lab.robust_objectives.wrm import (
    ascent,
    sampled_curvature,
    squared_distance,
    wrm,
)
from adversarial_lab.runs.classifier import (
    NETWORKS,
    USUAL_NETWORK,
    Ramp,
    check_counts,
    known,
    numbers,
    right,
    share,
    train_network,
)
from adversarial_lab.runs.record import Job, Metric
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import Objective, adversarial, attacking, eps_warmup, erm

TRAININGS = ("wrm", "pgd", "standard")


@dataclass(frozen=True)
class Config:
    """All that decides the result. Distances are l2, in data units."""

    dataset: str = "mnist"
    training: str = "wrm"  # or "pgd": in the ball of radius eps; or "standard": no adversary
    network: str = "mnist-cnn-elu"
    gamma: float = 0.5  # price of squared distance in training
    eps: float = 1.5  # radius of PGD training
    steps: int = 8  # of either adversary in training
    warmup: float = 0.3  # fraction of PGD training over which eps grows from 0
    epochs: int = 4
    batch_size: int = 128
    peak: float = 0.003  # highest learning rate
    average: float = 0.99  # decay of the weight average that is kept
    train_images: int | None = 10_000  # None: all
    test_images: int | None = None
    attacked_images: int = 300  # of the test images, for PGD-40 and the paying adversary
    bent_images: int = 100  # of the test images, whose curvature is measured
    radii: str = "0.5,1,1.5,2,2.5,3"
    prices: str = "0.25,0.5,1,2,4,8"
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self)
        known("dataset", self.dataset, USUAL_NETWORK)
        known("network", self.network, NETWORKS)
        known("training", self.training, dict.fromkeys(TRAININGS))
        for name in ("radii", "prices"):
            if min(numbers(name, getattr(self, name), float), default=0) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")


SCALES = {"quick": Config()}
COST = {"quick": "2 minutes on one CPU core"}


def run(config: Config, job: Job) -> dict:
    """Train, attack, let the adversary pay; returns the record. The weights are not kept."""
    device = nets.best_device()
    train = data.load(config.dataset, "train", config.train_images)
    test = data.load(config.dataset, "test", config.test_images)
    x, y = test.x.to(device), test.y.to(device)
    make = partial(_objective, config)
    model, history = train_network(
        config, train.x, train.y, make, device=device, job=job, network=config.network
    )
    few = slice(0, config.attacked_images)
    metrics: dict[str, Metric | float] = {"clean": share(right(model, x, y))}
    for eps in numbers("radii", config.radii, float):
        metrics[f"pgd-40 at {eps:g}"] = _standing(config, model, x[few], y[few], eps)
    for gamma in numbers("prices", config.prices, float):
        metrics.update(_paying(model, x[few], y[few], gamma))
    metrics.update(_bends(config, model, x, y))
    return job.save(metrics, history, {"name": train.name, "train": len(train.x), "test": len(x)})


def _objective(config: Config, rng: torch.Generator) -> tuple[Objective, Ramp]:
    if config.training == "standard":
        return erm, lambda t: {}
    if config.training == "wrm":
        return partial(wrm, gamma=config.gamma, steps=config.steps), lambda t: {}
    threat = ThreatModel(norm="l2", eps=config.eps)
    objective = partial(adversarial, attack=partial(pgd, steps=config.steps, rng=rng))
    return objective, eps_warmup(threat, config.warmup)


def _standing(config: Config, model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Metric:
    """Who is right in the whole l2 ball, as far as PGD can tell."""
    rng = torch.Generator().manual_seed(config.seed)
    return share(
        ~attack_model(model, x, y, ThreatModel(norm="l2", eps=eps), steps=40, rng=rng).fooled
    )


def _paying(model: nn.Module, x: Tensor, y: Tensor, gamma: float) -> dict[str, float]:
    """What the adversary reaches at this price: the loss there, and the squared distance paid."""
    with attacking(model):
        f = lambda z: cross_entropy(model(z), y)  # noqa: E731
        *_, z = ascent(f, x, gamma=gamma, steps=60, damping=0.5)
        loss, spent = f(z).double().mean().item(), squared_distance(x, z).double().mean().item()
    return {f"loss at price {gamma:g}": loss, f"spent at price {gamma:g}": spent}


def _bends(config: Config, model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Metric | float]:
    """The curvature met between the images and where the adversary in training would move them.

    And a bound for all of space, where the network has no kinks.
    """
    x, y = x[: config.bent_images], y[: config.bent_images]
    with attacking(model):
        f = lambda z: cross_entropy(model(z), y)  # noqa: E731
        *_, z = ascent(f, x, gamma=config.gamma, steps=60, damping=0.5)
        met = sampled_curvature(f, x, z, rng=torch.Generator().manual_seed(config.seed))
        bound = curvature_bound(model, tuple(x.shape[1:]))
    proven = {"curvature, proven bound": bound} if math.isfinite(bound) else {}
    return proven | {
        "curvature, median": met.median().item(),
        "curvature, largest": met.amax().item(),
        "curvature below 2 gamma": share(met < 2 * config.gamma),
    }

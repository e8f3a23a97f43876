"""Section 17.1 on real data: train a network with or without PGD, and attack it on the test set."""

from dataclasses import dataclass
from functools import partial

import torch

from adversarial_lab import data, nets
from adversarial_lab.pgd import attack_model, pgd
from adversarial_lab.runs.classifier import Ramp, check_counts, right, share, train_network
from adversarial_lab.runs.record import Job
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import Objective, adversarial, eps_warmup, erm

TRAININGS = ("pgd", "standard")


@dataclass(frozen=True)
class Config:
    """All that decides the result. Radii and steps in data units; epochs of the training split."""

    dataset: str = "mnist"
    training: str = "pgd"  # or "standard": no adversary
    eps: float = 0.3  # linf radius of training and test
    steps: int = 5  # PGD steps in training
    step_size: float = 0.1
    warmup: float = 0.3  # fraction of training over which eps grows from 0
    epochs: int = 10
    batch_size: int = 128
    peak: float = 0.003  # learning rate of Adam, OneCycle
    average: float = 0.99  # decay of the weight average that is kept
    train_images: int | None = None  # None: all
    test_images: int | None = None
    strong_images: int = 1000  # of the test images, for PGD-100 with 10 restarts
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self)
        if self.training not in TRAININGS:
            raise ValueError(f"training must be one of {TRAININGS}, got {self.training!r}")


SCALES = {"quick": Config()}
COST = {"quick": "10 minutes on one CPU core"}


def run(config: Config, job: Job) -> dict:
    """Train, save the weights, attack them as saved; returns the record."""
    device = nets.best_device()
    train = data.load(config.dataset, "train", config.train_images)
    test = data.load(config.dataset, "test", config.test_images)
    x, y = test.x.to(device), test.y.to(device)
    threat = ThreatModel(norm="linf", eps=config.eps)
    make = partial(_objective, config)
    model, history = train_network(config, train.x, train.y, make, device=device, job=job)
    model = job.save_weights(model)
    rng = torch.Generator().manual_seed(config.seed)
    attack = partial(attack_model, model, threat=threat, rng=rng)
    strong = min(config.strong_images, len(x))
    metrics = {"clean": share(right(model, x, y))}
    found = attack(x, y, steps=40, step_size=config.eps / 30)
    metrics["pgd-40"] = share(~found.fooled)
    found = attack(x[:strong], y[:strong], steps=100, step_size=config.eps / 30, restarts=10)
    metrics["pgd-100x10"] = share(~found.fooled)
    images = {"name": train.name, "train": len(train.x), "test": len(x)}
    return job.save(metrics, history, images)


def _objective(config: Config, rng: torch.Generator) -> tuple[Objective, Ramp]:
    if config.training == "standard":
        return erm, lambda t: {}
    attack = partial(pgd, steps=config.steps, step_size=config.step_size, rng=rng)
    threat = ThreatModel(norm="linf", eps=config.eps)
    return partial(adversarial, attack=attack), eps_warmup(threat, config.warmup)

"""Section 17.3 on real data: train by TRADES at one beta, and split its risk on the test set."""

from dataclasses import dataclass
from functools import partial

import torch

from adversarial_lab import data, nets
from adversarial_lab.pgd import attack_model
from adversarial_lab.runs.classifier import (
    NETWORKS,
    RECIPES,
    USUAL_NETWORK,
    Ramp,
    check_counts,
    known,
    share,
    train_network,
)
from adversarial_lab.runs.record import Job, accuracy
from adversarial_lab.threat import ThreatModel
from adversarial_lab.trades import decompose, pgd_from_noise, trades
from adversarial_lab.training import Objective, eps_warmup


@dataclass(frozen=True)
class Config:
    """All that decides the result. Radii and steps in data units; epochs of the training split."""

    dataset: str = "mnist"
    network: str = "mnist-cnn"
    beta: float = 6.0  # 1 / lambda; 0 is training without an adversary
    eps: float = 0.3  # linf radius of training and test
    steps: int = 5  # of the inner maximisation in training
    step_size: float = 0.1
    noise: float = 0.001  # standard deviation of its start around x
    warmup: float = 0.5  # fraction of training over which eps grows from 0
    epochs: int = 6
    batch_size: int = 128
    recipe: str = "adam"  # or "sgd": that of the paper
    peak: float = 0.003  # highest learning rate
    average: float = 0.99  # decay of the weight average that is kept; 0: none
    train_images: int | None = None  # None: all
    test_images: int | None = None
    test_steps: int = 40  # of PGD on cross-entropy, from a uniform start
    test_step_size: float = 0.01
    strong_images: int = 1000  # of the test images, for PGD-100 with 10 restarts
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self)
        known("dataset", self.dataset, USUAL_NETWORK)
        known("network", self.network, NETWORKS)
        known("recipe", self.recipe, RECIPES)


SCALES = {
    "quick": Config(),
    "full": Config(  # the authors' settings for CIFAR-10
        dataset="cifar-10",
        network="wrn-34-10",
        eps=0.031,
        steps=10,
        step_size=0.007,
        warmup=0.0,
        epochs=76,
        recipe="sgd",
        peak=0.1,
        average=0.0,
        test_steps=20,
        test_step_size=0.003,
    ),
}
COST = {
    "quick": "8 minutes on one CPU core",
    "full": "1,370 PFLOP by count, so hours on one large GPU; not run yet",
}
NEEDS_GPU = ("full",)


def run(config: Config, job: Job) -> dict:
    """Train, save the weights, attack them as saved; returns the record."""
    device = nets.best_device()
    train = data.load(config.dataset, "train", config.train_images)
    test = data.load(config.dataset, "test", config.test_images)
    x, y = test.x.to(device), test.y.to(device)
    threat = ThreatModel(norm="linf", eps=config.eps)
    make = partial(_objective, config, threat)
    train_it = partial(train_network, network=config.network, recipe=config.recipe)
    model, history = train_it(config, train.x, train.y, make, device=device, job=job)
    model = job.save_weights(model)
    rng = torch.Generator().manual_seed(config.seed)
    size = config.test_step_size
    risks = decompose(model, x, y, threat, steps=config.test_steps, step_size=size, rng=rng)
    n, strong = risks.n, min(config.strong_images, len(x))
    attack = partial(attack_model, threat=threat, step_size=size, rng=rng)
    found = attack(model, x[:strong], y[:strong], steps=100, restarts=10)
    metrics = {
        "clean": accuracy(round(n * (1 - risks.natural)), n),
        f"pgd-{config.test_steps}": accuracy(round(n * (1 - risks.robust)), n),
        "boundary": accuracy(round(n * risks.boundary), n),
        "pgd-100x10": share(~found.fooled),
    }
    images = {"name": train.name, "train": len(train.x), "test": len(x)}
    return job.save(metrics, history, images)


def _objective(config: Config, threat: ThreatModel, rng: torch.Generator) -> tuple[Objective, Ramp]:
    attack = partial(
        pgd_from_noise, steps=config.steps, step_size=config.step_size, noise=config.noise, rng=rng
    )
    objective = partial(trades, attack=attack, beta=config.beta)
    return objective, eps_warmup(threat, config.warmup)

"""Section 17.4 on real data: train for a certificate, then count what is proved and what falls."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from adversarial_lab import data, nets
from adversarial_lab.certified import (
    certified_ramp,
    certify,
    crown_ibp_loss,
    ibp_loss,
    short_warmup_loss,
    short_warmup_ramp,
)
from adversarial_lab.pgd import attack_model
from adversarial_lab.runs.classifier import (
    NETWORKS,
    RECIPES,
    USUAL_NETWORK,
    Ramp,
    check_counts,
    known,
    right,
    share,
    train_network,
)
from adversarial_lab.runs.record import Job
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import Objective


@dataclass(frozen=True)
class Config:
    """All that decides the result. Radii in data units; epochs of the training split."""

    dataset: str = "mnist"
    network: str = "mnist-cnn"
    training: str = "ibp"  # or another row of TRAININGS
    eps: float = 0.3  # linf radius of the test
    excess: float = 1.0  # training ends at this times eps
    warm: float = 1 / 16  # fraction of training before eps and kappa start to move
    over: float = 6 / 16  # fraction of training that they take
    kappa: float = 0.5  # last weight of the clean loss; the bound has the rest (not short-warmup)
    epochs: int = 16
    batch_size: int = 100
    recipe: str = "adam-drops"
    peak: float = 0.002  # learning rate before it drops
    average: float = 0.0  # decay of a weight average; 0: the last weights
    train_images: int | None = None  # None: all
    test_images: int | None = None
    watch_images: int = 1000  # of the test images, certified after every epoch
    strong_images: int = 1000  # of the test images, for PGD-100 with 10 restarts
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self)
        known("dataset", self.dataset, USUAL_NETWORK)
        known("network", self.network, NETWORKS)
        known("training", self.training, TRAININGS)
        known("recipe", self.recipe, RECIPES)


def _ramp(config: Config, threat: ThreatModel, mix: bool = False) -> Ramp:
    when = {"warm": config.warm, "over": config.over, "excess": config.excess}
    return certified_ramp(threat, **when, kappa=config.kappa, mix=mix)


def _short_ramp(config: Config, threat: ThreatModel) -> Ramp:
    return short_warmup_ramp(threat, warm=config.warm, over=config.over, excess=config.excess)


TRAININGS: dict[str, tuple[Objective, Callable[[Config, ThreatModel], Ramp]]] = {
    "ibp": (ibp_loss, _ramp),
    "crown-ibp": (crown_ibp_loss, partial(_ramp, mix=True)),
    "short-warmup": (short_warmup_loss, _short_ramp),
}
DIGITS = Config(  # after Shi et al. 2021
    network="cnn7-mnist",
    training="short-warmup",
    warm=1 / 70,
    over=20 / 70,
    epochs=70,
    batch_size=256,
    recipe="adam-drops-clipped",
    peak=0.0005,
)
SCALES = {
    "quick": Config(),
    "class": replace(
        DIGITS,
        network="cnn7-mnist-8",
        warm=0.05,
        over=0.45,
        epochs=12,
        batch_size=128,
        peak=0.001,
        train_images=20_000,
        watch_images=500,
        strong_images=200,
    ),
    "laptop": replace(
        DIGITS,
        dataset="cifar-10",
        network="cnn7-8",
        eps=2 / 255,
        warm=0.05,
        over=0.45,
        epochs=30,
        batch_size=128,
        peak=0.001,
        watch_images=500,
        strong_images=1_000,
    ),
    "mnist": DIGITS,
    "full": replace(
        DIGITS,
        dataset="cifar-10",
        network="cnn7",
        eps=8 / 255,
        warm=1 / 160,
        over=80 / 160,
        epochs=160,
        batch_size=128,
    ),
}
COST = {
    "quick": "11 minutes on one CPU core",
    "class": "twenty minutes on one CPU core",
    "laptop": "two hours on one CPU core by estimate",
    "mnist": "9 PFLOP by count, minutes on one large GPU by estimate; not run yet",
    "full": "22 PFLOP by count, minutes on one large GPU by estimate; not run yet",
}
NEEDS_GPU = ("mnist", "full")


def run(config: Config, job: Job) -> dict:
    """Train, save the weights, certify and attack them as saved; returns the record."""
    device = nets.best_device()
    train = data.load(config.dataset, "train", config.train_images)
    test = data.load(config.dataset, "test", config.test_images)
    x, y = test.x.to(device), test.y.to(device)
    threat = ThreatModel(norm="linf", eps=config.eps)
    some = slice(0, config.watch_images)
    watch = partial(_watch, x[some], y[some], threat)
    make = partial(make_objective, config, threat)
    train_it = partial(train_network, network=config.network, recipe=config.recipe, watch=watch)
    model, history = train_it(config, train.x, train.y, make, device=device, job=job)
    model = job.save_weights(model)
    metrics = {"clean": share(right(model, x, y))}
    exact, images = as_bounded(model, x)
    for radius in (config.eps / 3, 2 * config.eps / 3, config.eps):
        proved = certify(exact, images, y, threat.with_eps(radius), "ibp")
        metrics[f"ibp {radius:.3g}"] = share(proved)
    rng = torch.Generator().manual_seed(config.seed)
    attack = partial(attack_model, model, threat=threat, step_size=config.eps / 30, rng=rng)
    metrics["pgd-40"] = share(~attack(x, y, steps=40).fooled)
    strong = slice(0, config.strong_images)
    found = attack(x[strong], y[strong], steps=100, restarts=10)
    metrics["pgd-100x10"] = share(~found.fooled)
    sizes = {"name": train.name, "train": len(train.x), "test": len(x)}
    return job.save(metrics, history, sizes)


def as_bounded(model: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """In double on a GPU, whose float32 convolutions round by more than bounds pay for."""
    return (model, x) if x.device.type == "cpu" else (deepcopy(model).double(), x.double())


def make_objective(
    config: Config, threat: ThreatModel, rng: torch.Generator
) -> tuple[Objective, Ramp]:
    """What `train_network` asks for."""
    loss, ramp = TRAININGS[config.training]
    return loss, ramp(config, threat)


def _watch(x: Tensor, y: Tensor, threat: ThreatModel, model: nn.Module) -> dict[str, float]:
    model.eval()
    return {
        "clean": share(right(model, x, y))["value"],
        "ibp": share(certify(model, x, y, threat, "ibp"))["value"],
    }

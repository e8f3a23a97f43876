"""Section 17.2 on real data: training on one step from x itself, until it fools its own attack."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from adversarial_lab import data, nets
from adversarial_lab.masking import (
    gradient_cosine,
    linearisation_error,
    loss_slice,
    orthonormal,
    top_curvature,
)
from adversarial_lab.masking.curvature import gradient
from adversarial_lab.pgd import attack_model, cross_entropy, fgsm, pgd
from adversarial_lab.runs.classifier import (
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
from adversarial_lab.training import Objective, adversarial, attacking, eps_warmup


@dataclass(frozen=True)
class Config:
    """All that decides the result. Radii in data units; epochs of the training images used."""

    dataset: str = "mnist"
    eps: float = 0.3  # linf radius of training and test
    warmup: float = 0.5  # fraction of training over which eps grows from 0
    epochs: int = 24
    batch_size: int = 128
    peak: float = 0.003  # highest learning rate
    average: float = 0.0  # decay of a weight average; 0: the last weights
    train_images: int | None = 10_000  # None: all
    test_images: int | None = None
    watch_images: int = 200  # of the test images, measured after every epoch
    strong_images: int = 1000  # of the test images, for PGD-100 with 10 restarts
    slices: int = 25  # points a side of the loss slice kept of every epoch
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self)
        known("dataset", self.dataset, USUAL_NETWORK)


SCALES = {"quick": Config()}
COST = {"quick": "3 minutes on one CPU core"}


def run(config: Config, job: Job) -> dict:
    """Train while watching, save weights and slices, attack the weights as saved."""
    device = nets.best_device()
    train = data.load(config.dataset, "train", config.train_images)
    test = data.load(config.dataset, "test", config.test_images)
    x, y = test.x.to(device), test.y.to(device)
    threat = ThreatModel(norm="linf", eps=config.eps)
    some = slice(0, config.watch_images)
    pictures: list[Tensor] = []
    watch = partial(_watch, x[some], y[some], threat, config.slices, pictures)
    make = partial(_objective, config, threat)
    model, history = train_network(
        config, train.x, train.y, make, device=device, job=job, watch=watch
    )
    model = job.save_weights(model)
    if len(pictures) == config.epochs:  # fewer after a resumed training
        np.save(job.path(".slices.npy"), torch.stack(pictures).half().numpy())
    attack = partial(attack_model, model, threat=threat, rng=torch.Generator().manual_seed(0))
    strong = slice(0, config.strong_images)
    metrics = {
        "clean": share(right(model, x, y)),
        "fgsm": share(_right_after_one_step(model, x, y, threat)),
        "pgd-40": share(~attack(x, y, steps=40, step_size=config.eps / 30).fooled),
        "pgd-100x10": share(
            ~attack(x[strong], y[strong], steps=100, step_size=config.eps / 30, restarts=10).fooled
        ),
    }
    return job.save(metrics, history, {"name": train.name, "train": len(train.x), "test": len(x)})


def _objective(config: Config, threat: ThreatModel, rng: torch.Generator) -> tuple[Objective, Ramp]:
    return partial(adversarial, attack=fgsm), eps_warmup(threat, config.warmup)


def _loss(model: nn.Module, y: Tensor, z: Tensor) -> Tensor:
    return cross_entropy(model(z), y)


def _right_after_one_step(model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel) -> Tensor:
    """True where the network is right at the FGSM point."""
    hits = []
    with attacking(model):
        for part, label in zip(x.split(1000), y.split(1000), strict=True):
            z = fgsm(partial(_loss, model, label), part, threat)
            hits.append(right(model, z, label))
    return torch.cat(hits)


def _watch(
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    resolution: int,
    pictures: list[Tensor],
    model: nn.Module,
) -> dict[str, float]:
    """A row of the record: what the training attack sees, and what is there."""
    rng = torch.Generator().manual_seed(0)
    with attacking(model):
        f = lambda z: cross_entropy(model(z), y)  # noqa: E731
        one, many = fgsm(f, x, threat), pgd(f, x, threat, steps=20, rng=rng)
        few = slice(0, 50)
        g = lambda z: cross_entropy(model(z), y[few])  # noqa: E731
        row = {
            "clean": _mean(right(model, x, y)),
            "fgsm": _mean(right(model, one, y)),
            "pgd-20": _mean(right(model, many, y)),
            "loss at FGSM": _mean(f(one)),
            "loss at PGD-20": _mean(f(many)),
            "linearisation error": _mean(linearisation_error(f, x, one - x)),
            "gradient cosine": _mean(gradient_cosine(f, x, threat, rng)),
            "gradient norm": _mean(gradient(f, x).flatten(1).norm(dim=1)),
            "top curvature": _mean(top_curvature(g, x[few], steps=10, rng=rng)[0]),
        }
        pictures.append(_slice(model, x[:1], y[:1], one[:1], many[:1], threat, resolution))
    return row


def _slice(model, x, y, one, many, threat: ThreatModel, resolution: int) -> Tensor:
    """The loss of the first image towards the FGSM point and, square to it, the PGD point."""
    u, v = orthonormal(one - x, many - x)
    radius = (one - x).norm().item()
    f = lambda z: cross_entropy(model(z), y.expand(len(z)))  # noqa: E731
    return loss_slice(f, x, u, v, radius=radius, resolution=resolution, box=threat.box).cpu()


def _mean(v: Tensor) -> float:
    return v.detach().double().mean().item()

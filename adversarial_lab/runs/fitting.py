"""Training of the run `robust`: on one device or several, fast where it can be, and counted."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from adversarial_lab import data
from adversarial_lab.pgd import attack_model, cross_entropy, fgsm
from adversarial_lab.runs.classifier import (
    AUGMENT,
    NETWORKS,
    RECIPES,
    USUAL_NETWORK,
    Training,
    right,
    share,
)
from adversarial_lab.runs.crew import Crew
from adversarial_lab.runs.methods import METHODS, Settings
from adversarial_lab.runs.record import Job
from adversarial_lab.runs.resident import Resident
from adversarial_lab.runs.selection import Selection
from adversarial_lab.runs.speed import InHalf, Speed, count_flops, in_half, matmul_rate, speed, told
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import Row, attacking, fit, weight_average


@runtime_checkable
class Fitting(Training, Settings, Protocol):
    """The fields of a configuration that this module reads, beside those of its parents."""

    @property
    def network(self) -> str: ...  # "": the data set's usual one
    @property
    def method(self) -> str: ...
    @property
    def recipe(self) -> str: ...
    @property
    def speed(self) -> str: ...
    @property
    def watch_steps(self) -> int: ...  # of PGD on the validation images after every epoch


def best_file(job: Job) -> Path:
    """Where the network of the best epoch so far is kept until the record is written."""
    return job.path(".best.safetensors")


def fit_network(
    config: Fitting, train: data.Dataset, validation: data.Dataset, crew: Crew, job: Job
) -> tuple[nn.Module, list[Row], dict[str, Any]]:
    """The network of the best epoch, a row for every epoch, and what the training computed.

    In all processes but the first, the last network, and nothing measured.
    """
    how = speed(crew.device, config.speed)
    torch.manual_seed(config.seed)
    model = how.place(NETWORKS[config.network or USUAL_NETWORK[config.dataset]]())
    training = training_parts(config, how, model, train, crew)
    average, loader, objective = (training[name] for name in ("average", "loader", "objective"))
    some = slice(0, len(validation.x))
    parts = {"validation": tuple(validation), "train": (train.x[some], train.y[some])}
    measure = partial(measure_epoch, config, how, parts)
    watch = Selection(measure, METHODS[config.method].choose, best_file(job))
    checkpoint = crew.own(job.checkpoint)
    shared = crew.together(in_half(objective, how, training["optimizer"]), model)
    history = fit(
        **training | {"objective": shared},
        watch=watch if crew.first else lambda model: {},
        checkpoint=checkpoint,
        progress=crew.first and job.progress,
    )
    if not crew.first:
        checkpoint.unlink()  # a copy of the first's, which stays until the record is written
        return average.module, history, {}
    flops = count_flops(objective, model, *_few(train, crew.device), training["ramp"](1.0))
    done = computed(flops * len(loader) * config.batch_size, history, how, crew.size)
    return watch.restore(average.module), history, done


def training_parts(
    config: Fitting, how: Speed, model: nn.Module, train: data.Dataset, crew: Crew
) -> dict[str, Any]:
    """What `fit` wants to know for this training of this network."""
    rng = torch.Generator(crew.device).manual_seed(config.seed)
    loader = Resident(train, config.batch_size, rng, AUGMENT.get(config.dataset), crew=crew)
    optimizer, schedule = RECIPES[config.recipe](model, config, len(loader))
    objective, ramp = METHODS[config.method].make(config, rng)
    return {
        "model": model,
        "loader": loader,
        "objective": objective,
        "epochs": config.epochs,
        "optimizer": optimizer,
        "schedule": schedule,
        "average": weight_average(model, config.average),
        "ramp": ramp,
        "rng": rng,
    }


def _few(train: data.Dataset, device: torch.device) -> tuple[Tensor, Tensor]:
    return train.x[:4].to(device), train.y[:4].to(device)


def measure_epoch(
    config: Fitting,
    how: Speed,
    parts: Mapping[str, tuple[Tensor, ...]],
    model: nn.Module,
) -> Row:
    """Accuracy at x, after FGSM and after PGD, on each part: the columns of the run's table."""
    threat = ThreatModel(norm="linf", eps=config.eps)
    row: Row = {}
    model = InHalf(model, how)
    attack = partial(attack_model, steps=config.watch_steps, step_size=config.eps / 4)
    attack = partial(attack, batch_size=config.batch_size)  # what fits in training fits here
    for name, part in parts.items():
        x, y = (v.to(how.device) for v in part)
        with attacking(model):
            pairs = zip(x.split(config.batch_size), y.split(config.batch_size), strict=True)
            z = torch.cat([fgsm(partial(_loss, model, labels), v, threat) for v, labels in pairs])
            rng = torch.Generator().manual_seed(config.seed)
            stands = {
                "clean": right(model, x, y),
                "fgsm": right(model, z, y),
                "pgd": ~attack(model, x, y, threat, rng=rng).fooled,
            }
        row |= {f"{name} {key}": share(hits)["value"] for key, hits in stands.items()}
    return row


def _loss(model: nn.Module, y: Tensor, z: Tensor) -> Tensor:
    return cross_entropy(model(z), y)


def computed(flops: float, history: list[Row], how: Speed, size: int) -> dict[str, Any]:
    """For the record: FLOPs of the training by count, and its speed in the median epoch."""
    seconds = [row["seconds"] for row in history]
    rate, limit = flops / median(seconds), size * matmul_rate(how)
    done = {
        "pflop": flops * len(history) / 1e15,
        "train_seconds": round(sum(seconds), 1),
        "flop_per_second": rate,
        "matmul_flop_per_second": limit,
        "share_of_matmul": rate / limit,
        "precision": how.precision,
        "channels_last": how.channels_last,
        "compiled": how.compiled,
        "processes": size,
    }
    print(told(done), file=sys.stderr)
    return done

"""What the runs that train a classifier share: network, augmentation, recipe, training, scores.

A new data set, network or recipe is a new row of a table.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from adversarial_lab import data, nets
from adversarial_lab.certified.short_warmup import initialise_for_intervals
from adversarial_lab.robust_objectives.wrm import smooth
from adversarial_lab.runs.record import Job, Metric, accuracy
from adversarial_lab.training import Objective, fit, one_cycle, piecewise, weight_average

Ramp = Callable[[float], dict]
Recipe = Callable[[nn.Module, "Training", int], tuple[Optimizer, LRScheduler]]


@runtime_checkable
class Training(Protocol):
    """The fields of a run's configuration that training reads."""

    @property
    def dataset(self) -> str: ...
    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def peak(self) -> float: ...  # the highest learning rate
    @property
    def average(self) -> float: ...  # decay of the weight average that is kept; 0: none
    @property
    def seed(self) -> int: ...


def adam_one_cycle(model: nn.Module, config: Training, per_epoch: int):
    """Adam, the learning rate up to `peak` and down again."""
    optimizer = torch.optim.Adam(model.parameters())
    return optimizer, one_cycle(optimizer, peak=config.peak, steps=config.epochs * per_epoch)


def sgd_steps(model: nn.Module, config: Training, per_epoch: int):
    """SGD of Zhang et al. 2019: momentum 0.9, weight decay 2e-4, x 0.1 from epochs 75, 90, 100."""
    optimizer = torch.optim.SGD(model.parameters(), lr=config.peak, momentum=0.9, weight_decay=2e-4)
    milestones = [(epoch - 1) * per_epoch for epoch in (75, 90, 100)]
    return optimizer, piecewise(optimizer, milestones=milestones)


def sgd_one_cycle(model: nn.Module, config: Training, per_epoch: int):
    """SGD with Nesterov momentum 0.9, weight decay 5e-4, the rate up to `peak` and down again."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.peak, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    return optimizer, one_cycle(optimizer, peak=config.peak, steps=config.epochs * per_epoch)


def adam_drops(model: nn.Module, config: Training, per_epoch: int):
    """Adam at `peak`, x 0.1 after 3/4 of training and again after 11/12, as bounds settle late."""
    optimizer = torch.optim.Adam(model.parameters(), lr=config.peak)
    steps = config.epochs * per_epoch
    return optimizer, piecewise(optimizer, milestones=[steps * 3 // 4, steps * 11 // 12])


def adam_drops_clipped(model: nn.Module, config: Training, per_epoch: int):
    """`adam_drops`, each gradient cut to length 10: the first bounds are large."""
    optimizer, schedule = adam_drops(model, config, per_epoch)

    def clip(*_: Any) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)

    optimizer.register_step_pre_hook(clip)
    return optimizer, schedule


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mnist-cnn": nets.mnist_cnn,
    "mnist-cnn-elu": lambda: smooth(nets.mnist_cnn()),
    "dm-large": nets.dm_large,
    "cnn7": lambda: initialise_for_intervals(nets.cnn7()),
    "cnn7-8": lambda: initialise_for_intervals(nets.cnn7(width=8)),  # an eighth as wide
    "cnn7-mnist": lambda: initialise_for_intervals(nets.cnn7(1, 28)),
    "cnn7-mnist-8": lambda: initialise_for_intervals(nets.cnn7(1, 28, 8)),  # an eighth as wide
    "preact-resnet18": nets.preact_resnet18,
    "preact-resnet18-16": partial(nets.preact_resnet18, 16),  # 701,018 parameters
    "preact-resnet18-32": partial(nets.preact_resnet18, 32),  # half as wide, a quarter the weights
    "preact-resnet50": nets.preact_resnet50,
    "wrn-16-4": partial(nets.wide_resnet, 16, 4),
    "wrn-28-10": partial(nets.wide_resnet, 28, 10),
    "wrn-34-10": nets.wide_resnet,
}
USUAL_NETWORK = {
    "mnist": "mnist-cnn",
    "fashion-mnist": "mnist-cnn",
    "mnist-mini": "mnist-cnn",
    "cifar-10": "preact-resnet18",
    "cifar-10-mini": "preact-resnet18",
}
AUGMENT: dict[str, data.Augment] = {"cifar-10": data.crop_flip, "cifar-10-mini": data.crop_flip}
RECIPES: dict[str, Recipe] = {
    "adam": adam_one_cycle,
    "adam-drops": adam_drops,
    "adam-drops-clipped": adam_drops_clipped,
    "sgd": sgd_steps,
    "sgd-cycle": sgd_one_cycle,
}


def known(argument: str, value: str, table: dict[str, Any]) -> str:
    """The value, if the table has it; ValueError lists the choices otherwise."""
    if value not in table:
        raise ValueError(f"{argument} must be one of {sorted(table)}, got {value!r}")
    return value


COUNTS = (
    "epochs batch_size train_batch steps watch_steps test_steps test_images validation_images"
    " images watch_images attacked_images apgd_images strong_images"
)
LEAST = {"eps": 0} | dict.fromkeys(COUNTS.split(), 1)


def check_counts(config: Any) -> None:
    """ValueError, before anything runs, where a setting is less than it can be (`LEAST`)."""
    for name, least in LEAST.items():
        value = getattr(config, name, None)
        if value is not None and not least <= value < math.inf:
            raise ValueError(f"{name} must be >= {least} and finite, got {value}")


def numbers(argument: str, text: str, kind: type) -> list:
    """The comma-separated numbers of a setting."""
    try:
        return [kind(word) for word in text.split(",") if word.strip()]
    except ValueError:
        raise ValueError(f"{argument} must be numbers with commas, got {text!r}") from None


def train_network(
    config: Training,
    x: Tensor,
    y: Tensor,
    make: Callable[[torch.Generator], tuple[Objective, Ramp]],
    *,
    device: torch.device,
    job: Job | None = None,
    network: str | None = None,
    recipe: str = "adam",
    watch: Callable[[nn.Module], dict] = lambda model: {},
) -> tuple[nn.Module, list[dict]]:
    """The network of the configuration, trained; and its row per epoch.

    make: the run's generator -> objective and ramp. network: by default `USUAL_NETWORK`. watch:
    what else goes into the row.
    """
    torch.manual_seed(config.seed)
    rng = torch.Generator().manual_seed(config.seed)
    name = network or USUAL_NETWORK[known("dataset", config.dataset, USUAL_NETWORK)]
    model = NETWORKS[known("network", name, NETWORKS)]().to(device)
    average = weight_average(model, config.average)
    augment = AUGMENT.get(config.dataset)
    loader = data.Batches(x, y, config.batch_size, rng, augment, device=device)
    optimizer, schedule = RECIPES[known("recipe", recipe, RECIPES)](model, config, len(loader))
    objective, ramp = make(rng)
    history = fit(
        model,
        loader,
        objective,
        epochs=config.epochs,
        optimizer=optimizer,
        schedule=schedule,
        average=average,
        ramp=ramp,
        watch=watch,
        rng=rng,
        checkpoint=job.checkpoint if job else None,
        progress=job is not None and job.progress,
    )
    return average.module.eval(), history


def right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """True where the network is right."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(1000)]) == y


def share(hits: Tensor) -> Metric:
    """The share of True, with its interval."""
    return accuracy(int(hits.sum()), len(hits))

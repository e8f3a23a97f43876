"""Section 17.2.3: what the run `robust` measures on the test images, once, and for what it looks.

Attacks may compute in TF32 on a GPU; what counts as broken is asked again in strict float32.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from adversarial_lab.attacks.evaluation import STANDARD, Stage, evaluation_path
from adversarial_lab.files import naming
from adversarial_lab.masking import loss_slice, masking_report, orthonormal, random_direction
from adversarial_lab.pgd import attack_model, pgd
from adversarial_lab.protocol import Attacked, cross_entropy, tf32
from adversarial_lab.runs.classifier import right, share
from adversarial_lab.runs.record import Job, Metric
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import attacking

RELIABLE = ("apgd-ce", "apgd-t")  # the two attacks that every network is put to on all images
SIDE = 21  # points a side of a loss slice


@runtime_checkable
class Asked(Protocol):
    """The fields of a configuration that say how much is measured, on the first test images."""

    @property
    def seed(self) -> int: ...
    @property
    def apgd_images(self) -> int | None: ...  # None: all
    @property
    def standard_images(self) -> int | None: ...  # for all four attacks; 0: none
    @property
    def masking_images(self) -> int: ...
    @property
    def slices(self) -> int: ...


def evaluate(
    model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, config: Asked, job: Job
) -> dict[str, Metric]:
    """Clean, PGD-20, APGD-CE and APGD-T, and the standard evaluation; resumes after each attack."""
    with float32_is_strict():
        metrics = {"clean": share(right(model, x, y))}
        rng = torch.Generator().manual_seed(config.seed)
        attack = partial(attack_model, steps=20, step_size=threat.eps / 4, rng=rng)
        metrics["pgd-20"] = share(~attack(model, x, y, threat).fooled)
        found = [
            stages(model, x[:count], y[:count], threat, names, job, config.seed)
            for names, count in surveys(config)
        ]
        metrics |= {name: metric for name, metric in found[0].items() if name != "clean"}
        if "square" in found[-1]:
            metrics["standard"] = found[-1]["square"]
    return metrics


def surveys(config: Asked) -> list[tuple[tuple[str, ...], int | None]]:
    """The attacks that follow each other, and on how many images (None: all), most images first."""
    everything = (tuple(STANDARD), config.standard_images)
    if config.standard_images is None:
        return [everything]
    return [(RELIABLE, config.apgd_images), everything][: 2 if config.standard_images else 1]


def stages(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    names: tuple[str, ...],
    job: Job,
    seed: int,
) -> dict[str, Metric]:
    """What is left standing after each of these attacks in turn."""
    path = stage_path(model, x, y, threat, names, job, seed)
    return {stage.name: share(~stage.found.fooled) for stage in path}


def stage_path(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    names: tuple[str, ...],
    job: Job,
    seed: int,
) -> Iterator[Stage]:
    """`evaluation_path` by these of the standard attacks, kept in a file of the job's."""
    file = stages_file(job, names)
    with naming(file):
        yield from evaluation_path(
            model,
            x,
            y,
            threat,
            attacks={name: Fast(STANDARD[name]) for name in names},
            seed=seed,
            checkpoint=file,
            progress=job.progress,
        )


def stages_file(job: Job, names: tuple[str, ...]) -> Path:
    return job.path(f".{len(names)}-attacks.safetensors")


class Fast(partial):
    """An attack whose own passes may use TF32; `attack_survivors` verifies after it."""

    def __call__(self, *args: Any, **settings: Any) -> Tensor | Attacked:
        with tf32(True):
            return super().__call__(*args, **settings)


def float32_is_strict():
    """Full products in float32, as a verification wants them."""
    return tf32(False)


def masking(model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, config: Asked) -> dict:
    """The report on the first images as JSON; {} if none are asked for."""
    some = slice(0, config.masking_images)
    if not config.masking_images:
        return {}
    with float32_is_strict():
        return json.loads(masking_report(model, x[some], y[some], threat).to_json())


def loss_slices(
    model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, config: Asked
) -> list[dict[str, Any]]:
    """Section 17.2.2: the loss around the first images, towards PGD-20's point and at random."""
    rng = torch.Generator().manual_seed(config.seed)
    with attacking(model):
        return [_slice(model, x[i : i + 1], y[i], threat, rng, i) for i in range(config.slices)]


def _slice(
    model: nn.Module, x: Tensor, label: Tensor, threat: ThreatModel, rng: torch.Generator, row: int
) -> dict[str, Any]:
    f: Callable[[Tensor], Tensor] = lambda z: cross_entropy(model(z), label.expand(len(z)))  # noqa: E731
    ahead = pgd(f, x, threat, steps=20, rng=rng) - x
    if not ahead.any():  # a dead gradient: nothing is ahead
        ahead = random_direction(x, rng)
    u, v = orthonormal(ahead, random_direction(x, rng))
    radius = threat.eps * x[0].numel() ** 0.5  # the distance to a corner of the ball
    values = loss_slice(f, x, u, v, radius=radius, resolution=SIDE, box=threat.box)
    rows = [[round(value, 4) for value in line] for line in values.tolist()]
    return {"image": row, "label": int(label), "radius": radius, "loss": rows}

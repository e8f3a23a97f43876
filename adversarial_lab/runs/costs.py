"""What a run of a plan will take: seconds measured on this device (`probe`) times counted work.

An attack sees the images that still stand: as many as the network's record or the held-out images
of its training say, and before there are such numbers all of them (none, after the first attack, of
standard training), so that a run takes less rather than more.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from adversarial_lab import data
from adversarial_lab.attacks.evaluation import STANDARD
from adversarial_lab.runs import attacks, certified, cka, robust
from adversarial_lab.runs.evaluation import SIDE, stages_file, surveys
from adversarial_lab.runs.record import Job

MASKING = 1300  # gradients and passes that the masking report takes for an image, at most
PAIRS = 3  # of two networks, each with itself too


@dataclass(frozen=True)
class Cost:
    """Seconds that a run still takes, in the order in which it takes them."""

    start: float = 0.0  # reading the data, compiling
    epoch: float = 0.0  # training and watching, kept epoch by epoch
    epochs: int = 0  # those that are left
    stages: tuple[float, ...] = ()  # attacks, kept one by one
    rest: float = 0.0  # what is lost if the run stops

    @property
    def seconds(self) -> float:
        return self.start + self.epoch * self.epochs + sum(self.stages) + self.rest

    @property
    def piece(self) -> float | None:
        """Seconds until the first thing is kept; None if nothing is before the end."""
        parts = (self.epoch,) if self.epochs else self.stages[:1]
        return self.start + parts[0] if parts else None


@dataclass
class Measured:
    """Seconds on this device, filled by the probe in this order, as far as it comes.

    strict: a gradient step of an evaluation, an image. attacks: the whole of a standard attack, an
    image that stands. steps: (start, a step) of a training by its run id. watch: a step of PGD in
    the speed of training, an image. certify, in double where the evaluation is: an image.
    """

    load: float = 0.0
    strict: float = 0.0
    attacks: Mapping[str, float] = field(default_factory=dict)
    steps: dict[str, tuple[float, float]] = field(default_factory=dict)
    watch: float = 0.0
    maps: float | None = None  # the maps of two networks, all folds
    certified: tuple[float, float, float] | None = None  # a step; certify, PGD: an image
    speed: str = "plain"
    told: dict[str, float | str] = field(default_factory=dict)  # matmul rate, memory
    notes: list[str] = field(default_factory=list)  # what failed, in words


@cache
def size(dataset: str, split: str) -> int:
    """How many images the split has."""
    return len(data.LOADERS[dataset](split)[1])


def epochs_done(job: Job) -> int:
    return len(_state(job.checkpoint, "training").get("history", ()))


def _stages_done(path: Path) -> int:
    return max(0, len(_state(path, "evaluation").get("stages", ())) - 1)  # without "clean"


def _state(path: Path, key: str) -> dict:
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()[key])
    except (OSError, SafetensorError, KeyError, TypeError):
        return {}  # not there, or of something else: the run itself will say so


def robust_cost(config: robust.Config, job: Job, found: Measured) -> Cost | None:
    """Training and watching by epoch, then the evaluation of the chosen network."""
    if job.run_id not in found.steps or not found.attacks:
        return None
    start, step = found.steps[job.run_id]
    held, tested = config.validation_images, config.test_images or size(config.dataset, "test")
    trained = (config.train_images or size(config.dataset, "train")) - held
    watched = 2 * held * (config.watch_steps + 4)  # with FGSM and three looks at who is right
    history = _state(job.checkpoint, "training").get("history", [])
    stages: tuple[float, ...] = ()
    for names, count in surveys(config):
        seen = _standing(config, history[-1:], "validation clean", "validation pgd")
        file = stages_file(job, names)
        stages += _stages(names, file, min(count or tested, tested), seen, found)
    looks = 21 * tested + MASKING * config.masking_images + SIDE**2 * config.slices
    return Cost(
        start=found.load + start,
        epoch=trained // config.batch_size * step + watched * found.watch,
        epochs=config.epochs - len(history),
        stages=stages,
        rest=looks * found.strict,
    )


def _standing(
    config: robust.Config, rows: list[dict], clean: str, attacked: str
) -> tuple[float, float]:
    """The shares of images that the first attack and those after it see."""
    if rows:
        return rows[0][clean], rows[0][attacked]
    return 1.0, float(config.method != "standard")


def _stages(
    names: tuple[str, ...], file: Path, images: int, seen: tuple[float, float], found: Measured
) -> tuple[float, ...]:
    """Seconds of the attacks that are not in the file of stages."""
    taken = [images * seen[k > 0] * found.attacks[name] for k, name in enumerate(names)]
    return tuple(taken[_stages_done(file) :])


def attacks_cost(
    config: attacks.Config, job: Job, found: Measured, trained: robust.Config, of: Job
) -> Cost | None:
    """All four attacks on the network of the job `of`, kept one by one."""
    if not found.attacks:
        return None
    tested = size(trained.dataset, "test")
    images, names = min(config.images or tested, tested), tuple(STANDARD)
    made = of.saved()
    rows = [{k: m["value"] for k, m in made["metrics"].items()}] if made else []
    seen = _standing(trained, rows, "clean", "apgd-ce")
    file = stages_file(job, names)
    return Cost(start=found.load, stages=_stages(names, file, images, seen, found))


def cka_cost(config: cka.Config, job: Job, found: Measured) -> Cost | None:
    """The maps of all pairs, and PGD-40 on the two networks."""
    if found.maps is None:
        return None
    attacked = 2 * 41 * config.attacked_images * found.strict
    return Cost(start=found.load, rest=PAIRS * found.maps + attacked)


def certified_cost(config: certified.Config, job: Job, found: Measured) -> Cost | None:
    """Training and watching by epoch; then bounds at three radii, PGD-40 and PGD-100 x 10."""
    if found.certified is None:
        return None
    step, certify, gradient = found.certified
    trained = config.train_images or size(config.dataset, "train")
    tested = config.test_images or size(config.dataset, "test")
    looks = 41 * tested + 1010 * min(config.strong_images, tested)
    return Cost(
        start=found.load,
        epoch=-(-trained // config.batch_size) * step + config.watch_images * certify,
        epochs=config.epochs - epochs_done(job),
        rest=3 * tested * certify + looks * gradient,
    )

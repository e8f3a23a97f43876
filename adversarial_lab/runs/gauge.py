"""The first two minutes of a plan: each kind of work once, on the real networks, to know its cost.

Compiled, else in half precision, else plain: the first way in which every training takes a step is
how this device is used, and what failed is told.
"""

import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adversarial_lab import data
from adversarial_lab.attacks.evaluation import STANDARD
from adversarial_lab.certified import certify
from adversarial_lab.classifier import evaluating
from adversarial_lab.pgd import first_wrong
from adversarial_lab.protocol import Search, search_of
from adversarial_lab.runs import certified, cka, robust
from adversarial_lab.runs.classifier import NETWORKS, USUAL_NETWORK, train_network
from adversarial_lab.runs.clock import ProbeTimeUp, TimeUp, limit
from adversarial_lab.runs.costs import Measured, size
from adversarial_lab.runs.crew import Crew
from adversarial_lab.runs.evaluation import Fast, float32_is_strict
from adversarial_lab.runs.fitting import training_parts
from adversarial_lab.runs.speed import (
    SPEEDS,
    InHalf,
    Speed,
    in_half,
    matmul_rate,
    seconds_of,
    speed,
)
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import fit_path

SECONDS = 120.0  # at most
COMPILING = 0.7  # of these, at most, until a compiled network has taken its steps
STEPS = 3  # of a training, in each of two epochs: the first warms up
FEW = {"steps": 3, "queries": 30}  # of an attack


class TooSlow(TimeUp):
    """Compiling takes longer than a probe may."""


def probe(
    trainings: dict[str, robust.Config],
    maps: cka.Config | None,
    bounded: certified.Config | None,
    device: torch.device,
    seconds: float = SECONDS,
) -> Measured:
    """Measure what these configurations need, as much of it as the seconds allow.

    trainings: by run id, of one data set and network. What fails is in the notes, not raised.
    """
    found = Measured()
    work: list[tuple[str, Callable[[], None]]] = [("device", partial(_device, device, found))]
    if trainings:
        first = next(iter(trainings.values()))
        work.append(("evaluation", partial(_evaluation, first, device, found)))
        work.append(("training", partial(_trainings, trainings, device, found, seconds)))
        if maps:
            work.append(("cka", partial(_maps, maps, first, device, found)))
    if bounded:
        work.append(("certified training", partial(_certified, bounded, device, found)))
    try:
        with limit(seconds, ProbeTimeUp):
            while work:
                _attempt(*work[0], found)
                work.pop(0)
    except ProbeTimeUp:
        names = ", ".join(name for name, _ in work)
        found.notes.append(f"the probe's {seconds:.0f} s were over, not measured: {names}")
    return found


def _attempt(name: str, work: Callable[[], None], found: Measured) -> None:
    try:
        work()
    except Exception as error:  # the other measurements go on
        found.notes.append(f"{name} failed: {words(error)}")


def words(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def _device(device: torch.device, found: Measured) -> None:
    if device.type == "cuda":
        found.told["memory"] = torch.cuda.get_device_properties(device).total_memory
    elif hasattr(os, "sysconf"):
        found.told["memory"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for wish in ("plain", "half"):
        how = speed(device, wish)
        found.told[f"matmul FLOP/s, {how.precision}"] = matmul_rate(how)


def _network(config: robust.Config) -> nn.Module:
    return NETWORKS[config.network or USUAL_NETWORK[config.dataset]]()


def _clock(device: torch.device, work: Callable[[], Any]) -> float:
    return seconds_of(work, device.type == "cuda")


def _now(device: torch.device) -> float:
    _clock(device, lambda: None)  # what was asked of the device is done
    return time.perf_counter()


def _evaluation(config: robust.Config, device: torch.device, found: Measured) -> None:
    """A gradient step and a few steps of each attack, all images standing."""
    found.load = _clock(device, lambda: data.load(config.dataset, "train", config.train_images))
    n = min(
        100 if device.type == "cpu" else 1000, config.test_images or size(config.dataset, "test")
    )
    x = data.load(config.dataset, "test", n).x.to(device)
    threat = ThreatModel(norm="linf", eps=config.eps)
    model = speed(device, "plain").place(_network(config)).eval()
    with float32_is_strict():
        found.strict = _pgd_step(model, x, threat, device)
        with evaluating(model) as network:
            y = network(x).argmax(1)
            found.attacks = {
                name: _attack(attack, partial(_clock, device), network, x, y, threat)
                for name, attack in STANDARD.items()
            }


def _pgd_step(
    model: nn.Module, x: Tensor, threat: ThreatModel, device: torch.device, batch: int | None = None
) -> float:
    """Seconds of a step of PGD, an image; the second of two attacks counts."""
    with torch.no_grad():
        y = torch.cat([model(part).argmax(1) for part in x.split(batch or len(x))])
    start = threat.sample(x, torch.Generator().manual_seed(0))
    parts = [v.split(batch or len(x)) for v in (x, y, start)]
    with evaluating(model) as network:
        attack = partial(first_wrong, network, threat=threat, steps=2, stop_when_fooled=False)
        work = lambda: [attack(a, b, start=z) for a, b, z in zip(*parts, strict=True)]  # noqa: E731
        taken = [_clock(device, work) for _ in range(2)][1]
    return taken / (3 * len(x))  # the end is looked at too


def _attack(
    attack: Search,
    clock: Callable[[Callable], float],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
) -> float:
    """Seconds of the whole attack, an image, by a few of its steps against one target."""
    settings = attack.keywords  # type: ignore[attr-defined]
    unit = next(name for name in FEW if name in settings)
    few = {unit: FEW[unit]} | {name: 1 for name in ("targets",) if name in settings}
    short = search_of(Fast(attack, **few))
    taken = clock(lambda: short(model, x, y, threat, rng=torch.Generator().manual_seed(0)))
    return taken / len(x) / FEW[unit] * settings[unit] * settings.get("targets", 1)


def _trainings(
    configs: dict[str, robust.Config], device: torch.device, found: Measured, seconds: float
) -> None:
    """Steps of every training in the first of the ways in which all of them work."""
    first = next(iter(configs.values()))
    ways = SPEEDS[SPEEDS.index(first.speed) :: -1]
    for way in ways:
        found.speed = way
        try:
            with limit(COMPILING * seconds if way == "compiled" else seconds, TooSlow):
                failed = _all_steps(configs, speed(device, way), found)
        except TooSlow as slow:
            failed = [f"{slow} and it was not done"]
        found.notes += [f"{way}: {why}" for why in failed]
        if not failed:
            return
        if way != ways[-1]:
            found.steps.clear()


def _all_steps(configs: dict[str, robust.Config], how: Speed, found: Measured) -> list[str]:
    """Measure every training and the watching; what failed, in words."""
    first, failed = next(iter(configs.values())), []
    model = how.place(_network(first))
    kept = deepcopy(model.state_dict())
    n = min(STEPS * first.batch_size, size(first.dataset, "train"))
    train = data.load(first.dataset, "train", n)
    for run_id, config in configs.items():
        try:
            model.load_state_dict(kept)
            found.steps[run_id] = _steps(config, how, model, train)
        except Exception as error:  # as a device may: no memory, no compiler
            failed.append(f"{config.method}: {words(error)}")
    threat, x = ThreatModel(norm="linf", eps=first.eps), train.x[: first.batch_size].to(how.device)
    model.load_state_dict(kept)
    found.watch = _pgd_step(InHalf(model.eval(), how), x, threat, how.device, first.batch_size)
    if how.device.type == "cuda":
        found.told["most memory in training"] = torch.cuda.max_memory_allocated(how.device)
    return failed


def _steps(
    config: robust.Config, how: Speed, model: nn.Module, train: data.Dataset
) -> tuple[float, float]:
    """(start, step): by how much the first steps take longer, and a later one."""
    longer = replace(config, epochs=max(2, config.epochs))
    parts = training_parts(longer, how, model, train, Crew(how.device))
    objective = in_half(parts["objective"], how, parts["optimizer"])
    path = fit_path(**parts | {"objective": objective}, progress=False)
    first, second = (_clock(how.device, lambda: next(path)) for _ in range(2))
    return max(0.0, first - second), second / len(parts["loader"])


def _maps(
    config: cka.Config, trained: robust.Config, device: torch.device, found: Measured
) -> None:
    """The heat maps of two folds, times half the folds."""
    n = 2 * config.images // config.folds
    x = data.load(config.dataset, "test", n).x.to(device)
    one, two = (_network(trained).to(device).eval() for _ in range(2))
    part = replace(config, folds=2, images=n)
    found.maps = _clock(device, lambda: cka.heat_maps(part, one, two, x)) * config.folds / 2


def _certified(config: certified.Config, device: torch.device, found: Measured) -> None:
    """A step between a third and two thirds of a training, where eps grows; bounds; PGD."""
    n = min(STEPS * config.batch_size, size(config.dataset, "train"))
    threat = ThreatModel(norm="linf", eps=config.eps)
    train = data.load(config.dataset, "train", n)
    ends: list[float] = []
    model, _ = train_network(
        replace(config, epochs=3),
        train.x,
        train.y,
        partial(certified.make_objective, config, threat),
        device=device,
        network=config.network,
        recipe=config.recipe,
        watch=lambda model: ends.append(_now(device)) or {},  # type: ignore[func-returns-value]
    )
    step = (ends[1] - ends[0]) / -(-n // config.batch_size)
    x, y = train.x[:200].to(device), train.y[:200].to(device)
    exact, images = certified.as_bounded(model, x)
    proved = _clock(device, lambda: certify(exact, images, y, threat, "ibp")) / len(x)
    found.certified = (step, proved, _pgd_step(model, x, threat, device))

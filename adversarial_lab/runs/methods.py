"""Sections 17.1 to 17.3: the ways to train that the run `robust` compares, one row each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch

from adversarial_lab.pgd import fgsm, noise_fgsm, pgd
from adversarial_lab.runs.classifier import Ramp
from adversarial_lab.threat import Points, Rng, ThreatModel
from adversarial_lab.trades import pgd_from_noise, trades
from adversarial_lab.training import (
    Attack,
    Objective,
    PerExample,
    adversarial,
    eps_warmup,
    erm,
)


@runtime_checkable
class Settings(Protocol):
    """The fields of a configuration that a method reads. Steps are in units of eps."""

    @property
    def eps(self) -> float: ...
    @property
    def warmup(self) -> float: ...  # fraction of training over which eps grows from 0
    @property
    def steps(self) -> int: ...
    @property
    def step(self) -> float: ...
    @property
    def noise(self) -> float: ...
    @property
    def beta(self) -> float: ...


Make = Callable[[Settings, torch.Generator], tuple[Objective, Ramp]]


@dataclass(frozen=True)
class Method:
    """How to train, and by which accuracy on the validation images the epoch is chosen."""

    make: Make
    choose: str = "validation pgd"  # a column of the run's table


def fgsm_random_start(f: PerExample, x: Points, threat: ThreatModel, *, rng: Rng) -> Points:
    """FGSM-RS: one step of 1.25 eps from a uniform start (Wong et al. 2020)."""
    return fgsm(f, x, threat, step_size=1.25 * threat.eps, random_start=True, rng=rng)


def multi_step(
    attack: Callable[..., Points], config: Settings, rng: torch.Generator | None = None
) -> Attack:
    """`pgd` or a relative of it, with a step that keeps its ratio to an eps that grows."""

    def run(f: PerExample, x: Points, threat: ThreatModel) -> Points:
        size = config.step * threat.eps
        return attack(f, x, threat, steps=config.steps, step_size=size, rng=rng)

    return run


def _ramp(config: Settings) -> Ramp:
    return eps_warmup(ThreatModel(norm="linf", eps=config.eps), config.warmup)


def _standard(config: Settings, rng: torch.Generator) -> tuple[Objective, Ramp]:
    return erm, lambda t: {}


def _one_step(attack: Callable, config: Settings, rng: torch.Generator) -> tuple[Objective, Ramp]:
    return partial(adversarial, attack=partial(attack, rng=rng)), _ramp(config)


def _n_fgsm(config: Settings, rng: torch.Generator) -> tuple[Objective, Ramp]:
    return _one_step(partial(noise_fgsm, noise=config.noise), config, rng)


def _pgd(config: Settings, rng: torch.Generator) -> tuple[Objective, Ramp]:
    return partial(adversarial, attack=multi_step(pgd, config, rng)), _ramp(config)


def _trades(config: Settings, rng: torch.Generator) -> tuple[Objective, Ramp]:
    attack = multi_step(pgd_from_noise, config, rng)
    return partial(trades, attack=attack, beta=config.beta), _ramp(config)


METHODS: dict[str, Method] = {
    "standard": Method(_standard, choose="validation clean"),
    "fgsm": Method(partial(_one_step, fgsm)),
    "fgsm-rs": Method(partial(_one_step, fgsm_random_start)),
    "n-fgsm": Method(_n_fgsm),
    "pgd": Method(_pgd),
    "trades": Method(_trades),
}

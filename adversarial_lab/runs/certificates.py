"""Section 17.4 on real data: every certificate on the same networks and images, with its time.

Above each certificate stands what PGD leaves: the truth lies between the two. Radii grow until a
method verifies nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from adversarial_lab import data, nets
from adversarial_lab.attacks.evaluation import STANDARD, standard_evaluation
from adversarial_lab.certified import METHODS, certify, smoothing
from adversarial_lab.pgd import Attacked, attack_model
from adversarial_lab.runs.classifier import known, share
from adversarial_lab.runs.record import Job
from adversarial_lab.threat import ThreatModel

STRONG = ("apgd-ce", "square", "apgd-t")
ATTACK, SMOOTHING = "pgd", "smoothing"  # beside the keys of METHODS


@dataclass(frozen=True)
class Config:
    """All that decides the result. Radii in data units."""

    networks: str = "mnist-standard,mnist-pgd,mnist-ibp"
    linf: str = "0.005,0.01,0.02,0.03,0.05,0.1,0.15,0.2,0.25,0.3"
    linf_methods: str = "ibp-logits,ibp,crown-ibp,crown"
    l2: str = "0.05,0.1,0.2,0.3,0.5,0.75,1.0,1.5,2.0"
    l2_methods: str = "lipschitz,lipschitz-pair,lipschitz-local,crown,smoothing"
    images: int = 100  # the first of the embedded test images
    steps: int = 100  # of PGD, with `restarts` starts
    restarts: int = 5
    strong_images: int = 500  # of the same, for Square and APGD after each other
    strong_eps: float = 0.3  # linf
    sigma: float = 0.5  # noise of the smoothed classifier
    draws: int = 2000  # of noise, each image
    alpha: float = 0.001
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.networks.split(","):
            known("networks", name, nets.SHIPPED)
        for norm in ("linf", "l2"):
            for method in getattr(self, f"{norm}_methods").split(","):
                known(f"{norm}_methods", method, {**METHODS, SMOOTHING: None})


SCALES = {"quick": Config()}
COST = {"quick": "15 minutes on one CPU core, most of it CROWN"}


def run(config: Config, job: Job) -> dict:
    """A row (network, norm, eps, method, verified, CPU seconds an image) each; the record."""
    x, y = data.load("mnist-mini", "test", config.images)
    cases = [
        (name, norm, method)
        for name in config.networks.split(",")
        for norm in ("linf", "l2")
        for method in [ATTACK, *getattr(config, f"{norm}_methods").split(",")]
    ]
    rows, metrics = [], {}
    for name, norm, method in tqdm(cases, "certificates", disable=not job.progress):
        radii = [float(eps) for eps in getattr(config, norm).split(",")]
        prove = _prover(config, method, nets.shipped(name), x, y, norm)
        for eps in radii:
            began = time.process_time()
            metric = share(prove(eps))
            seconds = (time.process_time() - began) / len(x)
            key = {"network": name, "norm": norm, "method": method, "eps": eps}
            rows.append({**key, "verified": metric["value"], "seconds": round(seconds, 6)})
            metrics[f"{name} {norm} {eps:g} {method}"] = metric
            if not metric["value"]:
                break  # larger balls hold this one
    for name in config.networks.split(","):
        metrics[f"{name} strong"] = share(~_strong(config, nets.shipped(name)).fooled)
    return job.save(metrics, rows, {"name": "mnist-mini", "test": len(x)})


def _strong(config: Config, model: nn.Module) -> Attacked:
    """Three attacks of the standard evaluation; the last one sees what the others left."""
    x, y = data.load("mnist-mini", "test", config.strong_images)
    threat = ThreatModel(norm="linf", eps=config.strong_eps)
    attacks = {name: STANDARD[name] for name in STRONG}
    stages = standard_evaluation(model, x, y, threat, attacks=attacks, seed=config.seed)
    return stages[-1].found


def _prover(
    config: Config, method: str, model: nn.Module, x: Tensor, y: Tensor, norm: str
) -> Callable[[float], Tensor]:
    """eps -> who is verified; for PGD, who is left standing."""
    rng = torch.Generator().manual_seed(config.seed)
    if method == ATTACK:
        attack = partial(attack_model, steps=config.steps, restarts=config.restarts, rng=rng)
        return lambda eps: ~attack(model, x, y, ThreatModel(norm=norm, eps=eps)).fooled
    if method == SMOOTHING:
        vote = partial(smoothing.certify, sigma=config.sigma, n=config.draws, alpha=config.alpha)
        smoothed = None

        def beyond(eps: float) -> Tensor:
            nonlocal smoothed  # one sampling serves every radius, and is paid for at the first
            smoothed = smoothed or vote(model, x, rng=rng)
            return (smoothed.label == y) & (smoothed.radius > eps)

        return beyond
    return lambda eps: certify(model, x, y, ThreatModel(norm=norm, eps=eps), method)

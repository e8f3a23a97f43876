"""Section 17.2.3: the measurements behind `masking_report`, each made when first asked for."""

from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from adversarial_lab.attacks.margins import margin
from adversarial_lab.attacks.square import square
from adversarial_lab.classifier import NoGradient, check_logits
from adversarial_lab.masking.curvature import gradient, gradient_cosine
from adversarial_lab.pgd import attack_model, fgsm, pgd_path
from adversarial_lab.protocol import cross_entropy, verified
from adversarial_lab.threat import ThreatModel

Fooled = Bool[Tensor, " n"]
STEPS = 40


def dead(logits: Tensor, y: Tensor) -> str:
    """Why attacking makes no sense: NaN, one answer to everything, nothing right; else empty."""
    if not logits.isfinite().all():
        return f"{int((~logits.isfinite()).any(1).sum())} of {len(logits)} outputs hold NaN or inf"
    if len(logits) > 1 and (logits - logits[0]).abs().max() <= 1e-6 * logits.abs().max():
        return "the output is the same for every image"
    found = logits.argmax(1)
    if (found != y).all():
        return "no image is classified right"
    if len(y.unique()) > 2 and (found == found[0]).all():
        return f"every image is taken for class {int(found[0])}, in a batch of several classes"
    return ""


class Unnoticed(nn.Module):
    """A network's outputs less one, so that probabilities pass for logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) - 1


class Flat(nn.Module):
    """A network without a gradient, computed outside torch perhaps, with the gradient 0."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.detach()) + 0 * x.flatten(1).sum(1, keepdim=True)


@dataclass
class Evidence:
    """One network on one batch. Every attack is a cached property: who is broken by it, (n,).

    Images wrong at x count as broken everywhere. Probabilities are attacked as if they were logits
    (`Unnoticed`), which is what an attack does that does not look, and a network without any
    gradient as if it were 0 (`Flat`).
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    threat: ThreatModel
    certified: Tensor | None = None
    queries: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        self.check()
        if self.probabilities:
            self.model = Unnoticed(self.model)

    def check(self) -> None:
        """Raise ValueError unless images, labels, logits and certificates belong together."""
        n, certified = len(self.x), self.certified
        # of logits only the shape: about NaN and probabilities there is something to report
        check_logits(torch.zeros_like(self.logits), self.y)
        if certified is not None and (certified.dtype != torch.bool or certified.shape != (n,)):
            raise ValueError(
                f"certified must be bool of shape ({n},), got {certified.dtype} of shape"
                f" {tuple(certified.shape)}"
            )

    @cached_property
    def logits(self) -> Tensor:
        with torch.no_grad():
            return self.model(self.x)

    @cached_property
    def clean(self) -> Fooled:
        return self.logits.argmax(1) != self.y

    def ce(self, z: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        return cross_entropy(self.model(z), self.y[rows])

    def rng(self, place: int) -> torch.Generator:
        return torch.Generator().manual_seed(1000 * self.seed + place)

    @cached_property
    def nondeterminism(self) -> float:
        with torch.no_grad():
            first, *more = (self.model(self.x) for _ in range(4))
        gap = max((again - first).abs().max().item() for again in more)
        return gap / max(first.std().item(), 1e-30)

    @cached_property
    def probabilities(self) -> bool:
        sums = self.logits.double().sum(1)
        return bool((self.logits >= 0).all() and (sums - 1).abs().max() < 1e-4)

    @cached_property
    def dead(self) -> str:
        why = dead(self.logits, self.y)
        bad = 0 if why else int((~self.gradients.isfinite()).flatten(1).any(1).sum())
        return f"{bad} of {len(self.x)} gradients hold NaN or inf" if bad else why

    @cached_property
    def gradients(self) -> Tensor:
        try:
            return gradient(self.ce, self.x)
        except NoGradient:
            self.model = Flat(self.model)
            return gradient(self.ce, self.x)

    @cached_property
    def zero_gradients(self) -> float:
        return (self.gradients == 0).flatten(1).all(1).double().mean().item()

    @cached_property
    def cosine(self) -> float:
        return gradient_cosine(self.ce, self.x, self.threat, self.rng(1)).mean().item()

    def attacked(self, steps: int = STEPS, **settings) -> Fooled:
        """Who is broken by PGD at any step, from one and the same first start."""
        attack = partial(attack_model, self.model, self.x, self.y, steps=steps, rng=self.rng(2))
        return attack(**{"threat": self.threat, **settings}).fooled

    def one_step(self, eps: float) -> Fooled:
        """Who is broken by FGSM at this radius."""
        threat = self.threat.with_eps(eps)
        return self.clean | self.verified(fgsm(self.ce, self.x, threat))

    def verified(self, z: Tensor, rows: Tensor | slice = slice(None)) -> Fooled:
        return verified(self.model, self.x[rows], self.y[rows], z, self.threat)

    @cached_property
    def fgsm(self) -> Fooled:
        return self.one_step(self.threat.eps)

    @cached_property
    def fgsm_half(self) -> Fooled:
        return self.one_step(self.threat.eps / 2)

    @cached_property
    def pgd(self) -> Fooled:
        return self.attacked()

    @cached_property
    def pgd_long(self) -> Fooled:
        return self.attacked(steps=200)

    @cached_property
    def pgd_restarts(self) -> Fooled:
        return self.attacked(restarts=5)

    @cached_property
    def margin(self) -> Fooled:
        return self.attacked(loss=margin)

    @cached_property
    def still_rising(self) -> float:
        """(m_40 - m_30) / (m_40 - m_0) of the mean margins of the images that PGD did not break.

        The margin, although PGD ascends the cross-entropy: far from a boundary that one grows
        exponentially, and makes the last steps of an honest climb look like the largest.
        """
        rows = (~self.pgd).nonzero().squeeze(1)
        if not len(rows):
            return 0.0
        f = partial(self.ce, rows=rows)
        points = list(pgd_path(f, self.x[rows], self.threat, steps=STEPS, rng=self.rng(9)))
        with torch.no_grad():
            first, late, last = (
                margin(self.model(points[k]), self.y[rows]).mean().item() for k in (0, 30, STEPS)
            )
        gained = last - first
        return (last - late) / gained if gained > 1e-6 else 0.0

    @cached_property
    def square(self) -> Fooled | None:
        if self.x.ndim != 4 or self.threat.norm not in ("linf", "l2"):
            return None
        fooled = self.every_gradient.clone()
        rows = (~fooled).nonzero().squeeze(1)
        if len(rows):
            settings = {"queries": self.queries, "rng": self.rng(10), "batch_size": len(rows)}
            fooled[rows] = square(
                self.model, self.x[rows], self.y[rows], self.threat, **settings
            ).fooled
        return fooled

    @cached_property
    def random(self) -> Fooled:
        """50 uniform points of N(x), and 50 steps of full length in a random direction."""
        fooled, rng = self.every_gradient.clone(), self.rng(11)
        for _ in range(50):
            inside = self.threat.sample(self.x, rng)
            edge = self.threat.steepest(inside - self.x, rng) * self.threat.eps
            for z in (inside, self.threat.project(self.x, self.x + edge)):
                fooled |= self.verified(z)
        return fooled

    @cached_property
    def unbounded(self) -> float | None:
        if self.threat.box is None:
            return None
        eps = self.threat.diameter(self.x)
        whole = self.threat.with_eps(eps)
        found = self.attacked(steps=100, threat=whole, step_size=eps / 20)
        return 1 - found.double().mean().item()

    @cached_property
    def every_gradient(self) -> Fooled:
        tries = (self.fgsm, self.fgsm_half, self.pgd, self.pgd_long, self.pgd_restarts, self.margin)
        return torch.stack(tries).any(0)

    @cached_property
    def everything(self) -> Fooled:
        more = () if self.square is None else (self.square,)
        return torch.stack((self.every_gradient, self.random, *more)).any(0)

    @cached_property
    def contradiction(self) -> float | None:
        if self.certified is None:
            return None
        return (self.certified & self.everything).double().mean().item()

    def gain(self, more: Fooled, less: Fooled) -> float:
        """Robust accuracy that one attack takes away beyond another; negative if it takes less."""
        return (more.double().mean() - less.double().mean()).item()

    def only(self, fooled: Fooled | None) -> float | None:
        """Share of the images that this attack breaks and no gradient did."""
        return None if fooled is None else (fooled & ~self.every_gradient).double().mean().item()

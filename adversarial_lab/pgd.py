r"""Section 17.1.1: the inner maximisation $\max_{x'\in N(x)} f(x')$ by projected gradient ascent.

`pgd_path` yields every iterate, so a slider, a curve and an attack read the same loop. `pgd` keeps
the last iterate (training), `strongest` the best per example over any iterates (evaluation),
`fgsm` and `noise_fgsm` take one step, and `attack_model` counts what is left standing, skipping
what has fallen.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from adversarial_lab.threat import Points, Rng, ThreatModel
from adversarial_lab.training import Labels, PerExample, check_logits, evaluating

LogitLoss = Callable[[Tensor, Tensor], Tensor]  # logits (n, k), labels (n,) -> (n,)
SCALE = 1024.0  # a power of 2, so no step depends on it; float16 loses gradients below 6e-8


def ascend(
    f: PerExample, z: Points, x: Points, threat: ThreatModel, step_size: float, rng: Rng = None
) -> Points:
    r"""$x^{(k+1)}=\Pi_{N(x)}(x^{(k)}+\alpha\,v(\nabla f(x^{(k)})))$, one step of Section 17.1.1.

    v is sign(g) for linf and g/||g|| for l2 (`threat.step`). f is summed over the examples, never
    averaged: each example keeps a gradient of its own size (a mean underflows in half precision).
    Raises ValueError if f is not per example or its gradient is NaN.
    """
    z = z.detach().requires_grad_()
    value = f(z)
    if value.shape != (len(z),) or not value.requires_grad:
        raise ValueError(
            f"f must return one differentiable value per example, shape ({len(z)},), got shape"
            f" {tuple(value.shape)}, requires_grad={value.requires_grad}"
        )
    (g,) = torch.autograd.grad(SCALE * value.sum(), z)
    if g.isnan().any():
        bad = int(g.isnan().flatten(1).any(1).sum())
        raise ValueError(
            f"f has a NaN gradient in {bad} of {len(z)} examples: an attack"
            " that cannot move proves nothing (Section 17.2)"
        )
    return threat.project(x, threat.step(z.detach(), g, step_size, rng))


def pgd_path(
    f: PerExample,
    x: Points,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float | None = None,
    rng: Rng = None,
    start: Points | None = None,
) -> Iterator[Points]:
    r"""Yields $x^{(0)},\dots,x^{(K)}$ of Section 17.1.1, each in N(x), for any per-example f.

    steps: K. step_size: alpha in data units, by default 2.5 eps / K: at eps / K the path is only
    eps long and cannot cross the ball from a random start. start: x^(0), by default uniform in the
    ball (`threat.sample`); it is projected first. Raises ValueError on bad input (`threat.check`).
    """
    threat.check(x)
    step_size = _step_size(threat, steps, step_size)
    if start is not None and (start.shape != x.shape or not start.isfinite().all()):
        raise ValueError(
            f"start must be finite and of x's shape {tuple(x.shape)}, got {tuple(start.shape)}"
        )
    z = threat.sample(x, rng) if start is None else threat.project(x, start)
    yield z
    for _ in range(steps):
        z = ascend(f, z, x, threat, step_size, rng)
        yield z


def _step_size(threat: ThreatModel, steps: int, step_size: float | None) -> float:
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    if step_size is None:
        return 2.5 * threat.eps / steps
    if not 0 <= step_size < float("inf"):
        raise ValueError(f"step_size must be finite and >= 0 in data units, got {step_size}")
    return step_size


def pgd(
    f: PerExample,
    x: Points,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float | None = None,
    rng: Rng = None,
    start: Points | None = None,
) -> Points:
    """The last iterate $x^{(K)}$ of `pgd_path`: what adversarial training trains on."""
    path = pgd_path(f, x, threat, steps=steps, step_size=step_size, rng=rng, start=start)
    return deque(path, maxlen=1).pop()  # one iterate in memory, not all of them


def fgsm(
    f: PerExample,
    x: Points,
    threat: ThreatModel,
    *,
    step_size: float | None = None,
    rng: Rng = None,
    random_start: bool = False,
) -> Points:
    r"""One step, $\Pi_{N(x)}(x^{(0)}+\alpha\,v(\nabla f(x^{(0)})))$, with alpha = eps by default.

    From x itself (Goodfellow et al. 2015), or from a uniform start (Wong et al. 2020, who take
    alpha = 1.25 eps).
    """
    step_size = threat.eps if step_size is None else step_size
    start = None if random_start else x
    return pgd(f, x, threat, steps=1, step_size=step_size, rng=rng, start=start)


def noise_fgsm(
    f: PerExample,
    x: Points,
    threat: ThreatModel,
    *,
    noise: float = 2.0,
    step_size: float | None = None,
    rng: Rng = None,
) -> Points:
    r"""N-FGSM: $x+\eta+\alpha\,v(\nabla f(x+\eta))$, eta uniform in a ball of `noise` times eps.

    For training only: the point is moved into the box but not back into N(x), from which it is up
    to (noise - 1) eps + alpha away. alpha = eps by default. Source: de Jorge et al. 2022, "Make
    some noise: reliable and efficient single-step adversarial training". Raises ValueError on a
    noise that is negative or not finite.
    """
    if not 0 <= noise < float("inf"):
        raise ValueError(f"noise must be finite and >= 0, in units of eps, got {noise}")
    threat.check(x)
    step_size = _step_size(threat, 1, threat.eps if step_size is None else step_size)
    low, high = threat.box or (-float("inf"), float("inf"))
    reach = noise * threat.eps + step_size
    wide = replace(threat, eps=noise * threat.eps, box=None)
    start = wide.sample(x, rng).clamp(low, high)
    return ascend(f, start, x, wide.with_eps(reach), step_size, rng).clamp(low, high)


def strongest(f: PerExample, candidates: Iterable[Points]) -> Points:
    """Per example, the candidate with the largest f: evaluation over steps and restarts.

    Chain several `pgd_path` for restarts. The clean point counts only if it is a candidate.
    """
    rest = iter(candidates)
    best = next(rest, None)
    if best is None:
        raise ValueError("candidates must hold at least one batch, got none")
    value = torch.no_grad()(f)  # a candidate may need a gradient to be made, so only f goes without
    highest = value(best)
    for z in rest:
        here = value(z)
        better = (here > highest).view(-1, *[1] * (z.ndim - 1))
        best, highest = torch.where(better, z, best), torch.maximum(here, highest)
    return best


@dataclass(frozen=True)
class Attacked:
    """What an attack on a classifier found: `z` breaks the example wherever `fooled` is True."""

    z: Tensor
    fooled: Bool[Tensor, " n"]

    @property
    def robust_accuracy(self) -> float:
        """Share of the examples that the attack could not break."""
        return int((~self.fooled).sum()) / len(self.fooled)


def cross_entropy(logits: Float[Tensor, "n k"], y: Labels) -> Float[Tensor, " n"]:
    r"""$\ell(h(x),y)=-\log p_y$ in nats, per example: what PGD ascends unless told otherwise."""
    return F.cross_entropy(logits, y, reduction="none")


def attack_model(
    model: nn.Module,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float | None = None,
    restarts: int = 1,
    rng: Rng = None,
    loss: LogitLoss = cross_entropy,
    stop_when_fooled: bool = True,
    batch_size: int | None = None,
) -> Attacked:
    """Robust accuracy under PGD, Section 17.1.1: an example falls at its first wrong iterate.

    The clean input and every iterate of every restart count. With `stop_when_fooled` a fallen
    example leaves the batch: the same answer for less work, since every start is drawn for all
    examples (in l2, up to the random directions taken where a gradient is zero). loss: (logits, y)
    -> (n,). batch_size: by default 200 on a CPU (it fits the cache), 1,000 elsewhere. Every z that
    counts is verified once more: inside N(x), and wrong. Raises ValueError on inputs, labels,
    logits or gradients that make no sense.
    """
    threat.check(x)
    if restarts < 1 or (batch_size is not None and batch_size < 1):
        raise ValueError(
            f"restarts and batch_size must be >= 1, got restarts={restarts}, {batch_size=}"
        )
    if len(y) != len(x):
        raise ValueError(f"y must hold one label per example, got {len(y)} for {len(x)} examples")
    size = batch_size or (200 if x.device.type == "cpu" else 1000)
    step_size = _step_size(threat, steps, step_size)
    one_step = partial(ascend, threat=threat, step_size=step_size, rng=rng)
    follow = partial(
        _follow, model, one_step=one_step, loss=loss, steps=steps, stop=stop_when_fooled
    )
    with evaluating(model):
        logits = _logits(model, x, size)
        check_logits(logits, y)
        z, fooled = x.clone(), logits.argmax(1) != y
        for _ in range(restarts):
            start = threat.sample(x, rng)
            for rows in _rows(~fooled, size):
                z[rows], fooled[rows] = follow(x[rows], y[rows], start[rows])
        for rows in _rows(fooled, size):
            again = _logits(model, z[rows], size).argmax(1) != y[rows]
            fooled[rows] = again & threat.contains(x[rows], z[rows])
    return Attacked(z, fooled)


def _rows(chosen: Tensor, size: int) -> Sequence[Tensor]:
    """The chosen rows in batches; none, not one empty batch, if there are none."""
    rows = chosen.nonzero().squeeze(1)
    return rows.split(size) if len(rows) else ()


@torch.no_grad()
def _logits(model: nn.Module, x: Tensor, size: int) -> Tensor:
    return torch.cat([model(part) for part in x.split(size)])


def _follow(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    z: Tensor,
    *,
    loss: LogitLoss,
    steps: int,
    stop: bool,
    one_step: Callable[..., Tensor],
) -> tuple[Tensor, Tensor]:
    """One restart from z: per example the first wrong iterate, else the last; and who is wrong."""
    end, fooled = z.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    rows = torch.arange(len(x), device=x.device)
    for k in range(steps + 1):
        logits: list[Tensor] = []  # the pass that gives the gradient also tells who is fooled

        def value(v: Tensor, y: Tensor = y, logits: list[Tensor] = logits) -> Tensor:
            logits.append(model(v))
            return loss(logits[0], y)

        ahead = one_step(value, z, x) if k < steps else z
        wrong = (logits[0] if logits else model(z)).detach().argmax(1) != y
        new = wrong & ~fooled[rows]
        end[rows[new]], fooled[rows[new]] = z[new], True
        z = ahead
        if stop and new.any():
            rows, x, y, z = rows[~new], x[~new], y[~new], z[~new]
        if not len(rows):
            break
    still = ~fooled[rows]
    end[rows[still]] = z[still]
    return end, fooled

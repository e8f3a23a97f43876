r"""Section 17.1.1: the inner maximisation $\max_{x'\in N(x)} f(x')$ by projected gradient ascent.

`pgd_path` yields every iterate, so a slider, a curve and an attack read the same loop. `pgd` keeps
the last iterate (training), `strongest` the best per example over any iterates (evaluation),
`fgsm` and `noise_fgsm` take one step, and `attack_model` counts what is left standing, skipping
what has fallen.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from adversarial_lab.classifier import Labels, Model, slope
from adversarial_lab.protocol import Attacked, LogitLoss, cross_entropy, trial
from adversarial_lab.threat import Points, Rng, ThreatModel
from adversarial_lab.training import PerExample

SCALE = 1024.0  # a power of 2, so no step depends on it; float16 loses gradients below 6e-8


def ascend(
    f: PerExample, z: Points, x: Points, threat: ThreatModel, step_size: float, rng: Rng = None
) -> Points:
    r"""$x^{(k+1)}=\Pi_{N(x)}(x^{(k)}+\alpha\,v(\nabla f(x^{(k)})))$, one step of Section 17.1.1.

    v is sign(g) for linf and g/||g|| for l2 (`threat.step`). f is summed over the examples, never
    averaged: each example keeps a gradient of its own size (a mean underflows in half precision).
    Raises ValueError if f is not per example or its gradient is NaN.
    """
    g = _gradient(f, z)
    return threat.project(x.detach(), threat.step(z.detach(), g, step_size, rng))


def _gradient(f: PerExample, z: Tensor) -> Tensor:
    """Of f at z, times `SCALE`; checked."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = f(z)
        if value.shape != (len(z),) or not value.requires_grad:
            raise ValueError(
                f"f must return one differentiable value per example, shape ({len(z)},), got shape"
                f" {tuple(value.shape)}, requires_grad={value.requires_grad}"
            )
        g = slope(SCALE * value, z)
    if g.isnan().any():
        bad = int(g.isnan().flatten(1).any(1).sum())
        raise ValueError(
            f"f has a NaN gradient in {bad} of {len(z)} examples: an attack"
            " that cannot move proves nothing (Section 17.2)"
        )
    return g


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
    step_size = _checked(threat, x, steps, step_size, start)
    x = x.detach()
    z = threat.sample(x, rng) if start is None else threat.project(x, start.detach())
    yield z
    for _ in range(steps):
        z = ascend(f, z, x, threat, step_size, rng)
        yield z


def _checked(
    threat: ThreatModel, x: Tensor, steps: int, step_size: float | None, start: Tensor | None
) -> float:
    """The step size, if all of them make sense."""
    threat.check(x)
    if start is not None and (start.shape != x.shape or not start.isfinite().all()):
        raise ValueError(
            f"start must be finite and of x's shape {tuple(x.shape)}, got {tuple(start.shape)}"
        )
    return _step_size(threat, steps, step_size)


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
    start = wide.sample(x.detach(), rng).clamp(low, high)
    return ascend(f, start, x, wide.with_eps(reach), step_size, rng).clamp(low, high)


def strongest(f: PerExample, candidates: Iterable[Points]) -> Points:
    """Per example, the candidate with the largest f: evaluation over steps and restarts.

    Chain several `pgd_path` for restarts. The clean point counts only if it is a candidate.
    """
    rest = iter(candidates)
    best = next(rest, None)
    if best is None:
        raise ValueError("candidates must hold at least one batch, got none")
    best = best.detach()
    value = torch.no_grad()(lambda z: f(z.clone()))  # f may write into what it is given
    highest = value(best)
    for z in rest:
        here = value(z)
        better = (here > highest).view(-1, *[1] * (z.ndim - 1))
        best, highest = torch.where(better, z.detach(), best), torch.maximum(here, highest)
    return best


def attack_model(
    model: Model,
    x: Points,
    y: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float | None = None,
    restarts: int = 1,
    loss: LogitLoss = cross_entropy,
    rng: Rng = None,
    batch_size: int | None = None,
) -> Attacked:
    """Robust accuracy under PGD, Section 17.1.1: an example falls at its first wrong iterate.

    The clean input and every iterate of every restart count. A fallen example leaves the batch:
    the same answer for less work, since every start is drawn for all examples (in l2, up to the
    random directions taken where a gradient is zero). loss: (logits, y) -> (n,). batch_size: by
    default 200 on a CPU (it fits the cache), 1,000 elsewhere. Every z that counts is `verified`.
    Raises ValueError on inputs, labels, logits or gradients that make no sense.
    """
    if restarts < 1 or (batch_size is not None and batch_size < 1):
        raise ValueError(
            f"restarts and batch_size must be >= 1, got restarts={restarts}, {batch_size=}"
        )
    size = batch_size or (200 if x.device.type == "cpu" else 1000)
    step_size = _step_size(threat, steps, step_size)
    search = partial(first_wrong, steps=steps, step_size=step_size, loss=loss, rng=rng)
    with trial(model, x, y, threat, size) as t:
        found = t.clean()
        for _ in range(restarts):
            found = t.pursue(search, found, threat.sample(t.x, rng))
    return found


def first_wrong(
    model: Model,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    start: Points,
    *,
    steps: int,
    step_size: float | None = None,
    loss: LogitLoss = cross_entropy,
    stop_when_fooled: bool = True,
    rng: Rng = None,
) -> Points:
    """PGD from `start`: per example its first wrong iterate, else its last.

    stop_when_fooled: a fallen example leaves the batch; False does all the work for the same
    answer. Call it inside `evaluating(model)`.
    """
    step_size = _step_size(threat, steps, step_size)
    rows, z, end = torch.arange(len(x), device=x.device), start, start.clone()
    fallen = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for k in range(steps + 1):
        logits: list[Tensor] = []  # the pass that gives the gradient also tells who is fooled

        def value(v: Tensor, y: Tensor = y, logits: list[Tensor] = logits) -> Tensor:
            logits.append(model(v))
            return loss(logits[0], y)

        ahead = ascend(value, z, x, threat, step_size, rng) if k < steps else z
        wrong = (logits[0] if logits else model(z)).detach().argmax(1) != y
        new = wrong & ~fallen[rows]
        end[rows[new]], fallen[rows[new]] = z[new], True
        z = ahead
        if stop_when_fooled and new.any():
            rows, x, y, z = rows[~new], x[~new], y[~new], z[~new]
        if not len(rows):
            break
    still = ~fallen[rows]
    end[rows[still]] = z[still]
    return end

r"""Section 17.2.3: FAB, which walks to the nearest decision boundary and not to a larger loss.

Croce and Hein (2020), "Minimally distorted adversarial examples with a fast adaptive boundary
attack", the targeted version. The difference $z_y-z_t$ of two logits is replaced by its tangent;
the nearest point of that hyperplane inside the box is found exactly. Scaling the logits does not
move the hyperplane, and no radius enters: FAB measures a distance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from adversarial_lab.attacks.margins import margin
from adversarial_lab.attacks.targets import each_target
from adversarial_lab.classifier import Labels, Model, slope
from adversarial_lab.norms import row_of
from adversarial_lab.protocol import Undefined, verified_attack
from adversarial_lab.threat import Box, Points, Rng, ThreatModel

# how far the coordinates of the shortest way go beside each other
SPEEDS: dict[str, Callable[[Tensor], Tensor]] = {"linf": torch.ones_like, "l2": torch.abs}


def to_hyperplane(
    x: Float[Tensor, "n d"], w: Float[Tensor, "n d"], gap: Float[Tensor, " n"], norm: str, box: Box
) -> Float[Tensor, "n d"]:
    r"""$\arg\min_d\|d\|$ subject to $\langle w,d\rangle=-\mathrm{gap}$ and x + d in the box.

    Coordinate i moves against the sign of gap w_i, by min(s v_i, room_i) with v = 1 (linf) or |w|
    (l2); the covered gap is piecewise linear in s with kinks at room_i / v_i, so sorting them
    gives s exactly. Where the box allows no solution every coordinate goes to its wall.
    """
    way = -torch.where(gap[:, None] < 0, -1.0, 1.0) * w.sign()
    size = row_of(norm, SPEEDS, " for FAB")(w)
    rate = w.abs() * size
    if box is None:
        s = gap.abs() / rate.sum(1).clamp(min=1e-30)
        return way * s[:, None] * size
    room = torch.where(way > 0, box[1] - x, x - box[0]).clamp(min=0)
    kink, order = torch.where(rate > 0, room / size.clamp(min=1e-30), 0.0).sort(1)
    rate = rate.gather(1, order)
    spent = (rate * kink).cumsum(1)
    running = (rate.sum(1, keepdim=True) - rate.cumsum(1)).clamp(min=0)
    reached = spent + kink * running  # the gap covered when s is at this kink
    last = (reached < gap.abs()[:, None]).sum(1, keepdim=True) - 1  # the kink just below s
    at = last.clamp(min=0)
    behind = torch.where(last < 0, 0.0, spent.gather(1, at))
    rest = torch.where(last < 0, rate.sum(1, keepdim=True), running.gather(1, at))
    s = (gap.abs()[:, None] - behind) / rest.clamp(min=1e-30)
    return way * torch.minimum(s * size, room)


@dataclass(frozen=True)
class Damping:
    r"""How FAB is drawn back to x: $\alpha_{\max}$, $\eta$ and $\beta$ of Algorithm 1."""

    share: float = 0.1  # at most so much of a step goes from x, the rest from z
    overshoot: float = 1.05  # of the way to the hyperplane
    back: float = 0.9  # of its way from x is left to a point that was wrong


@verified_attack
def fab_targets(
    model: Model,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    *,
    targets: int = 9,
    steps: int = 100,
    rng: Rng = None,
) -> Points:
    """FAB-T: `nearest_wrong` towards each of the likeliest wrong classes at x, until one breaks."""

    def attack(model: Model, x: Points, y: Labels, target: Labels) -> Points:
        return nearest_wrong(model, x, y, target, threat, steps=steps, stop_within=threat.eps)

    return each_target(attack, model, x, y, threat, targets=targets)


def nearest_wrong(
    model: Model,
    x: Points,
    y: Labels,
    target: Labels,
    threat: ThreatModel,
    *,
    steps: int = 100,
    stop_within: float = 0.0,
    damping: Damping = Damping(),  # noqa: B008 - frozen
) -> Points:
    """The nearest wrong point found on the way to the boundary between y and target, else x.

    A measure of distance, and of the threat only norm and box are used: the attack within eps is
    `fab_targets`. stop_within: an example is done once it is broken within this distance. Call it
    inside `evaluating(model)`.
    """
    _check(threat, steps)
    best, nearest = x.clone(), torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    rows, z = torch.arange(len(x), device=x.device), x
    for _ in range(steps):
        z = _step(model, x[rows], z, torch.stack([y, target], 1)[rows], threat, damping)
        wrong = _wrong(model, z, y[rows])
        away = threat.distance(x[rows], z)
        nearer = wrong & (away < nearest[rows])
        best[rows[nearer]], nearest[rows[nearer]] = z[nearer], away[nearer]
        pull = torch.where(wrong, damping.back, 1.0).view(-1, *[1] * (x.ndim - 1))
        open_ = nearest[rows] > stop_within
        z = (x[rows] + pull * (z - x[rows]))[open_]
        rows = rows[open_]
        if not len(rows):
            break
    return _refine(model, x, y, best, nearest, stop_within)


def _check(threat: ThreatModel, steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    if threat.norm not in ("linf", "l2"):
        raise Undefined(f"norm must be one of ['l2', 'linf'] for FAB, got {threat.norm!r}")


def _step(
    model: Model, x: Tensor, z: Tensor, goal: Tensor, threat: ThreatModel, damping: Damping
) -> Tensor:
    """Towards the tangent's hyperplane from z and from x, the two mixed by their distances."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        right, rival = model(z).gather(1, goal).unbind(1)
        gap = right - rival
        w = slope(gap, z)
    gap, z, w, flat = gap.detach(), z.detach().flatten(1), w.flatten(1), x.flatten(1)
    project = partial(to_hyperplane, w=w, norm=threat.norm, box=threat.box)
    here = project(z, gap=gap)
    there = project(flat, gap=gap + (w * (flat - z)).sum(1))
    far = [threat.distance(torch.zeros_like(d), d) for d in (here, there)]
    mix = (far[0] / (far[0] + far[1]).clamp(min=1e-30)).clamp(max=damping.share)[:, None]
    new = (1 - mix) * (z + damping.overshoot * here) + mix * (flat + damping.overshoot * there)
    return (new if threat.box is None else new.clamp(*threat.box)).view(x.shape)


@torch.no_grad()
def _wrong(model: Model, z: Tensor, y: Tensor) -> Tensor:
    return model(z).argmax(1) != y


@torch.no_grad()
def _refine(
    model: Model, x: Tensor, y: Tensor, best: Tensor, nearest: Tensor, stop_within: float
) -> Tensor:
    """Three secant steps on the margin from x to the nearest wrong point, where it is too far."""
    (rows,) = (nearest.isfinite() & (nearest > stop_within)).nonzero(as_tuple=True)
    best, low, high = best.clone(), x[rows], best[rows]
    spread = (-1, *[1] * (x.ndim - 1))
    for _ in range(3 if len(rows) else 0):
        right, wrong = (-margin(model(z), y[rows]) for z in (low, high))
        share = (1.001 * right / (right - wrong).clamp(min=1e-30)).clamp(0, 1).view(spread)
        middle = low + share * (high - low)
        hit = _wrong(model, middle, y[rows]).view(spread)
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    best[rows] = high
    return best

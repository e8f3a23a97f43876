r"""Section 17.4.4: certified training in a tenth of the epochs.

Interval bounds of a network as it is usually initialised grow from layer to layer, and training on
them switches most ReLUs off. Three remedies: weights whose bounds keep their size
(`initialise_for_intervals`), batch norm (`batch_norm`), and, while eps grows, a penalty on layers
that widen the bounds or whose ReLUs are not balanced.
Source: Shi et al. 2021, "Fast certified robust training with short warmup".
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from adversarial_lab.certified.batch_norm import hold
from adversarial_lab.certified.criterion import interval_margins_of
from adversarial_lab.certified.graph import Graph
from adversarial_lab.certified.interval import Interval, bound, region
from adversarial_lab.certified.tracing import trace
from adversarial_lab.certified.training import check_share, grown, worst_logits
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels, Scalar, check_logits

TOLERANCE = 0.5  # ratios above it are good enough


def initialise_for_intervals(model: nn.Module) -> nn.Module:
    r"""The network with weights $W\sim N(0,2\pi/n^2)$ in all layers but the last, n inputs each.

    Then $n\,\mathbb E|W|=2$, and a ReLU halves a width on average: bounds keep their size.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    for layer in layers[:-1]:
        nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / layer.weight[0].numel())
    return model


def widening(model: nn.Module, x: Points, threat: ThreatModel) -> list[float]:
    """How much wider than the input's the box before each ReLU is: ratios of mean half-widths.

    Batch norm in training mode is held at this batch. Raises ValueError as `ibp` does.
    """
    threat.check(x)
    box = region(x, threat).box
    with torch.no_grad():
        _, entering = _propagate(hold(trace(model, x[:1]), x)[1], box)
    return [float(_half_width(at) / _half_width(box)) for at in entering]


def short_warmup_loss(
    model: nn.Module,
    x: Points,
    y: Labels,
    *,
    threat: ThreatModel,
    kappa: float,
    strength: float,
) -> Scalar:
    r"""`ibp_loss` + strength x (`tightness` + `balance`), the mean over what enters the ReLUs.

    Raises ValueError as `ibp_loss` does, where strength is negative, and where there is no ReLU.
    """
    if not 0 <= strength < math.inf:
        raise ValueError(f"strength must be finite and >= 0, got {strength}")
    check_share("kappa", kappa)
    threat.check(x)
    clean, graph = hold(trace(model, x[:1]), x)
    check_logits(clean.detach(), y)
    if threat.eps == 0:
        return F.cross_entropy(clean, y)
    *body, last = graph.nodes
    box = region(x, threat).box
    hidden, entering = _propagate(Graph(tuple(body)), box)
    if not entering:
        raise ValueError("model must have ReLUs: the penalties are on what enters them")
    penalty = torch.stack([tightness(box, at) + balance(at) for at in entering]).mean()
    loss = strength * penalty + kappa * F.cross_entropy(clean, y)
    if kappa == 1:
        return loss
    margins = interval_margins_of(last, [hidden], y, outward=False)
    return loss + (1 - kappa) * F.cross_entropy(worst_logits(margins, y), y)


def _propagate(graph: Graph, box: Interval) -> tuple[Interval, list[Interval]]:
    """The box behind the layers, and those that enter its ReLUs."""
    entering: list[Interval] = []
    for node, boxes, out in graph.walk(box, partial(bound, outward=False)):  # noqa: B007
        if isinstance(node.layer, nn.ReLU):
            entering.extend(boxes)
    return out, entering


def tightness(first: Interval, entering: Interval) -> Scalar:
    r"""$[\tau-r_0/r]_+/\tau$ with the mean half-widths of input and layer, $\tau=1/2$."""
    ratio = _half_width(first) / _half_width(entering).clamp(min=1e-12)
    return F.relu(TOLERANCE - ratio) / TOLERANCE


def _half_width(box: Interval) -> Scalar:
    return (box.upper - box.lower).mean() / 2


def balance(entering: Interval) -> Scalar:
    r"""$([\tau-a]_++[\tau-b]_+)/\tau$: ReLUs that are on all over the box against those off.

    a: the smaller over the larger of $\sum|c|$, centres c, over the units on and over those off;
    b: the same of $\sum(c-\bar c)^2$.
    """
    centre = (entering.lower + entering.upper) / 2
    on, off = entering.lower > 0, entering.upper < 0
    away = (centre - centre.mean()).square()
    ratios = [_ratio((v * on).sum(), (v * off).sum()) for v in (centre.abs(), away)]
    return F.relu(TOLERANCE - torch.stack(ratios)).sum() / TOLERANCE


def _ratio(a: Scalar, b: Scalar) -> Scalar:
    """The smaller over the larger of two numbers >= 0."""
    return torch.minimum(a, b) / torch.maximum(a, b).clamp(min=1e-12)


def short_warmup_ramp(
    threat: ThreatModel, *, warm: float, over: float, excess: float = 1.0, strength: float = 0.5
) -> Callable[[float], dict[str, Any]]:
    """A ramp for `short_warmup_loss`: as eps grows, the strength of the penalties falls to 0.

    warm: fraction of training on the clean loss, with penalties at a thousandth of eps. over:
    fraction over which eps then rises to excess * threat.eps, `smoothly`, under the bound alone.
    """
    growth = grown(warm, over)
    if not (excess >= 1 and 0 <= strength < math.inf):
        raise ValueError(f"need excess >= 1 and strength >= 0, got {excess} and {strength}")
    target = excess * threat.eps

    def ramp(t: float) -> dict[str, Any]:
        done = smoothly(growth(t))
        now = threat.with_eps(target * max(done, 1e-3))
        return {"threat": now, "kappa": float(done == 0), "strength": strength * (1 - done)}

    return ramp


def smoothly(t: float, *, bend: float = 0.25, power: int = 4) -> float:
    """0 at 0, 1 at 1; t**power up to scale until `bend`, from there a straight line."""
    height = bend / (bend + power * (1 - bend))
    if t < bend:
        return height * (t / bend) ** power
    return height * (1 + power * (t - bend) / bend)

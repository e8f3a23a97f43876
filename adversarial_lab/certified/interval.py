r"""Section 17.4.2: interval bound propagation, $z'=\phi(Wz+b)$ with bounds in, bounds out.

Two forward passes' worth of work. An affine layer takes the box's centre and radius,
$c'=Wc+b$, $r'=|W|r$; a monotone layer takes the two ends. One table, `RULES`, says which is which.
Sources: Gowal et al. 2018, Mirman et al. 2018.

Bounds are as the arithmetic gives them, for training, or, with `outward`, widened by what rounding
can do: they then hold the values of the network in real arithmetic and those computed in this
dtype, in whatever order sums are taken. (Not for convolutions by Winograd or FFT, or in TF32,
which a GPU library may choose: there, use double.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adversarial_lab.certified.affine import AFFINE, kind, rounding
from adversarial_lab.certified.batch_norm import Held
from adversarial_lab.certified.graph import Add, Graph, Node, trace
from adversarial_lab.nets import Normalize
from adversarial_lab.threat import Points, ThreatModel

Bound = Float[Tensor, "n *d"]
Radii = Float[Tensor, " n"]


class Interval(NamedTuple):
    """lower <= value <= upper in every coordinate."""

    lower: Bound
    upper: Bound

    @property
    def magnitude(self) -> Tensor:
        """The largest size of a value."""
        return torch.maximum(self.upper, -self.lower)

    def widen(self, by: Tensor | float) -> "Interval":
        """Both ends moved outward."""
        return Interval(self.lower - by, self.upper + by)


@dataclass(frozen=True)
class Region:
    """N(x) of each example, with a radius of its own: what a bound starts from.

    box: the smallest interval around N(x), which for linf is N(x) itself.
    """

    x: Points
    eps: Radii
    norm: str
    box: Interval


def region(
    x: Points, threat: ThreatModel, *, eps: Radii | None = None, outward: bool = False
) -> Region:
    """$N(x)$, Section 17.4.1, and the box around it. eps: a radius per example instead of one."""
    eps = x.new_full((len(x),), threat.eps) if eps is None else eps
    eps = eps * (1 + rounding(0, x)) if outward else eps  # 0.3 itself is rounded on the way in
    by = eps.view(-1, *[1] * (x.ndim - 1))
    box = Interval(x - by, x + by)
    if outward:
        box = box.widen(rounding(1, x) * box.magnitude)
    if threat.box is not None:
        box = Interval(box.lower.clamp(*threat.box), box.upper.clamp(*threat.box))
    return Region(x, eps, threat.norm, box)


def ibp(
    model: nn.Module | Graph, x: Points, threat: ThreatModel, *, outward: bool = False
) -> Interval:
    r"""$[f_{\min},f_{\max}]$, Section 17.4.2: bounds on every logit over N(x), each (n, k).

    Differentiable in the weights and in x. l2 and l1 balls are bounded by the box around them.
    outward: see above. Raises ValueError on a layer without a rule, and on batch norm or dropout
    in training mode.
    """
    threat.check(x)
    return propagate(trace(model), region(x, threat, outward=outward).box, outward)


def propagate(graph: Graph, box: Interval, outward: bool) -> Interval:
    """The interval of the output when the input is in the box."""
    return graph.run(box, lambda node, *boxes: bound(node, *boxes, outward=outward))


def bound(node: Node, *boxes: Interval, outward: bool) -> Interval:
    """One layer's output interval from its inputs' intervals: its row in `RULES`."""
    rule = RULES.get(kind(node.layer))
    if rule is None:
        known = ", ".join(sorted(k.__name__ for k in RULES))
        raise ValueError(
            f"layer {node.name!r} is a {type(node.layer).__name__}, which has no interval rule;"
            f" known: {known}"
        )
    try:
        return rule(node.layer, *boxes, outward=outward)
    except ValueError as error:
        raise ValueError(f"layer {node.name!r}: {error}") from error


def _affine(layer: nn.Module, box: Interval, *, outward: bool) -> Interval:
    """$c'=Wc+b$ and $r'=|W|r$: exact for one layer.

    The sum of k products in a coordinate of Wz + b errs by at most gamma_k (|W||z| + |b|), once
    where the centre is computed and once where the network is. |z| <= |c| + r, so it is enough
    to send a wider radius through the same |W|.
    """
    affine = AFFINE[kind(layer)](layer, box.lower.shape)
    centre, radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
    if outward:
        gamma = 2 * rounding(affine.terms, radius)
        radius = radius + gamma * (centre.abs() + radius)
    centre, radius = affine.apply(centre), affine.absolute(radius)
    if outward:
        radius = radius + gamma * affine.offset
    return Interval(centre - radius, centre.add_(radius))  # in place: memory is what takes time


def _rising(layer: nn.Module, box: Interval, *, outward: bool) -> Interval:
    """A non-decreasing function that is computed without rounding: its values at the ends."""
    return Interval(layer(box.lower), layer(box.upper))


def _rising_rounded(layer: nn.Module, box: Interval, *, outward: bool) -> Interval:
    """A non-decreasing function that is computed up to a few units in the last place."""
    _check_rising(layer)
    ends = Interval(layer(box.lower), layer(box.upper))
    return ends.widen(rounding(8, box.lower) * ends.magnitude) if outward else ends


def _check_rising(layer: nn.Module) -> None:
    for name in ("negative_slope", "alpha"):
        if getattr(layer, name, 0) < 0:
            raise ValueError(f"{type(layer).__name__} with {name}={getattr(layer, name)} falls")


def _average(layer: nn.Module, *boxes: Interval, outward: bool) -> Interval:
    """Sums and averages: weights >= 0, so the ends map to the ends."""
    ends = Interval(layer(*[b.lower for b in boxes]), layer(*[b.upper for b in boxes]))
    if not outward:
        return ends
    terms = 2 if isinstance(layer, Add) else _terms(layer, boxes[0])
    return ends.widen(2 * rounding(terms, ends.lower) * layer(*[b.magnitude for b in boxes]))


def _terms(layer: nn.Module, box: Interval) -> int:
    return AFFINE[kind(layer)](layer, box.lower.shape).terms


def _in_place(layer: nn.Module, box: Interval, *, outward: bool) -> Interval:
    """Layers that only move values."""
    AFFINE[kind(layer)](layer, box.lower.shape)  # dropout in training mode is refused there
    return Interval(layer(box.lower), layer(box.upper))


Rule = Callable[..., Interval]  # (layer, *boxes, outward) -> Interval

RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.Linear, nn.Conv1d, nn.Conv2d), _affine),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d), _affine),
    **dict.fromkeys((Normalize, Held), _affine),
    **dict.fromkeys((nn.AvgPool2d, nn.AdaptiveAvgPool2d, Add), _average),
    **dict.fromkeys((nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d), _in_place),
    **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.MaxPool2d), _rising),
    **dict.fromkeys((nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.ELU), _rising_rounded),
}

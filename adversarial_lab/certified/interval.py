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
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adversarial_lab.certified.activations import CURVES, curve_of, extremes
from adversarial_lab.certified.affine import AFFINE, Affine, check_batch, rounding
from adversarial_lab.certified.graph import Graph, Node
from adversarial_lab.certified.layers import Add, Concat, check_concat, kind
from adversarial_lab.certified.tracing import trace
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
    return propagate(trace(model, x[:1]), region(x, threat, outward=outward).box, outward)


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
    if affine.rises:
        return _rising_affine(affine, box, outward)
    centre, radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
    if outward:
        gamma = 2 * rounding(affine.terms, radius)
        radius = radius + gamma * (centre.abs() + radius)
    centre, radius = affine.apply(centre), affine.absolute(radius)
    if outward:
        radius = radius + gamma * affine.offset
    return Interval(centre - radius, centre.add_(radius))  # in place: memory is what takes time


def _rising_affine(affine: Affine, box: Interval, outward: bool) -> Interval:
    """Weights >= 0: the ends go to the ends. Where values only move there is nothing to round."""
    ends = Interval(affine.apply(box.lower), affine.apply(box.upper))
    if not (outward and affine.terms):
        return ends
    return ends.widen(2 * rounding(affine.terms, ends.lower) * affine.apply(box.magnitude))


def _sum(layer: Add, a: Interval, b: Interval, *, outward: bool) -> Interval:
    ends = Interval(a.lower + b.lower, a.upper + b.upper)
    if not outward:
        return ends
    return ends.widen(2 * rounding(2, ends.lower) * (a.magnitude + b.magnitude))


def _concat(layer: Concat, *boxes: Interval, outward: bool) -> Interval:
    check_concat(layer, boxes[0].lower.ndim)
    return Interval(*(layer(*ends) for ends in zip(*boxes, strict=True)))


def _activation(layer: nn.Module, box: Interval, *, outward: bool) -> Interval:
    """The least and the largest value of phi, less and plus a few units in the last place."""
    curve = curve_of(layer, box.lower.ndim)
    ends = Interval(*extremes(layer, curve, *box))
    if curve.exact or not outward:
        return ends
    size = ends.magnitude + box.magnitude if curve.cancels else ends.magnitude
    return ends.widen(rounding(8, box.lower) * size)


def _max_pool(layer: nn.Module, box: Interval, *, outward: bool) -> Interval:
    """A maximum rises with what it is of, and is one of them."""
    check_batch(layer, box.lower.shape)
    return Interval(layer(box.lower), layer(box.upper))


def _log_softmax(layer: nn.Module, box: Interval, *, outward: bool) -> Interval:
    r"""$\log p_i=-\log\sum_je^{z_j-z_i}$: least with $z_i$ low and the others high."""
    dim = _one_dim(layer, box.lower.ndim)
    ends = Interval(_log_share(box.lower, box.upper, dim), _log_share(box.upper, box.lower, dim))
    return ends.widen(rounding(2 * box.lower.shape[dim], box.lower) * (1 + box.magnitude.amax()))


def _log_share(own: Tensor, others: Tensor, dim: int) -> Tensor:
    r"""$-\log(1+\sum_{j\ne i}e^{b_j-a_i})$ for each i, own values a and the others' b."""
    k = own.shape[dim]
    a, b = own.movedim(dim, -1), others.movedim(dim, -1)
    gaps = b.unsqueeze(-2) - a.unsqueeze(-1)  # (..., i, j)
    gaps = gaps.masked_fill(torch.eye(k, dtype=torch.bool, device=own.device), 0.0)
    return -gaps.logsumexp(-1).movedim(-1, dim)


def _softmax(layer: nn.Module, box: Interval, *, outward: bool) -> Interval:
    low, high = _log_softmax(layer, box, outward=outward)
    shares = Interval(low.exp(), high.exp())
    return shares.widen(rounding(8, low) * shares.magnitude)


def _softmin(layer: nn.Softmin, box: Interval, *, outward: bool) -> Interval:
    return _softmax(layer, Interval(-box.upper, -box.lower), outward=outward)


def _one_dim(layer: Any, dimensions: int) -> int:
    dim = -3 if isinstance(layer, nn.Softmax2d) else layer.dim
    if dim is None or dim % dimensions == 0:
        raise ValueError(f"dim must be one of an example's own dimensions, got {dim}")
    return dim


def _gated(layer: nn.GLU, box: Interval, *, outward: bool) -> Interval:
    r"""$a\,\sigma(b)$: the gate is positive, so it meets the ends of a at one of its own."""
    if layer.dim % box.lower.ndim == 0:
        raise ValueError(f"dim must be one of an example's own dimensions, got {layer.dim}")
    (low, gate_low), (high, gate_high) = (end.chunk(2, layer.dim) for end in box)
    gates = gate_low.sigmoid(), gate_high.sigmoid()
    ends = Interval(
        torch.minimum(low * gates[0], low * gates[1]),
        torch.maximum(high * gates[0], high * gates[1]),
    )
    return ends.widen(rounding(16, low) * ends.magnitude) if outward else ends


Rule = Callable[..., Interval]  # (layer, *boxes, outward) -> Interval

MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
ADAPTIVE_MAX_POOLS = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)

RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys(AFFINE, _affine),
    **dict.fromkeys(CURVES, _activation),
    Add: _sum,
    Concat: _concat,
    **dict.fromkeys((*MAX_POOLS, *ADAPTIVE_MAX_POOLS), _max_pool),
    **dict.fromkeys((nn.Softmax, nn.Softmax2d), _softmax),
    nn.Softmin: _softmin,
    nn.LogSoftmax: _log_softmax,
    nn.GLU: _gated,
}

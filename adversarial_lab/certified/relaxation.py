r"""Section 17.4.2: an activation between two lines, $a_lz+b_l\le\phi(z)\le a_uz+b_u$ on [l, u].

The convex outer polytope, cut down to one line on each side, so that bounds stay linear in the
input. One table, `RELAXATIONS`. Sources: Zhang et al. 2018 (ReLU with an adaptive lower slope),
Singh et al. 2018 (smooth activations).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adversarial_lab.certified.activations import (
    CURVES,
    Curve,
    bending,
    curve_of,
    extremes,
    jumps,
    slope_at,
    slopes,
)
from adversarial_lab.certified.interval import Interval
from adversarial_lab.certified.layers import kind


@dataclass(frozen=True)
class Lines:
    """Slopes and offsets of the lines below and above, each (n, *d); no offset below means 0.

    read: for a pooling layer, which flat input coordinate (n, *d) of the channel the lines act on.
    """

    lower_slope: Tensor
    upper_slope: Tensor
    upper_offset: Tensor
    lower_offset: Tensor | None = None
    read: Tensor | None = None


def _leaky(slope: float, box: Interval) -> Lines:
    """max(z, slope z): the chord above; below the side of the kink that leaves the least area."""
    low, high = box
    width = (high - low).clamp(min=torch.finfo(low.dtype).tiny)
    chord = (high - slope * low) / width
    chord = torch.where(low >= 0, 1.0, torch.where(high <= 0, slope, chord))
    crossing = (low < 0) & (high > 0)
    offset = torch.where(crossing, (slope - chord) * low, 0.0)
    near = torch.where(high > -low, 1.0, slope)
    return Lines(torch.where(crossing, near.to(low.dtype), chord), chord, offset)


def _relu(layer: nn.ReLU, box: Interval) -> Lines:
    return _leaky(0.0, box)


def _leaky_relu(layer: nn.LeakyReLU, box: Interval) -> Lines:
    if not 0 <= layer.negative_slope <= 1:
        return _best(layer, box)
    return _leaky(layer.negative_slope, box)


def _best(layer: nn.Module, box: Interval) -> Lines:
    r"""Of the lines that bound any $\phi$, on each side the one that is best in the middle.

    The least slope m gives $\phi(z)\ge\phi(l)+m(z-l)$ and $\phi(z)\le\phi(u)-m(u-z)$, the largest
    the two others. The extremes give level lines; where $\phi$ is convex or concave, a chord and a
    tangent are closest.
    """
    curve, half = curve_of(layer, box.lower.ndim), (box.upper - box.lower) / 2
    low, high = extremes(layer, curve, *box)
    lower, upper = [(torch.zeros_like(half), low)], [(torch.zeros_like(half), high)]
    at_low, at_high, jump = layer(box.lower), layer(box.upper), jumps(curve, *box)
    least, most = slopes(layer, curve, *box)
    for slope, step, one, other in ((least, half, at_low, at_high), (most, -half, at_high, at_low)):
        lower.append((slope, one + slope * step - jump))
        upper.append((slope, other - slope * step + jump))
    _add_chord_and_tangent(layer, curve, box, lower, upper)
    middle = (box.lower + box.upper) / 2
    (below, floor), (above, roof) = _highest(lower), _highest([(s, -v) for s, v in upper])
    return Lines(below, above, -roof - above * middle, floor - below * middle)


Line = tuple[Tensor, Tensor]  # a slope, and the value in the middle of the interval


def _add_chord_and_tangent(
    layer: nn.Module, curve: Curve, box: Interval, lower: list[Line], upper: list[Line]
) -> None:
    middle, width = (box.lower + box.upper) / 2, box.upper - box.lower
    at_low, at_high = layer(box.lower), layer(box.upper)
    chord = (at_high - at_low) / width.clamp(min=torch.finfo(width.dtype).tiny)
    chord = chord, (at_low + at_high) / 2
    tangent = slope_at(layer, curve, middle, right=True), layer(middle)
    convex, concave = bending(layer, curve, *box)
    for lines, on_tangent, sign in ((lower, convex, -1), (upper, concave, 1)):
        slope, value = (torch.where(on_tangent, t, c) for t, c in zip(tangent, chord, strict=True))
        lines.append((slope, torch.where(convex | concave, value, sign * torch.inf)))


def _highest(lines: list[Line]) -> Line:
    """The line with the largest value, by coordinate; one that is not finite never is."""
    (slope, value), *rest = lines
    for other, here in rest:
        better = (here > value) & other.isfinite()
        slope, value = torch.where(better, other, slope), torch.where(better, here, value)
    return slope, value


def _max_pool(layer: nn.MaxPool2d, box: Interval) -> Lines:
    """At least the input that is surely high; at most the highest end, or that input if it wins."""
    if layer.ceil_mode or layer.dilation not in (1, (1, 1)):
        raise ValueError("MaxPool2d with ceil_mode or dilation has no linear bounds")
    size, stride, padding = layer.kernel_size, layer.stride, layer.padding
    floor, read = F.max_pool2d(box.lower, size, stride, padding, return_indices=True)
    ends = _windows(box.upper, _pair(size), _pair(stride), _pair(padding))
    top = ends.topk(min(2, ends.shape[-1]), dim=-1).values
    chosen = box.upper.flatten(2).gather(2, read.flatten(2)).view_as(read)
    rival = torch.where(chosen >= top[..., 0], top[..., -1], top[..., 0])
    wins = (rival <= floor) | (top.shape[-1] == 1)
    one = torch.ones_like(floor)
    return Lines(one, one * wins, torch.where(wins, 0.0, top[..., 0]), read=read)


def _windows(z: Tensor, size: tuple, stride: tuple, padding: tuple) -> Tensor:
    z = F.pad(z, (padding[1], padding[1], padding[0], padding[0]), value=-torch.inf)
    return z.unfold(2, size[0], stride[0]).unfold(3, size[1], stride[1]).flatten(4)


def _pair(v: int | tuple) -> tuple:
    return (v, v) if isinstance(v, int) else v


RELAXATIONS: dict[type[nn.Module], Callable[..., Lines]] = {
    **dict.fromkeys(CURVES, _best),
    nn.ReLU: _relu,
    nn.LeakyReLU: _leaky_relu,
    nn.MaxPool2d: _max_pool,
}


def undecided(layer: nn.Module, box: Interval) -> Tensor:
    """Where tighter bounds on the input would bring the two lines closer."""
    curve = curve_of(layer, box.lower.ndim) if kind(layer) in CURVES else None
    if curve is None or not curve.straight:
        return box.lower < box.upper
    inside = torch.zeros_like(box.lower, dtype=torch.bool)
    for knot in curve.knots:
        inside = inside | ((box.lower < knot.at) & (box.upper > knot.at))
    return inside

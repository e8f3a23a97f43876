r"""Section 17.4.2: what a bound needs to know of an activation $\phi$, a function of one number.

Between two knots the slope of $\phi$ only rises or only falls. So the ends of an interval, the
knots and the turns inside it say how large $\phi$ and its slope can get there, whatever the
parameters: a negative slope, an alpha of either sign, a threshold at which $\phi$ jumps. One table,
`CURVES`, serves intervals, linear bounds, Jacobians and Lipschitz constants.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adversarial_lab.certified.layers import Abs, kind

Number = Tensor | float  # a tensor where each channel has its own


@dataclass(frozen=True)
class Knot:
    """A place where the slope jumps or turns round: the slopes on its left and on its right.

    values: the limits of phi from the left and from the right, where phi itself jumps.
    """

    at: float
    left: Number
    right: Number
    values: tuple[float, float] | None = None

    @property
    def jump(self) -> float:
        """How far phi jumps here."""
        return 0.0 if self.values is None else abs(self.values[1] - self.values[0])


@dataclass(frozen=True)
class Curve:
    """phi: its knots from left to right, its slopes at -inf and inf, and where else it turns.

    turns: where the slope is 0 between two knots. straight: linear between them. exact: computed
    without rounding. cancels: computed as a difference of numbers as large as z.
    """

    knots: tuple[Knot, ...] = ()
    tails: tuple[Number, Number] = (0.0, 0.0)
    turns: tuple[float, ...] = ()
    straight: bool = False
    exact: bool = False
    cancels: bool = False

    @property
    def steepest(self) -> float:
        r"""$\sup|\phi'|$."""
        return max(abs(end) for slope in self._slopes() for end in _ends(slope))

    @property
    def rises(self) -> bool:
        """Does phi never fall?"""
        up = all(_ends(slope)[0] >= 0 for slope in self._slopes())
        return up and not self.turns and all(k.values is None or k.jump == 0 for k in self.knots)

    @property
    def jump(self) -> float:
        """By how much more than `steepest` |u - v| two values can differ."""
        return sum(knot.jump for knot in self.knots)

    def _slopes(self) -> list[Number]:
        return [*self.tails, *(s for knot in self.knots for s in (knot.left, knot.right))]


def _ends(v: Number) -> tuple[float, float]:
    return (v.min().item(), v.max().item()) if isinstance(v, Tensor) else (v, v)


def curve_of(layer: nn.Module, dimensions: int) -> Curve:
    """The curve of an activation on values with so many dimensions: its row in `CURVES`."""
    return CURVES[kind(layer)](layer, dimensions)


def extremes(layer: nn.Module, curve: Curve, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    r"""$\min\phi,\max\phi$ on [low, high], as plain arithmetic gives them."""
    at_low, at_high = layer(low), layer(high)
    if curve.rises:
        return at_low, at_high
    least, most = torch.minimum(at_low, at_high), torch.maximum(at_low, at_high)
    for at, values in _candidates(curve):
        inside = within(at, low, high)
        for value in values or [layer(torch.full_like(low, at))]:
            least = torch.where(inside, least.clamp(max=value), least)
            most = torch.where(inside, most.clamp(min=value), most)
    return least, most


def _candidates(curve: Curve) -> list[tuple[float, tuple[float, float] | None]]:
    return [(k.at, k.values) for k in curve.knots] + [(turn, None) for turn in curve.turns]


def within(at: float, low: Tensor, high: Tensor) -> Tensor:
    """Is the point in [low, high], or so near that rounding decides?"""
    slack = 2 * torch.finfo(low.dtype).eps * abs(at)
    return (low <= at + slack) & (high >= at - slack)


def slopes(layer: nn.Module, curve: Curve, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    r"""The least and the largest slope of $\phi$ on [low, high], on both sides of each knot."""
    first, last = slope_at(layer, curve, low, right=True), slope_at(layer, curve, high, right=False)
    least, most = torch.minimum(first, last), torch.maximum(first, last)
    for knot in curve.knots:
        inside = (low <= knot.at) & (high >= knot.at)
        for slope in (knot.left, knot.right):
            slope = torch.zeros_like(low) + slope
            least = torch.where(inside, torch.minimum(least, slope), least)
            most = torch.where(inside, torch.maximum(most, slope), most)
    return least, most


def slope_at(layer: nn.Module, curve: Curve, z: Tensor, *, right: bool) -> Tensor:
    r"""$\phi'(z)$; at a knot the slope on its right, or on its left."""
    slope = torch.zeros_like(z) + curve.tails[0] if curve.straight else _derivative(layer, z)
    for knot in curve.knots:
        if curve.straight:
            slope = torch.where(z >= knot.at if right else z > knot.at, knot.right, slope)
        else:
            slope = torch.where(z == knot.at, knot.right if right else knot.left, slope)
    return slope.to(z.dtype)


def _derivative(layer: nn.Module, z: Tensor) -> Tensor:
    with torch.enable_grad():
        z = z if z.requires_grad else z.detach().requires_grad_()
        return torch.autograd.grad(layer(z).sum(), z, create_graph=torch.is_grad_enabled())[0]


def bending(layer: nn.Module, curve: Curve, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Where phi is convex on [low, high], its slope nowhere falling, and where it is concave."""
    last = slope_at(layer, curve, low, right=True)
    convex = concave = jumps(curve, low, high) == 0
    for knot in curve.knots:
        inside = (low < knot.at) & (high > knot.at)
        for slope in (knot.left, knot.right):
            convex = convex & (~inside | (last <= slope))
            concave = concave & (~inside | (last >= slope))
            last = torch.where(inside, slope, last)
    end = slope_at(layer, curve, high, right=False)
    return convex & (last <= end), concave & (last >= end)


def jumps(curve: Curve, low: Tensor, high: Tensor) -> Tensor:
    """By how much phi jumps inside [low, high], all jumps together."""
    total = torch.zeros_like(low)
    for knot in curve.knots:
        if knot.jump:
            total = total + knot.jump * within(knot.at, low, high)
    return total


def _straight(*knots: Knot, left: Number, right: Number, **how: Any) -> Curve:
    finite = tuple(knot for knot in knots if math.isfinite(knot.at))
    return Curve(finite, (left, right), straight=True, **how)


def _leaky(slope: Number) -> Curve:
    return _straight(Knot(0.0, slope, 1.0), left=slope, right=1.0)


def _prelu(layer: nn.PReLU, dimensions: int) -> Curve:
    each = layer.num_parameters > 1
    return _leaky(layer.weight.view(-1, *[1] * (dimensions - 2)) if each else layer.weight)


def _rrelu(layer: nn.RReLU, dimensions: int) -> Curve:
    if layer.training:
        raise ValueError("RReLU is random in training mode: call model.eval() first")
    return _leaky((layer.lower + layer.upper) / 2)


def _clamp(low: float, high: float) -> Curve:
    ends = (Knot(low, 0.0, 1.0), Knot(high, 1.0, 0.0))
    return _straight(
        *ends,
        left=0.0 if math.isfinite(low) else 1.0,
        right=0.0 if math.isfinite(high) else 1.0,
        exact=True,
    )


def _softshrink(layer: nn.Softshrink, dimensions: int) -> Curve:
    knots = Knot(-layer.lambd, 1.0, 0.0), Knot(layer.lambd, 0.0, 1.0)
    return _straight(*knots, left=1.0, right=1.0, cancels=True)


def _hardshrink(layer: nn.Hardshrink, dimensions: int) -> Curve:
    at = float(layer.lambd)
    if at < 0:  # nothing is shrunk
        return _straight(left=1.0, right=1.0, exact=True)
    knots = Knot(-at, 1.0, 0.0, (-at, 0.0)), Knot(at, 0.0, 1.0, (0.0, at))
    return _straight(*knots, left=1.0, right=1.0, exact=True)


def _threshold(layer: nn.Threshold, dimensions: int) -> Curve:
    values = float(layer.value), float(layer.threshold)
    return _straight(Knot(values[1], 0.0, 1.0, values), left=0.0, right=1.0, exact=True)


def _elu(alpha: float, scale: float = 1.0) -> Curve:
    return Curve((Knot(0.0, scale * alpha, scale),), (0.0, scale))


def _celu(layer: nn.CELU, dimensions: int) -> Curve:
    return Curve((Knot(0.0, 1.0, 1.0),), (0.0 if layer.alpha > 0 else math.inf, 1.0))


def _softplus(layer: nn.Softplus, dimensions: int) -> Curve:
    """Linear beyond a threshold, at which the formula and the line do not meet."""
    beta, threshold = float(layer.beta), float(layer.threshold)
    if beta == 0:
        raise ValueError("Softplus with beta=0 divides by 0")
    at, slope = threshold / beta, 1 / (1 + math.exp(min(-threshold, 700.0)))
    curved = (max(threshold, 0.0) + math.log1p(math.exp(-abs(threshold)))) / beta
    if beta > 0:
        return Curve((Knot(at, slope, 1.0, (curved, at)),), (0.0, 1.0))
    return Curve((Knot(at, 1.0, slope, (at, curved)),), (1.0, 0.0))


def _gelu(layer: nn.GELU, dimensions: int) -> Curve:
    if layer.approximate == "tanh":
        return _bumped(1.4185040087908284, 0.12899306865877176, -0.7524614220710163, cancels=True)
    return _bumped(math.sqrt(2), 0.12890414515518479, -0.7517915246935645, cancels=True)


def _bumped(at: float, beyond: float, turn: float, cancels: bool = False) -> Curve:
    """z times a gate that rises from 0 to 1: the slope leaves [0, 1] by `beyond` at -at and at."""
    knots = Knot(-at, -beyond, -beyond), Knot(at, 1 + beyond, 1 + beyond)
    return Curve(knots, (0.0, 1.0), (turn,), cancels=cancels)


def _bell(top: float) -> Curve:
    return Curve((Knot(0.0, top, top),), (0.0, 0.0))


MISH = Curve(
    (
        Knot(-2.25637639636079312, -0.11252612238946256, -0.11252612238946256),
        Knot(1.49057117948542846, 1.08849816125172179, 1.08849816125172179),
    ),
    (0.0, 1.0),
    (-1.1924312145154952,),
)
HARD_SIGMOID = _straight(
    Knot(-3.0, 0.0, 1 / 6), Knot(3.0, 1 / 6, 0.0), left=0.0, right=0.0, cancels=True
)
HARD_SWISH = Curve((Knot(-3.0, 0.0, -0.5), Knot(3.0, 1.5, 1.0)), (0.0, 1.0), (-1.5,), cancels=True)
SELU = _elu(1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


CURVES: dict[type[nn.Module], Callable[..., Curve]] = {
    nn.ReLU: lambda layer, d: _straight(Knot(0.0, 0.0, 1.0), left=0.0, right=1.0, exact=True),
    nn.ReLU6: lambda layer, d: _clamp(0.0, 6.0),
    nn.Hardtanh: lambda layer, d: _clamp(float(layer.min_val), float(layer.max_val)),
    nn.LeakyReLU: lambda layer, d: _leaky(float(layer.negative_slope)),
    nn.PReLU: _prelu,
    nn.RReLU: _rrelu,
    Abs: lambda layer, d: _straight(Knot(0.0, -1.0, 1.0), left=-1.0, right=1.0, exact=True),
    nn.Softshrink: _softshrink,
    nn.Hardshrink: _hardshrink,
    nn.Threshold: _threshold,
    nn.Hardsigmoid: lambda layer, d: HARD_SIGMOID,
    nn.Hardswish: lambda layer, d: HARD_SWISH,
    nn.ELU: lambda layer, d: _elu(float(layer.alpha)),
    nn.SELU: lambda layer, d: SELU,
    nn.CELU: _celu,
    nn.Softplus: _softplus,
    nn.GELU: _gelu,
    nn.SiLU: lambda layer, d: _bumped(2.3993572805154677, 0.09983932012886692, -1.2784645427610738),
    nn.Mish: lambda layer, d: MISH,
    nn.Sigmoid: lambda layer, d: _bell(0.25),
    nn.Tanh: lambda layer, d: _bell(1.0),
    nn.Softsign: lambda layer, d: _bell(1.0),
    nn.LogSigmoid: lambda layer, d: Curve(tails=(1.0, 0.0)),
    nn.Tanhshrink: lambda layer, d: Curve((Knot(0.0, 0.0, 0.0),), (1.0, 1.0), cancels=True),
}

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

from adversarial_lab.certified.interval import Interval


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
        raise ValueError(f"negative_slope must be in [0, 1], got {layer.negative_slope}")
    return _leaky(layer.negative_slope, box)


def _parallel(layer: nn.Module, box: Interval) -> Lines:
    """Two parallel lines through the ends, as steep as the flatter end.

    Right wherever the slope first rises and then falls, so that it is nowhere in [l, u] below the
    smaller of its two ends: sigmoid, tanh, softplus, ELU, hardtanh.
    """
    slope = torch.minimum(_derivative(layer, box.lower), _derivative(layer, box.upper))
    below = layer(box.lower) - slope * box.lower
    return Lines(slope, slope, layer(box.upper) - slope * box.upper, below)


def _derivative(layer: nn.Module, z: Tensor) -> Tensor:
    with torch.enable_grad():
        z = z if z.requires_grad else z.detach().requires_grad_()
        return torch.autograd.grad(layer(z).sum(), z, create_graph=torch.is_grad_enabled())[0]


def _max_pool(layer: nn.MaxPool2d, box: Interval) -> Lines:
    """At least the input that is surely high; at most the highest end, or that input if it wins."""
    if layer.ceil_mode or layer.dilation not in (1, (1, 1)):
        raise ValueError("max pooling with ceil_mode or dilation has no linear bounds")
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
    nn.ReLU: _relu,
    nn.LeakyReLU: _leaky_relu,
    **dict.fromkeys((nn.Sigmoid, nn.Tanh, nn.Softplus, nn.ELU, nn.Hardtanh), _parallel),
    nn.MaxPool2d: _max_pool,
}


def undecided(layer: nn.Module, box: Interval) -> Tensor:
    """Where tighter bounds on the input would bring the two lines closer."""
    if isinstance(layer, nn.ReLU | nn.LeakyReLU):
        return (box.lower < 0) & (box.upper > 0)
    return box.lower < box.upper

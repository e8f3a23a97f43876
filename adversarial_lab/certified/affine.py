"""Section 17.4.2: what a bound needs to know of an affine layer $z\\mapsto Wz+b$.

One table, `AFFINE`: a layer type and how to apply W, |W| and W transposed. Interval bounds use
the first two, linear bounds the third as well.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.grad import conv1d_input, conv2d_input
from torch.nn.utils.parametrize import type_before_parametrizations

from adversarial_lab.certified.batch_norm import Held
from adversarial_lab.nets import Normalize

Map = Callable[[Tensor], Tensor]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Affine:
    """$z\\mapsto Wz+b$ on a batch, with |W| and the transpose of W, which acts on rows (r, *out).

    terms: how many products one entry of Wz or of a row times W adds up, at most. offset: |b| or,
    where b is itself computed, the sum of the sizes of what it is computed from. Both are what a
    bound on rounding errors has to know.
    """

    apply: Map
    absolute: Map
    transpose: Map
    terms: int
    offset: Tensor | float = 0.0


def _dense(layer: nn.Linear, shape: Shape) -> Affine:
    w, b = layer.weight, layer.bias
    return Affine(
        apply=layer,
        absolute=lambda z: nn.functional.linear(z, w.abs()),
        transpose=lambda a: a @ w,
        terms=max(w.shape),
        offset=0.0 if b is None else b.abs(),
    )


def _convolution(layer: nn.Conv1d | nn.Conv2d, shape: Shape) -> Affine:
    w, b = layer.weight, layer.bias
    return Affine(
        apply=layer,
        absolute=lambda z: layer._conv_forward(z, w.abs(), None),
        transpose=_convolution_transposed(layer, shape),
        terms=max(w[0].numel(), w.numel() // w.shape[1]),
        offset=0.0 if b is None else _per_channel(b.abs(), shape),
    )


def _convolution_transposed(layer: nn.Conv1d | nn.Conv2d, shape: Shape) -> Map:
    w, size = layer.weight, shape[1:]
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        return transposed(lambda z: layer._conv_forward(z, w, None), shape)
    how = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    if isinstance(layer, nn.Conv1d):
        return lambda a: conv1d_input((len(a), *size), w, a, **how, groups=layer.groups)
    if layer.in_channels == 1:
        return lambda a: _fold(a, w, size[1:], how)
    return lambda a: conv2d_input((len(a), *size), w, a, **how, groups=layer.groups)


def _fold(a: Tensor, w: Tensor, size: Shape, how: dict) -> Tensor:
    """The transpose as one product and one sum of patches: a fifth of the time on one channel."""
    return nn.functional.fold(w.flatten(1).T @ a.flatten(2), size, w.shape[2:], **how)


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, shape: Shape) -> Affine:
    if layer.training or layer.running_mean is None or layer.running_var is None:
        raise ValueError(
            "batch norm has bounds only with running statistics, in eval mode: in training one"
            " image's output depends on the others. Call model.eval() first"
        )
    scale = (layer.running_var + layer.eps).rsqrt()
    if layer.weight is not None:
        scale = scale * layer.weight
    offset = (layer.running_mean * scale).abs() + (0 if layer.bias is None else layer.bias.abs())
    return _diagonal(layer, scale, offset, shape)


def _held(layer: Held, shape: Shape) -> Affine:
    return _diagonal(layer, layer.scale, layer.offset, shape)


def _diagonal(layer: nn.Module, scale: Tensor, offset: Tensor, shape: Shape) -> Affine:
    scale = _per_channel(scale, shape)
    return Affine(
        apply=layer,
        absolute=lambda z: z * scale.abs(),
        transpose=lambda a: a * scale,
        terms=8,
        offset=_per_channel(offset, shape),
    )


def _normalize(layer: Normalize, shape: Shape) -> Affine:
    return Affine(
        apply=layer,
        absolute=lambda z: z / layer.std.abs(),
        transpose=lambda a: a / layer.std,
        terms=2,
        offset=(layer.mean / layer.std).abs(),
    )


def _nonnegative(layer: nn.Module, shape: Shape, terms: int) -> Affine:
    return Affine(layer, layer, transposed(layer, shape), terms)


def _average(layer: nn.AvgPool2d, shape: Shape) -> Affine:
    size = layer.kernel_size
    return _nonnegative(layer, shape, size**2 if isinstance(size, int) else math.prod(size))


def _adaptive_average(layer: nn.AdaptiveAvgPool2d, shape: Shape) -> Affine:
    return _nonnegative(layer, shape, math.prod(shape[-2:]))


def _reshape(layer: nn.Module, shape: Shape) -> Affine:
    return _nonnegative(layer, shape, 0)


def _dropout(layer: nn.Dropout, shape: Shape) -> Affine:
    if layer.training:
        raise ValueError("dropout is random in training mode: call model.eval() first")
    return _nonnegative(layer, shape, 0)


def transposed(linear: Map, shape: Shape) -> Map:
    """The transpose of a linear map of batches of that shape: what autograd does to its input."""

    def transpose(a: Tensor) -> Tensor:
        return torch.func.vjp(linear, a.new_zeros(len(a), *shape[1:]))[1](a)[0]

    return transpose


def _per_channel(v: Tensor, shape: Shape) -> Tensor:
    return v.view(-1, *[1] * (len(shape) - 2))


AFFINE: dict[type[nn.Module], Callable[..., Affine]] = {
    nn.Linear: _dense,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    Held: _held,
    Normalize: _normalize,
    nn.AvgPool2d: _average,
    nn.AdaptiveAvgPool2d: _adaptive_average,
    nn.Flatten: _reshape,
    nn.Identity: _reshape,
    nn.Dropout: _dropout,
    nn.Dropout2d: _dropout,
}


def kind(layer: nn.Module) -> type[nn.Module]:
    """The layer's type, looking through torch's parametrisations (spectral norm and the like)."""
    return type_before_parametrizations(layer)


def rounding(terms: int, like: Tensor) -> float:
    r"""$\gamma_k=ku/(1-2ku)$: a sum of k products errs by at most that share of the sum of sizes.

    In whatever order it is added up; u is half the dtype's spacing at 1. k gets a few units for
    the additions around the sum. Source: Higham 2002, Section 3.1, whose bound is ku/(1-ku); the
    second ku pays for the rounding of the bound itself.
    """
    ku = (terms + 8) * torch.finfo(like.dtype).eps / 2
    if ku > 0.25:
        raise ValueError(f"sums of {terms} products say nothing in {like.dtype}: use more digits")
    return ku / (1 - 2 * ku)

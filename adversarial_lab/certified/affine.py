"""Section 17.4.2: what a bound needs to know of an affine layer $z\\mapsto Wz+b$.

One table, `AFFINE`: a layer type and how to apply W, |W| and W transposed. Interval bounds use
the first two, linear bounds the third as well.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.grad import conv1d_input, conv2d_input

from adversarial_lab.certified.batch_norm import BATCH_NORMS, Held
from adversarial_lab.certified.layers import Divide, Mean, Moved, Scale, Shift, Sum, View
from adversarial_lab.nets import Normalize

Map = Callable[[Tensor], Tensor]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Affine:
    """$z\\mapsto Wz+b$ on a batch, with |W| and the transpose of W, which acts on rows (r, *out).

    terms: how many products one entry of Wz or of a row times W adds up, at most. offset: |b| or,
    where b is itself computed, the sum of the sizes of what it is computed from. Both are what a
    bound on rounding errors has to know. rises: W >= 0 and b = 0, so that ends go to ends.
    """

    apply: Map
    absolute: Map
    transpose: Map
    terms: int
    offset: Tensor | float = 0.0
    rises: bool = False


def _dense(layer: nn.Linear, shape: Shape) -> Affine:
    w, b = layer.weight, layer.bias
    return Affine(
        apply=layer,
        absolute=lambda z: nn.functional.linear(z, w.abs()),
        transpose=lambda a: a @ w,
        terms=max(w.shape),
        offset=0.0 if b is None else b.abs(),
    )


def _convolution(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, shape: Shape) -> Affine:
    w, b = layer.weight, layer.bias
    return Affine(
        apply=layer,
        absolute=lambda z: layer._conv_forward(z, w.abs(), None),
        transpose=_convolution_transposed(layer, shape),
        terms=max(w[0].numel(), w.numel() // w.shape[1]),
        offset=0.0 if b is None else _per_channel(b.abs(), shape),
    )


def _transposed_convolution(layer: Any, shape: Shape) -> Affine:
    w, b = layer.weight, layer.bias
    apply = getattr(nn.functional, f"conv_transpose{w.ndim - 2}d")
    how = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
    return Affine(
        apply=layer,
        absolute=lambda z: apply(z, w.abs(), None, *how),
        transpose=transposed(lambda z: apply(z, w, None, *how), shape),
        terms=max(w[0].numel(), w.numel() // w.shape[1]),
        offset=0.0 if b is None else _per_channel(b.abs(), shape),
    )


def _convolution_transposed(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, shape: Shape) -> Map:
    w, size = layer.weight, shape[1:]
    other = isinstance(layer.padding, str) or layer.padding_mode != "zeros"
    if other or isinstance(layer, nn.Conv3d):
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


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, shape: Shape) -> Affine:
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


def _rising(layer: nn.Module, shape: Shape, terms: int) -> Affine:
    """Weights >= 0 and no constant."""
    return Affine(layer, layer, transposed(layer, shape), terms, rises=True)


def _average(layer: Any, shape: Shape) -> Affine:
    size, dimensions = layer.kernel_size, len(shape) - 2
    if getattr(layer, "divisor_override", None) is not None and layer.divisor_override < 0:
        raise ValueError(f"divisor_override must be > 0, got {layer.divisor_override}")
    return _rising(layer, shape, size**dimensions if isinstance(size, int) else math.prod(size))


def _reduced(layer: nn.Module, shape: Shape) -> Affine:
    """Sums and means over some of the coordinates of an example."""
    check_batch(layer, shape)
    return _rising(layer, shape, math.prod(shape[1 if isinstance(layer, Mean) else 2 :]))


def _moved(layer: nn.Module, shape: Shape) -> Affine:
    """Layers that move, drop or repeat values, with zeros in between."""
    check_batch(layer, shape)
    return _rising(layer, shape, 0)


def _dropout(layer: nn.Module, shape: Shape) -> Affine:
    if layer.training:
        raise ValueError(
            "dropout is random in training mode, bounds need eval mode: call model.eval() first"
        )
    return _rising(layer, shape, 0)


def _padded(layer: nn.Module, shape: Shape) -> Affine:
    """Copies of the border, or one constant around."""
    zero = torch.zeros(1, *shape[1:])
    frame = layer(zero)
    return Affine(
        apply=layer,
        absolute=lambda z: layer(z) - frame.to(z),
        transpose=transposed(layer, shape),
        terms=frame.numel(),  # a border can repeat one value that often
        offset=abs(float(getattr(layer, "value", 0.0))),
    )


def _upsample(layer: nn.Upsample, shape: Shape) -> Affine:
    if layer.mode == "bicubic":
        raise ValueError("bicubic interpolation has weights of both signs: take 'bilinear'")
    copies = layer(torch.zeros(1, *shape[1:])).numel()  # an input can reach no more outputs
    return _rising(layer, shape, max(copies, math.prod(shape[1:])))


def _copied(layer: nn.Module, shape: Shape) -> Affine:
    """As `_moved`, where a value may be repeated, or several be added up."""
    check_batch(layer, shape)
    copies = layer(torch.zeros(1, *shape[1:])).numel()
    return _rising(layer, shape, max(copies, math.prod(shape[1:])))


def _shift(layer: Shift, shape: Shape) -> Affine:
    constant = _shared(layer.constant, shape)
    identity = transposed(lambda z: z + 0 * constant, shape)
    return Affine(layer, lambda z: z + 0 * constant, identity, 2, abs(constant))


def _scale(layer: Scale, shape: Shape) -> Affine:
    constant = _shared(layer.constant, shape)
    return Affine(layer, lambda z: z * abs(constant), transposed(layer, shape), _terms(layer))


def _divide(layer: Divide, shape: Shape) -> Affine:
    constant = _shared(layer.constant, shape)
    return Affine(layer, lambda z: z / abs(constant), transposed(layer, shape), _terms(layer))


def _terms(layer: Scale | Divide) -> int:
    """One input goes to one output, or where a constant is wider to several."""
    return 2 + layer.constant.numel() if isinstance(layer.constant, Tensor) else 2


def _shared(constant: Tensor | float, shape: Shape) -> Any:
    """The constant, if it is the same for all examples."""
    if isinstance(constant, Tensor):
        if constant.ndim > len(shape) or (constant.ndim == len(shape) and len(constant) != 1):
            raise ValueError(
                f"a constant of shape {tuple(constant.shape)} is not the same for each example of"
                f" shape {tuple(shape[1:])}"
            )
        return constant
    if not math.isfinite(constant):
        raise ValueError(f"a constant must be finite, got {constant}")
    return constant


SEVERAL = 7919  # a batch size that no dimension of an example has


def check_batch(layer: nn.Module, shape: Shape) -> None:
    """Raise ValueError unless the layer keeps the batch as its first dimension."""
    try:
        size = layer(torch.empty(SEVERAL, *shape[1:], device="meta")).shape[:1]
    except (RuntimeError, IndexError) as error:
        raise ValueError(f"cannot act on examples of shape {tuple(shape[1:])}: {error}") from error
    if size != (SEVERAL,):
        raise ValueError("must keep the batch as its first dimension: bounds are of one example")


def transposed(linear: Map, shape: Shape) -> Map:
    """The transpose of a linear map of batches of that shape: what autograd does to its input."""

    def transpose(a: Tensor) -> Tensor:
        return torch.func.vjp(linear, a.new_zeros(len(a), *shape[1:]))[1](a)[0]

    return transpose


def _per_channel(v: Tensor, shape: Shape) -> Tensor:
    return v.view(-1, *[1] * (len(shape) - 2))


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE_AVERAGES = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
ALPHA_DROPOUTS = (nn.AlphaDropout, nn.FeatureAlphaDropout)
RESHAPES = (nn.Flatten, nn.Unflatten, nn.Identity, View)
SHUFFLES = (nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle)
PADS = tuple(
    getattr(nn, f"{how}Pad{d}d")
    for how in ("Zero", "Constant", "Reflection", "Replication", "Circular")
    for d in (1, 2, 3)
)

AFFINE: dict[type[nn.Module], Callable[..., Affine]] = {
    nn.Linear: _dense,
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(TRANSPOSED, _transposed_convolution),
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    Held: _held,
    Normalize: _normalize,
    **dict.fromkeys(AVERAGES, _average),
    **dict.fromkeys((*ADAPTIVE_AVERAGES, Mean, Sum), _reduced),
    **dict.fromkeys((*RESHAPES, *SHUFFLES), _moved),
    **dict.fromkeys((Moved, nn.Unfold, nn.Fold), _copied),
    **dict.fromkeys((*DROPOUTS, *ALPHA_DROPOUTS), _dropout),
    **dict.fromkeys(PADS, _padded),
    **dict.fromkeys((nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), _upsample),
    Shift: _shift,
    Scale: _scale,
    Divide: _divide,
}


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

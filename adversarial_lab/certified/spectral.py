r"""Section 17.4.2: how much one layer can stretch a difference, $\|Wu-Wv\|_2\le\sigma\|u-v\|_2$.

`stretch` gives a safe constant for one layer at one input shape. Affine layers are operators: a
convolution is measured with its stride, padding and image size, not by its kernel as a matrix.
`spectral_path` is power iteration, which comes from below and so proves nothing by itself.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adversarial_lab.certified.activations import CURVES, curve_of
from adversarial_lab.certified.affine import AFFINE, CONVOLUTIONS, TRANSPOSED, transposed
from adversarial_lab.certified.interval import ADAPTIVE_MAX_POOLS, MAX_POOLS
from adversarial_lab.certified.layers import doubled, kind
from adversarial_lab.threat import Rng, normal_like

Shape = tuple[int, ...]  # of one example, without the batch
DENSE = 256  # an operator whose smaller side is at most this is measured exactly
SMALL = 1e-6  # a jump that a certificate pays for
ROUNDING = 1 + 1e-9  # float64 decompositions are good to about 1e-14 of the largest value


def linear_part(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    r"""$v\mapsto Wv$ in float64, for a layer $z\mapsto Wz+b$ in eval mode."""
    wide = doubled(layer).eval()
    return lambda v: wide(v) - wide(torch.zeros_like(v))


def spectral_path(
    layer: nn.Module, shape: Shape, *, steps: int = 50, rng: Rng = None
) -> Iterator[tuple[float, Tensor]]:
    r"""Yields $(\|Wv_k\|_2,v_k)$ with $v_{k+1}\propto W^\top Wv_k$: power iteration.

    Every value is a lower bound on the spectral norm and none is below the one before. It gets
    there like $(\sigma_2/\sigma_1)^{2k}$, so a value that stands still may still be too small: for
    a certificate take `spectral_norm`. shape: of one example; v_k has shape (1, *shape).
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    apply = linear_part(layer)
    v = _unit(normal_like(_blank(layer, shape), rng))
    for _ in range(steps):
        v.requires_grad_()
        image = apply(v)
        (turned,) = torch.autograd.grad(image.square().sum() / 2, v)  # W'W v
        v = v.detach()
        yield image.norm().item(), v
        v = _unit(turned)


def _unit(v: Tensor) -> Tensor:
    return v / v.norm().clamp(min=torch.finfo(v.dtype).tiny)


def dense(layer: nn.Module, shape: Shape) -> Float[Tensor, "i o"]:
    r"""$W^\top$ as a matrix in float64, one row per input coordinate of `shape`."""
    size, like = math.prod(shape), _blank(layer, shape)
    basis = torch.eye(size, dtype=like.dtype, device=like.device).view(-1, *shape)
    return linear_part(layer)(basis).flatten(1)


def _blank(layer: nn.Module, shape: Shape) -> Tensor:
    """One example of zeros in float64, where the layer is."""
    tensors = (*layer.parameters(), *layer.buffers())
    device = next((t.device for t in tensors), None)
    return torch.zeros(1, *shape, dtype=torch.float64, device=device)


def exact_norm(layer: nn.Module, shape: Shape) -> float:
    r"""$\sigma_{\max}(W)=\sqrt{\lambda_{\max}(WW^\top)}$ from the dense operator."""
    w = dense(layer, shape)
    gram = w.T @ w if w.shape[1] < w.shape[0] else w @ w.T
    return math.sqrt(max(0.0, torch.linalg.eigvalsh(gram)[-1].item()))


def fourier_norm(layer: nn.Conv2d, shape: Shape) -> float:
    r"""$\sigma_{\max}(W)\le\max_\omega\|\hat K(\omega)\|_2$: an upper bound for any convolution.

    With zero padding W is a part of the circular convolution on a torus large enough that nothing
    wraps around, whose blocks are the matrices $\hat K(\omega)$ of channels. A stride s turns each
    s x s block of pixels into channels first, after which it is a convolution of stride 1.
    Source: Sedghi, Gupta and Long 2019, "The singular values of convolutional layers".
    """
    if layer.padding_mode != "zeros":
        raise ValueError(f"padding_mode must be 'zeros', got {layer.padding_mode!r}")
    wide = layer.weight.detach().double().cpu()
    kernel = _strideless(_spread(wide, layer.dilation), layer.stride)
    rows, columns = _output_shape(layer, shape)[-2:]
    torus = (rows - 1 + kernel.shape[2], columns - 1 + kernel.shape[3])
    largest = 0.0
    for group in kernel.chunk(layer.groups):
        blocks = torch.fft.rfft2(group, s=torus).permute(2, 3, 0, 1)
        largest = max(largest, torch.linalg.matrix_norm(blocks, ord=2).max().item())
    return largest


def _spread(kernel: Tensor, dilation: tuple[int, ...]) -> Tensor:
    """The kernel with the zeros of its dilation written out."""
    o, c, h, w = kernel.shape
    (a, b) = dilation
    wide = kernel.new_zeros(o, c, (h - 1) * a + 1, (w - 1) * b + 1)
    wide[:, :, ::a, ::b] = kernel
    return wide


def _strideless(kernel: Tensor, stride: tuple[int, ...]) -> Tensor:
    """The same convolution at stride 1 on s x s blocks of pixels taken as channels."""
    (a, b), (o, c, h, w) = stride, kernel.shape
    kernel = F.pad(kernel, (0, -w % b, 0, -h % a))
    blocks = kernel.unflatten(3, (-1, b)).unflatten(2, (-1, a))  # o c rows a columns b
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(o, c * a * b, -(-h // a), -(-w // b))


def _output_shape(layer: nn.Module, shape: Shape) -> Shape:
    with torch.no_grad():
        weight = next(layer.parameters(), torch.zeros(()))
        return tuple(layer(weight.new_zeros(1, *shape)).shape[1:])


def spectral_norm(layer: nn.Linear | nn.Conv2d, shape: Shape) -> float:
    """A constant that is safe: the exact norm of a small operator, else `fourier_norm`.

    shape: of one example before the layer. Error: an excess of 1e-9 relative, for rounding; the
    Fourier bound is above the norm by the effect of the border, a few percent on small images.
    """
    if isinstance(layer, nn.Linear):
        return torch.linalg.matrix_norm(layer.weight.detach().double(), ord=2).item() * ROUNDING
    if min(math.prod(shape), math.prod(_output_shape(layer, shape))) <= DENSE:
        return exact_norm(layer, shape) * ROUNDING
    return fourier_norm(layer, shape) * ROUNDING


def affine_norm(layer: nn.Module, shape: Shape) -> float:
    r"""A safe constant for any affine layer: exact for a small one, else Schur's test.

    $\sigma\le\sqrt{\max_i(|W|1)_i\max_j(|W|^\top1)_j}$, which is exact for layers that average,
    scale or move. A plain two-dimensional convolution has a better test, `fourier_norm`.
    """
    wide = doubled(layer)
    affine = AFFINE[kind(layer)](wide, (1, *shape))  # refuses what it cannot bound
    if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and _plain(layer)):
        return spectral_norm(layer, shape)
    one = torch.ones_like(_blank(layer, shape))
    rows = affine.absolute(one)
    columns = transposed(affine.absolute, (1, *shape))(torch.ones_like(rows))
    schur = math.sqrt(rows.max().item() * columns.max().item())
    weighted = isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED))
    if weighted and min(one.numel(), rows.numel()) <= DENSE:
        schur = min(schur, exact_norm(layer, shape))
    return schur * ROUNDING


def _plain(layer: nn.Conv2d) -> bool:
    return layer.padding_mode == "zeros"


def _activation(layer: nn.Module, shape: Shape) -> float:
    r"""$\sup|\phi'|$, of one coordinate and so of all."""
    curve = curve_of(layer, len(shape) + 1)
    if curve.jump > SMALL or not math.isfinite(curve.steepest):
        what = f"jumps by {curve.jump:.3g}" if curve.jump else "has slopes without a bound"
        raise ValueError(f"{layer} {what}, so nothing bounds what it can stretch")
    return curve.steepest


def jump(layer: nn.Module, shape: Shape) -> float:
    """What two values can differ by beyond `stretch`: softplus leaves a gap at its threshold."""
    if kind(layer) not in CURVES:
        return 0.0
    return curve_of(layer, len(shape) + 1).jump * math.sqrt(math.prod(shape))


def _max_pool(layer: Any, shape: Shape) -> float:
    """The root of how many windows can hold one pixel: 1 where windows do not overlap."""
    d = len(shape) - 1
    kernel, stride, dilation = (
        (v,) * d if isinstance(v, int) else tuple(v)
        for v in (layer.kernel_size, layer.stride, layer.dilation)
    )
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    windows = [math.ceil(r / s) for r, s in zip(reach, stride, strict=True)]
    return math.sqrt(math.prod(windows))


def _adaptive_max_pool(layer: nn.Module, shape: Shape) -> float:
    """Windows overlap by a pixel at most, or hold one pixel that several outputs share."""
    out = layer(_blank(layer, shape)).shape[2:]
    windows = [math.ceil(b / a) + 1 if a % b else 1 for a, b in zip(shape[1:], out, strict=True)]
    return math.sqrt(math.prod(windows))


STRETCH: dict[type[nn.Module], Callable[..., float]] = {
    **dict.fromkeys(AFFINE, affine_norm),
    **dict.fromkeys(CURVES, _activation),
    **dict.fromkeys(MAX_POOLS, _max_pool),
    **dict.fromkeys(ADAPTIVE_MAX_POOLS, _adaptive_max_pool),
}


def stretch(layer: nn.Module, shape: Shape) -> float:
    r"""A constant $\sigma$ with $\|\phi(u)-\phi(v)\|_2\le\sigma\|u-v\|_2$ for one layer.

    shape: of one example before the layer. ValueError lists the layers with a rule in `STRETCH`.
    """
    if kind(layer) not in STRETCH:
        known = ", ".join(sorted(of.__name__ for of in STRETCH))
        raise ValueError(f"no Lipschitz rule for {type(layer).__name__}; known: {known}")
    return STRETCH[kind(layer)](layer, shape)

r"""Section 17.5: Gram matrices of features, and the tiled products they are made of.

Features keep their precision (half precision becomes float32). Means are taken in float64, and
sums of `CHUNK` products are added up in float64, so float32 features cost float32 products and
lose no more than the rounding of those.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from adversarial_lab.cka.hsic import Gram, check_finite, check_tensor

Features = Float[Tensor, "n d"]
CHUNK = 4096  # terms that are summed in the precision of the features
TILE = 256  # rows or columns of a product that are held at once


def linear_kernel(a: Features) -> Gram:
    r"""$K_{ij}=\langle a_i-\bar a,\,a_j-\bar a\rangle$, in float64: Section 17.5.

    Centring the features is centring the Gram matrix: $HAA^\top H$.
    """
    a, size = scaled(centred_features("a", a))
    k = torch.empty(len(a), len(a), dtype=torch.float64, device=a.device)
    for i, j in pairs_of_tiles(len(a)):
        tile = product(a[i].T, a[j].T) * size**2
        k[i, j], k[j, i] = tile, tile.T
    return k


def rbf_kernel(a: Features, bandwidth: float = 1.0) -> Gram:
    r"""$K_{ij}=\exp(-\|a_i-a_j\|^2/(2\sigma^2))$ with $\sigma$ = bandwidth x median distance.

    The median is over the n(n-1)/2 pairs of different examples, so K does not change with the
    scale of the features. In float64. Source: Kornblith et al. 2019.
    """
    if not (bandwidth > 0 and math.isfinite(bandwidth)):
        raise ValueError(
            f"bandwidth must be finite and > 0, a fraction of the median distance, got {bandwidth}"
        )
    k = linear_kernel(a)
    r = k.diagonal()
    squares = (r[:, None] + r[None, :] - 2 * k).clamp(min=0).fill_diagonal_(0)
    above = torch.triu_indices(len(k), len(k), offset=1, device=k.device)
    median = squares[above[0], above[1]].median()
    if median <= 0:
        raise ValueError("a has a median distance of 0: most of its examples have equal features")
    return (-squares / (2 * bandwidth**2 * median)).exp()


def centred_features(name: str, a: Features) -> Features:
    """A centred copy: each column less its mean. Features that are constant become exactly 0."""
    check_tensor(name, a)
    if a.ndim != 2 or 0 in a.shape:
        raise ValueError(f"{name} must be features (n, d) with n, d >= 1, got {tuple(a.shape)}")
    a = a.to("cpu") if a.device.type == "mps" else a  # MPS has no float64
    mean = a.sum(0, dtype=torch.float64) / len(a)
    if not mean.isfinite().all():
        check_finite(name, a)
    dtype = torch.promote_types(a.dtype, torch.float32)
    centre = a.to(dtype) - mean.to(dtype)
    low, high = centre.aminmax()
    rounding = torch.maximum(-low, high) <= 1e-14 * mean.abs().max()
    return centre.zero_() if rounding else centre


def scaled(a: Features) -> tuple[Features, float]:
    """Features over a power of two near their size, which costs no digit, and that power.

    Squares of float32 features of size 1e25 or 1e-25 leave the range of float32.
    """
    largest = a.abs().max().item()
    exponent = max(-120, min(120, math.frexp(largest)[1])) if largest else 0
    return a * 2.0**-exponent, 2.0**exponent


def product(a: Float[Tensor, "n p"], b: Float[Tensor, "n q"]) -> Float[Tensor, "p q"]:
    r"""$A^\top B$, its n terms summed in float64 chunk by chunk."""
    total = torch.zeros(a.shape[1], b.shape[1], dtype=torch.float64, device=a.device)
    for start in range(0, len(a), CHUNK):
        total += a[start : start + CHUNK].T @ b[start : start + CHUNK]
    return total


def square_lengths(a: Features) -> Float[Tensor, " n"]:
    r"""$\|a_i\|^2$ of each row, summed as in `product`."""
    parts = [part.square().sum(1).double() for part in a.split(CHUNK, 1)]
    return torch.stack(parts).sum(0)


def tiles(n: int) -> list[slice]:
    """Slices of at most `TILE` that cover 0..n-1."""
    return [slice(i, min(i + TILE, n)) for i in range(0, n, TILE)]


def pairs_of_tiles(n: int) -> Iterator[tuple[slice, slice]]:
    """The tiles (i, j) of a symmetric matrix on and below its diagonal."""
    rows = tiles(n)
    yield from ((i, j) for k, i in enumerate(rows) for j in rows[: k + 1])

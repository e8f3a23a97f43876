r"""Section 17.5: the Hilbert-Schmidt Independence Criterion (HSIC), from two Gram matrices.

Both estimators need three numbers of the *centred* Gram matrices HKH and HLH, H = I - 11'/n: their
inner product, and their diagonals r and s. So `from_moments` serves every way to compute those.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from adversarial_lab.training import Scalar

Gram = Float[Tensor, "n n"]
ROUNDING = 1e-12  # what is left of a sum that cancels to this part of its terms is rounding


def hsic(k_a: Gram, k_b: Gram, *, unbiased: bool = False) -> Scalar:
    r"""$\mathrm{HSIC}_0=\mathrm{tr}(KHLH)/(n-1)^2$, $H=I-\mathbf 1\mathbf 1^\top/n$: Section 17.5.

    k_a, k_b: the Gram matrices K and L of the same n examples.

    unbiased: HSIC_1 of Song et al. 2012, for $\tilde K,\tilde L$ with zeros on the diagonal
    $\frac{1}{n(n-3)}\big[\mathrm{tr}(\tilde K\tilde L)+\frac{\mathbf 1^\top\tilde K\mathbf 1\,
    \mathbf 1^\top\tilde L\mathbf 1}{(n-1)(n-2)}-\frac{2}{n-2}\mathbf 1^\top\tilde K\tilde L
    \mathbf 1\big]$; n >= 4. Computed in float64. Sources: Gretton et al. 2005; Song et al. 2012.
    """
    check_gram("k_a", k_a)
    check_gram("k_b", k_b)
    check_rows(len(k_a), len(k_b), unbiased)
    return hsic_table(centred(k_a)[None], centred(k_b)[None], unbiased)[0, 0]


def centred(k: Gram) -> Gram:
    """HKH in float64: every row and every column sums to 0."""
    k = k.double()
    return k - k.mean(0, keepdim=True) - k.mean(1, keepdim=True) + k.mean()


def hsic_table(
    k_a: Float[Tensor, "p n n"],
    k_b: Float[Tensor, "q n n"],
    unbiased: bool,
) -> Float[Tensor, "p q"]:
    """HSIC of each of p centred Gram matrices with each of q."""
    inner = k_a.flatten(1) @ k_b.flatten(1).T
    return from_moments(inner, k_a.diagonal(0, 1, 2), k_b.diagonal(0, 1, 2), unbiased)


def hsic_self(k: Float[Tensor, "p n n"], unbiased: bool) -> Float[Tensor, " p"]:
    """HSIC of each centred Gram matrix with itself: the diagonal of `hsic_table(k, k)`."""
    return torch.stack([hsic_table(one[None], one[None], unbiased)[0, 0] for one in k])


def from_moments(
    inner: Float[Tensor, "p q"],
    r: Float[Tensor, "p n"],
    s: Float[Tensor, "q n"],
    unbiased: bool,
) -> Float[Tensor, "p q"]:
    r"""HSIC from $\langle HKH,HLH\rangle$ and the diagonals r, s of HKH, HLH.

    HSIC_1 does not change when K is centred, because it is a mean over *distinct* indices. After
    centring $\tilde K\mathbf 1=-r$ and $\tilde L\mathbf 1=-s$, so its three terms become
    $\langle HKH,HLH\rangle-\frac{n}{n-2}r^\top s+\frac{\sum r\sum s}{(n-1)(n-2)}$.
    """
    n = r.shape[1]
    if not unbiased:
        return inner / (n - 1) ** 2
    same = n / (n - 2) * (r @ s.T)
    apart = torch.outer(r.sum(1), s.sum(1)) / ((n - 1) * (n - 2))
    total = inner - same + apart
    rounding = total.abs() <= ROUNDING * (inner.abs() + same.abs() + apart.abs())
    return total.masked_fill(rounding, 0.0) / (n * (n - 3))


def check_rows(n: int, m: int, unbiased: bool) -> None:
    """Raise ValueError unless both have the same n, large enough for the estimator."""
    if n != m:
        raise ValueError(
            f"both must describe the same n examples, row by row, got n={n} and n={m}; only the"
            " widths d may differ"
        )
    least = 4 if unbiased else 2
    if n < least:
        raise ValueError(f"n must be >= {least} with unbiased={unbiased}, got n={n}")


def check_tensor(name: str, v: object) -> None:
    """Raise ValueError unless v is a tensor."""
    if not isinstance(v, Tensor):
        raise ValueError(
            f"{name} must be a torch.Tensor, got {type(v).__name__}: torch.as_tensor({name})"
        )


def check_gram(name: str, k: Tensor) -> None:
    check_tensor(name, k)
    if k.ndim != 2 or k.shape[0] != k.shape[1]:
        raise ValueError(f"{name} must be a Gram matrix (n, n), got shape {tuple(k.shape)}")
    check_finite(name, k)


def check_finite(name: str, v: Tensor) -> None:
    """Raise ValueError on NaN or inf, saying how many examples have one."""
    if not v.isfinite().all():
        bad = int((~v.isfinite()).flatten(1).any(1).sum())
        raise ValueError(f"{name} must be finite, got NaN or inf in {bad} of {len(v)} rows")

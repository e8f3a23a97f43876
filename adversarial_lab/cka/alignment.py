r"""Section 17.5: $\mathrm{CKA}(Z_1,Z_2)$, HSIC divided by that of each with itself.

For the linear kernel the same number comes from two products: $\|A^\top B\|_F^2$, d x d, or
$\langle AA^\top,BB^\top\rangle$, n x n. `FORMS` has both; the cheaper one is taken. Neither is ever
held whole.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from adversarial_lab.cka.hsic import Gram, check_rows, from_moments, hsic
from adversarial_lab.cka.kernels import (
    Features,
    centred_features,
    pairs_of_tiles,
    product,
    rbf_kernel,
    scaled,
    square_lengths,
    tiles,
)
from adversarial_lab.training import Scalar

Products = tuple[Tensor, Tensor, Tensor]  # <K, K>, <K, L>, <L, L>


def linear_cka(
    a: Features, b: Float[Tensor, "n p"], *, unbiased: bool = False, form: str | None = None
) -> Scalar:
    r"""$\|A^\top B\|_F^2/(\|A^\top A\|_F\|B^\top B\|_F)$ of centred features, Section 17.5.

    a (n, d), b (n, p): the same n examples in the same order. unbiased: with HSIC_1 instead, which
    also removes what the diagonal of the Gram matrices adds, about d/(n + d) for independent
    Gaussian features; it may be negative. form: "features", "gram", or None for the cheaper one.
    Needs a centred copy of both and tiles of 256 x 256. Source: Kornblith et al. 2019.
    """
    if form is not None and form not in FORMS:
        raise ValueError(f"form must be one of {tuple(FORMS)} or None, got {form!r}")
    a, b = centred_features("a", a), centred_features("b", b)
    check_rows(len(a), len(b), unbiased)
    dtype = torch.promote_types(a.dtype, b.dtype)
    a, b = scaled(a.to(dtype))[0], scaled(b.to(dtype))[0]
    products = FORMS[form or cheaper(len(a), a.shape[1], b.shape[1])](a, b)
    aa, ab, bb = (p.view(1, 1) for p in products)
    r, s = square_lengths(a)[None], square_lengths(b)[None]
    self_a, self_b = from_moments(aa, r, r, unbiased)[0], from_moments(bb, s, s, unbiased)[0]
    return aligned(from_moments(ab, r, s, unbiased), self_a, self_b)[0, 0]


def rbf_cka(
    a: Features, b: Float[Tensor, "n p"], *, bandwidth: float = 1.0, unbiased: bool = False
) -> Scalar:
    """CKA with the kernel `rbf_kernel`, Section 17.5; bandwidth: a fraction of median distances."""
    check_rows(len(a), len(b), unbiased)
    return cka(rbf_kernel(a, bandwidth), rbf_kernel(b, bandwidth), unbiased=unbiased)


def cka(k_a: Gram, k_b: Gram, *, unbiased: bool = False) -> Scalar:
    r"""$\mathrm{HSIC}(K,L)/\sqrt{\mathrm{HSIC}(K,K)\,\mathrm{HSIC}(L,L)}$, Section 17.5."""
    pairs = ((k_a, k_b), (k_a, k_a), (k_b, k_b))
    ab, aa, bb = (hsic(u, v, unbiased=unbiased) for u, v in pairs)
    return aligned(ab.view(1, 1), aa.view(1), bb.view(1))[0, 0]


def aligned(
    ab: Float[Tensor, "p q"], aa: Float[Tensor, " p"], bb: Float[Tensor, " q"]
) -> Float[Tensor, "p q"]:
    """HSIC(K, L) over the root of HSIC(K, K) HSIC(L, L), for p times q kernels; none is dead."""
    for name, own in (("a", aa), ("b", bb)):
        if at := dead(own):
            raise ValueError(
                f"CKA is undefined where HSIC(K, K) = 0: representation {at} of {name} is constant"
                " over the examples, or, without bias, has all examples equally far apart"
            )
    return quotients(ab, aa, bb)


def dead(own: Float[Tensor, " p"]) -> list[int]:
    """Which representations have HSIC(K, K) = 0, so that nothing can be aligned with them."""
    return (~(own > 0)).nonzero().flatten().tolist()


def quotients(
    ab: Float[Tensor, "p q"], aa: Float[Tensor, " p"], bb: Float[Tensor, " q"]
) -> Float[Tensor, "p q"]:
    """`aligned`, with nan where a representation is dead."""
    roots = (own.where(own > 0, torch.nan).sqrt() for own in (aa, bb))
    return ab / torch.outer(*roots)


def cheaper(n: int, d: int, p: int) -> str:
    """The form with fewer multiplications: n (dd + dp + pp), or half of n n (d + p)."""
    return "features" if 2 * (d * d + d * p + p * p) <= n * (d + p) else "gram"


def feature_products(a: Features, b: Float[Tensor, "n p"]) -> Products:
    r"""$\|A^\top A\|_F^2,\ \|A^\top B\|_F^2,\ \|B^\top B\|_F^2$."""
    return square_norm(a, a), square_norm(a, b), square_norm(b, b)


def square_norm(a: Features, b: Float[Tensor, "n p"]) -> Scalar:
    r"""$\|A^\top B\|_F^2$, tile by tile."""
    total = torch.zeros((), dtype=torch.float64, device=a.device)
    for i in tiles(a.shape[1]):
        for j in tiles(b.shape[1]):
            total += product(a[:, i], b[:, j]).square().sum()
    return total


def gram_products(a: Features, b: Float[Tensor, "n p"]) -> Products:
    r"""$\langle K,K\rangle,\ \langle K,L\rangle,\ \langle L,L\rangle$, $K=AA^\top$, $L=BB^\top$.

    Tile by tile, so that n x n numbers are never held; those above the diagonal count twice.
    """
    total = torch.zeros(3, dtype=torch.float64, device=a.device)
    for i, j in pairs_of_tiles(len(a)):
        u, v = product(a[i].T, a[j].T).flatten(), product(b[i].T, b[j].T).flatten()
        total += (1 if i == j else 2) * torch.stack([u @ u, u @ v, v @ v])
    return total[0], total[1], total[2]


FORMS: dict[str, Callable[[Features, Features], Products]] = {
    "features": feature_products,
    "gram": gram_products,
}

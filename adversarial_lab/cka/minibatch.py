r"""Section 17.5: CKA of more examples than fit: HSIC averaged over batches (Nguyen et al. 2021).

HSIC_1 of a batch is an unbiased estimate whatever the batch size, so its average converges to the
true HSIC as batches are added, and the ratio to the true CKA. HSIC_0 of a batch of m examples is
off by a term of order 1/m that no number of batches removes: prefer unbiased=True.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from adversarial_lab.cka.alignment import quotients
from adversarial_lab.cka.hsic import centred, check_rows, hsic_self, hsic_table
from adversarial_lab.cka.kernels import linear_kernel
from adversarial_lab.training import Scalar

Matrix = Float[Tensor, "_ _"]  # batches may differ in size, and features in width
Kernel = Callable[[Tensor], Tensor]  # features (n, d) -> Gram matrix (n, n)


def cka_path(
    batches: Iterable[tuple[Sequence[Matrix], Sequence[Matrix]]], *, unbiased: bool = True
) -> Iterator[Float[Tensor, "p q"]]:
    r"""CKA with each HSIC the mean $\sum_bw_b\mathrm{HSIC}(K_b,L_b)/\sum_bw_b$: Section 17.5.

    batches: for each batch p Gram matrices of one side and q of the other, over the same m
    examples; w_b = m. Yields the CKA of all pairs after each batch, nan where HSIC(K, K) = 0.
    """
    totals: list[Tensor] = []
    for some, others in batches:
        check_rows(len(some[0]), len(others[0]), unbiased)
        k_a = torch.stack([centred(k) for k in some])
        k_b = k_a if others is some else torch.stack([centred(k) for k in others])
        own = hsic_self(k_a, unbiased)
        now = [hsic_table(k_a, k_b, unbiased), own]
        now.append(own if k_b is k_a else hsic_self(k_b, unbiased))
        now = [k_a.shape[1] * value for value in now]
        totals = [t + v for t, v in zip(totals, now, strict=True)] if totals else now
        yield quotients(*totals)
    if not totals:
        raise ValueError("batches is empty: give at least one batch")


def minibatch_cka(
    batches: Iterable[tuple[Matrix, Matrix]],
    *,
    kernel: Kernel = linear_kernel,
    unbiased: bool = True,
) -> Scalar:
    """CKA of two representations from batches of their features; never n x n, never all features.

    With a single batch it is CKA itself. batches: pairs (m, d), (m, p), in random order of the
    examples, all of one size for the usual mean. A kernel that adapts to the features, as the RBF
    does with its median, adapts to each batch.
    """
    grams = (([kernel(a)], [kernel(b)]) for a, b in batches)
    value = final(cka_path(grams, unbiased=unbiased))[0, 0]
    if value.isnan():
        raise ValueError(
            "CKA is undefined where HSIC(K, K) = 0: one of the two representations is constant over"
            " the examples, or, without bias, has all examples equally far apart"
        )
    return value


def final(path: Iterator[Tensor]) -> Tensor:
    """The last value of a path, which has one."""
    return deque(path, maxlen=1)[0]

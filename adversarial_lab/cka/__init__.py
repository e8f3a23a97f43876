r"""Section 17.5: centered kernel alignment (CKA), the similarity of two representations.

`hsic` holds the two estimators of HSIC, `kernels` makes Gram matrices, `alignment` divides
(biased or unbiased, through features or through Gram matrices), `minibatch` accumulates over
batches, and `layers` reads the features off any network and draws up the heat maps of Figure 17.2.
"""

from adversarial_lab.cka.alignment import FORMS, cka, linear_cka, rbf_cka
from adversarial_lab.cka.hsic import hsic
from adversarial_lab.cka.kernels import linear_kernel, rbf_kernel
from adversarial_lab.cka.layers import (
    Similarity,
    features,
    late_similarity,
    layer_names,
    similarity,
)
from adversarial_lab.cka.minibatch import cka_path, minibatch_cka

__all__ = [
    "FORMS",
    "Similarity",
    "cka",
    "cka_path",
    "features",
    "hsic",
    "late_similarity",
    "layer_names",
    "linear_cka",
    "linear_kernel",
    "minibatch_cka",
    "rbf_cka",
    "rbf_kernel",
    "similarity",
]

"""Section 17.4.2: which layer has bounds by which method, read off the tables of the methods.

`margins` refuses what is not here, with a list of what is. A layer that only scales, moves or adds
up values has one row in `affine.AFFINE`, an activation one in `activations.CURVES`; the rest of a
row follows. A last Softmax or LogSoftmax is taken off by `margins`, for every method.
"""

from torch import nn

from adversarial_lab.certified.activations import CURVES
from adversarial_lab.certified.affine import AFFINE
from adversarial_lab.certified.batch_norm import Held
from adversarial_lab.certified.interval import RULES
from adversarial_lab.certified.layers import Add, Concat
from adversarial_lab.certified.linear_program import SIDES
from adversarial_lab.certified.relaxation import RELAXATIONS
from adversarial_lab.certified.spectral import STRETCH

Kinds = set[type[nn.Module]]
JOINTS: Kinds = {Add, Concat}
COVERED: dict[str, Kinds] = {
    **dict.fromkeys(("ibp-logits", "ibp"), {*RULES}),
    **dict.fromkeys(("crown-ibp", "crown"), {*AFFINE, *RELAXATIONS, *JOINTS}),
    **dict.fromkeys(("lp", "milp"), {*AFFINE, *SIDES}),
    **dict.fromkeys(("lipschitz", "lipschitz-pair"), {*STRETCH, *JOINTS}),
    "lipschitz-local": {*AFFINE, *CURVES, *JOINTS},
}


def support(layer: type[nn.Module]) -> dict[str, bool]:
    """Method -> does it have bounds for such a layer? Parameters can still rule one out."""
    return {method: layer in kinds for method, kinds in COVERED.items()}


def support_table() -> dict[str, dict[str, bool]]:
    """Name of a layer -> `support`, for all that have intervals, in alphabetical order."""
    kinds = sorted({*RULES} - {Held}, key=lambda kind: kind.__name__)
    return {kind.__name__: support(kind) for kind in kinds}

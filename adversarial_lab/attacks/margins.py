r"""Section 17.2.3: losses without an exponential, which large logits cannot flatten to zero."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from adversarial_lab.classifier import Labels
from adversarial_lab.protocol import Undefined


def margin(logits: Float[Tensor, "n k"], y: Labels) -> Float[Tensor, " n"]:
    r"""$\max_{j\ne y}z_j-z_y$, per example: positive exactly where the network is wrong."""
    right = logits.gather(1, y[:, None]).squeeze(1)
    return logits.scatter(1, y[:, None], -torch.inf).amax(1) - right


def targeted_dlr(logits: Float[Tensor, "n k"], goal: Int[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    r"""$\frac{z_t-z_y}{z_{\pi_1}-(z_{\pi_3}+z_{\pi_4})/2}$, the margin to a target class t.

    goal: (n, 2), columns y and t. pi sorts the logits from large to small, so the value does not
    change when logits are scaled or shifted: a network cannot hide behind large logits. Needs four
    classes. Source: Croce and Hein 2020, Section 4.
    """
    if logits.shape[1] < 4:
        raise Undefined(f"the targeted DLR loss needs at least 4 classes, got {logits.shape[1]}")
    y, t = logits.gather(1, goal).unbind(1)
    top = logits.topk(4, dim=1).values
    return (t - y) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)

"""Section 17.2.3: one attack for each class that an example might be taken for."""

from collections.abc import Callable

import torch
from torch import Tensor

from adversarial_lab.classifier import Labels, Model
from adversarial_lab.protocol import verified
from adversarial_lab.threat import Points, ThreatModel


def each_target(
    attack: Callable[..., Tensor],
    model: Model,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    *,
    targets: int,
) -> Points:
    """`attack(model, x, y, target)` for each of the likeliest wrong classes, until one succeeds."""
    z, rows = x.clone(), torch.arange(len(x), device=x.device)
    for target in wrong_classes(model, x, y, targets):
        z[rows] = attack(model, x[rows], y[rows], target[rows])
        rows = rows[~verified(model, x[rows], y[rows], z[rows], threat)]
        if not len(rows):
            break
    return z


@torch.no_grad()
def wrong_classes(model: Model, x: Points, y: Labels, targets: int) -> list[Tensor]:
    """The `targets` likeliest wrong classes of each x, likeliest first, one (n,) tensor each."""
    if targets < 1:
        raise ValueError(f"targets must be >= 1, got {targets}")
    logits = model(x).scatter(1, y[:, None], -torch.inf)
    count = min(targets, logits.shape[1] - 1)
    return list(logits.topk(count, dim=1).indices.unbind(1))

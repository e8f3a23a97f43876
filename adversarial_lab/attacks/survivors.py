"""What counts as broken, and attacking only what still stands (Section 17.2.3).

An attack is a function ``(model, x, y, threat, rng=...) -> z`` of one batch; it may return
anything, since only `verified` points count.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from tqdm.auto import tqdm

from adversarial_lab.pgd import Attacked
from adversarial_lab.threat import Points, Rng, ThreatModel
from adversarial_lab.training import Labels, attacking, check_logits, evaluating

BatchAttack = Callable[..., Tensor]  # (model, x, y, threat, rng=...) -> z
NORMS = ("linf", "l2")


@torch.no_grad()
def verified(
    model: nn.Module, x: Points, y: Labels, z: Points, threat: ThreatModel
) -> Bool[Tensor, " n"]:
    """True where z lies in N(x) and the network is wrong there, asked again without autocast."""
    with torch.autocast(z.device.type, enabled=False):
        return threat.contains(x, z) & (model(z).argmax(1) != y)


def start_survey(
    model: nn.Module, x: Points, y: Labels, threat: ThreatModel, batch_size: int | None = None
) -> Attacked:
    """Before any attack: an example that the network gets wrong at x is broken at x.

    Raises ValueError on inputs, labels or logits that make no sense, and on a norm other than
    linf and l2, for which these attacks are written.
    """
    if threat.norm not in NORMS:
        raise ValueError(f"norm must be one of {NORMS} for these attacks, got {threat.norm!r}")
    threat.check(x)
    if len(y) != len(x):
        raise ValueError(f"y must hold one label per example, got {len(y)} for {len(x)} examples")
    with attacking(model), torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(_size(x, batch_size))])
    check_logits(logits, y)
    return Attacked(x.clone(), logits.argmax(1) != y)


def attack_survivors(
    attack: BatchAttack,
    model: nn.Module,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    *,
    before: Attacked | None = None,
    rng: Rng = None,
    batch_size: int | None = None,
    progress: str = "",
) -> Attacked:
    """Run one attack on the examples that `before` left standing; returns both together.

    before: what earlier attacks found, by default the network's errors at x. batch_size: by
    default 100 on a CPU, 1,000 elsewhere. progress: label of a progress bar, none if empty.
    """
    before = start_survey(model, x, y, threat, batch_size) if before is None else before
    z, fooled = before.z.clone(), before.fooled.clone()
    parts = (~fooled).nonzero().squeeze(1).split(_size(x, batch_size))
    with evaluating(model):
        for rows in tqdm(parts, progress, leave=False, disable=not progress):
            found = attack(model, x[rows], y[rows], threat, rng=rng)
            broken = verified(model, x[rows], y[rows], found, threat)
            z[rows[broken]], fooled[rows] = found[broken], broken
    return Attacked(z, fooled)


def _size(x: Tensor, batch_size: int | None) -> int:
    return batch_size or (100 if x.device.type == "cpu" else 1000)

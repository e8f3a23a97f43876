r"""Section 17.2.3: attacks on a masked network that borrow a gradient, or do without one."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adversarial_lab.attacks.margins import margin
from adversarial_lab.pgd import cross_entropy, pgd
from adversarial_lab.threat import Points, Rng, ThreatModel
from adversarial_lab.training import Labels, attacking


def transfer(
    model: nn.Module,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    *,
    source: nn.Module,
    steps: int = 40,
    rng: Rng = None,
) -> Points:
    """PGD on another network, `source`; the attacked one is never asked for anything.

    Adversarial examples carry over between networks that were trained for the same task
    (Papernot et al. 2017), so a gradient that one of them hides, another one gives away.
    """
    with attacking(source):
        return pgd(lambda z: cross_entropy(source(z), y), x, threat, steps=steps, rng=rng)


@torch.no_grad()
def along(
    model: nn.Module,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    *,
    directions: Float[Tensor, "m n *d"],
    radii: int = 8,
    rng: Rng = None,
) -> Points:
    r"""Line search: the largest loss among $x\pm r v$ for m directions v, r up to eps, no gradient.

    A direction is scaled to unit length in the threat's norm, and may come from anywhere: the top
    eigenvector of a Hessian (`masking.top_curvature`), another network's gradient, chance
    (`random_signs`). A wrong point counts before any right one. rng: not used.
    """
    if radii < 1:
        raise ValueError(f"radii must be >= 1, got {radii}")
    best, best_value = x, margin(model(x), y)
    for v in directions:
        size = threat.distance(torch.zeros_like(v), v).clamp(min=1e-30)
        unit = v / size.view(-1, *[1] * (x.ndim - 1))
        for r in torch.linspace(-threat.eps, threat.eps, 2 * radii + 1).tolist():
            z = threat.project(x, x + r * unit)
            value = margin(model(z), y)
            better = value > best_value
            best = torch.where(better.view(-1, *[1] * (x.ndim - 1)), z, best)
            best_value = torch.where(better, value, best_value)
    return best


def random_signs(x: Points, m: int, rng: Rng = None) -> Float[Tensor, "m n *d"]:
    """m random corners of the cube as directions, different for each example."""
    device = x.device if rng is None else rng.device
    draw = torch.randint(2, (m, *x.shape), generator=rng, device=device)
    return (2 * draw - 1).to(x)

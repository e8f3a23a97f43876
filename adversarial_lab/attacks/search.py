r"""Section 17.2.3: attacks on a masked network that borrow a gradient, or do without one."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from adversarial_lab.attacks.margins import margin
from adversarial_lab.classifier import Labels, Model, evaluating
from adversarial_lab.pgd import pgd
from adversarial_lab.protocol import cross_entropy, verified_attack
from adversarial_lab.threat import Points, Rng, ThreatModel


@verified_attack
def transfer(
    model: Model,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    *,
    source: Model,
    steps: int = 40,
    rng: Rng = None,
) -> Points:
    """PGD on another network, `source`; the attacked one is never asked for anything.

    Adversarial examples carry over between networks that were trained for the same task
    (Papernot et al. 2017), so a gradient that one of them hides, another one gives away.
    """
    with evaluating(source, dtype=x.dtype) as other:
        return pgd(lambda z: cross_entropy(other(z), y), x, threat, steps=steps, rng=rng)


@verified_attack
@torch.no_grad()
def along(
    model: Model,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    *,
    directions: Callable[..., Tensor],
    radii: int = 8,
    rng: Rng = None,
) -> Points:
    r"""Line search: the largest loss among $x\pm r v$ for some directions v, r up to eps.

    directions: `(model, x, y, threat, *, rng) -> (m, n, *d)`, m of them for each example, scaled
    here to unit length in the threat's norm. They may come from anywhere: the top eigenvector of a
    Hessian (`masking.top_curvature`), another network's gradient, chance (`random_signs`). A wrong
    point counts before any right one. Raises ValueError on radii < 1.
    """
    if radii < 1:
        raise ValueError(f"radii must be >= 1, got {radii}")
    best, best_value = x, margin(model(x), y)
    for v in directions(model, x, y, threat, rng=rng):
        size = threat.distance(torch.zeros_like(v), v).clamp(min=1e-30)
        unit = v / size.view(-1, *[1] * (x.ndim - 1))
        for r in torch.linspace(-threat.eps, threat.eps, 2 * radii + 1).tolist():
            z = threat.project(x, x + r * unit)
            value = margin(model(z), y)
            better = value > best_value
            best = torch.where(better.view(-1, *[1] * (x.ndim - 1)), z, best)
            best_value = torch.where(better, value, best_value)
    return best


def random_signs(
    model: Model, x: Points, y: Labels, threat: ThreatModel, *, count: int = 20, rng: Rng = None
) -> Float[Tensor, "m n *d"]:
    """Random corners of the cube as directions, `count` different ones for each example."""
    device = x.device if rng is None else rng.device
    draw = torch.randint(2, (count, *x.shape), generator=rng, device=device)
    return (2 * draw - 1).to(x)

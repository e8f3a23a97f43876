r"""Section 17.2.2: a two-dimensional slice of the loss around an input, for Figure 17.1."""

import torch
from jaxtyping import Float
from torch import Tensor

from adversarial_lab.masking.curvature import dot, gradient, unit
from adversarial_lab.pgd import pgd
from adversarial_lab.threat import Box, Points, Rng, ThreatModel, normal_like
from adversarial_lab.training import PerExample


def orthonormal(u: Points, v: Points) -> tuple[Points, Points]:
    r"""$v_1=u/\|u\|$ and $v_2\propto v-\langle v,v_1\rangle v_1$: Gram-Schmidt per example.

    Raises ValueError where u is zero, or v is parallel to it: they span no plane.
    """
    if u.shape != v.shape:
        raise ValueError(f"u and v must have one shape, got {tuple(u.shape)}, {tuple(v.shape)}")
    first, second = unit(u), unit(v)
    spread = (-1, *[1] * (u.ndim - 1))
    for _ in range(2):  # the second pass removes what rounding left
        second = second - dot(second, first).view(spread) * first
    flat = (dot(first, first) == 0) | (dot(second, second) < 1e-10)
    if flat.any():
        raise ValueError(
            f"u and v must span a plane; for example {int(flat.nonzero()[0])} u is zero or v is"
            " parallel to u"
        )
    return first, unit(second)


def gradient_direction(f: PerExample, x: Points) -> Points:
    r"""$\nabla f(x)/\|\nabla f(x)\|$. Raises ValueError where the gradient vanishes (masked)."""
    g = unit(gradient(f, x))
    dead = dot(g, g) == 0
    if dead.any():
        raise ValueError(
            f"the gradient is zero for {int(dead.sum())} of {len(x)} examples: it has no direction;"
            " take adversarial_direction from another network, or random_direction"
        )
    return g


def adversarial_direction(
    f: PerExample, x: Points, threat: ThreatModel, *, steps: int = 40, rng: Rng = None
) -> Points:
    """From x to what PGD on f finds in N(x), as a unit vector; zero where PGD does not move."""
    return unit(pgd(f, x, threat, steps=steps, rng=rng) - x)


def random_direction(x: Points, rng: Rng = None) -> Points:
    """A direction drawn uniformly from the sphere, for each example."""
    return unit(normal_like(x, rng))


@torch.no_grad()
def loss_slice(
    f: PerExample,
    x: Float[Tensor, "1 *d"],
    u: Float[Tensor, "1 *d"],
    v: Float[Tensor, "1 *d"],
    *,
    radius: float,
    resolution: int = 41,
    box: Box = None,
    batch_size: int = 500,
) -> Float[Tensor, "r r"]:
    r"""$f(\varepsilon_1,\varepsilon_2)=L(x+\varepsilon_1v_1+\varepsilon_2v_2)$, Section 17.2.2.

    Row i has epsilon_1, column j epsilon_2, both from -radius to radius in `resolution` steps;
    u, v: orthonormal (`orthonormal`). box: with the pixels' range, the slice is bent where it
    would leave it; None keeps it flat. An odd resolution has x itself in the middle.
    """
    if resolution < 2 or not radius > 0:
        raise ValueError(f"need resolution >= 2 and radius > 0, got {resolution} and {radius}")
    pair = torch.cat([u, v]).flatten(1).double()
    if not torch.allclose(pair @ pair.T, torch.eye(2).to(pair), atol=1e-4):
        raise ValueError("u and v must be orthonormal: pass them through orthonormal(u, v) first")
    axis = torch.linspace(-radius, radius, resolution, dtype=x.dtype, device=x.device)
    grid = torch.cartesian_prod(axis, axis)
    spread = (-1, *[1] * (x.ndim - 1))
    values = []
    for part in grid.split(batch_size):
        z = x + part[:, 0].view(spread) * u + part[:, 1].view(spread) * v
        values.append(f(z if box is None else z.clamp(*box)))
    return torch.cat(values).view(resolution, resolution)

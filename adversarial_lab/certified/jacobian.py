r"""Section 17.4.2: local Lipschitz constants, from interval bounds on the Jacobian over N(x).

A ReLU that cannot become active in N(x) passes nothing on, one that is always active passes all.
Bounds on what enters each activation bound its slope, and the chain rule run backward in interval
arithmetic bounds each entry of $\nabla(z_y-z_j)$ over N(x). As eps goes to 0 the constant becomes
the gradient's own length, where the product of spectral norms stays where it is.
Sources: Weng et al. 2018, "Towards fast computation of certified robustness for ReLU networks"
(Fast-Lip); Jordan and Dimakis 2020, "Exactly computing the local Lipschitz constant".
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adversarial_lab.certified.affine import AFFINE, kind
from adversarial_lab.certified.affine import _transposed as transposed
from adversarial_lab.certified.elision import Margins
from adversarial_lab.certified.graph import INPUT, Add, Graph, Node
from adversarial_lab.certified.interval import Interval, Region, bound
from adversarial_lab.certified.lipschitz import margins_at, pair_constants, reach
from adversarial_lab.certified.spectral import ROUNDING, stretch
from adversarial_lab.norms import dual_length
from adversarial_lab.training import Labels

# what is known of a value: its interval over N(x), its value at x, how far from that it can move
Known = tuple[Interval, Tensor, Tensor]


def local_margins(graph: Graph, region: Region, y: Labels, *, outward: bool) -> Margins:
    r"""$z_y-z_j-L_{yj}(x)\,\varepsilon$ with a constant of each example's own N(x)."""
    constant = local_constants(graph, region, y).to(region.x)
    return margins_at(graph, region, y, outward=outward) - constant * region.eps[:, None]


def local_constants(graph: Graph, region: Region, y: Labels) -> Float[Tensor, "n k"]:
    r"""$L_{yj}(x)\ge\max_{x'\in N(x)}\|\nabla(z_y-z_j)(x')\|_*$, in float64.

    The dual norm makes it a constant for the region's own norm: linf needs the sum of the entries'
    sizes. For l2 never above `pair_constants`. Raises ValueError on a layer without a slope.
    """
    wide = Graph(tuple(replace(n, layer=_double(n.layer)) for n in graph.nodes))
    inside = Interval(*(end.double() for end in region.box))
    where = Region(region.x.double(), region.eps.double(), region.norm, inside)
    with torch.no_grad():
        entries = jacobian(wide, where, y).magnitude
        local = dual_length(region.norm, entries.flatten(1)).view(len(y), -1) * ROUNDING
        if region.norm != "l2":
            return local
        return local.minimum(pair_constants(graph, tuple(region.x.shape[1:])).to(local)[y])


def jacobian(graph: Graph, region: Region, y: Labels) -> Interval:
    r"""Bounds on $\nabla(z_y-z_j)$ over N(x), each (n k, *d), j fastest."""
    before: dict[str, Known] = {}
    box, x, _ = _forward(graph, region, before)
    k = x.shape[1]
    same = torch.eye(k, dtype=x.dtype, device=x.device)
    rows = (same[y][:, None] - same).flatten(0, 1)  # (n k, k): the weights of z_y - z_j
    slopes = {graph.nodes[-1].name: Interval(rows, rows)}
    for node in reversed(graph.nodes):
        above = slopes.pop(node.name)
        for name in node.inputs:
            here = above if isinstance(node.layer, Add) else _back(node, before[node.name], above)
            slopes[name] = _plus(slopes[name], here) if name in slopes else here
    return slopes[INPUT]


def _forward(graph: Graph, region: Region, before: dict[str, Known]) -> Known:
    """The output's bounds; `before` gets those of what enters each layer."""

    def step(node: Node, *values: Known) -> Known:
        before[node.name] = values[0]
        boxes, points, radii = zip(*values, strict=True)
        box, point = bound(node, *boxes, outward=False), node.layer(*points)
        if isinstance(node.layer, Add):
            radius = by = sum(radii)
        else:
            radius, by = _moved(node.layer, points[0], radii[0])
        by = by.reshape(len(by), *[1] * (point.ndim - 1)) if by.ndim == 1 else by
        near = Interval((point - by).maximum(box.lower), (point + by).minimum(box.upper))
        return near, point, radius

    return graph.run((region.box, region.x, reach(region)), step)


def _moved(layer: nn.Module, point: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """How far a layer's output can move in length, and how far each of its coordinates can."""
    after = radius * stretch(layer, tuple(point.shape[1:]))
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return after, after
    rows = torch.linalg.vector_norm(layer.weight.flatten(1), dim=1)
    return after, radius.outer(rows).view(-1, len(rows), *[1] * (point.ndim - 2))


def _back(node: Node, known: Known, above: Interval) -> Interval:
    """The chain rule through one layer: its own slopes times those from above."""
    layer, (box, point, _) = node.layer, known
    if kind(layer) in SLOPES:
        slope = SLOPES[kind(layer)](layer, box)
        repeat = len(above.lower) // len(point)
        low, high = (end.repeat_interleave(repeat, 0) for end in slope)  # 0 <= low <= high
        lower = torch.minimum(above.lower * low, above.lower * high)
        return Interval(lower, torch.maximum(above.upper * low, above.upper * high))
    if kind(layer) not in AFFINE:
        known_layers = ", ".join(sorted(k.__name__ for k in [*AFFINE, *SLOPES]))
        raise ValueError(
            f"layer {node.name!r} is a {type(layer).__name__}, whose Jacobian has no bounds here;"
            f" known: {known_layers}"
        )
    affine = AFFINE[kind(layer)](layer, point.shape)
    centre, radius = (above.lower + above.upper) / 2, (above.upper - above.lower) / 2
    centre, radius = affine.transpose(centre), transposed(affine.absolute, point.shape)(radius)
    return Interval(centre - radius, centre + radius)


def _plus(a: Interval, b: Interval) -> Interval:
    return Interval(a.lower + b.lower, a.upper + b.upper)


def _double(layer: nn.Module) -> nn.Module:
    return copy.deepcopy(layer).double().requires_grad_(False)


def _relu(layer: nn.ReLU, box: Interval) -> Interval:
    return Interval((box.lower > 0).to(box.lower), (box.upper > 0).to(box.upper))


def _leaky_relu(layer: nn.LeakyReLU, box: Interval) -> Interval:
    s = layer.negative_slope
    ends = [torch.where(end > 0, 1.0, s).to(end) for end in box]
    return Interval(torch.minimum(*ends), torch.maximum(*ends))


def _bell(layer: nn.Module, box: Interval) -> Interval:
    """A slope that is even and falls with |z|: largest next to 0, smallest far from it."""
    derivative = torch.func.vmap(torch.func.grad(layer))
    nearest = box.lower.clamp(min=0) + box.upper.clamp(max=0)
    ends = (derivative(v.flatten()).view(v.shape) for v in (box.magnitude, nearest))
    return Interval(*ends)


SLOPES: dict[type[nn.Module], Callable[..., Interval]] = {
    nn.ReLU: _relu,
    nn.LeakyReLU: _leaky_relu,
    nn.Tanh: _bell,
    nn.Sigmoid: _bell,
}

r"""Section 17.4.2: local Lipschitz constants, from interval bounds on the Jacobian over N(x).

A ReLU that cannot become active in N(x) passes nothing on, one that is always active passes all.
Bounds on what enters each activation bound its slope, and the chain rule run backward in interval
arithmetic bounds each entry of $\nabla(z_y-z_j)$ over N(x). As eps goes to 0 the constant becomes
the gradient's own length, where the product of spectral norms stays where it is.
Sources: Weng et al. 2018, "Towards fast computation of certified robustness for ReLU networks"
(Fast-Lip); Jordan and Dimakis 2020, "Exactly computing the local Lipschitz constant".
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adversarial_lab.certified.activations import CURVES, curve_of, slopes
from adversarial_lab.certified.affine import AFFINE, transposed
from adversarial_lab.certified.criterion import Margins
from adversarial_lab.certified.graph import INPUT, Graph, Node
from adversarial_lab.certified.interval import Interval, Region, bound
from adversarial_lab.certified.layers import Add, Concat, doubled, kind
from adversarial_lab.certified.lipschitz import margins_at, pair_constants, pair_jumps, reach
from adversarial_lab.certified.spectral import ROUNDING, jump, stretch
from adversarial_lab.norms import dual_length
from adversarial_lab.training import Labels

# what is known of a value: its interval over N(x), its value at x, how far from that it can move
Known = tuple[Interval, Tensor, Tensor]


def local_margins(graph: Graph, region: Region, y: Labels, *, outward: bool) -> Margins:
    r"""$z_y-z_j-L_{yj}(x)\,\varepsilon$ with a constant of each example's own N(x)."""
    constant = local_constants(graph, region, y).to(region.x)
    jumps = pair_jumps(graph, tuple(region.x.shape[1:])).to(region.x)[y]
    here = margins_at(graph, region, y, outward=outward)
    return here - (constant * region.eps[:, None] + jumps)


def local_constants(graph: Graph, region: Region, y: Labels) -> Float[Tensor, "n k"]:
    r"""$L_{yj}(x)\ge\max_{x'\in N(x)}\|\nabla(z_y-z_j)(x')\|_*$, in float64.

    The dual norm makes it a constant for the region's own norm: linf needs the sum of the entries'
    sizes. For l2 never above `pair_constants`. Raises ValueError on a layer without a slope.
    """
    wide = Graph(tuple(replace(n, layer=doubled(n.layer)) for n in graph.nodes))
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
    passed = list(graph.walk((region.box, region.x, reach(region)), _forward))
    k = passed[-1][2][1].shape[1]
    same = torch.eye(k, dtype=region.x.dtype, device=region.x.device)
    rows = (same[y][:, None] - same).flatten(0, 1)  # (n k, k): the weights of z_y - z_j
    slopes = {graph.nodes[-1].name: Interval(rows, rows)}
    for node, given, _ in reversed(passed):
        above = slopes.pop(node.name)
        for name, here in zip(node.inputs, _back(node, given, above), strict=True):
            slopes[name] = _plus(slopes[name], here) if name in slopes else here
    return slopes[INPUT]


def _forward(node: Node, *given: Known) -> Known:
    """The bounds on what a layer gives."""
    boxes, points, radii = zip(*given, strict=True)
    box, point = bound(node, *boxes, outward=False), node.layer(*points)
    if isinstance(node.layer, Add):
        radius = by = sum(radii)
    elif isinstance(node.layer, Concat):
        radius = by = torch.stack(radii).norm(dim=0)
    else:
        radius, by = _moved(node, points[0], radii[0])
    by = by.reshape(len(by), *[1] * (point.ndim - 1)) if by.ndim == 1 else by
    return Interval((point - by).maximum(box.lower), (point + by).minimum(box.upper)), point, radius


def _moved(node: Node, point: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """How far a layer's output can move in length, and how far each of its coordinates can."""
    layer, shape = node.layer, tuple(point.shape[1:])
    after = radius * stretch(layer, shape) + jump(layer, shape)
    if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return after, after
    rows = torch.linalg.vector_norm(layer.weight.flatten(1), dim=1)
    channel = -1 if isinstance(layer, nn.Linear) else 1
    along = [1] * point.ndim
    along[0], along[channel] = len(radius), len(rows)
    return after, radius.outer(rows).view(along)


def _back(node: Node, given: tuple[Known, ...], above: Interval) -> list[Interval]:
    """The chain rule through one layer: its own slopes times those from above, for each input."""
    layer, (box, point, _) = node.layer, given[0]
    if isinstance(layer, Add):
        return [above for _ in given]
    if isinstance(layer, Concat):
        sizes = [value[1].shape[layer.dim] for value in given]
        return [Interval(*ends) for ends in zip(*(e.split(sizes, layer.dim) for e in above))]  # noqa: B905
    if kind(layer) in CURVES:
        return [_through_activation(layer, box, above)]
    if kind(layer) not in AFFINE:
        known = ", ".join(sorted(k.__name__ for k in [*AFFINE, *CURVES, Add, Concat]))
        raise ValueError(
            f"layer {node.name!r} is a {type(layer).__name__}, whose Jacobian has no bounds here;"
            f" known: {known}"
        )
    affine = AFFINE[kind(layer)](layer, point.shape)
    centre, radius = (above.lower + above.upper) / 2, (above.upper - above.lower) / 2
    centre, radius = affine.transpose(centre), transposed(affine.absolute, point.shape)(radius)
    return [Interval(centre - radius, centre + radius)]


def _through_activation(layer: nn.Module, box: Interval, above: Interval) -> Interval:
    """The four products of the ends of two intervals: the slopes of phi and those from above."""
    ends = slopes(layer, curve_of(layer, box.lower.ndim), *box)
    repeat = len(above.lower) // len(box.lower)
    products = [a * end.repeat_interleave(repeat, 0) for a in above for end in ends]
    return Interval(
        torch.stack(products).amin(0),
        torch.stack(products).amax(0),
    )


def _plus(a: Interval, b: Interval) -> Interval:
    return Interval(a.lower + b.lower, a.upper + b.upper)

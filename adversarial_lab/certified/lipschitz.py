r"""Section 17.4.2: Lipschitz certificates, $\|f(x)-f(x')\|_2\le L\|x-x'\|_2$ on the logits f.

L is the product of what each layer can stretch (`spectral.stretch`), a sum where a shortcut
rejoins. A margin $z_y-z_j$ then moves by at most $\sqrt2\,L\varepsilon$, because it reads two
logits at once: the certificate is margin > sqrt(2) L eps, or with a constant for each pair. All
constants are upper bounds, good for every x and without regard to the box. Source: Tsuzuku, Sato
and Sugiyama 2018, "Lipschitz-margin training".
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adversarial_lab.certified.criterion import Margins, interval_margins
from adversarial_lab.certified.graph import Graph, Node
from adversarial_lab.certified.interval import Interval, Radii, Region
from adversarial_lab.certified.layers import Add, Concat, kind
from adversarial_lab.certified.spectral import ROUNDING, Shape, jump, stretch
from adversarial_lab.certified.tracing import trace
from adversarial_lab.norms import GEOMETRIES, row_of
from adversarial_lab.training import Labels

Stretched = tuple[Tensor, float, float]  # one example of a value, its constant and its jumps


def layer_constants(model: nn.Module | Graph, shape: Shape) -> dict[str, float]:
    """What each layer can stretch a difference by, by its place in the network."""
    graph = _read(model, shape)
    return {
        node.name: _stretch(node, given[0][0])
        for node, given, _ in graph.walk(_start(graph, shape), _step)
        if not isinstance(node.layer, Add | Concat)
    }


def lipschitz_bound(model: nn.Module | Graph, shape: Shape) -> float:
    r"""$L\ge\sup\|f(x)-f(x')\|_2/\|x-x'\|_2$: the product of the layers' constants.

    shape: of one example. A sum of two paths has the sum of their constants, 1 + L for a block with
    a shortcut, and two paths side by side the root of the sum of squares. Never below the true
    constant, and usually far above it: the layers' worst directions do not line up, and a ReLU
    stretches less than 1. ValueError lists the layers that have a constant.
    """
    return _constants(_read(model, shape), shape)[1]


def pair_constants(model: nn.Module | Graph, shape: Shape) -> Float[Tensor, "k k"]:
    r"""$L_{yj}=\|W_y-W_j\|_2\,L_{\text{rest}}\le\sqrt2\,L$: how fast $z_y-z_j$ can change.

    Where the last layer is not `nn.Linear`, sqrt(2) L for every pair.
    """
    return _pairs(_read(model, shape), shape, 1)


def pair_jumps(graph: Graph, shape: Shape) -> Float[Tensor, "k k"]:
    """What $z_y-z_j$ can change by at once, where an activation jumps; nearly always 0."""
    return _pairs(graph, shape, 2)


def _pairs(graph: Graph, shape: Shape, which: int) -> Float[Tensor, "k k"]:
    """Constants (1) or jumps (2) of the differences of the logits."""
    *body, last = graph.nodes
    if kind(last.layer) is nn.Linear and isinstance(last.layer, nn.Linear):
        rest = _constants(Graph(tuple(body)), shape)[which] if body else (0.0, 1.0, 0.0)[which]
        w = last.layer.weight.detach().double()
        return torch.linalg.vector_norm(w[:, None] - w, dim=2) * rest * ROUNDING
    logits, *found = _constants(graph, shape)
    same = torch.eye(logits.shape[1], dtype=torch.float64, device=logits.device)
    return (1 - same) * math.sqrt(2) * found[which - 1]


def _read(model: nn.Module | Graph, shape: Shape) -> Graph:
    return trace(model, torch.zeros(1, *shape))


def _constants(graph: Graph, shape: Shape) -> Stretched:
    return graph.run(_start(graph, shape), _step)


def _start(graph: Graph, shape: Shape) -> Stretched:
    parameters = (p for node in graph.nodes for p in node.layer.parameters())
    like = next(parameters, torch.zeros(()))
    return like.new_zeros(1, *shape), 1.0, 0.0


def _step(node: Node, *given: Stretched) -> Stretched:
    images, constants, jumps = zip(*given, strict=True)
    with torch.no_grad():
        out = node.layer(*images)
    if isinstance(node.layer, Add):
        return out, sum(constants), sum(jumps)
    if isinstance(node.layer, Concat):
        return out, math.hypot(*constants), math.hypot(*jumps)
    factor, shape = _stretch(node, images[0]), tuple(images[0].shape[1:])
    return out, constants[0] * factor, jumps[0] * factor + jump(node.layer, shape)


def _stretch(node: Node, image: Tensor) -> float:
    try:
        return stretch(node.layer, tuple(image.shape[1:]))
    except ValueError as error:
        raise ValueError(f"layer {node.name!r}: {error}") from error


def reach(region: Region) -> Radii:
    r"""The largest $\|x'-x\|_2$ in N(x): eps for l2 and l1, $\varepsilon\sqrt d$ for linf."""
    d = region.x[0].numel()
    return region.eps * row_of(region.norm, GEOMETRIES).euclidean(d)


def product_margins(graph: Graph, region: Region, y: Labels, *, outward: bool) -> Margins:
    r"""$z_y-z_j-\sqrt2\,L\varepsilon$: lower bounds on the margins by one constant for all."""
    _, constant, jumps = _constants(graph, tuple(region.x.shape[1:]))
    here = margins_at(graph, region, y, outward=outward)
    return here - math.sqrt(2) * (constant * reach(region) + jumps)[:, None]


def pair_margins(graph: Graph, region: Region, y: Labels, *, outward: bool) -> Margins:
    r"""$z_y-z_j-L_{yj}\varepsilon$: lower bounds on the margins by a constant for each pair."""
    shape = tuple(region.x.shape[1:])
    constant, jumps = (_pairs(graph, shape, which).to(region.x)[y] for which in (1, 2))
    here = margins_at(graph, region, y, outward=outward)
    return here - (constant * reach(region)[:, None] + jumps)


def margins_at(graph: Graph, region: Region, y: Labels, *, outward: bool) -> Margins:
    """The margins at x itself; with `outward`, less what rounding can do.

    Once at x, where they are computed, and once more at x': its values are not those of x, but of
    the same size, so this is a tolerance and no proof to the last digit.
    """
    point = Region(region.x, 0 * region.eps, region.norm, Interval(region.x, region.x))
    plain = interval_margins(graph, point, y, outward=False)
    if not outward:
        return plain
    safe = interval_margins(graph, point, y, outward=True)
    return torch.where(plain.isinf(), plain, 2 * safe - plain)

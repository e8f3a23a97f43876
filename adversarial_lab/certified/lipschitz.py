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

from adversarial_lab.certified.elision import Margins, interval_margins
from adversarial_lab.certified.graph import Add, Graph, Node, trace
from adversarial_lab.certified.interval import Interval, Radii, Region
from adversarial_lab.certified.spectral import ROUNDING, Shape, stretch
from adversarial_lab.norms import GEOMETRIES, row_of
from adversarial_lab.training import Labels

Stretched = tuple[Tensor, float]  # one example of what a layer gives, and its constant so far


def layer_constants(model: nn.Module | Graph, shape: Shape) -> dict[str, float]:
    """What each layer can stretch a difference by, by its place in the network."""
    found: dict[str, float] = {}
    _run(trace(model), shape, found)
    return found


def lipschitz_bound(model: nn.Module | Graph, shape: Shape) -> float:
    r"""$L\ge\sup\|f(x)-f(x')\|_2/\|x-x'\|_2$: the product of the layers' constants.

    shape: of one example. A sum of two paths has the sum of their constants, 1 + L for a block with
    a shortcut. Never below the true constant, and usually far above it: the layers' worst
    directions do not line up, and a ReLU stretches less than 1.
    """
    return _run(trace(model), shape, {})[1]


def pair_constants(model: nn.Module | Graph, shape: Shape) -> Float[Tensor, "k k"]:
    r"""$L_{yj}=\|W_y-W_j\|_2\,L_{\text{rest}}\le\sqrt2\,L$: how fast $z_y-z_j$ can change.

    Where the last layer is not `nn.Linear`, sqrt(2) L for every pair.
    """
    graph = trace(model)
    *body, last = graph.nodes
    if isinstance(last.layer, nn.Linear):
        rest = _run(Graph(tuple(body)), shape, {})[1] if body else 1.0
        w = last.layer.weight.detach().double()
        return torch.linalg.vector_norm(w[:, None] - w, dim=2) * rest * ROUNDING
    logits, constant = _run(graph, shape, {})
    k = logits.shape[1]
    same = torch.eye(k, dtype=torch.float64, device=logits.device)
    return (1 - same) * math.sqrt(2) * constant


def _run(graph: Graph, shape: Shape, found: dict[str, float]) -> Stretched:
    def step(node: Node, *values: Stretched) -> Stretched:
        images, constants = zip(*values, strict=True)
        out = node.layer(*images)
        if isinstance(node.layer, Add):
            return out, sum(constants)
        found[node.name] = stretch(node.layer, tuple(images[0].shape[1:]))
        return out, constants[0] * found[node.name]

    parameters = (p for node in graph.nodes for p in node.layer.parameters())
    like = next(parameters, torch.zeros(()))
    with torch.no_grad():
        return graph.run((like.new_zeros(1, *shape), 1.0), step)


def reach(region: Region) -> Radii:
    r"""The largest $\|x'-x\|_2$ in N(x): eps for l2 and l1, $\varepsilon\sqrt d$ for linf."""
    d = region.x[0].numel()
    return region.eps * row_of(region.norm, GEOMETRIES).euclidean(d)


def product_margins(graph: Graph, region: Region, y: Labels, *, outward: bool) -> Margins:
    r"""$z_y-z_j-\sqrt2\,L\varepsilon$: lower bounds on the margins by one constant for all."""
    constant = math.sqrt(2) * lipschitz_bound(graph, tuple(region.x.shape[1:]))
    here = margins_at(graph, region, y, outward=outward)
    return here - constant * reach(region)[:, None]


def pair_margins(graph: Graph, region: Region, y: Labels, *, outward: bool) -> Margins:
    r"""$z_y-z_j-L_{yj}\varepsilon$: lower bounds on the margins by a constant for each pair."""
    constant = pair_constants(graph, tuple(region.x.shape[1:])).to(region.x)[y]
    here = margins_at(graph, region, y, outward=outward)
    return here - constant * reach(region)[:, None]


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

r"""Section 17.4.2: interval bounds on margins $z_y-z_j$, and the chapter's criterion beside them.

Logits rise and fall together, so the worst $z_y$ and the worst $z_j$ seldom occur at one x'. The
margin is a linear function of the last hidden layer: its own weights $W_y-W_j$ give a bound that
is never worse than the difference of the logits' bounds.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adversarial_lab.certified.affine import rounding
from adversarial_lab.certified.graph import Graph, Node
from adversarial_lab.certified.interval import Interval, Region, bound, propagate
from adversarial_lab.certified.layers import kind
from adversarial_lab.training import Labels

Margins = Float[Tensor, "n k"]


def interval_margins(graph: Graph, region: Region, y: Labels, *, outward: bool) -> Margins:
    r"""Lower bounds on $z_y-z_j$ over the region, the last layer elided: $(W_y-W_j)h+b_y-b_j$.

    Where the last layer is not `nn.Linear`, the logit criterion. The column j = y is +inf.
    """
    *body, last = graph.nodes
    if len(last.inputs) > 1:
        return logit_margins(graph, region, y, outward=outward)
    hidden = propagate(Graph(tuple(body)), region.box, outward) if body else region.box
    return interval_margins_of(last, [hidden], y, outward=outward)


def interval_margins_of(last: Node, boxes: list[Interval], y: Labels, *, outward: bool) -> Margins:
    """The margins when the last layer's inputs are in those boxes."""
    if kind(last.layer) is nn.Linear and isinstance(last.layer, nn.Linear):
        return no_rival(elided(last.layer, boxes[0], y, outward=outward), y)
    return apart(bound(last, *boxes, outward=outward), y)


def elided(layer: nn.Linear, box: Interval, y: Labels, *, outward: bool) -> Margins:
    r"""$\min_h(W_y-W_j)h+b_y-b_j$ over a box: exact, $(W_y-W_j)c-|W_y-W_j|r$.

    With `outward`, also below what the network computes: it rounds z_y and z_j, not their
    difference, so each may be off by gamma_k (|W||h| + |b|).
    """
    centre, radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
    logits = layer(centre)
    spread = (layer.weight[y][:, None] - layer.weight).abs()  # (n, k, hidden)
    lower = _right(logits, y) - logits - torch.einsum("nkh,nh->nk", spread, radius)
    if not outward:
        return lower
    size = nn.functional.linear(box.magnitude, layer.weight.abs())
    size = size if layer.bias is None else size + layer.bias.abs()
    return lower - 3 * rounding(layer.in_features, radius) * (size + _right(size, y))


def logit_margins(graph: Graph, region: Region, y: Labels, *, outward: bool) -> Margins:
    r"""$f_{\min,y}-f_{\max,j}$, the chapter's criterion: sound, and weaker than the margins."""
    return apart(propagate(graph, region.box, outward), y)


def apart(logits: Interval, y: Labels) -> Margins:
    r"""$f_{\min,y}-f_{\max,j}$ from bounds on the logits."""
    return no_rival(_right(logits.lower, y) - logits.upper, y)


def _right(logits: Tensor, y: Tensor) -> Tensor:
    return logits.gather(1, y[:, None])


def no_rival(margins: Tensor, y: Tensor) -> Tensor:
    """+inf in the column of y itself."""
    return margins.scatter(1, y[:, None], torch.inf)

r"""Section 17.4.2: linear bounds, $\min_{N(x)}c\cdot h(x')\ge\min_{N(x)}(a\cdot x'+b)$: CROWN.

The fast dual of the convex outer polytope. A row c of output coefficients travels back to the
input: through $Wz+b$ as $cW$ and $c\cdot b$, through an activation as the line that is on the right
side for the sign of each coefficient (`relaxation`). At the input a dual norm gives the minimum.
Sources: Zhang et al. 2018 (CROWN), Singh et al. 2019 (DeepPoly), Zhang et al. 2020 (CROWN-IBP).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adversarial_lab.certified.affine import AFFINE, ALPHA_DROPOUTS, DROPOUTS, RESHAPES, rounding
from adversarial_lab.certified.batch_norm import BATCH_NORMS, Held
from adversarial_lab.certified.criterion import Margins, interval_margins_of
from adversarial_lab.certified.graph import INPUT, Graph, Node
from adversarial_lab.certified.interval import Interval, Region, bound
from adversarial_lab.certified.layers import Add, Concat, kind
from adversarial_lab.certified.relaxation import RELAXATIONS, Lines, undecided
from adversarial_lab.nets import Normalize
from adversarial_lab.norms import GEOMETRIES, dual_length
from adversarial_lab.training import Labels

MEMORY = 2**23  # coefficients held at a time
ALONE = (*BATCH_NORMS, Held, Normalize, *DROPOUTS, *ALPHA_DROPOUTS, *RESHAPES)  # mix no coordinates

Image = Tensor | int | None  # the example of each row, or of all; None: a row serves every example
Rows = dict[str, Tensor]  # by the value that they multiply
Back = Callable[[Tensor, Image], tuple[tuple[Tensor, ...], Tensor]]  # rows -> rows, constants


@dataclass(frozen=True)
class Relaxed:
    """A network over a region: the interval of every value, and every layer's way back."""

    graph: Graph
    region: Region
    outward: bool
    boxes: dict[str, Interval]
    steps: dict[str, Back]


def crown_margins(
    graph: Graph, region: Region, y: Labels, *, outward: bool, refine: bool = True
) -> Margins:
    r"""Lower bounds on $z_y-z_j$ over the region by linear bounds; the column j = y is +inf.

    refine: the input of an activation gets a backward pass of its own wherever its interval leaves
    a choice (CROWN); else intervals do (CROWN-IBP). Never below the interval bound.
    """
    relaxed = relax(graph, region, outward=outward, refine=refine)
    last = graph.nodes[-1]
    n, k = relaxed.boxes[last.name].lower.shape
    rival = torch.arange(k, device=y.device).expand(n, k)
    rival = rival[rival != y[:, None]].view(n, k - 1)
    one_hot = torch.eye(k, dtype=region.x.dtype, device=y.device)
    rows = (one_hot[y][:, None] - one_hot[rival]).flatten(0, 1)
    image = torch.arange(n, device=y.device).repeat_interleave(k - 1)
    parts = _chunks(relaxed, len(rows))
    lower = torch.cat([lower_bounds(relaxed, last.name, rows[s], image[s]) for s in parts])
    plain = interval_margins_of(last, [relaxed.boxes[i] for i in last.inputs], y, outward=outward)
    return torch.maximum(plain, plain.scatter(1, rival, lower.view(n, k - 1)))


def relax(graph: Graph, region: Region, *, outward: bool, refine: bool) -> Relaxed:
    """From the input to the output: intervals, tightened where an activation is relaxed."""
    depth = _affine_depth(graph)
    relaxed = Relaxed(graph, region, outward, {INPUT: region.box}, {})
    boxes = relaxed.boxes
    for node in graph.nodes:
        if kind(node.layer) in RELAXATIONS:
            name = node.inputs[0]
            if name not in depth and refine:
                boxes[name] = _tighten(relaxed, name, undecided(node.layer, boxes[name]))
            elif name in depth and (depth[name] > 1 or GEOMETRIES[region.norm].helly != 2):
                boxes[name] = _tighten_affine(relaxed, name)
        inputs = [boxes[i] for i in node.inputs]
        boxes[node.name] = bound(node, *inputs, outward=outward)
        relaxed.steps[node.name] = _step(node, inputs, boxes[node.name], outward)
    return relaxed


def _affine_depth(graph: Graph) -> dict[str, int]:
    """How many layers that mix coordinates lie before each value that is affine in the input.

    Behind one, linf intervals are exact already. Behind any, rows are the same for all examples.
    """
    depth = {INPUT: 0}
    for node in graph.nodes:
        if kind(node.layer) not in RELAXATIONS and all(i in depth for i in node.inputs):
            depth[node.name] = max(depth[i] for i in node.inputs) + (kind(node.layer) not in ALONE)
    return depth


def _tighten(relaxed: Relaxed, name: str, chosen: Tensor) -> Interval:
    """The interval of a value, cut with linear bounds on its chosen coordinates (n, *d)."""
    box, chosen = relaxed.boxes[name], chosen.flatten(1)
    low, high = box.lower.flatten(1), box.upper.flatten(1)
    for part in _chunks(relaxed, 2 * chosen.shape[1], step=2):
        for i, at, below, above in _ends(relaxed, name, chosen, part):
            low = low.index_put((i, at), torch.maximum(low[i, at], below))
            high = high.index_put((i, at), torch.minimum(high[i, at], -above))
    return Interval(low.view_as(box.lower), torch.maximum(low, high).view_as(box.upper))


def _ends(
    relaxed: Relaxed, name: str, chosen: Tensor, part: slice
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """For each example: i, its chosen coordinates j of a part, lower bounds on v_j and on -v_j.

    A layer that treats all examples alike is gone through once for them all.
    """
    (node,) = (node for node in relaxed.graph.nodes if node.name == name)
    every = torch.arange(chosen.shape[1], device=chosen.device)[part]
    rows, alike = _both_signs(every, relaxed.boxes[name]), kind(node.layer) not in RELAXATIONS
    parts, constant = relaxed.steps[name](rows, None) if alike else ((), rows.new_zeros(()))
    constant = constant.expand(len(rows), len(chosen))
    for i in chosen[:, part].any(1).nonzero()[:, 0]:
        (at,) = chosen[i, part].nonzero(as_tuple=True)
        both = torch.cat([at, at + len(every)])
        pending = _gather(node, [p[both] for p in parts]) if alike else {name: rows[both]}
        lower = constant[both, i] + _descend(relaxed, pending, int(i))
        yield i, every[at], *lower.chunk(2)


def _gather(node: Node, parts: Sequence[Tensor], pending: Rows | None = None) -> Rows:
    """The rows at a layer's inputs, added to what is pending there."""
    pending = {} if pending is None else pending
    for source, part in zip(node.inputs, parts, strict=True):
        pending[source] = pending[source] + part if source in pending else part
    return pending


def _tighten_affine(relaxed: Relaxed, name: str) -> Interval:
    """The same for all coordinates of a value that is affine in the input: rows are shared."""
    box = relaxed.boxes[name]
    every = torch.arange(box.lower[0].numel(), device=box.lower.device)
    both = []
    for part in _chunks(relaxed, 2 * len(every), step=2):
        both.append(lower_bounds(relaxed, name, _both_signs(every[part], box), None).chunk(2))
    below, above = (torch.cat(side).T.reshape(box.lower.shape) for side in zip(*both, strict=True))
    low = torch.maximum(box.lower, below)
    return Interval(low, torch.maximum(low, torch.minimum(box.upper, -above)))


def _both_signs(at: Tensor, box: Interval) -> Tensor:
    """The rows e_j and -e_j of the coordinates `at`."""
    rows = box.lower.new_zeros(2, len(at), box.lower[0].numel())
    rows[0, torch.arange(len(at), device=at.device), at] = 1
    return torch.cat([rows[0], -rows[0]]).view(-1, *box.lower.shape[1:])


def _chunks(relaxed: Relaxed, count: int, step: int = 1) -> Iterator[slice]:
    """Slices of `count` rows, `step` of them to an index, that fit the memory at any layer."""
    widest = max(box.lower[0].numel() for box in relaxed.boxes.values())
    size = max(1, MEMORY // (widest * step))
    for start in range(0, count // step, size):
        yield slice(start, start + size)


def lower_bounds(relaxed: Relaxed, name: str, rows: Tensor, image: Image) -> Tensor:
    r"""$\min_{N(x)}c\cdot v$ for each row c of coefficients (r, *d) of the value called `name`.

    image: whose N(x) each row is for, (r,) -> (r,); None: every example's, -> (r, n).
    """
    return _descend(relaxed, {name: rows}, image)


def _descend(relaxed: Relaxed, pending: Rows, image: Image) -> Tensor:
    """The minimum of the sum of all pending rows times their values."""
    total: Tensor | float = 0.0
    for node in reversed(relaxed.graph.nodes):
        if node.name in pending:
            parts, constant = relaxed.steps[node.name](pending.pop(node.name), image)
            total = total + constant
            _gather(node, parts, pending)
    return total + _concretise(pending[INPUT].flatten(1), image, relaxed.region, relaxed.outward)


def _concretise(a: Tensor, image: Image, region: Region, outward: bool) -> Tensor:
    r"""$\min a\cdot x'$ over N(x): $a\cdot x-\varepsilon\|a\|_*$, or the box's if it is better."""
    low, high = region.box.lower.flatten(1), region.box.upper.flatten(1)
    centre, radius, size = (low + high) / 2, (high - low) / 2, a.abs()
    if outward:
        radius = radius + 2 * rounding(a.shape[1], a) * (centre.abs() + radius)
    lower = _dot(a, centre, image) - _dot(size, radius, image)
    if GEOMETRIES[region.norm].helly == 2:  # the ball is a box
        return lower
    eps = region.eps if image is None else region.eps[image]
    length = dual_length(region.norm, a)
    ball = _dot(a, region.x.flatten(1), image) - eps * (
        length[:, None] if image is None else length
    )
    if outward:
        reach = region.x.flatten(1).abs() + region.eps[:, None]
        ball = ball - 2 * rounding(a.shape[1], a) * _dot(size, reach, image)
    return torch.maximum(lower, ball)


def _dot(a: Tensor, v: Tensor, image: Image) -> Tensor:
    """Rows (r, d) times each row's own v, of (n, d) or, the same for all, (1, d)."""
    if image is None:
        return a @ v.T
    if len(v) == 1 or isinstance(image, int):
        return a @ v[0 if len(v) == 1 else image]
    return (a * v[image]).sum(1)


def _step(node: Node, boxes: list[Interval], out: Interval, outward: bool) -> Back:
    if isinstance(node.layer, Concat):
        return _split_step(node.layer.dim, [box.lower.shape[node.layer.dim] for box in boxes])
    if kind(node.layer) in RELAXATIONS:
        return _relaxed_step(node.layer, boxes[0], out, outward)
    if isinstance(node.layer, Add):
        return _sum_step(boxes, outward)
    if kind(node.layer) not in AFFINE:
        known = ", ".join(sorted(k.__name__ for k in [*AFFINE, *RELAXATIONS, Add, Concat]))
        raise ValueError(
            f"layer {node.name!r} is a {type(node.layer).__name__}, which has no linear bounds;"
            f" known: {known}"
        )
    return _affine_step(node.layer, boxes[0], outward)


def _split_step(dim: int, sizes: list[int]) -> Back:
    """Values side by side: so are their coefficients."""
    return lambda a, image: (a.split(sizes, dim), a.new_zeros(()))


def _sum_step(boxes: list[Interval], outward: bool) -> Back:
    size = boxes[0].magnitude + boxes[1].magnitude
    slack = 2 * rounding(2, size) * size.flatten(1)

    def back(a: Tensor, image: Image) -> tuple[tuple[Tensor, ...], Tensor]:
        lost = _dot(a.flatten(1).abs(), slack, image) if outward else a.new_zeros(())
        return (a, a), -lost

    return back


def _affine_step(layer: nn.Module, box: Interval, outward: bool) -> Back:
    r"""$c\mapsto cW$ and $c\cdot b$, less what rounding can do to them and to the network."""
    affine = AFFINE[kind(layer)](layer, box.lower.shape)
    bias = affine.apply(torch.zeros_like(box.lower[:1])).flatten(1)
    if outward:
        size = (affine.absolute(box.magnitude) + affine.offset).flatten(1)
        slack = 2 * rounding(affine.terms, bias) * size
        slack = slack + 2 * rounding(bias.shape[1], bias) * bias.abs()

    def back(a: Tensor, image: Image) -> tuple[tuple[Tensor, ...], Tensor]:
        flat = a.flatten(1)
        constant = _dot(flat, bias, image)
        if outward:
            constant = constant - _dot(flat.abs(), slack, image)
        return (affine.transpose(a),), constant

    return back


def _relaxed_step(layer: nn.Module, box: Interval, out: Interval, outward: bool) -> Back:
    """Each coefficient takes the line on its side: below where it is positive, else above."""
    lines = RELAXATIONS[kind(layer)](layer, box)
    slopes = [v.flatten(1) for v in (lines.lower_slope, lines.upper_slope)]
    gap, above = slopes[1] - slopes[0], lines.upper_offset.flatten(1)
    below = None if lines.lower_offset is None else lines.lower_offset.flatten(1)
    slack = _line_slack(lines, box, out) if outward else None

    def back(a: Tensor, image: Image) -> tuple[tuple[Tensor, ...], Tensor]:
        flat = a.flatten(1)
        negative = flat.clamp(max=0)
        constant = _dot(negative, above, image)
        if below is not None:
            constant = constant + _dot(flat - negative, below, image)
        if slack is not None:
            constant = constant - _dot(flat.abs(), slack, image)
        flat = torch.addcmul(flat * slopes[0][image], negative, gap[image])
        return (_spread(flat.view_as(a), lines, box.lower.shape, image),), constant

    return back


def _line_slack(lines: Lines, box: Interval, out: Interval) -> Tensor:
    """What rounding can do to a line, to the value it bounds and to the sum over its layer."""
    source = box.magnitude.flatten(1)
    if lines.read is not None:
        source = source.amax(1, keepdim=True)
    steep = torch.maximum(lines.lower_slope.abs(), lines.upper_slope.abs()).clamp(min=1).flatten(1)
    offset = lines.upper_offset.abs()
    if lines.lower_offset is not None:
        offset = torch.maximum(offset, lines.lower_offset.abs())
    offset = offset.flatten(1)
    few = rounding(16, source) * (out.magnitude.flatten(1) + steep * source + offset)
    return few + 2 * rounding(offset.shape[1], offset) * offset


def _spread(a: Tensor, lines: Lines, shape: tuple[int, ...], image: Image) -> Tensor:
    """Pooling: each coefficient back to the one input that its line reads."""
    if lines.read is None:
        return a
    flat = a.new_zeros(len(a), shape[1], shape[2] * shape[3])
    read = lines.read[image].expand(a.shape).flatten(2)
    return flat.scatter_add(2, read, a.flatten(2)).view(-1, *shape[1:])

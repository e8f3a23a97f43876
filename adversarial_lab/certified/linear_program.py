r"""Section 17.4.2: the convex outer polytope of one example, and the network itself, as a program.

One variable per value of the network. Affine layers are equalities. An undecided ReLU on [l, u] is
its triangle, $v\ge0,\ v\ge z,\ v\le u(z-l)/(u-l)$; with a binary variable a per neuron the program
is the network itself, $v\le ua,\ v\le z-l(1-a)$. Sources: Wong and Kolter 2018, Tjeng et al. 2019.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from adversarial_lab.certified.affine import AFFINE
from adversarial_lab.certified.crown import Relaxed
from adversarial_lab.certified.graph import INPUT, Graph, Node
from adversarial_lab.certified.interval import Interval
from adversarial_lab.certified.layers import Add, Concat, doubled, kind

ON = " is on"  # ends the name of a block of binary variables
LIMIT = 20_000  # variables
SIDES = (Add, Concat, nn.ReLU, nn.LeakyReLU)  # what has rows of its own here; affine layers too
Ends = tuple[np.ndarray, np.ndarray]  # the lower and upper bounds of a block of variables
Matrix = tuple[sparse.csr_array, np.ndarray]  # A and b


@dataclass(frozen=True)
class Row:
    """Some rows of a constraint: the columns of each block that takes part, and the right side."""

    columns: dict[str, Any]
    right: np.ndarray


@dataclass(frozen=True)
class Program:
    """Variables v in [low, high] with ub_a v <= ub_b and eq_a v = eq_b, some of them binary."""

    low: np.ndarray
    high: np.ndarray
    ub_a: sparse.csr_array
    ub_b: np.ndarray
    eq_a: sparse.csr_array
    eq_b: np.ndarray
    binary: np.ndarray
    inputs: slice  # where x' stands among the variables
    logits: slice


def wide(graph: Graph) -> Graph:
    """The same network in double precision, on the CPU."""
    return Graph(tuple(replace(node, layer=doubled(node.layer).cpu()) for node in graph.nodes))


def check_size(graph: Graph, x: Tensor) -> None:
    """Raise ValueError on a layer that has no rows here, and on a network that is too large."""
    known = {*AFFINE, *SIDES}
    for node in graph.nodes:
        if kind(node.layer) not in known:
            raise ValueError(
                f"layer {node.name!r} is a {type(node.layer).__name__}, which has no linear"
                f" program; known: {', '.join(sorted(k.__name__ for k in known))}"
            )
    walked = graph.walk(x[:1], lambda node, *values: node.layer(*values))
    size = x[0].numel() + sum(out.numel() for _, _, out in walked)
    if size > LIMIT:
        raise ValueError(
            f"the network has {size} values, more than the {LIMIT} that 'lp' and 'milp' solve for"
            " exactly: use 'crown', the fast dual of the same polytope"
        )


def matrices(relaxed: Relaxed) -> dict[str, Matrix]:
    """W and b of every affine layer, written out; the same for every example."""
    found = {}
    for node in relaxed.graph.nodes:
        if kind(node.layer) not in AFFINE:
            continue
        source, out = relaxed.boxes[node.inputs[0]].lower[:1], relaxed.boxes[node.name].lower[:1]
        affine = AFFINE[kind(node.layer)](node.layer, source.shape)
        rows = torch.eye(out.numel(), dtype=out.dtype).view(-1, *out.shape[1:])
        w = affine.transpose(rows).detach().flatten(1).numpy()
        b = affine.apply(torch.zeros_like(source)).detach().flatten().numpy()
        found[node.name] = (sparse.csr_array(w), b)
    return found


def build(relaxed: Relaxed, affine: dict[str, Matrix], i: int, *, exact: bool) -> Program:
    """The program of example i: its polytope or, if `exact`, the network with binary variables."""
    ends = {name: _ends(box, i) for name, box in relaxed.boxes.items()}
    equal, below = [], _l1_rows(relaxed, ends, i)
    for node in relaxed.graph.nodes:
        if node.name in affine:
            w, b = affine[node.name]
            equal.append(Row({node.name: sparse.eye_array(len(b)), node.inputs[0]: -w}, b))
        elif isinstance(node.layer, Add):
            equal.append(_sum_row(node, len(ends[node.name][0])))
        elif isinstance(node.layer, Concat):
            equal.append(_concat_row(node, relaxed.boxes))
        else:
            decided, rows = _kink_rows(node, ends, exact)
            equal.append(decided)
            below.extend(rows)
    return _assemble(ends, below, equal, relaxed.graph.nodes[-1].name)


def _ends(box: Interval, i: int) -> Ends:
    low, high = (side[i].detach().flatten().numpy().astype(float) for side in box)
    return low, high


def _sum_row(node: Node, size: int) -> Row:
    eye = sparse.eye_array(size)
    columns: dict[str, Any] = {}
    for name in node.inputs:
        columns[name] = columns.get(name, 0) - eye  # x + x reads one value twice
    return Row({node.name: eye, **columns}, np.zeros(size))


def _concat_row(node: Node, boxes: dict[str, Interval]) -> Row:
    """Each value in its place: which of all inputs, counted through, a coordinate is."""
    shapes = [boxes[name].lower[:1].shape for name in node.inputs]
    starts = np.cumsum([0, *[shape.numel() for shape in shapes]])
    counted = [torch.arange(a, b).view(shape) for a, b, shape in zip(starts, starts[1:], shapes)]  # noqa: B905
    order = sparse.eye_array(starts[-1]).tocsr()[node.layer(*counted).flatten().numpy()].tocsc()
    columns: dict[str, Any] = {node.name: sparse.eye_array(starts[-1])}
    for name, a, b in zip(node.inputs, starts, starts[1:]):  # noqa: B905
        columns[name] = columns.get(name, 0) - order[:, a:b]
    return Row(columns, np.zeros(starts[-1]))


def _kink_rows(node: Node, ends: dict[str, Ends], exact: bool) -> tuple[Row, list[Row]]:
    """max(z, s z): an equality where its side is decided, else the triangle or its two sides."""
    s = float(node.layer.negative_slope) if isinstance(node.layer, nn.LeakyReLU) else 0.0
    if not 0 <= s <= 1:
        raise ValueError(f"layer {node.name!r}: LeakyReLU needs a slope in [0, 1], got {s}")
    z, v, on = node.inputs[0], node.name, node.name + ON
    low, high = ends[z]
    eye = sparse.eye_array(len(low)).tocsr()
    at = (low < 0) & (high > 0)
    slope = _diagonal(np.where(low >= 0, 1.0, s))
    decided = Row({v: eye[~at], z: -eye[~at] @ slope}, np.zeros((~at).sum()))
    pick, low, high = eye[at], low[at], high[at]
    none = np.zeros(len(low))
    rows = [Row({z: pick, v: -pick}, none), Row({z: s * pick, v: -pick}, none)]
    if not exact:
        chord = (high - s * low) / (high - low)
        rows.append(Row({v: pick, z: -_diagonal(chord) @ pick}, (s - chord) * low))
    elif len(low):
        ends[on] = (none, np.ones(len(low)))
        drop, rise = (1 - s) * low, (1 - s) * high
        rows.append(Row({v: pick, z: -pick, on: -_diagonal(drop)}, -drop))
        rows.append(Row({v: pick, z: -s * pick, on: -_diagonal(rise)}, none))
    return decided, rows


def _l1_rows(relaxed: Relaxed, ends: dict[str, Ends], i: int) -> list[Row]:
    """The l1 ball: |x' - x| <= t in each coordinate and sum t <= eps."""
    if relaxed.region.norm != "l1":
        return []
    x = relaxed.region.x[i].detach().flatten().numpy().astype(float)
    eps = float(relaxed.region.eps[i])
    ends["distance"] = (np.zeros(len(x)), np.full(len(x), eps))
    eye, total = sparse.eye_array(len(x)), sparse.csr_array(np.ones((1, len(x))))
    return [
        Row({INPUT: eye, "distance": -eye}, x),
        Row({INPUT: -eye, "distance": -eye}, -x),
        Row({"distance": total}, np.array([eps])),
    ]


def _diagonal(v: np.ndarray) -> sparse.dia_array:
    return sparse.diags_array(v)


def _assemble(ends: dict[str, Ends], below: list[Row], equal: list[Row], output: str) -> Program:
    low, high = (np.concatenate([e[side] for e in ends.values()]) for side in (0, 1))
    binary = [np.full(len(e[0]), name.endswith(ON)) for name, e in ends.items()]
    starts = np.cumsum([0, *[len(e[0]) for e in ends.values()]])
    place = {n: slice(a, b) for n, a, b in zip(ends, starts[:-1], starts[1:], strict=True)}
    ub, eq = (_stack(rows, ends) for rows in (below, equal))
    return Program(low, high, *ub, *eq, np.concatenate(binary), place[INPUT], place[output])


def _stack(rows: list[Row], ends: dict[str, Ends]) -> Matrix:
    rows = [row for row in rows if len(row.right)]
    width = sum(len(low) for low, _ in ends.values())
    if not rows:
        return sparse.csr_array((0, width)), np.zeros(0)
    blocks = [
        [row.columns.get(n, sparse.csr_array((len(row.right), len(e[0])))) for n, e in ends.items()]
        for row in rows
    ]
    return sparse.block_array(blocks, format="csr"), np.concatenate([row.right for row in rows])

r"""Section 17.1: what a norm is to an attack; a norm is one row of the table `GEOMETRIES`.

Functions here take flattened examples, one a row, x before z. `project_linf`, `project_l2` and
`project_l1` are $\Pi_{N(x)}(z)$ of Section 17.1.1; `threat.ThreatModel` calls them with its radius
and box. Who adds a norm adds a row; the tables of algorithms that know some norms only stay beside
those algorithms, and `row_of` words their refusals.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

Rows = Float[Tensor, "n d"]  # one flattened example a row
Lengths = Float[Tensor, " n"]
Box = tuple[float, float] | None  # the valid range of every coordinate; None: no limits
Rng = torch.Generator | None  # None: torch's global generator
Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The facts of a norm, on flattened examples: one row of `GEOMETRIES`."""

    order: float  # p of the p-norm, as torch.cdist takes it
    dual: str  # the row whose length is the dual norm, max of <g, v> over the unit ball
    euclidean: Callable[[int], float]  # the largest l2 length in the unit ball of R^d
    helly: int | None  # balls of which any so many share a point all do; None: d + 1 in R^d
    length: Callable[[Rows], Lengths]  # the norm of each row
    project: Callable[[Rows, Rows, float, Box], Rows]  # of x, z: z into the ball and the box
    steepest: Callable[[Rows, Rng], Rows]  # argmax of <g, v> over the unit ball
    step: Callable[[Rows, Rows, float, Box, Rng], Rows]  # from z along g, of a given length
    sample: Callable[[Rows, Rng], Rows]  # uniform in the unit ball


def row_of(norm: str, table: Mapping[str, Row], where: str = "") -> Row:
    """The norm's entry in a table keyed by norm; ValueError lists those that the table has."""
    if not isinstance(norm, str) or norm not in table:
        raise ValueError(f"norm must be one of {sorted(table)}{where}, got {norm!r}")
    return table[norm]


def dual_length(norm: str, g: Rows) -> Lengths:
    r"""$\|g\|_*=\max_{\|v\|\le1}\langle g,v\rangle$ of each row: l1 for linf, l2, linf for l1."""
    return GEOMETRIES[row_of(norm, GEOMETRIES).dual].length(g)


def distances(x: Rows, z: Float[Tensor, "m d"], norm: str) -> Float[Tensor, "n m"]:
    r"""$\|x_i-z_j\|$ of all pairs, without the matrix product that is quick and inexact."""
    order = row_of(norm, GEOMETRIES).order
    return torch.cdist(x, z, order, compute_mode="donot_use_mm_for_euclid_dist")


def normal_like(like: Tensor, rng: Rng) -> Tensor:
    """Standard normal noise of the shape, dtype and device of `like`."""
    device = like.device if rng is None else rng.device
    draw = torch.randn(like.shape, generator=rng, dtype=like.dtype, device=device)
    return draw.to(like.device)


def _uniform(like: Tensor, rng: Rng, shape: tuple[int, ...] | None = None) -> Tensor:
    # drawn where the generator lives, so one CPU seed gives the same noise on every device
    device = like.device if rng is None else rng.device
    draw = torch.rand(shape or like.shape, generator=rng, dtype=like.dtype, device=device)
    return draw.to(like.device)


def wide(v: Tensor) -> Tensor:
    """v in float64, where sums over many coordinates lose nothing (MPS has none: float32)."""
    return v.float() if v.device.type == "mps" else v.double()


def single(v: Tensor) -> Tensor:
    """v in float32 or better, so that a half-precision result is rounded once and not often."""
    return v.float() if torch.finfo(v.dtype).bits < 32 else v


def rounded_to(dtype: torch.dtype, box: Box) -> Box:
    """The box as this dtype knows it: float16 has 2.6406 and no 2.64."""
    if box is None or torch.finfo(dtype).bits >= 32:  # those round a number where they meet it
        return box
    low, high = torch.tensor(box, dtype=dtype).tolist()
    return low, high


def into_(box: Box, z: Tensor) -> Tensor:
    """z itself, with every coordinate moved to the nearest value in the box."""
    return z if box is None else z.clamp_(*box)


def _linf_length(v: Rows) -> Lengths:
    return v.abs().amax(1)


def project_linf(x: Rows, z: Rows, eps: float, box: Box = None) -> Rows:
    r"""$\arg\min_{z'}\|z'-z\|_2$ s.t. $\|z'-x\|_\infty\le\varepsilon$ and z' in the box: clipping.

    Exact, for x in the box.
    """
    return into_(box, torch.clamp(z, x - eps, x + eps))


def _linf_steepest(g: Rows, rng: Rng) -> Rows:
    return g.sign()


def _linf_step(z: Rows, g: Rows, size: float, box: Box, rng: Rng) -> Rows:
    return z + size * _linf_steepest(g, rng)


def _linf_sample(like: Rows, rng: Rng) -> Rows:
    return 2 * _uniform(like, rng) - 1


def _l2_length(v: Rows) -> Lengths:
    return torch.linalg.vector_norm(v, dim=1)


def project_l2(x: Rows, z: Rows, eps: float, box: Box = None) -> Rows:
    r"""$\arg\min_{z'}\|z'-z\|_2$ s.t. $\|z'-x\|_2\le\varepsilon$, then clipped to the box.

    $x+\min(1,\varepsilon/\|z-x\|_2)(z-x)$ is the minimiser. Clipping it stays in the ball, for x
    in the box, but gives a point of ball and box that is not always their nearest one.
    """
    delta = z - x
    length = _l2_length(wide(delta))[:, None]
    shrink = (eps / length.clamp(min=eps)) if eps else torch.zeros_like(length)
    return into_(box, x + delta * shrink.to(z.dtype))


def _l2_steepest(g: Rows, rng: Rng) -> Rows:
    largest = g.abs().amax(1, keepdim=True)
    dead = largest == 0
    if dead.any():
        g = torch.where(dead, normal_like(g, rng), g)
        largest = g.abs().amax(1, keepdim=True)
    g = g / largest  # else the squares of a 1e-30 gradient underflow to 0
    return g / _l2_length(g)[:, None]


def _l2_step(z: Rows, g: Rows, size: float, box: Box, rng: Rng) -> Rows:
    return z + size * _l2_steepest(g, rng)


def _l2_sample(like: Rows, rng: Rng) -> Rows:
    direction = normal_like(like, rng)
    radius = _uniform(like, rng, (len(like), 1)) ** (1 / like.shape[1])
    # the length in double, else it is off by more than a rounding, and a draw near 1 lies outside
    return direction * (radius / _l2_length(wide(direction))[:, None]).to(like.dtype)


def _l1_length(v: Rows) -> Lengths:
    return v.abs().sum(1)


def project_l1(x: Rows, z: Rows, eps: float, box: Box = None) -> Rows:
    r"""$\arg\min_{z'}\|z'-z\|_2$ s.t. $\|z'-x\|_1\le\varepsilon$ and z' in the box, exactly.

    $z'_i=x_i+\mathrm{sign}(d_i)\,[\lvert d_i\rvert-\lambda]_0^{c_i}$, d = z - x, c_i the room to
    the box in the direction of d_i. The length is piecewise linear and falls with lambda, with
    kinks at `|d_i| - c_i` and `|d_i|`; sorting them finds lambda exactly.
    """
    delta = wide(z) - wide(x)
    size = delta.abs()
    room = size if box is None else torch.where(delta > 0, box[1] - x, x - box[0])
    room = torch.minimum(room, size)
    kinks, order = torch.cat([size - room, size], 1).sort(1)
    # the slope falls by 1 where a coordinate leaves its wall and rises by 1 where it reaches 0
    turn = torch.cat([-torch.ones_like(size), torch.ones_like(size)], 1).gather(1, order)
    slope = turn.cumsum(1)
    drop = (slope[:, :-1] * kinks.diff(dim=1)).cumsum(1)
    length = room.sum(1, keepdim=True) + torch.cat([torch.zeros_like(kinks[:, :1]), drop], 1)
    last = ((length > eps).sum(1, keepdim=True) - 1).clamp(min=0)  # the kink just left of lambda
    beyond = (length.gather(1, last) - eps).clamp(min=0) / -slope.gather(1, last).clamp(max=-1)
    shift = torch.where(length[:, :1] > eps, kinks.gather(1, last) + beyond, 0.0)
    shorter = torch.minimum((size - shift).clamp(min=0), room)
    # of a z far away the running sums lose digits of lambda: what is over is taken off in the end
    over = (shorter.sum(1, keepdim=True) / eps).clamp(min=1) if eps else torch.inf
    return into_(box, x + (delta.sign() * shorter / over).to(x.dtype))


def _l1_steepest(g: Rows, rng: Rng) -> Rows:
    largest = g.abs().argmax(1, keepdim=True)
    return torch.zeros_like(g).scatter(1, largest, g.gather(1, largest).sign())


def _l1_step(z: Rows, g: Rows, size: float, box: Box, rng: Rng) -> Rows:
    if box is None:
        return z + size * _l1_steepest(g, rng)
    room = torch.where(g > 0, box[1] - z, z - box[0]).clamp(min=0) * (g != 0)
    order = g.abs().argsort(1, descending=True)
    room = room.gather(1, order)
    spent = room.cumsum(1) - room  # by the coordinates with larger gradients
    share = torch.minimum((size - spent).clamp(min=0), room)
    return z + g.sign() * torch.zeros_like(z).scatter(1, order, share)


def _l1_sample(like: Rows, rng: Rng) -> Rows:
    # d of d + 1 exponentials over their sum are uniform in the simplex; random signs, in the ball
    share = -torch.log1p(-_uniform(like, rng, (len(like), like.shape[1] + 1)))
    sign = torch.where(_uniform(like, rng) < 0.5, -1.0, 1.0).to(like.dtype)
    return sign * share[:, :-1] / share.sum(1, keepdim=True)


GEOMETRIES: dict[str, Geometry] = {
    "linf": Geometry(
        order=math.inf,
        dual="l1",
        euclidean=math.sqrt,
        helly=2,  # boxes
        length=_linf_length,
        project=project_linf,
        steepest=_linf_steepest,
        step=_linf_step,
        sample=_linf_sample,
    ),
    "l2": Geometry(
        order=2.0,
        dual="l2",
        euclidean=lambda d: 1.0,
        helly=None,
        length=_l2_length,
        project=project_l2,
        steepest=_l2_steepest,
        step=_l2_step,
        sample=_l2_sample,
    ),
    "l1": Geometry(
        order=1.0,
        dual="linf",
        euclidean=lambda d: 1.0,
        helly=None,
        length=_l1_length,
        project=project_l1,
        steepest=_l1_steepest,
        step=_l1_step,
        sample=_l1_sample,
    ),
}

r"""Section 17.1: what the adversary may do, $N(x)=\{x':\|x'-x\|\le\varepsilon\}$.

Every module takes a `ThreatModel` for norm, radius and valid range, and nothing else. Inputs live
in data units (pixels in [0, 1]); a network that wants normalised inputs normalises inside its own
``forward``. A norm is one row of the table `GEOMETRIES`.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Points = Float[Tensor, "n *d"]
Rows = Float[Tensor, "n d"]  # one flattened example a row
Box = tuple[float, float] | None  # the valid range of every coordinate; None: no limits
Rng = torch.Generator | None  # None: torch's global generator


@dataclass(frozen=True)
class Geometry:
    """What a norm means to an attack, on flattened examples."""

    length: Callable[[Rows], Tensor]  # the norm of each row
    project: Callable[[Rows, Rows, float, Box], Tensor]  # z into the ball around x and the box
    steepest: Callable[[Rows, Rng], Tensor]  # argmax of <g, v> over the unit ball
    step: Callable[[Rows, Rows, float, Box, Rng], Tensor]  # from z along g, of a given length
    sample: Callable[[Rows, Rng], Tensor]  # uniform in the unit ball


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    r"""The closed ball $N(x)=\{x'\in[l,u]^d:\|x'-x\|\le\varepsilon\}$, Section 17.1.

    norm: a key of `GEOMETRIES`; eps: radius in data units; box: (l, u) or None for no limits.
    Raises ValueError on an unknown norm, an eps that is negative, not finite or (linf) wider than
    the box, and on an empty box.
    """

    norm: str
    eps: float
    box: Box = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not isinstance(self.norm, str) or self.norm not in GEOMETRIES:
            raise ValueError(f"norm must be one of {sorted(GEOMETRIES)}, got {self.norm!r}")
        if not (self.eps >= 0 and math.isfinite(self.eps)):
            raise ValueError(f"eps must be finite and >= 0 in data units, got {self.eps}")
        if self.box is None:
            return
        if len(self.box) != 2 or not self.box[0] < self.box[1]:
            raise ValueError(f"box must be (low, high) with low < high, got {self.box}")
        low, high = self.box
        if self.norm == "linf" and self.eps > high - low:
            raise ValueError(
                f"eps={self.eps} is wider than the box {self.box}: eps is in data units"
                f" (did you mean {self.eps}/255?)"
            )

    def with_eps(self, eps: float) -> "ThreatModel":
        """The same norm and box with another radius."""
        return replace(self, eps=eps)

    def distance(self, x: Points, z: Points) -> Float[Tensor, " n"]:
        r"""$\|z-x\|$ of each example, in data units."""
        return GEOMETRIES[self.norm].length((z - x).flatten(1))

    def contains(self, x: Points, z: Points, *, slack: float = 1e-5) -> Bool[Tensor, " n"]:
        """True where z lies in N(x), up to `slack` in data units for float32 rounding."""
        inside = self.distance(_wide(x), _wide(z)) <= self.eps + slack
        if self.box is not None:
            low, high = self.box
            inside &= ((z >= low) & (z <= high)).flatten(1).all(1)
        return inside

    def project(self, z: Points, x: Points) -> Points:
        r"""$\Pi_{N(x)}(z)$, Section 17.1.1: the nearest point of N(x), for x inside the box.

        Exact for linf and l1. For l2 with a box: ball first, then box, which lies in N(x) but is
        not always its nearest point. Up to one rounding of the dtype in each coordinate.
        """
        flat = GEOMETRIES[self.norm].project(z.flatten(1), x.flatten(1), self.eps, self.box)
        return flat.view(x.shape)

    def steepest(self, g: Points, rng: Rng = None) -> Points:
        r"""$\arg\max_{\|v\|\le1}\langle g,v\rangle$, the step of Section 17.1.1.

        linf: sign(g). l2: g/||g||, and a random unit direction where g = 0 (the quotient is
        undefined there). l1: the sign of the largest coordinate, all others 0.
        """
        return GEOMETRIES[self.norm].steepest(g.flatten(1), rng).view(g.shape)

    def step(self, z: Points, g: Points, size: float, rng: Rng = None) -> Points:
        r"""$z+\alpha\,v$ with v = `steepest(g)` and alpha = `size`: one step of Section 17.1.1.

        For l1 inside a box the length goes to the largest gradients in turn, each coordinate up to
        its wall: the single steepest one is often at its wall already, and would not move at all.
        Source for l1: the idea of Croce and Hein 2021.
        """
        geometry = GEOMETRIES[self.norm]
        return geometry.step(z.flatten(1), g.flatten(1), size, self.box, rng).view(z.shape)

    def sample(self, x: Points, rng: Rng = None) -> Points:
        """Start of Section 17.1.1: x plus a uniform draw from the eps-ball, moved into the box."""
        flat = x.flatten(1)
        start = flat + self.eps * GEOMETRIES[self.norm].sample(flat, rng)
        return (start if self.box is None else start.clamp(*self.box)).view(x.shape)

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless x is a non-empty finite float batch (n, *d) inside the box."""
        if not x.is_floating_point():
            raise ValueError(f"x must be floating point, got {x.dtype}: bytes need / 255 first")
        if x.ndim < 2 or x.numel() == 0:
            raise ValueError(f"x must be a non-empty batch (n, *d), got shape {tuple(x.shape)}")
        if not x.isfinite().all():
            raise ValueError(
                f"x must be finite, got {int((~x.isfinite()).sum())} NaN or inf values"
            )
        if self.box is not None:
            self._check_box(x, *self.box)

    def _check_box(self, x: Tensor, low: float, high: float) -> None:
        if x.min() < low or x.max() > high:
            raise ValueError(
                f"x must lie in the box {self.box}, got [{x.min():.4g}, {x.max():.4g}]:"
                " normalise inside the model, not before the attack"
            )
        corner = torch.full((1, x[0].numel()), float(high - low))
        diameter = GEOMETRIES[self.norm].length(corner).item()
        if self.norm != "linf" and self.eps >= diameter:
            warnings.warn(
                f"eps={self.eps} in {self.norm} covers the whole box (diameter {diameter:.4g}):"
                f" every input can become every other (did you mean {self.eps}/255?)",
                stacklevel=4,
            )


def _uniform(like: Tensor, rng: Rng, shape: tuple[int, ...] | None = None) -> Tensor:
    # drawn where the generator lives, so one CPU seed gives the same noise on every device
    device = like.device if rng is None else rng.device
    draw = torch.rand(shape or like.shape, generator=rng, dtype=like.dtype, device=device)
    return draw.to(like.device)


def normal_like(like: Tensor, rng: Rng) -> Tensor:
    """Standard normal noise of the shape, dtype and device of `like`."""
    device = like.device if rng is None else rng.device
    draw = torch.randn(like.shape, generator=rng, dtype=like.dtype, device=device)
    return draw.to(like.device)


def _wide(v: Tensor) -> Tensor:
    # sums over many coordinates in double, good to one rounding in the end (MPS has no double)
    return v if v.device.type == "mps" else v.double()


def _into(box: Box, z: Tensor) -> Tensor:
    return z if box is None else z.clamp(*box)


def _linf_length(v: Rows) -> Tensor:
    return v.abs().amax(1)


def _linf_project(z: Rows, x: Rows, eps: float, box: Box) -> Tensor:
    return _into(box, torch.clamp(z, x - eps, x + eps))


def _linf_steepest(g: Rows, rng: Rng) -> Tensor:
    return g.sign()


def _linf_step(z: Rows, g: Rows, size: float, box: Box, rng: Rng) -> Tensor:
    return z + size * _linf_steepest(g, rng)


def _linf_sample(like: Rows, rng: Rng) -> Tensor:
    return 2 * _uniform(like, rng) - 1


def _l2_length(v: Rows) -> Tensor:
    return torch.linalg.vector_norm(v, dim=1)


def _l2_project(z: Rows, x: Rows, eps: float, box: Box) -> Tensor:
    delta = z - x
    length = _l2_length(_wide(delta))[:, None]
    shrink = (eps / length.clamp(min=eps)) if eps else torch.zeros_like(length)
    return _into(box, x + delta * shrink.to(z.dtype))


def _l2_steepest(g: Rows, rng: Rng) -> Tensor:
    largest = g.abs().amax(1, keepdim=True)
    dead = largest == 0
    if dead.any():
        g = torch.where(dead, normal_like(g, rng), g)
        largest = g.abs().amax(1, keepdim=True)
    g = g / largest  # else the squares of a 1e-30 gradient underflow to 0
    return g / _l2_length(g)[:, None]


def _l2_step(z: Rows, g: Rows, size: float, box: Box, rng: Rng) -> Tensor:
    return z + size * _l2_steepest(g, rng)


def _l2_sample(like: Rows, rng: Rng) -> Tensor:
    direction = _l2_steepest(normal_like(like, rng), rng)
    radius = _uniform(like, rng, (len(like), 1)) ** (1 / like.shape[1])
    return direction * radius


def _l1_length(v: Rows) -> Tensor:
    return v.abs().sum(1)


def _l1_project(z: Rows, x: Rows, eps: float, box: Box) -> Tensor:
    r"""Nearest point of ball and box: $\delta_i=\mathrm{sign}(d_i)\,[\,|d_i|-\lambda]_0^{c_i}$.

    c_i is the room to the box in the direction of d_i = z_i - x_i. The length is piecewise linear
    and falls with lambda, with kinks at |d_i| - c_i and |d_i|; sorting them finds lambda exactly.
    """
    delta = _wide(z) - _wide(x)
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
    shorter = delta.sign() * torch.minimum((size - shift).clamp(min=0), room)
    return _into(box, x + shorter.to(x.dtype))


def _l1_steepest(g: Rows, rng: Rng) -> Tensor:
    largest = g.abs().argmax(1, keepdim=True)
    return torch.zeros_like(g).scatter(1, largest, g.gather(1, largest).sign())


def _l1_step(z: Rows, g: Rows, size: float, box: Box, rng: Rng) -> Tensor:
    if box is None:
        return z + size * _l1_steepest(g, rng)
    room = torch.where(g > 0, box[1] - z, z - box[0]).clamp(min=0) * (g != 0)
    order = g.abs().argsort(1, descending=True)
    room = room.gather(1, order)
    spent = room.cumsum(1) - room  # by the coordinates with larger gradients
    share = torch.minimum((size - spent).clamp(min=0), room)
    return z + g.sign() * torch.zeros_like(z).scatter(1, order, share)


def _l1_sample(like: Rows, rng: Rng) -> Tensor:
    # d of d + 1 exponentials over their sum are uniform in the simplex; random signs, in the ball
    share = -torch.log1p(-_uniform(like, rng, (len(like), like.shape[1] + 1)))
    sign = torch.where(_uniform(like, rng) < 0.5, -1.0, 1.0).to(like.dtype)
    return sign * share[:, :-1] / share.sum(1, keepdim=True)


GEOMETRIES: dict[str, Geometry] = {
    "linf": Geometry(_linf_length, _linf_project, _linf_steepest, _linf_step, _linf_sample),
    "l2": Geometry(_l2_length, _l2_project, _l2_steepest, _l2_step, _l2_sample),
    "l1": Geometry(_l1_length, _l1_project, _l1_steepest, _l1_step, _l1_sample),
}

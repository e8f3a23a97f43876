r"""Section 17.1: what the adversary may do, $N(x)=\{x':\|x'-x\|\le\varepsilon\}$.

Every module takes a `ThreatModel` for norm, radius and valid range, and nothing else. Inputs live
in data units (pixels in [0, 1]); a network that wants normalised inputs normalises inside its own
``forward``. What a norm is stands in its row of `norms.GEOMETRIES`.
"""

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adversarial_lab.norms import (
    GEOMETRIES,
    Box,
    Rng,
    dual_length,
    into_,
    rounded_to,
    row_of,
    single,
    wide,
)
from adversarial_lab.norms import Geometry as Geometry
from adversarial_lab.norms import Rows as Rows
from adversarial_lab.norms import normal_like as normal_like

Points = Float[Tensor, "n *d"]
HALF_UNIT = 0.51  # of a last place: what one rounding moves a number by, and a hair
LENGTH_UNITS = 4  # last places by which a length may be off: its own roundings and those of eps


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    r"""The closed ball $N(x)=\{x'\in[l,u]^d:\|x'-x\|\le\varepsilon\}$, Section 17.1.

    norm: a key of `GEOMETRIES`; eps: radius in data units; box: (l, u) or None for no limits.
    Raises ValueError on an unknown norm, an eps that is negative, not finite or (linf) wider than
    the box, on an empty box, and on an eps or a box of several numbers.
    """

    norm: str
    eps: float
    box: Box = (0.0, 1.0)

    def __post_init__(self) -> None:
        row_of(self.norm, GEOMETRIES)
        object.__setattr__(self, "eps", _number("eps", self.eps))
        if not (self.eps >= 0 and math.isfinite(self.eps)):
            raise ValueError(f"eps must be finite and >= 0 in data units, got {self.eps}")
        if self.box is None:
            return
        object.__setattr__(self, "box", _interval(self.box))
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
        away = single(z) - single(x)
        return GEOMETRIES[self.norm].length(away.flatten(1)).to(x.dtype)

    def dual_norm(self, g: Points) -> Float[Tensor, " n"]:
        r"""$\|g\|_*=\max_{\|v\|\le1}\langle g,v\rangle$ of each example: l1 for linf, l2 for l2."""
        return dual_length(self.norm, g.flatten(1))

    def contains(self, x: Points, z: Points) -> Bool[Tensor, " n"]:
        r"""True where z lies in N(x), up to the roundings of its dtype, computed in float64.

        $\|(|z-x|-u|z|)_+\|\le\varepsilon(1+8u)$: z may be what one rounding of each coordinate
        makes of a point of the ball, whose radius may be rounded too. u is the unit roundoff of
        the coarser dtype of x and z: $2^{-24}$ for float32, $2^{-11}$ for float16, $2^{-8}$ for
        bfloat16. The box has no slack. Raises ValueError where x lies outside the box.
        """
        self._check_centre(x)
        unit = max(torch.finfo(v.dtype).eps for v in (x, z))
        tiny = max(torch.finfo(v.dtype).tiny for v in (x, z))  # below it the spacing is constant
        ends, start = wide(z.flatten(1)), wide(x.flatten(1))
        rounded = ends.abs().clamp_(min=tiny).mul_(HALF_UNIT * unit)
        away = (ends - start).abs_().sub_(rounded).clamp_(min=0)
        length = GEOMETRIES[self.norm].length(away)
        own = math.sqrt(ends.shape[1]) * torch.finfo(ends.dtype).eps  # of the sum just taken
        inside = length <= self.eps * (1 + LENGTH_UNITS * unit + own)
        if self.box is not None:
            low, high = self.box
            inside &= ((z >= low) & (z <= high)).flatten(1).all(1)
        return inside

    def project(self, x: Points, z: Points) -> Points:
        r"""$\Pi_{N(x)}(z)$, Section 17.1.1: the nearest point of N(x), for x inside the box.

        Exact for linf and l1. For l2 with a box: ball first, then box, which lies in N(x) but is
        not always its nearest point. float16 and bfloat16 are computed in float32 and rounded
        once: `contains` holds for the result in every dtype. Raises ValueError where x lies outside
        the box, as it does when x and z are swapped (on a CPU; a GPU is not made to wait for it).
        """
        if x.device.type == "cpu":
            self._check_centre(x)
        start, ends = (single(v.flatten(1)) for v in (x, z))
        flat = GEOMETRIES[self.norm].project(start, ends, self.eps, rounded_to(x.dtype, self.box))
        return flat.view(x.shape) if flat.dtype == x.dtype else self._as(x, flat)

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
        flat = single(x.flatten(1))
        return self._as(x, flat + self.eps * GEOMETRIES[self.norm].sample(flat, rng))

    def _as(self, x: Points, flat: Rows) -> Points:
        """Flat rows in the shape and dtype of x, inside the box as that dtype knows it."""
        return into_(self.box, flat.to(x.dtype)).view(x.shape)

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
        self._check_centre(x, "normalise inside the model, not before the attack")
        if self.box is not None and self.norm != "linf" and self.eps > self.diameter(x):
            warnings.warn(
                f"eps={self.eps} in {self.norm} covers the whole box (diameter"
                f" {self.diameter(x):.4g}): every input can become every other"
                f" (did you mean {self.eps}/255?)",
                stacklevel=3,
            )

    def diameter(self, x: Points) -> float:
        """The largest distance in the box, inf without one: at this eps N(x) is all of it."""
        if self.box is None:
            return math.inf
        low, high = self.box
        corner = torch.full((1, x[0].numel()), float(high - low), dtype=torch.float64)
        return GEOMETRIES[self.norm].length(corner).item()

    def _check_centre(self, x: Points, way_out: str = "x comes first, then z") -> None:
        if self.box is None or x.numel() == 0:
            return
        low, high = x.aminmax()
        if low < self.box[0] or high > self.box[1]:
            raise ValueError(
                f"x must lie in the box {self.box}, got [{low:.4g}, {high:.4g}]: {way_out}"
            )


def _number(name: str, value: Any) -> float:
    """The value as one float; one for each coordinate is refused with the way out."""
    try:
        if not isinstance(value, str):
            return float(value)
    except (TypeError, ValueError, RuntimeError):
        pass
    shape = getattr(value, "shape", None)
    got = repr(value) if shape is None else f"shape {tuple(shape)}"
    raise ValueError(
        f"{name} must be one number in data units, got {got}: for one per channel or feature,"
        " pass inputs scaled so that it is the same for all, and undo that in the model's forward"
    )


def _interval(box: Any) -> tuple[float, float]:
    ends = tuple(box) if hasattr(box, "__len__") else ()
    if len(ends) != 2:
        raise ValueError(f"box must be (low, high) with low < high, got {box}")
    low, high = (_number("box", end) for end in ends)
    if not low < high:
        raise ValueError(f"box must be (low, high) with low < high, got {box}")
    return low, high

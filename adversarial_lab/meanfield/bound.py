r"""Lecture, mean field: a maximum with a proof, by branch and bound on boxes.

In a box with centre c and half-widths h, a function whose Hessian is at most M satisfies
$F(x)\le F(c)+\nabla F(c)\cdot\delta+\frac M2|\delta|^2$. Boxes where this cannot beat the best
value by more than the tolerance are dropped, the others are cut in two.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Corners = Float[Tensor, "k d"]
Values = Float[Tensor, " k"]
Owner = Int[Tensor, " k"]
Best = Float[Tensor, " n"]  # one entry a problem, where the above have one a box
Places = Float[Tensor, "n d"]
Halves = tuple[Float[Tensor, "twice d"], Float[Tensor, "twice d"], Int[Tensor, " twice"]]
# points and the problem each belongs to -> value and gradient
Evaluate = Callable[[Corners, Owner], tuple[Values, Corners]]


@dataclass(frozen=True)
class Maximum:
    """For each problem: the best value found, where, and a number no value exceeds."""

    value: Best
    where: Places
    upper: Best

    @property
    def gap(self) -> float:
        """The largest distance between bound and value."""
        return float((self.upper - self.value).max())


def maximise(
    evaluate: Evaluate,
    low: Places,
    high: Places,
    curvature: Best,
    *,
    tolerance: float,
    budget: int = 200_000,
) -> Maximum:
    r"""$\max_{l\le x\le u}F(x)$ for several F at once, each within its box (a row of low and high).

    curvature: M, an upper bound of the largest eigenvalue of each Hessian in its box, negative
    where F is concave. tolerance: absolute. budget: evaluations; where it does not suffice, `upper`
    is still a bound, and further away.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be >= 0, got {tolerance}")
    if not (low <= high).all() or curvature.isnan().any():
        raise ValueError("low must be <= high everywhere, and curvature not NaN")
    owner = torch.arange(len(low), device=low.device)
    centre, half = (low + high) / 2, (high - low) / 2
    value, where = torch.full_like(low[:, 0], -torch.inf), centre.clone()
    upper = value.clone()
    while len(owner):
        here, gradient = evaluate(centre, owner)
        value, where = _better(value, where, here, centre, owner)
        reach = here + _rise(gradient, half, curvature[owner])
        budget -= len(owner)
        open_ = reach > value[owner] + tolerance
        settled = ~open_ if budget > 0 else torch.ones_like(open_)
        upper = upper.scatter_reduce(0, owner[settled], reach[settled], "amax")
        centre, half, owner = _split(centre[~settled], half[~settled], owner[~settled])
    return Maximum(value, where, torch.maximum(upper, value))


def _rise(gradient: Corners, half: Corners, curvature: Values) -> Values:
    """The largest gradient.delta + M/2 |delta|^2 in the box, coordinate by coordinate."""
    slope, bend = gradient.abs(), curvature[:, None]
    inside = slope / (-bend).clamp(
        min=torch.finfo(bend.dtype).tiny
    )  # where M < 0: the top of the parabola
    far = torch.where(bend < 0, torch.minimum(inside, half), half)
    return (slope * far + bend / 2 * far.square()).sum(1)


def _better(
    value: Best, where: Places, here: Values, centre: Corners, owner: Owner
) -> tuple[Best, Places]:
    best = value.scatter_reduce(0, owner, here, "amax")
    first = (here == best[owner]) & (here > value[owner])
    where = where.index_copy(0, owner[first], centre[first])
    return best, where


def _split(centre: Corners, half: Corners, owner: Owner) -> Halves:
    if not len(owner):
        return centre, half, owner
    longest = torch.nn.functional.one_hot(half.argmax(1), half.shape[1]).to(half.dtype)
    shift = longest * half / 2
    return (
        torch.cat([centre - shift, centre + shift]),
        torch.cat([half - shift] * 2),
        torch.cat([owner] * 2),
    )

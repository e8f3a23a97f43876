r"""Section 17.2.3: Square, random search on squares: no gradient is asked for, none can be masked.

Andriushchenko, Croce, Flammarion and Hein (2020), "Square Attack: a query-efficient black-box
adversarial attack via random search". A change of one random square is kept if `margin`,
$\max_{j\ne y}z_j-z_y$, rises. The squares shrink as queries are spent.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from adversarial_lab.attacks.margins import margin
from adversarial_lab.classifier import Labels, Model, evaluating
from adversarial_lab.protocol import Undefined, verified_attack
from adversarial_lab.threat import Points, Rng, ThreatModel

Images = Float[Tensor, "n c h w"]
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries


@verified_attack
def square(
    model: Model,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    *,
    queries: int = 5000,
    first_share: float = 0.8,
    rng: Rng = None,
) -> Points:
    """The point with the largest `margin` after at most `queries` evaluations of each example.

    first_share: the share of the image that the first squares cover. An example leaves at its
    first wrong point. Each query draws one place for all, and signs for each example.
    Raises ValueError unless x is (n, c, h, w), the norm linf or l2, and queries >= 1.
    """
    propose, first = _moves(threat.norm, x, queries)
    end, rows = x.clone(), torch.arange(len(x), device=x.device)
    with evaluating(model, torch.contiguous_format), torch.no_grad():
        z = threat.project(x, first(x, threat, rng))
        reached = margin(model(z), y)
        for query in range(1, queries):
            end[rows] = z
            keep = reached <= 0
            if not keep.all():
                rows, x, y, z, reached = rows[keep], x[keep], y[keep], z[keep], reached[keep]
            if not len(rows):
                return end
            side = _side(x, first_share * _decay(query / queries), threat.norm)
            trial = threat.project(x, propose(x, z, side, threat, rng))
            value = margin(model(trial), y)
            better = value > reached
            reached = torch.where(better, value, reached)
            z = torch.where(better.view(-1, 1, 1, 1), trial, z)
        end[rows] = z
        return end


def _decay(spent: float) -> float:
    return 0.5 ** sum(spent * 10_000 > mark for mark in HALVINGS)


def _side(x: Tensor, share: float, norm: str) -> int:
    """Side of a square that covers this share of the image; l2 needs an odd one of at least 3."""
    h, w = x.shape[2:]
    side = max(round((share * h * w) ** 0.5), 1)
    if norm == "l2":
        side = max(side, 3) | 1
        return min(side, (min(h, w) - 1) | 1)
    return min(side, h, w)


def _moves(norm: str, x: Tensor, queries: int) -> tuple[Callable, Callable]:
    if queries < 1:
        raise ValueError(f"queries must be >= 1, got {queries}")
    if x.ndim != 4:
        raise Undefined(f"x must be images (n, c, h, w) for Square, got shape {tuple(x.shape)}")
    if norm not in MOVES:
        raise Undefined(f"norm must be one of {sorted(MOVES)} for Square, got {norm!r}")
    return MOVES[norm]


def _integers(high: int, count: int, rng: Rng) -> list[int]:
    device = "cpu" if rng is None else rng.device
    return torch.randint(high, (count,), generator=rng, device=device).tolist()


def _signs(shape: tuple[int, ...], like: Tensor, rng: Rng) -> Tensor:
    device = like.device if rng is None else rng.device
    draw = torch.randint(2, shape, generator=rng, device=device)
    return (2 * draw - 1).to(like)


def _stripes(x: Images, threat: ThreatModel, rng: Rng) -> Images:
    """linf start: each column of each channel up or down by eps."""
    n, c, _, w = x.shape
    return x + threat.eps * _signs((n, c, 1, w), x, rng)


def _paint(x: Images, z: Images, side: int, threat: ThreatModel, rng: Rng) -> Images:
    """linf move: inside one square, every channel at x + eps or x - eps."""
    n, c, h, w = x.shape
    (top,), (left,) = _integers(h - side + 1, 1, rng), _integers(w - side + 1, 1, rng)
    trial, here = z.clone(), (..., slice(top, top + side), slice(left, left + side))
    trial[here] = x[here] + threat.eps * _signs((n, c, 1, 1), x, rng)
    return trial


def _bump(side: int, like: Tensor, rng: Rng) -> Tensor:
    """Two pyramids of opposite sign that fill a square, as rows or columns, of unit length."""
    half = side // 2
    bump = torch.cat([_pyramid(half, side), -_pyramid(side - half, side)])
    (turn,) = _integers(2, 1, rng)
    return ((bump.T if turn else bump) / bump.norm()).to(like)


def _pyramid(h: int, w: int) -> Tensor:
    r"""$\eta_{r,s}=\sum_{k=0}^{M(r,s)}(n+1-k)^{-2}$: highest in the middle of h x w cells."""
    n = h // 2
    row = (torch.arange(h) - (h - 1) / 2).abs()[:, None] * 1.0
    column = (torch.arange(w) - (w - 1) / 2).abs()[None] * h / w
    depth = (n - torch.maximum(row, column).floor()).clamp(0, n).long()
    heights = (1.0 / torch.arange(n + 1, 0, -1).square()).cumsum(0)
    return heights[depth]


def _tiles(x: Images, threat: ThreatModel, rng: Rng) -> Images:
    """l2 start: bumps of random sign on a 5 x 5 grid of tiles, eps long in all."""
    n, c, h, w = x.shape
    side = max(min(h, w) // 5, 1)
    delta = torch.zeros_like(x)
    for top in range(0, h - side + 1, side):
        for left in range(0, w - side + 1, side):
            bump = _bump(side, x, rng) if side > 1 else torch.ones_like(x[0, 0, :1, :1])
            delta[..., top : top + side, left : left + side] = bump * _signs((n, c, 1, 1), x, rng)
    return x + threat.eps * delta / _length(delta)


def _move_mass(x: Images, z: Images, side: int, threat: ThreatModel, rng: Rng) -> Images:
    """l2 move: what is unspent, and what one square holds, goes to another as a bump."""
    n, c, h, w = x.shape
    tops, lefts = _integers(h - side + 1, 2, rng), _integers(w - side + 1, 2, rng)
    here, there = (
        (..., slice(top, top + side), slice(left, left + side))
        for top, left in zip(tops, lefts, strict=True)
    )
    delta = z - x
    unspent = (threat.eps**2 - _length(delta).square()).clamp(min=0)
    inside = torch.zeros_like(delta[:1, :1], dtype=torch.bool)
    inside[here] = inside[there] = True
    budget = ((delta * inside).square().sum((2, 3), keepdim=True) + unspent / c).sqrt()
    old = delta[here] / delta[here].square().sum((2, 3), keepdim=True).sqrt().clamp(min=1e-12)
    new = old + _signs((n, c, 1, 1), x, rng) * _bump(side, x, rng)
    delta[there] = 0
    delta[here] = budget * new / new.square().sum((2, 3), keepdim=True).sqrt().clamp(min=1e-12)
    return x + delta


def _length(delta: Tensor) -> Tensor:
    return delta.square().sum((1, 2, 3), keepdim=True).sqrt()


MOVES: dict[str, tuple[Callable, Callable]] = {
    "linf": (_paint, _stripes),
    "l2": (_move_mass, _tiles),
}

r"""Section 17.6.4: matrix products that rule out nearly every pair with $\|x-x'\|>2\varepsilon$.

A screen looks at a block of rows and a block of columns and returns the pairs that may be close:
all pairs that are, and some that are not. The conflict graph measures what a screen lets through.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from adversarial_lab.threat import Rows

UNIT = 2.0**-23  # twice the rounding error of one float32 operation
EXACT = 2.0**24  # below it float32 holds every whole number
CHUNK = 512  # rows at a time in passes over the points, which then stay in the cache
SIDES = 256  # coordinates that the linf screen looks at

Indices = Int[np.ndarray, " m"]
Found = tuple[Indices, Indices, Float[np.ndarray, " m"] | None]
Screen = Callable[[slice, slice], Found]  # row, column, and the distance where it is known


@dataclass(frozen=True, eq=False)
class Cloud:
    """The points as a screen wants them, one a row, sorted by label."""

    z: Rows  # float32, moved to the middle; whole numbers stay whole
    points: Rows  # the coordinates that distances are measured in
    whole: bool  # z and points hold whole numbers below 2^24
    unit: float = 1.0  # z is in these units: a power of two, so that squares stay in range


def by_product(cloud: Cloud, *, limit: float, measured: bool) -> Screen:
    r"""Pairs with $\|z-z'\|_2^2=\|z\|^2+\|z'\|^2-2\langle z,z'\rangle\le$ `limit`, by one product.

    The product of d-vectors in float32 errs by at most about d 2^-24 |z||z'|, so the screen lets
    through d 2^-23 max|z|^2 more. On whole numbers with |z|^2 < 2^24 every partial sum is a whole
    number that float32 holds, in whatever order it is summed: nothing is lost but in the
    subtraction, and with `measured` the screen returns the distances themselves.
    """
    z = cloud.z
    squares = _squares(cloud)
    largest = squares.max().item()
    exact = cloud.whole and largest < EXACT
    slack = (16 + (0 if exact else z.shape[1])) * UNIT * largest
    half, floor = (squares / 2).float(), (squares / 2 - limit / 2 - slack).float()

    def screen(rows: slice, columns: slice) -> Found:
        product = z[rows] @ z[columns].T
        near = (product - half[columns]) >= floor[rows, None]
        i, j = _where(near)
        if not (exact and measured):
            return i, j, None
        inner = product.view(-1).numpy()[i * product.shape[1] + j].astype(np.float64)
        both = squares[rows].numpy()[i] + squares[columns].numpy()[j]
        return i, j, np.sqrt(both - 2 * inner)

    return screen


def _squares(cloud: Cloud) -> Float[Tensor, " n"]:
    """|z|^2 of each row; whole numbers are summed in float32 where that is exact."""
    if cloud.whole:
        quick = torch.cat([part.square().sum(1) for part in cloud.z.split(CHUNK)])
        if quick.max() < EXACT:
            return quick.double()
    return torch.cat([part.double().square().sum(1) for part in cloud.z.split(CHUNK)])


def by_sides(cloud: Cloud, radius: float) -> Screen:
    r"""Pairs that no coordinate tells apart by $x_k>c_k+\varepsilon$ and $x'_k<c_k-\varepsilon$.

    Such a coordinate differs by more than 2 eps = `radius`. The number of them is a product of
    zeros and ones; one is enough. Centres c_k are those with the most points on both sides, and
    only the `SIDES` best coordinates are used.
    """
    reach = radius / 2 * (1 + 1e-9)  # a hair more than needed, so that rounding rules out nobody
    best, centre = _centres(cloud.points, reach)
    above, below = [], []
    for part in cloud.points.split(CHUNK):
        chosen = part[:, best].double()
        above.append((chosen > centre + reach).float())
        below.append((chosen < centre - reach).float())
    left = torch.cat([torch.cat(above), torch.cat(below)], 1)

    def screen(rows: slice, columns: slice) -> Found:
        right = left[columns].roll(len(best), 1)  # above meets below, and below above
        return *_where((left[rows] @ right.T) == 0), None

    return screen


def _centres(points: Rows, reach: float) -> tuple[Tensor, Tensor]:
    """The coordinates whose two sides are fullest, and their centres, from up to 2,000 points."""
    sample = points[:: max(1, len(points) // 2000)].double()
    low, high = sample.amin(0), sample.amax(0)
    share = torch.linspace(0, 1, 17, dtype=torch.float64)[:, None]
    centres = low + share * (high - low)
    full = torch.stack(
        [(sample > c + reach).double().mean(0) * (sample < c - reach).double().mean(0)
         for c in centres]
    )  # fmt: skip
    best = full.amax(0).topk(min(SIDES, points.shape[1])).indices
    return best, centres.gather(0, full.argmax(0)[None])[0, best]


def _where(mask: Tensor) -> tuple[Indices, Indices]:
    flat = np.flatnonzero(mask.numpy())
    return np.divmod(flat, mask.shape[1])


def _l2(cloud: Cloud, radius: float) -> Screen:
    reach = radius / cloud.unit
    return by_product(cloud, limit=reach * reach, measured=True)


def _l1(cloud: Cloud, radius: float) -> Screen:
    # |d|_2 <= |d|_1, and |d|_2^2 <= |d|_1 max|d|: on nearly black and white images nearly equal
    spread = (cloud.points.amax(0) - cloud.points.amin(0)).max().item()
    reach = radius / cloud.unit
    limit = min(reach * reach, reach * spread / cloud.unit) * (1 + 1e-6)
    return by_product(cloud, limit=limit, measured=False)


SCREENS: dict[str, Callable[[Cloud, float], Screen]] = {"l2": _l2, "l1": _l1, "linf": by_sides}

r"""Section 17.6.4: which neighbourhoods meet: $\|x-x'\|\le2\varepsilon$ for closed balls.

That is the test in R^d and in a box of it, where the midpoint of two points lies in both balls.
Two points of different labels whose neighbourhoods meet are in conflict: no classifier is right on
both neighbourhoods.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from adversarial_lab.measures import TOUCH
from adversarial_lab.norms import row_of
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels
from adversarial_lab.transport.screens import CHUNK, EXACT, SCREENS, SIDES, Cloud, Screen
from adversarial_lab.transport.store import Pairs, Store

GIB = 2**30
TILE = 2**22  # pairs screened at once, if memory allows
MEASURED = 2**19  # coordinates measured at once: what leaves the cache takes five times as long
PER_PAIR = 48  # bytes of working memory for each pair of a tile
RANGE = 1e30  # what x may span; float32 ends at 3e38
PER_CONFLICT = 32  # bytes for each conflict found, while they are put together


@dataclass(frozen=True, eq=False)
class Conflicts:
    """The pairs i < j of differently labelled points with distance <= radius = 2 eps.

    i, j: int32, in no particular order; distance: in data units; n: number of points; norm: of the
    distances.
    """

    i: Int[np.ndarray, " m"]
    j: Int[np.ndarray, " m"]
    distance: Float[np.ndarray, " m"]
    n: int
    radius: float
    norm: str

    def __len__(self) -> int:
        return len(self.i)

    def within(self, eps: float, *, closed: bool = True) -> "Conflicts":
        """The conflicts at a smaller eps; closed=False: of open balls, distance < 2 eps."""
        if not 0 <= 2 * eps <= self.radius * (1 + TOUCH):
            raise ValueError(f"eps must be in [0, {self.radius / 2:g}], known here, got {eps}")
        limit = 2 * eps * (1 + TOUCH if closed else 1 - TOUCH)
        keep = self.distance <= limit if closed else self.distance < limit
        return replace(
            self, i=self.i[keep], j=self.j[keep], distance=self.distance[keep], radius=2.0 * eps
        )


@dataclass(frozen=True)
class Blocks:
    """How the work is cut so that it stays inside the memory it was given."""

    rows: int
    columns: int
    chunk: int  # pairs measured at once
    conflicts: int  # pairs that may be found


def conflicts(
    x: Points,
    labels: Labels,
    threat: ThreatModel,
    *,
    memory: int = 2 * GIB,
    progress: bool = False,
    cache: Path | str | None = None,
) -> Conflicts:
    r"""All $i<j$ with $y_i\ne y_j$ and $\|x_i-x_j\|\le2\varepsilon$, Section 17.6.4.

    Exact: images with values k/255 are compared as whole numbers, everything else in float64,
    where distances within a share of 1e-12 of 2 eps count as touching.
    memory: bytes used beside x. cache: a folder; finished parts are kept there, an interrupted
    call goes on where it was, and a smaller eps is read from the result of a larger one.
    Shapes: x (n, *d), labels (n,). Raises ValueError for points outside the box, labels of another
    length, a single class, and too little memory.
    """
    check_points(x, labels, threat)
    blocks = _blocks(x, memory)
    store = None if cache is None else Store(Path(cache), x, labels, threat.norm)
    if store and (known := store.find(2 * threat.eps * (1 - TOUCH))):
        return Conflicts(*known[:3], len(x), known[3], threat.norm).within(threat.eps)
    found = []
    for strip in _search(x, labels.cpu(), threat, blocks, progress, store):
        found.append(strip)
        if sum(len(part[0]) for part in found) > blocks.conflicts:
            raise ValueError(
                f"memory={memory} bytes is too small for the conflicts at eps={threat.eps}: more"
                f" than {blocks.conflicts} of them; raise memory or lower eps"
            )
    i, j, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    if store:
        store.finish(2 * threat.eps, i, j, distance)
    return Conflicts(i, j, distance, len(x), 2.0 * threat.eps, threat.norm)


def check_points(x: Tensor, labels: Tensor, threat: ThreatModel) -> None:
    """Raise ValueError unless x and labels are a classification problem inside the box."""
    threat.check(x)
    spread = (x.amax(0) - x.amin(0)).max().item()
    if not spread < RANGE:
        raise ValueError(f"x must span less than {RANGE:g}, got {spread:.4g}: use other units")
    if labels.shape != (len(x),):
        raise ValueError(f"labels must have shape ({len(x)},), got {tuple(labels.shape)}")
    if len(labels.unique()) < 2:
        raise ValueError("labels must name at least two classes, got one: nothing can conflict")


def _blocks(x: Tensor, memory: int) -> Blocks:
    n, d = len(x), x[0].numel()
    # the points twice, sorted and centred; the sides that linf compares; passes in chunks
    fixed = n * (2 * x.element_size() * d + 24 * min(SIDES, d) + 32) + 40 * min(n, CHUNK) * d
    free = memory - fixed
    tile, chunk = min(TILE, free // 2 // PER_PAIR), min(-(-MEASURED // d), free // 4 // (40 * d))
    if tile < 1 or chunk < 1:
        needed = fixed + max(2 * PER_PAIR, 160 * d)
        raise ValueError(f"memory={memory} bytes is too small: {n} points need at least {needed}")
    rows = min(1024, math.isqrt(tile))
    rest = free - PER_PAIR * tile - 40 * d * chunk
    return Blocks(rows, tile // rows, chunk, rest // PER_CONFLICT)


def _search(
    x: Points,
    labels: Labels,
    threat: ThreatModel,
    blocks: Blocks,
    progress: bool,
    store: Store | None,
) -> Iterator[Pairs]:
    """The conflicts of one strip after the other: rows of one class against all later classes."""
    order = labels.argsort(stable=True)
    strips = list(_strips(labels[order], blocks.rows))
    finder: _Finder | None = None
    for rows, end in tqdm(strips, "conflicts", leave=False, disable=not progress):
        found = store.load(2 * threat.eps, rows) if store else None
        if found is None:
            finder = finder or _finder(x, order, threat)
            found = _strip(finder, rows, end, blocks)
            if store:
                store.save(2 * threat.eps, rows, *found)
        yield found


def _strips(labels: Labels, height: int) -> Iterator[tuple[slice, int]]:
    """Rows of one class, and where the next class begins; nothing comes after the last class."""
    begin = 0
    for count in labels.unique_consecutive(return_counts=True)[1].tolist()[:-1]:
        end = begin + count
        for row in range(begin, end, height):
            yield slice(row, min(row + height, end)), end
        begin = end


@dataclass(frozen=True, eq=False)
class _Finder:
    """What every tile needs."""

    cloud: Cloud
    screen: Screen
    order: Int[np.ndarray, " n"]  # the original index of every row of the cloud
    limit: float  # 2 eps in the cloud's units, a hair longer
    scale: float  # the cloud's units in one data unit
    threat: ThreatModel


def _finder(x: Points, order: Labels, threat: ThreatModel) -> _Finder:
    points = x.detach().cpu().flatten(1)[order]
    scale = 255.0 if _are_bytes(points) else 1.0
    if scale == 255:
        points = (points * 255).round_().float()
    middle, whole = points.mean(0), scale == 255
    z = points - (middle.round() if whole else middle)
    low, high = (side.item() for side in z.aminmax())
    unit = 1.0 if whole else 2.0 ** math.frexp(max(high, -low))[1]
    cloud = Cloud(z.div_(unit).float(), points, whole, unit)
    limit = 2 * threat.eps * scale * (1 + TOUCH)
    screen = row_of(threat.norm, SCREENS, " for conflicts")(cloud, limit)
    return _Finder(cloud, screen, order.numpy().astype(np.int32), limit, scale, threat)


def _are_bytes(points: Tensor) -> bool:
    """Whether every value is k/255 in its own precision, as `data.load` gives them.

    And k, with the middle taken off, a whole number that float32 holds.
    """
    low, high = points.aminmax()
    if max(high.item(), -low.item()) * 255 >= EXACT / 2:
        return False
    return all(torch.equal((part * 255).round_().div_(255), part) for part in points.split(CHUNK))


def in_float64(x: Points) -> Points:
    """x as conflicts see it: values that are k/255 in their own precision become k/255 again."""
    x = x.detach().cpu()
    return (x * 255).round_().double() / 255 if _are_bytes(x) else x.double()


def _strip(finder: _Finder, rows: slice, end: int, blocks: Blocks) -> Pairs:
    """The conflicts of some rows with everything from `end` on: i, j and distance."""
    n, found = len(finder.order), []
    with _full_precision():
        for column in range(end, n, blocks.columns):
            columns = slice(column, min(column + blocks.columns, n))
            i, j, distance = finder.screen(rows, columns)
            i, j = i + rows.start, j + columns.start
            if distance is None:
                distance = _measure(finder, i, j, blocks.chunk)
            near = distance <= finder.limit
            i, j = finder.order[i[near]], finder.order[j[near]]
            found.append((np.minimum(i, j), np.maximum(i, j), distance[near] / finder.scale))
    i, j, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    return i, j, distance


def _measure(
    finder: _Finder, i: Int[np.ndarray, " m"], j: Int[np.ndarray, " m"], chunk: int
) -> Float[np.ndarray, " m"]:
    """The distance of each pair in float64, a chunk at a time."""
    points, distance = finder.cloud.points, np.empty(len(i))
    for k in range(0, len(i), chunk):
        a, b = (points[torch.from_numpy(side[k : k + chunk])].double() for side in (i, j))
        distance[k : k + chunk] = finder.threat.distance(a, b).numpy()
    return distance


@contextmanager
def _full_precision() -> Iterator[None]:
    """float32 products in float32: the bound of the screen does not hold for bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

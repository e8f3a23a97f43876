r"""Lecture, regularisation, 0-1 loss: robust risk = risk + $\varepsilon\,\mathrm{Per}_\varepsilon$.

In the plane, cut into square cells: `mass0` and `mass1` hold the mass of the two classes in each
cell and sum to one together, a decision set A (`inside`) is where class 1 is predicted. The
adversary moves mass from the centre of a cell to any centre within eps. `spacing`: cell width.
Source: Bungert, Garcia Trillos and Murray 2023.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from scipy.sparse import csr_array, csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from adversarial_lab.measures import CAPACITY, TOUCH

Mass = Float[np.ndarray, "h w"]
Region = Bool[np.ndarray, "h w"]
UNITS = 10**9  # into which all mass is cut: scipy's maximum flow counts in whole numbers


def dilate(inside: Region, eps: float, spacing: float) -> Region:
    r"""$A^{\varepsilon}$: all cells within eps of A; closed."""
    if not inside.any():
        return inside.copy()
    return distance_transform_edt(~inside, sampling=spacing) <= eps * (1 + TOUCH)


def erode(inside: Region, eps: float, spacing: float) -> Region:
    r"""$A^{-\varepsilon}$: the cells of A with no cell of the complement within eps."""
    return ~dilate(~inside, eps, spacing)


def robust_risk(inside: Region, mass0: Mass, mass1: Mass, eps: float, spacing: float) -> float:
    r"""$\mu_0(A^{\varepsilon})+\mu_1(\text{outside }A^{-\varepsilon})$: some move is wrong."""
    check(mass0, mass1, eps, spacing, inside)
    fooled0, fooled1 = dilate(inside, eps, spacing), ~erode(inside, eps, spacing)
    return float(mass0[fooled0].sum() + mass1[fooled1].sum())


def perimeter(inside: Region, mass0: Mass, mass1: Mass, eps: float, spacing: float) -> float:
    r"""$\mathrm{Per}_\varepsilon(A)=\frac1\varepsilon[\mu_0(A^{\varepsilon}\setminus A)+
    \mu_1(A\setminus A^{-\varepsilon})]$: the mass in two layers of width eps along the boundary.

    For smooth densities it tends to their integral along the boundary as eps goes to 0.
    """
    check(mass0, mass1, eps, spacing, inside)
    if eps == 0:
        raise ValueError("eps must be > 0: the layers have no width at 0")
    outer = dilate(inside, eps, spacing) & ~inside
    inner = inside & ~erode(inside, eps, spacing)
    return float(mass0[outer].sum() + mass1[inner].sum()) / eps


class Optimum(NamedTuple):
    """The least robust risk, and the smallest and the largest set that attain it."""

    risk: float
    smallest: Region
    largest: Region


def optimal_sets(mass0: Mass, mass1: Mass, eps: float, spacing: float) -> Optimum:
    r"""$\min_A\mu_0(A^{\varepsilon})+\mu_1(\text{outside }A^{-\varepsilon})$ by a minimum cut.

    Exact up to the rounding of all mass to units of 1e-9. The risk is submodular: unions and
    intersections of optimal sets are optimal, so there is a smallest and a largest one.
    """
    check(mass0, mass1, eps, spacing)
    shape, n = mass0.shape, mass0.size
    total = mass0.sum() + mass1.sum()
    if total == 0:
        raise ValueError("mass0 and mass1 are zero everywhere: every set is optimal")
    units = [np.rint(m.ravel() / total * UNITS).astype(np.int32) for m in (mass1, mass0)]
    graph = _network(units[0], units[1], shape, eps / spacing)
    source, sink = 3 * n, 3 * n + 1
    left = graph - csr_matrix(maximum_flow(graph, source, sink).flow)
    left.eliminate_zeros()
    cells = slice(n, 2 * n)
    smallest = _reached(left, source)[cells].reshape(shape)
    largest = ~_reached(csr_matrix(left.T), sink)[cells].reshape(shape)
    return Optimum(robust_risk(smallest, mass0, mass1, eps, spacing), smallest, largest)


def _network(units1, units0, shape: tuple[int, int], cells: float) -> csr_matrix:
    """source -> mass of class 1 -> cells in its reach -> mass of class 0 within reach -> sink.

    A cut keeps some cells on the source's side: A. It pays for the class-1 mass that reaches a
    cell outside A, and for the class-0 mass that reaches one inside.
    """
    n, (i, j) = units1.size, _reach(shape, cells)
    source, sink = np.full(n, 3 * n), np.full(n, 3 * n + 1)
    every = np.arange(n)
    begin = np.concatenate([source, i, n + i, 2 * n + every])
    end = np.concatenate([every, n + j, 2 * n + j, sink])
    endless = np.full(2 * len(i), CAPACITY, np.int32)
    room = np.concatenate([units1, endless, units0])
    return csr_matrix(csr_array((room, (begin, end)), shape=(3 * n + 2, 3 * n + 2)))


def _reach(shape: tuple[int, int], cells: float) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of cells (flat indices) whose centres are within so many cell widths."""
    most = int(cells * (1 + TOUCH))
    offsets = np.stack(np.meshgrid(*[np.arange(-most, most + 1)] * 2, indexing="ij"), -1)
    offsets = offsets[np.hypot(*offsets.transpose(2, 0, 1)) <= cells * (1 + TOUCH)]
    here = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), -1)
    there = here[:, None] + offsets
    valid = ((there >= 0) & (there < shape)).all(-1)
    i, k = np.nonzero(valid)
    return i, np.ravel_multi_index(tuple(there[i, k].T), shape)


def _reached(graph: csr_matrix, start: int) -> Bool[np.ndarray, " m"]:
    found = np.zeros(graph.shape[0], bool)
    found[breadth_first_order(graph, start, return_predecessors=False)] = True
    return found


def check(
    mass0: Mass, mass1: Mass, eps: float, spacing: float, inside: Region | None = None
) -> None:
    """Raise ValueError unless masses are >= 0 on one grid, eps >= 0 and spacing > 0."""
    if mass0.shape != mass1.shape or mass0.size == 0:
        raise ValueError(f"mass0 and mass1 need one shape, got {mass0.shape} and {mass1.shape}")
    if inside is not None and inside.shape != mass0.shape:
        raise ValueError(f"inside must have the masses' shape {mass0.shape}, got {inside.shape}")
    least = min(mass0.min(), mass1.min())
    if not (least >= 0 and np.isfinite(mass0.sum() + mass1.sum())):
        raise ValueError(f"mass0 and mass1 must be finite and >= 0, the least is {least}")
    if not (0 <= eps < np.inf and 0 < spacing < np.inf):
        raise ValueError(f"need eps >= 0 and spacing > 0, got {eps} and {spacing}")

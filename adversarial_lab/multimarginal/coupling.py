r"""Lecture, (MOT): $\inf_{\pi\in\Pi(\rho_1..\rho_K)}\int c(\xi_1..\xi_K)\,d\pi$ on grids, exactly.

The measures are masses on finitely many points, the cost is a table with one axis for each of
them, and the problem is a linear program with one variable a tuple. inf in the table forbids it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from adversarial_lab.transport.program import least_cost

Table = Float[np.ndarray, "..."]  # one axis a marginal
Masses = Float[np.ndarray, "_"]
SAME = 1e-9  # two masses that differ by less count as equal
TUPLES = 2_000_000  # more are refused


@dataclass(frozen=True, eq=False)
class Coupling:
    r"""An optimal pi, the value of its cost, and the potentials: $\sum_k\phi_k\le c$, equal on pi.

    phi has one array for each marginal.
    """

    value: float
    pi: Table
    phi: list[Masses]


def couple(table: Table, marginals: Sequence[Masses]) -> Coupling:
    """An optimal coupling, by HiGHS. The marginals are >= 0 and of one total mass, any.

    ValueError if shapes or masses disagree, or if no coupling avoids the tuples of cost inf.
    """
    check_marginals(table, marginals)
    allowed = np.flatnonzero(np.isfinite(table))
    offset = np.concatenate([[0], np.cumsum(table.shape)])
    points = np.stack(np.unravel_index(allowed, table.shape)) + offset[:-1, None]
    sums = incidence(points, int(offset[-1]))
    result = least_cost(table.flat[allowed], A_eq=sums, b_eq=np.concatenate(marginals))
    if result.status == 2:
        raise ValueError("table is inf on so many tuples that no coupling has a finite cost")
    if not result.success:
        raise RuntimeError(f"HiGHS did not solve the transport problem: {result.message}")
    pi = np.zeros(table.shape)
    pi.flat[allowed] = result.x
    return Coupling(result.fun, pi, np.split(result.eqlin.marginals, offset[1:-1]))


def incidence(points: Int[np.ndarray, "k m"], n: int) -> csr_array:
    """(n, m): one column a tuple, 1 at each of its k points, which count through all marginals."""
    k, m = points.shape
    columns = np.tile(np.arange(m), k)
    return csr_array((np.ones(k * m), (points.ravel(), columns)), shape=(n, m))


def check_marginals(table: Table, marginals: Sequence[Masses]) -> None:
    sizes = tuple(len(side) for side in marginals)
    if table.shape != sizes:
        raise ValueError(f"marginals have {sizes} points, the table has shape {table.shape}")
    if table.size > TUPLES:
        raise ValueError(f"{table.size} tuples are more than {TUPLES}: take coarser grids")
    if not (table > -np.inf).all():  # NaN is caught here too
        raise ValueError("table must be finite, or inf for a forbidden tuple")
    check_one_total(marginals)


def check_one_total(marginals: Sequence[Masses], name: str = "marginals") -> None:
    check_masses(marginals, name)
    totals = [float(side.sum()) for side in marginals]
    if max(totals) - min(totals) > SAME * max(totals):
        raise ValueError(f"{name} must have one total mass, got {totals}")


def check_masses(masses: Sequence[Masses], name: str) -> None:
    if not all(side.min() >= 0 and 0 < side.sum() < np.inf for side in masses):
        raise ValueError(f"{name} must be finite, >= 0, and have some mass")

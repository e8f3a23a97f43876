r"""Lecture, (MOT): $\inf_{\pi\in\Pi(\rho_1..\rho_K)}\int c(\xi_1..\xi_K)\,d\pi$ on grids, exactly.

The measures are masses on finitely many points, the cost is a table with one axis for each of
them, and the problem is a linear program with one variable a tuple. inf in the table forbids it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from adversarial_lab.measures import (
    Infeasible,
    Masses,
    Numbers,
    as_float64,
    check_one_total,
    incidence,
    least_cost,
)

Table = Float[np.ndarray, "..."]  # one axis a marginal
TUPLES = 2_000_000  # more are refused


@dataclass(frozen=True, eq=False)
class Coupling:
    r"""An optimal pi, the value of its cost, and the potentials: $\sum_k\phi_k\le c$, equal on pi.

    phi has one array for each marginal.
    """

    value: float
    pi: Table
    phi: list[Masses]


def couple(table: Numbers, marginals: Sequence[Numbers]) -> Coupling:
    """An optimal coupling, by HiGHS. The marginals are >= 0 and of one total mass, any.

    ValueError if shapes or masses disagree, or if no coupling avoids the tuples of cost inf.
    """
    table, sides = check_marginals(table, marginals)
    allowed = np.flatnonzero(np.isfinite(table))
    offset = np.concatenate([[0], np.cumsum(table.shape)])
    points = np.stack(np.unravel_index(allowed, table.shape), 1) + offset[:-1]
    sums = incidence(points, int(offset[-1])).T
    try:
        result = least_cost(
            table.flat[allowed], task="the transport problem", A_eq=sums, b_eq=np.concatenate(sides)
        )
    except Infeasible as error:
        raise ValueError("table is inf on so many tuples that no coupling is finite") from error
    pi = np.zeros(table.shape)
    pi.flat[allowed] = result.x
    return Coupling(result.fun, pi, np.split(result.eqlin.marginals, offset[1:-1]))


def check_marginals(table: Numbers, marginals: Sequence[Numbers]) -> tuple[Table, list[Masses]]:
    """Table and marginals in float64; ValueError if they are no transport problem."""
    table = as_float64(table, "table")
    sizes = tuple(len(side) for side in marginals)
    if table.shape != sizes:
        raise ValueError(f"marginals have {sizes} points, the table has shape {table.shape}")
    if table.size > TUPLES:
        raise ValueError(f"{table.size} tuples are more than {TUPLES}: take coarser grids")
    if not (table > -np.inf).all():  # NaN is caught here too
        raise ValueError("table must be finite, or inf for a forbidden tuple")
    return table, check_one_total(marginals)

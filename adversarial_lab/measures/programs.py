r"""Linear programs over masses: $\min c\cdot m$ s.t. $m\ge0$, $Am=b$, $A'm\le b'$.

The transport problems of Section 17.6 and of the lecture are such programs. HiGHS solves them.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import OptimizeResult, linprog
from scipy.sparse import csr_array

TIGHT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}  # of HiGHS
NO_SOLUTION = 2  # linprog's status


class Infeasible(RuntimeError):
    """No masses satisfy the rows of a program."""


def solve(
    cost: Float[np.ndarray, " m"],
    *,
    task: str,
    bounds: Any = (0, None),
    method: str = "highs",
    **rows: Any,
) -> OptimizeResult:
    """SciPy's result for the program; rows: A_eq and b_eq, A_ub and b_ub.

    task: what is solved, in the message of the RuntimeError if HiGHS does not; `Infeasible` where
    there is nothing to find. method: "highs-ipm" is the fast one for many rows.
    """
    result = linprog(cost, bounds=bounds, method=method, options=TIGHT, **rows)
    if not result.success:
        error = Infeasible if result.status == NO_SOLUTION else RuntimeError
        raise error(f"HiGHS did not solve {task}: {result.message}")
    return result


def least_cost(cost: Float[np.ndarray, " m"], *, task: str, **rows: Any) -> OptimizeResult:
    """`solve` with masses in units of the largest side.

    Else HiGHS would compare those of 1e-5 with its tolerances; `x` and `fun` are in the given
    units again.
    """
    scale = max(side.max() for name, side in rows.items() if name.startswith("b_"))
    sides = {k: v / scale if k.startswith("b_") else v for k, v in rows.items()}
    result = solve(cost, task=task, **sides)
    result.x, result.fun = result.x * scale, result.fun * scale
    return result


def incidence(groups: Int[np.ndarray, "m k"], n: int) -> csr_array:
    """(m, n): one row a group, one column a point, 1 where the point is in the group."""
    m, k = groups.shape
    ends = np.arange(0, m * k + 1, k) if k else np.zeros(m + 1, int)
    return csr_array((np.ones(m * k), groups.ravel(), ends), shape=(m, n))

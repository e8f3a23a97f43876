r"""Linear programs over masses: $\min c\cdot m$ s.t. $m\ge0$, $Am=b$, $A'm\le b'$.

The transport problems of Section 17.6 and of the lecture are such programs.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import OptimizeResult, linprog

TIGHT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}  # of HiGHS


def least_cost(cost: Float[np.ndarray, " m"], **rows: Any) -> OptimizeResult:
    """SciPy's result for the program, by HiGHS; rows: A_eq and b_eq, A_ub and b_ub.

    Masses are measured in units of the largest side, else HiGHS would compare those of 1e-5 with
    its tolerances; `x` and `fun` are in the given units again. The caller looks at `success`.
    """
    scale = max(side.max() for name, side in rows.items() if name.startswith("b_"))
    sides = {k: v / scale if k.startswith("b_") else v for k, v in rows.items()}
    result = linprog(cost, **sides, bounds=(0, None), method="highs", options=TIGHT)
    if result.success:
        result.x, result.fun = result.x * scale, result.fun * scale
    return result

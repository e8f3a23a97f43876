r"""Lecture, lower bounds: $\inf_f$ over all classifiers is at most $\inf_{f\in\mathcal F'}$.

On the line the rungs between can be computed exactly: classifiers of two classes whose label
changes at most k times. k = 0 is a constant, k = 1 a threshold in either direction, k = n anything
at all, which is the bound of Section 17.6.6 (`transport.risk_on_the_line`).
"""

import numpy as np
from jaxtyping import Float, Int

from adversarial_lab.measures import TOUCH, Numbers, as_float64, given_or_equal

Values = Float[np.ndarray, " n"]
Classes = Int[np.ndarray, " n"]
Gain = Float[np.ndarray, "gaps gaps"]


def risk_with_changes(
    x: Numbers, y: Numbers, eps: float, changes: int, weights: Numbers | None = None
) -> Float[np.ndarray, " k"]:
    r"""$\min_f\mathbb E\max_{|x'-x|\le\varepsilon}\mathbf 1\{f(x')\ne y\}$, f with <= k changes.

    Returns the risks for k = 0..changes. y is 0 or 1; weights (n,) sum to one, by default 1/n.
    Closed intervals: neighbours at distance 2 eps are in conflict. Dynamic programming over the
    gaps between interval ends, O(changes n^2) time and O(n^2) memory.
    """
    x, y = as_float64(x, "x"), np.asarray(y)
    if len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"x must hold one finite number or more, got {x}")
    if not 0 <= eps < np.inf:
        raise ValueError(f"eps must be finite and >= 0, got {eps}")
    if y.shape != x.shape or not np.isin(y, (0, 1)).all():
        raise ValueError(f"y must hold {len(x)} labels 0 or 1, got {np.unique(y).tolist()}")
    if changes < 0:
        raise ValueError(f"changes must be >= 0, got {changes}")
    w = given_or_equal(weights, len(x))
    gain = [_gain(x, w * (y == k), eps) for k in (0, 1)]
    best = [g[0] for g in gain]  # one piece from the first gap to each gap
    kept = [max(b[-1] for b in best)]
    for _ in range(changes):
        best = [np.max(best[1 - k][:, None] + gain[k], 0) for k in (0, 1)]
        kept.append(max(kept[-1], max(b[-1] for b in best)))
    return w.sum() - np.array(kept)


def _gain(x: Values, w: Values, eps: float) -> Gain:
    """[a, b]: the weight of the intervals between gap a and gap b; -inf for a > b."""
    reach = eps * (1 + TOUCH)
    ends, place = np.unique(np.concatenate([x - reach, x + reach]), return_inverse=True)
    first, last = place[: len(x)], place[len(x) :]
    table = np.zeros((len(ends) + 1, len(ends) + 1))
    np.add.at(table, (first, last + 1), w)
    inside = table[::-1].cumsum(0)[::-1].cumsum(1)
    return np.where(np.tri(len(inside), k=-1, dtype=bool), -np.inf, inside)

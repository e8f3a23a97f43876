r"""Section 17.6.6 on the line: $L^*=\frac12(1-D_N)$ of samples and of continuous distributions.

On the line the best plan is greedy: from left to right, every piece of mass goes to the leftmost
mass of the other class that it still reaches. A continuous distribution is cut at its quantiles
into cells of equal mass. Two cells that can meet give an upper bound, two cells whose points all
meet a lower one.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from adversarial_lab.measures import TOUCH, Numbers, as_float64, check_weights

Sample = Float[np.ndarray, " n"]
Other = Float[np.ndarray, " m"]
Quantile = Callable[[Sample], Sample]  # probabilities in [0, 1] -> points, such as norm(0, 1).ppf


class Window(NamedTuple):
    """Sorted mass; i can send to j when left_i <= left_j and right_j <= right_i."""

    left: Sample
    right: Sample
    mass: Sample


def risk_on_the_line(
    x0: Numbers,
    x1: Numbers,
    eps: float,
    weights: tuple[Numbers, Numbers] | None = None,
) -> float:
    r"""$L^*$ of two samples on R, Section 17.6.6, in O(n log n).

    weights: of each sample, with sums that are the priors; by default 1/2, spread evenly.
    """
    a, b = as_float64(x0, "x0"), as_float64(x1, "x1")
    if not all(x.ndim == 1 and len(x) for x in (a, b)):
        raise ValueError(f"x0 and x1 must be one or more numbers, got {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all() and 0 <= eps < np.inf):
        raise ValueError(f"x0, x1 and eps >= 0 must be finite, got eps={eps}")
    w0, w1 = _shares(weights, len(a), len(b))
    reach = 2 * eps * (1 + TOUCH)
    first, second = a.argsort(), b.argsort()
    a, b = a[first], b[second]
    return _greedy(Window(a - reach, a + reach, w0[first]), Window(b, b, w1[second]))


def _shares(weights: tuple[Numbers, Numbers] | None, n: int, m: int) -> tuple[Sample, Other]:
    """The weights of two samples, which sum to one together; 1/2 each if None, spread evenly."""
    if weights is None:
        return np.full(n, 0.5 / n), np.full(m, 0.5 / m)
    w0, w1 = (as_float64(part, "weights") for part in weights)
    if (len(w0), len(w1)) != (n, m):
        raise ValueError(f"weights must have {n} and {m} entries, got {len(w0)} and {len(w1)}")
    both = check_weights(np.concatenate([w0, w1]), n + m)
    return both[:n], both[n:]


def risk_bracket(
    quantile0: Quantile,
    quantile1: Quantile,
    eps: float,
    *,
    priors: Numbers = (0.5, 0.5),
    cells: int = 2000,
) -> tuple[float, float]:
    r"""A lower and an upper bound on $L^*$ of two distributions on R, Section 17.6.5.

    Each distribution is given by its quantile function and cut into `cells` of equal mass. The
    bracket closes like 1/cells where cells are narrower than 2 eps; at eps = 0 cells never meet in
    all their points, and the lower bound is 0.
    """
    priors = check_weights(priors, 2, "priors")
    if cells < 1 or not 0 <= eps < np.inf:
        raise ValueError(f"cells must be >= 1 and eps finite and >= 0, got {cells} and {eps}")
    reach, levels = 2 * eps, np.linspace(0, 1, cells + 1)
    ends = [as_float64(quantile(levels)) for quantile in (quantile0, quantile1)]
    for name, q in zip(("quantile0", "quantile1"), ends, strict=True):
        if not (q[:-1] <= q[1:]).all():  # NaN is caught here too
            raise ValueError(f"{name} must not decrease from 0 to 1, and never be NaN")
    (a, b), (c, d) = ((q[:-1], q[1:]) for q in ends)
    mass0, mass1 = (np.full(cells, prior / cells) for prior in priors)
    all_meet = _greedy(Window(b - reach, a + reach, mass0), Window(c, d, mass1))
    some_meet = _greedy(Window(a - reach, b + reach, mass0), Window(d, c, mass1))
    return all_meet, some_meet


def _greedy(first: Window, second: Window) -> float:
    """The mass that goes from the first to the second, from left to right."""
    rest, room = first.mass.copy(), second.mass.copy()
    total, i, j = 0.0, 0, 0
    while i < len(rest) and j < len(room):
        if second.left[j] < first.left[i]:  # too far left for i, and for all that follow
            j += 1
        elif second.right[j] > first.right[i]:  # out of the reach of i
            i += 1
        else:
            moved = min(rest[i], room[j])
            total, rest[i], room[j] = total + moved, rest[i] - moved, room[j] - moved
            i, j = i + (rest[i] == 0), j + (room[j] == 0)
    return float(total)

r"""Lecture, formalization: one adversary, limited in three ways, at finitely many places.

Point i, of weight w_i, may be moved to place l: that brings the loss loss[i, l], and is
distance[i, l] far or costs cost[i, l] (inf: out of reach). The classifier is fixed; labels stay.

- `ball`: every point moves by at most eps;
- `transport_ball`: all points together spend at most a budget (distributionally robust);
- `penalised`: nothing is forbidden and everything is paid for.

`ball_cost` is the cost that makes the third the first, and the multiplier of the second makes it
the third.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from adversarial_lab.measures import TOUCH, Numbers, Weights, as_float64

Table = Float[np.ndarray, "n places"]
Choice = Int[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class WorstCase:
    r"""The worst distribution within a budget, and the price that proves it.

    value: its expected loss. moved: (n, places), the mass of each point at each place. spent: its
    cost. price: the multiplier gamma. bound: $\gamma\rho+\sum_iw_i\max_l(\ell-\gamma c)$, which no
    distribution within the budget exceeds; equal to value up to rounding.
    """

    value: float
    moved: Table
    spent: float
    price: float
    bound: float


def ball(loss: Numbers, distance: Numbers, weights: Numbers, eps: float) -> float:
    r"""$\mathbb E_\mu\sup_{\tilde x\in\bar B_\varepsilon(x)}\ell$: lecture, formalization."""
    return penalised(loss, ball_cost(distance, eps), weights)


def ball_cost(distance: Numbers, eps: float) -> Table:
    r"""$c_\varepsilon$ = 0 where the distance is at most eps, else inf: lecture, example of a cost.

    Distances that exceed eps by rounding alone count as eps.
    """
    if not 0 <= eps < np.inf:
        raise ValueError(f"eps must be finite and >= 0, got {eps}")
    return np.where(as_float64(distance, "distance") <= eps * (1 + TOUCH), 0.0, np.inf)


def penalised(loss: Numbers, cost: Numbers, weights: Numbers) -> float:
    r"""$\sup_{\tilde\mu}\mathbb E_{\tilde\mu}\ell-C(\mu,\tilde\mu)$: lecture, explicit penalty.

    $=\sum_iw_i\max_l\{\ell_{il}-c_{il}\}$: each point moves for itself, no plan is needed.
    """
    loss, cost, weights = checked(loss, cost, weights)
    return float(weights @ (loss - cost).max(1))


def transport_ball(loss: Numbers, cost: Numbers, weights: Numbers, budget: float) -> WorstCase:
    r"""$\sup\{\mathbb E_{\tilde\mu}\ell:\ C(\mu,\tilde\mu)\le\rho\}$, lecture, the DRO version.

    For the ball of radius eps in W_p: cost = distance**p and budget = eps**p. By duality the value
    is $\min_{\gamma\ge0}\gamma\rho+\sum_iw_i\max_l(\ell_{il}-\gamma c_{il})$. The price gamma is
    bisected; at the right one a mixture of the dearest and the cheapest best answer spends rho.
    """
    loss, cost, weights = checked(loss, cost, weights)
    if not 0 <= budget < np.inf:
        raise ValueError(f"budget must be finite and >= 0, got {budget}")
    dear = answers(loss, cost, 0.0)
    if _spent(dear, cost, weights) <= budget:
        return _worst_case(loss, cost, weights, budget, 0.0, dear, dear)
    positive = cost[(cost > 0) & np.isfinite(cost)]
    low, high = 0.0, 2 * (np.ptp(loss) + 1e-300) / positive.min()  # at high nobody pays
    cheap = answers(loss, cost, high)
    while low < (price := (low + high) / 2) < high:  # until no number is left between them
        choice = answers(loss, cost, price)
        if _spent(choice, cost, weights) > budget:
            low, dear = price, choice
        else:
            high, cheap = price, choice
    return _worst_case(loss, cost, weights, budget, high, dear, cheap)


def answers(loss: Table, cost: Table, price: float) -> Choice:
    """The place that is best for each point at this price, the cheapest of equal ones."""
    worth = _worth(loss, cost, price)
    return np.where(worth == worth.max(1, keepdims=True), cost, np.inf).argmin(1)


def _worth(loss: Table, cost: Table, price: float) -> Table:
    reachable = np.isfinite(cost)
    return np.where(reachable, loss - price * np.where(reachable, cost, 0), -np.inf)


def checked(loss: Numbers, cost: Numbers, weights: Numbers) -> tuple[Table, Table, Weights]:
    """All in float64; ValueError unless costs are >= 0, 0 somewhere for each point, and match."""
    loss, cost = as_float64(loss, "loss"), as_float64(cost, "cost")
    weights = as_float64(weights, "weights")
    if loss.shape != cost.shape or weights.shape != loss.shape[:1]:
        shapes = loss.shape, cost.shape, weights.shape
        raise ValueError(f"loss, cost and weights must be (n, l), (n, l) and (n,), got {shapes}")
    if not np.isfinite(loss).all():
        raise ValueError("loss must be finite")
    if not ((weights >= 0) & (weights < np.inf)).all():
        raise ValueError(f"weights must be finite and >= 0, got {weights}")
    if np.isnan(cost).any() or cost.min() < 0:
        raise ValueError(f"cost must be >= 0 and not NaN, the least entry is {cost.min()}")
    if (cost.min(1) > 0).any():
        row = int((cost.min(1) > 0).argmax())
        raise ValueError(f"cost must be 0 at one place for each point, point {row} has none")
    return loss, cost, weights


def _spent(choice: Choice, cost: Table, weights: Weights) -> float:
    return float(weights @ cost[np.arange(len(cost)), choice])


def _worst_case(
    loss: Table,
    cost: Table,
    weights: Weights,
    budget: float,
    price: float,
    dear: Choice,
    cheap: Choice,
) -> WorstCase:
    """The mixture of two answers that spends the budget, or all that is worth spending."""
    rows = np.arange(len(loss))
    least, most = (_spent(choice, cost, weights) for choice in (cheap, dear))
    share = min(1.0, (budget - least) / (most - least)) if most > least else 1.0
    moved = np.zeros_like(loss)
    moved[rows, cheap] += (1 - share) * weights
    moved[rows, dear] += share * weights
    best = _worth(loss, cost, price).max(1)
    return WorstCase(
        value=float((moved * loss).sum()),
        moved=moved,
        spent=share * most + (1 - share) * least,
        price=price,
        bound=price * budget + float(weights @ best),
    )

r"""Lecture, (generalized) barycenters among given places: linear programs with one flow a measure.

$\inf_\rho\sum_k\lambda_kC(\rho_k,\rho)$, and with free mass
$\inf\{\rho(X)+\sum_kC(\mu_k,\tilde\mu_k):\ \tilde\mu_k\le\rho\}$. In the second the measures may
differ in mass and need not all come along: where several arrive, one unit of rho serves them all.
The measures are the classes, $\tilde\mu_k$ their attacked points, and
$(AT)(\mu)=\mu(Z)-$ the second: a classifier can be right on rho of the mass and no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array, hstack, vstack

from adversarial_lab.barycenter.costs import Cost, times
from adversarial_lab.measures import (
    Masses,
    Numbers,
    as_float64,
    check_masses,
    check_one_total,
    check_weights,
    least_cost,
)


@dataclass(frozen=True, eq=False)
class Meeting:
    """A solved problem: its value, rho at the places, and who goes there.

    flows[k]: (n_k, places), the mass that each point of measure k sends.
    """

    value: float
    rho: Float[np.ndarray, " places"]
    flows: list[Cost]


def fixed_support(
    costs: Sequence[Numbers], measures: Sequence[Numbers], weights: Numbers | None = None
) -> Meeting:
    r"""$\inf_\rho\sum_k\lambda_kC(\rho_k,\rho)$, rho on the places; weights 1 if None.

    costs[k]: (n_k, places), inf where there is no way. Measures of one total mass; `free_mass` is
    for different ones.
    """
    lam = np.ones(len(costs)) if weights is None else check_weights(weights, len(costs))
    sides = check_one_total(measures, "measures")
    ways = [as_float64(c, "costs") for c in costs]
    return _solve([times(w, c) for w, c in zip(lam, ways, strict=True)], sides, 0.0)


def free_mass(costs: Sequence[Numbers], measures: Sequence[Numbers]) -> Meeting:
    r"""$\inf\{\rho(X)+\sum_kC(\mu_k,\tilde\mu_k):\tilde\mu_k\le\rho\}$, rho on the places.

    costs[k]: (n_k, places), inf where there is no way. Measures of any masses.
    """
    sides = check_masses(measures, "measures")
    return _solve([as_float64(c, "costs") for c in costs], sides, 1.0)


def _solve(costs: Sequence[Cost], measures: Sequence[Masses], price: float) -> Meeting:
    """A unit of rho costs `price`; at price 0, rho must be what every measure sends."""
    places = costs[0].shape[1]
    _check_ways(costs, measures, places)
    ways = [np.nonzero(np.isfinite(c)) for c in costs]
    leave, arrive = _sums(ways, [len(m) for m in measures], places)
    rho = np.tile(np.eye(places), (len(costs), 1))
    sent = hstack([csr_array((leave.shape[0], places)), leave])
    met = hstack([-csr_array(rho), arrive])
    sides, nothing = np.concatenate(measures), np.zeros(met.shape[0])
    rows = (
        {"A_eq": sent, "b_eq": sides, "A_ub": met, "b_ub": nothing}
        if price
        else {"A_eq": vstack([sent, met]), "b_eq": np.append(sides, nothing)}
    )
    paid = [c[way] for c, way in zip(costs, ways, strict=True)]
    objective = np.concatenate([np.full(places, price), *paid])
    result = least_cost(objective, task="the barycenter problem", **rows)
    flows = [np.zeros(c.shape) for c in costs]
    sizes = np.cumsum([places, *(len(p) for p in paid)])
    for flow, way, mass in zip(flows, ways, np.split(result.x, sizes[:-1])[1:], strict=True):
        flow[way] = mass
    return Meeting(result.fun, result.x[:places], flows)


def _check_ways(costs: Sequence[Cost], measures: Sequence[Masses], places: int) -> None:
    for k, (cost, masses) in enumerate(zip(costs, measures, strict=True)):
        if cost.shape != (len(masses), places):
            raise ValueError(f"costs[{k}] must have shape {len(masses), places}, got {cost.shape}")
        if not (cost > -np.inf).all():  # NaN is caught here too
            raise ValueError(f"costs[{k}] must be finite, or inf where there is no way")
        if not np.isfinite(cost[masses > 0]).any(1).all():
            raise ValueError(f"costs[{k}] has a row of inf only: that point can go nowhere")


def _sums(
    ways: Sequence[tuple[np.ndarray, ...]], sizes: Sequence[int], places: int
) -> tuple[csr_array, csr_array]:
    """What leaves each point, and what arrives from each measure at each place."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    start = np.concatenate([start + way[0] for start, way in zip(starts, ways, strict=False)])
    end = np.concatenate([places * k + way[1] for k, way in enumerate(ways)])
    flows, one = np.arange(len(start)), np.ones(len(start))
    leave = csr_array((one, (start, flows)), shape=(starts[-1], len(start)))
    return leave, csr_array((one, (end, flows)), shape=(places * len(ways), len(start)))

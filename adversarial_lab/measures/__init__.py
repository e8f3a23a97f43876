"""Finite measures, what Section 17.6 and the lecture stand on: masses, programs, matchings.

`masses` says which numbers are weights or masses and how close is equal, `programs` is the one way
to the linear-programming solver, `matchings` moves as much mass as it can along pairs.
"""

from adversarial_lab.measures.masses import (
    SAME,
    TOUCH,
    Masses,
    Numbers,
    Weights,
    as_float64,
    check_masses,
    check_one_total,
    check_weights,
    given_or_equal,
)
from adversarial_lab.measures.matchings import CAPACITY, SOLVERS, cover, fastest
from adversarial_lab.measures.programs import Infeasible, incidence, least_cost, solve

__all__ = [
    "CAPACITY",
    "SAME",
    "SOLVERS",
    "TOUCH",
    "Infeasible",
    "Masses",
    "Numbers",
    "Weights",
    "as_float64",
    "check_masses",
    "check_one_total",
    "check_weights",
    "cover",
    "fastest",
    "given_or_equal",
    "incidence",
    "least_cost",
    "solve",
]

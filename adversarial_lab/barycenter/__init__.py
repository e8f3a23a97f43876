r"""Lecture, multimarginal transport and barycenters: who repels, who meets, and who may stay away.

`costs` makes the tables of the lecture's two families, `multimarginal.coupling` and
`multimarginal.sinkhorn` solve them on grids. `seidl` is the density functional theory of electrons
on the line, `line` and `gaussians` are the barycenters that are known, `grids` and `entropic`
compute the others. The generalized barycenter, with free masses, is the adversary's problem:
`grids.free_mass` among given places, `subsets` by who meets whom.
"""

from adversarial_lab.barycenter.costs import coulomb, mean_place, meeting_cost, pairwise_cost
from adversarial_lab.barycenter.entropic import entropic
from adversarial_lab.barycenter.gaussians import fixed_point, gaussian_barycenter
from adversarial_lab.barycenter.grids import Meeting, fixed_support, free_mass
from adversarial_lab.barycenter.line import comonotone, cost_between, quantile_average
from adversarial_lab.barycenter.seidl import comotion, energy, strictly_correlated
from adversarial_lab.barycenter.subsets import Plans, by_subsets, squared_price

__all__ = [
    "Meeting",
    "Plans",
    "by_subsets",
    "comonotone",
    "comotion",
    "cost_between",
    "coulomb",
    "energy",
    "entropic",
    "fixed_point",
    "fixed_support",
    "free_mass",
    "gaussian_barycenter",
    "mean_place",
    "meeting_cost",
    "pairwise_cost",
    "quantile_average",
    "squared_price",
    "strictly_correlated",
]

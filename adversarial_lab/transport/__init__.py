r"""Sections 17.6.4 to 17.6.6: what no classifier can do, by overlap and optimal transport.

`neighbours` finds the pairs of differently labelled points whose neighbourhoods meet, with the
screens of `screens` and the cache of `store`. `overlap` turns them into D_N, the optimal risk and
the optimal plan, `saddle` into the attack and the classifier that attain it. `line` does the same
for distributions on R.
"""

from adversarial_lab.measures import SOLVERS
from adversarial_lab.transport.line import risk_bracket, risk_on_the_line
from adversarial_lab.transport.neighbours import Conflicts, conflicts
from adversarial_lab.transport.overlap import (
    Plan,
    class_weights,
    divergence,
    optimal_plan,
    optimal_risk,
)
from adversarial_lab.transport.saddle import merged, optimal_classifier, risk_when_merged

__all__ = [
    "SOLVERS",
    "Conflicts",
    "Plan",
    "class_weights",
    "conflicts",
    "divergence",
    "merged",
    "optimal_classifier",
    "optimal_plan",
    "optimal_risk",
    "risk_bracket",
    "risk_on_the_line",
    "risk_when_merged",
]

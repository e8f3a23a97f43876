r"""Lecture, multimarginal transport: what no classifier of K classes can do, and who attains it.

`enclosing` says when balls share a point, `groups` lists the points that do, `packing` is the
problem with every group written out, `exact` solves it at full scale, `saddle` builds the
classifier and the attack that attain the bound. For a few points and any cost, `agnostic` plays
the game itself and `mot` is the theorem's transport problem; `toy` has the closed forms for three
points. `coupling` and `sinkhorn` are the exact and the entropic solver for any cost and marginals.
"""

from adversarial_lab.multimarginal.agnostic import Game, meeting_places, play
from adversarial_lab.multimarginal.enclosing import centre, radius
from adversarial_lab.multimarginal.exact import bound, cutting, optimal_risk
from adversarial_lab.multimarginal.groups import levels
from adversarial_lab.multimarginal.mot import Transport, induced_cost, transport
from adversarial_lab.multimarginal.packing import Packing, enumerated
from adversarial_lab.multimarginal.saddle import Attack, optimal_attack, soft_classifier

__all__ = [
    "Attack",
    "Game",
    "Packing",
    "Transport",
    "bound",
    "centre",
    "cutting",
    "enumerated",
    "induced_cost",
    "levels",
    "meeting_places",
    "optimal_attack",
    "optimal_risk",
    "play",
    "radius",
    "soft_classifier",
    "transport",
]

r"""Lecture, mean field: adversarial regression as a game of two clouds of particles.

`game` has the network and the costs, `particles` the pair of measures, its payoff and its flow,
`dynamics` the ascent-descent. `attack` and `response` are the two halves of the Nikaido-Isoda
error in `nash`, each with a proof by `bound`; `limit` measures how close two clouds are.
"""

from adversarial_lab.meanfield.attack import best_attack, best_label, concave_from, lipschitz
from adversarial_lab.meanfield.bound import Maximum, maximise
from adversarial_lab.meanfield.dynamics import (
    ascent_descent,
    decaying,
    dense_early,
    snapshots,
    step,
    time_average,
)
from adversarial_lab.meanfield.game import Game, network
from adversarial_lab.meanfield.limit import Distance, distance, w1
from adversarial_lab.meanfield.nash import NikaidoIsoda, nikaido_isoda
from adversarial_lab.meanfield.particles import Flow, State, average, flow, payoff, start
from adversarial_lab.meanfield.response import Bracket, best_response

__all__ = [
    "Bracket",
    "Distance",
    "Flow",
    "Game",
    "Maximum",
    "NikaidoIsoda",
    "State",
    "ascent_descent",
    "average",
    "best_attack",
    "best_label",
    "best_response",
    "concave_from",
    "decaying",
    "dense_early",
    "distance",
    "flow",
    "lipschitz",
    "maximise",
    "network",
    "nikaido_isoda",
    "payoff",
    "snapshots",
    "start",
    "step",
    "time_average",
    "w1",
]

r"""Lecture, mean field: how far a pair is from equilibrium, with a proof.

The Nikaido-Isoda error is zero at a Nash equilibrium and positive elsewhere: what both players
together could gain if each answered the other alone.
"""

from dataclasses import dataclass

from adversarial_lab.meanfield.attack import best_attack
from adversarial_lab.meanfield.game import Game
from adversarial_lab.meanfield.particles import State
from adversarial_lab.meanfield.response import Bracket, best_response


@dataclass(frozen=True)
class NikaidoIsoda:
    """The error, bracketed, and its two halves: the best attack and the best response."""

    attack: Bracket
    response: Bracket

    @property
    def lower(self) -> float:
        """The error is at least this; it is never negative."""
        return max(self.attack.lower - self.response.upper, 0.0)

    @property
    def upper(self) -> float:
        """The error is at most this."""
        return self.attack.upper - self.response.lower


def nikaido_isoda(game: Game, state: State, *, tolerance: float = 1e-3) -> NikaidoIsoda:
    r"""$\sup_{\tilde\pi_z=\mu}U(\tilde\pi,\nu)-\inf_{\tilde\nu\in P(\Theta)}U(\pi,\tilde\nu)$.

    tolerance: absolute, of each half.
    """
    found = best_attack(game, state.theta, state.alpha, tolerance=tolerance)
    attack = Bracket(float(found.value.mean()), float(found.upper.mean()))
    return NikaidoIsoda(attack, best_response(game, state, tolerance=tolerance))

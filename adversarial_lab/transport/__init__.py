r"""Sections 17.6.4 to 17.6.6: what no classifier can do, by overlap and optimal transport.

`neighbours` finds the pairs of differently labelled points whose neighbourhoods meet.
"""

from adversarial_lab.transport.neighbours import Conflicts, conflicts

__all__ = ["Conflicts", "conflicts"]

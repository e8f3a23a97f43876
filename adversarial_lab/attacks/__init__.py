r"""Section 17.2.3: attacks that a masked gradient does not stop, and the standard evaluation.

`apgd` needs no step size, `fab_targets` looks for the nearest boundary, `square` asks for no
gradient at all, `along` and `transfer` try borrowed directions and points. `evaluate` runs any
attacks one after the other, by name (`ATTACKS`) or your own, each on the survivors of the last;
`standard_evaluation` the four of AutoAttack. All are called alike, and what counts is decided in
one place: `adversarial_lab.protocol`.
"""

from adversarial_lab.attacks.apgd import apgd, apgd_path, apgd_targets, targeted_dlr
from adversarial_lab.attacks.evaluation import (
    ATTACKS,
    STANDARD,
    Stage,
    evaluate,
    evaluation_path,
    standard_evaluation,
)
from adversarial_lab.attacks.fab import Damping, fab_targets, nearest_wrong
from adversarial_lab.attacks.search import along, random_signs, transfer
from adversarial_lab.attacks.square import square
from adversarial_lab.protocol import (
    Attacked,
    ascent_attack,
    attack_survivors,
    start_survey,
    verified,
    verified_attack,
)

__all__ = [
    "ATTACKS",
    "STANDARD",
    "Attacked",
    "Damping",
    "Stage",
    "along",
    "apgd",
    "apgd_path",
    "apgd_targets",
    "ascent_attack",
    "attack_survivors",
    "evaluate",
    "evaluation_path",
    "fab_targets",
    "nearest_wrong",
    "random_signs",
    "square",
    "standard_evaluation",
    "start_survey",
    "targeted_dlr",
    "transfer",
    "verified",
    "verified_attack",
]

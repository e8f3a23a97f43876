r"""Section 17.2.3: attacks that a masked gradient does not stop, and the standard evaluation.

`apgd` needs no step size, `fab` looks for the nearest boundary, `square` asks for no gradient at
all, `search` tries borrowed directions and points. `standard_evaluation` runs the four attacks of
AutoAttack one after the other, each on the survivors of the last. All of them return points; what
counts is decided in one place, `survivors`: inside N(x), and wrong when asked again in float32.
"""

from adversarial_lab.attacks.apgd import apgd, apgd_path, apgd_targets, targeted_dlr
from adversarial_lab.attacks.fab import fab, fab_targets
from adversarial_lab.attacks.search import along, random_signs, transfer
from adversarial_lab.attacks.square import square
from adversarial_lab.attacks.standard import STANDARD, Stage, evaluation_path, standard_evaluation
from adversarial_lab.attacks.survivors import attack_survivors, start_survey, verified

__all__ = [
    "STANDARD",
    "Stage",
    "along",
    "apgd",
    "apgd_path",
    "apgd_targets",
    "attack_survivors",
    "evaluation_path",
    "fab",
    "fab_targets",
    "random_signs",
    "square",
    "standard_evaluation",
    "start_survey",
    "targeted_dlr",
    "transfer",
    "verified",
]

"""Full-scale runs: `python -m adversarial_lab.runs NAME [--scale quick] [key=value ...]`.

A run is a module with a frozen `Config`, its `SCALES` and `run(config, job) -> metrics`. What it
computes is saved as one JSON record that says how it was made (`record`).
"""

from adversarial_lab.runs import (
    attacks,
    bounds,
    certificates,
    certified,
    cka,
    fgsm,
    meanfield,
    overlap,
    pgd,
    robust,
    trades,
    wrm,
)

RUNS = {
    "attacks": attacks,
    "bounds": bounds,
    "certificates": certificates,
    "certified": certified,
    "cka": cka,
    "fgsm": fgsm,
    "meanfield": meanfield,
    "overlap": overlap,
    "pgd": pgd,
    "robust": robust,
    "trades": trades,
    "wrm": wrm,
}

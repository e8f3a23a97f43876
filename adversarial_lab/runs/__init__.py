"""Full-scale runs: `python -m adversarial_lab.runs NAME [--scale quick] [key=value ...]`.

A run is a module with a frozen `Config`, its `SCALES` and `run(config, job) -> metrics`. What it
computes is saved as one JSON record that says how it was made (`record`). `RUNS` is the table of
all run modules by name.
"""

from importlib import import_module

NAMES = (
    "attacks",
    "bounds",
    "certificates",
    "certified",
    "cka",
    "fgsm",
    "meanfield",
    "overlap",
    "pgd",
    "robust",
    "trades",
    "wrm",
)


def __getattr__(name: str):
    # the table imports every run, so it is made when it is asked for: a record needs one of them
    if name == "RUNS":
        return {run: import_module(f"{__name__}.{run}") for run in NAMES}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

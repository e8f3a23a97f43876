"""Adversarial Lab: the executable companion to a textbook chapter on adversarial training.

One module or package per section, named like its page; `dir(adversarial_lab)` is the table of
contents. A part is loaded when it is first named:

>>> import adversarial_lab as al
>>> al.threat.ThreatModel(norm="linf", eps=0.1).with_eps(0.2).eps
0.2
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

CHAPTER = (
    "pgd",  # 17.1
    "masking",  # 17.2
    "attacks",  # 17.2.3
    "trades",  # 17.3
    "certified",  # 17.4
    "cka",  # 17.5
    "gaussian_risk",  # 17.6.1 to 17.6.3
    "transport",  # 17.6.4 to 17.6.6
)
LECTURE = ("robust_objectives", "multimarginal", "barycenter", "meanfield")
SHARED = ("threat", "norms", "measures", "classifier", "protocol", "training", "nets", "data")
SHOWN = ("explore", "figures", "show", "quiz")
WORK = ("address", "demos", "exercises", "files", "needs", "records", "runs")

_PARTS = (*CHAPTER, *LECTURE, *SHARED, *SHOWN, *WORK)
# what a notebook's first cell imports, in no time
_HOMES = {
    "check": "exercises.student",
    "check_all": "exercises.student",
    "export": "exercises.student",
}


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__dir__()}")


def __dir__() -> list[str]:
    return sorted([*_PARTS, *_HOMES, "__version__"])

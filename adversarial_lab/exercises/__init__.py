"""Graded exercises: check an answer at once, or grade a class of them safely.

Students need one name, `check`; it is also in `adversarial_lab` itself. Instructors and authors
use `python -m adversarial_lab.exercises`, described in exercises/README.md.
"""

from typing import Any

_HOMES = {"check": "student", "check_all": "student", "export": "student", "close": "compare"}


def __getattr__(name: str) -> Any:
    # nothing is imported before it is used: a notebook's first cell should take no time
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

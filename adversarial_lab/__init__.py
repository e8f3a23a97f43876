"""Adversarial Lab: the executable companion to a textbook chapter on adversarial training.

One module per section, named like its page: `pgd` is Section 17.1. Import what you need from
the module (`from adversarial_lab.pgd import pgd`); importing the package itself loads nothing.
"""

__version__ = "0.1.0"


def __getattr__(name: str):
    # `from adversarial_lab import check` in a notebook's first cell must take no time
    if name == "check":
        from adversarial_lab.exercises.student import check

        return check
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

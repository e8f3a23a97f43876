"""Adversarial Lab: the executable companion to a textbook chapter on adversarial training.

One module per section, named like its page: `pgd` is Section 17.1. Import what you need from
the module (`from adversarial_lab.pgd import pgd`); importing the package itself loads nothing.
"""

__version__ = "0.1.0"

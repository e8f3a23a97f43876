"""What runs inside the sandbox: a student's cells and the probes, never a check or an answer.

This folder is all of the project that a student's code can see. Standard library and NumPy only.
"""

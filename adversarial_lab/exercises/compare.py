"""Compares what a student's function gave with what was expected. Arrays in, AssertionError out."""

import ast
from collections.abc import Callable

import numpy as np

from adversarial_lab.exercises.inside.values import Values

Check = Callable[[Values, Values], None]
TOLERANCE = (
    1e-5  # relative to the largest expected entry, or absolute below 1: float32 has 7 digits
)


def close(got: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Raise AssertionError, with both numbers and their place, unless all entries agree."""
    wide_got, wide = np.asarray(got, float), np.asarray(expected, float)
    scale = max(1.0, float(np.abs(wide[np.isfinite(wide)]).max(initial=0)))
    with np.errstate(invalid="ignore"):
        gap = np.where(wide_got == wide, 0.0, np.abs(wide_got - wide))
    gap = np.where(np.isnan(wide_got) & np.isnan(wide), 0.0, np.nan_to_num(gap, nan=np.inf))
    if gap.max(initial=0) <= tolerance * scale:
        return
    at = np.unravel_index(int(gap.argmax()), gap.shape)
    where = f" at {[int(i) for i in at]}" if gap.ndim else ""
    raise AssertionError(
        f"expected {wide[at]:.6g}, got {wide_got[at]:.6g}{where}"
        f" ({int((gap > tolerance * scale).sum())} of {gap.size} entries are off,"
        f" tolerance {tolerance * scale:.1g})"
    )


def conform(got: Values, expected: Values) -> None:
    """Raise AssertionError unless every value is there, in its shape, finite where it must be."""
    for name, wanted in expected.items():
        if name not in got:
            raise AssertionError(f"{name} is missing")
        found = got[name]
        if found.shape != wanted.shape:
            raise AssertionError(f"{name}: expected shape {wanted.shape}, got {found.shape}")
        bad = int((np.isfinite(wanted) & ~np.isfinite(found)).sum())
        if bad:
            raise AssertionError(f"{name}: NaN or infinity in {bad} of {found.size} entries")


def all_close(got: Values, expected: Values, tolerance: float = TOLERANCE) -> None:
    """The check of a case that defines none: every value, in its place."""
    for name, wanted in expected.items():
        try:
            close(got[name], wanted, tolerance)
        except AssertionError as error:
            prefix = f"{name}: " if len(expected) > 1 else ""
            raise AssertionError(f"{prefix}{error}") from None


def same(one: Values | None, other: Values | None) -> bool:
    """Whether two answers agree in every value; None: there was no answer."""
    if one is None or other is None:
        return one is other
    try:
        conform(one, other)
        all_close(one, other)
    except AssertionError:
        return False
    return True


def judge(check: Check, got: Values, expected: Values) -> str | None:
    """None if the check passes, else what it says. Any other exception is a fault of the check."""
    with np.errstate(all="ignore"):
        try:
            conform(got, expected)
            check(got, expected)
        except AssertionError as error:
            return str(error) or "wrong value"
    return None


def without_library(tree: ast.Module) -> list[ast.stmt]:
    """The statements of a tests.py but for its imports of this library and its docstring."""
    kept = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adversarial_lab"):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        kept.append(node)
    return kept

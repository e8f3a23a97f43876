r"""$\mu=\sum_iw_i\delta_{x_i}$: weights sum to one, masses to anything; both are >= 0.

Weights, masses and points on the line are taken as lists, arrays and tensors of any precision, and
computed with in float64.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Numbers = Sequence[Any] | np.ndarray | Tensor  # what `as_float64` takes
Weights = Float[np.ndarray, " n"]  # >= 0, of sum one
Masses = Float[np.ndarray, "_"]  # >= 0, of any sum
TOUCH = 1e-12  # distances that differ by this share are the same: 2 eps is itself rounded
SAME = 1e-9  # sums of masses that differ by less are the same
LAST_PLACES = 8  # by which a sum of rounded numbers may be off in their own precision


def as_float64(values: Numbers, name: str = "values") -> Float[np.ndarray, "..."]:
    """The numbers in float64. ValueError for what is not a rectangle of numbers."""
    if isinstance(values, Tensor):
        return values.detach().cpu().double().numpy()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must hold numbers, got {values!r:.60}") from None


def resolution(values: Numbers) -> float:
    """The unit of the last place, relative to 1, of the precision the numbers are given in.

    That of their dtype, and of float32 for wider numbers that all are float32 numbers, such as a
    list made from a float32 tensor.
    """
    if isinstance(values, Tensor) and values.is_floating_point():
        unit = torch.finfo(values.dtype).eps
    else:
        dtype = getattr(values, "dtype", np.dtype(np.float64))
        unit = float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0
    wide = as_float64(values)
    with np.errstate(over="ignore"):
        single = np.array_equal(wide, wide.astype(np.float32).astype(np.float64))
    return max(unit, float(np.finfo(np.float32).eps)) if single else unit


def check_weights(weights: Numbers, n: int, name: str = "weights") -> Weights:
    """The weights in float64, if they are n numbers >= 0 that sum to one.

    To 1e-9, or as nearly as the precision allows in which they are given: float32 weights may sum
    to 1.0000004. Those are divided by their sum.
    """
    w = as_float64(weights, name)
    if w.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {w.shape}")
    if not np.isfinite(w).all() or w.min() < 0:
        raise ValueError(f"{name} must be finite and >= 0, the least is {w.min()}")
    off = abs(w.sum() - 1)
    if off <= SAME:
        return w
    if off > LAST_PLACES * resolution(weights):
        raise ValueError(f"{name} must sum to one, got {w.sum()}")
    return w / w.sum()


def given_or_equal(weights: Numbers | None, n: int, name: str = "weights") -> Weights:
    """The weights, checked; 1/n each if None."""
    return np.full(n, 1 / n) if weights is None else check_weights(weights, n, name)


def check_masses(masses: Sequence[Numbers], name: str) -> list[Masses]:
    """The measures' masses in float64, if they are finite, >= 0, and each measure has some."""
    sides = [as_float64(side, name) for side in masses]
    if not all(s.ndim == 1 and len(s) and s.min() >= 0 and 0 < s.sum() < np.inf for s in sides):
        raise ValueError(f"{name} must be finite, >= 0, and have some mass")
    return sides


def check_one_total(masses: Sequence[Numbers], name: str = "marginals") -> list[Masses]:
    """`check_masses`, if the measures have one total mass too.

    As nearly as their precision allows; what differs by more than 1e-9 is scaled to the first.
    """
    sides = check_masses(masses, name)
    totals = [float(side.sum()) for side in sides]
    off = max(totals) - min(totals)
    if off <= SAME * max(totals):
        return sides
    if off > LAST_PLACES * max(map(resolution, masses)) * max(totals):
        raise ValueError(f"{name} must have one total mass, got {totals}")
    return [side * (totals[0] / total) for side, total in zip(sides, totals, strict=True)]

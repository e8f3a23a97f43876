r"""Lecture, density functional theory: K electrons on the line, $f_i=F^{-1}(F+i/K\bmod1)$.

Where one electron is at x, the others are at $f_1(x),\dots,f_{K-1}(x)$: each a share 1/K of the
charge further on. Seidl (1999) found it for the Coulomb cost; Colombo, De Pascale and Di Marino
(2015) proved it optimal for every repulsion on the line that is convex and decreasing.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from adversarial_lab.barycenter.costs import coulomb
from adversarial_lab.barycenter.line import Chain, Line, comonotone
from adversarial_lab.measures import Numbers, as_float64, check_weights


def comotion(x: Numbers, density: Numbers, electrons: int) -> Float[np.ndarray, "K n"]:
    r"""$f_i(x)=F^{-1}(F(x)+i/K\bmod1)$ for i = 0..K-1; row 0 is x itself.

    x: a fine ascending grid; density: > 0 on it, of any total. F by the trapezoid rule.
    """
    check_electrons(electrons)
    x, density = as_float64(x, "x"), as_float64(density, "density")
    if x.shape != density.shape:
        raise ValueError(f"x and density must match, got {x.shape} and {density.shape}")
    if not (np.diff(x) > 0).all() or not (density > 0).all():
        raise ValueError("x must ascend and density be > 0, else F has no inverse")
    steps = np.diff(x) * (density[1:] + density[:-1]) / 2
    below = np.concatenate([[0.0], np.cumsum(steps)])
    below /= below[-1]  # the last is 1 exactly, and stays at the end
    further = below + np.arange(electrons)[:, None] / electrons
    return np.interp(np.where(further > 1, further - 1, further), below, x)


def tiles(masses: Numbers, parts: int) -> Float[np.ndarray, "K n"]:
    """The measure cut into `parts` pieces of equal mass, from left to right; atoms may be cut."""
    below = np.concatenate([[0.0], np.cumsum(as_float64(masses, "masses"))])
    edges = below[-1] * np.arange(parts + 1) / parts
    return np.diff(np.clip(below, edges[:-1, None], edges[1:, None]), axis=1)


def strictly_correlated(masses: Numbers, electrons: int) -> Chain:
    """Seidl's coupling of atoms: the tiles climb together; mass sums to one.

    masses: of points in ascending order, sum one. The K marginals of the tuples as they stand are
    the tiles; in every order with equal chance, each is the density, at the same cost.
    """
    check_electrons(electrons)
    masses = check_weights(masses, len(masses), "masses")
    if masses.max() > 1 / electrons + 1e-12:
        raise ValueError(
            f"masses has an atom of {masses.max():.4g} > 1/{electrons}: electrons would have to"
            " meet there, and no coupling has a finite Coulomb cost"
        )
    chain = comonotone(list(tiles(masses, electrons) * electrons))
    return Chain(chain.mass, chain.index)


def check_electrons(electrons: int) -> None:
    """Raise ValueError unless there are two electrons or more."""
    if electrons < 2:
        raise ValueError(f"electrons must be >= 2, got {electrons}")


def energy(
    points: Line,
    chain: Chain,
    f: Callable[[Float[np.ndarray, "..."]], Float[np.ndarray, "..."]] = coulomb,
) -> float:
    r"""$\int\sum_{i<j}f(|\xi_i-\xi_j|)\,d\pi$ of a chain of electrons at `points`."""
    z = points[chain.index]
    first, second = np.triu_indices(len(z), 1)
    return float(chain.mass @ f(np.abs(z[first] - z[second])).sum(0))

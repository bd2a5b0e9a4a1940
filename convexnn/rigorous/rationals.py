"""Rational numbers: exact semidefiniteness, and the floats next to a fraction."""

from __future__ import annotations

import math
import sys
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike


def fraction_up(x: Fraction) -> float:
    """Smallest float64 that is at least x; ``inf`` beyond the largest one."""
    try:
        near = float(x)
    except OverflowError:
        return math.inf if x > 0 else -sys.float_info.max
    return near if Fraction(near) >= x else math.nextafter(near, math.inf)


def fraction_down(x: Fraction) -> float:
    """Largest float64 that is at most x; ``-inf`` below the smallest one."""
    return -fraction_up(-x)


def is_psd_exact(M: ArrayLike) -> bool:
    """Exact proof or refutation, in rational arithmetic, that a symmetric matrix is positive semidefinite.

    Symmetric elimination L D L' with Python fractions; a zero pivot must have a zero row. Meant for n of a few dozen.

    Parameters
    ----------
    M : array_like, shape (n, n)
        Symmetric matrix of floats, integers or `fractions.Fraction`; only the lower triangle is read.

    Returns
    -------
    psd : bool
        True exactly when the matrix given by these numbers is positive semidefinite; False for nan or inf.
    """
    rows = np.asarray(M, dtype=object).tolist()
    if any(not isinstance(x, int | Fraction) and not math.isfinite(x) for row in rows for x in row):
        return False
    A = [[Fraction(rows[max(i, j)][min(i, j)]) for j in range(len(rows))] for i in range(len(rows))]
    for k in range(len(A)):
        pivot = A[k][k]
        if pivot < 0 or (pivot == 0 and any(A[i][k] for i in range(k + 1, len(A)))):
            return False
        for i in range(k + 1, len(A)) if pivot else ():
            factor = A[i][k] / pivot
            for j in range(k + 1, len(A)):
                A[i][j] -= factor * A[k][j]
    return True

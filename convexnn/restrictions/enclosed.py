"""Products of matrices with a bound on their roundoff far below that of plain arithmetic, at the speed of BLAS.

Each factor is rounded, column by column, to so few bits that the product of the rounded parts is exact in float64 in
whatever order it is summed (Ozaki, Ogita, Oishi & Rump 2012); what was rounded off is smaller by five to six orders
of magnitude, and so is the roundoff of the products with it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from convexnn.structure import ConeStructure

Array = NDArray[np.float64]

#: Share of a lower bound that roundoff may cost before it is bounded as here.
ROUNDOFF_SHARE = 1e-9
EPS = float(np.finfo(float).eps)
#: Entries of a block of rows.
BLOCK_ENTRIES = 4_000_000


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """``a + b`` rounded, and what the rounding took: their sum is exact (Knuth)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def _rounded(A: Array, bits: int) -> tuple[Array, Array, Array]:
    """Parts H + L = A exactly, entries of H with ``bits`` bits per column, and the largest |L| of a column."""
    unit = np.maximum(np.ldexp(1.0, np.frexp(np.abs(A).max(axis=0))[1] - bits), np.finfo(float).tiny)
    H = np.rint(A / unit) * unit
    return H, A - H, 0.5 * unit


def _product(T: Array, X: Array) -> tuple[Array, Array, Array]:
    """Exact leading part of ``T'X``, the rest, and a bound on the roundoff of the rest, each (p, d)."""
    n = len(T)
    bits = (53 - math.ceil(math.log2(n))) // 2 if n > 1 else 26
    high_T, low_T, unit_T = _rounded(T, bits)
    high_X, low_X, unit_X = _rounded(X, bits)
    rest = high_T.T @ low_X + low_T.T @ X
    sizes = np.abs(high_T).sum(axis=0)[:, None] * unit_X + unit_T[:, None] * np.abs(X).sum(axis=0)
    return high_T.T @ high_X, rest, (n + 8) * EPS * sizes


def enclosed_stationarity(structure: ConeStructure, p: Array, rows: Array) -> tuple[Array, Array]:
    """``G'rows - A'p`` and a bound on its roundoff, as :func:`~convexnn.restrictions.multipliers.stationarity`.

    The bound is usually a thousand to a hundred thousand times smaller, for two to three times the work. Rows are
    handled in blocks, so that no more than a few copies of a block are held.

    Parameters
    ----------
    structure : ConeStructure
    p : array, shape (n,)
        Finite; centred here, exactly up to the bound.
    rows : array, shape (n, p)
        Finite, nonnegative.

    Returns
    -------
    Z, error : arrays, shape (p, d + 1)
        An infinite error where something overflowed.
    """
    s, total = structure, math.fsum(p)
    high, low = two_sum(p, -s.weight * total)  # the product is wrong by less than EPS |weight total|
    shape = (s.S.shape[1], s.X.shape[1])
    Z, rest, error = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    error += 2 * EPS * abs(total) * (s.weight @ np.abs(s.X))
    chunk = max(1, BLOCK_ENTRIES // max(shape))
    for first in range(0, len(p), chunk):
        k = slice(first, first + chunk)
        T, lost = two_sum(s.S[k] * rows[k], -high[k, None] * s.D[k])
        lost -= low[k, None] * s.D[k]
        exact, part, bound = _product(T, s.X[k])
        Z, carry = two_sum(Z, exact)
        rest += carry + part + lost.T @ s.X[k]
        error += bound + EPS * (len(lost) + 8) * (np.abs(lost).T @ np.abs(s.X[k])) + 4 * EPS * np.abs(rest)
    Z = Z + rest
    error += EPS * np.abs(Z) + len(p) * np.finfo(float).tiny
    usable = np.isfinite(Z) & np.isfinite(error)
    return np.where(usable, Z, 0.0), np.where(usable, error, np.inf)

"""Outward rounding of sums, products, roots and norms in float64."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNIT = 2.0**-53
TINY = 2.0**-1000  # far above every underflow error of a matrix scaled to entries below one
CHUNK = 256  # rows summed at once: keeps the summation error near gamma(256 + m / 256)


def gamma(n: int) -> float:
    """Bound ``n u / (1 - n u)`` on the relative error of n roundings, rounded up.

    Parameters
    ----------
    n : int
        Number of roundings.

    Returns
    -------
    bound : float
        Upper bound, ``inf`` when n is too large for the bound to exist.
    """
    return round_up(n * UNIT / (1.0 - n * UNIT)) if n * UNIT < 0.5 else math.inf  # one rounding: the rest is exact


def round_up(x: float) -> float:
    """Next float64 above a correctly rounded result x; nan becomes ``inf``, an exact zero stays zero."""
    if math.isnan(x):
        return math.inf
    return x if x == 0.0 else math.nextafter(x, math.inf)


def sum_up(x: ArrayLike) -> float:
    """Upper bound on the exact sum of x (one rounding, whatever the length).

    Parameters
    ----------
    x : array_like
        Numbers of any sign.

    Returns
    -------
    bound : float
        At least the sum; ``inf`` for nan or overflow.
    """
    values = np.asarray(x, dtype=np.float64).ravel()
    if not np.isfinite(values).all():
        return math.inf
    try:
        return round_up(math.fsum(values.tolist()))
    except OverflowError:
        return math.inf


def product_up(*factors: float) -> float:
    """Upper bound on the exact product of nonnegative factors; zero only when a factor is zero.

    Parameters
    ----------
    *factors : float
        Nonnegative numbers; nan or a negative number gives ``inf``.

    Returns
    -------
    bound : float
        At least the product.
    """
    if not all(factor >= 0.0 for factor in factors):
        return math.inf
    if any(factor == 0.0 for factor in factors):
        return 0.0
    total = 1.0
    for factor in factors:
        total = math.nextafter(total * factor, math.inf)
    return total


def sqrt_up(x: float) -> float:
    """Upper bound on the square root of x; nan or a negative number gives ``inf``."""
    return round_up(math.sqrt(x)) if x >= 0.0 else math.inf


def ldexp_up(x: float, exponent: int) -> float:
    """Upper bound on ``x * 2**exponent`` for x >= 0, also where the result over- or underflows.

    Parameters
    ----------
    x : float
        Nonnegative number.
    exponent : int
        Power of two.

    Returns
    -------
    bound : float
        At least the exact product.
    """
    if not 0.0 <= x < math.inf:
        return math.inf
    try:
        scaled = math.ldexp(x, exponent)
    except OverflowError:
        return math.inf
    return scaled if scaled >= 2.0**-1021 or x == 0.0 else math.nextafter(scaled, math.inf)


def power_of_two(X: ArrayLike) -> int:
    """Exponent e with ``max |X| <= 2**e`` (0 for an all-zero or empty array): scaling by it is exact.

    Parameters
    ----------
    X : array_like
        Finite numbers.

    Returns
    -------
    exponent : int
        Zero when X has no nonzero entry.
    """
    top = float(np.max(np.abs(X), initial=0.0))
    return math.frexp(top)[1] if 0.0 < top < math.inf else 0


def norm_up(X: ArrayLike) -> float:
    """Upper bound on the Frobenius (Euclidean) norm of X, safe against over- and underflow.

    Parameters
    ----------
    X : array_like
        Vector or matrix.

    Returns
    -------
    bound : float
        At least the norm; ``inf`` for nan or inf.
    """
    values = np.asarray(X, dtype=np.float64)
    if not np.isfinite(values).all():
        return math.inf
    exponent = power_of_two(values)
    square = float(np.sum(np.square(np.ldexp(values, -exponent))))
    if square == 0.0:
        return 0.0
    return ldexp_up(sqrt_up(square * (1.0 + gamma(values.size + 2))), exponent)  # 1 + gamma(k) >= (1 - u)**-k


def row_norms_up(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper bounds on the Euclidean norms of the rows, safe against over- and underflow.

    Parameters
    ----------
    X : array, shape (m, d)
        Finite matrix.

    Returns
    -------
    norms : array, shape (m,)
        Each at least the norm of its row; zero exactly for zero rows.
    """
    top = np.max(np.abs(X), axis=1, initial=0.0)
    exponents = np.frexp(top)[1]
    scaled = np.sqrt(np.sum(np.square(np.ldexp(X, -exponents[:, None])), axis=1))
    scaled = scaled * (1.0 + gamma(X.shape[1] + 4))
    return np.where(top > 0.0, np.nextafter(np.ldexp(scaled, exponents), np.inf), 0.0)


def column_sums(X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Column sums in float64, by a balanced tree, and a rigorous bound on the error of each.

    Parameters
    ----------
    X : array, shape (m, d)
        Finite matrix.

    Returns
    -------
    sums : array, shape (d,)
        Rounded sums.
    error : array, shape (d,)
        ``|sums - exact sums| <= error`` entrywise.
    """
    total, levels = X, 0
    while len(total) > 1:
        if len(total) % 2:
            total = np.vstack([total, np.zeros((1, X.shape[1]))])
        total, levels = total[::2] + total[1::2], levels + 1
    absolute = np.abs(X).sum(axis=0)
    return total.sum(axis=0), 2.0 * gamma(levels) * absolute  # sums that underflow are exact

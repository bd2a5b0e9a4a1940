"""Rigorous upper bounds from float64 arithmetic: outward rounding, eigenvalues, spectral norms, exact semidefiniteness.

Only this module says "rigorous". Every bound holds for the real-valued quantity defined by the float64 numbers handed
over, provided the machine rounds as IEEE 754 says and its matrix products are conventional (any order of summation,
fused multiply-add allowed, no Strassen). Bad input (nan, inf) gives ``inf``, never a guess.

Rump (2006), Verification of positive definiteness, BIT 46: when the floating-point Cholesky factorization of A runs
to completion, the smallest eigenvalue of A is at least ``-gamma/(1 - gamma) * trace(A)`` with ``gamma`` of order n u.
Here gamma is doubled, which also covers factorizations that multiply by a rounded reciprocal of the pivot.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigvalsh
from scipy.linalg.lapack import dpotrf

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
    return n * UNIT / (1.0 - n * UNIT) * (1.0 + 8.0 * UNIT) if n * UNIT < 0.5 else math.inf


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
    square = square * (1.0 + 2.0 * gamma(values.size + 2)) + values.size * TINY
    return ldexp_up(round_up(sqrt_up(round_up(square))), exponent)


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
    scaled = np.where(top > 0.0, scaled * (1.0 + 2.0 * gamma(X.shape[1] + 4)) + TINY, 0.0)
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
    return total.sum(axis=0), np.nextafter(2.0 * gamma(levels) * absolute, np.inf) * (absolute > 0.0)


def max_eigenvalue(G: ArrayLike, error: float = 0.0) -> float:
    """Rigorous upper bound on the largest eigenvalue of every symmetric matrix within ``error`` of G.

    A value just above the computed eigenvalue is proposed; a floating-point Cholesky factorization of ``lam I - G``
    that runs to completion proves it up to a stated term of order ``n**2 u lam``, which is added. Costs one
    ``eigvalsh`` and one Cholesky factorization.

    Implements: Rump (2006), Verification of positive definiteness, BIT 46, floating-point criterion (constant doubled).

    Parameters
    ----------
    G : array_like, shape (n, n)
        Symmetric; only the lower triangle is read.
    error : float, default 0.0
        Spectral norm of the perturbation that must be covered.

    Returns
    -------
    bound : float
        Upper bound (may be negative); ``inf`` for nan or inf in G or error, 0.0 for n = 0.
    """
    matrix = np.asarray(G, dtype=np.float64)
    if not (np.isfinite(matrix).all() and 0.0 <= error < math.inf):
        return math.inf
    if not matrix.any():
        return error
    if matrix.shape[0] == 1:
        return float(matrix[0, 0]) if error == 0.0 else math.nextafter(float(matrix[0, 0]) + error, math.inf)
    exponent = power_of_two(matrix)
    bound = _proved_eigenvalue(np.ldexp(matrix, -exponent))
    scaled = ldexp_up(bound, exponent) if bound >= 0.0 else math.nextafter(math.ldexp(bound, exponent), math.inf)
    return math.nextafter(scaled + error, math.inf) if error else scaled


def _proved_eigenvalue(A: NDArray[np.float64]) -> float:
    """Upper bound for a symmetric matrix with entries at most one."""
    n, diagonal = A.shape[0], np.diagonal(A)
    top = float(eigvalsh(A, lower=True, check_finite=False)[-1])
    size = float(np.max(np.sum(np.abs(np.tril(A)), axis=1) + np.sum(np.abs(np.tril(A, -1)), axis=0)))
    step = 2.0 * n * UNIT * max(size, TINY)
    for _ in range(40):
        lam = top + step
        trial = -A
        trial[np.diag_indices(n)] = lam - diagonal
        if dpotrf(trial, lower=1, clean=0, overwrite_a=1)[1] == 0:
            relative = 2.0 * gamma(2 * n + 16)  # Rump's gamma/(1 - gamma), doubled, and the rounding of the trace
            spread = float(np.sum(lam - diagonal)) + 4.0 * n * UNIT * (abs(lam) + 1.0)
            shift = relative * max(spread, 0.0) + 4.0 * UNIT * (abs(lam) + 1.0) + n * n * TINY
            return math.nextafter(lam + shift, math.inf)
        step *= 4.0
    return math.nextafter(size * (1.0 + 2.0 * gamma(n + 2)), math.inf)  # Gershgorin


def gram_max_eigenvalue(E: ArrayLike, error: float = 0.0) -> float:
    """Rigorous upper bound on the squared spectral norm of every matrix within ``error`` (Frobenius norm) of E.

    The smaller of E'E and EE' is formed in chunks; its forward error, at most ``gamma ||E||_F**2``, is added before the
    eigenvalue is bounded by `max_eigenvalue`.

    Parameters
    ----------
    E : array_like, shape (m, d)
        Any matrix.
    error : float, default 0.0
        Frobenius norm of the perturbation of E that must be covered.

    Returns
    -------
    bound : float
        Upper bound on ``||E + dE||_2**2``; ``inf`` for nan or inf.
    """
    matrix = np.asarray(E, dtype=np.float64)
    if not (np.isfinite(matrix).all() and 0.0 <= error < math.inf):
        return math.inf
    exponent = power_of_two(matrix)
    A = np.ldexp(matrix, -exponent)
    A = A if A.shape[0] >= A.shape[1] else A.T
    chunks = range(0, A.shape[0], CHUNK)
    G = np.zeros((A.shape[1], A.shape[1]))
    for start in chunks:
        block = A[start : start + CHUNK]
        G += block.T @ block
    n = min(CHUNK, A.shape[0]) + len(chunks)
    forward = product_up(2.0 * gamma(n + 2), norm_up(A), norm_up(A)) + A.size * TINY if A.any() else 0.0
    square = max(max_eigenvalue(G, forward), 0.0)
    if error == 0.0:
        return ldexp_up(square, 2 * exponent)
    root = math.nextafter(ldexp_up(sqrt_up(square), exponent) + error, math.inf)
    return product_up(root, root)


def spectral_norm_up(E: ArrayLike) -> float:
    """Rigorous upper bound on the spectral norm, also where its square over- or underflows.

    Parameters
    ----------
    E : array_like, shape (m, d)
        Any matrix.

    Returns
    -------
    bound : float
        Upper bound on ``||E||_2``; ``inf`` for nan or inf.
    """
    matrix = np.asarray(E, dtype=np.float64)
    if not np.isfinite(matrix).all():
        return math.inf
    exponent = power_of_two(matrix)
    return ldexp_up(sqrt_up(gram_max_eigenvalue(np.ldexp(matrix, -exponent))), exponent)


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
    if any(not math.isfinite(x) for row in rows for x in row):
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

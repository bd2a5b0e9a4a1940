"""Largest eigenvalues, spectral norms and lack of definiteness, proved by floating-point Cholesky factorizations.

Rump (2006), Verification of positive definiteness, BIT 46: when the floating-point Cholesky factorization of A runs
to completion, the smallest eigenvalue of A is at least ``-gamma/(1 - gamma) * trace(A)`` with ``gamma`` of order n u.
Here gamma is doubled, which also covers factorizations that multiply by a rounded reciprocal of the pivot.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigvalsh
from scipy.linalg.lapack import dpotrf

from convexnn.rigorous.rounding import CHUNK, UNIT, gamma, ldexp_up, norm_up, power_of_two, product_up, sqrt_up


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
    """Upper bound for a symmetric matrix with entries at most one; ``inf`` where no proposal is proved."""
    n, diagonal = A.shape[0], np.diagonal(A)
    values = eigvalsh(A, lower=True, check_finite=False)  # proposed, never believed
    top, step = float(values[-1]), 2.0 * n * UNIT * float(np.max(np.abs(values)))
    for _ in range(40):
        lam = top + step
        trial = -A
        trial[np.diag_indices(n)] = lam - diagonal
        lack = _lack_of(trial)
        if lack < math.inf:
            return math.nextafter(lam + lack, math.inf)
        step *= 4.0
    return math.inf


def _lack_of(trial: NDArray[np.float64]) -> float:
    """How negative an eigenvalue can be of a matrix whose diagonal was rounded once, if its Cholesky factor exists.

    The theorem asks for ``gamma/(1 - gamma) trace`` with n + 1 roundings; one more for reciprocals of pivots, one for
    the diagonal and one for the trace make n + 4, and twice that is taken. Underflow is far below: entries of order one
    leave a trace of at least 2**-60. ``inf`` when the factorization stops.
    """
    n, trace = len(trial), float(np.trace(trial))
    completed = dpotrf(trial, lower=1, clean=0, overwrite_a=1)[1] == 0
    return 2.0 * gamma(n + 4) * trace if completed else math.inf


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
    forward = product_up(gamma(n), norm_up(A), norm_up(A))
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


def lack_of_definiteness(G: ArrayLike, error: float = 0.0) -> float:
    """Rigorous upper bound on ``max(0, -lambda_min)`` of every symmetric matrix within ``error`` of G.

    For matrices that are semidefinite up to rounding one Cholesky factorization of ``G + step I`` is all; where the
    first ones fail, `max_eigenvalue` of ``-G`` is taken.

    Implements: Rump (2006), floating-point criterion (constant doubled).

    Parameters
    ----------
    G : array_like, shape (n, n)
        Symmetric; only the lower triangle is read.
    error : float, default 0.0
        Spectral norm of the perturbation that must be covered.

    Returns
    -------
    bound : float
        At least zero; ``inf`` for nan or inf in G or error.
    """
    matrix = np.asarray(G, dtype=np.float64)
    if not (np.isfinite(matrix).all() and 0.0 <= error < math.inf):
        return math.inf
    exponent = power_of_two(matrix)
    A, n = np.ldexp(matrix, -exponent), len(matrix)
    size = float(np.max(np.sum(np.abs(A), axis=1), initial=0.0))
    for step in (n * UNIT * size, 64.0 * n * UNIT * size) if n else ():
        trial = A.copy()
        trial[np.diag_indices(n)] += step
        lack = _lack_of(trial)
        if lack < math.inf:
            return math.nextafter(ldexp_up(step + lack, exponent) + error, math.inf)
    return max(max_eigenvalue(-matrix, error), 0.0)

"""How far a matrix is from semidefinite, proved by one floating-point Cholesky factorization."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg.lapack import dpotrf

from convexnn.rigorous import TINY, UNIT, gamma, ldexp_up, max_eigenvalue, power_of_two


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
    for step in (n * UNIT * size, 64.0 * n * UNIT * size):
        trial = A.copy()
        trial[np.diag_indices(n)] += step
        if n and dpotrf(trial, lower=1, clean=0, overwrite_a=1)[1] == 0:
            spread = float(np.trace(A)) + n * (step + 4.0 * n * UNIT)
            lack = step + 2.0 * gamma(2 * n + 16) * max(spread, 0.0) + 4.0 * UNIT * (step + 1.0) + n * n * TINY
            return math.nextafter(ldexp_up(math.nextafter(lack, math.inf), exponent) + error, math.inf)
    return max(max_eigenvalue(-matrix, error), 0.0)

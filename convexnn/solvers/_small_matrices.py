"""Small dense matrices: triangular inverses of a stack, Nesterov-Todd scaling, the end of a concave function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Squared eigenvalues of the scaled point that spread farther than this are computed anew from a product of factors.
WIDEST_SPREAD = 1e10
#: Evaluations of a search for the longest step.
SEARCH = 8


def triangular_inverse(L: Array) -> Array:
    """Inverses of lower triangular matrices (..., k, k) by forward substitution.

    LAPACK takes microseconds for one matrix of order ten, and there is one a unit; numpy passes over all of them.
    """
    X = np.zeros_like(L)
    reciprocal = 1 / np.einsum("...aa->...a", L)
    for a in range(L.shape[-1]):
        X[..., a, a] = reciprocal[..., a]
        if a:
            row = L[..., a : a + 1, :a] @ X[..., :a, :a]
            X[..., a, :a] = row[..., 0, :] * -reciprocal[..., a, None]
    return X


def scaling(X: Array, S: Array) -> tuple[Array, Array]:
    """``G`` with ``G^-1 X G^-T = G' S G = diag(lmbda)``, and lmbda; LinAlgError outside of the cone."""
    L = np.linalg.cholesky(X)
    squared, V = np.linalg.eigh(L.T @ S @ L)
    if squared[0] <= squared[-1] / WIDEST_SPREAD:
        _, singular, Vt = np.linalg.svd(np.linalg.cholesky(S).T @ L)
        V, squared = Vt.T, singular**2
    lmbda = np.sqrt(squared)
    return L @ (V / np.sqrt(lmbda)), lmbda


def last_nonnegative(function: Callable[[float], float], limit: float, small: float) -> float:
    """A point of ``[0, limit]`` up to which a concave function that is 1 at zero stays nonnegative.

    The chord of a concave function lies below it, so that from where it is positive the search can always go on. It
    ends where the value is at most ``small``.
    """
    value = function(limit)
    if value >= 0:
        return limit
    low, at_low, high, at_high = 0.0, 1.0, limit, value
    for _ in range(SEARCH):
        share = (at_low - 0.5 * small) / (at_low - at_high)
        trial = low + max(share, 0.1) * (high - low)
        value = function(trial)
        if value >= 0:
            low, at_low = trial, value
        else:
            high, at_high = trial, value
        if at_low <= small:
            break
    return low

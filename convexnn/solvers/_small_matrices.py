"""Stacks of small matrices: spectra computed only where cheap bounds do not decide, triangular inverses.

LAPACK takes microseconds for one matrix of order ten, and there is one a unit; a pass of numpy over all of them costs
less than a few eigenvalue problems.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from convexnn.solvers.cone_block import clip_change

Array = NDArray[np.float64]

#: Squared eigenvalues of the scaled point that spread farther than this are computed anew from a product of factors.
WIDEST_SPREAD = 1e10
#: Matrices whose spectra are computed first: the smallest eigenvalue among them spares most of the others.
FIRST = 8
#: Evaluations of a search for the longest step.
SEARCH = 8


def triangular_inverse(L: Array) -> Array:
    """Inverses of lower triangular matrices (..., k, k) by forward substitution."""
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


def longest_step(relative: Array, limit: float) -> float:
    """Longest step up to ``limit`` that leaves every ``I + step relative`` semidefinite.

    Parameters
    ----------
    relative : array, shape (..., k, k)
        Symmetric.
    limit : float
        No longer step is wanted.

    Returns
    -------
    float
    """
    stack = relative.reshape(-1, *relative.shape[-2:])
    low, high, _ = eigenvalue_bounds(stack)
    least = min(float(high.min()), -0.999 / min(limit, 10.0))
    blocking = np.flatnonzero(low <= least)
    if blocking.size > 2 * FIRST:
        first = np.argpartition(low, FIRST)[:FIRST]
        least = min(least, float(np.linalg.eigvalsh(stack[first]).min()))
        blocking = np.flatnonzero(low <= least)
    if not blocking.size:
        return limit
    smallest = float(np.linalg.eigvalsh(stack[blocking]).min())
    return min(limit, -1 / smallest) if smallest < 0 else limit


def clipped_spectra(products: Array, mu: float) -> Array:
    """Changes (m, k, k) that pull all eigenvalues into ``[mu / 10, 10 mu]``; zero where they are there already."""
    low, _, high = eigenvalue_bounds(products)
    outside = np.flatnonzero((low < 0.1 * mu) | (high > 10 * mu))
    extremes = np.linalg.eigvalsh(products[outside])[:, [0, -1]]
    outside = outside[(extremes[:, 0] < 0.1 * mu) | (extremes[:, 1] > 10 * mu)]
    changes = np.zeros_like(products)
    if outside.size:
        values, vectors = np.linalg.eigh(products[outside])
        change = clip_change(np.asarray(values, dtype=float), mu)
        changes[outside] = (vectors * change[:, None, :]) @ vectors.swapaxes(-1, -2)
    return changes


def eigenvalue_bounds(M: Array) -> tuple[Array, Array, Array]:
    """Lower and upper bounds on the smallest eigenvalues, upper ones on the largest (Wolkowicz and Styan 1980).

    From the traces of ``M`` and ``M^2``; they spare most of the small eigenvalue problems.
    """
    k = M.shape[-1]
    mean = np.einsum("...aa->...", M) / k
    deviation = np.sqrt(np.maximum(np.einsum("...ab,...ab->...", M, M) / k - mean * mean, 0.0))
    root, slip = np.sqrt(max(k - 1.0, 1.0)), 1e-7 * np.abs(mean)  # the difference of squares keeps half of the digits
    return mean - root * deviation - slip, mean - deviation / root + slip, mean + root * deviation + slip

"""Certified margins of a ReLU network on balls around the training rows: concave in the units, valid for every slope.

Source: docs/theory/robust_relu.md. At slopes 0 / 1 and stable units it is the worst case of Bai et al. 2022
(arXiv 2201.01965) and Kuelbs et al. 2024 (arXiv 2405.14033), program (15).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.restrictions.robust_relu_terms import RobustTerms, dual_norms
from convexnn.rigorous import gamma

Array = NDArray[np.float64]


def certified_margins(terms: RobustTerms, U: Array, c: Array) -> Array:
    """Lower bounds on the smallest margin of the network ``(U, directions, c)`` over every ball, rounded down.

    With ``z = x_k'p_i``, ``rho_i = r |w_i|_q`` (q the dual norm, w_i the weights of p_i without its bias)::

        m_t = sum_{B > 0} B T z - sum_{B < 0} |B| max(z + (1 - T) rho, T rho) - r |sum_i B T w_i|_q + c_plus - c_minus

    For every U, c and every slope T in [0, 1]: ``m_t <= f_plus(x') - f_minus(x')`` for all ``|x' - x_k| <= r``.
    Concave in (U, c). With equality where all units are stable on the ball and T is their pattern.

    Implements: convexnn, Proposition 1 of docs/theory/robust_relu.md.

    Parameters
    ----------
    terms : RobustTerms
    U : array, shape (p, d + 1)
        Hidden units.
    c : array, shape (k,)
        Output biases.

    Returns
    -------
    array, shape (N,)
        ``-inf`` where nothing finite could be computed.
    """
    found = np.empty(terms.n_margins)
    rounding = 2 * gamma(terms.n_units + U.shape[1] + 32)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        weights, size = U[:, :-1], np.linalg.norm(U, axis=1)
        rho = terms.radius * dual_norms(weights, terms.norm)
        for part in terms.parts():
            rows = terms.rows[part]
            T, B, X = terms.slopes[rows], terms.coefficients(part), terms.X[rows]
            z = X @ U.T
            upper = np.maximum(z + (1 - T) * rho, T * rho)
            linear = (np.where(B > 0, T * z, upper) * B).sum(axis=1)
            attacked = terms.radius * dual_norms((B * T) @ weights, terms.norm)
            # every product above is at most this, whatever the order of the sums; c is added below
            terms_size = (np.abs(B) * (np.linalg.norm(X, axis=1)[:, None] * size + 3 * rho)).sum(axis=1)
            found[part] = linear - attacked - rounding * terms_size - np.finfo(float).tiny
        padded = np.append(c, 0.0)
        offset = terms.offsets(c)
        found += offset - 4 * np.finfo(float).eps * (np.abs(padded[terms.plus]) + np.abs(padded[terms.minus]))
        found -= 4 * np.finfo(float).eps * np.abs(found)
    return np.where(np.isfinite(found), found, -np.inf)


def pattern_slopes(terms: RobustTerms, U: Array) -> Array:
    """Activation pattern of the units on the rows as slopes 0.0 / 1.0, ties active, shape (n, p)."""
    return (terms.X @ U.T >= 0).astype(float)


def chord_slopes(terms: RobustTerms, U: Array) -> Array:
    """Slope of the chord of every unit over its range on the ball, ``(z + rho) / (2 rho)`` clipped to [0, 1].

    The pattern where a unit is stable; the best single slope of an upper bound where it is not.
    """
    z = terms.X @ U.T
    rho = terms.radius * dual_norms(U[:, :-1], terms.norm)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        share = np.clip(0.5 + z / (2 * rho), 0.0, 1.0)
    # a ball of no size has no chord, and 0 / 0 is a unit that is zero
    return np.where(np.isfinite(share) & (rho > 0), share, (z >= 0).astype(float))


def mixed_slopes(terms: RobustTerms, U: Array) -> Array:
    """Chords where a unit lowers the margin (bounded from above), patterns where it raises it, shape (n, p).

    A unit counts as lowering the margins of a row by the weighted mean of its coefficients.
    """
    pull = np.zeros_like(terms.slopes)
    for part in terms.parts():
        np.add.at(pull, terms.rows[part], terms.coefficients(part))
    return np.where(pull < 0, chord_slopes(terms, U), pattern_slopes(terms, U))


def stability_violations(terms: RobustTerms, U: Array) -> Array:
    """Largest ``(r |w_i|_q - (2 D_ki - 1) x_k'p_i) / (|x_k| |p_i| + r |w_i|_q)`` of every unit, at least 0, shape (p,).

    D are the slopes rounded to 0 / 1. A unit smaller than 1e-9 of the largest one is measured against that.
    """
    size = np.linalg.norm(U, axis=1)
    floored = np.maximum(size, 1e-9 * size.max(initial=0.0))
    rho = terms.radius * dual_norms(U[:, :-1], terms.norm)
    sign = np.where(terms.slopes >= 0.5, 1.0, -1.0)
    excess = rho - sign * (terms.X @ U.T)
    scale = np.linalg.norm(terms.X, axis=1)[:, None] * floored + rho
    relative = np.divide(excess, scale, out=np.zeros_like(excess), where=scale > 0)
    worst: Array = np.maximum(relative.max(axis=0), 0.0)
    return worst

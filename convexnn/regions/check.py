"""Rigorous upper bounds of ridge sums on the unit ball or box from any majorants: float64, rounded outward."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

from convexnn.exceptions import CertificateError
from convexnn.inputs import real_or_nan
from convexnn.quadratic.trust_region import minimize_over_ball
from convexnn.regions.region import BALL
from convexnn.regions.ridges import Ridges, Units, reach_up, ridges
from convexnn.rigorous import TINY, UNIT, gamma, max_eigenvalue, norm_up, sum_up

Array = NDArray[np.float64]

LIFTS = (0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-3)


def majorant_offsets(parts: Ridges, curvature: Array, slope: Array) -> Array:
    """Smallest de with ``al a^2 + be a + de >= phi(a)``, one a group, rounded up, shape (G,).

    Implements: convexnn, Proposition 1 of theory/region_bounds.md, majorants of piecewise functions.

    Parameters
    ----------
    parts : Ridges
    curvature, slope : array, shape (G,)
        The numbers al and be of each group; any numbers.
    """
    al, be, r = curvature[:, None], slope[:, None], parts.reach[:, None]
    q, k, e = parts.curves, parts.slopes, parts.intercepts
    with np.errstate(all="ignore"):
        A, B = al - q, k - be
        size_A, size_B = np.abs(al) + np.abs(q), np.abs(k) + np.abs(be)
        low, high = parts.lower, parts.upper
        ends = np.where(np.isinf(low), np.minimum(high, -r), low), np.where(np.isinf(high), np.maximum(low, r), high)
        at_ends = [_value_up(a, A, B, e, size_A * a * a + size_B * np.abs(a) + np.abs(e)) for a in ends]
        # quotients first: 2 A can overflow and B^2 vanish where B / A does neither
        stationary, spread = 0.5 * (B / A), 4.0 * UNIT * (size_B / A + (1.0 + size_A / A) * np.abs(B / A)) + TINY
        inside = (A > 0) & ~(stationary < low - spread) & ~(stationary > high + spread)
        A_down, B_up = A - 2.0 * UNIT * size_A * (q != 0), np.abs(B) + 2.0 * UNIT * size_B * (B != 0)
        top = np.where(B == 0, e, np.nextafter(0.25 * (B_up / A_down * B_up) * (1.0 + 16.0 * UNIT) + TINY + e, np.inf))
        top = np.where((A_down > 0) | (B == 0), top + 4.0 * UNIT * np.abs(e), np.inf)
        steep = [_value_up(a, 0.0 * A, B, e, size_B * np.abs(a) + np.abs(e)) for a in ends]
        steep_top = np.where(np.isinf(low) | np.isinf(high), np.inf, np.maximum(*steep))
        found = np.maximum(np.maximum(*at_ends), np.where(inside, np.fmin(top, steep_top), -np.inf))
    found = np.where(np.isnan(found), np.inf, found)
    return np.asarray(np.where(parts.exists, found, -np.inf).max(axis=1))


def _value_up(a: Array, A: Array, B: Array, e: Array, size: Array) -> Array:
    return np.asarray((B - A * a) * a + e + 16.0 * UNIT * size + TINY * (size > 0))


def quadratic_maximum(V: Array, curvature: Array, gradient: Array, kind: str, rho: Array | None = None) -> float:
    """Upper bound on ``sum_g al_g (v_g'e)^2 + gradient'e`` over the unit ball or box, rounded up.

        max <= |rho| + max_e gradient'e - e'Ke,   K = diag(rho) - V' diag(al) V > 0,

    with |rho| the sum (box) or the one number rho (ball: the best one is found here, none need be given).

    Parameters
    ----------
    V : array, shape (G, r)
    curvature : array, shape (G,)
    gradient : array, shape (r,)
    kind : {"ball", "box"}
    rho : array, shape (r,), optional
        For boxes; numbers that do not fit are lifted until K is positive definite.
    """
    with np.errstate(all="ignore"):
        A = (V.T * curvature) @ V
        A = 0.5 * (A + A.T)
        if not (np.isfinite(A).all() and np.isfinite(gradient).all()):
            return np.inf
        if not A.any() and not gradient.any():
            return float(_forming_error(V, curvature, kind))
        base = _ball_rho(A, gradient) if kind == BALL else _box_rho(A, gradient, rho)
        scale = float(np.abs(A).max() + np.abs(gradient).max() + np.max(base))
        best = np.inf
        for lift in LIFTS:
            best, done = _with_rho(A, gradient, base + lift * scale, kind, best)
            if done:
                break
        return float(np.nextafter(best + _forming_error(V, curvature, kind), np.inf))


def _forming_error(V: Array, curvature: Array, kind: str) -> float:
    """Rounding of the products that make the matrix: ``|e'(A - fl(A))e|``."""
    total = float(np.sum(np.abs(curvature) * reach_up(V, kind) ** 2))
    return 4.0 * gamma(len(V) + 16) * total + V.size * TINY


def _ball_rho(A: Array, gradient: Array) -> Array:
    w, Q = eigh(A, check_finite=False)
    best = minimize_over_ball(-w, -0.5 * (Q.T @ gradient)[None], 1.0).multipliers[0]
    return np.full(len(A), max(float(best), 0.0))


def ball_multiplier(V: Array, curvature: Array, slope: Array) -> Array:
    """The best multiplier of the unit ball for these majorants, repeated, shape (r,); not proved."""
    A = (V.T * curvature) @ V
    return _ball_rho(0.5 * (A + A.T), V.T @ slope)


def _box_rho(A: Array, gradient: Array, rho: Array | None) -> Array:
    """The given numbers, lifted to a nonnegative matrix; without any, row sums."""
    if rho is None or not np.isfinite(rho).all():
        return np.abs(A).sum(axis=1) + 0.5 * np.abs(gradient)
    given = np.maximum(rho, 0.0)
    return np.asarray(given + max(float(eigh(A - np.diag(given), eigvals_only=True)[-1]), 0.0))


def _with_rho(A: Array, g: Array, rho: Array, kind: str, best: float) -> tuple[float, bool]:
    """The bound of these multipliers, the best so far, and whether more lifting could not help."""
    n = len(g)
    M = A - np.diag(rho)
    low = -max_eigenvalue(M)  # K >= low
    if not low > 0:
        return best, False
    try:
        y = cho_solve(cho_factor(-M, check_finite=False), 0.5 * g, check_finite=False)
    except LinAlgError:
        return best, False
    My = M @ y
    sizes = np.abs(g) + 2.0 * np.abs(M) @ np.abs(y)
    residual = np.abs(g + 2.0 * My) + 2.0 * gamma(n + 8) * sizes
    size = norm_up(residual)
    rest = size * size / (4.0 * low) * (1.0 + 16.0 * UNIT)  # inf where a power would raise
    value = float(g @ y + y @ My)
    error = 4.0 * gamma(2 * n + 16) * float(np.abs(y) @ sizes) + (n + 2) * n * TINY
    moved = 4.0 * UNIT * float(np.sum(np.abs(np.diag(A)) + rho))  # rounding of the diagonal of M
    total = float(rho.max()) if kind == BALL else sum_up(rho)
    bound = sum_up([total, value, error, moved, rest])
    return min(best, bound), bool(rest <= 1e-12 * (abs(total) + abs(value)))


def proved_bound(parts: Ridges, curvature: ArrayLike, slope: ArrayLike, rho: ArrayLike | None = None) -> float:
    """Upper bound on a ridge sum over its whole region from any majorants, rounding included.

        offset + sum_g de_g + max_e { sum_g al_g a_g^2 + be_g a_g },   a_g = v_g'e

    Implements: convexnn, Proposition 2 of theory/region_bounds.md, the bound of any majorants.

    Parameters
    ----------
    parts : Ridges
    curvature, slope : array, shape (G,)
    rho : array, shape (r,), optional
        Multipliers of a box.

    Returns
    -------
    float
        ``inf`` for nan and infinite numbers.

    Raises
    ------
    CertificateError
        For wrong shapes.
    """
    G, r = parts.directions.shape
    al, be = _numbers(curvature, (G,), "curvature"), _numbers(slope, (G,), "slope")
    box = None if rho is None or parts.kind == BALL else _numbers(rho, (r,), "rho")
    if not (np.isfinite(al).all() and np.isfinite(be).all()):
        return np.inf
    with np.errstate(all="ignore"):
        gradient = parts.directions.T @ be
        error = 4.0 * gamma(G + 16) * float(np.abs(be) @ parts.reach) + r * TINY
        quadratic = quadratic_maximum(parts.directions, al, gradient, parts.kind, box)
    return sum_up([parts.offset, *majorant_offsets(parts, al, be), quadratic, error])


def _numbers(values: ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    try:
        array = real_or_nan(values)
    except (TypeError, ValueError) as error:
        raise CertificateError(f"The multiplier {name!r} is no array of numbers: {error}") from error
    if array.shape != shape:
        raise CertificateError(f"The multiplier {name!r} has the shape {array.shape}; it should be {shape}.")
    return array


def units_bound(
    units: Units, curvature: ArrayLike, slope: ArrayLike, rho: ArrayLike | None = None, *, tight: bool = True
) -> float:
    """Upper bound on a shallow network of the unit variable from any majorants of its groups."""
    return proved_bound(ridges(units, tight=tight), curvature, slope, rho)

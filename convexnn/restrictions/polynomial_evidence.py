"""Lower bounds on the optimum of a polynomial program from any slopes and any attacks.

For slopes ``s_t >= 0`` and random attacks ``delta_t`` with ``E delta' D delta <= radius^2``, with the moments
``A_t = E Phi(x_t + delta_t)`` and ``G_c = sum_t share_t s_t (1[plus_t = c] - 1[minus_t = c]) A_t``::

    optimum  >=  -sum_t share_t (phi*(-theta s_t) - theta s_t offset_t)      where  theta kappa(G_c) <= lam  for all c
    kappa(G) = max_{|u| = 1} |[u; 1]'G [u; 1]|

Attacks that are too strong are weakened, sums carry a bound on their rounding, and kappa is proved by a matrix
inequality, so corrupted multipliers loosen the bound and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from convexnn.inputs import multipliers_of
from convexnn.losses import Squared, SquaredHinge
from convexnn.monotone import concave_maximum
from convexnn.program import PolynomialDual
from convexnn.quadratic.structure import QuadraticStructure
from convexnn.quadratic.trust_region import minimize_over_ball
from convexnn.rigorous import CHUNK, UNIT, gamma, ldexp_up, max_eigenvalue

Array = NDArray[np.float64]

#: Absolute error of sums of products that underflow, with a large margin.
UNDERFLOW = 1e-280
#: Added to lengths whose squares may underflow.
SHORTEST = 1e-150


def proved_bound(structure: QuadraticStructure, dual: PolynomialDual) -> float:
    """Lower bound on the optimum for any multipliers, never below zero for finite ones.

    Implements: docs/theory/polynomial.md, Proposition 4.

    Parameters
    ----------
    structure : QuadraticStructure
    dual : PolynomialDual

    Returns
    -------
    float
        Rounded down; ``-inf`` for NaN, infinite values or wrong shapes.
    """
    given = multipliers_of(dual, whole=("groups",))
    if given is None or not _usable(structure, given):
        return -math.inf
    dual = given
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        slopes = _admissible_slopes(structure, dual.slopes)
        slopes = slopes / max(float(slopes.max(initial=0.0)), np.finfo(float).tiny)  # theta gives the size back
        steepest = max(class_norms(structure, slopes, dual).max(initial=0.0), UNDERFLOW)
        limit = structure.lam / steepest * (1 - 8 * UNIT)
        if not (math.isfinite(steepest) and limit > 0 and slopes.any()):
            return 0.0
        return max(0.0, float(_best_value(structure, slopes, limit)))


def _usable(structure: QuadraticStructure, dual: PolynomialDual) -> bool:
    n, d = structure.n_terms, structure.n_features
    if np.shape(dual.slopes) != (n,) or np.shape(dual.shifts) != (n, d):
        return False
    if not (np.isfinite(dual.slopes).all() and np.isfinite(dual.shifts).all()):
        return False
    if dual.variances is None:
        return True
    directions, k = np.asarray(dual.directions, dtype=float), dual.variances.size // max(n, 1)
    if dual.variances.shape != (n, k) or directions.ndim != 3 or directions.shape[1:] != (d, k):
        return False
    groups = _groups(dual)
    within = np.issubdtype(groups.dtype, np.integer) and groups.shape == (n,)
    return bool(
        np.isfinite(dual.variances).all()
        and np.isfinite(directions).all()
        and within
        and (groups >= 0).all()
        and (groups < len(directions)).all()
    )


def _groups(dual: PolynomialDual) -> NDArray[np.intp]:
    return np.zeros(len(dual.slopes), dtype=np.intp) if dual.groups is None else np.asarray(dual.groups)


def _unit_directions(dual: PolynomialDual) -> PolynomialDual:
    """The same attacks by directions of size one, powers of two moved into the variances; what overflows is left out.

    Otherwise tiny directions with huge variances would have squares that underflow, and attacks that look weak.
    """
    if dual.variances is None:
        return dual
    directions = np.asarray(dual.directions, dtype=float)
    size = np.abs(directions).max(axis=1, initial=0.0)
    exponent = np.where(size > 0, np.frexp(size)[1], 0)
    variances = np.ldexp(np.maximum(dual.variances, 0.0), 2 * exponent[_groups(dual)])
    variances = np.where(np.isfinite(variances), variances, 0.0)
    return replace(dual, variances=variances, directions=np.ldexp(directions, -exponent[:, None, :]))


# -- slopes ----------------------------------------------------------------------------------------------
def _admissible_slopes(structure: QuadraticStructure, slopes: Array) -> Array:
    """Nonnegative slopes inside the domain of the conjugate, those of a sample together in regression."""
    clipped: Array = np.maximum(slopes, 0.0)
    steepest = _steepest(structure)
    if not math.isfinite(steepest):
        return clipped
    if not structure.is_regression:
        return np.minimum(clipped, steepest)
    total = clipped.reshape(2, -1).sum(axis=0)
    factor = np.where(total > steepest, steepest / np.maximum(total, steepest) * (1 - 4 * UNIT), 1.0)
    return clipped * np.tile(factor, 2)


def _steepest(structure: QuadraticStructure) -> float:
    """Largest slope of the loss, ``inf`` where there is none."""
    low, high = structure.loss.slopes(np.ones(1))
    return float(max(-low[0], high[0]))


# -- the norm of the multipliers -------------------------------------------------------------------------
def class_norms(structure: QuadraticStructure, slopes: Array, dual: PolynomialDual) -> Array:
    """Upper bounds on ``kappa(G_c)`` for every class, shape (C,)."""
    dual = _unit_directions(dual)
    shifts, variances = _weakened(structure, dual)
    attacked = structure.X[structure.rows] + shifts
    weight = structure.share * slopes
    norms = np.zeros(structure.n_classes)
    for c in range(structure.n_classes):
        sign = (structure.plus == c).astype(float) - (structure.minus == c)
        terms = np.flatnonzero(sign)
        norms[c] = _norm_of_terms(structure, dual, terms, (weight * sign)[terms], attacked, variances)
    return norms


def _weakened(structure: QuadraticStructure, dual: PolynomialDual) -> tuple[Array, Array | None]:
    """Attacks scaled down to ``E delta' D delta <= radius^2`` where they exceed it."""
    metric = np.ones(structure.n_features) if structure.metric is None else structure.metric
    lost = UNDERFLOW * (1.0 + float(metric.sum()))  # squares that underflow, in a metric of any size
    scale = np.abs(dual.shifts).max(axis=1, initial=0.0)
    variances, spread = dual.variances, np.zeros(len(scale))
    if variances is not None:
        lengths = np.einsum("gdk,d->gk", np.square(np.asarray(dual.directions, dtype=float)), metric) + lost
        spread = np.einsum("tk,tk->t", variances, lengths[_groups(dual)])
    safe = np.where(scale > 0, scale, 1.0)
    mean = safe * np.sqrt(np.square(dual.shifts / safe[:, None]) @ metric + np.where(scale > 0, lost, 0.0))
    reach = np.hypot(mean, np.sqrt(spread)) * (1 + 4 * gamma(structure.n_features * 2 + 16)) + SHORTEST
    factor = np.where(reach > structure.radius, structure.radius / reach * (1 - 8 * UNIT), 1.0)
    factor = np.where(np.isfinite(reach), factor, 0.0)
    shifts = dual.shifts * factor[:, None]
    return shifts, None if variances is None else variances * np.square(factor * (1 - 8 * UNIT))[:, None]


def _norm_of_terms(
    structure: QuadraticStructure,
    dual: PolynomialDual,
    terms: NDArray[np.intp],
    sign: Array,
    attacked: Array,
    variances: Array | None,
) -> float:
    """Upper bound on ``kappa(G)``, ``G`` the sum of the moments of these terms with weights ``sign``."""
    a, b, c = structure.coefficients
    x, t = attacked[terms], sign
    second, first, rounding = _sums(x, t)
    size = np.abs(t)
    reach = float(size @ np.einsum("td,td->t", x, x))
    if variances is not None:
        groups, directions = _groups(dual)[terms], np.asarray(dual.directions, dtype=float)
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            parts = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
            along, sizes = (sum(s[part] @ variances[terms[part]] for part in parts) for s in (t, size))
            second += (directions[group] * along) @ directions[group].T
            reach += float(sizes @ np.square(directions[group]).sum(axis=0))
    G = np.empty((len(second) + 1,) * 2)
    G[:-1, :-1] = a * second
    G[:-1, -1] = G[-1, :-1] = 0.5 * b * first
    G[-1, -1] = c * float(t.sum())
    mean = float(size @ np.sqrt(np.einsum("td,td->t", x, x)))
    error = 1.01 * rounding * (abs(a) * reach + abs(b) * mean + abs(c) * float(size.sum())) + UNDERFLOW
    return (atomic_norm_up(G) + error) * (1 + 8 * UNIT)


def _sums(x: Array, t: Array) -> tuple[Array, Array, float]:
    """``sum t x x'`` and ``sum t x`` in chunks, and a bound on their error relative to the sum of absolute values."""
    second, first = np.zeros((x.shape[1],) * 2), np.zeros(x.shape[1])
    chunks = range(0, len(x), CHUNK)
    for start in chunks:
        block, weights = x[start : start + CHUNK], t[start : start + CHUNK]
        second += (block.T * weights) @ block
        first += weights @ block
    longest = max(min(CHUNK, len(x)) + len(chunks), x.shape[1])
    return second, first, gamma(2 * longest + 64)


def atomic_norm_up(G: Array) -> float:
    """Rigorous upper bound on ``kappa(G) = max_{|u| = 1} |[u; 1]'G [u; 1]|`` of a symmetric matrix.

    The sphere is maximized over by a trust region; with its value v and multiplier mu,
    ``[u; 1]'G [u; 1] - v = [u; 1]'K [u; 1] <= 2 lmax(K)`` with ``K = G - mu J - v e e'``, J = diag(I, -1), e the last
    unit vector, whatever v and mu are.

    Implements: docs/theory/polynomial.md, Proposition 4.

    Parameters
    ----------
    G : array, shape (d + 1, d + 1)

    Returns
    -------
    float
        ``inf`` for NaN or infinite entries.
    """
    if not np.isfinite(G).all():
        return math.inf
    if not G.any():
        return 0.0
    exponent = int(np.frexp(np.abs(G).max(initial=0.0))[1])
    unit = np.ldexp(G, -exponent)  # entries of size one: products neither overflow nor lose more than UNDERFLOW
    return ldexp_up(max(_largest_up(unit), _largest_up(-unit), 0.0) + UNDERFLOW, exponent)


def _largest_up(G: Array) -> float:
    eigenvalues, V = np.linalg.eigh(G[:-1, :-1])
    found = minimize_over_ball(-eigenvalues[None], -(G[:-1, -1] @ V)[None], 1.0, sphere=True)
    value, multiplier = float(G[-1, -1] - found.values[0]), float(found.multipliers[0])
    K = G.copy()
    K[np.diag_indices(len(V))] -= multiplier
    K[-1, -1] = G[-1, -1] - value + multiplier
    size = float(np.abs(np.diagonal(G)).max()) + abs(multiplier) + abs(value)
    excess = max_eigenvalue(K, 4 * UNIT * size)
    return (value + 2 * excess) + 4 * UNIT * (abs(value) + 2 * abs(excess))


# -- the value -------------------------------------------------------------------------------------------
def _best_value(structure: QuadraticStructure, slopes: Array, limit: float) -> float:
    """Largest value over ``0 <= theta <= limit``, rounded down."""
    steepest = _steepest(structure)
    if math.isfinite(steepest):
        total = slopes.reshape(2, -1).sum(axis=0) if structure.is_regression else slopes
        limit = min(limit, steepest / float(total.max()) * (1 - 8 * UNIT))
    n = gamma(2 * structure.n_terms + 64)
    bend = float(structure.share @ slopes**2)
    rise = float(structure.share @ (slopes * (1 + np.abs(structure.offset))))
    level = float(structure.share.sum()) if structure.loss.binary else 0.0

    def value(theta: float) -> float:
        error = n * (theta * rise + theta * theta * bend + level)
        return structure.dual_value(theta * slopes) - 1.01 * error - UNDERFLOW

    if isinstance(structure.loss, Squared | SquaredHinge):
        return value(_top_of_parabola(value(0.5), value(1.0), limit))
    return concave_maximum(value, limit)


def _top_of_parabola(at_half: float, at_one: float, limit: float) -> float:
    """Where ``alpha theta - beta theta^2`` is largest on ``[0, limit]``, from two values."""
    alpha, beta = 4 * at_half - at_one, 4 * at_half - 2 * at_one
    theta = alpha / (2 * beta) if beta > 0 else limit
    return min(theta, limit) if theta > 0 else 0.0

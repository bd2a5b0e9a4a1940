"""Lower bounds on program M from any multipliers (docs/theory/certified_margin.md, Proposition 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from convexnn.inputs import multipliers_of
from convexnn.losses import MarginLoss
from convexnn.program import Dual
from convexnn.restrictions.certified_margin_terms import MarginTerms
from convexnn.rigorous import TINY, gamma, norm_up, power_of_two, row_norms_up, sqrt_up, sum_up

Array = NDArray[np.float64]

#: Shares of the trace added to a multiplier matrix that may be singular; the best one counts.
SHARES = (1e-12, 1e-9, 1e-6)
BALANCE_ROUNDS, BALANCED = 2000, 1e-15
EPS = float(np.finfo(float).eps)
#: Sums of multipliers below this, or above its inverse, prove nothing.
SMALLEST = 1e-250


@dataclass(frozen=True, eq=False)
class MarginGeometry:
    """Rows, patterns and directions of the program.

    Attributes
    ----------
    X : array, shape (n, d + 1)
    D : array, shape (n, p)
        Activations, 0 or 1.
    S : array, shape (n, p)
        Signs of the cone rows; zero rows for repeated inputs.
    directions : array, shape (p, k)
    """

    X: Array
    D: Array
    S: Array
    directions: Array


def margin_lower_bound(terms: MarginTerms, geometry: MarginGeometry, dual: Dual) -> float:
    """Lower bound on the optimum of program M from any multipliers, at least zero.

    Parameters
    ----------
    terms : MarginTerms
    geometry : MarginGeometry
    dual : Dual
        As in :meth:`CertifiedMargin.lower_bound`; ``-inf`` for other shapes or numbers that are not finite.

    Returns
    -------
    float
    """
    given = multipliers_of(dual)
    if given is None or not _is_usable(terms, geometry, given):
        return -math.inf
    dual = given
    slopes = balanced_flow(terms, np.maximum(dual.residual, 0.0))
    if slopes is None or not slopes.any():
        return 0.0
    weight = terms.share * terms.rows.weight[:, None]
    with np.errstate(all="ignore"):
        Z, error = _stationarity(terms, geometry, dual, slopes)
        size = np.abs(Z) + error
        if not np.isfinite(size).all():
            return 0.0
        largest = float(row_norms_up(size).max(initial=0.0)) * (1.0 + 4.0 * EPS)
        limit = 2.0 * terms.lam / largest if largest > 0 else math.inf
        limit = min(limit, terms.loss.steepest / float((slopes / weight).max())) * (1.0 - 16.0 * EPS)
    return _best_share(terms.loss, slopes, weight, limit) if limit > 0 else 0.0  # nan as well


def _best_share(loss: MarginLoss, slopes: Array, weight: Array, limit: float) -> float:
    """``max_theta -sum weight l*(-theta slopes / weight)`` for theta up to a limit, rounded down, at least zero."""
    ones = np.ones_like(slopes)

    def value(theta: float) -> float:
        with np.errstate(over="ignore", invalid="ignore"):  # a bound beyond float64 is no bound
            ratio = theta * slopes / weight
            # convex: over what the rounding of a ratio leaves open it is largest at an end
            ends = [np.clip(ratio * (1.0 + side * 8.0 * EPS), 0.0, loss.steepest) for side in (-1.0, 1.0)]
            conjugate = np.maximum(*(loss.conjugate(-end, ones) for end in ends))
            lost = float((weight * (np.abs(conjugate) + ratio + ratio**2)).sum())
            if not (np.isfinite(conjugate).all() and math.isfinite(lost)):
                return -math.inf
            return -math.fsum((weight * conjugate).ravel().tolist()) - 16.0 * EPS * lost - conjugate.size * TINY

    top = min(limit, 4.0)
    inner = minimize_scalar(lambda theta: -value(theta), bounds=(0.0, top), method="bounded", options={"xatol": 1e-10})
    return max(0.0, value(float(inner.x)), value(top), value(min(top, 1.0)))


def balanced_flow(terms: MarginTerms, slopes: Array) -> Array | None:
    """Multipliers scaled so that the free output biases get the coefficient zero exactly, or None when that fails.

    ``slopes[j, b]`` flows from the class of sample j to its rival. Matrix balancing ``F_ab d_b / d_a`` makes the flow
    out of every class nearly equal to that into it. Then all numbers are rounded to one grid on which every sum is
    exact, and what is missing flows from classes with too little flow out to those with too much.

    Implements: convexnn, Proposition 3 of docs/theory/certified_margin.md, circulations without rounding.

    Parameters
    ----------
    terms : MarginTerms
    slopes : array, shape (n, classes - 1)
        Nonnegative.

    Returns
    -------
    array, shape (n, classes - 1), or None
        Nonnegative; sums of any of them, and of halves of them, are exact in float64 in any order.
    """
    k, F = terms.n_classes, _flows(terms, slopes)
    F, total = _without_dead_ends(F), float(F.sum())
    if not total > 0:
        return None
    d, used = np.ones(k), (F > 0).any(axis=1)
    for _ in range(BALANCE_ROUNDS):
        G = F * d / d[:, None]
        out, into = G.sum(axis=1), G.sum(axis=0)
        if np.abs(out - into).max() <= BALANCED * G.sum():  # what is left is added on the grid
            break
        step = np.sqrt(np.divide(out, into, out=np.ones(k), where=used & (into > 0)))
        a = int(np.argmax(np.abs(np.log(np.where(step > 0, step, 1.0)))))
        d[a] *= step[a]
    factors = np.where(F > 0, d / d[:, None], 0.0)[terms.labels[:, None], terms.rivals]
    scaled: Array = slopes * factors
    return _on_grid(terms, scaled) if np.isfinite(scaled).all() else None


def _on_grid(terms: MarginTerms, slopes: Array) -> Array | None:
    """Multiples of one power of two, at most 2**52 of them in all, whose flows are balanced exactly."""
    total = 1.01 * float(slopes.sum())
    if not SMALLEST < total < 1.0 / SMALLEST:
        return None
    quantum = math.ldexp(1.0, math.frexp(total)[1] - 52)
    counts = np.rint(slopes / quantum)
    weight, F = terms.rows.weight[:, None], _flows(terms, counts)
    missing = F.sum(axis=0) - F.sum(axis=1)  # integers: into the class minus out of it
    for _ in range(2 * len(F)):
        poor, rich = int(np.argmax(missing)), int(np.argmin(missing))
        amount = min(missing[poor], -missing[rich])
        if not amount > 0:
            break
        edges = (terms.labels[:, None] == poor) & (terms.rivals == rich)
        if not edges.any():
            return None
        counts.flat[int(np.argmin(np.where(edges, counts / weight, np.inf)))] += amount
        missing[poor] -= amount
        missing[rich] += amount
    return quantum * counts if not missing.any() and counts.sum() < 2.0**52 else None


def _flows(terms: MarginTerms, slopes: Array) -> Array:
    """What flows from class to class, shape (classes, classes)."""
    k = terms.n_classes
    F = np.zeros((k, k))
    np.add.at(F, (np.repeat(terms.labels, k - 1), terms.rivals.ravel()), slopes.ravel())
    return F


def _without_dead_ends(F: Array) -> Array:
    """Flows without those out of a class that nothing flows into, or into one that nothing leaves."""
    F = F.copy()
    for _ in range(len(F)):
        dead = (F.sum(axis=0) == 0) | (F.sum(axis=1) == 0)
        F[dead], F[:, dead] = 0.0, 0.0
    return F


def _stationarity(terms: MarginTerms, g: MarginGeometry, dual: Dual, slopes: Array) -> tuple[Array, Array]:
    """What is left for ``2 lam |w_i|`` to pay, shape (p, d + 1), and a bound on its roundoff.

    Rows of inputs are ``x = m + (x - m)``: what multiplies m is a sum of multipliers, exact up to one rounding since
    these lie on grids, so that the origin of the inputs costs no digits.
    """
    flow = np.einsum("nr,nrk->nk", slopes, terms.contrasts)  # exact, and so are its sums
    rows = _gridded(np.maximum(dual.rows, 0.0))
    T = g.D * (flow @ g.directions.T) + g.S * rows
    size = slopes.sum(axis=1)[:, None] * g.D * 2.0 + np.abs(g.S) * rows
    centre = np.append(0.5 * (g.X[:, :-1].max(axis=0) + g.X[:, :-1].min(axis=0)), 0.0)
    X = g.X - centre
    bias = _exact_totals(g.D.T @ flow, g.directions, (g.S * rows).sum(axis=0))
    Z = T.T @ X + bias[:, None] * centre
    Z[:, -1] = bias
    error = (len(g.X) + 2 * terms.n_classes + 12) * EPS * (size.T @ np.abs(X))
    error += 4.0 * EPS * (np.abs(bias[:, None] * centre) + np.abs(Z)) + (len(g.X) + 4) * TINY * (1.0 + np.abs(centre))
    if dual.matrix is not None and terms.radius > 0:
        mass = np.zeros(len(terms.members))
        np.add.at(mass, terms.pair_of.ravel(), slopes.ravel())  # exact
        mass = terms.radius * mass * (1.0 - 2.0 * EPS)
        for matrix, weight, difference in zip(dual.matrix, mass, terms.differences, strict=True):
            part = norm_functional(matrix, weight, g.X.shape[1] - 1, terms.norm)
            coefficients = g.directions @ difference
            Z[:, :-1] -= coefficients[:, None] * (part[0] + part[1:])
            error[:, :-1] += 8 * EPS * np.abs(coefficients)[:, None] * (np.abs(part[0]) + np.abs(part[1:]))
            error[:, :-1] += 4 * EPS * np.abs(Z[:, :-1]) + TINY
    return Z, error


def _gridded(rows: Array) -> Array:
    """Nonnegative numbers rounded to a grid, one a column, on which sums with signs are exact in any order."""
    unit = np.ldexp(1.0, np.maximum(np.frexp(1.01 * rows.sum(axis=0))[1] - 52, -1000))
    return np.asarray(np.rint(rows / unit) * unit)


def _exact_totals(flow: Array, directions: Array, rows: Array) -> Array:
    """``flow_i'direction_i + rows_i`` of every unit, shape (p,), rounded once; ``inf`` where numbers overflow."""
    if not (np.isfinite(flow).all() and np.isfinite(rows).all()):
        return np.full(len(rows), np.inf)
    totals = []
    for f, v, row in zip(flow.tolist(), directions.tolist(), rows.tolist(), strict=True):
        exact = sum((Fraction(a) * Fraction(b) for a, b in zip(f, v, strict=True) if a and b), Fraction(row))
        totals.append(float(exact))
    return np.array(totals)


def norm_functional(matrix: Array, weight: float, d: int, norm: float) -> Array:
    """Rows R with ``<R, B> <= weight L(B)`` for every B, read from a multiplier of the matrix inequality of L.

    With ``2 L = max sum_i |b_i|_Z`` over Z >= 0 of trace (norm 2) or largest diagonal entry (norm inf) one, the scale
    of R is recomputed from Z: any symmetric matrix gives valid rows. ``Z = V diag(s) V'`` for any regular V and
    positive s, so eigenvectors need not be right; how far V is from a rotation is bounded and paid for.

    Implements: convexnn, Proposition 3 of docs/theory/certified_margin.md, scales of multipliers.

    Parameters
    ----------
    matrix : array, shape (d + m + 1, d + m + 1)
    weight : float
        At least zero.
    d : int
    norm : {2, inf}

    Returns
    -------
    array, shape (m + 1, d)
        Up to four units of rounding of every entry.
    """
    Z, R = 0.5 * matrix[:d, :d] + 0.5 * matrix[:d, :d].T, -matrix[d:, :d]
    nothing = np.zeros_like(R)
    exponents = power_of_two(Z), power_of_two(R)
    Z, R = np.ldexp(Z, -exponents[0]), np.ldexp(R, -exponents[1])  # exact: neither scale matters
    if not (weight > 0 and R.any() and Z.any()):
        return nothing
    values, V = np.linalg.eigh(Z)
    values = np.maximum(values, 0.0)
    if not values.sum() > 0:
        return nothing
    best = min(_reach_up(R, V, values + share * values.sum() / d, norm) for share in SHARES)
    if not 0 < best < math.inf:
        return nothing
    # <R, B> <= 2 best L(B); a multiplier that is right needs no shrinking
    limit = weight / (2.0 * best) * (1.0 - 8.0 * EPS)
    enough = exponents[1] <= 1000 and limit >= math.ldexp(1.0, exponents[1])
    return np.asarray(np.ldexp(R, exponents[1]) if enough else R * limit)


def _reach_up(R: Array, V: Array, spectrum: Array, norm: float) -> float:
    """Upper bound on ``max_i |R_i|_{Z^-1} sqrt(s(Z))`` for ``Z = V diag(spectrum) V'``; ``inf`` where there is none.

    With ``V'V = I + E``, ``|R_i|_{Z^-1}`` is the length of ``(I + E)^-1 V'R_i`` over the roots of the spectrum, and
    the inverse differs from the identity by E and by at most ``|E|^2 / (1 - |E|)``.
    """
    d, A = len(V), np.abs(V)
    along, size = R @ V, np.abs(R) @ A
    E = np.abs(V.T @ V - np.eye(d)) + 2.0 * gamma(d + 8) * (A.T @ A + np.eye(d))
    far = norm_up(E)
    if not (far < 0.5 and (spectrum > 0).all() and np.isfinite(spectrum).all()):
        return math.inf
    length = row_norms_up(np.abs(along) + gamma(d + 8) * size)[:, None]
    first = np.abs(along) + 2.0 * gamma(d + 8) * size + (np.abs(along) + gamma(d + 8) * size) @ E
    terms = (first * (1.0 + gamma(d + 8)) + 2.0 * far * far * length) * (1.0 / np.sqrt(spectrum)) + TINY
    largest = float(row_norms_up(terms).max()) * (1.0 + 16.0 * EPS)
    sizes = sum_up((A * A) @ spectrum) if norm == 2 else float(((A * A) @ spectrum).max())
    return largest * sqrt_up(sizes * (1.0 + 2.0 * gamma(d + 8))) * (1.0 + 4.0 * EPS)


def _is_usable(terms: MarginTerms, g: MarginGeometry, dual: Dual) -> bool:
    size = sum(g.D.shape[1:]) + g.X.shape[1]
    arrays = [(dual.residual, terms.rivals.shape), (dual.rows, g.S.shape)]
    if dual.matrix is not None:
        arrays.append((dual.matrix, (len(terms.members), size, size)))
    return all(np.shape(array) == shape and np.isfinite(array).all() for array, shape in arrays)

"""Lower bounds on program M from any multipliers (docs/theory/certified_margin.md, Proposition 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from convexnn.inputs import multipliers_of
from convexnn.program import Dual
from convexnn.restrictions.certified_margin_terms import MarginTerms

Array = NDArray[np.float64]

#: Shares of the trace added to a multiplier matrix that may be singular; the best one counts.
SHARES = (1e-12, 1e-9, 1e-6)
BALANCE_ROUNDS, BALANCED = 2000, 1e-15
EPS = float(np.finfo(float).eps)


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
    weight = terms.share * terms.rows.weight[:, None]
    if slopes is None or not slopes.any():
        return 0.0
    excess, total = unbalanced(terms, slopes), float(weight.sum())
    with np.errstate(all="ignore"):
        Z, error = _stationarity(terms, geometry, dual, slopes, excess)
        largest = float((np.linalg.norm(Z, axis=1) + np.linalg.norm(error, axis=1)).max(initial=0.0))
        limit = 2.0 * terms.lam / largest if largest > 0 else math.inf
        limit = min(limit, terms.loss.steepest / float((slopes / weight).max()) * (1.0 - 1e-15))
    if not limit > 0:  # nan as well
        return 0.0
    ones = np.ones_like(slopes)

    def value(theta: float) -> float:
        share = theta * excess / total
        if not share < 0.5:
            return -math.inf
        with np.errstate(over="ignore", invalid="ignore"):  # a bound beyond float64 is no bound
            conjugate = weight * terms.loss.conjugate(-theta * slopes / weight, ones)
            lost = -2.0 * total * float(terms.loss.conjugate(np.array([-share]), np.ones(1))[0])
            bound = -float(conjugate.sum()) - lost - (conjugate.size + 8) * EPS * float(np.abs(conjugate).sum())
        return bound if math.isfinite(bound) else -math.inf

    top = min(limit, 4.0)
    inner = minimize_scalar(lambda theta: -value(theta), bounds=(0.0, top), method="bounded", options={"xatol": 1e-10})
    return max(0.0, value(float(inner.x)), value(top), value(min(top, 1.0)))


def balanced_flow(terms: MarginTerms, slopes: Array) -> Array | None:
    """Multipliers scaled so that the free output biases get the coefficient zero nearly, or None when that fails.

    ``slopes[j, b]`` flows from the class of sample j to its rival. Matrix balancing ``F_ab d_b / d_a`` makes the flow
    out of every class equal to that into it.

    Parameters
    ----------
    terms : MarginTerms
    slopes : array, shape (n, classes - 1)
        Nonnegative.
    """
    k, F = terms.n_classes, _flows(terms, slopes)
    F, total = _without_dead_ends(F), float(F.sum())
    if not total > 0:
        return None
    d, used = np.ones(k), (F > 0).any(axis=1)
    for _ in range(BALANCE_ROUNDS):
        G = F * d / d[:, None]
        out, into = G.sum(axis=1), G.sum(axis=0)
        if np.abs(out - into).max() <= BALANCED * G.sum():  # what is left is paid for by the bound
            break
        step = np.sqrt(np.divide(out, into, out=np.ones(k), where=used & (into > 0)))
        a = int(np.argmax(np.abs(np.log(np.where(step > 0, step, 1.0)))))
        d[a] *= step[a]
    factors = np.where(F > 0, d / d[:, None], 0.0)[terms.labels[:, None], terms.rivals]
    scaled: Array = slopes * factors
    return scaled if np.isfinite(scaled).all() else None


def unbalanced(terms: MarginTerms, slopes: Array) -> float:
    """Upper bound on the sum by which multipliers have to be lowered until their flows are balanced exactly.

    A flow is cycles and paths from classes with more flow out than in to those with less; without the paths it is
    balanced. They carry half the sum of all differences and have at most ``classes - 1`` edges.

    Implements: convexnn, Proposition 3 of docs/theory/certified_margin.md, rounding.

    Parameters
    ----------
    terms : MarginTerms
    slopes : array, shape (n, classes - 1)
        Nonnegative.
    """
    k, F = terms.n_classes, _flows(terms, slopes)
    difference = float(np.abs(F.sum(axis=1) - F.sum(axis=0)).sum()) + (slopes.size + 2 * k + 8) * EPS * float(F.sum())
    return 0.5 * k * difference


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


def _stationarity(
    terms: MarginTerms, g: MarginGeometry, dual: Dual, slopes: Array, excess: float
) -> tuple[Array, Array]:
    """What is left for ``2 lam |w_i|`` to pay, shape (p, d + 1), and a bound on its roundoff.

    It is that of multipliers lowered by ``excess`` in sum; a contrast and a direction have a product of at most two.
    """
    pull = np.einsum("nr,nrk->nk", slopes, terms.contrasts) @ g.directions.T
    rows = np.maximum(dual.rows, 0.0)
    Z = (g.D * pull + g.S * rows).T @ g.X
    size = slopes.sum(axis=1)[:, None] * g.D * 2.0 + np.abs(g.S) * rows
    error = (len(g.X) + 2 * terms.n_classes + 8) * EPS * (size.T @ np.abs(g.X))
    error += 2.0 * excess * np.abs(g.X).max(axis=0)
    if dual.matrix is not None and terms.radius > 0:
        mass = np.zeros(len(terms.members))
        np.add.at(mass, terms.pair_of.ravel(), terms.radius * slopes.ravel())
        mass = np.maximum(mass - terms.radius * excess, 0.0)
        for matrix, weight, difference in zip(dual.matrix, mass, terms.differences, strict=True):
            part = norm_functional(matrix, weight, g.X.shape[1] - 1, terms.norm)
            coefficients = g.directions @ difference
            Z[:, :-1] -= coefficients[:, None] * (part[0] + part[1:])
            error[:, :-1] += 8 * EPS * np.abs(coefficients)[:, None] * np.abs(part[0] + part[1:])
    return Z, error


def norm_functional(matrix: Array, weight: float, d: int, norm: float) -> Array:
    """Rows R with ``<R, B> <= weight L(B)`` for every B, read from a multiplier of the matrix inequality of L.

    With ``2 L = max sum_i |b_i|_Z`` over Z >= 0 of trace (norm 2) or largest diagonal entry (norm inf) one, the scale
    of R is recomputed from Z: any symmetric matrix gives valid rows.

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
    """
    Z, R = 0.5 * matrix[:d, :d] + 0.5 * matrix[:d, :d].T, -matrix[d:, :d]
    values, vectors = np.linalg.eigh(Z)
    values = np.maximum(values, 0.0)
    if not (weight > 0 and R.any() and values.sum() > 0):
        return np.zeros_like(R)
    along = R @ vectors
    best = math.inf
    for share in SHARES:
        spectrum = values + share * values.sum() / d
        sizes = spectrum.sum() if norm == 2 else ((vectors**2) @ spectrum).max()
        reach = float(np.sqrt((along**2 / spectrum).sum(axis=1).max() * sizes))
        best = min(best, reach if math.isfinite(reach) else math.inf)
    if not 0 < best < math.inf:
        return np.zeros_like(R)
    # <R, B> <= 2 best L(B); a multiplier that is right needs no shrinking
    scaled: Array = R * min(1.0, weight * (1.0 - 1e-12) / (2.0 * best))
    return scaled


def _is_usable(terms: MarginTerms, g: MarginGeometry, dual: Dual) -> bool:
    size = sum(g.D.shape[1:]) + g.X.shape[1]
    arrays = [(dual.residual, terms.rivals.shape), (dual.rows, g.S.shape)]
    if dual.matrix is not None:
        arrays.append((dual.matrix, (len(terms.members), size, size)))
    return all(np.shape(array) == shape and np.isfinite(array).all() for array, shape in arrays)

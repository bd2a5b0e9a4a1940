"""Multipliers of the robust ReLU programs, and the lower bound that any of them proves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.inputs import multipliers_of
from convexnn.monotone import concave_maximum
from convexnn.restrictions.robust_relu_terms import RobustTerms, dual_norms
from convexnn.rigorous import gamma
from convexnn.values import ByValue

Array = NDArray[np.float64]

#: Cycles that are taken out of the flows between outputs; what is left proves nothing.
MAX_CYCLES = 2000
#: Sums below this have lost digits to underflow.
SMALLEST = 1e-280


@dataclass(frozen=True, eq=False)
class RobustDual(ByValue):
    """Multipliers of a robust ReLU program; any numbers of these shapes give a valid lower bound.

    Parameters
    ----------
    slopes : array, shape (N,)
        Minus the slope of the loss in each margin, nonnegative at an optimum.
    attacks : array, shape (N, d)
        Perturbation of the row in each margin; scaled down to the radius where it is too long.
    shares : array, shape (n, p)
        In [0, 1]: weight of ``z + (1 - T) rho`` against ``T rho`` in the upper bound of unit i on row k.
    rows : array, shape (n, p), or None
        Nonnegative multipliers of the stability constraints; None where there are none.
    """

    slopes: Array
    attacks: Array
    shares: Array
    rows: Array | None = None


def natural_dual(terms: RobustTerms, U: Array, margins: Array) -> RobustDual:
    """Multipliers that belong to a point: slopes of the loss, worst attacks of the linear parts, active upper bounds.

    Parameters
    ----------
    terms : RobustTerms
    U : array, shape (p, d + 1)
    margins : array, shape (N,)
    """
    weights = U[:, :-1]
    attacks = np.empty((terms.n_margins, terms.n_inputs))
    for part in terms.parts():
        G = (terms.coefficients(part) * terms.slopes[terms.rows[part]]) @ weights
        length = np.linalg.norm(G, axis=1, keepdims=True)
        unit = np.divide(G, length, out=np.zeros_like(G), where=length > 0) if terms.norm == 2 else np.sign(G)
        attacks[part] = -terms.radius * unit
    rho = terms.radius * dual_norms(weights, terms.norm)
    shares = (terms.X @ U.T + (1 - terms.slopes) * rho > terms.slopes * rho).astype(float)
    slopes = np.maximum(-terms.loss.gradient(margins, np.ones(len(margins))), 0.0)
    return RobustDual(slopes, attacks, shares)


def lower_bound(terms: RobustTerms, dual: RobustDual) -> float:
    r"""Lower bound on the optimum of a robust ReLU program, valid for every ``dual``.

    With ``a_t = weight_t slopes_t`` balanced over the outputs (their biases are free), attacks ``e_t`` in the ball and
    shares ``h`` in [0, 1], every U, c and every theta in [0, 1] have::

        F >= -sum_t weight_t l*(-theta slopes_t) + sum_i ( theta <L_i, p_i> + theta k_i r |w_i|_q + 2 lam |p_i| )
        L_i = -sum_t a_t B_ti T_ki (x_k + e_t) [B > 0] + sum_t a_t |B_ti| (h_ki x_k + T_ki e_t) [B < 0] - G'rows
        k_i =  sum_t a_t |B_ti| (h_ki (1 - T_ki) + (1 - h_ki) T_ki) [B < 0] + sum_k rows_ki

    The last sum is nonnegative when the distance of ``theta L_i`` to the ball of radius ``theta k_i r`` (in the norm of
    the attack, bias zero) is at most 2 lam, for all i; the best such theta is inserted. Roundoff of L is added to the
    distance; what is left is relative 1e-14.

    Implements: convexnn, Proposition 4 of docs/theory/robust_relu.md.

    Parameters
    ----------
    terms : RobustTerms
    dual : RobustDual

    Returns
    -------
    float
        Nonnegative; ``-inf`` when the dual holds NaN or infinite values or has wrong shapes.
    """
    given = multipliers_of(dual)
    if given is None or not _is_usable(terms, given):
        return -math.inf
    dual = given
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        slopes = balanced_slopes(terms, np.clip(dual.slopes, 0.0, terms.loss.steepest))
        if not (np.isfinite(slopes).all() and slopes.max(initial=0.0) > SMALLEST):
            return 0.0
        distance = float(np.max(stationarity(terms, dual, terms.weight * slopes), initial=0.0))
        if not math.isfinite(distance):
            return 0.0
        limit = terms.loss.steepest / float(slopes.max())
        limit = min(limit, 2 * terms.lam / distance * (1 - 4e-16)) if distance > 0 else limit

        def value(theta: float) -> float:
            scaled = np.minimum(theta * slopes, terms.loss.steepest)
            return -float(terms.weight @ terms.loss.conjugate(-scaled, np.ones(len(slopes))))

        return max(0.0, concave_maximum(value, limit)) if limit > 0 else 0.0


def stationarity(terms: RobustTerms, dual: RobustDual, a: Array) -> Array:
    """Distance of every ``L_i`` to the ball of radius ``k_i r``, with its roundoff added, shape (p,)."""
    attacks, shares = into_ball(dual.attacks, terms.radius, terms.norm), np.clip(dual.shares, 0.0, 1.0)
    L = np.zeros((terms.n_units, terms.X.shape[1]))
    kappa, size = np.zeros(terms.n_units), np.zeros(terms.n_units)
    lengths, reach = np.linalg.norm(terms.X, axis=1), np.linalg.norm(attacks, axis=1)
    for part in terms.parts():
        rows = terms.rows[part]
        A, T, h = a[part, None] * terms.coefficients(part), terms.slopes[rows], shares[rows]
        raised, lowered = np.maximum(A, 0.0), np.maximum(-A, 0.0)
        L += (lowered * h - raised * T).T @ terms.X[rows]
        L[:, :-1] -= (A * T).T @ attacks[part]
        kappa += (lowered * (h * (1 - T) + (1 - h) * T)).sum(axis=0)
        size += (lengths[rows] + reach[part]) @ np.abs(A)
    if dual.rows is not None:
        multipliers = np.maximum(dual.rows, 0.0)
        L -= (multipliers * np.where(terms.slopes >= 0.5, 1.0, -1.0)).T @ terms.X
        kappa += multipliers.sum(axis=0)
        size += lengths @ multipliers
    count = terms.n_margins + len(terms.X) + terms.X.shape[1] + 16
    error = 2 * gamma(count) * (size + kappa * terms.radius) + count * np.finfo(float).tiny
    return distances(L, terms.radius * kappa, terms.norm) * (1 + 1e-14) + error


def distances(L: Array, reach: Array, norm: float) -> Array:
    """Euclidean distance of every row of L to the ball ``{e: |e[:-1]| <= reach, e[-1] = 0}`` in the attack's norm."""
    if norm == 2:
        rest = np.maximum(np.linalg.norm(L[:, :-1], axis=1) - reach, 0.0)
    else:
        rest = np.linalg.norm(np.maximum(np.abs(L[:, :-1]) - reach[:, None], 0.0), axis=1)
    return np.hypot(rest, L[:, -1])


def into_ball(attacks: Array, radius: float, norm: float) -> Array:
    """Attacks brought into the ball: scaled for l2, clipped for linf, shape (N, d)."""
    if norm != 2:
        return np.clip(attacks, -radius, radius)
    largest = np.abs(attacks).max(axis=1, keepdims=True, initial=0.0)  # first, so that no square overflows
    unit = np.divide(attacks, largest, out=np.zeros_like(attacks), where=largest > 0)
    length = np.linalg.norm(unit, axis=1, keepdims=True) * (1 + 1e-14)
    allowed = np.divide(radius, length, out=np.zeros_like(length), where=length > 0)
    scaled: Array = unit * np.minimum(largest, allowed)
    return scaled


def balanced_slopes(terms: RobustTerms, slopes: Array) -> Array:
    """Slopes scaled down until the weighted flow into every output is the flow out of it, shape (N,).

    ``sum_t weight_t slopes_t (e_plus - e_minus) = 0``, what free output biases ask. Of the flow between outputs the
    part that runs in cycles is kept; that is all of it when the slopes are balanced already.

    Implements: convexnn, Lemma 3 of docs/theory/robust_relu.md.
    """
    k = terms.n_outputs + 1
    edge = (terms.plus % k) * k + terms.minus % k  # -1 is the last node
    flow = np.bincount(edge, terms.weight * slopes, minlength=k * k).astype(float)
    kept = circulation(flow.reshape(k, k)).ravel()
    share = np.divide(kept, flow, out=np.zeros_like(flow), where=flow > 0)
    return slopes * np.minimum(share, 1.0)[edge]


def circulation(flow: Array) -> Array:
    """Part of a nonnegative flow between nodes that runs in cycles, shape (k, k), entrywise at most ``flow``."""
    mutual = np.minimum(flow, flow.T)
    kept, left = mutual.copy(), flow - mutual
    for _ in range(MAX_CYCLES):
        cycle = _find_cycle(left)
        if cycle is None:
            break
        amount = float(left[cycle].min())
        kept[cycle] += amount
        left[cycle] -= amount
        left[cycle] = np.where(left[cycle] <= 1e-16 * kept[cycle], 0.0, left[cycle])
    return kept


def _find_cycle(flow: Array) -> tuple[list[int], list[int]] | None:
    """Edges of one cycle of positive flow as (tails, heads), or None."""
    alive: NDArray[np.bool_] = flow > 0
    while True:  # nodes without a way in or out lie on no cycle
        passing = np.asarray(alive.any(axis=0) & alive.any(axis=1))
        trimmed = alive & passing[:, None] & passing
        if (trimmed == alive).all():
            break
        alive = trimmed
    if not alive.any():
        return None
    path = [int(np.flatnonzero(alive.any(axis=1))[0])]
    while True:
        following = int(np.argmax(np.where(alive[path[-1]], flow[path[-1]], -1.0)))
        if following in path:
            nodes = [*path[path.index(following) :], following]
            return nodes[:-1], nodes[1:]
        path.append(following)


def _is_usable(terms: RobustTerms, dual: RobustDual) -> bool:
    n, p = terms.slopes.shape
    arrays = [
        (dual.slopes, (terms.n_margins,)),
        (dual.attacks, (terms.n_margins, terms.n_inputs)),
        (dual.shares, (n, p)),
    ]
    if dual.rows is not None:
        arrays.append((dual.rows, (n, p)))
    return all(np.shape(array) == shape and np.isfinite(array).all() for array, shape in arrays)

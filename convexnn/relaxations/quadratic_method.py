"""A dual interior point method for the rows of a quadratic question: every iterate is dual feasible, hence a bound.

    minimize  b'y   subject to   Z(y) = sum_k y_k A_k - O >= 0,   y_k >= 0 for inequalities,

by primal-dual steps in the direction of Helmberg, Rendl, Vanderbei & Wolkowicz with a predictor and a corrector.
Nothing here is believed; :func:`convexnn.relaxations.quadratic_outputs.check_quadratic` recomputes the bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, eigh, solve_triangular

from convexnn.propagation.query import Effort
from convexnn.relaxations.quadratic_rows import Rows

Array = NDArray[np.float64]

#: Iterations, share of the way to the boundary, residual of the primal at which the gap counts.
MAX_ITER, STEP, FEASIBLE = 60, 0.95, 1e-5
#: Size of the multipliers of inequalities at the start, relative to the objective; room left in every block.
FLOOR, ROOM = 0.2, 2.0
#: Random states behind the primal start, and how much of their correlations is kept.
STATES, KEPT = 3, 0.9


@dataclass(frozen=True)
class Outcome:
    """Multipliers, why the method stopped, iterations, and the first row of the primal moments (n,)."""

    y: Array
    status: str
    iterations: int
    moment: Array


@dataclass
class _Point:
    """Primal matrix X and slacks s, dual y with its matrix Z."""

    X: Array
    s: Array
    y: Array
    Z: Array


def solve_rows(rows: Rows, effort: Effort) -> Outcome:
    """Multipliers of the relaxation, close to optimal; the constant row is lowered as far as it goes.

    Parameters
    ----------
    rows : Rows
    effort : Effort
        ``stop_below`` ends the search as soon as ``b'y`` is below it.
    """
    unit = float(np.abs(rows.objective).max(initial=0.0)) or 1.0
    found = _solved(replace(rows, objective=rows.objective / unit), effort, unit)
    return replace(found, y=unit * found.y)


def _solved(rows: Rows, effort: Effort, unit: float) -> Outcome:
    """The same for an objective with entries up to one; ``unit`` is what it was divided by."""
    y = dual_start(rows)
    best, status, it = y, "max_iter", 0
    point = _Point(*_primal_start(rows, effort.seed), y, rows.combine(y) - rows.objective)
    limit = MAX_ITER if effort.max_iter is None else effort.max_iter
    moment = point.X[0]
    target = None if effort.stop_below is None else effort.stop_below / unit
    for it in range(limit + 1):
        lowered = _lowered(point)
        best = min((best, lowered), key=lambda v: float(rows.level @ v))
        residual = rows.level - rows.apply(point.X) - point.s
        gap = _gap(rows, point)
        if target is not None and rows.level @ best < target:
            status = "below"
            break
        if gap < effort.tol * max(1e-3, abs(float(rows.level @ best))) and np.abs(residual).max() < FEASIBLE:
            status = "optimal"
            break
        if effort.out_of_time():
            status = "time_limit"
            break
        if it == limit:
            break
        try:
            moved = _step(rows, point)
        except (LinAlgError, np.linalg.LinAlgError):
            status = "failed: the linear system of a step could not be solved"
            break
        if moved is None:
            status = "failed: no step was left"
            break
        point = moved
        moment = point.X[0]
    return Outcome(best, status, it, moment)


def dual_start(rows: Rows) -> Array:
    """Strictly feasible multipliers: layer by layer from the last, each large enough for what is left on it."""
    at = dict(rows.names)
    y = np.zeros(len(rows.level))
    scale = float(np.abs(rows.objective).max(initial=0.0)) or 1.0
    y[~rows.free] = FLOOR * scale
    y[at["inputs"]] = y[at["ball"]] = 0.0
    rest = rows.combine(y) - rows.objective
    for block in reversed(rows.blocks[:-1]):
        here = np.arange(block.start, block.stop)
        if not len(here):
            continue
        zero = np.arange(at["zero"].start, at["zero"].stop)[here - 1]
        size = ROOM * max(float(eigh(-rest[np.ix_(here, here)], eigvals_only=True)[-1]), 0.0) + scale
        y[zero] = size
        unit = np.zeros_like(y)
        unit[zero] = size
        rest = rest + rows.combine(unit)
        rest = _eliminated(rest, here)
    return _inputs_start(rows, y, rest, at, scale)


def _eliminated(M: Array, here: NDArray[np.intp]) -> Array:
    """Schur complement on the other coordinates; those of ``here`` become a unit block."""
    other = np.setdiff1d(np.arange(len(M)), here)
    factor = cho_factor(M[np.ix_(here, here)])
    cross = M[np.ix_(here, other)]
    found = np.zeros_like(M)
    found[np.ix_(other, other)] = M[np.ix_(other, other)] - cross.T @ cho_solve(factor, cross)
    found[here, here] = 1.0
    return found


def _inputs_start(rows: Rows, y: Array, rest: Array, at: dict[str, slice], scale: float) -> Array:
    """Multipliers of the inputs and of the constant."""
    inputs = np.arange(rows.blocks[-1].start, rows.blocks[-1].stop)
    if len(inputs):
        block = rest[np.ix_(inputs, inputs)]
        level = ROOM * max(float(eigh(-block, eigvals_only=True)[-1]), 0.0) + FLOOR * scale
        y[at["inputs"]] = level
        if rows.is_ball:
            y[at["ball"]] = level
        else:
            y[at["ball"]] = 1e-2 * level
        unit = np.zeros_like(y)
        unit[at["inputs"]], unit[at["ball"]] = y[at["inputs"]], y[at["ball"]]
        rest = rest + rows.combine(unit)
        height = float(rest[0, inputs] @ cho_solve(cho_factor(rest[np.ix_(inputs, inputs)]), rest[inputs, 0]))
    else:
        height = 0.0
    top = height - float(rest[0, 0])
    y[0] = top + max(0.2 * abs(top), 0.1 * scale)
    return y


def _primal_start(rows: Rows, seed: int) -> tuple[Array, Array]:
    """Second moment of true states at random inputs, shrunk toward its diagonal, and slacks."""
    rng, d = np.random.default_rng(seed), rows.chart.d
    xi = rng.standard_normal((STATES * rows.n + 20, d))
    xi = xi / np.maximum(np.linalg.norm(xi, axis=1, keepdims=True), 1e-300) if rows.is_ball else np.sign(xi)
    a = rows.states(xi)
    X = a.T @ a / len(a)
    diagonal = np.diagonal(X).copy()
    X *= KEPT
    X[np.diag_indices_from(X)] = diagonal + np.where(np.arange(rows.n) > 0, 0.1 * diagonal + 1e-3, 0.0)
    s = np.where(rows.free, 0.0, np.maximum(rows.level - rows.apply(X), 0.05))
    return X, s


def _lowered(point: _Point) -> Array:
    """The multipliers with the constant as low as the rest of Z allows."""
    y = point.y.copy()
    factor = cho_factor(point.Z[1:, 1:])
    spare = float(point.Z[0, 0] - point.Z[0, 1:] @ cho_solve(factor, point.Z[1:, 0]))
    y[0] -= (1.0 - 1e-9) * spare
    return y


def _gap(rows: Rows, point: _Point) -> float:
    return float(np.vdot(point.X, point.Z) + point.s[~rows.free] @ point.y[~rows.free])


def _step(rows: Rows, point: _Point) -> _Point | None:
    """One predictor and corrector; None where nothing moves any more."""
    bound = ~rows.free
    X, s, y, Z = point.X, point.s, point.y, point.Z
    count = rows.n + int(bound.sum())
    mu = _gap(rows, point) / count
    G = cho_solve(cho_factor(Z), np.eye(rows.n))
    G = 0.5 * (G + G.T)
    safe = np.where(bound, y, 1.0)
    H = schur_matrix(rows, X, G)
    H[np.diag_indices_from(H)] += np.where(bound, s / safe, 0.0)
    size = 1.0 / np.sqrt(np.diagonal(H))
    scaled = H * size[:, None] * size
    scaled[np.diag_indices_from(scaled)] += 1e-13
    factor = cho_factor(scaled)
    inverse = rows.apply(G)

    def direction(target: float, cross: Array | None, pair: Array | float) -> tuple[Array, Array, Array, Array]:
        right = target * inverse - rows.level + np.where(bound, (target - pair) / safe, 0.0)
        if cross is not None:
            right = right - rows.apply(cross)
        dy = size * cho_solve(factor, size * right)
        dZ = rows.combine(dy)
        T = X @ dZ @ G
        dX = target * G - X - 0.5 * (T + T.T) - (0.0 if cross is None else cross)
        ds = np.where(bound, (target - s * dy - pair) / safe - s, 0.0)
        return dX, ds, dy, dZ

    dX, ds, dy, dZ = direction(0.0, None, 0.0)
    primal, dual = _lengths(X, dX, s, ds, bound, 1.0), _lengths(Z, dZ, y, dy, bound, 1.0)
    ahead = float(np.vdot(X + primal * dX, Z + dual * dZ) + (s + primal * ds)[bound] @ (y + dual * dy)[bound]) / count
    centre = float(np.clip((max(ahead, 0.0) / mu) ** 2, 1e-6, 1.0))
    T = dX @ dZ @ G
    dX, ds, dy, dZ = direction(centre * mu, 0.5 * (T + T.T), np.where(bound, ds * dy, 0.0))
    primal, dual = _lengths(X, dX, s, ds, bound, STEP), _lengths(Z, dZ, y, dy, bound, STEP)
    if max(primal, dual) < 1e-7:
        return None
    new = y + dual * dy
    moved = X + primal * dX
    return _Point(0.5 * (moved + moved.T), s + primal * ds, new, rows.combine(new) - rows.objective)


def _lengths(M: Array, D: Array, v: Array, dv: Array, bound: NDArray[np.bool_], share: float) -> float:
    """Largest step up to one that keeps the matrix positive definite and the bound numbers positive, times share."""
    L = cholesky(M, lower=True)
    T = solve_triangular(L, solve_triangular(L, D, lower=True).T, lower=True)
    least = float(eigh(0.5 * (T + T.T), eigvals_only=True, subset_by_index=[0, 0])[0])
    step = np.inf if least >= 0 else -1.0 / least
    falling = bound & (dv < 0)
    if falling.any():
        step = min(step, float(np.min(-v[falling] / dv[falling])))
    return min(1.0, share * step)


def schur_matrix(rows: Rows, X: Array, G: Array) -> Array:
    """``H_kl = <A_k, X A_l G>``, shape (K + U + B,) squared."""
    P, Q, u = rows.P, rows.Q, rows.units
    XP, XQ, GP, GQ = P @ X, Q @ X, P @ G, Q @ G
    XPQ, GPQ = XP @ Q.T, GP @ Q.T
    two = 0.25 * (XPQ.T * GPQ + XPQ * GPQ.T + (XQ @ Q.T) * (GP @ P.T) + (XP @ P.T) * (GQ @ Q.T))
    mixed = 0.5 * (XP[:, u] * GQ[:, u] + XQ[:, u] * GP[:, u])
    one = X[np.ix_(u, u)] * G[np.ix_(u, u)]
    K, U, B = len(P), len(u), len(rows.curvature)
    H = np.zeros((K + U + B,) * 2)
    H[:K, :K], H[:K, K : K + U], H[K : K + U, :K], H[K : K + U, K : K + U] = two, mixed, mixed.T, one
    for b in range(B):
        unit = np.zeros(K + U + B)
        unit[K + U + b] = 1.0
        T = X @ rows.combine(unit) @ G
        column = rows.apply(0.5 * (T + T.T))
        H[:, K + U + b] = H[K + U + b] = column
    return H

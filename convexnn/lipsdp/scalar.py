"""LipSDP of a scalar shallow network: maximize over factors, certify by one d x d eigenvalue.

With the rows b_0, ..., b_m of `convexnn.lipsdp.stack`, LipSDP has the value (docs/theory/lipsdp.md)

    1/2 max_{||S||_F = 1} sum_i ||S'b_i||  =  min_{q in simplex} 1/2 lmax(sum_i b_i b_i' / q_i)^(1/2).

Every S gives a lower bound on this value, every q an upper bound on it and so on the Lipschitz constant (l2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import real_or_nan
from convexnn.lipsdp.ascent import Point, ascend, evaluate
from convexnn.lipsdp.ascent import start as initial_factor
from convexnn.rigorous import (
    UNIT,
    gram_max_eigenvalue,
    ldexp_up,
    norm_up,
    power_of_two,
    product_up,
    row_norms_up,
    sqrt_up,
    sum_up,
)

Array = NDArray[np.float64]
FLOOR = 1e-12  # share of the multiplier given to every row whatever S says; costs the bound half of it, relatively


@dataclass(frozen=True)
class LipSDPResult:
    """Value of LipSDP between two numbers, with the evidence for both.

    Attributes
    ----------
    lower : float
        Value at ``factor``: a lower bound on LipSDP (float64), NOT on the Lipschitz constant.
    upper : float
        ``upper_bound(B, multiplier)``: rigorous upper bound on LipSDP of the rows B, hence on the Lipschitz constant
        (l2).
    multiplier : array, shape (m + 1,)
        q, nonnegative with sum one up to rounding.
    factor : array, shape (d, r)
        S with unit Frobenius norm.
    iterations : int
        Newton steps.
    """

    lower: float
    upper: float
    multiplier: Array
    factor: Array
    iterations: int


def upper_bound(B: ArrayLike, q: ArrayLike, error: ArrayLike | None = None) -> float:
    """Rigorous upper bound on LipSDP of the rows B from any multiplier q, by one d x d eigenvalue.

        L <= 1/2 (sum q)^(1/2) || diag(q)^(-1/2) B ||_2        for every q >= 0.

    Implements: convexnn, Proposition 2 of docs/theory/lipsdp.md; from Fazlyab et al. (2019), one hidden layer.

    Parameters
    ----------
    B : array_like, shape (m + 1, d)
        Rows of `convexnn.lipsdp.stack`.
    q : array_like, shape (m + 1,)
        Multiplier; need not be optimal nor sum to one.
    error : array_like, shape (m + 1,), optional
        The bound then covers every B whose row i differs by at most ``error[i]`` (l2). Default: zero.

    Returns
    -------
    bound : float
        Upper bound (l2), rounded up; ``inf`` when q is negative, nan, of another shape, or zero for a row that is not
        zero.
    """
    rows, weights = np.asarray(B, dtype=np.float64), real_or_nan(q)
    spread = np.zeros(rows.shape[0]) if error is None else np.asarray(error, dtype=np.float64)
    if weights.shape != rows.shape[:1] or spread.shape != weights.shape:
        return math.inf
    if not (
        np.isfinite(rows).all() and np.isfinite(weights).all() and (spread >= 0.0).all() and (weights >= 0.0).all()
    ):
        return math.inf
    used = np.any(rows != 0.0, axis=1) | (spread > 0.0)
    if not used.any():
        return 0.0
    exponent = power_of_two(rows)
    rows, spread, weights = np.ldexp(rows[used], -exponent), np.ldexp(spread[used], -exponent), weights[used]
    weights = np.ldexp(weights, -power_of_two(weights))  # any q is a multiplier, also a rounded one
    if not (weights > 0.0).all():
        return math.inf
    root = np.sqrt(weights)
    with np.errstate(over="ignore"):
        E = rows / root[:, None]
        drift = 2.0 * norm_up(spread / root) if spread.any() else 0.0
    rounding = 4.0 * UNIT * norm_up(E)  # an entry of E is at least a half: what underflows is far below
    square = product_up(sum_up(weights), gram_max_eigenvalue(E, rounding + drift))
    return ldexp_up(sqrt_up(square), exponent - 1)


def multiplier_from_factor(B: ArrayLike, S: ArrayLike, error: ArrayLike | None = None) -> Array:
    """Multiplier ``q_i ~ ||S'b_i||`` that a factor proposes; optimal when S is.

    Parameters
    ----------
    B : array_like, shape (m + 1, d)
        Rows.
    S : array_like, shape (d, r)
        Any factor.
    error : array_like, shape (m + 1,), optional
        Row errors that `upper_bound` will be asked to cover; rows with an error get a share that keeps their cost
        small.

    Returns
    -------
    q : array, shape (m + 1,)
        On the simplex, positive for every nonzero row; all nan when S is not finite or of another shape.
    """
    rows, factor = np.asarray(B, dtype=np.float64), real_or_nan(S)
    if factor.ndim != 2 or factor.shape[0] != rows.shape[1] or not np.isfinite(factor).all():
        return np.full(rows.shape[0], np.nan)
    alive = np.any(rows != 0.0, axis=1)
    rows, factor = np.ldexp(rows, -power_of_two(rows)), np.ldexp(factor, -power_of_two(factor))
    sizes = row_norms_up(rows)
    if not sizes.any():
        return np.eye(1, rows.shape[0])[0]
    y = row_norms_up(rows @ factor)
    y = y / y.sum() if y.any() else np.zeros_like(y)
    y = y + FLOOR * sizes / sizes.sum()
    if error is not None and np.any(error):
        share = np.asarray(error, dtype=np.float64) / (np.sum(error) + np.linalg.norm(rows))
        y = np.maximum(y, share ** (2.0 / 3.0))  # balances the cost of the share and of the error
    return np.where(alive, np.maximum(y, 2.0**-1000), y) / y.sum()


def maximize(B: ArrayLike, tol: float = 1e-8, start: ArrayLike | None = None, max_iter: int = 200) -> LipSDPResult:
    """LipSDP of the rows B to a certified relative gap ``tol``.

    The factor starts with few columns; while the certificate stays above the value, the eigenvectors that violate it
    are appended and the ascent goes on.

    Implements: convexnn, Propositions 1 and 2 of docs/theory/lipsdp.md.

    Parameters
    ----------
    B : array_like, shape (m + 1, d)
        Rows of `convexnn.lipsdp.stack`.
    tol : float, default 1e-8
        Relative gap ``upper / lower - 1`` to reach; where rounding forbids it the best certified pair is returned.
    start : array_like, shape (d, r), optional
        Factor of a nearby problem (warm start).
    max_iter : int, default 200
        Most Newton steps in all.

    Returns
    -------
    result : LipSDPResult
        ``upper`` is what may be claimed; it is recomputed from ``multiplier`` and B alone.
    """
    rows = _rows(B)
    exponent = power_of_two(rows)
    scaled = np.ldexp(rows, -exponent)
    kept = scaled[np.any(scaled != 0.0, axis=1)]
    if not kept.size:
        return LipSDPResult(0.0, 0.0, np.eye(1, rows.shape[0])[0], np.eye(rows.shape[1], 1), 0)
    basis, reduced = _row_space(kept)
    warm = None if start is None else basis.T @ _warm_start(start, rows.shape[1])
    point, iterations = _climb(reduced, tol, warm, max_iter)
    S = basis @ (point.S / np.linalg.norm(point.S))
    q = multiplier_from_factor(rows, S)
    upper = upper_bound(rows, q)
    value = float(np.ldexp(0.5 * point.y.sum() / np.linalg.norm(point.S), exponent))
    return LipSDPResult(min(value, upper), upper, q, S, iterations)


def _climb(B: Array, tol: float, warm: Array | None, max_iter: int) -> tuple[Point, int]:
    """Ascent with rank escape until B'diag(1/y)B has no eigenvalue above one: that is the certificate, unrounded."""
    rank = min(*B.shape, 2 + round(B.shape[0] ** (1.0 / 3.0)))
    S = initial_factor(B, rank) if warm is None or not np.any(warm) or not np.isfinite(warm).all() else warm
    target = 1e-3 if B.size > 50_000 else max(tol, 1e-13)
    point, total = evaluate(B, S), 0
    for _ in range(40):
        point, iterations = ascend(B, S, target, max_iter - total)
        total += iterations
        C = B / np.sqrt(np.maximum(point.y, 1e-12 * point.y.sum() / B.shape[0]))[:, None]
        values, vectors = np.linalg.eigh(C.T @ C)
        square = float(values[-1] * np.vdot(point.S, point.S) / point.y.sum())  # (certificate / value)**2
        if square <= 1.0 + tol or total >= max_iter:
            return point, total
        escaped = _escape(B, point, values, vectors)
        if escaped is not None:
            S = escaped
        elif target <= 1e-13 or (iterations == 0 and point.residual > target):
            return point, total
        else:
            S = point.S
            target = max(1e-13, min(tol, 0.01 * target))
    return point, total


def _escape(B: Array, point: Point, values: Array, vectors: Array) -> Array | None:
    """Append eigenvectors that violate the certificate, scaled so that the value rises; None when there are none."""
    d, r = point.S.shape
    count = int(min(max(2, r // 2), np.sum(values > 1.0 + 10.0 * max(point.residual, 1e-14))))
    size = float(np.linalg.norm(point.S))
    for step in (0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5) if count else ():
        trial = np.hstack([point.S, step * size * vectors[:, ::-1][:, :count]])
        if np.linalg.norm(B @ trial, axis=1).sum() / np.linalg.norm(trial) > point.y.sum() / size:
            return trial if trial.shape[1] <= d else _compress(trial)
    return None


def _compress(S: Array) -> Array:
    """Factor with at most d columns and the same S S'."""
    U, s, _ = np.linalg.svd(S, full_matrices=False)
    return U * s


def _row_space(B: Array) -> tuple[Array, Array]:
    """Orthonormal basis Q (d, k) and rows B Q when there are fewer rows than inputs; the identity otherwise."""
    if B.shape[0] >= B.shape[1]:
        return np.eye(B.shape[1]), B
    Q, R = np.linalg.qr(B.T)
    return Q, np.ascontiguousarray(R.T)


def _warm_start(start: ArrayLike, d: int) -> Array:
    S = np.asarray(start, dtype=np.float64)
    if S.ndim != 2 or S.shape[0] != d:
        raise InvalidInputError(f"start must be a factor of shape ({d}, r), got {S.shape}.")
    return S


def _rows(B: ArrayLike) -> Array:
    rows = np.asarray(B, dtype=np.float64)
    if rows.ndim != 2 or 0 in rows.shape or not np.isfinite(rows).all():
        raise InvalidInputError(f"LipSDP needs a finite matrix of rows (m + 1, d) with d >= 1; got shape {rows.shape}.")
    return rows

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
from convexnn.lipsdp.ascent import Point, ascend, start as initial_factor
from convexnn.rigorous import gram_max_eigenvalue, ldexp_up, norm_up, power_of_two, product_up, row_norms_up, sqrt_up, sum_up

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
        ``upper_bound(B, multiplier)``: rigorous upper bound on LipSDP of the rows B, hence on the Lipschitz constant (l2).
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

    Implements: theory note F2, certificate (docs/theory/lipsdp.md, Proposition 2); from Fazlyab et al. (2019), one hidden layer.

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
        Upper bound (l2), rounded up; ``inf`` when q is negative, nan, of another shape, or zero for a row that is not zero.
    """
    B, q = np.asarray(B, dtype=np.float64), np.asarray(q, dtype=np.float64)
    error = np.zeros(B.shape[0]) if error is None else np.asarray(error, dtype=np.float64)
    if q.shape != B.shape[:1] or error.shape != q.shape:
        return math.inf
    if not (np.isfinite(B).all() and np.isfinite(q).all() and (error >= 0.0).all() and (q >= 0.0).all()):
        return math.inf
    used = np.any(B != 0.0, axis=1) | (error > 0.0)
    if not used.any():
        return 0.0
    exponent = power_of_two(B)
    B, error, q = np.ldexp(B[used], -exponent), np.ldexp(error[used], -exponent), q[used]
    q = np.ldexp(q, -power_of_two(q))  # any q is a multiplier, also a rounded one
    if not (q > 0.0).all():
        return math.inf
    root = np.sqrt(q)
    with np.errstate(over="ignore"):
        E = B / root[:, None]
        spread = np.nextafter(np.where(error > 0.0, error / root, 0.0), np.inf)
    rounding = np.nextafter(4.0 * 2.0**-53 * norm_up(E), math.inf) + float(np.sqrt(E.size)) * 2.0**-1070
    perturbation = rounding + (2.0 * norm_up(spread) if error.any() else 0.0)
    square = product_up(sum_up(q), gram_max_eigenvalue(E, perturbation))
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
        Row errors that `upper_bound` will be asked to cover; rows with an error get a share that keeps their cost small.

    Returns
    -------
    q : array, shape (m + 1,)
        On the simplex, positive for every nonzero row; all nan when S is not finite or of another shape.
    """
    B, S = np.asarray(B, dtype=np.float64), np.asarray(S, dtype=np.float64)
    if S.ndim != 2 or S.shape[0] != B.shape[1] or not np.isfinite(S).all():
        return np.full(B.shape[0], np.nan)
    B, S = np.ldexp(B, -power_of_two(B)), np.ldexp(S, -power_of_two(S))
    sizes = row_norms_up(B)
    if not sizes.any():
        return np.eye(1, B.shape[0])[0]
    y = row_norms_up(B @ S)
    y = y / y.sum() if y.any() else np.zeros_like(y)
    y = y + FLOOR * sizes / sizes.sum()
    if error is not None and np.any(error):
        share = np.asarray(error, dtype=np.float64) / (np.sum(error) + np.linalg.norm(B))
        y = y + share ** (2.0 / 3.0) * (share > 0.0)
    return y / y.sum()


def maximize(B: ArrayLike, tol: float = 1e-8, start: ArrayLike | None = None, max_iter: int = 200) -> LipSDPResult:
    """LipSDP of the rows B to a certified relative gap ``tol``.

    The factor starts with few columns; while the certificate stays above the value, the eigenvectors that violate it are
    appended and the ascent goes on.

    Implements: theory note F2, primal and certificate (docs/theory/lipsdp.md, Propositions 1 and 2).

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
    B = _rows(B)
    exponent = power_of_two(B)
    scaled = np.ldexp(B, -exponent)
    kept = scaled[np.any(scaled != 0.0, axis=1)]
    if not kept.size:
        return LipSDPResult(0.0, 0.0, np.eye(1, B.shape[0])[0], np.eye(B.shape[1], 1), 0)
    basis, rows = _row_space(kept)
    warm = None if start is None else basis.T @ np.asarray(start, dtype=np.float64)
    point, iterations = _climb(rows, tol, warm, max_iter)
    S = basis @ (point.S / np.linalg.norm(point.S))
    q = multiplier_from_factor(scaled, S)
    upper = upper_bound(B, q)
    value = float(np.ldexp(0.5 * point.y.sum() / np.linalg.norm(point.S), exponent))
    return LipSDPResult(min(value, upper), upper, q, S, iterations)


def _climb(B: Array, tol: float, warm: Array | None, max_iter: int) -> tuple[Point, int]:
    """Ascent with rank escape until B'diag(1/y)B has no eigenvalue above one: that is the certificate, unrounded."""
    most = min(B.shape)
    rank = min(most, 2 + round(B.shape[0] ** (1.0 / 3.0)))
    S = initial_factor(B, rank) if warm is None or not np.any(warm) or not np.isfinite(warm).all() else warm
    target = 1e-3 if B.size > 50_000 else max(tol, 1e-13)
    total = 0
    while True:
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


def gradient(
    W: ArrayLike, v: ArrayLike, S: ArrayLike, slopes: tuple[float, float] = (0.0, 1.0)
) -> tuple[Array, Array]:
    """Gradient of LipSDP with respect to the weights, from the optimal factor S.

        dL/db_i = 1/2 S S'b_i / ||S'b_i||  (||S||_F = 1), chained through b_0 = (lo + hi) sum u_i, b_i = (hi - lo) u_i.

    Implements: theory note F4 (Danskin; docs/theory/lipsdp.md, Proposition 4).

    Parameters
    ----------
    W : array_like, shape (m, d)
        Hidden weights.
    v : array_like, shape (m,)
        Outer weights.
    S : array_like, shape (d, r)
        Optimal factor, `LipSDPResult.factor`.
    slopes : tuple of float, default (0.0, 1.0)
        Slope interval of the activation.

    Returns
    -------
    dW : array, shape (m, d)
        Derivative in W; where LipSDP is not differentiable, a subgradient of it in the products v_i w_i, chained.
    dv : array, shape (m,)
        Derivative in v.
    """
    W, v, S = (np.asarray(a, dtype=np.float64) for a in (W, v, S))
    low, high = slopes
    U = v[:, None] * W
    B = np.concatenate([(low + high) * U.sum(axis=0)[None], (high - low) * U])
    M = B @ S
    y = np.linalg.norm(M, axis=1)
    N = np.divide(M, y[:, None], out=np.zeros_like(M), where=y[:, None] > 0.0)
    dB = 0.5 * (N @ S.T) / np.linalg.norm(S)
    dU = (low + high) * dB[0] + (high - low) * dB[1:]
    return v[:, None] * dU, np.einsum("ij,ij->i", W, dU)


def multiplier_from_t(v: ArrayLike, t: ArrayLike) -> Array:
    """Multiplier ``q_0 = 1 - 1/2 sum v_i**2 / t_i, q_i = v_i**2 / (2 t_i)`` of a diagonal T = diag(t).

    Implements: theory note F1 and F2 (docs/theory/lipsdp.md, Proposition 3).

    Parameters
    ----------
    v : array_like, shape (m,)
        Outer weights.
    t : array_like, shape (m,)
        Diagonal of T in the LMI of Fazlyab et al. (2019), slopes [0, 1].

    Returns
    -------
    q : array, shape (m + 1,)
        Nonnegative exactly when the LMI with this T can hold for some L; nan where t_i <= 0 < abs(v_i).
    """
    v, t = np.asarray(v, dtype=np.float64), np.asarray(t, dtype=np.float64)
    q = np.where(v == 0.0, 0.0, np.nan)
    valid = (v != 0.0) & (t > 0.0)
    q[valid] = 0.5 * v[valid] * (v[valid] / t[valid])
    return np.concatenate([[1.0 - q.sum()], q])


def t_from_multiplier(v: ArrayLike, q: ArrayLike) -> Array:
    """Diagonal ``t_i = v_i**2 / (2 q_i)`` of T for a multiplier on the simplex; zero for units with v_i = 0.

    Implements: theory note F2 (docs/theory/lipsdp.md, Proposition 3).

    Parameters
    ----------
    v : array_like, shape (m,)
        Outer weights.
    q : array_like, shape (m + 1,)
        Multiplier.

    Returns
    -------
    t : array, shape (m,)
        ``inf`` for a unit with q_i = 0 and v_i != 0 (its weights w_i are then zero, or q is no certificate).
    """
    v, q = np.asarray(v, dtype=np.float64), np.asarray(q, dtype=np.float64)
    q = q / q.sum()
    t = np.where(v == 0.0, 0.0, np.inf)
    valid = (v != 0.0) & (q[1:] > 0.0)
    t[valid] = 0.5 * v[valid] * (v[valid] / q[1:][valid])
    return t


def _rows(B: ArrayLike) -> Array:
    B = np.asarray(B, dtype=np.float64)
    if B.ndim != 2 or 0 in B.shape or not np.isfinite(B).all():
        raise InvalidInputError(f"LipSDP needs a finite matrix of rows (m + 1, d) with d >= 1; got shape {B.shape}.")
    return B

"""The max-gradient bound (input norm linf) of a scalar shallow network, certified by one d x d eigenvalue.

With the rows of `convexnn.lipsdp.stack` the largest l1 norm of the gradient over all patterns is ``1/2 max s'B t`` over
s and t in [-1, 1]; its semidefinite relaxation is ``1/2 max sum_i ||Theta b_i||`` over matrices Theta with unit
columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from convexnn.inputs import real_or_nan
from convexnn.rigorous import UNIT, gram_max_eigenvalue, ldexp_up, norm_up, power_of_two, product_up, sqrt_up, sum_up

Array = NDArray[np.float64]
FLOOR = 1e-11


@dataclass(frozen=True)
class LInfResult:
    """Value of the max-gradient program between two numbers, with the evidence for both.

    Attributes
    ----------
    lower : float
        Value at ``factor``: a lower bound on the program (float64), NOT on the Lipschitz constant.
    upper : float
        ``upper_bound_linf(B, q, y)``: rigorous upper bound on the Lipschitz constant for input norm linf.
    q : array, shape (m + 1,)
        Multiplier of the rows.
    y : array, shape (d,)
        Multiplier of the inputs.
    factor : array, shape (r, d)
        Theta, unit columns.
    """

    lower: float
    upper: float
    q: Array
    y: Array
    factor: Array


def upper_bound_linf(B: ArrayLike, q: ArrayLike, y: ArrayLike, error: ArrayLike | None = None) -> float:
    """Rigorous upper bound on ``1/2 max s'B t`` (s, t in [-1, 1]) from any multipliers, by one d x d eigenvalue.

        L <= 1/2 (sum q sum y)^(1/2) || diag(q)^(-1/2) B diag(y)^(-1/2) ||_2        for every q, y >= 0.

    Implements: convexnn, Proposition 7 of docs/theory/lipsdp.md; from Raghunathan et al. (2018a), MaxGrad.

    Parameters
    ----------
    B : array_like, shape (m + 1, d)
        Rows of `convexnn.lipsdp.stack`.
    q : array_like, shape (m + 1,)
        Multiplier of the rows; need not be optimal.
    y : array_like, shape (d,)
        Multiplier of the inputs; need not be optimal.
    error : array_like, shape (m + 1,), optional
        The bound then covers every B whose row i differs by at most ``error[i]`` (l2). Default: zero.

    Returns
    -------
    bound : float
        Upper bound on the l1 norm of every gradient, rounded up; ``inf`` for multipliers that prove nothing.
    """
    rows, weights, inputs = (real_or_nan(a) for a in (B, q, y))
    spread = np.zeros(rows.shape[0]) if error is None else np.asarray(error, dtype=np.float64)
    if weights.shape != rows.shape[:1] or inputs.shape != rows.shape[1:] or spread.shape != weights.shape:
        return math.inf
    numbers = np.concatenate([rows.ravel(), weights, inputs, spread])
    if not np.isfinite(numbers).all() or min(weights.min(), inputs.min(), spread.min()) < 0.0:
        return math.inf
    used = np.any(rows != 0.0, axis=1) | (spread > 0.0)
    columns = np.any(rows != 0.0, axis=0) | bool(spread.any())
    if not used.any():
        return 0.0
    exponent = power_of_two(rows)
    rows, spread = np.ldexp(rows[used][:, columns], -exponent), np.ldexp(spread[used], -exponent)
    weights = np.ldexp(weights, -power_of_two(weights))[used]
    inputs = np.ldexp(inputs, -power_of_two(inputs))[columns]
    if not ((weights > 0.0).all() and (inputs > 0.0).all()):
        return math.inf
    left, right = np.sqrt(weights), np.sqrt(inputs)
    with np.errstate(over="ignore"):
        E = rows / left[:, None] / right
        drift = norm_up(spread / left) / float(right.min())
    rounding = 8.0 * UNIT * norm_up(E)  # an entry of E is at least a half: what underflows is far below
    square = product_up(sum_up(weights), sum_up(inputs), gram_max_eigenvalue(E, rounding + 2.0 * drift))
    return ldexp_up(sqrt_up(square), exponent - 1)


def maximize_linf(B: ArrayLike, tol: float = 1e-8, max_iter: int = 4000) -> LInfResult:
    """Value of the max-gradient program of the rows B, certified.

    Implements: convexnn, Proposition 7 of docs/theory/lipsdp.md.

    Parameters
    ----------
    B : array_like, shape (m + 1, d)
        Rows of `convexnn.lipsdp.stack`.
    tol : float, default 1e-8
        Relative gap to reach; else the best certified pair is returned (about 1e-8 is what float64 reaches).
    max_iter : int, default 4000
        Most quasi-Newton steps in each round.

    Returns
    -------
    result : LInfResult
        ``upper`` is what may be claimed.
    """
    rows = np.asarray(B, dtype=np.float64)
    exponent = power_of_two(rows)
    scaled = np.ldexp(rows, -exponent)
    kept = scaled[np.any(scaled != 0.0, axis=1)]
    d = rows.shape[1]
    if not kept.size:
        return LInfResult(0.0, 0.0, np.ones(len(rows)), np.ones(d), np.ones((1, d)))
    rng = np.random.default_rng(0)
    Theta = _power_steps(kept, rng.standard_normal((int(min(d, np.ceil(np.sqrt(2 * d)) + 2)), d)), 30)
    best: LInfResult | None = None
    for _ in range(5):
        Theta = _ascend(kept, Theta, max_iter)
        q, y, value = multipliers_linf(scaled, Theta)
        upper = upper_bound_linf(rows, q, y)
        lower = min(float(np.ldexp(value, exponent)), upper)
        if best is None or upper < best.upper:
            best = LInfResult(max(lower, best.lower if best else 0.0), upper, q, y, Theta)
        if upper <= lower * (1.0 + tol):
            break
        extra = min(d, 2 * len(Theta)) - len(Theta)
        Theta = np.vstack([Theta + 1e-4 * rng.standard_normal(Theta.shape), 1e-2 * rng.standard_normal((extra, d))])
    assert best is not None
    return best


def _power_steps(B: Array, Theta: Array, steps: int) -> Array:
    for _ in range(steps):
        M = B @ Theta.T
        Theta = (M / np.maximum(np.linalg.norm(M, axis=1, keepdims=True), 1e-290)).T @ B
        Theta = Theta / np.maximum(np.linalg.norm(Theta, axis=0), 1e-290)
    return Theta


def _ascend(B: Array, Theta: Array, max_iter: int) -> Array:
    """L-BFGS on the value over normalized columns."""
    shape = Theta.shape

    def negative(z: Array) -> tuple[float, Array]:
        raw = z.reshape(shape)
        sizes = np.maximum(np.linalg.norm(raw, axis=0), 1e-290)
        unit = raw / sizes
        M = B @ unit.T
        lengths = np.linalg.norm(M, axis=1)
        G = (M / np.maximum(lengths, 1e-290)[:, None]).T @ B
        return -float(lengths.sum()), -((G - unit * np.sum(unit * G, axis=0)) / sizes).ravel()

    options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": 1e-16, "gtol": 1e-12, "maxcor": 30}
    z = Theta.ravel()
    found = minimize(negative, z, jac=True, method="L-BFGS-B", options=options)  # type: ignore[call-overload]
    raw = np.asarray(found.x).reshape(shape)
    return raw / np.maximum(np.linalg.norm(raw, axis=0), 1e-290)


def multipliers_linf(B: Array, Theta: Array) -> tuple[Array, Array, float]:
    """Multipliers that are optimal when Theta is, and the value there."""
    M = B @ Theta.T
    q = np.linalg.norm(M, axis=1)
    y = np.linalg.norm((M / np.maximum(q, 1e-290)[:, None]).T @ B, axis=0)
    value = 0.5 * float(q.sum())
    q = q + FLOOR * max(float(q.max()), 1e-290) * np.any(B != 0.0, axis=1)
    return q, y + FLOOR * max(float(y.max()), 1e-290), value

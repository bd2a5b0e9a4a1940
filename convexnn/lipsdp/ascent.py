"""Maximize sum_i ||S'b_i|| over factors S: power steps, then Newton (dense, or by conjugate gradients when large).

The unconstrained form ``F(S) = sum_i ||S'b_i|| - ||S||**2 / 2`` has the same maximizers up to scale. Its gradient is
``B'N - S`` with unit rows ``n_i = S'b_i / ||S'b_i||``, so a unit gradient step is the power step ``S <- B'N``, and the
negative Hessian is ``D -> D - B' diag(1/y) (B D - N <N, B D>)``. Rotations ``S -> S Q`` leave F unchanged: the Hessian
is singular along them and nowhere else when the solution is unique, which conjugate gradients and a vanishing shift
both tolerate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs

Array = NDArray[np.float64]
DENSE_WORK = 3e6  # multiplications for which one dense Newton step beats conjugate gradients


@dataclass
class Point:
    """Factor S with the quantities every step needs; ``residual`` is the relative norm of the gradient."""

    S: Array
    y: Array
    N: Array
    value: float
    G: Array
    residual: float


@dataclass(frozen=True)
class Preconditioner:
    """Approximate inverse of the negative Hessian, diagonal in two orthonormal bases; built at ``residual``."""

    left: Array
    right: Array
    divisor: Array
    residual: float

    def solve(self, D: Array) -> Array:
        """Approximate Newton direction of a gradient."""
        return self.left @ ((self.left.T @ D @ self.right) / self.divisor) @ self.right.T


def evaluate(B: Array, S: Array) -> Point:
    """Value and gradient of F at S (rows with S'b_i = 0 contribute the zero subgradient)."""
    M = B @ S
    y = np.sqrt(np.einsum("ij,ij->i", M, M))
    N = M / np.maximum(y, 1e-290)[:, None]
    G = B.T @ N - S
    square = float(np.vdot(S, S))
    residual = float(np.sqrt(np.vdot(G, G) / max(square, 1e-290)))
    return Point(S, y, N, float(y.sum()) - 0.5 * square, G, residual)


def start(B: Array, rank: int) -> Array:
    """Leading right singular vectors of B (by subspace iteration when d is large), then power steps."""
    d = B.shape[1]
    if d <= 128:
        S = np.linalg.eigh(B.T @ B)[1][:, ::-1][:, :rank]
    else:
        S = np.random.default_rng(0).standard_normal((d, rank))
        for _ in range(3):
            S = np.linalg.qr(B.T @ (B @ S))[0]
    for _ in range(8):
        S = evaluate(B, S).G + S
    return S


def ascend(B: Array, S: Array, tol: float, max_iter: int) -> tuple[Point, int]:
    """Newton's method on F from S until the relative gradient is below tol; F never falls.

    Parameters
    ----------
    B : array, shape (k, d)
        Rows.
    S : array, shape (d, r)
        Start.
    tol : float
        Relative norm of the gradient to stop at.
    max_iter : int
        Most Newton steps.

    Returns
    -------
    point : Point
        The last point.
    iterations : int
        Newton steps taken.
    """
    point = evaluate(B, evaluate(B, S).G + S)
    work = B.shape[0] * S.size**2 + S.size**3
    shift, approximation = 1e-3, None
    for iteration in range(max_iter):
        if point.residual <= tol:
            return point, iteration
        if work <= DENSE_WORK:
            D, shift = _dense_step(B, point, shift)
        else:
            if approximation is None or point.residual < 0.05 * approximation.residual:
                approximation = _preconditioner(B, point)
            D = _conjugate_gradient_step(B, point, approximation)
        new = _line_search(B, point, D)
        if new is None:
            new = evaluate(B, point.S + point.G)  # power step: monotone by convexity of the norms
            shift = min(100.0 * shift, 1.0)
            if new.value <= point.value:
                return point, iteration
        point = new
    return point, max_iter


def _line_search(B: Array, point: Point, D: Array) -> Point | None:
    """First point of S + t D, t = 1, 1/4, ..., that does not lower F (beyond rounding); None when there is none."""
    floor = point.value - 4e-15 * abs(point.value)
    step = 1.0
    for _ in range(6):
        new = evaluate(B, point.S + step * D)
        if new.value >= floor and (new.value > point.value or new.residual < point.residual):
            return new
        step *= 0.25
    return None


def _dense_step(B: Array, point: Point, shift: float) -> tuple[Array, float]:
    """Newton step by a Cholesky factorization of the shifted negative Hessian (columns of S stacked)."""
    (d, r), scale = point.S.shape, 1.0 / np.sqrt(np.maximum(point.y, 1e-290))
    C = B * scale[:, None]
    K = (point.N[:, :, None] * C[:, None, :]).reshape(B.shape[0], r * d)
    H = K.T @ K
    A = C.T @ C
    for j in range(0, r * d, d):
        H[j : j + d, j : j + d] -= A
    diagonal = np.diagonal(H) + 1.0
    for _ in range(30):
        H[np.diag_indices(r * d)] = diagonal + shift
        L, info = dpotrf(H, lower=1, clean=0)
        if info == 0:
            D = dpotrs(L, point.G.T.ravel(), lower=1)[0]
            return D.reshape(r, d).T, max(0.1 * shift, 1e-10)
        shift = max(4.0 * shift, 1e-6)
    return point.G, shift


def _preconditioner(B: Array, point: Point) -> Preconditioner:
    """Inverse of ``D -> D - A D (I - Pi)``: the negative Hessian with n_i n_i' replaced by its weighted mean Pi."""
    C = B / np.sqrt(np.maximum(point.y, 1e-290))[:, None]
    values, left = np.linalg.eigh(C.T @ C)
    means, right = np.linalg.eigh((point.N * (point.y / point.y.sum())[:, None]).T @ point.N)
    divisor = np.maximum(1.0 - np.minimum(values, 1.0)[:, None] * (1.0 - means), 1e-3)
    return Preconditioner(left, right, divisor, point.residual)


def _conjugate_gradient_step(B: Array, point: Point, approximation: Preconditioner) -> Array:
    """Truncated Newton step; stops at negative curvature and at a residual that makes the iteration superlinear."""
    weight = 1.0 / np.maximum(point.y, 1e-290)[:, None]
    D, R = np.zeros_like(point.S), point.G.copy()
    P = approximation.solve(R)
    square = float(np.vdot(R, P))
    target = square * min(0.1, point.residual)
    for _ in range(250):
        BP = B @ P
        HP = P - B.T @ ((BP - point.N * np.einsum("ij,ij->i", point.N, BP)[:, None]) * weight)
        curvature = float(np.vdot(P, HP))
        if curvature <= 1e-12 * float(np.vdot(P, P)):
            return D if D.any() else P
        D += (square / curvature) * P
        R -= (square / curvature) * HP
        Z = approximation.solve(R)
        previous, square = square, float(np.vdot(R, Z))
        if square <= target:
            return D
        P = Z + (square / previous) * P
    return D

"""The best multipliers of a chain, by a primal-dual interior point method on one matrix."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, eigvalsh
from scipy.linalg.lapack import dpotri

from convexnn.propagation.query import Query
from convexnn.regions.chain import KEYS, Chain, chain_of
from convexnn.regions.primal_dual import big_step

Array = NDArray[np.float64]
MAX_ITER = 100


@dataclass(frozen=True, eq=False)
class ChainResult:
    """Multipliers by name, their value and the gap to the moments (float64), steps and status as in `Majorants`."""

    multiplier: Mapping[str, Array]
    value: float
    gap: float
    iterations: int
    status: str


@dataclass(eq=False)
class _Point:
    """Unknowns (value, multipliers), slack, its factor and inverse, moments X and x of the signs."""

    y: Array
    S: Array
    factor: Array
    T: Array
    X: Array
    x: Array


def best_chain(query: Query, *, tol: float = 1e-7, max_iter: int = MAX_ITER, deadline: float = np.inf) -> ChainResult:
    """Multipliers that minimize :func:`~convexnn.regions.chain.chain_bound`, to a relative gap of ``tol``.

    Implements: Soletskyi & Dalrymple (2024), the semidefinite program of two hidden layers.

    Parameters
    ----------
    query : Query
        One row in the unit variable of a region.
    tol, max_iter, deadline
        As in :func:`~convexnn.regions.newton.best_majorants`.
    """
    solver = _Solver(chain_of(query))
    with np.errstate(all="ignore"):
        return solver.run(tol, max_iter, deadline)


class _Solver:
    """``min value`` over (value, multipliers) with positive semidefinite form and nonnegative signs."""

    def __init__(self, chain: Chain) -> None:
        N = len(chain.fixed)
        corner = np.eye(1, N)
        self.left, self.right = np.vstack([corner, chain.left]), np.vstack([corner, chain.right])
        self.owner = np.concatenate([[0], 1 + chain.owner])
        self.starts = np.searchsorted(self.owner, np.arange(self.owner[-1] + 1))
        self.signed = np.concatenate([[False], chain.signed])
        self.size = max(float(np.abs(chain.fixed).max()), 1e-300)
        self.fixed, self.chain = chain.fixed / self.size, chain
        self.cost = np.eye(1, len(self.signed))[0]
        self.degree = N + int(self.signed.sum())

    def run(self, tol: float, max_iter: int, deadline: float) -> ChainResult:
        """Steps until the gap is closed; the best multipliers so far whenever it ends."""
        try:
            point, gap, status, step = self._opened(), np.inf, "max_iter", 0
        except (LinAlgError, ValueError, ZeroDivisionError):  # weights of very different size: nothing is found
            none = np.split(np.zeros(len(self.signed) - 1), np.cumsum([self.chain.units] * 3))
            return ChainResult(dict(zip(KEYS, none, strict=True)), np.inf, np.inf, 0, "stalled")
        for step in range(max_iter + 1):
            residual = self.cost - self._adjoint(point.X, point.x)
            gap = point.y[0] + float((self.fixed * point.X).sum()) + 2.0 * float(np.abs(residual) @ np.abs(point.y))
            if gap < tol * max(abs(point.y[0]), 1e-4):
                status = "optimal"
                break
            if step == max_iter or time.monotonic() >= deadline:
                status = "max_iter" if step == max_iter else "time_limit"
                break
            try:
                moved = self._iterate(point)
            except (LinAlgError, ValueError):
                moved = None
            if moved is None:
                status = "stalled"
                break
            point = moved
        y, m = self.size * point.y, self.chain.units
        parts = dict(zip(KEYS, np.split(y[1:], [m, 2 * m, 3 * m]), strict=True))
        return ChainResult(parts, float(y[0]), self.size * gap, step, status)

    def _slack(self, y: Array, *, change: bool = False) -> Array:
        half = (self.left.T * y[self.owner]) @ self.right
        return np.asarray(0.5 * (half + half.T) + (0.0 if change else self.fixed))

    def _adjoint(self, X: Array, x: Array) -> Array:
        total = self.chain.adjoint(X)
        return np.concatenate([X[:1, 0], total]) + np.where(self.signed, x, 0.0)

    def _opened(self) -> _Point:
        """Strictly feasible unknowns: every block of the chain dominates what the next one takes from it."""
        m, N = self.chain.units, len(self.fixed)
        y, first = np.zeros(len(self.signed)), N - m
        y[1 : 1 + 2 * m] = 1.0
        weight = np.zeros(N)
        rows = self.chain.right[2 * m : 3 * m]  # p = z_i - line
        for i in range(m - 1, -1, -1):
            own, line = first + i, rows[i].copy()
            line[own] = 0.0
            y[1 + 2 * m + i] = 1.0 + 2.0 * weight[own]
            weight += np.abs(line) * np.abs(line).sum() * y[1 + 2 * m + i]  # more than line line' takes
        y[1 + 3 * m :] = 1.0 + 2.0 * (weight[1:first].max() if self.chain.n_rho == 1 else weight[1:first])
        for _ in range(60):  # negative ends of leaky units only help; in doubt, larger multipliers of the inputs
            S = self._slack(y)
            if eigvalsh(S[1:, 1:])[0] > 0:
                break
            y[1 + 2 * m :] *= 2.0
        inner = np.linalg.solve(S[1:, 1:], S[1:, 0])
        y[0] += float(S[0, 1:] @ inner) - S[0, 0] + 1.0 + abs(float(S[0, 1:] @ inner))
        S = self._slack(y)
        factor, T = _inverse(S)
        level = 1.0 / float(T[0, 0])
        return _Point(y, S, factor, T, level * T, np.where(self.signed, level / np.where(self.signed, y, 1.0), 0.0))

    def _iterate(self, p: _Point) -> _Point | None:
        factor = self._system(p)
        used = np.where(self.signed, p.y, 1.0)
        level = (float((p.X * p.S).sum()) + float(p.x[self.signed] @ p.y[self.signed])) / self.degree

        def direction(target: float, second: tuple[Array, ...] | None) -> tuple[Array, Array, Array, Array]:
            big, small = target * p.T, np.where(self.signed, target / used, 0.0)
            if second is not None:
                product = second[2] @ second[1] @ p.T
                big = big - 0.5 * (product + product.T)
                small = small - np.where(self.signed, second[3] * second[0] / used, 0.0)
            dy = _solved(factor, self._adjoint(big, small) - self.cost)
            dS = self._slack(dy, change=True)
            product = p.X @ dS @ p.T
            dX = big - p.X - 0.5 * (product + product.T)
            return dy, dS, dX, np.where(self.signed, small - p.x - p.x * dy / used, 0.0)

        affine = direction(0.0, None)
        px, ps = self._steps(p, affine)
        aimed = ((p.X + px * affine[2]) * (p.S + ps * affine[1])).sum()
        aimed += ((p.x + px * affine[3]) * (p.y + ps * affine[0]))[self.signed].sum()
        ratio = max(float(aimed) / self.degree / level, 0.0)
        centring = min(1.0, ratio**2) if min(px, ps) > 0.1 else 0.5
        dy, dS, dX, dx = found = direction(max(centring, 1e-4) * level, affine)
        px, ps = self._steps(p, found)
        damping = 0.9 + 0.09 * min(px, ps)
        px, ps = min(1.0, damping * px), min(1.0, damping * ps)
        if max(px, ps) < 1e-5:
            return None
        for _ in range(8):
            y = p.y + ps * dy
            S = self._slack(y)
            try:
                big, T = _inverse(S)
            except LinAlgError:
                ps *= 0.8
                continue
            return _Point(y, S, big, T, p.X + px * dX, p.x + px * dx)
        return None

    def _steps(self, p: _Point, found: tuple[Array, ...]) -> tuple[float, float]:
        dy, dS, dX, dx = found
        moments = cholesky(p.X, lower=True, check_finite=False)
        lengths = []
        for factor, change, own, moved in ((moments, dX, p.x, dx), (p.factor, dS, p.y, dy)):
            down = self.signed & (moved < 0)
            sign = float((-own[down] / moved[down]).min(initial=np.inf))
            lengths.append(min(1.0, big_step(factor, change), sign))
        return lengths[0], lengths[1]

    def _system(self, p: _Point) -> tuple[Array, Array, Array]:
        U, P = self.left, self.right
        UX, PX, UT, PT = U @ p.X, P @ p.X, U @ p.T, P @ p.T
        mixed = (UX @ P.T) * (PT @ U.T)
        H = 0.25 * (mixed + mixed.T + (PX @ P.T) * (UT @ U.T) + (UX @ U.T) * (PT @ P.T))
        H = np.add.reduceat(np.add.reduceat(H, self.starts, axis=0), self.starts, axis=1)
        diagonal = np.diag_indices(len(H))
        H[diagonal] += np.where(self.signed, p.x / np.where(self.signed, p.y, 1.0), 0.0)
        scale = 1.0 / np.sqrt(np.diag(H))
        scaled = H * scale[:, None] * scale
        for ridge in (0.0, 1e-15, 1e-13, 1e-11):
            trial = scaled.copy()
            trial[diagonal] += ridge
            try:
                return cho_factor(trial, lower=True, overwrite_a=True, check_finite=False)[0], scale, H
            except LinAlgError:
                continue
        raise LinAlgError


def _solved(system: tuple[Array, Array, Array], right: Array) -> Array:
    """Solution with one step of refinement."""
    factor, scale, H = system
    y = scale * cho_solve((factor, True), scale * right, check_finite=False)
    return np.asarray(y + scale * cho_solve((factor, True), scale * (right - H @ y), check_finite=False))


def _inverse(S: Array) -> tuple[Array, Array]:
    factor = cholesky(S, lower=True, check_finite=False)
    inverse = dpotri(factor, lower=1)[0]
    return factor, np.asarray(np.tril(inverse) + np.tril(inverse, -1).T)

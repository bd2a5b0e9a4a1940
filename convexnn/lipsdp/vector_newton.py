"""LipSDP with several outputs, small: Newton's method on the barrier of its multipliers.

The best multiplier solves ``min t`` over ``M(q) <= t I`` with

    M(q) = [[h/2 W'diag(q)W, U_0'/2], [U_0/2, h/2 V diag(1/q) V']].

``M`` is convex in ``log q``, so the minimizers of ``t / mu - logdet(t I - M(exp(s)))`` are a path; inverse matrices on
it are the factors Xi and Y of the maximum, up to ``(d + k) mu``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack

Array = NDArray[np.float64]
SHRINK, STEPS, BACKTRACKS = 8.0, 200, 40
CLOSE, LAST = 0.05, 1e-5  # Newton decrements that end a value of mu, and the last one


class Path:
    """The central path of the multipliers, from ``q_i = |v_i| / |w_i|``.

    Parameters
    ----------
    W : array, shape (m, d)
        Hidden weights, no row zero.
    V : array, shape (k, m)
        Outer weights, no column zero.
    U : array, shape (k, d)
        ``(lo + hi) V W``.
    height : float
        ``hi - lo``, positive.
    """

    def __init__(self, W: Array, V: Array, U: Array, height: float) -> None:
        d, k = W.shape[1], V.shape[0]
        self.sizes = d, k
        root = np.sqrt(0.5 * height)
        self.inner = np.hstack([root * W, np.zeros((len(W), k))])
        self.outer = np.hstack([np.zeros((len(W), d)), root * V.T])
        self.constant = np.zeros((d + k, d + k))
        self.constant[d:, :d] = 0.5 * U
        self.constant[:d, d:] = 0.5 * U.T
        self.s = np.log(np.linalg.norm(V, axis=0)) - np.log(np.linalg.norm(W, axis=1))
        top = float(np.linalg.eigvalsh(self.matrix(self.s))[-1])
        self.t = 1.5 * top

    def matrix(self, s: Array) -> Array:
        """``M(exp(s))``, shape (d + k, d + k)."""
        a, b = self.inner * np.exp(0.5 * s)[:, None], self.outer * np.exp(-0.5 * s)[:, None]
        M: Array = self.constant + a.T @ a + b.T @ b
        return M

    def follow(self, tol: float) -> tuple[tuple[Array, Array], Array, int]:
        """Factors (d, r) and (k, r), multiplier (m,) and steps; how good they are is for the caller to compute.

        Parameters
        ----------
        tol : float
            Relative gap to aim at.
        """
        n, steps = sum(self.sizes), 0
        mu = 0.5 * self.t / n
        last = False
        while steps < STEPS:
            steps += 1
            if self._step(mu, LAST if last else CLOSE):
                continue
            if last:
                break
            last = n * mu <= 0.2 * tol * self.t
            mu = mu if last else mu / SHRINK
        values, vectors = np.linalg.eigh(self.t * np.eye(n) - self.matrix(self.s))
        root = vectors / np.sqrt(np.maximum(values, 1e-16 * self.t))
        return (root[: self.sizes[0]], root[self.sizes[0] :]), np.exp(self.s), steps

    def _step(self, mu: float, close: float) -> bool:
        """One Newton step; whether another one is worth while."""
        factor = cho_factor(self.t * np.eye(len(self.constant)) - self.matrix(self.s), lower=True, check_finite=False)
        a, b = self.inner * np.exp(0.5 * self.s)[:, None], self.outer * np.exp(-0.5 * self.s)[:, None]
        both = np.vstack([a, b])
        Z = cho_solve(factor, np.eye(len(self.constant)), check_finite=False)
        images = both @ Z
        gram = images @ both.T
        signs = np.repeat([1.0, -1.0], len(a))
        diagonal, m = np.diag(gram), len(a)
        signed = signs[:, None] * gram**2 * signs
        H = np.empty((m + 1, m + 1))
        H[1:, 1:] = signed[:m, :m] + signed[:m, m:] + signed[m:, :m] + signed[m:, m:]
        H[1:, 1:] += np.diag(diagonal[:m] + diagonal[m:])
        lengths = np.einsum("ij,ij->i", images, images)
        H[0, 0] = float(np.einsum("ij,ij->", Z, Z))
        H[0, 1:] = H[1:, 0] = lengths[m:] - lengths[:m]
        g = np.concatenate([[1.0 / mu - float(np.trace(Z))], diagonal[:m] - diagonal[m:]])
        scale = 1.0 / np.sqrt(np.diag(H))
        try:
            solved = cho_solve(cho_factor(H * scale * scale[:, None], check_finite=False), -g * scale)
        except LinAlgError:
            return False
        direction = scale * solved
        decrement = float(-(g @ direction))
        if not decrement > close**2:
            return False
        if decrement <= CLOSE**2:  # a full step; the barrier is not computed as exactly as this
            self.t, self.s = self.t + direction[0], self.s + direction[1:]
            return True
        return self._search(mu, direction, decrement, self._barrier(mu, self.t, self.s))

    def _barrier(self, mu: float, t: float, s: Array) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            M = t * np.eye(len(self.constant)) - self.matrix(s)
        if not np.isfinite(M).all():
            return np.inf
        factor, info = lapack.dpotrf(M, lower=1)
        return np.inf if info else t / mu - 2.0 * float(np.log(np.diag(factor)).sum())

    def _search(self, mu: float, direction: Array, decrement: float, before: float) -> bool:
        step = min(1.0, 5.0 / max(float(np.abs(direction[1:]).max()), 1e-300))
        for _ in range(BACKTRACKS):
            t, s = self.t + step * direction[0], self.s + step * direction[1:]
            if self._barrier(mu, t, s) <= before - 0.1 * step * decrement:
                self.t, self.s = t, s
                return True
            step *= 0.5
        return False

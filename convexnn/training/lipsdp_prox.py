r"""The SDP step of the Lipschitz ADMM: a small convex problem in (W, v) for a fixed multiplier T = diag(t).

By two Schur complements (docs/theory/admm.md) the matrix inequality of the paper says

    L^2 >= lmax(Q),    Q(W, v) = 1/2 W'TW + 1/4 gg'/tau,   g = W'v,   tau = 1 - 1/2 sum_i v_i^2/t_i > 0,

jointly convex in (W, v). The largest eigenvalue is smoothed, ``log(sum exp(kappa e_i)) / kappa``, with growing kappa:
the smoothed function lies at most ``log(d) / kappa`` above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]
SHARPNESS = (20.0, 200.0, 2e3, 2e4, 2e5)  # kappa times the largest eigenvalue at the start of each stage


@dataclass(frozen=True)
class ProximalStep:
    """``min weight * lmax(Q(W, v)) + penalty/2 (||W - A||_F^2 + ||v - a||^2)`` for fixed t.

    Attributes
    ----------
    A : array, shape (m, d)
    a : array, shape (m,)
    t : array, shape (m,)
        Positive.
    weight, penalty : float
        Positive.
    scale : array, shape (d,)
        Q takes the columns of W divided by it (weights on raw inputs); 1 for standardized data.
    """

    A: Array
    a: Array
    t: Array
    weight: float
    penalty: float
    scale: Array

    def value(self, W: Array, v: Array) -> float:
        """Objective, not smoothed; ``inf`` where tau <= 0, that is where no L satisfies the inequality."""
        Q = bound_matrix(W / self.scale, v, self.t)
        if Q is None:
            return float("inf")
        distance = float(((W - self.A) ** 2).sum() + ((v - self.a) ** 2).sum())
        return self.weight * float(np.linalg.eigvalsh(Q)[-1]) + 0.5 * self.penalty * distance

    def smoothed(self, x: Array, kappa: float) -> tuple[float, Array]:
        """Smoothed objective and gradient at the flat x = (W, z), z the free coordinates of v."""
        W, z = self._split(x)
        v, tau = self._outer(z)
        R = W / self.scale
        g = R.T @ v
        e, E = np.linalg.eigh(0.5 * (R.T * self.t) @ R + np.outer(g, g) * (0.25 / tau))
        share = np.exp(kappa * (e - e[-1]))
        top = float(e[-1]) + float(np.log(share.sum())) / kappa
        Z = (E * (share / share.sum())) @ E.T  # gradient of the smoothed eigenvalue in Q
        Zg = Z @ g
        dR = self.t[:, None] * (R @ Z) + np.outer(v, Zg) * (0.5 / tau)
        dv = (R @ Zg) * (0.5 / tau) + (0.25 * float(g @ Zg) / tau**2) * (v / self.t)
        away, aside = W - self.A, v - self.a
        value = self.weight * top + 0.5 * self.penalty * float((away**2).sum() + (aside**2).sum())
        dr = (self.weight * dv + self.penalty * aside) * np.sqrt(2.0 * self.t)
        dz = np.sqrt(tau) * (dr - z * (tau * float(z @ dr)))
        return value, np.concatenate([(self.weight * dR / self.scale + self.penalty * away).ravel(), dz])

    def solve(self, sharpest: float = SHARPNESS[-1], max_iter: int = 200) -> tuple[Array, Array]:
        """Minimizer (W, v), by L-BFGS on sharper and sharper smoothings; strictly feasible (tau > 0).

        Parameters
        ----------
        sharpest : float, default 2e5
            Sharpness of the last smoothing; it costs the objective at most ``weight * lmax * log(d) / sharpest``.
        max_iter : int, default 200
            Iterations for each smoothing.
        """
        r = shrink(self.a, self.t) / np.sqrt(2.0 * self.t)
        best = np.concatenate([self.A.ravel(), r / np.sqrt(1.0 - float(r @ r))])
        lowest = self._value(best)
        for sharpness in (each for each in SHARPNESS if each <= sharpest):
            W, z = self._split(best)
            Q = bound_matrix(W / self.scale, self._outer(z)[0], self.t)
            largest = 0.0 if Q is None else float(np.linalg.eigvalsh(Q)[-1])
            if largest <= 0.0:
                break
            found = self._descend(best, sharpness / largest, max_iter)
            value = self._value(found)
            if value < lowest:
                best, lowest = found, value
        W, z = self._split(best)
        return W, self._outer(z)[0]

    def _descend(self, x: Array, kappa: float, max_iter: int) -> Array:
        unit = max(abs(self.smoothed(x, kappa)[0]), np.finfo(float).tiny)

        def relative(z: Array) -> tuple[float, Array]:
            value, gradient = self.smoothed(z, kappa)
            return value / unit, gradient / unit

        limits: Any = {"maxiter": max_iter, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-10}
        return np.asarray(minimize(relative, x, jac=True, method="L-BFGS-B", options=limits).x)

    def _value(self, x: Array) -> float:
        W, z = self._split(x)
        return self.value(W, self._outer(z)[0])

    def _split(self, x: Array) -> tuple[Array, Array]:
        return x[: self.A.size].reshape(self.A.shape), x[self.A.size :]

    def _outer(self, z: Array) -> tuple[Array, float]:
        """``v = sqrt(2 t) z / sqrt(1 + |z|^2)`` and ``tau = 1 / (1 + |z|^2)``: every z is strictly feasible."""
        tau = 1.0 / (1.0 + float(z @ z))
        return np.sqrt(2.0 * self.t * tau) * z, tau


def bound_matrix(W: Array, v: Array, t: Array) -> Array | None:
    """``Q = 1/2 W'TW + 1/4 gg'/tau``, whose largest eigenvalue is the least L^2 for this T; None when tau <= 0.

    Implements: convexnn, Proposition 1 of docs/theory/admm.md; from Fazlyab et al. (2019), one hidden layer.

    Parameters
    ----------
    W : array, shape (m, d)
    v : array, shape (m,)
    t : array, shape (m,)
        Positive.
    """
    tau = 1.0 - 0.5 * float((v * v / t).sum())
    if tau <= 0.0:
        return None
    g = W.T @ v
    Q: Array = 0.5 * (W.T * t) @ W + np.outer(g, g) * (0.25 / tau)
    return Q


def shrink(v: Array, t: Array) -> Array:
    """The outer weights, scaled down where needed so that ``tau >= 0.05``."""
    total = float((v * v / t).sum())
    return v if total <= 1.9 else v * np.sqrt(1.9 / total)

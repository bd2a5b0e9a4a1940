"""The dual of the semidefinite relaxation without its matrix constraint, smoothed: value, gradient, curvature.

Multipliers v = (t, y, nu) of the arrow (:mod:`convexnn.relaxations.arrow`) are feasible when the matrix S of size
1 + m is positive semidefinite. With ``q = S_z0`` the smallest t is ``q' S_zz^-1 q - S_00``. Minimized over the rest is

    F(v) = cost'v + t(v) - mu log det S_zz - share mu sum log y          (positive multipliers y)

whose value at ``mu = 0`` is a bound. One evaluation costs a Cholesky factorization of size m and two products
m x m x d.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri

from convexnn.relaxations.arrow.problem import ArrowProblem

Array = NDArray[np.float64]

#: Share of mu in front of the logarithms of the multipliers of inequality rows.
SHARE = 0.1
#: Longest relative change of a positive multiplier for which the model is trusted (natural logarithm).
LOG_RANGE = 30.0


@dataclass(frozen=True, eq=False)
class Inner:
    """What an evaluation computes: ``Z^-1`` without slot 0 in factored form, and the worst direction h."""

    N: Array
    J: Array
    G: Array
    h: Array
    t: float
    log_det: float


@dataclass(frozen=True, eq=False)
class Point:
    """An evaluation.

    Attributes
    ----------
    smoothed : float
        F, ``inf`` where the multipliers are infeasible for every t.
    bound : float
        The value without smoothing, in float64.
    v : array
        Multipliers with the smallest t.
    gradient : array
        Of F in the scaled variables; empty where F is infinite.
    """

    smoothed: float
    bound: float
    v: Array
    gradient: Array


class SmoothedDual:
    """F of one row around a centre v0: positive multipliers are ``v0 exp(scale phi)``, free ones ``v0 + scale phi``.

    The scales are inverse square roots of the diagonal of the Hessian at the centre, so that a unit step in any
    variable changes F about equally: without this, quasi-Newton steps stall on networks with several layers.

    Parameters
    ----------
    problem : ArrowProblem
    """

    def __init__(self, problem: ArrowProblem) -> None:
        relaxation = problem.relaxation
        self.problem, self.relaxation = problem, relaxation
        self.logarithmic = relaxation.positive.copy()
        self.logarithmic[relaxation.n_rows :] = True
        self.free = ~self.logarithmic
        self.logarithmic[0] = self.free[0] = False
        self.barred = relaxation.positive.copy()
        self.barred[0] = False
        self.centre, self.scale = np.zeros(len(self.free)), np.ones(len(self.free))

    @property
    def weight(self) -> float:
        """Number of logarithms, those of mu log det counted by size: ``mu weight`` is about the gap at a minimizer."""
        return self.relaxation.p + SHARE * float(self.barred.sum())

    def inner(self, v: Array) -> Inner | None:
        """Eliminate the inputs and t; None where S_zz is not positive definite."""
        Zhh, B, N = self.problem.arrow(v)
        J = -(B / N).T
        S = Zhh + B @ J
        S = 0.5 * (S + S.T)
        G = np.zeros_like(S)
        log_det = 0.0
        if len(S) > 1:
            factor, info = dpotrf(S[1:, 1:], lower=1, clean=1)
            if info or not factor[-1, -1] > 0.0:
                return None
            lower = dpotri(factor, lower=1)[0]
            G[1:, 1:] = lower + np.tril(lower, -1).T
            log_det = 2.0 * float(np.log(factor.diagonal()).sum())
        h = -G @ S[:, 0]
        h[0] = 1.0
        return Inner(N, J, G, h, -float(S[0] @ h), log_det)

    def recentre(self, v: Array, mu: float) -> None:
        """Take v (t is ignored) as the centre and its curvature as the scale."""
        self.centre = np.where(np.arange(len(v)) == 0, 0.0, v)
        self.scale = np.ones(len(v))
        inner = self.inner(self.centre)
        if inner is None:
            return
        curvature = np.maximum(self._curvature(inner, mu), 1e-300)
        steep = curvature * v * v + SHARE * mu * self.barred + 1e-12 * (abs(inner.t) + 1e-12)
        self.scale = 1.0 / np.sqrt(np.where(self.logarithmic, steep, curvature))
        self.scale[0] = 0.0

    def multipliers(self, phi: Array) -> Array:
        """Multipliers of scaled variables; t is zero."""
        step = phi * self.scale
        grown = self.centre * np.exp(np.clip(np.where(self.logarithmic, step, 0.0), -LOG_RANGE, LOG_RANGE))
        return np.where(self.logarithmic, grown, self.centre + step)

    def __call__(self, phi: Array, mu: float) -> Point:
        """Evaluate F and its gradient: ``cost - A*(X)`` (Danskin), ``X = h h' + mu G`` lifted to the inputs."""
        relaxation, v = self.relaxation, self.multipliers(phi)
        with np.errstate(all="ignore"):
            inner = self.inner(v)
            if inner is None or not np.isfinite(inner.t):
                return Point(np.inf, np.inf, v, np.empty(0))
            v[0] = inner.t
            bound = float(relaxation.cost @ v)
            smoothed = bound - mu * inner.log_det - SHARE * mu * float(np.log(v[self.barred]).sum())
            X = np.outer(inner.h, inner.h) + mu * inner.G
            Mx = inner.J @ X
            slope = relaxation.cost - relaxation.adjoint_of(X, Mx, np.einsum("ij,ij->i", Mx, inner.J))
        slope = np.where(self.logarithmic, slope * v, slope) - SHARE * mu * self.barred
        return Point(smoothed, bound, v, slope * self.scale)

    def _curvature(self, inner: Inner, mu: float) -> Array:
        """Diagonal of the Hessian of F in v: ``<X, A_k G A_k>`` with ``X = 2 h h' + mu G`` and ``A_k = sym(p_k q_k')``.

        Implements: convexnn, Proposition 4 of docs/theory/relaxations.md.
        """
        relaxation, m = self.relaxation, self.relaxation.m
        X = 2.0 * np.outer(inner.h, inner.h) + mu * inner.G
        lifted = relaxation.Rh + relaxation.W @ inner.J
        spread = (relaxation.W**2) @ (1.0 / inner.N)
        found, unit = np.zeros(len(self.free)), np.arange(m)
        (own_G, with_G), (own_X, with_X) = (
            (np.einsum("ij,ij->i", lifted @ M, lifted) + extra * spread, (lifted @ M)[unit, 1 + unit])
            for M, extra in ((inner.G, 1.0), (X, mu))
        )
        z_G, z_X, upper = inner.G.diagonal()[1:], X.diagonal()[1:], relaxation.forms.upper
        found[relaxation.group("over")] = 0.25 * X[0, 0] * own_G[:m]
        found[relaxation.group("extra")] = 0.25 * X[0, 0] * own_G[m:]
        found[relaxation.group("zero")] = 0.5 * with_G * with_X + 0.25 * (own_G[:m] * z_X + z_G * own_X[:m])
        side = z_X - 2.0 * upper * X[0, 1:] + upper**2 * X[0, 0]
        found[relaxation.group("box")] = 0.5 * z_G * (z_X - upper * X[0, 1:]) + 0.25 * z_G * (z_X + side)
        input_G = np.einsum("ij,ij->i", inner.J @ inner.G, inner.J) + 1.0 / inner.N
        input_X = np.einsum("ij,ij->i", inner.J @ X, inner.J) + mu / inner.N
        both = input_G * input_X
        found[relaxation.n_rows :] = both.sum() if relaxation.chart.is_ball else both
        return found

"""The spectral regularizers through the matrix fraction ``sum_i e_i e_i' / q_i``.

The arrow ``[[x I, E'], [E, diag(q)]]`` of order ``d + p + 1`` is positive definite exactly when q is positive and::

    T = x I - sum_i e_i e_i' / q_i

is: a concave function of (E, q, x), so that one matrix of order d stands for all of them. Its multiplier is W; a
multiplier of the arrow has W as leading block, rows z_i, and corners of which only the bound ``r_i >= z_i'W^-1 z_i``
matters. The path is that of the barrier ``-omega log det T - sum_i log q_i``::

    T W = omega mu I,    W e_i + q_i z_i = 0,    q_i s_i = mu   with   s_i = r_i - z_i'W^-1 z_i

(the last with free corners only). The z_i are variables of their own: the dual residual is linear in them and falls
with every step. Methods are those of ``ConeBlock``; targets are flat vectors: T, corners q, rows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from convexnn.solvers._fractional_elimination import FractionalElimination, Scaling, dots, symmetric_basis
from convexnn.solvers._small_matrices import last_nonnegative, scaling
from convexnn.solvers._stacked_rows import fixed_row_scale, stacked_adjoint, stacked_rows
from convexnn.solvers.cone_block import ConeStep, clip_change
from convexnn.solvers.cone_problem import ConeProblem

Array = NDArray[np.float64]

#: Total weight on the path, relative to that of the cone rows; 0.2 to 1 differ little.
SHARE = 0.4
#: Largest eigenvalue of the spectral part relative to its bound at the start.
START_LEVEL = 0.5
#: Rows of the matrix that are shorter than this share of the longest one are not stretched to the same norm.
SHORTEST_WEIGHTS = 1e-3
#: No step is longer than this; it is looked for until what is left of T or of a slack falls below the second share.
LONGEST, NEARLY_NOTHING = 1.02, 0.02
#: Shares that are zero up to roundoff.
BARELY = 1e-9


class FractionalBlock:
    """Base of the two spectral regularizers; subclasses say what is free: the corners q, or x.

    Implements: docs/theory/interior_point.md, Proposition 1.
    """

    n_extra = 0
    share = SHARE
    fixed_corner = False

    def __init__(self, problem: ConeProblem, weight: float) -> None:
        self.weight = weight
        self.d, self.d1, self.p = problem.n_weights, problem.d1, problem.p
        self.scale = problem.scale[: self.d, None]
        self.keep = problem.keep
        self.count = self.p + 1
        self.longest = problem.longest_start()
        self.corners = 0 if self.fixed_corner else self.count
        # weight of every eigenvalue of T on the path, relative to a corner: between 1 and their number
        self.omega = math.isqrt(self.count)
        self.degree = self.omega * self.d + self.corners
        self.row_scale = np.full(self.count, 0.5)
        self.rank = self.d + symmetric_basis(self.d, traceless=self.fixed_corner).shape[1]
        self.x, self.q = 1.0, np.ones(self.count)
        self.W, self.z = np.eye(self.d), np.zeros((self.count, self.d))

    # -- what differs ----------------------------------------------------------------------------------
    def _central_corners(self, forms: Array, mu: float) -> Array:
        """Central corners q of the rows, ``forms = e_i'W e_i``."""
        raise NotImplementedError

    def _bound(self, levels: Array, mu: float) -> float:
        """Central x when ``E'E / x`` has these eigenvalues; ``mu`` is that of T."""
        raise NotImplementedError

    def _lengths(self, centre: Array) -> Array:
        """Relative lengths of the units at the start, at most 1, shape (p,)."""
        return np.ones(centre.shape[1])

    def value(self) -> float:
        raise NotImplementedError

    # -- variables -------------------------------------------------------------------------------------
    def start(self, centre: Array, mu: float) -> Array:
        centre = centre * self._lengths(centre)
        E = self._off_diagonal(centre)
        share = self.omega * mu
        squared, self.x, W = 1.0, 1.0, share * np.eye(self.d)
        for _ in range(10):  # length, q, x and W depend on each other, weakly
            q = self._central_corners(squared * dots(E @ W, E), mu)
            spectrum, axes = np.linalg.eigh((E / q[:, None]).T @ E)
            # a centre that is all bias would have to be endless to reach the level
            top = max(float(spectrum[-1]), 1e-200)
            self.x = self._bound(np.maximum(spectrum, 0) * min(START_LEVEL / top, self.longest**2 / self.x), share)
            squared = min(START_LEVEL * self.x / top, self.longest**2)
            W = (axes * (share / (self.x - squared * spectrum))) @ axes.T
        self.q, self.W = q, 0.5 * (W + W.T)
        U = centre * np.sqrt(squared)
        self._set_primal(U)
        self.z = -(self.E @ self.W) / q[:, None]
        self._set_dual()
        return U

    def state(self) -> tuple[Array, ...]:
        return self.W, self.z, self.q if self.corners else np.array([self.x])

    def resume(self, state: tuple[Array, ...], U: Array, ratio: float) -> bool:
        # the last part is q or x: a pair of the other regularizer has the wrong tr W
        if len(state) != 3 or state[0].shape != self.W.shape or (state[2].size == 1) != self.fixed_corner:
            return False
        W, z, free = state
        index = np.append(0, 1 + self.keep)
        self.W, self.z = ratio * W, ratio * z[index]
        self.q, self.x = (np.ones(self.count), float(free[0])) if self.fixed_corner else (free[index], 1.0)
        self._set_primal(U)
        try:
            for matrix in (self.T, self.W):
                np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            return False
        self._set_dual()
        return bool((self.q > 0).all() and (self.slack > 0).all())

    def _off_diagonal(self, U: Array) -> Array:
        """``E``: scaled rows of ``[sum_i u_i; u_1; ...; u_p]``, shape (p + 1, d)."""
        return stacked_rows(U, self.scale, self.row_scale)

    def _set_primal(self, U: Array) -> None:
        self.E = self._off_diagonal(U)
        self.ratio = self.E / self.q[:, None]
        self.T = self._remainder(self.E, self.q, self.x)

    def _remainder(self, E: Array, q: Array, x: float) -> Array:
        T = -(E / q[:, None]).T @ E
        T[np.diag_indices(self.d)] += x
        return np.asarray(0.5 * (T + T.T))

    def _set_dual(self) -> None:
        self.dual_ratio = _ratio(self.W, self.z)
        self.slack = self.weight + dots(self.z, self.dual_ratio) if self.corners else np.ones(self.count)

    def gap(self) -> float:
        apart = self.ratio - self.dual_ratio
        total = np.vdot(self.T, self.W) + self.q @ dots(apart @ self.W, apart)
        return float(total + (self.q @ self.slack if self.corners else 0.0))

    def dual_residual(self) -> tuple[Array, Array]:
        return self._lift(2 * self.z), np.zeros(0)

    def dual_gradient(self) -> Array:
        return -self.dual_residual()[0]

    def matrix(self) -> Array | None:
        """A completion of the arrow's multiplier, positive semidefinite where the slacks are nonnegative."""
        tail = -self.z @ self.dual_ratio.T
        tail = 0.5 * (tail + tail.T)
        if self.corners:
            tail[np.diag_indices(self.count)] = self.weight
        return np.block([[self.W, self.z.T], [self.z, tail]])

    # -- Newton system ---------------------------------------------------------------------------------
    def rescale(self) -> None:
        if not ((self.slack > 0).all() and (self.q > 0).all()):
            raise np.linalg.LinAlgError("a corner left its cone")
        self.root, self.lmbda = scaling(self.T, self.W)
        self.root_inverse = (self.root / self.lmbda).T @ self.W  # root' W root = diag(lmbda)
        self.corner, self.corner_scale = np.sqrt(self.q * self.slack), np.sqrt(self.q / self.slack)
        self._missing = -self.E @ self.W - self.q[:, None] * self.z
        k = 2 * self.weight - self.slack
        point = Scaling(self.root @ self.root.T, self.W, self.ratio, self.z, self.q, k)
        self.elimination = FractionalElimination(point, self.row_scale, fixed_corner=self.fixed_corner)

    def unit_hessian(self) -> Array:
        H = np.zeros((self.p, self.d1, self.d1))
        H[:, : self.d, : self.d] = self.elimination.blocks / self.scale / self.scale.T
        return H

    def low_rank(self) -> Array:
        F = np.zeros((self.rank, self.p, self.d1))
        F[:, :, : self.d] = self.elimination.F.reshape(self.rank, self.p, self.d) / self.scale[:, 0]
        return F

    def pull_back(self, target: Array) -> tuple[Array, Array]:
        T, q, rows = self._parts(target)
        R = self.root @ T @ self.root.T
        wanted = self.corner * q if self.corners else q
        by_rows, by_units = self.elimination.reduce(R, self._missing + rows, wanted)
        g = self._lift(by_rows)
        g[: self.d] += by_units.T / self.scale
        return g, np.zeros(0)

    def expand(self, dU: Array, extra: Array, target: Array) -> ConeStep:  # noqa: ARG002
        dV, de = (dU[: self.d] / self.scale).T, self._off_diagonal(dU)
        dW, dq, dz = self.elimination.recover(dV, de)
        T, q, _ = self._parts(target)
        dual = self.root.T @ dW @ self.root
        step = np.concatenate([(T - dual).ravel(), dq / self.corner_scale if self.corners else dq])
        both = np.concatenate([dual.ravel(), q - step[self.d**2 :]])
        dx = self._bound_change(T - dual, de) if self.fixed_corner else 0.0
        return ConeStep(np.concatenate([dW.ravel(), dq, [dx], de.ravel(), dz.ravel()]), step, both)

    def _bound_change(self, scaled: Array, de: Array) -> float:
        """Change of x from the trace of ``dT = dx I - sum_i (y_i de_i' + de_i y_i')``."""
        trace = float(np.vdot(self.root @ scaled, self.root)) + 2 * float(np.vdot(self.ratio, de))
        return trace / self.d

    def move(self, U: Array, step: ConeStep, length: float) -> None:
        dW, dq, dx, _, dz = self._changes(step)
        self.W, self.z, self.x = self.W + length * dW, self.z + length * dz, self.x + length * dx
        if self.corners:
            self.q = self.q + length * dq
        self._set_primal(U)
        self._set_dual()

    def _changes(self, step: ConeStep) -> tuple[Array, Array, float, Array, Array]:
        """``dW, dq, dx, de, dz``."""
        d, m = self.d, self.corners
        dW, dq, dx, de, dz = np.split(step.extra, np.cumsum([d * d, m, 1, self.count * d]))
        return dW.reshape(d, d), dq, float(dx[0]), de.reshape(-1, d), dz.reshape(-1, d)

    # -- targets ---------------------------------------------------------------------------------------
    def affine(self) -> Array:
        return self._target(-self.lmbda, -self.corner)

    def centring(self, mu: float) -> Array:
        return self._target(self.omega * mu / self.lmbda, mu / self.corner)

    def second_order(self, step: ConeStep) -> Array:
        """What the products of the changes add to every equation, and the curvature of the matrix fraction."""
        out = np.zeros(self.d**2 + self.corners + self.E.size)
        T, corners, rows = self._parts(out)
        a, b = (self._parts(change)[0] for change in (step.primal, step.dual))
        product = a @ b
        T[:] = -(product + product.T) / (self.lmbda[:, None] + self.lmbda)
        dW, dq, _, de, dz = self._changes(step)
        turned = de - self.ratio * dq[:, None] if self.corners else de
        bent = (turned / self.q[:, None]).T @ turned
        T += self.root_inverse @ bent @ self.root_inverse.T
        rows[:] = -de @ dW
        if self.corners:
            rows -= dq[:, None] * dz
            corners[:] = (dots(self.ratio, rows) - dots(dz, de)) / self.corner
        return out

    def clipped(self, step: ConeStep, length: float, mu: float) -> Array:
        out = np.zeros(self.d**2 + self.corners + self.E.size)
        T, corners, _ = self._parts(out)
        (a, a_corner, _), (b, b_corner, _) = self._parts(length * step.primal), self._parts(length * step.dual)
        product = (a + np.diag(self.lmbda)) @ (b + np.diag(self.lmbda))
        values, vectors = np.linalg.eigh(0.5 * (product + product.T))
        change = (vectors * clip_change(values, self.omega * mu)) @ vectors.T
        T[:] = 2 * change / (self.lmbda[:, None] + self.lmbda)
        if self.corners:
            corners[:] = clip_change((self.corner + a_corner) * (self.corner + b_corner), mu) / self.corner
        return out

    def gap_after(self, step: ConeStep, length: float) -> float:
        point = self._target(self.lmbda, self.corner)[: step.primal.size]
        return float(np.vdot(point + length * step.primal, point + length * step.dual))

    def max_step(self, step: ConeStep, limit: float) -> float:
        dW, dq, dx, de, dz = self._changes(step)
        limit = min(limit, LONGEST)
        if self.corners:
            limit = min(limit, (1 - BARELY) / max(-float((dq / self.q).min()), 1e-3))
        dual = self._parts(step.dual)[0] / np.sqrt(self.lmbda[:, None] * self.lmbda)
        scaled, eye = self.root_inverse / np.sqrt(self.lmbda)[:, None], np.eye(self.d)

        def left(length: float) -> float:
            """Smallest remaining share of T, of W and of the slacks: concave in the length, 1 at zero."""
            q = self.q + length * dq if self.corners else self.q
            T = self._remainder(self.E + length * de, q, self.x + length * dx)
            smallest = float(np.linalg.eigvalsh(np.array([scaled @ T @ scaled.T, eye + length * dual]))[:, 0].min())
            if smallest <= BARELY or not self.corners:
                return smallest - BARELY
            z = self.z + length * dz
            slack = self.weight + dots(z, _ratio(self.W + length * dW, z))
            return min(smallest, float((slack / self.slack).min()))

        return last_nonnegative(left, limit, NEARLY_NOTHING)

    def _parts(self, flat: Array) -> tuple[Array, Array, Array]:
        d = self.d
        T, corners, rows = flat[: d * d], flat[d * d : d * d + self.corners], flat[d * d + self.corners :]
        return T.reshape(d, d), corners, rows.reshape(-1, d)

    def _target(self, T: Array, corners: Array) -> Array:
        flat = np.zeros(self.d**2 + self.corners + self.E.size)
        matrix, values, _ = self._parts(flat)
        np.einsum("aa->a", matrix)[:] = T
        values[:] = corners[: self.corners]
        return flat

    def _lift(self, rows: Array) -> Array:
        """Adjoint of :meth:`_off_diagonal`."""
        return stacked_adjoint(rows, self.scale, self.row_scale, self.d1)


def _ratio(W: Array, z: Array) -> Array:
    """Rows ``-W^-1 z_i``."""
    return -np.asarray(np.linalg.solve(W, z.T), dtype=float).T


class JointFractional(FractionalBlock):
    """``weight sum(q)`` with ``[[I, B'/2], [B/2, diag(q)]] >= 0``, q free: the squared LipSDP bound."""

    def value(self) -> float:
        return float(self.weight * self.q.sum())

    def _central_corners(self, forms: Array, mu: float) -> Array:
        return np.asarray((mu + np.sqrt(mu * mu + 4 * self.weight * forms)) / (2 * self.weight))

    def _bound(self, levels: Array, mu: float) -> float:  # noqa: ARG002
        return 1.0


class FixedFractional(FractionalBlock):
    """``weight x`` with ``[[x I, C'], [C, I]] >= 0``, ``C = diag(q)^(-1/2) B / 2`` for fixed q."""

    fixed_corner = True

    def __init__(self, problem: ConeProblem, weight: float, q: Array) -> None:
        super().__init__(problem, weight)
        self.row_scale = fixed_row_scale(q)

    def _lengths(self, centre: Array) -> Array:
        """Lengths that give every row of the matrix the same norm: a unit with a small corner stays small."""
        norms = np.linalg.norm(self._off_diagonal(centre)[1:], axis=1)
        # a unit may be nearly all bias, or all of them nothing else
        norms = np.maximum(norms, max(SHORTEST_WEIGHTS * norms.max(), np.finfo(float).tiny))
        return np.asarray(norms.min() / norms)

    def value(self) -> float:
        return self.weight * self.x

    def _central_corners(self, forms: Array, mu: float) -> Array:  # noqa: ARG002
        return np.ones(self.count)

    def _bound(self, levels: Array, mu: float) -> float:
        return float(mu / self.weight * (1 / (1 - levels)).sum())

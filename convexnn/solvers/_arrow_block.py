"""The spectral regularizers as many small matrix inequalities instead of a large one.

The matrix ``[[x I, E'], [E, diag(q)]]`` of order ``d + p + 1`` is an arrow: a chordal pattern with one clique a row of
E. It is positive semidefinite exactly when there are symmetric ``Y_0, ..., Y_p`` with::

    X_i = [[Y_i, e_i], [e_i', q_i]] >= 0   for every i,     T = x I - sum_i Y_i >= 0

Multipliers of the small inequalities share their leading block W, the one of T, so the dual variables are W (d, d),
z_i (d) and the corners r_i. In the Newton system all but W and z_0 is eliminated unit by unit
(:mod:`convexnn.solvers._arrow_elimination`); hence the Hessian in U is block diagonal plus rank ``d (d + 3) / 2``.
Methods are those of ``ConeBlock``; cone variables are flat vectors, all cliques first and then the rest T.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from convexnn.solvers._arrow_elimination import ArrowElimination, bordered, symmetric_basis
from convexnn.solvers._small_matrices import clipped_spectra, longest_step
from convexnn.solvers.cone_block import ConeStep
from convexnn.solvers.cone_problem import ConeProblem

Array = NDArray[np.float64]

#: Squared eigenvalues of the scaled point that spread farther than this are computed anew from a product of factors.
WIDEST_SPREAD = 1e10
#: Total weight on the path, relative to that of the cone rows; 0.2 to 1 differ little.
SHARE = 0.4
#: Largest eigenvalue of the spectral part relative to its bound at the start.
START_LEVEL = 0.5
#: Rows of the matrix that are shorter than this share of the longest one are not stretched to the same norm.
SHORTEST_WEIGHTS = 1e-3


class ArrowBlock:
    """Base of the two spectral regularizers; subclasses say what is free: the corners q, or x in ``P = x I``.

    Implements: docs/theory/interior_point.md, Proposition 1.
    """

    separable = True
    n_extra = 0
    share = SHARE
    fixed_corner = False

    def __init__(self, problem: ConeProblem, weight: float) -> None:
        self.weight = weight
        self.d, self.d1, self.p = problem.n_weights, problem.d1, problem.p
        self.scale = problem.scale[: self.d, None]
        self.keep = problem.keep
        self.count, self.k = self.p + 1, self.d + 1
        self.longest = problem.longest_start()
        self.degree = self.count * self.k + self.d
        self.row_scale = np.full(self.count, 0.5)
        self.rank = self.d + symmetric_basis(self.d, traceless=self.fixed_corner).shape[1]
        self.x = 1.0
        self.X = np.tile(np.eye(self.k), (self.count, 1, 1))
        self.T = np.eye(self.d)
        self.W, self.z, self.r = np.eye(self.d), np.zeros((self.count, self.d)), np.full(self.count, weight)

    # -- what differs ----------------------------------------------------------------------------------
    def _corners(self, forms: Array, mu: float) -> Array:
        """Central corners q of the cliques, ``forms = e_i'W e_i / mu``."""
        raise NotImplementedError

    def _bound(self, levels: Array, mu: float) -> float:
        """Central x when ``E'E / x`` has these eigenvalues."""
        raise NotImplementedError

    def _lengths(self, centre: Array) -> Array:
        """Relative lengths of the units at the start, at most 1, shape (p,)."""
        return np.ones(centre.shape[1])

    def value(self) -> float:
        raise NotImplementedError

    def dual_residual(self) -> tuple[Array, Array]:
        Z = 2 * self.row_scale[:, None] * self.z
        return self._lift(Z[1:] + Z[:1]), np.zeros(0)

    # -- variables -------------------------------------------------------------------------------------
    def start(self, centre: Array, mu: float) -> Array:
        centre = centre * self._lengths(centre)
        E = self._off_diagonal(centre)
        share = (self.count + 1) * mu
        squared, self.x, W = 1.0, 1.0, share * np.eye(self.d)
        for _ in range(10):  # length, q, x and W depend on each other, weakly
            q = self._corners(squared * np.einsum("ia,ab,ib->i", E, W, E) / mu, mu)
            spectrum, axes = np.linalg.eigh((E / q[:, None]).T @ E)
            # a centre that is all bias would have to be endless to reach the level
            top = max(float(spectrum[-1]), np.finfo(float).tiny)
            self.x = self._bound(np.maximum(spectrum, 0) * min(START_LEVEL / top, self.longest**2 / self.x), mu)
            squared = min(START_LEVEL * self.x / top, self.longest**2)
            W = (axes * (share / (self.x - squared * spectrum))) @ axes.T
        self.W = 0.5 * (W + W.T)
        E = E * np.sqrt(squared)
        self.X[:, : self.d, : self.d] = E[:, :, None] * (E / q[:, None])[:, None, :] + mu * np.linalg.inv(self.W)
        self.X[:, self.d, self.d] = q
        self.z = -(E @ self.W) / q[:, None]
        if self.fixed_corner:
            self.r = mu + np.einsum("ia,ab,ib->i", E, self.W, E)
        U = centre * np.sqrt(squared)
        self._set_primal(U)
        return U

    def state(self) -> tuple[Array, ...]:
        return self.X, self.W, self.z, self.r, np.array([self.x])

    def resume(self, state: tuple[Array, ...], U: Array, ratio: float) -> bool:
        if len(state) != len(self.state()) or state[1].shape != self.W.shape:
            return False
        X, W, z, r, x = state
        index = np.append(0, 1 + self.keep)
        self.X, self.W, self.z, self.r = X[index].copy(), ratio * W, ratio * z[index], ratio * r[index]
        if self.fixed_corner:
            self.x = float(x[0])
        else:
            self.r = np.full(self.count, self.weight)
        self._set_primal(U)
        try:
            for matrix in (self.X, self.T, self._dual()):
                np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            return False
        return True

    def _off_diagonal(self, U: Array) -> Array:
        """``E``: scaled rows of ``[sum_i u_i; u_1; ...; u_p]``, shape (p + 1, d)."""
        E = np.empty((self.count, self.d))
        E[1:] = (U[: self.d] / self.scale).T
        E[0] = E[1:].sum(axis=0)
        E *= self.row_scale[:, None]
        return E

    def _set_primal(self, U: Array) -> None:
        d = self.d
        self.X[:, d, :d] = self.X[:, :d, d] = self._off_diagonal(U)
        self.T = self.x * np.eye(d) - self.X[:, :d, :d].sum(axis=0)

    def _dual(self) -> Array:
        """Multipliers of the cliques, shape (p + 1, d + 1, d + 1)."""
        return bordered(self.W, self.z, self.r)

    def gap(self) -> float:
        return float(np.vdot(self.X, self._dual()) + np.vdot(self.T, self.W))

    def dual_gradient(self) -> Array:
        return -self.dual_residual()[0]

    def matrix(self) -> Array | None:
        """A completion of the arrow's multiplier: positive semidefinite when the cliques' multipliers are."""
        tail = self.z @ np.linalg.solve(self.W, self.z.T)
        tail = 0.5 * (tail + tail.T)
        tail[np.diag_indices(self.count)] = self.r
        return np.block([[self.W, self.z.T], [self.z, tail]])

    # -- Newton system ---------------------------------------------------------------------------------
    def rescale(self) -> None:
        self.root, self.lmbda = _scaling(self.X, self._dual())
        self.T_root, self.T_lmbda = _scaling(self.T, self.W)
        self._sums = [lmbda[..., :, None] + lmbda[..., None, :] for lmbda in (self.lmbda, self.T_lmbda)]
        self._roots = [1 / np.sqrt(lmbda[..., :, None] * lmbda[..., None, :]) for lmbda in (self.lmbda, self.T_lmbda)]
        self.elimination = ArrowElimination(self.root, self.T_root, self.row_scale, fixed_corner=self.fixed_corner)

    def unit_hessian(self) -> Array:
        H = np.zeros((self.p, self.d1, self.d1))
        H[:, : self.d, : self.d] = self.elimination.unit_hessian() / self.scale / self.scale.T
        return H

    def low_rank(self) -> Array:
        F = np.zeros((self.rank, self.p, self.d1))
        F[:, :, : self.d] = self.elimination.F.reshape(self.rank, self.p, self.d) / self.scale[:, 0]
        return F

    def pull_back(self, target: Array) -> tuple[Array, Array]:
        cliques, rest = self._parts(target)
        R = self.root @ cliques @ self.root.transpose(0, 2, 1)
        R_rest = self.T_root @ rest @ self.T_root.T
        return self._lift(self.elimination.reduce(R, R_rest)), np.zeros(0)

    def expand(self, dU: Array, extra: Array, target: Array) -> ConeStep:  # noqa: ARG002
        dW, dz, dr = self.elimination.recover((dU[: self.d] / self.scale).T)
        dual = np.concatenate(
            [
                (self.root.transpose(0, 2, 1) @ bordered(dW, dz, dr) @ self.root).ravel(),
                (self.T_root.T @ dW @ self.T_root).ravel(),
            ]
        )
        return ConeStep(np.concatenate([dW.ravel(), dz.ravel(), dr]), target - dual, dual)

    def move(self, U: Array, step: ConeStep, length: float) -> None:
        d = self.d
        dW, dz, dr = np.split(length * step.extra, [d * d, d * d + self.z.size])
        self.W, self.z, self.r = self.W + dW.reshape(d, d), self.z + dz.reshape(self.z.shape), self.r + dr
        cliques, rest = self._parts(length * step.primal)
        change = self.root @ cliques @ self.root.transpose(0, 2, 1)
        corners = self.X[:, d, d].copy()
        self.X = self.X + 0.5 * (change + change.transpose(0, 2, 1))
        if self.fixed_corner:
            self.X[:, d, d] = corners
            moved = change[:, :d, :d].sum(axis=0) + self.T_root @ rest @ self.T_root.T
            self.x += float(np.trace(moved)) / d
        self._set_primal(U)

    # -- targets ---------------------------------------------------------------------------------------
    def affine(self) -> Array:
        return self._diagonals(-self.lmbda, -self.T_lmbda)

    def centring(self, mu: float) -> Array:
        return self._diagonals(mu / self.lmbda, mu / self.T_lmbda)

    def second_order(self, step: ConeStep) -> Array:
        return self._each(_second_order, step, 1.0)

    def clipped(self, step: ConeStep, length: float, mu: float) -> Array:
        def clip(a: Array, b: Array, lmbda: Array) -> Array:
            product = _trial(a, lmbda) @ _trial(b, lmbda)
            product = 0.5 * (product + product.swapaxes(-1, -2))
            change = clipped_spectra(product.reshape(-1, *product.shape[-2:]), mu).reshape(product.shape)
            return 2 * change / (lmbda[..., :, None] + lmbda[..., None, :])

        return self._each(clip, step, length)

    def gap_after(self, step: ConeStep, length: float) -> float:
        point = self._diagonals(self.lmbda, self.T_lmbda)
        return float(np.vdot(point + length * step.primal, point + length * step.dual))

    def max_step(self, step: ConeStep, limit: float) -> float:
        changes = self._parts(step.primal), self._parts(step.dual)
        for a, b, root in zip(*changes, self._roots, strict=True):
            limit = longest_step(np.array([a, b]) * root, limit)
        return limit

    def _each(self, operation: Callable[[Array, Array, Array], Array], step: ConeStep, length: float) -> Array:
        (a, a_rest), (b, b_rest) = self._parts(length * step.primal), self._parts(length * step.dual)
        parts = operation(a, b, self.lmbda), operation(a_rest, b_rest, self.T_lmbda)
        return np.concatenate([part.ravel() for part in parts])

    def _parts(self, flat: Array) -> tuple[Array, Array]:
        split = self.X.size
        return flat[:split].reshape(self.X.shape), flat[split:].reshape(self.T.shape)

    def _diagonals(self, cliques: Array, rest: Array) -> Array:
        flat = np.zeros(self.X.size + self.T.size)
        first, last = self._parts(flat)
        np.einsum("iaa->ia", first)[:] = cliques
        np.einsum("aa->a", last)[:] = rest
        return flat

    def _lift(self, rows: Array) -> Array:
        g = np.zeros((self.d1, self.p))
        g[: self.d] = rows.T / self.scale
        return g


class JointArrow(ArrowBlock):
    """``weight sum(q)`` with ``[[I, B'/2], [B/2, diag(q)]] >= 0``, q free: the squared LipSDP bound."""

    def value(self) -> float:
        return float(self.weight * self.X[:, self.d, self.d].sum())

    def _corners(self, forms: Array, mu: float) -> Array:
        ratio = 0.5 * mu / self.weight
        return ratio + np.sqrt(ratio * ratio + 2 * ratio * forms)

    def _bound(self, levels: Array, mu: float) -> float:  # noqa: ARG002
        return 1.0


class FixedArrow(ArrowBlock):
    """``weight x`` with ``[[x I, C'], [C, I]] >= 0``, ``C = diag(q)^(-1/2) B / 2`` for fixed q."""

    fixed_corner = True

    def __init__(self, problem: ConeProblem, weight: float, q: Array) -> None:
        super().__init__(problem, weight)
        self.row_scale = 0.5 / np.sqrt(np.maximum(q, 1e-12 * q.max()))

    def _lengths(self, centre: Array) -> Array:
        """Lengths that give every row of the matrix the same norm: a unit with a small corner stays small."""
        norms = np.linalg.norm(self._off_diagonal(centre)[1:], axis=1)
        norms = np.maximum(norms, SHORTEST_WEIGHTS * norms.max())  # nearly all of the unit is its bias
        return np.asarray(norms.min() / norms)

    def value(self) -> float:
        return self.weight * self.x

    def _corners(self, forms: Array, mu: float) -> Array:  # noqa: ARG002
        return np.ones(self.count)

    def _bound(self, levels: Array, mu: float) -> float:
        return float((self.count + 1) * mu / self.weight * (1 / (1 - levels)).sum())


def _scaling(X: Array, S: Array) -> tuple[Array, Array]:
    """``G`` with ``G^-1 X G^-T = G' S G = diag(lmbda)``; LinAlgError outside of the cone."""
    L = np.linalg.cholesky(X)
    squared, V = np.linalg.eigh(L.swapaxes(-1, -2) @ S @ L)
    if (squared[..., 0] <= squared[..., -1] / WIDEST_SPREAD).any():
        _, singular, Vt = np.linalg.svd(np.linalg.cholesky(S).swapaxes(-1, -2) @ L)
        V, squared = Vt.swapaxes(-1, -2), singular**2
    lmbda = np.sqrt(squared)
    return L @ (V / np.sqrt(lmbda)[..., None, :]), lmbda


def _trial(change: Array, lmbda: Array) -> Array:
    moved = change.copy()
    np.einsum("...aa->...a", moved)[:] += lmbda
    return moved


def _second_order(a: Array, b: Array, lmbda: Array) -> Array:
    product = a @ b
    return -(product + product.swapaxes(-1, -2)) / (lmbda[..., :, None] + lmbda[..., None, :])

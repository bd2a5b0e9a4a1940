"""The spectral regularizers as matrix inequalities; methods are those of ``ConeBlock``."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf

from convexnn.solvers.cone_block import ConeStep, clip_change
from convexnn.solvers.cone_problem import ConeProblem

Array = NDArray[np.float64]


class SpectralBlock:
    """Base of the two spectral regularizers: one positive semidefinite variable with its scaling.

    ``primal = [[P, E'], [E, Q]]`` of order K with E affine in U; subclasses say what is in P and Q.
    """

    separable = False

    def __init__(self, problem: ConeProblem, weight: float) -> None:
        self.weight = weight
        self.d, self.d1, self.p = problem.n_weights, problem.d1, problem.p
        self.scale = problem.scale[: self.d, None]
        self.rows = problem.p + 1
        self.longest = problem.longest_start()
        self.K = self.degree = self.d + self.rows
        self.inner = np.arange(self.d)
        self.outer = np.arange(self.d, self.K)
        self.row_scale = np.full(self.rows, 0.5)
        self.n_extra = 0
        self.extra = np.zeros(0)
        self.primal = np.eye(self.K)
        self.dual = np.eye(self.K)

    # the three things that differ -------------------------------------------------------------
    def _embed_diagonals(self, M: Array, extra: Array, constant: float) -> None:
        raise NotImplementedError

    def _extra_adjoint(self, S: Array) -> Array:
        raise NotImplementedError

    def _cost(self) -> Array:
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------
    def _off_diagonal(self, U: Array) -> Array:
        """``E``: scaled rows of ``[sum_i u_i; u_1; ...; u_p]``, shape (p + 1, d)."""
        E = np.empty((self.rows, self.d))
        E[1:] = (U[: self.d] / self.scale).T
        E[0] = E[1:].sum(axis=0)
        E *= self.row_scale[:, None]
        return E

    def _embed(self, U: Array, extra: Array, constant: float) -> Array:
        M = np.zeros((self.K, self.K))
        E = self._off_diagonal(U)
        M[self.d :, : self.d] = E
        M[: self.d, self.d :] = E.T
        self._embed_diagonals(M, extra, constant)
        return M

    def _adjoint(self, S: Array) -> tuple[Array, Array]:
        Z = 2 * self.row_scale[:, None] * S[self.d :, : self.d]
        g = np.zeros((self.d1, self.p))
        g[: self.d] = (Z[1:] + Z[:1]).T / self.scale
        return g, self._extra_adjoint(S)

    def _set_primal(self, U: Array) -> None:
        self.primal = self._embed(U, self.extra, 1.0)

    def value(self) -> float:
        return float(self._cost() @ self.extra)

    def gap(self) -> float:
        return float(np.vdot(self.primal, self.dual))

    def dual_residual(self) -> tuple[Array, Array]:
        g, x = self._adjoint(self.dual)
        return g, self._cost() - x

    def dual_gradient(self) -> Array:
        return -self._adjoint(self.dual)[0]

    def matrix(self) -> Array | None:
        return self.dual

    def rescale(self) -> None:
        L, R = np.linalg.cholesky(self.primal), np.linalg.cholesky(self.dual)
        product = R.T @ L
        # on the weighted path the eigenvalues of product product' stay within a few orders of magnitude
        squared, vectors = np.linalg.eigh(product @ product.T)
        if squared[0] <= 1e-10 * squared[-1]:
            vectors, singular, _ = np.linalg.svd(product)
            squared = singular**2
        self.lmbda = np.sqrt(squared)
        self.root = np.sqrt(self.lmbda)
        self.T = (vectors / self.root).T @ R.T
        self.scaling = self.T.T @ self.T
        self.sums = self.lmbda[:, None] + self.lmbda

    def unit_hessian(self) -> Array:
        raise NotImplementedError("a spectral regularizer couples the units")

    def _add_unit_part(self, blocks: Array, corner: Array, cross: Array, tail: Array) -> Array:
        """Hessian in U (lower triangle): ``corner_ab tail_ij + cross_bi cross_aj / 2``; returns the summed cross."""
        pair = 0.5 * (tail[1:, 1:] + tail[1:, :1] + tail[:1, 1:] + tail[0, 0])
        summed = cross[:, 1:] + cross[:, :1]
        half = 0.5 * summed
        for a in range(self.d):
            target = blocks[a, :, : a + 1]
            target += pair[:, None, :] * corner[a, : a + 1, None]
            target += summed[: a + 1].T[:, :, None] * half[a]
        return summed

    def hessian_times(self, dU: Array, extra: Array) -> tuple[Array, Array]:
        return self._adjoint(self.scaling @ self._embed(dU, extra, 0.0) @ self.scaling)

    def affine(self) -> Array:
        return np.diag(-self.lmbda)

    def centring(self, mu: float) -> Array:
        return np.diag(mu / self.lmbda)

    def second_order(self, step: ConeStep) -> Array:
        product = step.primal @ step.dual
        return cast(Array, -(product + product.T) / self.sums)

    def clipped(self, step: ConeStep, length: float, mu: float) -> Array:
        diagonal = np.diag(self.lmbda)
        product = (diagonal + length * step.primal) @ (diagonal + length * step.dual)
        values, vectors = np.linalg.eigh((product + product.T) / 2)
        return cast(Array, 2 * ((vectors * clip_change(values, mu)) @ vectors.T) / self.sums)

    def pull_back(self, target: Array) -> tuple[Array, Array]:
        return self._adjoint(self.T.T @ target @ self.T)

    def expand(self, dU: Array, extra: Array, target: Array) -> ConeStep:
        primal = self.T @ self._embed(dU, extra, 0.0) @ self.T.T
        return ConeStep(extra, primal, target - primal)

    def max_step(self, step: ConeStep, limit: float) -> float:
        """One Cholesky test at the step the rows allow; eigenvalues only when it fails."""
        scale = self.root[:, None] * self.root
        for change in (step.primal, step.dual):
            relative = change / scale
            trial = min(limit, 10.0) * 1.001 * relative
            trial[np.diag_indices(self.K)] += 1
            if dpotrf(trial, lower=1, overwrite_a=1)[1]:
                smallest = np.linalg.eigvalsh(relative)[0]
                limit = min(limit, -1 / smallest) if smallest < 0 else limit
        return float(limit)

    def gap_after(self, step: ConeStep, length: float) -> float:
        diagonal = np.diag(self.lmbda)
        return float(np.vdot(diagonal + length * step.primal, diagonal + length * step.dual))

    def move(self, U: Array, step: ConeStep, length: float) -> None:
        self.extra = self.extra + length * step.extra
        self._set_primal(U)
        S = self.dual + length * (self.T.T @ step.dual @ self.T)
        self.dual = (S + S.T) / 2

    def _start(self, centre: Array, mu: float, level: float) -> Array:
        """Scale the centre so that the largest eigenvalue of ``E'E`` equals ``level``."""
        E = self._off_diagonal(centre)
        largest = np.linalg.eigvalsh(E.T @ E)[-1]
        # a centre that is all bias would have to be endless to reach the level
        factor = min(np.sqrt(level / max(largest, np.finfo(float).tiny)), self.longest)
        U = centre * factor
        self._set_primal(U)
        S = mu * np.linalg.inv(self.primal)
        self.dual = (S + S.T) / 2
        return U


class JointBlock(SpectralBlock):
    """``weight sum(q)`` with ``[[I, B'/2], [B/2, diag(q)]] >= 0``, q free: the squared LipSDP bound."""

    def __init__(self, problem: ConeProblem, weight: float) -> None:
        super().__init__(problem, weight)
        self.n_extra = self.rows

    def start(self, centre: Array, mu: float) -> Array:
        self.extra = np.full(self.rows, mu / self.weight)
        return self._start(centre, mu, 0.25 * mu / self.weight)

    def _cost(self) -> Array:
        return np.full(self.rows, self.weight)

    def _embed_diagonals(self, M: Array, extra: Array, constant: float) -> None:
        M[self.inner, self.inner] = constant
        M[self.outer, self.outer] = extra

    def _extra_adjoint(self, S: Array) -> Array:
        return np.diag(S)[self.d :].copy()

    def add_hessian(self, H: Array, blocks: Array) -> None:
        d, N = self.d, self.d1 * self.p
        cross, tail = self.scaling[:d, d:] / self.scale, self.scaling[d:, d:]
        self._add_unit_part(blocks, self.scaling[:d, :d] / self.scale / self.scale.T, cross, tail)
        H[N:, :N] = 0
        H[N:, : d * self.p] = ((tail[1:] + tail[:1])[None] * cross[:, None, :]).reshape(d * self.p, self.rows).T
        H[N:, N:] = tail * tail


class FixedBlock(SpectralBlock):
    """``weight x`` with ``[[x I, C'], [C, I]] >= 0``, ``C = diag(q)^(-1/2) B / 2`` for fixed q."""

    def __init__(self, problem: ConeProblem, weight: float, q: Array) -> None:
        super().__init__(problem, weight)
        self.row_scale = 0.5 / np.sqrt(np.maximum(q, 1e-12 * q.max()))
        self.n_extra = 1

    def start(self, centre: Array, mu: float) -> Array:
        self.extra = np.array([1.5 * mu * self.d / self.weight])
        return self._start(centre, mu, 0.25 * self.extra[0])

    def _cost(self) -> Array:
        return np.array([self.weight])

    def _embed_diagonals(self, M: Array, extra: Array, constant: float) -> None:
        M[self.inner, self.inner] = extra[0]
        M[self.outer, self.outer] = constant

    def _extra_adjoint(self, S: Array) -> Array:
        return np.array([np.trace(S[: self.d, : self.d])])

    def add_hessian(self, H: Array, blocks: Array) -> None:
        d, N = self.d, self.d1 * self.p
        scale = 2 * self.row_scale
        corner = self.scaling[:d, :d]
        tail = self.scaling[d:, d:] * scale * scale[:, None]
        cross = self.scaling[:d, d:] * scale / self.scale
        summed = self._add_unit_part(blocks, corner / self.scale / self.scale.T, cross, tail)
        H[N, :N] = 0
        H[N, : d * self.p] = (corner @ (self.scale * summed) / self.scale).ravel()
        H[N, N] = np.sum(corner * corner)

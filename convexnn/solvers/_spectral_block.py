"""A spectral regularizer as one matrix inequality; methods are those of ``ConeBlock``."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf

from convexnn.solvers._stacked_rows import stacked_adjoint, stacked_rows
from convexnn.solvers.cone_block import ConeStep, clip_change
from convexnn.solvers.cone_problem import ConeProblem

Array = NDArray[np.float64]


class SpectralBlock:
    """Base of spectral regularizers: one positive semidefinite variable with its scaling.

    ``primal = [[P, E'], [E, Q]]`` of order K with E affine in U; subclasses say what is in P and Q.
    """

    rank = 0
    share = 1.0

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
        return stacked_rows(U, self.scale, self.row_scale)

    def _embed(self, U: Array, extra: Array, constant: float) -> Array:
        M = np.zeros((self.K, self.K))
        E = self._off_diagonal(U)
        M[self.d :, : self.d] = E
        M[: self.d, self.d :] = E.T
        self._embed_diagonals(M, extra, constant)
        return M

    def _adjoint(self, S: Array) -> tuple[Array, Array]:
        g = stacked_adjoint(2 * S[self.d :, : self.d], self.scale, self.row_scale, self.d1)
        return g, self._extra_adjoint(S)

    def _set_primal(self, U: Array) -> None:
        self.primal = self._embed(U, self.extra, 1.0)

    def state(self) -> tuple[Array, ...]:
        return ()

    def resume(self, state: tuple[Array, ...], U: Array, ratio: float) -> bool:  # noqa: ARG002
        return False

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

    def low_rank(self) -> Array | None:
        raise NotImplementedError("the coupling of the units has no small rank")

    def add_hessian(self, H: Array, blocks: Array) -> None:
        raise NotImplementedError

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

"""The squared LipSDP norm with several outputs as a matrix inequality; methods are those of ``ConeBlock``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.solvers._spectral_block import SpectralBlock
from convexnn.solvers.cone_problem import ConeProblem

Array = NDArray[np.float64]


class VectorJointBlock(SpectralBlock):
    """``weight sigma`` with ``[[I, E'], [E, Q]] >= 0``, ``E = [U_0; W] / 2``, ``Q`` affine in ``sigma`` and ``a``.

    ``U_0 = sum_i vh_i w_i'`` and ``Q = blockdiag(sigma I - sum_i a_i vh_i vh_i', diag(a))``. With one output it is
    ``JointBlock`` with ``q_0 = sigma - sum_i a_i`` and ``q_i = a_i``. Extra variables are ``(sigma, a)``.
    """

    def __init__(self, problem: ConeProblem, weight: float, directions: Array) -> None:
        super().__init__(problem, weight)
        self.V = directions
        self.k = directions.shape[1]
        self.rows = self.k + self.p
        self.K = self.degree = self.d + self.rows
        self.outer = np.arange(self.d, self.K)
        self.row_scale = np.full(self.rows, 0.5)
        self.outputs = slice(self.d, self.d + self.k)
        self.units = slice(self.d + self.k, self.K)
        self.n_extra = 1 + self.p

    def start(self, centre: Array, mu: float) -> Array:
        """Central multipliers for zero weights; the centre is scaled well inside the cone."""
        self.extra = balanced_multipliers(self.V) * (mu / self.weight)
        Q = self._embed(np.zeros_like(centre), self.extra, 1.0)[self.d :, self.d :]
        E = self._off_diagonal(centre)
        largest = np.linalg.eigvalsh(E.T @ np.linalg.solve(Q, E))[-1]
        factor = min(np.sqrt(0.25 / max(largest, np.finfo(float).tiny)), self.longest)
        U = centre * factor
        self._set_primal(U)
        S = mu * np.linalg.inv(self.primal)
        self.dual = (S + S.T) / 2
        return U

    def _off_diagonal(self, U: Array) -> Array:
        """``E``: half of ``[sum_i vh_i w_i'; w_1; ...; w_p]`` in the features as offered, shape (k + p, d)."""
        W = (U[: self.d] / self.scale).T
        return 0.5 * np.vstack([self.V.T @ W, W])

    def _adjoint(self, S: Array) -> tuple[Array, Array]:
        g = np.zeros((self.d1, self.p))
        g[: self.d] = (S[self.units, : self.d] + self.V @ S[self.outputs, : self.d]).T / self.scale
        return g, self._extra_adjoint(S)

    def _cost(self) -> Array:
        cost = np.zeros(self.n_extra)
        cost[0] = self.weight
        return cost

    def _embed_diagonals(self, M: Array, extra: Array, constant: float) -> None:
        M[self.inner, self.inner] = constant
        M[self.outputs, self.outputs] = extra[0] * np.eye(self.k) - (self.V.T * extra[1:]) @ self.V
        M[np.arange(self.units.start, self.K), np.arange(self.units.start, self.K)] = extra[1:]

    def _extra_adjoint(self, S: Array) -> Array:
        N = S[self.outputs, self.outputs]
        forms = np.einsum("ia,ab,ib->i", self.V, N, self.V)
        return np.concatenate([[np.trace(N)], np.diag(S)[self.units] - forms])

    def add_hessian(self, H: Array, blocks: Array) -> None:
        """Add the Hessian in ``(U, sigma, a)``; with ``P`` the scaling it is ``adj P (.) P``."""
        d, N = self.d, self.d1 * self.p
        P = self.scaling
        corner = P[:d, :d] / self.scale / self.scale.T
        N_ = P[self.outputs, self.outputs]
        mixed = P[self.units, self.outputs]  # (p, k)
        gathered = mixed + self.V @ N_  # R'P on the outputs, R = [Vh'; I]
        pair = gathered @ self.V.T + self.V @ mixed.T + P[self.units, self.units]  # R'P R
        inner = P[self.outputs, :d] / self.scale.T  # (k, d)
        own = P[self.units, :d] / self.scale.T  # (p, d)
        summed = (own + self.V @ inner).T  # (d, p)
        for a in range(d):
            target = blocks[a, :, : a + 1]
            target += 0.5 * pair[:, None, :] * corner[a, : a + 1, None]
            target += summed[: a + 1].T[:, :, None] * (0.5 * summed[a])
        self._add_extra(H, N, inner, own, gathered, mixed)

    def _add_extra(self, H: Array, N: int, inner: Array, own: Array, gathered: Array, mixed: Array) -> None:
        """Rows of the extra variables: cross terms with the weights, then their own block."""
        d, p, V = self.d, self.p, self.V
        P = self.scaling
        N_ = P[self.outputs, self.outputs]
        units = P[self.units, self.units] + V @ mixed.T  # R'P on the units, (p, p)
        along = gathered @ V.T  # (p, p): R'P vh_i
        projected = V @ inner  # (p, d): vh_i'P
        H[N:, :N] = 0
        H[N, : d * p] = (gathered @ inner).T.ravel()
        cross = own.T[:, :, None] * units.T[None] - projected.T[:, :, None] * along.T[None]
        H[N + 1 :, : d * p] = cross.transpose(1, 0, 2).reshape(p, d * p)
        forms = V @ N_ @ V.T
        mixed_forms = (mixed @ V.T) ** 2  # (j, i): (e_j'P vh_i)^2
        H[N, N] = np.sum(N_ * N_)
        H[N + 1 :, N] = (mixed**2).sum(axis=1) - ((V @ N_) ** 2).sum(axis=1)
        H[N, N + 1 :] = H[N + 1 :, N]
        H[N + 1 :, N + 1 :] = forms**2 + P[self.units, self.units] ** 2 - mixed_forms - mixed_forms.T


def balanced_multipliers(V: Array, steps: int = 60) -> Array:
    """Minimizer of ``sigma - logdet(sigma I - sum_i a_i vh_i vh_i') - sum_i log a_i``, shape (1 + p,).

    Damped Newton from a strictly feasible start. At the minimum ``sigma = outputs + p``.

    Parameters
    ----------
    V : array, shape (p, outputs)
        Unit vectors.
    """
    p, k = V.shape
    sigma, a = float(k + p), np.full(p, 0.5)
    a *= 0.5 * sigma / max(float(np.linalg.eigvalsh((V.T * a) @ V)[-1]), 0.25 * sigma / p)
    x = np.concatenate([[sigma], a])
    for _ in range(steps):
        inverse = np.linalg.inv(x[0] * np.eye(k) - (V.T * x[1:]) @ V)
        half = V @ inverse
        forms = np.einsum("ia,ia->i", half, V)
        gradient = np.concatenate([[1 - np.trace(inverse)], forms - 1 / x[1:]])
        hessian = np.zeros((1 + p, 1 + p))
        hessian[0, 0] = np.sum(inverse * inverse)
        hessian[0, 1:] = hessian[1:, 0] = -(half**2).sum(axis=1)
        hessian[1:, 1:] = (half @ V.T) ** 2 + np.diag(1 / x[1:] ** 2)
        step = np.linalg.solve(hessian, -gradient)
        decrement = float(np.sqrt(max(-step @ gradient, 0.0)))
        x = x + step / (1 + decrement)  # damped: stays inside (self-concordance)
        if decrement < 1e-3:
            break
    return x

"""Linear algebra of the arrow block: everything but W and z_0 eliminated unit by unit.

With ``Q = [[A, c], [c', e]]`` the scaling of clique i, a Newton step satisfies ``dX_i = R_i - Q_i dS_i Q_i`` and
``dT = R_T - Q_T dW Q_T`` for given R, where ``dS_i = [[dW, dz_i], [dz_i', dr_i]]``, and ``sum_i dY_i + dT = dx I``.
Solving for dz_i in terms of dW and the change of e_i leaves, with ``y = (dz_0, dW)``, the saddle system::

    [[blockdiag(H_i), C'], [C, -M]] (dU, y) = (g, h)

All of it is written in the Schur complement ``K = A - c c' / e``, so that M is a sum of semidefinite matrices and
nothing cancels. See docs/theory/interior_point.md for the derivation.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dtrtrs

from convexnn.solvers._small_matrices import triangular_inverse

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


@cache
def _pairs(d: int) -> tuple[IntArray, IntArray, Array]:
    """Upper triangle of a symmetric matrix and the weights that make its vector isometric."""
    a, b = np.triu_indices(d)
    return a, b, np.where(a == b, 1.0, np.sqrt(2.0))


@cache
def symmetric_basis(d: int, *, traceless: bool) -> Array:
    """Orthonormal basis, as columns, of the vectors of symmetric matrices (of trace zero)."""
    a, b, _ = _pairs(d)
    basis = np.eye(len(a))
    if not traceless:
        return basis
    diagonal = (a == b) / np.sqrt(d)
    # a Householder reflection takes the first axis to the diagonal; its other columns span the rest
    v = diagonal - basis[:, 0]
    norm = v @ v
    reflection = basis if norm == 0 else basis - 2 * np.outer(v, v) / norm
    return np.ascontiguousarray(reflection[:, 1:])


def to_vector(M: Array) -> Array:
    """Isometric vectors of the symmetric parts of ``M`` (..., d, d), shape (..., d (d + 1) / 2)."""
    a, b, weight = _pairs(M.shape[-1])
    vector: Array = 0.5 * weight * (M[..., a, b] + M[..., b, a])
    return vector


def to_matrix(v: Array, d: int) -> Array:
    """Symmetric matrix of an isometric vector."""
    a, b, weight = _pairs(d)
    M = np.zeros((d, d))
    M[a, b] = M[b, a] = v / weight
    return M


def bordered(W: Array, z: Array, r: Array) -> Array:
    """Matrices ``[[W, z_i], [z_i', r_i]]``, shape (p + 1, d + 1, d + 1)."""
    d = len(W)
    S = np.empty((len(r), d + 1, d + 1))
    S[:, :d, :d] = W
    S[:, :d, d] = S[:, d, :d] = z
    S[:, d, d] = r
    return S


class ArrowElimination:
    """Reduced system at one scaling.

    Parameters
    ----------
    root : array, shape (p + 1, d + 1, d + 1)
        ``Q_i = root_i root_i'``, the scalings of the cliques.
    root_rest : array, shape (d, d)
        The same of T.
    row_scale : array, shape (p + 1,)
        ``e_i = row_scale_i b_i``.
    fixed_corner : bool
        Whether the corners q_i are constants (then the r_i are free and ``tr W`` is fixed), or free.
    """

    def __init__(self, root: Array, root_rest: Array, row_scale: Array, *, fixed_corner: bool) -> None:
        d = self.d = root.shape[-1] - 1
        self.fixed_corner, self.row_scale = fixed_corner, row_scale
        self.basis = symmetric_basis(d, traceless=fixed_corner)
        self.Q, self.Q_rest = root @ root.transpose(0, 2, 1), root_rest @ root_rest.T
        self.c, self.e = self.Q[:, :d, d], self.Q[:, d, d]
        # corner first, the triangular factor of Q holds one of its Schur complement
        triangle: Array = np.asarray(np.linalg.qr(np.roll(root, 1, axis=1).transpose(0, 2, 1), mode="r"))[:, 1:, 1:]
        self.K = triangle.transpose(0, 2, 1) @ triangle
        inverse = triangular_inverse(triangle.transpose(0, 2, 1))
        K_inverse = inverse.transpose(0, 2, 1) @ inverse
        e = self.e[:, None, None]
        if fixed_corner:
            self.B, self.B_inverse, self._share = e * self.K, K_inverse / e, np.zeros_like(self.c)
            self._squares = np.zeros(len(e))
        else:
            direction = _apply(K_inverse, self.c)
            spread = self.e + 2 * np.einsum("ia,ia->i", self.c, direction)
            self.B = e * self.K + 2 * self.c[:, :, None] * self.c[:, None, :]
            outer = direction[:, :, None] * direction[:, None, :]
            self.B_inverse = (K_inverse - (2 / spread)[:, None, None] * outer) / e
            self._share = direction / spread[:, None]
            self._squares = 1 / (self.e * spread)
            self._squares[0] = 1 / self.e[0] ** 2
        self._factor_shared()

    def _factor_shared(self) -> None:
        """Cholesky factor L of M and the coupling ``F = L^-1 C``, shape (rank, p d)."""
        d, V = self.d, self.basis
        outer = self.c[:1, :, None] * self.c[:1, None, :]
        full = _kronecker_sum(np.concatenate([self.K, self.Q_rest[None]]), None)
        full += 2 / self.e[0] * _kronecker_sum(self.K[:1], outer)
        if not self.fixed_corner:
            squares = to_vector(self.c[:, :, None] * self.c[:, None, :])
            full += (squares.T * self._squares) @ squares
        M = np.empty((d + V.shape[1],) * 2)
        M[:d, :d] = 2 * self.B[0]
        M[:d, d:] = 2 * self._first_image() @ V
        M[d:, :d] = M[:d, d:].T
        M[d:, d:] = V.T @ full @ V if self.fixed_corner else full
        self.M_scale = 1 / np.sqrt(np.maximum(np.diag(M), 1e-300))
        M *= self.M_scale[:, None] * self.M_scale
        for jitter in (0.0, 1e-15, 1e-13, 1e-11):
            self.L, info = dpotrf(M + jitter * np.eye(len(M)), lower=1)
            if info == 0:
                break
        else:
            raise np.linalg.LinAlgError("the shared part of the spectral block is numerically singular")
        flat = (self._coupling() * self.M_scale[:, None, None]).reshape(len(M), -1)
        self.F = np.ascontiguousarray(dtrtrs(self.L, flat, lower=1)[0])

    def _full(self, i: int) -> Array:
        """``A_i`` as it enters the equations: K_i plus what a free corner adds."""
        if self.fixed_corner:
            return self.K[i]
        return np.asarray(self.K[i] + np.outer(self.c[i], self.c[i]) / self.e[i])

    def _first_image(self) -> Array:
        """Matrix of ``D -> A_0 D c_0`` on vectors, shape (d, d (d + 1) / 2)."""
        a, b, weight = _pairs(self.d)
        A, c = self._full(0), self.c[0]
        return np.asarray(0.5 * weight * (A[:, a] * c[b] + A[:, b] * c[a]))

    def _times_AB(self, vectors: Array) -> Array:
        """``A_i B_i^-1`` times one vector a unit, shape (p + 1, d)."""
        inner = np.einsum("ia,ia->i", self._share, vectors)
        return np.asarray((vectors - inner[:, None] * self.c) / self.e[:, None])

    def _coupling(self) -> Array:
        """``C``: rows of z_0 and of W, shape (rank, p, d)."""
        d, p = self.d, len(self.e) - 1
        a, b, weight = _pairs(d)
        c = self.c[1:]
        AB = np.eye(d) - c[:, :, None] * self._share[1:, None, :]
        AB *= (self.row_scale[1:] / self.e[1:])[:, None, None]
        C = np.empty((d + self.basis.shape[1], p, d))
        C[:d] = -2 * self.row_scale[0] * np.eye(d)[:, None, :]
        image = weight[:, None] * (AB[:, a, :] * c[:, b, None] + AB[:, b, :] * c[:, a, None])
        image = image.transpose(1, 0, 2)
        C[d:] = np.tensordot(self.basis.T, image, 1) if self.fixed_corner else image
        return C

    def unit_hessian(self) -> Array:
        """``H_i``, shape (p, d, d)."""
        return np.asarray(2 * (self.row_scale[1:] ** 2)[:, None, None] * self.B_inverse[1:])

    def reduce(self, R: Array, R_rest: Array) -> Array:
        """Right-hand side in the units, (p, d), once y is eliminated; keeps what :meth:`recover` needs."""
        d = self.d
        R12 = R[:, :d, d]
        self._leading = R[:, :d, :d].sum(axis=0)
        total = self._leading + R_rest
        if self.fixed_corner:
            share = R[:, d, d] / self.e
            R12 = R12 - self.c * share[:, None]
            total = total - (self.c * (share / self.e)[:, None]).T @ self.c
        self._R, self._R_rest, self._R12 = R, R_rest, R12
        cross = self._times_AB(R12)[1:].T @ self.c[1:]
        h = np.concatenate([-2 * R12[0], -(to_vector(total - cross - cross.T) @ self.basis)])
        self._h = dtrtrs(self.L, self.M_scale * h, lower=1)[0]
        g = 2 * self.row_scale[1:, None] * _apply(self.B_inverse[1:], R12[1:])
        return np.asarray(g + (self._h @ self.F).reshape(g.shape))

    def recover(self, dV: Array) -> tuple[Array, Array, Array]:
        """``dW``, ``dz`` and ``dr`` that belong to changes ``dV`` (p, d) of the units."""
        moves = np.vstack([dV.sum(axis=0), dV]) * self.row_scale[:, None]
        y = self._backward(self.F @ dV.ravel() - self._h)
        step = self._given(y, moves)
        # what is left of ``sum_i dY_i + dT = dx I`` counts against T, which is tiny near the optimum
        rest = np.zeros(len(y))
        rest[self.d :] = to_vector(self._imbalance(*step)) @ self.basis
        y = y + self._backward(dtrtrs(self.L, self.M_scale * rest, lower=1)[0])
        return self._given(y, moves)

    def _backward(self, reduced: Array) -> Array:
        return np.asarray(self.M_scale * dtrtrs(self.L, reduced, lower=1, trans=1)[0])

    def _given(self, y: Array, moves: Array) -> tuple[Array, Array, Array]:
        """Dual changes for given shared variables and changes of e."""
        dW = to_matrix(self.basis @ y[self.d :], self.d)
        shared = self.c @ dW
        quadratic = np.einsum("ia,ia->i", shared, self.c)
        wanted = self._R12 - _apply(self.K, shared) - moves
        if not self.fixed_corner:
            wanted -= self.c * (quadratic / self.e)[:, None]
        dz = _apply(self.B_inverse, wanted)
        # refined once: B is nearly singular where a clique is
        dz += _apply(self.B_inverse, wanted - _apply(self.B, dz))
        dr = np.zeros(len(self.e))
        if self.fixed_corner:
            dr = (self._R[:, -1, -1] - quadratic - 2 * self.e * np.einsum("ia,ia->i", self.c, dz)) / self.e**2
        return dW, dz, dr

    def _imbalance(self, dW: Array, dz: Array, dr: Array) -> Array:
        """``sum_i dY_i + dT``."""
        d = self.d
        left = (bordered(dW, dz, dr) @ self.Q[:, :, :d]).reshape(-1, d)
        # one long product instead of a sum of short ones
        changes = self._leading - self.Q[:, :, :d].reshape(-1, d).T @ left
        return np.asarray(changes + self._R_rest - self.Q_rest @ dW @ self.Q_rest)


def _apply(matrices: Array, vectors: Array) -> Array:
    return np.asarray((matrices @ vectors[:, :, None])[:, :, 0])


def _kronecker_sum(A: Array, B: Array | None) -> Array:
    """Matrix of ``D -> sum_i sym(A_i D B_i)`` on isometric vectors; B = A when None."""
    d = A.shape[-1]
    flat = A.reshape(len(A), -1)
    G = (flat.T @ (flat if B is None else B.reshape(len(B), -1))).reshape(d, d, d, d)
    a, b, weight = _pairs(d)
    (a1, b1), (a2, b2) = (a[:, None], b[:, None]), (a[None], b[None])
    total = G[a1, a2, b1, b2] + G[a1, b2, b1, a2] + G[b1, a2, a1, b2] + G[b1, b2, a1, a2]
    return np.asarray(0.25 * total * weight[:, None] * weight)

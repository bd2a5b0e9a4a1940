"""Linear algebra of the fractional block: everything but the units eliminated, one small shared matrix to factor.

With the ratios ``y_i = e_i / q_i``, the slacks ``s_i = w - z_i'W^-1 z_i`` of the corners, ``k_i = 2 w - s_i`` and
``t_i = w + 2 z_i'y_i + y_i'W y_i`` (which is ``s_i`` on the path, and above it elsewhere), a Newton step satisfies for
given right sides ``R``, ``a_i`` and ``b_i`` (fixed corners: ``q_i = 1``, ``dq_i = 0``)::

    dT + Q dW Q = R,   dT = dx I - sum_i (y_i de_i' + de_i y_i' - y_i y_i' dq_i)
    dW e_i + W de_i + dq_i z_i + q_i dz_i = a_i
    q_i dt_i + (2 t_i - s_i) dq_i = b_i

Solved for dq_i and dz_i, with ``C_i de = y_i de' + de y_i' + y_i y_i' (2 z_i'de) / k_i``, what is left is::

    [[blockdiag(H_i), C'], [C, -M]] (dU, dW) = (g, h)
    H_i = (2 / q_i) (W - 2 z_i z_i' / k_i),   M = Q (x) Q + sum_i (q_i / k_i) y_i y_i' (x) y_i y_i'

See docs/theory/interior_point.md for the derivation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dtrtrs

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class Scaling:
    """The point at which a step is computed.

    ``Q`` (d, d) scales T against W; ``ratio`` (p + 1, d) is ``e_i / q_i``, ``z`` the dual rows; ``q`` (p + 1,) are the
    corners and ``k`` twice their weight minus their dual slack.
    """

    Q: Array
    W: Array
    ratio: Array
    z: Array
    q: Array
    k: Array


@lru_cache(maxsize=8)
def _pairs(d: int) -> tuple[IntArray, IntArray, Array]:
    """Upper triangle of a symmetric matrix and the weights that make its vector isometric."""
    a, b = np.triu_indices(d)
    return a, b, np.where(a == b, 1.0, np.sqrt(2.0))


@lru_cache(maxsize=4)  # of order d (d + 1) / 2
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


def dots(a: Array, b: Array) -> Array:
    """Inner products row by row."""
    return np.asarray(np.einsum("ia,ia->i", a, b))


class FractionalElimination:
    """Reduced system at one point.

    Parameters
    ----------
    point : Scaling
    row_scale : array, shape (p + 1,)
        ``e_i = row_scale_i b_i``.
    fixed_corner : bool
        Whether the corners q_i are one (then ``tr W`` is fixed), or free.

    Attributes
    ----------
    blocks : array, shape (p, d, d)
        Block diagonal part of the Hessian in the units.
    F : array, shape (rank, p d)
        Its rest is ``F'F``.
    """

    def __init__(self, point: Scaling, row_scale: Array, *, fixed_corner: bool) -> None:
        self.point, self.row_scale, self.fixed_corner = point, row_scale, fixed_corner
        self.d = len(point.W)
        self.basis = symmetric_basis(self.d, traceless=fixed_corner)
        hessian = self._row_hessian()
        self.blocks = hessian[1:] * (row_scale[1:] ** 2)[:, None, None]
        values, vectors = np.linalg.eigh(hessian[0])
        first = row_scale[0] * (np.sqrt(np.maximum(values, 0.0)) * vectors).T
        shared = self._factor_shared()
        self.F = np.vstack([np.tile(first, len(row_scale) - 1), shared])
        self._shared = self.F[self.d :]

    def _row_hessian(self) -> Array:
        """Matrices H_i, shape (p + 1, d, d)."""
        point = self.point
        if self.fixed_corner:
            return np.broadcast_to(2 * point.W, (len(point.q), self.d, self.d))
        outer = (point.z / point.k[:, None])[:, :, None] * point.z[:, None, :]
        return np.asarray((point.W - 2 * outer) * (2 / point.q)[:, None, None])

    def _factor_shared(self) -> Array:
        """Cholesky factor L of M and the coupling ``L^-1 C``, shape (rank of the symmetric matrices, p d)."""
        point, d = self.point, self.d
        M, C = _congruence(point.Q), _products(point.ratio)
        if self.fixed_corner:
            M, C = self.basis.T @ M @ self.basis, np.tensordot(self.basis.T, C, 1)
        else:
            a, b, weight = _pairs(d)
            self._squares = weight[:, None] * point.ratio.T[a] * point.ratio.T[b]
            C += (self._squares / (0.5 * point.k))[:, :, None] * point.z
            M += (self._squares * (point.q / point.k)) @ self._squares.T
        self._scale = 1 / np.sqrt(np.maximum(np.diag(M), 1e-300))
        M *= self._scale[:, None] * self._scale
        if not M.size:  # one feature and fixed corners: tr W says it all
            return C.reshape(0, (len(self.row_scale) - 1) * d)
        for jitter in (0.0, 1e-15, 1e-13, 1e-11):
            self._L, info = dpotrf(M + jitter * np.eye(len(M)), lower=1)
            if info == 0:
                break
        else:
            raise np.linalg.LinAlgError("the shared part of the spectral block is numerically singular")
        C *= self.row_scale[:, None]
        coupling = (C[:, 1:] + C[:, :1]).reshape(len(M), (len(self.row_scale) - 1) * d) * self._scale[:, None]
        return np.asarray(dtrtrs(self._L, coupling, lower=1)[0])

    def reduce(self, R: Array, a: Array, b: Array) -> tuple[Array, Array]:
        """Right side of the units that belongs to targets, in the rows e_i (p + 1, d) and in the units (p, d)."""
        point = self.point
        h, rows = to_vector(R), a
        self._a = a
        if not self.fixed_corner:
            self._b = b - 2 * dots(point.ratio, a)
            h = h - self._squares @ (self._b / point.k)
            rows = (a - point.z * (self._b / point.k)[:, None]) / point.q[:, None]
        self._h = self._solve(self._scale * (h @ self.basis))
        return 2 * rows, -(self._h @ self._shared).reshape(-1, self.d)

    def _solve(self, right: Array, trans: int = 0) -> Array:
        """Triangular solve with L or its transpose."""
        return np.asarray(dtrtrs(self._L, right, lower=1, trans=trans)[0]) if right.size else right

    def recover(self, dV: Array, de: Array) -> tuple[Array, Array, Array]:
        """Changes (dW, dq, dz) for given changes of the units (p, d) and of the rows (p + 1, d).

        They belong to the right side that was reduced last.
        """
        point = self.point
        right = self._h + self._shared @ dV.ravel()
        dW = to_matrix(self.basis @ (self._scale * self._solve(right, trans=1)), self.d)
        shared = point.ratio @ dW
        if self.fixed_corner:
            return dW, np.zeros(0), self._a - de @ point.W - shared
        dq = (self._b - 2 * dots(point.z, de) + point.q * dots(shared, point.ratio)) / point.k
        dz = (self._a - de @ point.W - dq[:, None] * point.z) / point.q[:, None] - shared
        return dW, dq, dz


def _congruence(Q: Array) -> Array:
    """Matrix of ``D -> Q D Q`` on isometric vectors."""
    a, b, weight = _pairs(len(Q))
    total = Q[a][:, a] * Q[b][:, b] + Q[a][:, b] * Q[b][:, a]
    return np.asarray(0.5 * total * weight[:, None] * weight)


def _products(y: Array) -> Array:
    """Vectors of ``y_i e_k' + e_k y_i'`` for the unit vectors e_k, shape (d (d + 1) / 2, p + 1, d)."""
    a, b, weight = _pairs(y.shape[1])
    place = np.arange(len(a))
    C = np.zeros((len(a), *y.shape))
    C[place, :, b] += weight[:, None] * y.T[a]
    C[place, :, a] += weight[:, None] * y.T[b]
    return C

"""The mixed matrix inequality of a deep network for a primal-dual method: its matrix, adjoint and Newton system."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from convexnn.lipsdp.deep import maximize_deep

Array = NDArray[np.float64]

SPREAD = 1e4  # multipliers start within this factor of their layer's: those of dead units have no size of their own


class MixedInequality:
    """The matrix of `convexnn.restrictions.deep_layer.mixed_lmi`, frozen layers divided by their norms.

    ``M(W, v) = constant - sym(W) + sum_u v_u (e_u a_u' + a_u e_u') + v_last I_0``: v holds the multipliers and s;
    ``scale`` times s is LipSDP squared of the network.

    Parameters
    ----------
    weights : list of arrays
        W_0, ..., W_H.
    layer : int
        The layer that is variable.
    """

    def __init__(self, weights: list[Array], layer: int) -> None:
        norms = [1.0 if k == layer else float(np.linalg.norm(W, 2)) or 1.0 for k, W in enumerate(weights)]
        self.frozen = [W / norm for W, norm in zip(weights, norms, strict=True)]
        self.scale, self.layer = float(np.prod(np.square(norms))), layer
        first = self.frozen[0]
        if layer > 0 and first.shape[1] > len(first):  # inputs enter through the row space of the first layer only
            self.frozen[0] = np.linalg.qr(first.T)[1].T
        self.sizes = [self.frozen[0].shape[1], *(len(W) for W in weights)]
        self.begin = np.concatenate([[0], np.cumsum(self.sizes)])
        self.order, self.d, self.units = int(self.begin[-1]), self.sizes[0], sum(self.sizes[1:-1])
        self.unit = slice(self.d, self.d + self.units)
        self.rows, self.columns = self._block(layer + 1), self._block(layer)
        self.ends = self._ends()

    def _block(self, k: int) -> slice:
        return slice(int(self.begin[k]), int(self.begin[k + 1]))

    def _ends(self) -> Array:
        """Columns a_u: ``e_u`` minus incoming weights for units before the variable layer, outgoing ones behind."""
        ends = np.zeros((self.order, self.units))
        ends[self.unit] = np.eye(self.units)
        for k in range(1, len(self.sizes) - 1):
            own = slice(int(self.begin[k]) - self.d, int(self.begin[k + 1]) - self.d)
            if k <= self.layer:
                ends[self._block(k - 1), own] -= self.frozen[k - 1].T
            else:
                ends[self._block(k + 1), own] -= self.frozen[k]
        return ends

    def start(self, W: Array) -> Array:
        """Multipliers and s strictly inside for given weights of the layer."""
        layers = [*self.frozen]
        layers[self.layer] = W
        size = max(float(np.linalg.norm(W, 2)) ** 2, np.finfo(float).tiny)
        depth = np.repeat(np.arange(1, len(self.sizes) - 1), self.sizes[1:-1])
        unit = np.where(depth <= self.layer, size, 1.0)  # multipliers of the product of the norms, made strict
        product = unit * 1.05 ** (len(self.sizes) - depth)
        found = maximize_deep(layers, tol=1.0).t  # a centre far from the boundary
        for t in (np.clip(found, unit / SPREAD, unit * SPREAD), product):
            v = np.append(np.where(depth <= self.layer, t, 1.0 / t), size)
            for _ in range(20):
                if self.inside(W, v):
                    return v
                v[-1] *= 1.5
        raise np.linalg.LinAlgError("no multipliers inside the matrix inequality were found")

    def matrix(self, W: Array, v: Array, constant: float = 1.0) -> Array:
        """``M(W, v)``, or with ``constant=0`` its linear part."""
        M = np.zeros((self.order, self.order))
        half = self.ends * v[:-1]
        M[:, self.unit] += half
        M[self.unit] += half.T
        M[self.rows, self.columns] -= W
        M[self.columns, self.rows] -= W.T
        diagonal = M.reshape(-1)[:: self.order + 1]
        diagonal[: self.d] += v[-1]
        diagonal[self.d + self.units :] += constant
        return M

    def inside(self, W: Array, v: Array) -> bool:
        """Whether M is positive definite and all multipliers are positive."""
        if v.min() <= 0.0:
            return False
        try:
            np.linalg.cholesky(self.matrix(W, v))
        except np.linalg.LinAlgError:
            return False
        return True

    def adjoint(self, Y: Array) -> tuple[Array, Array]:
        """Inner products of a symmetric Y with the derivatives of M in W and in v."""
        multipliers = 2.0 * np.sum(Y[:, self.unit] * self.ends, axis=0)
        return -2.0 * Y[self.rows, self.columns], np.append(multipliers, np.trace(Y[: self.d, : self.d]))

    def hessian(self, G: Array, L: Array) -> Array:
        """Matrix of ``tr(A_a G A_b L)`` over the derivatives A of M, in W row by row and then in v."""
        q, p, unit, d = self.rows, self.columns, self.unit, self.d
        GA, LA, GE, LE = G @ self.ends, L @ self.ends, G[:, unit], L[:, unit]
        m, h = G[q, p].shape
        size, own = m * h + self.units + 1, m * h
        H = np.empty((size, size))
        both = np.einsum("jJ,iI->jiJI", G[q, q], L[p, p]) + np.einsum("jJ,iI->jiJI", L[q, q], G[p, p])
        both += np.einsum("jI,Ji->jiJI", G[q, p], L[q, p]) + np.einsum("Ji,jI->jiJI", G[q, p], L[q, p])
        H[:own, :own] = both.reshape(own, own)
        mixed = np.einsum("ju,iu->jiu", GE[q], LA[p]) + np.einsum("ju,iu->jiu", GA[q], LE[p])
        mixed += np.einsum("ju,iu->jiu", LA[q], GE[p]) + np.einsum("ju,iu->jiu", LE[q], GA[p])
        H[:own, own:-1] = -mixed.reshape(own, -1)
        H[:own, -1] = -(G[q, :d] @ L[:d, p] + L[q, :d] @ G[:d, p]).ravel()
        C, K = GA[unit], LA[unit]
        H[own:-1, own:-1] = C.T * K + C * K.T + (self.ends.T @ GA) * L[unit, unit] + G[unit, unit] * (self.ends.T @ LA)
        H[own:-1, -1] = np.sum(GA[:d] * LE[:d] + GE[:d] * LA[:d], axis=0)
        H[-1, -1] = np.sum(G[:d, :d] * L[:d, :d])
        lower = np.tril_indices(size, -1)
        H[lower] = H.T[lower]
        return H


def longest_step(M: Array, change: Array) -> float:
    """Largest step along ``change`` that keeps M positive semidefinite; ``inf`` when there is no end."""
    if not (np.isfinite(M).all() and np.isfinite(change).all()):
        raise np.linalg.LinAlgError("a matrix without finite entries has no step length")
    factor = np.linalg.cholesky(M)
    half = solve_triangular(factor, change, lower=True)
    least = float(np.linalg.eigvalsh(solve_triangular(factor, half.T, lower=True))[0])
    return -1.0 / least if least < 0.0 else math.inf

"""Regularizers of rows ``z_i`` (p, d) with fixed unit directions ``g_i`` (p, k): of the sum of all ``g_i z_i'``.

For the programs with fixed output directions ``z_i = w_i``, ``g_i = vh_i``; for the outer step ``z_i = v_i`` and
``g_i`` are the directions of the hidden units. LipSDP is the same in both: it does not change under transposition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from convexnn.lipsdp import maximize_vector, upper_bound_vector
from convexnn.program import Dual
from convexnn.restrictions.vector_spectral import root_metrics, vector_conjugate

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]

#: About what the certified evaluation reaches; an objective errs by twice this share of its regularizer.
LIPSDP_TOL = 1e-8


class DirectedRegularizer(Protocol):
    """A regularizer, its conjugate and its cvxpy form."""

    def value(self, z: Array, dual: Dual | None = None) -> float:
        """Value, or a valid upper value of it, at rows z (p, d)."""

    def conjugate(self, Z: Array, error: Array, dual: Dual) -> tuple[float, float]:
        """Pair (a, b): ``R(z) >= theta <Z', z> - theta^2 a`` for all z, ``0 <= theta <= b``, ``|Z' - Z| <= error``."""

    def cvxpy(self, z: cvxpy.Expression) -> tuple[cvxpy.Expression, list[cvxpy.Constraint]]:
        """Expression and constraints."""


@dataclass(frozen=True)
class DirectedNorm:
    """``weight sum_i |z_i|``."""

    weight: float

    def value(self, z: Array, dual: Dual | None = None) -> float:  # noqa: ARG002
        """``weight sum_i |z_i|``."""
        return self.weight * float(np.linalg.norm(z, axis=1).sum())

    def conjugate(self, Z: Array, error: Array, dual: Dual) -> tuple[float, float]:  # noqa: ARG002
        """Zero as long as ``theta max_i |Z_i| <= weight``."""
        longest = float(np.linalg.norm(np.abs(Z) + error, axis=1).max())
        return 0.0, math.inf if longest == 0 else self.weight / longest

    def cvxpy(self, z: cvxpy.Expression) -> tuple[cvxpy.Expression, list[cvxpy.Constraint]]:
        """``weight sum_i |z_i|``, no constraint."""
        import cvxpy as cp

        return self.weight * cp.sum(cp.norm(z, 2, axis=1)), []


@dataclass(frozen=True, eq=False)
class DirectedLipSDP:
    """``weight LipSDP(z, directions)^2``, multipliers free.

    Parameters
    ----------
    weight : float
    directions : array, shape (p, k)
        Unit vectors ``g_i``.
    """

    weight: float
    directions: Array

    def value(self, z: Array, dual: Dual | None = None) -> float:
        """Squared certified LipSDP; the multiplier of a dual competes with the one found here."""
        blocks = self.blocks(dual, z.shape[1])
        bounds = [maximize_vector(z, self.directions.T, tol=LIPSDP_TOL).upper]
        if blocks is not None:
            bounds.append(upper_bound_vector(z, self.directions.T, self._multiplier(z, *blocks[:2])))
        best = min(bounds)
        return self.weight * best * best

    def blocks(self, dual: Dual | None, d: int) -> tuple[Array, Array, Array] | None:
        """Blocks M (d x d), N (k x k) and P_0 (k x d) of a matrix multiplier; None without a usable one."""
        size = d + sum(self.directions.shape)
        if dual is None or dual.matrix is None or np.shape(dual.matrix) != (size, size):
            return None
        if not np.isfinite(dual.matrix).all():
            return None
        k = self.directions.shape[1]
        S = 0.5 * (dual.matrix + dual.matrix.T)
        return S[:d, :d], S[d : d + k, d : d + k], -S[d : d + k, :d]

    def _multiplier(self, z: Array, M: Array, N: Array) -> Array:
        """``q_i = |g_i|_N / |z_i|_M`` at traces one, kept away from zero and infinity."""
        inner, outer = _lengths(z, M), _lengths(self.directions, N)
        q: Array = (outer + 1e-10) / np.maximum(inner + 1e-10 * np.linalg.norm(z, axis=1), 1e-300)
        return q

    def conjugate(self, Z: Array, error: Array, dual: Dual) -> tuple[float, float]:
        """:func:`vector_conjugate` with the blocks of the dual matrix."""
        blocks = self.blocks(dual, Z.shape[1])
        matrices = None if blocks is None else blocks[:2]
        return vector_conjugate(
            Z, self.directions, self.first(dual, Z.shape[1]), matrices, self.weight, error
        ), math.inf

    def first(self, dual: Dual, d: int) -> Array:
        """``P_0`` of a dual, zero without one, shape (k, d)."""
        blocks = self.blocks(dual, d)
        return np.zeros((self.directions.shape[1], d)) if blocks is None else blocks[2]

    def metrics(self, z: Array, dual: Dual) -> list[Array] | None:
        """Matrices (d x d) in which the violation of stationarity of every row is measured; None without a dual."""
        blocks = self.blocks(dual, z.shape[1])
        if blocks is None:
            return None
        lengths = np.linalg.norm(z, axis=1)
        shares = np.sqrt(np.maximum(lengths / max(float(lengths.sum()), 1e-300), 1e-8))
        roots = root_metrics(*blocks[:2], self.directions, self.weight)
        return [share * root for share, root in zip(shares, roots, strict=True)]

    def cvxpy(self, z: cvxpy.Expression) -> tuple[cvxpy.Expression, list[cvxpy.Constraint]]:
        """``weight sigma`` and the matrix inequality, labelled "lmi", with variables ``sigma`` and ``a``.

        Implements: docs/theory/vector_program.md, Theorem 1.
        """
        import cvxpy as cp

        (p, k), d = self.directions.shape, z.shape[1]
        sigma, a = cp.Variable(name="sigma"), cp.Variable(p, name="a")
        corner = sigma * np.eye(k) - self.directions.T @ cp.diag(a) @ self.directions
        Q = cp.bmat([[corner, np.zeros((k, p))], [np.zeros((p, k)), cp.diag(a)]])
        E = cp.vstack([self.directions.T @ z, z]) / 2
        lmi = cp.bmat([[np.eye(d), E.T], [E, Q]]) >> 0
        return self.weight * sigma, [lmi.set_label("lmi")]


def _lengths(rows: Array, M: Array) -> Array:
    """``|row|_M`` with M scaled to trace one, shape (rows,)."""
    forms = np.einsum("ij,jk,ik->i", rows, M, rows) / max(float(np.trace(M)), 1e-300)
    lengths: Array = np.sqrt(np.maximum(forms, 0.0))
    return lengths

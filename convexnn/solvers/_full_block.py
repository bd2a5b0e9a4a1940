"""The spectral regularizers as one large matrix inequality: for many features and few units.

The Schur complement of the inequality (:mod:`convexnn.solvers._fractional_block`) adds ``d (d + 3) / 2`` rows to the
Newton system, which pays where that is small beside the number of variables.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.solvers._fractional_block import FixedFractional, JointFractional
from convexnn.solvers._spectral_block import SpectralBlock
from convexnn.solvers._stacked_rows import fixed_row_scale
from convexnn.solvers.cone_block import ConeBlock
from convexnn.solvers.cone_problem import ConeProblem
from convexnn.structure import FixedSpectral, JointSpectral

Array = NDArray[np.float64]

#: The fraction is preferred up to this many times the work of the whole: only it keeps pairs for warm starts.
SPLIT_FACTOR = 2.0
#: Order of the Newton system up to which the large inequality is tried where the fraction stalled.
LARGEST_WHOLE = 3000


def spectral_block(problem: ConeProblem, coupling: JointSpectral | FixedSpectral, *, whole: bool = False) -> ConeBlock:
    """Cone of a spectral regularizer: fraction or whole, whichever makes an iteration cheaper; whole on demand."""
    split = pays_to_split(problem) and not whole
    if isinstance(coupling, JointSpectral):
        return (JointFractional if split else JointBlock)(problem, coupling.weight)
    q = np.concatenate([coupling.q[:1], coupling.q[1:][problem.keep]])
    return (FixedFractional if split else FixedBlock)(problem, coupling.weight, q)


def whole_fits(problem: ConeProblem, coupling: object) -> bool:
    """Whether a fraction that stalled can be tried as a whole: symmetric scaling, far larger systems."""
    spectral = isinstance(coupling, JointSpectral | FixedSpectral) and problem.directions.shape[1] == 1
    return spectral and pays_to_split(problem) and problem.size + problem.p + 1 <= LARGEST_WHOLE


def pays_to_split(problem: ConeProblem) -> bool:
    """Compare the operations of an iteration: elimination and reduced system against one bordered system."""
    size, units, d = problem.size, problem.p, problem.n_weights
    rank = d * (d + 3) / 2
    rows = problem.n + rank
    reduced = min(size**3 / 3 + size**2 * rank, rows**3 / 3 + rows**2 * size)
    whole = (size + units + 1) ** 3 / 3 + 10 * (d + units + 1) ** 3
    return bool(4 * units * rank**2 + reduced <= SPLIT_FACTOR * whole)


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
        self.row_scale = fixed_row_scale(q)
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

"""Regularizers as the splitting sees them: what is copied, its proximal step, and the multiplier that it leaves.

The group norm acts on the copy that lies in the cones: the proximal step of ``weight ||u|| + indicator of a cone`` is a
projection followed by a shrinkage. The spectral ones get a copy of their own, of a linear image of the point, whose
proximal step is one eigenvalue decomposition.
"""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from convexnn.structure import ConeStructure, FixedSpectral, JointSpectral

Array = NDArray[np.float64]


def shrink(V: Array, threshold: float) -> Array:
    """Proximal step of ``threshold sum_i ||v_i||``, shape (p, d + 1); after a projection also that of norm and cone.

    Implements: docs/theory/first_order.md, Proposition 1.
    """
    length = np.linalg.norm(V, axis=1, keepdims=True)
    factor = np.maximum(0.0, 1 - threshold / np.where(length > 0, length, 1.0))
    return np.asarray(V * factor)


class Split(Protocol):
    """A copy of a linear image of the point, with its own penalty."""

    def strength(self) -> float:
        """Curvature of the regularizer where the loss has curvature one."""

    def curvature(self) -> tuple[Array, Array]:
        """``A'A = diag(a) + (1 1') x diag(b)`` over units: a (p, d + 1) and b (d + 1,)."""

    def pull_back(self) -> Array:
        """``A'(copy - multiplier)``, shape (p, d + 1)."""

    def step(self, U: Array, penalty: float, relaxation: float) -> tuple[float, float]:
        """Update copy and multiplier; relative primal and dual residual."""

    def rescale(self, factor: float) -> None:
        """Divide the scaled multiplier, after the penalty was multiplied by ``factor``."""

    def matrix(self, penalty: float) -> Array:
        """Positive semidefinite multiplier in the layout of the structure, in the solver's units."""


def spectral_split(structure: ConeStructure, scale: Array) -> Split:
    """Split of a Lipschitz program in coordinates with features divided by ``scale``."""
    coupling = structure.coupling
    if isinstance(coupling, JointSpectral):
        return JointSplit(coupling.weight, structure.D.shape[1], scale)
    assert isinstance(coupling, FixedSpectral)
    return FixedSplit(coupling.weight, np.maximum(coupling.q, 1e-12 * coupling.q.max()), scale)


def _ratio(change: Array, *sizes: Array) -> float:
    return float(np.linalg.norm(change) / max([1e-300, *(float(np.linalg.norm(size)) for size in sizes)]))


class _Rows:
    """Rows ``sum_i u_i, u_1, ..., u_p`` of raw weights and their adjoint."""

    def __init__(self, scale: Array) -> None:
        self.scale = scale[:-1]

    def image(self, U: Array) -> Array:
        W = U[:, :-1] / self.scale
        return np.vstack([W.sum(axis=0, keepdims=True), W])

    def adjoint(self, B: Array) -> Array:
        W = (B[1:] + B[0]) / self.scale
        return np.hstack([W, np.zeros((len(W), 1))])

    def spread(self, per_row: Array) -> tuple[Array, Array]:
        """Curvature of ``1/2 sum_i per_row_i |b_i|^2``."""
        k = np.append(1 / self.scale**2, 0.0)
        return per_row[1:, None] * k, per_row[0] * k


class FixedSplit:
    """``weight ||C||_2^2`` for ``C = diag(q)^(-1/2) B / 2``: singular values above a threshold are cut to it.

    Implements: docs/theory/first_order.md, Proposition 4.
    """

    def __init__(self, weight: float, q: Array, scale: Array) -> None:
        self.weight, self.rows = weight, _Rows(scale)
        self.root = 0.5 / np.sqrt(q)[:, None]
        self.C: Array = np.zeros((len(q), len(scale) - 1))
        self.Y: Array = np.zeros_like(self.C)

    def strength(self) -> float:
        """See :class:`Split`."""
        return 2 * self.weight / float(np.sum(self.rows.scale**2))

    def curvature(self) -> tuple[Array, Array]:
        """See :class:`Split`."""
        return self.rows.spread(self.root[:, 0] ** 2)

    def pull_back(self) -> Array:
        """See :class:`Split`."""
        return self.rows.adjoint(self.root * (self.C - self.Y))

    def step(self, U: Array, penalty: float, relaxation: float) -> tuple[float, float]:
        """See :class:`Split`."""
        image, before = self.root * self.rows.image(U), self.C
        target = relaxation * image + (1 - relaxation) * before + self.Y
        self.C = self._prox(target, penalty)
        self.Y = target - self.C
        return _ratio(image - self.C, image, self.C), _ratio(self.C - before, self.Y)

    def _prox(self, target: Array, penalty: float) -> Array:
        left, sizes, right = np.linalg.svd(target, full_matrices=False)
        self.excess = np.zeros_like(sizes)
        # the threshold t minimizes weight t^2 + penalty/2 sum (size - t)_+^2
        sums = penalty * np.cumsum(sizes) / (2 * self.weight + penalty * np.arange(1, len(sizes) + 1))
        t = float(sums.max(initial=0.0))
        if t > 0:
            self.excess = penalty * np.maximum(sizes - t, 0.0) / (2 * t)
        self.right = right
        return cast(Array, (left * np.minimum(sizes, t)) @ right)

    def rescale(self, factor: float) -> None:
        """See :class:`Split`."""
        self.Y = self.Y / factor

    def matrix(self, penalty: float) -> Array:  # noqa: ARG002
        """See :class:`Split`."""
        M = (self.right.T * self.excess) @ self.right
        CM = self.C @ M
        return np.block([[M, -CM.T], [-CM, CM @ self.C.T]])


class JointSplit:
    """``weight sum(q)`` with ``[[s I, B'/2], [B/2, diag(q)/s]]`` positive semidefinite, q free.

    The factor s balances the two diagonal blocks.

    Implements: docs/theory/first_order.md, Proposition 4.
    """

    def __init__(self, weight: float, p: int, scale: Array) -> None:
        self.weight, self.rows, self.d = weight, _Rows(scale), len(scale) - 1
        self.s = 1 / np.sqrt(float(np.sum(scale[:-1] ** 2)))
        size = self.d + p + 1
        self.P: Array = np.zeros((size, size))
        self.P[np.arange(self.d), np.arange(self.d)] = self.s
        self.Y: Array = np.zeros_like(self.P)

    def strength(self) -> float:
        """See :class:`Split`."""
        return np.inf  # measured: penalties that start below the curvature of the loss only slow this copy down

    def curvature(self) -> tuple[Array, Array]:
        """See :class:`Split`."""
        return self.rows.spread(np.full(len(self.P) - self.d, 0.5))

    def pull_back(self) -> Array:
        """See :class:`Split`."""
        return self.rows.adjoint((self.P - self.Y)[self.d :, : self.d])

    def step(self, U: Array, penalty: float, relaxation: float) -> tuple[float, float]:
        """See :class:`Split`."""
        d, before = self.d, self.P
        image = np.zeros_like(before)
        image[np.arange(d), np.arange(d)] = self.s
        image[d:, :d] = 0.5 * self.rows.image(U)
        image[:d, d:] = image[d:, :d].T
        outer = np.arange(d, len(before))
        image[outer, outer] = np.diag(before - self.Y)[d:] - self.weight * self.s / penalty
        target = relaxation * image + (1 - relaxation) * before + self.Y
        values, vectors = np.linalg.eigh(target)
        negative = int((values < 0).sum())
        low = vectors[:, :negative]
        self.Y = (low * values[:negative]) @ low.T
        self.P = target - self.Y
        return _ratio(image - self.P, image, self.P), _ratio(self.P - before, self.Y)

    def rescale(self, factor: float) -> None:
        """See :class:`Split`."""
        self.Y = self.Y / factor

    def matrix(self, penalty: float) -> Array:
        """See :class:`Split`."""
        S = -penalty * self.Y
        S[: self.d] *= np.sqrt(self.s)
        S[:, : self.d] *= np.sqrt(self.s)
        S[self.d :] /= np.sqrt(self.s)
        S[:, self.d :] /= np.sqrt(self.s)
        return S

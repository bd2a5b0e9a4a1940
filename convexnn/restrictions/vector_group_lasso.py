"""The l2-regularized programs with several outputs: weight decay on fixed output directions.

Source: Pilanci & Ergen 2020 (arXiv 2002.10553) for one output; several outputs with directions given are the same
argument (docs/theory/vector_program.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.restrictions.cones import least_distance
from convexnn.restrictions.units import nonzero_rows
from convexnn.restrictions.vector_base import VectorProgram
from convexnn.restrictions.vector_regularizers import DirectedNorm
from convexnn.vector_structure import VectorCoupling, VectorGroupNorm

Array = NDArray[np.float64]


class VectorGroupLasso(VectorProgram):
    r"""Convex training with weight decay and several outputs, output directions fixed.

    ::

        minimize    sum_k om_k |sum_i D_ki (x_k'w_i) vh_i + c - y_k|^2 + 2 lam sum_i ||w_i||
        subject to  (2 D_ki - 1) x_k'w_i >= 0        for all rows k, units i

    Its optimum is that of ``MSE + lam (||W||_F^2 + ||b||^2 + ||V||_F^2)`` over networks with these patterns whose
    outer weights point in the directions ``vh_i``: lengths are free, directions are not. The bias is inside the norm,
    the output bias c is free. MSE sums over the outputs.

    Implements: docs/theory/vector_program.md, Proposition 4.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n, outputs)
    patterns : ActivationPatterns
    directions : array-like, shape (patterns, outputs)
        Normalized here; see :meth:`at` and :meth:`classwise` for two usual choices.
    lam : float
        Positive weight of the regularizer.
    sample_weight : array-like, shape (n,), or None
    start : Network or None
        Lifted into :attr:`start`.
    loss : str or Loss
        See :class:`~convexnn.restrictions.vector_base.VectorProgram`.
    """

    name = "l2-regularized program with several outputs"

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        patterns: ActivationPatterns,
        directions: ArrayLike,
        lam: float = 1e-2,
        *,
        sample_weight: ArrayLike | None = None,
        start: Any = None,
        loss: str | Loss = "squared",
    ) -> None:
        super().__init__(X, y, patterns, directions, lam, sample_weight=sample_weight, start=start, loss=loss)

    @property
    def n_weights(self) -> int:
        """The norm sees the weights and the bias: d + 1."""
        return self.n_inputs + 1

    def _coupling(self) -> VectorCoupling:  # type: ignore[override]
        return VectorGroupNorm(2 * self.lam)

    @property
    def penalty(self) -> DirectedNorm:
        """``2 lam sum_i |w_i|``."""
        return DirectedNorm(2 * self.lam)

    def _network_regularizer(self, network: Network) -> float:
        return self.lam * float((network.W**2).sum() + (network.b**2).sum() + (network.v**2).sum())


class VectorGatedGroupLasso(VectorGroupLasso):
    r"""The program without its cone rows: gated ReLU networks with several outputs.

    Its optimum is a lower bound on that of :class:`VectorGroupLasso` with the same dictionary. :meth:`decode` gives a
    ReLU network with the same predictions on the rows of X and up to two units a gate, of opposite directions.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n, outputs)
    patterns : ActivationPatterns
        Gates.
    directions : array-like, shape (patterns, outputs)
    lam : float
    sample_weight : array-like, shape (n,), or None
    start : Network or None
        Lifted into :attr:`start`.
    loss : str or Loss
        See :class:`~convexnn.restrictions.vector_base.VectorProgram`.
    """

    name = "gated relaxation with several outputs"
    has_cones = False

    def _gates(self) -> Array:
        return 2 * self._structure.D - 1

    def decode(self, z: Array) -> Network:
        """ReLU network with the same predictions on the rows of X, by the cone decomposition ``w_i = a_i - b_i``.

        Raises
        ------
        InvalidInputError
            When a gate has no interior: no ReLU unit has exactly that pattern.
        """
        U = self._point(z)
        parts = [(i, *part) for i in np.flatnonzero(nonzero_rows(U)) for part in self._decompose(int(i), U[i])]
        if not parts:
            parts = [(np.intp(0), np.zeros(self.n_inputs + 1), 1.0)]
        units = np.array([part for _, part, _ in parts])
        directions = np.array([sign * self.directions[i] for i, _, sign in parts])
        return self._balanced(units, directions, self._structure.output_bias(U))

    def _decompose(self, i: int, w: Array) -> list[tuple[Array, float]]:
        """Parts (a, +1) and (b, -1) in the cone of gate i with ``a - b = w``; one part where that is enough."""
        G = self._gates()[:, i, None] * self._structure.X
        slack = G @ w
        if slack.min() >= 0:
            return [(w, 1.0)]
        if slack.max() <= 0:
            return [(-w, -1.0)]
        b = least_distance(G, np.maximum(-slack, 0.0))
        if b is None:
            raise InvalidInputError(f"gate {i} has no interior: no ReLU unit has exactly its pattern; drop it")
        return [(w + b, 1.0), (b, -1.0)]

"""The joint Lipschitz program with several outputs: fixed output directions, everything else free.

LipSDP with several outputs is a norm of the weights ``w_i`` once the directions ``vh_i`` of the outer weights are given
(docs/theory/vector_program.md); the multiplier T and the lengths ``|v_i|`` are free at no cost.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import block_diag

from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.program import Dual
from convexnn.restrictions.base import positive
from convexnn.restrictions.lipschitz_joint import RIDGE
from convexnn.restrictions.units import nonzero_rows
from convexnn.restrictions.vector_base import VectorProgram
from convexnn.restrictions.vector_regularizers import DirectedLipSDP
from convexnn.vector_structure import VectorCoupling, VectorSpectral

Array = NDArray[np.float64]


class VectorLipschitzProgram(VectorProgram):
    r"""Convex training with a Lipschitz penalty and several outputs, output directions fixed.

    ::

        minimize    sum_k om_k |sum_i D_ki (x_k'w_i) vh_i + c - y_k|^2 + lam LipSDP(W, Vh)^2 + ridge sum_i bias_i^2
        subject to  (2 D_ki - 1) x_k'w_i >= 0        for all rows k, units i

        LipSDP^2 = min sigma
                   s.t. [[I, U_0'/2, W'/2], [U_0/2, sigma I - sum_i a_i vh_i vh_i', 0], [W/2, 0, diag(a)]] >= 0

    with ``U_0 = sum_i vh_i w_i'``. LipSDP is an upper bound on the Lipschitz constant from l2 to l2; it sees the
    weights, not the biases, which are measured at the mean of X. With one output this is
    :class:`~convexnn.restrictions.LipschitzProgram`. The directions are a restriction: see :meth:`at` for those of a
    network and :meth:`classwise` for those of the coordinates.

    Implements: docs/theory/vector_program.md, Theorem 1.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n, outputs)
    patterns : ActivationPatterns
    directions : array-like, shape (patterns, outputs)
        Normalized here.
    lam : float
        Positive weight of the squared LipSDP bound.
    sample_weight : array-like, shape (n,), or None
    start : Network or None
        Lifted into :attr:`start`.
    ridge : float
        Positive weight of the squared biases: the direction that nothing else bounds.
    loss : str or Loss
        See :class:`~convexnn.restrictions.vector_base.VectorProgram`.
    """

    name = "joint Lipschitz program with several outputs"

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
        ridge: float = RIDGE,
        loss: str | Loss = "squared",
    ) -> None:
        positive(ridge, "ridge")
        options: dict[str, Any] = {"sample_weight": sample_weight, "start": start, "ridge": ridge, "loss": loss}
        super().__init__(X, y, patterns, directions, lam, **options)

    @property
    def n_weights(self) -> int:
        """The bias is not part of a Lipschitz constant: d."""
        return self.n_inputs

    def _coupling(self) -> VectorCoupling:  # type: ignore[override]
        return VectorSpectral(self.lam)

    def _origin(self) -> Array:
        """Weighted mean of the inputs: shifting all of them changes nothing, the ridge included."""
        mean: Array = self.rows.weight @ self.rows.X
        return mean

    def _relevant(self, merged: Array) -> Array:
        """Drop units without weights: they add a constant, which the free output biases do as well."""
        return np.where(nonzero_rows(merged[:, :-1])[:, None], merged, 0.0)

    @property
    def penalty(self) -> DirectedLipSDP:
        """``lam LipSDP(W, Vh)^2``."""
        return DirectedLipSDP(self.lam, self.directions)

    def _network_regularizer(self, network: Network) -> float:
        units, directions = self._split(network)
        biases = self._relevant(units)[:, -1]
        return DirectedLipSDP(self.lam, directions).value(units[:, :-1]) + self.ridge * float(biases @ biases)

    def _offsets(self, dual: Dual) -> Array:
        first = self.penalty.first(dual, self.n_inputs)
        return np.hstack([self.directions @ first, np.zeros((len(self.directions), 1))])

    def _metrics(self, z: Array, dual: Dual) -> list[Array]:
        weights = self.penalty.metrics(self._point(z)[:, :-1], dual)
        if weights is None:
            return super()._metrics(z, dual)
        bias = np.full((1, 1), 0.5 / math.sqrt(self.ridge))
        return [block_diag(metric, bias) for metric in weights]

"""The joint Lipschitz program with several outputs: fixed output directions, everything else free.

LipSDP with several outputs is a norm of the weights ``w_i`` once the directions ``vh_i`` of the outer weights are given
(docs/theory/vector_program.md); the multiplier T and the lengths ``|v_i|`` are free at no cost.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.lipsdp import maximize_vector, upper_bound_vector
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.program import Dual
from convexnn.restrictions.base import positive
from convexnn.restrictions.lipschitz_joint import RIDGE
from convexnn.restrictions.reference import cone_rows, labelled_dual, row_multipliers
from convexnn.restrictions.units import nonzero_rows
from convexnn.restrictions.vector_base import VectorProgram
from convexnn.restrictions.vector_reference import vector_squared_loss
from convexnn.restrictions.vector_spectral import root_metrics, vector_conjugate
from convexnn.vector_structure import VectorCoupling, VectorSpectral

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]

#: About what the certified evaluation reaches; an objective errs by twice this share of its regularizer.
LIPSDP_TOL = 1e-8


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
    ) -> None:
        positive(ridge, "ridge")
        super().__init__(X, y, patterns, directions, lam, sample_weight=sample_weight, start=start, ridge=ridge)

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

    def _blocks(self, dual: Dual) -> tuple[Array, Array, Array] | None:
        """Blocks M (inputs), N (outputs) and P_0 (outputs x inputs) of a matrix multiplier."""
        if dual.matrix is None:
            return None
        d, k = self.n_inputs, self.n_outputs
        S = 0.5 * (dual.matrix + dual.matrix.T)
        return S[:d, :d], S[d : d + k, d : d + k], -S[d : d + k, :d]

    def _regularizer(self, U: Array, dual: Dual | None) -> float:
        W, V = U[:, :-1], self.directions.T
        bounds = [maximize_vector(W, V, tol=LIPSDP_TOL).upper]
        if dual is not None and dual.matrix is not None and self._is_usable(dual):
            bounds.append(upper_bound_vector(W, V, self._multiplier(W, dual)))
        return self.lam * min(bounds) ** 2

    def _multiplier(self, W: Array, dual: Dual) -> Array:
        """``q_i = |vh_i|_N / |w_i|_M`` with traces one, kept away from zero."""
        blocks = self._blocks(dual)
        assert blocks is not None
        M, N, _ = blocks
        a = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", W, M, W), 0.0) / max(float(np.trace(M)), 1e-300))
        c = np.sqrt(
            np.maximum(np.einsum("ij,jk,ik->i", self.directions, N, self.directions), 0.0)
            / max(float(np.trace(N)), 1e-300)
        )
        length = np.linalg.norm(W, axis=1)
        q: Array = (c + 1e-10) / np.maximum(a + 1e-10 * length, 1e-300)
        return q

    def _conjugate(self, Z: Array, error: Array, dual: Dual) -> tuple[float, float]:
        """:func:`vector_conjugate` with the blocks of the dual matrix, and without its P_0."""
        d, blocks = self.n_inputs, self._blocks(dual)
        matrices = None if blocks is None else blocks[:2]
        first = np.zeros((self.n_outputs, d)) if blocks is None else blocks[2]
        return vector_conjugate(Z[:, :d], self.directions, first, matrices, self.lam, error[:, :d]), math.inf

    def _network_regularizer(self, network: Network) -> float:
        units, directions = self._split(network)
        bound = maximize_vector(units[:, :-1], directions.T, tol=LIPSDP_TOL).upper
        biases = self._relevant(units)[:, -1]
        return self.lam * bound**2 + self.ridge * float(biases @ biases)

    def _offsets(self, dual: Dual) -> Array:
        blocks = self._blocks(dual)
        first = np.zeros((self.n_outputs, self.n_inputs)) if blocks is None else blocks[2]
        return np.hstack([self.directions @ first, np.zeros((len(self.directions), 1))])

    def _metrics(self, z: Array, dual: Dual) -> list[Array]:
        blocks = self._blocks(dual)
        if blocks is None:
            return super()._metrics(z, dual)
        d, W = self.n_inputs, self._point(z)[:, :-1]
        lengths = np.linalg.norm(W, axis=1)
        share = np.sqrt(np.maximum(lengths / max(float(lengths.sum()), 1e-300), 1e-8))
        metrics = []
        for i, root in enumerate(root_metrics(*blocks[:2], self.directions, self.lam)):
            metric = np.zeros((d + 1, d + 1))
            metric[:d, :d] = share[i] * root
            metric[d, d] = 0.5 / math.sqrt(self.ridge)
            metrics.append(metric)
        return metrics

    def as_cvxpy(self) -> cvxpy.Problem:
        """The program with variables ``U`` (units), ``c`` (output biases), ``sigma`` and ``a`` (multipliers).

        Implements: docs/theory/vector_program.md, Theorem 1.
        """
        import cvxpy as cp

        p, d, k = self.patterns.n_patterns, self.n_inputs, self.n_outputs
        U = cp.Variable((p, d + 1), name="U")
        c, sigma, a = cp.Variable(k, name="c"), cp.Variable(name="sigma"), cp.Variable(p, name="a")
        W, Vh = U[:, :d], self.directions
        outputs = sigma * np.eye(k) - Vh.T @ cp.diag(a) @ Vh
        corner = cp.bmat([[outputs, np.zeros((k, p))], [np.zeros((p, k)), cp.diag(a)]])
        E = cp.vstack([Vh.T @ W, W]) / 2
        lmi = cp.bmat([[np.eye(d), E.T], [E, corner]]) >> 0
        penalty = self.lam * sigma + self.ridge * cp.sum_squares(U[:, d])
        objective = vector_squared_loss(self._structure, U, c) + penalty
        return cp.Problem(cp.Minimize(objective), [*cone_rows(self._structure, U), lmi.set_label("lmi")])

    def read_cvxpy(self, problem: cvxpy.Problem) -> tuple[Array, Dual | None]:
        """Point, moved into the cones, and multipliers, row by row refitted where that proves more."""
        raw = problem.var_dict["U"].value
        U = self.repair(raw)
        matrix = labelled_dual(problem, "lmi")
        return U, self.refine(U, Dual(self.residual_multiplier(raw), row_multipliers(self._structure, problem), matrix))

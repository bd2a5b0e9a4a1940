"""The joint Lipschitz program: weights, outer weights and the LipSDP multiplier in one convex program.

LipSDP is a norm of the merged units ``u_i = v_i w_i`` (docs/theory/joint_program.md), so nothing has to be fixed.
Source of the program it contains: Yin & Lesage-Landry 2026 (arXiv 2606.19652).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.lipsdp import maximize, stack, upper_bound
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.program import Dual
from convexnn.restrictions.base import ConeProgram, positive
from convexnn.restrictions.multipliers import is_usable
from convexnn.restrictions.reference import cone_rows, labelled_dual, mean_loss, read_dual
from convexnn.restrictions.spectral import conjugate, root_metric, split
from convexnn.restrictions.units import nonzero_rows
from convexnn.structure import Coupling, JointSpectral

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]

#: Small, because the training objective leaves it out; the solvers need no larger one.
RIDGE = 1e-10
LIPSDP_TOL = 1e-10


def lipsdp_rows(U: Array) -> Array:
    """Rows ``sum_i u_i, u_1, ..., u_p`` of merged units without their bias, shape (p + 1, d)."""
    return stack(U[:, :-1], np.ones(len(U)))


class SpectralProgram(ConeProgram):
    """What the Lipschitz programs share: weights only in the regularizer, a ridge on the merged biases."""

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        patterns: ActivationPatterns,
        lam: float,
        *,
        sample_weight: ArrayLike | None,
        start: Any,
        ridge: float,
        loss: str | Loss,
    ) -> None:
        positive(ridge, "ridge")  # without it the biases of opposite always-active units are unbounded
        super().__init__(X, y, patterns, lam, sample_weight=sample_weight, start=start, ridge=ridge, loss=loss)

    @property
    def n_weights(self) -> int:
        """The bias is not part of a Lipschitz constant: d."""
        return self.n_inputs

    def _origin(self) -> Array:
        """Weighted mean of the inputs: shifting all of them changes nothing, the ridge included."""
        mean: Array = self.rows.weight @ self.rows.X
        return mean

    @abstractmethod
    def _first_multiplier(self, dual: Dual) -> Array:
        """Multiplier p_0 of ``b_0 = sum_i u_i`` in a dual, shape (d,)."""

    def _relevant(self, merged: Array) -> Array:
        """Drop units without weights: they add a constant, which the free output bias does as well."""
        return np.where(nonzero_rows(merged[:, :-1])[:, None], merged, 0.0)

    def _network_regularizer(self, network: Network) -> float:
        U = self.merge(network)
        bound = maximize(lipsdp_rows(U), tol=LIPSDP_TOL).upper
        return self.lam * bound * bound + self.ridge * float(U[:, -1] @ U[:, -1])

    def _spectral_conjugate(self, Z: Array, error: Array, dual: Dual, q: Array | None) -> float:
        d = self.n_inputs
        P = split(Z[:, :d], self._first_multiplier(dual))
        M = None if dual.matrix is None else dual.matrix[:d, :d]
        return conjugate(P, M, self.lam, q, split(error[:, :d], np.zeros(d)))

    def _unit_metric(self, dual: Dual, q: Array) -> tuple[Array, Callable[[int], Array]]:
        d = self.n_inputs
        if dual.matrix is None:
            return super()._metric(np.zeros(0), dual)
        root = root_metric(dual.matrix[:d, :d], self.lam)
        share = np.sqrt(np.maximum(q[1:], 1e-8))

        def metric(unit: int) -> Array:
            M = np.zeros((d + 1, d + 1))
            M[:d, :d] = share[unit] * root
            M[d, d] = 0.5 / math.sqrt(self.ridge)
            return M

        return self._first_multiplier(dual), metric


class LipschitzProgram(SpectralProgram):
    r"""Convex training with a Lipschitz penalty, all of the network free but its patterns and signs.

    ::

        minimize    sum_k om_k (sum_i D_ki x_k'u_i + c - y_k)^2 + lam LipSDP(U)^2 + ridge sum_i (bias of u_i)^2
        subject to  s_i (2 D_ki - 1) x_k'u_i >= 0        for all rows k, units i

        LipSDP(U)^2 = min { sum_i q_i : [[I, B'/2], [B/2, diag(q)]] >= 0 },   B = [sum_i u_i; u_1; ...; u_p]

    LipSDP (Fazlyab et al., 2019) is an upper bound on the l2 Lipschitz constant of the network; it sees the
    weights, not the biases. It is a norm of U, so T and the outer weights are free at no cost. The optimum is at
    most that of every restriction (12) over the same patterns, hence at most every iterate of Algorithm 1.

    Biases are measured at the mean of X, ``x_k = (x - mean, 1)``: shifting the inputs changes nothing, the ridge
    included. :meth:`decode` moves them back to x = 0.

    Implements: docs/theory/joint_program.md, Theorem 1; contains Yin & Lesage-Landry (2026), eq. (12).

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    patterns : ActivationPatterns
        A multiset; copies never help here (docs/theory/joint_program.md, Proposition 3), they are kept all the same.
    lam : float
        Positive weight of the squared LipSDP bound.
    sample_weight : array-like, shape (n,), or None
    start : Network or None
        Lifted into :attr:`start`.
    ridge : float
        Positive weight of the squared merged biases: the direction that nothing else bounds.
    loss : str or Loss
        "squared", "huber", "hinge", "squared_hinge" or "logistic"; targets -1 / +1 for the last three.
    """

    name = "joint Lipschitz program"

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        patterns: ActivationPatterns,
        lam: float = 1e-2,
        *,
        sample_weight: ArrayLike | None = None,
        start: Any = None,
        ridge: float = RIDGE,
        loss: str | Loss = "squared",
    ) -> None:
        super().__init__(X, y, patterns, lam, sample_weight=sample_weight, start=start, ridge=ridge, loss=loss)

    def _coupling(self) -> Coupling:
        return JointSpectral(self.lam)

    def _regularizer(self, U: Array, dual: Dual | None) -> float:
        B = lipsdp_rows(U)
        bounds = [maximize(B, tol=LIPSDP_TOL).upper]
        if dual is not None and dual.matrix is not None and is_usable(dual, self._structure):
            bounds.append(upper_bound(B, self._multiplier(B, dual.matrix)))
        best = min(bounds)
        return self.lam * best * best  # not **, which raises where a product overflows

    def _multiplier(self, B: Array, matrix: Array) -> Array:
        """Multiplier on the simplex, ``q_i ~ (b_i'M b_i)^(1/2)`` with M the leading block of the dual matrix."""
        d = self.n_inputs
        forms = np.einsum("ij,jk,ik->i", B, matrix[:d, :d], B)
        q = np.sqrt(np.maximum(forms, 0.0))
        q = q + 1e-12 * np.linalg.norm(B, axis=1) * (q.sum() / max(np.linalg.norm(B, axis=1).sum(), 1e-300))
        total = q.sum()
        return q / total if total > 0 else np.full(len(q), 1.0 / len(q))

    def _conjugate(self, Z: Array, error: Array, dual: Dual) -> tuple[float, float]:
        """Maximum form of :mod:`convexnn.restrictions.spectral` with the leading block of the dual matrix."""
        return self._spectral_conjugate(Z, error, dual, None), math.inf

    def _first_multiplier(self, dual: Dual) -> Array:
        d = self.n_inputs
        return np.zeros(d) if dual.matrix is None else -0.5 * (dual.matrix[d, :d] + dual.matrix[:d, d])

    def _metric(self, z: Array, dual: Dual) -> tuple[Array, Callable[[int], Array]]:
        B = lipsdp_rows(self._point(z))
        q = np.ones(len(B)) if dual.matrix is None else self._multiplier(B, dual.matrix)
        return self._unit_metric(dual, q)

    def cvxpy_problem(self) -> cvxpy.Problem:
        """The joint program with variables ``U`` (merged units), ``c`` (output bias) and ``q`` (multiplier).

        Implements: docs/theory/joint_program.md, Theorem 1.
        """
        import cvxpy as cp

        p, d = self.patterns.n_patterns, self.n_inputs
        U = cp.Variable((p, d + 1), name="U")
        c = cp.Variable(name="c")
        q = cp.Variable(p + 1, name="q")
        B = cp.vstack([cp.sum(U[:, :d], axis=0, keepdims=True), U[:, :d]])
        lmi = cp.bmat([[np.eye(d), B.T / 2], [B / 2, cp.diag(q)]]) >> 0
        loss, predictions = mean_loss(self._structure, U, c)
        objective = loss + self.lam * cp.sum(q) + self.ridge * cp.sum_squares(U[:, d])
        return cp.Problem(cp.Minimize(objective), [*cone_rows(self._structure, U), *predictions, lmi.set_label("lmi")])

    def read_cvxpy(self, problem: cvxpy.Problem) -> tuple[Array, Dual | None]:
        """Point, moved into the cones, and multipliers, row by row refitted where that proves more."""
        raw = problem.var_dict["U"].value
        U = self.repair(raw)
        matrix = labelled_dual(problem, "lmi")
        return U, self.refine(U, read_dual(self._structure, problem, raw, matrix))

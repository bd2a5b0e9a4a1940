"""The l2-regularized program: weight decay, convex over fixed patterns.

Source: Pilanci & Ergen 2020 (arXiv 2002.10553); multisets: Yin & Lesage-Landry 2026 (arXiv 2606.19652).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.program import Dual
from convexnn.restrictions.base import ConeProgram
from convexnn.restrictions.reference import cone_rows, mean_loss, read_dual
from convexnn.structure import Coupling, GroupNorm

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]


class ReluGroupLasso(ConeProgram):
    r"""Convex training with weight decay over a multiset of activation patterns.

    ::

        minimize    sum_k om_k (sum_i D_ki x_k'u_i + c - y_k)^2 + 2 lam sum_i ||u_i||
        subject to  s_i (2 D_ki - 1) x_k'u_i >= 0        for all rows k, units i

    Any other ``loss`` may take the place of the squared one. The optimum is that of the mean loss plus
    ``lam sum_i (||(w_i, b_i)||^2 + v_i^2)`` over networks with these patterns and signs, because
    ``min {||w||^2 + v^2 : |v| ||w|| = r} = 2 r``. The bias is inside the norm, the output bias c is free.

    Implements: Yin & Lesage-Landry (2026), eq. (6).

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    patterns : ActivationPatterns
        Repeated patterns are allowed and bring nothing: units of one cone can be summed.
    lam : float
        Positive weight of the regularizer.
    sample_weight : array-like, shape (n,), or None
    start : Network or None
        Lifted into :attr:`start`.
    loss : str or Loss
        "squared", "huber", "hinge", "squared_hinge" or "logistic"; targets -1 / +1 for the last three.
    """

    name = "l2-regularized program (6)"

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        patterns: ActivationPatterns,
        lam: float = 1e-2,
        *,
        sample_weight: ArrayLike | None = None,
        start: Any = None,
        loss: str | Loss = "squared",
    ) -> None:
        super().__init__(X, y, patterns, lam, sample_weight=sample_weight, start=start, loss=loss)

    @property
    def n_weights(self) -> int:
        """The norm sees the weights and the bias: d + 1."""
        return self.n_inputs + 1

    def _coupling(self) -> Coupling:
        return GroupNorm(2 * self.lam)

    def _regularizer(self, U: Array, dual: Dual | None) -> float:  # noqa: ARG002
        return 2 * self.lam * float(np.linalg.norm(U, axis=1).sum())

    def _conjugate(self, Z: Array, error: Array, dual: Dual) -> tuple[float, float]:  # noqa: ARG002
        """``2 lam sum ||u_i|| >= theta <Z, U>`` as long as ``theta max_i ||z_i|| <= 2 lam``."""
        longest = float(np.linalg.norm(np.abs(Z) + error, axis=1).max())
        return 0.0, math.inf if longest == 0 else 2 * self.lam / longest

    def _network_regularizer(self, network: Network) -> float:
        return self.lam * float((network.W**2).sum() + (network.b**2).sum() + (network.v**2).sum())

    def cvxpy_problem(self) -> cvxpy.Problem:
        """Program (6) with variables ``U`` (merged units) and ``c`` (output bias).

        Implements: Yin & Lesage-Landry (2026), eq. (6).
        """
        import cvxpy as cp

        U = cp.Variable((self.patterns.n_patterns, self.n_inputs + 1), name="U")
        c = cp.Variable(name="c")
        loss, predictions = mean_loss(self._structure, U, c)
        objective = loss + 2 * self.lam * cp.sum(cp.norm(U, 2, axis=1))
        return cp.Problem(cp.Minimize(objective), [*cone_rows(self._structure, U), *predictions])

    def read_cvxpy(self, problem: cvxpy.Problem) -> tuple[Array, Dual | None]:
        """Point, moved into the cones, and multipliers, row by row refitted where that proves more."""
        raw = problem.var_dict["U"].value
        U = self.repair(raw)
        return U, self.refine(U, read_dual(self._structure, problem, raw))

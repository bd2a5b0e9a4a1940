"""The Lipschitz restriction: outer weights up to sign and the LipSDP multiplier are fixed.

Source: Yin & Lesage-Landry 2026 (arXiv 2606.19652), Section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InfeasibleStartError, InvalidInputError
from convexnn.lipsdp import maximize, multiplier_from_t, t_from_multiplier
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import Dual
from convexnn.restrictions.lipschitz_joint import LIPSDP_TOL, RIDGE, SpectralProgram, lipsdp_rows
from convexnn.restrictions.reference import cone_rows, labelled_dual, mean_loss, read_dual
from convexnn.restrictions.rows import check_inputs
from convexnn.restrictions.units import checked_network, merge, nonzero_rows
from convexnn.structure import Coupling, FixedSpectral

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]

#: Total share of the multiplier spread over the live units; raises the regularizer by at most this, relatively.
SPREAD = 5e-10


class LipschitzRestriction(SpectralProgram):
    r"""Convex training with a Lipschitz penalty for fixed ``|v|`` and fixed T.

    ::

        minimize    sum_k om_k (sum_i s_i nu_i D_ki x_k'w_i + c - y_k)^2 + lam L2 + ridge sum_i (nu_i bias_i)^2
        subject to  (2 D_ki - 1) x_k'w_i >= 0                  for all rows k, units i
                    [[L2 I, -W'T, 0], [-T W, 2 T, v], [0, v', 1]] >= 0,      v = s nu,  T = diag(t)

    In merged units ``u_i = s_i nu_i w_i`` the least L2 is ``lambda_max(1/4 sum_i b_i b_i' / q_i)`` with
    ``q_0 = 1 - 1/2 sum nu_i^2 / t_i``, ``q_i = nu_i^2 / (2 t_i)``: it depends on nu and T through q alone.

    Units with ``nu_i = 0`` or ``t_i = 0`` are dead: they stay zero, have no row in the points of this program
    (:attr:`units` holds the numbers of the live ones), and come back as zero units of :meth:`decode`.

    Implements: Yin & Lesage-Landry (2026), eq. (12).

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    patterns : ActivationPatterns
        One pattern and sign a unit; p in all.
    lam : float
        Positive weight of the squared Lipschitz bound.
    outer_weights : array-like, shape (p,), or None
        nu = \|v\|, nonnegative. None (only with q as multiplier) takes the representative with T = I.
    multiplier : array-like, shape (p,) or (p + 1,)
        The diagonal t of T, or q on the simplex (first entry the one of ``sum_i u_i``).
    sample_weight : array-like, shape (n,), or None
    start : Network or None
        Lifted into :attr:`start`.
    ridge : float
        Positive weight of the squared merged biases.
    loss : str or Loss
        "squared", "huber", "hinge", "squared_hinge" or "logistic"; targets -1 / +1 for the last three.

    Raises
    ------
    InfeasibleStartError
        When ``1/2 sum nu_i^2 / t_i >= 1``: no weights at all satisfy the matrix inequality.

    See Also
    --------
    LipschitzRestriction.at : nu, T and patterns of a given network.
    """

    name = "Lipschitz restriction (12)"

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        patterns: ActivationPatterns,
        lam: float = 1e-2,
        *,
        multiplier: ArrayLike,
        outer_weights: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        start: Any = None,
        ridge: float = RIDGE,
        loss: str | Loss = "squared",
    ) -> None:
        all_units = patterns.expand()
        nu, q = _outer_weights_and_q(len(all_units), outer_weights, multiplier)
        self.n_units = len(all_units)
        self.units = np.flatnonzero(q[1:] > 0)
        if not self.units.size:
            raise InvalidInputError("every unit is dead (nu_i = 0 or t_i = 0); there is nothing to optimize")
        self._all_nu, self._all_signs = nu, all_units.s
        self.q = q[np.r_[0, 1 + self.units]]
        self.nu = nu[self.units]
        live = all_units.select(self.units)
        super().__init__(X, y, live, lam, sample_weight=sample_weight, start=start, ridge=ridge, loss=loss)

    @classmethod
    def at(
        cls,
        network: Any,
        X: ArrayLike,
        y: ArrayLike,
        lam: float = 1e-2,
        *,
        patterns: ActivationPatterns | None = None,
        sample_weight: ArrayLike | None = None,
        ridge: float = RIDGE,
        loss: str | Loss = "squared",
    ) -> LipschitzRestriction:
        """Build the restriction around a network: its ``|v|``, its patterns, and T of its LipSDP.

        The network is the start, and the value of the program at it is the network's own objective (up to a
        relative 1e-9 of the regularizer).

        Implements: Yin & Lesage-Landry (2026), Corollary 10 and lines 7-8 of Algorithm 1.

        Parameters
        ----------
        network : Network or any model with one hidden ReLU layer and one output
        X : array-like, shape (n, d)
        y : array-like, shape (n,)
        lam : float
        patterns : ActivationPatterns or None
            One pattern a unit, in the order of the units; None extracts those of the network.
        sample_weight : array-like, shape (n,), or None
        ridge : float
        loss : str or Loss
        """
        inputs = check_inputs(X)
        net = checked_network(network, inputs.shape[1])
        multiplier = spread(lipsdp_rows(merge(net)))
        return cls(
            inputs,
            y,
            extract(net, inputs) if patterns is None else patterns,
            lam,
            outer_weights=np.abs(net.v),
            multiplier=multiplier,
            sample_weight=sample_weight,
            start=net,
            ridge=ridge,
            loss=loss,
        )

    @property
    def t(self) -> Array:
        """Diagonal of T of the live units, shape (number of live units,)."""
        return np.asarray(t_from_multiplier(self.nu, self.q))

    def _coupling(self) -> Coupling:
        return FixedSpectral(self.lam, self.q)

    def _regularizer(self, U: Array, dual: Dual | None) -> float:  # noqa: ARG002
        C = lipsdp_rows(U) / (2 * np.sqrt(self.q)[:, None])  # q is fixed: zero units do not give their share back
        return self.lam * float(np.linalg.eigvalsh(C.T @ C)[-1])

    def _conjugate(self, Z: Array, error: Array, dual: Dual) -> tuple[float, float]:
        """Sum form of :mod:`convexnn.restrictions.spectral` with the leading block of the dual matrix."""
        return self._spectral_conjugate(Z, error, dual, self.q), math.inf

    def _first_multiplier(self, dual: Dual) -> Array:
        d = self.n_inputs
        if dual.matrix is None:
            return np.zeros(d)
        return -0.5 * (dual.matrix[d, :d] + dual.matrix[:d, d]) / math.sqrt(self.q[0])

    def _metric(self, z: Array, dual: Dual) -> tuple[Array, Callable[[int], Array]]:  # noqa: ARG002
        return self._unit_metric(dual, self.q)

    # -- networks -----------------------------------------------------------------------------------
    def lift(self, network: Any) -> Array:
        """Point of the program that predicts what the network predicts, up to the output bias.

        Unit i of a network with as many units as the program had goes to its own cone.

        Raises
        ------
        InvalidInputError
            When a unit has a pattern that the program does not have, or is nonzero where the program's unit is dead.
        """
        net = checked_network(network, self.n_inputs)
        merged = self._relevant(self.merge(net))
        if len(merged) != self.n_units:
            return self._place(merged)
        dead = np.setdiff1d(np.arange(self.n_units), self.units)
        if merged[dead].any():
            unit = dead[nonzero_rows(merged[dead])][0]
            raise InvalidInputError(f"unit {unit} of the network is not zero but is dead in this restriction")
        return self._place(merged[self.units])

    def decode(self, z: Array) -> Network:
        """Network with the program's own outer weights ``v = s nu`` and ``w_i = u_i / v_i``; dead units are zero.

        Implements: Yin & Lesage-Landry (2026), eq. (13).
        """
        U = self._point(z)
        units = np.zeros((self.n_units, self.n_inputs + 1))
        v = self._all_signs * self._all_nu
        units[self.units] = self._at_zero(U) / v[self.units, None]
        return Network.shallow(units[:, :-1], units[:, -1], v, self._structure.intercept(U))

    # -- cvxpy --------------------------------------------------------------------------------------
    def cvxpy_problem(self) -> cvxpy.Problem:
        """Program (12) with variables ``W`` (hidden units with bias), ``c`` (output bias) and ``L2``.

        Every unit is first rescaled, ``(w_i, nu_i, t_i) -> (t_i^(1/2) w_i, t_i^(-1/2) nu_i, 1)``: the function, L2
        and the objective stay (Lemma 5), T becomes the identity, and the solver sees numbers of one size.

        Implements: Yin & Lesage-Landry (2026), eq. (12), with the matrix of eq. (3).
        """
        import cvxpy as cp

        p, d = len(self.units), self.n_inputs
        W = cp.Variable((p, d + 1), name="W")
        c = cp.Variable(name="c")
        L2 = cp.Variable(name="L2")
        v, T = self._rescaled_outer(), np.eye(p)
        U = cp.multiply(v[:, None], W)
        TW = T @ W[:, :d]
        M = cp.bmat(
            [
                [L2 * np.eye(d), -TW.T, np.zeros((d, 1))],
                [-TW, 2 * T, v[:, None]],
                [np.zeros((1, d)), v[None], np.ones((1, 1))],
            ]
        )
        loss, predictions = mean_loss(self._structure, U, c)
        objective = loss + self.lam * L2 + self.ridge * cp.sum_squares(U[:, d])
        return cp.Problem(
            cp.Minimize(objective), [*cone_rows(self._structure, U), *predictions, (M >> 0).set_label("lmi")]
        )

    def read_cvxpy(self, problem: cvxpy.Problem) -> tuple[Array, Dual | None]:
        """Point, moved into the cones, and multipliers, row by row refitted where that proves more.

        Of the matrix multiplier only the leading block M is read; the rest follows from complementarity,
        ``[[M, -M C'], [-C M, C M C']]`` with ``C = diag(q)^(-1/2) B / 2``.
        """
        raw = self._rescaled_outer()[:, None] * problem.var_dict["W"].value
        U = self.repair(raw)
        lmi, d = labelled_dual(problem, "lmi"), self.n_inputs
        matrix = None if lmi is None else self._complementary(U, lmi[:d, :d])
        return U, self.refine(U, read_dual(self._structure, problem, raw, matrix))

    def cvxpy_units(self, variables: Mapping[str, Any]) -> Any:
        """Merged units ``u_i = v_i w_i`` in the variables."""
        import cvxpy as cp

        return cp.multiply(self._rescaled_outer()[:, None], variables["W"])

    def cvxpy_values(self, z: Array, network: Network) -> dict[str, Array]:
        """Hidden units and output bias."""
        return {"W": z / self._rescaled_outer()[:, None], "c": network.layers[-1][1][0]}

    def _rescaled_outer(self) -> Array:
        """Outer weights of the representative with T = I: ``s_i (2 q_i)^(1/2)``."""
        return self.patterns.s * np.sqrt(2 * self.q[1:])

    def _complementary(self, U: Array, leading: Array) -> Array:
        M = 0.5 * (leading + leading.T)
        CM = (lipsdp_rows(U) / (2 * np.sqrt(self.q)[:, None])) @ M
        corner = CM @ np.linalg.pinv(M) @ CM.T
        return np.block([[M, -CM.T], [-CM, 0.5 * (corner + corner.T)]])


def spread(B: Array) -> Array:
    """Multiplier q of LipSDP of the rows B, bounded away from zero on the nonzero rows and zero on the others.

    Row 0 always gets a share: for ``q_0 = 0`` the restriction would force ``sum_i u_i = 0``.
    """
    q = maximize(B, tol=LIPSDP_TOL).multiplier
    used = nonzero_rows(B)
    used[0] = True
    q = np.where(used, np.maximum(q, SPREAD / len(q)), 0.0)
    return q / q.sum()


def _outer_weights_and_q(p: int, outer_weights: ArrayLike | None, multiplier: ArrayLike) -> tuple[Array, Array]:
    values = np.asarray(multiplier, dtype=float)
    if values.shape not in ((p,), (p + 1,)) or not np.isfinite(values).all() or (values < 0).any():
        raise InvalidInputError(
            f"multiplier must hold {p} (t) or {p + 1} (q) nonnegative finite numbers, got shape {values.shape}"
        )
    if values.shape == (p,) and outer_weights is None:
        raise InvalidInputError("a multiplier t needs outer_weights; give them, or give q with one entry more")
    q_given = values.shape == (p + 1,)
    nu = np.sqrt(2 * values[1:]) if outer_weights is None else np.asarray(outer_weights, dtype=float)
    if nu.shape != (p,) or not np.isfinite(nu).all() or (nu < 0).any():
        raise InvalidInputError(f"outer_weights must hold {p} nonnegative finite numbers, got shape {nu.shape}")
    dead = nu == 0 if q_given else (nu == 0) | (values == 0)
    if q_given and abs(values.sum() - 1) > 1e-6:
        raise InvalidInputError(f"the multiplier q sums to {values.sum():.6g}; expected a point of the simplex, sum 1")
    q = values if q_given else multiplier_from_t(np.where(dead, 0.0, nu), values)
    q = np.where(np.r_[False, dead], 0.0, q)
    q = q / q.sum() if q_given and q.any() else q
    if not q[0] > 0:
        raise InfeasibleStartError(
            f"T and the outer weights leave q_0 = 1 - 1/2 sum nu_i^2 / t_i = {q[0]:.3g}; the matrix inequality needs "
            "it positive; take T from LipschitzRestriction.at(network, ...) or scale the outer weights down"
        )
    return nu, q

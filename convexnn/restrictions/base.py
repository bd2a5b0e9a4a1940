"""What all convex training programs with scalar output share.

With merged units ``u_i = v_i (w_i, b_i)`` as rows of ``U`` and ``x_k = (x, 1)``::

    minimize    sum_k om_k l(sum_i D_ki x_k'u_i + c; y_k) + ridge |U[:, -1]|^2 + R(U)     over U, c
    subject to  S_ki x_k'u_i >= 0,   S = s (2 D - 1)

The loss ``l`` is ``(f - y)^2`` or another of :mod:`convexnn.losses`. A sub-class states its regularizer R three
times: its value, its conjugate (for the lower bound) and in cvxpy. Everything else stands here, once.
"""

from __future__ import annotations

import math
import numbers
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import multipliers_of
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.program import Dual
from convexnn.restrictions.cones import project
from convexnn.restrictions.enclosed import ROUNDOFF_SHARE, enclosed_stationarity
from convexnn.restrictions.loss_bounds import admissible, check_loss_targets, loss_bound, scalar_loss
from convexnn.restrictions.multipliers import fit_rows, is_usable, stationarity
from convexnn.restrictions.rows import DistinctRows, distinct_rows
from convexnn.restrictions.stated_views import StatedCones
from convexnn.restrictions.units import balanced, checked_network, merge, place, relative_slack
from convexnn.structure import ConeStructure, Coupling

Array = NDArray[np.float64]


def positive(value: float, name: str, *, zero: bool = False) -> float:
    """Finite positive number (or zero where allowed), else InvalidInputError."""
    number = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise InvalidInputError(f"{name}={value!r} was given; expected a finite number {'>=' if zero else '>'} 0")
    return number


class ConeProgram(StatedCones):
    """A convex training program: data, patterns and a regularizer.

    Parameters
    ----------
    X : array-like, shape (n, d)
        Inputs; repeated rows are merged into weighted ones.
    y : array-like, shape (n,)
        Targets; -1 / +1 for the classification losses.
    patterns : ActivationPatterns
        A multiset on the rows of ``X``.
    lam : float
        Positive regularization weight.
    sample_weight : array-like, shape (n,), or None
        Nonnegative; only ratios matter.
    start : Network or None
        Lifted into :attr:`start`.
    ridge : float
        Weight of the squared merged biases, part of the objective.
    loss : str or Loss
        "squared", "huber", "hinge", "squared_hinge" or "logistic".

    Raises
    ------
    InvalidInputError
        For data, patterns or a weight that cannot be used.
    """

    name = "cone program"
    has_cones = True

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        patterns: ActivationPatterns,
        lam: float,
        *,
        sample_weight: ArrayLike | None = None,
        start: Any = None,
        ridge: float = 0.0,
        loss: str | Loss = "squared",
    ) -> None:
        self.loss = scalar_loss(loss)
        self.rows = self._distinct(X, y, sample_weight)
        check_loss_targets(self.loss, self.rows.y)
        self.lam = positive(lam, "lam")
        self.ridge = positive(ridge, "ridge", zero=True)
        if not isinstance(patterns, ActivationPatterns):
            raise InvalidInputError(f"patterns is a {type(patterns).__name__}; expected ActivationPatterns")
        n_rows = len(np.asarray(X))
        if patterns.n_rows != n_rows:
            raise InvalidInputError(
                f"the patterns have {patterns.n_rows} rows and X has {n_rows}; extract or sample them from this X"
            )
        expanded = patterns.expand()
        self.patterns = ActivationPatterns(self.rows.select(expanded.D), expanded.s)
        self._structure = self._build()
        self._start = None if start is None else self.lift(start)

    def _distinct(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> DistinctRows:
        return distinct_rows(X, y, sample_weight, with_targets=self.loss.name != "squared")

    def _build(self) -> ConeStructure:
        D = self.patterns.D.astype(float)
        signs = self.rows.fresh[:, None] * self.patterns.s * (2 * D - 1)  # one cone row for every x
        return ConeStructure(
            X=np.hstack([self.rows.X - self._origin(), np.ones((len(self.rows.X), 1))]),
            y=self.rows.y,
            weight=self.rows.weight,
            constant=self.rows.constant,
            D=D,
            S=signs if self.has_cones else np.zeros_like(D),
            ridge=self.ridge,
            n_weights=self.n_weights,
            coupling=self._coupling(),
            sample_loss=self.loss,
        )

    # -- what a sub-class states --------------------------------------------------------------------
    @property
    @abstractmethod
    def n_weights(self) -> int:
        """How many leading coordinates of a unit the regularizer sees."""

    @abstractmethod
    def _coupling(self) -> Coupling:
        """The regularizer, for structured solvers."""

    @abstractmethod
    def _regularizer(self, U: Array, dual: Dual | None) -> float:
        """R(U), or a valid upper value of it."""

    @abstractmethod
    def _conjugate(self, Z: Array, error: Array, dual: Dual) -> tuple[float, float]:
        """Pair (a, b): ``R(U) >= theta <Z', U> - theta^2 a`` for every U and every ``0 <= theta <= b``.

        It holds for every Z' that differs from Z entry by entry by at most ``error`` (p, d + 1). ``Z`` has
        the bias column set to zero where the regularizer does not see it.
        """

    @abstractmethod
    def _network_regularizer(self, network: Network) -> float:
        """Regularizer of the non-convex training problem, with the ridge on merged biases."""

    # -- evaluation ---------------------------------------------------------------------------------
    @property
    def n_inputs(self) -> int:
        """Number of inputs d, without the bias column."""
        return int(self.rows.X.shape[1])

    @property
    def start(self) -> Array | None:
        """The lifted network that was given as ``start``, or None."""
        return self._start

    @property
    def scale(self) -> float:
        """Objective of the best constant (the variance of the targets), or the targets' roundoff when larger."""
        s = self._structure
        roundoff = 1e-16 * float(s.weight @ s.y**2)
        return max(s.loss(np.zeros((self.patterns.n_patterns, self.n_inputs + 1))), roundoff)

    def structure(self) -> ConeStructure:
        """Data, cones and coupling, for a structured solver."""
        return self._structure

    def terms(self, z: Array, dual: Dual | None = None) -> dict[str, float]:
        """Loss, weighted regularizer and bias ridge; their sum is the objective."""
        U = self._point(z)
        return {
            "loss": self._structure.loss(U),
            "regularizer": self._regularizer(U, dual),
            "ridge": self._structure.bias_penalty(U),
        }

    def objective(self, z: Array, dual: Dual | None = None) -> float:
        """Value at ``z`` with the best output bias: an upper bound on the optimum when ``z`` is feasible."""
        return math.fsum(self.terms(z, dual).values())

    def violation(self, z: Array) -> float:
        """Largest relative violation ``-S_ki x_k'u_i / (|x_k| |u_i|)``; zero when feasible.

        A unit smaller than 1e-9 of the largest one is measured against that. NaN or infinity is infinitely wrong.
        """
        if not np.isfinite(self._point(z)).all():
            return math.inf
        slack = relative_slack(self._structure.X, self._structure.S, self._point(z), floor=1e-9)
        return max(0.0, -float(slack.min()))

    def lower_bound(self, dual: Dual) -> float:
        r"""Lower bound on the optimum, valid for every ``dual``.

        With ``p`` the residual multiplier centred to sum zero (the output bias is free), ``L`` the rows
        clipped at zero, and ``Z = G'L - A'p`` the violation of stationarity (G the cone rows, A the
        predictions), every feasible U and every theta >= 0 have::

            F(U) >= constant - theta p'y - theta^2 (sum_k p_k^2 / (4 om_k) + |Z_b|^2 / (4 ridge) + R*)

        (for other losses ``-sum_k om_k l*(theta p_k / om_k; y_k)`` in place of the parts with p: see ``loss_bounds``),
        where the bias column ``Z_b`` is closed by the ridge (not in the l2 programs, where the bias is
        inside the norm) and R* is the bound on the conjugate of the regularizer in :meth:`_conjugate`.
        The best theta is inserted. The roundoff of Z, the only sum that can cancel badly, is bounded and added to
        \|Z\|, by a sharper computation where that costs digits; what is left is relative 1e-14.

        Implements: docs/theory/joint_program.md, Proposition 4.

        Returns
        -------
        float
            ``-inf`` when the dual holds NaN or infinite values or has wrong shapes.
        """
        given = multipliers_of(dual)
        if given is None or not is_usable(given, self._structure):
            return -math.inf
        dual = given
        s = self._structure
        with np.errstate(over="ignore", invalid="ignore"):
            p = admissible(s, dual.residual)
            rows = np.maximum(dual.rows, 0.0)
            Z, error = stationarity(s, p, rows)
            if not np.isfinite(Z).all():
                return s.constant
            value = self._proved(p, Z, error, dual)
            if self._proved(p, Z, np.zeros_like(error), dual) - value > ROUNDOFF_SHARE * (s.constant + value):
                value = max(value, self._proved(p, *enclosed_stationarity(s, p, rows), dual))
            return s.constant + value

    def _proved(self, p: Array, Z: Array, error: Array, dual: Dual) -> float:
        """What a violation of stationarity known up to ``error`` leaves to the bound, without the constant."""
        rest, Z, error = 0.0, Z.copy(), error.copy()
        if self.n_weights <= self.n_inputs:
            bias = np.abs(Z[:, -1]) + error[:, -1]
            rest = 0.25 * float(bias @ bias) / self.ridge
            Z[:, -1] = error[:, -1] = 0.0
        penalty, limit = self._conjugate(Z, error, dual)
        return loss_bound(self._structure, p, rest + penalty, limit)

    def _point(self, z: ArrayLike) -> Array:
        U = np.asarray(z, dtype=float)
        expected = (self.patterns.n_patterns, self.n_inputs + 1)
        if U.shape != expected:
            raise InvalidInputError(f"a point of this program has shape {expected} (units, inputs + 1), got {U.shape}")
        return U

    # -- networks -----------------------------------------------------------------------------------
    def lift(self, network: Any) -> Array:
        """Point of the program that predicts what the network predicts, up to the output bias.

        Unit i goes to cone i if that contains it, else to any cone that does. The objective of the point is at
        most :meth:`network_objective` of the network. Where there are fewer cones than units, units of one cone
        are summed: that never raises the regularizer either, only the ridge can rise with the summed biases.

        Raises
        ------
        InvalidInputError
            When a unit has a pattern that the program does not have.
        """
        return self._place(self._relevant(self.merge(network)))

    def merge(self, network: Any) -> Array:
        """Merged units ``v_i (w_i, b_i)`` of a network in the coordinates of the points here, shape (m, d + 1)."""
        merged = merge(checked_network(network, self.n_inputs))
        merged[:, -1] += merged[:, :-1] @ self._origin()
        return merged

    def _relevant(self, merged: Array) -> Array:
        """Merged units with those set to zero that the program need not represent."""
        return merged

    def _place(self, merged: Array) -> Array:
        target = place(self._structure.X, self._structure.S, merged)
        U = np.zeros((self.patterns.n_patterns, self.n_inputs + 1))
        np.add.at(U, target[target >= 0], merged[target >= 0])
        return U

    def decode(self, z: Array) -> Network:
        """Network with balanced units and the best output bias; on the rows of X it predicts what ``z`` does.

        Implements: Yin & Lesage-Landry (2026), eq. (7).
        """
        U = self._point(z)
        units, v = balanced(self._at_zero(U), self.patterns.s)
        return Network.shallow(units[:, :-1], units[:, -1], v, self._structure.intercept(U))

    def _origin(self) -> Array:
        """Where the biases of the points are measured: zero, unless the ridge has to be free of the origin."""
        return np.zeros(self.n_inputs)

    def _at_zero(self, U: Array) -> Array:
        """Merged units with the biases of the network, measured at x = 0."""
        shifted = U.copy()
        shifted[:, -1] -= U[:, :-1] @ self._origin()
        return shifted

    def network_objective(self, network: Any) -> float:
        """Objective of the non-convex training problem at a ReLU network.

        Weighted mean loss at the network's own output bias, plus the regularizer of the network,
        plus the ridge on its merged biases. For a feasible ``z``, that of ``decode(z)`` is at most
        ``objective(z)`` up to roundoff.
        """
        net = checked_network(network, self.n_inputs)
        losses = self.loss.value(net(self.rows.X), self.rows.y)
        return float(self.rows.weight @ losses) + self.rows.constant + self._network_regularizer(net)

    # -- multipliers --------------------------------------------------------------------------------
    def repair(self, z: Array) -> Array:
        """Move every unit that leaves its cone to the nearest point of the cone."""
        s = self._structure
        U = self._point(z).copy()
        worst = relative_slack(s.X, s.S, U).min(axis=0)
        for i in np.flatnonzero(worst < -1e-15):
            U[i] = project(s.S[:, i, None] * s.X, U[i])
        return U

    def residual_multiplier(self, z: Array) -> Array:
        """Multiplier of the prediction equation at a point: ``2 om (prediction - y)`` for the squared loss."""
        return self._structure.slopes(self._point(z))

    def refine(self, z: Array, dual: Dual) -> Dual:
        """Dual with the row multipliers refitted unit by unit, or the given one if that proves more.

        For a fixed residual the best rows of unit i solve one small nonnegative least-squares problem: they
        bring ``G'L`` next to what stationarity asks. This restores digits that a solver loses on thin cones.
        """
        if not self._structure.has_cones:
            return dual
        dual = Dual(admissible(self._structure, dual.residual), dual.rows, dual.matrix)
        rows = fit_rows(self._structure, dual, *self._metric(z, dual))
        return max((dual, Dual(dual.residual, rows, dual.matrix)), key=self.lower_bound)

    def _metric(self, z: Array, dual: Dual) -> tuple[Array, Callable[[int], Array]]:  # noqa: ARG002
        """Offset and matrices M_i such that unit i costs ``|M_i (G'L_i - wanted_i - offset)|^2`` in the bound."""
        return np.zeros(0), lambda _: np.eye(self.n_inputs + 1)

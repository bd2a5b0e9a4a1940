"""What the training programs with several outputs and fixed output directions share.

With ``w_i`` as rows of ``U`` and ``x_k = (x, 1)``::

    minimize    sum_k om_k l(sum_i D_ki (x_k'w_i) vh_i + c; y_k) + ridge |U[:, -1]|^2 + R(U)     over U, c
    subject to  (2 D_ki - 1) x_k'w_i >= 0

The loss ``l`` is ``|f - y|^2`` or another of :mod:`convexnn.losses`, summed over the outputs: with targets -1 / +1 a
margin loss is that of one class against the rest, for every class.
The output directions ``vh_i = v_i / |v_i|`` are given; lengths ``|v_i|`` are part of ``w_i``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import multipliers_of
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.program import Dual
from convexnn.restrictions.base import ConeProgram
from convexnn.restrictions.cones import nonnegative_fit
from convexnn.restrictions.reference import cone_rows, labelled_dual, read_dual
from convexnn.restrictions.rows import DistinctRows
from convexnn.restrictions.stated_views import StatedVectorCones
from convexnn.restrictions.vector_losses import network_loss, rows_for, vector_admissible, vector_loss_bound
from convexnn.restrictions.vector_reference import vector_mean_loss
from convexnn.restrictions.vector_regularizers import DirectedRegularizer
from convexnn.restrictions.vector_units import (
    checked_vector_network,
    classwise_dictionary,
    dictionary_at,
    joined,
    lengths_and_directions,
    place_directed,
    scaled_units,
)
from convexnn.vector_structure import VectorCoupling, VectorStructure

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]


class VectorProgram(StatedVectorCones, ConeProgram):
    """A convex training program with several outputs: data, patterns, output directions and a regularizer.

    Parameters
    ----------
    X : array-like, shape (n, d)
        Inputs; repeated rows are merged into weighted ones.
    y : array-like, shape (n, outputs)
        Targets.
    patterns : ActivationPatterns
        On the rows of ``X``; signs are not used.
    directions : array-like, shape (patterns, outputs)
        Output direction of every pattern; normalized here.
    lam : float
        Positive regularization weight.
    sample_weight : array-like, shape (n,), or None
    start : Network or None
        Lifted into :attr:`start`.
    ridge : float
        Weight of the squared biases.
    loss : str or Loss
        "squared", "huber", "hinge", "squared_hinge" or "logistic", summed over the outputs; targets -1 / +1 for the
        last three.

    Raises
    ------
    InvalidInputError
        For data, patterns, directions or a weight that cannot be used.
    """

    name = "program with several outputs"
    _structure: VectorStructure

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        patterns: ActivationPatterns,
        directions: ArrayLike,
        lam: float,
        *,
        sample_weight: ArrayLike | None = None,
        start: Any = None,
        ridge: float = 0.0,
        loss: str | Loss = "squared",
    ) -> None:
        unit = lengths_and_directions(directions)[1]
        if not isinstance(patterns, ActivationPatterns) or len(unit) != patterns.n_patterns:
            raise InvalidInputError(
                f"{len(unit)} directions were given for {patterns!r}; expected one for each pattern"
            )
        self.directions = np.repeat(unit, patterns.counts, axis=0)
        super().__init__(X, y, patterns, lam, sample_weight=sample_weight, start=start, ridge=ridge, loss=loss)

    @classmethod
    def at(
        cls, network: Any, X: ArrayLike, y: ArrayLike, lam: float, *, classwise: bool = False, **options: Any
    ) -> Self:
        """Program with the patterns and output directions of a network, which is its start.

        Parameters
        ----------
        network : Network or any model that ``as_network`` takes
        X : array-like, shape (n, d)
        y : array-like, shape (n, outputs)
        lam : float
        classwise : bool
            Add every distinct pattern with the directions ``+-e_c`` of every output: more freedom, more units.
        **options
            ``sample_weight``, ``loss``, and ``ridge`` where the program has one.
        """
        dictionary = dictionary_at(network, X)
        if classwise:
            dictionary = joined(dictionary, classwise_dictionary(dictionary[0], dictionary[1].shape[1]))
        return cls(X, y, *dictionary, lam, start=network, **options)

    @classmethod
    def classwise(cls, X: ArrayLike, y: ArrayLike, patterns: ActivationPatterns, lam: float, **options: Any) -> Self:
        """Program with every distinct pattern in the directions ``+-e_c`` of every output.

        It need not contain a given network: splitting a unit over the outputs can raise the regularizer.
        """
        outputs = np.atleast_2d(np.asarray(y, dtype=float).T).shape[0]
        return cls(X, y, *classwise_dictionary(patterns, outputs), lam, **options)

    def _distinct(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> DistinctRows:
        rows = rows_for(self.loss, X, y, sample_weight)
        if rows.y.shape[1] != self.directions.shape[1]:
            raise InvalidInputError(
                f"y has {rows.y.shape[1]} output(s) and the directions have {self.directions.shape[1]} entries"
            )
        return rows

    def _build(self) -> VectorStructure:
        D = self.patterns.D.astype(float)
        return VectorStructure(
            X=np.hstack([self.rows.X - self._origin(), np.ones((len(self.rows.X), 1))]),
            y=self.rows.y,
            weight=self.rows.weight,
            constant=self.rows.constant,
            D=D,
            S=self.rows.fresh[:, None] * (2 * D - 1) if self.has_cones else np.zeros_like(D),
            ridge=self.ridge,
            n_weights=self.n_weights,
            coupling=self._coupling(),
            directions=self.directions,
            sample_loss=self.loss,
        )

    def _coupling(self) -> VectorCoupling:  # type: ignore[override]
        raise NotImplementedError

    @property
    def penalty(self) -> DirectedRegularizer:
        """The regularizer of the leading ``n_weights`` coordinates of the units."""
        raise NotImplementedError

    def _regularizer(self, U: Array, dual: Dual | None) -> float:
        return self.penalty.value(U[:, : self.n_weights], dual)

    def _conjugate(self, Z: Array, error: Array, dual: Dual) -> tuple[float, float]:
        k = self.n_weights
        return self.penalty.conjugate(Z[:, :k], error[:, :k], dual)

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return int(self.directions.shape[1])

    @property
    def scale(self) -> float:
        """Objective of the zero network (the summed variance of the targets), or the targets' roundoff when larger."""
        s = self._structure
        roundoff = 1e-16 * float((s.weight @ s.y**2).sum())
        return max(s.loss(np.zeros((self.patterns.n_patterns, self.n_inputs + 1))), roundoff)

    def lower_bound(self, dual: Dual) -> float:
        """Lower bound on the optimum, valid for every ``dual``; see :meth:`ConeProgram.lower_bound`.

        The residual multiplier has shape (n, outputs); its columns are centred (and clipped to slopes of the loss).

        Implements: docs/theory/vector_program.md, Proposition 2.
        """
        given = multipliers_of(dual)
        if given is None or not self._is_usable(given):
            return -math.inf
        dual = given
        s = self._structure
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            p = vector_admissible(s, dual.residual)
            Z, error = self._stationarity(p, np.maximum(dual.rows, 0.0))
            if not np.isfinite(Z).all():
                return s.constant
            rest = 0.0
            if self.n_weights <= self.n_inputs:
                bias = np.abs(Z[:, -1]) + error[:, -1]
                rest = 0.25 * float(bias @ bias) / self.ridge
                Z[:, -1] = error[:, -1] = 0.0
            penalty, limit = self._conjugate(Z, error, dual)
            value = vector_loss_bound(s, p, rest + penalty, limit)
        return s.constant + value

    def _stationarity(self, p: Array, rows: Array) -> tuple[Array, Array]:
        """``G'rows - A'p`` and a bound on its roundoff, entry by entry, both of shape (p, d + 1)."""
        s = self._structure
        Z = s.slack_adjoint(rows) - s.adjoint(p)
        size = np.abs(p) + s.weight[:, None] * np.abs(p).sum(axis=0)
        terms = np.abs(s.S) * rows + s.D * (size @ np.abs(s.directions.T))
        roundings = len(p) + self.n_outputs + 6
        return Z, 0.5 * roundings * np.finfo(float).eps * (terms.T @ np.abs(s.X))

    def _is_usable(self, dual: Dual) -> bool:
        n, p = self._structure.S.shape
        size = self._structure.n_weights + self.n_outputs + p
        arrays = [(dual.residual, (n, self.n_outputs)), (dual.rows, (n, p))]
        if dual.matrix is not None:
            arrays.append((dual.matrix, (size, size)))
        return all(np.shape(array) == shape and np.isfinite(array).all() for array, shape in arrays)

    # -- networks -----------------------------------------------------------------------------------
    def merge(self, network: Any) -> Array:
        """Units ``|v_i| (w_i, b_i)`` of a network in the coordinates of the points here, shape (m, d + 1)."""
        return self._split(checked_vector_network(network, self.n_inputs, self.n_outputs))[0]

    def _split(self, network: Network) -> tuple[Array, Array]:
        units, directions = scaled_units(network)
        units[:, -1] += units[:, :-1] @ self._origin()
        return units, directions

    def lift(self, network: Any) -> Array:
        """Point of the program that predicts what the network predicts, up to the output bias.

        The objective of the point is at most :meth:`network_objective` of the network.

        Raises
        ------
        InvalidInputError
            When a unit has a pattern or an output direction that the program does not have.
        """
        units, directions = self._split(checked_vector_network(network, self.n_inputs, self.n_outputs))
        units = self._relevant(units)
        target = place_directed(self._structure.X, self._structure.S, self.directions, units, directions)
        U = np.zeros((self.patterns.n_patterns, self.n_inputs + 1))
        np.add.at(U, target[target >= 0], units[target >= 0])
        return U

    def decode(self, z: Array) -> Network:
        """Network with balanced units and the best output bias; on the rows of X it predicts what ``z`` does."""
        U = self._point(z)
        return self._balanced(self._at_zero(U), self.directions, self._structure.output_bias(U))

    def _balanced(self, units: Array, directions: Array, c: Array) -> Network:
        root = np.sqrt(np.linalg.norm(units, axis=1))[:, None]
        inner = np.divide(units, root, out=np.zeros_like(units), where=root > 0)
        return Network.shallow(inner[:, :-1], inner[:, -1], (root * directions).T, c)

    def network_objective(self, network: Any) -> float:
        """Objective of the non-convex training problem at a ReLU network with several outputs.

        For a feasible ``z``, that of ``decode(z)`` is at most ``objective(z)`` up to roundoff.
        """
        net = checked_vector_network(network, self.n_inputs, self.n_outputs)
        return network_loss(self.loss, self.rows, net) + self._network_regularizer(net)

    # -- multipliers --------------------------------------------------------------------------------
    def residual_multiplier(self, z: Array) -> Array:
        """Multiplier ``om_k l'(prediction; y_k)`` of the prediction equation at a point, shape (n, outputs)."""
        return self._structure.slopes(self._point(z))

    def refine(self, z: Array, dual: Dual) -> Dual:
        """Dual with the row multipliers refitted unit by unit, or the given one if that proves more."""
        if not self._structure.has_cones:
            return dual
        s = self._structure
        dual = Dual(vector_admissible(s, dual.residual), dual.rows, dual.matrix)
        wanted = s.adjoint(dual.residual) + self._offsets(dual)
        rows = np.maximum(dual.rows, 0.0)
        for i, metric in enumerate(self._metrics(z, dual)):
            fitted = nonnegative_fit(metric @ (s.S[:, i, None] * s.X).T, metric @ wanted[i])
            rows[:, i] = rows[:, i] if fitted is None else fitted
        return max((dual, Dual(dual.residual, rows, dual.matrix)), key=self.lower_bound)

    def _offsets(self, dual: Dual) -> Array:  # noqa: ARG002
        """What the coupling adds to ``G'rows`` at stationarity, shape (p, d + 1) or a number."""
        return np.zeros(1)

    def _metrics(self, z: Array, dual: Dual) -> list[Array]:  # noqa: ARG002
        """Matrices in which the violation of stationarity of every unit is measured."""
        return [np.eye(self.n_inputs + 1)] * self.patterns.n_patterns

    # -- cvxpy --------------------------------------------------------------------------------------
    def cvxpy_problem(self) -> cvxpy.Problem:
        """The program with variables ``U`` (units w_i) and ``c`` (output biases), and those of the regularizer."""
        import cvxpy as cp

        U = cp.Variable((self.patterns.n_patterns, self.n_inputs + 1), name="U")
        c = cp.Variable(self.n_outputs, name="c")
        penalty, constraints = self.penalty.cvxpy(U[:, : self.n_weights])
        loss, predictions = vector_mean_loss(self._structure, U, c)
        objective = loss + penalty
        if self.ridge:
            objective += self.ridge * cp.sum_squares(U[:, -1])
        return cp.Problem(cp.Minimize(objective), [*cone_rows(self._structure, U), *predictions, *constraints])

    def read_cvxpy(self, problem: cvxpy.Problem) -> tuple[Array, Dual | None]:
        """Point, moved into the cones, and multipliers, row by row refitted where that proves more."""
        raw = problem.var_dict["U"].value
        U = self.repair(raw)
        return U, self.refine(U, read_dual(self._structure, problem, raw, labelled_dual(problem, "lmi")))

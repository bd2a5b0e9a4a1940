"""The outer step: hidden units fixed, all outer weights free. Convex, without cones, and from any network never worse.

Together with the programs on fixed output directions it makes an alternation that never rises
(:func:`convexnn.training.alternate_vector`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import multipliers_of
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.program import Dual
from convexnn.restrictions.base import positive
from convexnn.restrictions.lipschitz_joint import RIDGE
from convexnn.restrictions.loss_bounds import check_loss_targets, scalar_loss
from convexnn.restrictions.reference import labelled_dual
from convexnn.restrictions.stated_views import StatedOuter
from convexnn.restrictions.units import hidden
from convexnn.restrictions.vector_losses import network_loss, rows_for, vector_admissible, vector_loss_bound
from convexnn.restrictions.vector_reference import loss_of_predictions
from convexnn.restrictions.vector_regularizers import DirectedLipSDP, DirectedNorm, DirectedRegularizer
from convexnn.restrictions.vector_units import checked_vector_network, lengths_and_directions, outer_weights
from convexnn.vector_structure import OuterStructure, VectorCoupling, VectorGroupNorm, VectorSpectral

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]


class OuterProgram(StatedOuter):
    """Training of the outer weights ``v_i`` of fixed, normalized hidden units ``wh_i``; what both regularizers share.

    ::

        minimize    sum_k om_k l(sum_i relu(x_k'wh_i) v_i + c; y_k) + R(v) + sum_i penalty_i |v_i|^2     over v, c

    Parameters
    ----------
    network : Network or any model that ``as_network`` takes
        Its hidden units are kept; it is the start.
    X : array-like, shape (n, d)
    y : array-like, shape (n, outputs)
    lam : float
    sample_weight : array-like, shape (n,), or None
    loss : str or Loss
        See :class:`~convexnn.restrictions.vector_base.VectorProgram`.
    """

    name = "outer step"

    def __init__(
        self,
        network: Any,
        X: ArrayLike,
        y: ArrayLike,
        lam: float,
        *,
        sample_weight: ArrayLike | None = None,
        loss: str | Loss = "squared",
    ) -> None:
        self.loss = scalar_loss(loss)
        self.rows = rows_for(self.loss, X, y, sample_weight)
        check_loss_targets(self.loss, self.rows.y)
        self.lam = positive(lam, "lam")
        self.n_inputs, self.n_outputs = self.rows.X.shape[1], self.rows.y.shape[1]
        net = checked_vector_network(network, self.n_inputs, self.n_outputs)
        self.units, self.lengths = self._normalized(net)
        self._structure = self._build()
        self._start = outer_weights(net) * self.lengths[:, None]

    # -- what a sub-class states --------------------------------------------------------------------
    def _normalized(self, network: Network) -> tuple[Array, Array]:
        """Hidden units (m, d + 1) of size one and their sizes (m,); a unit that cannot be scaled is zero."""
        raise NotImplementedError

    def _coupling(self) -> VectorCoupling:
        raise NotImplementedError

    def _penalties(self) -> Array:
        return np.zeros(len(self.units))

    @property
    def penalty(self) -> DirectedRegularizer:
        """The regularizer of the outer weights."""
        raise NotImplementedError

    # -- program ------------------------------------------------------------------------------------
    def _build(self) -> OuterStructure:
        activity = np.maximum(self.rows.X @ self.units[:, :-1].T + self.units[:, -1], 0.0)
        return OuterStructure(
            X=np.zeros((len(self.rows.X), self.n_outputs)),
            y=self.rows.y,
            weight=self.rows.weight,
            constant=self.rows.constant,
            D=activity,
            S=np.zeros_like(activity),
            ridge=0.0,
            n_weights=self.n_outputs,
            coupling=self._coupling(),
            directions=lengths_and_directions(self.units[:, :-1])[1],
            penalties=self._penalties(),
            sample_loss=self.loss,
        )

    @property
    def start(self) -> Array | None:
        """Outer weights of the network that was given, shape (m, outputs)."""
        return self._start

    @property
    def scale(self) -> float:
        """Objective of the zero network, or the targets' roundoff when larger."""
        s = self._structure
        return max(s.loss(np.zeros_like(self._start)), 1e-16 * float((s.weight @ s.y**2).sum()))

    def structure(self) -> OuterStructure:
        """Activations, targets and coupling, for a structured solver."""
        return self._structure

    def objective(self, z: Array, dual: Dual | None = None) -> float:
        """Value at outer weights ``z`` (m, outputs) with the best output biases."""
        V = self._point(z)
        s = self._structure
        return math.fsum([s.loss(V), s.bias_penalty(V), self.penalty.value(V, dual)])

    def violation(self, z: Array) -> float:
        """Zero for finite points: there are no constraints."""
        return 0.0 if np.isfinite(self._point(z)).all() else math.inf

    def lower_bound(self, dual: Dual) -> float:
        """Lower bound on the optimum, valid for every ``dual``; ``dual.rows`` (m, outputs) belong to the ridge.

        Implements: docs/theory/vector_program.md, Proposition 2.
        """
        given = multipliers_of(dual)
        if given is None or not self._is_usable(given):
            return -math.inf
        dual = given
        s = self._structure
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            p = vector_admissible(s, dual.residual)
            G = np.where(s.penalties[:, None] > 0, dual.rows, 0.0)
            Z = -s.adjoint(p) - G
            size = np.abs(p) + s.weight[:, None] * np.abs(p).sum(axis=0)
            error = (len(p) + 8) * np.finfo(float).eps * (s.D.T @ size + np.abs(G))
            if not np.isfinite(Z).all():
                return s.constant
            ridge = np.divide(
                (G**2).sum(axis=1), 4 * s.penalties, out=np.zeros_like(s.penalties), where=s.penalties > 0
            )
            conjugate, limit = self.penalty.conjugate(Z, error, dual)
            return s.constant + vector_loss_bound(s, p, float(ridge.sum()) + conjugate, limit)

    def _is_usable(self, dual: Dual) -> bool:
        shapes = [(dual.residual, self.rows.y.shape), (dual.rows, self._start.shape)]
        return all(np.shape(array) == shape and np.isfinite(array).all() for array, shape in shapes)

    def _point(self, z: ArrayLike) -> Array:
        V = np.asarray(z, dtype=float)
        if V.shape != self._start.shape:
            raise InvalidInputError(f"a point of this program has shape {self._start.shape}, got {V.shape}")
        return V

    def cvxpy_problem(self) -> cvxpy.Problem:
        """The program with variables ``V`` (rows v_i) and ``c``, and those of the regularizer."""
        import cvxpy as cp

        s = self._structure
        V = cp.Variable(self._start.shape, name="V")
        c = cp.Variable((1, self.n_outputs), name="c")
        prediction = s.D @ V + np.ones((len(s.y), 1)) @ c
        penalty, constraints = self.penalty.cvxpy(V)
        ridge = cp.sum_squares(cp.multiply(np.sqrt(s.penalties)[:, None], V))
        loss, predictions = loss_of_predictions(s, prediction)
        return cp.Problem(cp.Minimize(loss + penalty + ridge), [*predictions, *constraints])

    def read_cvxpy(self, problem: cvxpy.Problem) -> tuple[Array, Dual | None]:
        """Point and multipliers."""
        V = problem.var_dict["V"].value
        ridge = 2 * self._structure.penalties[:, None] * V
        slopes = labelled_dual(problem, "predictions")
        slopes = self._structure.slopes(V) if slopes is None else slopes
        return V, Dual(slopes, ridge, labelled_dual(problem, "lmi"))

    # -- networks -----------------------------------------------------------------------------------
    def lift(self, network: Any) -> Array:
        """Outer weights of a network with the same hidden units, up to positive factors.

        Raises
        ------
        InvalidInputError
            When a hidden unit is another one.
        """
        net = checked_vector_network(network, self.n_inputs, self.n_outputs)
        units, lengths = self._normalized(net)
        V = outer_weights(net) * lengths[:, None]
        used = V.any(axis=1)  # the others contribute nothing, as units that decode leaves at zero
        same = units.shape == self.units.shape
        if not same or np.abs(units - self.units)[used].max(initial=0.0) > 1e-9 * np.abs(self.units).max():
            raise InvalidInputError("the outer step keeps the hidden units, and this network has other ones")
        return V

    def decode(self, z: Array) -> Network:
        """Network with balanced units and the best output biases."""
        V = self._point(z)
        root = np.sqrt(np.linalg.norm(V, axis=1) / np.maximum(np.linalg.norm(self.units, axis=1), 1e-300))[:, None]
        outer = np.divide(V, root, out=np.zeros_like(V), where=root > 0)
        inner = root * self.units
        return Network.shallow(inner[:, :-1], inner[:, -1], outer.T, self._structure.output_bias(V))

    def network_objective(self, network: Any) -> float:
        """Objective of the non-convex training problem at a network with the same hidden units."""
        net = checked_vector_network(network, self.n_inputs, self.n_outputs)
        V = self.lift(net)
        loss = network_loss(self.loss, self.rows, net)
        return loss + self._structure.bias_penalty(V) + self._network_penalty(net, V)

    def _network_penalty(self, network: Network, V: Array) -> float:  # noqa: ARG002
        return self.penalty.value(V)


class OuterGroupLasso(OuterProgram):
    """Outer step with weight decay: ``2 lam sum_i |v_i|`` for hidden units of length one, biases included.

    Parameters are those of :class:`OuterProgram`; ``lam`` is positive.
    """

    name = "outer step, l2-regularized"

    def _normalized(self, network: Network) -> tuple[Array, Array]:
        lengths, directions = lengths_and_directions(hidden(network))
        return directions * (lengths > 0)[:, None], lengths

    def _coupling(self) -> VectorCoupling:
        return VectorGroupNorm(2 * self.lam)

    @property
    def penalty(self) -> DirectedNorm:
        """``2 lam sum_i |v_i|``."""
        return DirectedNorm(2 * self.lam)

    def _network_penalty(self, network: Network, V: Array) -> float:  # noqa: ARG002
        return self.lam * float((network.W**2).sum() + (network.b**2).sum() + (network.v**2).sum())


class OuterLipschitz(OuterProgram):
    """Outer step with the squared LipSDP bound, for hidden units with weights of length one.

    Parameters are those of :class:`OuterProgram`, and the ``ridge`` on the merged biases of the Lipschitz programs.
    """

    name = "outer step, Lipschitz-regularized"

    def __init__(
        self,
        network: Any,
        X: ArrayLike,
        y: ArrayLike,
        lam: float,
        *,
        sample_weight: ArrayLike | None = None,
        ridge: float = RIDGE,
        loss: str | Loss = "squared",
    ) -> None:
        self.ridge = positive(ridge, "ridge")
        super().__init__(network, X, y, lam, sample_weight=sample_weight, loss=loss)

    def _normalized(self, network: Network) -> tuple[Array, Array]:
        lengths, directions = lengths_and_directions(network.W)
        safe = np.where(lengths > 0, lengths, 1.0)
        alive = lengths > 0  # a unit without weights is a constant, which the free output biases are as well
        units = np.hstack([directions, (network.b / safe)[:, None]]) * alive[:, None]
        return units, lengths

    def _coupling(self) -> VectorCoupling:
        return VectorSpectral(self.lam)

    def _penalties(self) -> Array:
        mean = self.rows.weight @ self.rows.X
        penalties: Array = self.ridge * (self.units[:, -1] + self.units[:, :-1] @ mean) ** 2
        return penalties

    @property
    def penalty(self) -> DirectedLipSDP:
        """``lam LipSDP(V, Wh)^2``."""
        return DirectedLipSDP(self.lam, self._structure.directions)

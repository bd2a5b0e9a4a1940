"""Adversarial training of a polynomial network as a convex program, whose optimum is global.

With unit neurons ``u_j`` and the activation ``sigma(t) = a t^2 + b t + c``::

    f(x) = sum_j alpha_j sigma(u_j'x) = a x'M1 x + b m2'x + c M4,    M = Z - Z',  Z, Z' >= 0,  tr Z1 = Z4,  tr Z1' = Z4'

    minimize  sum_i om_i max_{|delta| <= radius} l(f(x_i + delta), y_i) + lam (Z4 + Z4')

and ``Z4 + Z4' = sum_j |alpha_j|`` for the network of a point. There are no patterns: every optimum of this program is
an optimum over networks of any width.
"""

from __future__ import annotations

import copy
import math
import numbers
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import Polynomial
from convexnn.exceptions import InvalidInputError
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.program import PolynomialDual
from convexnn.quadratic.structure import PolynomialTask, QuadraticStructure
from convexnn.restrictions.base import positive
from convexnn.restrictions.loss_bounds import check_loss_targets, scalar_loss
from convexnn.restrictions.polynomial_evidence import proved_bound
from convexnn.restrictions.polynomial_neurons import network_of, neurons_of, point_of, repaired
from convexnn.restrictions.polynomial_reference import polynomial_problem, read_polynomial
from convexnn.restrictions.polynomial_worst import WorstCases, worst_cases
from convexnn.restrictions.rows import distinct_rows
from convexnn.restrictions.stated_views import StatedPolynomial

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]

#: The fit to ReLU of Bartan and Pilanci (2021).
COEFFICIENTS = (0.09, 0.5, 0.47)


class PolynomialProgram(StatedPolynomial):
    """Training of a polynomial network with one output, robust to perturbations of the inputs.

    Parameters
    ----------
    X : array-like, shape (n, d)
        Inputs; rows that repeat with the same target are merged into weighted ones.
    y : array-like, shape (n,)
        -1 / +1 for the losses of classification, real targets for those of regression.
    lam : float
        Positive weight of ``sum_j |alpha_j|``.
    loss : {"squared_hinge", "hinge", "logistic", "squared", "huber"} or Loss
    radius : float
        Nonnegative, raw input units; zero is training without perturbations.
    coefficients : tuple of float
        (a, b, c) of the activation, of any sign.
    sample_weight : array-like, shape (n,), or None
        Nonnegative; only ratios matter.
    norm : {2, inf}
        Of the perturbations. For ``inf`` the box ``|delta_k| <= radius`` is replaced by the ellipsoid
        ``sum_k metric_k delta_k^2 <= radius^2 sum_k metric_k`` around it: objectives are then upper bounds on the
        robust objective, and the gap is about this program.
    metric : array-like, shape (d,), or None
        Positive; only ratios matter. None is the Euclidean ball, or with ``norm=inf`` equal entries.
    start : Network or None
        Lifted into :attr:`start`; the zero network for None.

    Raises
    ------
    InvalidInputError
        For data or options that cannot be used.
    """

    name = "polynomial program"
    covers_all_widths = True

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        lam: float,
        loss: str | Loss = "squared_hinge",
        radius: float = 0.0,
        coefficients: tuple[float, float, float] = COEFFICIENTS,
        sample_weight: ArrayLike | None = None,
        norm: float = 2,
        metric: ArrayLike | None = None,
        start: Any = None,
    ) -> None:
        self.loss = scalar_loss(loss)
        self.lam = positive(lam, "lam")
        self.radius = positive(radius, "radius", zero=True)
        self.norm = checked_norm(norm)
        self.coefficients = checked_coefficients(coefficients)
        self.rows = distinct_rows(X, y, sample_weight, with_targets=True)
        threat, scales = effective_threat(self.radius, self.norm, metric, self.rows.X.shape[1])
        task = PolynomialTask(self.rows.X, self.rows.weight, self.loss, threat, scales, self.coefficients, self.lam)
        self._structure = self._terms(task, self.rows.y)
        self._start = np.zeros(self._structure.z_shape) if start is None else self.lift(start)

    def _terms(self, task: PolynomialTask, y: Array) -> QuadraticStructure:
        """Margin terms of the targets: what sub-classes with several outputs replace."""
        check_loss_targets(self.loss, y)
        return task.binary(y) if self.loss.binary else task.regression(y)

    def reweighted(self, lam: float, loss: Loss | None = None) -> Self:
        """The same program with another weight of the regularizer, and another loss of the same kind if given."""
        other = copy.copy(self)
        other.lam, other.loss = positive(lam, "lam"), self.loss if loss is None else loss
        other._structure = replace(self._structure, lam=other.lam, loss=other.loss)
        return other

    def in_metric(self, metric: ArrayLike) -> Self:
        """The same program with another metric: another ball (l2), or another ellipsoid around the box (linf)."""
        other = copy.copy(self)
        threat, scales = effective_threat(self.radius, self.norm, metric, self.n_inputs)
        other._structure = replace(self._structure, radius=threat, metric=scales)
        return other

    # -- evaluation ---------------------------------------------------------------------------------
    @property
    def n_inputs(self) -> int:
        """Number of inputs d."""
        return int(self.rows.X.shape[1])

    @property
    def start(self) -> Array:
        """The lifted network that was given as ``start``, else the zero network."""
        return self._start

    @property
    def scale(self) -> float:
        """Objective of the zero network."""
        return self._structure.loss_value(np.zeros(self._structure.n_terms))

    def structure(self) -> QuadraticStructure:
        """Data, margin terms and loss, for the column generation solver."""
        return self._structure

    def worst_cases(self, z: ArrayLike) -> WorstCases:
        """Margin terms of a point and the perturbations that attain them."""
        return worst_cases(self._structure, self._point(z))

    def terms(self, z: ArrayLike, dual: PolynomialDual | None = None) -> dict[str, float]:  # noqa: ARG002
        """Robust loss and weighted regularizer; their sum is the objective."""
        point = self._point(z)
        if not np.isfinite(point).all():
            return {"loss": math.inf, "regularizer": math.inf}
        with np.errstate(over="ignore", invalid="ignore"):
            loss = self._structure.loss_value(worst_cases(self._structure, point).values)
            regularizer = self.lam * float(point[:, :, -1, -1].sum())
        return {"loss": math.inf if math.isnan(loss) else loss, "regularizer": regularizer}

    def objective(self, z: ArrayLike, dual: PolynomialDual | None = None) -> float:
        """Value at ``z`` by exact worst cases on the data: an upper bound on the optimum when ``z`` is feasible."""
        return math.fsum(self.terms(z, dual).values())

    def violation(self, z: ArrayLike) -> float:
        """Largest negative eigenvalue, asymmetry or ``|tr Z1 - Z4|``, relative to the sum of all traces."""
        point = self._point(z)
        if not np.isfinite(point).all():
            return math.inf
        matrices = point.reshape(-1, *point.shape[2:])
        traces = np.trace(matrices, axis1=1, axis2=2)
        size = float(np.abs(matrices).max()) + float(np.abs(traces).sum())
        if size == 0:
            return 0.0
        asymmetry = float(np.abs(matrices - matrices.transpose(0, 2, 1)).max())
        negative = max(0.0, -float(np.linalg.eigvalsh(matrices).min()))
        trace = float(np.abs(traces - 2 * matrices[:, -1, -1]).max())
        return max(asymmetry, negative, trace) / size

    def lower_bound(self, dual: PolynomialDual) -> float:
        """Lower bound on the optimum, valid for every ``dual``; see :func:`proved_bound`."""
        return proved_bound(self._structure, dual)

    def remarks(self, z: ArrayLike) -> tuple[str, ...]:
        """What is to be said about a point besides its numbers: that the optimum is trivial, and for which threat."""
        found = self._trivial(self._point(z))
        if self.norm == 2 or self.radius == 0:
            return found
        return (
            "linf by an ellipsoid around the box: the objective is an upper bound on the robust one, and the gap is "
            "about this ellipsoid",
            *found,
        )

    def _trivial(self, z: Array) -> tuple[str, ...]:
        size = float(z[:, :, -1, -1].sum())
        if self.lam * size <= 1e-9 * self.scale:
            return ("the optimum is the zero network: lam or the radius is too large for any other",)
        if not self.loss.binary or self.radius == 0:
            return ()
        right = worst_cases(self._structure, z).values > 0
        positive_terms = self._structure.plus >= 0
        groups = [group for group in (positive_terms, ~positive_terms) if group.any()]
        if len(groups) == 2 and not all(right[group].any() for group in groups):
            return (
                f"no robust classifier at radius {self.radius:g}: no sample of one class keeps its label over its ball",
            )
        return ()

    # -- reference ----------------------------------------------------------------------------------
    def cvxpy_problem(self) -> cvxpy.Problem:
        """The semidefinite program of the paper; see :func:`polynomial_problem`."""
        return polynomial_problem(self._structure)

    def read_cvxpy(self, problem: cvxpy.Problem) -> tuple[Array, PolynomialDual | None]:
        """Feasible point next to that of a solved problem, and slopes and attacks from its multipliers."""
        return read_polynomial(self._structure, problem)

    # -- networks -----------------------------------------------------------------------------------
    def lift(self, network: Any) -> Array:
        """Point of the program that represents ``network``; same objective.

        Raises
        ------
        InvalidInputError, UnsupportedModelError
            For networks that are not sums of unit neurons with this activation.
        """
        units, weights = neurons_of(network, self.n_inputs, self.coefficients)
        if len(weights) != self._structure.n_classes:
            raise InvalidInputError(
                f"the network has {len(weights)} outputs and this program {self._structure.n_classes}"
            )
        return point_of(units, weights)

    def repair(self, z: ArrayLike) -> Array:
        """Feasible point next to ``z``: the one of its decoded neurons."""
        return repaired(self._point(z))

    def decode(self, z: ArrayLike) -> Network:
        """Network with at most as many units as the ranks of the matrices of ``z``, and the same values."""
        return network_of(self._point(z), self.coefficients)

    def network_objective(self, network: Any) -> float:
        """Robust objective of a network by exact worst cases: loss plus ``lam sum_j |alpha_j|``."""
        return self.objective(self.lift(network))

    def _point(self, z: ArrayLike) -> Array:
        point = np.asarray(z, dtype=float)
        expected = self._structure.z_shape
        if point.shape != expected:
            raise InvalidInputError(f"a point of this program has shape {expected} (Z and Z'), got {point.shape}")
        return point


def checked_coefficients(coefficients: Any) -> tuple[float, float, float]:
    """Three finite floats."""
    try:
        a, b, c = (float(value) for value in coefficients)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"coefficients={coefficients!r} was given; expected three numbers (a, b, c)") from error
    Polynomial(a, b, c)
    return a, b, c


def checked_norm(norm: Any) -> float:
    """2 or infinity."""
    if not isinstance(norm, numbers.Real) or norm not in (2, math.inf):
        raise InvalidInputError(f"norm={norm!r} was given; expected 2 or inf")
    return float(norm)


def effective_threat(radius: float, norm: float, metric: ArrayLike | None, n_inputs: int) -> tuple[float, Array | None]:
    """Radius and metric of the ellipsoid that is the threat (l2), or lies around it (linf)."""
    if metric is None and norm == 2:
        return radius, None
    scales = np.ones(n_inputs) if metric is None else np.asarray(metric, dtype=float)
    if scales.shape != (n_inputs,) or not (np.isfinite(scales).all() and (scales > 0).all()):
        raise InvalidInputError(f"metric needs {n_inputs} positive finite numbers, got {metric!r}")
    if norm == 2:
        return radius, scales
    scales = scales / scales.sum()
    return radius * math.sqrt(float(np.nextafter(math.fsum(scales.tolist()), math.inf))), scales

"""PolynomialSNNRegressor: a polynomial network for regression, trained to global optimality, robust on a ball."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_consistent_length, column_or_1d, validate_data

from convexnn.certificates.polynomial import certify_polynomial_regression, polynomial_interval
from convexnn.certificates.regression import CertifiedRegression
from convexnn.estimators.callbacks import Stages, tells_callbacks
from convexnn.estimators.polynomial_base import PolynomialEstimator
from convexnn.estimators.polynomial_fit import Prepared, SolveOptions
from convexnn.estimators.regressor import checked_weights
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.restrictions.loss_bounds import scalar_loss
from convexnn.restrictions.polynomial import PolynomialProgram
from convexnn.threats import Threat
from convexnn.training.data import refuse_overflow, weighted_scale

Array = NDArray[np.float64]


class PolynomialSNNRegressor(RegressorMixin, PolynomialEstimator):
    """Polynomial network for regression, trained against the worst case in a ball, to global optimality.

    Minimizes ``mean_i max_{|delta| <= radius} l(f(x_i + delta) - y_i) + lam sum_j |alpha_j|`` over networks
    ``f(x) = sum_j alpha_j sigma(u_j'x)`` of any width, ``|u_j|_2 = 1``, ``sigma(t) = a t^2 + b t + c``, without biases:
    center the targets, or let ``standardize`` do it. Training is a convex program, so ``solution_.gap`` is the gap to
    the best network there is; worst cases over l2 balls are exact.

    Parameters
    ----------
    radius : float, default=0.0
        Radius of the perturbations to be robust against, in the units of ``X``; 0 is ordinary training.
    norm : {2, inf}, default=2
        Of the perturbations. The box of ``inf`` is replaced by an ellipsoid around it: the objective is an upper bound
        on the robust one and the gap is about this program.
    lam : float, default=1e-2
        Weight of ``sum_j |alpha_j|``, positive.
    loss : {"squared", "huber"} or Loss, default="squared"
        Of the residual.
    coefficients : tuple of three floats or "fit", default=(0.09, 0.5, 0.47)
        (a, b, c) of the activation; ``"fit"`` takes those nearest to ReLU on the range of the data.
    method : {"column_generation", "sdp"}, default="column_generation"
        ``"sdp"`` is the semidefinite program of the paper through cvxpy, for small data.
    standardize : bool, default=False
        Train on ``z = (x - mean) / std`` and on targets that are shifted and scaled in the same way; the objective is
        in these units. The radius stays in the units of ``X``: its ball is an ellipsoid in z, and the program takes it
        as that, exactly. In a Pipeline with a scaler the radius would be in scaled units.
    tol : float, default=1e-4
        Relative gap between the objective and the proved lower bound on every network.
    max_iter : int, default=200
        Rounds of column generation, or iterations of the generic solver.
    time_limit : float, optional
        Seconds for the solver; the best network so far is kept, with its honest gap.
    random_state : int, RandomState or None, default=None
        Seeds the random starts of :meth:`attack`, where it is not exact. Training has no randomness.
    verbose : int, default=0
        1 shows progress on the terminal.

    Attributes
    ----------
    network_ : Network
        The fitted network; takes raw inputs.
    solution_ : Solution
        ``gap`` is the relative gap to the best network of any width, ``scope`` is ``"global"`` where it is within
        ``tol``, ``notes`` say what is special; recomputed from the data, not the solver's word.
    objective_, lower_bound_ : float
        Objective of ``network_`` and lower bound on that of every network.
    coefficients_ : tuple of float
        (a, b, c) of the activation.
    n_iter_ : int
    n_features_in_ : int
    feature_names_in_ : array of str

    Notes
    -----
    Equal rows are merged and sorted before anything else: sample weights equal repetitions, and the order of the rows
    does not matter.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from convexnn import L2Ball, PolynomialSNNRegressor
    >>> X, y = load_diabetes(return_X_y=True, scaled=False)
    >>> model = PolynomialSNNRegressor(radius=0.5, standardize=True).fit(X, y)
    >>> bool(model.solution_.gap <= 1e-4)
    True
    >>> worst = model.certify(X, y, L2Ball(0.5)).certified  # squared errors that no perturbation exceeds
    >>> bool((model.attack(X, y, L2Ball(0.5)).values <= worst).all())
    True
    """

    def __init__(
        self,
        radius: float = 0.0,
        *,
        norm: float = 2,
        lam: float = 1e-2,
        loss: Any = "squared",
        coefficients: Any = (0.09, 0.5, 0.47),
        method: str = "column_generation",
        standardize: bool = False,
        tol: float = 1e-4,
        max_iter: int = 200,
        time_limit: float | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.radius = radius
        self.norm = norm
        self.lam = lam
        self.loss = loss
        self.coefficients = coefficients
        self.method = method
        self.standardize = standardize
        self.tol = tol
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.random_state = random_state
        self.verbose = verbose

    @tells_callbacks
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> PolynomialSNNRegressor:
        """Fit the network.

        Parameters
        ----------
        X : array-like, shape (n, d)
        y : array-like, shape (n,)
        sample_weight : array-like, shape (n,), optional
            Nonnegative; an integer weight equals repeating the row.

        Returns
        -------
        self
        """
        inputs, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        targets = np.asarray(targets, dtype=np.float64)
        refuse_overflow(inputs, "X")
        refuse_overflow(targets, "y")
        options = self._options()
        data = self._prepared(inputs, targets, checked_weights(sample_weight, len(inputs)))
        center, unit = self._target_scaling(data)
        stages = Stages(self, {"X": X, "y": y, "sample_weight": sample_weight})
        program = PolynomialProgram(data.X, (data.y - center) / unit, **data.options)
        solution = options.solve(program, data.box).solution
        self._store(_in_target_units(data.network(solution.z), center, unit), solution)
        stages.end()
        return self

    def _options(self) -> SolveOptions:
        if scalar_loss(self.loss).binary:
            raise InvalidInputError(f"loss={self.loss!r} was given; a regressor needs 'squared' or 'huber'")
        return super()._options()

    def _target_scaling(self, data: Prepared) -> tuple[float, float]:
        if not self.standardize:
            return 0.0, 1.0
        center, unit = weighted_scale(data.y[:, None], data.weight)
        return float(center[0]), float(unit[0])

    def predict(self, X: ArrayLike) -> Array:
        """Outputs of the network.

        Parameters
        ----------
        X : array-like, shape (n, d)

        Returns
        -------
        array, shape (n,)
        """
        inputs = self._inputs(X)
        return self.network_(inputs)

    def certify(self, X: ArrayLike, y: ArrayLike, threat: Threat) -> CertifiedRegression:
        """Intervals of outputs and squared errors over ``threat``, UPPER bounds: exact up to rounding for l2 balls.

        See :func:`convexnn.certificates.polynomial.certify_polynomial_regression`.
        """
        inputs = self._inputs(X)
        targets = column_or_1d(y, dtype=np.float64)
        check_consistent_length(inputs, targets)
        return certify_polynomial_regression(self.network_, inputs, targets, threat)

    def certified_interval(self, X: ArrayLike, threat: Threat) -> tuple[Array, Array]:
        """Intervals that no output leaves while the input stays in ``threat``: exact up to rounding for l2 balls.

        Parameters
        ----------
        X : array-like, shape (n, d)
            Raw input units.
        threat : Threat

        Returns
        -------
        lower, upper : array, shape (n,)
        """
        inputs = self._inputs(X)
        lower, upper = polynomial_interval(self.network_, inputs, threat)
        return lower[:, 0], upper[:, 0]


def _in_target_units(network: Network, center: float, unit: float) -> Network:
    """``center + unit * network``."""
    if (center, unit) == (0.0, 1.0):
        return network
    *hidden, (V, c) = network.layers
    return Network((*hidden, (unit * V, unit * c + center)), network.activation)

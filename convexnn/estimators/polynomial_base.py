"""The shell that both polynomial estimators share: checked data and options, scaling, attacks, torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from convexnn.attacks import AttackResult, attack
from convexnn.estimators.callbacks import CallbackSupport
from convexnn.estimators.polynomial_fit import Prepared, Scaling, SolveOptions, box_of
from convexnn.network import Network
from convexnn.program import Solution
from convexnn.restrictions.base import positive
from convexnn.restrictions.polynomial import checked_coefficients, checked_norm
from convexnn.restrictions.polynomial_coefficients import fit_coefficients
from convexnn.restrictions.rows import distinct_rows
from convexnn.threats import Threat
from convexnn.training.data import refuse_overflow

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]


class PolynomialEstimator(CallbackSupport, BaseEstimator):
    """Base of the estimators with polynomial networks; not meant to be used on its own."""

    radius: float
    norm: float
    lam: float
    loss: Any
    coefficients: Any
    method: str
    standardize: bool
    tol: float
    max_iter: int
    time_limit: float | None
    random_state: Any
    verbose: int

    network_: Network
    solution_: Solution

    # -- fitting ------------------------------------------------------------------------------------
    def _options(self) -> SolveOptions:
        positive(self.lam, "lam")
        positive(self.radius, "radius", zero=True)
        checked_norm(self.norm)
        return SolveOptions(self.method, self.tol, self.max_iter, self.time_limit, self.verbose)

    def _prepared(self, X: Array, y: NDArray[Any], weight: Array | None) -> Prepared:
        """Distinct rows in canonical order, inputs scaled, and the arguments of the programs."""
        rows = distinct_rows(X, y.astype(np.float64), weight, with_targets=True)
        scaling = Scaling.of(rows.X, rows.weight, self.standardize)
        inputs = scaling.apply(rows.X)
        self.coefficients_ = self._coefficients(inputs, rows.weight)
        box, metric = box_of(self.radius, self.norm, scaling)
        options = {
            "lam": self.lam,
            "loss": self.loss,
            "radius": self.radius,
            "coefficients": self.coefficients_,
            "sample_weight": rows.weight,
            "metric": metric,
        }
        return Prepared(inputs, rows.y, rows.weight, scaling, box, options)

    def _coefficients(self, X: Array, weight: Array) -> tuple[float, float, float]:
        if isinstance(self.coefficients, str) and self.coefficients == "fit":
            return fit_coefficients(X, sample_weight=weight)
        return checked_coefficients(self.coefficients)

    def _store(self, network: Network, solution: Solution) -> None:
        self.network_, self.solution_ = network, solution
        self.objective_, self.lower_bound_ = solution.objective, solution.lower_bound
        self.n_iter_ = max(1, solution.iterations)

    # -- the fitted network -------------------------------------------------------------------------
    def _inputs(self, X: ArrayLike) -> Array:
        check_is_fitted(self)
        inputs: Array = validate_data(self, X, reset=False, dtype=np.float64)
        refuse_overflow(inputs, "X")
        return inputs

    def attack(self, X: ArrayLike, y: ArrayLike, threat: Threat, **options: Any) -> AttackResult:
        """Attack the fitted network; see :func:`convexnn.attack`.

        The attack is the exact worst case for an l2 ball without clip, else projected gradient ascent, a LOWER bound
        on the worst case; ``method=`` and the other options of :func:`convexnn.attack` decide otherwise.
        """
        inputs = self._inputs(X)
        exact = getattr(threat, "norm", None) == "l2" and getattr(threat, "clip", None) is None
        defaults = {"method": "exact" if exact else "pgd", "random_state": self.random_state}
        return attack(self, inputs, y, threat, **(defaults | options))

    def to_torch(self, dtype: torch.dtype | None = None) -> torch.nn.Sequential:
        """``nn.Sequential(Linear, PolynomialLayer, Linear)`` with the fitted weights, float64 unless said otherwise."""
        check_is_fitted(self)
        return self.network_.to_torch(dtype)

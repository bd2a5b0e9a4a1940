"""The fit of a regressor with constraints: the start gives the cells, the constrained programs the network."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from convexnn.certificates.lipschitz import lipschitz
from convexnn.constraints import ConstrainedOptions, Constraint, monotone_constraints, train_constrained
from convexnn.constraints.shape import resolve, shape_of
from convexnn.estimators.starts import Condensed
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.patterns import extract
from convexnn.restrictions.group_lasso import ReluGroupLasso

if TYPE_CHECKING:
    from convexnn.estimators.regressor import SafeSNNRegressor


def asked_constraints(estimator: SafeSNNRegressor) -> tuple[Constraint, ...]:
    """Constraints of ``monotonic_cst`` and ``constraints``, with features as numbers; contradictions are refused.

    Raises
    ------
    InvalidInputError
        Also for settings of the estimator that constraints do not go with.
    """
    names: Any = getattr(estimator, "feature_names_in_", None)
    given = estimator.constraints if estimator.constraints is not None else ()
    asked = (
        *monotone_constraints(estimator.monotonic_cst, estimator.n_features_in_, names),
        *resolve(given, estimator.n_features_in_, names),
    )
    if not asked:
        return ()
    shape_of(asked, estimator.n_features_in_)
    if estimator.regularizer != "l2" or estimator.scope != "patterns":
        raise InvalidInputError(
            "monotonic_cst and constraints need regularizer='l2' and scope='patterns', got "
            f"regularizer={estimator.regularizer!r} and scope={estimator.scope!r}."
        )
    return asked


def fit_constrained(
    estimator: SafeSNNRegressor, data: Condensed, start: Network, asked: tuple[Constraint, ...], began: float
) -> None:
    """Train on the cells of a start network and store what is fitted."""
    limit = estimator.time_limit
    options = ConstrainedOptions(
        tol=estimator.tol,
        solver=estimator.solver if estimator.solver in ("scs", "mosek") else "clarabel",
        time_limit=None if limit is None else max(limit - (time.perf_counter() - began), 1e-3),
    )
    result = train_constrained(
        data.X, data.y, asked, lam=estimator.lam, start=start, sample_weight=data.weight, options=options
    )
    patterns = extract(start, data.X)
    judge = ReluGroupLasso(data.X, data.y, patterns, estimator.lam, sample_weight=data.weight)
    estimator.network_, estimator.guarantees_ = result.network, result.guarantees
    estimator.constrained_, estimator.solution_ = result, None
    estimator.start_objective_, estimator.objective_ = judge.network_objective(start), result.objective
    estimator.patterns_, estimator.lipschitz_ = patterns, lipschitz(result.network)
    seconds = time.perf_counter() - began
    estimator.history_ = [
        {"stage": "start", "objective": estimator.start_objective_, "seconds": seconds - result.seconds},
        {"stage": f"constrained, {result.source}", "objective": result.objective, "seconds": seconds},
    ]
    estimator.n_iter_ = len(result.programs)

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


#: What solves the constrained programs; "auto" is Clarabel.
SOLVERS = ("auto", "clarabel", "scs", "mosek")


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
    _require_settings(estimator)
    return asked


def _require_settings(estimator: SafeSNNRegressor) -> None:
    """Refuse the settings that a fit with constraints would not follow."""
    if estimator.regularizer != "l2":
        raise InvalidInputError(
            "monotonic_cst and constraints work with the l2 regularizer only, got "
            f"regularizer={estimator.regularizer!r} (the default is 'lipschitz'): pass regularizer='l2'."
        )
    if estimator.scope != "patterns" or estimator.pattern_search:
        raise InvalidInputError(
            "With monotonic_cst or constraints the cells of the start are kept, got "
            f"scope={estimator.scope!r} and pattern_search={estimator.pattern_search!r}: leave scope='patterns' and "
            "pattern_search=0."
        )
    if estimator.solver not in SOLVERS:
        raise InvalidInputError(
            f"With monotonic_cst or constraints the programs are cvxpy's, which solver={estimator.solver!r} does not "
            f"solve: pass one of {', '.join(map(repr, SOLVERS))}; 'auto' is 'clarabel'."
        )


def fit_constrained(
    estimator: SafeSNNRegressor, data: Condensed, start: Network, asked: tuple[Constraint, ...], began: float
) -> None:
    """Train on the cells of a start network and store what is fitted."""
    limit = estimator.time_limit
    options = ConstrainedOptions(
        tol=estimator.tol,
        solver="clarabel" if estimator.solver == "auto" else estimator.solver,
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

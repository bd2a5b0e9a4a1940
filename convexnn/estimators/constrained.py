"""Fits with constraints: the start gives the cells, the constrained programs the network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convexnn.certificates.lipschitz import lipschitz
from convexnn.constraints import (
    ConstrainedOptions,
    ConstrainedTraining,
    Constraint,
    monotone_constraints,
    train_constrained,
)
from convexnn.constraints.shape import resolve, shape_of
from convexnn.constraints.training import REGULARIZERS
from convexnn.estimators.starts import Condensed
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.refinement import RefineOptions
from convexnn.restrictions.catalog import PROGRAMS

if TYPE_CHECKING:
    from convexnn.estimators.classifier import SafeSNNClassifier
    from convexnn.estimators.regressor import SafeSNNRegressor

Asked = tuple[Constraint, ...]

#: What solves the constrained programs; "auto" is Clarabel.
SOLVERS = ("auto", "clarabel", "scs", "mosek")


def asked_constraints(estimator: SafeSNNRegressor | SafeSNNClassifier, n_classes: int = 2) -> Asked:
    """Constraints of ``monotonic_cst`` and ``constraints``, with features as numbers; contradictions are refused.

    Parameters
    ----------
    estimator : SafeSNNRegressor or SafeSNNClassifier
    n_classes : int, default 2
        Two are one score, which is what the constraints are about.

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
    if n_classes > 2:
        raise InvalidInputError(
            f"monotonic_cst and constraints are about the score of two classes; y holds {n_classes}: merge classes, or "
            "fit OneVsRestClassifier(SafeSNNClassifier(...)), whose scores keep them one by one."
        )
    _require_settings(estimator)
    return asked


def _require_settings(estimator: SafeSNNRegressor | SafeSNNClassifier) -> None:
    """Refuse the settings that a fit with constraints would not follow."""
    if estimator.regularizer not in REGULARIZERS:
        raise InvalidInputError(
            f"monotonic_cst and constraints do not go with regularizer={estimator.regularizer!r}: "
            f"pass regularizer={' or '.join(map(repr, REGULARIZERS))}."
        )
    scope = getattr(estimator, "scope", "patterns")
    if scope != "patterns" or estimator.pattern_search:
        raise InvalidInputError(
            f"With monotonic_cst or constraints the cells of the start are kept, got scope={scope!r} and "
            f"pattern_search={estimator.pattern_search!r}: leave scope='patterns' and pattern_search=0."
        )
    if estimator.solver not in SOLVERS:
        raise InvalidInputError(
            f"The programs of monotonic_cst and constraints are not those that solver={estimator.solver!r} solves: "
            f"pass one of {', '.join(map(repr, SOLVERS))}; 'auto' is 'clarabel'."
        )


def constrained_fit(
    data: Condensed, start: Network, asked: Asked, options: RefineOptions, lam: float | None = None
) -> ConstrainedTraining:
    """Train on the cells of a start network with the settings of an estimator.

    Parameters
    ----------
    data : Condensed
    start : Network
    asked : tuple of Constraint
    options : RefineOptions
        With what is left of the time limit.
    lam : float, optional
        In place of that of the options.
    """
    chosen = ConstrainedOptions(
        tol=options.tol, solver="clarabel" if options.solver == "auto" else options.solver,
        time_limit=options.time_limit,
    )  # fmt: skip
    return train_constrained(
        data.X,
        data.y,
        asked,
        lam=options.lam if lam is None else lam,
        regularizer=options.regularizer,
        start=start,
        loss=options.loss,
        sample_weight=data.weight,
        options=chosen,
    )


def fold_networks(
    data: Condensed, start: Network, asked: Asked, options: RefineOptions, lams: Sequence[float]
) -> list[Network]:
    """Networks that keep their constraints, one a weight in the order given; fewer when the time limit comes first."""
    began, found = time.perf_counter(), list[Network]()
    for lam in lams:
        spent, limit = time.perf_counter() - began, options.time_limit
        if found and limit is not None and spent > limit:
            break
        left = replace(options, time_limit=None if limit is None else max(limit - spent, 1e-3))
        found.append(constrained_fit(data, start, asked, left, lam).network)
    return found


def fit_constrained(
    estimator: SafeSNNRegressor, data: Condensed, start: Network, asked: Asked, options: RefineOptions, began: float
) -> None:
    """Train on the cells of a start network and store what a regressor has when it is fitted."""
    result = constrained_fit(data, start, asked, options)
    patterns = extract(start, data.X)
    estimator.network_, estimator.guarantees_ = result.network, result.guarantees
    estimator.constrained_, estimator.solution_ = result, None
    estimator.start_objective_, estimator.objective_ = start_objective(data, start, patterns, options), result.objective
    estimator.patterns_, estimator.lipschitz_ = patterns, lipschitz(result.network)
    estimator.history_ = constrained_history(result, estimator.start_objective_, time.perf_counter() - began)
    estimator.n_iter_ = len(result.programs)


def start_objective(data: Condensed, start: Network, patterns: ActivationPatterns, options: RefineOptions) -> float:
    """Training objective of the start, which need not keep any constraint."""
    program = PROGRAMS[options.regularizer]
    judge = program(data.X, data.y, patterns, options.lam, sample_weight=data.weight, loss=options.loss)
    return judge.network_objective(start)


def constrained_history(result: ConstrainedTraining, before: float, seconds: float) -> list[dict[str, Any]]:
    """Rows of ``history_``: the start and the network that was chosen."""
    return [
        {"stage": "start", "objective": before, "seconds": seconds - result.seconds},
        {"stage": f"constrained, {result.source}", "objective": result.objective, "seconds": seconds},
    ]

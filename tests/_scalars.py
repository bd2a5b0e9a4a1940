"""Public functions with scalar parameters, each with arguments that work, and scalars that users pass by accident."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import convexnn as cx
from convexnn import constraints, global_gap, patterns, refinement, regions, restrictions, search, solvers, training
from convexnn.certificates.local_margins import local_intervals, local_margins
from convexnn.constraints import ConstrainedOptions
from convexnn.exchange import parse_vnnlib
from convexnn.propagation import Effort, InputSet
from convexnn.regions.folding import folded_units
from convexnn.relaxations.quadratic_outputs import bound_quadratic
from convexnn.relaxations.quadratic_specification import QuadraticSpec

RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 2))
Y = X[:, 0] + 0.1 * RNG.standard_normal(8)
LABELS = (Y > 0).astype(int)
NETWORK = cx.Network.shallow(RNG.standard_normal((3, 2)), RNG.standard_normal(3), RNG.standard_normal(3), 0.1)
SQUARE = cx.Network(NETWORK.layers, "polynomial")
BALL, BOX = cx.L2Ball(0.1), cx.Box(-1.0, 1.0)
PATTERNS = patterns.extract(NETWORK, X)
POLYNOMIAL = restrictions.PolynomialProgram(X, 2.0 * LABELS - 1.0, lam=0.1)
PROGRAM = restrictions.ReluGroupLasso(X, Y, PATTERNS, 0.1)
PARTS = regions.ridges(folded_units(NETWORK, regions.as_region(BALL, 2), np.ones(1), None))
PROPERTY = (
    "".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0"))
    + "".join(f"(assert (>= X_{i} -1.0))(assert (<= X_{i} 1.0))" for i in range(2))
    + "(assert (>= Y_0 100.0))"
)
SET, SPEC = InputSet.box(-np.ones(2), np.ones(2)), QuadraticSpec(np.eye(4), 2)

#: What a user may hand over in place of a number.
WRONG = {
    "text": "1e-3", "bytes": b"1", "a boolean": True, "numpy's boolean": np.bool_(True), "NaN": np.nan,
    "complex": 1e-3 + 1j, "an array": np.ones(2), "a list": [1.0], "an object": object(),
}  # fmt: skip


def margin_program(radius: float = 0.1, lam: float = 0.0, norm: float = 2) -> Any:
    """Its settings, with the types that its documentation states."""
    return restrictions.CertifiedMargin.at(NETWORK, X, LABELS, radius=radius, lam=lam, norm=norm)


#: name -> (function, arguments that work); what has no short run stops at once for any of the wrong scalars.
CALLS: dict[str, Callable[..., Any]] = {
    "lipschitz": partial(cx.lipschitz, NETWORK),
    "region_bound": partial(cx.region_bound, NETWORK, BALL),
    "certify": partial(cx.certify, NETWORK, X, LABELS, BALL),
    "attack": partial(cx.attack, NETWORK, X, LABELS, BALL),
    "certify_quadratic": partial(cx.certify_quadratic, SQUARE, X, LABELS, cx.LInfBall(0.1)),
    "robustness_table": partial(cx.robustness_table, {"a": NETWORK}, X, Y, [0.1]),
    "local_margins": partial(local_margins, NETWORK, X, LABELS, BALL),
    "local_intervals": partial(local_intervals, NETWORK, X, BALL),
    "bound_quadratic": partial(bound_quadratic, NETWORK, SET, SPEC),
    "solve": partial(cx.solve, PROGRAM),
    "solve_cvxpy": partial(solvers.solve_cvxpy, PROGRAM),
    "solve_first_order": partial(solvers.solve_first_order, PROGRAM),
    "solve_interior_point": partial(solvers.solve_interior_point, PROGRAM),
    "solve_column_generation": partial(solvers.solve_column_generation, POLYNOMIAL),
    "lam_max": partial(cx.lam_max, X, Y),
    "path": partial(cx.path, X, Y, NETWORK),
    "refine": partial(cx.refine, NETWORK, X, Y),
    "pattern_search": partial(cx.pattern_search, NETWORK, X, Y),
    "train_constrained": partial(cx.train_constrained, X, Y, [cx.Monotone(0)]),
    "guarantees": partial(cx.guarantees, NETWORK, [cx.Monotone(0)]),
    "train_global": partial(cx.train_global, X, Y, lam=0.1, time_limit=5.0),
    "optimality_gap": partial(cx.optimality_gap, NETWORK, X, Y, lam=0.1, time_limit=5.0),
    "global_lam_max": partial(cx.global_lam_max, X, Y, time_limit=5.0),
    "train_global_lipschitz": partial(cx.train_global_lipschitz, X, Y, lam=0.1, time_limit=5.0),
    "kappa_upper": partial(global_gap.kappa_upper, X, Y, time_limit=5.0),
    "kappa_upper_signs": partial(global_gap.kappa_upper_signs, X, Y, time_limit=5.0),
    "best_dual_point": partial(global_gap.best_dual_point, X, Y, lam=0.1),
    "enumerate_patterns": partial(patterns.enumerate_patterns, X),
    "sample": partial(patterns.sample, X, p=3),
    "count_patterns": partial(patterns.count_patterns, n=3, rank=2),
    "fit_coefficients": restrictions.fit_coefficients,
    "solve_majorants": partial(regions.solve_majorants, NETWORK.W, NETWORK.b, NETWORK.v, offset=0.0, kind="ball"),
    "best_majorants": partial(regions.best_majorants, PARTS),
    "parallel_groups": partial(regions.parallel_groups, NETWORK.W),
    "alternate_vector": partial(training.alternate_vector, NETWORK, X, Y, lam=0.1),
    "polynomial_lam_max": partial(training.polynomial_lam_max, POLYNOMIAL),
    "train_polynomial": partial(training.train_polynomial, X, 2.0 * LABELS - 1.0, lam=0.1),
    "make_rastrigin": partial(cx.datasets.make_rastrigin, random_state=0),
    "make_adversarial_spheres": partial(cx.datasets.make_adversarial_spheres, random_state=0),
    "verify_property": partial(cx.verify_property, NETWORK, parse_vnnlib(PROPERTY)),
    "ReluGroupLasso": partial(restrictions.ReluGroupLasso, X, Y, PATTERNS),
    "LipschitzProgram": partial(restrictions.LipschitzProgram, X, Y, PATTERNS),
    "PolynomialProgram": partial(restrictions.PolynomialProgram, X, 2.0 * LABELS - 1.0, lam=0.1),
    "RobustRelu": partial(restrictions.RobustRelu, X, 2.0 * LABELS - 1.0, PATTERNS, lam=0.1, radius=0.1),
    "CertifiedMargin": margin_program,
    "L2Ball": cx.L2Ball,
    "LInfBall": cx.LInfBall,
    "Huber": cx.Huber,
    "LeakyReLU": cx.LeakyReLU,
    "Polynomial": cx.Polynomial,
    "UpperBound": partial(constraints.UpperBound, BOX, value=1.0),
    "SlopeBounds": partial(constraints.SlopeBounds, 0),
    "FixedValue": partial(constraints.FixedValue, np.zeros(2)),
    "Effort": Effort,
    **{
        kind.__name__: kind
        for kind in (
            ConstrainedOptions, refinement.RefineOptions, refinement.HeadOptions, search.SearchOptions,
            training.CertifiedOptions, training.FacetOptions, training.MarginOptions, training.RegionADMMOptions,
            training.RegionOptions, training.RobustReluOptions, training.TrainingOptions, training.ADMMTrainer,
            training.AdversarialTrainer, training.SAMTrainer, training.LipschitzTrainer, training.MaxGradientTrainer,
        )
    },
}  # fmt: skip
#: Estimators read their parameters when they are fitted.
ESTIMATORS = {
    "SafeSNNRegressor": (cx.SafeSNNRegressor, Y),
    "SafeSNNRegressorCV": (cx.SafeSNNRegressorCV, Y),
    "SafeSNNClassifier": (cx.SafeSNNClassifier, LABELS),
    "PolynomialSNNRegressor": (cx.PolynomialSNNRegressor, Y),
    "PolynomialSNNClassifier": (cx.PolynomialSNNClassifier, LABELS),
    "SafeRegionClassifier": (partial(cx.SafeRegionClassifier, BALL), LABELS),
    "ActivationPatternTransformer": (cx.ActivationPatternTransformer, Y),
}


def _fitted(kind: Callable[..., Any], y: np.ndarray, **options: Any) -> Any:
    return kind(**options).fit(X, y)


CALLS |= {name: partial(_fitted, kind, y) for name, (kind, y) in ESTIMATORS.items()}
SCALAR = re.compile(r"\b(float|int)\b")
OTHER = re.compile("Array|Sequence|tuple|list|str|Callable|Mapping")


def scalars(name: str) -> Iterator[str]:
    """Parameters of a function that its annotations call numbers; ``n_jobs`` and its errors are joblib's."""
    kind = ESTIMATORS[name][0] if name in ESTIMATORS else CALLS[name]
    inner = kind.func if isinstance(kind, partial) else kind
    for parameter in inspect.signature(inner).parameters.values():
        wanted = str(parameter.annotation)
        if SCALAR.search(wanted) and not OTHER.search(wanted) and parameter.name not in ("verbose", "n_jobs"):
            yield parameter.name

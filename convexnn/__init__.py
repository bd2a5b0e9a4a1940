"""convexnn: shallow neural networks trained by convex programs, with evidence for every number.

Names are loaded when they are first used, so that ``import convexnn`` is instant. A new name stands in three places:
the imports for type checkers, ``_HOMES`` and ``__all__``; ``tests/test_public_page.py`` holds them together.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convexnn.activations import Identity, LeakyReLU, Polynomial, ReLU, Sigmoid, Tanh
    from convexnn.attacks import AttackResult, attack
    from convexnn.certificate import Certificate
    from convexnn.certificates.distance import certified_radius, distance_to_boundary
    from convexnn.certificates.lipschitz import lipschitz
    from convexnn.certificates.quadratic_margins import QuadraticCertification, certify_quadratic
    from convexnn.certificates.region import region_bound
    from convexnn.certificates.robustness import RobustnessTable, robustness_table
    from convexnn.constraints import (
        Concave,
        Convex,
        Even,
        FixedGradient,
        FixedValue,
        Invariant,
        LowerBound,
        Monotone,
        Odd,
        SlopeBounds,
        UpperBound,
        guarantees,
        train_constrained,
    )
    from convexnn.estimators import (
        ActivationPatternTransformer,
        PolynomialSNNClassifier,
        PolynomialSNNRegressor,
        SafeRegionClassifier,
        SafeSNNClassifier,
        SafeSNNRegressor,
        SafeSNNRegressorCV,
    )
    from convexnn.exceptions import (
        CertificateError,
        ConvexNNError,
        DatasetError,
        InfeasibleStartError,
        InvalidInputError,
        SolverError,
        SolverWarning,
        UnsupportedModelError,
    )
    from convexnn.global_gap import (
        GlobalResult,
        OptimalityGap,
        global_lam_max,
        optimality_gap,
        train_global,
        train_global_lipschitz,
    )
    from convexnn.losses import Hinge, Huber, Logistic, MultiMargin, Squared, SquaredHinge
    from convexnn.network import Network, as_network
    from convexnn.paths import path
    from convexnn.patterns import ActivationPatterns, extract
    from convexnn.program import Program, Solution, evaluate
    from convexnn.refinement import Refinement, refine
    from convexnn.regions import Region, ellipsoid, rotated_box
    from convexnn.restrictions import lam_max
    from convexnn.search import SearchResult, pattern_search
    from convexnn.solvers import available_solvers, solve
    from convexnn.threats import Box, L2Ball, LInfBall
    from convexnn.training import RegionTraining, pretrain, train_safe_region
    from convexnn.verification import CertificationReport, CertifyOptions, Verdict, certify
    from convexnn.verification.properties import PropertyResult, verify_property

__version__ = "0.1.0"

#: Module of every public name.
_HOMES = {
    "convexnn.activations": "Identity LeakyReLU Polynomial ReLU Sigmoid Tanh",
    "convexnn.attacks": "AttackResult attack",
    "convexnn.certificate": "Certificate",
    "convexnn.certificates.distance": "certified_radius distance_to_boundary",
    "convexnn.certificates.lipschitz": "lipschitz",
    "convexnn.certificates.quadratic_margins": "QuadraticCertification certify_quadratic",
    "convexnn.certificates.region": "region_bound",
    "convexnn.certificates.robustness": "RobustnessTable robustness_table",
    "convexnn.constraints": (
        "Concave Convex Even FixedGradient FixedValue Invariant LowerBound Monotone "
        "Odd SlopeBounds UpperBound guarantees train_constrained"
    ),
    "convexnn.estimators": (
        "ActivationPatternTransformer PolynomialSNNClassifier PolynomialSNNRegressor SafeRegionClassifier "
        "SafeSNNClassifier SafeSNNRegressor SafeSNNRegressorCV"
    ),
    "convexnn.exceptions": (
        "CertificateError ConvexNNError DatasetError InfeasibleStartError InvalidInputError SolverError "
        "SolverWarning UnsupportedModelError"
    ),
    "convexnn.global_gap": (
        "GlobalResult OptimalityGap global_lam_max optimality_gap train_global train_global_lipschitz"
    ),
    "convexnn.losses": "Hinge Huber Logistic MultiMargin Squared SquaredHinge",
    "convexnn.network": "Network as_network",
    "convexnn.paths": "path",
    "convexnn.patterns": "ActivationPatterns extract",
    "convexnn.program": "Program Solution evaluate",
    "convexnn.refinement": "Refinement refine",
    "convexnn.regions": "Region ellipsoid rotated_box",
    "convexnn.restrictions": "lam_max",
    "convexnn.search": "SearchResult pattern_search",
    "convexnn.solvers": "available_solvers solve",
    "convexnn.threats": "Box L2Ball LInfBall",
    "convexnn.training": "RegionTraining pretrain train_safe_region",
    "convexnn.verification": "CertificationReport CertifyOptions Verdict certify",
    "convexnn.verification.properties": "PropertyResult verify_property",
}

__all__ = [
    "ActivationPatternTransformer",
    "ActivationPatterns",
    "AttackResult",
    "Box",
    "Certificate",
    "CertificateError",
    "CertificationReport",
    "CertifyOptions",
    "Concave",
    "Convex",
    "ConvexNNError",
    "DatasetError",
    "Even",
    "FixedGradient",
    "FixedValue",
    "GlobalResult",
    "Hinge",
    "Huber",
    "Identity",
    "InfeasibleStartError",
    "InvalidInputError",
    "Invariant",
    "L2Ball",
    "LInfBall",
    "LeakyReLU",
    "Logistic",
    "LowerBound",
    "Monotone",
    "MultiMargin",
    "Network",
    "Odd",
    "OptimalityGap",
    "Polynomial",
    "PolynomialSNNClassifier",
    "PolynomialSNNRegressor",
    "Program",
    "PropertyResult",
    "QuadraticCertification",
    "ReLU",
    "Refinement",
    "Region",
    "RegionTraining",
    "RobustnessTable",
    "SafeRegionClassifier",
    "SafeSNNClassifier",
    "SafeSNNRegressor",
    "SafeSNNRegressorCV",
    "SearchResult",
    "Sigmoid",
    "SlopeBounds",
    "Solution",
    "SolverError",
    "SolverWarning",
    "Squared",
    "SquaredHinge",
    "Tanh",
    "UnsupportedModelError",
    "UpperBound",
    "Verdict",
    "as_network",
    "attack",
    "available_solvers",
    "certified_radius",
    "certify",
    "certify_quadratic",
    "distance_to_boundary",
    "ellipsoid",
    "evaluate",
    "extract",
    "global_lam_max",
    "guarantees",
    "lam_max",
    "lipschitz",
    "optimality_gap",
    "path",
    "pattern_search",
    "pretrain",
    "refine",
    "region_bound",
    "robustness_table",
    "rotated_box",
    "solve",
    "train_constrained",
    "train_global",
    "train_global_lipschitz",
    "train_safe_region",
    "verify_property",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module, or a sub-package."""
    home = next((home for home, names in _HOMES.items() if name in names.split()), None)
    if home is not None:
        value = globals()[name] = getattr(import_module(home), name)
        return value
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, also those that were not used yet."""
    return sorted({*globals(), *__all__})

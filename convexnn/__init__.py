"""convexnn: shallow neural networks trained by convex programs, with evidence for every number."""

from convexnn.activations import Identity, LeakyReLU, Polynomial, ReLU, Sigmoid, Tanh
from convexnn.attacks import AttackResult, attack
from convexnn.certificate import Certificate
from convexnn.certificates.distance import certified_radius, distance_to_boundary
from convexnn.certificates.lipschitz import lipschitz
from convexnn.certificates.quadratic_margins import QuadraticCertification, certify_quadratic
from convexnn.certificates.region import region_bound
from convexnn.certificates.robustness import RobustnessTable, robustness_table
from convexnn.estimators import (
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
from convexnn.training import pretrain
from convexnn.verification import CertificationReport, CertifyOptions, Verdict, certify
from convexnn.verification.properties import PropertyResult, verify_property

__version__ = "0.1.0"

__all__ = [
    "ActivationPatterns",
    "AttackResult",
    "Box",
    "Certificate",
    "CertificateError",
    "CertificationReport",
    "CertifyOptions",
    "ConvexNNError",
    "DatasetError",
    "GlobalResult",
    "Hinge",
    "Huber",
    "Identity",
    "InfeasibleStartError",
    "InvalidInputError",
    "L2Ball",
    "LInfBall",
    "LeakyReLU",
    "Logistic",
    "MultiMargin",
    "Network",
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
    "RobustnessTable",
    "SafeRegionClassifier",
    "SafeSNNClassifier",
    "SafeSNNRegressor",
    "SafeSNNRegressorCV",
    "SearchResult",
    "Sigmoid",
    "Solution",
    "SolverError",
    "SolverWarning",
    "Squared",
    "SquaredHinge",
    "Tanh",
    "UnsupportedModelError",
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
    "train_global",
    "train_global_lipschitz",
    "verify_property",
]

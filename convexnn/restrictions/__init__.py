"""Convex training programs, one a file: data, patterns and a regularizer, ignorant of solvers."""

from convexnn.restrictions.certified_margin import CertifiedMargin
from convexnn.restrictions.gated import GatedGroupLasso
from convexnn.restrictions.group_lasso import ReluGroupLasso
from convexnn.restrictions.lam_max import lam_max
from convexnn.restrictions.lipschitz_fixed import LipschitzRestriction
from convexnn.restrictions.lipschitz_joint import LipschitzProgram
from convexnn.restrictions.polynomial import PolynomialProgram
from convexnn.restrictions.polynomial_coefficients import fit_coefficients
from convexnn.restrictions.polynomial_multiclass import MulticlassPolynomialProgram
from convexnn.restrictions.robust_relu import RobustRelu
from convexnn.restrictions.vector_group_lasso import VectorGatedGroupLasso, VectorGroupLasso
from convexnn.restrictions.vector_lipschitz import VectorLipschitzProgram
from convexnn.restrictions.vector_outer import OuterGroupLasso, OuterLipschitz

__all__ = [
    "CertifiedMargin",
    "GatedGroupLasso",
    "LipschitzProgram",
    "LipschitzRestriction",
    "MulticlassPolynomialProgram",
    "OuterGroupLasso",
    "OuterLipschitz",
    "PolynomialProgram",
    "ReluGroupLasso",
    "RobustRelu",
    "VectorGatedGroupLasso",
    "VectorGroupLasso",
    "VectorLipschitzProgram",
    "fit_coefficients",
    "lam_max",
]

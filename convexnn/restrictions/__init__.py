"""Convex training programs, one a file: data, patterns and a regularizer, ignorant of solvers."""

from convexnn.restrictions.gated import GatedGroupLasso
from convexnn.restrictions.group_lasso import ReluGroupLasso
from convexnn.restrictions.lam_max import lam_max
from convexnn.restrictions.lipschitz_fixed import LipschitzRestriction
from convexnn.restrictions.lipschitz_joint import LipschitzProgram

__all__ = ["GatedGroupLasso", "LipschitzProgram", "LipschitzRestriction", "ReluGroupLasso", "lam_max"]

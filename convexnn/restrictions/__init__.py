"""Convex training programs, one a file: data, patterns and a regularizer, ignorant of solvers."""

from convexnn.restrictions.group_lasso import ReluGroupLasso

__all__ = ["ReluGroupLasso"]

"""Regularization paths: one convex program at many weights, certified between the grid points as well."""

from convexnn.paths.grid import path
from convexnn.paths.result import RegularizationPath

__all__ = ["RegularizationPath", "path"]

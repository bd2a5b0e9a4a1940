"""Programs stated in cvxpy: what a user adds constraints to, and the one policy by which generic solvers are called."""

from convexnn.conic.stated import Stated
from convexnn.conic.view import CvxpyProgram, Decoded

__all__ = ["CvxpyProgram", "Decoded", "Stated"]

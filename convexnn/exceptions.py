"""The errors and warnings of convexnn: one base class, one sentence each."""

from __future__ import annotations


class ConvexNNError(Exception):
    """Base class of every error raised by convexnn."""


class InvalidInputError(ConvexNNError, ValueError):
    """An argument is not usable; the message says what came and what was expected."""


class SolverError(ConvexNNError, RuntimeError):
    """A solver is missing, unlicensed or failed; the solver's own error is the cause."""


class InfeasibleStartError(ConvexNNError, ValueError):
    """A starting point or a fixed multiplier leaves the program without feasible point."""


class UnsupportedModelError(ConvexNNError, ValueError):
    """A model holds a layer or an activation that cannot be represented; the message names it."""


class CertificateError(ConvexNNError, ValueError):
    """A stored certificate does not check against the network or was altered."""


class DatasetError(ConvexNNError, OSError):
    """A data set cannot be had, or a file of it is not what it should be; the message names the row or the file."""


class SolverWarning(UserWarning):
    """A solver fell back, dropped a unit or ended short of the asked tolerance."""

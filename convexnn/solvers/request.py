"""The options of one call of ``solve``, checked before any work."""

from __future__ import annotations

import math
import numbers
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.program import Program, Solution
from convexnn.quadratic.structure import QuadraticStructure

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Request:
    """The options of one call of ``solve``."""

    tol: float
    max_iter: int
    time_limit: float | None
    start: Array | Solution | None
    verbose: int
    began: float

    def remaining(self) -> float | None:
        """Seconds left, at least a thousandth of one."""
        if self.time_limit is None:
            return None
        return max(self.time_limit - (time.perf_counter() - self.began), 1e-3)

    def start_of(self, program: Program) -> Array | None:
        """Point that the result must not be worse than: the one given, else the program's own."""
        point = self.start.z if isinstance(self.start, Solution) else self.start
        return program.start if point is None else point


def checked_request(
    program: Program,
    tol: float,
    max_iter: int,
    time_limit: float | None,
    start: ArrayLike | Solution | None,
    verbose: int,
) -> Request:
    """Options as a request.

    Raises
    ------
    InvalidInputError
        For an option that cannot be used.
    """
    check_limits(tol, max_iter, time_limit)
    return Request(tol, int(max_iter), time_limit, _checked_start(program, start), verbose, time.perf_counter())


def check_limits(tol: float, max_iter: int, time_limit: float | None) -> None:
    """Refuse a tolerance, a number of iterations or seconds that cannot be used, in a sentence.

    Raises
    ------
    InvalidInputError
    """
    if not (_is_number(tol) and math.isfinite(tol) and tol > 0):
        raise InvalidInputError(f"tol={tol!r} was given; expected a positive number such as 1e-6")
    if not (_is_number(max_iter) and math.isfinite(max_iter) and int(max_iter) == max_iter and max_iter >= 1):
        raise InvalidInputError(f"max_iter={max_iter!r} was given; expected an integer of at least 1")
    if time_limit is not None and not (_is_number(time_limit) and time_limit > 0):
        raise InvalidInputError(f"time_limit={time_limit!r} was given; expected positive seconds or None")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _checked_start(program: Program, start: ArrayLike | Solution | None) -> Array | Solution | None:
    if start is None:
        return None
    try:
        point = start.z if isinstance(start, Solution) else np.asarray(start, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"start is a {type(start).__name__} that cannot be read as an array of floats; expected a point of the "
            "program or a Solution; of a network, program.lift(network) is the point"
        ) from error
    if not np.isfinite(point).all():
        raise InvalidInputError("start holds NaN or infinite values; expected a finite point of the program")
    structure = program.structure()
    shape = point.shape if structure is None else point_shape(structure)
    if point.shape != shape:
        words = "(Z and Z')" if len(shape) == 4 else "(units, features + 1)"
        raise InvalidInputError(f"start has shape {point.shape}; expected {words} = {shape}")
    return start if isinstance(start, Solution) else point


def point_shape(structure: Any) -> tuple[int, ...]:
    """Shape of the points of a program with this structure."""
    if isinstance(structure, QuadraticStructure):
        return structure.z_shape
    return structure.D.shape[1], structure.X.shape[1]

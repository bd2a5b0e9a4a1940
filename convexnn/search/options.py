"""How patterns are searched: one frozen value, checked before any work is done."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_number
from convexnn.solvers import require_solver

MOVES = ("price", "flip", "replace", "descend")
REGULARIZERS = ("lipschitz", "l2")


@dataclass(frozen=True)
class SearchOptions:
    """How patterns are searched; the keywords of :func:`pattern_search`.

    Parameters
    ----------
    moves : sequence of {"price", "flip", "replace", "descend"}
        Tried in this order in every round.
    rounds : int
        At least 0. A search that has not improved for ``patience`` rounds ends earlier.
    max_units : int or None
        Most hidden units; None: as many as the start has. A start with more comes back when nothing smaller is better.
    n_starts : int
        Searches in all; the first starts at the given network, the others at disturbed copies of it.
    n_jobs : int or None
        Of :class:`joblib.Parallel`; the result does not depend on it.
    random_state : int, SeedSequence or None
        Same value, same result (without a time limit).
    time_limit : float or None
        Seconds; the best network so far comes back.
    patience : int
        Rounds without improvement before a search ends.
    solver, tol, max_iter
        Of every convex program; see :func:`convexnn.solve`.
    """

    moves: Sequence[str] = MOVES
    rounds: int = 10
    max_units: int | None = None
    n_starts: int = 1
    n_jobs: int | None = None
    random_state: Any = 0
    time_limit: float | None = None
    patience: int = 2
    solver: str = "auto"
    tol: float = 1e-6
    max_iter: int = 200

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, before any work is done."""
        if isinstance(self.moves, str) or not set(self.moves) <= set(MOVES):
            raise InvalidInputError(f"moves must be a sequence of names out of {MOVES}, got {self.moves!r}.")
        object.__setattr__(self, "moves", tuple(self.moves))
        for name, least in (("rounds", 0), ("n_starts", 1), ("patience", 1), ("max_iter", 1), ("max_units", 1)):
            _require_count(name, getattr(self, name), least, optional=name == "max_units")
        if self.time_limit is not None and not as_number(self.time_limit, "time_limit") > 0:
            raise InvalidInputError(f"time_limit must be positive seconds or None, got {self.time_limit!r}.")
        if not (math.isfinite(as_number(self.tol, "tol")) and self.tol > 0):
            raise InvalidInputError(f"tol must be a positive number, got {self.tol!r}.")
        require_solver(self.solver)


def _require_count(name: str, value: Any, least: int, *, optional: bool) -> None:
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise InvalidInputError(f"{name} must be an integer of at least {least}, got {value!r}.")

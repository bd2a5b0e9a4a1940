"""``path``: the same convex program at a grid of weights, each point warm-started from the one before."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_number
from convexnn.network import Network, as_network
from convexnn.paths.lams import check_spacing, checked_lams, lams_below
from convexnn.paths.result import RegularizationPath
from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import Proposal, Solution, evaluate
from convexnn.restrictions import lam_max
from convexnn.restrictions.base import ConeProgram
from convexnn.restrictions.catalog import PROGRAMS
from convexnn.restrictions.rows import check_inputs
from convexnn.solvers import solve

Array = NDArray[np.float64]

#: Points at most when the grid is refined until it is certified between its points as well.
MOST_POINTS = 500


def path(
    X: ArrayLike,
    y: ArrayLike,
    patterns: Any,
    *,
    regularizer: str = "lipschitz",
    lams: ArrayLike | None = None,
    n_lams: int = 20,
    lam_ratio: float = 1e-5,
    between: float | None = None,
    sample_weight: ArrayLike | None = None,
    **options: Any,
) -> RegularizationPath:
    r"""Solve one convex program for many weights ``lam``, from the largest useful one down.

    Every point starts from the solution of the one before it, and every point found anywhere competes at every weight:
    an objective of the path is never above that of a neighbor's network, nor (but for ``"gated"``) above that of the
    model whose patterns are used. With ``between``, weights are added until the path is certified *between* its points
    as well.

    Implements: docs/theory/paths.md, Propositions 1 and 2.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    patterns : ActivationPatterns, or a model
        Patterns on the rows of ``X``; or a Network, torch module, fitted scikit-learn MLP or fitted estimator with one
        hidden ReLU layer and one output, whose patterns are then used and which competes at every weight.
    regularizer : {"lipschitz", "l2", "gated"}
        As in :class:`~convexnn.SafeSNNRegressor`.
    lams : array-like, optional
        Positive weights in any order; default ``n_lams`` from :func:`convexnn.lam_max` down to ``lam_ratio`` of it.
    n_lams : int
    lam_ratio : float
        In (0, 1).
    between : float, optional
        Add weights until at every ``lam`` between the smallest and the largest some network of the path is proved to be
        within this relative distance of the optimum (``gaps_between``); larger than the solver's ``tol``.
    sample_weight : array-like, shape (n,), optional
    **options
        ``solver``, ``tol``, ``max_iter``, ``verbose`` of :func:`convexnn.solve`, and ``time_limit`` for the whole path.

    Returns
    -------
    RegularizationPath
        Cut short, with a :class:`sklearn.exceptions.ConvergenceWarning`, by the time limit or an interrupt.

    Raises
    ------
    InvalidInputError
        For unusable data, weights or patterns.

    Examples
    --------
    >>> import numpy as np
    >>> from convexnn import path, pretrain
    >>> X = np.linspace(-1, 1, 30)[:, None]
    >>> y = np.abs(X[:, 0])
    >>> result = path(X, y, pretrain(X, y, hidden_units=5, random_state=0).network, n_lams=5)
    >>> bool((np.diff(result.penalties) >= 0).all() and (result.gaps <= 1e-6).all())
    True
    """
    programs = _Programs(X, y, patterns, regularizer, sample_weight)
    grid = checked_lams(lams) if lams is not None else programs.default_grid(n_lams, lam_ratio)
    if between is not None and not as_number(between, "between") > 10 * options.get("tol", 1e-6):
        raise InvalidInputError(f"between={between!r} was given; expected at least ten times tol")
    run = _Run(programs, options, time.perf_counter())
    try:
        complete = run.solve_all(grid) and (between is None or run.fill(between))
    except KeyboardInterrupt:  # between two solves; a solve that is interrupted ends with what it has
        if not run.points:
            raise
        complete = False
    if not complete:
        warnings.warn(
            f"convexnn: the path was cut short at {len(run.points)} points.", ConvergenceWarning, stacklevel=2
        )
    return run.result()


class _Programs:
    """The program as a function of lam, and the model that competes."""

    def __init__(self, X: ArrayLike, y: ArrayLike, patterns: Any, regularizer: str, sample_weight: Any) -> None:
        if regularizer not in PROGRAMS:
            raise InvalidInputError(f"regularizer must be one of {tuple(PROGRAMS)}, got {regularizer!r}.")
        self.X, self.y, self.sample_weight = X, y, sample_weight
        self.regularizer = regularizer
        self.model: Network | None = None
        if not isinstance(patterns, ActivationPatterns):
            self.model = as_network(patterns)
            patterns = extract(self.model, check_inputs(X))
        self.patterns: ActivationPatterns = patterns

    def at(self, lam: float) -> ConeProgram:
        """Build the program with weight ``lam``."""
        start = None if self.regularizer == "gated" else self.model
        return PROGRAMS[self.regularizer](
            self.X, self.y, self.patterns, lam, sample_weight=self.sample_weight, start=start
        )

    def default_grid(self, n_lams: int, ratio: float) -> Array:
        check_spacing(n_lams, ratio)
        top = lam_max(self.X, self.y, self.patterns, regularizer=self.regularizer, sample_weight=self.sample_weight)
        if top == 0:
            raise InvalidInputError("no lam > 0 gains anything on these targets; give lams to solve all the same")
        return lams_below(top, n_lams, ratio)


@dataclass(frozen=True)
class _Point:
    """A solved program with the line ``loss + lam * penalty`` of its point."""

    lam: float
    program: ConeProgram
    solution: Solution
    loss: float
    penalty: float


class _Run:
    """Points found so far, in order of decreasing lam."""

    def __init__(self, programs: _Programs, options: dict[str, Any], began: float) -> None:
        self.programs, self.began = programs, began
        self.time_limit = options.pop("time_limit", None)
        self.options = options
        self.points: list[_Point] = []

    def solve_all(self, grid: Array) -> bool:
        """Solve from the largest weight down; False when cut short."""
        return all(self.add(float(lam)) for lam in grid)

    def fill(self, between: float) -> bool:
        """Add weights where the certificate between two points is weakest; False when cut short."""
        while len(self.points) < MOST_POINTS:
            current = self.result(decode=False)
            gaps = current.gaps_between
            if len(gaps) == 0 or gaps.max() <= between:
                return True
            worst = int(gaps.argmax())
            if max(current.gaps[worst : worst + 2]) > between or not self.add(float(current.crossings[worst])):
                return False
        return False

    def add(self, lam: float) -> bool:
        """Solve at ``lam`` from the nearest larger weight; False when nothing more should follow."""
        left = self._left()
        if left is not None and left <= 0 and self.points:
            return False
        before = [point for point in self.points if point.lam > lam]
        start = before[-1].solution if before else None
        program = self.programs.at(lam)
        solution = solve(program, start=start, time_limit=None if left is None else max(left, 1e-3), **self.options)
        self.points.insert(len(before), _point(lam, program, solution))
        return solution.status not in ("interrupted", "time_limit")

    def _left(self) -> float | None:
        return None if self.time_limit is None else self.time_limit - (time.perf_counter() - self.began)

    def result(self, *, decode: bool = True) -> RegularizationPath:
        """Let every point compete at every weight."""
        points = [self._best(point) for point in self.points]
        return RegularizationPath(
            lams=np.array([point.lam for point in points]),
            solutions=tuple(point.solution for point in points),
            networks=tuple(point.program.decode(point.solution.z) for point in points if decode),
            losses=np.array([point.loss for point in points]),
            penalties=np.array([point.penalty for point in points]),
            patterns=points[0].program.patterns,
            regularizer=self.programs.regularizer,
        )

    def _best(self, point: _Point) -> _Point:
        """The point with the smallest objective at this weight, re-evaluated with this point's multipliers."""
        z = min(self._candidates(point), key=lambda pair: pair[0])[1]
        if z is point.solution.z:
            return point
        own = point.solution
        proposal = Proposal(z, own.dual, own.status, own.iterations, own.solver, own.notes)
        better = evaluate(point.program, proposal, seconds=own.seconds, tol=self.options.get("tol", 1e-6))
        return _point(point.lam, point.program, better) if better.objective < own.objective else point

    def _candidates(self, point: _Point) -> Iterator[tuple[float, Array]]:
        yield point.solution.objective, point.solution.z
        for other in self.points:
            if other.solution.violation <= point.solution.violation:
                yield other.loss + point.lam * other.penalty, other.solution.z
        if point.program.start is not None:
            yield point.program.objective(point.program.start), point.program.start


def _point(lam: float, program: ConeProgram, solution: Solution) -> _Point:
    terms = program.terms(solution.z, solution.dual)
    return _Point(lam, program, solution, terms["loss"] + terms["ridge"], terms["regularizer"] / lam)

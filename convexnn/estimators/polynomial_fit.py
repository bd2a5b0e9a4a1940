"""What the polynomial estimators have in common: options, scaling, one solved program or one a class."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.program import Solution, relative_gap
from convexnn.restrictions.base import positive
from convexnn.restrictions.polynomial import PolynomialProgram
from convexnn.restrictions.polynomial_metric import metric_around
from convexnn.restrictions.polynomial_multiclass import MulticlassPolynomialProgram
from convexnn.restrictions.polynomial_neurons import network_of
from convexnn.training.data import weighted_scale
from convexnn.training.polynomial import PolynomialTraining, solve_polynomial

Array = NDArray[np.float64]

METHODS = {"column_generation": "column_generation", "sdp": "clarabel"}

ELLIPSOID_NOTE = (
    "linf by an ellipsoid around the box: the objective is an upper bound on the robust one, and the gap is about the "
    "program with this ellipsoid"
)


@dataclass(frozen=True, eq=False)
class Scaling:
    """Inputs ``z = (x - mean) / scale`` of a program, and the metric in which a ball of raw inputs is one of z.

    A raw perturbation is ``scale * dz``, so the ball ``|dx| <= radius`` is ``sum_k scale_k^2 dz_k^2 <= radius^2``.
    """

    mean: Array
    scale: Array

    @classmethod
    def of(cls, X: Array, weight: Array, standardize: bool) -> Scaling:
        """Weighted means and standard deviations of the rows, or nothing at all; constant columns keep their unit."""
        d = X.shape[1]
        return cls(*weighted_scale(X, weight)) if standardize else cls(np.zeros(d), np.ones(d))

    @property
    def metric(self) -> Array | None:
        """Squares of the scales, or None for the Euclidean ball."""
        return None if (self.scale == 1).all() else self.scale**2

    def apply(self, X: Array) -> Array:
        """Scaled inputs, shape (n, d)."""
        scaled: Array = (X - self.mean) / self.scale
        return scaled

    def fold(self, network: Network) -> Network:
        """The network on raw inputs; the same network where nothing was scaled."""
        if not self.mean.any() and (self.scale == 1).all():
            return network
        return network.fold_scaling((self.mean, self.scale))


@dataclass(frozen=True, eq=False)
class Prepared:
    """Training data as the programs take them.

    Attributes
    ----------
    X : array, shape (n, d)
        Distinct rows in canonical order, scaled.
    y, weight : array, shape (n,)
        Class indices or raw targets, and weights that sum to one.
    scaling : Scaling
    box : array, shape (d,), or None
        Half-widths of an linf ball in the coordinates of X; None for an l2 ball or radius 0.
    options : dict
        Arguments that all programs of a fit share.
    """

    X: Array
    y: Array
    weight: Array
    scaling: Scaling
    box: Array | None
    options: dict[str, Any]

    def network(self, z: Array) -> Network:
        """The network of a point, on raw inputs."""
        return self.scaling.fold(network_of(z, self.options["coefficients"]))

    def margins(self, y: Array, n_classes: int, metric: Array | None) -> MulticlassPolynomialProgram:
        """The program of all pairs of classes, with another metric."""
        return MulticlassPolynomialProgram(self.X, y, n_classes=n_classes, **(self.options | {"metric": metric}))


@dataclass(frozen=True)
class SolveOptions:
    """How programs are solved.

    Parameters
    ----------
    method : {"column_generation", "sdp"}
    tol : float
        Relative gap between the objective and the proved lower bound on every network.
    max_iter : int
    time_limit : float or None
        Seconds.
    verbose : int
    """

    method: str
    tol: float
    max_iter: int
    time_limit: float | None
    verbose: int

    def __post_init__(self) -> None:
        """Refuse what cannot be used before any work."""
        if self.method not in METHODS:
            raise InvalidInputError(f"method={self.method!r} was given; expected one of {tuple(METHODS)}")
        if self.time_limit is not None:
            positive(self.time_limit, "time_limit")

    def solve(self, program: PolynomialProgram, box: Array | None) -> PolynomialTraining:
        """Trained network whose gap is global; for an linf ball in the best ellipsoid of several around its box.

        Parameters
        ----------
        program : PolynomialProgram
        box : array, shape (d,), or None
            Half-widths in the coordinates of the program; None for an l2 ball.
        """
        options = {
            "solver": METHODS[self.method],
            "tol": self.tol,
            "max_iter": self.max_iter,
            "verbose": self.verbose,
        }
        deadline = math.inf if self.time_limit is None else time.perf_counter() + self.time_limit
        trained = solve_polynomial(program, box, options, deadline)
        notes = trained.solution.notes if box is None else (*trained.solution.notes, ELLIPSOID_NOTE)
        return replace(trained, solution=replace(trained.solution, notes=notes))

    def shared(self, programs: int, n_jobs: int | None) -> SolveOptions:
        """The same with the time limit shared among several programs."""
        if self.time_limit is None:
            return self
        return replace(self, time_limit=self.time_limit * min(effective_n_jobs(n_jobs), programs) / programs)


def solve_each(
    programs: list[PolynomialProgram], box: Array | None, options: SolveOptions, n_jobs: int | None
) -> Solution:
    """Solution of independent programs, one a class: means of their objectives and bounds, points side by side.

    Parameters
    ----------
    programs : list of PolynomialProgram
        One output each.
    box : array, shape (d,), or None
    options : SolveOptions
        A time limit is shared equally.
    n_jobs : int or None
        As in joblib; the result does not depend on it but for time limits.
    """
    shared = options.shared(len(programs), n_jobs)
    trained = Parallel(n_jobs=n_jobs)(delayed(shared.solve)(program, box) for program in programs)
    scale = math.fsum(program.scale for program in programs) / len(programs)
    return _together([each.solution for each in trained], scale, options.tol)


def _together(solutions: list[Solution], scale: float, tol: float) -> Solution:
    objective = math.fsum(solution.objective for solution in solutions) / len(solutions)
    bound = math.fsum(min(solution.lower_bound, solution.objective) for solution in solutions) / len(solutions)
    gap = relative_gap(objective, bound, scale)
    first_failure = next((solution.status for solution in solutions if not solution.is_optimal), "optimal")
    return Solution(
        z=np.concatenate([solution.z for solution in solutions], axis=1),
        dual=tuple(solution.dual for solution in solutions),
        objective=objective,
        lower_bound=bound,
        gap=gap,
        violation=max(solution.violation for solution in solutions),
        status="optimal" if gap <= tol else first_failure,
        iterations=sum(solution.iterations for solution in solutions),
        seconds=math.fsum(solution.seconds for solution in solutions),
        solver=solutions[0].solver,
        notes=tuple(f"class {c}: {note}" for c, solution in enumerate(solutions) for note in solution.notes),
        scope="global" if gap <= tol else "patterns",
        global_gap=gap,
    )


def robust_classes(pairs: MulticlassPolynomialProgram, z: Array) -> Array:
    """Classes of which some training sample keeps its label over its set, by exact worst cases of the point ``z``.

    With two classes ``z`` may be that of one score, positive for the second class.
    """
    point = np.concatenate([np.zeros_like(z), z], axis=1) if z.shape[1] == 1 else z
    robust = (pairs.margins(point) > 0).all(axis=1)
    return np.unique(pairs.rows.y[robust])


def box_of(radius: float, norm: float, scaling: Scaling) -> tuple[Array | None, Array | None]:
    """Half-widths of the box of an linf ball in scaled coordinates, and the metric of the set that a program uses."""
    if norm == 2 or radius == 0:
        return None, scaling.metric
    box = radius / scaling.scale
    return box, metric_around(box, radius)

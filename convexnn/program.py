"""Programs, what solvers propose for them, and the only writer of published numbers.

A solver hands over a :class:`Proposal`: a point and multipliers, nothing it claims is believed.
:func:`evaluate` recomputes objective, lower bound, gap and violation from the problem data and
writes the :class:`Solution`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.values import ByValue

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]

FEASIBILITY_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Dual(ByValue):
    """Multipliers of a training program, on its distinct rows.

    Parameters
    ----------
    residual : array, shape (n,)
        Multiplier of the prediction equation; ``2 weight (f - y)`` at an optimum.
    rows : array, shape (n, p)
        Multipliers of the cone rows, nonnegative at an optimum.
    matrix : array, shape (K, K), or None
        Positive semidefinite multiplier of the spectral block in the layout of
        :class:`convexnn.structure.JointSpectral` or :class:`convexnn.structure.FixedSpectral`
        (first the ``n_weights`` input coordinates, then the ``p + 1`` rows of B).
    """

    residual: Array
    rows: Array
    matrix: Array | None = None


@dataclass(frozen=True, eq=False)
class PolynomialDual(ByValue):
    """Multipliers of a training program of polynomial networks: slopes of the losses, and random attacks.

    Margin term t is attacked at ``x + delta`` with mean ``shifts[t]`` and covariance
    ``sum_k variances[t, k] u_k u_k'``, the ``u_k`` being the columns of ``directions[groups[t]]``. Any numbers of
    these shapes give a valid lower bound: attacks that are too strong are weakened first.

    Parameters
    ----------
    slopes : array, shape (N,)
        Minus the slope of the loss in each margin term, nonnegative at an optimum; terms and their order are those of
        :class:`convexnn.quadratic.structure.QuadraticStructure`.
    shifts : array, shape (N, d)
        Mean of the attack on each term, raw input units.
    variances : array, shape (N, k), or None
        Nonnegative; None for attacks without a random part.
    directions : array, shape (groups, d, k), or None
        Directions of the variances, for every group of terms.
    groups : array of int, shape (N,), or None
        Which directions belong to a term; None stands for the first ones.
    """

    slopes: Array
    shifts: Array
    variances: Array | None = None
    directions: Array | None = None
    groups: NDArray[np.intp] | None = None


@dataclass(frozen=True, eq=False)
class InteriorPair(ByValue):
    """A strictly interior pair on the way to a solution, from which neighboring programs can be started.

    Parameters
    ----------
    z : array, shape (p, d + 1)
        Strictly inside the cones.
    rows : array, shape (n, p)
        Multipliers of the cone rows.
    cone : tuple of arrays
        Primal and dual variables of the regularizer, as the solver keeps them.
    mu : float
        Point of the path, in the units of the solver.
    weight : float
        Weight of the regularizer.
    unit : float
        The solver's unit of the targets.
    """

    z: Array
    rows: Array
    cone: tuple[Array, ...]
    mu: float
    weight: float
    unit: float


@dataclass(frozen=True, eq=False)
class Proposal(ByValue):
    """What a solver hands over: a point, multipliers if it has any, and how it ended.

    The multipliers are a :class:`Dual`, or a :class:`PolynomialDual` for a program of polynomial networks.
    ``status`` is the solver's own word and is never published as evidence:
    ``"solved"``, ``"max_iter"``, ``"time_limit"``, ``"interrupted"``, ``"stalled"``, ``"inaccurate"`` or ``"failed"``.
    """

    z: Array
    dual: Any
    status: str
    iterations: int
    solver: str
    notes: tuple[str, ...] = ()
    interior: InteriorPair | None = None


@dataclass(frozen=True, eq=False)
class Solution(ByValue):
    """A solved program with recomputed evidence.

    Attributes
    ----------
    z : array
        Primal point, in the program's own variables.
    dual : Dual, PolynomialDual or None
        Multipliers behind ``lower_bound``.
    objective : float
        Value of the program at ``z`` (an upper bound on its optimum when ``violation`` is zero).
    lower_bound : float
        Lower bound on the program's optimum, from ``dual``; ``-inf`` without evidence.
    gap : float
        ``(objective - lower_bound) / scale``; ``inf`` without evidence. It concerns this program with
        these patterns, not training as a whole; programs of polynomial networks have none, so there it does.
    violation : float
        Largest relative violation of a constraint at ``z``; zero when feasible.
    status : str
        ``"optimal"`` when ``gap`` and ``violation`` pass, else the reason why not.
    iterations, seconds, solver
        Of the solver run.
    notes : tuple of str
        What is worth saying: another solver was taken, the optimum is the zero network, ...
    interior : InteriorPair or None
        Where ``solve(neighbor, start=solution)`` takes up the path.
    scope : str
        What the evidence is about: ``"patterns"``, this program only, or ``"global"``, when no network of any width
        is better by more than the tolerance that :func:`with_global_bound` was given.
    global_gap : float
        ``(objective - bound) / scale`` with a lower bound on the training objective of every network; ``inf`` when
        none is known.
    """

    z: Array = field(repr=False)
    dual: Any = field(repr=False)
    objective: float
    lower_bound: float
    gap: float
    violation: float
    status: str
    iterations: int
    seconds: float
    solver: str
    notes: tuple[str, ...] = ()
    interior: InteriorPair | None = field(default=None, repr=False)

    scope: str = "patterns"
    global_gap: float = math.inf

    @property
    def is_optimal(self) -> bool:
        """Whether the recomputed gap and violation passed the tolerance."""
        return self.status == "optimal"


@runtime_checkable
class Program(Protocol):
    """A convex training program: data, patterns and a regularizer, ignorant of solvers."""

    name: str

    @property
    def start(self) -> Array | None:
        """A feasible point, usually the lifted network, or None."""

    @property
    def scale(self) -> float:
        """Objective of the zero network (the variance of the targets): the unit of an absolute gap."""

    def structure(self) -> Any:
        """What a structured solver reads, or None when the program has no such structure.

        A :class:`convexnn.structure.ConeStructure` or a :class:`convexnn.quadratic.structure.QuadraticStructure`.
        """

    def objective(self, z: Array, dual: Any = None) -> float:
        """Value at ``z``; a dual may carry a multiplier that tightens the (always valid) evaluation."""

    def violation(self, z: Array) -> float:
        """Largest relative constraint violation at ``z``, zero when feasible."""

    def lower_bound(self, dual: Any) -> float:
        """Lower bound on the optimum, valid for every ``dual`` of the program's kind."""

    def cvxpy_problem(self) -> cvxpy.Problem:
        """The program as the paper states it, with named variables and labelled constraints."""

    def read_cvxpy(self, problem: cvxpy.Problem) -> tuple[Array, Any]:
        """Point and multipliers of a solved problem made by :meth:`cvxpy_problem`."""

    def lift(self, network: Network) -> Array:
        """The point of the program that represents ``network``."""

    def decode(self, z: Array) -> Network:
        """The network that a point represents."""

    def network_objective(self, network: Network) -> float:
        """The non-convex training objective of a network, by which "never worse" is judged."""


@runtime_checkable
class Remarking(Protocol):
    """A program with something to say about a solved point besides its numbers, such as that it is trivial."""

    def remarks(self, z: Array) -> tuple[str, ...]:
        """One clause each; recomputed from the point."""


def relative_gap(objective: float, lower_bound: float, scale: float) -> float:
    """Gap relative to the objective, or to 1e-6 of the objective of the zero network when that is larger.

    A program whose optimum is zero (constant targets) has no relative gap; the floor gives it one.
    """
    if not (math.isfinite(objective) and math.isfinite(lower_bound)):
        return math.inf
    unit = max(abs(objective), 1e-6 * abs(scale), np.finfo(float).tiny)
    return max(objective - lower_bound, 0.0) / unit


def evaluate(program: Program, proposal: Proposal, *, seconds: float, tol: float = 1e-6) -> Solution:
    """Recompute every published number of a proposal from the problem data.

    Parameters
    ----------
    program : Program
        The program that was solved.
    proposal : Proposal
        A point and multipliers from anywhere.
    seconds : float
        Wall-clock seconds of the solver run.
    tol : float
        Tolerance on the relative gap for the status ``"optimal"``.

    Returns
    -------
    Solution
        With objective, lower bound, gap and violation recomputed here.
    """
    violation = program.violation(proposal.z)
    objective = program.objective(proposal.z, proposal.dual)
    lower = -math.inf if proposal.dual is None else program.lower_bound(proposal.dual)
    gap = relative_gap(objective, lower, program.scale)
    # a bound clearly above the objective is no better evidence than one clearly below it
    contradiction = relative_gap(lower, objective, program.scale)
    passed = gap <= tol and violation <= FEASIBILITY_TOLERANCE and contradiction <= max(tol, FEASIBILITY_TOLERANCE)
    remarks = program.remarks(proposal.z) if isinstance(program, Remarking) else ()
    all_widths = bool(getattr(program, "covers_all_widths", False))  # no patterns: the gap is a global one
    unproved = "inaccurate" if proposal.status in ("solved", "optimal") else proposal.status
    return Solution(
        z=proposal.z,
        dual=proposal.dual,
        objective=objective,
        lower_bound=lower,
        gap=gap,
        violation=violation,
        status="optimal" if passed else unproved,
        iterations=proposal.iterations,
        seconds=seconds,
        solver=proposal.solver,
        notes=(*proposal.notes, *remarks),
        interior=proposal.interior,
        scope="global" if passed and all_widths else "patterns",
        global_gap=gap if all_widths else math.inf,
    )


def global_gap_of(objective: float, bound: float, scale: float) -> float:
    """Relative gap to a global bound; ``inf`` where the bound lies clearly above the objective: that is no evidence."""
    contradicted = relative_gap(bound, objective, scale) > FEASIBILITY_TOLERANCE
    return math.inf if contradicted else relative_gap(objective, bound, scale)


def with_global_bound(solution: Solution, bound: float, *, scale: float, tol: float) -> Solution:
    """Solution that also says how far it is from the best network of any width.

    Parameters
    ----------
    solution : Solution
    bound : float
        Lower bound on the training objective of every network, on the same data and in the same units.
    scale : float
        Objective of the zero network, as :attr:`Program.scale`.
    tol : float
        Relative global gap up to which the scope is ``"global"``.

    Returns
    -------
    Solution
        A bound clearly above the objective contradicts it and counts as none.
    """
    gap = global_gap_of(solution.objective, bound, scale)
    proved = gap <= tol and solution.violation <= FEASIBILITY_TOLERANCE
    return replace(solution, scope="global" if proved else "patterns", global_gap=gap)

"""Column generation over neurons with certified optimality, for programs of polynomial networks.

The variables are the neurons of a network, so every iterate is feasible. A round minimizes the smoothed objective over
the neurons at hand (L-BFGS at first, truncated Newton steps at the end), reads slopes and attacks off the worst cases,
which are a dual point, bounds the optimum by scaling it into ``kappa(G) <= lam``, and adds the neurons that violate
this. Between rounds the network is compressed to the rank of its matrices: a minimum with superfluous neurons is
degenerate, and their weights would fade only like one over the number of steps.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError, SolverError
from convexnn.program import Program, Proposal, Solution
from convexnn.quadratic.structure import QuadraticStructure
from convexnn.solvers.column_generation.barrier import BarrierMethod, Centre, is_easy, is_small
from convexnn.solvers.column_generation.columns import Columns, best_columns
from convexnn.solvers.column_generation.descent import lbfgs
from convexnn.solvers.column_generation.evidence import Incumbent
from convexnn.solvers.column_generation.neurons import Neurons, compressed
from convexnn.solvers.column_generation.newton import NewtonOptions, newton
from convexnn.solvers.column_generation.objective import Evaluation, Objective
from convexnn.solvers.column_generation.starts import first_neurons, neurons_of_point, subsample, unit_of_scores
from convexnn.solvers.column_generation.term_losses import term_loss
from convexnn.solvers.column_generation.worst_cases import WorstCases
from convexnn.solvers.request import check_limits

Array = NDArray[np.float64]
logger = logging.getLogger("convexnn")

#: Iterations of L-BFGS in the first round and in later ones.
FIRST, LATER = 100, 40
#: Numbers in a part of the data from which a large problem starts, rows of it for each input, its gap and its rounds.
LARGE, PART, PART_GAP, PART_ROUNDS = 300_000, 20, 3e-3, 12
#: Newton steps in a round and products in a step.
STEPS, PRODUCTS = 4, 60
#: Excess of the norm of the moments, relative to the tolerance, at which Newton steps end.
ENOUGH = 0.1
#: Neurons that enter in a round, for each class and sign.
COLUMNS = 10
#: Eigenvalues relative to the trace that count as zero when the network is compressed.
RANK_TOLERANCE = 1e-6
#: Excess of the norm of the moments up to which a round counts as solved, and the smoothing is lowered.
SOLVED = 0.01
#: Rounds in vain after which smoothing is raised again.
PATIENCE = 3
#: Factor and least value of the weight of the proximal term.
PROXIMAL_STEP, LEAST_PROXIMAL = 0.3, 0.01
#: Round after which the barrier method is tried where it was not at first.
EARLY = 10
#: Rounds in which the gap must fall by a tenth.
STALL = 25
#: Eigenvalues, relative to the trace, that the network of the barrier method may lose while its gap lasts.
SIMPLER = (1e-3, 1e-4, 1e-5, 1e-6, 1e-8)
#: The unsmoothed gap that the last smoothing may leave, relative to the tolerance.
FINEST = 0.1


@dataclass(frozen=True)
class Limits:
    """When to stop.

    Parameters
    ----------
    tol : float
        Relative gap.
    rounds : int
    deadline : float or None
        On the clock of ``time.perf_counter``.
    """

    tol: float
    rounds: int
    deadline: float | None

    def passed(self) -> bool:
        """Whether the deadline is over."""
        return self.deadline is not None and time.perf_counter() >= self.deadline


def solve_column_generation(
    program: Program,
    *,
    tol: float = 1e-6,
    max_iter: int = 200,
    time_limit: float | None = None,
    start: Array | Solution | None = None,
    verbose: int = 0,
) -> Proposal:
    """Solve a program of polynomial networks by column generation over neurons.

    Parameters
    ----------
    program : Program
        Its structure must be a :class:`convexnn.quadratic.structure.QuadraticStructure`.
    tol : float
        Relative gap to stop at.
    max_iter : int
        Rounds.
    time_limit : float or None
        Seconds.
    start : array, shape (2, C, d + 1, d + 1), Solution or None
        Point to start from instead of ``program.start``; zero stands for none.
    verbose : int
        1 logs a line a round.

    Returns
    -------
    Proposal
        With a dual point. Its status is "solved", "max_iter", "time_limit", "interrupted", "stalled" or
        "numerical_trouble".

    Raises
    ------
    SolverError
        When the program offers no such structure.
    """
    check_limits(tol, max_iter, time_limit)
    structure = program.structure()
    if not isinstance(structure, QuadraticStructure):
        raise SolverError(
            f"column_generation needs the structure of a polynomial program, which {program.name!r} has not; "
            "solver='auto' finds one that fits"
        )
    deadline = None if time_limit is None else time.perf_counter() + time_limit
    point = program.start if start is None else start
    z = np.asarray(point.z if isinstance(point, Solution) else point, dtype=float)
    run = Run(structure, Limits(tol, max_iter, deadline), verbose)
    return run.solve(neurons_of_point(z) if z.shape == structure.z_shape and z.any() else None)


class Run:
    """One call of the solver."""

    def __init__(self, structure: QuadraticStructure, limits: Limits, verbose: int) -> None:
        self.structure, self.limits, self.verbose = structure, limits, verbose
        self.worst = WorstCases(structure)
        self.mu = 0.3
        self.loss = term_loss(structure, self.mu)
        self.objective = Objective(self.worst, self.loss)
        self.scale = structure.loss_value(np.zeros(structure.n_terms))
        self.objective.smoothing = 1e-3 * unit_of_scores(structure) / (structure.n_features + 1)
        nothing = Neurons(np.zeros((0, structure.n_features)), np.zeros(0, np.intp), np.zeros(0), structure.n_classes)
        self.best = Incumbent(nothing)
        self.best.offer_point(nothing, self.scale)
        self.rounds = 0
        self.unsolved, self.sharpened, self.warm = 0, False, False
        self.gaps: list[float] = []
        self.tried, self.steps = False, 0

    def solve(self, start: Neurons | None) -> Proposal:
        """Rounds until the gap, a limit or the user ends them."""
        try:
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # data at the ends of the range
                status = self._solve(start)
        except KeyboardInterrupt:
            status = "interrupted"
        except (ArithmeticError, np.linalg.LinAlgError, InvalidInputError):  # the same: what was found before it counts
            status = "numerical_trouble"
        return Proposal(
            self.best.neurons.point(), self.best.dual, status, self.rounds + self.steps, "column_generation"
        )

    def _solve(self, start: Neurons | None) -> str:
        if self._zero_is_best():
            return "solved"
        if start is None and is_easy(self.worst):
            if self._central():
                return "solved"
            start = self._resumed()
        neurons = self._start() if start is None else start
        self.warm = self.warm or start is not None
        if self.warm:
            self._offer(neurons)
        for index in range(1, self.limits.rounds + 1):
            self.rounds = index
            at = self._round(neurons)
            columns = best_columns(at.G, self.structure.lam, COLUMNS)
            self.best.offer_dual(self.worst, at.slopes, columns.norm)
            self._offer(at.neurons)
            self._log(at, columns)
            self.gaps.append(self.best.gap)
            if self.best.gap <= self.limits.tol:
                return "solved"
            if self.limits.passed():
                return "time_limit"
            neurons = self._following(at, columns)
            if self._stalled() or index == EARLY:
                fresh = not self.tried and is_small(self.worst)
                if self._central():
                    return "solved"
                if self._stalled():
                    return "stalled"
                neurons = self._resumed() or neurons if fresh else neurons
        return "max_iter"

    def _central(self) -> bool:
        """Whether the barrier method closes the gap, tried once where it is affordable."""
        if self.tried or not is_small(self.worst):
            return False
        self.tried = True
        self.gaps = []
        method = BarrierMethod(WorstCases(self.structure))

        def accept(at: Centre) -> bool:
            self.steps += 1
            self.best.offer_dual(method.worst, at.bent.slopes, best_columns(at.G, self.structure.lam, 0).norm)
            self._offer(neurons_of_point(at.Z))
            return self.best.gap <= self.limits.tol

        status = method.run(self.limits.rounds, accept, self.limits.passed)
        if status == "solved":
            self._simplify()
        return status == "solved"

    def _resumed(self) -> Neurons | None:
        """The best network without what is too small to matter, to go on from."""
        return compressed(self.best.neurons, RANK_TOLERANCE) if len(self.best.neurons.P) else None

    def _simplify(self) -> None:
        """The network with the fewest neurons that keeps the gap: the barrier leaves small ones."""
        for tolerance in SIMPLER:
            neurons = compressed(self.best.neurons, tolerance)
            objective = self._objective(neurons)
            if objective - self.best.lower_bound <= self.limits.tol * objective:
                self.best.neurons, self.best.objective = neurons, objective
                return

    def _start(self) -> Neurons:
        """Neurons for the whole data from a part of it where there is much, else random ones."""
        structure = self.structure
        rows, size = len(structure.X), max(PART * structure.n_features, int(LARGE / structure.n_features))
        if structure.n_terms * structure.n_features > 2 * LARGE and rows > 3 * size:
            limits = Limits(max(10 * self.limits.tol, PART_GAP), PART_ROUNDS, self.limits.deadline)
            part = Run(subsample(structure, size), limits, self.verbose)
            part.solve(None)
            if len(part.best.neurons.P):
                self.warm, self.objective.smoothing = True, part.objective.smoothing
                self.mu = part.mu
                return part.best.neurons
        return first_neurons(self.worst, structure.n_features + 1)

    def _zero_is_best(self) -> bool:
        """Offer dual points of the zero network, whose gap is zero when no neuron lowers the objective."""
        slopes = self.structure.term_slope(-self.structure.offset)
        self.worst.rest()
        G = self.worst.moments(self.structure.share * slopes)
        self.best.offer_dual(self.worst, slopes, best_columns(G, self.structure.lam, 1).norm)
        if self.structure.radius > 0:
            self.best.offer_origin(self.structure)
        return self.best.gap <= self.limits.tol

    def _round(self, neurons: Neurons) -> Evaluation:
        first = self.rounds == 1 and not self.warm
        at = self.objective.evaluate(neurons)
        if self.rounds == 1 and self.warm:
            self.loss.advance(at.slopes, self.mu)
            at = self.objective.evaluate(neurons)
        at = lbfgs(self.objective, at, FIRST if first else LATER, self.limits.passed)
        if not first:
            size = max(float(np.linalg.norm(at.neurons.P)), 1e-150)
            options = NewtonOptions(1e-3 * self.limits.tol * at.value / size, STEPS, PRODUCTS)
            at = newton(self.objective, at, options, self._enough, self.limits.passed)
        return at

    def _enough(self, at: Evaluation) -> bool:
        """Whether the norm of the moments exceeds lam by little against the tolerance."""
        return best_columns(at.G, self.structure.lam, 0).norm <= (1.0 + ENOUGH * self.limits.tol) * self.structure.lam

    def _offer(self, neurons: Neurons) -> None:
        self.best.offer_point(neurons, self._objective(neurons))

    def _objective(self, neurons: Neurons) -> float:
        penalty = self.structure.lam * float(np.einsum("ij,ij->", neurons.P, neurons.P))
        return self.structure.loss_value(self.worst.exact(neurons.matrices())) + penalty

    def _following(self, at: Evaluation, columns: Columns) -> Neurons:
        """Compressed network with the new neurons; smoothing lowered where the round was solved."""
        if columns.norm <= (1.0 + SOLVED) * self.structure.lam:
            self._sharpen(at)
        else:
            self._blur()
        neurons = compressed(at.neurons, RANK_TOLERANCE)
        if len(columns.units) == 0:
            return neurons
        typical = (
            float(np.median(neurons.norms)) if len(neurons.P) else 0.1 * float(np.sqrt(self.scale / self.structure.lam))
        )
        return neurons.joined(0.02 * typical * columns.units, columns.classes, columns.signs)

    def _stalled(self) -> bool:
        """Whether the gap has hardly moved in many rounds."""
        return len(self.gaps) > STALL and self.gaps[-1] > 0.9 * self.gaps[-1 - STALL]

    def _sharpen(self, at: Evaluation) -> None:
        self.sharpened = True
        mass = float(self.structure.share @ np.where(at.slopes > 0, np.maximum(at.slopes, self.loss.kink), 0.0))
        allowed = FINEST * self.limits.tol * self.best.objective / (self.structure.n_features + 1)
        finest = allowed / max(mass, 1e-300)
        self.objective.smoothing *= min(max(0.1, finest / self.objective.smoothing), 1.0)
        self.mu = max(PROXIMAL_STEP * self.mu, LEAST_PROXIMAL)
        self.loss.advance(at.slopes, self.mu)
        self.unsolved = 0

    def _blur(self) -> None:
        """More smoothing after some rounds in vain: it was lowered too fast."""
        self.unsolved += 1
        if self.unsolved > PATIENCE and self.sharpened:
            self.unsolved = 0
            self.objective.smoothing *= 5.0
            self.mu = min(3.0 * self.mu, 0.3)
            self.loss.weigh(self.mu)

    def _log(self, at: Evaluation, columns: Columns) -> None:
        if self.verbose:
            logger.info(
                "column_generation %3d  objective %.8g  bound %.8g  gap %.1e  norm %.5f  neurons %d  smoothing %.0e",
                self.rounds,
                self.best.objective,
                self.best.lower_bound,
                self.best.gap,
                columns.norm / self.structure.lam,
                len(at.neurons.P),
                self.objective.smoothing,
            )

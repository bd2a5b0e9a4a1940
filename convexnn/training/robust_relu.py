"""Convex adversarial training of a ReLU network, from a network and never worse than it by the certified objective.

A round improves the slopes of the certified margins at the network (row by row), then solves the convex program with
these slopes; both steps lower one and the same certified worst-case loss (docs/theory/robust_relu.md).
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import class_indices
from convexnn.losses import MarginLoss
from convexnn.network import Network, as_network
from convexnn.patterns import ActivationPatterns, extract, sample
from convexnn.program import Solution, evaluate
from convexnn.restrictions.robust_relu import RobustRelu
from convexnn.restrictions.robust_relu_margins import certified_margins
from convexnn.restrictions.units import hidden
from convexnn.restrictions.vector_units import (
    classwise_dictionary,
    joined,
    lengths_and_directions,
    outer_weights,
)
from convexnn.threads import one_thread
from convexnn.training.options import require_count, require_number
from convexnn.training.robust_relu_slopes import improved_slopes
from convexnn.training.robust_relu_solver import RobustSolver
from convexnn.training.stage import TrainingStage
from convexnn.training.starting import resolve_device

Array = NDArray[np.float64]

_LOGGER = logging.getLogger("convexnn")

#: After a round that lowers the objective by less than this share one more is made, with all inner minimizations.
LAST_GAIN = 3e-3
#: Share of the inner minimizations that the other rounds get.
QUICK = 0.25
#: Operations of a product of all rows up to which threads cost more than they bring.
SMALL = 10_000_000


@dataclass(frozen=True)
class RobustReluOptions:
    """Settings of :func:`train_robust_relu`.

    Parameters
    ----------
    radius : float, default=0.1
        Of the ball in which samples are to keep their class, raw input units; 0 is plain training.
    norm : {2, inf}, default=2
        Of the attack.
    lam : float, default=1e-3
        Weight of ``2 sum_i |v_i| |(w_i, b_i)|``, raw units; positive.
    loss : str, default="squared_hinge"
        "hinge", "squared_hinge" or "logistic" of the certified margins, averaged over the rivals.
    sample_weight : array-like, shape (n,), optional
    n_patterns : int, default=0
        Patterns sampled on top of those of the network, each with every output direction ``+-e_c`` (``+-1`` with one
        output).
    rounds : int, default=8
        Largest number of convex programs, each with slopes improved at the last network; all but the last get a quarter
        of the inner minimizations.
    tol : float, default=1e-3
        Verified relative gap of the convex programs.
    max_iter : int, default=30
        Inner minimizations of a program, of 40 iterations.
    time_limit : float, optional
        Seconds; the best network so far is returned with status "time_limit".
    device : str, default="cpu"
        Torch device of the heavy work; "auto" takes a GPU where there is one.
    dtype : {"float64", "float32"}
        Of the heavy work. Everything published is float64 whatever this says.
    random_state : int, Generator, RandomState or None
        Of the sampled patterns.
    verbose : int, default=0
        1 logs a line a stage to the logger ``convexnn`` at level INFO.
    """

    radius: float = 0.1
    norm: Any = 2
    lam: float = 1e-3
    loss: str | MarginLoss = "squared_hinge"
    sample_weight: Any = None
    n_patterns: int = 0
    rounds: int = 8
    tol: float = 1e-3
    max_iter: int = 30
    time_limit: float | None = None
    device: str = "cpu"
    dtype: str = "float64"
    random_state: Any = None
    verbose: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot be carried out; the others are checked with the data."""
        require_count("n_patterns", self.n_patterns, least=0)
        require_count("rounds", self.rounds, least=0)
        require_count("max_iter", self.max_iter, least=1)
        require_number("tol", self.tol, positive=True)
        require_number("radius", self.radius)
        require_number("lam", self.lam)
        if self.time_limit is not None:
            require_number("time_limit", self.time_limit)
        if self.dtype not in ("float32", "float64"):
            raise InvalidInputError(f"dtype must be 'float32' or 'float64', got {self.dtype!r}.")


@dataclass(frozen=True, eq=False)
class RobustTraining:
    """Outcome of :func:`train_robust_relu`.

    Attributes
    ----------
    network : Network
        A true ReLU network, never worse than the one that was given.
    before, after : float
        Certified objective of the given and of the returned network: upper bounds on their worst-case losses plus
        ``2 lam sum_i |v_i| |(w_i, b_i)|``, recomputed in float64 with margins rounded down.
    solution : Solution or None
        Of the last convex program that was solved; its gap concerns these units' output directions and slopes.
    history : tuple of TrainingStage
        Of the stages "start", "slopes" and "convex"; objectives in it never rise.
    status : str
        "finished", "trivial" (the constant network is optimal: the radius or lam is too large for anything else),
        "time_limit" or "interrupted".
    margins : array, shape (n,)
        Smallest certified margin of every row of X over its ball and its rivals; where positive, no attack within the
        radius changes the prediction from the label.
    seconds : float
    """

    network: Network
    before: float
    after: float
    solution: Solution | None
    history: tuple[TrainingStage, ...] = field(repr=False)
    status: str
    margins: Array = field(repr=False)
    seconds: float

    @property
    def is_trivial(self) -> bool:
        """Whether the network is constant."""
        return not (outer_weights(self.network).any(axis=1) & hidden(self.network).any(axis=1)).any()


def train_robust_relu(
    network: Any, X: ArrayLike, y: ArrayLike, options: RobustReluOptions | None = None
) -> RobustTraining:
    """Train a ReLU classifier against every attack of a ball, by convex programs with certified margins.

    Minimizes ``1/(k-1) sum_j om_j sum_{b != y_j} l(m_jb) + 2 lam sum_i |v_i| |(w_i, b_i)|``, where ``m_jb`` is a
    certified lower bound on ``f_{y_j} - f_b`` over the ball around row j. Output directions of the units are those of
    the given network and of the sampled patterns.

    Implements: Kuelbs, Lall & Pilanci (2024), program (15), without its constraints (docs/theory/robust_relu.md).

    Parameters
    ----------
    network : Network or any model that ``as_network`` takes
        One hidden ReLU layer; the start, and never better than the result.
    X : array-like, shape (n, d)
    y : array-like of int, shape (n,)
        Class indices 0 to k - 1; with one output, which is positive for class 1, 0 or 1.
    options : RobustReluOptions, optional

    Returns
    -------
    RobustTraining
        Ctrl-C and time limits return the best network so far.

    Raises
    ------
    InvalidInputError
        For data, labels or settings that cannot be used.
    UnsupportedModelError
        For a network of another kind.
    """
    run = _Run(as_network(network), X, y, RobustReluOptions() if options is None else options)
    with one_thread(run.is_small):
        return run.result()


class _Run:
    """The best point so far, the program it belongs to, and what happened."""

    def __init__(self, network: Network, X: ArrayLike, y: ArrayLike, options: RobustReluOptions) -> None:
        self.began, self.options = time.perf_counter(), options
        limit = options.time_limit
        self.deadline = math.inf if limit is None else self.began + limit
        self.program, self.z = _program(network, X, _labels(y, network.n_outputs), options)
        self.history = [TrainingStage("start", self.program.objective(self.z), True, self.seconds)]
        self.solution: Solution | None = None
        self.device = resolve_device(options.device)
        # whether a product of rows, rivals, units and inputs is too small to gain from threads
        units = self.program.unpack(self.z)[0].size
        self.is_small = self.device == "cpu" and len(self.program.terms.rows) * units <= SMALL

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def is_late(self) -> bool:
        return time.perf_counter() >= self.deadline

    @property
    def value(self) -> float:
        """The objective that was noted last; an interrupt before it is noted leaves the point with a larger one."""
        return self.history[-1].objective

    def result(self) -> RobustTraining:
        status, before = "finished", self.history[-1].objective
        try:
            if not self.is_late:
                self._improve_slopes()
            before = self.value
            self._rounds()
            status = "time_limit" if self.is_late else "finished"
        except KeyboardInterrupt:
            status = "interrupted"
        try:
            return self._finished(before, status)
        except KeyboardInterrupt:
            return self._finished(before, "interrupted")

    def _rounds(self) -> None:
        """Quick convex programs with better slopes after each while that pays, then a thorough one."""
        quick = max(1, round(QUICK * self.options.max_iter))
        for left in reversed(range(self.options.rounds)):
            value = self.value
            self._round(quick if left else self.options.max_iter)
            if left and value - self.value <= LAST_GAIN * abs(value):
                self._round(self.options.max_iter)
                return

    def _round(self, max_iter: int) -> None:
        """A convex program and better slopes for what it found; nothing once the time is over."""
        if not self.is_late:
            self._solve(max_iter)
        if not self.is_late:
            self._improve_slopes()

    def _solve(self, max_iter: int) -> None:
        began = time.perf_counter()
        options = self.options
        solver = RobustSolver(options.tol, max_iter, self.deadline, self.device, options.dtype)
        proposal = solver.solve(self.program, self.z)
        solution = evaluate(self.program, proposal, seconds=time.perf_counter() - began, tol=options.tol)
        self.solution = solution
        if solution.objective < self.value:
            self.z = solution.z
        self._note("convex", min(solution.objective, self.value))
        if solution.status == "interrupted":
            raise KeyboardInterrupt

    def _improve_slopes(self) -> None:
        U, c = self.program.unpack(self.z)
        slopes = improved_slopes(
            self.program.terms, U, c, device=self.device, dtype=self.options.dtype, deadline=self.deadline
        )
        program = self.program.with_slopes(slopes)
        value = program.objective(self.z)
        if value < self.value:
            self.program = program
        self._note("slopes", min(value, self.value))

    def _note(self, stage: str, value: float) -> None:
        accepted = value < self.value
        self.history.append(TrainingStage(stage, value, accepted, self.seconds))
        if self.options.verbose:
            _LOGGER.info("%s: certified objective %.6g", stage, value)

    def _finished(self, before: float, status: str) -> RobustTraining:
        if status == "finished" and not self.program.unpack(self.z)[0].any():
            status = "trivial"
        terms = self.program.terms
        margins = certified_margins(terms, *self.program.unpack(self.z))
        worst = np.full(len(terms.X), np.inf)
        np.minimum.at(worst, terms.rows, margins)
        return RobustTraining(
            self.program.decode(self.z),
            before,
            self.value,
            self.solution,
            tuple(self.history),
            status,
            self.program.to_rows(worst),
            self.seconds,
        )


def _labels(y: ArrayLike, n_outputs: int) -> Array:
    """Labels of the program: -1 / +1 from the classes 0 and 1 with one output, else class indices."""
    labels = class_indices(y, n_outputs, present=2)
    values: Array = labels.astype(np.float64)
    return 2.0 * values - 1 if n_outputs == 1 else values


def _program(network: Network, X: ArrayLike, y: Array, options: RobustReluOptions) -> tuple[RobustRelu, Array]:
    """Program at the units of a network, sampled ones after them, and the point that is the network."""
    lengths, directions = lengths_and_directions(outer_weights(network))
    units, patterns = lengths[:, None] * hidden(network), ActivationPatterns(extract(network, X).D)
    dictionary = (patterns, directions)
    if options.n_patterns:
        extra = sample(X, options.n_patterns, signs=1, random_state=options.random_state)
        dictionary = joined(dictionary, classwise_dictionary(extra, network.n_outputs))
    program = RobustRelu(
        X,
        y,
        dictionary[0],
        options.lam,
        options.radius,
        norm=options.norm,
        loss=options.loss,
        directions=dictionary[1],
        sample_weight=options.sample_weight,
    )
    U = np.zeros((program.terms.n_units, program.terms.n_inputs + 1))
    U[: len(units)] = units
    return program, program.pack(U, np.asarray(network.layers[-1][1]))

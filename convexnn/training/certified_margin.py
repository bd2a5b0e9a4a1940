"""Certified-margin training of classifiers: a loss that is its own certificate, from a network and never worse than it.

Gradient steps on all weights propose; every network that is kept has a lower objective with its Lipschitz bounds
certified anew (docs/theory/certified_margin.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.attacks.registry import as_seed
from convexnn.exceptions import InvalidInputError, SolverError
from convexnn.network import Network, as_network
from convexnn.program import FEASIBILITY_TOLERANCE, Solution
from convexnn.restrictions.certified_margin import CertifiedMargin
from convexnn.restrictions.certified_margin_terms import MarginTerms
from convexnn.solvers import solve
from convexnn.solvers._margin_descent import Layers, MarginDescent, Schedule, random_layers
from convexnn.training.certified_margin_scaling import rescaled
from convexnn.training.options import require_count, require_number

Array = NDArray[np.float64]

#: Size of the convex program up to which it is solved after the descent: entries of all its matrix inequalities.
SMALL_PROGRAM = 20_000
#: Share of the steps after which the better of two descents goes on alone.
TRIAL = 0.25


@dataclass(frozen=True)
class MarginOptions:
    """Settings of :func:`train_certified_margin`.

    Parameters
    ----------
    radius : float, default=0.1
        Of the ball in which samples are to keep their class, raw input units; 0 is plain margin training.
    norm : {2, inf}, default=2
        Of the ball.
    lam : float, default=0.0
        Weight of ``2 sum_i |v_i| |(w_i, b_i)|``, raw units.
    loss : str, default="squared_hinge"
        "hinge", "squared_hinge" or "logistic", of the certified margin, averaged over the rivals.
    sample_weight : array-like, shape (n,), optional
    tol : float, default=1e-5
        Relative gap asked of the convex program where that is solved.
    max_iter : int, default=2000
        Gradient steps in all.
    learning_rate : float, default=0.01
        First step size, in coordinates where inputs have unit size.
    fresh_start : bool, default=True
        Also descend from random units (as many as the network has) for a quarter of the steps, and go on with whichever
        is better: a network trained without a margin may be a poor place to start.
    convex : "auto" or bool, default="auto"
        Solve the convex program at the patterns of the last network; "auto" where that is small.
    time_limit : float, optional
        Seconds; the best network so far is returned with status "time_limit".
    device : str, default="auto"
        Accepted for the sake of the other trainers; everything here runs in numpy on the CPU.
    random_state : int, Generator, RandomState or None
    verbose : int, default=0
        1 logs a line a stage to the logger ``convexnn`` at level INFO.
    """

    radius: float = 0.1
    norm: Any = 2
    lam: float = 0.0
    loss: Any = "squared_hinge"
    sample_weight: Any = None
    tol: float = 1e-5
    max_iter: int = 2000
    learning_rate: float = 0.01
    fresh_start: bool = True
    convex: bool | str = "auto"
    time_limit: float | None = None
    device: str = "auto"
    random_state: Any = None
    verbose: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot be carried out; the others are checked with the data."""
        require_count("max_iter", self.max_iter, least=0)
        require_number("learning_rate", self.learning_rate, positive=True)
        require_number("tol", self.tol, positive=True)
        if self.time_limit is not None:
            require_number("time_limit", self.time_limit)
        if self.convex not in (True, False, "auto"):
            raise InvalidInputError(f"convex must be True, False or 'auto', got {self.convex!r}.")


@dataclass(frozen=True)
class MarginStage:
    """One network that was looked at.

    Attributes
    ----------
    stage : str
        "start", "rescaled", "descent", "fresh descent" or "convex".
    objective : float
        Of the best network after it, with certified bounds; never rises.
    accepted : bool
        Whether this network became the best one.
    seconds : float
        Since the beginning.
    """

    stage: str
    objective: float
    accepted: bool
    seconds: float


@dataclass(frozen=True, eq=False)
class MarginTraining:
    """Outcome of :func:`train_certified_margin`.

    Attributes
    ----------
    network : Network
        Never worse than the network that was given.
    before, after : float
        Certified-margin objective of the given and of the returned network: upper bounds on their robust losses.
    solution : Solution or None
        Of the convex program at the patterns of the last network, where it was solved: its gap concerns these patterns
        and output directions.
    history : tuple of MarginStage
        Objectives in it never rise.
    status : str
        "finished", "time_limit" or "interrupted".
    bounds : array, shape (P,)
        Certified Lipschitz bounds of the margins of ``network``, in the order of ``pairs``.
    pairs : array of int, shape (P, 2)
        Classes (a, b) of the bounds.
    seconds : float
    """

    network: Network
    before: float
    after: float
    solution: Solution | None
    history: tuple[MarginStage, ...] = field(repr=False)
    status: str
    bounds: Array = field(repr=False)
    pairs: NDArray[np.intp] = field(repr=False)
    seconds: float

    @property
    def is_trivial(self) -> bool:
        """Whether the network is constant: the radius is so large that nothing better was found."""
        return not (self.bounds > 0).any()


def train_certified_margin(
    network: Any, X: ArrayLike, y: ArrayLike, options: MarginOptions | None = None
) -> MarginTraining:
    """Train a classifier so that its margins hold on balls around the samples, with certified Lipschitz bounds.

        minimize  1/(k-1) sum_j om_j sum_{b != y_j} l( (f_{y_j} - f_b)(x_j) - radius L_{y_j b} ) + lam R(f)

    over all weights of a shallow ReLU network with as many units as the given one. The objective bounds the robust loss
    from above for every network on the way, and the returned one has the lowest that was certified.

    Parameters
    ----------
    network : Network or any model that ``as_network`` takes
        One hidden ReLU layer; the start, and never better than the result.
    X : array-like, shape (n, d)
    y : array-like of int, shape (n,)
        Class indices 0 to k - 1; with one output, which is positive for class 1, 0 or 1.
    options : MarginOptions, optional

    Returns
    -------
    MarginTraining
        Ctrl-C and time limits return the best network so far.

    Raises
    ------
    InvalidInputError
        For data, labels or settings that cannot be used.
    UnsupportedModelError
        For a network of another kind.
    """
    return _Run(network, X, y, MarginOptions() if options is None else options).result()


class _Run:
    """The best network so far, and what happened."""

    def __init__(self, network: Any, X: ArrayLike, y: ArrayLike, options: MarginOptions) -> None:
        self.began, self.options = time.perf_counter(), options
        start = as_network(network)
        self.terms = MarginTerms.of(
            X,
            y,
            start.n_outputs,
            radius=options.radius,
            norm=options.norm,
            lam=options.lam,
            loss=options.loss,
            sample_weight=options.sample_weight,
        )
        self.network = self.terms.checked(start)
        self.before = self.best = self.terms.objective(self.network)
        self.history = [MarginStage("start", self.best, True, self.seconds)]
        self.solution: Solution | None = None
        self.seed = as_seed(options.random_state)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def is_late(self) -> bool:
        limit = self.options.time_limit
        return limit is not None and self.seconds >= limit

    def result(self) -> MarginTraining:
        status = "finished"
        try:
            for stage, network, factors in self._proposals():
                self._consider(stage, network, factors)
                if self.is_late:
                    status = "time_limit"
                    break
        except KeyboardInterrupt:
            status = "interrupted"
        bounds = self.terms.bounds(self.network.W, self.network.layers[-1][0]).upper
        return MarginTraining(
            self.network,
            self.before,
            self.best,
            self.solution,
            tuple(self.history),
            status,
            bounds,
            self.terms.members,
            self.seconds,
        )

    def _consider(self, stage: str, network: Network, factors: Array | None) -> None:
        """Keep a network whose certified objective is lower."""
        value = self.terms.objective(network, factors)
        accepted = value < self.best
        if accepted:
            self.network, self.best = network, value
        self.history.append(MarginStage(stage, self.best, accepted, self.seconds))
        if self.options.verbose:
            import logging

            logging.getLogger("convexnn").info("%s: %.6g, best %.6g", stage, value, self.best)

    # -- proposals ----------------------------------------------------------------------------------
    def _proposals(self) -> Iterator[tuple[str, Network, Array | None]]:
        yield "rescaled", rescaled(self.terms, self.network), None
        yield from self._descents()
        if self._wants_convex():
            program = CertifiedMargin.at(self.network, *self._data(), **self._settings())
            network = self._solved(program)
            if network is not None:
                yield "convex", network, None

    def _descents(self) -> Iterator[tuple[str, Network, Array | None]]:
        options = self.options
        if options.max_iter == 0 or self.terms.rows.X.shape[1] == 0:
            return
        steps, layers = options.max_iter, _layers(self.network)
        plan = Schedule(steps, options.learning_rate)
        if options.fresh_start:
            trial = max(1, round(TRIAL * steps / 2))
            rivals = {"descent": layers, "fresh descent": self._fresh()}
            ends = {}
            for stage, first in rivals.items():
                for proposal in self._descent(stage, first, replace(plan, steps=trial)):
                    yield proposal
                    ends[stage] = self.terms.objective(proposal[1], proposal[2])
            better = min(ends, key=lambda stage: ends[stage]) if ends else "descent"
            layers, plan = rivals[better], replace(plan, steps=max(1, steps - 2 * trial))
            yield from self._descent(better, layers, plan)
        else:
            yield from self._descent("descent", layers, plan)

    def _fresh(self) -> Layers:
        return random_layers(self.terms, self.network.n_hidden[0], self.seed)

    def _descent(self, stage: str, layers: Layers, plan: Schedule) -> Iterator[tuple[str, Network, Array | None]]:
        limit = self.options.time_limit
        deadline = math.inf if limit is None else self.began + limit
        descent = MarginDescent(self.terms, layers, plan, self.seed, deadline)
        for W, b, V, c in descent.run():
            yield stage, Network.shallow(W, b, V, c), descent.factors

    # -- the convex program -------------------------------------------------------------------------
    def _wants_convex(self) -> bool:
        if self.options.convex != "auto":
            return bool(self.options.convex)
        size = self.terms.rows.X.shape[1] + self.network.n_hidden[0] + 1
        rows = len(self.terms.labels) * self.network.n_hidden[0]
        return len(self.terms.members) * size**2 + rows <= SMALL_PROGRAM

    def _data(self) -> tuple[Array, NDArray[np.intp]]:
        return self.terms.rows.X, self.terms.labels

    def _settings(self) -> dict[str, Any]:
        t = self.terms
        return {
            "radius": t.radius,
            "norm": t.norm,
            "lam": t.lam,
            "loss": t.loss,
            "sample_weight": t.rows.weight,
        }

    def _solved(self, program: CertifiedMargin) -> Network | None:
        left = None if self.options.time_limit is None else self.options.time_limit - self.seconds
        try:
            solution = solve(program, solver="clarabel", tol=self.options.tol, time_limit=left)
        except SolverError:
            return None
        self.solution = solution
        if solution.status == "interrupted":
            raise KeyboardInterrupt
        return program.decode(solution.z) if solution.violation <= FEASIBILITY_TOLERANCE else None


def _layers(network: Network) -> Layers:
    (W, b), (V, c) = network.layers
    return np.array(W), np.array(b), np.array(V), np.array(c)

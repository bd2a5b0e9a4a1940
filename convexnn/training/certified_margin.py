"""Certified-margin training of classifiers: a loss that is its own certificate, from a network and never worse than it.

Gradient steps on all weights propose; every network that is kept has a lower objective with its Lipschitz bounds
certified anew (docs/theory/certified_margin.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.attacks.registry import as_seed
from convexnn.exceptions import SolverError
from convexnn.network import Network, as_network
from convexnn.patterns import ActivationPatterns, sample
from convexnn.program import FEASIBILITY_TOLERANCE, Solution
from convexnn.restrictions.certified_margin import CertifiedMargin
from convexnn.restrictions.certified_margin_terms import MarginTerms
from convexnn.restrictions.vector_units import classwise_dictionary, dictionary_at, joined
from convexnn.solvers import solve
from convexnn.solvers._margin_descent import Layers, MarginDescent, Schedule, random_layers
from convexnn.training.certified_margin_scaling import constant, rescaled
from convexnn.training.certified_margin_values import MarginOptions, MarginTraining
from convexnn.training.stage import TrainingStage

Array = NDArray[np.float64]

__all__ = ["MarginOptions", "MarginTraining", "train_certified_margin"]

#: Size of the convex program up to which it is solved after the descent: entries of all its matrix inequalities.
SMALL_PROGRAM = 8_000
#: Units below this share of the largest one count as zero in a solution of the convex program.
DEAD = 1e-9
#: Share of the steps after which the better of two descents goes on alone.
TRIAL = 0.25


def train_certified_margin(
    network: Any, X: ArrayLike, y: ArrayLike, options: MarginOptions | None = None
) -> MarginTraining:
    """Train a classifier so that its margins hold on balls around the samples, with certified Lipschitz bounds.

        minimize  1/(k-1) sum_j om_j sum_{b != y_j} l( (f_{y_j} - f_b)(x_j) - radius L_{y_j b} ) + lam R(f)

    over all weights of a shallow ReLU network with as many units as the given one (more with ``extra_patterns``). The
    objective bounds the robust loss from above for every network on the way, and the returned one has the lowest that
    was certified.

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
        self.history = [TrainingStage("start", self.best, True, self.seconds)]
        self.last = self.best
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
        try:
            return self._finished(status)
        except KeyboardInterrupt:
            return self._finished("interrupted")

    def _finished(self, status: str) -> MarginTraining:
        bounds = self.terms.bounds(self.network.W, self.network.layers[-1][0]).upper
        if status == "finished" and not bounds.any():
            status = "trivial"
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
        self.last = value = self.terms.objective(network, factors)
        row = TrainingStage(stage, min(value, self.best), value < self.best, self.seconds)
        if row.accepted:
            self.network, self.best = network, value
        self.history.append(row)
        if self.options.verbose:
            import logging

            logging.getLogger("convexnn").info("%s: %.6g, best %.6g", stage, value, self.best)

    # -- proposals ----------------------------------------------------------------------------------
    def _proposals(self) -> Iterator[tuple[str, Network, Array | None]]:
        yield "rescaled", rescaled(self.terms, self.network), None
        yield "constant", constant(self.terms, self.network), None
        yield from self._descents()
        if self.options.convex is not False:
            yield from self._convex()

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
                    ends[stage] = self.last
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
    def _convex(self) -> Iterator[tuple[str, Network, Array | None]]:
        patterns, directions = self._dictionary()
        order = self.terms.rows.X.shape[1] + len(directions) + 1
        size = len(self.terms.members) * order**2 + patterns.D.size
        if self.options.convex == "auto" and size > SMALL_PROGRAM:
            return
        settings = self._settings() | {"start": self.network}
        program = CertifiedMargin(self.terms.rows.X, self.terms.labels, patterns, directions, **settings)
        network = self._solved(program)
        if network is not None:
            yield "convex", _without_dead_units(network), None

    def _dictionary(self) -> tuple[ActivationPatterns, Array]:
        """Patterns and directions of the network, and the sampled ones in every direction."""
        X, extra = self.terms.rows.X, self.options.extra_patterns
        own = dictionary_at(self.network, X)
        if not extra:
            return own
        return joined(own, classwise_dictionary(sample(X, extra, random_state=self.seed), self.terms.n_outputs))

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


def _without_dead_units(network: Network) -> Network:
    """The network without units that are zero up to roundoff; one unit stays."""
    (W, b), (V, c) = network.layers
    size = np.linalg.norm(V, axis=0) * np.linalg.norm(np.c_[W, b], axis=1)
    alive = size > DEAD * size.max()
    alive[0] |= not alive.any()
    return Network.shallow(W[alive], b[alive], V[:, alive], c)

"""pattern_search: the door to the search."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_floats
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import Solution
from convexnn.restrictions import GatedGroupLasso, LipschitzProgram, ReluGroupLasso
from convexnn.restrictions.base import ConeProgram, positive
from convexnn.restrictions.loss_bounds import check_loss_targets, scalar_loss
from convexnn.restrictions.rows import check_inputs
from convexnn.restrictions.units import checked_network
from convexnn.search.engine import Search
from convexnn.search.objective import TrainingObjective
from convexnn.search.options import REGULARIZERS, SearchOptions
from convexnn.search.result import SearchResult
from convexnn.search.starts import run_all
from convexnn.search.task import Cells, SearchPoint, SearchTask

Array = NDArray[np.float64]


def pattern_search(
    start: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    regularizer: str = "lipschitz",
    lam: float = 1e-2,
    sample_weight: ArrayLike | None = None,
    loss: str | Loss = "squared",
    **options: Any,
) -> SearchResult:
    """Search for better activation patterns, each step solved to optimality and kept only if it is better.

    A convex training program is optimal for its patterns only. Starting from a network (or a program), rounds of moves
    propose other patterns; for each proposal the convex program is solved and its network's own objective
    ``mean(l(f(x); y)) + lam R(f)`` recomputed. The moves:

    * ``"price"``: units that the network does not have, by their reduced cost against the multipliers (column
      generation);
    * ``"flip"``: cross the boundaries of cells where the multipliers say that it pays;
    * ``"replace"``: dead, duplicate or weak units make place for units between random rows;
    * ``"descend"``: a disturbance of all units and a descent on the training objective itself.

    Parameters
    ----------
    start : Network, torch.nn.Sequential, fitted MLPRegressor, or ConeProgram
        A shallow ReLU network with one output. Of a :class:`~convexnn.LipschitzProgram` or
        :class:`~convexnn.ReluGroupLasso` the patterns, ``regularizer``, ``lam`` and ``loss`` are taken.
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    regularizer : {"lipschitz", "l2"}
    lam : float
        Weight of the regularizer, positive.
    sample_weight : array-like, shape (n,), optional
    loss : str or Loss, default="squared"
        "squared", "huber", "hinge", "squared_hinge" or "logistic"; targets -1 / +1 for the last three.
    **options
        See :class:`SearchOptions`: ``moves``, ``rounds``, ``max_units``, ``n_starts``, ``n_jobs``, ``random_state``,
        ``time_limit``, ``patience``, ``solver``, ``tol``, ``max_iter``.

    Returns
    -------
    SearchResult
        With ``objective <= start_objective``, after a time limit or an interrupt too.

    Raises
    ------
    InvalidInputError, UnsupportedModelError
        For unusable data, options or models; the gated relaxation has no network objective to search for.

    Examples
    --------
    >>> import numpy as np
    >>> from convexnn import Network, pattern_search
    >>> X = np.linspace(-1, 1, 9)[:, None]
    >>> flat = Network.shallow([[1.0], [1.0]], [0.9, 0.8], [0.1, 0.1], 0.0)  # both kinks at the left end
    >>> found = pattern_search(flat, X, np.abs(X[:, 0]), lam=1e-3, rounds=3)
    >>> bool(found.objective < 0.1 * found.start_objective)
    True
    """
    chosen = SearchOptions(**options)
    inputs = check_inputs(X)
    if isinstance(start, ConeProgram):
        regularizer, lam, loss = _regularizer_of(start), start.lam, start.loss
    if regularizer not in REGULARIZERS:
        raise InvalidInputError(f"patterns are searched for regularizer in {REGULARIZERS}, got {regularizer!r}.")
    weight = None if sample_weight is None else as_floats(sample_weight, "sample_weight")
    targets = as_floats(y, "y")
    check_loss_targets(scalar_loss(loss), targets)
    objective = TrainingObjective(inputs, targets, weight, regularizer, positive(lam, "lam"), loss)
    deadline = np.inf if chosen.time_limit is None else time.perf_counter() + chosen.time_limit
    if isinstance(start, ConeProgram):
        task = _task(objective, chosen, start.patterns.n_patterns, deadline)
        return search_from(task, *_start_of_program(task, start))
    network = checked_network(start, inputs.shape[1])
    task = _task(objective, chosen, len(network.v), deadline)
    _ = task.rows  # refuses unusable data before any work
    return search_from(task, network)


def search_from(
    task: SearchTask, network: Network, point: SearchPoint | None = None, origin: Network | None = None
) -> SearchResult:
    """Search from a network, and from a point already solved for its patterns if there is one.

    ``origin`` is the network from which the first descent and the disturbed starts begin; the network itself when
    omitted.
    """
    value = task.objective(network)
    searches = run_all(task, network, value, point, origin or network)
    best = min(searches, key=lambda search: search.value)
    if best.value >= value:
        best = searches[0]  # the one that began at the network
    patterns, solution = _evidence(task, network, best)
    return SearchResult(
        network=best.network if best.value < value else network,
        patterns=patterns,
        solution=solution,
        objective=min(best.value, value),
        start_objective=value,
        history=tuple(step for search in searches for step in search.steps),
        status=next((search.status for search in searches if search.status == "interrupted"), best.status),
    )


def continued(
    network: Network,
    objective: TrainingObjective,
    options: SearchOptions,
    patterns: ActivationPatterns,
    solution: Solution | None,
) -> tuple[SearchTask, SearchPoint | None]:
    """Task that goes on from a network, and the point of the program it was decoded from if that can be told.

    The gated relaxation continues as the l2 program, which has the same objective on networks.
    """
    if objective.regularizer == "gated":
        objective = replace(objective, regularizer="l2")
    deadline = np.inf if options.time_limit is None else time.perf_counter() + options.time_limit
    task = _task(objective, options, len(network.v), deadline)
    if solution is None or patterns.n_patterns != len(solution.z):
        return task, None
    program = task.program(patterns.D[task.rows.index], patterns.s)
    if program.decode(solution.z) != network:
        return task, None
    return task, SearchPoint(program, solution, network, objective(network))


def _task(objective: TrainingObjective, options: SearchOptions, units: int, deadline: float) -> SearchTask:
    most = options.max_units or units
    return SearchTask(objective, options, most, min(units, most), deadline)


def _evidence(task: SearchTask, network: Network, best: Search) -> tuple[ActivationPatterns, Solution | None]:
    """Patterns and solution of the last accepted program, on the rows as given."""
    if best.point is None:
        return extract(network, task.objective.X), None
    patterns = best.point.program.patterns
    return ActivationPatterns(task.original(patterns.D), patterns.s), best.point.solution


def _regularizer_of(program: ConeProgram) -> str:
    if isinstance(program, LipschitzProgram):
        return "lipschitz"
    if isinstance(program, ReluGroupLasso) and not isinstance(program, GatedGroupLasso):
        return "l2"
    raise InvalidInputError(
        f"patterns are searched for LipschitzProgram and ReluGroupLasso; {program.name!r} has another objective than "
        "its networks"
    )


def _start_of_program(task: SearchTask, program: ConeProgram) -> tuple[Network, SearchPoint | None]:
    """The program's start (or the zero network), and its solution on the rows of the task."""
    rows, own = task.rows, program.rows
    if rows.X.shape != own.X.shape or not (
        np.array_equal(rows.X, own.X) and np.array_equal(rows.y, own.y) and np.array_equal(rows.weight, own.weight)
    ):
        raise InvalidInputError("X, y and sample_weight are not those of the program; give the same data")
    U = program.start if program.start is not None else np.zeros((program.patterns.n_patterns, own.X.shape[1] + 1))
    return program.decode(U), task.solve(Cells(program.patterns.D, program.patterns.s, U))

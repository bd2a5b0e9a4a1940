"""The moves: from a solved point to proposals. None of them promises anything; the accept test decides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.search.descent import descend, disturbed
from convexnn.search.flips import flipped
from convexnn.search.options import MOVES
from convexnn.search.pricing import data_directions, new_cells, unseen
from convexnn.search.task import Cells, SearchPoint, SearchTask

Array = NDArray[np.float64]
Move = Callable[[SearchTask, SearchPoint, np.random.Generator], SearchPoint | None]

#: Steps of L-BFGS of a descent.
STEPS = 200
#: Relative sizes of the disturbances from which a descent starts.
SIZES = (0.02, 0.05, 0.1)
#: Part of the units that a program may have above the limit before the weakest are dropped again, and that is replaced.
EXTRA, REPLACED = 0.25, 0.2
#: Part of the units that have to be free, else a program may have more units than the limit for a while.
FULL = 0.05


def price_move(task: SearchTask, point: SearchPoint, rng: np.random.Generator) -> SearchPoint | None:
    """Add the units with the best prices, a few more than there is room for; drop the weakest afterwards."""
    cells = _neighbours(task, point)
    room = task.max_units - len(cells)
    if room < FULL * task.max_units:
        room = int(rng.integers(1, 2 + round(EXTRA * task.max_units), endpoint=True))
    fresh = new_cells(point, cells, room, rng)
    return _within_limit(task, task.solve(cells.joined(fresh))) if len(fresh) else None


def flip_move(task: SearchTask, point: SearchPoint, rng: np.random.Generator) -> SearchPoint | None:  # noqa: ARG001
    """Cross the boundaries where the multipliers say that it pays."""
    cells, count = flipped(point)
    return task.solve(cells.merged()) if count else None


def replace_move(task: SearchTask, point: SearchPoint, rng: np.random.Generator) -> SearchPoint | None:
    """Replace dead and duplicate units, else a random number of the weakest, by units between random rows; descend."""
    cells = _neighbours(task, point)
    most = max(1, round(REPLACED * task.max_units))
    wanted = min(task.max_units - len(cells), most) or int(rng.integers(1, most, endpoint=True))
    keep = np.sort(np.argsort(-_shares(point, cells), kind="stable")[: max(task.max_units - wanted, 0)])
    fresh = _between_rows(point, cells, wanted, rng)
    return _from_network(task, cells.select(keep).joined(fresh), STEPS)


def descend_move(task: SearchTask, point: SearchPoint, rng: np.random.Generator) -> SearchPoint | None:
    """Disturb all units a little and descend on the training objective, then solve for the patterns met there."""
    size = float(rng.choice(SIZES))
    network = descend(task, disturbed(task, point.network, size, rng), STEPS)
    return task.solve_patterns(network)


ALL_MOVES: dict[str, Move] = dict(zip(MOVES, (price_move, flip_move, replace_move, descend_move), strict=True))


def _neighbours(task: SearchTask, point: SearchPoint) -> Cells:
    """Living units, one a cell; flipped where that pays if the caller wants flips."""
    cells = flipped(point)[0] if "flip" in task.options.moves else point.cells.select(point.alive)
    return cells.merged()


def _shares(point: SearchPoint, cells: Cells) -> Array:
    """Lengths of the units as the regularizer sees them."""
    dual, k = point.solution.dual, point.structure.n_weights
    M = np.eye(k) if dual is None or dual.matrix is None else dual.matrix[:k, :k]
    shares: Array = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", cells.U[:, :k], M, cells.U[:, :k]), 0.0))
    return shares


def _between_rows(point: SearchPoint, taken: Cells, count: int, rng: np.random.Generator) -> Cells:
    """Small units whose hyperplanes pass between random rows, with the sign that lowers the loss."""
    X = point.structure.X
    W = data_directions(X[:, :-1], 2 * count, rng)
    if not len(W):
        W = rng.standard_normal((2 * count, X.shape[1] - 1))
    b = -np.einsum("ij,ij->i", W, X[rng.integers(len(X), size=len(W)), :-1])
    directions = np.column_stack([W, b])
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-300)
    inner = directions @ X.T
    signs = np.where(np.maximum(inner, 0.0) @ point.slopes <= 0, 1.0, -1.0)
    s = point.structure
    typical = np.sqrt((s.weight @ s.y_centred**2) / max(s.weight @ (X**2).sum(axis=1), 1e-300))
    length = max(0.1 * np.linalg.norm(point.solution.z, axis=1).max(initial=0.0), 0.01 * typical)
    return unseen(Cells((inner >= 0).T, signs, length * signs[:, None] * directions), taken, count)


def _from_network(task: SearchTask, cells: Cells, steps: int) -> SearchPoint | None:
    """Descend from the network of the cells, then solve for the patterns met there."""
    if not len(cells):
        return None
    program = task.program(cells.D, cells.s)
    network: Network = program.decode(cells.U)
    return task.solve_patterns(descend(task, network, steps))


def _within_limit(task: SearchTask, point: SearchPoint | None) -> SearchPoint | None:
    """The point itself when its living units fit; else a descent from its strongest units."""
    if point is None or int((point.network.v != 0).sum()) <= task.max_units:
        return point
    cells = point.cells.select(point.alive).merged()
    keep = np.sort(np.argsort(-_shares(point, cells), kind="stable")[: task.max_units])
    chosen = cells.select(keep)
    if len(cells) <= task.max_units:
        return task.solve(chosen)
    return _from_network(task, chosen, STEPS // 2)

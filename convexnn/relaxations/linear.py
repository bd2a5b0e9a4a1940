"""Certifier "lp": the triangle relaxation, a linear program over a box and a second-order cone program over a ball.

The solver's optimum is not believed. Its multipliers of ``s = W h + b`` are the prices of
:mod:`convexnn.relaxations.prices`, which prove the same value, rounding included; all other multipliers are eliminated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from convexnn.propagation.layer_bounds import LayerBounds, crown_bounds
from convexnn.propagation.query import Certifier, Effort, Evidence, Query
from convexnn.relaxations.cone import TriangleCone
from convexnn.relaxations.highs import highs_model, seconds_left
from convexnn.relaxations.network_model import NetworkModel
from convexnn.relaxations.prices import check_prices, price_keys, priced_bounds, slope_prices
from convexnn.relaxations.support import refuse_smooth_units

Array = NDArray[np.float64]

#: What a solver reports of one row: multipliers of the equations, the input at its optimum, status, iterations.
Row = tuple[Array | None, Array | None, str, int]


def propose_lp(query: Query, effort: Effort, bounds: LayerBounds | None = None) -> Evidence:
    """Prices from the triangle relaxation of every row; rows that are not solved keep the prices of CROWN.

    By HiGHS' simplex method (boxes; one model for all rows, each row starts from the optimal basis of the one before)
    or by Clarabel's interior-point method (balls, clipped balls).

    Parameters
    ----------
    query : Query
        ReLU, LeakyReLU or linear units; signs are honoured.
    effort : Effort
        ``deadline``; ``stop_below`` with ``first_failure`` ends at the first row that stays above.
    bounds : LayerBounds, optional
        Default: linear bounds.

    Returns
    -------
    Evidence
        Multiplier ``row{r}/price{layer}``; points are the inputs at the optima of the relaxation.
    """
    bounds = crown_bounds(query) if bounds is None else bounds
    if bounds.empty:
        return Evidence("lp", dict(bounds.multiplier), "optimal")
    prices = slope_prices(query, bounds)
    if not all(np.isfinite(ends).all() for ends in (*bounds.lower, *bounds.upper)):
        return Evidence(
            "lp", {**bounds.multiplier, **price_keys(prices)}, "failed: the bounds of some unit are infinite"
        )
    model = NetworkModel(query, bounds)
    solve: Callable[[int], Row] = TriangleCone(model, effort) if query.inputs.has_ball else _Simplex(model, effort)
    points, status, iterations = [], "optimal", 0
    before = priced_bounds(query, bounds, prices)
    for row in range(query.n_rows):
        if effort.stop_below is not None and before[row] < effort.stop_below:
            continue
        if effort.out_of_time():
            status = "time_limit"
            break
        multipliers, point, word, used = solve(row)
        iterations += used
        status = word if word != "optimal" else status
        points += [] if point is None else [point]
        before[row] = _keep_better(model, prices, multipliers, row, before[row])
        if effort.first_failure and effort.stop_below is not None and not before[row] < effort.stop_below:
            break
    found = np.array(points).reshape(len(points), query.network.n_inputs)
    return Evidence("lp", {**bounds.multiplier, **price_keys(prices)}, status, iterations, found)


def _keep_better(model: NetworkModel, prices: list[Array], multipliers: Array | None, row: int, before: float) -> float:
    """Write the prices of a row where they prove more; the bound of the row."""
    if multipliers is None:
        return before
    own = list(model.split_prices(multipliers))
    bound = float(priced_bounds(model.query.rows(row), model.bounds, [price[None] for price in own])[0])
    if bound < before:
        for layer, price in zip(prices, own, strict=True):
            layer[row] = price
    return min(bound, before)


class _Simplex:
    """One HiGHS model whose costs change from row to row."""

    def __init__(self, model: NetworkModel, effort: Effort) -> None:
        self.model, self.effort = model, effort
        chords, tops = model.chords
        n_floors = model.floors.shape[0]
        rows = sparse.csr_array(sparse.vstack([model.equations, model.floors, chords]))
        low = np.concatenate([model.right_sides, np.zeros(n_floors), np.full(n_floors, -np.inf)])
        high = np.concatenate([model.right_sides, np.full(n_floors, np.inf), tops])
        self.costs = -model.objectives[0]
        self.highs: Any = highs_model(rows, (low, high), model.column_bounds, self.costs[0])

    def __call__(self, row: int) -> Row:
        n = self.costs.shape[1]
        self.highs.changeColsCost(n, np.arange(n, dtype=np.int32), self.costs[row])
        # simplex compares its limit with the clock of all runs, the mixed-integer solver with that of its own run
        self.highs.setOptionValue("time_limit", self.highs.getRunTime() + seconds_left(self.effort))
        self.highs.run()
        status, info = self.highs.modelStatusToString(self.highs.getModelStatus()), self.highs.getInfo()
        solution = self.highs.getSolution()
        if not solution.dual_valid:
            return None, None, "time_limit" if status == "Time limit reached" else f"failed: {status}", 0
        multipliers = np.array(solution.row_dual[: len(self.model.right_sides)])
        point = np.array(solution.col_value[: self.model.query.network.n_inputs])
        word = {"Optimal": "optimal", "Time limit reached": "time_limit"}.get(status, f"failed: {status}")
        return multipliers, point, word, int(info.simplex_iteration_count)


LP = Certifier("lp", propose_lp, check_prices, refuse_smooth_units)

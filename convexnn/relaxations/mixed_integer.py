"""Certifier "milp": the exact maximum over a box as a mixed-integer program, on the word of HiGHS.

No multiplier proves the value of a mixed-integer program. So this method is NOT rigorous: its bounds are in
``Evidence.details["solver_bound"]`` and must be shown as a solver's word, while the check proves what the linear
relaxation proves (certifier "lp"). Branch and bound with proofs at the leaves is in :mod:`convexnn.branching`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from convexnn.propagation.layer_bounds import LayerBounds, crown_bounds
from convexnn.propagation.query import Certifier, Effort, Evidence, Query
from convexnn.relaxations.highs import highs_model, seconds_left
from convexnn.relaxations.linear import propose_lp
from convexnn.relaxations.network_model import NetworkModel
from convexnn.relaxations.prices import check_prices
from convexnn.relaxations.support import refuse_smooth_units

Array = NDArray[np.float64]

#: Tolerance of HiGHS on reduced costs; times the sum of the ranges of all variables it is added to the bound.
DUAL_TOLERANCE = 1e-7
#: Of the value itself, relative to one plus its size.
VALUE_TOLERANCE = 1e-6
STATUS = {"Optimal": "optimal", "Infeasible": "optimal", "Target for objective reached": "hopeless"}
STATUS |= {"Time limit reached": "time_limit", "Objective bound reached": "below"}


@dataclass(frozen=True)
class _Answer:
    """Bound (solver's word), incumbent input or None, status, nodes."""

    bound: float
    point: Array | None
    status: str
    nodes: int


def propose_milp(query: Query, effort: Effort, bounds: LayerBounds | None = None) -> Evidence:
    """Exact maxima by HiGHS: big-M with one binary per unstable unit, any number of hidden layers.

        z >= 0,  z >= s,  z <= u a,  z <= s - l (1 - a),  a in {0, 1}

    Implements: Tjeng et al. (2019), ReLU as mixed-integer rows, arXiv 1711.07356.

    Parameters
    ----------
    query : Query
        ReLU, LeakyReLU or linear units over a box; signs are honoured.
    effort : Effort
        ``tol`` relative gap; ``stop_below`` is a cutoff on both sides: rows whose maximum is below it are only shown
        to be so, others end at the first input that reaches it; ``deadline``, ``first_failure``.
    bounds : LayerBounds, optional
        Default: linear bounds.

    Returns
    -------
    Evidence
        ``details["solver_bound"]`` (q,): dual bounds of HiGHS plus its tolerances, NOT rigorous (``inf``: nothing).
        ``details["solver_value"]`` (q,): values of the network at the incumbents, in float64. The multiplier is that of
        the linear relaxation; points are the incumbents.
    """
    bounds = crown_bounds(query) if bounds is None else bounds
    linear = propose_lp(query, replace(effort, first_failure=False), bounds)
    if bounds.empty:
        nothing = np.full(query.n_rows, -np.inf)
        return replace(linear, method="milp", details={"solver_bound": nothing, "solver_value": nothing})
    found = check_prices(query, linear.multiplier)
    answers = [_Answer(float(bound), None, "time_limit", 0) for bound in found]
    if np.isfinite(found).all():
        _solve_rows(NetworkModel(query, bounds), effort, answers)
    points = [answer.point for answer in answers if answer.point is not None]
    stacked = np.array(points).reshape(len(points), query.network.n_inputs)
    values = np.full(query.n_rows, -np.inf) if not points else query.values(stacked).max(axis=0)
    open_words = [answer.status for answer in answers if answer.status not in ("optimal", "below")]
    return Evidence(
        "milp",
        linear.multiplier,
        open_words[0] if open_words else "optimal",
        sum(answer.nodes for answer in answers),
        stacked,
        {"solver_bound": np.array([answer.bound for answer in answers]), "solver_value": values},
    )


def _solve_rows(model: NetworkModel, effort: Effort, answers: list[_Answer]) -> None:
    """Row by row; rows that the linear relaxation settles are left to it."""
    if not sum(len(own) for own in model.unstable):  # a linear program: HiGHS gives no bound of a mixed-integer one
        answers[:] = [replace(answer, status="optimal") for answer in answers]
        return
    program: _Program | None = None
    for row, answer in enumerate(answers):
        if effort.stop_below is not None and answer.bound < effort.stop_below:
            answers[row] = replace(answer, status="below")
            continue
        if effort.out_of_time():
            return
        program = _Program(model, effort) if program is None else program
        found = program(row)
        answers[row] = replace(found, bound=min(found.bound, answer.bound))
        if effort.first_failure and effort.stop_below is not None and not answers[row].bound < effort.stop_below:
            return


class _Program:
    """The mixed-integer model of a network; its costs change from row to row."""

    def __init__(self, model: NetworkModel, effort: Effort) -> None:
        self.model, self.effort = model, effort
        low, high = model.column_bounds
        m, n = model.floors.shape[0], model.n_columns
        both = sparse.csr_array(sparse.vstack([model.equations, model.floors]))
        bottom, top = model.ranges
        z = sparse.csr_array((np.ones(m), (np.arange(m), np.concatenate(model.post_columns))), shape=(m, n))
        blocks: list[list[Any]] = [
            [both, None],
            [z, -sparse.diags_array(top)],
            [model.floors, -sparse.diags_array(bottom)],
        ]
        rows = sparse.csr_array(sparse.block_array(blocks))
        b, zero, free = model.right_sides, np.zeros(m), np.full(m, np.inf)
        ends = np.concatenate([b, zero, -free, -free]), np.concatenate([b, free, zero, -bottom])
        columns = np.concatenate([low, np.zeros(m)]), np.concatenate([high, np.ones(m)])
        self.costs = np.hstack([-model.objectives[0], np.zeros((len(model.query.weights), m))])
        self.slack = DUAL_TOLERANCE * float(np.sum(columns[1] - columns[0]))
        self.highs: Any = highs_model(rows, ends, columns, self.costs[0], n + np.arange(m))
        self.highs.setOptionValue("mip_rel_gap", effort.tol)
        self.highs.setOptionValue("mip_abs_gap", VALUE_TOLERANCE)

    def __call__(self, row: int) -> _Answer:
        offset, n = float(self.model.objectives[1][row]), self.costs.shape[1]
        self.highs.clearSolver()
        self.highs.changeColsCost(n, np.arange(n, dtype=np.int32), self.costs[row])
        self.highs.setOptionValue("time_limit", seconds_left(self.effort))
        floor = self._cut(offset)
        self.highs.run()
        status, info = self.highs.modelStatusToString(self.highs.getModelStatus()), self.highs.getInfo()
        solution = self.highs.getSolution()
        point = np.array(solution.col_value[: self.model.query.network.n_inputs]) if solution.value_valid else None
        bound = offset - info.mip_dual_bound if np.isfinite(info.mip_dual_bound) else np.inf
        if status == "Infeasible":  # nothing above the cutoff
            bound = floor
        bound = max(bound, floor)  # nodes below the cutoff do not count in the bound that HiGHS reports
        return _Answer(bound + self._room(bound), point, STATUS.get(status, f"failed: {status}"), info.mip_node_count)

    def _cut(self, offset: float) -> float:
        """Tell HiGHS where to stop; the value below which it may drop nodes."""
        target = self.effort.stop_below
        if target is None:
            return -np.inf
        floor = target - 2.0 * self._room(target)
        self.highs.setOptionValue("objective_bound", offset - floor)
        self.highs.setOptionValue("objective_target", offset - target)
        return floor

    def _room(self, value: float) -> float:
        return self.slack + VALUE_TOLERANCE * (1.0 + abs(value)) if np.isfinite(value) else 0.0


def refuse_balls(query: Query) -> str | None:
    """Why the method does not apply, or None."""
    if query.inputs.has_ball:
        return "The mixed-integer program of HiGHS is linear, so it needs a box; 'branch_and_bound' takes balls."
    return refuse_smooth_units(query)


MILP = Certifier("milp", propose_milp, check_prices, refuse_balls)

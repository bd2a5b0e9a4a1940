"""The convex program of a constrained network on fixed cells, as the theory states it; its evidence is ours.

::

    minimize    sum_k om_k l(f_k; y_k) + 2 lam sum_i |u_i| + 4 lam |a|      over units u_i, linear term a, constant c
    subject to  u_i in its cell, f_k = sum_i D_ki x_k'u_i + a'x_k + c, and the demands

A linear term is the pair of units relu(a'x) - relu(-a'x), which costs ``4 lam |a|``. With the Lipschitz penalty
``lam LipSDP^2`` stands in place of the lengths (:mod:`convexnn.constraints.lipschitz`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.conic.run import OPTIONS, accuracy_of, require_usable, run_problem
from convexnn.constraints import lipschitz
from convexnn.constraints.caps import CapDual, CapProgram
from convexnn.constraints.cones import FEWER, Effort
from convexnn.constraints.direct import solve_direct
from convexnn.constraints.evidence import ShapeDual, lower_bound
from convexnn.constraints.layout import Layout, Point
from convexnn.constraints.rows import PieceRows, WorstRows
from convexnn.exceptions import SolverError
from convexnn.program import relative_gap

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]

#: Solver endings after which there may be a point.
ENDINGS = ("optimal", "optimal_inaccurate", "user_limit")


@dataclass(frozen=True)
class Demands:
    """What a program asks besides its cells.

    Attributes
    ----------
    name : str
    pieces : PieceRows
    worst : WorstRows or None
    caps : tuple of CapProgram
    """

    name: str
    pieces: PieceRows
    worst: WorstRows | None = None
    caps: tuple[CapProgram, ...] = ()


@dataclass(frozen=True)
class Solved:
    """A solved program with recomputed numbers.

    Attributes
    ----------
    name : str
        Which program.
    point : Point
    objective : float
        Value at the point, which may leave its cells and demands by the tolerance of the solver.
    lower_bound : float
        Proved lower bound on the optimum, from the multipliers; ``-inf`` without.
    gap : float
        Relative gap of the two.
    seconds : float
    """

    name: str
    point: Point
    objective: float
    lower_bound: float
    gap: float
    seconds: float


def solve_shape(
    layout: Layout, demands: Demands, *, solver: str = "clarabel", tol: float = 1e-6, time_limit: float | None = None
) -> Solved | None:
    """Solve a program and recompute objective and lower bound; None when the solver finds it empty.

    Raises
    ------
    SolverError
        When the solver is missing or fails.
    """
    require_usable(solver)
    began = time.perf_counter()
    if solver == "clarabel" and layout.structure.is_squared:
        found = solve_direct(layout, demands, Effort(accuracy_of(tol, 1.0), 200, time_limit, layout.size))
    else:
        accuracy = accuracy_of(tol, layout.base.scale)
        found = solve_stated(layout, demands, solver, OPTIONS[solver](accuracy, 200, time_limit))
    if found is None:
        return None
    point, dual = found
    objective = layout.objective(point)
    bound = lower_bound(layout, demands, dual)
    gap = relative_gap(objective, bound, layout.base.scale)
    return Solved(demands.name, point, objective, bound, gap, time.perf_counter() - began)


def solve_stated(
    layout: Layout, demands: Demands, solver: str, options: dict[str, Any]
) -> tuple[Point, ShapeDual] | None:
    """Point and multipliers of the program as :func:`stated`, by cvxpy; None when the solver finds it empty."""
    problem, variables = stated(layout, demands)
    run_problem(problem, solver, options, 0, FEWER)
    if str(problem.status).startswith("infeasible"):
        return None
    if problem.status not in ENDINGS or any(value.value is None for value in problem.variables()):
        raise SolverError(f"{solver} ended with {problem.status!r} on the {demands.name} program and left no point")
    a = np.zeros(layout.shape.n_inputs) if variables["a"] is None else layout.shape.projector @ variables["a"].value
    c = 0.0 if variables["c"] is None else float(variables["c"].value)
    point = Point(np.asarray(variables["U"].value), a, c)
    return point, _read_dual(layout, demands, point, problem)


def stated(layout: Layout, demands: Demands) -> tuple[cvxpy.Problem, dict[str, Any]]:
    """The program in cvxpy with units ``U``, linear term ``a`` and constant ``c`` (None where a symmetry forbids them).

    The variables are these as if all features were of order one.

    Implements: docs/theory/shape_constraints.md, the program of section 2.
    """
    import cvxpy as cp

    s, d, group = layout.structure, layout.shape.n_inputs, len(layout.moves)
    scales = np.append(layout.scales, 1.0)
    U = cp.multiply(cp.Variable((layout.units, d + 1), name="U"), np.tile(1 / scales, (layout.units, 1)))
    a = cp.multiply(cp.Variable(d, name="a"), 1 / scales[:-1]) if layout.skip else None
    c = None if layout.shape.is_odd else cp.Variable(name="c")
    everything = U if group == 1 else cp.vstack([U @ M for M in layout.moves])
    linear = np.zeros(d) if a is None else a
    constant = 0.0 if c is None else c
    f = cp.Variable(len(s.y), name="f")
    values = cp.sum(cp.multiply(s.D, s.X @ everything.T), axis=1) + s.X[:, :-1] @ linear + constant
    conditions = [(values == f).set_label("predictions")]
    conditions += [(cp.multiply(s.S, s.X @ everything.T) >= 0).set_label("cones")]
    if len(layout.X0):
        conditions += [(cp.multiply(layout.sides, layout.X0 @ everything.T) >= 0).set_label("anchors")]
    if a is not None and group > 1:
        conditions += [layout.shape.projector @ a == a]
    conditions += _piece_conditions(demands.pieces, everything, linear, constant)
    conditions += _worst_conditions(demands.worst, everything, linear)
    for number, cap in enumerate(demands.caps):
        conditions += cap.conditions(everything, linear, constant, f"cap{number}")
    if s.is_squared:
        loss = cp.sum_squares(cp.multiply(np.sqrt(s.weight), f - s.y)) + s.constant
    else:
        loss = s.weight @ s.sample_loss.cvxpy(f, s.y) + s.constant
    lam = layout.base.lam
    if layout.lipschitz:
        penalty, inequality = lipschitz.stated(everything, linear, layout.mean, lam)
        conditions += inequality
    else:
        penalty = 2 * lam * group * cp.sum(cp.norm(U, 2, axis=1)) + (0 if a is None else 4 * lam * cp.norm(a, 2))
    return cp.Problem(cp.Minimize(loss + penalty), conditions), {"U": U, "a": a, "c": c}


def _piece_conditions(rows: PieceRows, U: Any, linear: Any, constant: Any) -> list[cvxpy.Constraint]:
    import cvxpy as cp

    if not len(rows):
        return []
    values = cp.sum(cp.multiply(rows.A, rows.E @ U.T), axis=1) + rows.E[:, :-1] @ linear + rows.E[:, -1] * constant
    equal = rows.low == rows.high
    found = []
    for label, chosen in (("equal", equal), ("low", np.isfinite(rows.low) & ~equal)):
        if chosen.any():
            level = rows.low[chosen]
            condition = values[chosen] == level if label == "equal" else values[chosen] >= level
            found.append(condition.set_label(f"rows_{label}"))
    high = np.isfinite(rows.high) & ~equal
    if high.any():
        found.append((rows.high[high] >= values[high]).set_label("rows_high"))
    return found


def _worst_conditions(rows: WorstRows | None, U: Any, linear: Any) -> list[cvxpy.Constraint]:
    import cvxpy as cp

    if rows is None or not len(rows):
        return []
    falls = cp.Variable((len(rows), U.shape[0]), nonneg=True, name="falls")
    return [
        (falls + rows.E @ U[:, :-1].T >= 0).set_label("falls"),
        (rows.E @ linear - cp.sum(falls, axis=1) >= rows.low).set_label("worst"),
    ]


def _read_dual(layout: Layout, demands: Demands, z: Point, problem: cvxpy.Problem) -> ShapeDual:
    """Multipliers as the solver left them; nothing in them is believed."""
    s, rows = layout.structure, demands.pieces
    value = {item.label: item.dual_value for item in problem.constraints if item.label and item.dual_value is not None}
    mixed = np.zeros(len(rows))
    equal = rows.low == rows.high
    for label, chosen, sign in (
        ("rows_equal", equal, -1.0),
        ("rows_low", np.isfinite(rows.low) & ~equal, 1.0),
        ("rows_high", np.isfinite(rows.high) & ~equal, -1.0),
    ):
        if label in value:
            mixed[chosen] += sign * value[label]
    slopes = 2 * s.weight * (layout.predictions(z) - s.y) if s.is_squared else value.get("predictions")
    worst = len(demands.worst) if demands.worst is not None else 0
    caps = [CapDual(value.get(f"cap{i}")) for i in range(len(demands.caps))]
    return ShapeDual(
        residual=np.zeros(len(s.y)) if slopes is None else np.asarray(slopes),
        cones=np.asarray(value.get("cones", np.zeros_like(s.S))),
        anchors=np.asarray(value.get("anchors", np.zeros_like(layout.D0))),
        rows=mixed,
        worst=np.asarray(value.get("worst", np.zeros(worst))),
        falls=np.asarray(value.get("falls", np.zeros((worst, s.D.shape[1])))),
        caps=tuple(caps),
        spectral=lipschitz.read_stated(value.get("lmi"), layout.shape.n_inputs),
    )

"""Solvers: ``solve(program)`` returns a Solution whose every number was recomputed from the data."""

from __future__ import annotations

from convexnn.solvers.column_generation import solve_column_generation
from convexnn.solvers.cvx import solve_cvxpy
from convexnn.solvers.first_order import solve_first_order
from convexnn.solvers.interior_point import solve_interior_point
from convexnn.solvers.registry import SolverInfo, SolverTable, available_solvers, require_solver, solve

__all__ = [
    "SolverInfo",
    "SolverTable",
    "available_solvers",
    "require_solver",
    "solve",
    "solve_column_generation",
    "solve_cvxpy",
    "solve_first_order",
    "solve_interior_point",
]

"""First-order solver for programs with many rows: passes over blocks of rows, cones by the few rows that matter."""

from convexnn.solvers.first_order.method import Computing, solve_first_order

__all__ = ["Computing", "solve_first_order"]

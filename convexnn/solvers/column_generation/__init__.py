"""Column generation over neurons: programs of polynomial networks, to a certified global gap."""

from convexnn.solvers.column_generation.method import solve_column_generation

__all__ = ["solve_column_generation"]

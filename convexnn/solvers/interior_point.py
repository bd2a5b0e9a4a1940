"""Interior point method for the training programs."""

from __future__ import annotations

from convexnn.exceptions import SolverError
from convexnn.program import Program, Proposal


def solve_interior_point(program: Program, **options: object) -> Proposal:
    """Solve a program that offers a structure."""
    raise SolverError(f"no interior point method for {program.name!r} with options {sorted(options)} yet")

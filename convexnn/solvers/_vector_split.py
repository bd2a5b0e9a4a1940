"""Units whose output directions are orthogonal do not meet in the loss: a separable regularizer splits the system.

With the class-wise directions ``+-e_c`` weight decay is one program an output. The path stays common, so that the
verified gap is that of the whole program; only the linear algebra falls apart.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from convexnn.solvers.cone_block import ConeBlock
from convexnn.solvers.cone_problem import ConeProblem

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

#: Directions whose inner product is at most this count as orthogonal, and their products as zero.
ORTHOGONAL = 1e-14


class System(Protocol):
    """A Newton system; see :class:`~convexnn.solvers.newton_system.NewtonSystem`."""

    refinements: int

    def factor(self, w: Array) -> None:
        """Factor at row weights ``w`` (n, p)."""

    def solve(self, right: Array, extra: Array) -> tuple[Array, Array]:
        """Solve for a right-hand side in ``U`` (d + 1, p)."""


def orthogonal_groups(directions: Array) -> list[IntArray]:
    """Groups of units whose directions are orthogonal to those of all other groups, in the order of first members."""
    pattern, first = np.unique(np.round(directions, 15), axis=0, return_inverse=True)
    count, label = connected_components(np.abs(pattern @ pattern.T) > ORTHOGONAL, directed=False)
    return [np.flatnonzero(label[first.ravel()] == group) for group in range(count)]


def part_of(problem: ConeProblem, index: IntArray) -> ConeProblem:
    """Loss and rows of some units, outputs reduced to the span of their directions; for the linear system only."""
    part = copy.copy(problem)
    part.keep, part.p = problem.keep[index], len(index)
    part.size = part.d1 * part.p
    part.D, part.S, part.is_row = (np.ascontiguousarray(A[:, index]) for A in (problem.D, problem.S, problem.is_row))
    part.all_rows = bool(part.is_row.all())
    _, singular, axes = np.linalg.svd(problem.directions[index], full_matrices=False)
    part.directions = problem.directions[index] @ axes[singular > 1e-12 * singular[0]].T
    return part


class UnitsOf:
    """The Hessian of some units of a separable block."""

    n_extra = 0
    rank = 0

    def __init__(self, block: ConeBlock, index: IntArray) -> None:
        self.block, self.index = block, index

    def unit_hessian(self) -> Array:
        """Blocks of these units, (units, d + 1, d + 1)."""
        return self.block.unit_hessian()[self.index]

    def low_rank(self) -> Array | None:
        """Nothing couples the units."""
        return None


class SplitSystem:
    """One system for every group of units.

    Parameters
    ----------
    problem : ConeProblem
    block : ConeBlock
        Without extra variables and without a coupling of the units.
    groups : list of array of int
    make : callable
        From a problem and a block to a system.
    """

    def __init__(
        self,
        problem: ConeProblem,
        block: ConeBlock,
        groups: list[IntArray],
        make: Callable[[ConeProblem, ConeBlock], System],
    ) -> None:
        self.groups = groups
        self.systems = [make(part_of(problem, index), UnitsOf(block, index)) for index in groups]  # type: ignore[arg-type]
        self._refinements = 0

    @property
    def refinements(self) -> int:
        """Steps of refinement in every system."""
        return self._refinements

    @refinements.setter
    def refinements(self, number: int) -> None:
        self._refinements = number
        for system in self.systems:
            system.refinements = number

    def factor(self, w: Array) -> None:
        """Factor every group at row weights ``w`` (n, p)."""
        for index, system in zip(self.groups, self.systems, strict=True):
            system.factor(np.ascontiguousarray(w[:, index]))

    def solve(self, right: Array, extra: Array) -> tuple[Array, Array]:
        """Solve for a right-hand side in ``U`` (d + 1, p)."""
        x = np.empty_like(right)
        for index, system in zip(self.groups, self.systems, strict=True):
            x[:, index] = system.solve(np.ascontiguousarray(right[:, index]), extra)[0]
        return x, extra

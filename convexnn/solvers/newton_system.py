"""The linear system of an interior point step, factored once and solved several times.

``(loss Hessian + blockdiag(G_i' diag(w_i) G_i + H_i) + F'F) step = right`` with the blocks H_i and the few rows F of
the regularizer: either as one dense Cholesky factorization of the order of the variables, or, when there are fewer
rows than variables, by the Woodbury identity as one of the order of the rows.
"""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from convexnn.solvers._dense_system import DenseSystem
from convexnn.solvers._vector_split import SplitSystem, orthogonal_groups
from convexnn.solvers._vector_system import BorderedSystem, GroupedSystem
from convexnn.solvers._woodbury import WoodburySystem
from convexnn.solvers.cone_block import BorderedBlock, ConeBlock
from convexnn.solvers.cone_problem import ConeProblem

Array = NDArray[np.float64]

#: Woodbury pays when rows / variables is below this.
WOODBURY_RATIO = 0.8


class NewtonSystem(Protocol):
    """A factorization that is refreshed with new row weights and a rescaled cone block."""

    refinements: int

    def factor(self, w: Array) -> None:
        """Factor at row weights ``w`` (n, p); LinAlgError when the matrix is numerically singular."""

    def solve(self, right: Array, extra: Array) -> tuple[Array, Array]:
        """Solve for a right-hand side in ``U`` (d + 1, p)."""


def newton_system(problem: ConeProblem, block: ConeBlock) -> NewtonSystem:
    """Pick the cheapest system for this problem."""
    if block.n_extra:
        return BorderedSystem(problem, cast(BorderedBlock, block))
    if not problem.one_curvature:
        return DenseSystem(problem, block)
    outputs = problem.directions.shape[1]
    if outputs > 1 and block.rank == 0:
        groups = orthogonal_groups(problem.directions)
        if len(groups) > 1:
            return SplitSystem(problem, block, groups, newton_system)
    if problem.n * outputs + block.rank < WOODBURY_RATIO * problem.size:
        return (WoodburySystem if outputs == 1 else GroupedSystem)(problem, block)
    return DenseSystem(problem, block)

"""What the iterates of one row prove about the other rows of the query: only the first row of S differs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.relaxations.arrow.factors import NotPositiveError, Slack, cholesky, solve_lower
from convexnn.relaxations.arrow.problem import ArrowProblem

Array = NDArray[np.float64]


@dataclass
class Watch:
    """Rows that wait while another one is solved, and the best multipliers met for each of them.

    Multipliers (y, nu) that are strictly feasible for one objective are so for every other one once t is moved: the
    objective only enters the first row of Z. So one factorization bounds all rows.

    Attributes
    ----------
    objectives : array, shape (n, 1 + m + d)
    best : array, shape (n,)
        Smallest values met, ``inf`` at first.
    multipliers : list of arrays (y, nu)
        Those of the smallest values.
    """

    objectives: Array
    best: Array
    multipliers: list[Array]

    @classmethod
    def over(cls, objectives: Array) -> Watch:
        """Nothing met yet."""
        n = len(objectives)
        return cls(objectives, np.full(n, np.inf), [np.empty(0)] * n)

    def look(self, problem: ArrowProblem, slack: Slack) -> None:
        """Bounds of all rows at the multipliers of this slack."""
        if not len(self.objectives):
            return
        try:
            spare = spares(problem, slack, self.objectives)
        except NotPositiveError:
            return
        spare = spare - 1e-10 * np.abs(slack.S[0, 0])
        found = float(problem.relaxation.cost @ slack.v) - spare
        for i in np.flatnonzero(found < self.best):
            self.best[i] = found[i]
            self.multipliers[i] = slack.v.copy()
            self.multipliers[i][0] -= spare[i]


def spares(problem: ArrowProblem, slack: Slack, objectives: Array) -> Array:
    """Amounts by which t can be lowered for other objectives (negative: has to be raised), shape (n,).

    Implements: convexnn, Proposition 3 of docs/theory/arrow_sdp.md.

    Raises
    ------
    NotPositiveError
    """
    p = problem.relaxation.p
    change = objectives - problem.objective
    inputs = slack.B[0] - 0.5 * change[:, p:]
    corner = slack.Zhh[0, 0] - change[:, 0] - np.einsum("ij,ij->i", inputs / slack.N, inputs)
    if p == 1:
        return corner
    row = slack.Zhh[0, 1:] - 0.5 * change[:, 1:p] + inputs @ slack.J[:, 1:]
    turned = solve_lower(cholesky(slack.S[1:, 1:]), row.T)
    return corner - np.einsum("ij,ij->j", turned, turned)

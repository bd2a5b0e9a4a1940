"""The triangle relaxation over a Euclidean ball or a clipped ball: a second-order cone program for Clarabel.

Without a box only the row space of the first layer matters, so the inputs are reduced to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from convexnn.propagation.query import Effort
from convexnn.relaxations.highs import seconds_left
from convexnn.relaxations.network_model import NetworkModel

Array = NDArray[np.float64]

STATUS = {"Solved": "optimal", "AlmostSolved": "optimal", "MaxTime": "time_limit"}


class TriangleCone:
    """One Clarabel problem whose costs change from row to row.

    Variables ``(xi, s_1, z_1, ...)`` with ``x = centre + radius Q xi`` and ``|xi| <= 1``.

    Parameters
    ----------
    model : NetworkModel
        Its inputs have a ball.
    effort : Effort
    """

    def __init__(self, model: NetworkModel, effort: Effort) -> None:
        inputs, W = model.query.inputs, model.query.network.layers[0][0]
        boxed = bool(np.isfinite([inputs.lower, inputs.upper]).any())
        self.model, self.effort = model, effort
        reduced = W.shape[1] > len(W) and not boxed
        self.Q = inputs.radius * (np.linalg.qr(W.T)[0] if reduced else np.eye(W.shape[1]))
        self.solver: Any = None
        self.rows, self.sides = self._rows()

    def _in_xi(self, rows: sparse.csr_array, sides: Array) -> tuple[sparse.csr_array, Array]:
        """Rows over (x, rest) as rows over (xi, rest); the centre goes to the right side."""
        d, inputs = len(self.Q), self.model.query.inputs
        first = sparse.csr_array(rows[:, :d] @ self.Q)
        return sparse.csr_array(sparse.hstack([first, rows[:, d:]])), sides - rows[:, :d] @ inputs.centre

    def _rows(self) -> tuple[sparse.csc_array, Array]:
        """``A v + slack = b``: equations, inequalities, the ball."""
        model, inputs = self.model, self.model.query.inputs
        equations = self._in_xi(model.equations, model.right_sides)
        chords, tops = model.chords
        low, high = model.column_bounds
        low, high = low.copy(), high.copy()
        low[: len(self.Q)], high[: len(self.Q)] = inputs.lower, inputs.upper
        unit = sparse.eye_array(model.n_columns, format="csr")
        parts = [(-model.floors, np.zeros(model.floors.shape[0])), (chords, tops)]
        parts += [(unit[np.isfinite(high)], high[np.isfinite(high)]), (-unit[np.isfinite(low)], -low[np.isfinite(low)])]
        both = [self._in_xi(sparse.csr_array(rows), sides) for rows, sides in parts]
        k, n = self.Q.shape[1], both[0][0].shape[1]
        ball = sparse.csr_array(sparse.vstack([sparse.csr_array((1, n)), -sparse.eye_array(k, n)]))
        self.counts = (len(equations[1]), sum(len(sides) for _, sides in both), k + 1)
        blocks = [equations, *both, (ball, np.concatenate([[1.0], np.zeros(k)]))]
        A = sparse.csc_array(sparse.vstack([rows for rows, _ in blocks]))
        return A, np.concatenate([sides for _, sides in blocks])

    def _cost(self, row: int) -> Array:
        cost = -self.model.objectives[0][row]
        return np.concatenate([cost[: len(self.Q)] @ self.Q, cost[len(self.Q) :]])

    def _start(self, cost: Array) -> Any:
        import clarabel

        settings = clarabel.DefaultSettings()
        settings.verbose, settings.presolve_enable = False, False
        if hasattr(settings, "max_threads"):  # older versions have one thread only
            settings.max_threads = 1
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-9
        settings.time_limit = seconds_left(self.effort)
        zero, positive, ball = self.counts
        cones = [clarabel.ZeroConeT(zero), clarabel.NonnegativeConeT(positive), clarabel.SecondOrderConeT(ball)]
        n = len(cost)
        return clarabel.DefaultSolver(sparse.csc_array((n, n)), cost, self.rows, self.sides, cones, settings)

    def __call__(self, row: int) -> tuple[Array | None, Array | None, str, int]:
        """Multipliers of the equations, the input at the optimum, status, iterations of a row."""
        if self.solver is None:
            self.solver = self._start(self._cost(row))
        else:
            self.solver.update(q=self._cost(row))
        found = self.solver.solve()
        multipliers = -np.array(found.z[: self.counts[0]])
        point = self.model.query.inputs.centre + self.Q @ np.array(found.x[: self.Q.shape[1]])
        status = str(found.status)
        word = {"Solved": "optimal", "AlmostSolved": "optimal", "MaxTime": "time_limit"}.get(
            status, f"failed: {status}"
        )
        return multipliers, point, word, int(found.iterations)

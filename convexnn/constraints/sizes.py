"""Best sizes of units whose hyperplanes stay: a small program, solved many times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.conic.run import run_problem
from convexnn.constraints.cones import FEWER, NONNEGATIVE, SECOND_ORDER, ZERO, Block, Effort, minimized
from convexnn.constraints.layout import Layout
from convexnn.constraints.lipschitz import stated
from convexnn.constraints.rows import PieceRows

Array = NDArray[np.float64]
Found = tuple[Array, Array, float]


@dataclass(frozen=True)
class Sizes:
    """Units of length one, and which of all units they are.

    Attributes
    ----------
    layout : Layout
    directions : array, shape (k, d + 1)
        Of the representatives that are not zero.
    alive : array of int, shape (k,)
    """

    layout: Layout
    directions: Array
    alive: NDArray[np.intp]

    def along(self, A: Array, E: Array) -> Array:
        """Rows as functions of sizes, linear term and constant, (r, k + d + 1)."""
        layout = self.layout
        unit = np.zeros((layout.units, layout.shape.n_inputs + 1))
        unit[self.alive] = self.directions
        each = (A * (E @ layout.spread(unit).T)).reshape(len(A), len(layout.moves), layout.units)
        return np.hstack([each.sum(axis=1)[:, self.alive], E])

    def forbidden(self) -> Array:
        """Rows over (sizes, linear term, constant) that are zero: what the symmetry asks of the affine part."""
        layout, k = self.layout, len(self.alive)
        d = layout.shape.n_inputs
        rows = []
        if not layout.skip or len(layout.moves) > 1:
            projector = layout.shape.projector if layout.skip else np.zeros((d, d))
            rows.append(np.hstack([np.zeros((d, k)), projector - np.eye(d), np.zeros((d, 1))]))
        if layout.shape.is_odd:
            rows.append(np.eye(1, k + d + 1, k + d))
        return np.vstack([*rows, np.zeros((0, k + d + 1))])

    def best(self, rows: PieceRows) -> Found | None:
        """Sizes, linear term and constant for squared loss under linear demands; None where nothing keeps them."""
        layout, s, k = self.layout, self.layout.structure, len(self.alive)
        d, n = layout.shape.n_inputs, len(s.y)
        width = k + d + 1

        def padded(matrix: Array, residual: Any = None, top: float = 0.0) -> Array:
            m = len(matrix)
            last = np.full((m, 1), 0.0)
            last[0:1] = top
            return np.hstack([matrix, np.zeros((m, n)) if residual is None else residual, last])

        equal, values = rows.low == rows.high, self.along(rows.A, rows.E)
        low, high = np.isfinite(rows.low) & ~equal, np.isfinite(rows.high) & ~equal
        forbidden = self.forbidden()
        length = np.vstack([np.zeros(width), np.eye(d, width, k)])
        blocks = [
            Block("residual", ZERO, padded(self.along(s.D.astype(np.float64), s.X), -np.eye(n)), -s.y),
            Block("forbidden", ZERO, padded(forbidden), np.zeros(len(forbidden))),
            Block("equal", ZERO, padded(values[equal]), -rows.low[equal]),
            Block("low", NONNEGATIVE, padded(values[low]), -rows.low[low]),
            Block("high", NONNEGATIVE, padded(-values[high]), rows.high[high]),
            Block("sizes", NONNEGATIVE, padded(np.eye(k, width)), np.zeros(k)),
            Block("length", SECOND_ORDER, padded(length, top=1.0), np.zeros(d + 1), d + 1),
        ]
        quadratic = np.concatenate([np.zeros(width), s.weight, [0.0]])
        linear = np.zeros(width + n + 1)
        linear[:k], linear[-1] = 2 * layout.base.lam * len(layout.moves), 4 * layout.base.lam
        found = minimized(quadratic, linear, blocks, Effort(size=layout.size), FEWER)
        return None if found is None else (found.z[:k], found.z[k : k + d], float(found.z[k + d]))

    def best_stated(self, rows: PieceRows) -> Found | None:
        """The same for any loss, by cvxpy."""
        import cvxpy as cp

        layout, s, k = self.layout, self.layout.structure, len(self.alive)
        d = layout.shape.n_inputs
        z = cp.Variable(k + d + 1)
        f, low, high = self.along(s.D, s.X) @ z, np.isfinite(rows.low), np.isfinite(rows.high)
        conditions = [z[:k] >= 0] if k else []
        if len(forbidden := self.forbidden()):
            conditions.append(forbidden @ z == 0)
        if len(rows):
            values = self.along(rows.A, rows.E) @ z
            conditions += [values[low] >= rows.low[low]] if low.any() else []
            conditions += [values[high] <= rows.high[high]] if high.any() else []
        penalty = 2 * layout.base.lam * (len(layout.moves) * cp.sum(z[:k]) + 2 * cp.norm(z[k : k + d], 2))
        if layout.lipschitz:
            units = cp.vstack([cp.multiply(self.directions @ M, cp.reshape(z[:k], (k, 1), "C")) for M in layout.moves])
            penalty, inequality = stated(units, z[k : k + d], layout.mean, layout.base.lam)
            conditions += inequality
        loss = s.weight @ s.sample_loss.cvxpy(f, s.y)
        problem = cp.Problem(cp.Minimize(loss + penalty), conditions)
        run_problem(problem, "clarabel", {}, 0, FEWER)
        if problem.status not in ("optimal", "optimal_inaccurate") or z.value is None:
            return None
        return z.value[:k], z.value[k : k + d], float(z.value[k + d])

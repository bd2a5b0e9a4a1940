"""From a point that nearly keeps the demands to a network that provably does.

With the hyperplanes of the units fixed, the linear pieces of the network are fixed too, so exact demands on slopes
are linear in the sizes of the units: pieces that break them are found by proof and added, round by round. What the
arithmetic leaves is taken away by mixing with an affine function that keeps all demands with room to spare.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.constraints.layout import Layout, Point
from convexnn.constraints.pieces import ZERO, Pieces, fractions, pieces_of
from convexnn.constraints.proofs import Limits, proved_slope
from convexnn.constraints.rows import PieceRows, anchor_rows, joined, no_rows, slope_rows
from convexnn.constraints.shape import SlopeDemand
from convexnn.constraints.sizes import Sizes

Array = NDArray[np.float64]

#: Pieces that are added for each demand in a round.
PIECES = 30
#: Room asked for in demands on slopes, in the units of :func:`slope_unit`: what the solver may lose.
ROOM = 1e-7


@dataclass(frozen=True)
class Violations:
    """Pieces that break demands on slopes, and by how much the worst does.

    Attributes
    ----------
    rows : PieceRows
    worst : float
        Largest shortfall, at most zero when all demands are kept.
    """

    rows: PieceRows
    worst: float


def slope_unit(layout: Layout, direction: Array) -> float:
    """A typical slope of the data along a feature: spread of the targets over spread of the feature."""
    s = layout.structure
    X = s.X[:, :-1] @ direction
    spread = float(np.sqrt(s.weight @ (X - s.weight @ X) ** 2))
    constant = spread <= 1e-12 * float(np.abs(X).max(initial=0.0))
    return float(np.sqrt(layout.base.scale)) / (float(np.abs(direction) @ layout.scales) if constant else spread)


def room_of(layout: Layout, demand: SlopeDemand) -> float:
    """Room for a demand: none where another one closes it from the other side, else :data:`ROOM`."""
    opposite = [other.low for other in layout.shape.slopes if np.array_equal(other.direction, -demand.direction)]
    gaps = [-low - demand.low for low in opposite]
    return min([ROOM * slope_unit(layout, demand.direction), *(0.25 * gap for gap in gaps)])


def violations(layout: Layout, point: Point, limits: Limits) -> Violations:
    """Pieces of the network of a point on which slopes are too small, proved to be the worst ones."""
    pieces = pieces_of(layout.decode(point))
    sides = _UnitSides(layout, point, pieces)
    parts, worst = [no_rows(layout)], -np.inf
    for demand in layout.shape.slopes:
        low = demand.low + room_of(layout, demand)
        bound, active, _ = proved_slope(
            pieces, demand.direction, demand.domain, target=demand.low, keep=PIECES, limits=limits
        )
        worst = max(worst, demand.low - float(bound))
        parts.append(slope_rows(demand, sides.of(active), low))
    return Violations(joined(*parts), worst)


class _UnitSides:
    """Which units are active on a piece that is given by its active kinks."""

    def __init__(self, layout: Layout, point: Point, pieces: Pieces) -> None:
        rows = layout.spread(point.U) * layout.all_signs[:, None]
        net = layout.decode(point)
        places = {row: k for k, row in enumerate(pieces.kinks)}
        self.kink, self.turned = np.full(len(rows), -1), np.zeros(len(rows), dtype=bool)
        keep = np.flatnonzero(np.linalg.norm(point.U, axis=1) > 0)
        owners = np.concatenate([g * layout.units + keep for g in range(len(layout.moves))])
        for unit, w, b in zip(owners, net.W, net.b, strict=False):
            row = fractions(np.append(w, b))
            lead = next((entry for entry in row[:-1] if entry), ZERO)
            if lead:
                self.kink[unit] = places.get(tuple(entry / lead for entry in row), -1)
                self.turned[unit] = lead < 0
        self.alone = rows[:, -1] > 0  # units without weights

    def of(self, active: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Active units (r, g p) of pieces (r, kinks)."""
        found = np.repeat(self.alone[None], len(active), axis=0)
        known = self.kink >= 0
        found[:, known] = active[:, self.kink[known]] ^ self.turned[known]
        return found


def resized(layout: Layout, point: Point, rows: PieceRows) -> Point | None:
    """Best sizes of the units with their hyperplanes fixed, linear term and constant, under linear demands.

    Implements: docs/theory/shape_constraints.md, Proposition 6.
    """
    rows = joined(anchor_rows(layout), rows)
    lengths = np.linalg.norm(point.U, axis=1)
    alive = np.flatnonzero(lengths > 1e-9 * max(float(lengths.max(initial=0.0)), 1e-300))
    at = Sizes(layout, point.U[alive] / lengths[alive, None], alive)
    found = at.best(rows) if layout.structure.is_squared and not layout.lipschitz else at.best_stated(rows)
    if found is None:
        return None
    size, a, c = found
    U = np.zeros_like(point.U)
    U[alive] = point.U[alive] * (np.maximum(size, 0.0) / lengths[alive])[:, None]
    linear = layout.shape.projector @ a if layout.skip else np.zeros(layout.shape.n_inputs)
    return Point(U, linear, 0.0 if layout.shape.is_odd else c)


def snapped(layout: Layout, point: Point) -> Point:
    """Fixed values and gradients met up to rounding, by the least change of sizes, linear term and constant."""
    rows = anchor_rows(layout)
    if not len(rows):
        return point
    point = _off_the_kinks(layout, point)
    for _ in range(3):
        all_units = layout.spread(point.U)
        parts = (rows.A * (rows.E @ all_units.T)).reshape(len(rows), len(layout.moves), layout.units).sum(axis=1)
        value = parts.sum(axis=1) + rows.E[:, :-1] @ point.linear + rows.E[:, -1] * point.constant
        free_linear = layout.shape.projector if layout.skip else np.zeros((layout.shape.n_inputs,) * 2)
        free = rows.E[:, -1:] * (0.0 if layout.shape.is_odd else 1.0)
        J = np.hstack([parts, rows.E[:, :-1] @ free_linear, free])
        step = np.linalg.lstsq(J, rows.low - value, rcond=1e-12)[0]
        sizes = np.maximum(1.0 + step[: layout.units], 0.0)
        linear = point.linear + free_linear @ step[layout.units : -1]
        point = Point(point.U * sizes[:, None], linear, point.constant + float(free.any()) * float(step[-1]))
    return point


def _off_the_kinks(layout: Layout, point: Point) -> Point:
    """Units whose kink passes through a point with a fixed gradient, moved off it by their bias."""
    wanted = {gradient.point.tobytes() for gradient in layout.shape.gradients}
    U = point.U.copy()
    for r, anchor in enumerate(layout.X0):
        if anchor[:-1].tobytes() not in wanted:
            continue
        slack = (layout.sides[r] * (layout.spread(U) @ anchor)).reshape(len(layout.moves), layout.units)
        need = 1e-7 * np.linalg.norm(U, axis=1) * np.linalg.norm(anchor)
        for g, chi in enumerate(layout.shape.characters):
            lack = np.maximum(need - slack[g], 0.0)
            U[:, -1] += chi * layout.sides[r].reshape(len(layout.moves), -1)[g] * lack
    return replace(point, U=U)

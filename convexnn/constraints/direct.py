"""The program of :mod:`convexnn.constraints.program` with squared loss as rows in cones, for Clarabel without cvxpy.

Columns: units (p, d + 1) row by row, linear term, constant, predictions minus targets, lengths of the units and of
the linear term, falls of the sufficient slopes, then ``kappa`` and ``rho`` of every cap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from convexnn.constraints.caps import CapDual, CapProgram
from convexnn.constraints.cones import (
    FEWER,
    NONNEGATIVE,
    PSD,
    SECOND_ORDER,
    ZERO,
    Answer,
    Block,
    Effort,
    minimized,
    power_of_two,
    symmetric,
    triangle,
)
from convexnn.constraints.evidence import ShapeDual
from convexnn.constraints.layout import Layout, Point
from convexnn.constraints.lipschitz import RIDGE, Spectral, cones
from convexnn.constraints.rows import PieceRows, WorstRows
from convexnn.regions.region import BALL

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Where the variables stand.

    Attributes
    ----------
    layout : Layout
    n_worst : int
        Demands on every conceivable piece.
    caps : tuple of CapProgram
    """

    layout: Layout
    n_worst: int
    caps: tuple[CapProgram, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of columns of each kind, in their order."""
        layout = self.layout
        d, P = layout.shape.n_inputs, layout.structure.D.shape[1]
        found = {"U": layout.units * (d + 1), "a": d if layout.skip else 0, "c": 0 if layout.shape.is_odd else 1}
        found |= {"f": len(layout.structure.y), "falls": self.n_worst * P}
        if layout.lipschitz:
            found |= {"Y": (P + 1) * d * (d + 1) // 2, "q": P + 1, "beta": P}
        else:
            found |= {"t": layout.units, "ta": min(1, found["a"])}
        for number, cap in enumerate(self.caps):
            found[f"kappa{number}"] = int(cap.adds.sum())
            found[f"rho{number}"] = 1 if cap.cap.region.kind == BALL else cap.cap.region.n_axes
        return found

    @property
    def places(self) -> dict[str, slice]:
        """Columns of each kind."""
        ends = np.cumsum(list(self.sizes.values()))
        return {
            name: slice(int(end) - count, int(end)) for (name, count), end in zip(self.sizes.items(), ends, strict=True)
        }

    def rows(self, **parts: Any) -> sparse.csc_array:
        """Rows from coefficients of some kinds of columns; zero elsewhere."""
        m = next(iter(parts.values())).shape[0]
        found = [
            sparse.csc_array(parts[name]) if name in parts else sparse.csc_array((m, count))
            for name, count in self.sizes.items()
        ]
        return sparse.csc_array(sparse.hstack(found))

    def affine(self, A: Array, E: Array) -> dict[str, Array]:
        """Coefficients of ``sum_i A_ri e_r'u_i + e_r'(linear, constant)`` for A (r, g p) and E (r, d + 1)."""
        layout = self.layout
        r = len(A)
        per = A.reshape(r, len(layout.moves), layout.units)
        moved = np.stack([E @ M.T for M in layout.moves], axis=1)  # (r, g, d + 1)
        parts = {"U": np.einsum("rgp,rge->rpe", per, moved).reshape(r, -1)}
        if layout.skip:
            parts["a"] = E[:, :-1]
        if not layout.shape.is_odd:
            parts["c"] = E[:, -1:]
        return parts


def solve_direct(layout: Layout, demands: Any, effort: Effort) -> tuple[Point, ShapeDual] | None:
    """Point and multipliers of a program with squared loss; None when it has no feasible point.

    Parameters
    ----------
    layout : Layout
    demands : Demands
    effort : Effort

    Raises
    ------
    SolverError
    """
    worst = 0 if demands.worst is None else len(demands.worst)
    at = Columns(layout, worst, demands.caps)
    blocks = [*_cells(at), *_pieces(at, demands.pieces), *_worst(at, demands.worst)]
    for number, cap in enumerate(demands.caps):
        blocks += _cap(at, number, cap)
    quadratic, linear = _costs(at)
    found = minimized(quadratic, linear, blocks, replace(effort, columns=_columns(at, demands.worst)), FEWER)
    if found is None:
        return None
    place, z = at.places, found.z
    a = layout.shape.projector @ z[place["a"]] if layout.skip else np.zeros(layout.shape.n_inputs)
    point = Point(z[place["U"]].reshape(layout.units, -1), a, 0.0 if layout.shape.is_odd else float(z[place["c"]][0]))
    return point, _dual(at, demands, point, found)


def _costs(at: Columns) -> tuple[Array, Array]:
    layout, place = at.layout, at.places
    size = sum(at.sizes.values())
    quadratic, linear = np.zeros(size), np.zeros(size)
    quadratic[place["f"]] = layout.structure.weight
    if layout.lipschitz:
        linear[place["q"]] = layout.base.lam * _level(layout)
        quadratic[place["beta"]] = RIDGE
    else:
        linear[place["t"]] = 2 * layout.base.lam * len(layout.moves)
        linear[place["ta"]] = 4 * layout.base.lam
    return quadratic, linear


def _columns(at: Columns, worst: WorstRows | None) -> Array:
    """Sizes of the variables when all features are of order one; slopes go by their feature."""
    layout, place = at.layout, at.places
    columns, weights = np.ones(sum(at.sizes.values())), 1 / layout.scales
    columns[place["U"]] = np.tile(np.append(weights, 1.0), layout.units)
    columns[place["a"]] = weights if layout.skip else 1.0
    for name in ("Y", "q") if layout.lipschitz else ("t", "ta"):
        columns[place[name]] = float(weights.max()) if layout.lipschitz else max(1.0, float(weights.max()))
    if worst is not None and len(worst):
        columns[place["falls"]] = np.repeat(power_of_two(np.abs(worst.E) @ weights), layout.structure.D.shape[1])
    return columns


def _level(layout: Layout) -> float:
    """Typical slope, for the matrices of the Lipschitz penalty."""
    return float(layout.size / layout.scales.min())


def _cells(at: Columns) -> list[Block]:
    """Predictions, cells on data and anchors, the symmetry of the linear term, lengths."""
    layout, s = at.layout, at.layout.structure
    n, d = len(s.y), layout.shape.n_inputs
    parts = at.affine(s.D.astype(np.float64), s.X)
    blocks = [Block("predictions", ZERO, at.rows(**parts, f=-np.eye(n)), -s.y)]
    for label, signs, X in (("cones", s.S, s.X), ("anchors", layout.sides, layout.X0)):
        if len(X):
            matrix: Any = sparse.vstack(
                [
                    sparse.block_diag([signs[:, g * layout.units + i, None] * (X @ M.T) for i in range(layout.units)])
                    for g, M in enumerate(layout.moves)
                ]
            )
            blocks.append(Block(label, NONNEGATIVE, at.rows(U=matrix), np.zeros(matrix.shape[0])))
    if layout.skip and len(layout.moves) > 1:
        blocks.append(Block("symmetry", ZERO, at.rows(a=layout.shape.projector - np.eye(d)), np.zeros(d)))
    if layout.lipschitz:
        return [*blocks, *cones(at, _level(layout), layout.mean)]
    blocks.append(_lengths(at, "t", layout.units, "U", d + 1, "lengths"))
    if layout.skip:
        blocks.append(_lengths(at, "ta", 1, "a", d, "length"))
    return blocks


def _lengths(at: Columns, tops: str, count: int, name: str, width: int, label: str) -> Block:
    """``top_i >= |row_i|`` for rows of the given width."""
    first = sparse.kron(sparse.eye_array(count), np.eye(width + 1, 1))
    rest = sparse.kron(sparse.eye_array(count), np.eye(width + 1, width, -1))
    return Block(label, SECOND_ORDER, at.rows(**{tops: first, name: rest}), np.zeros(count * (width + 1)), width + 1)


def _pieces(at: Columns, rows: PieceRows) -> list[Block]:
    if not len(rows):
        return []
    equal = rows.low == rows.high
    blocks = []
    for label, cone, chosen, level, sign in (
        ("equal", ZERO, equal, rows.low, 1.0),
        ("low", NONNEGATIVE, np.isfinite(rows.low) & ~equal, rows.low, 1.0),
        ("high", NONNEGATIVE, np.isfinite(rows.high) & ~equal, rows.high, -1.0),
    ):
        if chosen.any():
            parts = at.affine(rows.A[chosen], rows.E[chosen])
            blocks.append(Block(label, cone, sign * at.rows(**parts), -sign * level[chosen]))
    return blocks


def _worst(at: Columns, rows: WorstRows | None) -> list[Block]:
    """Falls at least zero and at least minus the slope of each unit; what is left of the linear term is enough."""
    if rows is None or not len(rows):
        return []
    layout = at.layout
    P, w = layout.structure.D.shape[1], len(rows)
    each = sparse.eye_array(layout.units)
    slopes = sparse.vstack([sparse.kron(each, np.append(e, 0.0)[None] @ M.T) for e in rows.E for M in layout.moves])
    total: dict[str, Any] = {"falls": -sparse.kron(sparse.eye_array(w), np.ones((1, P)))}
    if layout.skip:
        total["a"] = rows.E
    eye = sparse.eye_array(w * P)
    return [
        Block("falls positive", NONNEGATIVE, at.rows(falls=eye), np.zeros(w * P)),
        Block("falls", NONNEGATIVE, at.rows(falls=eye, U=slopes), np.zeros(w * P)),
        Block("worst", NONNEGATIVE, at.rows(**total), -rows.low),
    ]


def _cap(at: Columns, number: int, cap: CapProgram) -> list[Block]:
    """The matrix inequality of a cap by its upper triangle, as in its ``conditions``, and signs of multipliers."""
    sign, frame, adds = cap.cap.sign, cap.frame, np.flatnonzero(cap.adds)
    r, m, P = frame.shape[1] - 1, len(adds), len(cap.signs)
    weights = np.where(cap.adds, 0.5, cap.tau)
    tilted = at.affine(np.tile(weights, (r + 1, 1)), sign * frame.T)  # h and its constant
    chosen = np.zeros((m, P))
    chosen[np.arange(m), adds] = 0.5
    units = {"U": at.affine(np.repeat(chosen, r + 1, axis=0), np.tile(sign * frame.T, (m, 1)))["U"]}  # (m (r + 1), .)
    order = r + 1 + m
    rows, columns, factors = triangle(order)
    place = {(int(i), int(j)): k for k, (i, j) in enumerate(zip(rows, columns, strict=True))}
    entries = len(rows)

    def put(targets: list[int], values: sparse.csc_array) -> sparse.csc_array:
        """Rows of the block from rows of coefficients, at these entries of the triangle."""
        scale = factors[targets]
        spot = sparse.csc_array((scale, (targets, np.arange(len(targets)))), shape=(entries, len(targets)))
        return sparse.csc_array(spot @ values)

    ball = cap.cap.region.kind == BALL
    rho = np.ones((r, 1)) if ball else np.eye(r)
    corner = {name: -part[r:] for name, part in tilted.items()}
    corner |= {f"rho{number}": -np.ones((1, rho.shape[1])), f"kappa{number}": -0.25 * np.ones((1, m))}
    matrix: Any = put([place[j, j] for j in range(r)], at.rows(**{f"rho{number}": rho}))
    matrix += put([place[j, r] for j in range(r)], at.rows(**{name: -0.5 * part[:r] for name, part in tilted.items()}))
    matrix += put([place[r, r]], at.rows(**corner))
    if m:
        spots = [place[j, r + 1 + i] for i in range(m) for j in range(r + 1)]
        matrix += put(spots, at.rows(**units))
        matrix += put([place[r + 1 + i, r + 1 + i] for i in range(m)], at.rows(**{f"kappa{number}": np.eye(m)}))
    constant = np.zeros(entries)
    constant[place[r, r]] = sign * cap.cap.value
    found = [Block(f"cap{number}", PSD, matrix, constant, order)]
    for name in (f"rho{number}", f"kappa{number}"):
        count = at.sizes[name]
        found.append(Block(f"{name} positive", NONNEGATIVE, at.rows(**{name: np.eye(count)}), np.zeros(count)))
    return found


def _dual(at: Columns, demands: Any, point: Point, found: Answer) -> ShapeDual:
    """Multipliers in the shape that the evidence takes; nothing in them is believed."""
    layout, s, rows = at.layout, at.layout.structure, demands.pieces
    equal = rows.low == rows.high
    mixed = np.zeros(len(rows))
    for label, chosen, sign in (
        ("equal", equal, 1.0),
        ("low", np.isfinite(rows.low) & ~equal, 1.0),
        ("high", np.isfinite(rows.high) & ~equal, -1.0),
    ):
        if label in found.duals:
            mixed[chosen] += sign * found.duals[label]
    P, w = s.D.shape[1], at.n_worst
    caps = []
    for number, cap in enumerate(demands.caps):
        order = cap.frame.shape[1] + int(cap.adds.sum())
        caps.append(CapDual(symmetric(found.duals[f"cap{number}"], order)))
    by_unit = found.duals["cones"].reshape(P, len(s.y)).T
    anchors = found.duals["anchors"].reshape(P, -1).T if "anchors" in found.duals else np.zeros_like(layout.D0)
    return ShapeDual(
        residual=2 * s.weight * (layout.predictions(point) - s.y),
        cones=np.maximum(by_unit, 0.0),
        anchors=np.maximum(anchors, 0.0),
        rows=mixed,
        worst=np.asarray(found.duals.get("worst", np.zeros(w))),
        falls=np.asarray(found.duals.get("falls", np.zeros(w * P))).reshape(w, P),
        caps=tuple(caps),
        spectral=_spectral(at, found),
    )


def _spectral(at: Columns, found: Answer) -> Spectral:
    if not at.layout.lipschitz:
        return Spectral()
    d = at.layout.shape.n_inputs
    first = symmetric(found.duals["arrows"][: (d + 1) * (d + 2) // 2], d + 1)
    return Spectral(symmetric(found.duals["budget"], d), first[:d, d])

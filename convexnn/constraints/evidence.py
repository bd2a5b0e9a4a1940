"""Lower bounds of constrained programs, valid for any multipliers.

Every demand is turned into halfspaces that hold all feasible points, with multipliers made admissible first. What is
left is the bound of the unconstrained program with these halfspaces as further rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convexnn.constraints.caps import CapDual
from convexnn.constraints.layout import Layout
from convexnn.monotone import concave_maximum, increasing_root

if TYPE_CHECKING:
    from convexnn.constraints.program import Demands

Array = NDArray[np.float64]

EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class ShapeDual:
    """Multipliers of a constrained program; any numbers of these shapes give a valid bound.

    Attributes
    ----------
    residual : array, shape (n,)
        Slopes of the losses.
    cones, anchors : array, shape (n, g p), (r, g p)
        Of the cells.
    rows : array, shape (piece rows,)
        Nonnegative for lower ends, nonpositive for upper ends, any sign for equations.
    worst : array, shape (worst rows,)
    falls : array, shape (worst rows, g p)
        Between zero and the multiplier of the row.
    caps : tuple of CapDual
    """

    residual: Array
    cones: Array
    anchors: Array
    rows: Array
    worst: Array
    falls: Array
    caps: tuple[CapDual, ...] = ()


@dataclass
class _Sum:
    """``<H, U> + h_a'linear + h_c constant >= h_0`` with a bound on the roundoff, entry by entry."""

    H: Array
    h_a: Array
    h_c: float
    h_0: float
    error: Array
    error_a: Array

    def add(self, weights: Array, A: Array, E: Array, level: float) -> None:
        """Rows ``A`` (r, g p), ``E`` (r, d + 1) with multipliers."""
        terms = weights[:, None] * A
        self.H += terms.T @ E
        self.error += (len(weights) + 8) * EPS * (np.abs(terms).T @ np.abs(E))
        self.h_0 += level

    def add_affine(self, weights: Array, E: Array) -> None:
        self.h_a += weights @ E[:, :-1]
        self.error_a += (len(weights) + 8) * EPS * (np.abs(weights) @ np.abs(E[:, :-1]))
        self.h_c += float(weights @ E[:, -1])


def lower_bound(layout: Layout, demands: Demands, dual: ShapeDual) -> float:
    """Lower bound on the optimum of a constrained program, valid for every ``dual``.

    Implements: docs/theory/shape_constraints.md, Proposition 5.

    Returns
    -------
    float
        ``-inf`` for wrong shapes, NaN and infinite multipliers.
    """
    s = layout.structure
    if not _usable(layout, demands, dual):
        return -np.inf
    rows = _admissible_rows(demands, dual.rows)
    with np.errstate(over="ignore", invalid="ignore"):
        total = _collected(layout, demands, dual, rows)
        p, found = _closed(layout, demands, np.asarray(dual.residual), total)
        if not found or not np.isfinite(p).all() or not np.isfinite(total.H).all():
            return s.constant
        return s.constant + _scaled(layout, p, total)


def _usable(layout: Layout, demands: Demands, dual: ShapeDual) -> bool:
    s = layout.structure
    worst = 0 if demands.worst is None else len(demands.worst)
    shapes = [
        (dual.residual, s.y.shape),
        (dual.cones, s.S.shape),
        (dual.anchors, layout.D0.shape),
        (dual.rows, (len(demands.pieces),)),
        (dual.worst, (worst,)),
        (dual.falls, (worst, s.S.shape[1])),
    ]
    return all(np.shape(a) == shape and np.isfinite(a).all() for a, shape in shapes)


def _admissible_rows(demands: Demands, given: Array) -> Array:
    rows = demands.pieces
    lowest = np.where(np.isfinite(rows.high), -np.inf, 0.0)
    highest = np.where(np.isfinite(rows.low), np.inf, 0.0)
    return np.clip(given, lowest, highest)


def _level(demands: Demands, rows: Array) -> float:
    pieces = demands.pieces
    ends = np.where(rows > 0, pieces.low, pieces.high)
    return float(rows[rows != 0] @ ends[rows != 0])


def _collected(layout: Layout, demands: Demands, dual: ShapeDual, rows: Array) -> _Sum:
    s, d = layout.structure, layout.shape.n_inputs
    P = s.S.shape[1]
    total = _Sum(np.zeros((P, d + 1)), np.zeros(d), 0.0, 0.0, np.zeros((P, d + 1)), np.zeros(d))
    cones, anchors = np.maximum(dual.cones, 0.0), np.maximum(dual.anchors, 0.0)
    total.add(np.ones(len(s.X)), s.S * cones, s.X, 0.0)
    if len(layout.X0):
        total.add(np.ones(len(layout.X0)), layout.sides * anchors, layout.X0, 0.0)
    if len(rows):
        total.add(rows, demands.pieces.A, demands.pieces.E, _level(demands, rows))
        total.add_affine(rows, demands.pieces.E)
    if demands.worst is not None and len(demands.worst):
        weights = np.maximum(dual.worst, 0.0)
        falls = np.clip(dual.falls, 0.0, weights[:, None])
        E = np.hstack([demands.worst.E, np.zeros((len(weights), 1))])
        total.add(np.ones(len(weights)), falls, E, float(weights @ demands.worst.low))
        total.add_affine(weights, E)
    for cap, given in zip(demands.caps, dual.caps, strict=False):
        half = cap.halfspace(given, P)
        if half is not None:
            total.H += half.H
            total.error += 64 * (d + P) * EPS * (np.abs(half.H).max() + abs(half.h_0))
            total.h_a, total.h_c, total.h_0 = total.h_a + half.h_a, total.h_c + half.h_c, total.h_0 + half.h_0
            total.error_a += 64 * (d + P) * EPS * (np.abs(half.h_a).max() + abs(half.h_0))
    return total


def _closed(layout: Layout, demands: Demands, residual: Array, total: _Sum) -> tuple[Array, bool]:
    """Residuals with slopes that the loss takes and ``sum p = h_c`` where the constant is free.

    An equation that holds the constant takes up the difference; else the residuals are shifted.
    """
    s = layout.structure
    low, high = (-np.inf, np.inf) if s.is_squared else s.sample_loss.slopes(s.y)
    ratio = np.clip(residual / s.weight, low, high)
    if layout.shape.is_odd:
        return s.weight * ratio, True
    pieces = demands.pieces
    fixed = np.flatnonzero((pieces.low == pieces.high) & (pieces.E[:, -1] != 0)) if len(pieces) else np.zeros(0, int)
    if len(fixed):
        p = s.weight * ratio
        k = int(fixed[0])
        missing = np.array([(float(p.sum()) - total.h_c) / pieces.E[k, -1]])
        total.add(missing, pieces.A[k : k + 1], pieces.E[k : k + 1], float(missing[0] * pieces.low[k]))
        total.add_affine(missing, pieces.E[k : k + 1])
        return p, True
    wanted = total.h_c
    if s.is_squared:
        return s.weight * (ratio - (s.weight @ ratio - wanted)), True

    def excess(mu: float) -> tuple[float, float]:
        return wanted - float(s.weight @ np.clip(ratio - mu, low, high)), 0.0

    mu = increasing_root(excess, float(ratio.min()) - 1.0, float(ratio.max()) + 1.0)
    p = s.weight * np.clip(ratio - mu, low, high)
    return p, bool(abs(float(p.sum()) - wanted) <= 1e-12 * float(np.abs(p).sum() + abs(wanted)))


def _scaled(layout: Layout, p: Array, total: _Sum) -> float:
    """Best bound over ``theta`` times all multipliers."""
    s, lam, group = layout.structure, layout.base.lam, len(layout.moves)
    drift = np.abs(p) + s.weight * (abs(float(p.sum()) - total.h_c) + EPS * float(np.abs(p).sum()))
    terms = p[:, None] * s.D
    Z = terms.T @ s.X - total.H
    error = total.error + (len(p) + 8) * EPS * ((drift[:, None] * s.D).T @ np.abs(s.X))
    norms = np.linalg.norm(np.abs(layout.gathered(Z)) + _gathered_size(layout, error), axis=1)
    limits = [2 * lam * group / float(norms.max(initial=0.0))] if norms.max(initial=0.0) > 0 else [np.inf]
    if layout.skip:
        z = layout.shape.projector @ (p @ s.X[:, :-1] - total.h_a)
        wrong = total.error_a + (len(p) + 16) * EPS * (drift @ np.abs(s.X[:, :-1]) + np.abs(total.h_a))
        size = float(np.linalg.norm(np.abs(z) + np.abs(layout.shape.projector) @ wrong))
        limits.append(4 * lam / size if size > 0 else np.inf)
    limit = min(limits)
    ratio = p / s.weight
    if not s.is_squared:
        low, high = s.sample_loss.slopes(s.y)
        steepest = float(np.max(ratio / np.where(ratio < 0, low, high), initial=0.0, where=ratio != 0))
        limit = min(limit, 1 / steepest) if steepest > 0 else limit

    def value(theta: float) -> float:
        if s.is_squared:
            conjugate = 0.25 * (theta * ratio) ** 2 + theta * ratio * s.y
        else:
            conjugate = s.sample_loss.conjugate(np.clip(theta * ratio, low, high), s.y)
        rounding = (len(p) + 32) * EPS * (theta * float(np.abs(p) @ np.abs(s.y)) + float(s.weight @ np.abs(conjugate)))
        return theta * total.h_0 - float(s.weight @ conjugate) - rounding - 8 * EPS * theta * abs(total.h_0)

    return max(0.0, concave_maximum(value, limit)) if limit > 0 else 0.0


def _gathered_size(layout: Layout, error: Array) -> Array:
    blocks = error.reshape(len(layout.moves), layout.units, -1)
    return np.asarray(sum(block @ np.abs(M).T for block, M in zip(blocks, layout.moves, strict=True)))

"""Lower bounds of constrained programs, valid for any multipliers.

Every demand is turned into halfspaces that hold all feasible points, with multipliers made admissible first. What is
left is the bound of the unconstrained program with these halfspaces as further rows. What multiplies the free constant
has to vanish exactly, so it and the level of the halfspace are rational numbers; all else is rounded outward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convexnn.constraints.caps import CapDual, Halfspace
from convexnn.constraints.layout import Layout
from convexnn.constraints.lipschitz import Spectral, conjugate_up
from convexnn.monotone import concave_maximum, increasing_root
from convexnn.rigorous import fraction_down, fraction_up, row_norms_up

if TYPE_CHECKING:
    from convexnn.constraints.program import Demands

Array = NDArray[np.float64]

EPS = float(np.finfo(float).eps)
#: Far above the underflow of all products, far below everything else.
FLOOR = 1e-290
#: How far slopes may leave those of the loss before the multiples of them are taken that do not.
BEYOND = 1 + 1e-6


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
    spectral : Spectral
        Of the Lipschitz penalty.
    """

    residual: Array
    cones: Array
    anchors: Array
    rows: Array
    worst: Array
    falls: Array
    caps: tuple[CapDual, ...] = ()
    spectral: Spectral = Spectral()


@dataclass
class _Sum:
    """``<H, U> + h_a'linear + h_c constant >= h_0``: h_c and h_0 exact, H and h_a with bounds on their roundoff."""

    H: Array
    h_a: Array
    error: Array
    error_a: Array
    h_c: Fraction = field(default_factory=Fraction)
    h_0: Fraction = field(default_factory=Fraction)

    def add(self, weights: Array, A: Array, E: Array) -> None:
        """Rows ``A`` (r, g p), ``E`` (r, d + 1) with multipliers."""
        terms = weights[:, None] * A
        self.H += terms.T @ E
        self.error += (len(weights) + 8) * EPS * (np.abs(terms).T @ np.abs(E))

    def add_affine(self, weights: Array, E: Array, ends: Array) -> None:
        """Of the linear term and the constant, and the levels."""
        self.h_a += weights @ E[:, :-1]
        self.error_a += (len(weights) + 8) * EPS * (np.abs(weights) @ np.abs(E[:, :-1]))
        self.h_c += exact_product(weights, E[:, -1])
        self.h_0 += exact_product(weights, ends)

    def add_halfspace(self, half: Halfspace) -> None:
        """What a cap says."""
        self.H += half.H
        self.h_a += half.h_a
        self.error += half.error + EPS * np.abs(self.H)
        self.error_a += half.error[:-1] + EPS * np.abs(self.h_a)
        self.h_c += Fraction(half.h_c)
        self.h_0 += Fraction(half.h_c) * Fraction(half.level)


def exact_product(a: Array, b: Array) -> Fraction:
    """Scalar product without rounding; entries of b where a vanishes are not read."""
    return sum((Fraction(x) * Fraction(y) for x, y in zip(a.tolist(), b.tolist(), strict=True) if x), Fraction(0))


def lower_bound(layout: Layout, demands: Demands, dual: ShapeDual) -> float:
    """Lower bound on the optimum of a constrained program, valid for every ``dual``, rounding included.

    Implements: docs/theory/shape_constraints.md, Proposition 5.

    Returns
    -------
    float
        ``-inf`` for wrong shapes, NaN and infinite multipliers; the smallest value of the loss, zero plus the variance
        of repeated rows (rounded down), where the multipliers say no more.
    """
    least = layout.base.rows.proved_constant
    numbers = _numbers(layout, demands, dual)
    if numbers is None:
        return -np.inf
    with np.errstate(all="ignore"):
        total = _collected(layout, demands, numbers)
        if not all(np.isfinite(a).all() for a in (total.H, total.h_a, total.error, total.error_a)):
            return least
        slopes = _closed(layout, demands, numbers.residual, total)
        if slopes is None or not np.isfinite(total.H).all():
            return least
        more = _scaled(layout, slopes, total, numbers.spectral)
        return math.nextafter(least + more, -math.inf) if more > 0 else least


def _numbers(layout: Layout, demands: Demands, dual: ShapeDual) -> ShapeDual | None:
    """The multipliers as arrays of finite floats, None for others."""
    s = layout.structure
    worst = 0 if demands.worst is None else len(demands.worst)
    shapes = {
        "residual": s.y.shape,
        "cones": s.S.shape,
        "anchors": layout.D0.shape,
        "rows": (len(demands.pieces),),
        "worst": (worst,),
        "falls": (worst, s.S.shape[1]),
    }
    found: dict[str, Array] = {}
    for name, shape in shapes.items():
        given = np.asarray(getattr(dual, name))
        if given.shape != shape or given.dtype.kind not in "biuf" or not np.isfinite(given.astype(np.float64)).all():
            return None
        found[name] = given.astype(np.float64)
    return ShapeDual(**found, caps=tuple(dual.caps), spectral=dual.spectral)


def _admissible_rows(demands: Demands, given: Array) -> Array:
    rows = demands.pieces
    lowest = np.where(np.isfinite(rows.high), -np.inf, 0.0)
    highest = np.where(np.isfinite(rows.low), np.inf, 0.0)
    return np.clip(given, lowest, highest)


def _collected(layout: Layout, demands: Demands, dual: ShapeDual) -> _Sum:
    s, d = layout.structure, layout.shape.n_inputs
    P = s.S.shape[1]
    total = _Sum(np.zeros((P, d + 1)), np.zeros(d), np.zeros((P, d + 1)), np.zeros(d))
    cones, anchors = np.maximum(dual.cones, 0.0), np.maximum(dual.anchors, 0.0)
    total.add(np.ones(len(s.X)), s.S * cones, s.X)
    if len(layout.X0):
        total.add(np.ones(len(layout.X0)), layout.sides * anchors, layout.X0)
    pieces = demands.pieces
    if len(pieces):
        rows = _admissible_rows(demands, dual.rows)
        total.add(rows, pieces.A, pieces.E)
        total.add_affine(rows, pieces.E, np.where(rows > 0, pieces.low, pieces.high))
    if demands.worst is not None and len(demands.worst):
        weights = np.maximum(dual.worst, 0.0)
        falls = np.clip(dual.falls, 0.0, weights[:, None])
        E = np.hstack([demands.worst.E, np.zeros((len(weights), 1))])
        total.add(np.ones(len(weights)), falls, E)
        total.add_affine(weights, E, demands.worst.low)
    for cap, given in zip(demands.caps, dual.caps, strict=False):
        half = cap.halfspace(given, P)
        if half is not None:
            total.add_halfspace(half)
    return total


@dataclass(frozen=True)
class _Slopes:
    """Slopes p of the weighted losses, shape (n,), and how far each may be from the slopes that are meant.

    Those have a sum of exactly h_c (where the constant is free) and signs that the loss takes.
    """

    p: Array
    moved: Array


def _closed(layout: Layout, demands: Demands, residual: Array, total: _Sum) -> _Slopes | None:
    """Slopes that the loss takes, with the sum ``h_c`` where the constant is free; None when there are none.

    An equation that holds the constant takes up the difference; else the residuals are shifted.
    """
    s = layout.structure
    low, high = s.sample_loss.slopes(s.y)
    ratio = np.clip(residual / s.weight, low, high)
    if layout.shape.is_odd:
        p = s.weight * ratio
        return _Slopes(p, np.zeros(len(p))) if np.isfinite(p).all() else None
    pieces = demands.pieces
    fixed = np.flatnonzero((pieces.low == pieces.high) & (pieces.E[:, -1] != 0)) if len(pieces) else np.zeros(0, int)
    if len(fixed):
        p, row = s.weight * ratio, slice(fixed[0], fixed[0] + 1)
        if not np.isfinite(p).all():
            return None
        missing = fraction_down((_exact_sum(p) - total.h_c) / Fraction(float(pieces.E[fixed[0], -1])))
        if not math.isfinite(missing):
            return None
        total.add(np.array([missing]), pieces.A[row], pieces.E[row])
        total.add_affine(np.array([missing]), pieces.E[row], pieces.low[row])
    else:
        p = s.weight * _shifted(layout, ratio, fraction_down(total.h_c))
    return _balanced(layout, p, total.h_c)


def _shifted(layout: Layout, ratio: Array, wanted: float) -> Array:
    """Slopes of the samples, all moved by one number and clipped, with a weighted sum near the wanted one."""
    s = layout.structure
    low, high = s.sample_loss.slopes(s.y)
    if s.is_squared:
        for _ in range(2):  # the second time for the rounding of the first
            ratio = ratio - (s.weight @ ratio - wanted) / s.weight.sum()
        return ratio

    def excess(mu: float) -> tuple[float, float]:
        return wanted - float(s.weight @ np.clip(ratio - mu, low, high)), 0.0

    mu = increasing_root(excess, float(ratio.min()) - 1.0, float(ratio.max()) + 1.0)
    return np.clip(ratio - mu, low, high)


def _exact_sum(values: Array) -> Fraction:
    return sum(map(Fraction, values.tolist()), Fraction(0))


def _balanced(layout: Layout, p: Array, wanted: Fraction) -> _Slopes | None:
    """The sample with most room takes what is missing of the sum; None when it has not twice as much.

    Room ends where the sign would change, else a little beyond the slopes of the loss: smaller multiples are inside.
    """
    s, moved = layout.structure, np.zeros(len(p))
    if not np.isfinite(p).all():
        return None
    excess = _exact_sum(p) - wanted
    low, high = s.sample_loss.slopes(s.y)
    room = p - s.weight * low * BEYOND if excess > 0 else s.weight * high * BEYOND - p
    k = int(np.argmax(room))
    moved[k] = fraction_up(abs(excess)) * (1 + 8 * EPS)
    return _Slopes(p, moved) if 2 * moved[k] < room[k] or not excess else None


def _scaled(layout: Layout, slopes: _Slopes, total: _Sum, spectral: Spectral) -> float:
    """Best bound over ``theta`` times all multipliers."""
    s, p = layout.structure, slopes.p
    curve = _spectral_curve(layout, slopes, total, spectral) if layout.lipschitz else 0.0
    norms = math.inf if layout.lipschitz else _norm_limit(layout, slopes, total)
    limit = min(norms, _slope_limit(layout, slopes)) * (1 - 16 * EPS)
    if not limit > 0 or not curve < math.inf:
        return 0.0
    low, high = s.sample_loss.slopes(s.y)
    ratio, level, averaged = p / s.weight, fraction_down(total.h_0), layout.base.rows.mean_error
    spread = slopes.moved / s.weight * (1 + 8 * EPS) + 8 * EPS * np.abs(ratio)

    def value(theta: float) -> float:
        near, far = theta * (ratio - spread), theta * (ratio + spread)  # convex: largest at an end
        ends = [s.sample_loss.conjugate(np.clip(end, low, high), s.y) for end in (near, far)]
        conjugate = np.maximum(*ends)
        size = float(s.weight @ (np.maximum(np.abs(near), np.abs(far)) * np.abs(s.y) + np.max(np.abs(ends), axis=0)))
        rounding = (len(p) + 32) * EPS * size + 8 * EPS * theta * abs(level)
        rounding += 1.01 * float((s.weight * averaged) @ np.maximum(np.abs(near), np.abs(far)))
        return theta * level - float(s.weight @ conjugate) - theta * (theta * curve) * (1 + 8 * EPS) - rounding - FLOOR

    return max(0.0, concave_maximum(value, limit))


def _norm_limit(layout: Layout, slopes: _Slopes, total: _Sum) -> float:
    """Largest factor that keeps the norms of ``Z`` and ``z`` below those of the regularizer, roundoff added."""
    group, lam = len(layout.moves), layout.base.lam
    Z, error = _unit_part(layout, slopes, total)
    sizes = np.abs(layout.gathered(Z)) + _gathered_size(layout, error) + FLOOR
    found = [2 * lam * group / _largest(sizes)]
    if layout.skip:
        z, wrong = _linear_part(layout, slopes, total)
        found.append(4 * lam / _largest((np.abs(z) + wrong + FLOOR)[None]))
    return min(found)


def _unit_part(layout: Layout, slopes: _Slopes, total: _Sum) -> tuple[Array, Array]:
    """``Z = A'p - H`` of all units, (g p, d + 1), and a bound on the roundoff, also of sums over the group."""
    s, d, group = layout.structure, layout.shape.n_inputs, len(layout.moves)
    p, spread = slopes.p, (len(slopes.p) + 16) * EPS * np.abs(slopes.p) + 2 * slopes.moved
    Z = (p[:, None] * s.D).T @ s.X - total.H
    return Z, total.error + (spread[:, None] * s.D).T @ np.abs(s.X) + (group + d + 16) * EPS * np.abs(Z)


def _linear_part(layout: Layout, slopes: _Slopes, total: _Sum) -> tuple[Array, Array]:
    """``z = X'p - h_a`` in the subspace of the linear term, and a bound on the roundoff."""
    s, d, group = layout.structure, layout.shape.n_inputs, len(layout.moves)
    p, spread = slopes.p, (len(slopes.p) + 16) * EPS * np.abs(slopes.p) + 2 * slopes.moved
    z = p @ s.X[:, :-1] - total.h_a
    wrong = total.error_a + spread @ np.abs(s.X[:, :-1]) + (2 * group + 2 * d + 16) * EPS * np.abs(z)
    projector = layout.shape.projector
    return projector @ z, np.abs(projector) @ wrong


def _spectral_curve(layout: Layout, slopes: _Slopes, total: _Sum, dual: Spectral) -> float:
    """What a violation of stationarity costs under the Lipschitz penalty, times the square of ``theta``.

    Implements: docs/theory/shape_constraints.md, Proposition 10.
    """
    d, group, mean = layout.shape.n_inputs, len(layout.moves), layout.mean
    Z, error = _unit_part(layout, slopes, total)
    Z = layout.spread(layout.gathered(Z)) / group  # the best of all that agree on tied units
    error = layout.spread_size(_gathered_size(layout, error)) / group * (1 + 32 * EPS) + 8 * EPS * np.abs(Z)
    shift = np.outer(Z[:, -1], mean)
    error[:, :-1] += np.outer(error[:, -1], np.abs(mean)) + 8 * EPS * (np.abs(Z[:, :-1]) + np.abs(shift))
    Z[:, :-1] -= shift
    first, wrong = dual.first_or_zero(d), np.zeros(d)
    if layout.skip:
        first, wrong = (0.5 * part for part in _linear_part(layout, slopes, total))
    return conjugate_up(Z, error + FLOOR, first, wrong + FLOOR, layout.base.lam, dual)


def _largest(sizes: Array) -> float:
    return float(row_norms_up(sizes).max()) if np.isfinite(sizes).all() else math.inf


def _slope_limit(layout: Layout, slopes: _Slopes) -> float:
    """Largest factor with which the slopes are still some that the loss takes."""
    s = layout.structure
    low, high = s.sample_loss.slopes(s.y)
    least, most = (slopes.p - slopes.moved) / s.weight, (slopes.p + slopes.moved) / s.weight
    steepest = max(
        float(np.max(least / low, initial=0.0, where=(least < 0) & (low < 0))),
        float(np.max(most / high, initial=0.0, where=(most > 0) & (high > 0))),
    )
    return 1 / steepest if steepest > 0 else math.inf


def _gathered_size(layout: Layout, error: Array) -> Array:
    blocks = error.reshape(len(layout.moves), layout.units, -1)
    return np.asarray(sum(block @ np.abs(M).T for block, M in zip(blocks, layout.moves, strict=True)))

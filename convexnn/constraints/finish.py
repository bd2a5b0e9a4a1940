"""The last digits: fixed values snapped, what is missing taken from an affine function with room, the best constant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from convexnn.certificate import Certificate
from convexnn.certificates.region import region_bound
from convexnn.conic.run import run_problem
from convexnn.constraints.cones import FEWER
from convexnn.constraints.layout import Layout, Point
from convexnn.constraints.pieces import pieces_of
from convexnn.constraints.proofs import Limits, proved_slope
from convexnn.constraints.repair import slope_unit, snapped
from convexnn.constraints.shape import Cap, SlopeDemand
from convexnn.constraints.slopes import all_patterns_slope
from convexnn.exceptions import CertificateError, SolverError
from convexnn.network import Network
from convexnn.regions.region import BALL

Array = NDArray[np.float64]
Proofs = dict[int, Certificate]  # by the number of the cap


def finished(layout: Layout, point: Point, limits: Limits) -> Network | None:
    """Network of a point, changed as little as it takes to keep the demands; None when no affine function can help.

    Mixtures ``(1 - t) f + t l`` with an affine function l that keeps all demands keep what both keep, since every set
    of demands here is convex; t is the smallest that proves the rest.

    Implements: docs/theory/shape_constraints.md, Lemma 3.
    """
    point, proofs = _centred(layout, point)
    point = snapped(layout, point)
    goal: tuple[Array, float] | None = None
    for factor in (1.0, 2.0, 4.0):
        lacks = _lacks(layout, point, proofs, limits)
        if not lacks:
            return exact_constant(layout, layout.decode(point))
        goal = goal or affine_goal(layout)
        if goal is None:
            return None
        shares = max(_share(demand, lack, goal) for demand, lack in lacks)
        if not shares <= 1.0:
            return None
        t = min(1.0, factor * (shares * (1 + 1e-9) + 1e-14))
        mixed = Point((1 - t) * point.U, (1 - t) * point.linear + t * goal[0], (1 - t) * point.constant + t * goal[1])
        point = snapped(layout, mixed)
    return exact_constant(layout, layout.decode(point))


def exact_constant(layout: Layout, network: Network) -> Network:
    """The network with the output bias that meets the first fixed value as well as a float can."""
    if layout.shape.is_odd or not layout.shape.values:
        return network
    wanted = layout.shape.values[0]
    missing = Fraction(wanted.value) - pieces_of(network).at(wanted.point)
    hidden, (V, c) = network.layers
    return Network((hidden, (V, np.array([float(Fraction(float(c[0])) + missing)]))), network.activation)


def _centred(layout: Layout, point: Point) -> tuple[Point, Proofs]:
    """The best constant, where nothing fixes it; caps are kept by moving it, when that is all that is wrong.

    What proves the caps before the move comes with it: the same multipliers serve after it.
    """
    shape = layout.shape
    if shape.is_odd or shape.values:
        return point, {}
    if not shape.caps:
        s = layout.structure
        rest = layout.predictions(replace(point, constant=0.0))
        if s.is_squared:
            return replace(point, constant=float(s.weight @ (s.y - rest))), {}
        shift = s.sample_loss.best_constant(rest + point.constant, s.y, s.weight)
        return replace(point, constant=point.constant + float(shift)), {}
    network = layout.decode(point)
    proofs = {k: region_bound(_signed(network, cap), cap.region) for k, cap in enumerate(shape.caps)}
    up, down = (_largest_excess(shape.caps, proofs, sign) for sign in (1.0, -1.0))
    shift = -up if up > 0 else down if down > 0 else 0.0
    if up > 0 and down > 0 or (shift and max(up + shift, down - shift) > 1e-9 * (1 + abs(shift))):
        return point, proofs  # both sides are short of room: mix instead
    slack = 1e-12 * (abs(shift) + abs(point.constant) + max(abs(proof.bound) for proof in proofs.values()))
    return replace(point, constant=point.constant + shift + slack * float(np.sign(shift))), proofs


def _signed(network: Network, cap: Cap) -> Network:
    return network if cap.sign > 0 else -network


def _largest_excess(caps: Sequence[Cap], proofs: Proofs, sign: float) -> float:
    found = (proofs[k].bound - cap.sign * cap.value for k, cap in enumerate(caps) if cap.sign == sign)
    return max(found, default=-math.inf)


def cap_excess(network: Network, cap: Cap, known: Certificate | None = None) -> float:
    """Proved ``max sign f - sign value`` over the region of a cap; at most zero where it is kept.

    The multipliers of a certificate about a network that differs by a constant are tried first: that takes a
    millisecond, and a bound that any multipliers give is proved.
    """
    asked, level = _signed(network, cap), cap.sign * cap.value
    if known is not None:
        moved = replace(known, bound=math.inf, lower=math.nan, fingerprint=asked.fingerprint())
        try:
            excess = moved.check(asked) - level
        except CertificateError:  # other units: the multipliers do not fit
            excess = math.inf
        if excess <= 0:
            return excess
    return region_bound(asked, cap.region).bound - level


def _lacks(layout: Layout, point: Point, proofs: Proofs, limits: Limits) -> list[tuple[SlopeDemand | Cap, float]]:
    """Demands that a point does not keep, and by how much."""
    network = layout.decode(point)
    pieces = pieces_of(network)
    found: list[tuple[SlopeDemand | Cap, float]] = []
    for demand in layout.shape.slopes:
        if all_patterns_slope(pieces, demand.direction) >= demand.low:
            continue  # whatever the sides of the kinks are: so it is for the sufficient program, but for roundings
        bound, _, _ = proved_slope(pieces, demand.direction, demand.domain, target=demand.low, limits=limits)
        if bound < demand.low:
            found.append((demand, max(demand.low - float(bound), 1e-300)))
    excesses = [(cap, cap_excess(network, cap, proofs.get(k))) for k, cap in enumerate(layout.shape.caps)]
    return found + [(cap, excess) for cap, excess in excesses if not excess <= 0]


def _share(demand: SlopeDemand | Cap, lack: float, goal: tuple[Array, float]) -> float:
    """Smallest share of the affine goal that makes up for a lack; ``inf`` where it has no room itself."""
    at_goal = (
        _affine_excess(demand, *goal) if isinstance(demand, Cap) else demand.low - float(demand.direction @ goal[0])
    )
    room = -at_goal
    return lack / (lack + room) if room > 0 else math.inf


def _affine_excess(cap: Cap, linear: Array, constant: float) -> float:
    region = cap.region
    slopes = linear * region.axes if region.axes.ndim == 1 else linear @ region.axes
    spread = float(np.linalg.norm(slopes)) if region.kind == BALL else float(np.abs(slopes).sum())
    return cap.sign * (float(linear @ region.center) + constant) + spread - cap.sign * cap.value


def affine_goal(layout: Layout) -> tuple[Array, float] | None:
    """Best affine function that keeps all demands with room to spare, or None when there is none."""
    import cvxpy as cp

    s, shape = layout.structure, layout.shape
    height = float(np.sqrt(layout.base.scale)) or 1.0
    c, room = cp.Variable(), cp.Variable(nonneg=True)
    a = cp.multiply(height / layout.scales, cp.Variable(shape.n_inputs))
    conditions = [room <= 0.1, (shape.projector @ a - a == 0) if layout.skip else (a == 0)]
    conditions += [c == 0] if shape.is_odd else []
    for demand in shape.slopes:
        unit = slope_unit(layout, demand.direction)
        conditions.append(demand.direction @ a / unit >= demand.low / unit + room)
    conditions += [value.point @ a + c == value.value for value in shape.values]
    conditions += [a == gradient.gradient for gradient in shape.gradients]
    for cap in shape.caps:
        axes = np.diag(cap.region.axes) if cap.region.axes.ndim == 1 else cap.region.axes
        spread = cp.norm(axes.T @ a, 2 if cap.region.kind == BALL else 1)
        level = cap.sign * cap.value - room * height
        conditions.append(cap.sign * (cap.region.center @ a + c) + spread <= level)
    error = cp.sum_squares(cp.multiply(np.sqrt(s.weight), s.X[:, :-1] @ a + c - s.y)) / height**2
    problem = cp.Problem(cp.Minimize(error - 100 * room), conditions)
    try:
        run_problem(problem, "clarabel", {}, 0, FEWER)
    except SolverError:
        return None
    if problem.status not in ("optimal", "optimal_inaccurate") or a.value is None or not room.value > 1e-7:
        return None
    linear = shape.projector @ a.value if layout.skip else np.zeros(shape.n_inputs)
    return linear, 0.0 if shape.is_odd else float(c.value)

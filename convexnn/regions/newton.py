"""The best separable majorants of a network on a unit ball or box, by an interior point method with few unknowns.

Two numbers a group (curvature and slope of its quadratic) and the multipliers of the region are coupled; offsets and
the multipliers of the pieces are eliminated group by group: one system of size 2G + r + 1 a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import Activation, ReLU
from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_number, positive_number, whole_number
from convexnn.regions.check import proved_bound
from convexnn.regions.primal_dual import Limits, Outcome, minimize
from convexnn.regions.program import Program, fixed_majorants
from convexnn.regions.region import BALL
from convexnn.regions.ridges import Ridges, Units, as_units, ridges
from convexnn.values import ByValue

Array = NDArray[np.float64]

NEGLIGIBLE = 1e-11  # share of all groups' variation below which a group is not optimized
MAX_ITER = 100
ZERO = 1e-4  # share of all groups' variation below which the size of a value does not count


@dataclass(frozen=True, eq=False)
class Majorants(ByValue):
    """Majorants of every group and what they prove.

    Attributes
    ----------
    curvature, slope : array, shape (G,)
        al and be of the quadratics ``al a^2 + be a + de``, a = v_g'e with the weights of the group's first unit.
    rho : array, shape (r,)
        Multipliers of the region; all equal for a ball.
    bound : float
        Proved upper bound of the network, rounding included.
    value : float
        What the solver reached, without proof; the bound is a rounding above it.
    gap : float
        ``value`` minus the value of moments beside it: no majorants prove less than ``value - gap``. In float64, the
        residual of the moments counted.
    point : array, shape (r,)
        Mean of the relaxed maximizer: a start for attacks, not always in the region's surface.
    iterations : int
    status : str
        "optimal", "below", "max_iter", "time_limit", "stalled" or "linear".
    variance : array, shape (G,)
        Of ``v_g'e`` at the relaxed maximizer: zero where the relaxation is sharp.
    second_moments : array, shape (r, r)
        Of the relaxed maximizer.
    """

    curvature: Array = field(repr=False)
    slope: Array = field(repr=False)
    rho: Array = field(repr=False)
    bound: float
    value: float
    point: Array = field(repr=False)
    gap: float = 0.0
    iterations: int = 0
    status: str = "optimal"
    variance: Array = field(default_factory=lambda: np.zeros(0), repr=False)
    second_moments: Array = field(default_factory=lambda: np.zeros((0, 0)), repr=False)


def variation(parts: Ridges) -> float:
    """By how much all groups can vary together: the size of the values."""
    exists = parts.exists
    bent = np.abs(np.where(exists, parts.curves, 0.0)).max(axis=1) * parts.reach**2
    steep = np.where(exists, np.abs(parts.slopes), 0.0).max(axis=1) * parts.reach
    size = float(steep.sum() + bent.sum())
    return size if size > 0 else 1.0


def _optimized(parts: Ridges) -> tuple[NDArray[np.intp], float]:
    """Groups worth optimizing, and the size of the values."""
    exists = parts.exists
    high, low = (np.where(exists, s * parts.slopes, -np.inf).max(axis=1) for s in (1.0, -1.0))
    own, size = np.where(exists.any(axis=1), (high + low) * parts.reach, 0.0), variation(parts)
    # where a range is cut off (parts of a region) the solver must hear of it, whatever the pieces
    cut = np.where(exists, parts.lower, np.inf).min(axis=1) > -parts.reach
    cut |= np.where(exists, parts.upper, -np.inf).max(axis=1) < parts.reach
    worth = own > NEGLIGIBLE * size / max(len(own), 1)
    rows = np.flatnonzero((parts.kinked & worth) | (cut & exists.any(axis=1) & (parts.reach > 0)))
    return rows, size


def best_majorants(
    parts: Ridges,
    *,
    tol: float = 1e-7,
    max_iter: int = MAX_ITER,
    deadline: float = np.inf,
    start: tuple[Array, Array] | None = None,
    stop_below: float = -np.inf,
    accuracy: float = 0.0,
) -> Majorants:
    """The majorants that minimize :func:`~convexnn.regions.check.proved_bound`, to a relative gap of ``tol``.

    Implements: convexnn, Proposition 3 of theory/region_bounds.md, the reduced dual.

    Parameters
    ----------
    parts : Ridges
    tol : float
        On the size of the gap over the size of the value (at least 1e-4 of what all groups can vary by).
    max_iter : int
        Steps of the interior point method.
    deadline : float
        ``time.monotonic()`` after which the best so far is returned.
    start : (curvature, slope), optional
        Arrays (G,): known majorants; the result proves no more than they do.
    stop_below : float
        A bound that is good enough.
    accuracy : float
        A gap that is small enough, whatever the size of the value.
    """
    if not isinstance(parts, Ridges):
        raise InvalidInputError(f"parts must be Ridges (see regions.ridges), got {type(parts).__name__}.")
    tol, max_iter = positive_number(tol, "tol", zero=True), whole_number(max_iter, "max_iter", 0)
    for name, value in (("deadline", deadline), ("stop_below", stop_below), ("accuracy", accuracy)):
        if np.isnan(as_number(value, name)):
            raise InvalidInputError(f"{name} must be a number, got nan.")
    rows, size = _optimized(parts)
    G, r = parts.directions.shape
    al, be = fixed_majorants(parts, np.arange(G))
    rho, point, value, gap, status, steps = np.zeros(r), np.zeros(r), np.nan, 0.0, "linear", 0
    variance, second = np.zeros(G), np.zeros((r, r))
    if len(rows) or parts.kind != BALL:
        enough = (stop_below - parts.offset) / size
        program, found = _solved(parts, rows, size, Limits(tol, max_iter, deadline, enough, accuracy / size))
        if found is not None:
            y, status, steps = found.unknowns, found.status, found.iterations
            with np.errstate(all="ignore"):  # numbers out of range prove nothing
                al[rows], be[rows] = y.al * size / program.reach**2, y.be * size / program.reach
            rho = np.broadcast_to(y.rho * size, (r,)).copy()
            point, second = _moments(found.moments.big)
            variance = ((parts.directions @ second) * parts.directions).sum(axis=1) - (parts.directions @ point) ** 2
            value, gap = program.value(y) * size + parts.offset, found.gap * size
        else:
            status = "stalled"
    options = [(al, be)] if start is None else [(al, be), start]
    bounds = [proved_bound(parts, *option, rho) for option in options]
    if not np.isfinite(min(bounds)):  # numbers out of range: at least lines
        options.append(fixed_majorants(parts, np.arange(G)))
        bounds.append(proved_bound(parts, *options[-1], None))
    al, be = options[int(np.argmin(bounds))]
    bound = min(bounds)
    value = bound if np.isnan(value) else value
    return Majorants(al, be, rho, bound, value, point, gap, steps, status, variance, second)


def _solved(parts: Ridges, rows: NDArray[np.intp], size: float, limits: Limits) -> tuple[Program, Outcome | None]:
    with np.errstate(all="ignore"):
        program = Program(parts, rows, size)
        try:
            return program, minimize(program, program.start(), limits, ZERO)
        except (np.linalg.LinAlgError, ValueError, FloatingPointError):  # numbers out of range
            return program, None


def _moments(X: Array) -> tuple[Array, Array]:
    """First and second moments of a matrix of moments, divided by its mass."""
    X = X / X[0, 0] if X[0, 0] > 0 else np.zeros_like(X)
    return X[1:, 0], X[1:, 1:]


def solve_majorants(
    weights: ArrayLike,
    biases: ArrayLike,
    outer: ArrayLike,
    offset: float,
    kind: str,
    *,
    groups: NDArray[np.intp] | None = None,
    activation: Activation | None = None,
    tight: bool = True,
    tol: float = 1e-7,
    max_iter: int = MAX_ITER,
    start: tuple[Array, Array] | None = None,
) -> Majorants:
    """The best majorants of a shallow network ``sum_i outer_i act(weights_i'e + biases_i) + offset``.

    Parameters
    ----------
    weights : array, shape (h, r)
        In the unit variable e of the region.
    biases, outer : array, shape (h,)
    offset : float
    kind : {"ball", "box"}
    groups : array of int, shape (h,), optional
        Units that share one majorant (see `regions.paired.parallel_groups`); by default each has its own.
    activation : ReLU (default), LeakyReLU, Polynomial or Identity
    tight : bool
        Majorants need only hold on the interval that a group can reach; False gives the paper's semidefinite program.
    tol, max_iter, start
        See :func:`best_majorants`.
    """
    units = _units(weights, biases, outer, offset, kind, groups, activation)
    return best_majorants(ridges(units, tight=tight), tol=tol, max_iter=max_iter, start=start)


def majorant_bound(
    weights: ArrayLike,
    biases: ArrayLike,
    outer: ArrayLike,
    offset: float,
    curvature: ArrayLike,
    slope: ArrayLike,
    kind: str,
    *,
    groups: NDArray[np.intp] | None = None,
    activation: Activation | None = None,
    tight: bool = True,
    rho: ArrayLike | None = None,
) -> float:
    """Proved upper bound of a shallow network on the unit ball or box from any majorants, one a group.

    Arguments as in :func:`solve_majorants`; ``curvature`` and ``slope`` have shape (G,), ``rho`` (r,) only matters for
    boxes. The rounding of the computation is included; the network is the one of these float64 numbers.
    """
    units = _units(weights, biases, outer, offset, kind, groups, activation)
    return proved_bound(ridges(units, tight=tight), curvature, slope, rho)


def _units(
    weights: ArrayLike, biases: ArrayLike, outer: ArrayLike, offset: float, kind: str,
    groups: NDArray[np.intp] | None, activation: Activation | None,
) -> Units:  # fmt: skip
    if np.isnan(as_number(offset, "offset")):
        raise InvalidInputError("offset must be a number, got nan.")
    others = {} if groups is None else {"groups": groups}
    return as_units(weights, biases, outer, offset, kind, activation=activation or ReLU(), **others)

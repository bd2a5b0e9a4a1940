"""A shallow network in the unit variable of a region, as a sum of functions of one variable each, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import Activation, Identity, LeakyReLU, Polynomial, ReLU, Sigmoid, Tanh
from convexnn.exceptions import InvalidInputError
from convexnn.regions.region import BALL, BOX
from convexnn.regions.smooth import smooth_pieces
from convexnn.rigorous import TINY, UNIT, gamma, row_norms_up, sum_up
from convexnn.values import ByValue

Array = NDArray[np.float64]

COARSE, FINE = 24, 256  # cells of smooth units
LOST = 2.0**-1072  # of a few products that underflow
FAR = 1e4  # kinks farther away than this (in half widths of the interval) are left out also on whole lines


@dataclass(frozen=True, eq=False)
class Units(ByValue):
    """A shallow network ``sum_i outer_i act(weights_i'e + biases_i) + offset`` of the unit variable e.

    Attributes
    ----------
    weights : array, shape (h, r)
    biases, outer : array, shape (h,)
    offset : float
    kind : {"ball", "box"}
        ``|e|_2 <= 1`` or ``|e|_inf <= 1``.
    activation : Activation
        ReLU, LeakyReLU, Polynomial, Identity, Tanh or Sigmoid.
    error : array, shape (h,)
        The pre-activations are known up to this (rounding of what made the weights).
    groups : array of int, shape (h,)
        Units of one group have (nearly) parallel weights; the first unit gives the direction.
    """

    weights: Array = field(repr=False)
    biases: Array = field(repr=False)
    outer: Array = field(repr=False)
    offset: float
    kind: str
    activation: Activation = field(default_factory=ReLU)
    error: Array = field(default_factory=lambda: np.zeros(0), repr=False)
    groups: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp), repr=False)

    def __post_init__(self) -> None:
        """Read the arrays; refuse shapes that do not fit, numbers that are none and unknown activations."""
        for name in ("weights", "biases", "outer"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        h = len(self.biases) if self.biases.ndim == 1 else -1
        if self.weights.ndim != 2 or self.weights.shape[0] != h or self.outer.shape != (h,) or not h:
            raise InvalidInputError("Units need weights (h, r), biases (h,) and outer weights (h,), h > 0.")
        if not all(np.isfinite(a).all() for a in (self.weights, self.biases, self.outer, self.offset)):
            raise InvalidInputError("The units hold NaN or infinite numbers.")
        if self.kind not in (BALL, BOX):
            raise InvalidInputError(f"kind must be {BALL!r} or {BOX!r}, got {self.kind!r}.")
        if not isinstance(self.activation, ReLU | LeakyReLU | Polynomial | Identity | Tanh | Sigmoid):
            raise InvalidInputError(f"No majorants are known for {self.activation}.")
        error = np.asarray(self.error, dtype=np.float64)
        object.__setattr__(self, "error", error if error.shape == (h,) else np.zeros(h))
        groups = np.asarray(self.groups if len(np.atleast_1d(self.groups)) else np.arange(h))
        if groups.shape != (h,) or not (np.unique(groups) == np.arange(len(np.unique(groups)))).all():
            raise InvalidInputError("groups must number the groups of the h units from 0 on, without gaps.")
        object.__setattr__(self, "groups", groups.astype(np.intp))

    @property
    def n_groups(self) -> int:
        """Number of groups G."""
        return int(self.groups.max()) + 1

    @property
    def leads(self) -> NDArray[np.intp]:
        """First unit of each group, shape (G,)."""
        return np.unique(self.groups, return_index=True)[1]

    @np.errstate(all="ignore")
    def ratios(self) -> Array:
        """Factor of each unit's weights over those of the first unit of its group, shape (h,)."""
        lead = self.weights[self.leads][self.groups]
        exponent = np.frexp(np.abs(lead).max(axis=1))[1][:, None]
        scaled = np.ldexp(lead, -exponent)
        square = np.maximum((scaled * scaled).sum(axis=1), np.finfo(float).tiny)
        ratio = (scaled * np.ldexp(self.weights, -exponent)).sum(axis=1) / square
        rounded = np.round(ratio * 2.0**20) / 2.0**20  # ties of the data are found again exactly
        ratio = np.where(np.abs(ratio - rounded) <= 1e-14 * np.abs(ratio), rounded, ratio)
        ratio[self.leads] = 1.0
        return np.asarray(ratio)


def reach_up(rows: Array, kind: str) -> Array:
    """Upper bounds on ``|rows e|`` over the unit ball or box, shape (m,)."""
    if kind == BALL:
        return row_norms_up(rows)
    total = np.abs(rows).sum(axis=1)
    return np.where(total > 0, np.nextafter(total * (1.0 + 2.0 * gamma(rows.shape[1] + 2)), np.inf), 0.0)


def _missed(units: Units, sigma: Array) -> Array:
    """How far pre-activations can be from multiples of the directions of their groups, rounding included, (h,)."""
    missed = reach_up(units.weights - sigma[:, None] * units.weights[units.leads][units.groups], units.kind)
    rounding = 4.0 * UNIT * reach_up(units.weights, units.kind) + LOST * units.weights.shape[1] * (sigma != 0)
    return np.asarray(missed + rounding * (np.abs(sigma) != 1.0))


@dataclass(frozen=True, eq=False)
class Ridges(ByValue):
    """An upper bound of a network by functions of one variable: for every e of the unit ball or box.

        f(e) <= offset + sum_g max_p { q_gp a^2 + k_gp a + e_gp : a in [lower_gp, upper_gp] },  a = v_g'e,

    where a is in ``[-reach_g, reach_g]`` anyhow. Pieces that do not exist have ``lower > upper``.

    Attributes
    ----------
    directions : array, shape (G, r)
    reach : array, shape (G,)
    curves, slopes, intercepts, lower, upper : array, shape (G, P)
    offset : float
        All rounding of these numbers included.
    kind : {"ball", "box"}
    """

    directions: Array = field(repr=False)
    reach: Array = field(repr=False)
    curves: Array = field(repr=False)
    slopes: Array = field(repr=False)
    intercepts: Array = field(repr=False)
    lower: Array = field(repr=False)
    upper: Array = field(repr=False)
    offset: float
    kind: str

    @property
    def exists(self) -> NDArray[np.bool_]:
        """Which pieces there are, shape (G, P)."""
        return np.asarray(self.lower <= self.upper)

    @property
    def kinked(self) -> NDArray[np.bool_]:
        """Groups that have more than one piece, shape (G,)."""
        return np.asarray(self.exists.sum(axis=1) > 1)


@np.errstate(all="ignore")  # numbers beyond float64 prove nothing
def ridges(units: Units, *, tight: bool = True, cells: int = FINE) -> Ridges:
    """The pieces of all groups, for majorants on the interval that each can reach (tight) or on whole lines.

    Whole lines give the semidefinite program of the paper. Also there, kinks that lie ``FAR`` outside the interval do
    not count: the units are exactly linear on the region, and no solver sees numbers of very different size.

    Parameters
    ----------
    units : Units
    tight : bool
        For units with kinks; others have pieces on their interval anyhow.
    cells : int
        Of tanh and logistic units: few (``COARSE``) for a solver, many for a proof.
    """
    if isinstance(units.activation, Polynomial | Identity):
        return _parabolas(units)
    if isinstance(units.activation, Tanh | Sigmoid):
        return _smooth(units, cells)
    leak = units.activation.slope if isinstance(units.activation, LeakyReLU) else 0.0
    V, group, c, b = units.weights[units.leads], units.groups, units.outer, units.biases
    sigma = units.ratios()
    missed = _missed(units, sigma)
    known = np.nextafter(units.error + missed, np.inf) * ((units.error > 0) | (missed > 0))
    reach = reach_up(V, units.kind)
    half = np.abs(sigma) * reach[group] * (1.0 + 4.0 * UNIT) + known
    far = (half if tight else np.maximum(FAR * half, half)) * (1.0 + 4.0 * UNIT)
    dead, live = b <= -far, (b >= far) & ~(b <= -far)
    fixed = np.where(live, 1.0, leak) * c * (live | dead)
    kinked = ~(live | dead) & (c != 0)
    counts = (c != 0) & ~(dead & (leak == 0))
    slack = np.abs(c) * (known + 8.0 * gamma(len(c) + 16) * (half + np.abs(b)))
    slack += LOST * (np.abs(c) + half + reach[group] + np.abs(b)) + TINY
    pieces = _pieces(group, V, np.where(kinked, c, 0.0), sigma, b, leak)
    ends = _clipped(pieces[2], pieces[3], reach[:, None], tight)
    offset = sum_up([units.offset, *(fixed * b)[counts], *slack[counts]])
    slopes = pieces[0] + np.bincount(group, weights=fixed * sigma, minlength=len(V))[:, None]
    return Ridges(V, reach, np.zeros_like(slopes), slopes, pieces[1], *ends, offset, units.kind)


def _pieces(
    group: NDArray[np.intp], V: Array, c: Array, sigma: Array, b: Array, leak: float
) -> tuple[Array, Array, Array, Array]:
    """Slopes, intercepts and ends of the linear pieces of ``sum_i c_i act(sigma_i a + b_i)``, one group a row."""
    used = np.flatnonzero((c != 0) & (sigma != 0))
    with np.errstate(all="ignore"):
        kinks = -b[used] / sigma[used]
    order = used[np.lexsort((kinks, group[used]))]
    kinks = -b[order] / sigma[order]
    sizes = np.bincount(group[order], minlength=len(V))
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    m = int(sizes.max(initial=0))
    T, C, S, B = np.full((len(V), m), np.inf), *np.zeros((3, len(V), m))
    for table, values in ((T, kinks), (C, c[order]), (S, sigma[order]), (B, b[order])):
        table[group[order], place] = values
    after = np.arange(m)[None] < np.arange(m + 1)[:, None]  # (P, m): piece p lies behind the first p kinks
    active = np.where(after[None] == (S[:, None] > 0), 1.0, leak)
    slopes, intercepts = (active * (C * S)[:, None]).sum(axis=2), (active * (C * B)[:, None]).sum(axis=2)
    edge = np.full((len(V), 1), np.inf)
    lower, upper = np.hstack([-edge, T]), np.hstack([T, edge])
    lower[:, 1:][np.isposinf(T)] = np.inf  # pieces that do not exist
    upper[:, 1:][np.isposinf(T)] = -np.inf
    upper[np.arange(len(V)), sizes] = np.inf
    return slopes, intercepts, lower, upper


def _clipped(lower: Array, upper: Array, reach: Array, tight: bool) -> tuple[Array, Array]:
    """Ends of the pieces moved outward by their rounding, and into what a group can reach."""
    none = ~(lower <= upper)
    with np.errstate(invalid="ignore"):
        low, high = lower - 8.0 * UNIT * np.abs(lower), upper + 8.0 * UNIT * np.abs(upper)
    low, high = np.where(np.isinf(lower), lower, low), np.where(np.isinf(upper), upper, high)
    if tight:
        none |= (low > reach) | (high < -reach)
        low, high = np.maximum(low, -reach), np.minimum(high, reach)
    return np.where(none, np.inf, low), np.where(none, -np.inf, high)


def _parabolas(units: Units) -> Ridges:
    """Units ``c (a s^2 + b s + o)``: one piece each, exact; groups are kept, their units add up."""
    square, slope, constant = (
        units.activation.parameters if isinstance(units.activation, Polynomial) else (0.0, 1.0, 0.0)
    )
    V, group, c, bias, sigma = units.weights[units.leads], units.groups, units.outer, units.biases, units.ratios()
    known = units.error + _missed(units, sigma)
    reach = reach_up(V, units.kind)
    half = (np.abs(sigma) * reach[group] + known) * (1.0 + 4.0 * UNIT)
    size = half + np.abs(bias)
    steep = 2.0 * abs(square) * size + abs(slope)
    largest = (abs(square) * size + abs(slope)) * size + abs(constant)
    slack = np.abs(c) * (known * steep * (1.0 + 8.0 * UNIT) + 4.0 * gamma(len(c) + 16) * largest)
    lost = LOST * (steep * reach[group] + np.abs(c) * (half + np.abs(bias) + 1.0)) + TINY
    slack += (c != 0) * (lost + LOST * (half + reach[group]) * (half + reach[group]))
    values = (square * bias + slope) * bias + constant
    parts = (c * square * sigma * sigma, c * sigma * (2.0 * square * bias + slope), c * values)
    q, k, e = (np.bincount(group, weights=part, minlength=len(V)).astype(np.float64)[:, None] for part in parts)
    edge = np.full_like(q, np.inf)
    offset = sum_up([units.offset, *slack])
    return Ridges(V, reach, q, k, e, -edge, edge, offset, units.kind)


def _smooth(units: Units, cells: int) -> Ridges:
    """Tanh and logistic units: parabolas on small cells."""
    V, group, c, sigma = units.weights[units.leads], units.groups, units.outer, units.ratios()
    missed = _missed(units, sigma)
    known = np.nextafter(units.error + missed, np.inf) * ((units.error > 0) | (missed > 0))
    reach = reach_up(V, units.kind)
    pieces = smooth_pieces(units.activation, group, c, sigma, units.biases, reach, cells)
    offset = sum_up([units.offset, *(np.abs(c) * known * (1.0 + 4.0 * UNIT))])
    return Ridges(V, reach, *pieces, offset, units.kind)


def as_units(
    weights: ArrayLike, biases: ArrayLike, outer: ArrayLike, offset: float, kind: str, **others: object
) -> Units:
    """The value type from plain arrays; ``others`` are ``activation``, ``error`` and ``groups``."""
    return Units(np.asarray(weights), np.asarray(biases), np.asarray(outer), float(offset), kind, **others)  # type: ignore[arg-type]

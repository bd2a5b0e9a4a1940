"""Bounds of majorants over the rational numbers: no rounding at all, for regions of a few dozen dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import LeakyReLU, Polynomial, ReLU
from convexnn.exceptions import CertificateError
from convexnn.inputs import real_or_nan
from convexnn.network import Network
from convexnn.regions.region import BALL, Region

Array = NDArray[np.float64]
Rationals = list[Fraction]
Piece = tuple[Fraction, Fraction, Fraction, Fraction, Fraction]  # q a^2 + k a + e on [low, high]


def integer_type() -> Any:
    """The integers of python-flint where it is installed, else Python's."""
    try:
        from flint import fmpz
    except ImportError:
        return int
    return fmpz


def exact_bound(
    network: Network,
    region: Region,
    groups: NDArray[np.intp],
    curvature: ArrayLike,
    slope: ArrayLike,
    rho: ArrayLike,
) -> Fraction | None:
    """The exact rational upper bound that majorants prove for a shallow network with one output on a region.

    The folding of the region into the first layer, kinks, offsets and the maximum of the quadratic are rational: with
    ``K = diag(rho) - V' diag(al) V`` positive definite (all pivots of an integer elimination are positive) the bound is
    ``offset + sum de + |rho| + g'K^-1 g / 4``. Irrational lengths are rounded up to rationals.

    Implements: convexnn, Proposition 4 of theory/region_bounds.md, the rational bound.

    Parameters
    ----------
    network : Network
        One hidden layer, ReLU, LeakyReLU or polynomial units, one output.
    region : Region
    groups : array of int, shape (h,)
    curvature, slope : array, shape (G,)
    rho : array, shape (r,)
        For a ball the largest counts; it should be a little above the best one, so that K is positive definite.

    Returns
    -------
    Fraction or None
        None where K is not positive definite or a number is not finite: nothing is proved.

    Raises
    ------
    CertificateError
        For other networks and wrong shapes.
    """
    return ExactRidges.of(network, region, groups).bound(curvature, slope, rho)


@dataclass(frozen=True, eq=False)
class ExactRidges:
    """A shallow network in the unit variable of a region, as functions of one variable each, in rational numbers.

    Attributes
    ----------
    directions : list of rows
    pieces : list
        Of each group, on what it can reach.
    constant : Fraction
    kind : {"ball", "box"}
    """

    directions: list[Rationals] = field(repr=False)
    pieces: list[list[Piece]] = field(repr=False)
    constant: Fraction = field(repr=False)
    kind: str

    @classmethod
    def of(cls, network: Network, region: Region, groups: NDArray[np.intp]) -> ExactRidges:
        """Of a network on a region."""
        V, sums, constant, kind = _folded(network, region, groups)
        pieces = [_pieces(parts, _length(row, kind)) for row, parts in zip(V, sums, strict=True)]
        return cls(V, pieces, constant, kind)

    def bound(
        self, curvature: ArrayLike, slope: ArrayLike, rho: ArrayLike, ranges: tuple[Array, Array] | None = None
    ) -> Fraction | None:
        """As :func:`exact_bound`; with ranges (low, high) of the groups only where all of them hold.

        A part of the region without points has no bound of its own: None as well, see :meth:`nothing`.
        """
        V = self.directions
        al, be, multiplier = (real_or_nan(a) for a in (curvature, slope, rho))
        if al.shape != (len(V),) or be.shape != (len(V),) or multiplier.shape != (len(V[0]),):
            raise CertificateError("The majorants do not fit the groups and the dimension of the region.")
        if not all(np.isfinite(a).all() for a in (al, be, multiplier)) or (multiplier < 0).any():
            return None
        if self.kind == BALL:
            multiplier = np.full_like(multiplier, multiplier.max())
        curves, steep, levels = ([Fraction(float(x)) for x in a] for a in (al, be, multiplier))
        left = self.within(ranges)
        if not all(left):
            return None
        rest = _quadratic(V, curves, steep, levels)
        if rest is None:
            return None
        parts = zip(left, curves, steep, strict=True)
        offsets = sum((max(_piece_maximum(p, a, b) for p in pieces) for pieces, a, b in parts), Fraction(0))
        return self.constant + offsets + rest + (levels[0] if self.kind == BALL else sum(levels, Fraction(0)))

    def nothing(self, ranges: tuple[Array, Array]) -> bool:
        """Whether a group cannot reach its range: no point of the region is there."""
        return not all(self.within(ranges))

    def within(self, ranges: tuple[Array, Array] | None) -> list[list[Piece]]:
        """The pieces of all groups, cut off at their ranges."""
        if ranges is None:
            return self.pieces
        return [_clipped(own, *ends) for own, ends in zip(self.pieces, zip(*ranges, strict=True), strict=True)]


def _clipped(pieces: list[Piece], low: float, high: float) -> list[Piece]:
    if low == -math.inf and high == math.inf:
        return pieces
    found = []
    for q, k, e, s, t in pieces:
        s = max(s, Fraction(float(low))) if low > -math.inf else s
        t = min(t, Fraction(float(high))) if high < math.inf else t
        if s <= t and low < math.inf and high > -math.inf:
            found.append((q, k, e, s, t))
    return found


Sum = list[tuple[Fraction, Fraction, tuple[Fraction, ...]]]  # (ratio, bias, outer weights on the left and on the right)


def _folded(
    network: Network, region: Region, groups: NDArray[np.intp]
) -> tuple[list[Rationals], list[list[Any]], Fraction, str]:
    """Directions, units of each group and the constant, exactly."""
    if not network.is_shallow or network.n_outputs != 1:
        raise CertificateError("Rational bounds are for one hidden layer and one output.")
    if not isinstance(network.activation, ReLU | LeakyReLU | Polynomial):
        raise CertificateError(f"Rational bounds know ReLU, LeakyReLU and polynomials, not {network.activation}.")
    (W, b), (outer, last) = network.layers
    axes = np.diag(region.axes) if region.axes.ndim == 1 else region.axes
    number = np.asarray(groups)
    if number.shape != (len(b),):
        raise CertificateError("There must be one group number a unit.")
    folded = exact_product(W, axes)
    shift = exact_product(W, region.center[:, None])
    directions: dict[int, Rationals] = {}
    units: dict[int, list[Any]] = {}
    constant = Fraction(float(last[0]))
    for i, g in enumerate(number.tolist()):
        row = folded[i]
        lead = directions.setdefault(g, row)
        square = sum((x * x for x in lead), Fraction(0))
        ratio = sum((x * y for x, y in zip(row, lead, strict=True)), Fraction(0)) / square if square else Fraction(0)
        missed = [x - ratio * y for x, y in zip(row, lead, strict=True)]
        c = Fraction(float(outer[0, i]))
        bias = Fraction(float(b[i])) + shift[i][0]
        if any(missed):
            if isinstance(network.activation, Polynomial):
                raise CertificateError("Groups of polynomial units must be exactly parallel for rational bounds.")
            constant += abs(c) * _length(missed, region.kind)
        units.setdefault(g, []).append((ratio, bias, c, network.activation))
    order = sorted(directions)
    if order != list(range(len(order))):
        raise CertificateError("Groups must be numbered from 0 on, without gaps.")
    return [directions[g] for g in order], [units[g] for g in order], constant, region.kind


def exact_product(A: Array, B: Array) -> list[Rationals]:
    """The product of two float64 matrices, exactly."""
    left = [[Fraction(float(x)) for x in row] for row in A]
    right = [[Fraction(float(x)) for x in column] for column in B.T]
    return [
        [sum((x * y for x, y in zip(row, column, strict=True) if x and y), Fraction(0)) for column in right]
        for row in left
    ]


def _length(row: Rationals, kind: str) -> Fraction:
    """Largest ``row'e`` over the unit box, exactly, or the unit ball, rounded up to a rational."""
    if kind != BALL:
        return sum((abs(x) for x in row), Fraction(0))
    square = sum((x * x for x in row), Fraction(0))
    if not square:
        return square
    shift = 2 * (80 + max(square.denominator.bit_length() - square.numerator.bit_length(), 0) // 2)
    scaled = -((-square.numerator << shift) // square.denominator)
    return Fraction(math.isqrt(scaled) + 1, 1 << (shift // 2))


def _pieces(units: list[Any], reach: Fraction) -> list[Piece]:
    """The pieces of a group on ``[-reach, reach]``."""
    activation = units[0][3]
    if isinstance(activation, Polynomial):
        p, s, o = (Fraction(float(x)) for x in activation.parameters)
        q = sum((c * p * r * r for r, _, c, _ in units), Fraction(0))
        k = sum((c * r * (2 * p * b + s) for r, b, c, _ in units), Fraction(0))
        e = sum((c * ((p * b + s) * b + o) for _, b, c, _ in units), Fraction(0))
        return [(q, k, e, -reach, reach)]
    leak = Fraction(float(activation.slope)) if isinstance(activation, LeakyReLU) else Fraction(0)
    kinks = sorted({-b / r for r, b, _, _ in units if r and -reach < -b / r < reach})
    pieces = []
    for low, high in pairwise([-reach, *kinks, reach]):
        middle = (low + high) / 2
        parts = [(c * (1 if r * middle + b >= 0 else leak), r, b) for r, b, c, _ in units]
        k = sum((w * r for w, r, _ in parts), Fraction(0))
        e = sum((w * b for w, _, b in parts), Fraction(0))
        pieces.append((Fraction(0), k, e, low, high))
    return pieces


def _piece_maximum(piece: Piece, al: Fraction, be: Fraction) -> Fraction:
    """Largest ``(q - al) a^2 + (k - be) a + e`` on the piece."""
    q, k, e, low, high = piece
    A, B = al - q, k - be
    found = max((B - A * a) * a + e for a in (low, high))
    if A > 0 and 2 * A * low < B < 2 * A * high:
        found = max(found, B * B / (4 * A) + e)
    return found


def _quadratic(V: list[Rationals], al: Rationals, be: Rationals, rho: Rationals) -> Fraction | None:
    """``g'K^-1 g / 4`` by an integer elimination of ``[[K, g], [g', 0]]``; None where K is not positive definite."""
    n = len(rho)
    bits = _common_bits(V)
    rows = [[int(x * 2**bits) for x in row] for row in V]
    weights, steep = _scaled(al), _scaled(be)
    shift = max(2 * bits + weights[1], 0)
    number = integer_type()
    K = [[number(0)] * (n + 1) for _ in range(n + 1)]
    for row, a in zip(rows, weights[0], strict=True):
        if a:
            live = [(j, x) for j, x in enumerate(row) if x]
            for j, x in live:
                ax = a * x
                for i, y in live:
                    if i <= j:
                        K[j][i] -= number(ax * y)
    levels, high = _scaled(rho)
    total = max(shift, high)
    for j in range(n):
        for i in range(j + 1):
            K[j][i] *= number(1 << (total - shift))
        K[j][j] += number(levels[j] << (total - high))
    gradient = [sum(b * row[j] for b, row in zip(steep[0], rows, strict=True)) for j in range(n)]
    for j in range(n):
        K[n][j] = number(gradient[j])
    pivots = _eliminate(K)
    if pivots is None:
        return None
    # the last pivot is -g' adj(K) g of the scaled numbers: g'K^-1 g = -last / det K
    value = Fraction(int(-pivots[1]), int(pivots[0]))
    return value * Fraction(2) ** (total - 2 * (bits + steep[1])) / 4


def _eliminate(A: list[list[Any]]) -> tuple[Any, Any] | None:
    """Fraction-free elimination of a symmetric matrix (lower triangle): its last two leading minors, or None."""
    n = len(A)
    last: Any = 1
    for k in range(n - 1):
        pivot = A[k][k]
        if pivot <= 0:
            return None
        for i in range(k + 1, n):
            factor, row = A[i][k], A[i]
            for j in range(k + 1, i + 1):
                row[j] = (row[j] * pivot - factor * A[j][k]) // last
        last = pivot
    return last, A[n - 1][n - 1]


def _common_bits(V: list[Rationals]) -> int:
    return max((x.denominator.bit_length() - 1 for row in V for x in row), default=0)


def _scaled(values: Rationals) -> tuple[list[int], int]:
    """Dyadic rationals as integers over one power of two."""
    bits = max((x.denominator.bit_length() - 1 for x in values), default=0)
    return [int(x * 2**bits) for x in values], bits

"""Upper bounds of shallow networks on boxes and rotated boxes: parallel units together, direction by direction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import LeakyReLU, ReLU
from convexnn.exceptions import UnsupportedModelError
from convexnn.network import Network
from convexnn.regions.region import Region
from convexnn.rigorous import TINY, UNIT, gamma, sum_up

Array = NDArray[np.float64]
Integers = NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Directions:
    """A shallow network as ``c + sum_g phi_g(rows_g.x)``, ``phi_g(a) = sum_j outer_j act(signs_j a + biases_j)``.

    Attributes
    ----------
    rows : array, shape (n, d)
        Distinct weights up to their sign, as stored in the network: nothing is rounded.
    members : tuple of int arrays
        Units of each direction.
    signs : array, shape (h,)
    biases, outer : array, shape (h,)
    offset : float
    leak : float
        Slope of the activation below zero.
    """

    rows: Array
    members: tuple[NDArray[np.intp], ...]
    signs: Array
    biases: Array
    outer: Array
    offset: float
    leak: float

    @classmethod
    def of(cls, network: Network) -> Directions:
        """Directions of a network with one hidden layer of ReLU or LeakyReLU units and one output."""
        if not isinstance(network.activation, ReLU | LeakyReLU) or not network.is_shallow or network.n_outputs != 1:
            raise UnsupportedModelError(
                "This bound is for networks with one hidden layer of ReLU or LeakyReLU units and one output, not "
                f"{network!r}."
            )
        W = network.W + 0.0  # no negative zeros: equal rows are equal bytes
        first = W[np.arange(len(W)), np.argmax(W != 0, axis=1)]
        signs = np.where(first < 0, -1.0, 1.0)
        rows, place = np.unique(signs[:, None] * W + 0.0, axis=0, return_inverse=True)
        members = tuple(np.flatnonzero(place.ravel() == g) for g in range(len(rows)))
        leak = network.activation.slope if isinstance(network.activation, LeakyReLU) else 0.0
        return cls(rows, members, signs, network.b, network.v, float(network.c), leak)


def facet_value(network: Network, box: Region) -> float:
    """The sum of the maxima of all directions on a box, in float64, every rounding added.

        ``f(x) <= c + sum_g max { phi_g(a) : |a - u_g.center| <= |axes'u_g|_1 }``   for every x of the region

    Units with equal or opposite weights are one direction, so that both sides of a pair are not counted at once; the
    bound is exact where at most one direction can be active at a time, and c where no unit can.

    Implements: convexnn, Proposition 1 of theory/region_facets.md, interval bounds of directions.

    Parameters
    ----------
    network : Network
        One hidden layer of ReLU or LeakyReLU units, one output.
    box : Region
        Of kind "box".

    Returns
    -------
    float
        ``inf`` when numbers overflow.

    Raises
    ------
    UnsupportedModelError
        For another network.
    """
    parts = Directions.of(network)
    with np.errstate(all="ignore"):
        return sum_of_tops(parts, *_ranges(parts.rows, box))


def sum_of_tops(parts: Directions, low: Array, high: Array) -> float:
    """Upper bound on the network where every ``rows_g.x`` lies between two numbers, every rounding added."""
    with np.errstate(all="ignore"):
        tops = [_top(parts, units, low[g], high[g]) for g, units in enumerate(parts.members)]
    return sum_up([parts.offset, *tops])


def exact_facet_value(network: Network, box: Region) -> Fraction:
    """The bound of :func:`facet_value` as a rational number: dyadic integers are enough, nothing is divided."""
    parts = Directions.of(network)
    return exact_sum_of_tops(parts, ((mid - half, mid + half) for mid, half in _exact_ranges(parts.rows, box)))


def exact_sum_of_tops(parts: Directions, ranges: Iterable[tuple[Fraction, Fraction]]) -> Fraction:
    """The bound of :func:`sum_of_tops` as a rational number."""
    total, leak = Fraction(parts.offset), Fraction(parts.leak)
    for units, (low, high) in zip(parts.members, ranges, strict=True):
        signs, b, v = ([Fraction(float(x)) for x in a[units]] for a in (parts.signs, parts.biases, parts.outer))
        kinks = [a for a in (-s * t for s, t in zip(signs, b, strict=True)) if low < a < high]

        def value(a: Fraction, signs: list[Fraction] = signs, b: list[Fraction] = b, v: list[Fraction] = v) -> Fraction:
            inputs = (s * a + t for s, t in zip(signs, b, strict=True))
            return sum((w * max(z, leak * z) for w, z in zip(v, inputs, strict=True)), Fraction(0))

        total += max(value(a) for a in (low, high, *kinks))
    return total


def _ranges(rows: Array, box: Region) -> tuple[Array, Array]:
    """Ends of ``rows x`` over the box, rounded outward, shapes (n,)."""
    d, r = box.n_inputs, box.n_axes
    if box.axes.ndim == 1:
        half = np.abs(rows) @ box.axes
        half = half * (1.0 + 4.0 * gamma(d + 8)) + (d + 1) * TINY
    else:
        half = np.abs(rows @ box.axes).sum(axis=1)
        error = gamma(d + 8) * (np.abs(rows) @ np.abs(box.axes).sum(axis=1)) + r * (d + 1) * TINY
        half = (half + 2.0 * error) * (1.0 + 4.0 * gamma(r + 8))
    half = np.where(rows.any(axis=1) & box.axes.any(), half, 0.0)
    middle = rows @ box.center
    size = np.abs(rows) @ np.abs(box.center)
    spread = half + (2.0 * gamma(d + 8) * size + (d + 1) * TINY) * (rows.any(axis=1) & box.center.any())
    return np.nextafter(middle - spread, -np.inf), np.nextafter(middle + spread, np.inf)


def _top(parts: Directions, units: NDArray[np.intp], low: float, high: float) -> float:
    """Upper bound on ``phi_g`` between two numbers: it is linear between its kinks."""
    signs, b, v = parts.signs[units], parts.biases[units], parts.outer[units]
    kinks = -signs * b  # exact
    a = np.concatenate([[low, high], kinks[(kinks > low) & (kinks < high)]])[:, None]
    z = signs * a + b
    z = np.where(v > 0, np.nextafter(z, np.inf), np.nextafter(z, -np.inf))  # to the side that counts
    terms = np.maximum(z, parts.leak * z) * v
    sizes = np.abs(terms).sum(axis=1)
    active = (v != 0) & ((z > 0) if parts.leak == 0 else (z != 0))
    lost = (active * (TINY + np.finfo(float).tiny * np.abs(v))).sum(axis=1)  # products may vanish, also of the leak
    top = terms.sum(axis=1) + 4.0 * gamma(len(units) + 8) * sizes + lost
    found = float(np.max(top))
    return math.inf if math.isnan(found) else found * (1.0 + math.copysign(4.0 * UNIT, found))


def _integers(values: Array) -> tuple[Integers, int]:
    """Integers k and an exponent with ``values = k 2**exponent``, exactly."""
    mantissa, exponent = np.frexp(values)
    least = int(exponent[values != 0].min(initial=0)) - 53
    whole = np.ldexp(mantissa, 53).astype(np.int64).astype(object)
    lift = np.where(values != 0, exponent - 53 - least, 0).astype(object)
    return np.asarray(whole << lift, dtype=object), least


def _exact_ranges(rows: Array, box: Region) -> Iterator[tuple[Fraction, Fraction]]:
    """Middle and half width of ``rows x`` over the box, one pair a row."""
    (U, u_power), (center, c_power), (axes, a_power) = (_integers(a) for a in (rows, box.center, box.axes))
    spread = np.abs(U) @ axes if axes.ndim == 1 else np.abs(U @ axes).sum(axis=1)
    for middle, half in zip(U @ center, spread, strict=True):
        yield _fraction(middle, u_power + c_power), _fraction(half, u_power + a_power)


def _fraction(whole: int, exponent: int) -> Fraction:
    return Fraction(int(whole) << exponent) if exponent >= 0 else Fraction(int(whole), 1 << -exponent)

"""Rational numbers for exact checks: python-flint where it is installed, else the standard library; same results.

Arrays of rational numbers are numpy arrays of objects, so that sums, products and comparisons read as usual. Every
float64 is a dyadic rational, so nothing is lost on the way in; on the way out numbers are rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.rigorous import fraction_up

Array = NDArray[np.float64]
Rationals = NDArray[np.object_]

#: Bits behind the point of a square root, relative to its size.
ROOT_BITS = 120


@cache
def rational_type() -> Callable[..., Any]:
    """Return ``flint.fmpq``, or ``fractions.Fraction`` where python-flint is not installed."""
    try:
        from flint import fmpq
    except ImportError:
        return Fraction
    return fmpq


def rational(x: float | int) -> Any:
    """The rational number equal to a finite float or integer."""
    return rational_type()(*float(x).as_integer_ratio()) if isinstance(x, float) else rational_type()(int(x))


def rationals(values: ArrayLike) -> Rationals:
    """Rational numbers equal to finite floats, same shape.

    Raises
    ------
    ValueError
        For nan and inf.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("nan and inf are no rational numbers")
    found = np.empty(array.shape, dtype=object)
    flat = found.reshape(-1)
    for place, value in enumerate(array.ravel().tolist()):
        flat[place] = rational(value)
    return flat.reshape(array.shape)


def fraction(x: Any) -> Fraction:
    """The same number as a `fractions.Fraction`."""
    return x if isinstance(x, Fraction) else Fraction(int(x.p), int(x.q))


def float_up(x: Any) -> float:
    """The smallest float64 that is at least x (``inf`` beyond the largest)."""
    return fraction_up(fraction(x))


def floats_up(values: Rationals) -> Array:
    """:func:`float_up` of every entry."""
    flat = [float_up(value) for value in values.ravel()]
    return np.array(flat, dtype=np.float64).reshape(values.shape)


def floats_down(values: Rationals) -> Array:
    """The largest float64 that are at most the entries."""
    return -floats_up(-values)


def root_up(x: Any) -> Any:
    """Rational number at least the square root of ``x >= 0``, and above it by a relative 2**-119 at most.

    Raises
    ------
    ValueError
        For negative numbers.
    """
    exact = fraction(x)
    if exact < 0:
        raise ValueError("a negative number has no real square root")
    if exact == 0:
        return rational(0)
    p, q = exact.numerator, exact.denominator
    shift = max(0, 2 * ROOT_BITS - (p.bit_length() - q.bit_length()))
    shift += shift % 2
    scaled = -((-p << shift) // q)  # rounded up
    root = math.isqrt(scaled)
    root += root * root < scaled
    return rational_type()(root, 1 << (shift // 2))


def round_up(x: Any, bits: int) -> Any:
    """Dyadic rational at least x with about this many significant bits: keeps numbers short."""
    exact = fraction(x)
    p, q = exact.numerator, exact.denominator
    shift = bits - (abs(p).bit_length() - q.bit_length())
    if q & (q - 1) == 0 and abs(p).bit_length() <= bits:
        return x
    scaled = -((-p << shift) // q) if shift >= 0 else -(-p // (q << -shift))
    return rational_type()(scaled, 1 << shift) if shift >= 0 else rational_type()(scaled << -shift)

"""Whether the point of a counterexample is one in exact arithmetic, too: by intervals, else by rational numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Activation, Identity, LeakyReLU, Polynomial, ReLU
from convexnn.exchange import Case
from convexnn.network import Network
from convexnn.propagation import InputSet, Query
from convexnn.propagation.crown import check_interval

Array = NDArray[np.float64]

#: Weights up to which a network is evaluated in rational numbers.
MAX_WEIGHTS = 50_000


def is_unsafe(network: Network, case: Case, point: Array) -> bool:
    """Whether the rows of a case hold at a point (d,) for the real-valued network; False where nothing is proved."""
    if not len(case.rows):
        return True
    inputs = InputSet.box(point, point)
    above = check_interval(Query(network, inputs, -case.rows, -case.offset), {})
    if case.input_rows.any():
        above = np.nextafter(above + inputs.maximum(-case.input_rows), np.inf)
    if np.where(case.strict, above < 0, above <= 0).all():
        return True
    small = sum(W.size for W, _ in network.layers) <= MAX_WEIGHTS
    return small and _is_unsafe_exactly(network, case, point)


def _is_unsafe_exactly(network: Network, case: Case, point: Array) -> bool:
    """By rational numbers: decides ties, which intervals cannot."""
    x = [Fraction(value) for value in point.tolist()]
    values = x
    for i, (W, b) in enumerate(network.layers):
        values = [sum(map(_times, row, values), Fraction(c)) for row, c in zip(W.tolist(), b.tolist(), strict=True)]
        if i < len(network.layers) - 1:
            found = [_exact(network.activation, value) for value in values]
            if None in found:
                return False
            values = [value for value in found if value is not None]
    rows = zip(case.rows.tolist(), case.input_rows.tolist(), case.offset.tolist(), case.strict.tolist(), strict=True)
    for row, inner, offset, strict in rows:
        value = sum(map(_times, row, values), Fraction(offset)) + sum(map(_times, inner, x), Fraction(0))
        if value < 0 or (strict and value == 0):
            return False
    return True


def _times(factor: float, value: Fraction) -> Fraction:
    return Fraction(factor) * value if factor and value else Fraction(0)


def _exact(activation: Activation, value: Fraction) -> Fraction | None:
    """The activation, None where it is not rational."""
    if isinstance(activation, ReLU):
        return max(value, Fraction(0))
    if isinstance(activation, LeakyReLU):
        return max(value, Fraction(activation.slope) * value)
    if isinstance(activation, Polynomial):
        a, b, c = (Fraction(number) for number in activation.parameters)
        return (a * value + b) * value + c
    return value if isinstance(activation, Identity) else None

"""Numbers written as text are refused by every value that takes numbers, in a sentence."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from convexnn.activations import LeakyReLU, Polynomial
from convexnn.constraints import FixedGradient, FixedValue, Invariant, LowerBound, SlopeBounds, UpperBound
from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_number, real_array
from convexnn.losses import Huber
from convexnn.network import Network
from convexnn.regions import Polytope, Region
from convexnn.threats import Box, L2Ball, LInfBall

PAIR = [1.0, 2.0]
MAKERS = {
    "ball": lambda one, _: L2Ball(one),
    "linf ball": lambda one, _: LInfBall(one),
    "clip": lambda _, two: L2Ball(0.1, clip=(two, PAIR)),
    "box": lambda _, two: Box(two, PAIR),
    "box, upper": lambda one, _: Box(0.0, one),
    "center": lambda _, two: Region(two, PAIR, "ball"),
    "axes": lambda _, two: Region(PAIR, two, "box"),
    "polytope, A": lambda _, two: Polytope([two, [-1, -1], [1, -1], [-1, 1]], np.ones(4)),
    "polytope, b": lambda one, _: Polytope([[1.0], [-1.0]], [one, 1.0]),
    "point": lambda _, two: FixedValue(two, 0.0),
    "value": lambda one, _: FixedValue(PAIR, one),
    "gradient": lambda _, two: FixedGradient(PAIR, two),
    "upper": lambda one, _: UpperBound(Box(0.0, 1.0), one),
    "lower": lambda one, _: LowerBound(Box(0.0, 1.0), one),
    "slope": lambda one, _: SlopeBounds(0, one, 3.0),
    "matrix": lambda one, _: Invariant([[one, 0], [0, 1]]),
    "huber": lambda one, _: Huber(one),
    "leaky": lambda one, _: LeakyReLU(one),
    "polynomial": lambda one, _: Polynomial(one, 0.0, 1.0),
    "weights": lambda _, two: Network.shallow([two], [0.0], [1.0]),
    "bias": lambda one, _: Network.shallow([PAIR], [0.0], [1.0], one),
    "inputs": lambda _, two: Network.shallow([PAIR], [0.0], [1.0])([two]),
}


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_text_is_no_number(maker) -> None:
    maker(0.0 if maker is MAKERS["leaky"] else 1.0, [0.1, 0.2])  # numbers are welcome
    for one, two in (
        ("1.0", ["0.1", "0.2"]),
        (b"1.0", [b"0.1", b"0.2"]),
        (np.array("1.0"), np.array(["0.1", 0.2], dtype=object)),
    ):
        with pytest.raises(InvalidInputError, match="number"):
            maker(one, two)


@pytest.mark.parametrize("wrong", ["1", b"1", [1.0], 1j, 10**400, np.datetime64("2020-01-01"), {}, None])
def test_one_number(wrong) -> None:
    for value in (3, 3.0, np.float32(3), np.array(3), Fraction(3), Decimal(3)):
        assert as_number(value, "it") == 3.0
    if wrong is None:
        assert np.isnan(as_number(wrong, "it"))  # as in arrays: what is missing
        return
    with pytest.raises(InvalidInputError, match=r"^it "):
        as_number(wrong, "it")


def test_arrays_of_numbers() -> None:
    given = np.arange(3.0)
    assert real_array(given, "it") is given
    np.testing.assert_array_equal(real_array([Fraction(1, 2), 1e200], "it"), [0.5, 1e200])
    with pytest.raises(InvalidInputError, match="it must hold numbers, not text such as 'two'; convert it first"):
        real_array(["two"], "it")
    with pytest.raises(InvalidInputError, match="different lengths"):
        real_array([[1.0], [1.0, 2.0]], "it")

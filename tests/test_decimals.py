"""Numbers in print stay bounds."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from convexnn.decimals import DOWN, UP, exactly, share_written, written


@pytest.mark.parametrize("digits", [1, 4, 8, 10])
def test_written_numbers_are_on_the_right_side_and_near(digits, rng) -> None:
    for x in [
        *(rng.standard_normal(200) * 10.0 ** rng.integers(-30, 30, 200)).tolist(),
        0.1,
        -0.1,
        0.0,
        2.0 / 3.0,
        1e300,
    ]:
        high, low = Fraction(written(x, digits)), Fraction(written(x, digits, DOWN))
        assert low <= Fraction(x) <= high
        assert high - low <= Fraction(abs(x)) * Fraction(10) ** (1 - digits)
    assert (written(np.inf, digits), written(-np.inf, digits, DOWN)) == ("inf", "-inf")


def test_numbers_are_told_from_all_others(rng) -> None:
    assert [exactly(x) for x in (0.1, 1.0, -2.5, 0.0, 1e300)] == ["0.1", "1", "-2.5", "0", "1e+300"]
    values = rng.standard_normal(100).tolist()
    assert [float(exactly(x)) for x in values] == values


def test_shares_never_promise_more_than_was_counted() -> None:
    assert share_written(19999, 20000, 4, DOWN) == "0.9999"
    assert share_written(19999, 20000, 4, UP) == "1.0000"
    assert (share_written(2, 3, 4, DOWN), share_written(2, 3, 4, UP)) == ("0.6666", "0.6667")
    for n in (1, 3, 7, 1000):
        for count in range(n + 1):
            low, high = (Fraction(share_written(count, n, 3, up)) for up in (DOWN, UP))
            assert low <= Fraction(count, n) <= high <= low + Fraction(1, 1000)

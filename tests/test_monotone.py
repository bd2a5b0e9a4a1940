"""One unknown: roots of increasing functions and maxima of concave ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convexnn.monotone import concave_maximum, increasing_root


@pytest.mark.parametrize("root", [-3.7, 0.0, 1e-9, 0.25, 5.0])
def test_roots_to_machine_accuracy(root):
    for function in (
        lambda x: (x - root, 1.0),
        lambda x: (math.tanh(50 * (x - root)), 50 / math.cosh(min(50 * abs(x - root), 300.0)) ** 2),
        lambda x: ((x - root) ** 3, 3 * (x - root) ** 2),
        lambda x: (float(np.sign(x - root)), 0.0),  # a jump: bisection alone
    ):
        assert increasing_root(function, -10.0, 10.0) == pytest.approx(root, rel=1e-13, abs=1e-6)


def test_an_end_that_is_past_the_root_is_returned():
    assert increasing_root(lambda x: (x - 5, 1.0), 6.0, 9.0) == 6.0
    assert increasing_root(lambda x: (x - 5, 1.0), -1.0, 2.0) == 2.0
    assert increasing_root(lambda _: (0.0, 0.0), -1.0, 2.0) == -1.0


@pytest.mark.parametrize("best", [1e-6, 0.3, 1.0, 7.0, 1e5])
def test_the_maximum_of_a_parabola(best):
    def parabola(x):
        return 1 - ((x - best) / best) ** 2

    assert concave_maximum(parabola, math.inf) == pytest.approx(1, abs=1e-12)
    # cut off before the top: the end is taken
    assert concave_maximum(parabola, 0.5 * best) == pytest.approx(0.75, abs=1e-9)


def test_values_that_are_not_numbers_are_passed_over():
    assert concave_maximum(lambda x: math.nan if x > 0 else 0.0, 3.0) == 0.0
    assert concave_maximum(lambda x: x if x <= 0.5 else -math.inf, 3.0) == pytest.approx(0.5, rel=1e-6)

"""Multipliers chosen against the rounding of a bound: exact optima are never passed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convexnn.patterns import ActivationPatterns
from convexnn.program import Dual
from convexnn.restrictions.certified_margin import CertifiedMargin
from convexnn.restrictions.certified_margin_dual import balanced_flow, unbalanced


def two_points(offset: float, lam: float = 0.01) -> CertifiedMargin:
    """Two samples of two classes, at -1 and 1 from the offset, units that are active on both."""
    X, D = np.array([[offset + 1.0], [offset - 1.0]]), ActivationPatterns(np.ones((2, 2), dtype=bool), np.ones(2))
    return CertifiedMargin(X, [0, 1], D, [[1.0, -1.0], [-1.0, 1.0]], radius=0.0, lam=lam, loss="hinge")


@pytest.mark.parametrize("offset", [0.0, 2.0**10, 2.0**20, 2.0**30])
def test_biases_that_are_free_to_the_last_digit(offset, rng) -> None:
    # without the cones: margins w sqrt(2) (x - offset) and a bias, (1 - sqrt(2) w)_+ + 2 lam w is least at sqrt(2) lam
    program, optimum = two_points(offset), math.sqrt(2.0) * 0.01
    rows = np.zeros(program.geometry.S.shape)
    found = []
    for size in (0.0, 1e-16, 1e-15, 1e-14, 1e-13, 1e-12, 1e-6):
        for _ in range(10):
            residual = (0.01 / math.sqrt(2.0)) * (1.0 + size * rng.standard_normal((2, 1)))
            found.append(program.lower_bound(Dual(residual, rows)))
    assert max(found) <= optimum * (1 + 1e-15)
    assert max(found) >= optimum * (1 - 1e-12 * (1 + offset))


def test_what_is_left_of_a_flow_is_bounded(rng) -> None:
    X, y = rng.standard_normal((9, 2)), np.arange(9) % 3
    patterns = ActivationPatterns(np.ones((9, 3), dtype=bool), np.ones(3))
    terms = CertifiedMargin(X, y, patterns, np.eye(3), radius=0.0, lam=1.0, loss="hinge").terms
    slopes = rng.random((9, 2))
    assert unbalanced(terms, slopes) > 1e-2
    balanced = balanced_flow(terms, slopes)
    assert balanced is not None
    assert 0.0 < unbalanced(terms, balanced) < 1e-13 * balanced.sum()
    # one path 0 -> 1 -> 2 on top: two edges have to lose it
    labels = terms.labels[:, None]
    path = balanced + 0.25 * (((labels == 0) & (terms.rivals == 1)) | ((labels == 1) & (terms.rivals == 2)))
    assert unbalanced(terms, path) >= 0.25 * 6  # three samples on each edge

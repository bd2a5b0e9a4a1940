"""Multipliers chosen against the rounding of a bound: exact optima are never passed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError
from convexnn.global_gap import LipschitzMultipliers, l2_global_bound, lipschitz_global_bound
from convexnn.inputs import multipliers_of
from convexnn.patterns import ActivationPatterns
from convexnn.program import Dual, PolynomialDual
from convexnn.restrictions import PolynomialProgram, ReluGroupLasso, VectorGroupLasso
from convexnn.restrictions.certified_margin import CertifiedMargin
from convexnn.restrictions.certified_margin_dual import balanced_flow, unbalanced
from convexnn.restrictions.robust_relu import RobustRelu
from convexnn.restrictions.robust_relu_dual import RobustDual


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


def samples(rng):
    X = rng.standard_normal((6, 2))
    return (
        X,
        np.where(np.arange(6) % 2, 1.0, -1.0),
        ActivationPatterns(np.ones((6, 2), dtype=bool), np.array([1.0, -1.0])),
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_attacks_in_float32_stay_in_the_ball(seed) -> None:
    rng = np.random.default_rng(seed)
    X, y, _ = samples(rng)
    patterns = ActivationPatterns(rng.random((6, 3)) < 0.5, np.array([1.0, -1.0, 1.0]))
    program = RobustRelu(X, y, patterns, 0.003, 0.1, norm=np.inf, loss="hinge")  # 0.1 is larger in float32
    attacks, slopes, shares = 1e3 * rng.standard_normal((6, 2)).astype("f4"), np.full(6, 0.5), np.full((6, 3), 0.5)
    wide, narrow = (program.lower_bound(RobustDual(slopes, attacks.astype(k), shares)) for k in ("f8", "f4"))
    assert wide == narrow
    assert wide > 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: a.astype(str),
        lambda a: a + 1j,
        lambda a: np.full(a.shape, None, dtype=object),
        lambda a: np.full(a.shape, 10**400, dtype=object),
        lambda a: np.full(a.shape, np.datetime64("2020-01-01")),
        lambda _: np.array(1.0),
        lambda _: "text",
        lambda a: np.full(a.shape, np.nan),
    ],
    ids=["text", "complex", "None", "huge", "dates", "scalar", "word", "nan"],
)
def test_what_is_no_number_proves_nothing(wrong, rng) -> None:
    X, y, patterns = samples(rng)
    residual, rows = np.full(6, 0.1), np.zeros((6, 2))
    vector = VectorGroupLasso(X, np.stack([y, -y], 1), patterns, np.eye(2), 0.1)
    cases = [
        (ReluGroupLasso(X, y, patterns, 0.1), Dual(wrong(residual), rows)),
        (ReluGroupLasso(X, y, patterns, 0.1), Dual(residual, wrong(rows))),
        (vector, Dual(wrong(np.ones((6, 2))), rows)),
        (two_points(0.0), Dual(wrong(np.ones((2, 1))), np.zeros((2, 2)))),
        (RobustRelu(X, y, patterns, 0.3, 0.1), RobustDual(wrong(residual), np.zeros((6, 2)), rows)),
    ]
    polynomial = PolynomialProgram(X, y, lam=0.1)
    n = polynomial.structure().n_terms
    shifts, directions = np.zeros((n, 2)), np.ones((1, 2, 1))
    cases.append((polynomial, PolynomialDual(wrong(np.ones(n)), shifts)))
    cases.append((polynomial, PolynomialDual(np.ones(n), shifts, wrong(np.ones((n, 1))), directions)))
    for program, dual in cases:
        assert program.lower_bound(dual) == -math.inf


def test_global_bounds_refuse_what_is_no_number(rng) -> None:
    X, y, _ = samples(rng)
    nan, others = np.full(6, np.nan), (np.ones(2), np.eye(2))
    for wrong in (np.full(6, "1"), np.full(6, 1j), np.full(6, 10**400, dtype=object), np.array(1.0), "text"):
        with pytest.raises(InvalidInputError, match=r"^nu |multipliers"):
            l2_global_bound(X, y, 0.1, wrong)
        with pytest.raises(InvalidInputError, match=r"^nu |multipliers"):
            lipschitz_global_bound(X, y, 0.1, LipschitzMultipliers(wrong, *others))
    assert l2_global_bound(X, y, 0.1, nan).lower <= 1e-12
    assert lipschitz_global_bound(X, y, 0.1, LipschitzMultipliers(nan, *others)).lower <= 1e-12


def test_narrow_numbers_are_widened() -> None:
    found = multipliers_of(
        PolynomialDual(np.full(2, -128, np.int8), np.ones((2, 1), np.float32), groups=np.zeros(2, int)),
        whole=("groups",),
    )
    assert found is not None
    assert found.slopes.dtype == found.shifts.dtype == np.float64
    assert found.groups.dtype.kind == "i"
    assert found.variances is None

"""Multipliers chosen against the rounding of a bound: exact optima are never passed."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError
from convexnn.global_gap import LipschitzMultipliers, l2_global_bound, lipschitz_global_bound
from convexnn.inputs import multipliers_of
from convexnn.patterns import ActivationPatterns
from convexnn.program import Dual, PolynomialDual
from convexnn.restrictions import PolynomialProgram, ReluGroupLasso, VectorGroupLasso
from convexnn.restrictions.certified_margin import CertifiedMargin
from convexnn.restrictions.certified_margin_dual import _reach_up, balanced_flow, norm_functional
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
    assert max(found) >= optimum * (1 - 1e-12)  # wherever the origin is


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_flows_are_balanced_exactly(rng, scale) -> None:
    X, y = rng.standard_normal((9, 2)), np.arange(9) % 3
    patterns = ActivationPatterns(np.ones((9, 3), dtype=bool), np.ones(3))
    terms = CertifiedMargin(X, y, patterns, np.eye(3), radius=0.0, lam=1.0, loss="hinge").terms
    for _ in range(5):
        slopes = scale * rng.random((9, 2)) ** 4
        found = balanced_flow(terms, slopes)
        assert found is not None
        assert (found >= 0).all()
        excess = [Fraction(0)] * 3
        for label, rivals, values in zip(terms.labels, terms.rivals, found.tolist(), strict=True):
            for rival, value in zip(rivals, values, strict=True):
                excess[label] += Fraction(value)
                excess[rival] -= Fraction(value)
        assert excess == [0, 0, 0]
        again = balanced_flow(terms, found)
        np.testing.assert_allclose(again, found, rtol=0.0, atol=1e-12 * found.sum())
    assert balanced_flow(terms, np.zeros((9, 2))) is None
    assert balanced_flow(terms, np.full((9, 2), 5e-324)) is None


def reach(R, V, spectrum, norm) -> float:
    """``max_i |R_i|_{Z^-1}^2 s(Z)`` in rational arithmetic for Z = V diag(spectrum) V'."""
    V, R, s = ([[Fraction(x) for x in row] for row in part.tolist()] for part in (V, R, spectrum[None]))
    d = len(V)
    Z = [[sum(s[0][k] * V[i][k] * V[j][k] for k in range(d)) for j in range(d)] for i in range(d)]
    size = sum(Z[i][i] for i in range(d)) if norm == 2 else max(Z[i][i] for i in range(d))
    worst = Fraction(0)
    for row in R:
        table = [list(line) + [r] for line, r in zip(Z, row, strict=True)]
        for k in range(d):  # elimination without pivots: Z is positive definite
            for i in range(k + 1, d):
                share = table[i][k] / table[k][k]
                table[i] = [a - share * b for a, b in zip(table[i], table[k], strict=True)]
        worst = max(worst, sum(table[k][d] ** 2 / table[k][k] for k in range(d)))
    return worst * size


@pytest.mark.parametrize("norm", [2, np.inf])
def test_scales_of_multipliers_are_bounded_in_rational_arithmetic(rng, norm) -> None:
    for wrong in (0.0, 1e-9, 1e-3):
        for _ in range(4):
            V = np.linalg.qr(rng.standard_normal((3, 3)))[0] + wrong * rng.standard_normal((3, 3))
            spectrum, R = 10.0 ** rng.uniform(-9, 0, 3), rng.standard_normal((4, 3))
            exact, found = reach(R, V, spectrum, norm), _reach_up(R, V, spectrum, norm)
            assert exact <= Fraction(found) ** 2
            if not wrong:
                assert found**2 <= float(exact) * (1 + 1e-6)
    assert _reach_up(R, np.ones((3, 3)), spectrum, norm) == np.inf
    # one input: L(B) is half the sum of the lengths, so no entry may be above half the weight
    for size in (1e-300, 1.0, 1e300):
        rows = norm_functional(size * rng.standard_normal((5, 5)) + 2 * size * np.eye(5), 0.7, 1, norm)
        assert 0.35 * (1 - 1e-9) <= np.abs(rows).max() <= 0.35 or (size < 1 and np.abs(rows).max() <= 0.35)


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

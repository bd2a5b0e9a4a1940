"""Products with an enclosed roundoff: valid against exact rational arithmetic, and far sharper than the usual bound."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from convexnn.patterns import ActivationPatterns, sample
from convexnn.program import Dual
from convexnn.restrictions import ReluGroupLasso, enclosed
from convexnn.restrictions.enclosed import enclosed_stationarity, two_sum
from convexnn.restrictions.multipliers import stationarity
from convexnn.restrictions.spectral import conjugate
from convexnn.solvers import solve
from convexnn.structure import ConeStructure, GroupNorm


def draw(rng, n, d, p):
    """Structure and multipliers of wildly different sizes."""
    X = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-6, 7, size=d) + 10.0 ** rng.integers(-3, 6)
    D = (rng.random((n, p)) < 0.5).astype(float)
    weight = rng.random(n) * 10.0 ** rng.integers(-5, 1, size=n)
    structure = ConeStructure(
        X=np.hstack([X, np.ones((n, 1))]), y=rng.normal(size=n), weight=weight / weight.sum(), constant=0.0, D=D,
        S=(2 * D - 1) * (rng.random((n, p)) < 0.9), ridge=0.0, n_weights=d, coupling=GroupNorm(1.0),
    )  # fmt: skip
    rows = rng.random((n, p)) * 10.0 ** rng.integers(-12, 13, size=(n, p))
    residual = rng.normal(size=n) * 10.0 ** rng.integers(-8, 8)
    return structure, residual, rows


def exact(structure, residual, rows):
    """``G'rows - A'p`` as fractions, p centred exactly."""
    total = sum(map(Fraction, residual))
    n, p = structure.S.shape
    Z = np.full((p, structure.X.shape[1]), Fraction(0))
    for k in range(n):
        x = np.array([Fraction(value) for value in structure.X[k]])
        centred = Fraction(residual[k]) - Fraction(structure.weight[k]) * total
        for i in range(p):
            Z[i] += (Fraction(structure.S[k, i]) * Fraction(rows[k, i]) - centred * Fraction(structure.D[k, i])) * x
    return Z


@pytest.mark.parametrize("block", [None, 7], ids=["whole", "blocks"])
def test_the_roundoff_is_enclosed_against_rational_arithmetic(rng, monkeypatch, block):
    if block is not None:
        monkeypatch.setattr(enclosed, "BLOCK_ENTRIES", block)
    for trial in range(25):
        n, d, p = int(rng.integers(1, 30)), int(rng.integers(1, 4)), int(rng.integers(1, 4))
        structure, residual, rows = draw(rng, n, d, p)
        if trial % 2:  # nearly centred already, as solvers give it
            residual = residual - structure.weight * residual.sum()
        Z, error = enclosed_stationarity(structure, residual, rows)
        distance = np.array([[abs(float(a)) for a in row] for row in exact(structure, residual, rows) - _fractions(Z)])
        assert (distance <= error).all()


def _fractions(Z):
    return np.array([[Fraction(value) for value in row] for row in Z])


def test_multipliers_that_cancel_are_bounded_a_thousand_times_sharper(rng):
    structure, _, _ = draw(rng, 200, 3, 4)
    structure.X[:, :-1] = rng.normal(size=(200, 3))
    rows = np.abs(rng.normal(size=structure.S.shape)) * (structure.S != 0)
    # what is left of G'rows is taken off by one more row: the sums cancel to roundoff
    structure.S[-1], structure.X[-1, -1] = 1.0, 1.0
    rows[-1] = np.maximum(-structure.slack_adjoint(rows * (np.arange(200) < 199)[:, None])[:, -1], 0.0)
    Z, error = enclosed_stationarity(structure, np.zeros(200), rows)
    plain = stationarity(structure, np.zeros(200), rows)[1]
    assert error[:, -1].max() < 1e-2 * plain[:, -1].max()
    assert np.abs(Z).max() < 1e6


def test_two_sum_loses_nothing(rng):
    a, b = rng.normal(size=50) * 10.0 ** rng.integers(-20, 20, size=50), rng.normal(size=50)
    high, low = two_sum(a, b)
    assert all(
        Fraction(x) + Fraction(y) == Fraction(s) + Fraction(t) for x, y, s, t in zip(a, b, high, low, strict=True)
    )


def test_raw_features_of_huge_scale_are_certified():
    scale, lam = 1e6, 1e-4
    X, y = load_diabetes(return_X_y=True, scaled=False)
    patterns = sample(X * scale, 50, random_state=0)
    solution = solve(ReluGroupLasso(X * scale, y, patterns, lam * np.var(y)), solver="interior_point")
    assert solution.status == "optimal"


@pytest.mark.parametrize("tiny", [1e-320, 1e-308, 1e-300])
def test_columns_of_denormal_numbers_prove_nothing_false(tiny):
    """Their unit of rounding underflows; undefined products once counted as no violation of stationarity at all."""
    x = np.array([-2.0, 1.0, 1.0 + 1e-9, 3.0])
    X, y = np.column_stack([x, tiny * np.arange(1, 5)]), np.array([-1.0, 0.5, 0.6, 2.0])
    pattern = np.array([[False], [False], [True], [True]])
    program = ReluGroupLasso(X, y, ActivationPatterns(pattern, np.ones(1)), 0.05)
    z = np.array([[0.5, 0.0, -0.5 - 0.5e-9]])  # feasible, so its objective is an upper bound
    assert program.violation(z) <= 1e-15
    for length in (0.0, 1e6, 1e8):
        rows = length * np.array([[0.0], [1.0], [1.0], [0.0]])
        Z, error = enclosed_stationarity(program.structure(), program.residual_multiplier(z), rows)
        assert np.isfinite(Z).all()
        assert np.isfinite(error).all()
        assert program.lower_bound(Dual(program.residual_multiplier(z), rows)) <= program.objective(z)


def test_roundoff_around_zero_is_covered():
    """Multipliers that cancel to zero in floating point need not be zero: the conjugate of ``error`` alone counts."""
    error = np.full((2, 1), 1e-8)
    covered = conjugate(np.zeros((2, 1)), None, 1.0, None, error)
    assert covered >= conjugate(error, None, 1.0, None) * (1 - 1e-12) > 0  # the worst multiplier within the error
    assert conjugate(np.zeros((2, 1)), None, 1.0, None, 0 * error) == 0

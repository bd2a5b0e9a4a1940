"""Rigorous bounds against exact rational arithmetic: never below the truth, and close to it."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from convexnn.rigorous import (
    column_sums,
    fraction_down,
    fraction_up,
    gamma,
    gram_max_eigenvalue,
    is_psd_exact,
    ldexp_up,
    max_eigenvalue,
    norm_up,
    power_of_two,
    product_up,
    round_up,
    row_norms_up,
    spectral_norm_up,
    sqrt_up,
    sum_up,
)


def exact_square(X: np.ndarray) -> Fraction:
    return sum((Fraction(x) ** 2 for x in np.ravel(X).tolist()), Fraction(0))


def exact_gram(E: np.ndarray) -> list[list[Fraction]]:
    rows = [[Fraction(x) for x in row] for row in E.tolist()]
    d = len(rows[0])
    return [[sum((row[i] * row[j] for row in rows), Fraction(0)) for j in range(d)] for i in range(d)]


def shifted(lam: float, G: list[list[Fraction]]) -> np.ndarray:
    """Exact lam I - G."""
    return np.array(
        [[(Fraction(lam) if i == j else 0) - G[i][j] for j in range(len(G))] for i in range(len(G))], dtype=object
    )


def test_gamma_bounds_the_relative_error_of_n_roundings():
    assert Fraction(gamma(10)) >= Fraction(10, 2**53) / (1 - Fraction(10, 2**53))
    assert gamma(2**53) == math.inf


def test_scalar_helpers_round_outward(rng):
    x = rng.standard_normal(1000) * 10.0 ** rng.integers(-12, 12, 1000)
    assert Fraction(sum_up(x)) >= sum(Fraction(a) for a in x.tolist())
    assert sum_up(x) <= math.fsum(x) + 1e-15 * abs(math.fsum(x)) + 1e-300
    assert Fraction(product_up(0.1, 0.2, 0.3)) >= Fraction(0.1) * Fraction(0.2) * Fraction(0.3)
    assert Fraction(sqrt_up(2.0)) ** 2 >= 2
    assert product_up(1e-200, 1e-200) > 0.0
    assert product_up(0.0, 1e300) == 0.0
    assert round_up(0.0) == 0.0
    assert ldexp_up(1.0, -2000) > 0.0
    assert ldexp_up(3.0, 4) == 48.0
    assert ldexp_up(0.0, 5000) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_bad_scalars_give_inf(bad):
    assert product_up(1.0, bad) == math.inf
    assert sqrt_up(bad) == math.inf
    assert ldexp_up(bad, 1) == math.inf
    assert sum_up([1.0, math.nan]) == math.inf
    assert sum_up([1e308, 1e308]) == math.inf
    assert norm_up([1.0, math.nan]) == math.inf


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e300, 1e-160])
def test_norms_are_above_the_exact_ones(rng, scale):
    X = rng.standard_normal((7, 5)) * scale
    assert Fraction(norm_up(X)) ** 2 >= exact_square(X)
    assert norm_up(X / scale) <= np.linalg.norm(X / scale) * (1.0 + 1e-12)
    for bound, row in zip(row_norms_up(X), X, strict=True):
        assert Fraction(bound) ** 2 >= exact_square(row)
    assert row_norms_up(np.zeros((2, 3))).tolist() == [0.0, 0.0]


def test_power_of_two_bounds_the_largest_entry():
    assert power_of_two([0.3, -5.0]) == 3
    assert power_of_two(np.zeros(3)) == 0


def test_column_sums_state_their_error(rng):
    X = rng.standard_normal((1000, 3)) * 10.0 ** rng.integers(-8, 8, (1000, 1))
    sums, error = column_sums(X)
    for j in range(3):
        assert abs(Fraction(sums[j]) - sum(Fraction(x) for x in X[:, j].tolist())) <= Fraction(error[j])


@pytest.mark.parametrize("n", [1, 2, 5, 12])
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_largest_eigenvalue_is_proved_by_exact_arithmetic(rng, n, scale):
    A = rng.standard_normal((n, n)) * scale
    G = A + A.T
    bound = max_eigenvalue(G)
    exact = [[Fraction(x) for x in row] for row in G.tolist()]
    assert is_psd_exact(shifted(bound, exact))
    assert bound <= np.linalg.eigvalsh(G)[-1] + 1e-12 * np.abs(G).max() * n


def test_negative_and_degenerate_eigenvalues():
    assert -1.0 <= max_eigenvalue([[-1.0, 0.0], [0.0, -2.0]]) <= -1.0 + 1e-12
    assert max_eigenvalue(np.zeros((3, 3))) == 0.0
    assert 3.0 <= max_eigenvalue(np.ones((3, 3))) <= 3.0 + 1e-12
    assert max_eigenvalue(np.eye(2), error=0.5) >= 1.5


@pytest.mark.parametrize("shape", [(1, 1), (6, 3), (3, 6), (600, 4)])
def test_squared_spectral_norm_is_proved_by_exact_arithmetic(rng, shape):
    E = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3, shape)
    bound = gram_max_eigenvalue(E)
    assert is_psd_exact(shifted(bound, exact_gram(E if shape[0] >= shape[1] else E.T)))
    assert bound <= np.linalg.norm(E, 2) ** 2 * (1.0 + 1e-11)


def test_perturbations_are_covered(rng):
    E = rng.standard_normal((20, 4))
    left, sizes, right = np.linalg.svd(E, full_matrices=False)
    worst = E + 0.1 * np.outer(left[:, 0], right[0])  # moves the largest singular value by the whole perturbation
    assert gram_max_eigenvalue(E, 0.1) >= np.linalg.norm(worst, 2) ** 2 * (1.0 - 1e-14)
    assert gram_max_eigenvalue(E, 0.1) <= (sizes[0] + 0.1) ** 2 * (1.0 + 1e-12)


@pytest.mark.parametrize("scale", [1e-320, 1e-160, 1e150])
def test_extreme_scales_neither_vanish_nor_overflow(scale):
    E = np.array([[1.0, 1.0], [1.0, -1.0]]) * scale  # squared norm 2 scale**2
    bound = gram_max_eigenvalue(E)
    assert bound > 0.0
    assert bound >= 2.0 * scale**2
    assert bound <= 2.0 * scale**2 * (1.0 + 1e-12) + 1e-320


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_matrices_give_inf(bad):
    M = np.eye(3)
    M[1, 0] = bad
    assert max_eigenvalue(M) == math.inf
    assert gram_max_eigenvalue(M) == math.inf
    assert max_eigenvalue(np.eye(2), error=bad) == math.inf


def test_exact_semidefiniteness():
    assert is_psd_exact([[1, 2], [2, 4]])
    assert not is_psd_exact([[1.0, 2.0], [2.0, 4.0 - 2.0**-50]])
    assert not is_psd_exact([[0, 1], [1, 5]])
    assert is_psd_exact([[0, 0], [0, 5]])
    assert not is_psd_exact([[math.nan]])
    assert is_psd_exact([[Fraction(1, 3), Fraction(1, 3)], [Fraction(1, 3), Fraction(1, 3)]])


def test_a_wide_matrix_of_images_is_bounded_tightly(rng):
    E = rng.standard_normal((300, 200))
    assert np.linalg.norm(E, 2) ** 2 <= gram_max_eigenvalue(E) <= np.linalg.norm(E, 2) ** 2 * (1.0 + 1e-10)


@pytest.mark.parametrize("scale", [1.0, 1e-320, 1e-200, 1e300])
def test_spectral_norm_does_not_square_its_scale(rng, scale):
    E = rng.standard_normal((5, 3)) * scale
    assert spectral_norm_up(E) >= np.linalg.norm(E / scale, 2) * scale * (1 - 1e-12)
    assert spectral_norm_up(E) <= np.linalg.norm(E / scale, 2) * scale * (1 + 1e-10) + 1e-322
    assert spectral_norm_up(np.full((2, 2), math.nan)) == math.inf


@pytest.mark.parametrize(
    "x", [Fraction(1, 3), Fraction(-1, 3), Fraction(0), Fraction(2**53 + 1), Fraction(1, 3) * Fraction(2) ** -1074]
)
def test_fractions_are_rounded_to_the_floats_next_to_them(x):
    up, down = fraction_up(x), fraction_down(x)
    assert Fraction(down) <= x <= Fraction(up)
    assert up == down if Fraction(float(x)) == x else up == math.nextafter(down, math.inf)


def test_fractions_beyond_the_floats():
    huge, largest = Fraction(10) ** 400, np.finfo(float).max
    assert (fraction_up(huge), fraction_down(huge)) == (math.inf, largest)
    assert (fraction_up(-huge), fraction_down(-huge)) == (-largest, -math.inf)

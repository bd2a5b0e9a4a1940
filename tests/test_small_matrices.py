"""Stacks of small matrices: what the cheap bounds spare must not change the result."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.solvers import _small_matrices as small


def symmetric(rng, count, k, spread=1.0):
    A = rng.normal(size=(count, k, k))
    return spread * (A + A.swapaxes(1, 2))


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_triangular_inverse(k):
    rng = np.random.default_rng(k)
    L = np.tril(rng.normal(size=(7, k, k))) + 2 * np.eye(k)
    np.testing.assert_allclose(small.triangular_inverse(L) @ L, np.tile(np.eye(k), (7, 1, 1)), atol=1e-9)


@pytest.mark.parametrize("count", [1, 5, 200])
@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("limit", [0.01, 0.7, 10.0])
def test_longest_step_is_that_of_all_eigenvalues(count, k, limit):
    rng = np.random.default_rng(count + k)
    # clustered spectra: bounds decide nothing there; one matrix that is worse than the others
    for M in (symmetric(rng, count, k), symmetric(rng, count, k, 1e-3) - np.eye(k), symmetric(rng, count, k, 1e100)):
        M[count // 2] *= 1.5
        smallest = np.linalg.eigvalsh(M).min()
        expected = min(limit, -1 / smallest) if smallest < 0 else limit
        assert small.longest_step(M, limit) == pytest.approx(expected, rel=1e-12)


def test_bounds_enclose_the_spectra():
    rng = np.random.default_rng(0)
    for M in (symmetric(rng, 50, 6), symmetric(rng, 50, 6, 1e-6) + np.eye(6), np.zeros((3, 4, 4))):
        values = np.linalg.eigvalsh(M)
        low, high, top = small.eigenvalue_bounds(M)
        assert (low <= values[:, 0] + 1e-15).all()
        assert (values[:, 0] <= high + 1e-15).all()
        assert (values[:, -1] <= top + 1e-15).all()


def test_clipped_spectra_ends_in_the_interval_and_leaves_what_is_there():
    rng = np.random.default_rng(1)
    products = symmetric(rng, 30, 4, 0.05) + np.eye(4)
    products[3] -= 2 * np.eye(4)
    products[8] *= 40
    changes = small.clipped_spectra(products, 1.0)
    values = np.linalg.eigvalsh(products)
    inside = (values[:, 0] >= 0.1) & (values[:, -1] <= 10)
    assert 3 not in np.flatnonzero(inside)
    assert 0 < inside.sum() < 30
    assert not changes[inside].any()
    lowered = np.linalg.eigvalsh(products + changes)
    assert lowered.min() >= 0.1 - 1e-12
    # never by more than ten targets
    assert lowered.max() <= max(10.0, values.max() - 10.0) + 1e-12

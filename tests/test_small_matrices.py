"""Small dense matrices: triangular inverses and the Nesterov-Todd scaling."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.solvers import _small_matrices as small


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_triangular_inverse(k):
    rng = np.random.default_rng(k)
    L = np.tril(rng.normal(size=(7, k, k))) + 2 * np.eye(k)
    np.testing.assert_allclose(small.triangular_inverse(L) @ L, np.tile(np.eye(k), (7, 1, 1)), atol=1e-9)


@pytest.mark.parametrize("spread", [1.0, 1e-6, 1e-12])
def test_scaling_makes_both_matrices_the_same_diagonal(spread, rng):
    # with a wide spread the eigenvalues of the product are recovered from a product of factors
    A, B = rng.normal(size=(2, 4, 4))
    axes = np.linalg.qr(A)[0]
    X = (axes * [1.0, 1.0, spread, 2.0]) @ axes.T
    S = B @ B.T + np.eye(4)
    G, lmbda = small.scaling(X, S)
    assert G.T @ S @ G == pytest.approx(np.diag(lmbda), rel=1e-6, abs=1e-9 * lmbda.max())
    inverse = np.linalg.inv(G)
    assert inverse @ X @ inverse.T == pytest.approx(np.diag(lmbda), rel=1e-4, abs=1e-8 * lmbda.max())
    assert np.sort(lmbda**2) == pytest.approx(np.sort(np.linalg.eigvals(X @ S).real), rel=1e-3)


def test_scaling_needs_the_interior_of_the_cone():
    for X, S in ((np.diag([1.0, -1.0]), np.eye(2)), (np.eye(2), np.diag([1.0, -1e-3]))):
        with pytest.raises(np.linalg.LinAlgError):
            small.scaling(X, S)

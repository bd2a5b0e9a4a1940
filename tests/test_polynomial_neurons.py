"""Neural decomposition: exact, with as many neurons as the rank, and robust where square roots could fail."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.restrictions.polynomial_neurons import matrix_of, network_of, neural_decomposition, point_of


def random_matrix(rng, d, rank, spread=6.0):
    U = rng.standard_normal((rank, d))
    U /= np.linalg.norm(U, axis=1, keepdims=True)
    return matrix_of(U, 10.0 ** rng.uniform(-spread, 0, rank))


@pytest.mark.parametrize("d", [1, 2, 7, 40])
@pytest.mark.parametrize("size", [1e-200, 1.0, 1e150])
def test_neurons_give_the_matrix_back(d, size, rng):
    for rank in {1, 2, d, d + 1}:
        Z = size * random_matrix(rng, d, rank)
        units, alpha = neural_decomposition(Z)
        assert len(alpha) <= min(rank, np.linalg.matrix_rank(Z / size, tol=1e-14))
        assert np.linalg.norm(units, axis=1) == pytest.approx(np.ones(len(alpha)), abs=1e-14)
        assert (alpha > 0).all()
        assert alpha.sum() == pytest.approx(Z[-1, -1], rel=1e-12)
        assert np.abs(matrix_of(units, alpha) - Z).max() <= 1e-12 * np.abs(Z).max()


def test_vectors_that_are_balanced_already_stay():
    # two orthogonal p with p'Jp = 0 and equal lengths: every turn would do, no root is taken of a negative number
    Z = matrix_of(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), np.array([1.0, 1.0, 1e-14]))
    units, alpha = neural_decomposition(Z)
    assert alpha.sum() == pytest.approx(2.0)
    assert np.abs(matrix_of(units, alpha) - Z).max() <= 1e-13


@pytest.mark.parametrize("noise", [1e-14, 1e-9, 1e-5])
def test_noise_of_a_solver_changes_as_much_as_it_is(noise, rng):
    for _ in range(30):
        Z = random_matrix(rng, 6, 3, spread=2.0)
        error = rng.standard_normal(Z.shape)
        noisy = Z + noise * (error + error.T)  # not semidefinite, traces differ
        units, alpha = neural_decomposition(noisy)
        assert len(alpha) <= 7
        assert np.isfinite(units).all()
        assert np.abs(matrix_of(units, alpha) - Z).max() <= 100 * noise
        again = matrix_of(units, alpha)
        assert np.trace(again) == pytest.approx(2 * again[-1, -1], rel=1e-14)


def test_nothing_comes_of_nothing():
    for Z in (np.zeros((4, 4)), -np.eye(4), np.diag([0.0, 0.0, 0.0, 1.0]), np.diag([1.0, 1.0, 0.0]) * 5e-324):
        units, alpha = neural_decomposition(Z)
        assert units.shape == (0, len(Z) - 1)
        assert alpha.shape == (0,)
    network = network_of(np.zeros((2, 3, 5, 5)), (0.09, 0.5, 0.47))
    assert network.n_outputs == 3
    assert not network.v.any()


def test_networks_of_several_outputs(rng):
    z = np.stack([np.stack([random_matrix(rng, 3, 2) for _ in range(4)]) for _ in range(2)])
    network = network_of(z, (0.3, -0.2, 0.1))
    X = rng.standard_normal((20, 3))
    M = z[0] - z[1]
    values = 0.3 * np.einsum("ij,cjk,ik->ic", X, M[:, :-1, :-1], X) - 0.2 * X @ M[:, :-1, -1].T + 0.1 * M[:, -1, -1]
    assert network(X) == pytest.approx(values, abs=1e-12)
    assert len(network.W) <= 16
    assert np.abs(network.v).sum() == pytest.approx(z[:, :, -1, -1].sum(), rel=1e-12)
    assert point_of(network.W, network.v) == pytest.approx(z, abs=1e-12)

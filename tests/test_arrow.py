"""The split matrix inequality: central start, the Newton equations it eliminates, and its way back."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from convexnn.solvers import interior_point, solve
from convexnn.solvers._arrow_elimination import symmetric_basis, to_matrix, to_vector
from convexnn.solvers._full_block import pays_to_split
from convexnn.solvers.cone_problem import ConeProblem, power_of_two_unit
from tests._instances import PROGRAMS, joint, regression

spectral = pytest.mark.parametrize("make", [joint, PROGRAMS["fixed"]], ids=["joint", "fixed"])


def started(make, rng, mu=0.3, **size):
    """A block on its central path, with the problem and the point."""
    structure = make(*regression(**size)).structure()
    problem = ConeProblem(structure, power_of_two_unit(structure), np.arange(structure.D.shape[1]))
    block = interior_point._block(problem, structure, 1.0)
    U = block.start(rng.normal(size=(problem.d1, problem.p)), mu)
    return problem, block, U


def off_center(block, U, rng):
    """Move the primal point a little: scalings are then no multiples of the primal."""
    U = U * (1 + 0.1 * rng.normal(size=U.shape))
    block._set_primal(U)
    block.rescale()
    return U


@spectral
def test_start_is_central(make, rng):
    _, block, _ = started(make, rng)
    eye = np.eye(block.k)
    assert np.abs(block.X @ block._dual() - 0.3 * eye).max() < 1e-3
    assert np.abs(block.T @ block.W - 0.3 * np.eye(block.d)).max() < 1e-3  # q, x and W come from a short iteration
    cost = np.trace(block.W) if block.fixed_corner else block.r.mean()
    assert cost == pytest.approx(block.weight, rel=1e-6)


@spectral
def test_cliques_and_rest_sum_to_the_arrow(make, rng):
    problem, block, U = started(make, rng)
    U = off_center(block, U, rng)
    d, order = block.d, block.d + block.count
    total = np.zeros((order, order))
    total[:d, :d] = block.T
    for i, clique in enumerate(block.X):
        index = np.r_[0:d, d + i]
        total[np.ix_(index, index)] += clique
    assert total[:d, :d] == pytest.approx(block.x * np.eye(d), abs=1e-12)
    W = (U[:d] / block.scale).T
    E = block.row_scale[:, None] * np.vstack([W.sum(axis=0), W])
    assert total[d:, :d] == pytest.approx(E, abs=1e-12)
    assert np.linalg.eigvalsh(total)[0] > 0
    assert np.linalg.eigvalsh(block.matrix())[0] > 0


@spectral
def test_a_step_solves_all_equations_that_were_eliminated(make, rng):
    problem, block, U = started(make, rng)
    off_center(block, U, rng)
    target = rng.normal(size=block.X.size + block.T.size)
    cliques, rest = block._parts(target)
    target = np.concatenate([(cliques + cliques.transpose(0, 2, 1)).ravel(), (rest + rest.T).ravel()])
    block.pull_back(target)
    dU = rng.normal(size=U.shape)
    step = block.expand(dU, np.zeros(0), target)
    dW, dz, dr = np.split(step.extra, [block.d**2, block.d**2 + block.z.size])
    dW, dz = dW.reshape(block.d, block.d), dz.reshape(block.z.shape)
    scaled, scaled_rest = block._parts(step.primal)
    dX = block.root @ scaled @ block.root.transpose(0, 2, 1)
    dT = block.T_root @ scaled_rest @ block.T_root.T
    d = block.d
    moved = dX[:, :d, :d].sum(axis=0) + dT
    free = np.trace(moved) / d if block.fixed_corner else 0.0
    assert moved == pytest.approx(free * np.eye(d), abs=1e-8)
    assert dX[:, :d, d] == pytest.approx(block._off_diagonal(dU), abs=1e-8)
    if block.fixed_corner:
        assert dX[:, d, d] == pytest.approx(0, abs=1e-8)
        assert np.trace(dW) == pytest.approx(0, abs=1e-8)
    else:
        assert dr == pytest.approx(0)


@spectral
def test_the_hessian_is_what_the_elimination_does(make, rng):
    # with target zero the dual change is -(unit blocks + F'F) dU in U
    problem, block, U = started(make, rng)
    off_center(block, U, rng)
    target = np.zeros(block.X.size + block.T.size)
    block.pull_back(target)
    dU = rng.normal(size=U.shape)
    step = block.expand(dU, np.zeros(0), target)
    block.z = step.extra[block.d**2 : block.d**2 + block.z.size].reshape(block.z.shape)
    change = block.dual_residual()[0]
    F = block.low_rank()
    image = np.einsum("iab,bi->ai", block.unit_hessian(), dU)
    image += np.einsum("ria,r->ai", F, np.einsum("ria,ai->r", F, dU))
    assert change == pytest.approx(-image, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_symmetric_vectors_are_isometric(d, rng):
    A = rng.normal(size=(d, d))
    A = A + A.T
    assert to_matrix(to_vector(A), d) == pytest.approx(A)
    assert np.linalg.norm(to_vector(A)) == pytest.approx(np.linalg.norm(A))
    V = symmetric_basis(d, traceless=True)
    assert V.T @ V == pytest.approx(np.eye(V.shape[1]))
    assert all(abs(np.trace(to_matrix(v, d))) < 1e-12 for v in V.T)


@spectral
def test_split_and_whole_inequality_agree(make, monkeypatch):
    """Many features and few units keep the inequality whole; both forms end at the same verified optimum."""
    X, y, net = regression(seed=3, n=40, d=12, p=5)
    found = {}
    for factor in (0.0, np.inf):
        monkeypatch.setattr("convexnn.solvers._full_block.SPLIT_FACTOR", factor)
        found[factor] = solve(make(X, y, net), solver="interior_point")
        assert found[factor].is_optimal
    low, high = (found[factor] for factor in (0.0, np.inf))
    assert low.lower_bound <= high.objective * (1 + 1e-12)
    assert high.lower_bound <= low.objective * (1 + 1e-12)


def test_the_whole_inequality_is_taken_where_features_are_many():
    def problem(n, d, p):
        return SimpleNamespace(n=n, size=p * (d + 1), p=p, n_weights=d)

    assert pays_to_split(problem(175, 7, 100))
    assert pays_to_split(problem(10_000, 20, 100))
    assert not pays_to_split(problem(100, 60, 20))
    assert not pays_to_split(problem(1000, 784, 50))  # 308,504 rows would be added

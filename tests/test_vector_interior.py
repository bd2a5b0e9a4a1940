"""Interior point method for several outputs: its parts, corners, scales, real data, and the alternation around it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError
from convexnn.lipsdp import maximize_vector
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.restrictions import ReluGroupLasso, VectorGroupLasso, VectorLipschitzProgram
from convexnn.solvers import newton_system, solve
from convexnn.solvers._vector_block import VectorJointBlock, balanced_multipliers
from convexnn.solvers._vector_problem import VectorConeProblem
from convexnn.solvers._vector_split import orthogonal_groups
from convexnn.training import alternate_vector
from tests._vector_instances import OUTER, PROGRAMS, three_classes, vector_regression

each_program = pytest.mark.parametrize("kind", PROGRAMS.values(), ids=PROGRAMS.keys())


def interior(program, **options):
    return solve(program, solver="interior_point", **options)


# -- parts -------------------------------------------------------------------------------------------
def problem_of(k=3):
    X, Y, net = vector_regression(0, 12, 3, 5, k)
    structure = VectorLipschitzProgram.at(net, X, Y, 0.1, ridge=1e-2).structure()
    return VectorConeProblem(structure, 0.5, np.arange(5))


def test_loss_hessian_is_the_scalar_one_times_the_gram_matrix_of_the_directions(rng):
    problem = problem_of()
    H = np.zeros((problem.size, problem.size))
    problem.add_hessian(H)
    H = np.triu(H) + np.triu(H, 1).T
    V = rng.normal(size=(problem.d1, problem.p))
    np.testing.assert_allclose((H @ V.ravel()).reshape(V.shape), problem.hessian_times(V), atol=1e-10)
    step = 1e-6
    change = (problem.gradient(V + step * V) - problem.gradient(V)) / step
    np.testing.assert_allclose(change, problem.hessian_times(V) + 2 * problem.ridge_block @ V, atol=1e-6)


@pytest.mark.parametrize("rows", [4, 40])  # Woodbury and dense
def test_orthogonal_directions_split_the_system(rows, rng, monkeypatch):
    X, Y, net = vector_regression(3, rows, 3, 5, 3)
    program = VectorGroupLasso.classwise(X, Y, extract(net, X), 1e-2)
    groups = orthogonal_groups(program.directions)
    assert len(groups) == 3
    split = interior(program)
    monkeypatch.setattr(newton_system, "orthogonal_groups", lambda V: [np.arange(len(V))])
    whole = interior(program)
    assert split.objective == pytest.approx(whole.objective, rel=1e-9)
    # the reason: weight decay with these directions is one program an output
    one = [ReluGroupLasso(X, y, extract(net, X).with_both_signs(), 1e-2) for y in Y.T]
    assert sum(interior(part).objective for part in one) == pytest.approx(split.objective, rel=3e-6)
    mixed = orthogonal_groups(np.vstack([program.directions, np.ones((1, 3))]))
    assert len(mixed) == 1


def test_hessian_of_the_matrix_inequality_is_its_operator(rng):
    problem = problem_of()
    block = VectorJointBlock(problem, 0.1, problem.directions)
    block.start(rng.normal(size=(problem.d1, problem.p)), 0.3)
    block.dual = block.dual + 0.1 * np.eye(block.K)
    block.rescale()
    N, order = problem.size, problem.size + block.n_extra
    H = np.zeros((order, order))
    row, column = H.strides
    d1, p = problem.d1, problem.p
    blocks = np.lib.stride_tricks.as_strided(H, (d1, p, d1, p), (p * row, row, p * column, column))
    block.add_hessian(H, blocks)
    H = np.tril(H) + np.tril(H, -1).T
    for _ in range(3):
        dU, extra = rng.normal(size=(d1, p)), rng.normal(size=block.n_extra)
        g, g_extra = block.hessian_times(dU, extra)
        image = H @ np.concatenate([dU.ravel(), extra])
        np.testing.assert_allclose(image[:N].reshape(d1, p), g, atol=1e-9 * np.abs(g).max())
        np.testing.assert_allclose(image[N:], g_extra, atol=1e-9 * np.abs(g_extra).max())


@pytest.mark.parametrize(("p", "k"), [(1, 1), (5, 1), (2, 6), (40, 3)])
def test_start_is_the_centre_of_the_multipliers(p, k, rng):
    V = rng.normal(size=(p, k))
    V /= np.linalg.norm(V, axis=1)[:, None]
    x = balanced_multipliers(V)
    inverse = np.linalg.inv(x[0] * np.eye(k) - (V.T * x[1:]) @ V)
    assert x[0] == pytest.approx(k + p, rel=1e-3)  # trace of the gap at the centre
    np.testing.assert_allclose(x[1:] * np.einsum("ia,ab,ib->i", V, inverse, V), 1.0, rtol=1e-2)
    if k == 1:
        np.testing.assert_allclose(x[1:], 1.0, rtol=1e-2)  # the q_i of one output


# -- corners -----------------------------------------------------------------------------------------
@each_program
@pytest.mark.parametrize("shape", [(1, 2, 3, 2), (12, 3, 1, 4), (3, 6, 4, 2), (20, 1, 5, 3), (15, 2, 4, 1)])
def test_small_shapes(kind, shape):
    X, Y, net = vector_regression(1, *shape)
    program = kind.at(net, X, Y, 1e-2, classwise=True)
    solution = interior(program)
    assert solution.is_optimal
    assert solution.objective <= program.objective(program.start) * (1 + 1e-9)


@each_program
@pytest.mark.parametrize("inputs", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("targets", "lam"), [(1e-3, 1e-4), (1.0, 1.0), (1e3, 1e-2)])
def test_scales(kind, inputs, targets, lam):
    X, Y, net = vector_regression(3, 30, 4, 6, 3)
    net = Network.shallow(net.W / inputs, net.b, net.v * targets, net.c)
    assert interior(kind.at(net, X * inputs, Y * targets + 5 * targets, lam)).is_optimal


@each_program
def test_constant_targets_have_the_zero_network(kind):
    X, Y, net = vector_regression(2)
    solution = interior(kind.at(net, X, np.ones_like(Y) * [1.0, -2.0, 0.0], 1e-2))
    assert solution.is_optimal
    assert solution.objective <= 1e-12


@each_program
def test_huge_weight_gives_the_constant(kind):
    X, Y, net = vector_regression(2)
    program = kind.at(net, X, Y, 1e4)
    solution = interior(program)
    assert solution.is_optimal
    # weight decay: exactly zero; Lipschitz: about variance^2 / lam below it
    assert solution.objective == pytest.approx(program.scale, rel=1e-2)


def test_copies_of_units_and_of_rows():
    X, Y, net = vector_regression(4, 15, 3, 4, 2)
    once = VectorLipschitzProgram.at(net, X, Y, 1e-2)
    patterns = ActivationPatterns(extract(net, X).D, counts=[2, 1, 3, 1])
    copies = VectorLipschitzProgram(X, Y, patterns, once.directions, 1e-2)
    doubled = VectorLipschitzProgram.at(net, np.vstack([X, X]), np.vstack([Y, Y]), 1e-2)
    values = [interior(program) for program in (once, copies, doubled)]
    assert all(value.is_optimal for value in values)
    for value in values[1:]:
        assert value.objective == pytest.approx(values[0].objective, rel=3e-6)


def test_empty_cones_are_left_at_zero():
    X = np.array([[0.0], [1.0], [2.0]])
    D = np.array([[1, 1], [0, 1], [1, 1]], dtype=bool)  # the first is on, off, on along a line: nobody does that
    program = VectorGroupLasso(X, np.eye(3), ActivationPatterns(D), np.ones((2, 3)), 1e-3)
    with pytest.warns(Warning, match="no interior"):
        solution = interior(program)
    assert not solution.z[0].any()
    assert solution.is_optimal


def test_max_iter_keeps_a_feasible_point_and_an_honest_gap():
    X, Y, net = vector_regression(5, 30, 3, 8, 3)
    program = VectorLipschitzProgram.at(net, X, Y, 1e-3, classwise=True)
    cut = interior(program, max_iter=3, start=program.start)
    full = interior(program)
    assert cut.status == "max_iter"
    assert cut.violation <= 1e-12
    assert cut.lower_bound <= full.objective <= cut.objective * (1 + 1e-9)
    assert cut.objective <= program.objective(program.start) * (1 + 1e-9)


def test_auto_needs_no_fallback():
    X, Y, net = vector_regression(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in PROGRAMS.values():
            assert solve(kind.at(net, X, Y, 1e-2)).solver == "interior_point"


def test_more_directions_never_hurt():
    X, Y, net = vector_regression(6, 30, 3, 6, 3)
    for kind in PROGRAMS.values():
        few, many = (interior(kind.at(net, X, Y, 1e-2, classwise=flag)) for flag in (False, True))
        assert many.lower_bound <= few.objective


# -- never worse than a trained network, then alternate -----------------------------------------------
@pytest.mark.parametrize(("regularizer", "classwise"), [("lipschitz", False), ("l2", False), ("l2", True)])
def test_alternation_never_rises_from_a_trained_network(regularizer, classwise, rng):
    from sklearn.neural_network import MLPRegressor

    X, Y, _ = three_classes(rng)
    mlp = MLPRegressor(hidden_layer_sizes=(8,), max_iter=60, random_state=0, solver="lbfgs", alpha=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlp.fit(X, Y)
    network = Network.from_sklearn(mlp)
    result = alternate_vector(network, X, Y, 1e-2, regularizer=regularizer, classwise=classwise, max_rounds=3)
    objectives = [result.start_objective, *(step.objective for step in result.history)]
    assert all(after <= before for before, after in zip(objectives, objectives[1:], strict=False))
    assert result.objective < 0.9 * result.start_objective
    judge = PROGRAMS[regularizer].at(result.network, X, Y, 1e-2)
    assert judge.network_objective(result.network) == pytest.approx(result.objective, rel=1e-9)


def test_alternation_refuses_what_it_does_not_know():
    X, Y, net = vector_regression()
    with pytest.raises(InvalidInputError, match="regularizer"):
        alternate_vector(net, X, Y, 0.1, regularizer="l1")
    with pytest.raises(InvalidInputError, match="patience"):
        alternate_vector(net, X, Y, 0.1, patience=3)


def test_alternation_out_of_time_returns_the_start():
    X, Y, net = vector_regression()
    result = alternate_vector(net, X, Y, 0.1, time_limit=1e-9)
    assert result.status == "time_limit"
    assert result.network is net
    assert result.history == ()


@pytest.mark.parametrize("kind", OUTER.values(), ids=OUTER.keys())
def test_outer_step_with_more_units_than_rows(kind):
    X, Y, net = vector_regression(7, 6, 3, 25, 3)
    program = kind(net, X, Y, 1e-3, **({"ridge": 1e-2} if kind is OUTER["lipschitz"] else {}))
    assert interior(program).is_optimal
    one_row = kind(net, X[:1], Y[:1], 1e-3)
    assert interior(one_row).is_optimal
    assert interior(one_row).objective == 0.0


def test_three_digits():
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    X, label = load_digits(n_class=3, return_X_y=True)
    X = PCA(10, random_state=0).fit_transform(X / 16.0)
    Y = np.eye(3)[label]
    rng = np.random.default_rng(0)
    net = Network.shallow(
        rng.normal(size=(12, 10)), 0.1 * rng.normal(size=12), rng.normal(size=(3, 12)) / 12, Y.mean(0)
    )
    result = alternate_vector(net, X, Y, 1e-3, max_rounds=2)
    assert all(step.gap <= 1e-6 for step in result.history)
    assert result.objective < 0.25 * result.start_objective
    assert (result.network(X).argmax(axis=1) == label).mean() > 0.95
    upper = maximize_vector(result.network.W, result.network.v).upper
    slopes = np.linalg.norm(result.network.gradient(X), 2, axis=(1, 2))
    assert slopes.max() <= upper

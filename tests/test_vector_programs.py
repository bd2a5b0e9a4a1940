"""Programs with several outputs: bounds for every multiplier, lift and decode, one output, symmetries, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError, SolverError, UnsupportedModelError
from convexnn.lipsdp import maximize_vector
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import Dual
from convexnn.restrictions import (
    LipschitzProgram,
    OuterGroupLasso,
    OuterLipschitz,
    ReluGroupLasso,
    VectorGatedGroupLasso,
    VectorGroupLasso,
    VectorLipschitzProgram,
)
from convexnn.restrictions.vector_regularizers import DirectedLipSDP
from convexnn.restrictions.vector_spectral import vector_conjugate
from convexnn.restrictions.vector_units import classwise_dictionary
from convexnn.solvers import solve
from tests._families import few
from tests._vector_instances import OUTER, PROGRAMS, vector_regression

each_program = pytest.mark.parametrize("kind", PROGRAMS.values(), ids=PROGRAMS.keys())
each_outer = pytest.mark.parametrize("kind", OUTER.values(), ids=OUTER.keys())


def tied(first, second):
    """Both certified intervals hold the optimum."""
    assert first.lower_bound <= second.objective * (1 + 1e-9)
    assert second.lower_bound <= first.objective * (1 + 1e-9)


# -- two roads ---------------------------------------------------------------------------------------
@each_program
@pytest.mark.parametrize(("seed", "n", "d", "p", "k"), [(0, 25, 3, 6, 3), (1, 10, 2, 9, 2), (2, 4, 6, 3, 4)])
@pytest.mark.parametrize("classwise", few([True, False]))
def test_cvxpy_and_interior_point_agree(kind, seed, n, d, p, k, classwise):
    X, Y, net = vector_regression(seed, n, d, p, k)
    program = kind.at(net, X, Y, 1e-2, classwise=classwise)
    ours, theirs = solve(program, solver="interior_point"), solve(program, solver="clarabel")
    assert ours.is_optimal
    assert ours.violation == 0
    tied(ours, theirs)
    if kind is not VectorGatedGroupLasso:  # a gate may need two units
        decoded = program.network_objective(program.decode(ours.z))
        assert decoded == pytest.approx(ours.objective, rel=1e-7)


@each_outer
@pytest.mark.parametrize(("seed", "n", "d", "p", "k"), [(0, 25, 3, 6, 3), (3, 12, 4, 20, 2), (4, 20, 3, 5, 1)])
def test_both_roads_agree_on_the_outer_step(kind, seed, n, d, p, k):
    X, Y, net = vector_regression(seed, n, d, p, k)
    program = kind(net, X, Y, 1e-2)
    ours, theirs = solve(program, solver="interior_point"), solve(program, solver="clarabel")
    assert ours.is_optimal
    tied(ours, theirs)
    assert program.network_objective(program.decode(ours.z)) == pytest.approx(ours.objective, rel=1e-7)
    assert ours.objective <= program.objective(program.start) <= program.network_objective(net) * (1 + 1e-9)


# -- the regularizer ---------------------------------------------------------------------------------
@pytest.mark.parametrize("k", [1, 2, 4])
def test_regularizer_is_lipsdp_of_the_decoded_network(k):
    X, Y, net = vector_regression(5, 20, 3, 6, k)
    program = VectorLipschitzProgram.at(net, X, Y, 0.1)
    problem = program.cvxpy_problem()
    problem.solve(solver="CLARABEL")
    network = program.decode(problem.var_dict["U"].value)
    bound = maximize_vector(network.W, np.atleast_2d(network.v)).upper
    assert float(problem.var_dict["sigma"].value) == pytest.approx(bound**2, rel=1e-6)


def test_lipsdp_is_a_norm_of_the_units_and_does_not_change_under_transposition(rng):
    G = rng.normal(size=(7, 3))
    G /= np.linalg.norm(G, axis=1)[:, None]
    norm = DirectedLipSDP(1.0, G)
    for _ in range(10):
        A, B = rng.normal(size=(2, 7, 4))
        a, b, middle = (np.sqrt(norm.value(z)) for z in (A, B, A + B))
        assert middle <= (a + b) * (1 + 1e-7)
        assert np.sqrt(norm.value(-3 * A)) == pytest.approx(3 * a, rel=1e-7)
        swapped = maximize_vector(G, A.T).upper
        assert swapped == pytest.approx(a, rel=1e-6)


def test_conjugate_inequality_on_random_points(rng):
    for trial in range(60):
        p, d, k = rng.integers(1, 7, size=3)
        G = rng.normal(size=(p, k))
        G /= np.linalg.norm(G, axis=1)[:, None]
        Z, first = rng.normal(size=(p, d)), rng.normal(size=(k, d))
        rank = trial % 2 + 1  # singular as well
        A, B = rng.normal(size=(rank, d)), rng.normal(size=(rank, k))
        lam, theta = 10.0 ** rng.uniform(-2, 2, size=2)
        value = vector_conjugate(Z, G, first, (A.T @ A, B.T @ B), lam, np.zeros_like(Z))
        W = rng.normal(size=(p, d)) * 10.0 ** rng.uniform(-1, 1)
        assert DirectedLipSDP(lam, G).value(W) >= theta * np.vdot(Z, W) - theta**2 * value - 1e-9


# -- sabotage ----------------------------------------------------------------------------------------
def damaged(dual, rng):
    """Multipliers that were good once."""
    size = 10.0 ** rng.uniform(-6, 1)
    residual = dual.residual * (1 + size * rng.normal(size=dual.residual.shape))
    rows = dual.rows * (1 + size * rng.normal(size=dual.rows.shape)) + size * rng.normal(size=dual.rows.shape) ** 3
    if dual.matrix is None:
        return Dual(residual, rows)
    noise = rng.normal(size=dual.matrix.shape)
    return Dual(
        residual, rows, [dual.matrix + size * np.abs(dual.matrix).max() * noise, noise, -dual.matrix][rng.integers(3)]
    )


@pytest.mark.parametrize("kind", [*PROGRAMS.values(), *OUTER.values()], ids=lambda kind: kind.__name__)
def test_no_dual_proves_more_than_the_optimum(kind, rng):
    for seed in range(3):
        X, Y, net = vector_regression(seed, 15, 3, 5, 3)
        lam = 10.0 ** rng.uniform(-4, 0)
        program = kind(net, X, Y, lam) if kind in OUTER.values() else kind.at(net, X, Y, lam, classwise=bool(seed % 2))
        solution = solve(program, solver="interior_point")
        assert solution.is_optimal
        for _ in range(12):
            assert program.lower_bound(damaged(solution.dual, rng)) <= solution.objective * (1 + 1e-12)
        broken = Dual(np.full_like(solution.dual.residual, np.nan), solution.dual.rows, solution.dual.matrix)
        assert program.lower_bound(broken) == -np.inf
        assert program.lower_bound(Dual(solution.dual.residual[:, :1], solution.dual.rows)) == -np.inf


# -- one output is the scalar program -----------------------------------------------------------------
@pytest.mark.parametrize(
    ("vector", "scalar"), [(VectorLipschitzProgram, LipschitzProgram), (VectorGroupLasso, ReluGroupLasso)]
)
def test_one_output_is_the_scalar_program(vector, scalar):
    X, Y, net = vector_regression(6, 30, 3, 7, 1)
    many, one = vector.at(net, X, Y, 1e-2), scalar(X, Y[:, 0], extract(net, X), 1e-2)
    assert many.network_objective(net) == pytest.approx(one.network_objective(net), rel=1e-7)
    a, b = solve(many, solver="interior_point"), solve(one, solver="interior_point")
    tied(a, b)
    U = many.directions * a.z  # u_i = vh_i w_i
    assert one.violation(U) == 0
    assert one.objective(U) == pytest.approx(a.objective, rel=1e-7)


# -- lift --------------------------------------------------------------------------------------------
@each_program
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_lifted_networks_are_never_above_their_objective(kind, scale):
    X, Y, net = vector_regression(7, 20, 3, 6, 3)
    net = Network.shallow(net.W * scale, net.b * scale, net.v * scale, net.c + 1)
    program = kind.at(net, X, Y, 0.1, classwise=True)
    assert program.violation(program.start) <= 1e-12
    assert program.objective(program.start) <= program.network_objective(net) * (1 + 1e-7)
    lifted_again = program.lift(program.decode(program.start))
    assert program.objective(lifted_again) == pytest.approx(program.objective(program.start), rel=1e-7)


def test_units_beyond_the_copies_are_summed():
    X, Y, net = vector_regression(8, 15, 2, 3, 2)
    program = VectorGroupLasso.at(net, X, Y, 0.1)
    double = Network.shallow(np.vstack([net.W] * 2), np.r_[net.b, net.b], np.hstack([net.v, net.v]) / 2, net.c)
    np.testing.assert_allclose(program.lift(double), program.start, atol=1e-12)


def test_zero_outer_weights_and_zero_units():
    X, Y, net = vector_regression(9, 15, 2, 4, 3)
    V = net.v.copy()
    V[:, 1] = 0
    W = net.W.copy()
    W[2] = 0
    program = VectorLipschitzProgram.at(Network.shallow(W, net.b, V, net.c), X, Y, 0.1)
    assert not program.start[1].any()
    assert not program.start[2].any()  # a constant, which the output biases add as well
    assert solve(program, solver="interior_point").is_optimal


def test_gated_decode_predicts_what_the_point_does():
    X, Y, net = vector_regression(10, 20, 3, 5, 3)
    program = VectorGatedGroupLasso.at(net, X, Y, 1e-2)
    z = solve(program, solver="interior_point").z
    network = program.decode(z)
    structure = program.structure()
    np.testing.assert_allclose(
        network(program.rows.X), structure.raw_predict(z) + structure.output_bias(z), atol=1e-8 * np.abs(Y).max()
    )


# -- symmetries --------------------------------------------------------------------------------------
@each_program
def test_permuted_and_rotated_outputs_change_nothing(kind, rng):
    X, Y, net = vector_regression(11, 20, 3, 5, 3)
    reference = solve(kind.at(net, X, Y, 1e-2), solver="interior_point")
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for turn in (np.eye(3)[[2, 0, 1]], Q):
        turned = Network.shallow(net.W, net.b, turn @ net.v, turn @ net.c)
        program = kind.at(turned, X, Y @ turn.T, 1e-2)
        tied(reference, solve(program, solver="interior_point"))


@each_program
def test_repeated_rows_are_weights(kind):
    X, Y, net = vector_regression(12, 15, 3, 5, 2)
    twice = kind.at(net, np.vstack([X, X[:5]]), np.vstack([Y, Y[:5] + 1.0]), 1e-2)
    target = Y.copy()
    target[:5] += 0.5
    weight = np.ones(15)
    weight[:5] = 2
    once = kind.at(net, X, target, 1e-2, sample_weight=weight)
    variance = 2 * 5 * 2 * 0.25 / 20  # two outputs, five pairs at distance 1/2 from their mean
    assert twice.objective(twice.start) == pytest.approx(once.objective(once.start) + variance, rel=1e-9)


# -- dictionaries and refusals ------------------------------------------------------------------------
def test_classwise_dictionary_has_every_distinct_pattern_twice_for_every_output():
    D = np.array([[1, 1, 0], [0, 0, 1]], dtype=bool)  # two distinct columns
    patterns, directions = classwise_dictionary(ActivationPatterns(D), 3)
    assert len(patterns) == len(directions) == 2 * 2 * 3
    assert np.abs(directions).sum() == 12
    X, Y = np.array([[0.0], [1.0]]), np.eye(2)
    program = VectorGroupLasso.classwise(X, Y, ActivationPatterns(D), 0.1)
    assert program.patterns.n_patterns == 8


@pytest.mark.parametrize("kind", [OuterGroupLasso, OuterLipschitz])
def test_a_decoded_outer_step_may_have_lost_units(kind):
    X, Y, net = vector_regression()
    program = kind(net, X, Y, 0.1)
    z = program.start * (np.arange(len(program.start)) > 0)[:, None]
    decoded = program.decode(z)
    np.testing.assert_allclose(program.lift(decoded), z, atol=1e-12)
    assert program.network_objective(decoded) <= program.objective(z) * (1 + 1e-6)


@pytest.mark.parametrize("factor", [1e-300, 1e-163, 1e-155])
def test_multipliers_whose_products_underflow_prove_nothing_false(factor):
    X, Y, net = vector_regression()
    for kind in (OuterGroupLasso, VectorGroupLasso):
        program = kind(net, X, Y, 0.1) if kind is OuterGroupLasso else kind.at(net, X, Y, 0.1)
        best = solve(program, solver="interior_point")
        dual = Dual(factor * best.dual.residual, factor * best.dual.rows, best.dual.matrix)
        assert program.lower_bound(dual) <= best.objective


def test_refusals_are_sentences():
    X, Y, net = vector_regression()
    program = VectorLipschitzProgram.at(net, X, Y, 0.1)
    with pytest.raises(UnsupportedModelError, match="3 output"):
        program.lift(vector_regression(k=2)[2])
    with pytest.raises(InvalidInputError, match="not in the dictionary"):
        program.lift(vector_regression(seed=1)[2])
    with pytest.raises(InvalidInputError, match="one for each pattern"):
        VectorGroupLasso(X, Y, extract(net, X), np.ones((2, 3)))
    with pytest.raises(InvalidInputError, match="2 entries"):
        VectorGroupLasso(X, Y, extract(net, X), np.ones((6, 2)))
    with pytest.raises(InvalidInputError, match="NaN"):
        VectorGroupLasso.at(net, X, np.where(Y > 1, np.nan, Y) * np.nan, 0.1)
    with pytest.raises(InvalidInputError, match="finite"):
        VectorGroupLasso(X, Y, extract(net, X), np.full((6, 3), np.nan))
    with pytest.raises(InvalidInputError, match="hidden units"):
        OuterLipschitz(net, X, Y, 0.1).lift(vector_regression(seed=1)[2])


@each_program
def test_solvers_of_one_output_refuse_by_name(kind):
    X, Y, net = vector_regression()
    with pytest.raises(SolverError, match="interior_point"):
        solve(kind.at(net, X, Y, 0.1), solver="first_order")

"""The interior point method: against Clarabel, against closed forms, in every corner."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError, SolverError, SolverWarning
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import Dual
from convexnn.restrictions import GatedGroupLasso, LipschitzProgram, ReluGroupLasso
from convexnn.solvers import centre, interior_point, newton_system, path_following, solve
from convexnn.solvers._norm_block import NormBlock
from convexnn.solvers.cone_problem import ConeProblem, power_of_two_unit
from tests._families import few
from tests._instances import PROGRAMS, gated, group_lasso, joint, line, regression, unstructured

TOL = 1e-6
each_program = pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS.keys())


def interior(program, **options):
    return solve(program, solver="interior_point", **options)


def assert_solved(program, tol=TOL, **options):
    """Solve; the evidence, recomputed from the data, must pass."""
    solution = interior(program, tol=tol, **options)
    assert solution.status == "optimal"
    assert solution.violation == 0
    upper, lower = program.objective(solution.z), program.lower_bound(solution.dual)
    assert upper - lower <= tol * max(upper, 1e-6 * program.scale) * (1 + 1e-6)
    return solution


# -- two roads ---------------------------------------------------------------------------------------
@each_program
@pytest.mark.parametrize("sizes", few([(0, 30, 3, 8), (1, 12, 2, 20), (2, 60, 5, 6), (3, 8, 4, 3)], 2), ids=str)
def test_agrees_with_clarabel_within_the_verified_gap(make, sizes):
    program = make(*regression(*sizes))
    ours = assert_solved(program)
    theirs = solve(program, solver="clarabel")
    # each interval [lower, objective] contains the optimum
    assert ours.lower_bound <= theirs.objective * (1 + 1e-9)
    assert theirs.lower_bound <= ours.objective * (1 + 1e-9)
    assert ours.objective == pytest.approx(theirs.objective, rel=2e-6)


@each_program
@pytest.mark.parametrize("lam", [1e-6, 1e-4, 1.0, 1e3])
def test_every_weight(make, lam):
    assert_solved(make(*regression(), lam))


@each_program
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_targets_of_every_size(make, scale):
    X, y, net = regression()
    assert_solved(make(X, scale * y, net))


@each_program
def test_shifted_targets_change_nothing(make):
    X, y, net = regression()
    plain, shifted = (assert_solved(make(X, target, net)) for target in (y, y + 1e4))
    assert shifted.objective == pytest.approx(plain.objective, rel=2e-6)


@each_program
def test_badly_scaled_and_constant_columns(make):
    X, y, net = regression()
    scale = np.array([1e-3, 1.0, 1e3])
    W = np.hstack([net.W / scale, 0.1 * np.ones((net.n_hidden[0], 2))])
    wide = np.hstack([X * scale, np.full((len(X), 1), 2.0), X[:, :1]])
    assert_solved(make(wide, y, Network.shallow(W, net.b, net.v, 0.0)))


@each_program
def test_features_far_from_zero(make):
    X, y, net = regression()
    far = np.array([1e3, -50.0, 0.0])
    moved = Network.shallow(net.W, net.b - net.W @ far, net.v, 0.0)
    assert_solved(make(X + far, y, moved), tol=1e-5)


@each_program
@pytest.mark.parametrize(("n", "d", "p"), [(30, 3, 1), (2, 3, 8), (5, 3, 40), (30, 1, 8), (3, 6, 4)])
def test_small_and_thin_problems(make, n, d, p):
    assert_solved(make(*regression(0, n, d, p)))


@each_program
@pytest.mark.parametrize("targets", [0.0, 3.7])
def test_constant_targets_give_the_zero_network(make, targets):
    X, y, net = regression()
    solution = interior(make(X, np.full_like(y, targets), net))
    assert not solution.z.any()
    assert solution.objective <= 1e-25
    assert solution.status == "optimal"


@each_program
def test_one_sample(make):
    solution = interior(make(*regression(0, 1, 3, 4)))
    assert (solution.objective, solution.gap, solution.status) == (0.0, 0.0, "optimal")


@each_program
def test_duplicate_zero_and_dead_units(make):
    X, y, net = regression()
    W, b, v = (np.concatenate([a, a, np.zeros_like(a[:2])]) for a in (net.W, net.b, net.v))
    double = assert_solved(make(X, y, Network.shallow(W, b, v, 0.0)))
    assert double.objective <= make(X, y, net).objective(make(X, y, net).start) * (1 + 1e-9)


@each_program
def test_repeated_rows_count_as_weights(make):
    X, y, net = regression()
    once = assert_solved(make(X, y, net))
    thrice = assert_solved(make(np.tile(X, (3, 1)), np.tile(y, 3), net))
    assert thrice.objective == pytest.approx(once.objective, rel=2e-6)


@each_program
def test_without_a_start(make):
    program = make(*regression(0, 40, 3, 20))
    reference = assert_solved(program)
    program._start = None
    assert assert_solved(program).objective == pytest.approx(reference.objective, rel=2e-6)


# -- closed forms ------------------------------------------------------------------------------------
def test_soft_threshold():
    # variance 1, one gate that is always on: min (a - u)^2 + 2 lam |u| has u = a - lam, value 2 a lam - lam^2
    X, y, patterns = line(1.5)
    solution = assert_solved(GatedGroupLasso(X, y, patterns, 0.25))
    assert solution.objective == pytest.approx(2 * 1.5 * 0.25 - 0.25**2, rel=2e-6)
    assert solution.z[0] == pytest.approx([1.25, 0.0], abs=1e-3)


def test_linear_network_is_ridge_regression():
    # LipSDP of one unit is |u|: min (a - u)^2 + lam u^2 = lam a^2 / (1 + lam); opening the gate costs 1e-7 b^2
    X, y, patterns = line(1.5)
    solution = assert_solved(LipschitzProgram(X, y, patterns, 0.5))
    exact = 0.5 * 1.5**2 / 1.5
    assert exact * (1 - 1e-6) <= solution.objective <= exact + 2e-6


def test_huge_weight_gives_zero():
    X, y, net = regression()
    solution = assert_solved(group_lasso(X, y, net, 10.0))
    assert solution.objective == pytest.approx(np.var(y), rel=1e-9)


# -- symmetries --------------------------------------------------------------------------------------
def test_order_of_units_does_not_matter(rng):
    X, y, net = regression()
    order = rng.permutation(len(net.v))
    mixed = Network.shallow(net.W[order], net.b[order], net.v[order], 0.0)
    assert assert_solved(joint(X, y, mixed)).objective == pytest.approx(
        assert_solved(joint(X, y, net)).objective, rel=2e-6
    )


def test_rotation_of_inputs_does_not_matter(rng):
    X, y, net = regression()
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = Network.shallow(net.W @ Q, net.b, net.v, 0.0)
    assert assert_solved(joint(X @ Q, y, turned)).objective == pytest.approx(
        assert_solved(joint(X, y, net)).objective, rel=2e-6
    )


def test_scaling_targets_by_a_power_of_two_scales_the_point_exactly():
    X, y, net = regression()
    plain, scaled = assert_solved(joint(X, y, net)), assert_solved(joint(X, 8 * y, net))
    assert np.array_equal(scaled.z, 8 * plain.z)


# -- units whose cone has no interior ----------------------------------------------------------------
@pytest.mark.parametrize("make", [LipschitzProgram, ReluGroupLasso])
def test_unrealizable_patterns_are_left_at_zero(make, rng):
    X, y, net = regression()
    good = extract(net, X)
    nonsense = rng.random((len(X), 2)) < 0.5
    more = ActivationPatterns(np.hstack([good.D, nonsense]), np.concatenate([good.s, [1, -1]]))
    with pytest.warns(SolverWarning, match="2 unit"):
        solution = interior(make(X, y, more, 1e-2))
    assert solution.status == "optimal"
    assert "no interior" in solution.notes[0]
    assert solution.objective == pytest.approx(interior(make(X, y, good, 1e-2)).objective, rel=2e-6)


def test_only_unrealizable_patterns(rng):
    X, y, _ = regression()
    program = ReluGroupLasso(X, y, ActivationPatterns(rng.random((len(X), 2)) < 0.5, np.array([1, -1])), 1e-2)
    with pytest.warns(SolverWarning, match="2 unit"):
        solution = interior(program)
    assert solution.status == "optimal"
    assert not solution.z.any()


# -- cut short ---------------------------------------------------------------------------------------
@each_program
def test_one_iteration_returns_a_feasible_point_no_worse_than_the_start(make):
    program = make(*regression())
    solution = interior(program, max_iter=1)
    assert solution.status == "max_iter"
    assert solution.iterations == 1
    assert solution.violation == 0
    assert solution.objective <= min(program.objective(program.start), program.scale) * (1 + 1e-12)
    assert solution.lower_bound <= solution.objective


def test_time_limit_keeps_the_best_point():
    program = joint(*regression(0, 60, 4, 30))
    solution = interior(program, time_limit=1e-4)
    assert solution.status == "time_limit"
    assert solution.violation == 0
    assert math.isfinite(solution.lower_bound)


def test_interrupt_keeps_the_best_point(monkeypatch):
    program = joint(*regression())
    steps = iter(range(4))
    original = path_following.PathFollower.step

    def step(self):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(path_following.PathFollower, "step", step)
    solution = interior(program)
    assert solution.status == "interrupted"
    assert solution.violation == 0
    assert solution.objective <= program.objective(program.start) * (1 + 1e-12)


def test_interrupt_before_the_first_step_returns_the_start(monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    program = joint(*regression(2, 60, 5, 6), lam=1e-4)
    program._start = interior(program).z
    monkeypatch.setattr(interior_point, "analytic_centres", interrupt)
    solution = interior(program)
    assert solution.status == "interrupted"
    assert np.array_equal(solution.z, program.start)


def test_a_singular_system_ends_as_stalled_with_the_best_point(monkeypatch):
    def fail(self, w):
        raise np.linalg.LinAlgError("no")

    for system in (newton_system.DenseSystem, newton_system.BorderedSystem):  # the second is tried after the first
        monkeypatch.setattr(system, "factor", fail)
    program = joint(*regression())
    solution = interior(program)
    assert solution.status == "stalled"
    assert solution.objective <= program.objective(program.start) * (1 + 1e-12)


# -- the start ---------------------------------------------------------------------------------------
def test_an_optimal_start_is_not_lost():
    program = joint(*regression())
    best = interior(program, tol=1e-8)
    again = interior(program, start=best.z, max_iter=1)
    assert again.objective <= best.objective * (1 + 1e-12)


def test_start_of_wrong_shape():
    with pytest.raises(InvalidInputError, match="expected"):
        interior(joint(*regression()), start=np.zeros((2, 2)))


def test_infeasible_start_is_not_offered():
    program = joint(*regression())
    assert interior(program, start=-program.start).status == "optimal"


# -- what it refuses ---------------------------------------------------------------------------------
def test_needs_a_structure():
    with pytest.raises(SolverError, match="clarabel"):
        interior(unstructured(*regression()))


# -- evidence ----------------------------------------------------------------------------------------
@each_program
def test_corrupted_multipliers_never_prove_too_much(make, rng):
    program = make(*regression())
    solution = assert_solved(program)
    dual = solution.dual
    for size in (1e-6, 1e-3, 1.0):
        for _ in range(10):
            matrix = dual.matrix
            if matrix is not None:
                matrix = matrix + size * np.abs(matrix).max() * rng.normal(size=matrix.shape)
            corrupted = Dual(
                dual.residual + size * np.abs(dual.residual).max() * rng.normal(size=dual.residual.shape),
                dual.rows + size * np.abs(dual.rows).max() * rng.normal(size=dual.rows.shape),
                matrix,
            )
            assert program.lower_bound(corrupted) <= solution.objective * (1 + 1e-12)


def test_tight_tolerance():
    for make in PROGRAMS.values():
        assert_solved(make(*regression()), tol=1e-8)


def test_log(caplog):
    with caplog.at_level(logging.INFO, logger="convexnn"):
        interior(joint(*regression()), verbose=1)
    assert "objective" in caplog.text


# -- the pieces --------------------------------------------------------------------------------------
def pieces(make, **size):
    program = make(*regression(**size))
    structure = program.structure()
    problem = ConeProblem(structure, power_of_two_unit(structure), np.arange(structure.D.shape[1]))
    return program, problem


def test_hessian_is_the_operator(rng):
    _, problem = pieces(joint)
    V = rng.normal(size=(problem.d1, problem.p))
    H = np.zeros((problem.size, problem.size))
    problem.add_hessian(H)
    H += np.triu(H, 1).T
    assert (H @ V.ravel()).reshape(V.shape) == pytest.approx(problem.hessian_times(V), abs=1e-12)


def test_gradient_is_the_derivative_of_the_loss(rng):
    _, problem = pieces(joint)
    U, V = rng.normal(size=(2, problem.d1, problem.p))
    h = 1e-6
    slope = (problem.loss(U + h * V) - problem.loss(U - h * V)) / (2 * h)
    assert slope == pytest.approx(np.vdot(problem.gradient(U), V), rel=1e-6)


def test_both_newton_systems_solve_the_same_equations(rng):
    _, problem = pieces(group_lasso, n=10, p=12)
    block = NormBlock(problem, 0.1)
    block.start(rng.normal(size=(problem.d1, problem.p)), 1.0)
    block.rescale()
    w, right = rng.random((problem.n, problem.p)), rng.normal(size=(problem.d1, problem.p))
    systems = newton_system.DenseSystem(problem, block), newton_system.WoodburySystem(problem, block)
    for system in systems:
        system.factor(w)
    dense, woodbury = (system.solve(right, np.zeros(0))[0] for system in systems)
    assert woodbury == pytest.approx(dense, rel=1e-6, abs=1e-9)


def test_woodbury_changes_to_the_dense_system_when_it_loses_digits(rng, monkeypatch):
    _, problem = pieces(group_lasso, n=10, p=12)
    block = NormBlock(problem, 0.1)
    block.start(rng.normal(size=(problem.d1, problem.p)), 1.0)
    block.rescale()
    system = newton_system.WoodburySystem(problem, block)
    system.factor(rng.random((problem.n, problem.p)))
    right = rng.normal(size=(problem.d1, problem.p))
    before = system.solve(right, np.zeros(0))[0]
    monkeypatch.setattr(newton_system.WoodburySystem, "_rest", lambda self, right, x: right)
    assert system.solve(right, np.zeros(0))[0] == pytest.approx(before, rel=1e-6, abs=1e-9)
    assert system._dense is not None


@pytest.mark.parametrize("make", [joint, PROGRAMS["fixed"]])
@pytest.mark.parametrize("kind", [newton_system.DenseSystem, newton_system.WoodburySystem])
def test_newton_systems_invert_their_operator(make, kind, rng):
    program, problem = pieces(make)
    block = interior_point._block(problem, program.structure(), 1.0)
    block.start(rng.normal(size=(problem.d1, problem.p)), 1.0)
    block.rescale()
    system = kind(problem, block)
    system.factor(rng.random((problem.n, problem.p)))
    right = rng.normal(size=(problem.d1, problem.p))
    x, _ = system.solve(right, np.zeros(0))
    assert np.abs(system._operator.rest(right, x)).max() < 1e-8


def test_shifted_layout_is_the_same_problem(rng):
    X, y, net = regression()
    program = group_lasso(X + 100.0, y, Network.shallow(net.W, net.b - net.W @ np.full(3, 100.0), net.v, 0.0))
    structure = program.structure()
    problem = ConeProblem(structure, 1.0, np.arange(structure.D.shape[1]))
    U = rng.normal(size=(problem.d1, problem.p))
    original = problem.original(U)
    assert problem.shifted(original) == pytest.approx(U)
    assert problem.row_change(U) == pytest.approx(structure.slack(original.T), rel=1e-9, abs=1e-9)
    assert problem.predict(U) == pytest.approx(structure.predict(original.T), rel=1e-9, abs=1e-9)
    g = rng.normal(size=U.shape)
    assert np.vdot(g, original) == pytest.approx(np.vdot(problem.original_adjoint(g), U))


def test_centres_are_stationary_and_weights_sum_to_the_variables():
    program, problem = pieces(joint, n=40, p=10)
    points, found = centre.interior_points(problem, program.start.T)
    assert found.all()
    w = centre.analytic_centres(problem, points, decrement=1e-16)
    slack = problem.slack(w)
    assert slack.min() > 0
    assert problem.row_adjoint(1 / slack) == pytest.approx(problem.n * w, rel=1e-6, abs=1e-6)
    assert centre.row_weights(problem, w).sum() == pytest.approx(problem.size)


def test_interior_points_of_many_units_without_start():
    program, problem = pieces(joint, n=40, p=20)
    points, found = centre.interior_points(problem, np.zeros_like(program.start.T))
    assert found.all()
    assert problem.slack(points).min() > 0


def test_gated_units_have_no_rows():
    _, problem = pieces(gated)
    assert not problem.is_row.any()
    assert not centre.row_weights(problem, np.ones((problem.d1, problem.p))).any()

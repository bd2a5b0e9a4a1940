"""The first-order solver: agrees with other roads, is exactly feasible, and says honestly how far it came."""

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError, SolverError, SolverWarning
from convexnn.patterns import ActivationPatterns, sample
from convexnn.program import evaluate
from convexnn.restrictions import LipschitzProgram, LipschitzRestriction, ReluGroupLasso
from convexnn.restrictions.cones import project
from convexnn.solvers import solve, solve_first_order
from convexnn.solvers.first_order import Computing
from convexnn.solvers.first_order.cones import Projector, WorkingRows
from convexnn.solvers.first_order.evidence import feasible_point
from convexnn.solvers.first_order.quadratic import Quadratic
from convexnn.solvers.first_order.regularizers import FixedSplit, JointSplit, shrink
from convexnn.solvers.first_order.stream import RowStream, torch_device
from tests._families import few
from tests._hostile import complaints, hostile, solve_quietly
from tests._instances import PROGRAMS, joint, regression, unstructured
from tests._interruption import count_calls, interrupted_at

each_program = pytest.mark.parametrize("build", PROGRAMS.values(), ids=PROGRAMS)
some_programs = pytest.mark.parametrize("build", few(PROGRAMS, 2))
TOL = 1e-5


def run(program, tol=TOL, **options):
    computing = Computing(**{key: options.pop(key) for key in ("device", "dtype", "block", "dense") if key in options})
    return evaluate(program, solve_first_order(program, tol=tol, computing=computing, **options), seconds=0.0, tol=tol)


def streamed(n=120, **options):
    X, y, net = regression(3, n=n)
    structure = joint(X, y, net).structure()
    return structure, RowStream(structure, np.ones(4), 1.0, device="cpu", **options)


# -- two roads --------------------------------------------------------------------------------------
@each_program
def test_agrees_with_a_generic_solver_within_the_verified_gap(build):
    program = build(*regression(1, n=60))
    own, generic = solve(program, solver="first_order", tol=TOL), solve(program, solver="clarabel", tol=1e-8)
    assert own.is_optimal
    assert own.violation == 0
    assert own.lower_bound <= generic.objective + 1e-7
    assert generic.lower_bound - 1e-7 <= own.objective <= generic.objective + 2 * TOL * abs(generic.objective)


@some_programs
def test_single_precision_sums_reach_the_same_gap_in_double_precision(build):
    program = build(*regression(2, n=60))
    single, double = (run(program, tol=1e-3, dtype=dtype) for dtype in ("float32", "float64"))
    assert single.is_optimal
    assert single.violation == 0
    assert abs(single.objective - double.objective) <= 1e-3 * double.objective
    assert single.lower_bound <= run(program).objective


@some_programs
def test_systems_solved_by_passes_over_the_rows_give_the_same(build):
    program = build(*regression(4, n=60))
    dense, passes = run(program, dense=True), run(program, dense=False)
    assert passes.is_optimal
    assert abs(dense.objective - passes.objective) <= TOL * dense.objective


def test_the_same_twice():
    program = joint(*regression(5, n=60))
    first, second = run(program), run(program)
    assert np.array_equal(first.z, second.z)
    assert first.gap == second.gap


def test_sampled_patterns_with_both_signs():
    X, y, _ = regression(6, n=300, d=4)
    program = ReluGroupLasso(X, y, sample(X, 20, random_state=0), 1e-3)
    own, other = run(program, tol=1e-4), solve(program, solver="interior_point")
    assert own.is_optimal
    assert own.violation == 0
    assert own.lower_bound <= other.objective * (1 + 1e-9)
    assert own.objective >= other.lower_bound * (1 - 1e-9)


def test_thin_cones_of_data_on_a_grid():
    X, y, net = regression(0, n=150, d=4, p=40)
    program = PROGRAMS["group_lasso"](np.round(1.5 * X), y, net)
    own, other = run(program), solve(program, solver="interior_point")
    assert own.is_optimal
    assert own.violation == 0
    assert own.objective <= other.objective * (1 + 2 * TOL)


# -- passes over the rows ---------------------------------------------------------------------------
@pytest.mark.parametrize("block", [1, 7, 120])
def test_blocks_change_nothing_but_the_order_of_sums(block, rng):
    structure, stream = streamed()
    _, other = streamed(block=block)
    V = rng.normal(size=structure.D.T.shape[:1] + (4,))
    for ours, theirs in zip((*_sums(stream, V),), (*_sums(other, V),), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    units = np.arange(len(V))
    assert np.array_equal(stream.slacks(V, units)[1], other.slacks(V, units)[1])


def _sums(stream, V):
    quadratic = Quadratic(stream, 0.0)
    T = quadratic.sums @ V
    return quadratic.H, quadratic.blocks, stream.hessian_times(T, quadratic.mean), stream.residual(T)


def test_sums_over_blocks_are_those_of_the_structure(rng):
    structure, stream = streamed()
    V = rng.normal(size=(8, 4))
    quadratic = Quadratic(stream, 0.0)
    gradient = structure.gradient(V) - 2 * structure.ridge * V * [0, 0, 0, 1]
    np.testing.assert_allclose(quadratic.gradient(V), gradient, atol=1e-12)
    assert quadratic.loss(V) + structure.constant == pytest.approx(structure.loss(V))
    np.testing.assert_allclose(stream.residual(quadratic.sums @ V), structure.slopes(V), atol=1e-14)
    relative = structure.slack(V) / np.linalg.norm(structure.X, axis=1)[:, None]
    values, rows = stream.slacks(V, np.arange(8))
    np.testing.assert_allclose(values.min(axis=0), relative.min(axis=0), atol=1e-13)
    assert np.allclose(values, np.take_along_axis(relative, rows, axis=0))


@pytest.mark.parametrize("dense", [True, False])
def test_the_reduced_system_solves_the_whole_one(dense, rng):
    X, y, _ = regression(6, n=80, d=4)
    structure = ReluGroupLasso(X, y, sample(X, 6, random_state=0)).structure()
    quadratic = Quadratic(RowStream(structure, np.ones(5), 1.0), 0.3, dense=dense)
    shift, total, right = rng.uniform(0.5, 2, (12, 5)), rng.uniform(0, 1, 5), rng.normal(size=(12, 5))
    system = quadratic.system(shift, total)
    for _ in range(10):  # by passes, each call only divides the error
        U = system.solve(right)
    gradient = quadratic.gradient(U) + 0.6 * U * [0, 0, 0, 0, 1] + shift * U + total * U.sum(axis=0)
    np.testing.assert_allclose(gradient, right, atol=1e-10)


def test_patterns_are_kept_as_bits():
    X, y, _ = regression(6, n=300, d=4)
    stream = RowStream(ReluGroupLasso(X, y, sample(X, 20, random_state=0)).structure(), np.ones(5), 1.0)
    assert stream.groups == 20
    assert stream.patterns.numel() * stream.patterns.element_size() == 300 * 3


# -- cones ------------------------------------------------------------------------------------------
def test_projections_are_those_of_the_whole_cones(rng):
    structure, stream = streamed(n=60)
    working = WorkingRows(stream)
    nearest, points = Projector(working), rng.normal(size=(8, 4))
    for V in (points, points + 0.01 * rng.normal(size=(8, 4))):  # the second time from the active rows of the first
        while working.add_violated(nearest(V))[0]:
            pass
        expected = [project(structure.S[:, i, None] * structure.X, v) for i, v in enumerate(V)]
        np.testing.assert_allclose(nearest(V), expected, atol=1e-9)
        assert (nearest.bound(V) >= np.linalg.norm(expected, axis=1) - 1e-12).all()


def test_finished_points_lie_strictly_inside(rng):
    structure, stream = streamed(n=60)
    V, empty = feasible_point(WorkingRows(stream), rng.normal(size=(8, 4)))
    assert structure.slack(V).min() >= 0
    assert not empty.any()


def test_a_cone_without_interior_leaves_its_unit_at_zero():
    # active at (-1, 0) and (1, 0), inactive between them, active at (0, 1): only the ray (0, w, 0) with w >= 0 is left
    X, y = np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([0.0, 0.2, 0.1, 1.0])
    patterns = ActivationPatterns([[1, 1], [0, 1], [1, 1], [1, 1]], [1, 1])
    with pytest.warns(SolverWarning, match="no interior"):
        solution = run(LipschitzProgram(X, y, patterns, 1e-3), max_iter=10)
    assert solution.violation == 0
    assert not solution.z[0].any()
    assert solution.z[1].any()


# -- proximal steps ---------------------------------------------------------------------------------
def test_the_fixed_step_minimizes(rng):
    A, penalty, weight = rng.normal(size=(6, 3)), 0.7, 0.4
    split = FixedSplit(weight, np.full(6, 1 / 6), np.ones(4))

    def value(C):
        return weight * np.linalg.norm(C, 2) ** 2 + penalty / 2 * ((C - A) ** 2).sum()

    C = split._prox(A, penalty)
    assert all(value(C) <= value(C + 1e-3 * rng.normal(size=C.shape)) for _ in range(200))
    assert np.trace(split.matrix(penalty)[:3, :3]) == pytest.approx(weight)


def test_the_joint_step_leaves_a_semidefinite_multiplier(rng):
    split = JointSplit(0.1, 5, np.array([2.0, 0.5, 1.0]))
    for _ in range(50):
        split.step(rng.normal(size=(5, 3)), 0.3, 1.6)
    values = np.linalg.eigvalsh(split.matrix(0.3))
    assert values[0] >= -1e-12 * values[-1]


def test_shrinkage_of_a_projection_is_the_proximal_step(rng):
    G, a, threshold = rng.normal(size=(9, 3)), rng.normal(size=3), 0.1
    G *= np.sign(G @ [1.0, 0.2, -0.3])[:, None]  # a cone with interior
    best = shrink(project(G, a)[None], threshold)[0]

    def value(u):
        return threshold * np.linalg.norm(u) + 0.5 * ((u - a) ** 2).sum()

    others = [project(G, best + size * rng.normal(size=3)) for size in np.geomspace(1e-4, 1, 300)]
    assert all(value(best) <= value(u) + 1e-12 for u in others)


def test_shrinkage():
    # |(3, 4)| = 5, shortened by 1 to 4; a unit shorter than the threshold vanishes
    np.testing.assert_allclose(shrink(np.array([[3.0, 4.0], [0.3, 0.4]]), 1.0), [[2.4, 3.2], [0, 0]])


# -- honest endings ---------------------------------------------------------------------------------
@pytest.mark.slow
def test_hostile_instances_end_certified_or_honest_and_never_worse():
    found, optimal, solved = [], 0, 0
    for seed in range(500, 515):
        problem = hostile(seed)
        for program in problem.programs():
            solution = solve_quietly(program, solver="first_order", tol=1e-3, max_iter=40)
            solved, optimal = solved + 1, optimal + solution.is_optimal
            wrong = complaints(program, problem.network, solution, 1e-3)
            found += [f"seed {seed}, {program.name}: {text}" for text in wrong]
    assert found == []
    assert optimal >= 0.8 * solved


@each_program
@pytest.mark.slow
def test_interrupted_anywhere_it_is_feasible_and_no_worse_than_the_start(build, rng):
    program = build(*regression(7, n=60))
    folders = tuple(f"solvers/first_order/{part}" for part in ("splitting", "cones", "quadratic", "evidence", "stream"))
    total = count_calls(lambda: run(program), *folders)
    optimum = run(program)
    for k in rng.integers(total, size=3):
        solution = interrupted_at(int(k), lambda: run(program), *folders)
        assert solution.violation == 0
        assert solution.objective <= program.objective(program.start)
        assert solution.lower_bound <= optimum.objective
        assert solution.status in ("interrupted", "optimal")


@each_program
def test_without_time_it_is_feasible_and_no_worse_than_the_start(build):
    program = build(*regression(8))
    solution = run(program, time_limit=1e-9)
    assert solution.violation == 0
    assert solution.objective <= program.objective(program.start)
    assert solution.iterations == 1


@some_programs
def test_a_solution_is_a_good_start(build):
    program = build(*regression(9, n=60))
    cold = run(program)
    warm = run(program, start=cold)
    assert warm.is_optimal
    assert warm.iterations <= cold.iterations


def test_constant_targets_and_one_sample():
    patterns = ActivationPatterns(np.ones((1, 2), dtype=bool), [1, -1])
    solution = run(ReluGroupLasso([[2.0]], [3.0], patterns))
    assert solution.is_optimal
    assert not solution.z.any()


# -- refusals ---------------------------------------------------------------------------------------
def test_what_it_cannot_solve_is_said_by_name():
    X, y, net = regression()
    with pytest.raises(SolverError, match="interior_point"):
        solve(unstructured(X, y, net), solver="first_order")
    patterns = sample(X, 3, random_state=0)
    hinge = ReluGroupLasso(X, np.sign(y), patterns, loss="squared_hinge")
    with pytest.raises(SolverError, match="squared_hinge"):
        solve(hinge, solver="first_order")
    with pytest.raises(InvalidInputError, match="shape"):
        run(ReluGroupLasso(X, y, patterns), start=np.zeros((1, 1)))


@pytest.mark.parametrize(("options", "word"), [({"dtype": "float16"}, "dtype"), ({"device": "abacus"}, "abacus")])
def test_unknown_computing_is_refused(options, word):
    with pytest.raises(InvalidInputError, match=word):
        run(joint(*regression()), **options)


def test_a_gpu_gives_what_the_processor_gives():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInputError, match="CUDA"):
            torch_device("cuda")
        pytest.skip("torch sees no CUDA device; the processor runs the same code")
    X, y, net = regression(2, n=60)
    program = LipschitzRestriction.at(net, X, y)
    there, here = run(program, device="cuda"), run(program, device="cpu")
    assert there.is_optimal
    assert abs(there.objective - here.objective) <= TOL * here.objective

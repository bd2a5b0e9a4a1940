"""Features in raw units: columns of any scale and any origin, for every coupling of the interior point method."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from convexnn.network import Network
from convexnn.patterns import sample
from convexnn.restrictions import LipschitzProgram, ReluGroupLasso
from convexnn.solvers import interior_point, newton_system, solve
from convexnn.solvers.centre import interior_points, row_weights
from convexnn.solvers.cone_problem import ConeProblem, power_of_two_unit
from tests._instances import PROGRAMS, regression

SCALE = np.array([2.0**-8, 1.0, 2.0**17])
each_program = pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS.keys())


def solved(program, tol=1e-6):
    """Solve without a warning; the evidence, recomputed from the data, must pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = solve(program, solver="interior_point", tol=tol)
    assert solution.status == "optimal"
    assert solution.violation == 0
    upper, lower = program.objective(solution.z), program.lower_bound(solution.dual)
    assert upper - lower <= tol * max(upper, 1e-6 * program.scale) * (1 + 1e-6)
    return solution


def mixed(offset=0.0):
    """Columns that differ by seven orders of magnitude, each ``offset`` of its own spreads away from zero."""
    X, y, net = regression()
    far = offset * SCALE * np.array([1.0, -1.0, 1.0])
    W = net.W / SCALE
    return X * SCALE + far, y, Network.shallow(W, net.b - W @ far, net.v, 0.0)


def layout(make, lam=1e-2):
    structure = make(*mixed(5.0), lam).structure()
    unit = power_of_two_unit(structure)
    return structure, unit, ConeProblem(structure, unit, np.arange(structure.D.shape[1]))


@pytest.fixture(scope="module")
def diabetes():
    """150 patients with ten raw measurements each, their means up to ten spreads from zero."""
    X, y = load_diabetes(return_X_y=True, scaled=False)
    return X[:150], y[:150]


# -- it solves ---------------------------------------------------------------------------------------
@each_program
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_columns_of_mixed_scale(make, offset):
    X, y, net = mixed(offset)
    assert solved(make(X, y, net)).iterations <= 40


@pytest.mark.parametrize(
    ("factor", "lam"), [(1e-4, 1e-4), (1e2, 1e-2), (1e4, 1e-2), (1e4, 1.0), (1e6, 1.0), (1e6, 1e2)]
)
def test_weight_decay_in_raw_units(diabetes, factor, lam):
    X, y = diabetes[0] * factor, diabetes[1]
    program = ReluGroupLasso(X, y, sample(X, 15, signs="random", random_state=0), lam)
    assert solved(program).iterations <= 30


@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e4, 1e6])
def test_lipschitz_program_does_not_depend_on_the_unit_of_the_inputs(diabetes, factor):
    X, y = diabetes
    patterns = sample(X, 15, signs="random", random_state=0)
    plain = solved(LipschitzProgram(X, y, patterns, 1e-2))
    scaled = solved(LipschitzProgram(X * factor, y, patterns, 1e-2 * factor**2))
    assert scaled.objective == pytest.approx(plain.objective, rel=2e-6)
    assert scaled.iterations <= plain.iterations + 10


@pytest.mark.parametrize("size", [1e-200, 1e-60, 1e-12])
@each_program
def test_a_column_too_small_to_matter(make, size):
    X, y, net = regression()
    tiny = solved(make(np.hstack([X, size * X[:, :1]]), y, widened(net)))
    none = solved(make(X, y, net))
    assert tiny.objective <= none.objective * (1 + 2e-6)


def widened(net):
    """The network with one more input that it does not look at."""
    return Network.shallow(np.hstack([net.W, np.zeros((len(net.W), 1))]), net.b, net.v, 0.0)


# -- no cone is overlooked ---------------------------------------------------------------------------
def test_cones_have_an_interior_in_every_unit(diabetes):
    X = diabetes[0] * 1e6
    patterns = sample(X, 15, signs="random", random_state=0)
    structure = ReluGroupLasso(X, diabetes[1], patterns, 1.0).structure()
    problem = ConeProblem(structure, 1.0, np.arange(structure.D.shape[1]))
    points, found = interior_points(problem, np.zeros((problem.d1, problem.p)))
    assert found.all()
    assert problem.slack(points).min() > 0


# -- the layout --------------------------------------------------------------------------------------
@each_program
def test_scaled_layout_is_the_same_problem(make, rng):
    structure, unit, problem = layout(make)
    assert np.array_equal(np.frexp(problem.scale)[0], np.full(len(SCALE), 0.5))  # powers of two
    U = rng.normal(size=(problem.d1, problem.p))
    original = problem.original(U)
    assert problem.shifted(original) == pytest.approx(U, rel=1e-9, abs=1e-9)
    assert problem.row_change(U) == pytest.approx(structure.slack(original.T), rel=1e-9, abs=1e-9)
    assert problem.predict(U) == pytest.approx(structure.predict(original.T), rel=1e-9, abs=1e-9)
    assert unit**2 * problem.loss(U) == pytest.approx(
        structure.loss(unit * original.T) + structure.bias_penalty(unit * original.T)
    )
    g = rng.normal(size=U.shape)
    assert np.vdot(g, original) == pytest.approx(np.vdot(problem.original_adjoint(g), U))


@each_program
@pytest.mark.parametrize("lam", [1e-14, 1e-2, 1e3])
def test_scaled_features_have_size_one_unless_the_regularizer_decides(make, lam):
    *_, problem = layout(make, lam)
    size = np.sqrt(problem.weight @ problem.X[:, :-1] ** 2)
    assert (size < 1.5).all()
    assert (size[2:] if lam > 1e-14 else size).min() > 0.7


@pytest.mark.parametrize("make", [PROGRAMS["joint"], PROGRAMS["fixed"], PROGRAMS["group_lasso"]])
def test_hessian_of_the_regularizer_is_its_operator(make, rng):
    structure, unit, problem = layout(make)
    block = interior_point._block(problem, structure, unit)
    block.start(rng.normal(size=(problem.d1, problem.p)), 1.0)
    block.rescale()
    system = newton_system.DenseSystem(problem, block)
    system.factor(rng.random((problem.n, problem.p)))
    right = rng.normal(size=(problem.d1, problem.p))
    x, _ = system.solve(right, np.zeros(0))
    assert np.abs(system._operator.rest(right, x)).max() < 1e-8


# -- collinear columns -------------------------------------------------------------------------------
def one_hot(rng):
    """Five dummy columns that add up to the bias column, and two numbers."""
    group = rng.integers(5, size=120)
    X = np.hstack([np.eye(5)[group], rng.normal(size=(120, 2)) + 4.0])
    return X, X[:, 5] * (group > 2) + 0.1 * rng.normal(size=120)


def test_dummy_columns_cost_no_extra_iterations(rng):
    X, y = one_hot(rng)
    patterns = sample(X, 15, signs="random", random_state=0)
    assert solved(ReluGroupLasso(X, y, patterns, 1e-3)).iterations <= 25


def test_row_weights_of_collinear_columns(rng):
    X, y = one_hot(rng)
    structure = ReluGroupLasso(X, y, sample(X, 10, signs="random", random_state=0), 1e-3).structure()
    problem = ConeProblem(structure, 1.0, np.arange(structure.D.shape[1]))
    points = interior_points(problem, np.zeros((problem.d1, problem.p)))[0]
    slack = problem.slack(points)
    expected = np.empty_like(slack)
    for i in range(problem.p):
        rows = problem.X / slack[:, i : i + 1]
        left, size, _ = np.linalg.svd(rows / np.linalg.norm(rows, axis=0), full_matrices=False)
        expected[:, i] = np.sqrt(np.maximum((left[:, size > 1e-8] ** 2).sum(axis=1), 0.1 * problem.d1 / problem.n))
    weights = row_weights(problem, points)
    assert weights / weights.sum() == pytest.approx(expected / expected.sum(), rel=1e-4)

"""Programs with several outputs and a loss summed over them: two roads, bounds from any multiplier, symmetries."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError, SolverError
from convexnn.network import Network
from convexnn.patterns import extract
from convexnn.program import Dual
from convexnn.restrictions import LipschitzProgram, ReluGroupLasso
from convexnn.search import TrainingObjective
from convexnn.solvers import solve
from convexnn.solvers._vector_losses import OuterLossProblem, VectorLossProblem
from convexnn.solvers._vector_system import loss_hessian
from convexnn.training import alternate_vector
from tests._families import few
from tests._vector_instances import OUTER, PROGRAMS, vector_regression

MARGIN_LOSSES = ("squared_hinge", "logistic", "hinge")
LOSSES = (*MARGIN_LOSSES, "huber")
each_loss = pytest.mark.parametrize("loss", LOSSES)
some_losses = pytest.mark.parametrize("loss", few(LOSSES, ["hinge", "huber"]))
each_kind = pytest.mark.parametrize("kind", PROGRAMS)
each_outer = pytest.mark.parametrize("kind", OUTER)


def instance(loss, **sizes):
    """X, Y and a network; targets -1 / +1 (one class against the rest, two rows with both labels), or numbers."""
    X, Y, net = vector_regression(**sizes)
    if loss == "huber":
        return X, 2 * Y, net
    label = Y.argmax(axis=1)
    X, label = np.vstack([X, X[:2]]), np.r_[label, (label[:2] + 1) % Y.shape[1]]
    return X, np.where(np.eye(Y.shape[1])[label] > 0, 1.0, -1.0), net


def program_of(kind, loss, lam=1e-2, **sizes):
    X, Y, net = instance(loss, **sizes)
    make = PROGRAMS[kind].at if kind in PROGRAMS else OUTER[kind.removeprefix("outer ")]
    return make(net, X, Y, lam, loss=loss), net


ALL = [*PROGRAMS, *(f"outer {kind}" for kind in OUTER)]


@pytest.mark.parametrize("kind", ALL)
@some_losses
@pytest.mark.filterwarnings("ignore")
def test_interior_point_and_cvxpy_agree(kind, loss):
    program, _ = program_of(kind, loss, n=18, p=4)
    own = solve(program, solver="interior_point", tol=1e-7)
    assert own.is_optimal, own.status
    try:
        other = solve(program, solver="clarabel")
    except SolverError:  # Clarabel gives up on some gated programs with a free direction: SCS is the second road
        other = solve(program, solver="scs", tol=1e-4, max_iter=20_000)
    assert own.lower_bound <= other.objective * (1 + 1e-9)
    assert other.lower_bound <= own.objective * (1 + 1e-9)
    assert own.objective <= other.objective * (1 + 1e-6)
    if kind != "gated":
        assert program.network_objective(program.decode(own.z)) <= own.objective * (1 + 1e-8)


@pytest.mark.parametrize("kind", ALL)
@some_losses
def test_no_multiplier_proves_more_than_the_optimum(kind, loss, rng):
    program, _ = program_of(kind, loss, n=12, p=3)
    solution = solve(program)
    z, dual = solution.z, solution.dual
    for scale in (1e-9, 1e-3, 1.0, 1e3, 1e12):
        for _ in range(4):
            residual = dual.residual + scale * rng.standard_normal(dual.residual.shape)
            rows = dual.rows + scale * rng.standard_normal(dual.rows.shape)
            assert program.lower_bound(Dual(residual, rows, dual.matrix)) <= solution.objective
    broken = dual.residual.copy()
    broken[0, 0] = np.nan
    assert program.lower_bound(Dual(broken, dual.rows, dual.matrix)) == -np.inf
    assert program.lower_bound(dual) <= program.objective(z)


@pytest.mark.parametrize(("vector", "scalar"), [("lipschitz", LipschitzProgram), ("l2", ReluGroupLasso)])
@some_losses
def test_one_output_is_the_scalar_program(vector, scalar, loss):
    X, Y, _ = instance(loss, k=2)
    net = Network.shallow(*[np.random.default_rng(1).normal(size=shape) for shape in ((5, 3), 5, 5)])
    one = solve(PROGRAMS[vector].at(net, X, Y[:, :1], 1e-2, loss=loss), tol=1e-8)
    other = solve(scalar(X, Y[:, 0], extract(net, X), 1e-2, loss=loss), tol=1e-8)
    assert one.objective == pytest.approx(other.objective, rel=1e-7)


def test_class_wise_weight_decay_is_one_program_an_output():
    """With the directions +-e_c and R a sum of norms, nothing couples the outputs: the optimum is the sum of optima."""
    X, Y, net = instance("logistic", p=3)
    patterns = extract(net, X)
    together = solve(PROGRAMS["l2"].classwise(X, Y, patterns, 1e-2, loss="logistic"), tol=1e-8)
    both = patterns.with_both_signs()
    apart = [solve(ReluGroupLasso(X, column, both, 1e-2, loss="logistic"), tol=1e-8) for column in Y.T]
    assert together.objective == pytest.approx(sum(part.objective for part in apart), rel=1e-6)


@each_kind
@pytest.mark.parametrize("loss", MARGIN_LOSSES)
def test_lifted_networks_are_never_above_their_objective(kind, loss):
    program, net = program_of(kind, loss)
    assert program.objective(program.start) <= program.network_objective(net) * (1 + 1e-9)
    regularizer = "lipschitz" if kind == "lipschitz" else "l2"
    X, Y, _ = instance(loss)
    # the same number by the objective that estimators and refinement judge by
    assert TrainingObjective(X, Y, None, regularizer, 1e-2, loss)(net) == pytest.approx(program.network_objective(net))


@each_kind
@pytest.mark.parametrize("loss", MARGIN_LOSSES)
def test_repeated_rows_are_weights(kind, loss):
    X, Y, net = instance(loss)
    counts = np.arange(len(X)) % 3 + 1
    once = PROGRAMS[kind].at(net, X, Y, 1e-2, sample_weight=counts, loss=loss)
    often = PROGRAMS[kind].at(net, np.repeat(X, counts, axis=0), np.repeat(Y, counts, axis=0), 1e-2, loss=loss)
    z = np.random.default_rng(0).normal(size=once.start.shape)
    assert once.objective(z) == pytest.approx(often.objective(z), rel=1e-12)
    np.testing.assert_array_equal(once.rows.X, often.rows.X)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("outer", [False, True])
def test_the_loss_hessian_is_its_operator(loss, outer, rng):
    program, _ = program_of("outer lipschitz" if outer else "lipschitz", loss, n=10, p=4)
    structure = program.structure()
    problem = (OuterLossProblem if outer else VectorLossProblem)(structure, 1.0, np.arange(4))
    problem.set_curvature(rng.uniform(0.1, 1, len(problem.y)))
    H, V = loss_hessian(problem), rng.standard_normal((problem.d1, problem.p))
    image = problem.hessian_times(V) + 2 * problem.ridge_block @ V
    np.testing.assert_allclose((H @ V.ravel()).reshape(V.shape), image, rtol=1e-10, atol=1e-12)
    W = rng.standard_normal(len(problem.y))
    assert np.vdot(problem.predict(V), W) == pytest.approx(np.vdot(V, problem.predict_adjoint(W)), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("loss", MARGIN_LOSSES)
@pytest.mark.parametrize("regularizer", ["lipschitz", "l2"])
@pytest.mark.parametrize("classwise", [False, True])
def test_alternation_never_rises(loss, regularizer, classwise):
    X, Y, net = instance(loss, n=30)
    found = alternate_vector(net, X, Y, 1e-2, regularizer=regularizer, loss=loss, classwise=classwise, max_rounds=3)
    values = [found.start_objective, *(step.objective for step in found.history)]
    assert values == sorted(values, reverse=True)
    assert found.objective < 0.9 * found.start_objective
    objective = TrainingObjective(X, Y, None, regularizer, 1e-2, loss)
    assert found.objective == pytest.approx(objective(found.network), rel=1e-6)


@pytest.mark.parametrize("kind", ALL)
def test_huge_weight_gives_the_best_constants(kind):
    program, _ = program_of(kind, "squared_hinge", lam=1e7)
    solution = solve(program)
    # one class against the rest with share q: min_c q max(0, 1 - c)^2 + (1 - q) max(0, 1 + c)^2 = 4 q (1 - q)
    weight, y = program.structure().weight, program.structure().y
    share = weight @ (y > 0)
    assert solution.objective == pytest.approx(float((4 * share * (1 - share)).sum()), rel=1e-5)


def test_targets_that_do_not_fit_are_refused():
    X, Y, net = vector_regression()
    for make in (PROGRAMS["lipschitz"].at, OUTER["l2"]):
        with pytest.raises(InvalidInputError, match="targets -1"):
            make(net, X, Y, 1e-2, loss="hinge")
        with pytest.raises(InvalidInputError, match="NaN"):
            make(net, X, np.where(Y > 0, 1.0, np.nan), 1e-2, loss="hinge")
        with pytest.raises(InvalidInputError, match="multi_margin"):
            make(net, X, Y, 1e-2, loss="multi_margin")

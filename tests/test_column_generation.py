"""Column generation for polynomial networks: derivatives, optima against a generic solver, evidence, limits."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.exceptions import SolverError
from convexnn.losses import Hinge, Huber, Logistic, Squared, SquaredHinge
from convexnn.program import evaluate
from convexnn.quadratic.structure import PolynomialTask
from convexnn.restrictions.polynomial import PolynomialProgram
from convexnn.restrictions.polynomial_evidence import atomic_norm_up
from convexnn.solvers import solve
from convexnn.solvers.column_generation import solve_column_generation
from convexnn.solvers.column_generation.columns import best_columns
from convexnn.solvers.column_generation.evidence import scaled_bound
from convexnn.solvers.column_generation.neurons import Neurons, compressed, rotated
from convexnn.solvers.column_generation.objective import Objective
from convexnn.solvers.column_generation.starts import first_neurons, neurons_of_point, subsample
from convexnn.solvers.column_generation.term_losses import term_loss
from convexnn.solvers.column_generation.worst_cases import WorstCases
from tests._families import few

KINDS = {
    "squared_hinge": SquaredHinge(),
    "hinge": Hinge(),
    "logistic": Logistic(),
    "squared": Squared(),
    "huber": Huber(0.7),
    "one_vs_rest": Hinge(),
    "multimargin": Hinge(),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def structure_of(kind, rng, n=20, d=4, radius=0.4):
    weight = rng.random(n)
    metric = rng.random(d) + 0.5
    X = rng.standard_normal((n, d))
    task = PolynomialTask(X, weight / weight.sum(), KINDS[kind], radius, metric, (0.09, 0.5, 0.47), 0.01)
    if kind in ("one_vs_rest", "multimargin"):
        return getattr(task, kind)(np.arange(n) % 3, 3)
    if kind in ("squared", "huber"):
        return task.regression(rng.standard_normal(n))
    return task.binary(np.where(rng.random(n) < 0.5, 1, -1))


def some_neurons(structure, rng, m=12):
    classes = rng.integers(0, structure.n_classes, m).astype(np.intp)
    P = rng.standard_normal((m, structure.n_features))
    return Neurons(P, classes, np.where(rng.random(m) < 0.5, 1.0, -1.0), structure.n_classes)


def data(n=25, d=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    f = X[:, 0] ** 2 - X[:, 1] + 0.3 * rng.standard_normal(n)
    return X, np.where(f > 0.5, 1.0, -1.0), f


def program(loss="squared_hinge", radius=0.3, **options):
    X, labels, f = data()
    y = f if loss in ("squared", "huber") else labels
    return PolynomialProgram(X, y, **{"lam": 0.02, "loss": loss, "radius": radius, **options})


# -- derivatives -------------------------------------------------------------------------------------
@each_kind
@pytest.mark.parametrize("radius", [0.0, 0.4])
def test_first_and_second_derivatives(kind, radius, rng):
    structure = structure_of(kind, rng, radius=radius)
    loss = term_loss(structure, 0.4)
    loss.advance(0.5 * rng.random(structure.n_terms), 0.4)
    objective = Objective(WorstCases(structure), loss)
    objective.smoothing = 0.05
    neurons = some_neurons(structure, rng)
    direction, h = rng.standard_normal(neurons.P.shape), 1e-6
    at = objective.evaluate(neurons)
    gradient, product = objective.gradient(at), objective.second(at)(direction)
    values, gradients = [], []
    for sign in (1, -1):
        moved = objective.evaluate(neurons.at(neurons.P + sign * h * direction))
        values.append(moved.value)
        gradients.append(objective.gradient(moved))
    slope = float((gradient * direction).sum())
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(slope, rel=1e-6, abs=1e-7)
    assert np.abs((gradients[0] - gradients[1]) / (2 * h) - product).max() <= 1e-6 * np.abs(product).max()


@each_kind
def test_proximal_losses_lie_below_and_touch(kind, rng):
    structure = structure_of(kind, rng)
    w = rng.standard_normal(structure.n_terms)
    loss = term_loss(structure, 0.1)
    exact = structure.loss_value(w)
    loss.advance(rng.random(structure.n_terms), 0.1)
    first = loss.at(w)
    for _ in range(200):  # proximal points go to the slopes of the loss itself
        loss.advance(loss.at(w).slopes, 0.1)
    if loss.proximal or not structure.is_regression:
        assert first.value <= exact + 1e-12
        assert loss.at(w).value == pytest.approx(exact, abs=1e-6)


# -- neurons and columns -----------------------------------------------------------------------------
def test_compression_keeps_the_matrices_with_as_many_neurons_as_their_rank(rng):
    P = rng.standard_normal((40, 3))
    neurons = Neurons(P, np.zeros(40, np.intp), np.where(np.arange(40) < 20, 1.0, -1.0), 1)
    fewer = compressed(neurons, 1e-12)
    assert len(fewer.P) == 8
    assert np.allclose(fewer.point(), neurons.point(), atol=1e-10)
    again = neurons_of_point(fewer.point())
    assert np.allclose(again.point(), neurons.point(), atol=1e-7)


def test_columns_are_the_best_neurons(rng):
    for _ in range(5):
        root = rng.standard_normal((1, 5, 5))
        G = root + root.transpose(0, 2, 1)
        found = best_columns(G, 0.1, 3)
        units = rng.standard_normal((2000, 4))
        units = np.hstack([units / np.linalg.norm(units, axis=1, keepdims=True), np.ones((2000, 1))])
        values = np.einsum("ij,jk,ik->i", units, G[0], units)
        assert found.norm >= np.abs(values).max()
        assert found.norm == pytest.approx(atomic_norm_up(G[0]), rel=1e-9)
        lifted = np.hstack([found.units, np.ones((len(found.units), 1))])
        own = found.signs * np.einsum("ij,jk,ik->i", lifted, G[0], lifted)
        assert own.max() == pytest.approx(found.norm, rel=1e-9)
    assert len(best_columns(G, 2 * found.norm, 3).units) == 0


# -- optima ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("loss", few(["squared_hinge", "hinge", "logistic", "squared", "huber"], ["hinge", "logistic"]))
@pytest.mark.parametrize(
    "radius", [pytest.param(0.0, marks=pytest.mark.slow), 0.3, pytest.param(1.5, marks=pytest.mark.slow)]
)
def test_optimum_is_that_of_the_generic_solver(loss, radius):
    problem = program(loss, radius)
    fast = solve(problem, solver="column_generation", tol=1e-6)
    assert fast.status == "optimal"
    assert fast.violation <= 1e-12
    generic = solve(problem, solver="clarabel", tol=1e-6)
    assert fast.objective == pytest.approx(generic.objective, rel=1e-5)
    assert fast.lower_bound <= generic.objective * (1 + 1e-9)


def test_the_decoded_network_has_the_objective():
    problem = program("hinge")
    found = solve(problem, tol=1e-6)
    assert found.solver == "column_generation"
    assert problem.network_objective(problem.decode(found.z)) == pytest.approx(found.objective, rel=1e-6)


@pytest.mark.parametrize("scale", few([1e-3, 1e3]))
@pytest.mark.slow
def test_units_of_the_inputs(scale):
    X, y, _ = data()
    a, b, c = 0.09, 0.5, 0.47
    plain = solve(program("squared_hinge"), tol=1e-5)
    scaled = PolynomialProgram(
        X * scale, y, lam=0.02, radius=0.3 * scale, coefficients=(a / scale**2, b / scale, c), loss="squared_hinge"
    )
    assert solve(scaled, tol=1e-5).objective == pytest.approx(plain.objective, rel=1e-5)


@pytest.mark.slow
def test_repeated_rows_are_weights():
    X, y, _ = data()
    weight = np.where(np.arange(len(y)) < 5, 2.0, 1.0)
    doubled = PolynomialProgram(np.vstack([X, X[:5]]), np.concatenate([y, y[:5]]), lam=0.02, loss="hinge", radius=0.2)
    weighted = PolynomialProgram(X, y, lam=0.02, loss="hinge", radius=0.2, sample_weight=weight)
    assert solve(doubled, tol=1e-6).objective == pytest.approx(solve(weighted, tol=1e-6).objective, rel=2e-6)


@pytest.mark.parametrize("rows", [1, 2])
def test_few_samples(rows):
    X, y, _ = data()
    assert solve(PolynomialProgram(X[:rows], y[:rows], lam=0.02, radius=0.1, loss="hinge"), tol=1e-6).is_optimal


def test_zero_is_found_optimal_without_a_round():
    found = solve_column_generation(program(lam=50.0), tol=1e-6)
    assert found.status == "solved"
    assert found.iterations == 0
    assert not found.z.any()


# -- evidence and limits -----------------------------------------------------------------------------
def test_the_estimate_of_the_bound_is_what_the_program_proves():
    problem = program("hinge")
    found = solve_column_generation(problem, tol=1e-4)
    structure = problem.structure()
    worst = WorstCases(structure)
    objective = Objective(worst, term_loss(structure, 0.1))
    objective.smoothing = 1e-4
    at = objective.evaluate(neurons_of_point(found.z))
    estimate = scaled_bound(structure, at.slopes, best_columns(at.G, structure.lam, 0).norm)
    assert estimate <= problem.objective(found.z)
    assert problem.lower_bound(found.dual) > 0.99 * problem.objective(found.z)


@pytest.mark.parametrize("rounds", few([2, 1]))
def test_cut_short_it_returns_a_point_and_an_honest_gap(rounds):
    problem = program("hinge")
    found = evaluate(problem, solve_column_generation(problem, tol=1e-12, max_iter=rounds), seconds=0.0)
    best = solve(problem, tol=1e-6).objective
    assert found.status == "max_iter"
    assert found.lower_bound <= best * (1 + 1e-9)
    assert best <= found.objective * (1 + 1e-6)
    assert found.objective <= problem.scale
    assert found.violation <= 1e-12


def test_interrupted_it_hands_over_what_it_has(monkeypatch):
    calls = []

    def interrupt(self, M, smoothing, evaluate=WorstCases.evaluate):
        calls.append(1)
        if len(calls) == 120:
            raise KeyboardInterrupt
        return evaluate(self, M, smoothing)

    monkeypatch.setattr(WorstCases, "evaluate", interrupt)
    problem = program("squared_hinge")
    found = solve(problem, solver="column_generation", tol=1e-9)
    assert found.status == "interrupted"
    assert 0 < found.lower_bound <= found.objective < problem.scale


def test_never_worse_than_the_start():
    problem = program("hinge")
    good = solve(problem, tol=1e-5)
    again = solve(problem, tol=1e-5, start=good, max_iter=1)
    assert again.objective <= good.objective * (1 + 1e-12)


def test_a_part_of_the_data_is_a_program(rng):
    for kind in KINDS:
        structure = structure_of(kind, rng)
        part = subsample(structure, 8)
        assert len(part.X) == 8
        assert part.weight.sum() == pytest.approx(1.0)
        w = rng.standard_normal(structure.n_terms)
        kept = np.isin(structure.X[structure.rows][:, 0], part.X[:, 0])
        assert np.array_equal(structure.X[structure.rows[kept]], part.X[part.rows])
        assert np.isfinite(part.loss_value(w[kept]))
    assert len(subsample(structure, 100).X) == len(structure.X)


@pytest.mark.parametrize("coefficients", [(0.0, 0.0, 3.0), (-1.0, 0.0, -1.0), (0.5, 0.0, 0.0)])
def test_units_that_cancel_each_other_do_not_start_at_infinity(coefficients):
    X = np.linspace(-1.0, 1.0, 20)[:, None]
    y = np.where(np.arange(20) < 14, 1.0, -1.0)
    problem = PolynomialProgram(X, y, lam=0.05, radius=0.3, coefficients=coefficients)
    assert 0.01 < first_neurons(WorstCases(problem.structure()), 2).norms.max() < 10
    assert solve(problem, solver="column_generation", tol=1e-4).is_optimal


def test_turning_vectors_that_overflow_comes_to_an_end():
    with np.errstate(all="ignore"):
        found = rotated(np.diag([1e78, 1e78, 1e78, 1e78]), 0.0)
    assert found.shape[1] == 3


def test_other_programs_are_refused():
    class Other:
        name = "other"

        def structure(self):
            return None

    with pytest.raises(SolverError, match="column_generation"):
        solve_column_generation(Other())

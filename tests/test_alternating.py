"""Algorithm 1: monotone, never worse than the start, never better than the joint program."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from _shared import require_shared

from convexnn.exceptions import InvalidInputError, SolverError, SolverWarning, UnsupportedModelError
from convexnn.network import Network
from convexnn.patterns import extract
from convexnn.restrictions import LipschitzProgram, ReluGroupLasso
from convexnn.solvers import solve
from convexnn.training.alternating import alternating_minimization, sort_by_sign
from tests._families import few


def instance(seed=0, n=40, d=3, m=6):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = np.sin(X[:, 0]) + 0.3 * X[:, -1] ** 2 + 0.1 * rng.normal(size=n)
    return X, y, random_features(X, y, m, rng)


def random_features(X, y, m, rng):
    """A network worth improving: random hidden units, outer weights by ridge regression."""
    W, b = rng.normal(size=(m, X.shape[1])), rng.normal(size=m)
    H = np.maximum(X @ W.T + b, 0)
    v = np.linalg.solve(H.T @ H + 0.1 * np.eye(m), H.T @ (y - y.mean()))
    return Network.shallow(W, b, v, y.mean())


def chain(result):
    """Objectives in the order in which Algorithm 1 met them."""
    steps = [value for row in result.history for value in (row.after_multiplier, row.after_weights)]
    return [result.start_objective, *steps, result.objective]


def test_a_later_failure_keeps_the_best_network(monkeypatch):
    from convexnn.training import alternating

    X, y, net = instance()
    calls = []

    def fails_from_the_second_call(program, **options):
        calls.append(program)
        if len(calls) > 1:
            raise SolverError("no licence any more")
        return solve(program, **options)

    monkeypatch.setattr(alternating, "solve", fails_from_the_second_call)
    with pytest.warns(SolverWarning, match="round 2 failed"):
        result = alternating_minimization(net, X, y, lam=1e-2, solver="clarabel")
    assert result.status == "failed"
    assert result.objective < result.start_objective
    with pytest.raises(SolverError, match="licence"):
        alternating_minimization(net, X, y, lam=1e-2, solver="clarabel")


@pytest.mark.parametrize("solver", ["clarabel", "interior_point"])
@pytest.mark.parametrize("seed", few(range(3)))
def test_every_step_lowers_the_objective_and_the_joint_optimum_is_below(seed, solver):
    X, y, net = instance(seed)
    result = alternating_minimization(net, X, y, lam=1e-2, max_rounds=6, solver=solver)
    program = LipschitzProgram(X, y, extract(net, X), 1e-2)
    best = solve(program, solver=solver)
    assert best.is_optimal
    values = chain(result)
    # a solver's point can lie above the optimum by its gap
    assert all(after <= before * (1 + 1e-6) for before, after in zip(values, values[1:], strict=False))
    assert best.objective <= result.objective * (1 + 1e-6)
    assert result.objective < result.start_objective
    assert result.objective == pytest.approx(program.network_objective(result.network), rel=1e-9)


def test_patterns_and_outer_weights_stay():
    X, y, net = instance()
    result = alternating_minimization(net, X, y, lam=1e-2, max_rounds=3, solver="clarabel")
    ordered = sort_by_sign(net)
    np.testing.assert_allclose(np.abs(result.network.v), np.abs(ordered.v))
    program = LipschitzProgram(X, y, extract(ordered, X), 1e-2)
    assert program.violation(program.lift(result.network)) <= 1e-9


def test_sorting_keeps_the_function(rng):
    _, _, net = instance()
    ordered = sort_by_sign(net)
    assert (np.diff((ordered.v >= 0).astype(int)) <= 0).all()
    X = rng.normal(size=(20, 3))
    np.testing.assert_allclose(ordered(X), net(X), atol=1e-14)


def test_l2_is_one_solve_of_the_group_lasso():
    X, y, net = instance()
    result = alternating_minimization(net, X, y, lam=1e-2, regularizer="l2", solver="clarabel")
    solution = solve(ReluGroupLasso(X, y, extract(net, X), 1e-2), solver="clarabel")
    assert len(result.history) == 1
    assert result.status == "converged"
    assert result.objective == pytest.approx(solution.objective, rel=1e-6)
    assert result.objective <= result.start_objective


@pytest.mark.parametrize("regularizer", ["lipschitz", "l2"])
def test_an_optimal_start_is_kept(regularizer):
    X, y, net = instance()
    once = alternating_minimization(net, X, y, lam=0.1, regularizer=regularizer, max_rounds=40, solver="clarabel")
    again = alternating_minimization(
        once.network, X, y, lam=0.1, regularizer=regularizer, max_rounds=1, solver="clarabel"
    )
    assert again.objective <= once.objective * (1 + 1e-9)


def test_weights_are_repetitions():
    X, y, net = instance()
    repeats = np.random.default_rng(0).integers(1, 4, size=len(X))
    index = np.repeat(np.arange(len(X)), repeats)
    options = {"lam": 1e-2, "max_rounds": 2, "solver": "clarabel"}
    weighted = alternating_minimization(net, X, y, sample_weight=repeats, **options)
    repeated = alternating_minimization(net, X[index], y[index], **options)
    assert weighted.objective == pytest.approx(repeated.objective, rel=1e-5)


def test_dead_units_stay_dead():
    X, y, net = instance()
    v = net.v.copy()
    v[1] = 0.0
    start = Network.shallow(net.W, net.b, v, net.c)
    result = alternating_minimization(start, X, y, lam=1e-2, max_rounds=3, solver="clarabel")
    assert result.objective <= result.start_objective
    np.testing.assert_array_equal(result.network.v == 0, sort_by_sign(start).v == 0)


@pytest.mark.parametrize("v", [[0.0, 0.0], [1.0, -1.0]])
def test_a_network_without_weights_only_gets_its_output_bias(v):
    X, y, _ = instance()
    start = Network.shallow(np.zeros((2, 3)), [1.0, 2.0], v, 5.0)
    result = alternating_minimization(start, X, y, lam=1e-2, solver="clarabel")
    assert result.history == ()
    assert result.objective == pytest.approx(y.var())


def test_a_time_limit_returns_the_best_so_far():
    X, y, net = instance()
    result = alternating_minimization(net, X, y, lam=1e-2, solver="clarabel", time_limit=1e-6)
    assert result.status == "time_limit"
    assert len(result.history) == 1
    assert result.objective <= result.start_objective


def test_bad_options_are_sentences():
    X, y, net = instance()
    with pytest.raises(InvalidInputError, match="regularizer='l1'"):
        alternating_minimization(net, X, y, regularizer="l1")
    with pytest.raises(InvalidInputError, match="max_rounds=0"):
        alternating_minimization(net, X, y, max_rounds=0)
    with pytest.raises(UnsupportedModelError, match="2 output"):
        alternating_minimization(Network.shallow(net.W, net.b, np.vstack([net.v, net.v])), X, y)
    with pytest.raises(InvalidInputError, match="NaN"):
        alternating_minimization(net, X, np.full(len(X), np.nan))


@pytest.mark.slow
def test_servo_joint_is_below_every_iterate():
    with open(require_shared("data", "splits", "servo.csv"), newline="") as file:
        table = np.array([[float(cell) for cell in row] for row in csv.reader(file)])
    table = (table - table.mean(axis=0)) / table.std(axis=0)
    X, y = table[:, :-1], table[:, -1]
    net = random_features(X, y, 50, np.random.default_rng(0))
    result = alternating_minimization(net, X, y, lam=1e-2, max_rounds=3, solver="clarabel")
    best = solve(LipschitzProgram(X, y, extract(net, X), 1e-2), solver="clarabel")
    assert best.gap <= 1e-6
    values = chain(result)
    assert all(after <= before * (1 + 1e-6) for before, after in zip(values, values[1:], strict=False))
    assert best.objective <= min(values)

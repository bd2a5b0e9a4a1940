"""The linear systems of large problems on small ones, and limits that stop everything in the middle."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from convexnn.exceptions import SolverWarning
from convexnn.patterns import extract
from convexnn.restrictions import LipschitzProgram, ReluGroupLasso
from convexnn.solvers import _clock, _dense_system, choice, cone_problem, interior_point, newton_system, solve
from convexnn.solvers.cone_problem import ConeProblem
from tests._families import few
from tests._instances import PROGRAMS, regression

each_program = pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS.keys())


def interior(program, **options):
    return solve(program, solver="interior_point", **options)


# -- systems -----------------------------------------------------------------------------------------
@each_program
@pytest.mark.parametrize("ratio", [0.0, 1e9], ids=["dense", "woodbury"])
@pytest.mark.parametrize("sizes", few([(25, 20), (40, 6)]))
def test_either_system_reaches_the_same_optimum(make, ratio, sizes, monkeypatch):
    n, p = sizes
    program = make(*regression(0, n, 3, p))
    reference = interior(program)
    monkeypatch.setattr(newton_system, "WOODBURY_RATIO", ratio)
    solution = interior(program)
    assert solution.is_optimal
    assert solution.objective == pytest.approx(reference.objective, rel=2e-6)
    assert solution.lower_bound <= reference.objective * (1 + 1e-12)


@each_program
def test_chunks_and_strips_change_nothing(make, monkeypatch):
    program = make(*regression(1, 50, 3, 6))
    monkeypatch.setattr(newton_system, "WOODBURY_RATIO", 0.0)
    reference = interior(program)
    monkeypatch.setattr(cone_problem, "CHUNK_ENTRIES", 7 * 24)
    monkeypatch.setattr(_dense_system, "STRIP", 5)
    assert interior(program).objective == pytest.approx(reference.objective, rel=1e-7)


def test_the_dense_factor_leaves_the_loss_hessian_alone(rng):
    structure = PROGRAMS["joint"](*regression(2, 50, 3, 6)).structure()
    problem = ConeProblem(structure, 1.0, np.arange(6))
    block = interior_point._block(problem, structure, 1.0)
    block.start(rng.normal(size=(problem.d1, problem.p)), 1.0)
    block.rescale()
    system = newton_system.DenseSystem(problem, block)
    before = np.triu(system._H, 1)
    weights, right = rng.random((problem.n, problem.p)), rng.normal(size=(problem.d1, problem.p))
    system.factor(weights)
    first = system.solve(right, np.zeros(0))[0]
    assert np.array_equal(np.triu(system._H, 1), before)
    system.factor(weights)
    assert np.array_equal(system.solve(right, np.zeros(0))[0], first)


def test_many_more_variables_than_rows():
    X, y, net = regression(3, 20, 4, 150)
    for kind in (LipschitzProgram, ReluGroupLasso):
        program = kind(X, y, extract(net, X), 1e-2, start=net)
        assert interior(program).is_optimal


# -- the choice of auto ------------------------------------------------------------------------------
def test_auto_takes_the_first_order_solver_where_the_other_needs_too_much(monkeypatch):
    X, y, net = regression(6, 40, 3, 8)
    program = ReluGroupLasso(X, y, extract(net, X), 1e-2, start=net)
    assert solve(program).solver == "interior_point"
    monkeypatch.setattr(choice, "MOST_MEMORY", 0.0)
    solution = solve(program, tol=1e-3)
    assert solution.solver == "first_order"
    assert any("interior_point would need" in note for note in solution.notes)
    assert solution.lower_bound <= interior(program).objective * (1 + 1e-9)


def test_auto_stays_with_what_knows_the_program(monkeypatch):
    X, y, net = regression(6, 40, 3, 8)
    program = ReluGroupLasso(X, y, extract(net, X), 1e-2, start=net, loss="huber")
    monkeypatch.setattr(choice, "MOST_SECONDS", 0.0)
    with pytest.warns(SolverWarning, match="will need"):
        assert solve(program).solver == "interior_point"


def test_auto_warns_of_a_poor_end_on_a_large_program(monkeypatch):
    X, y, net = regression(6, 40, 3, 8)
    program = ReluGroupLasso(X, y, extract(net, X), 1e-2, start=net)
    monkeypatch.setattr(choice, "MOST_MEMORY", 0.0)
    with pytest.warns(SolverWarning, match="max_iter"):
        assert solve(program, tol=1e-9, max_iter=1).gap > 1e-7


def test_effort_grows_with_the_sizes():
    def effort(n, d, p):
        X, y, net = regression(0, n, d, p)
        return choice.interior_point_effort(LipschitzProgram(X, y, extract(net, X), 1e-2).structure())

    small, rows, units, inputs = effort(40, 3, 8), effort(80, 3, 8), effort(40, 3, 16), effort(40, 6, 8)
    assert small.is_affordable
    for larger in (rows, units, inputs):
        assert larger.memory > small.memory
        assert larger.seconds > small.seconds


# -- tolerances --------------------------------------------------------------------------------------
@each_program
@pytest.mark.parametrize("seed", few([0, 1, 2]))
def test_a_stricter_tolerance_never_ends_with_a_larger_gap(make, seed):
    program = make(*regression(seed, 40, 3, 10))
    gaps = [interior(program, tol=tol).gap for tol in (1e-4, 1e-6, 1e-8, 1e-10, 1e-13)]
    assert gaps[1] <= 1e-6
    assert max(gaps[2:]) <= gaps[1]
    assert gaps[4] <= 1e-8


# -- limits ------------------------------------------------------------------------------------------
def honest(program, solution):
    """A feasible point no worse than the start, with bounds that hold."""
    assert solution.violation == 0
    assert solution.objective <= program.objective(program.start) * (1 + 1e-12)
    best = interior(program)
    assert solution.lower_bound <= best.objective * (1 + 1e-9)
    assert solution.objective >= best.lower_bound * (1 - 1e-9)


@each_program
@pytest.mark.parametrize("count", few([1, 2, 5, 9, 14, 20], [1, 9]))
def test_interrupted_anywhere(make, count, monkeypatch):
    program = make(*regression(4, 40, 3, 10))
    calls = iter(range(count))
    original = ConeProblem.gram

    def gram(self, w):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return original(self, w)

    monkeypatch.setattr(ConeProblem, "gram", gram)
    solution = interior(program)
    monkeypatch.undo()
    assert solution.status in ("interrupted", "optimal")
    honest(program, solution)


@each_program
@pytest.mark.parametrize("count", few([1, 3, 8, 13], [1, 8]))
def test_time_is_up_anywhere(make, count, monkeypatch):
    program = make(*regression(5, 40, 3, 10))
    calls = iter(range(count))
    monkeypatch.setattr(_clock.Clock, "expired", lambda self: False)

    def pulse(self):
        if next(calls, None) is None:
            raise _clock.TimeUpError

    monkeypatch.setattr(_clock.Clock, "pulse", pulse)
    solution = interior(program)
    monkeypatch.undo()
    assert solution.status in ("time_limit", "optimal")
    assert math.isfinite(solution.lower_bound)
    honest(program, solution)


def test_the_clock_stops_set_up():
    clock = _clock.Clock(1e-6)
    time.sleep(1e-4)
    with pytest.raises(_clock.TimeUpError):
        clock.pulse()
    _clock.Clock(None).pulse()

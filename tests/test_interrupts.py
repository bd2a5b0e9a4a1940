"""Stopped at any point: a feasible network no worse than the start, and an honest gap."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from convexnn.estimators import SafeSNNRegressor
from convexnn.refinement import TrainingObjective, refine
from tests._hostile import complaints, hostile, solve_quietly
from tests._instances import PROGRAMS, regression
from tests._interruption import ROOT, count_calls, interrupted_at

TOL = 1e-6
#: Files whose functions run between the first and the last line of a solve.
WITHIN = ("solvers/path", "solvers/newton", "solvers/centre", "solvers/cone", "solvers/_", "solvers/evidence")


def interior(program):
    return solve_quietly(program, solver="interior_point", tol=TOL)


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_interrupt_at_any_call_of_the_interior_point_method_keeps_the_best(name, rng):
    X, y, net = regression()
    program = PROGRAMS[name](X, y, net)
    calls = count_calls(lambda: interior(program), *WITHIN)
    early = np.arange(0, 40, 7)
    for k in np.r_[early, calls - 1 - early, rng.integers(calls, size=4)]:
        solution = interrupted_at(int(k), lambda: interior(program), *WITHIN)
        assert complaints(program, net, solution, TOL) == []
        assert solution.status in ("interrupted", "optimal")


def test_an_interrupt_keeps_a_start_that_lies_on_the_boundary_of_its_cones():
    for seed in (2, 33, 38):
        problem = hostile(seed)
        for program in problem.programs():
            for k in (0, 5, 15, 32, 157):
                solution = interrupted_at(k, lambda program=program: interior(program), *WITHIN)
                assert complaints(program, problem.network, solution, TOL) == []


@pytest.mark.slow
def test_an_interrupt_of_hostile_instances_keeps_the_best(rng):
    for seed in range(500, 504):
        problem = hostile(seed)
        for program in problem.programs():
            calls = count_calls(lambda program=program: interior(program), *WITHIN)
            k = int(rng.integers(max(calls, 1)))
            solution = interrupted_at(k, lambda program=program: interior(program), *WITHIN)
            assert complaints(program, problem.network, solution, TOL) == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_random_number_of_iterations_keeps_the_best(name, rng):
    X, y, net = regression(seed=3)
    program = PROGRAMS[name](X, y, net)
    gaps = []
    for max_iter in [1, *sorted(rng.integers(2, 15, size=4)), 60]:
        solution = solve_quietly(program, solver="interior_point", tol=TOL, max_iter=int(max_iter))
        assert complaints(program, net, solution, TOL) == []
        assert solution.iterations <= max_iter
        assert solution.status in ("max_iter", "optimal")
        gaps.append(solution.gap)
    assert gaps[-1] <= TOL < gaps[0]


@pytest.mark.parametrize("time_limit", [1e-9, 0.005, 0.02])
def test_a_time_limit_keeps_the_best(time_limit):
    X, y, net = regression(seed=4)
    for make in PROGRAMS.values():
        program = make(X, y, net)
        solution = solve_quietly(program, solver="interior_point", tol=TOL, time_limit=time_limit)
        assert complaints(program, net, solution, TOL) == []
        assert solution.status in ("time_limit", "optimal")


@pytest.mark.slow
@pytest.mark.parametrize("regularizer", ["lipschitz", "l2"])
def test_an_interrupted_refinement_is_never_worse(regularizer, rng):
    X, y, net = regression(seed=5, p=5)
    objective = TrainingObjective(X, y, None, regularizer, 1e-2)

    def work():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return refine(net, X, y, regularizer=regularizer, lam=1e-2, pattern_search=1)

    calls = count_calls(work, *WITHIN)
    for k in rng.integers(calls, size=4):
        result = interrupted_at(int(k), work, *WITHIN)
        assert result.after <= result.before == objective(net)
        assert objective(result.network) == pytest.approx(result.after, rel=1e-12)
        steps = [row["objective"] for row in result.history]
        assert steps == sorted(steps, reverse=True)
        if result.solution is not None and result.solution.status == "interrupted":
            assert result.solution.gap > 0


@pytest.mark.slow
def test_an_interrupted_fit_is_never_worse(rng):
    X, y, net = regression(seed=6, p=5)
    model = SafeSNNRegressor(5, lam=1e-2, start=net, pattern_search=1)

    def work():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit(X, y)

    calls = count_calls(work, *WITHIN)
    for k in rng.integers(calls, size=4):
        fitted = interrupted_at(int(k), work, *WITHIN)
        assert fitted.objective_ <= fitted.start_objective_
        assert np.isfinite(fitted.predict(X)).all()
        assert fitted.solution_ is None or fitted.solution_.lower_bound <= fitted.solution_.objective * (1 + 1e-9)


SCRIPT = """
import signal, sys, numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from convexnn.network import Network
from convexnn.patterns import extract
from convexnn.restrictions import LipschitzProgram
from convexnn.solvers import path_following, solve
rng = np.random.default_rng(0)
X = rng.normal(size=(300, 4))
net = Network.shallow(rng.normal(size=(30, 4)), rng.normal(size=30), rng.normal(size=30) / 30, 0.0)
program = LipschitzProgram(X, np.sin(2 * X[:, 0]), extract(net, X), 1e-2, start=net)
step = path_following.PathFollower.step
def slow(self):
    import time
    print("step", flush=True)
    time.sleep(0.5)
    return step(self)
path_following.PathFollower.step = slow
solution = solve(program, solver="interior_point")
worse = program.network_objective(program.decode(solution.z)) > program.network_objective(net)
print(solution.status, solution.violation, worse, solution.lower_bound <= solution.objective, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child")
def test_a_real_signal_ends_with_the_best_point():
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)], stdout=subprocess.PIPE, text=True, cwd=ROOT.parent
    )
    with child:
        for _ in range(4):
            assert child.stdout.readline() == "step\n"
        child.send_signal(signal.SIGINT)
        *_, last = child.stdout.read().splitlines()
    assert child.returncode == 0
    assert last == "interrupted 0.0 False True"

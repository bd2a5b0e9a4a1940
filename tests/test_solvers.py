"""The door to all solvers: who is there, who may be used, how each ending is told, and that nothing is believed."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest

from convexnn.conic import run
from convexnn.exceptions import InvalidInputError, SolverError, SolverWarning
from convexnn.program import Dual, Program, Proposal
from convexnn.solvers import available_solvers, cvx, registry, solve
from tests._instances import PROGRAMS, group_lasso, joint, regression, unstructured

each_program = pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS.keys())

unlicensed_mosek = pytest.mark.skipif(
    importlib.util.find_spec("mosek") is None or run.mosek_refusal() is None,
    reason="needs the mosek package without a licence",
)


# -- who is there ------------------------------------------------------------------------------------
def test_table_of_solvers():
    table = available_solvers()
    own = ["interior_point", "first_order", "column_generation"]
    assert [row.name for row in table] == [*own, "clarabel", "scs", "mosek"]
    assert len(table) == 6
    assert table["interior_point"].usable
    assert table["clarabel"].usable
    assert table["mosek"].licensed == (run.mosek_refusal() is None)
    text = str(table)
    assert len(text.splitlines()) == 7
    assert all(row.name in text for row in table)
    with pytest.raises(KeyError):
        table["simplex"]


def test_unknown_solver_lists_the_names():
    with pytest.raises(InvalidInputError, match="clarabel"):
        solve(group_lasso(*regression()), solver="gurobi")
    with pytest.raises(InvalidInputError, match="mosek"):
        cvx.solve_cvxpy(group_lasso(*regression()), "gurobi")


@pytest.mark.parametrize(
    "options",
    [
        *({"tol": tol} for tol in (0.0, math.nan, "1e-6", None)),
        *({"max_iter": number} for number in (0, 1.5, math.inf, "3")),
        *({"time_limit": seconds} for seconds in (0, math.nan, "1")),
        *({"start": start} for start in ([[math.nan]], [[0.0]], "start", [[1.0], [2.0, 3.0]], regression()[2])),
    ],
)
@pytest.mark.parametrize("solver", ["auto", "first_order", "clarabel"])
def test_unusable_options_are_sentences(solver, options):
    with pytest.raises(InvalidInputError, match="expected"):
        solve(group_lasso(*regression()), solver=solver, **options)


def test_a_generic_solver_cut_short_is_not_worse_than_the_start(monkeypatch):
    program = group_lasso(*regression())
    best = solve(program)
    poor = Proposal(np.zeros_like(best.z), best.dual, "max_iter", 1, "clarabel")
    monkeypatch.setattr(registry, "solve_cvxpy", lambda *_, **__: poor)
    assert solve(program, solver="clarabel", start=best).objective == program.objective(best.z, best.dual)


@unlicensed_mosek
def test_unlicensed_mosek_says_so():
    with pytest.raises(SolverError, match="licence"):
        solve(group_lasso(*regression()), solver="mosek")


def test_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(run, "is_installed", lambda name: False)
    with pytest.raises(SolverError, match="pip install scs"):
        solve(group_lasso(*regression()), solver="scs")


# -- generic solvers ---------------------------------------------------------------------------------
@each_program
def test_clarabel_reaches_a_verified_gap(make):
    program = make(*regression())
    solution = solve(program, solver="clarabel")
    assert (solution.status, solution.solver) == ("optimal", "clarabel")
    assert program.lower_bound(solution.dual) == solution.lower_bound
    assert program.objective(solution.z, solution.dual) == solution.objective


@each_program
def test_scs_brackets_the_optimum(make):
    program = make(*regression(0, 12, 2, 4))
    solution = solve(program, solver="scs", tol=1e-4)
    best = solve(program, solver="interior_point")
    assert solution.lower_bound <= best.objective * (1 + 1e-9)
    assert solution.gap < 1e-2


def test_programs_satisfy_the_protocol():
    for make in (*PROGRAMS.values(), unstructured):
        assert isinstance(make(*regression()), Program)


def test_iteration_limit_is_told():
    solution = solve(joint(*regression()), solver="clarabel", max_iter=1)
    assert solution.status == "max_iter"
    assert solution.lower_bound <= solution.objective


def test_time_limit_is_told():
    solution = solve(joint(*regression(0, 80, 5, 40)), solver="clarabel", time_limit=1e-3)
    assert solution.status in ("time_limit", "max_iter")
    assert solution.gap > 1e-6


def test_interrupt_returns_the_start(monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(cvx, "run_problem", interrupt)
    program = group_lasso(*regression())
    solution = solve(program, solver="clarabel")
    assert solution.status == "interrupted"
    assert np.array_equal(solution.z, program.start)
    assert solution.gap == math.inf


def test_interrupt_without_a_start_is_an_error(monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(cvx, "run_problem", interrupt)
    program = group_lasso(*regression())
    program._start = None
    with pytest.raises(SolverError, match="interrupted"):
        solve(program, solver="clarabel")


def test_the_solvers_own_error_is_the_cause(monkeypatch):
    monkeypatch.setitem(run.OPTIONS, "clarabel", lambda *limits: {"no_such_option": 1})
    with pytest.raises(SolverError, match="clarabel failed") as caught:
        solve(group_lasso(*regression()), solver="clarabel")
    assert caught.value.__cause__ is not None


class Contradiction:
    """Wraps a program and makes its cvxpy form infeasible."""

    def __init__(self, program):
        self._program = program

    def __getattr__(self, name):
        return getattr(self._program, name)

    def cvxpy_problem(self):
        import cvxpy as cp

        problem = self._program.cvxpy_problem()
        U = problem.var_dict["U"]
        return cp.Problem(problem.objective, [*problem.constraints, cp.sum(U) >= 1, cp.sum(U) <= -1])


def test_infeasible_is_an_error():
    with pytest.raises(SolverError, match="infeasible"):
        solve(Contradiction(group_lasso(*regression())), solver="clarabel")


# -- auto --------------------------------------------------------------------------------------------
def test_auto_takes_the_interior_point_method_where_there_is_structure():
    assert solve(joint(*regression())).solver == "interior_point"


@unlicensed_mosek
def test_auto_skips_mosek_in_silence():
    solution = solve(unstructured(*regression()))
    assert (solution.solver, solution.status) == ("clarabel", "optimal")


def _fail(*args, **kwargs):
    raise SolverError("it broke")


@unlicensed_mosek
def test_auto_falls_back_with_a_warning(monkeypatch):
    monkeypatch.setattr(registry, "solve_interior_point", _fail)
    with pytest.warns(SolverWarning, match="it broke"):
        solution = solve(joint(*regression()))
    assert (solution.solver, solution.status) == ("clarabel", "optimal")


def test_auto_without_any_solver_is_an_error(monkeypatch):
    monkeypatch.setattr(registry, "solve_cvxpy", _fail)
    with pytest.warns(SolverWarning), pytest.raises(SolverError, match="no solver"):
        solve(unstructured(*regression()))


def test_auto_keeps_the_better_of_two(monkeypatch):
    monkeypatch.setattr(registry, "_is_poor", lambda solution, request: True)
    monkeypatch.setattr(registry, "solve_cvxpy", _fail)
    with pytest.warns(SolverWarning):
        solution = solve(joint(*regression()))
    assert (solution.solver, solution.status) == ("interior_point", "optimal")


def test_a_named_solver_never_falls_back(monkeypatch):
    monkeypatch.setattr(registry, "solve_interior_point", _fail)
    with pytest.raises(SolverError, match="it broke"):
        solve(joint(*regression()), solver="interior_point")


# -- evidence ----------------------------------------------------------------------------------------
@each_program
def test_no_multiplier_proves_more_than_the_optimum(make, rng):
    program = make(*regression())
    best = solve(program).objective
    n, p = program.structure().D.shape
    order = program.structure().n_weights + p + 1
    for size in 10.0 ** rng.uniform(-4, 2, size=30):
        root = rng.normal(size=(order, order))
        dual = Dual(size * rng.normal(size=n), size * rng.normal(size=(n, p)), size * root @ root.T)
        assert program.lower_bound(dual) <= best * (1 + 1e-9)


def test_one_unit_and_more_units_than_samples():
    for size in ((30, 3, 1), (4, 2, 12)):
        for solver in ("interior_point", "clarabel"):
            assert solve(joint(*regression(0, *size)), solver=solver).is_optimal

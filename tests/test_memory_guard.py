"""The guard in front of generic solvers: figures that grow as they must, refusals that say what to do, a way past."""

import threading
import warnings

import numpy as np
import pytest

from convexnn import Network, solve
from convexnn.certificates.deep_lipschitz import deep_lmi_value
from convexnn.certificates.lipschitz_lmi import lmi_problem, lmi_reference
from convexnn.constraints import UpperBound, train_constrained
from convexnn.exceptions import InvalidInputError, SolverError, SolverWarning
from convexnn.global_gap import best_dual_point
from convexnn.memory import (
    GIB,
    VARIABLE,
    _free_in_group,
    available_memory,
    clique_orders,
    estimated_memory,
    memory_limit,
    nonzeros,
    require_room,
)
from convexnn.patterns import sample
from convexnn.regions.reference import dual_problem, primal_problem
from convexnn.regions.ridges import Units
from convexnn.restrictions import PolynomialProgram, ReluGroupLasso
from convexnn.threats import L2Ball

cp = pytest.importorskip("cvxpy")


def program(rng, n=30, p=6):
    X = rng.standard_normal((n, 3))
    return ReluGroupLasso(X, X[:, 0], sample(X, p, random_state=0), 0.01)


def test_a_dense_inequality_costs_the_square_of_its_entries():
    sizes = [10, 20, 40]
    found = [
        estimated_memory(cp.Problem(cp.Minimize(cp.trace(cp.Variable((k, k), PSD=True)))), "clarabel") for k in sizes
    ]
    assert found[0] < found[1] / 8 < found[2] / 100  # entries go up by four, their square by sixteen
    X = cp.Variable((40, 40), PSD=True)
    assert estimated_memory(cp.Problem(cp.Minimize(cp.trace(X))), "scs") < found[-1] / 50


def test_a_sparse_inequality_is_counted_by_its_cliques(rng):
    arrow = np.eye(9, dtype=bool)
    arrow[:, :2] = arrow[:2] = True
    assert clique_orders(arrow) == [3] * 7
    assert clique_orders(np.eye(4, dtype=bool)) == [1] * 4
    cycle = np.eye(5, dtype=bool) | np.roll(np.eye(5, dtype=bool), 1, axis=0)  # one edge a row: symmetrized
    assert sorted(clique_orders(cycle)) == [3, 3, 3]  # a cycle of five needs two chords
    network = Network.shallow(rng.standard_normal((40, 2)), rng.standard_normal(40), rng.standard_normal(40))
    problem = lmi_problem(network)
    problem.variables()[0].value = None
    dense = 50 * (43 * 44 / 2) ** 2
    assert estimated_memory(problem, "clarabel") < dense / 4
    assert all(variable.value is None for variable in problem.variables())  # the random values are taken back


def test_nonzeros_of_a_product_are_exact(rng):
    U = cp.Variable((6, 3))
    assert nonzeros(rng.standard_normal((30, 3)) @ U.T, {}) == 30 * 6 * 3
    assert nonzeros(cp.sum(U), {}) == 18
    assert nonzeros(U[0], {}) == 3
    assert nonzeros(cp.Constant(np.ones((5, 5))), {}) == 0
    found = cp.Problem(cp.Minimize(cp.sum_squares(rng.standard_normal((30, 3)) @ U.T)))
    A = found.get_problem_data("CLARABEL")[0]["A"]
    assert A.nnz / 3 < nonzeros(found.objective.expr, {}) < 3 * A.nnz


@pytest.mark.parametrize("solver", ["clarabel", "scs"])
def test_a_program_that_does_not_fit_is_refused_with_the_way_out(rng, solver):
    one = program(rng)
    with (
        memory_limit(1e-6),
        pytest.raises(SolverError, match=rf"GiB in {solver}.*GiB are free.*interior_point.*{VARIABLE}"),
    ):
        solve(one, solver=solver)
    with memory_limit(1e-6):
        assert solve(one, solver="interior_point").is_optimal  # no generic solver, no guard
    with memory_limit(float("inf")):
        assert solve(one, solver=solver, tol=1e-4).gap < 1e-2


def test_the_other_reference_programs_are_guarded(rng):
    network = Network.shallow(rng.standard_normal((4, 2)), rng.standard_normal(4), rng.standard_normal(4))
    quadratic = PolynomialProgram(rng.standard_normal((6, 2)), np.array([1.0, -1] * 3), lam=0.1, loss="squared_hinge")
    units = Units(network.W, network.b, network.v, 0.0, "ball")
    calls = [
        lambda: lmi_reference(network),
        lambda: deep_lmi_value(network),
        lambda: solve(quadratic, solver="clarabel"),
        lambda: best_dual_point(network.W, network.b, 0.1),
        lambda: primal_problem(units),
        lambda: dual_problem(units),
    ]
    for call in calls:
        with memory_limit(1e-6), pytest.raises(SolverError, match="GiB are free. Use "):
            call()


def test_constrained_training_is_refused_with_the_way_out(rng):
    """With and without cvxpy: a cap is a matrix inequality of the order of the units."""
    X = rng.uniform(-1, 1, (12, 2))
    for loss in ("squared", "huber"):
        with memory_limit(1e-6), pytest.raises(SolverError, match="GiB are free. Take fewer hidden_units"):
            train_constrained(X, X[:, 0], UpperBound(L2Ball(0.5), 0.2), loss=loss, hidden_units=3, random_state=0)


def test_room_for_dense_inequalities_grows_as_that_of_programs():
    """One dense inequality of order 40 in cvxpy and as an order alone: the same figure but for its nonzeros."""
    X = cp.Variable((40, 40), PSD=True)
    need = estimated_memory(cp.Problem(cp.Minimize(cp.trace(X))), "clarabel") / GIB
    with memory_limit(0.9 * need), pytest.raises(SolverError, match="order 40"):
        require_room(0, [40], "clarabel", "Use less")
    with memory_limit(1.1 * need):
        require_room(0, [40], "clarabel", "Use less")
    with memory_limit(0.1 * need):
        require_room(0, [40], "scs", "Use less")  # keeps no dense block
        with pytest.raises(SolverError, match="GiB are free. Use less"):
            require_room(1e9, [], "scs", "Use less")


def test_the_limit_is_of_the_block_the_thread_or_the_environment(monkeypatch):
    seen = []
    with memory_limit(2.0):
        assert available_memory() == 2 * GIB
        with memory_limit(1.0):
            assert available_memory() == GIB
        thread = threading.Thread(target=lambda: seen.append(available_memory()))
        thread.start()
        thread.join()
        assert available_memory() == 2 * GIB
    monkeypatch.setenv(VARIABLE, "3")
    assert available_memory() == 3 * GIB
    monkeypatch.setenv(VARIABLE, "much")
    with pytest.raises(InvalidInputError, match="'much'"):
        available_memory()
    with pytest.raises(InvalidInputError, match="positive"), memory_limit(0):
        pass
    monkeypatch.delenv(VARIABLE)
    assert seen[0] != 2 * GIB
    assert 0 < available_memory() < float("inf")


def test_control_groups_are_respected(tmp_path):
    assert _free_in_group(str(tmp_path)) == float("inf")
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert _free_in_group(str(tmp_path)) == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert _free_in_group(str(tmp_path)) == float("inf")


def test_auto_goes_on_without_the_generic_solvers(rng, monkeypatch):
    one = program(rng)
    monkeypatch.setattr("convexnn.solvers.registry._is_poor", lambda *arguments: True)
    with memory_limit(1e-6), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert solve(one, tol=1e-6).solver == "interior_point"
    assert {each.category for each in said} == {SolverWarning}
    assert sum("GiB are free" in str(each.message) for each in said) == 2  # Clarabel and SCS

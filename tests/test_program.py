"""evaluate: what is published is recomputed, and a solver's word never makes a point optimal."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from convexnn.program import FEASIBILITY_TOLERANCE, Dual, Program, Proposal, evaluate, global_gap_of, relative_gap


class Parabola:
    """min x^2 + 1 subject to x >= 1, with optimum 2 and optimal multiplier 2."""

    name = "parabola"
    scale = 10.0
    start = None

    def objective(self, z, dual=None) -> float:
        return float(z[0] ** 2 + 1)

    def violation(self, z) -> float:
        return float(max(0.0, 1 - z[0]))

    def lower_bound(self, dual) -> float:
        # min_x x^2 + 1 + mu (1 - x) = 1 + mu - mu^2 / 4, valid for every mu >= 0
        mu = max(float(dual.residual[0]), 0.0)
        return 1 + mu - mu**2 / 4

    def structure(self):
        return None

    def cvxpy_problem(self):
        raise NotImplementedError

    def read_cvxpy(self, problem):
        raise NotImplementedError

    def lift(self, network):
        raise NotImplementedError

    def decode(self, z):
        raise NotImplementedError

    def network_objective(self, network) -> float:
        raise NotImplementedError


def propose(z: float, mu: float | None, status: str = "solved") -> Proposal:
    dual = None if mu is None else Dual(np.array([mu]), np.zeros((1, 1)))
    return Proposal(np.array([z]), dual, status, 7, "oracle", ("a note",))


def run(*arguments, tol: float = 1e-6):
    return evaluate(Parabola(), propose(*arguments), seconds=0.5, tol=tol)


def test_the_protocol_is_met() -> None:
    assert isinstance(Parabola(), Program)


def test_an_optimal_pair_is_proved() -> None:
    solution = run(1.0, 2.0)
    assert (solution.objective, solution.lower_bound, solution.gap, solution.violation) == (2.0, 2.0, 0.0, 0.0)
    assert solution.status == "optimal"
    assert solution.is_optimal
    assert (solution.iterations, solution.seconds, solution.solver, solution.notes) == (7, 0.5, "oracle", ("a note",))


def test_the_gap_is_recomputed_from_any_multiplier(rng) -> None:
    for mu in rng.uniform(-5, 9, size=50):
        solution = run(1.0, mu)
        assert solution.lower_bound <= 2.0
        assert solution.gap == pytest.approx((2.0 - solution.lower_bound) / 2.0)


@pytest.mark.parametrize("word", ["solved", "optimal"])
def test_a_claim_without_evidence_is_not_optimal(word) -> None:
    for z, mu in ((2.0, 2.0), (1.0, 0.5), (1.0, None), (0.9, 2.0), (math.nan, 2.0), (1.0, math.nan)):
        solution = run(z, mu, word)
        assert solution.status == "inaccurate", (z, mu)
        assert not solution.is_optimal


@pytest.mark.parametrize("word", ["max_iter", "time_limit", "interrupted", "stalled", "failed"])
def test_other_endings_are_passed_on_unless_the_evidence_is_there(word) -> None:
    assert run(2.0, 2.0, word).status == word
    assert run(1.0, 2.0, word).status == "optimal"


def test_missing_evidence_is_infinite() -> None:
    solution = run(1.0, None)
    assert solution.lower_bound == -math.inf
    assert solution.gap == math.inf


def test_the_tolerance_is_on_the_relative_gap() -> None:
    z = math.sqrt(1.02)  # objective 2.02, bound 2: relative gap 0.0099
    assert run(z, 2.0, tol=0.01).is_optimal
    assert not run(z, 2.0, tol=0.009).is_optimal


def test_a_point_outside_by_more_than_rounding_is_never_optimal() -> None:
    assert run(1 - 0.1 * FEASIBILITY_TOLERANCE, 2.0).is_optimal
    assert not run(1 - 10 * FEASIBILITY_TOLERANCE, 2.0, tol=0.5).is_optimal


def test_a_bound_above_the_objective_proves_nothing() -> None:
    class Contradiction(Parabola):
        def lower_bound(self, dual) -> float:
            return 3.0

    solution = evaluate(Contradiction(), propose(1.0, 2.0), seconds=0.0)
    assert solution.status == "inaccurate"


def test_relative_gap_has_a_floor_and_no_sign() -> None:
    assert relative_gap(2.0, 1.0, 1.0) == 0.5
    assert relative_gap(-2.0, -3.0, 1.0) == 0.5
    assert relative_gap(1.0, 1.0 + 1e-12, 1.0) == 0.0
    assert relative_gap(0.0, 0.0, 0.0) == 0.0  # constant targets
    assert relative_gap(1e-9, 0.0, 1.0) == pytest.approx(1e-3)  # unit 1e-6 of the zero network's objective
    for bad in ((math.inf, 0.0), (0.0, -math.inf), (math.nan, 0.0), (0.0, math.nan)):
        assert relative_gap(*bad, 1.0) == math.inf


def test_values_print_pickle_and_compare() -> None:
    a, b = run(1.0, 2.0), run(1.0, 2.0)
    b = replace(b, seconds=a.seconds)
    assert a == b
    assert hash(a) == hash(b)
    assert a != run(1.0, 3.0)
    assert a != replace(a, z=a.z + 1)
    assert pickle.loads(pickle.dumps(a)) == a
    assert pickle.loads(pickle.dumps(a)).objective == 2.0
    assert "gap=0.0" in repr(a)
    assert replace(a, seconds=1.0).seconds == 1.0
    assert a.dual == b.dual
    assert propose(1.0, 2.0) == propose(1.0, 2.0)
    assert propose(1.0, 2.0) != propose(3.0, 2.0)
    assert a != "solution"


def test_a_global_bound_above_the_objective_is_no_evidence():
    assert global_gap_of(2.0, 1.0, 4.0) == 0.5
    assert global_gap_of(2.0, 2.0 * (1 + 1e-12), 4.0) == 0.0  # roundoff
    assert global_gap_of(2.0, 2.1, 4.0) == math.inf
    assert global_gap_of(2.0, -math.inf, 4.0) == math.inf

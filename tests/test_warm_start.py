"""Warm starts: never wrong, shorter where the neighbor is near, cold where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import InteriorPair
from convexnn.restrictions import LipschitzProgram, LipschitzRestriction, ReluGroupLasso
from convexnn.solvers import interior_point, solve
from tests._families import few
from tests._instances import PROGRAMS, regression

each_program = pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS.keys())


def interior(program, **options):
    return solve(program, solver="interior_point", **options)


def assert_same_optimum(warm, cold, tol=1e-6):
    assert warm.is_optimal
    assert cold.is_optimal
    assert abs(warm.objective - cold.objective) <= 2 * tol * cold.objective
    assert warm.violation == 0


@each_program
@pytest.mark.parametrize("ratio", few([1.0, 0.8, 1.3, 1e-3, 1e3], [0.8, 1e3]))
def test_another_weight(make, ratio):
    X, y, net = regression(0, 60, 3, 20)
    before = interior(make(X, y, net, 1e-2))
    program = make(X, y, net, 1e-2 * ratio)
    cold, warm = interior(program), interior(program, start=before)
    assert_same_optimum(warm, cold)
    if 0.5 < ratio < 2:
        assert warm.iterations < cold.iterations


@each_program
def test_other_targets_and_weights_of_the_rows(make, rng):
    X, y, net = regression(1, 60, 3, 12)
    before = interior(make(X, y, net))
    program = make(X, y + 0.02 * rng.normal(size=len(y)), net)
    assert_same_optimum(interior(program, start=before), interior(program))


@pytest.mark.parametrize("kind", [LipschitzProgram, ReluGroupLasso])
def test_flipped_patterns(kind):
    X, y, net = regression(2, 80, 3, 15)
    before = interior(kind(X, y, extract(net, X), 1e-2, start=net))
    moved = type(net).shallow(net.W, net.b + 0.02, net.v, net.c)
    patterns = extract(moved, X)
    assert (patterns.D != extract(net, X).D).any()
    program = kind(X, y, patterns, 1e-2, start=moved)
    assert_same_optimum(interior(program, start=before), interior(program))


@pytest.mark.slow
def test_a_path_along_lam_stays_right_and_gets_shorter():
    X, y, net = regression(3, 80, 4, 20)
    patterns = extract(net, X)
    previous, warm, cold = None, 0, 0
    for lam in np.geomspace(1e-1, 1e-3, 12):
        program = LipschitzProgram(X, y, patterns, lam, start=net)
        reference = interior(program)
        solution = interior(program, start=previous)
        assert_same_optimum(solution, reference)
        warm, cold, previous = warm + solution.iterations, cold + reference.iterations, solution
    assert warm < cold


def test_fixed_multiplier_of_the_next_round():
    X, y, net = regression(4, 60, 3, 12)
    first = LipschitzRestriction.at(net, X, y, 1e-2)
    before = interior(first)
    second = LipschitzRestriction.at(first.decode(before.z), X, y, 1e-2, patterns=extract(net, X))
    assert_same_optimum(interior(second, start=before), interior(second))


@each_program
def test_a_spoiled_pair_costs_iterations_and_nothing_else(make, rng):
    X, y, net = regression(5)
    program = make(X, y, net)
    cold = interior(program)
    pair = cold.interior
    assert isinstance(pair, InteriorPair)
    spoiled = [
        InteriorPair(rng.normal(size=pair.z.shape), pair.rows, pair.cone, pair.mu, pair.weight, pair.unit),
        InteriorPair(pair.z, 1e8 * rng.random(pair.rows.shape), pair.cone, pair.mu, pair.weight, pair.unit),
        InteriorPair(pair.z, pair.rows, tuple(np.full_like(a, np.nan) for a in pair.cone), pair.mu, 1.0, pair.unit),
        InteriorPair(np.full_like(pair.z, np.nan), pair.rows, pair.cone, pair.mu, pair.weight, pair.unit),
        InteriorPair(pair.z, pair.rows, (), pair.mu, pair.weight, pair.unit),
        InteriorPair(pair.z[:2], pair.rows, pair.cone, pair.mu, pair.weight, pair.unit),
        InteriorPair(1e3 * pair.z, pair.rows, pair.cone, 1e-30, pair.weight, pair.unit),
    ]
    for bad in spoiled:
        start = type(cold)(**{**vars(cold), "interior": bad})
        assert_same_optimum(interior(program, start=start), cold)


def test_another_number_of_units_or_rows_starts_from_the_point_alone():
    X, y, net = regression(6)
    before = interior(ReluGroupLasso(X, y, extract(net, X), 1e-2))
    fewer = ReluGroupLasso(X[:-3], y[:-3], extract(net, X[:-3]), 1e-2)
    assert_same_optimum(interior(fewer, start=before), interior(fewer))


def test_never_worse_than_the_start_it_is_given():
    X, y, net = regression(7, 60, 4, 12)
    program = LipschitzProgram(X, y, extract(net, X), 1e-2, start=net)
    best = interior(program, tol=1e-8)
    again = interior(program, start=best, max_iter=1)
    assert again.objective <= best.objective * (1 + 1e-12)


def test_a_solution_of_another_solver_is_a_point():
    X, y, net = regression(8)
    program = ReluGroupLasso(X, y, extract(net, X), 1e-2, start=net)
    generic = solve(program, solver="clarabel")
    assert generic.interior is None
    assert_same_optimum(interior(program, start=generic), interior(program))


def test_units_left_out_keep_no_pair(rng):
    X, y, net = regression()
    good = extract(net, X)
    nonsense = rng.random((len(X), 1)) < 0.5
    more = ActivationPatterns(np.hstack([good.D, nonsense]), np.concatenate([good.s, [1]]))
    with pytest.warns(match="no interior"):
        solution = interior(ReluGroupLasso(X, y, more, 1e-2))
    assert solution.interior is None


def test_a_poor_warm_start_is_given_up(monkeypatch):
    monkeypatch.setattr(interior_point, "WARM_STEP", 2.0)  # no step is long enough
    X, y, net = regression(9)
    before = interior(PROGRAMS["joint"](X, y, net, 1e-2))
    program = PROGRAMS["joint"](X, y, net, 8e-3)
    assert_same_optimum(interior(program, start=before), interior(program))


def test_a_start_far_away_that_misleads_is_dropped():
    # four rows fitted exactly at a weight six orders of magnitude below that of the start: warm alone stalls at gap 1
    X = np.array([[-0.64, -1.69], [0.44, -0.56], [0.49, -0.22], [1.63, -0.25]])
    y = np.array([0.71, 0.99, 0.72, 2.2])
    D = np.array([[0, 0, 0, 1], [1, 0, 0, 1], [1, 0, 1, 1], [1, 1, 1, 0]], dtype=bool)
    patterns = ActivationPatterns(D, [1.0, -1.0, 1.0, -1.0])
    before = solve(ReluGroupLasso(X, y, patterns, 0.14), tol=1e-3)
    program = ReluGroupLasso(X, y, patterns, 1e-7)
    assert interior(program, start=before, tol=1e-3).gap <= 1e-3  # and no warning

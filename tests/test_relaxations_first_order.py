"""First-order descent on the dual of the semidefinite relaxation: derivatives, values, what any point proves."""

from __future__ import annotations

import time

import numpy as np
import pytest
from _relaxation_instances import THREATS, corrupted, query_of, sampled_values, with_signs_of_the_centre
from relu_truth import exact_max

from convexnn.propagation.crown import check_crown
from convexnn.propagation.layer_bounds import crown_bounds
from convexnn.propagation.query import Effort
from convexnn.relaxations.arrow.problem import ArrowProblem
from convexnn.relaxations.arrow.starts import dual_start
from convexnn.relaxations.arrow.targets import relaxation_of
from convexnn.relaxations.first_order import FIRST_ORDER
from convexnn.relaxations.quasi_newton import Limits, _two_loops, descend
from convexnn.relaxations.reference import sdp_reference
from convexnn.relaxations.smoothed_dual import SmoothedDual

SLOW = pytest.mark.slow
SHAPES = [((3, 8, 3), "relu"), ((3, 6, 5, 2), "relu"), ((3, 6, 5, 2), "leaky_relu")]


def smoothed(rng, threat, mu):
    query = query_of(rng, (3, 7, 5, 2), threat)
    relaxation = relaxation_of(query, crown_bounds(query))
    problem = ArrowProblem(relaxation, relaxation.forms.outputs[0])
    function = SmoothedDual(problem)
    function.recentre(dual_start(problem), mu)
    return function


@pytest.mark.parametrize("threat", ["box", "ball", "clipped_ball"])
def test_gradient_and_curvature_are_those_of_differences(rng, threat):
    mu, step = 0.05, 1e-5
    function = smoothed(rng, threat, mu)
    n = len(function.scale)
    here, worst, ratios = function(np.zeros(n), mu), 0.0, []
    for index in range(1, n):
        move = step * np.eye(n)[index]
        ahead, behind = function(move, mu), function(-move, mu)
        slope = (ahead.smoothed - behind.smoothed) / (2.0 * step)
        worst = max(worst, abs(slope - here.gradient[index]) / (1e-3 + abs(slope)))
        if function.free[index]:  # the scale makes the second derivative of F one
            ratios.append((ahead.gradient[index] - behind.gradient[index]) / (2.0 * step))
    assert worst < 1e-4
    assert ratios
    np.testing.assert_allclose(ratios, 1.0, rtol=1e-3)


def test_every_iterate_is_a_bound(rng):
    query = query_of(rng, (3, 8, 2), "ball")
    truth, relaxation = exact_max(query)[0], relaxation_of(query, crown_bounds(query))
    problem = ArrowProblem(relaxation, relaxation.forms.outputs[0])
    function, seen = SmoothedDual(problem), []
    function.recentre(dual_start(problem), 0.01)
    descend(function, 0.01, Limits(30, 0.0, 5, lambda point: bool(seen.append(point.bound))))
    assert len(seen) > 5
    assert min(seen) >= truth - 1e-7
    assert np.all(np.diff(seen) <= 0.0)  # the best so far


@pytest.mark.parametrize("threat", ["ball", *(pytest.param(name, marks=SLOW) for name in THREATS if name != "ball")])
def test_value_is_close_to_that_of_the_reference(rng, threat):
    for widths, activation in SHAPES:
        query = query_of(rng, widths, threat, activation)
        bounds = crown_bounds(query)
        evidence = FIRST_ORDER.propose(query, Effort(tol=1e-5))
        found, wanted = FIRST_ORDER.check(query, evidence.multiplier), sdp_reference(query, bounds)
        linear = check_crown(query, {})
        size = 1e-5 * (1.0 + np.abs(wanted).max())
        assert np.all(found >= np.minimum(wanted, linear) - size)
        assert np.all(found <= np.minimum(wanted + 0.02 * (1e-3 + linear - wanted).clip(0.0), linear) + 10.0 * size)


def test_signs_and_stops(rng):
    query = query_of(rng, (3, 12, 3), "ball")
    truth = exact_max(query)
    asked = with_signs_of_the_centre(rng, query, 0.3)
    found = FIRST_ORDER.check(asked, FIRST_ORDER.propose(asked, Effort()).multiplier)
    assert np.all(found >= sampled_values(rng, asked) - 1e-9)
    easy = FIRST_ORDER.propose(query, Effort(stop_below=truth.max() + 50.0))
    assert easy.iterations == 0
    late = FIRST_ORDER.propose(query, Effort(deadline=time.monotonic() - 1.0))
    assert late.status == "time_limit"
    short = FIRST_ORDER.propose(query, Effort(max_iter=3))
    assert short.status == "max_iter"
    assert np.all(FIRST_ORDER.check(query, short.multiplier) >= truth - 1e-9)
    between = 0.5 * (FIRST_ORDER.check(query, FIRST_ORDER.propose(query, Effort()).multiplier) + check_crown(query, {}))
    stopped = FIRST_ORDER.propose(query.rows(0), Effort(stop_below=between[0]))
    assert stopped.status in ("below", "optimal")
    assert FIRST_ORDER.check(query.rows(0), stopped.multiplier)[0] <= between[0] + 1e-9


@pytest.mark.parametrize("threat", ["ball", pytest.param("clipped_box", marks=SLOW)])
def test_any_multipliers_are_valid(rng, threat):
    query = query_of(rng, (3, 6, 3, 2), threat)
    truth, evidence = exact_max(query), FIRST_ORDER.propose(query, Effort())
    for multiplier in corrupted(rng, evidence.multiplier):
        assert np.all(FIRST_ORDER.check(query, multiplier) >= truth - 1e-7)


def test_the_two_loops_are_the_bfgs_formula(rng):
    """Pairs of a quadratic with Hessian H: the secant equation ``B^-1 y = s`` holds for the last pair."""
    H = np.diag(rng.uniform(0.5, 4.0, 5))
    steps = rng.standard_normal((3, 5))
    pairs = [(step, H @ step) for step in steps]
    np.testing.assert_allclose(_two_loops(pairs[-1][1], pairs), pairs[-1][0], rtol=1e-12)
    np.testing.assert_allclose(_two_loops(np.ones(5), []), np.ones(5))

"""Exact maxima by mixed-integer programs: equal to enumeration, honest about cutoffs and about whose word they are."""

from __future__ import annotations

import time

import numpy as np
import pytest
from _relaxation_instances import query_of, with_signs_of_the_centre
from relu_truth import exact_max

from convexnn.propagation.crown import check_crown
from convexnn.propagation.query import Effort
from convexnn.relaxations.linear import LP
from convexnn.relaxations.mixed_integer import MILP

SHAPES = [((2, 6, 3), "relu"), ((3, 4, 3, 2), "relu"), ((3, 4, 3, 2), "leaky_relu"), ((2, 1, 1), "relu")]
SLOW = pytest.mark.slow
EXACT = Effort(tol=1e-7)


@pytest.mark.parametrize(
    "threat", ["flat_box", *(pytest.param(t, marks=SLOW) for t in ("box", "clipped_box", "point"))]
)
def test_equals_enumeration(rng, threat):
    for widths, activation in SHAPES:
        query = query_of(rng, widths, threat, activation)
        for asked in (query, with_signs_of_the_centre(rng, query)):
            truth, evidence = exact_max(asked), MILP.propose(asked, EXACT)
            bound = evidence.details["solver_bound"]
            np.testing.assert_allclose(bound, truth, atol=2e-5 * (1.0 + np.abs(truth).max()))
            assert np.all(bound >= truth - 1e-9)
            assert np.all(evidence.details["solver_value"] <= truth + 1e-5)


def test_the_check_proves_what_the_linear_relaxation_proves(rng):
    query = query_of(rng, (3, 6, 3), "box")
    evidence = MILP.propose(query, EXACT)
    proved = MILP.check(query, evidence.multiplier)
    np.testing.assert_allclose(proved, LP.check(query, LP.propose(query, EXACT).multiplier), rtol=1e-6)
    assert np.all(proved >= evidence.details["solver_bound"] - 1e-9)
    assert np.all(MILP.check(query, {}) >= evidence.details["solver_bound"] - 1e-9)


@pytest.mark.parametrize("count", [1, pytest.param(8, marks=SLOW)])
def test_cutoffs_on_both_sides(rng, count):
    """Dropped nodes do not count in the bound that HiGHS reports, so a bound below the cutoff is never claimed."""
    for _ in range(count):
        query = query_of(rng, (3, 10, 2), "box")
        truth = exact_max(query)[0]
        for above in (1e-3, 0.05, 0.3, 2.0):
            evidence = MILP.propose(query, Effort(tol=1e-7, stop_below=truth + above))
            assert truth - 1e-9 <= evidence.details["solver_bound"][0] < truth + above
            assert evidence.status == "optimal"
        for below in (1e-3, 0.3):
            evidence = MILP.propose(query, Effort(tol=1e-7, stop_below=truth - below))
            assert evidence.details["solver_bound"][0] >= truth - 1e-9
            if evidence.status == "hopeless":  # stopped at an input that reaches the target
                assert evidence.details["solver_value"][0] >= truth - below - 1e-6


def test_stops(rng):
    query = query_of(rng, (3, 8, 4), "box")
    late = MILP.propose(query, Effort(deadline=time.monotonic() - 1.0))
    assert late.status == "time_limit"
    assert np.all(late.details["solver_bound"] <= check_crown(query, {}) + 1e-6)  # never worse than what was there
    assert np.all(late.details["solver_bound"] >= exact_max(query) - 1e-9)
    empty = query.with_signs((np.array([1, 0, 0, 0, 0, 0, 0, 0], dtype=np.int8),))
    assert np.all(MILP.propose(empty, EXACT).details["solver_bound"] == -np.inf)


def test_balls_are_refused(rng):
    assert "box" in MILP.refusal(query_of(rng, (2, 5, 2), "ball"))
    assert MILP.refusal(query_of(rng, (2, 5, 2), "box")) is None

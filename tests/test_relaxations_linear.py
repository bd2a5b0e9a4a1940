"""The triangle relaxation: two roads to its value, what its prices prove, and where it lies between other bounds."""

from __future__ import annotations

import time

import numpy as np
import pytest
from _relaxation_instances import CORNERS, THREATS, corrupted, query_of, sampled_values, with_signs_of_the_centre
from relu_truth import exact_max

from convexnn.activations import Tanh
from convexnn.network import Network
from convexnn.propagation.crown import check_crown, check_interval
from convexnn.propagation.layer_bounds import crown_bounds
from convexnn.propagation.query import Effort, Query
from convexnn.relaxations.linear import LP
from convexnn.relaxations.prices import priced_bounds, slope_prices
from convexnn.relaxations.reference import sdp_reference, triangle_reference

SHAPES = [((2, 6, 3), "relu"), ((3, 5, 4, 2), "relu"), ((3, 5, 4, 2), "leaky_relu"), ((3, 4, 3, 4, 1), "relu")]


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


def lp_bounds(query, effort=Effort()):  # noqa: B008
    evidence = LP.propose(query, effort)
    assert evidence.status == "optimal"
    return LP.check(query, evidence.multiplier)


@pytest.mark.parametrize(
    "threat", ["flat_box", "clipped_ball", *(slow(name) for name in THREATS if name != "clipped_ball")]
)
def test_value_is_that_of_the_reference(rng, threat):
    for widths, activation in SHAPES[1:3]:
        query = query_of(rng, widths, threat, activation)
        for asked in (query, with_signs_of_the_centre(rng, query)):
            found, wanted = lp_bounds(asked), triangle_reference(asked, crown_bounds(asked))
            np.testing.assert_allclose(found, wanted, atol=2e-6 * (1.0 + np.abs(wanted).max()))


@pytest.mark.parametrize("threat", [*THREATS, *CORNERS])
def test_between_the_truth_and_cheaper_bounds(rng, threat):
    for widths, activation in SHAPES:
        query = query_of(rng, widths, threat, activation)
        found, bounds = lp_bounds(query), crown_bounds(query)
        size = 1e-7 * (1.0 + np.abs(found).max())
        assert np.all(sampled_values(rng, query) <= found + size)
        assert np.all(found <= check_crown(query, bounds.multiplier) + size)
        assert np.all(found <= check_interval(query, {}) + size)
        assert np.all(found <= LP.check(query, {}) + size)  # prices zero: the interval of the last layer


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_above_enumeration_and_tight_without_unstable_units(rng, scale):
    query = query_of(rng, (2, 6, 3), "box", scale=scale)
    truth, found = exact_max(query), lp_bounds(query)
    assert np.all(found >= truth - 1e-9 * scale**2)
    small = Query(query.network, query_of(rng, (2, 6, 3), "small").inputs, query.weights, query.offset)
    np.testing.assert_allclose(lp_bounds(small), exact_max(small), atol=1e-6 * scale**2)


def test_an_empty_part_of_the_set_has_no_maximum(rng):
    query = query_of(rng, (2, 6, 3), "box")
    signs = (np.array([1, 0, 0, 0, 0, 0], dtype=np.int8),)  # the dead unit is asked to be active
    evidence = LP.propose(query.with_signs(signs), Effort())
    assert np.all(LP.check(query.with_signs(signs), evidence.multiplier) == -np.inf)


def test_any_prices_are_valid(rng):
    """And the optimal ones are reproduced by the check alone, which has only them."""
    tight = False
    for threat in ("clipped_box", "ball", "clipped_ball"):
        query = with_signs_of_the_centre(rng, query_of(rng, (3, 5, 4, 3), threat), 0.3)
        truth, evidence = exact_max(query), LP.propose(query, Effort())
        for multiplier in corrupted(rng, evidence.multiplier):
            assert np.all(LP.check(query, multiplier) >= truth - 1e-7)
        assert np.all(LP.check(query, {key: np.ones(7) for key in evidence.multiplier}) == np.inf)
        tight |= bool(np.any(LP.check(query, evidence.multiplier) <= truth + 1e-3))
    assert tight


def test_prices_of_slopes_prove_the_crown_bound(rng):
    """Proposition 1 contains backward linear bounds: a chord or a line through zero is a choice of price."""
    for threat in ("box", "ball"):
        query = query_of(rng, (3, 6, 2), threat)
        bounds = crown_bounds(query)
        priced = priced_bounds(query, bounds, slope_prices(query, bounds))
        np.testing.assert_allclose(priced, check_crown(query, {}), rtol=1e-9)


def test_stops(rng):
    query = query_of(rng, (3, 8, 4), "box")
    late = LP.propose(query, Effort(deadline=time.monotonic() - 1.0))
    assert late.status == "time_limit"
    assert np.all(LP.check(query, late.multiplier) <= check_crown(query, {}) + 1e-9)  # what was there is kept
    best = lp_bounds(query)
    easy = LP.propose(query, Effort(stop_below=best.max() + 100.0))
    assert easy.iterations == 0
    first = LP.propose(query, Effort(stop_below=best.min() - 1.0, first_failure=True))
    assert len(first.points) == 1


def test_smooth_units_are_refused(rng):
    query = query_of(rng, (2, 5, 2), "box")
    other = Network(query.network.layers, Tanh())
    assert "crown" in LP.refusal(Query(other, query.inputs, query.weights, query.offset))
    assert LP.refusal(query) is None


@pytest.mark.parametrize("threat", [slow("box"), "ball", slow("clipped_ball")])
def test_the_semidefinite_reference_with_triangles_is_below(rng, threat):
    for widths, activation in (SHAPES[0], SHAPES[2]):
        query = query_of(rng, widths, threat, activation)
        bounds = crown_bounds(query)
        triangle = sdp_reference(query, bounds, triangle=True)
        size = 1e-5 * (1.0 + np.abs(triangle).max())
        assert np.all(triangle <= lp_bounds(query) + size)
        assert np.all(triangle <= sdp_reference(query, bounds) + size)
        assert np.all(triangle >= exact_max(query) - size)


def test_references_with_more_rows_are_tighter(rng):
    query = query_of(rng, (3, 4, 3, 2), "box")
    bounds = crown_bounds(query)
    plain = sdp_reference(query, bounds)
    assert np.all(sdp_reference(query, bounds, triangle=True, rlt=True) <= plain + 1e-6)
    assert np.all(sdp_reference(query, bounds, substitute=False) >= plain - 1e-5)  # stable units as variables

"""The structured semidefinite solver: against cvxpy, enumeration and samples; stops, warm starts and signs."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from convexnn.activations import LeakyReLU
from convexnn.network import Network
from convexnn.propagation.input_set import InputSet
from convexnn.propagation.layer_bounds import crown_bounds
from convexnn.propagation.query import Effort, Query
from convexnn.relaxations.arrow import SDP, bound_rows
from convexnn.relaxations.arrow.certifier import propose_sdp
from convexnn.relaxations.arrow.evidence import linear_bounds
from convexnn.relaxations.arrow.targets import PLAIN
from convexnn.relaxations.linear import LP
from convexnn.relaxations.reference import sdp_reference
from convexnn.threats import L2Ball, LInfBall
from tests._arrow_instances import SETS, exact_maximum, random_network, random_query, sampled_maximum

TIGHT = Effort(tol=1e-7)


def checked(query, effort=TIGHT, **options):
    """Bounds as published: proposed, then checked."""
    return SDP.check(query, propose_sdp(query, effort, **options).multiplier)


def split(query, rng):
    """The query with the sign of its least stable unit of the first layer, and of one more."""
    bounds = crown_bounds(query)
    room = np.minimum(bounds.upper[0], -bounds.lower[0])
    signs = tuple(np.zeros(n, dtype=np.int8) for n in query.network.n_hidden)
    signs[0][np.argmax(room)] = rng.choice([-1, 1])
    signs[-1][-1] = rng.choice([-1, 1])
    return query.with_signs(signs)


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("widths", [(4, 6, 2), (3, 5, 4, 2)])
@pytest.mark.parametrize("triangle", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_equals_the_program_in_cvxpy(rng, kind, widths, triangle):
    query = random_query(rng, widths, kind, "relu" if triangle else LeakyReLU(0.2), radius=1.0)
    if kind != "ball":
        query = split(query, rng)
    bounds = crown_bounds(query)
    expected = sdp_reference(query, bounds, triangle=triangle)
    found = SDP.check(query, propose_sdp(query, TIGHT, bounds, extra=replace(PLAIN, triangle=triangle)).multiplier)
    np.testing.assert_allclose(found, np.minimum(expected, linear_bounds(query, bounds)), atol=3e-6, rtol=3e-6)


@pytest.mark.parametrize("kind", SETS)
def test_between_samples_and_linear_bounds_and_close_to_the_truth(rng, kind):
    gaps = []
    for widths in ((2, 1, 1), (5, 8, 3), (4, 6, 5, 2), (3, 4, 4, 4, 2)):
        query = random_query(rng, widths, kind, LeakyReLU(0.1) if len(widths) == 4 else "relu", rows=2)
        found, low = checked(query, Effort()), sampled_maximum(rng, query)
        assert np.all(found >= low)
        assert np.all(found <= linear_bounds(query, crown_bounds(query)))
        gaps.append(found - low)
    assert np.min(gaps) < 0.02  # tight at least once


@pytest.mark.parametrize("activation", ["relu", pytest.param(LeakyReLU(0.3), marks=pytest.mark.slow)])
def test_never_below_enumeration_and_close_to_it(rng, activation):
    for _ in range(3):
        query = random_query(rng, (3, 5, 2), "box", activation, rows=2)
        for case in (query, split(query, rng)):
            exact, found = exact_maximum(case), checked(case)
            finite = np.isfinite(exact)
            assert np.all(found[finite] >= exact[finite])
            assert np.all(found[finite] <= exact[finite] + 0.2)


def test_a_split_only_tightens_and_its_sides_cover_the_set(rng):
    query = random_query(rng, (4, 7, 5, 2), "ball", radius=1.0, rows=2)
    whole, bounds = checked(query), crown_bounds(query)
    unit = int(np.argmax(np.minimum(bounds.upper[1], -bounds.lower[1])))
    sides = []
    for sign in (-1, 1):
        signs = tuple(np.zeros(n, dtype=np.int8) for n in query.network.n_hidden)
        signs[1][unit] = sign
        side = query.with_signs(signs)
        sides.append(checked(side))
        assert np.all(sides[-1] >= sampled_maximum(rng, side))
        assert np.all(sides[-1] <= whole + 1e-6)
    assert np.all(np.max(sides, axis=0) >= sampled_maximum(rng, query))
    assert np.min(np.max(sides, axis=0) - whole) < -1e-4  # the split is worth something


@pytest.mark.parametrize("kind", SETS)
def test_with_triangles_never_above_the_linear_program(rng, kind):
    for widths in ((4, 8, 3), (4, 6, 6, 3)):
        query = random_query(rng, widths, kind, radius=1.0, rows=2)
        bounds = crown_bounds(query)
        linear = LP.check(query, LP.propose(query, Effort(), bounds).multiplier)
        found = SDP.check(query, propose_sdp(query, TIGHT, bounds, extra=replace(PLAIN, triangle=True)).multiplier)
        assert np.all(found <= linear + 1e-5 * (1.0 + np.abs(linear)))


def test_stops_early_on_either_side_of_the_target(rng):
    query = random_query(rng, (6, 12, 9, 4), "ball", radius=1.0, rows=3)
    full = propose_sdp(query, TIGHT)
    value = SDP.check(query, full.multiplier)
    for row in range(3):
        one = query.rows(row)
        above = propose_sdp(one, Effort(tol=1e-7, stop_below=value[row] + 0.05))
        below = propose_sdp(one, Effort(tol=1e-7, stop_below=value[row] - 0.05))
        assert above.status == "below"
        assert below.status == "hopeless"
        assert SDP.check(one, above.multiplier)[0] < value[row] + 0.05
        assert max(above.iterations, below.iterations) < full.details["iterations"][row]


def test_warm_starts_find_the_values_of_cold_ones(rng):
    query = random_query(rng, (8, 14, 12, 5), "box", radius=0.6, rows=6)
    value = checked(query)
    target = float(np.median(value)) + 0.02
    together = propose_sdp(query, Effort(stop_below=target))
    verdicts = SDP.check(query, together.multiplier) < target
    np.testing.assert_array_equal(verdicts, value < target)
    first = propose_sdp(query, Effort(stop_below=target, first_failure=True))
    order = np.argsort(-linear_bounds(query, crown_bounds(query)))
    failed = order[np.flatnonzero(value[order] >= target)[0]]
    assert first.details["statuses"][failed] == "hopeless"
    assert first.iterations < together.iterations
    assert np.all(SDP.check(query, first.multiplier) >= value - 1e-6)


def test_rows_below_the_target_by_lines_alone_have_no_multiplier(rng):
    query = random_query(rng, (5, 8, 3), "box", rows=3)
    lines = linear_bounds(query, crown_bounds(query))
    target = float(np.sort(lines)[1]) + 1e-9
    evidence = propose_sdp(query, Effort(stop_below=target))
    assert set(np.flatnonzero(lines < target)) == {r for r in range(3) if f"row{r}/y" not in evidence.multiplier}
    found = SDP.check(query, evidence.multiplier)
    np.testing.assert_array_equal(found[lines < target], lines[lines < target])


def test_deadlines_and_iteration_limits_give_the_best_so_far(rng):
    query = random_query(rng, (5, 9, 7, 2), "box", radius=0.8)
    low, lines = sampled_maximum(rng, query), linear_bounds(query, crown_bounds(query))
    late = propose_sdp(query, Effort(deadline=time.monotonic() - 1.0))
    assert late.status == "time_limit"
    np.testing.assert_array_equal(SDP.check(query, late.multiplier), lines)
    bounds = []
    for limit in (1, 3, 6, 40):
        evidence = propose_sdp(query, Effort(max_iter=limit))
        assert evidence.status == ("max_iter" if limit < 7 else "optimal")
        bounds.append(SDP.check(query, evidence.multiplier)[0])
        assert low[0] <= bounds[-1] <= lines[0]
    assert bounds == sorted(bounds, reverse=True)


def test_rotations_of_a_ball_and_permuted_units_change_nothing(rng):
    query = random_query(rng, (6, 9, 4, 2), "ball", radius=0.8)
    (W, b), (V, c), last = query.network.layers
    Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    order = rng.permutation(9)
    turned = Network((((W @ Q.T)[order], b[order]), (V[:, order], c), last), "relu")
    other = replace(query, network=turned, inputs=InputSet.around(Q @ query.inputs.centre, L2Ball(0.8)))
    np.testing.assert_allclose(checked(other), checked(query), atol=1e-5)


def test_moments_are_good_attack_starts_and_scores_point_at_unstable_units(rng):
    for kind in SETS:
        query = random_query(rng, (12, 10, 8, 3), kind, radius=0.8)
        evidence = propose_sdp(query, TIGHT)
        assert evidence.points.shape[1] == 12
        values = query.values(query.inputs.project(evidence.points))
        assert sampled_maximum(rng, query, 400)[0] < values.max() <= SDP.check(query, evidence.multiplier)[0]
    layer, unit, score = evidence.details["branching"]
    bounds = crown_bounds(query)
    assert len(layer) == len(unit) == len(score) > 0
    assert all(bounds.lower[k][j] < 0 < bounds.upper[k][j] for k, j in zip(layer, unit, strict=True))
    assert np.all(score >= 0)


def test_reuse_of_a_state_gives_the_same_bound(rng):
    query = random_query(rng, (6, 10, 8, 2), "ball", radius=0.8, rows=2)
    bounds = crown_bounds(query)
    effort = Effort(stop_below=-100.0)
    first = bound_rows(query, bounds, effort)
    again = bound_rows(query, bounds, effort, first.state)
    assert set(again.status.split()) <= {"hopeless", "optimal"}
    assert first.status == again.status


def test_names_the_first_order_method_where_the_system_is_too_large(rng):
    network = random_network(rng, (1500, 1300, 2))
    query = Query(network, InputSet.around(np.zeros(1500), LInfBall(10.0)), np.eye(2), np.zeros(2))
    assert "sdp_first_order" in SDP.refusal(query)
    assert propose_sdp(query, Effort()).status.startswith("failed")
    assert SDP.refusal(replace(query, network=Network(network.layers, "tanh"))) is not None
    assert SDP.refusal(random_query(rng, (4, 3, 2), "box")) is None


@pytest.mark.parametrize("kind", SETS)
def test_scaled_outputs_have_scaled_bounds_and_the_same_iterations(rng, kind):
    query = random_query(rng, (5, 8, 6, 2), kind, radius=0.8, rows=2)
    first = propose_sdp(query, Effort())
    for factor in (2.0**-20, 2.0**20):
        scaled = replace(query, weights=factor * query.weights, offset=factor * query.offset)
        other = propose_sdp(scaled, Effort())
        np.testing.assert_array_equal(other.details["iterations"], first.details["iterations"])
        np.testing.assert_allclose(
            SDP.check(scaled, other.multiplier), factor * SDP.check(query, first.multiplier), rtol=1e-6
        )


def test_parts_without_points_end_below_everything():
    # x <= 0 and x >= 1/2 exclude each other, which no interval sees; |f| <= 3 on [-1, 1]
    network = Network(((np.ones((3, 1)), np.array([0.0, -0.5, 0.25])), (np.ones((1, 3)), np.zeros(1))), "relu")
    query = Query(network, InputSet.box([-1.0], [1.0]), np.ones((1, 1)), np.zeros(1))
    part = query.with_signs((np.array([-1, 1, 0], dtype=np.int8),))
    evidence = propose_sdp(part, Effort())
    assert not crown_bounds(part).empty
    assert SDP.check(part, evidence.multiplier)[0] < 0.0  # the smallest value of f
    assert evidence.status == "optimal"
    assert evidence.iterations < 30

"""Bounds of single units hold whatever the evidence says, and read_bounds finds the same numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from relu_truth import exact_max

from convexnn.activations import LeakyReLU
from convexnn.branching.certifier import BRANCH_AND_BOUND
from convexnn.network import Network
from convexnn.propagation.layer_bounds import crown_bounds, read_bounds
from convexnn.propagation.query import Effort, Query
from convexnn.relaxations.tightening import Known, Tightening, known_evidence, tighten, unit_query
from convexnn.threats import L2Ball, LInfBall

THREATS = (LInfBall(0.4), L2Ball(0.6), L2Ball(0.6, clip=(-0.7, 0.7)))
PLAN = Tightening(steps=10, units=3)


def query_of(rng, hidden=(6, 6), threat=THREATS[0], activation="relu", inputs=3):
    sizes = [inputs, *hidden, 2]
    layers = [
        (rng.standard_normal((units, below)), 0.3 * rng.standard_normal(units))
        for below, units in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    return Query.of_rivals(Network(layers, activation), 0.3 * rng.standard_normal(inputs), 0, threat)


def assert_contains(query, bounds, rng):
    centre = query.inputs.centre
    X = query.inputs.project(centre + rng.uniform(-1, 1, (2000, len(centre))))
    for z, low, high in zip(query.network.pre_activations(X), bounds.lower, bounds.upper, strict=True):
        assert np.all(z >= low - 1e-12)
        assert np.all(z <= high + 1e-12)


@pytest.mark.parametrize("threat", THREATS)
def test_tightened_bounds_hold_and_are_read_again(rng, threat):
    for hidden, activation in (((5, 6), "relu"), ((4, 4, 4), LeakyReLU(0.1))):
        query = query_of(rng, hidden, threat, activation)
        plain, found = crown_bounds(query), tighten(query, plan=PLAN)
        assert_contains(query, found, rng)
        again = read_bounds(query, found.multiplier)
        for a, b in zip((*found.lower, *found.upper), (*again.lower, *again.upper), strict=True):
            np.testing.assert_array_equal(a, b)
        assert sum(float((w - v).sum()) for v, w in zip(found.upper, plain.upper, strict=True)) > 0
        assert all(np.all(a >= b) for a, b in zip(found.lower, plain.lower, strict=True))


@pytest.mark.slow
def test_semidefinite_bounds_of_units_are_close_to_the_exact_ones(rng):
    query = query_of(rng, (5, 4), inputs=2)
    plain, found = crown_bounds(query), tighten(query, plan=Tightening(steps=0, units=4, tol=1e-5))
    rows = np.array([1, 2, 3, 4, -1, -2, -3, -4])
    exact = exact_max(unit_query(query, 1, rows))
    crossing = np.tile((found.lower[1] < 0) & (found.upper[1] > 0), 2)
    proved = np.concatenate([found.upper[1], -found.lower[1]])
    assert np.all(proved >= exact - 1e-7)
    before = np.concatenate([plain.upper[1], -plain.lower[1]])
    assert np.sum((proved - exact)[crossing]) < 0.6 * np.sum((before - exact)[crossing])
    linear = tighten(query, plan=Tightening(steps=0, units=4, method="lp"))
    assert np.all(linear.upper[1] >= exact[:4] - 1e-7)


@pytest.mark.parametrize("threat", THREATS[:2])
def test_corrupted_evidence_stays_valid(rng, threat):
    query = query_of(rng, (5, 5, 4), threat)
    good = {key: np.array(value) for key, value in tighten(query, plan=PLAN).multiplier.items()}
    units = sorted(key for key in good if key.startswith("bounds/units/"))
    assert len(units) > 4
    for _ in range(25):
        bad = dict(good)
        key, other = rng.choice(units, 2)
        kind = rng.integers(6)
        if kind == 0:
            bad[key], bad[other] = bad[other], bad[key]
        elif kind == 1:
            bad[key] = rng.choice([np.nan, np.inf, -1e300, 0.0]) * np.ones_like(bad[key])
        elif kind == 2:
            bad[key] = bad[key] + rng.standard_normal(bad[key].shape)
        elif kind == 3:
            bad[key] = bad[key][1:]
        elif kind == 4:
            bad[key] = -bad[key]
        else:
            rows = rng.choice([key for key in units if key.endswith("/rows")])
            bad[rows] = rng.permutation(bad[rows])
        assert_contains(query, read_bounds(query, bad), rng)


@pytest.mark.parametrize("rows", [[], [0.0], [7.0], [1.5], [[1.0]], [np.nan], np.ones(20)])
def test_rows_that_name_no_units_change_nothing(rng, rows):
    query = query_of(rng)
    plain = crown_bounds(query)
    for layer in ("1", "0", "9", "x", "-1"):
        found = read_bounds(query, {f"bounds/units/{layer}/lp/rows": np.array(rows)})
        np.testing.assert_array_equal(found.upper[1], plain.upper[1])


def test_known_bounds_count_only_for_parts_of_their_set(rng):
    query, wrong = query_of(rng), query_of(rng)
    plain = crown_bounds(query)
    shrunk = replace(plain, lower=tuple(0.5 * low for low in plain.lower))
    signs = tuple(np.zeros(6, dtype=np.int8) for _ in range(2))
    part = query.with_signs((np.array([1, 0, 0, 0, 0, 0], dtype=np.int8), signs[1]))
    assert Known(query, shrunk).covers(part)
    assert not Known(part, shrunk).covers(query)
    assert not Known(part, shrunk).covers(query.with_signs(signs))
    np.testing.assert_array_equal(
        read_bounds(wrong, known_evidence(query, shrunk)).lower[0], crown_bounds(wrong).lower[0]
    )
    np.testing.assert_array_equal(read_bounds(query, {"bounds/known": np.zeros(3)}).lower[0], plain.lower[0])
    assert np.all(read_bounds(part, known_evidence(query, plain)).lower[1] >= crown_bounds(part).lower[1])


@pytest.mark.slow
def test_branch_and_bound_from_tightened_bounds(rng):
    for threat in THREATS[:2]:
        query = query_of(rng, (4, 4), threat, inputs=2)
        evidence = BRANCH_AND_BOUND.propose(query, Effort(tol=1e-5), tighten(query, plan=PLAN))
        bound, truth = BRANCH_AND_BOUND.check(query, evidence.multiplier), exact_max(query)
        assert any(key.startswith("bounds/") for key in evidence.multiplier)
        np.testing.assert_allclose(bound, truth, atol=1e-4 * max(1.0, float(np.abs(truth).max())))
        without = {key: value for key, value in evidence.multiplier.items() if not key.startswith("bounds/")}
        assert np.all(BRANCH_AND_BOUND.check(query, without) >= truth - 1e-7)


def test_no_time_leaves_the_bounds_as_they_are(rng):
    query = query_of(rng)
    found = tighten(query, Effort(deadline=0.0), plan=PLAN)
    assert_contains(query, found, rng)

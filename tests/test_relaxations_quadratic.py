"""Polynomial networks as a certifier: exact over balls, above every point over boxes, from any multipliers."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from _relaxation_instances import CORNERS, THREATS, corrupted, query_of, sampled_values

from convexnn.activations import Identity, Polynomial, ReLU
from convexnn.certificates.quadratic_margins import certify_quadratic
from convexnn.network import Network
from convexnn.propagation.query import Effort, Query
from convexnn.threats import L2Ball
from convexnn.verification.quadratic import QUADRATIC


def polynomial_query(rng, widths, threat, activation=None):
    query = query_of(rng, widths, threat)
    chosen = Polynomial(*rng.standard_normal(3)) if activation is None else activation
    return replace(query, network=Network(query.network.layers, chosen))


def bounds_of(query):
    evidence = QUADRATIC.propose(query, Effort())
    return QUADRATIC.check(query, evidence.multiplier), query.values(evidence.points).max(axis=0)


@pytest.mark.parametrize("threat", [*THREATS, *CORNERS, "flat_box"])
def test_between_points_and_bounds(rng, threat):
    for widths in ((3, 5, 3), (1, 1, 1), (4, 2, 2)):
        for activation in (None, Identity()):
            query = polynomial_query(rng, widths, threat, activation)
            bound, attained = bounds_of(query)
            size = 1e-9 * (1.0 + np.abs(bound).max())
            assert np.all(bound >= np.maximum(sampled_values(rng, query), attained) - size)
            if threat in ("ball", "dot", "huge", "point") or isinstance(activation, Identity) and "ball" not in threat:
                np.testing.assert_allclose(bound, attained, atol=1e-6 * (1.0 + np.abs(bound).max()))


def test_equals_the_certification_of_many_samples(rng):
    query = polynomial_query(rng, (4, 6, 3), "ball")
    X, y = rng.uniform(size=(5, 4)), rng.integers(0, 3, 5)
    wanted = certify_quadratic(query.network, X, y, L2Ball(0.3)).margins
    queries = [Query.of_rivals(query.network, x, label, L2Ball(0.3)) for x, label in zip(X, y, strict=True)]
    found = [bounds_of(asked)[0].max() for asked in queries]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_any_multipliers_are_valid(rng):
    for threat in ("box", "ball", "clipped_ball"):
        query = polynomial_query(rng, (3, 5, 2), threat)
        evidence = QUADRATIC.propose(query, Effort())
        low = np.maximum(sampled_values(rng, query), query.values(evidence.points).max(axis=0))
        for multiplier in [*corrupted(rng, evidence.multiplier), {}, {key: np.ones(9) for key in evidence.multiplier}]:
            assert np.all(QUADRATIC.check(query, multiplier) >= low - 1e-9 * (1.0 + np.abs(low)))


def test_what_cannot_be_done_is_said(rng):
    query = polynomial_query(rng, (3, 5, 2), "ball")
    assert QUADRATIC.refusal(query) is None
    assert "polynomial" in QUADRATIC.refusal(replace(query, network=Network(query.network.layers, ReLU())))
    assert QUADRATIC.propose(query, Effort(deadline=time.monotonic() - 1.0)).status == "time_limit"

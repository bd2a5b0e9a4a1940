"""Lipschitz bounds as certifiers: above every sample, exact where the network is linear, and from any multipliers."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from _relaxation_instances import CORNERS, THREATS, corrupted, network_of, query_of, sampled_values
from relu_truth import exact_max

from convexnn.activations import Polynomial
from convexnn.certificates.lipschitz import lipschitz_pairs
from convexnn.network import Network
from convexnn.propagation.input_set import InputSet
from convexnn.propagation.query import Effort, Query
from convexnn.relaxations.lipschitz_bounds import LIPSDP, MAX_GRADIENT
from convexnn.threats import L2Ball, LInfBall

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "sigmoid", "identity")
BOTH = (LIPSDP, MAX_GRADIENT)


def bounds_of(certifier, query):
    return certifier.check(query, certifier.propose(query, Effort()).multiplier)


@pytest.mark.parametrize("threat", [*THREATS, *CORNERS, "flat_box"])
def test_above_every_sample(rng, threat):
    for activation in ACTIVATIONS:
        for widths in ((3, 6, 3), (2, 4, 3, 2), (1, 1, 1)):
            query = query_of(rng, widths, threat, activation, scale=10.0 ** rng.integers(-2, 3))
            low = sampled_values(rng, query, 200)
            for certifier in BOTH:
                if certifier.refusal(query) is None:
                    assert np.all(bounds_of(certifier, query) >= low - 1e-12 * (1.0 + np.abs(low)))


@pytest.mark.parametrize("threat", ["box", "flat_box", "ball"])
def test_linear_networks_are_exact(rng, threat):
    """Constant slopes: the gradient is one vector, and a box of any shape costs its own half widths."""
    query = query_of(rng, (4, 5, 3), threat, "identity")
    weights = query.weights @ query.network.layers[1][0] @ query.network.layers[0][0]
    centre = query.values(query.inputs.centre[None])[0]
    half = 0.5 * (query.inputs.bounding_box()[1] - query.inputs.bounding_box()[0])
    box = np.abs(weights) @ half
    exact = centre + (np.linalg.norm(weights, axis=1) * query.inputs.radius if threat == "ball" else box)
    np.testing.assert_allclose(bounds_of(MAX_GRADIENT, query), exact, rtol=1e-4)


def test_rates_are_those_of_the_certificates_of_pairs(rng):
    network = network_of(rng, (4, 7, 3))
    x, label = rng.uniform(size=4), 1
    for norm, threat, certifier in ((2, L2Ball(0.3), LIPSDP), (np.inf, LInfBall(0.3), MAX_GRADIENT)):
        query = Query.of_rivals(network, x, label, threat)
        rates = (bounds_of(certifier, query) - query.values(x[None])[0]) / 0.3
        np.testing.assert_allclose(rates, np.delete(lipschitz_pairs(network, norm=norm)[label], label), rtol=2e-4)


def test_boxes_of_any_shape_beat_the_cube_around_them(rng):
    """Proposition 3: the multipliers of the cube, weighted by half widths, prove less than the largest half width."""
    network = network_of(rng, (5, 8, 2))
    centre, half = rng.uniform(size=5), np.array([0.3, 0.3, 0.1, 0.02, 0.0])
    narrow = Query(network, InputSet.box(centre - half, centre + half), np.array([[1.0, -1.0]]), np.zeros(1))
    cube = replace(narrow, inputs=InputSet.box(centre - 0.3, centre + 0.3))
    multiplier = MAX_GRADIENT.propose(cube, Effort()).multiplier
    found = MAX_GRADIENT.check(narrow, multiplier)
    own = bounds_of(MAX_GRADIENT, narrow)[0]
    assert exact_max(narrow)[0] <= own < found[0] < MAX_GRADIENT.check(cube, multiplier)[0]
    easy = MAX_GRADIENT.propose(narrow, Effort(stop_below=found[0] + 1e-9)).multiplier
    assert MAX_GRADIENT.check(narrow, easy)[0] == found[0]  # the multipliers of the cube are enough


def test_any_multipliers_are_valid(rng):
    for threat in ("box", "ball"):
        for widths in ((3, 6, 2), (2, 4, 3, 2)):
            query = query_of(rng, widths, threat)
            truth = exact_max(query)
            for certifier in BOTH:
                if certifier.refusal(query) is not None:
                    continue
                good = certifier.propose(query, Effort()).multiplier
                for multiplier in [*corrupted(rng, good), {}, {key: np.ones(9) for key in good}]:
                    assert np.all(certifier.check(query, multiplier) >= truth - 1e-9)


def test_what_cannot_be_done_is_said(rng):
    query = query_of(rng, (3, 5, 2), "ball")
    unbounded = replace(query, network=Network(query.network.layers, Polynomial()))
    assert "slopes" in LIPSDP.refusal(unbounded)
    assert "one hidden layer" in MAX_GRADIENT.refusal(query_of(rng, (3, 4, 4, 2), "ball"))
    assert LIPSDP.propose(query, Effort(deadline=time.monotonic() - 1.0)).status == "time_limit"
    assert np.all(LIPSDP.check(query, {}) >= exact_max(query))  # the product of the norms

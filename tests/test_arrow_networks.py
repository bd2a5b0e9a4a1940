"""The structured semidefinite solver on networks and test points of others: counts that the literature compares."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.network import Network
from convexnn.propagation.layer_bounds import crown_bounds
from convexnn.propagation.query import Effort, Query
from convexnn.relaxations.arrow import SDP
from convexnn.relaxations.arrow.evidence import linear_bounds
from convexnn.threats import L2Ball, LInfBall
from tests._shared import require_shared

SPECTRAL = "mnist_mlp_784-100-100-10_sdpcrown.npz"
LIPSDP = "mnist_mlp_784-50-10_lipsdp_nobias.npz"


def read_network(name):
    """A network of the shared folder."""
    with np.load(require_shared("models", name)) as arrays:
        pairs = range(len(arrays.files) // 2)
        return Network([(arrays[f"W{i}"].astype(float), arrays[f"b{i}"].astype(float)) for i in pairs], "relu")


def clean_points(network, n):
    """The first n test points, those that are classified correctly."""
    with np.load(require_shared("models", "mnist_sdp200_testpoints.npz")) as arrays:
        X, y = arrays["X"][:n].astype(float), arrays["y"][:n].astype(int)
    right = network(X).argmax(axis=1) == y
    return list(zip(X[right], y[right], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "threat", "n", "certified"),
    [
        (LIPSDP, L2Ball(0.5), 100, 52),
        (SPECTRAL, L2Ball(1.0), 12, 5),
        ("mnist_fc_3layer_lirpa.npz", LInfBall(0.02, clip=(0.0, 1.0)), 20, 16),
    ],
)
def test_as_many_samples_are_certified_as_attacks_leave(name, threat, n, certified):
    network, found = read_network(name), 0
    for x, label in clean_points(network, n):
        query = Query.of_rivals(network, x, label, threat)
        evidence = SDP.propose(query, Effort(stop_below=-1e-6, first_failure=True))
        bounds = SDP.check(query, evidence.multiplier)
        found += bool(bounds.max() < 0)
        assert not evidence.status.startswith("failed")
        starts = query.inputs.project(evidence.points) if evidence.points.size else x[None]
        attained = query.values(starts).max(axis=0)
        done = np.array([word in ("below", "optimal", "hopeless") for word in evidence.details["statuses"]])
        assert np.all(bounds[done] >= attained[done])
    assert found == certified


@pytest.mark.slow
def test_pairs_at_full_accuracy_close_the_gap_of_the_linear_bounds():
    # PGD with many restarts attains -5.7005, 3.0460 and 3.2786; mixed-integer programs prove -5.6578, 3.0511 and 3.3123
    network, threat = read_network(LIPSDP), LInfBall(0.05, clip=(0.0, 1.0))
    expected = [(-5.6578, -5.5197), (3.0511, 3.2510), (3.3123, 3.4212)]
    for (x, label), (exact, upper) in zip(clean_points(network, 3), expected, strict=True):
        query = Query.of_rivals(network, x, label, threat)
        query = query.rows(int(np.argmax(query.values(x[None])[0])))  # the runner-up
        bounds = crown_bounds(query)
        evidence = SDP.propose(query, Effort(), bounds)
        value = SDP.check(query, evidence.multiplier)[0]
        assert exact - 1e-4 <= value <= upper + 2e-4
        assert linear_bounds(query, bounds)[0] > value + 3.0
        assert query.values(query.inputs.project(evidence.points)).max() > exact - 0.05
        assert abs(value - evidence.details["proposals"][0]) < 1e-6

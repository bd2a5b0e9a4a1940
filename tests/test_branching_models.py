"""Exact margins of trained networks: against HiGHS, and the values that it gave for a published one."""

from __future__ import annotations

import numpy as np
import pytest
from _shared import require_shared

from convexnn.branching.certifier import BRANCH_AND_BOUND
from convexnn.network import Network
from convexnn.propagation.query import Effort, Query
from convexnn.relaxations.mixed_integer import MILP
from convexnn.threats import L2Ball, LInfBall

pytestmark = pytest.mark.slow


def runner_up(net, x, label, threat):
    query, outputs = Query.of_rivals(net, x, label, threat), net(x[None])[0]
    return query.rows([int(np.argmax(np.delete(outputs, label)))])


def test_digits_agree_with_the_mixed_integer_program():
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    X, y = load_digits(return_X_y=True)
    X = X / 16.0
    model = MLPClassifier((24,), max_iter=100, random_state=0, tol=10.0, n_iter_no_change=25).fit(X[:600], y[:600])
    net = Network.from_sklearn(model)
    for i in range(1000, 1004):
        query = runner_up(net, X[i], int(y[i]), LInfBall(0.1, clip=(0.0, 1.0)))
        evidence = BRANCH_AND_BOUND.propose(query, Effort())
        bound = BRANCH_AND_BOUND.check(query, evidence.multiplier)
        exact = MILP.propose(query, Effort(tol=1e-7)).details["solver_value"]
        np.testing.assert_allclose(bound, exact, atol=1e-3)
        assert evidence.details["lower"][0] <= bound[0]
        ball = runner_up(net, X[i], int(y[i]), L2Ball(0.4))
        found = BRANCH_AND_BOUND.propose(ball, Effort())
        assert found.status == "optimal"
        assert BRANCH_AND_BOUND.check(ball, found.multiplier)[0] - found.details["lower"][0] < 1e-3


def test_the_published_network_has_the_margins_of_the_mixed_integer_program():
    models = require_shared("models", "mnist_mlp_784-50-10_lipsdp_nobias.npz")
    weights, points = np.load(models), np.load(models.parent / "mnist_sdp200_testpoints.npz")
    net = Network([(weights[f"W{i}"], weights[f"b{i}"]) for i in range(2)])
    threat = LInfBall(0.05, clip=(0.0, 1.0))
    for i, exact in enumerate((-5.6578, 3.0511, 3.3123)):  # HiGHS, gap 1e-6
        query = runner_up(net, points["X"][i].astype(float), int(points["y"][i]), threat)
        evidence = BRANCH_AND_BOUND.propose(query, Effort())
        assert evidence.iterations <= 25
        assert abs(BRANCH_AND_BOUND.check(query, evidence.multiplier)[0] - exact) < 1e-3

"""The ellipsoid around a box: sound for every metric, and improved without ever getting worse."""

import itertools

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError
from convexnn.restrictions.polynomial import PolynomialProgram
from convexnn.restrictions.polynomial_metric import MetricLoss, better_metric, metric_around
from convexnn.restrictions.polynomial_multiclass import MulticlassPolynomialProgram


def point(rng, program):
    _, k, size, _ = program.structure().z_shape
    z = np.zeros((2, k, size, size))
    for part in z.reshape(-1, size, size):
        u = rng.normal(size=(3, size - 1)) * np.arange(1, size)
        rows = np.hstack([u / np.linalg.norm(u, axis=1, keepdims=True), np.ones((3, 1))])
        part += (rows.T * rng.uniform(size=3)) @ rows
    return z


def programs(rng, radius=0.3):
    X = rng.normal(size=(12, 3))
    metric = metric_around(np.full(3, radius), radius)
    common = {"lam": 0.1, "radius": radius, "metric": metric}
    yield PolynomialProgram(X, np.sign(X[:, 0]), loss="squared_hinge", **common)
    yield PolynomialProgram(X, X[:, 0] ** 2, loss="squared", **common)
    yield MulticlassPolynomialProgram(X, np.arange(12) % 3, loss="logistic", **common)


def test_the_box_lies_in_the_ellipsoid(rng):
    for scale in (1e-6, 1.0, 1e6):
        for _ in range(50):
            d = int(rng.integers(1, 6))
            box, shape = scale * rng.exponential(size=d), rng.exponential(size=d) ** 3
            metric = metric_around(box, 0.7 * scale, shape)
            np.testing.assert_allclose(metric / metric[0], shape / shape[0], rtol=1e-12)
            assert (metric * box**2).sum() <= (0.7 * scale) ** 2
    for bad in ([1.0, -1.0], [0.0, 1.0], [np.nan, 1.0]):
        with pytest.raises(InvalidInputError, match="positive"):
            metric_around(bad, 1.0)
    with pytest.raises(InvalidInputError, match="same length"):
        metric_around([1.0, 1.0], 1.0, [1.0])


def test_gradient_in_the_logarithms(rng):
    for program in programs(rng):
        loss = MetricLoss(program.structure(), point(rng, program), np.full(3, 0.3))
        logs = rng.normal(size=3)
        gradient = loss(logs)[1]
        steps = 1e-6 * np.eye(3)
        numeric = [(loss(logs + step)[0] - loss(logs - step)[0]) / 2e-6 for step in steps]
        np.testing.assert_allclose(gradient, numeric, atol=1e-7)
        assert np.abs(gradient).max() > 1e-4
        assert gradient.sum() == pytest.approx(0, abs=1e-12)  # only ratios matter


def test_the_loss_falls_and_stays_above_that_of_the_box(rng):
    corners = 0.3 * np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    gains = []
    for program in programs(rng):
        structure, z = program.structure(), point(rng, program)
        metric = better_metric(structure, z, np.full(3, 0.3))
        assert metric @ np.full(3, 0.09) <= 0.09
        loss = MetricLoss(structure, z, np.full(3, 0.3))
        before, after = loss(np.log(structure.metric))[0], loss(np.log(metric))[0]
        assert before == pytest.approx(program.terms(z)["loss"], rel=1e-12)
        gains.append(before - after)
        network = program.decode(z)
        attacked = [structure.loss_value(_margins(structure, network, step)) for step in corners]
        assert max(attacked) <= after + 1e-12
    assert min(gains) >= 0
    assert max(gains) > 1e-3


def _margins(structure, network, step):
    """Margin terms where every sample is moved by one and the same step of the box."""
    scores = network(structure.X + step).reshape(len(structure.X), -1)
    scores = np.hstack([scores, np.zeros((len(scores), 1))])  # index -1: absent
    return scores[structure.rows, structure.plus] - scores[structure.rows, structure.minus]


def test_equal_directions_keep_the_equal_metric(rng):
    # one unit along (1, 1, 1) and data on that line: exchanging coordinates changes nothing
    X = rng.normal(size=(8, 1)) @ np.ones((1, 3))
    program = PolynomialProgram(X, np.sign(X[:, 0]), lam=0.1, radius=0.3, metric=metric_around(np.full(3, 0.3), 0.3))
    u = np.append(np.full(3, 1 / np.sqrt(3)), 1.0)
    z = np.stack([np.outer(u, u)[None], np.zeros((1, 4, 4))])
    metric = better_metric(program.structure(), z, np.full(3, 0.3))
    np.testing.assert_allclose(metric, metric.mean(), rtol=1e-6)

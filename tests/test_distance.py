"""Distance to the decision boundary: the semidefinite program, the exact worst case, rigorous radii, corners."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn import (
    Identity,
    InvalidInputError,
    L2Ball,
    Network,
    Polynomial,
    UnsupportedModelError,
    attack,
    certified_radius,
    distance_to_boundary,
)
from convexnn.certificates.distance_sdp import distance_by_sdp
from convexnn.quadratic.boundary import nearest_zero
from convexnn.quadratic.form import QuadraticForm
from convexnn.quadratic.trust_region import minimize_over_ball


def classifier(rng: np.random.Generator, d: int, k: int = 1) -> Network:
    W, b, V = rng.standard_normal((12, d)) / np.sqrt(d), rng.standard_normal(12), rng.standard_normal((k, 12))
    return Network.shallow(W, b, V, rng.standard_normal(k), Polynomial(0.3, 0.5, 0.2))


def predictions(network: Network, X: np.ndarray) -> np.ndarray:
    outputs = network(X)
    return outputs.argmax(axis=1) if outputs.ndim == 2 else (outputs > 0).astype(int)


@pytest.mark.parametrize("d", [2, 8])
def test_distances_equal_those_of_the_semidefinite_program(d: int, rng: np.random.Generator) -> None:
    network, X = classifier(rng, d), rng.standard_normal((15, d))
    y = predictions(network, X)
    expected = distance_by_sdp(QuadraticForm.of_network(network), X, 2.0 * y - 1.0)
    np.testing.assert_allclose(distance_to_boundary(network, X, y), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("k", [1, 3])
def test_points_lie_on_the_boundary_and_smaller_balls_are_robust(k: int, rng: np.random.Generator) -> None:
    network, X = classifier(rng, 6, k), rng.standard_normal((200, 6))
    y = predictions(network, X)
    distances, points = distance_to_boundary(network, X, y, return_points=True)
    np.testing.assert_allclose(np.linalg.norm(points - X, axis=1), distances, rtol=1e-9)
    outputs = network(points).reshape(200, -1)
    own = outputs[np.arange(200), y] if k > 1 else np.zeros(200)
    rival = np.sort(outputs, axis=1)[:, -2 if k > 1 else 0] * (1.0 if k > 1 else -1.0)
    np.testing.assert_allclose(own, np.where(own >= outputs.max(axis=1), rival, outputs.max(axis=1)), atol=1e-9)
    for radius in (0.1, float(np.median(distances))):
        found = attack(network, X, y, L2Ball(radius), method="exact")
        clear = np.abs(distances - radius) > 1e-9
        assert (found.success == (distances < radius))[clear].all()


@pytest.mark.parametrize("k", [1, 4])
def test_certified_radii_are_just_below_the_distances(k: int, rng: np.random.Generator) -> None:
    network, X = classifier(rng, 5, k), rng.standard_normal((300, 5))
    y = predictions(network, X)
    distances, radii = distance_to_boundary(network, X, y), certified_radius(network, X, y)
    assert (radii < distances).all()
    assert (radii >= distances * (1 - 1e-5)).all()
    wrong = (y + 1) % max(k, 2)
    assert not distance_to_boundary(network, X, wrong).any()
    assert not certified_radius(network, X, wrong).any()


KINDS = ("generic", "convex", "concave", "hard", "near hard", "linear", "centred", "repeated")


@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
@pytest.mark.parametrize("kind", KINDS)
def test_the_trust_region_at_the_distance_has_minimum_zero(kind: str, scale: float, rng: np.random.Generator) -> None:
    # Two roads: the nearest zero is at distance r exactly when the minimum over the ball of radius r is zero.
    n, d = 300, 6
    L, g, h = rng.standard_normal((n, d)), 0.3 * rng.standard_normal((n, d)), rng.uniform(0.01, 1.0, n)
    rows, lowest = np.arange(n), L.argmin(axis=1)
    L = {"convex": np.abs(L), "concave": -np.abs(L), "linear": 0.0 * L, "repeated": np.round(L)}.get(kind, L)
    g = 0.0 * g if kind == "centred" else g
    if "hard" in kind:
        g[rows, lowest] = 0.0 if kind == "hard" else 10.0 ** -rng.uniform(3, 250, n)
    found = nearest_zero(scale * h, scale * g, scale * L)
    near = np.isfinite(found.distances)
    if not near.all():  # no zero: the quadratic is convex with a positive minimum
        away = ~near
        assert (L[away] >= 0).all()
        gain = np.divide(g[away] ** 2, L[away], out=np.zeros((away.sum(), d)), where=L[away] > 0)
        assert (h[away] >= gain.sum(axis=1)).all()
    step, ball = found.steps[near], minimize_over_ball(L[near], g[near], found.distances[near])
    size = h[near] + (np.abs(L[near]) * step**2 + 2 * np.abs(g[near] * step)).sum(axis=1)
    value = h[near] + (L[near] * step**2 + 2 * g[near] * step).sum(axis=1)
    assert near.any()
    assert (np.abs(value) <= 1e-13 * size).all()
    assert (np.abs(h[near] + ball.values) <= 1e-13 * size).all()


def test_margins_and_slopes_of_opposite_extremes(rng: np.random.Generator) -> None:
    # A linear function is zero at h / (2 |g|): 5e-601 underflows, 1e150 / 2e-150 is a number.
    g = np.array([[1e300, 0.0]])
    assert nearest_zero(np.array([1e-300]), g, np.zeros((1, 2))).distances[0] <= 1e-300
    far = nearest_zero(np.array([1e150]), 1e-300 * (1e-150 * g), np.zeros((1, 2))).distances[0]
    np.testing.assert_allclose(far, 5e299, rtol=1e-12)


def test_no_boundary_is_infinitely_far_and_a_finite_radius_is_proved() -> None:
    # f(x) = x'x + 1 > 0 everywhere: label 1 is never lost, label 0 never right.
    network = Network.shallow(np.eye(2), np.zeros(2), np.ones(2), 1.0, Polynomial(1.0, 0.0, 0.0))
    X = np.array([[0.0, 0.0], [3.0, 4.0]])
    distances, points = distance_to_boundary(network, X, [1, 1], return_points=True)
    assert np.isinf(distances).all()
    assert np.isnan(points).all()
    radii = certified_radius(network, X, [1, 1])
    assert ((radii > 1e3) & np.isfinite(radii)).all()
    assert not distance_to_boundary(network, X, [0, 0]).any()


def test_hyperplanes_have_their_formula(rng: np.random.Generator) -> None:
    # f(x) = g'x + c: |f(x)| / |g|.
    network = Network.shallow(rng.standard_normal((3, 4)), np.zeros(3), rng.standard_normal(3), 0.2, Identity())
    X = rng.standard_normal((40, 4))
    slope = np.linalg.norm(network.gradient(X[:1])[0])
    found = distance_to_boundary(network, X, predictions(network, X))
    np.testing.assert_allclose(found, np.abs(network(X)) / slope, rtol=1e-12)


def test_a_scaler_is_folded_and_labels_are_those_of_the_model(rng: np.random.Generator) -> None:
    network, X = classifier(rng, 3), rng.standard_normal((50, 3)) * [1.0, 10.0, 0.1]

    class Fitted(ClassifierMixin, BaseEstimator):
        classes_ = np.array(["no", "yes"])
        network_ = network

        def fit(self, X, y=None):
            return self

        def __sklearn_is_fitted__(self):
            return True

        def predict(self, X):
            return self.classes_[predictions(network, X)]

    pipeline = make_pipeline(StandardScaler(), Fitted()).fit(X, np.zeros(50))
    y = pipeline.predict(X)
    found = distance_to_boundary(pipeline, X, y)
    folded = network.fold_scaling(pipeline.steps[0][1])
    np.testing.assert_array_equal(found, distance_to_boundary(folded, X, (y == "yes").astype(int)))
    assert (found > 0).all()


def test_other_models_and_bad_input_are_refused(rng: np.random.Generator) -> None:
    X = np.zeros((2, 2))
    with pytest.raises(UnsupportedModelError, match="quadratic functions"):
        distance_to_boundary(Network.shallow(np.eye(2), np.zeros(2), np.ones(2)), X, [0, 1])
    network = classifier(rng, 2)
    for points, y in ((X * np.nan, [0, 1]), (X, [0, 2]), (X, [0]), (np.zeros((2, 3)), [0, 1])):
        for function in (distance_to_boundary, certified_radius):
            with pytest.raises(InvalidInputError):
                function(network, points, y)

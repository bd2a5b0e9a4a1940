"""Fitted coefficients: the published ones, closed forms, sampled projections, scaling."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.activations import Polynomial
from convexnn.exceptions import InvalidInputError
from convexnn.restrictions.polynomial_coefficients import fit_coefficients


def test_the_published_coefficients_are_the_fit_on_five():
    # E over [-R, R]: a = 15 / (32 R), b = 1/2, c = 3 R / 32; R = 5 rounds to (0.09, 0.5, 0.47)
    a, b, c = fit_coefficients(half_range=5.0)
    assert (a, b, c) == pytest.approx((15 / 160, 0.5, 15 / 32), rel=1e-5)
    assert (round(a, 2), round(b, 2), round(c, 2)) == (0.09, 0.5, 0.47)
    assert fit_coefficients(half_range=2.0) == pytest.approx((15 / 64, 0.5, 6 / 32), rel=1e-5)


def test_polynomials_are_their_own_fit(rng):
    X = rng.standard_normal((20, 4))
    for half_range in (None, 0.01, 300.0):
        found = fit_coefficients(X, activation=Polynomial(-0.3, 2.0, 5.0), half_range=half_range)
        assert found == pytest.approx((-0.3, 2.0, 5.0), rel=1e-6)


@pytest.mark.parametrize("d", [1, 2, 3, 12])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_projections_on_all_directions_are_those_of_random_directions(d, activation, rng):
    from convexnn.activations import get_activation

    X = rng.standard_normal((30, d)) * np.linspace(0.5, 3, 30)[:, None]
    U = rng.standard_normal((4000, d))
    U /= np.linalg.norm(U, axis=1, keepdims=True)
    t = (X @ U.T).ravel()
    design = np.stack([t * t, t, np.ones_like(t)], axis=1)
    sampled = np.linalg.lstsq(design, get_activation(activation)(t), rcond=None)[0]
    assert np.abs(np.array(fit_coefficients(X, activation=activation)) - sampled).max() <= 0.02


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_fit_to_relu_scales_with_the_data(scale, rng):
    # relu(s t) = s relu(t): (a, b, c) becomes (a / s, b, c s)
    X = rng.standard_normal((15, 5))
    a, b, c = fit_coefficients(X)
    assert fit_coefficients(scale * X) == pytest.approx((a / scale, b, c * scale), rel=1e-9)


def test_weights_and_many_samples(rng):
    X = rng.standard_normal((12, 3))
    weights = rng.integers(1, 4, 12)
    assert fit_coefficients(X, sample_weight=weights) == pytest.approx(fit_coefficients(np.repeat(X, weights, axis=0)))
    many = rng.standard_normal((5000, 3))
    parts = np.mean([fit_coefficients(part) for part in np.split(many, 5)], axis=0)
    assert fit_coefficients(many) == pytest.approx(parts, rel=0.01)


def test_what_cannot_be_fitted_is_refused():
    for call in (
        lambda: fit_coefficients(),
        lambda: fit_coefficients(half_range=0.0),
        lambda: fit_coefficients(np.zeros((3, 2))),
        lambda: fit_coefficients([[np.nan]]),
        lambda: fit_coefficients([[1.0]], activation="cosine"),
    ):
        with pytest.raises(InvalidInputError):
            call()

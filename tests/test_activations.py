"""Activations: slopes by finite differences, slope intervals, ties, names."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from convexnn.activations import (
    ACTIVATIONS,
    Identity,
    LeakyReLU,
    Polynomial,
    ReLU,
    Sigmoid,
    Tanh,
    get_activation,
)
from convexnn.exceptions import InvalidInputError

EVERY = [ReLU(), LeakyReLU(0.2), LeakyReLU(0.0), Polynomial(), Polynomial(0.0, 0.3, 1.0), Identity(), Tanh(), Sigmoid()]
each = pytest.mark.parametrize("activation", EVERY, ids=repr)


@each
def test_derivative_agrees_with_finite_differences(activation, rng) -> None:
    z = rng.uniform(-4, 4, size=(50, 3))
    z[np.abs(z) < 1e-3] = 1.0  # away from the kink
    h = 1e-6
    slope = (activation(z + h) - activation(z - h)) / (2 * h)
    np.testing.assert_allclose(activation.derivative(z), slope, atol=1e-8)
    assert activation(z).shape == activation.derivative(z).shape == z.shape


@each
def test_every_secant_lies_in_the_slope_interval(activation, rng) -> None:
    a, b = rng.uniform(-8, 8, size=(2, 4000))
    secant = (activation(a) - activation(b)) / (a - b)
    low, high = activation.slopes
    assert (secant >= low - 1e-9).all()
    assert (secant <= high + 1e-9).all()


@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.2), Tanh(), Sigmoid()], ids=repr)
def test_the_slope_interval_is_the_smallest(activation) -> None:
    slopes = activation.derivative(np.linspace(-40, 40, 100_001))
    np.testing.assert_allclose((slopes.min(), slopes.max()), activation.slopes, atol=1e-12)


def test_ties_are_active() -> None:
    zero = np.array([0.0, -0.0])
    assert ReLU().derivative(zero).tolist() == [1.0, 1.0]
    assert LeakyReLU(0.3).derivative(zero).tolist() == [1.0, 1.0]


@each
def test_large_arguments_do_not_overflow(activation) -> None:
    z = np.array([-1e4, 1e4])
    assert np.isfinite(activation(z)).all()
    assert np.isfinite(activation.derivative(z)).all()


@each
def test_integers_have_real_slopes(activation) -> None:
    assert activation.derivative(np.arange(3)).dtype == np.float64


@each
def test_name_and_parameters_give_the_activation_back(activation) -> None:
    assert get_activation(activation.name, activation.parameters) == activation
    assert get_activation(activation) is activation
    assert pickle.loads(pickle.dumps(activation)) == activation
    assert isinstance(activation, ACTIVATIONS[activation.name])


@pytest.mark.parametrize("unknown", ["swish", "ReLU", None, 3, ReLU])
def test_unknown_activations_are_named_with_the_choices(unknown) -> None:
    with pytest.raises(InvalidInputError, match="expected one of"):
        get_activation(unknown)


def test_unusable_parameters() -> None:
    for slope in (-0.1, 1.0, np.nan, np.inf):
        with pytest.raises(InvalidInputError, match="slope"):
            LeakyReLU(slope)
    with pytest.raises(InvalidInputError, match="finite"):
        Polynomial(a=np.inf)
    with pytest.raises(InvalidInputError, match="relu"):
        get_activation("relu", (1.0,))

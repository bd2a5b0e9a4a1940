"""Networks as scikit-learn models: the same predictions, pickles, and training that goes on from there."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from convexnn.activations import LeakyReLU
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network, as_network
from convexnn.refinement import refine


def made(rng, sizes, activation="relu"):
    pairs = zip(sizes, sizes[1:], strict=False)
    return Network([(rng.standard_normal((b, a)), rng.standard_normal(b)) for a, b in pairs], activation)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "identity"])
@pytest.mark.parametrize("sizes", [(3, 5, 1), (3, 5, 4, 2)])
def test_regressors_predict_the_same(rng, sizes, activation):
    network, X = made(rng, sizes, activation), rng.standard_normal((20, 3))
    model = network.to_sklearn()
    assert type(model) is MLPRegressor
    np.testing.assert_allclose(model.predict(X), network(X), rtol=1e-12, atol=1e-12)
    assert as_network(model) == network  # there and back
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert model.score(X, network(X)) == pytest.approx(1.0)
    assert clone(model).get_params() == model.get_params()


@pytest.mark.parametrize(("k", "classes"), [(1, ["no", "yes"]), (2, [3, 7]), (3, ["a", "b", "c"]), (4, [0, 1, 2, 3])])
def test_classifiers_predict_the_same(rng, k, classes):
    network, X = made(rng, (3, 6, k)), rng.standard_normal((50, 3))
    model = network.to_sklearn(classes)
    values = network(X)
    index = (values > 0).astype(int) if k == 1 else values.argmax(axis=1)
    assert type(model) is MLPClassifier
    np.testing.assert_array_equal(model.predict(X), np.asarray(classes)[index])
    logits = np.stack([0 * values, values], axis=1) if k == 1 else values
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        model.predict_proba(X), shares / shares.sum(axis=1, keepdims=True), rtol=1e-9, atol=1e-12
    )
    if k != 2:
        assert as_network(model) == network


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_training_goes_on_from_there(rng, solver):
    network, X = made(rng, (3, 6, 1)), rng.standard_normal((40, 3))
    y = network(X) + 0.01 * rng.standard_normal(40)
    model = network.to_sklearn(warm_start=True, max_iter=2, solver=solver, random_state=0, alpha=0.0)
    before = np.mean((model.predict(X) - y) ** 2)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    moved = max(np.abs(as_network(model).W - network.W).max(), np.abs(as_network(model).v - network.v).max())
    assert 0 < moved < 0.2  # a few steps from these weights, not from random ones
    assert np.mean((model.predict(X) - y) ** 2) < 10 * before + 1e-3
    once = network.to_sklearn(random_state=0)
    once.partial_fit(X, y)
    assert np.abs(as_network(once).W - network.W).max() < 0.02


def test_a_refined_model_is_of_the_same_type_and_weights_are_copies(rng):
    network, X = made(rng, (3, 6, 1)), rng.standard_normal((40, 3))
    model = network.to_sklearn()
    found = refine(model, X, np.sin(X[:, 0]), lam=0.01)
    assert type(found.model) is MLPRegressor
    np.testing.assert_allclose(found.model.predict(X), found.network(X), rtol=1e-9, atol=1e-9)
    copied = copy.deepcopy(network)
    model.coefs_[0][:] = 0
    assert network == copied


def test_what_does_not_fit_is_refused(rng):
    with pytest.raises(UnsupportedModelError, match="leaky_relu"):
        made(rng, (3, 4, 1), LeakyReLU(0.1)).to_sklearn()
    network = made(rng, (3, 4, 3))
    for classes in ([0, 1], [0, 0, 1], [[0], [1], [2]]):
        with pytest.raises(InvalidInputError, match="3 different labels"):
            network.to_sklearn(classes)
    with pytest.raises(InvalidInputError, match="sorted"):
        network.to_sklearn([2, 1, 0])

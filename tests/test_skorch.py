"""skorch nets alone and in pipelines: read, refined, attacked and certified like the modules they hold."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from convexnn.attacks import attack
from convexnn.certificates.lipschitz import lipschitz
from convexnn.exceptions import UnsupportedModelError
from convexnn.network import Network, as_network
from convexnn.refinement import refine
from convexnn.threats import L2Ball
from convexnn.verification import certify

skorch = pytest.importorskip("skorch")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def data(n=60):
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((n, 3)) * [1.0, 5.0, 0.2] + [0.0, 3.0, 1.0]).astype(np.float32)
    return X, (X[:, 0] + 0.2 * X[:, 1]).astype(np.float32)


def net(kind, outputs, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, outputs))
    return kind(module, max_epochs=20, lr=0.05, verbose=0, train_split=None, **settings)


def fitted_regressor():
    X, y = data()
    return make_pipeline(StandardScaler(), net(skorch.NeuralNetRegressor, 1)).fit(X, y[:, None])


@pytest.mark.slow
def test_a_pipeline_with_a_regressor_is_read_refined_and_attacked():
    X, y = data()
    pipeline = fitted_regressor()
    network = as_network(pipeline)
    np.testing.assert_allclose(network(X.astype(float)), pipeline.predict(X)[:, 0], atol=1e-4)
    assert as_network(pipeline[-1]) == Network.from_torch(pipeline[-1].module_)
    found = refine(pipeline, X, y, lam=1e-3)
    assert found.after < found.before
    assert type(found.model) is type(pipeline)
    assert type(found.model[-1]) is skorch.NeuralNetRegressor
    np.testing.assert_allclose(network(X.astype(float)), pipeline.predict(X)[:, 0], atol=1e-4)  # left alone
    refined = as_network(found.model)
    np.testing.assert_allclose(refined(X.astype(float)), found.model.predict(X)[:, 0], atol=1e-4)
    assert np.mean((refined(X) - y) ** 2) < np.mean((network(X) - y) ** 2)
    for model in (pipeline, found.model):
        bound = lipschitz(model).bound
        moved = attack(model, X.astype(float), y, L2Ball(0.1), random_state=0)
        change = np.abs(as_network(model)(moved.X_adv) - as_network(model)(X.astype(float)))
        assert change.max() <= 0.1 * bound * (1 + 1e-9)
    pickle.loads(pickle.dumps(found.model)).predict(X)
    found.model[-1].partial_fit(StandardScaler().fit_transform(X).astype(np.float32), y[:, None])  # trains on
    assert as_network(found.model) != refined


@pytest.mark.slow
def test_a_classifier_is_certified_by_its_labels():
    X, y = data()
    labels = (y > np.median(y)).astype(np.int64)
    pipeline = make_pipeline(StandardScaler(), net(skorch.NeuralNetClassifier, 2, criterion=nn.CrossEntropyLoss))
    pipeline.fit(X, labels)
    report = certify(pipeline, X.astype(float), labels, L2Ball(0.01))
    accuracy = np.mean(pipeline.predict(X) == labels)
    assert report.certified_accuracy <= accuracy + 1e-9
    assert report.certified_accuracy > 0.5
    found = refine(pipeline, X, labels, loss="squared_hinge", lam=1e-3)
    assert found.after <= found.before
    assert np.mean(found.model.predict(X) == labels) >= accuracy - 0.1


def test_a_net_without_a_module_is_refused():
    with pytest.raises(UnsupportedModelError, match="call fit or initialize first"):
        as_network(net(skorch.NeuralNetRegressor, 1))

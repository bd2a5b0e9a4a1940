"""Refinement of trained classifiers: labels in, the same type out, never worse."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network
from convexnn.refinement import TrainingObjective, refine
from convexnn.refinement.vector import margin_targets, padded
from tests._families import few

LOSSES = ("squared_hinge", "logistic", "hinge")


def data(rng, k, n=25):
    X = rng.normal(size=(n, 3))
    return X, np.column_stack([X[:, 0], X[:, 1] ** 2 - 0.7, -X[:, 0] * X[:, 2]])[:, :k].argmax(axis=1)


def trained(X, y, hidden=(4,)):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return MLPClassifier(hidden, max_iter=40, random_state=0).fit(X, y)


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("regularizer", ["lipschitz", "l2"])
def test_a_fitted_mlp_classifier_with_string_labels(rng, regularizer, loss, k):
    X, y = data(rng, k)
    names = np.array(["ox", "ape", "cat"])[y]
    mlp = trained(X, names)
    before = mlp.predict(X)
    found = refine(mlp, X, names, regularizer=regularizer, loss=loss, lam=1e-2)
    assert type(found.model) is MLPClassifier
    assert found.after < found.before
    objective = TrainingObjective(X, margin_targets(mlp, names, 1 if k == 2 else k), None, regularizer, 1e-2, loss)
    assert objective(Network.from_sklearn(found.model)) == pytest.approx(found.after, rel=1e-9)
    assert objective(Network.from_sklearn(mlp)) == pytest.approx(found.before, rel=1e-9)
    np.testing.assert_array_equal(mlp.predict(X), before)  # the model that came in is not touched
    scores = found.network(X)
    best = (scores > 0).astype(int) if k == 2 else scores.argmax(axis=1)
    np.testing.assert_array_equal(found.model.predict(X), mlp.classes_[best])
    assert found.certificate.check(found.network) <= found.certificate.bound * (1 + 1e-12)


@pytest.mark.parametrize("dtype", few(["float32", "float64"]))
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_a_torch_classifier(rng, outputs, dtype):
    torch = pytest.importorskip("torch")
    X, y = data(rng, max(outputs, 2))
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, outputs))
    module = module.to(getattr(torch, dtype))
    found = refine(module, X, y, loss="squared_hinge", lam=1e-2)
    assert found.after < found.before
    with torch.no_grad():
        scores = found.model(torch.as_tensor(X, dtype=getattr(torch, dtype))).double().numpy()
    np.testing.assert_allclose(scores.reshape(found.network(X).shape), found.network(X), atol=1e-4)
    assert [tuple(p.shape) for p in found.model.parameters()] == [tuple(p.shape) for p in module.parameters()]
    if outputs == 1:
        assert refine(module, X, 2 * y - 1, loss="squared_hinge", lam=1e-2).after == pytest.approx(found.after)


@pytest.mark.slow
def test_the_last_two_layers_of_a_deeper_classifier(rng):
    torch = pytest.importorskip("torch")
    X, y = data(rng, 3)
    torch.manual_seed(0)
    layers = [torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3)]
    module = torch.nn.Sequential(*layers).double()
    found = refine(module, X, y, loss="logistic", layers="last2", lam=1e-2)
    assert found.after < found.before
    assert torch.equal(found.model[0].weight, module[0].weight)
    assert np.mean(found.model(torch.as_tensor(X)).argmax(1).numpy() == y) > 0.7


@pytest.mark.slow
def test_several_outputs_with_the_squared_loss(rng):
    X = rng.normal(size=(30, 3))
    Y = np.column_stack([X[:, 0] ** 2, np.sin(X[:, 1])])
    net = Network.shallow(rng.normal(size=(6, 3)), rng.normal(size=6), rng.normal(size=(2, 6)) / 6)
    found = refine(net, X, Y, lam=1e-2)
    assert found.after < 0.5 * found.before
    assert found.after == pytest.approx(TrainingObjective(X, Y, None, "lipschitz", 1e-2)(found.network), rel=1e-9)


def test_padding_changes_no_value(rng):
    for k in (1, 3):
        net = Network.shallow(rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=(k, 4)), rng.normal(size=k))
        X = rng.normal(size=(9, 3))
        np.testing.assert_array_equal(padded(net, 7)(X), net(X))
        assert padded(net, 7).n_hidden == (7,)
        assert padded(net, 3) is net


def test_refusals(rng):
    X, y = data(rng, 2)
    mlp = trained(X, y)
    with pytest.raises(UnsupportedModelError, match="margin loss"):
        refine(mlp, X, y)
    with pytest.raises(InvalidInputError, match="class labels"):
        refine(mlp, X, y + 1, loss="hinge")
    with pytest.raises(InvalidInputError, match="class labels"):
        refine(Network.from_sklearn(mlp), X, X[:, 0], loss="hinge")
    net = Network.shallow(rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=(3, 4)))
    with pytest.raises(InvalidInputError, match="one output"):
        refine(net, X, data(rng, 3)[1], loss="hinge", method="alternating")

"""Torch and scikit-learn: predictions agree, nothing unsupported is read as something else, and it is named."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch import nn

from convexnn.activations import Activation, LeakyReLU, Polynomial
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.interop import flatten_torch, is_sklearn_mlp, is_torch_module, linear_layers, write_linear
from convexnn.network import Network, as_network


def random_network(rng, sizes=(3, 5, 4, 2), activation="relu") -> Network:
    layers = [(rng.standard_normal((m, d)), rng.standard_normal(m)) for d, m in zip(sizes, sizes[1:], strict=False)]
    return Network(layers, activation)


def outputs(module: nn.Module, X: np.ndarray) -> np.ndarray:
    """Inference of a module in its own precision."""
    dtype = next(module.parameters()).dtype
    module.eval()
    with torch.no_grad():
        found = module(torch.as_tensor(X, dtype=dtype)).double().numpy()
    return found[:, 0] if found.shape[1] == 1 else found


# -- torch ---------------------------------------------------------------------------------------------------------

SUPPORTED = {
    "plain": lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)),
    "no bias": lambda: nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False)),
    "deep vector": lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)),
    "leaky": lambda: nn.Sequential(nn.Linear(3, 5), nn.LeakyReLU(0.2), nn.Linear(5, 1)),
    "sigmoid": lambda: nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 1)),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Linear(3, 5), nn.ReLU()), nn.Sequential(nn.Linear(5, 1))),
    "passed over": lambda: nn.Sequential(
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(3, 5),
        nn.Identity(),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(5, 1),
        nn.Identity(),
    ),
    "identity activation": lambda: nn.Sequential(nn.Linear(3, 5), nn.Identity(), nn.Linear(5, 1)),
    "spectral norm": lambda: nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(3, 5)), nn.ReLU(), nn.Linear(5, 1)
    ),
}


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_networks_read_from_torch_agree(name, dtype, rng) -> None:
    module = SUPPORTED[name]().to(dtype).eval()
    X = rng.standard_normal((20, 3))
    network = Network.from_torch(module)
    assert network.layers[0][0].dtype == np.float64
    np.testing.assert_allclose(network(X), outputs(module, X), atol=1e-12 if dtype == torch.float64 else 1e-5)
    assert as_network(module) == network


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_round_trip_keeps_every_bit(name) -> None:
    network = Network.from_torch(SUPPORTED[name]())  # float32 weights are exact in float64
    assert Network.from_torch(network.to_torch()) == network
    assert Network.from_torch(network.to_torch(torch.float32)) == network


@pytest.mark.parametrize("activation", ["relu", LeakyReLU(0.25), "tanh", "sigmoid", "identity"], ids=str)
@pytest.mark.parametrize("sizes", [(3, 5, 1), (3, 5, 4, 2)])
def test_modules_made_from_networks_agree(sizes, activation, rng) -> None:
    network = random_network(rng, sizes, activation)
    X = rng.standard_normal((20, 3))
    module = network.to_torch()
    np.testing.assert_allclose(outputs(module, X), network(X))
    assert Network.from_torch(module) == network
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert next(network.to_torch(torch.float32).parameters()).dtype == torch.float32


def test_gradients_agree_with_autograd(rng) -> None:
    network = random_network(rng)
    X = torch.tensor(rng.standard_normal((6, 3)), requires_grad=True)
    values = network.to_torch()(X)
    for i in range(2):
        (gradient,) = torch.autograd.grad(values[:, i].sum(), X, retain_graph=True)
        np.testing.assert_allclose(network.gradient(X.detach().numpy())[:, i], gradient.numpy())


def test_one_activation_module_may_be_used_twice() -> None:
    # named_children lists a shared module once
    act = nn.ReLU()
    module = nn.Sequential(nn.Linear(3, 5), act, nn.Linear(5, 4), act, nn.Linear(4, 1))
    assert Network.from_torch(module).n_hidden == (5, 4)


class Residual(nn.Module):
    def forward(self, x):
        return x + torch.relu(x)


class SkippingSequential(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class DoubledLinear(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


A, B = (lambda: nn.Linear(4, 4)), (lambda: nn.Linear(4, 2))
UNSUPPORTED = {
    "Conv2d": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), B()), "'0' is Conv2d"),
    "BatchNorm": (lambda: nn.Sequential(A(), nn.BatchNorm1d(4), nn.ReLU(), B()), "'1' is BatchNorm1d"),
    "Softmax": (lambda: nn.Sequential(A(), nn.ReLU(), B(), nn.Softmax(dim=1)), "'3' is Softmax"),
    "GELU": (lambda: nn.Sequential(A(), nn.GELU(), B()), "'1' is GELU"),
    "PReLU": (lambda: nn.Sequential(A(), nn.PReLU(), B()), "'1' is PReLU"),
    "steep leaky": (lambda: nn.Sequential(A(), nn.LeakyReLU(1.5), B()), "'1' is LeakyReLU"),
    "custom": (lambda: nn.Sequential(A(), Residual(), B()), "'1' is Residual"),
    "custom linear": (lambda: nn.Sequential(DoubledLinear(4, 4), nn.ReLU(), B()), "'0' is DoubledLinear"),
    "nested custom": (lambda: nn.Sequential(nn.Sequential(A(), nn.Softplus()), B()), "'0.1' is Softplus"),
    "flatten all": (lambda: nn.Sequential(nn.Flatten(0), A(), nn.ReLU(), B()), "'0' is Flatten"),
    "skip": (lambda: SkippingSequential(A(), nn.ReLU(), A()), "SkippingSequential"),
    "nested skip": (lambda: nn.Sequential(SkippingSequential(A(), nn.ReLU()), B()), "SkippingSequential at '0'"),
    "not sequential": (lambda: Residual(), "got Residual"),
    "ends in ReLU": (lambda: nn.Sequential(A(), nn.ReLU(), B(), nn.ReLU()), "ends with the activation 'relu'"),
    "starts with ReLU": (lambda: nn.Sequential(nn.ReLU(), A(), nn.ReLU(), B()), "'0' .ReLU. has no Linear before"),
    "two ReLUs": (lambda: nn.Sequential(A(), nn.ReLU(), nn.ReLU(), B()), "'2' .ReLU. has no Linear before"),
    "two Linears": (lambda: nn.Sequential(A(), A(), nn.ReLU(), B()), "'1' follows another Linear"),
    "one Linear": (lambda: nn.Sequential(B()), "two Linear layers or more, got 1"),
    "empty": (lambda: nn.Sequential(), "two Linear layers or more, got 0"),
    "mixed": (lambda: nn.Sequential(A(), nn.ReLU(), A(), nn.Tanh(), B()), "relu, tanh"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(4), nn.ReLU(), B()), "LazyLinear"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_layers_are_named(name) -> None:
    build, named = UNSUPPORTED[name]
    with pytest.raises(UnsupportedModelError, match=named):
        Network.from_torch(build())


def test_polynomial_networks_go_to_torch_and_back(rng, tmp_path) -> None:
    network = random_network(rng, activation=Polynomial(0.2, -0.7, 0.1))
    module = network.to_torch()
    assert Network.from_torch(module) == network
    X = torch.from_numpy(rng.standard_normal((9, network.n_inputs)))
    np.testing.assert_allclose(module(X).detach().numpy().ravel(), network(X.numpy()).ravel(), rtol=1e-12, atol=1e-12)
    X.requires_grad_(True)
    (gradient,) = torch.autograd.grad(module(X)[:, 0].sum(), X)
    slopes = network.gradient(X.detach().numpy()).reshape(9, -1, network.n_inputs)[:, 0]
    np.testing.assert_allclose(gradient.numpy(), slopes, rtol=1e-11, atol=1e-12)
    assert Network.from_torch(pickle.loads(pickle.dumps(module))) == network
    assert Network.from_torch(copy.deepcopy(module)) == network
    assert Network.load(network.save(tmp_path / "polynomial.npz")) == network
    assert "a=0.2, b=-0.7, c=0.1" in repr(module)


def test_torch_has_no_layer_for_an_unknown_activation(rng) -> None:
    class Sine(Activation):
        name = "sine"

        def __call__(self, z):
            return np.sin(z)

    with pytest.raises(UnsupportedModelError, match="sine"):
        random_network(rng, activation=Sine()).to_torch()


def test_reading_leaves_the_module_alone(rng) -> None:
    module = SUPPORTED["passed over"]().train()
    before = [parameter.clone() for parameter in module.parameters()]
    network = Network.from_torch(module)
    with torch.no_grad():
        next(module.parameters()).zero_()
    assert network.W.any()  # a copy
    assert module.training
    assert all(torch.equal(a, b) for a, b in zip(before[1:], list(module.parameters())[1:], strict=True))


def test_writing_a_linear_layer_keeps_its_dtype_and_shape(rng) -> None:
    linear = nn.Linear(3, 2)
    W, b = rng.standard_normal((2, 3)), rng.standard_normal(2)
    write_linear(linear, W, b)
    assert linear.weight.dtype == torch.float32
    np.testing.assert_allclose(linear.weight.detach().numpy(), W, rtol=1e-6)
    np.testing.assert_allclose(linear.bias.detach().numpy(), b, rtol=1e-6)
    with pytest.raises(InvalidInputError, match="cannot hold"):
        write_linear(linear, W[:1], b)  # copy_ would broadcast it
    bare = nn.Linear(3, 2, bias=False)
    write_linear(bare, W, 0 * b)
    before = bare.weight.clone()
    with pytest.raises(UnsupportedModelError, match="without bias"):
        write_linear(bare, 2 * W, b)
    assert torch.equal(before, bare.weight)  # nothing half done


def test_flattening_names_leaves_by_path() -> None:
    module = SUPPORTED["nested"]()
    assert [label for label, _ in flatten_torch(module)] == ["0.0", "0.1", "1.0"]
    assert linear_layers(module) == [module[0][0], module[1][0]]
    assert is_torch_module(module)
    assert not is_torch_module(random_network)


# -- scikit-learn --------------------------------------------------------------------------------------------------


def fitted(mlp, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mlp.fit(X, y)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("hidden", [(6,), (6, 5)])
def test_regressors_agree(activation, hidden, rng) -> None:
    X = rng.standard_normal((30, 3))
    for y in (rng.standard_normal(30), rng.standard_normal((30, 2))):
        mlp = fitted(MLPRegressor(hidden_layer_sizes=hidden, activation=activation, max_iter=20, random_state=0), X, y)
        network = Network.from_sklearn(mlp)
        np.testing.assert_allclose(network(X), mlp.predict(X), atol=1e-12)
        assert as_network(mlp) == network
        assert is_sklearn_mlp(mlp)


def test_binary_classifiers_give_logits(rng) -> None:
    X, y = rng.standard_normal((40, 3)), rng.integers(2, size=40)
    mlp = fitted(MLPClassifier(hidden_layer_sizes=(6,), max_iter=30, random_state=0), X, y)
    logit = Network.from_sklearn(mlp)(X)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), mlp.predict_proba(X)[:, 1])
    np.testing.assert_array_equal(mlp.classes_[(logit > 0).astype(int)], mlp.predict(X))


def test_multiclass_classifiers_give_logits(rng) -> None:
    X, y = rng.standard_normal((60, 3)), rng.choice(["a", "b", "c"], size=60)
    mlp = fitted(MLPClassifier(hidden_layer_sizes=(6, 4), max_iter=30, random_state=0), X, y)
    logits = Network.from_sklearn(mlp)(X)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(p / p.sum(axis=1, keepdims=True), mlp.predict_proba(X), atol=1e-12)
    np.testing.assert_array_equal(mlp.classes_[logits.argmax(axis=1)], mlp.predict(X))


def test_single_precision_models_are_read_exactly(rng) -> None:
    X = rng.standard_normal((30, 3)).astype(np.float32)
    mlp = fitted(MLPRegressor(hidden_layer_sizes=(6,), max_iter=20, random_state=0), X, X[:, 0])
    assert mlp.coefs_[0].dtype == np.float32
    np.testing.assert_array_equal(Network.from_sklearn(mlp).W.astype(np.float32), mlp.coefs_[0].T)


def test_unusable_sklearn_models_are_named(rng) -> None:
    with pytest.raises(UnsupportedModelError, match="MLPRegressor is not fitted"):
        as_network(MLPRegressor())
    X, y = rng.standard_normal((30, 3)), rng.poisson(2.0, size=30)
    flat = fitted(MLPRegressor(hidden_layer_sizes=(), max_iter=5, random_state=0), X, y)
    with pytest.raises(InvalidInputError, match="hidden"):
        as_network(flat)


@pytest.mark.skipif("loss" not in MLPRegressor().get_params(), reason="this scikit-learn has no Poisson loss")
def test_a_poisson_regressor_is_not_its_layers(rng) -> None:
    # its predictions are exp(output)
    X, y = rng.standard_normal((30, 3)), rng.poisson(2.0, size=30)
    mlp = fitted(MLPRegressor(loss="poisson", hidden_layer_sizes=(4,), max_iter=5, random_state=0), X, y)
    with pytest.raises(UnsupportedModelError, match="exp"):
        as_network(mlp)


def test_weights_that_a_hook_will_change_are_refused_and_parametrized_ones_are_read():
    inner = torch.nn.Linear(3, 4)
    module = torch.nn.Sequential(inner, torch.nn.ReLU(), torch.nn.Linear(4, 1))
    torch.nn.utils.parametrizations.weight_norm(inner)
    with torch.no_grad():
        inner.parametrizations.weight.original0.mul_(3.0)
    X = torch.randn(5, 3)
    expected = module(X).detach().numpy().ravel()
    np.testing.assert_allclose(Network.from_torch(module)(X.numpy()), expected, rtol=1e-5, atol=1e-6)
    old = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(old[0])
    with pytest.raises(UnsupportedModelError, match="hook"):
        Network.from_torch(old)

"""Network: evaluation, gradients, derived networks, identity, files, and what it refuses."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from convexnn.activations import LeakyReLU, Polynomial
from convexnn.exceptions import ConvexNNError, InvalidInputError, UnsupportedModelError
from convexnn.network import Network, as_network

ACTIVATIONS = ["relu", LeakyReLU(0.2), Polynomial(), "identity", "tanh", "sigmoid"]


def make(rng: np.random.Generator, sizes=(3, 5, 1), activation="relu") -> Network:
    """Random network with the given numbers of inputs, units and outputs."""
    layers = [(rng.standard_normal((m, d)), rng.standard_normal(m)) for d, m in zip(sizes, sizes[1:], strict=False)]
    return Network(layers, activation)


SIZES = [(3, 5, 1), (3, 1, 1), (1, 4, 2), (3, 6, 5, 4), (2, 4, 4, 4, 1)]


# -- evaluation ----------------------------------------------------------------------------------------------------


def test_shallow_by_hand() -> None:
    # f(x) = 2 relu(x1 - x2 + 1) - 3 relu(x2) + 0.5
    network = Network.shallow([[1.0, -1.0], [0.0, 1.0]], [1.0, 0.0], [2.0, -3.0], 0.5)
    X = [[0.0, 0.0], [1.0, 4.0], [-2.0, -1.0]]
    np.testing.assert_allclose(network(X), [2.5, -11.5, 0.5])
    # at x = (-2, -1) the first unit is at its kink, which counts as active
    np.testing.assert_allclose(network.gradient(X), [[2, -5], [0, -3], [2, -2]])


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_values_follow_the_definition(sizes, activation, rng) -> None:
    network = make(rng, sizes, activation)
    X = rng.standard_normal((7, sizes[0]))
    for x, value, *hidden in zip(X, network(X), *network.pre_activations(X), strict=True):
        for (W, b), z in zip(network.layers[:-1], hidden, strict=True):
            np.testing.assert_allclose(W @ x + b, z)
            x = network.activation(z)
        W, b = network.layers[-1]
        np.testing.assert_allclose((W @ x + b).squeeze(), value)
    assert network.n_inputs == sizes[0]
    assert network.n_hidden == sizes[1:-1]
    assert network.n_outputs == sizes[-1]
    assert network(X).shape == ((7,) if sizes[-1] == 1 else (7, sizes[-1]))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_gradient_agrees_with_finite_differences(sizes, activation, rng) -> None:
    network = make(rng, sizes, activation)
    X = rng.standard_normal((40, sizes[0]))
    X = X[np.min([np.abs(z).min(axis=1) for z in network.pre_activations(X)], axis=0) > 1e-4]  # away from kinks
    h = 1e-6
    steps = [(network(X + h * e) - network(X - h * e)) / (2 * h) for e in np.eye(sizes[0])]
    gradient = network.gradient(X)
    assert gradient.shape == (*network(X).shape, sizes[0])
    np.testing.assert_allclose(gradient, np.stack(steps, axis=-1), atol=1e-6, rtol=1e-6)


def test_gradient_does_not_hold_every_unit_of_every_sample(rng) -> None:
    # (n, units, d) in one array would be 16 GB
    network = Network.shallow(rng.standard_normal((500, 784)), np.zeros(500), rng.standard_normal(500))
    assert network.gradient(rng.standard_normal((5000, 784))).shape == (5000, 784)


def test_no_rows_give_no_values(rng) -> None:
    network = make(rng, (3, 5, 2))
    assert network(np.ones((0, 3))).shape == (0, 2)
    assert network.gradient(np.ones((0, 3))).shape == (0, 2, 3)


# -- parts of shallow networks -------------------------------------------------------------------------------------


def test_shallow_parts_by_output(rng) -> None:
    W, b, v = rng.standard_normal((5, 3)), rng.standard_normal(5), rng.standard_normal((2, 5))
    scalar, vector = Network.shallow(W, b, v[0], 1.5), Network.shallow(W, b, v, [1.0, 2.0])
    np.testing.assert_array_equal(scalar.v, v[0])
    assert scalar.c == 1.5
    assert isinstance(scalar.c, float)
    np.testing.assert_array_equal(vector.v, v)
    np.testing.assert_array_equal(vector.c, [1.0, 2.0])
    np.testing.assert_array_equal(Network.shallow(W, b, v, 3.0).c, [3.0, 3.0])
    assert Network.shallow(scalar.W, scalar.b, scalar.v, scalar.c) == scalar


def test_deep_networks_have_no_shallow_parts(rng) -> None:
    deep = make(rng, (3, 5, 4, 1))
    assert not deep.is_shallow
    for part in ("W", "b", "v", "c"):
        with pytest.raises(UnsupportedModelError, match="one hidden layer; this one has 2"):
            getattr(deep, part)


@pytest.mark.parametrize("sizes", [(3, 5, 4), (3, 6, 5, 4)])
def test_margins_and_selections(sizes, rng) -> None:
    network = make(rng, sizes)
    X = rng.standard_normal((9, 3))
    values = network(X)
    np.testing.assert_allclose(network.select(2)(X), values[:, 2])
    np.testing.assert_allclose(network.margin(3, 1)(X), values[:, 3] - values[:, 1])
    assert network.margin(0, 1).n_outputs == 1
    opposite = -network
    assert np.array_equal(opposite(X), -values)
    assert -opposite == network
    for call in (lambda: network.select(4), lambda: network.margin(0, 4), lambda: network.margin(-1, 0)):
        with pytest.raises(InvalidInputError, match="outputs 0 to 3"):
            call()


# -- scaling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("with_std", [True, False])
def test_folding_a_scaler_gives_the_network_on_raw_inputs(with_mean, with_std, rng) -> None:
    X = rng.standard_normal((30, 3)) * [1e-3, 1.0, 1e4] + [5.0, -1.0, 1e3]
    X = np.hstack([X, np.full((30, 1), 7.0)])  # a constant feature too
    scaler = StandardScaler(with_mean=with_mean, with_std=with_std).fit(X)
    network = make(rng, (4, 5, 2))
    folded = network.fold_scaling(scaler)
    np.testing.assert_allclose(folded(X), network(scaler.transform(X)), rtol=1e-9)
    # chain rule: the folded gradient is in raw units
    scale = np.ones(4) if scaler.scale_ is None else scaler.scale_
    np.testing.assert_allclose(folded.gradient(X) * scale, network.gradient(scaler.transform(X)), rtol=1e-9)


def test_folding_arrays_and_refusing_others(rng) -> None:
    network = make(rng)
    X, mean, scale = rng.standard_normal((5, 3)), rng.standard_normal(3), np.array([0.5, 2.0, 3.0])
    np.testing.assert_allclose(network.fold_scaling((mean, scale))(X), network((X - mean) / scale))
    np.testing.assert_allclose(network.fold_scaling((None, scale))(X), network(X / scale))
    assert network.fold_scaling((None, None)) == network
    for bad in (MinMaxScaler(), StandardScaler(), (mean[:2], scale), (mean, 0 * scale), (mean, scale * np.nan)):
        with pytest.raises(InvalidInputError, match="scaler"):
            network.fold_scaling(bad)


def test_as_network_folds_the_scalers_of_a_pipeline(rng) -> None:
    X, y = rng.standard_normal((40, 3)) * 50 + 9, rng.standard_normal(40)
    mlp = MLPRegressor(hidden_layer_sizes=(6,), solver="lbfgs", max_iter=20_000, random_state=0)
    for scalers in ([StandardScaler()], [StandardScaler(with_mean=False), "passthrough", StandardScaler()]):
        pipeline = make_pipeline(*scalers, mlp).fit(X, y)
        np.testing.assert_allclose(as_network(pipeline)(X), pipeline.predict(X))
    with pytest.raises(UnsupportedModelError, match="minmaxscaler"):
        as_network(make_pipeline(MinMaxScaler(), mlp).fit(X, y))


def test_as_network_takes_networks_and_owners_and_names_the_rest(rng) -> None:
    network = make(rng)
    assert as_network(network) is network

    class Owner:
        network_ = network

    assert as_network(Owner()) is network
    for stranger in (None, 3, "model", np.ones(3), StandardScaler()):
        with pytest.raises(UnsupportedModelError, match=f"got {type(stranger).__name__}"):
            as_network(stranger)


# -- identity ------------------------------------------------------------------------------------------------------


def test_fingerprints_tell_networks_apart(rng) -> None:
    network = make(rng)
    (W, b), output = network.layers
    bumped = W.copy()
    bumped[0, 0] = np.nextafter(bumped[0, 0], np.inf)
    others = [
        Network(((bumped, b), output)),
        Network(network.layers, "tanh"),
        Network(network.layers, LeakyReLU(0.1)),
        Network(network.layers, LeakyReLU(0.2)),
        make(rng, (3, 5, 5, 1)),
    ]
    prints = {item.fingerprint() for item in (network, *others)}
    assert len(prints) == 6
    assert all(item != network for item in others)
    assert network == Network([(W.copy(), b.tolist()), output])
    assert len({network, Network(network.layers)}) == 1
    assert network != "network"


def test_signed_zeros_are_one_network() -> None:
    a, b = (Network.shallow([[zero]], [0.0], [1.0]) for zero in (0.0, -0.0))
    assert a == b


def test_shapes_enter_the_fingerprint() -> None:
    # the same 8 numbers, cut differently
    ones = Network.shallow(np.ones((2, 1)), np.ones(2), np.ones(2), 1.0)
    other = Network.shallow(np.ones((1, 4)), np.ones(1), np.ones(1), 1.0)
    assert ones != other


def test_networks_are_frozen_also_after_copies_and_pickles(rng) -> None:
    network = make(rng, (3, 5, 4, 2), LeakyReLU(0.3))
    network.fingerprint()
    for copied in (network, copy.copy(network), copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert copied == network
        for W, b in copied.layers:
            for values in (W, b):
                with pytest.raises(ValueError, match="read-only"):
                    values[...] = 0.0
        with pytest.raises(AttributeError):
            copied.layers = ()


def test_the_arrays_of_the_caller_stay_theirs(rng) -> None:
    W, b, v = rng.standard_normal((5, 3)), rng.standard_normal(5), rng.standard_normal(5)
    network = Network.shallow(W, b, v)
    print_before = network.fingerprint()
    W[:] = b[:] = v[:] = 0.0
    assert network.W.any()
    assert Network(network.layers).fingerprint() == print_before


def test_repr() -> None:
    assert repr(Network.shallow(np.ones((5, 3)), np.ones(5), np.ones((2, 5)))) == "Network(3-5-2, relu)"


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("sizes", [(3, 5, 1), (3, 6, 5, 4)])
def test_files_give_the_network_back_bit_for_bit(sizes, activation, rng, tmp_path) -> None:
    network = make(rng, sizes, activation)
    path = network.save(tmp_path / "network.npz")
    loaded = Network.load(path)
    assert loaded == network
    assert loaded.activation == network.activation
    assert Network.load(str(path)) == network


def test_the_name_of_the_file_is_kept(rng, tmp_path) -> None:
    path = make(rng).save(tmp_path / "no_suffix")
    assert path == tmp_path / "no_suffix"
    assert path.is_file()


# -- refusals ------------------------------------------------------------------------------------------------------

OK = (np.ones((2, 3)), np.ones(2))
OUT = (np.ones((1, 2)), np.ones(1))
BAD_LAYERS = [
    ((OK,), "got 1 layer"),
    ((), "got 0 layer"),
    (((np.full((2, 3), np.nan), np.ones(2)), OUT), "layer 0 holds NaN"),
    ((OK, (np.ones((1, 2)), np.array([np.inf]))), "bias of layer 1 holds NaN or inf"),
    (((np.ones((2, 3)), np.ones(3)), OUT), "bias of length 3"),
    ((OK, (np.ones((1, 4)), np.ones(1))), "layer 0 has 2 units"),
    (((np.ones(3), np.ones(2)), OUT), "2 dimension"),
    (((np.ones((2, 3)), np.ones((2, 1))), OUT), "1 dimension"),
    (((np.ones((2, 0)), np.ones(2)), OUT), "none empty"),
    (((np.ones((0, 3)), np.ones(0)), (np.ones((1, 0)), np.ones(1))), "none empty"),
    (((np.ones((2, 3)) * 1j, np.ones(2)), OUT), "complex"),
    ((([["a", "b"]], [1.0]), OUT), "not text such as 'a'"),
    ((([[1.0], [1.0, 2.0]], [1.0, 1.0]), OUT), "rows of different lengths"),
    (((np.ones((2, 3)),), OUT), "pair"),
]


@pytest.mark.parametrize(("layers", "named"), BAD_LAYERS)
def test_unusable_layers_are_refused(layers, named) -> None:
    with pytest.raises(InvalidInputError, match=named):
        Network(layers)


def test_unusable_shallow_parts_are_refused() -> None:
    for arguments in (
        (np.ones((2, 3)), np.ones(2), np.ones(3)),
        (np.ones((2, 3)), np.ones(2), np.ones((1, 1, 2))),
        (np.ones((2, 3)), np.ones(2), np.ones(2), [1.0, 2.0]),
        (np.ones((2, 3)), np.ones(2), [1.0, None]),
        (np.ones((2, 3)), np.ones(2), "v"),
    ):
        with pytest.raises(InvalidInputError):
            Network.shallow(*arguments)
    with pytest.raises(InvalidInputError, match="expected one of"):
        Network.shallow(np.ones((2, 3)), np.ones(2), np.ones(2), activation="softmax")


@pytest.mark.parametrize(
    "X", [np.ones(3), np.ones((2, 4)), np.ones((2, 3, 1)), "text", [["a", "b", "c"]], np.ones((2, 3)) * 1j, None, 3.0]
)
def test_inputs_of_the_wrong_shape_or_kind_are_refused(X, rng) -> None:
    network = make(rng)
    for call in (network, network.pre_activations, network.gradient):
        with pytest.raises(ConvexNNError):
            call(X)

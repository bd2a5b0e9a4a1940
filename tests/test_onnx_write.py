"""Networks written as ONNX: what onnxruntime computes, and back."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.activations import Identity, LeakyReLU, Polynomial, ReLU, Sigmoid, Tanh
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ACTIVATIONS = (
    ReLU(), LeakyReLU(0.25), LeakyReLU(0.1), Tanh(), Sigmoid(), Identity(), Polynomial(), Polynomial(0.5, 0.0, -1.0),
    Polynomial(0.0, 2.0, 1.0),
)  # fmt: skip
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)


def made(rng, activation, sizes=(5, 7, 6, 3)):
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return Network([(rng.normal(size=(m, d)) / d, rng.normal(size=m)) for d, m in pairs], activation)


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@each_activation
@pytest.mark.parametrize(("dtype", "tol"), [(np.float32, 1e-6), (np.float64, 1e-12)])
def test_onnxruntime_agrees(rng, tmp_path, activation, dtype, tol):
    network = made(rng, activation)
    path = network.to_onnx(tmp_path / "net.onnx", dtype)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    X = rng.normal(size=(20, 5)).astype(dtype)
    (found,) = session(path).run(None, {"input": X})
    want = network(X.astype(float))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, want, rtol=tol, atol=4 * tol)


@each_activation
def test_there_and_back_in_float64_is_the_same_network(rng, tmp_path, activation):
    network = made(rng, activation)
    back = Network.from_onnx(network.to_onnx(tmp_path / "net.onnx", np.float64))
    if activation == Polynomial(0.0, 2.0, 1.0):  # linear: another form of the same function
        X = rng.normal(size=(9, 5))
        np.testing.assert_allclose(back(X), network(X), rtol=1e-12)
    else:
        assert back == network


def test_float32_rounds_the_weights_and_nothing_else(rng, tmp_path):
    network = made(rng, ReLU())
    rounded = Network([(W.astype(np.float32), b.astype(np.float32)) for W, b in network.layers], "relu")
    assert Network.from_onnx(network.to_onnx(tmp_path / "net.onnx")) == rounded


def test_one_output_and_one_sample(rng, tmp_path):
    network = made(rng, Tanh(), (2, 3, 1))
    path = network.to_onnx(tmp_path / "net.onnx", np.float64)
    (found,) = session(path).run(None, {"input": np.ones((1, 2))})
    np.testing.assert_allclose(found.ravel(), network(np.ones((1, 2))), rtol=1e-13)


def test_numbers_and_types_that_do_not_fit_are_refused(rng, tmp_path):
    network = Network.shallow([[1e200]], [0.0], [1.0])
    with pytest.raises(InvalidInputError, match="too large for float32; write it in float64"):
        network.to_onnx(tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()
    with pytest.raises(InvalidInputError, match="float32 or float64, got float16"):
        network.to_onnx(tmp_path / "net.onnx", np.float16)
    assert Network.from_onnx(network.to_onnx(tmp_path / "net.onnx", "float64")) == network


def test_metadata_is_kept_and_the_batch_is_free(rng, tmp_path):
    network = made(rng, Tanh())
    path = network.to_onnx(tmp_path / "net.onnx", np.float64, metadata={"data": "servo, split 0"})
    kept = session(path).get_modelmeta().custom_metadata_map
    assert kept["data"] == "servo, split 0"
    assert (kept["convexnn.sizes"], kept["convexnn.activation"]) == ("5-7-6-3", "tanh")
    assert Network.from_onnx(path) == network
    for n in (1, 7):
        X = rng.normal(size=(n, 5))
        np.testing.assert_allclose(session(path).run(None, {"input": X})[0], network(X), rtol=1e-12, atol=1e-12)
    with pytest.raises(InvalidInputError, match="str to str"):
        network.to_onnx(path, metadata={"epochs": 3})

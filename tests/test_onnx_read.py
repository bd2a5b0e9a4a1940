"""ONNX graphs as networks: what is folded, what is refused by name, and files made to hurt."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convexnn.activations import LeakyReLU, Polynomial
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.exchange import read_onnx
from convexnn.network import Network
from tests._graphs import graph, run

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

F = np.float32
RNG = np.random.default_rng(5)
W1, B1, W2, B2 = (RNG.standard_normal(s).astype(F) for s in ((4, 6), (6,), (6, 3), (3,)))
VECTOR = RNG.standard_normal(4).astype(F)
SIX = RNG.standard_normal(6).astype(F)
BASE = {"W1": W1, "b1": B1, "W2": W2, "b2": B2, "v": VECTOR, "six": SIX, "s": F(2.5), "zero": F(0)}
STATISTICS = {"g": np.abs(SIX) + F(1), "h": SIX, "m": SIX, "q": np.abs(SIX) + F(0.5)}
PLAIN = [
    ("MatMul", "x W1", "a"),
    ("Add", "a b1", "t"),
    ("Relu", "t", "h1"),
    ("MatMul", "h1 W2", "o"),
    ("Add", "o b2", "y"),
]
TAIL = [("Relu", "t", "h1"), ("MatMul", "h1 W2", "y")]

#: Graphs that are chains in disguise: nodes, input shape, further constants.
CHAINS = {
    "plain": (PLAIN, ("N", 4), {}),
    "gemm": (
        [
            ("Gemm", "x V1 b1", "t", {"transB": 1, "alpha": 0.5, "beta": 3.0}),
            ("Relu", "t", "h1"),
            ("Gemm", "h1 W2", "y"),
        ],
        (1, 4),
        {"V1": W1.T.copy()},
    ),
    "gemm of a transposed input": ([("Gemm", "x W1", "t", {"transA": 1}), *TAIL], (4, 1), {}),
    "constant first": (
        [("MatMul", "V1 x", "a"), ("Relu", "a", "h1"), ("MatMul", "V2 h1", "y")],
        (4, 1),
        {"V1": W1.T.copy(), "V2": W2.T.copy()},
    ),
    "constant first, a vector": (
        [("MatMul", "V1 x", "a"), ("Relu", "a", "h1"), ("MatMul", "h1 W2", "y")],
        (4,),
        {"V1": W1.T.copy()},
    ),
    "normalization": ([("Sub", "x v", "c"), ("Div", "c s", "n"), ("MatMul", "n W1", "t"), *TAIL], (1, 4), {}),
    "normalization by vectors": (
        [("Div", "x w", "n"), ("Mul", "n v", "c"), ("MatMul", "c W1", "t"), *TAIL],
        ("N", 4),
        {"w": np.abs(VECTOR) + F(1)},
    ),
    "constants after activations": (
        [
            ("MatMul", "x W1", "t"),
            ("Relu", "t", "h1"),
            ("Mul", "h1 six", "u"),
            ("Sub", "s u", "w"),
            ("MatMul", "w W2", "o"),
            ("Div", "o s", "p"),
            ("Neg", "p", "y"),
        ],
        (1, 4),
        {},
    ),
    "two linear layers": (
        [
            ("MatMul", "x W1", "a"),
            ("MatMul", "a M", "t"),
            ("Tanh", "t", "h1"),
            ("MatMul", "h1 W2", "o"),
            ("MatMul", "o O", "y"),
        ],
        (1, 4),
        {"M": RNG.standard_normal((6, 6)).astype(F), "O": RNG.standard_normal((3, 2)).astype(F)},
    ),
    "image": (
        [("Flatten", "x", "f"), ("MatMul", "f W1", "t"), *TAIL],
        ("N", 1, 2, 2),
        {},
    ),
    "reshaped with -1": (
        [
            ("Shape", "x", "sh"),
            ("Gather", "sh i", "n"),
            ("Unsqueeze", "n ax", "nn"),
            ("Concat", "nn m1", "to", {"axis": 0}),
            ("Reshape", "x to", "f"),
            ("MatMul", "f W1", "t"),
            *TAIL,
        ],
        ("N", 2, 2),
        {"i": np.array(0), "ax": np.array([0]), "m1": np.array([-1])},
    ),
    "squeezed and back": (
        [
            ("Squeeze", "x ax", "f"),
            ("Unsqueeze", "f ax", "g"),
            ("Reshape", "g to", "k"),
            ("MatMul", "k W1", "t"),
            *TAIL,
        ],
        (1, 1, 1, 4),
        {"ax": np.array([1]), "to": np.array([0, 4])},
    ),
    "transposed out of order": (
        [("Transpose", "x", "tr", {"perm": [0, 2, 1]}), ("Reshape", "tr to", "f"), ("MatMul", "f W1", "t"), *TAIL],
        (1, 2, 2),
        {"to": np.array([1, 4])},
    ),
    "matrix on the last axis": (
        [("MatMul", "x K", "a"), ("Relu", "a", "h1"), ("MatMul", "L h1", "y")],
        (1, 3, 4),
        {"K": W1, "L": RNG.standard_normal((2, 3)).astype(F)},
    ),
    "batch normalization": (
        [("MatMul", "x W1", "a"), ("BatchNormalization", "a g h m q", "t", {"epsilon": 0.01}), *TAIL],
        (1, 4),
        STATISTICS,
    ),
    "leaky": (
        [("MatMul", "x W1", "t"), ("LeakyRelu", "t", "h1", {"alpha": 0.25}), ("MatMul", "h1 W2", "y")],
        (1, 4),
        {},
    ),
    "prelu": ([("MatMul", "x W1", "t"), ("PRelu", "t k", "h1"), ("MatMul", "h1 W2", "y")], (1, 4), {"k": F([0.25])}),
    "max with zero": ([("MatMul", "x W1", "t"), ("Max", "t zero", "h1"), ("MatMul", "h1 W2", "y")], (1, 4), {}),
    "max with itself": (
        [("MatMul", "x W1", "t"), ("Mul", "t k", "u"), ("Max", "u t", "h1"), ("MatMul", "h1 W2", "y")],
        (1, 4),
        {"k": F(0.125)},
    ),
    "clip": ([("MatMul", "x W1", "t"), ("Clip", "t zero", "h1"), ("MatMul", "h1 W2", "y")], (1, 4), {}),
    "sigmoid, dropout, cast, identity": (
        [
            ("Cast", "x", "x1", {"to": 1}),
            ("MatMul", "x1 W1", "t"),
            ("Sigmoid", "t", "h0"),
            ("Dropout", "h0", "h1"),
            ("Identity", "h1", "h2"),
            ("MatMul", "h2 W2", "y"),
        ],
        (1, 4),
        {},
    ),
    "square": ([("MatMul", "x W1", "t"), ("Mul", "t t", "h1"), ("MatMul", "h1 W2", "y")], (1, 4), {}),
    "quadratic": (
        [
            ("MatMul", "x W1", "t"),
            ("Pow", "t two", "q"),
            ("Mul", "t s", "l"),
            ("Sub", "q l", "h1"),
            ("MatMul", "h1 W2", "y"),
        ],
        (1, 4),
        {"two": F(2)},
    ),
    "activation at both ends": ([("Relu", "x", "h0"), ("MatMul", "h0 W1", "t"), ("Relu", "t", "y")], (1, 4), {}),
    "side by side in one layer": (
        [("MatMul", "x W1", "a"), ("MatMul", "x K", "c"), ("Add", "a c", "t"), *TAIL],
        (1, 4),
        {"K": RNG.standard_normal((4, 6)).astype(F)},
    ),
    "linear": ([("MatMul", "x W1", "a"), ("MatMul", "a W2", "y")], (1, 4), {}),
    "dead nodes are not looked at": ([("Conv", "x k", "dead"), *PLAIN], (1, 4), {"k": W1}),
    "constants of every float type": (
        [("Cast", "k16", "k", {"to": 1}), ("MatMul", "x k", "t"), *TAIL],
        (1, 4),
        {"k16": W1.astype(np.float16)},
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_in_disguise_computes_what_onnxruntime_computes(name):
    nodes, shape, constants = CHAINS[name]
    content = graph(nodes, shape, {**BASE, **constants})
    found = read_onnx(content)
    network = Network(found.layers, found.activation)
    sizes = tuple(1 if isinstance(size, str) else size for size in shape)
    assert found.input_shape == sizes
    assert math.prod(found.output_shape) == network.n_outputs
    if name == "dead nodes are not looked at":
        content = graph(PLAIN, shape, BASE)  # onnxruntime does look at them
    for _ in range(5):
        x = RNG.standard_normal(sizes).astype(F)
        want = run(content, x)
        got = network(x.reshape(1, -1).astype(float)).ravel()
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


def test_activations_are_told_apart():
    found = {name: read_onnx(graph(CHAINS[name][0], CHAINS[name][1], {**BASE, **CHAINS[name][2]})) for name in CHAINS}
    assert found["leaky"].activation == found["prelu"].activation == LeakyReLU(0.25)
    assert found["max with itself"].activation == LeakyReLU(0.125)
    assert found["square"].activation == Polynomial(1.0, 0.0, 0.0)
    assert found["quadratic"].activation == Polynomial(1.0, -2.5, 0.0)
    assert found["linear"].activation.name == "identity"
    assert [W.shape for W, _ in found["two linear layers"].layers] == [(6, 4), (2, 6)]


CONV = [("Conv", "x k", "c"), ("Flatten", "c", "y")]
UNSUPPORTED = {
    "convolution": (CONV, (1, 1, 3, 3), r"Node 'node0' \(Conv\) is not supported \(only fully connected"),
    "softmax": ([*PLAIN[:-1], ("Softmax", "o", "y")], (1, 4), r"\(Softmax\) is not supported \(certificates are about"),
    "elu": ([("MatMul", "x W1", "t"), ("Elu", "t", "y")], (1, 4), r"\(Elu\) is not supported; supported are Gemm, "),
    "other domain": ([("Relu", "x", "y", {"domain": "com.microsoft"})], (1, 4), r"com.microsoft::Relu\) is not supp"),
    "residual": ([*PLAIN[:3], ("MatMul", "h1 V", "o"), ("Add", "o x", "y")], (1, 4), r"'node4' \(Add\) .*residual"),
    "branches": (
        [("Relu", "x", "a"), ("Tanh", "x", "c"), ("Add", "a c", "y")],
        (1, 4),
        "tensors of different layers .*parallel branches",
    ),
    "product of tensors": ([*PLAIN[:3], ("MatMul", "h1 h1", "y")], (1, 4), r"\(MatMul\) multiplies two tensors"),
    "gate": ([*PLAIN[:3], ("Mul", "h1 t", "y")], (1, 4), r"\(Mul\) multiplies two tensors"),
    "cube": ([*PLAIN[:2], ("Pow", "t s", "y")], (1, 4), r"\(Pow\) has the exponent"),
    "third power": ([*PLAIN[:2], ("Mul", "t t", "u"), ("Mul", "u t", "y")], (1, 4), r"\(Mul\) multiplies two"),
    "division by the input": ([("Div", "s x", "y")], (1, 4), r"\(Div\) divides by a tensor that depends"),
    "division by zero": ([("Div", "x zero", "y")], (1, 4), r"\(Div\) divides by zero"),
    "relu6": ([("Clip", "x zero s", "y")], (1, 4), r"\(Clip\) is supported as a ReLU only"),
    "max with one": ([("Max", "x s", "y")], (1, 4), r"\(Max\) is supported as max"),
    "steep leaky": ([("LeakyRelu", "x", "y", {"alpha": 1.5})], (1, 4), r"\(LeakyRelu\) has the slope 1.5"),
    "slopes": ([("PRelu", "x v", "y")], (1, 4), r"\(PRelu\) has 4 different slopes"),
    "rounding": ([("Cast", "x", "y", {"to": 7})], (1, 4), r"\(Cast\) rounds values"),
    "training": ([("Dropout", "x r true", "y")], (1, 4), r"\(Dropout\) is in training mode"),
    "mixed activations": (
        [*PLAIN, ("Sigmoid", "y", "z")],
        (1, 4),
        r"share one activation, the ONNX model has ReLU\(\), Sigmoid\(\)",
    ),
    "one linear layer": ([("MatMul", "x W1", "y")], (1, 4), "is one linear layer; a network needs a hidden layer"),
    "nothing": ([("Identity", "x", "y")], (1, 4), "is one linear layer"),
    "fixed batch": (PLAIN, (5, 4), "holds a batch of 5"),
    "input as weights": ([("Gemm", "v2 W1 x", "y")], (1, 6), "is one linear layer"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_no_chain_is_named(name):
    nodes, shape, message = UNSUPPORTED[name]
    if name == "mixed activations":
        nodes = [*nodes[:-2], ("Add", "o b2", "w"), ("Sigmoid", "w", "y")]
    constants = {
        **BASE,
        "k": np.ones((1, 1, 3, 3), F),
        "V": W2 @ np.ones((3, 4), F),
        "r": F(0.5),
        "true": np.array(True),
        "v2": VECTOR[None],
    }
    with pytest.raises(UnsupportedModelError, match=message):
        read_onnx(graph(nodes, shape, constants))


def test_several_inputs_or_outputs_are_named():
    with pytest.raises(UnsupportedModelError, match="exactly one input, got 2: 'x', 'second'"):
        read_onnx(graph(PLAIN, (1, 4), BASE, inputs=["second"]))
    with pytest.raises(UnsupportedModelError, match="exactly one output, got 2: 'y', 'h1'"):
        read_onnx(graph(PLAIN, (1, 4), BASE, outputs=["h1"]))
    initialized = graph(PLAIN, (1, 4), BASE, inputs=["W1"])  # older files list their weights among the inputs
    assert len(read_onnx(initialized).layers) == 2


def test_old_operators_and_sparse_tensors_are_refused():
    with pytest.raises(UnsupportedModelError, match="operators of version 6"):
        read_onnx(graph(PLAIN, (1, 4), BASE, opset=6))


# -- files made to hurt ---------------------------------------------------------------------------


def bent(change, nodes=PLAIN, shape=(1, 4)):
    model = onnx.load_model_from_string(graph(nodes, shape, BASE))
    change(model)
    return model.SerializeToString()


def tensor(model, name):
    return next(item for item in model.graph.initializer if item.name == name)


def put(model, name, array):
    tensor(model, name).CopyFrom(onnx.numpy_helper.from_array(array, name))


def rename_output(model, index, name):
    model.graph.node[index].output[0] = name


def external(model):
    item = tensor(model, "W1")
    item.data_location = onnx.TensorProto.EXTERNAL
    item.external_data.add(key="location", value="/etc/passwd")


HURT = {
    "not a number": (lambda m: put(m, "W1", W1 * F(np.nan)), "tensor 'W1' holds NaN or infinite values"),
    "infinite": (lambda m: put(m, "b2", B2 * F(np.inf)), "tensor 'b2' holds NaN or infinite values"),
    "wrong sizes": (lambda m: tensor(m, "W1").dims.__setitem__(0, 5), "tensor 'W1' does not hold what its shape"),
    "negative sizes": (lambda m: tensor(m, "W1").dims.__setitem__(0, -4), "'W1' has the impossible shape"),
    "huge sizes": (lambda m: tensor(m, "W1").dims.__setitem__(0, 2**40), "tensor 'W1' does not hold what its shape"),
    "layers that do not fit": (lambda m: put(m, "W2", W1), r"\(MatMul\) multiplies tensors of shapes"),
    "bias that does not fit": (lambda m: put(m, "b1", B2), r"\(Add\) combines shapes"),
    "strange type": (lambda m: put(m, "W1", W1.astype(np.complex64)), "is of type COMPLEX64"),
    "external": (external, "tensor 'W1' is stored in another file, which is not read"),
    "a cycle": (lambda m: m.graph.node[0].input.__setitem__(0, "h1"), r"reads the tensor 'h1', which nothing before"),
    "nowhere": (lambda m: m.graph.node[0].input.__setitem__(0, "ghost"), "reads the tensor 'ghost', which nothing"),
    "written twice": (lambda m: rename_output(m, 1, "a"), "writes the tensor 'a' a second time"),
    "over a constant": (lambda m: m.graph.node[0].output.__setitem__(0, "b1"), "no tensor, or one that exists already"),
    "no inputs": (lambda m: m.graph.node[2].ClearField("input"), r"\(Relu\) lacks an input|cannot be evaluated"),
    "no output": (lambda m: m.graph.ClearField("output"), "exactly one output, got 0"),
    "free sizes": (
        lambda m: m.graph.input[0].type.tensor_type.shape.dim[1].ClearField("dim_value"),
        "all but the first",
    ),
    "no shape": (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), "has no shape"),
    "input is constant": (lambda m: tensor(m, "b2").__setattr__("name", "x"), "exactly one input, got 0"),
    "constant output": (lambda m: m.graph.output[0].__setattr__("name", "b1"), "does not depend on the input"),
    "no graph": (lambda m: m.ClearField("graph"), "it holds no graph"),
}


@pytest.mark.parametrize("name", HURT)
def test_files_made_to_hurt_are_refused_in_words(name):
    change, message = HURT[name]
    with pytest.raises((InvalidInputError, UnsupportedModelError), match=message):
        read_onnx(bent(change))


def test_truncated_and_foreign_files_are_refused(tmp_path, rng):
    content = graph(PLAIN, (1, 4), BASE)
    for length in (*rng.integers(1, len(content) - 1, 25).tolist(), 0):
        try:
            found = read_onnx(content[:length])
        except (InvalidInputError, UnsupportedModelError):
            continue
        assert len(found.layers) == 2  # what was cut off does not matter
    (tmp_path / "net.onnx").write_bytes(b"PK\x03\x04" + bytes(rng.integers(0, 256, 300, dtype=np.uint8)))
    with pytest.raises(InvalidInputError, match=r"net\.onnx"):
        Network.from_onnx(tmp_path / "net.onnx")
    with pytest.raises(FileNotFoundError):
        Network.from_onnx(tmp_path / "absent.onnx")


def test_flipped_bytes_give_a_network_or_a_sentence(rng):
    content = graph(PLAIN, (1, 4), BASE)
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = int(rng.integers(256))
        try:
            found = read_onnx(bytes(damaged))
        except (InvalidInputError, UnsupportedModelError) as error:
            assert str(error)  # noqa: PT017
            continue
        Network(found.layers, found.activation)


def test_matrices_that_no_memory_holds_are_refused():
    nodes = [("MatMul", "x K", "a"), ("Relu", "a", "y")]
    with pytest.raises(UnsupportedModelError, match="needs a matrix of"):
        read_onnx(graph(nodes, (1, 100_000, 4), {"K": W1}))


def test_a_declared_output_must_fit():
    with pytest.raises(InvalidInputError, match="declared are 7 values"):
        read_onnx(graph(PLAIN, (1, 4), BASE, out=[1, 7]))


def test_without_the_package_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InvalidInputError, match="pip install onnx"):
        read_onnx(b"")

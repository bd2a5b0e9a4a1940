"""What torch users rely on: dtypes, flags, names, state dicts, refusals by name, compile and export."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from convexnn.activations import LeakyReLU, Polynomial
from convexnn.exceptions import UnsupportedModelError
from convexnn.network import Network
from convexnn.refinement import refine

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def data(n=40):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 3))
    return X, np.sin(2 * X[:, 0]) + X[:, 1]


def seeded(build):
    """A module whose weights do not depend on what ran before, nor change what comes after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def sequential(dtype=torch.float32):
    return seeded(lambda: nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Dropout(0.2), nn.Linear(10, 1)).to(dtype))


class Branching(nn.Module):
    """A module whose code is no Sequential."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3))
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 1)

    def forward(self, x):
        h = self.body(x)
        return self.fc2(torch.relu(self.fc1(h + 0.1 * h**2)))


def snapshot(module):
    flags = [(name, part.requires_grad, part.dtype, part.device) for name, part in module.named_parameters()]
    return flags, [(name, part.training) for name, part in module.named_modules()], list(module.state_dict())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tensors", [False, True])
def test_refined_modules_keep_everything_but_their_weights(dtype, tensors):
    X, y = data()
    module = sequential(dtype).eval()
    module[0].weight.requires_grad_(False)
    before, weights = snapshot(module), copy.deepcopy(module.state_dict())
    inputs, targets = (torch.as_tensor(part, dtype=dtype).requires_grad_(tensors) for part in (X, y))
    found = refine(module, *((inputs, targets) if tensors else (X, y)), lam=0.01)
    assert found.after < found.before
    assert snapshot(found.model) == before == snapshot(module)
    assert all(torch.equal(weights[name], part) for name, part in module.state_dict().items())  # left alone
    assert Network.from_torch(found.model) == found.network  # judged as the dtype stores it
    fresh = sequential(dtype)
    fresh.load_state_dict(found.model.state_dict())
    assert Network.from_torch(fresh) == found.network


def test_nested_and_modules_of_any_code():
    X, y = data()
    nested = seeded(lambda: nn.Sequential(nn.Sequential(nn.Linear(3, 6), nn.ReLU()), nn.Sequential(nn.Linear(6, 1))))
    found = refine(nested, X, y, lam=0.01)
    assert isinstance(found.model[0], nn.Sequential)
    assert found.after < found.before
    module = seeded(Branching)
    before = snapshot(module)
    refined = refine(module, X.astype(np.float32), y, lam=0.01, layers="last2")
    assert refined.after < refined.before
    assert snapshot(refined.model) == before
    points = torch.as_tensor(X, dtype=torch.float32)
    with torch.no_grad():
        changed, body = refined.model.eval()(points)[:, 0].numpy(), module.eval().body(points)
    features = (body + 0.1 * body**2).double().numpy()
    np.testing.assert_allclose(changed, refined.network(features), atol=1e-4)
    deep = seeded(lambda: nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1)))
    assert refine(deep, X, y, lam=0.01, layers="last2").after < 1.0


def hooked(where):
    module = sequential()
    module[where].register_forward_hook(lambda *_: None)
    return module


def lazily_normed(where):
    module = sequential()
    nn.utils.parametrizations.weight_norm(module[where])
    return module


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: hooked(0), r"Layer '0' \(Linear\) has forward hooks"),
        (lambda: hooked(1), r"Layer '1' \(ReLU\) has forward hooks"),
        (lambda: lazily_normed(3), "weights of layer '3' are computed from other parameters"),
        (lambda: sequential().to("meta"), "layer '0' lie on the device 'meta'"),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1)), "BatchNorm1d"),
        (lambda: nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 1)), "'0' .Linear. has no bias"),
        (Branching, "got Branching"),
    ],
)
def test_what_cannot_be_refined_is_named(build, message):
    with pytest.raises(UnsupportedModelError, match=message):
        refine(build(), *data(), lam=0.01)


def test_modules_of_any_code_that_do_not_fit_are_named():
    X, y = data()
    tanh = seeded(Branching)
    tanh.forward = lambda x: tanh.fc2(torch.tanh(tanh.fc1(tanh.body(x))))
    with pytest.raises(UnsupportedModelError, match="head_layers|last2"):
        refine(tanh, X.astype(np.float32), y, layers="last2")
    normed = seeded(Branching)
    nn.utils.parametrizations.weight_norm(normed.fc1)
    with pytest.raises(UnsupportedModelError, match="'fc1' are computed from other parameters"):
        refine(normed, X.astype(np.float32), y, layers="last2")


ACTIVATIONS = ["relu", LeakyReLU(0.2), Polynomial(0.1, 0.5, 0.3)]


def exported(module, points):
    batch = torch.export.Dim("batch")
    return torch.export.export(module, (points,), dynamic_shapes=({0: batch},)).module()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_modules_out_compile_and_export(rng, activation):
    layers = [(rng.standard_normal((b, a)), rng.standard_normal(b)) for a, b in ((3, 5), (5, 4), (4, 2))]
    network = Network(layers, activation)
    module = network.to_torch()
    X = rng.standard_normal((6, 3))
    torch._dynamo.reset()
    for backend in ("eager", "aot_eager"):
        compiled = torch.compile(module, backend=backend, fullgraph=True)
        points = torch.as_tensor(X).requires_grad_(True)
        values = compiled(points)
        np.testing.assert_allclose(values.detach().numpy(), network(X), rtol=1e-12)
        values[:, 0].sum().backward()
        np.testing.assert_allclose(points.grad.numpy(), network.gradient(X)[:, 0], rtol=1e-9, atol=1e-12)
    program = exported(module, torch.as_tensor(X))
    many = rng.standard_normal((11, 3))  # the batch is free
    np.testing.assert_allclose(program(torch.as_tensor(many)).detach().numpy(), network(many), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_refined_modules_compile_and_export():
    X, y = data()
    points = torch.as_tensor(X, dtype=torch.float32)
    for module, options in ((sequential(), {}), (seeded(Branching), {"layers": "last2"})):
        found = refine(module, X.astype(np.float32), y, lam=0.01, **options).model.eval()
        with torch.no_grad():
            torch._dynamo.reset()
            compiled = torch.compile(found, backend="aot_eager", fullgraph=True)
            assert torch.allclose(compiled(points), found(points), atol=1e-6)
            assert torch.allclose(exported(found, points)(points[:7]), found(points[:7]), atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_refined_modules_stay_on_cuda():
    X, y = data()
    points, targets = (torch.as_tensor(part, dtype=torch.float32, device="cuda") for part in (X, y))
    for module, options in ((sequential(), {}), (seeded(Branching), {"layers": "last2"})):
        found = refine(module.to("cuda"), points, targets, lam=0.01, **options)
        assert all(part.is_cuda for part in found.model.parameters())
        assert found.after < found.before

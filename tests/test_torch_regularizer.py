"""LipSDP as a torch module: exact gradients at any depth, certified values, state, and loops of one's own."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import convexnn
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.interop import PolynomialLayer
from convexnn.lipsdp.deep import maximize_deep, normalized_layers
from convexnn.lipsdp.deep_gradient import value_and_gradient
from convexnn.network import Network
from convexnn.torch import LipSDPRegularizer

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "leaky": lambda: nn.LeakyReLU(0.1), "sigmoid": nn.Sigmoid}
SHAPES = [(3, 6, 1), (3, 6, 3), (3, 5, 4, 1), (7, 4, 5, 2), (3, 5, 4, 3, 2)]


def module_of(rng, sizes=(3, 6, 1), activation=nn.ReLU, dtype=torch.float64):
    parts = []
    for a, b in zip(sizes, sizes[1:], strict=False):
        linear = nn.Linear(a, b, dtype=dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.as_tensor(rng.standard_normal((b, a)) / np.sqrt(a)))
        parts += [linear, activation()]
    return nn.Sequential(*parts[:-1])


def along(module, regularizer, direction, step):
    """Value at weights moved along a direction."""
    with torch.no_grad():
        for part, d in zip(module.parameters(), direction, strict=True):
            part += step * d
        value = regularizer(module).item()
        for part, d in zip(module.parameters(), direction, strict=True):
            part -= step * d
    return value


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize(
    "activation", ["relu", *[pytest.param(a, marks=pytest.mark.slow) for a in ("tanh", "leaky", "sigmoid")]]
)
def test_gradient_is_the_finite_difference(rng, sizes, activation):
    module = module_of(rng, sizes, ACTIVATIONS[activation])
    regularizer = LipSDPRegularizer(tol=1e-11 if sizes[2:] == (1,) else 1e-8)
    regularizer(module).backward()
    for index in range(0, len(module), 2):
        direction = [torch.zeros_like(part) for part in module.parameters()]
        direction[index] = torch.as_tensor(rng.standard_normal(tuple(module[index].weight.shape)))
        slope = float((module[index].weight.grad * direction[index]).sum())
        ahead, behind = (along(module, regularizer, direction, step) for step in (1e-4, -1e-4))
        assert (ahead - behind) / 2e-4 == pytest.approx(slope, rel=2e-4, abs=1e-4)
        assert module[index].bias.grad is None


@pytest.mark.slow
def test_gradcheck(rng):
    for sizes in ((2, 3, 1), (2, 3, 2), (2, 3, 3, 1)):
        module, regularizer = module_of(rng, sizes), LipSDPRegularizer(tol=1e-10)

        def value(*weights, module=module, regularizer=regularizer):
            copied = copy.deepcopy(module)
            for i, W in enumerate(weights):
                copied[2 * i]._parameters["weight"] = W
            return regularizer(copied)

        weights = [layer.weight.detach().clone().requires_grad_(True) for layer in module[::2]]
        assert torch.autograd.gradcheck(value, weights, eps=1e-4, atol=2e-4, rtol=1e-3)
        (gradient,) = torch.autograd.grad(value(*weights), weights[:1], create_graph=True)
        assert not gradient.requires_grad  # no second derivatives


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize(
    ("dtype", "digits"), [(torch.float64, 1e-7), (torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)]
)
def test_value_is_the_certified_bound(rng, sizes, dtype, digits):
    module = module_of(rng, sizes, dtype=dtype)
    regularizer = LipSDPRegularizer()
    value = regularizer(module)
    value.backward()
    certificate = regularizer.certificate()
    assert value.dtype is dtype
    assert module[0].weight.grad.dtype is dtype
    assert value.item() == pytest.approx(certificate.bound, rel=digits)
    assert certificate.check(Network.from_torch(module)) == certificate.bound


@pytest.mark.parametrize("sizes", [(4, 12, 1), (4, 12, 2), pytest.param((4, 9, 8, 2), marks=pytest.mark.slow)])
def test_regularizer_in_a_loop_of_ones_own(rng, sizes):
    X = torch.as_tensor(rng.standard_normal((60, 4)), dtype=torch.float32)
    y = torch.sin(X[:, :1]).expand(-1, sizes[-1])
    module, regularizer = module_of(rng, sizes, dtype=torch.float32), LipSDPRegularizer()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(module(X), y) + 0.1 * regularizer(module) ** 2
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0]
    with torch.no_grad():
        value = regularizer(module).item()
    assert value == pytest.approx(regularizer.certificate().bound, rel=1e-5)


def test_power_steps_stay_below_and_close(rng):
    module, regularizer = module_of(rng, (4, 30, 1)), LipSDPRegularizer(exact_every=5, power_steps=2)
    for _ in range(8):
        with torch.no_grad():
            module[0].weight += 0.01 * torch.as_tensor(rng.standard_normal((30, 4)))
        value, bound = regularizer(module).item(), regularizer.certificate().bound
        assert 0.99 * bound <= value <= bound * (1 + 1e-7)


def test_multipliers_of_the_last_call_save_steps(rng):
    weights = [rng.standard_normal((b, a)) / np.sqrt(a) for a, b in ((8, 16), (16, 16), (16, 3))]
    cold = value_and_gradient(weights)
    moved = [W * (1 + 1e-3 * rng.standard_normal(W.shape)) for W in weights]
    warm, again = value_and_gradient(moved, start=cold.t), value_and_gradient(moved)
    assert warm.value == pytest.approx(again.value, rel=1e-7)
    assert warm.iterations < 0.8 * again.iterations
    for start in (np.full_like(cold.t, np.nan), -cold.t, cold.t[:-1], 1e-30 * cold.t, 1e30 * cold.t):  # sabotage
        assert value_and_gradient(moved, start=start).value == pytest.approx(again.value, rel=1e-6)
    assert maximize_deep(normalized_layers(moved)[0]).lower > 0


def test_steps_of_any_size_leave_no_trace():
    """From multipliers of the end, on the boundary, Newton's method did not arrive: values were a third too high."""
    rng = np.random.default_rng(0)
    weights, start = [rng.uniform(-1, 1, shape) / np.sqrt(shape[1]) for shape in ((16, 3), (16, 16), (1, 16))], None
    for step in (0.0, 0.01, 0.01, 0.02, 0.05, 0.2, 1.0):
        weights = [W + step * np.sign(rng.standard_normal(W.shape)) / np.sqrt(W.shape[1]) for W in weights]
        warm, cold = value_and_gradient(weights, start=start), value_and_gradient(weights)
        start = warm.t
        assert warm.value == pytest.approx(cold.value, rel=1e-7)
        for one, other in zip(warm.gradients, cold.gradients, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


def test_state_survives_copies_pickles_and_state_dicts(rng):
    for sizes in SHAPES[:4]:
        module, regularizer = module_of(rng, sizes), LipSDPRegularizer(tol=1e-7)
        value = regularizer(module).item()
        buffer = io.BytesIO()
        torch.save(regularizer.state_dict(), buffer)
        loaded = LipSDPRegularizer()
        buffer.seek(0)
        loaded.load_state_dict(torch.load(buffer, weights_only=True))
        copies = [copy.deepcopy(regularizer), pickle.loads(pickle.dumps(regularizer)), loaded]
        assert not list(regularizer.parameters())  # nothing for an optimizer
        for other in copies:
            assert other(module).item() == pytest.approx(value, rel=1e-6)
            assert other.certificate().bound == pytest.approx(value, rel=1e-5)
    together = nn.ModuleDict({"model": module, "regularizer": regularizer})
    assert len(list(together.parameters())) == len(list(module.parameters()))
    together.load_state_dict(copy.deepcopy(together).state_dict())


def test_one_regularizer_takes_models_of_other_shapes(rng):
    regularizer = LipSDPRegularizer()
    for sizes in (*SHAPES, *SHAPES[::-1]):
        module = module_of(rng, sizes)
        assert regularizer(module).item() == pytest.approx(regularizer.certificate().bound, rel=1e-6)


def test_parametrized_weights_get_their_gradients(rng):
    module = module_of(rng, (3, 5, 4, 1))
    nn.utils.parametrizations.weight_norm(module[2])
    value = LipSDPRegularizer()(module)
    value.backward()
    gradients = [part.grad for part in module[2].parametrizations.parameters()]
    assert all(bool(g.isfinite().all()) and bool(g.any()) for g in gradients)


def test_corners(rng):
    # f = v relu(w'x): the Lipschitz constant is |v| |w|, here 2 * 5; one more unit of slope one in between leaves it
    module = Network.shallow([[3.0, 4.0]], [0.5], [-2.0]).to_torch()
    assert LipSDPRegularizer()(module).item() == pytest.approx(10.0, rel=1e-9)
    deeper = nn.Sequential(module[0], nn.ReLU(), nn.Linear(1, 1, dtype=torch.float64), nn.ReLU(), module[2])
    with torch.no_grad():
        deeper[2].weight.fill_(1.0)
    assert LipSDPRegularizer()(deeper).item() == pytest.approx(10.0, rel=1e-6)
    for sizes in ((3, 5, 1), (3, 5, 2), (3, 5, 4, 2)):
        module, regularizer = module_of(rng, sizes), LipSDPRegularizer()
        with torch.no_grad():
            module[0].weight.zero_()
        value = regularizer(module)
        value.backward()
        assert value.item() == 0
        assert bool(module[0].weight.grad.isfinite().all())
        with torch.no_grad():
            module[0].weight[0, 0] = float("nan")
        assert np.isnan(regularizer(module).item())


@pytest.mark.slow
def test_a_compiled_step_leaves_the_regularizer_eager(rng):
    module, regularizer = module_of(rng, (3, 5, 1), dtype=torch.float32), LipSDPRegularizer()
    compiled = torch.compile(module, backend="eager")
    X = torch.as_tensor(rng.standard_normal((7, 3)), dtype=torch.float32)
    loss = compiled(X).square().mean() + regularizer(module)
    loss.backward()
    assert bool(module[0].weight.grad.isfinite().all())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 1)), "GELU"),
        (nn.Linear(2, 1), "got Linear"),
        (nn.Sequential(nn.Linear(2, 2), PolynomialLayer(1.0, 0.0, 0.0), nn.Linear(2, 1)), "unbounded slopes"),
        (nn.Sequential(nn.Linear(2, 2, device="meta"), nn.ReLU(), nn.Linear(2, 1)), "'0' lie on the device 'meta'"),
    ],
)
def test_other_models_are_refused_by_name(model, message):
    with pytest.raises(UnsupportedModelError, match=message):
        LipSDPRegularizer()(model)


@pytest.mark.parametrize("settings", [{"exact_every": 0}, {"power_steps": -1}, {"tol": 0.0}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InvalidInputError, match="must"):
        LipSDPRegularizer(**settings)


def test_nothing_to_certify():
    with pytest.raises(InvalidInputError, match="no model to certify"):
        LipSDPRegularizer().certificate()


def test_the_sub_package_is_found_when_used():
    assert convexnn.torch.LipSDPRegularizer is LipSDPRegularizer


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_regularizer_on_cuda(rng):
    for sizes in SHAPES:
        module = module_of(rng, sizes).to("cuda")
        value = LipSDPRegularizer()(module)
        value.backward()
        assert value.is_cuda
        assert module[0].weight.grad.is_cuda


def test_small_deep_programs_use_one_thread_and_put_the_rest_back(monkeypatch) -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    from convexnn.torch import regularizer as module

    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info()]

    def spied(*arguments):
        seen.extend(threads())
        return solved(*arguments)

    seen, solved = [], module.value_and_gradient
    monkeypatch.setattr(module, "value_and_gradient", spied)
    layers = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1)]
    with threadpool_limits(2):
        before = threads()
        module.LipSDPRegularizer()(nn.Sequential(*layers))
        assert threads() == before
    assert max(before) == 2
    assert set(seen) == {1}

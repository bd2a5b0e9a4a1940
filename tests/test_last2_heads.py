"""Heads of torch modules: found whatever the module is, replaced in a copy, certified on their features."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from convexnn import InvalidInputError, UnsupportedModelError, refine
from convexnn.network import Network
from convexnn.refinement import HeadOptions, replace_head
from convexnn.refinement.torch_head import find_head, gather, put_head
from tests._families import few

torch = pytest.importorskip("torch")
nn = torch.nn


class Body(nn.Module):
    """A module whose forward is code: batch norm, dropout, functional activations, one or two Linear layers last."""

    def __init__(self, two: bool, k: int = 3) -> None:
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)
        self.two = two
        self.fc1, self.fc2 = nn.Linear(6, 5), nn.Linear(5 if two else 6, k)

    def forward(self, x):
        h = self.drop(torch.tanh(self.norm(self.first(x))))
        return self.fc2(torch.relu(self.fc1(h))) if self.two else self.fc2(h)


def sequential(k=3):
    return nn.Sequential(
        nn.Linear(4, 6),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Dropout(0.3), nn.Linear(5, k)),
    )


QUICK = {"relu": {"max_iter": 2, "rounds": 1}, "polynomial": {}}
MODULES = {
    "two layers": lambda: Body(True),
    "one layer": lambda: Body(False),
    "sequential": sequential,
    "one output": lambda: Body(True, 1),
}


def problem(make, dtype=None, n=40):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((n, 4)), rng.integers(0, 3, n)
    X[:, 0] += 2.0 * y
    torch.manual_seed(0)
    module = make().to(dtype or torch.float32)
    k = find_head(module, X, None, 16).outputs.shape[1]
    with torch.no_grad():
        module(
            torch.as_tensor(X, dtype=next(module.parameters()).dtype)
        )  # running statistics that are not the first ones
    return module, X, np.minimum(y, max(k, 2) - 1)


@pytest.fixture(autouse=True)
def _same_seed():
    state = torch.random.get_rng_state()
    yield
    torch.random.set_rng_state(state)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("head", few(["relu", "polynomial"]))
def test_heads_of_many_modules(name, head):
    module, X, y = problem(MODULES[name])
    module.train()
    module.drop = getattr(module, "drop", None)
    original = copy.deepcopy(module.state_dict())
    modes = {key: part.training for key, part in module.named_modules()}
    result = refine(module, X, y, layers="last2", head=head, radius=0.1, lam=1e-2, tol=1e-2, **QUICK[head])
    assert type(result.model) is type(module)
    assert result.model is not module
    assert all(torch.equal(value, original[key]) for key, value in module.state_dict().items())
    assert {key: part.training for key, part in module.named_modules()} == modes
    assert not module._forward_pre_hooks
    for a, b in zip(module.buffers(), result.model.buffers(), strict=True):
        assert torch.equal(a, b)
    # the module computes its certified head on its own features
    with torch.no_grad():
        scores = result.model.eval()(torch.as_tensor(X, dtype=torch.float32)).double().numpy()
    expected = result.network(result.features).reshape(len(X), -1)
    np.testing.assert_allclose(scores, expected, atol=1e-4 * (1 + np.abs(expected).max()))
    predicted = (scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1)
    assert np.mean(predicted == y) == result.accuracy_after
    assert result.certified <= result.accuracy_after
    if head == "relu":
        assert result.after <= result.before
    else:
        assert result.solution.gap <= 1e-2
        assert np.isnan(result.before)


@pytest.mark.parametrize("head", ["relu", "polynomial"])
@pytest.mark.slow
def test_no_attack_on_the_features_breaks_a_certified_sample(head):
    module, X, y = problem(MODULES["two layers"], torch.float64)
    radius = 0.1
    result = replace_head(module, X, y, HeadOptions(head=head, radius=radius, lam=1e-3, tol=1e-2, **QUICK[head]))
    rng = np.random.default_rng(1)
    sure = result.margins > 0  # the bound below is of every sample, certified or not
    assert sure.any()
    for _ in range(200):
        step = rng.standard_normal(result.features.shape)
        step *= radius / np.linalg.norm(step, axis=1, keepdims=True)
        scores = result.network(result.features + step)
        own = scores[np.arange(len(y)), y]
        scores[np.arange(len(y)), y] = -np.inf
        assert (own - scores.max(axis=1) >= result.margins - 1e-9).all()


def test_states_travel_between_equal_heads():
    module, X, y = problem(MODULES["two layers"])
    result = replace_head(module, X, y, HeadOptions(head="polynomial", lam=1e-2))
    twin = copy.deepcopy(result.model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    twin.load_state_dict(result.model.state_dict())
    inputs = torch.as_tensor(X, dtype=torch.float32)
    assert torch.equal(twin.eval()(inputs), result.model.eval()(inputs))


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_features_do_not_depend_on_the_batches(batch_size):
    module, X, _ = problem(MODULES["two layers"], torch.float64)
    features, outputs = gather(module, X, "fc1", batch_size)
    reference = gather(module, torch.as_tensor(X), "fc1", 40)
    np.testing.assert_allclose(features, reference[0], atol=1e-12)
    np.testing.assert_allclose(outputs, reference[1], atol=1e-12)
    assert features.dtype == np.float64


def test_a_failing_body_leaves_modes_and_hooks_alone():
    module, X, _ = problem(MODULES["two layers"])
    module.train()
    module.norm.eval()
    with pytest.raises(RuntimeError):
        gather(module, X[:, :3], "fc1", 8)
    assert module.training
    assert not module.norm.training
    assert not module.fc1._forward_pre_hooks


def test_put_head_is_exact_for_every_kind_of_end(rng):
    for name in ("two layers", "one layer", "sequential"):
        module, X, _ = problem(MODULES[name], torch.float64)
        head = find_head(module, X, None, 16)
        d, k = head.features.shape[1], head.outputs.shape[1]
        np.testing.assert_allclose(head.network(module)(head.features), head.outputs, atol=1e-10)
        for activation in ("relu", "polynomial"):
            network = Network.shallow(
                rng.standard_normal((9, d)), rng.standard_normal(9), rng.standard_normal((k, 9)), np.ones(k), activation
            )
            changed = put_head(module, head, network).eval()
            with torch.no_grad():
                np.testing.assert_allclose(changed(torch.as_tensor(X)).numpy(), network(head.features), atol=1e-9)


def test_named_layers_and_what_is_no_head():
    module, X, y = problem(MODULES["two layers"])
    options = HeadOptions(head_layers=("fc2",), lam=1e-2, max_iter=2, rounds=1)
    result = replace_head(module, X, y, options)
    assert result.features.shape[1] == 5
    with pytest.raises(InvalidInputError, match="no Linear layer"):
        replace_head(module, X, y, HeadOptions(head_layers=("norm",)))

    class Twice(Body):
        def forward(self, x):
            return torch.sigmoid(super().forward(x))

    with pytest.raises(UnsupportedModelError, match="No head was found"):
        replace_head(Twice(True), X, y)
    with pytest.raises(UnsupportedModelError, match="torch modules"):
        replace_head(object(), X, y)


def test_layers_that_cannot_be_overwritten_are_named(rng):
    """Written in place they would change the body, or be computed anew: the reported objective would be false."""
    twice, first, tied = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
    tied.weight = first.weight
    cases = [
        (nn.Sequential(twice, nn.ReLU(), twice, nn.ReLU(), nn.Linear(3, 1)), "share weights"),
        (nn.Sequential(first, nn.ReLU(), tied, nn.ReLU(), nn.Linear(3, 1)), "share weights"),
        (nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 1)), "'0' are computed"),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.utils.spectral_norm(nn.Linear(4, 1))), "'2' are computed"),
    ]
    for model, word in cases:
        for layers in ("all", "last2"):
            with pytest.raises(UnsupportedModelError, match=word):
                refine(model, rng.standard_normal((20, 3)), rng.standard_normal(20), layers=layers)


def test_bad_arguments_are_sentences():
    module, X, y = problem(MODULES["two layers"])
    for arguments, word in [
        ({"head": "cubic"}, "head must be"),
        ({"head": "relu", "radius": -1.0}, "radius"),
        ({"head": "polynomial", "lam": 0.0}, "lam"),
        ({"head": "relu", "batch_size": 0}, "batch_size"),
    ]:
        with pytest.raises(InvalidInputError, match=word):
            refine(module, X, y, layers="last2", **arguments)
    with pytest.raises(InvalidInputError, match="last2"):
        refine(module, X, y, head="relu")
    for bad in (y + 1, y[:-1], np.zeros(len(y), dtype=int)):
        with pytest.raises(InvalidInputError, match="y "):
            replace_head(module, X, bad)
    with pytest.raises(InvalidInputError, match="NaN"):
        replace_head(module, np.full_like(X, np.nan), y)


def test_a_huge_radius_is_the_trivial_head():
    module, X, y = problem(MODULES["two layers"], torch.float64)
    result = replace_head(module, X, y, HeadOptions(head="polynomial", radius=1e3, lam=1e-2, time_limit=1.0))
    assert result.status == "trivial"
    assert result.certified == 0.0
    assert result.after == pytest.approx(2 / 3)  # two rivals with margin zero and loss one, divided by three classes

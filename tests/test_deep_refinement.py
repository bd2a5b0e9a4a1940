"""Layer-by-layer refinement: never worse, monotone, whatever the solver does."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn import InvalidInputError, Network, as_network, lipschitz, refine
from convexnn.losses import Squared
from convexnn.refinement import deep as module
from convexnn.refinement.deep import DeepObjective, balanced, refine_deep, without_idle_units
from convexnn.refinement.deep_newton import LayerNewton, LayerSolution
from convexnn.refinement.options import RefineOptions

REGULARIZERS = ["lipschitz", "l2"]


def problem(rng, sizes=(3, 6, 5, 1), n=40):
    X = rng.standard_normal((n, sizes[0]))
    Y = np.column_stack([np.sin(2 * X[:, 0] + c) + X[:, 1] * X[:, -1] for c in range(sizes[-1])])
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    network = Network([(rng.standard_normal((b, a)) / np.sqrt(a), 0.1 * rng.standard_normal(b)) for a, b in pairs])
    return X, Y, network


def values(result):
    return [row["objective"] for row in result.history]


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_numbers_are_those_of_the_networks(rng, regularizer):
    X, Y, network = problem(rng)
    result = refine_deep(network, X, Y, RefineOptions(regularizer=regularizer, lam=0.02, sweeps=1))
    R = [
        sum((W**2).sum() for W, _ in net.layers) + sum((b**2).sum() for _, b in net.layers[:-1])
        if regularizer == "l2"
        else lipschitz(net).bound ** 2
        for net in (network, result.network)
    ]
    assert result.before == pytest.approx(np.mean((network(X) - Y[:, 0]) ** 2) + 0.02 * R[0], rel=1e-10)
    assert result.after == pytest.approx(np.mean((result.network(X) - Y[:, 0]) ** 2) + 0.02 * R[1], rel=1e-10)
    assert result.after < 0.9 * result.before
    assert result.certificate.check(result.network) == result.certificate.bound
    assert result.network.n_hidden == network.n_hidden
    assert values(result) == sorted(values(result), reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_fifty_steps_without_an_increase(rng, regularizer):
    steps = 0
    for seed in range(10):
        if steps >= 50:
            break
        X, Y, network = problem(np.random.default_rng(seed), n=30)
        result = refine_deep(network, X, Y, RefineOptions(regularizer=regularizer, lam=0.01, sweeps=6))
        objective = DeepObjective(X, Y, np.full(30, 1 / 30), Squared(), regularizer, 0.01)
        steps += len([row for row in result.history if row["stage"].startswith(("layer", "last"))])
        assert sum(after > before for before, after in zip(values(result), values(result)[1:], strict=False)) == 0
        assert objective(result.network) == result.after
    assert steps >= 50


def test_three_hidden_layers_and_two_outputs_with_margins(rng):
    X, Y, network = problem(rng, (3, 5, 5, 4, 2), n=30)
    Y = np.where(Y > 0, 1.0, -1.0)
    result = refine_deep(network, X, Y, RefineOptions(lam=0.01, loss="squared_hinge", sweeps=1))
    assert result.after < result.before
    assert {row["stage"] for row in result.history} >= {f"layer {k}" for k in range(4)}


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_a_solver_that_lies_or_fails_cannot_make_it_worse(rng, monkeypatch, regularizer):
    X, Y, network = problem(rng)
    garbage = iter(
        [
            lambda shape: np.full(shape, np.nan),
            lambda shape: rng.standard_normal(shape) * 50,
            lambda shape: np.full(shape, 1e200),
            lambda shape: np.zeros(shape),
        ]
        * 2
    )

    def liar(self, tol, max_iter, deadline):
        return LayerSolution(next(garbage)(self.shape), 0.0, 1, "optimal")

    monkeypatch.setattr(LayerNewton, "solve", liar)
    result = refine_deep(network, X, Y, RefineOptions(regularizer=regularizer, lam=0.02, sweeps=1))
    assert result.after <= result.before
    assert values(result) == sorted(values(result), reverse=True)

    def broken(self, tol, max_iter, deadline):
        raise np.linalg.LinAlgError("no digits")

    monkeypatch.setattr(LayerNewton, "solve", broken)
    result = refine_deep(network, X, Y, RefineOptions(lam=0.02, sweeps=1))
    assert {row["solver"] for row in result.history[1:]} <= {"failed", ""}
    assert result.after <= result.before


def test_an_interrupt_keeps_the_best_network(rng, monkeypatch):
    X, Y, network = problem(rng)
    original, calls = LayerNewton.step, []

    def interrupted(self):
        calls.append(None)
        if len(calls) == 15:
            raise KeyboardInterrupt
        original(self)

    monkeypatch.setattr(LayerNewton, "step", interrupted)
    result = refine_deep(network, X, Y, RefineOptions(lam=0.02))
    assert result.history[-1]["solver"] == "interrupted"
    assert len(calls) == 15
    assert result.after <= result.before
    monkeypatch.setattr(module._Sweeps, "run", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    result = refine_deep(network, X, Y, RefineOptions(lam=0.02))
    assert result.network is network
    assert result.status == "unchanged"


def test_a_time_limit_of_nothing_returns_the_start(rng):
    X, Y, network = problem(rng)
    result = refine_deep(network, X, Y, RefineOptions(lam=0.02, time_limit=0.0))
    assert result.after <= result.before
    assert len(result.history) <= 2


def test_idle_units_cost_nothing(rng):
    X, Y, network = problem(rng)
    (W0, b0), (W1, b1), last = network.layers
    b0 = b0.copy()
    b0[2] = -100.0
    with_idle = Network([(W0, b0), (W1, b1), last])
    pruned = without_idle_units(with_idle, X)
    np.testing.assert_allclose(pruned(X), with_idle(X), atol=1e-12)
    assert not pruned.layers[0][0][2].any()
    assert lipschitz(pruned).bound <= lipschitz(with_idle).bound * (1 + 1e-6)
    result = refine_deep(with_idle, X, Y, RefineOptions(lam=0.02, sweeps=1))
    assert result.history[1]["stage"] == "idle units"
    assert result.after < result.history[1]["objective"]


def test_balancing_keeps_the_function_and_lowers_weight_decay(rng):
    X, Y, network = problem(rng)
    (W0, b0), *rest = network.layers
    uneven = Network([(100 * W0, 100 * b0), *rest])
    even = balanced(uneven)
    np.testing.assert_allclose(even(X), uneven(X), rtol=1e-9, atol=1e-9)
    objective = DeepObjective(X, Y, np.full(len(X), 1 / len(X)), Squared(), "l2", 1.0)
    assert objective.penalty(even) < 0.1 * objective.penalty(uneven)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_corners(rng, regularizer):
    X, Y, network = problem(rng, (2, 1, 1, 1), n=1)
    cases = [
        (network, X, Y),
        (Network([(0 * W, 0 * b) for W, b in network.layers]), X, Y),
        (network, np.ones((5, 2)), np.arange(5.0)[:, None]),
        (network, np.repeat(X, 4, axis=0), np.repeat(Y, 4, axis=0)),
    ]
    cases += [(problem(rng)[2], scale * problem(rng)[0], problem(rng)[1]) for scale in (1e-3, 1e3)]
    for net, inputs, targets in cases:
        result = refine_deep(net, inputs, targets, RefineOptions(regularizer=regularizer, lam=0.1, sweeps=1))
        assert np.isfinite(result.after)
        assert result.after <= result.before


def test_a_loss_without_curvature_is_refused(rng):
    X, Y, network = problem(rng)
    with pytest.raises(InvalidInputError, match="smooth loss"):
        refine_deep(network, X, np.sign(Y), RefineOptions(loss="hinge"))
    with pytest.raises(InvalidInputError, match="sweeps"):
        RefineOptions(sweeps=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_deep_torch_module_comes_back_as_one(rng, dtype):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    X, Y, network = problem(rng)
    module = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1))
    module = module.to(getattr(torch, dtype))
    with torch.no_grad():
        for layer, (W, b) in zip([module[0], module[3], module[5]], network.layers, strict=True):
            layer.weight.copy_(torch.from_numpy(W.copy()))
            layer.bias.copy_(torch.from_numpy(b.copy()))
    original = {key: value.clone() for key, value in module.state_dict().items()}
    result = refine(module, X, Y, lam=0.02, sweeps=1)
    assert type(result.model) is nn.Sequential
    assert [type(layer) for layer in result.model] == [type(layer) for layer in module]
    assert all(torch.equal(value, original[key]) for key, value in module.state_dict().items())
    assert next(result.model.parameters()).dtype == getattr(torch, dtype)
    assert as_network(result.model) == result.network
    objective = DeepObjective(X, Y, np.full(len(X), 1 / len(X)), Squared(), "lipschitz", 0.02)
    assert objective(result.network) == result.after < result.before


def test_deep_models_take_no_options_of_shallow_ones(rng):
    X, Y, network = problem(rng)
    for options in ({"start": "adam"}, {"pattern_search": 1}, {"method": "alternating"}):
        with pytest.raises(InvalidInputError, match="one hidden layer"):
            refine(network, X, Y, **options)
    with pytest.raises(InvalidInputError, match="y must have shape"):
        refine(network, X, Y[:-1])

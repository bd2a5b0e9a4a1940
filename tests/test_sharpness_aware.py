"""Sharpness-aware minimization: the step is the published one, radius zero is the base optimizer, nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convexnn.activations import ReLU
from convexnn.estimators import SafeSNNRegressor
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.training import SAMTrainer, pretrain
from convexnn.training.data import canonical_rows
from convexnn.training.problem import Scaling, TrainingProblem

BASES = ("adam", "sgd")


@pytest.fixture
def data(rng):
    X = rng.standard_normal((50, 3))
    return X, (X[:, 0] + X[:, 1] ** 2 > 0.7).astype(float)


def quick(X, y, method, **settings):
    chosen = {"hidden_units": 6, "epochs": 40, "random_state": 0, "loss": "squared_hinge"} | settings
    return pretrain(X, y, method=method, **chosen)


def problem_of(X, y, loss="squared", dtype="float64", **settings):
    rows = canonical_rows(X, y, loss=loss)
    return TrainingProblem(rows, None, loss, ReLU(), Scaling.of(rows, loss), "cpu", dtype, **settings)


def layers_of(problem, rng, m=5):
    d = problem.rows.X.shape[1]
    arrays = [(rng.standard_normal((m, d)), rng.standard_normal(m)), (rng.standard_normal((1, m)), np.array([0.3]))]
    return [tuple(problem.tensor(part).requires_grad_(True) for part in pair) for pair in arrays]


def mean_squared_gradient(X, t, weight, layers):
    """Gradient of ``sum_k weight_k (v'relu(W x_k + b) + c - t_k)^2`` by hand, in the order W, b, v, c."""
    (W, b), (V, c) = layers
    inner = X @ W.T + b
    active = np.maximum(inner, 0.0)
    slope = 2 * weight * (active @ V[0] + c[0] - t)
    back = (inner > 0) * slope[:, None] * V[0]
    return [back.T @ X, back.sum(axis=0), (active.T @ slope)[None], np.array([slope.sum()])]


@pytest.mark.parametrize("rho", [1e-3, 0.05, 2.0])
def test_a_step_is_the_gradient_at_the_moved_weights(data, rng, rho):
    X, y = data
    problem = problem_of(X, 3 * y + X[:, 2], weight_decay=0.1)
    layers = layers_of(problem, rng)
    SAMTrainer(rho=rho).objective(problem, layers, problem.all_rows).backward()
    batch = [part.numpy() for part in problem.all_rows]
    flat = [part.detach().numpy() for pair in layers for part in pair]
    at = [(flat[0], flat[1]), (flat[2], flat[3])]
    g = mean_squared_gradient(batch[0], batch[1][:, 0], batch[2], at)
    length = np.sqrt(sum((part**2).sum() for part in g))
    moved = [part + rho * slope / length for part, slope in zip(flat, g, strict=True)]
    expected = mean_squared_gradient(batch[0], batch[1][:, 0], batch[2], [(moved[0], moved[1]), (moved[2], moved[3])])
    penalized = [2 * 0.1 * part for part in flat[:3]] + [np.zeros(1)]  # weight decay is that of the weights themselves
    found = [part.grad.numpy() for pair in layers for part in pair]
    for one, two, decay in zip(found, expected, penalized, strict=True):
        np.testing.assert_allclose(one, two + decay, rtol=1e-10, atol=1e-12)


def test_the_move_has_length_rho_and_climbs(data, rng):
    X, y = data
    problem = problem_of(X, y, loss="logistic")
    layers = layers_of(problem, rng)
    moved = SAMTrainer(rho=0.3).ascend(problem, layers, problem.all_rows)
    steps = [(a - b).detach() for new, old in zip(moved, layers, strict=True) for a, b in zip(new, old, strict=True)]
    assert float(sum((step**2).sum() for step in steps)) == pytest.approx(0.09, rel=1e-12)
    before, after = (problem.data_loss(point, problem.all_rows).item() for point in (layers, moved))
    assert after > before


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rho_zero_is_the_base_optimizer(data, base, dtype):
    X, y = data
    options = {"dtype": dtype, "batch_size": 16, "weight_decay": 1e-3}
    plain, sam = quick(X, y, base, **options), quick(X, y, SAMTrainer(rho=0.0, base=base), **options)
    assert sam.network == plain.network
    assert sam.best_objective == plain.best_objective


def test_small_rho_is_near_and_large_rho_is_not(data):
    X, y = data
    plain = quick(X, y, "adam", epochs=5)
    near = quick(X, y, SAMTrainer(rho=1e-9), epochs=5)
    far = quick(X, y, SAMTrainer(rho=0.5), epochs=5)
    np.testing.assert_allclose(near.network(X), plain.network(X), atol=1e-6)
    assert np.abs(far.network(X) - plain.network(X)).max() > 1e-3


def test_the_objective_is_that_of_the_weights(data):
    X, y = data
    result = quick(X, y, SAMTrainer(rho=0.2), lam=1e-3, epochs=150)
    net, signs = result.network, 2 * y - 1
    loss = np.mean(np.maximum(1 - signs * net(X), 0) ** 2)
    penalty = np.sum(net.W**2) + np.sum(net.b**2) + np.sum(net.v**2)
    assert result.best_objective == pytest.approx(loss + 1e-3 * penalty, rel=1e-9)
    assert result.best_objective < 0.7 * result.history[0]["objective"]


@pytest.mark.slow
def test_it_starts_a_convex_fit(data):
    X, y = data
    model = SafeSNNRegressor(4, start="sam", lam=0.1, random_state=0).fit(X, y)
    assert model.objective_ < model.start_objective_
    adam = SafeSNNRegressor(4, start="adam", lam=0.1, random_state=0).fit(X, y)
    assert model.start_objective_ != adam.start_objective_


def test_a_flat_loss_moves_nothing(rng):
    """All margins beyond one: the gradient is zero, and zero over zero must not be taken."""
    X = rng.uniform(1, 2, (10, 2))
    problem = problem_of(X, np.ones(10), loss="squared_hinge")
    layers = [
        tuple(p.requires_grad_(True) for p in pair)
        for pair in problem.layers(Network.shallow([[0.0, 0.0]], [1.0], [5.0]))
    ]
    value = SAMTrainer(rho=0.5).objective(problem, layers, problem.all_rows)
    value.backward()
    assert value.item() == 0
    assert all(bool(torch.isfinite(part.grad).all()) for pair in layers for part in pair)


@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_huge_and_tiny_gradients_keep_the_length(scale):
    problem = problem_of(np.array([[-1.0], [1.0]]), np.array([0.0, 1.0]))
    values = [np.array([[1.0]]), np.array([0.5]), np.array([[scale]]), np.array([0.0])]
    tensors = [problem.tensor(part).requires_grad_(True) for part in values]
    layers = [(tensors[0], tensors[1]), (tensors[2], tensors[3])]
    moved = SAMTrainer(rho=1.0).ascend(problem, layers, problem.all_rows)
    step = [(a - b).detach() for new, old in zip(moved, layers, strict=True) for a, b in zip(new, old, strict=True)]
    small = [part for part, value in zip(step, values, strict=True) if np.abs(value).max() < 1e10]
    assert all(bool(torch.isfinite(part).all()) for part in step)
    assert 0 < float(sum((part**2).sum() for part in small)) <= 1 + 1e-9


def test_a_checkpoint_of_another_rho_is_refused(data, tmp_path):
    X, y = data
    path = tmp_path / "run.npz"
    quick(X, y, SAMTrainer(rho=0.1), checkpoint=path)
    with pytest.raises(InvalidInputError):
        quick(X, y, SAMTrainer(rho=0.2), checkpoint=path)


@pytest.mark.parametrize(
    "settings", [{"rho": -0.1}, {"rho": np.nan}, {"rho": np.inf}, {"rho": "x"}, {"base": "lion"}, {"base": 3}]
)
def test_settings_that_cannot_be_meant(settings):
    with pytest.raises(InvalidInputError):
        SAMTrainer(**settings)

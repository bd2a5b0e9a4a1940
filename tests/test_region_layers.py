"""Two hidden layers: the chain bound by sampling, by finite differences and beside the arrow form; safe training."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from convexnn.certificates.region import region_bound
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.regions.region import Region, ellipsoid
from convexnn.training import RegionOptions, train_safe_region
from convexnn.training.region_evaluation import ascent, polished
from convexnn.training.region_frame import UnitBall
from convexnn.training.region_layers import MULTIPLIERS, Layers, LayersModel, dominating, layers_start

FEW = RegionOptions(hidden_layers=(6, 5), steps=12, evaluate_every=6, random_state=3)


def random_layers(rng: np.random.Generator, d: int, sizes: tuple[int, int], *, spread: float = 1.0) -> Layers:
    """Weights of both signs, multipliers anywhere, two regions."""
    h, m = sizes
    shapes = {"W1": (h, d), "b1": (h,), "W2": (m, h), "b2": (m,), "c": (m,)}
    shapes |= {"al": (2, m), "be": (2, m), "nu": (2, h), "lam": (2, h), "mu": (2, h), "lift": (2, 1)}
    values = {name: torch.tensor(rng.standard_normal(shape)) for name, shape in shapes.items()}
    return Layers(**{name: value * spread if name in MULTIPLIERS else value for name, value in values.items()})


def as_network(layers: Layers) -> Network:
    W1, b1, W2, b2, c = (getattr(layers, name).detach().numpy() for name in ("W1", "b1", "W2", "b2", "c"))
    return Network(((W1, b1), (W2, b2), (c[None], np.zeros(1))))


def balls(rng: np.random.Generator, d: int) -> tuple[UnitBall, UnitBall]:
    return UnitBall(None, None), UnitBall(rng.standard_normal((d, d + 1)), rng.standard_normal(d))


def assert_safe(training, region: Region, rng: np.random.Generator) -> None:
    """Points of the region <= best value found there <= proved bound < 0, and the proof repeats."""
    points = np.vstack([region.sample(2000, rng), region.sample_surface(2000, rng), region.center[None]])
    assert training.network(points).max() <= training.bound < 0.0
    assert training.lower <= training.bound
    assert training.check() == training.bound == training.certificate.bound


@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_any_multipliers_bound_the_network(rng: np.random.Generator, spread: float) -> None:
    for _ in range(20):
        d, sizes = int(rng.integers(1, 5)), (int(rng.integers(1, 8)), int(rng.integers(1, 8)))
        layers = random_layers(rng, d, sizes, spread=spread)
        for i, ball in enumerate(balls(rng, d)):
            e = rng.standard_normal((4000, d if ball.map is None else d + 1))
            e /= np.maximum(np.linalg.norm(e, axis=1, keepdims=True), rng.random((4000, 1)))
            x = e if ball.map is None or ball.shift is None else ball.shift + e @ ball.map.T
            top = max(float(layers.values(torch.tensor(x)).max()), ascent(layers, ball, 0))
            for smoothing in (0.0, 0.1):
                assert top <= float(layers.maximum(ball, i, smoothing)) * (1 + 1e-12) + 1e-12


def test_multipliers_come_back_from_their_table(rng: np.random.Generator) -> None:
    layers = random_layers(rng, 3, (4, 5))
    again = layers.with_multipliers(layers.multipliers())
    for field in dataclasses.fields(layers):
        assert torch.equal(getattr(again, field.name), getattr(layers, field.name))
    x = torch.tensor(rng.standard_normal((7, 3)), requires_grad=True)
    (slope,) = torch.autograd.grad(layers.values(x).sum(), x)
    torch.testing.assert_close(layers.gradient(x.detach()), slope)
    np.testing.assert_allclose(as_network(layers)(x.detach().numpy()), layers.values(x).detach().numpy(), rtol=1e-12)


def test_gradients_are_those_of_the_smooth_value(rng: np.random.Generator) -> None:
    layers = random_layers(rng, 3, (4, 5), spread=0.5)
    for i, ball in enumerate(balls(rng, 3)):

        def value(flat: torch.Tensor, W2: torch.Tensor, ball: UnitBall = ball, i: int = i) -> torch.Tensor:
            moved = dataclasses.replace(layers, W2=W2).with_multipliers(flat)
            return moved.maximum(ball, i, 0.3, smooth_value=True)

        inputs = layers.multipliers().requires_grad_(True), layers.W2.clone().requires_grad_(True)
        assert torch.autograd.gradcheck(value, inputs, eps=1e-6, rtol=1e-4, atol=1e-5)


def test_what_dominates_a_matrix(rng: np.random.Generator) -> None:
    for rank in (1, 3, 6):
        G = torch.tensor(rng.standard_normal((rank, 6)))
        nu = dominating(G.T @ G, torch.tensor(rng.standard_normal(6)), torch.tensor([-8.0]))
        least = torch.linalg.eigvalsh(torch.diag(nu) - G.T @ G)[0]
        assert 0 < least
        # no multiple of these numbers that is a tenth smaller would do
        assert torch.linalg.eigvalsh(torch.diag(0.9 * nu) - G.T @ G)[0] < 0


@pytest.mark.slow
def test_polished_multipliers_stand_between_the_arrow_form_and_their_start(rng: np.random.Generator) -> None:
    for d, sizes in ((2, (4, 3)), (4, (8, 6))):
        start = layers_start(d, sizes, rng, tight=True, free_signs=True)
        layers = LayersModel(start, 1, "cpu", "float64", with_margin=False).exact_groups()
        ball = UnitBall(None, None)
        better = polished(layers, (ball,), 400)
        first, found = (float(one.maximum(ball, 0, 0.0)) for one in (layers, better))
        arrow = region_bound(as_network(layers), ellipsoid(np.zeros(d), np.ones(d)), method="arrow")
        assert arrow.lower <= arrow.bound <= found * (1 + 1e-6)
        assert found < first


@pytest.mark.parametrize("steps", [0, pytest.param(7, marks=pytest.mark.slow)])
def test_every_stop_is_safe_and_proved(rng: np.random.Generator, steps: int) -> None:
    region = ellipsoid(np.zeros(2), np.ones(2))
    training = train_safe_region(region, lambda n, r: 1.5 * region.sample_surface(n, r), options=FEW, steps=steps)
    assert (training.method, training.steps, training.network.n_hidden) == ("layers", steps, (6, 5))
    assert_safe(training, region, rng)


@pytest.mark.slow
def test_training_beats_its_start(rng: np.random.Generator) -> None:
    region = ellipsoid(np.zeros(3), np.ones(3))

    def draw(n: int, r: np.random.Generator) -> np.ndarray:
        return 1.3 * region.sample_surface(n, r)

    training = train_safe_region(region, draw, hidden_layers=(9, 5), steps=250, random_state=0)
    assert_safe(training, region, rng)
    assert training.accuracy > training.start_accuracy + 0.4
    for row in training.history:
        assert row["lower"] <= row["bound"]
    one = train_safe_region(region, draw, options=FEW, method="dense", hidden_layers=(12,), steps=0)
    assert (one.method, one.network.n_hidden) == ("dense", (12,))


@pytest.mark.slow
def test_ellipsoids_unions_resumed_runs_and_negative_samples(rng: np.random.Generator, tmp_path) -> None:
    first = ellipsoid([5.0, 0.0], [[1.0, 0.3], [0.0, 0.1]])
    second = ellipsoid([-5.0, 1.0], [0.5, 0.5])
    X = np.vstack([rng.uniform(-9, 9, (200, 2)), rng.uniform(20, 30, (50, 2))])
    y = np.repeat([1, 0], [200, 50])
    path = tmp_path / "run.npz"
    whole = train_safe_region([first, second], X, y, options=FEW)
    for region, certificate in zip((first, second), whole.certificates, strict=True):
        assert whole.network(region.sample(2000, rng)).max() <= certificate.bound < 0
    cut = train_safe_region([first, second], X, y, options=FEW, checkpoint=path, callback=lambda now: now.epoch == 6)
    assert cut.status == "stopped"
    resumed = train_safe_region([first, second], X, y, options=FEW, checkpoint=path)
    for (W, b), (V, v) in zip(resumed.network.layers, whole.network.layers, strict=True):
        assert np.array_equal(W, V)
        assert np.array_equal(b, v)
    with pytest.raises(InvalidInputError, match="belongs to a run with other"):
        train_safe_region([first, second], X, y, options=FEW, checkpoint=path, hidden_layers=(5, 6))


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_layers": (3, 4, 5)},
        {"hidden_layers": ()},
        {"hidden_layers": "33"},
        {"hidden_layers": (3, 0)},
        {"hidden_layers": (3, 4), "hidden_units": 3},
        {"hidden_layers": (3, 4), "activation": "leaky_relu"},
        {"hidden_layers": (3, 4), "arithmetic": "exact"},
        {"activation": "tanh"},
    ],
)
def test_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(settings))):
        RegionOptions(**settings)

"""Safe-by-construction training on balls and ellipsoids: every stop is safe, and proved."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from convexnn.activations import LeakyReLU
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.regions.region import Region, ellipsoid, rotated_box
from convexnn.threats import L2Ball
from convexnn.training import RegionOptions, RegionTraining, train_safe_region
from convexnn.training.region_frame import UnitFrame

FEW = RegionOptions(steps=12, evaluate_every=6, random_state=3)


class Sphere:
    """Uniform points of ``{center + radius axes e : |e|_2 = 1}``."""

    def __init__(self, radius: float, center: np.ndarray, axes: np.ndarray) -> None:
        self.radius, self.center, self.axes = radius, center, axes

    def __call__(self, n: int, rng: np.random.Generator) -> np.ndarray:
        e = rng.standard_normal((n, self.axes.shape[-1]))
        return self.center + self.radius * (e / np.linalg.norm(e, axis=1, keepdims=True)) @ self.axes.T


def unit_task(d: int, radius: float = 1.5) -> tuple[Region, Sphere]:
    return ellipsoid(np.zeros(d), np.ones(d)), Sphere(radius, np.zeros(d), np.eye(d))


def tilted_task(rng: np.random.Generator, d: int, radius: float = 1.5) -> tuple[Region, Sphere]:
    center, axes = 20.0 * rng.standard_normal(d), rng.standard_normal((d, d)) * np.geomspace(0.01, 10.0, d)[:, None]
    return ellipsoid(center, axes), Sphere(radius, center, axes)


def assert_safe(training: RegionTraining, region: Region, rng: np.random.Generator) -> None:
    """Sandwich: points of the region <= best value found there <= proved bound < 0."""
    points = np.vstack([region.sample(2000, rng), region.sample_surface(2000, rng), region.center[None]])
    assert training.network(points).max() <= training.bound < 0.0
    assert training.lower <= training.bound
    assert training.check() == training.bound == training.certificate.bound


def same(a: Network, b: Network) -> bool:
    return all(np.array_equal(x, y) for p, q in zip(a.layers, b.layers, strict=True) for x, y in zip(p, q, strict=True))


@pytest.mark.parametrize("steps", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, 7))])
def test_every_stop_is_safe_and_proved(rng: np.random.Generator, steps: int) -> None:
    region, sampler = unit_task(3)
    training = train_safe_region(region, sampler, options=FEW, steps=steps, hidden_units=7, units_per_direction=3)
    assert training.status == "finished"
    assert training.steps == steps
    assert_safe(training, region, rng)
    assert training.network.n_hidden == (7,)  # 3 + 3 + 1 units


@pytest.mark.slow
def test_exact_proofs_and_branching(rng: np.random.Generator) -> None:
    region, sampler = unit_task(2)
    exact = train_safe_region(region, sampler, options=FEW, arithmetic="exact")
    assert exact.certificate.arithmetic == "exact"
    assert_safe(exact, region, rng)
    plain, split = (
        train_safe_region(region, sampler, method="dense", options=FEW, finish=finish, finish_seconds=10.0)
        for finish in ("majorants", "branch_and_bound")
    )
    assert_safe(split, region, rng)
    assert split.accuracy >= plain.accuracy


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pairs", "dense"])
def test_ellipsoids_anywhere(rng: np.random.Generator, method: str) -> None:
    region, sampler = tilted_task(rng, 4)
    training = train_safe_region(region, sampler, method=method, options=FEW)
    assert_safe(training, region, rng)
    # the frame undoes centre and axes: nearly the same as training on the unit ball
    unit = train_safe_region(*unit_task(4), method=method, options=FEW)
    assert abs(training.accuracy - unit.accuracy) < 0.2
    assert training.network(sampler(500, rng)).max() > 0


@pytest.mark.parametrize(
    "settings", [{"learning_rate": "x"}, {"steps": -1}, {"hidden_units": 0}, {"start": "warm"}, {"batch_size": 0},
                 {"callback": 3}, {"dtype": "float16"}, {"negative_weight": -1.0}]
)  # fmt: skip
def test_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(settings))):
        RegionOptions(**settings)


def test_inputs_are_refused_in_words(rng: np.random.Generator) -> None:
    region, sampler = unit_task(3)
    X = sampler(5, rng)
    cases = [
        ("boxes have a trainer", rotated_box(np.zeros(3), np.eye(3)), X, None, {}),
        ("inside the regions", region, 0.5 * X / 1.5, None, {}),
        ("NaN", region, np.full((2, 3), np.nan), None, {}),
        ("shape", region, X[:, :2], None, {}),
        ("labels", region, X, [1, 2, 0, 1, 1], {}),
        ("no positive sample", region, X, np.zeros(5), {}),
        ("leave y None", region, sampler, np.ones(5), {}),
        ("method must be one of", region, X, None, {"method": "triples"}),
        ("Unknown setting", region, X, None, {"epochs": 3}),
        ("options must be", region, X, None, {"options": {"steps": 3}}),
        ("device", region, X, None, {"device": "abacus"}),
        ("folder", region, X, None, {"checkpoint": "/nowhere/at/all.npz"}),
        ("must be a Region", "ball", X, None, {}),
        ("at least one member", [], X, None, {}),
    ]
    for words, where, samples, labels, settings in cases:
        with pytest.raises(InvalidInputError, match=words):
            train_safe_region(where, samples, labels, **settings)


@pytest.mark.slow
def test_a_resumed_run_is_the_uncut_run(tmp_path) -> None:
    region, sampler = unit_task(3)
    path = tmp_path / "run.npz"
    whole = train_safe_region(region, sampler, options=FEW)

    def stop(now) -> bool:
        return now.epoch == 6

    cut = train_safe_region(region, sampler, options=FEW, checkpoint=path, callback=stop)
    assert cut.status == "stopped"
    assert cut.steps == 6
    resumed = train_safe_region(region, sampler, options=FEW, checkpoint=path)
    assert same(resumed.network, whole.network)
    for row, other in zip(resumed.history, whole.history, strict=True):
        np.testing.assert_equal(row | {"seconds": 0.0}, other | {"seconds": 0.0})
    for changed in ({"steps": 14}, {"random_state": 4}, {"hidden_units": 6}):
        with pytest.raises(InvalidInputError, match="a run with other data"):
            train_safe_region(region, sampler, options=FEW, **({"checkpoint": path} | changed))
    with pytest.raises(InvalidInputError, match="a run with other data"):
        train_safe_region(ellipsoid(np.zeros(3), [1.0, 1.0, 0.9]), sampler, options=FEW, checkpoint=path)


@pytest.mark.slow
def test_seeds_repeat_and_differ() -> None:
    region, sampler = unit_task(3)
    first, again, other = (train_safe_region(region, sampler, options=FEW, random_state=s) for s in (3, 3, 4))
    assert same(first.network, again.network)
    assert not same(first.network, other.network)


@pytest.mark.slow
def test_interrupts_and_time_limits_leave_safe_networks(rng: np.random.Generator) -> None:
    region, sampler = unit_task(3)
    calls = []

    def impatient(n: int, generator: np.random.Generator) -> np.ndarray:
        calls.append(n)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return sampler(n, generator)

    for how, settings, status in ((impatient, {}, "interrupted"), (sampler, {"time_limit": 0.0}, "time_limit")):
        with pytest.warns(ConvergenceWarning, match="safe network so far"):
            training = train_safe_region(region, how, options=FEW, **settings)
        assert training.status == status
        assert training.steps < 12
        assert_safe(training, region, rng)
    # a rate that sends the weights to infinity still ends in a safe network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        training = train_safe_region(region, sampler, options=FEW, learning_rate=1e6)
    assert_safe(training, region, rng)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_training_beats_its_start(rng: np.random.Generator, dtype: str) -> None:
    region, sampler = unit_task(4, radius=1.3)
    training = train_safe_region(region, sampler, steps=150, random_state=0, dtype=dtype)
    assert training.accuracy > training.start_accuracy + 0.2
    assert_safe(training, region, rng)
    fresh = sampler(4000, rng)
    assert abs(training.accepts(fresh).mean() - training.accuracy) < 0.02
    for row in training.history:
        assert row["lower"] <= row["bound"]
        assert row["accuracy"] <= row["attainable"]


@pytest.mark.slow
def test_negative_samples_outside_are_rejected(rng: np.random.Generator) -> None:
    # accept 1.4 < |x| < 1.8, reject 2.5 < |x| < 4 and |x| <= 1: no convex set or complement of one does that
    size = np.concatenate([rng.uniform(1.4, 1.8, 100), rng.uniform(2.5, 4.0, 100), rng.uniform(0.0, 1.0, 50)])
    X, y = (size * rng.choice([-1.0, 1.0], 250))[:, None], np.repeat([1, 0, 0], [100, 100, 50])
    region = ellipsoid([0.0], [1.0])
    training = train_safe_region(region, X, y, hidden_units=8, units_per_direction=4, steps=400, random_state=0)
    assert_safe(training, region, rng)
    assert training.accuracy > 0.6  # a convex rule that accepts as many would reject at most half
    assert training.rejected > 0.8
    assert (training.network(X[200:]) < 0).all()


@pytest.mark.slow
def test_unions_are_safe_on_every_member(rng: np.random.Generator) -> None:
    regions = [ellipsoid([0.0, 0.0], [1.0, 1.0]), ellipsoid([4.0, 0.0], [0.5, 1.5])]
    X = rng.uniform(-6, 8, (400, 2))
    X = X[~(regions[0].contains(X / 1.3) | (np.abs((X - [4, 0]) / [0.5, 1.5]) <= 1.2).all(axis=1))]
    training = train_safe_region(regions, X, options=FEW, steps=40)
    assert len(training.certificates) == 2
    for region, certificate in zip(regions, training.certificates, strict=True):
        assert training.network(region.sample(2000, rng)).max() <= certificate.bound < 0
    assert training.accuracy > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("region", "X"),
    [
        (ellipsoid([5.0], [0.1]), np.array([[4.8], [5.3], [5.12]])),
        (ellipsoid([0.0, 0.0, 0.0], [1.0, 0.0, 1e-3]), np.array([[1.5, 0.0, 0.0], [0.0, 0.4, 0.0], [1e3, 1e-3, 5.0]])),
        (ellipsoid([1.0, 1.0], [0.0, 0.0]), np.array([[2.0, 1.0], [1.0, 1.001]])),
        (ellipsoid([0.0, 0.0], [[1.0, 2.0, 0.5], [0.0, 1.0, -1.0]]), np.array([[4.0, 0.0], [0.0, 9.0]])),
        (L2Ball(1e-3), np.array([[1e-2, 0.0], [0.0, 5.0], [0.0, -5e3]])),
        (L2Ball(1e3), np.array([[1e4, 0.0], [0.0, 5e3]])),
    ],
    ids=["line", "flat", "point", "wide", "small", "large"],
)
def test_corners(rng: np.random.Generator, region, X) -> None:
    training = train_safe_region(region, X, options=FEW, hidden_units=5, steps=20)
    whole = region if isinstance(region, Region) else ellipsoid(np.zeros(2), np.full(2, region.radius))
    assert_safe(training, whole, rng)
    one = train_safe_region(region, X, options=FEW, hidden_units=1)
    assert one.network.n_hidden == (1,)
    assert_safe(one, whole, rng)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pairs", "dense"])
def test_leaky_units_are_proved_over_the_rational_numbers_too(rng: np.random.Generator, method: str) -> None:
    region, sampler = tilted_task(rng, 3)
    settings = {"method": method, "activation": LeakyReLU(0.2), "steps": 24}
    rounded, exact = (
        train_safe_region(region, sampler, options=FEW, arithmetic=kind, **settings)
        for kind in ("float64+slack", "exact")
    )
    for training in (rounded, exact):
        assert training.network.activation == LeakyReLU(0.2)
        assert_safe(training, region, rng)
    assert exact.certificate.arithmetic == "exact"
    assert rounded.accuracy == exact.accuracy > 0


def test_frames_map_regions_to_unit_balls(rng: np.random.Generator) -> None:
    region, sampler = tilted_task(rng, 3)
    frame = UnitFrame.of((region,), sampler(50, rng))
    Z = frame.into(region.sample_surface(200, rng))
    np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1.0, rtol=1e-9)
    U, x = rng.standard_normal((4, 3)), sampler(5, rng)
    W, start = frame.raw(U)
    np.testing.assert_allclose(x @ W.T - start, frame.into(x) @ U.T, rtol=1e-8, atol=1e-9)
    pair = UnitFrame.of((region, ellipsoid(region.center + 1.0, np.ones(3))), sampler(50, rng))
    e = rng.standard_normal(3)
    e /= np.linalg.norm(e)
    for ball, member in zip(pair.balls, (region, ellipsoid(region.center + 1.0, np.ones(3))), strict=True):
        assert ball.map is not None
        assert ball.shift is not None
        np.testing.assert_allclose(pair.into(member.image(e[None]))[0], ball.shift + ball.map @ e, atol=1e-9)

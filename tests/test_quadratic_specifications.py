"""Quadratic specifications: sampled and enumerated maxima <= bound, two roads, any multiplier is valid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from convexnn.activations import LeakyReLU
from convexnn.exceptions import CertificateError, InvalidInputError, UnsupportedModelError
from convexnn.network import Network
from convexnn.propagation import Effort, InputSet, Query, crown_bounds
from convexnn.relaxations.quadratic_outputs import bound_quadratic, check_quadratic
from convexnn.relaxations.quadratic_reference import quadratic_reference
from convexnn.relaxations.quadratic_specification import QuadraticSpec
from convexnn.threats import L2Ball, LInfBall

THREATS = [LInfBall(0.4), L2Ball(0.5), LInfBall(0.5, clip=(-0.3, 1.0)), L2Ball(0.6, clip=(-0.3, 1.0))]
slow = pytest.mark.slow
each_threat = pytest.mark.parametrize("threat", THREATS, ids=["linf", "l2", "linf-clip", "l2-clip"])


def random_network(rng, sizes, activation="relu"):
    layers = [(rng.standard_normal((b, a)), 0.3 * rng.standard_normal(b)) for a, b in itertools.pairwise(sizes)]
    return Network(layers, activation)


def random_spec(rng, d, k):
    M = rng.standard_normal((1 + d + k,) * 2)
    return QuadraticSpec(M + M.T, d)


def samples(rng, inputs, n=4000):
    X = inputs.maximizer(rng.standard_normal((n, len(inputs.centre))))
    return np.vstack([X, inputs.centre + rng.random((n, 1)) * (X - inputs.centre)])


# -- the truth is below -----------------------------------------------------------------------------------------------


@each_threat
@pytest.mark.parametrize("hidden", [(5,), pytest.param((4, 3), marks=slow), (3, 3, 2)])
@pytest.mark.parametrize("activation", ["relu", pytest.param(LeakyReLU(0.1), marks=slow)])
def test_bounds_are_above_every_sample_and_the_ascent_is_below(rng, threat, hidden, activation):
    for d, k in [(1, 1), (3, 2)]:
        network, spec = random_network(rng, (d, *hidden, k), activation), random_spec(rng, d, k)
        inputs = InputSet.around(0.2 * rng.standard_normal(d), threat)
        found = bound_quadratic(network, inputs, spec)
        sampled = spec.values(network, samples(rng, inputs)).max()
        assert sampled <= found.bound
        assert sampled - 0.01 * abs(sampled) <= found.lower <= found.bound
        assert spec.values(network, found.point[None])[0] == found.lower
        assert found.check(network) == found.bound
        assert inputs.project(found.point[None])[0] == pytest.approx(found.point, abs=1e-12)


def enumerated(network, inputs, spec, rng):
    """Maximum over a box in the plane: by a fine grid and local solutions from many starts."""
    best = -np.inf
    box = list(zip(inputs.lower, inputs.upper, strict=True))
    for start in samples(rng, inputs, 20):
        found = minimize(lambda x: -spec.values(network, x[None])[0], start, bounds=box, method="Nelder-Mead")
        best = max(best, -found.fun)
    grid = np.stack(np.meshgrid(*[np.linspace(*ends, 201) for ends in box]), axis=-1).reshape(-1, 2)
    return max(best, spec.values(network, grid).max())


@pytest.mark.slow
def test_planar_networks_are_bounded_up_to_the_gap_of_the_relaxation(rng):
    gaps = []
    for _ in range(12):
        network, spec = random_network(rng, (2, 4, 2)), random_spec(rng, 2, 2)
        inputs = InputSet.around(rng.standard_normal(2), LInfBall(0.5))
        truth = enumerated(network, inputs, spec, rng)
        found = bound_quadratic(network, inputs, spec)
        assert truth <= found.bound + 1e-9
        gaps.append((found.bound - truth) / (1 + abs(truth)))
    assert np.median(gaps) < 1e-3  # observed: most are exact
    assert max(gaps) < 0.5


def test_a_network_that_is_linear_on_the_set_has_an_exact_trust_region(rng):
    """Always-active units over a ball: the relaxation of one quadratic constraint is exact (S-lemma)."""
    for _ in range(5):
        W, V = rng.standard_normal((4, 3)), rng.standard_normal((2, 4))
        network, spec = Network.shallow(W, 50.0 + rng.random(4), V), random_spec(rng, 3, 2)
        found = bound_quadratic(
            network, InputSet.around(rng.standard_normal(3), L2Ball(0.7)), spec, effort=Effort(tol=1e-8)
        )
        assert found.gap <= 1e-4 * abs(found.bound)
        assert not np.any(found.multiplier["zero"])


# -- two roads --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("threat", THREATS[:2], ids=["linf", "l2"])
@pytest.mark.parametrize("sizes", [(2, 4, 1), (3, 3, 3, 2)])
def test_the_method_solves_the_relaxation_of_the_paper(rng, threat, sizes):
    for _ in range(3):
        network, spec = random_network(rng, sizes), random_spec(rng, sizes[0], sizes[-1])
        inputs = InputSet.around(0.1 * rng.standard_normal(sizes[0]), threat)
        bounds = crown_bounds(Query(network, inputs, np.zeros((1, sizes[-1])), np.zeros(1)))
        problem = quadratic_reference(network, inputs, bounds, spec)
        problem.solve(solver="CLARABEL")
        found = bound_quadratic(network, inputs, spec, effort=Effort(tol=1e-7))
        scale = 1 + abs(problem.value)
        assert found.bound <= problem.value + 1e-4 * scale
        if all(((low < 0) & (high > 0)).all() for low, high in zip(bounds.lower, bounds.upper, strict=True)):
            assert found.bound == pytest.approx(problem.value, abs=1e-4 * scale)


@pytest.mark.slow
@each_threat
def test_the_square_of_a_linear_function_has_the_larger_of_two_squared_linear_bounds(rng, threat):
    """The square of a linear function is largest where it or its negative is; its relaxation is at least that."""
    network = random_network(rng, (3, 5, 2))
    inputs = InputSet.around(0.2 * rng.standard_normal(3), threat)
    w = rng.standard_normal(2)
    up, down = (bound_quadratic(network, inputs, QuadraticSpec.linear(s * w, 0.0, 3)) for s in (1, -1))
    square = bound_quadratic(network, inputs, QuadraticSpec.rank_one(np.r_[np.zeros(4), w], 3))
    assert square.lower == pytest.approx(max(up.lower, down.lower) ** 2, rel=1e-3)
    assert square.bound >= max(up.bound, down.bound) ** 2 * (1 - 1e-3)
    shifted = bound_quadratic(network, inputs, QuadraticSpec.linear(w, 7.0, 3))
    assert shifted.bound == pytest.approx(7.0 + up.bound, rel=1e-3)


def test_named_specifications_are_what_they_say(rng):
    network, X = random_network(rng, (3, 4, 3)), rng.standard_normal((10, 3))
    y, F = rng.standard_normal(3), None
    F = network(X)
    np.testing.assert_allclose(QuadraticSpec.reconstruction(3).values(network, X), ((F - X) ** 2).sum(axis=1))
    np.testing.assert_allclose(QuadraticSpec.distance(y, 3).values(network, X), ((F - y) ** 2).sum(axis=1))
    np.testing.assert_allclose(QuadraticSpec.linear(y, 2.0, 3).values(network, X), F @ y + 2.0)
    spec, step = random_spec(rng, 3, 3), 1e-6 * np.eye(3)
    slopes = [(spec.values(network, X + e) - spec.values(network, X - e)) / 2e-6 for e in step]
    np.testing.assert_allclose(spec.gradients(network, X), np.array(slopes).T, rtol=1e-4, atol=1e-5)


# -- evidence ---------------------------------------------------------------------------------------------------------


@each_threat
def test_corrupted_multipliers_stay_valid(rng, threat):
    network, spec = random_network(rng, (3, 4, 3, 2)), random_spec(rng, 3, 2)
    inputs = InputSet.around(0.1 * rng.standard_normal(3), threat)
    found = bound_quadratic(network, inputs, spec)
    truth = max(spec.values(network, samples(rng, inputs)).max(), found.lower)
    for _ in range(12):
        factors = rng.choice([0.0, 1.0, -1.0, 0.9, 1e6, 1e-6])
        wrong = {name: part * rng.choice([factors, 1.0], part.shape) for name, part in found.multiplier.items()}
        assert check_quadratic(network, inputs, spec, wrong) >= truth - 1e-9
    assert check_quadratic(network, inputs, spec, {}) >= truth
    for bad in (np.nan, np.inf):
        assert check_quadratic(network, inputs, spec, {**found.multiplier, "zero": np.full(7, bad)}) == np.inf
    with pytest.raises(CertificateError, match="shape"):
        check_quadratic(network, inputs, spec, {**found.multiplier, "zero": np.zeros(3)})


def test_tampered_bounds_are_refused(rng):
    network, other = random_network(rng, (2, 3, 1)), random_network(rng, (2, 3, 1))
    inputs = InputSet.around(np.zeros(2), LInfBall(0.5))
    found = bound_quadratic(network, inputs, random_spec(rng, 2, 1))
    with pytest.raises(CertificateError, match="another network"):
        found.check(other)
    from dataclasses import replace

    with pytest.raises(CertificateError, match="not the claimed"):
        replace(found, bound=found.bound - 1.0).check(network)


def test_signs_restrict_the_set(rng):
    network, spec = random_network(rng, (2, 3, 1)), random_spec(rng, 2, 1)
    inputs = InputSet.around(0.1 * rng.standard_normal(2), LInfBall(0.8))
    X = samples(rng, inputs)
    found = bound_quadratic(network, inputs, spec)
    for sign in itertools.product([-1, 1], repeat=3):
        signs = (np.array(sign, dtype=np.int8),)
        inside = (network.pre_activations(X)[0] * np.array(sign) >= 0).all(axis=1)
        proved = check_quadratic(network, inputs, spec, found.multiplier, signs)
        if inside.any():
            assert spec.values(network, X[inside]).max() <= proved


# -- corners ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [pytest.param(1e-3, marks=slow), 1e3])
@each_threat
def test_scales(rng, scale, threat):
    """Inputs, weights and radius of any scale: x -> scale x with W / scale is the same question about (f, scale x)."""
    W, b, V = rng.standard_normal((4, 2)), rng.standard_normal(4), rng.standard_normal((2, 4))
    spec, x = QuadraticSpec.distance(rng.standard_normal(2), 2), 0.1 * rng.standard_normal(2)
    here = bound_quadratic(Network.shallow(W, b, V), InputSet.around(x, threat), spec)
    clip = None if threat.clip is None else tuple(scale * np.asarray(threat.clip))
    wide = InputSet.around(scale * x, type(threat)(scale * threat.radius, clip=clip))
    there = bound_quadratic(Network.shallow(W / scale, b, V), wide, spec)
    assert there.bound == pytest.approx(here.bound, rel=1e-3)
    outputs = bound_quadratic(
        Network.shallow(W, b, scale * V),
        InputSet.around(x, threat),
        QuadraticSpec.distance(-scale * spec.matrix[0, 3:], 2),
    )
    assert outputs.bound == pytest.approx(scale**2 * here.bound, rel=1e-3)


@pytest.mark.parametrize("kind", [LInfBall, L2Ball])
def test_radius_zero_is_the_value_at_the_sample(rng, kind):
    network, spec, x = random_network(rng, (3, 4, 2)), random_spec(rng, 3, 2), rng.standard_normal(3)
    found = bound_quadratic(network, InputSet.around(x, kind(0.0)), spec)
    value = spec.values(network, x[None])[0]
    assert value <= found.bound <= value + 1e-4 * (1 + abs(value))


def test_units_that_are_dead_active_or_repeated(rng):
    W = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    b = np.array([0.0, 0.0, -50.0, 0.0, 50.0])
    network, spec = Network.shallow(W, b, rng.standard_normal((2, 5))), random_spec(rng, 2, 2)
    for threat in THREATS:
        inputs = InputSet.around(np.zeros(2), threat)
        found = bound_quadratic(network, inputs, spec)
        truth = spec.values(network, samples(rng, inputs)).max()
        assert truth <= found.bound <= truth + 0.2 * (1 + abs(truth))


def test_a_huge_radius_is_bounded_or_refused(rng):
    network, spec = random_network(rng, (2, 3, 2)), random_spec(rng, 2, 2)
    found = bound_quadratic(network, InputSet.around(np.zeros(2), LInfBall(1e6)), spec)
    assert found.lower <= found.bound
    with pytest.raises(InvalidInputError, match="large"):
        bound_quadratic(network, InputSet.around(np.zeros(2), LInfBall(1e200)), spec)


def test_stopping_early_keeps_a_valid_bound(rng):
    network = random_network(rng, (3, 6, 3))
    inputs, spec = InputSet.around(np.zeros(3), LInfBall(0.3)), QuadraticSpec.distance(np.zeros(3), 3)
    full = bound_quadratic(network, inputs, spec)
    early = bound_quadratic(network, inputs, spec, effort=Effort(stop_below=2 * full.bound))
    none = bound_quadratic(network, inputs, spec, effort=Effort(max_iter=0))
    late = bound_quadratic(network, inputs, spec, effort=Effort(deadline=0.0))
    assert early.status == "below"
    assert full.bound <= early.bound <= 2 * full.bound
    assert early.iterations < full.iterations
    assert full.bound <= none.bound < np.inf
    assert late.status == "time_limit"


def test_what_cannot_be_meant_is_refused(rng):
    network, inputs = random_network(rng, (2, 3, 2)), InputSet.around(np.zeros(2), LInfBall(0.1))
    tanh = random_network(rng, (2, 3, 2), "tanh")
    refused = [
        (InvalidInputError, "symmetric", lambda: QuadraticSpec(np.triu(np.ones((5, 5))), 2)),
        (InvalidInputError, "NaN", lambda: QuadraticSpec(np.full((5, 5), np.nan), 2)),
        (InvalidInputError, "must be", lambda: QuadraticSpec(np.eye(3), 2)),
        (
            InvalidInputError,
            "specification is about",
            lambda: bound_quadratic(network, inputs, QuadraticSpec.reconstruction(3)),
        ),
        (InvalidInputError, "InputSet", lambda: bound_quadratic(network, LInfBall(0.1), np.eye(5))),
        (
            InvalidInputError,
            "3 inputs",
            lambda: bound_quadratic(network, InputSet.around(np.zeros(3), LInfBall(0.1)), np.eye(5)),
        ),
        (UnsupportedModelError, "ReLU", lambda: bound_quadratic(tanh, inputs, np.eye(5))),
    ]
    for kind, words, call in refused:
        with pytest.raises(kind, match=words):
            call()


# -- digits -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_autoencoder_of_digits_is_bounded_within_a_few_percent():
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPRegressor

    X = load_digits().data / 16.0
    model = MLPRegressor(hidden_layer_sizes=(16,), max_iter=40, learning_rate_init=5e-3, random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(X[:1000], X[:1000])
    spec = QuadraticSpec.reconstruction(64)
    for threat, gap in ((LInfBall(0.05), 0.02), (LInfBall(0.1, clip=(0, 1)), 0.02), (L2Ball(0.5), 0.02)):
        found = bound_quadratic(model, InputSet.around(X[1200], threat), spec)
        assert found.lower <= found.bound <= (1 + gap) * found.lower

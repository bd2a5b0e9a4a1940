"""Bounds on pre-activations: intervals above linear bounds above sampled values, signs, other evidence."""

from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest
from _propagation import ACTIVATIONS, random_network, random_query, signs_at, with_signs

from convexnn.activations import LeakyReLU, Polynomial, ReLU
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network
from convexnn.propagation import (
    ALPHA_CROWN,
    CROWN,
    IBP,
    Effort,
    InputSet,
    LayerBounds,
    Query,
    crown_bounds,
    interval_bounds,
    optimized_bounds,
    read_bounds,
    register_refiner,
)
from convexnn.propagation import layer_bounds as module
from convexnn.threats import Box, L2Ball, LInfBall

each_activation = pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)


def inside(bounds, values):
    """Whether sampled pre-activations lie within the bounds, up to the rounding of the samples."""
    ok = []
    for low, high, Z in zip(bounds.lower, bounds.upper, values, strict=True):
        slack = 1e-13 * np.abs(Z).max(initial=0.0)
        ok += [(low <= Z.min(axis=0) + slack).all(), (high >= Z.max(axis=0) - slack).all()]
    return all(ok)


def within(inner, outer):
    """Whether bounds are nowhere wider than others."""
    lower = all((a >= b).all() for a, b in zip(inner.lower, outer.lower, strict=True))
    return lower and all((a <= b).all() for a, b in zip(inner.upper, outer.upper, strict=True))


@each_activation
def test_intervals_contain_linear_bounds_contain_samples(activation, rng):
    for _ in range(9):
        query, X = random_query(rng, activation)
        linear, wide = crown_bounds(query), interval_bounds(query)
        assert not linear.empty
        assert read_bounds(query, {}) == linear
        assert within(linear, wide)
        assert inside(linear, query.network.pre_activations(X))
        rows, wide_rows = CROWN.check(query, {}), IBP.check(query, {})
        values = query.values(X)
        assert (rows <= wide_rows).all()
        assert (rows >= values.max(axis=0) - 1e-13 * np.abs(values).max()).all()


@each_activation
def test_signs_shrink_the_set(activation, rng):
    for _ in range(6):
        query, X = random_query(rng, activation)
        signs = signs_at(rng, query, X[0])
        signed = query.with_signs(signs)
        kept = with_signs(query, X, signs)
        bounds = crown_bounds(signed)
        assert not bounds.empty
        assert within(bounds, crown_bounds(query)) or len(bounds.lower) > 1  # other lines in deeper layers
        assert inside(bounds, query.network.pre_activations(kept))
        values = query.values(kept)
        assert (CROWN.check(signed, {}) >= values.max(axis=0) - 1e-13 * np.abs(values).max()).all()


def test_signs_that_no_input_has_are_empty():
    # units x and -x - 1 are never both positive
    network = Network.shallow([[1.0], [-1.0]], [0.0, -1.0], [1.0, 1.0])
    query = Query.of_rivals(network, np.array([0.5]), 1, L2Ball(0.2))
    assert crown_bounds(query.with_signs((np.array([0, 1], dtype=np.int8),))).empty
    assert CROWN.check(query.with_signs((np.array([0, 1], dtype=np.int8),)), {})[0] == -np.inf
    assert IBP.check(query.with_signs((np.array([-1, 0], dtype=np.int8),)), {})[0] == -np.inf
    assert not crown_bounds(query.with_signs((np.array([1, -1], dtype=np.int8),))).empty
    with pytest.raises(InvalidInputError, match="shapes"):
        query.with_signs((np.zeros(3, dtype=np.int8),))


def test_rows_that_do_not_fit_are_refused(rng):
    query, _ = random_query(rng, ReLU())
    with pytest.raises(InvalidInputError, match="Rows"):
        Query(query.network, query.inputs, np.ones((2, 9)), np.zeros(2))
    with pytest.raises(InvalidInputError, match="Rows"):
        Query(query.network, query.inputs, query.weights, np.zeros(7))
    with pytest.raises(InvalidInputError, match="inputs"):
        Query(query.network, InputSet.box(np.zeros(50), np.ones(50)), query.weights, query.offset)


def test_linear_networks_are_exact(rng):
    for _ in range(10):
        query, _ = random_query(rng, ACTIVATIONS[4])
        (W, b), *rest = query.network.layers
        for V, c in rest:
            W, b = V @ W, V @ b + c
        exact = query.inputs.maximum(query.weights @ W, query.weights @ b)
        assert CROWN.check(query, {}) == pytest.approx(exact, rel=1e-9, abs=1e-9)


def test_always_active_and_dead_units_are_linear():
    # relu(x + 5) - relu(x - 5) + 0 relu(-x - 9) for |x| <= 1 is x + 5
    network = Network.shallow([[1.0], [1.0], [-1.0]], [5.0, -5.0, -9.0], [1.0, -1.0, 7.0])
    query = Query.of_rivals(network, np.zeros(1), 0, LInfBall(1.0))
    assert CROWN.check(query, {}) == pytest.approx([6.0], abs=1e-12)
    bounds = crown_bounds(query)
    assert bounds.lower[0] == pytest.approx([4.0, -6.0, -10.0], abs=1e-12)
    assert bounds.upper[0] == pytest.approx([6.0, -4.0, -8.0], abs=1e-12)


def exact_outputs(network, x):
    """Outputs in rational arithmetic."""
    values, activation = [Fraction(float(v)) for v in x], network.activation
    for k, (W, b) in enumerate(network.layers):
        pairs = zip(W.tolist(), b.tolist(), strict=True)
        values = [sum((Fraction(w) * v for w, v in zip(row, values, strict=True)), Fraction(c)) for row, c in pairs]
        if k + 1 < len(network.layers) and isinstance(activation, Polynomial):
            a, b1, c = (Fraction(p) for p in activation.parameters)
            values = [a * v * v + b1 * v + c for v in values]
        elif k + 1 < len(network.layers):
            low = Fraction(activation.slopes[0])
            values = [max(v, low * v) for v in values]
    return values


@pytest.mark.parametrize("scale", [1e-120, 1e-3, 1.0, 1e60])
@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.3), Polynomial()], ids=repr)
def test_rounding_goes_up_in_rational_arithmetic(activation, scale, rng):
    if isinstance(activation, Polynomial) and scale > 1:
        scale = 1e10
    for _ in range(6):
        network = random_network(rng, activation)
        first = (network.layers[0][0], network.layers[0][1] * scale)
        network = Network((first, *network.layers[1:]), activation)
        x = rng.standard_normal(network.n_inputs) * scale
        # a single point, and a box so small that its corners decide
        for threat in (L2Ball(0.0), Box(x, x), Box(x, np.nextafter(x, np.inf))):
            query = Query.of_rivals(network, x, 0, threat)
            corner = query.inputs.upper if isinstance(threat, Box) else x
            outputs = exact_outputs(network, corner)
            for bound, rival in zip(CROWN.check(query, {}), outputs[1:], strict=True):
                assert Fraction(float(bound)) >= rival - outputs[0]
                assert float(bound) <= float(rival - outputs[0]) + 1e-9 * max(1.0, *map(abs, map(float, outputs)))


@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.1), ACTIVATIONS[2], Polynomial()], ids=repr)
def test_slopes_of_their_own_tighten_and_are_read_back(activation, rng):
    for _ in range(2):
        query, X = random_query(rng, activation, hidden=(2, 4))
        plain, found = crown_bounds(query), optimized_bounds(query, Effort(max_iter=6))
        assert within(found, plain)
        assert inside(found, query.network.pre_activations(X))
        assert read_bounds(query, found.multiplier) == found
        hostile = {
            key: rng.standard_normal(v.shape) * 10.0 ** rng.integers(-3, 300) for key, v in found.multiplier.items()
        }
        hostile = {key: np.where(rng.random(v.shape) < 0.1, np.nan, v) for key, v in hostile.items()}
        assert inside(read_bounds(query, hostile), query.network.pre_activations(X))
        assert within(read_bounds(query, hostile), plain)
        signed = query.with_signs(signs_at(rng, query, X[0]))
        found, kept = optimized_bounds(signed, Effort(max_iter=6)), with_signs(query, X, signed.signs)
        assert inside(found, query.network.pre_activations(kept))
        assert read_bounds(signed, found.multiplier) == found


def test_slopes_of_wrong_shape_are_refused(rng):
    query, _ = random_query(rng, ReLU(), hidden=(2, 3))
    for wrong in (np.zeros(1000), np.zeros((1000, 2)), np.array("slopes"), np.array([None])):
        with pytest.raises(CertificateError, match="bounds/slopes/1/upper/shares/0"):
            read_bounds(query, {"bounds/slopes/1/upper/shares/0": wrong})


def test_other_ranks_can_add_evidence(rng, monkeypatch):
    monkeypatch.setattr(module, "_REFINERS", dict(module._REFINERS))
    query, _ = random_query(rng, ReLU())
    plain, key = crown_bounds(query), "bounds/test/widths"

    def shrink(query, bounds, multiplier):
        assert set(multiplier) == {key}
        return LayerBounds(tuple(low - 1.0 for low in bounds.lower), bounds.lower)

    register_refiner("bounds/test/", shrink)
    evidence = {key: np.zeros(2), "bounds/nobody": np.ones(3), "row0/slopes/0": np.ones(1)}
    found = read_bounds(query, evidence)
    assert all((low == before).all() for low, before in zip(found.lower, plain.lower, strict=True))
    assert all((high == low).all() for low, high in zip(plain.lower, found.upper, strict=True))
    assert set(found.multiplier) == {key}
    with pytest.raises(InvalidInputError, match="bounds/"):
        register_refiner("row0/", shrink)


@pytest.mark.parametrize("certifier", [IBP, CROWN, ALPHA_CROWN], ids=lambda certifier: certifier.name)
def test_certifiers_and_their_evidence_travel(certifier, rng):
    query, _ = random_query(rng, ReLU())
    sent, asked = pickle.loads(pickle.dumps((certifier, query)))  # noqa: S301
    evidence = pickle.loads(pickle.dumps(certifier.propose(query, Effort(max_iter=3))))  # noqa: S301
    assert sent == certifier
    assert asked == query
    assert (sent.check(asked, evidence.multiplier) == certifier.check(query, evidence.multiplier)).all()


def test_crossed_bounds_are_empty():
    zero, one = np.zeros(2), np.ones(2)
    assert LayerBounds((one,), (zero,)).empty
    assert not LayerBounds((zero,), (one,)).empty

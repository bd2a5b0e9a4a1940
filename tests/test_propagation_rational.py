"""No bound below a value in rational arithmetic: weights with ties, clipped balls, signs, hostile multipliers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from convexnn.activations import Identity, LeakyReLU, Polynomial, ReLU
from convexnn.network import Network
from convexnn.propagation import ALPHA_CROWN, CROWN, IBP, Effort, Query, crown_bounds
from convexnn.threats import L2Ball, LInfBall

ACTIVATIONS = [
    ReLU(),
    LeakyReLU(0.25),
    LeakyReLU(0.1),
    Identity(),
    Polynomial(0.5, 0.0, 0.0),
    Polynomial(-1.0, 0.5, 2.0),
]
#: Rational points of the unit circle.
CIRCLE = [(Fraction(3, 5), Fraction(4, 5)), (Fraction(5, 13), Fraction(12, 13)), (Fraction(1), Fraction(0))]


def evaluate(network, values):
    """Pre-activations of all layers and outputs, exactly."""
    layers, activation = [], network.activation
    for k, (W, b) in enumerate(network.layers):
        pairs = zip(W.tolist(), b.tolist(), strict=True)
        values = [sum((Fraction(w) * v for w, v in zip(row, values, strict=True)), Fraction(c)) for row, c in pairs]
        layers.append(values)
        if k + 1 == len(network.layers):
            return layers[:-1], values
        if isinstance(activation, Polynomial):
            a, b1, c1 = (Fraction(p) for p in activation.parameters)
            values = [a * v * v + b1 * v + c1 for v in values]
        else:
            values = [max(v, Fraction(float(activation.slopes[0])) * v) for v in values]
    raise AssertionError


def tied_network(rng, activation):
    """Small integer weights: many units are exactly at their kink, some are equal, some are zero."""
    sizes = [rng.integers(1, 4), *rng.integers(1, 6, size=rng.integers(1, 4)), 3]
    layers = []
    for i, o in zip(sizes, sizes[1:], strict=False):
        W = rng.integers(-3, 4, size=(o, i)).astype(float) if rng.random() < 0.6 else rng.standard_normal((o, i))
        layers.append((W, rng.integers(-3, 4, size=o) * float(rng.random() < 0.7)))
    return Network(layers, activation)


def points_of(rng, x, radius, clip):
    """Points of the clipped ball on rational directions."""
    for _ in range(10):
        point = [Fraction(float(v)) for v in x]
        (i, j), (a, b) = rng.integers(len(x), size=2), CIRCLE[rng.integers(3)]
        length = Fraction(float(rng.choice([0.0, 0.5, 1.0, 1.0]))) * Fraction(float(radius))
        point[i] += (1 if i == j else a) * length * int(rng.choice([-1, 1]))
        point[j] += 0 if i == j else b * length * int(rng.choice([-1, 1]))
        if clip is not None:
            ends = zip(point, *clip, strict=True)
            point = [min(max(v, Fraction(float(low))), Fraction(float(high))) for v, low, high in ends]
        yield point


def signs_of(rng, layers):
    """Signs that a point has, for a share of its units; units at zero get any."""
    share = rng.choice([0.0, 0.3, 0.7, 1.0])
    return tuple(
        np.array(
            [0 if rng.random() > share else (v > 0) - (v < 0) or rng.choice([-1, 1]) for v in layer], dtype=np.int8
        )
        for layer in layers
    )


def agrees(layers, signs):
    """Whether pre-activations have the signs."""
    return all(
        s * v >= 0 for layer, row in zip(layers, signs, strict=True) for v, s in zip(layer, row.tolist(), strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_no_bound_is_below_a_value(activation, rng):
    tight = 0
    for _ in range(25):
        network = tied_network(rng, activation)
        x = rng.integers(-2, 3, size=network.n_inputs) + rng.choice([0.0, 0.1])
        radius, clip = float(rng.choice([0.0, 0.1, 0.5, 1.0, 2.0])), None
        if rng.random() < 0.5:
            clip = (x - rng.choice([0.05, 0.3, 1.0]), x + rng.choice([0.05, 0.3, 1.0]))
        threat = (L2Ball if rng.random() < 0.7 else LInfBall)(radius, clip=clip)
        found = [evaluate(network, point) for point in points_of(rng, x, radius, clip)]
        signs = signs_of(rng, found[rng.integers(10)][0])
        query = Query.of_rivals(network, x, 0, threat).with_signs(signs)
        kept = [pair for pair in found if agrees(pair[0], signs)]
        bounds = crown_bounds(query)
        for layers, _ in kept:
            for values, low, high in zip(layers, bounds.lower, bounds.upper, strict=True):
                assert all(
                    Fraction(a) <= v <= Fraction(b) for v, a, b in zip(values, low.tolist(), high.tolist(), strict=True)
                )
        good = ALPHA_CROWN.propose(query, Effort(max_iter=8)).multiplier
        bad = {key: rng.choice([0.0, 0.5, 1e5, -3.0, np.nan], size=value.shape) for key, value in good.items()}
        checks = [
            IBP.check(query, {}),
            CROWN.check(query, {}),
            ALPHA_CROWN.check(query, good),
            ALPHA_CROWN.check(query, bad),
        ]
        for r in range(2):
            top = max(outputs[r + 1] - outputs[0] for _, outputs in kept)
            assert all(not np.isfinite(check[r]) or Fraction(float(check[r])) >= top for check in checks)
            assert all(check[r] > -np.inf for check in checks)
            tight += float(checks[2][r]) - float(top) <= 1e-9 * (1.0 + abs(float(top)))
    assert tight >= 5

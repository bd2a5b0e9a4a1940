"""Polynomial networks as quadratic functions: worst cases that are attained, bounds that exact arithmetic confirms."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from convexnn import Identity, InvalidInputError, Network, Polynomial, UnsupportedModelError
from convexnn.quadratic.form import QuadraticForm
from convexnn.quadratic.spectrum import Spectrum


def random_network(rng: np.random.Generator, d: int, m: int = 5, k: int = 1, scale: float = 1.0) -> Network:
    W, b = rng.standard_normal((m, d)), rng.standard_normal(m)
    v, c = scale * rng.standard_normal((k, m)), scale * rng.standard_normal(k)
    return Network.shallow(W, b, v, c, Polynomial(0.3, 0.5, 0.2))


def exact_value(network: Network, weights: np.ndarray, x: list[Fraction]) -> Fraction:
    """``weights'f(x)`` of the real-valued network, in rational arithmetic."""
    a, b, c = (Fraction(number) for number in network.activation.parameters)
    (W, bias), (V, offset) = network.layers
    hidden = [
        sum((Fraction(w) * t for w, t in zip(row, x, strict=True)), Fraction(beta))
        for row, beta in zip(W.tolist(), bias.tolist(), strict=True)
    ]
    active = [a * z * z + b * z + c for z in hidden]
    outputs = [
        sum((Fraction(v) * t for v, t in zip(row, active, strict=True)), Fraction(beta))
        for row, beta in zip(V.tolist(), offset.tolist(), strict=True)
    ]
    return sum((Fraction(w) * value for w, value in zip(weights.tolist(), outputs, strict=True)), Fraction(0))


def inside(x: np.ndarray, point: np.ndarray, radius: float) -> list[Fraction]:
    """The point pulled towards the centre until it lies in the ball exactly."""
    centre = [Fraction(number) for number in x.tolist()]
    step = [Fraction(number) - c for number, c in zip(point.tolist(), centre, strict=True)]
    loss = Fraction(1, 2**45)
    while sum(((1 - loss) * s) ** 2 for s in step) > Fraction(radius) ** 2:
        loss *= 4
    return [c + (1 - loss) * s for c, s in zip(centre, step, strict=True)]


@pytest.mark.parametrize("scale", [1e-100, 1e-3, 1.0, 1e3, 1e100])
@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 2), (3, 3), (20, 1)])
def test_worst_cases_are_attained_by_the_network(d: int, k: int, scale: float, rng: np.random.Generator) -> None:
    network, X = random_network(rng, d, k=k, scale=scale), rng.standard_normal((100, d))
    weights = np.eye(k)[0] - (np.eye(k)[k - 1] if k > 1 else 0.0)
    form, signs = QuadraticForm.of_network(network, weights), np.where(rng.random(100) < 0.5, 1.0, -1.0)

    def value(points: np.ndarray) -> np.ndarray:
        return signs * (network(points).reshape(len(points), -1) @ weights)

    worst, points = form.worst_case(X, signs, 0.7)
    size = scale * (1.0 + np.abs(form.values(X) / scale).max())
    assert np.abs(signs * form.values(X) - value(X)).max() <= 1e-13 * size
    assert np.abs(value(points) - worst).max() <= 1e-13 * size
    assert (np.linalg.norm(points - X, axis=1) <= 0.7 * (1 + 1e-14)).all()
    for _ in range(20):
        step = rng.standard_normal(X.shape)
        step *= 0.7 * rng.random((100, 1)) / np.linalg.norm(step, axis=1, keepdims=True)
        assert (value(X + step) >= worst - 1e-13 * size).all()
    bounds = form.worst_case_bounds(X, signs, 0.7)
    assert (bounds < worst).all()
    assert np.abs(bounds - worst).max() <= 1e-9 * size


@pytest.mark.parametrize("radius", [0.0, 1e-12, 0.3, 1e6])
@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_bounds_hold_in_rational_arithmetic(d: int, scale: float, radius: float, rng: np.random.Generator) -> None:
    # The point found is a point of the ball: its exact value is above the exact minimum, so no bound may exceed it.
    # A bound above the minimum by one part in 1e13 would be seen, as value and bound are that close.
    network = random_network(rng, d, m=3, k=2, scale=scale)
    weights, X = np.array([1.0, -1.0]), rng.standard_normal((6, d))
    form = QuadraticForm.of_network(network, weights)
    for sign in (1.0, -1.0):
        _, points = form.worst_case(X, sign, radius)
        for bound, x, point in zip(form.worst_case_bounds(X, sign, radius), X, points, strict=True):
            assert Fraction(bound) <= Fraction(sign) * exact_value(network, weights, inside(x, point, radius))


def test_one_input_is_solved_exactly(rng: np.random.Generator) -> None:
    # d = 1: the minimum over [x - r, x + r] is at an end or at the vertex -q / Q, all rational.
    for _ in range(30):
        Q, q, h, x, radius = rng.standard_normal(5).tolist()
        form = QuadraticForm([[Q]], [q], h)
        low, high = Fraction(x) - Fraction(abs(radius)), Fraction(x) + Fraction(abs(radius))
        vertex = -Fraction(q) / Fraction(Q)
        candidates = [low, high] + ([vertex] if low < vertex < high else [])
        least = min(Fraction(Q) * t * t + 2 * Fraction(q) * t + Fraction(h) for t in candidates)
        bound = Fraction(form.worst_case_bounds([[x]], 1.0, abs(radius))[0])
        assert bound <= least
        assert least - bound <= Fraction(1, 10**11)


def test_corrupted_multipliers_loosen_and_never_lie(rng: np.random.Generator) -> None:
    network, X = random_network(rng, 4), rng.standard_normal((50, 4))
    form = QuadraticForm.of_network(network)
    worst, _ = form.worst_case(X, -1.0, 0.5)
    good = form.trust_region(X, -1.0, 0.5).excesses
    tight = form.worst_case_bounds(X, -1.0, 0.5)
    for wrong in (np.nan, np.inf, -np.inf, -1.0, 0.0, 1e-300, 1e300, good * 0.9, good * 1.1, rng.random(50)):
        bounds = form.worst_case_bounds(X, -1.0, 0.5, np.broadcast_to(wrong, 50))
        assert (bounds <= worst).all()
        assert (bounds <= tight + 1e-12).all()


def test_decompositions_know_their_errors(rng: np.random.Generator) -> None:
    A = rng.standard_normal((6, 6))
    for Q in (A + A.T, np.zeros((6, 6)), np.eye(6), 1e150 * (A + A.T), 1e-150 * (A + A.T)):
        spectrum = Spectrum.of(Q)
        V, d = [[Fraction(x) for x in row] for row in spectrum.vectors.tolist()], range(6)
        values = [Fraction(x) for x in spectrum.values.tolist()]
        residual = [Fraction(Q[i, j]) - sum(V[i][k] * values[k] * V[j][k] for k in range(6)) for i in d for j in d]
        skew = [sum(V[k][i] * V[k][j] for k in range(6)) - (i == j) for i in d for j in d]
        assert sum(x * x for x in residual) <= Fraction(spectrum.error) ** 2
        assert sum(x * x for x in skew) <= Fraction(spectrum.skew) ** 2
        assert spectrum.error <= 1e-12 * np.linalg.norm(Q) + 1e-300


def test_linear_networks_have_the_dual_norm(rng: np.random.Generator) -> None:
    # f(x) = g'x + c, so min over the ball = f(x) - r |g|.
    network = Network.shallow(
        rng.standard_normal((3, 4)), rng.standard_normal(3), rng.standard_normal(3), 0.5, Identity()
    )
    X = rng.standard_normal((10, 4))
    slope = np.linalg.norm(network.gradient(X[:1])[0])
    worst, _ = QuadraticForm.of_network(network).worst_case(X, 1.0, 0.3)
    np.testing.assert_allclose(worst, network(X) - 0.3 * slope, rtol=1e-12, atol=1e-12)


def test_other_networks_are_refused() -> None:
    W = np.eye(2)
    with pytest.raises(UnsupportedModelError, match="polynomial"):
        QuadraticForm.of_network(Network.shallow(W, np.zeros(2), np.ones(2)))
    with pytest.raises(UnsupportedModelError, match="one hidden layer"):
        QuadraticForm.of_network(Network(((W, np.zeros(2)),) * 3, Polynomial()))
    two = Network.shallow(W, np.zeros(2), W, 0.0, Polynomial())
    with pytest.raises(InvalidInputError, match="weights"):
        QuadraticForm.of_network(two)
    with pytest.raises(InvalidInputError, match="shape"):
        QuadraticForm.of_network(two, np.ones(3))
    with pytest.raises(InvalidInputError, match="signs"):
        QuadraticForm.of_network(two, [1, -1]).worst_case(W, 0.5, 1.0)
    with pytest.raises(InvalidInputError, match="NaN"):
        QuadraticForm([[np.nan]], [0.0], 0.0)

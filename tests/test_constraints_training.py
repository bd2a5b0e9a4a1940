"""Networks with guaranteed properties: what is proved is true, the bracket holds, what is false is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from convexnn.constraints import (
    Concave,
    ConstrainedOptions,
    Convex,
    Even,
    FixedGradient,
    FixedValue,
    Invariant,
    LowerBound,
    Monotone,
    Odd,
    SlopeBounds,
    UpperBound,
    train_constrained,
)
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network
from convexnn.patterns import sample_gates
from convexnn.threats import Box

SWAP = np.array([[0.0, 1.0], [1.0, 0.0]])


def data(seed: int = 0, n: int = 25, d: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, d))
    return X, np.sin(4 * X[:, 0]) + X[:, 0] + 0.5 * X[:, -1] ** 2 + 0.1 * rng.standard_normal(n)


def train(constraints: Any, **settings: Any) -> Any:
    X, y = data()
    options = ConstrainedOptions(rounds=1)
    return train_constrained(
        X, y, constraints, **{"lam": 1e-3, "hidden_units": 5, "random_state": 0, "options": options, **settings}
    )


def points(seed: int = 1, n: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 2)) * rng.choice([0.3, 1.0, 30.0], (n, 1))


def test_a_monotone_network_rises_on_every_segment_and_brackets_its_price() -> None:
    result = train(Monotone(0))
    Z = points()
    ahead = Z + np.abs(points(2)) * [1.0, 0.0]
    assert (result.network(ahead) >= result.network(Z) - 1e-12 * (1 + np.abs(result.network(Z)))).all()
    assert result.guarantees.hold
    assert 0 <= result.guarantees[0].bound <= result.network.gradient(Z)[:, 0].min()
    by_name = {program.name: program for program in result.programs}
    # free <= necessary <= any network that keeps the constraint; the sufficient optimum is one
    assert result.free_lower_bound <= by_name["necessary"].objective + 1e-9
    assert result.lower_bound <= result.objective <= by_name["sufficient"].objective * (1 + 1e-6)
    assert all(program.gap < 1e-5 for program in result.programs)
    assert 0 <= result.price[0] <= result.price[1]


def test_curvature_by_midpoints() -> None:
    for constraint, sign in ((Convex(), 1.0), (Concave(), -1.0)):
        network = train([constraint, Monotone(0)]).network
        A, B = points(3), points(4)
        bulge = sign * (0.5 * (network(A) + network(B)) - network(0.5 * (A + B)))
        assert bulge.min() >= -1e-9
        assert bulge.max() > 1e-3  # not affine
        assert network.gradient(A)[:, 0].min() >= 0


def test_convex_needs_no_price_beyond_positive_units() -> None:
    result = train(Convex())
    assert result.objective == pytest.approx(result.lower_bound, rel=1e-5)


@pytest.mark.slow
def test_slopes_between_bounds_and_fixed_values() -> None:
    wanted = [SlopeBounds(0, -0.5, 1.0), FixedValue([0.0, 0.0], 0.25), FixedValue([0.5, 0.5], 0.5)]
    result = train(wanted)
    slopes = result.network.gradient(points())[:, 0]
    assert -0.5 <= slopes.min() <= slopes.max() <= 1.0
    values = result.network(np.array([[0.0, 0.0], [0.5, 0.5]]))
    np.testing.assert_allclose(values, [0.25, 0.5], atol=1e-8)
    assert [item.relation for item in result.guarantees] == [">=", "<=", "<=", "<="]


@pytest.mark.slow
def test_symmetries_hold_to_the_last_bits() -> None:
    Z = points()
    even, odd = train(Even()).network, train([Odd(), Monotone(0)]).network
    np.testing.assert_allclose(even(-Z), even(Z), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(odd(-Z), -odd(Z), rtol=1e-12, atol=1e-12)
    assert abs(odd(np.zeros((1, 2)))[0]) < 1e-15
    assert odd.gradient(Z)[:, 0].min() >= 0
    swapped = train(Invariant(SWAP)).network
    np.testing.assert_allclose(swapped(Z[:, ::-1]), swapped(Z), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_tied_units_lose_nothing_on_symmetric_data() -> None:
    # 3.5: on symmetric data and cells the average over the group of the best network is as good: one optimum
    X, y = data(n=12)
    W, b = sample_gates(X, 4, random_state=0)
    both, values = np.vstack([X, -X]), np.r_[y, y]
    settings: dict[str, Any] = {"lam": 1e-3, "options": ConstrainedOptions(rounds=0)}
    tied = train_constrained(both, values, Even(), start=Network.shallow(W, b, np.ones(4)), **settings)
    closed = Network.shallow(np.vstack([W, -W]), np.r_[b, b], np.ones(8))
    free = train_constrained(both, values, SlopeBounds(0, -1e3, 1e3), start=closed, **settings)
    assert tied.objective == pytest.approx(free.free_objective, rel=1e-5)


@pytest.mark.slow
def test_caps_hold_on_the_region_and_cost_no_more_than_a_shift() -> None:
    box = Box(-1.0, 1.0)
    result = train([UpperBound(box, 0.8), LowerBound(box, -1.0)])
    Z = np.random.default_rng(0).uniform(-1, 1, (4000, 2))
    assert -1.0 <= result.network(Z).min() <= result.network(Z).max() <= 0.8
    assert result.guarantees[0].certificate.check(result.network) <= 0.8


@pytest.mark.slow
def test_a_fixed_gradient_is_the_gradient_around_the_point() -> None:
    result = train([FixedGradient([0.1, 0.2], [1.0, -0.5]), FixedValue([0.1, 0.2], 0.0)])
    step = 1e-7 * np.array([[1.0, 0.0], [0.0, 1.0]])
    center = np.array([[0.1, 0.2]])
    slopes = (result.network(center + step) - result.network(center - step)) / 2e-7
    np.testing.assert_allclose(slopes, [1.0, -0.5], atol=1e-5)


@pytest.mark.slow
def test_the_corners() -> None:
    one = train_constrained([[1.0, 2.0]], [3.0], Monotone(0), hidden_units=1, random_state=0)
    assert one.guarantees.hold
    X, y = data()
    X[:, 1] = 4.0  # a constant column
    assert train_constrained(X, y, [Monotone(0), Monotone(1, -1)], hidden_units=3, random_state=0).guarantees.hold
    line = train_constrained(X[:, :1], y, SlopeBounds(0, 1.0, 1.0 + 1e-6), hidden_units=4, random_state=0)
    # slope one everywhere leaves x + c only; c is the mean of y - x
    np.testing.assert_allclose(line.network(X[:, :1]), X[:, 0] + np.mean(y - X[:, 0]), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["huber", "hinge"])
def test_other_losses(loss: str) -> None:
    X, y = data()
    targets = np.sign(y) if loss == "hinge" else y
    result = train_constrained(X, targets, Monotone(0), lam=1e-3, hidden_units=4, loss=loss, random_state=0)
    assert result.guarantees.hold
    assert result.lower_bound <= result.objective
    assert max(program.gap for program in result.programs) < 1e-4


@pytest.mark.slow
def test_false_claims_are_refused() -> None:
    result = train([Monotone(0), UpperBound(Box(-1.0, 1.0), 1.5)])
    slope, cap = result.guarantees
    other = train(Convex()).network
    for item in (slope, cap):
        item.check(result.network)
        with pytest.raises(CertificateError, match="another network"):
            item.check(other)
    with pytest.raises(CertificateError, match="not the claimed"):
        replace(slope, bound=slope.bound + 1.0).check(result.network)
    with pytest.raises(CertificateError, match="other regions"):
        replace(cap, constraint=UpperBound(Box(-2.0, 2.0), 1.5)).check(result.network)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ([Convex(), Concave()], "affine"),
        ([Odd(), Convex()], "linear functions"),
        ([Even(), Odd()], "f = -f"),
        ([Even(), Monotone(0)], "not depend on it"),
        ([Monotone(0), Monotone(0, -1)], "not depend on it"),
        ([SlopeBounds(0, 1.0), SlopeBounds(0, high=0.5)], "at once"),
        ([FixedValue([0.0, 0.0], 1.0), FixedValue([0.0, 0.0], 2.0)], "two values"),
        ([Odd(), FixedValue([0.0, 0.0], 1.0)], "two values"),
        ([FixedValue([0.0, 0.0], 1.0), UpperBound(Box(-1.0, 1.0), 0.5)], "contradicts the bound"),
        ([Monotone(0), FixedGradient([0.0, 0.0], [-1.0, 0.0])], "contradicts the bounds on slopes"),
        ([Monotone(0), FixedValue([0.0, 0.0], 1.0), FixedValue([1.0, 0.0], 0.0)], "rises by at least"),
        ([SlopeBounds(0, 1.0, 2.0), FixedValue([0.0, 0.0], 0.0), FixedValue([-1.0, 0.0], 0.0)], "rises by at least"),
        ([Monotone("age")], "no names are known"),
        ([Monotone(2)], "from 0 to 1"),
        (["monotone"], "Expected constraints"),
        ([FixedValue([0.0], 1.0)], "2 columns"),
    ],
)
def test_contradictions_are_refused_in_words(wanted: list[Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        train(wanted)


def test_nan_is_refused() -> None:
    X, y = data()
    with pytest.raises(InvalidInputError, match="NaN"):
        train_constrained(X, np.where(y > 0, np.nan, y), Monotone(0))
    with pytest.raises(InvalidInputError, match="finite"):
        FixedValue([np.nan, 0.0])
    with pytest.raises(InvalidInputError, match="low < high"):
        SlopeBounds(0, 1.0, 1.0)
    with pytest.raises(InvalidInputError, match="signed permutation"):
        Invariant([[0.5, 0.0], [0.0, 1.0]])


def test_the_text_says_what_is_proved() -> None:
    text = str(train([Monotone(0), FixedValue([0.0, 0.0], 0.25)]))
    assert "f is nondecreasing in feature 0 everywhere" in text
    assert "rational arithmetic" in text

"""Exact checks: rational arithmetic without rounding, below the outward-rounded bounds and above every exact value."""

from __future__ import annotations

import builtins
import math
from fractions import Fraction

import numpy as np
import pytest

from convexnn.exceptions import CertificateError
from convexnn.network import Network
from convexnn.propagation import Effort, Query
from convexnn.threats import Box, L2Ball, LInfBall
from convexnn.verification import exact_numbers
from convexnn.verification.exact import EXACT, exact_bounds, exact_values
from convexnn.verification.exact_bounds import exact_crown, exact_intervals, outputs, priced
from convexnn.verification.exact_numbers import float_up, fraction, rational, rationals, root_up, round_up
from convexnn.verification.exact_sets import maximum
from convexnn.verification.registry import get_certifier
from tests.certifier_cases import exact_row_values, inside, random_case, random_network

THREATS = [L2Ball(0.4), L2Ball(0.4, (0.0, 1.0)), LInfBall(0.2), LInfBall(0.2, (0.0, 1.0)), Box(-0.2, 0.9), L2Ball(0.0)]
each_threat = pytest.mark.parametrize("threat", THREATS, ids=repr)


def query(rng, threat, sizes=(3, 5, 4, 3), activation="relu") -> Query:
    network = random_network(rng, sizes, activation)
    return Query.of_rivals(network, rng.random(sizes[0]), 0, threat)


def points(rng, asked: Query, n: int = 40) -> np.ndarray:
    """Points of the set, many of them on its boundary; strictly inside, as rational arithmetic sees it."""
    spread = 3.0 * rng.standard_normal((n, asked.network.n_inputs))
    return np.array([x for x in (inside(asked, z) for z in asked.inputs.centre + spread) if x is not None])


def test_numbers_round_the_right_way() -> None:
    for value in (0.1, -0.1, 5e-324, 1.7e308, 1 / 3, -2.5):
        assert fraction(rational(value)) == Fraction(value)
        assert float_up(rational(value)) == value
    third = rational(1.0) / rational(3.0)
    assert Fraction(float_up(third)) > Fraction(1, 3) > Fraction(math.nextafter(float_up(third), 0))
    assert Fraction(float_up(-third)) > Fraction(-1, 3)
    huge = rational(1.7e308) * rational(1e10)
    assert float_up(huge) == math.inf
    assert -math.inf < float_up(-huge) <= -1.7e308
    for value in (2.0, 1e-300, 1e300, 4.0, 0.0, 5e-324):
        root = fraction(root_up(rational(value)))
        assert Fraction(value) <= root**2 <= Fraction(value) * (1 + Fraction(1, 2**110))
    for value in (third, -third, rational(0.75), huge / rational(7)):
        near = fraction(round_up(value, 60))
        assert fraction(value) <= near <= fraction(value) + abs(fraction(value)) / 2**58
    with pytest.raises(ValueError, match="negative"):
        root_up(rational(-1.0))
    with pytest.raises(ValueError, match="nan and inf"):
        rationals([np.nan])


@each_threat
def test_linear_forms_are_bounded_between_attained_and_rounded_values(threat, rng) -> None:
    asked = query(rng, threat, (4, 2, 2))
    A, b = rng.standard_normal((5, 4)), rng.standard_normal(5)
    found = maximum(asked.inputs, rationals(A), rationals(b))
    assert all(float_up(value) <= bound for value, bound in zip(found, asked.inputs.maximum(A, b), strict=True))
    for x in points(rng, asked):
        assert (rationals(A) @ rationals(x) + rationals(b) <= found).all()
    reached = asked.inputs.maximizer(A)
    gap = [float(fraction(f)) - a @ x - c for f, a, x, c in zip(found, A, reached, b, strict=True)]
    np.testing.assert_allclose(gap, 0, atol=1e-9)  # and tight: the split leaves no gap


@each_threat
@pytest.mark.parametrize(
    "activation", ["relu", *(pytest.param(a, marks=pytest.mark.slow) for a in ("leaky_relu", "identity"))]
)
def test_exact_bounds_lie_between_exact_values_and_rounded_bounds(threat, activation, rng) -> None:
    asked = query(rng, threat, activation=activation)
    for method in EXACT:
        certifier = get_certifier(method)
        if certifier.refusal(asked) is not None:
            continue
        multiplier = certifier.propose(asked, Effort(), None).multiplier
        exact, rounded = exact_values(asked, method, multiplier), certifier.check(asked, multiplier)
        assert (exact_bounds(asked, method, multiplier) <= rounded).all(), method
        scale = np.abs(rounded) + 1.0
        np.testing.assert_allclose(exact_bounds(asked, method, multiplier) / scale, rounded / scale, atol=1e-6)
        for x in points(rng, asked, 10):
            assert (exact_row_values(asked, x) <= exact).all(), method


def test_any_numbers_give_a_valid_bound(rng) -> None:
    asked = query(rng, L2Ball(0.4, (0.0, 1.0)), activation="leaky_relu")
    bounds, (A, c) = exact_crown(asked), outputs(asked)
    values = [exact_row_values(asked, x) for x in points(rng, asked)]
    for size in (0.0, 0.5, 1.0, 30.0):
        prices = [size * rng.standard_normal((2, m)) for m in asked.network.n_hidden]
        found = priced(bounds, A, c, lambda k, _, prices=prices: prices[k])
        assert all((value <= found).all() for value in values)
    broken = [np.full((2, m), np.nan) for m in asked.network.n_hidden]
    zero = [np.zeros((2, m)) for m in asked.network.n_hidden]
    nothing = priced(bounds, A, c, lambda k, _: zero[k])
    assert (priced(bounds, A, c, lambda k, _: broken[k]) == nothing).all()


def test_signs_restrict_the_set(rng) -> None:
    asked = query(rng, LInfBall(0.3), (2, 4, 4, 2))
    whole = exact_crown(asked)
    signs = tuple(rng.integers(-1, 2, m).astype(np.int8) for m in asked.network.n_hidden)
    part = exact_crown(asked.with_signs(signs))
    for sign, low, high in zip(signs, part.lower, part.upper, strict=True):
        assert (low[sign > 0] >= rational(0)).all()
        assert (high[sign < 0] <= rational(0)).all()
    assert (part.lower[0] >= whole.lower[0]).all()
    impossible = tuple(np.where(fraction_signs(low), -1, 0).astype(np.int8) for low in whole.lower)
    if any(sign.any() for sign in impossible):
        assert exact_crown(asked.with_signs(impossible)).empty
        assert exact_bounds(asked.with_signs(impossible), "crown", {}).tolist() == [-np.inf]


def fraction_signs(low) -> np.ndarray:
    """Units that are always active."""
    return np.array([fraction(value) > 0 for value in low])


def test_without_flint_the_results_are_the_same(rng, monkeypatch) -> None:
    asked = query(rng, L2Ball(0.4, (0.0, 1.0)))
    names = [name for name in EXACT if name != "branch_and_bound"]
    multiplier = get_certifier("sdp").propose(asked, Effort(), None).multiplier
    first = [exact_bounds(asked, name, multiplier) for name in names]
    real = builtins.__import__

    def refusing(name, *args, **kwargs):
        if name == "flint":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    exact_numbers.rational_type.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refusing)
    try:
        assert exact_numbers.rational_type() is Fraction
        second = [exact_bounds(asked, name, multiplier) for name in names]
    finally:
        exact_numbers.rational_type.cache_clear()
    np.testing.assert_array_equal(first, second)


def test_intervals_of_a_chain_by_hand() -> None:
    # x in [-1, 1]; s = x / 3 (the float next to it), z = relu(s), f = 3 z - 1: interval [0, 3 fl(1/3)] - 1
    network = Network.shallow([[1 / 3]], [0.0], [3.0], -1.0)
    asked = Query.of_rivals(network, [0.0], 0, LInfBall(1.0))
    corner = Fraction(float(asked.inputs.upper[0]))  # the radius is rounded outward
    assert fraction(exact_values(asked, "ibp", {})[0]) == Fraction(1 / 3) * corner * 3 - 1
    assert exact_intervals(asked).upper[0][0] == exact_crown(asked).upper[0][0]


@pytest.mark.parametrize("seed", [472, 872])
def test_trees_are_read_with_the_bounds_that_their_multipliers_were_found_for(seed) -> None:
    asked = random_case(np.random.default_rng([2026, seed]), small=True).query
    multiplier = get_certifier("branch_and_bound").propose(asked, Effort(), None).multiplier
    claimed = get_certifier("branch_and_bound").check(asked, multiplier)
    assert (exact_bounds(asked, "branch_and_bound", multiplier) <= claimed).all()


def test_what_has_no_exact_check_is_refused(rng) -> None:
    with pytest.raises(CertificateError, match="ReLU, LeakyReLU and linear"):
        exact_bounds(query(rng, L2Ball(0.1), activation="tanh"), "crown", {})
    with pytest.raises(CertificateError, match="no exact check of 'milp'"):
        exact_bounds(query(rng, L2Ball(0.1)), "milp", {})
    with pytest.raises(CertificateError, match="shape"):
        exact_bounds(query(rng, L2Ball(0.1)), "lp", {"row0/price0": np.ones(99)})

"""A bound below what is attained is a defect that is said, never hidden; what is attained is rounded down."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from convexnn import CertificateError, Network, region_bound
from convexnn.activations import Polynomial, Tanh
from convexnn.certificates import region, region_polytope
from convexnn.certificates.region_lower import attained, consistent
from convexnn.regions import Polytope, ellipsoid, rotated_box
from convexnn.training import region_proof

SQUARE = Polytope(np.vstack([np.eye(2), -np.eye(2)]), np.ones(4))


def network() -> Network:
    return Network.shallow([[1.0, 2.0], [-1.0, 0.5]], [0.1, 0.2], [1.0, -0.5], 0.3)


@pytest.mark.parametrize("method", ["ibp", "paired", "splits"])
def test_a_bound_below_what_is_attained_is_said(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(region, "evaluated", lambda *_: 0.25)
    with pytest.raises(CertificateError, match=r"bound 0\.25 is below .* one of them is wrong"):
        region_bound(network(), ellipsoid(np.zeros(2), np.ones(2)), method=method)


def test_polytopes_and_trained_networks_say_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found = region_bound(network(), rotated_box(np.zeros(2), np.ones(2)))
    with pytest.raises(CertificateError, match="one of them is wrong"):
        region_proof._about(found, network(), found.bound + 1e-6)
    assert region_proof._about(found, network(), found.lower) == found
    with pytest.raises(CertificateError, match="one of them is wrong"):
        consistent(1.0, math.nextafter(1.0, 0.0))
    monkeypatch.setattr(region_polytope, "_check", lambda *_, exact: 0.25)  # noqa: ARG005
    with pytest.raises(CertificateError, match="one of them is wrong"):
        region_bound(network(), SQUARE)


def test_values_are_attained_in_the_region_itself(rng: np.random.Generator) -> None:
    """One unit that is active everywhere: the maximum over a box is a rational number. Points far away are rounded."""
    for _ in range(6):
        d = int(rng.integers(1, 4))
        center, half = 1e8 * rng.standard_normal(d), 0.1 * rng.random(d)
        w, b = rng.standard_normal(d), 1e10
        line = Network.shallow([w], [b], [1.0], -b)
        terms = zip(w.tolist(), center.tolist(), half.tolist(), strict=True)
        top = sum((Fraction(a) * Fraction(c) + abs(Fraction(a)) * Fraction(h) for a, c, h in terms), Fraction(0))
        box = rotated_box(center, half)
        found = region_bound(line, box)
        assert Fraction(found.lower) <= top <= Fraction(found.bound)
        assert found.bound - found.lower <= 1e-3
        wide = Polytope(np.vstack([np.eye(d), -np.eye(d)]), np.r_[center + half, half - center])
        assert -math.inf < region_bound(line, wide).lower <= region_bound(line, wide, arithmetic="exact").bound


def test_what_overflows_is_attained_nowhere() -> None:
    for activation in (Polynomial(1.0, 0.0, 0.0), Tanh()):
        huge = Network.shallow([[1e200]], [0.0], [1e200], 0.0, activation)
        assert attained(huge, rotated_box([0.0], [1.0])) <= 1e200
    deep = Network(((np.eye(1), [1.0]), (np.eye(1), [1.0]), (np.eye(1), [0.0])), Polynomial(1.0, 0.0, 0.0))
    assert 15.1 < attained(deep, rotated_box([0.0], [0.7])) <= (1.7**2 + 1) ** 2  # ((x + 1)^2 + 1)^2 at x = 0.7


def test_flat_polytopes_have_points_where_floats_do() -> None:
    flat = Polytope([[1.0, 1.0], [-1.0, -1.0]], [0.0, 0.0], -1.0, [1.0, 2.0])
    found = region_bound(network(), flat)
    assert found.lower <= found.bound
    assert replace(found, lower=math.nan).check(network()) == found.bound


def test_networks_that_are_zero_but_for_underflow_are_not_split() -> None:
    tiny = Network.shallow([[1.0, 2.0], [1.0, -1.0]], [0.0, 0.0], [1e-320, -1e-322], 0.0)
    small = Network.shallow([[1e-320]], [0.0], [1.0], 0.0)
    for one in (tiny, small):
        for make in (ellipsoid, rotated_box):
            found = region_bound(one, make(np.zeros(one.n_inputs), np.ones(one.n_inputs)), method="splits")
            assert (found.details["status"], found.details["leaves"]) == ("optimal", 1.0)
            assert 0.0 <= found.bound < 1e-290

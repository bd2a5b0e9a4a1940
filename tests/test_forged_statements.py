"""Statements that were tampered with, and numbers at the ends of float64: nothing false is ever accepted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convexnn import Box, CertificateError
from convexnn.activations import ReLU
from convexnn.certificates.region import certified_regions, region_bound
from convexnn.constraints import Convex, Monotone, UpperBound, guarantees
from convexnn.network import Network
from convexnn.regions.chain import chain_bound
from convexnn.regions.folding import folded_query
from convexnn.regions.region import ellipsoid, rotated_box


@pytest.fixture(scope="module")
def network() -> Network:
    rng = np.random.default_rng(0)
    return Network.shallow(rng.standard_normal((4, 2)), rng.standard_normal(4), rng.standard_normal(4), 0.3)


SMALL, LARGE = ellipsoid([0.0, 0.0], [0.1, 0.1]), ellipsoid([0.0, 0.0], [9.0, 9.0])


def test_split_units_are_about_one_region_only(network):
    found = region_bound(network, SMALL, method="splits", tol=1e-3)
    assert found.check(network) == found.bound
    more = {"1/center": LARGE.center, "1/axes": LARGE.axes, "1/kind": np.zeros(1)}
    hidden = {"0/axes": LARGE.axes, "axes": SMALL.axes}
    for change in (more, hidden, {"output": -np.ones(1)}):
        with pytest.raises(CertificateError):
            replace(found, multiplier={**found.multiplier, **change}).check(network)


@pytest.mark.parametrize("arithmetic", ["float64+slack", "exact"])
@pytest.mark.parametrize("weights", [[0.0], [-1.0], [7.0], [np.nan]])
def test_other_weights_of_the_output_are_refused(network, weights, arithmetic):
    found = region_bound(network, SMALL, method="paired", arithmetic=arithmetic)
    nothing = {key: 0.0 * a for key, a in found.multiplier.items() if key in ("0/curvature", "0/slope")}
    forged = {**found.multiplier, **nothing, "output": np.array(weights)}
    with pytest.raises(CertificateError):
        replace(found, multiplier=forged, bound=1e9, lower=np.nan).check(network)


def test_a_certificate_of_something_else_is_about_no_region(network):
    found = region_bound(network, SMALL)
    with pytest.raises(CertificateError, match="about no region"):
        certified_regions(replace(found, quantity="lipschitz"))


@pytest.mark.parametrize("method", ["paired", "facets", "crown"])
@pytest.mark.parametrize(("center", "half", "truth"), [(0.0, 1e-200, 1e-100), (1e-124, 0.0, 9e-25)])
def test_products_that_vanish_are_in_the_bound(method, center, half, truth):
    network = Network.shallow([[1e-200]], [0.0], [1e300], 0.0)
    assert region_bound(network, rotated_box([center], [half]), method=method).bound >= truth


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_chain_takes_multipliers_of_any_size():
    rng = np.random.default_rng(1)
    layers = [(rng.standard_normal((3, k)), rng.standard_normal(3)) for k in (2, 3)]
    deep = Network((*layers, (rng.standard_normal((1, 3)), np.zeros(1))), ReLU())
    query, _ = folded_query(deep, LARGE, np.ones(1))
    found = {"lam": np.ones(6), "mu": np.ones(6), "nu": np.full(6, 1e3), "rho": np.full(1, 1e9)}
    for size in (1.0, 1e160, 1e200, 1e300):
        assert chain_bound(query, {**found, "lam": np.full(6, size)}) > 0.0
    assert np.isfinite(chain_bound(query, found))


def test_guarantees_state_what_the_constraint_asks(network):
    slope, cap = (*guarantees(network, Monotone(0)), *guarantees(network, UpperBound(SMALL, -5.0)))
    assert slope.check(network) == slope.bound
    assert cap.check(network) == cap.bound
    for item in (slope, cap):
        for change in ({"required": -item.required - 1e9}, {"claim": "f is convex"}, {"quantity": "kink"}):
            with pytest.raises(CertificateError):
                replace(item, **change).check(network)
    with pytest.raises(CertificateError):
        replace(slope, relation="<=", bound=0.0).check(network)


def test_slopes_below_every_float_are_slopes():
    falls = Network.shallow([[1e-160, 0.0], [0.0, 1.0]], [0.0, 0.0], [-1e-170, 1.0], 0.0)
    assert [item.holds for item in guarantees(falls, (Monotone(0), Monotone(1)))] == [False, True]


def test_weights_of_any_size_have_guarantees():
    steep = Network.shallow([[1e200, 1.0], [1e-300, 1e300]], [0.0, 1.0], [1e200, 1.0], 0.0)
    assert guarantees(steep, (Monotone(0), Monotone(1), Convex())).hold
    assert not guarantees(steep, Monotone(0, -1)).hold
    rng = np.random.default_rng(0)
    W = rng.standard_normal((30, 12))
    W[:, 5] *= 1e200
    W[:, 6] /= 1e200
    many = Network.shallow(W, rng.standard_normal(30), rng.standard_normal(30), 0.0)
    proved = guarantees(many, Monotone(0), max_nodes=3)[0]
    slopes = many.gradient(rng.standard_normal((20, 12)))[:, 0]
    assert -np.inf < proved.bound <= slopes.min()


def test_slopes_without_kinks_of_many_inputs():
    W = np.eye(14)[:3]
    flat = Network.shallow(W, np.ones(3), np.array([1.0, -1.0, 1.0]), 0.0)
    found = guarantees(flat, [Monotone(j, domain=Box(-2.0, 2.0)) for j in (0, 1, 13)])
    assert [item.bound for item in found] == [0.0, -1.0, 0.0]


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid", "ignore:divide")
def test_a_chain_that_cannot_begin_proves_nothing():
    layers = [(1e200 * np.ones((2, 2)), np.ones(2)), (1e200 * np.ones((2, 2)), np.ones(2)), (np.ones((1, 2)), [0.0])]
    deep = Network(tuple((W, np.asarray(b)) for W, b in layers), ReLU())
    assert region_bound(deep, SMALL, method="chain").bound == np.inf

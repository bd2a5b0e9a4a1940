"""Rare ways through region bounds: which method is chosen, searches that end early, evidence that does not fit."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from convexnn.activations import Tanh
from convexnn.certificates import region_methods as methods
from convexnn.certificates.region import region_bound
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network
from convexnn.regions import ellipsoid, rotated_box

ROUNDED = methods.ROUNDED


def network(rng, sizes=(2, 4, 1), activation="relu") -> Network:
    pairs = zip(sizes, sizes[1:], strict=False)
    return Network([(rng.standard_normal((b, a)), 0.3 * rng.standard_normal(b)) for a, b in pairs], activation)


def best_on_a_grid(net: Network, region, rng) -> float:
    return float(net(np.vstack([region.sample(4000, rng), region.sample_surface(4000, rng)])).max())


# -- methods ----------------------------------------------------------------------------------------
def test_names_of_methods_stand_for_what_the_network_allows(rng):
    deep, smooth = network(rng, (2, 3, 3, 1)), network(rng, (2, 3, 3, 1), Tanh())
    assert methods.chosen_method(deep, "sdp", ROUNDED) == methods.chosen_method(deep, "auto", ROUNDED) == "arrow"
    assert methods.chosen_method(smooth, "auto", ROUNDED) == "alpha_crown"
    for net, method, message in (
        (deep, "paired", "one hidden layer"),
        (smooth, "chain", "ReLU and LeakyReLU"),
        (network(rng, activation=Tanh()), "sdp", "sdp_tight"),
        (deep, "magic", "Unknown method"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            methods.chosen_method(net, method, ROUNDED)
    with pytest.raises(InvalidInputError, match="arithmetic"):
        methods.chosen_method(network(rng), "paired", "float16")
    with pytest.raises(InvalidInputError, match="'arrow' does not apply"):
        region_bound(smooth, ellipsoid(np.zeros(2), np.ones(2)), method="arrow")


@pytest.mark.parametrize("kind", ["ball", pytest.param("box", marks=pytest.mark.slow)])
def test_splits_and_chains_stand_between_the_attack_and_the_plain_bound(rng, kind):
    region = (ellipsoid if kind == "ball" else rotated_box)([0.2, -0.1], [0.8, 0.5])
    shallow, deep = network(rng), network(rng, (2, 3, 2, 1))
    splits, paired = (region_bound(shallow, region, method=name, tol=1e-4) for name in ("splits", "paired"))
    top = best_on_a_grid(shallow, region, rng)
    assert top <= splits.bound <= paired.bound + 1e-9 * abs(paired.bound)
    assert splits.check(shallow) == splits.bound
    assert splits.bound <= splits.lower + 1e-3 * (1.0 + abs(splits.lower))
    chain = region_bound(deep, region, method="chain")
    assert best_on_a_grid(deep, region, rng) <= chain.check(deep) == chain.bound < np.inf


def test_rational_bounds_of_boxes_and_lifts_that_do_not_help(rng):
    net, box = network(rng), rotated_box([0.1, 0.2], [[0.5, 0.1], [0.0, 0.7]])
    plain, exact = (region_bound(net, box, method="paired", arithmetic=a) for a in (ROUNDED, "exact"))
    assert best_on_a_grid(net, box, rng) <= exact.bound <= plain.bound + 1e-6
    asked = methods.Question(net, box, np.ones(1), "paired", True)
    stored = {key.removeprefix("0/"): a for key, a in exact.multiplier.items()}
    out_of_reach = methods.exact_rho(asked, stored, plain.bound - 1.0)  # every lift is tried, the best one kept
    size = float(np.max(stored["rho"]))
    trials = [{**stored, "rho": stored["rho"] + lift * size} for lift in methods.LIFTS]
    found = [methods.rounded(methods.exact_majorants(asked, trial)) for trial in trials]
    kept = methods.rounded(methods.exact_majorants(asked, {**stored, "rho": out_of_reach}))
    assert kept == min(found)
    nothing = {**stored, "rho": np.zeros_like(stored["rho"])}
    assert methods.rounded(methods.exact_majorants(asked, nothing)) >= best_on_a_grid(net, box, rng)


def test_rational_numbers_are_rounded_up():
    assert methods.rounded(None) == methods.rounded(Fraction(10**400)) == math.inf
    for number in (Fraction(1, 3), Fraction(-1, 3), Fraction(1, 2), Fraction(1, 10**400)):
        bound = methods.rounded(number)
        assert number <= Fraction(bound)
        assert Fraction(float(np.nextafter(bound, -np.inf))) < number


def test_questions_that_a_method_does_not_answer_are_no_certificates(rng):
    net, ball = network(rng), ellipsoid(np.zeros(2), np.ones(2))
    box = rotated_box(np.zeros(2), np.ones(2))
    for region, output in ((ball, np.ones(1)), (box, -np.ones(1))):
        with pytest.raises(CertificateError, match="Bounds by directions"):
            methods.evaluated(methods.Question(net, region, output, "facets", False), {})
    found = region_bound(net, box)
    other = {**found.multiplier, "0/center": np.zeros(3), "0/axes": np.ones(3)}
    with pytest.raises(CertificateError, match="3 coordinates, the network 2"):
        replace(found, multiplier=other).check(net)
    for groups in (np.zeros(3), np.full(4, 0.5), np.full(4, 9.0)):
        with pytest.raises(CertificateError, match="groups"):
            replace(found, multiplier={**found.multiplier, "0/groups": groups}).check(net)

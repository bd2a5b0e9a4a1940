"""region_bound: statements about whole regions that anybody can check again, in float64 and over the rationals."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from convexnn import Box, Certificate, CertificateError, InvalidInputError, L2Ball, LInfBall
from convexnn.activations import LeakyReLU, ReLU, Tanh
from convexnn.certificates.region import METHODS, certified_regions, region_bound
from convexnn.certificates.region_lower import attained
from convexnn.network import Network
from convexnn.regions.exact import exact_bound
from convexnn.regions.folding import folded_layer, folded_units
from convexnn.regions.region import Region, ellipsoid, rotated_box


def shallow(rng, d=4, h=8, k=1, activation=None):
    W = rng.standard_normal((h, d)) / np.sqrt(d)
    W[h // 2 :] = -W[: h - h // 2]
    b, V = 0.3 * rng.standard_normal(h), rng.standard_normal((k, h))
    return Network(((W, b), (V, rng.standard_normal(k))), activation or ReLU())


def regions(rng, d=4):
    return {
        "ellipsoid": ellipsoid(rng.standard_normal(d), 0.5 * rng.standard_normal((d, d))),
        "rotated_box": rotated_box(rng.standard_normal(d), 0.3 * rng.standard_normal((d, d + 1))),
        "ball": L2Ball(1.5),
        "cube": LInfBall(0.5),
        "box": Box(-np.arange(1.0, d + 1), np.ones(d)),
        "union": [ellipsoid(np.zeros(d), np.full(d, 0.3)), rotated_box(np.ones(d), np.full(d, 0.1))],
        "point": ellipsoid(rng.standard_normal(d), np.zeros(d)),
        "thin": ellipsoid(rng.standard_normal(d), rng.standard_normal((d, 1))),
    }


NAMES = tuple(regions(np.random.default_rng(0)))


@pytest.mark.parametrize(
    "name", [n if n in ("ellipsoid", "point") else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_sandwich_and_save_and_check(rng, name, tmp_path):
    network, region = shallow(rng), regions(rng)[name]
    found = {m: region_bound(network, region, method=m) for m in ("sdp", "sdp_tight", "paired", "crown")}
    for certificate in found.values():
        assert certificate.lower <= certificate.bound < np.inf
        again = Certificate.load(certificate.save(tmp_path / "region.npz"))
        assert again.check(network) <= certificate.bound + 1e-12 * abs(certificate.bound)
    tolerance = 1e-6 * (1 + abs(found["paired"].bound))
    assert found["paired"].bound <= found["sdp_tight"].bound + tolerance
    assert found["sdp_tight"].bound <= min(found["sdp"].bound, found["crown"].bound) + tolerance
    if name == "point":
        assert found["paired"].bound == pytest.approx(float(network(region.center[None])[0]), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if name != "facets"])
@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.1)])
def test_every_method_and_several_outputs(rng, method, activation):
    network, known = shallow(rng, k=3, activation=activation), regions(rng)
    for region in (known["ellipsoid"], known["rotated_box"], known["union"]):
        for output in (1, (2, 0)):
            certificate = region_bound(network, region, method=method, output=output)
            assert certificate.lower <= certificate.check(network) < np.inf


@pytest.mark.slow
def test_branch_and_bound_closes_the_gap(rng):
    network = shallow(rng)
    for region in (regions(rng)["ellipsoid"], regions(rng)["rotated_box"]):
        exact = region_bound(network, region, method="branch_and_bound", tol=1e-6)
        paired = region_bound(network, region)
        assert exact.lower <= exact.bound <= exact.lower + 1e-3 * (1 + abs(exact.lower))
        assert exact.lower <= paired.bound


@pytest.mark.slow
@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.2), Tanh()])
def test_several_layers(rng, activation):
    layers = tuple(
        (rng.standard_normal((m, n)) / np.sqrt(n), 0.2 * rng.standard_normal(m)) for n, m in ((3, 6), (6, 5), (5, 1))
    )
    network = Network(layers, activation)
    for region in (regions(rng, 3)["ellipsoid"], regions(rng, 3)["rotated_box"], L2Ball(1.0)):
        best, crown = region_bound(network, region), region_bound(network, region, method="crown")
        assert best.lower <= best.check(network) <= crown.bound + 1e-6


def test_an_ellipsoid_is_the_ball_of_the_folded_network(rng):
    network, region = shallow(rng), regions(rng)["ellipsoid"]
    weights, biases, _ = folded_layer(network, region)
    folded = Network(((weights, biases), network.layers[1]), network.activation)
    ball = region_bound(folded, L2Ball(1.0))
    assert region_bound(network, region).bound == pytest.approx(ball.bound, abs=1e-9)


def test_folding_covers_its_rounding(rng):
    network = shallow(rng)
    network = Network(((1e8 * network.layers[0][0], network.layers[0][1]), network.layers[1]), ReLU())
    region = ellipsoid(1e-3 * rng.standard_normal(4), 1e-8 * rng.standard_normal((4, 4)))
    units = folded_units(network, region, np.ones(1), np.arange(8))
    from convexnn.regions.exact import exact_product

    exact = exact_product(network.layers[0][0], region.axes)
    shift = exact_product(network.layers[0][0], region.center[:, None])
    for i in range(8):
        missed = sum((x - Fraction(float(w))) ** 2 for x, w in zip(exact[i], units.weights[i], strict=True))
        moved = abs(shift[i][0] + Fraction(float(network.layers[0][1][i])) - Fraction(float(units.biases[i])))
        assert np.sqrt(float(missed)) + float(moved) <= units.error[i]
        assert units.error[i] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ellipsoid", "rotated_box", "union", "thin", "point"])
@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.1)])
def test_rational_bounds_agree(rng, name, activation):
    network, region = shallow(rng, activation=activation), regions(rng)[name]
    plain = region_bound(network, region)
    exact = region_bound(network, region, arithmetic="exact")
    assert exact.arithmetic == "exact"
    assert exact.lower <= exact.check(network) <= plain.bound + 1e-8
    assert exact.bound >= plain.bound - 1e-8


def test_rational_proof_is_sharp(rng):
    """The bias shifted by the bound and a bit makes the region safe; a bit too little is refused."""
    network = shallow(rng)
    certificate = region_bound(network, L2Ball(1.0), arithmetic="exact")
    (W, b), (v, c) = network.layers
    for spare, holds in ((1e-9, True), (-1e-9, False)):
        shifted = Network(((W, b), (v, c - certificate.bound - spare)), ReLU())
        claim = replace(certificate, fingerprint=shifted.fingerprint(), bound=0.0, lower=-1.0)
        if holds:
            assert claim.check(shifted) <= 0.0
        else:
            with pytest.raises(CertificateError):
                claim.check(shifted)


def test_the_rational_bound_needs_a_definite_matrix(rng):
    network, region = shallow(rng), Region(np.zeros(4), np.ones(4), "ball")
    args = (network, region, np.arange(8), np.ones(8), np.zeros(8))
    assert exact_bound(*args, np.full(4, 1e-3)) is None
    assert exact_bound(*args, np.full(4, np.nan)) is None
    assert float(exact_bound(*args, np.full(4, 100.0))) >= attained(network, region)
    with pytest.raises(CertificateError):
        exact_bound(network, region, np.arange(8), np.ones(3), np.zeros(8), np.ones(4))


def test_sabotage(rng):
    network, region = shallow(rng), regions(rng)["union"]
    certificate = region_bound(network, region)
    lower = certificate.lower
    with pytest.raises(CertificateError):
        replace(certificate, bound=lower - 1e-6, lower=np.nan).check(network)
    with pytest.raises(CertificateError):
        certificate.check(shallow(np.random.default_rng(5)))
    for key in certificate.multiplier:
        for broken in (
            np.zeros(3),
            np.full_like(certificate.multiplier[key], np.nan),
            -certificate.multiplier[key] + 7,
        ):
            worse = replace(certificate, multiplier={**certificate.multiplier, key: broken})
            try:
                worse.check(network)
            except CertificateError:
                continue  # refused; what passes must be true, the region of the statement being the one it now holds
            assert worse.bound >= max(attained(network, one) for one in certified_regions(worse)) - 1e-12
    with pytest.raises(CertificateError):
        replace(certificate, multiplier={"output": np.ones(1)}).check(network)


def test_refusals(rng):
    network = shallow(rng)
    for arguments in (
        {"method": "best"},
        {"arithmetic": "decimal"},
        {"output": 1},
        {"method": "ibp", "arithmetic": "exact"},
    ):
        with pytest.raises(InvalidInputError):
            region_bound(network, L2Ball(1.0), **arguments)
    with pytest.raises(InvalidInputError):
        region_bound(network, L2Ball(1.0, clip=(0, 1)))
    with pytest.raises(InvalidInputError):
        region_bound(network, ellipsoid(np.zeros(3), np.ones(3)))
    with pytest.raises(InvalidInputError):
        region_bound(shallow(rng, activation=Tanh()), L2Ball(1.0), method="sdp")

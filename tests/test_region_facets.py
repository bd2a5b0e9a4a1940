"""Facets of boxes and rotated boxes: rigorous bounds by direction, and networks trained to be safe on them."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from convexnn.activations import LeakyReLU
from convexnn.certificate import Certificate
from convexnn.certificates.region_facets import exact_value, facet_bound
from convexnn.exceptions import CertificateError, InvalidInputError, UnsupportedModelError
from convexnn.network import Network
from convexnn.regions import ellipsoid, rotated_box
from convexnn.threats import LInfBall
from convexnn.training.region_facets import FacetOptions, shifted, train_region_facets
from convexnn.training.region_facets_pricing import FacetFrame, dense_directions, priced

QUICK = FacetOptions(pricing_steps=250, steps=30, random_state=0)


def rotation(d, rng):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def shell(region, radius):
    """Sampler of images of the surface of the unit box times ``radius``."""

    def draw(n, rng):
        return region.center + radius * (region.sample_surface(n, rng) - region.center)

    return draw


def random_pairs(d, n, rng, activation="relu"):
    U = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-3, 3)
    return Network.shallow(np.vstack([U, -U]), rng.standard_normal(2 * n), rng.standard_normal(2 * n), 0.3, activation)


@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_bounds_lie_above_everything_and_exact_ones_below_rounded_ones(rng, leak):
    """attained <= exact <= rounded, without tolerance: rotated, flat, with more axes than inputs, off-centre."""
    for trial in range(24):
        d, r, n = (int(k) for k in rng.integers(1, 5, size=3))
        axes = rng.standard_normal((d, r)) if trial % 2 else rng.random(d) * rng.integers(0, 2, size=d)
        box = rotated_box(rng.standard_normal(d) * 10.0 ** rng.uniform(-3, 6), axes * 10.0 ** rng.uniform(-3, 3))
        net = random_pairs(d, n, rng, LeakyReLU(leak))
        exact, rounded = (facet_bound(net, box, arithmetic=kind) for kind in ("exact", "float64+slack"))
        top = exact_attained(net, box)
        assert top <= exact_value(net, box)
        assert exact_value(net, box) <= Fraction(exact.bound)
        assert exact.bound <= rounded.bound
        assert exact.check(net) == exact.bound
        assert rounded.check(net) == rounded.bound


def exact_attained(net, box):
    """Largest value at the corners and the centre, over the rational numbers."""
    axes = np.diag(box.axes) if box.axes.ndim == 1 else box.axes
    W, b, v = ([[Fraction(float(x)) for x in np.atleast_1d(row)] for row in a] for a in (net.W, net.b, net.v))
    A, c = ([[Fraction(float(x)) for x in np.atleast_1d(row)] for row in a] for a in (axes, box.center))
    leak, values = Fraction(float(net.activation.slope)), []
    for signs in [(0,) * axes.shape[1], *itertools.product((-1, 1), repeat=axes.shape[1])]:
        x = [start[0] + sum(a * s for a, s in zip(row, signs, strict=True)) for start, row in zip(c, A, strict=True)]
        total = Fraction(float(net.c))
        for row, t, w in zip(W, b, v, strict=True):
            z = t[0] + sum(u * xi for u, xi in zip(row, x, strict=True))
            total += w[0] * max(z, leak * z)
        values.append(total)
    return max(values)


def test_one_direction_is_bounded_exactly(rng):
    """phi(a) = relu(a - 1/2) + relu(-a - 1/2) - relu(a) on |a| <= 2: the maximum is 3/2, at a = -2."""
    net = Network.shallow([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], [-0.5, -0.5, 0.0], [1.0, 1.0, -1.0], 0.25)
    box = rotated_box([0.0, 7.0], [2.0, 3.0])
    assert facet_bound(net, box, arithmetic="exact").bound == 1.75
    assert 1.75 <= facet_bound(net, box).bound <= 1.75 + 1e-12
    assert facet_bound(net, LInfBall(2.0), arithmetic="exact").bound == 1.75


def test_dead_units_leave_nothing():
    net = Network.shallow([[1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]], [-2.0, -2.0, -1e12], [5.0, 5.0, 1.0], -1e-300)
    assert facet_bound(net, LInfBall(1.0), arithmetic="exact").bound == -1e-300
    assert facet_bound(net, LInfBall(1.0)).bound <= 1e-13


def test_other_networks_regions_and_multipliers_are_refused(rng):
    net = random_pairs(3, 2, rng)
    with pytest.raises(InvalidInputError, match="balls"):
        facet_bound(net, ellipsoid(np.zeros(3), np.ones(3)))
    with pytest.raises(InvalidInputError, match="arithmetic"):
        facet_bound(net, LInfBall(1.0), arithmetic="guess")
    with pytest.raises(UnsupportedModelError, match="one output"):
        facet_bound(Network.shallow(net.W, net.b, np.ones((2, 4)), 0.0), LInfBall(1.0))
    found = facet_bound(net, LInfBall(1.0))
    for multiplier in ({}, {"center": np.zeros(2), "axes": np.ones(2)}, {"center": np.zeros(3), "axes": -np.ones(3)}):
        fake = Certificate(found.quantity, 9.0, 0.0, "region", found.method, multiplier, net.fingerprint())
        with pytest.raises(CertificateError):
            fake.check(net)
    lie = Certificate(
        found.quantity, found.bound - 1e-6, 0.0, "region", found.method, found.multiplier, net.fingerprint()
    )
    with pytest.raises(CertificateError, match="not the claimed"):
        lie.check(net)


def test_a_shift_that_is_too_small_is_not_a_proof(rng):
    """A bias moved by 1e-6 too little leaves a network that is not proved negative."""
    net, box = random_pairs(4, 6, rng), rotated_box(rng.standard_normal(4), rotation(4, rng))
    safe, certificate = shifted(net, 1.0, lambda f: facet_bound(f, box, arithmetic="exact"))
    assert certificate.bound < 0
    back = Network.shallow(safe.W, safe.b, safe.v, safe.c - certificate.bound + 1e-6)
    assert facet_bound(back, box, arithmetic="exact").bound > 0
    with pytest.raises(CertificateError, match="another network"):
        certificate.check(back)


def test_dense_directions_climb_to_facet_normals(rng):
    """Every one of 30 random starts ends at an axis of the rotated box, none of which it was told."""
    Q = rotation(6, rng)
    box = rotated_box(np.zeros(6), Q)
    Y = shell(box, 1.3)(2000, rng)
    frame = FacetFrame.of(box, Y)
    assert np.allclose(frame.scale, np.eye(6), atol=1e-12)  # the frame does not know the axes
    found = np.abs(priced(frame, Y, dense_directions(30, 6, rng), 400, rng) @ Q)
    assert (found.max(axis=1) > 0.99 * found.sum(axis=1)).mean() >= 0.9
    assert len(set(found.argmax(axis=1))) == 6


CASES = {
    "plain": lambda rng: rotated_box(np.zeros(5), np.ones(5)),
    "rotated": lambda rng: rotated_box(np.zeros(5), rotation(5, rng)),
    "scales and centre": lambda rng: rotated_box(
        50 * rng.standard_normal(4), rotation(4, rng) * 10.0 ** np.arange(-3, 1)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_proved_networks_accept_what_lies_outside(name, rng):
    region = CASES[name](rng)
    draw = shell(region, 1.3)
    found = train_region_facets(region, draw, options=QUICK)
    assert found.certificate.arithmetic == "exact"
    assert found.lower <= found.bound < 0
    assert found.check() == found.bound
    assert exact_value(found.network, region) < 0
    assert found.network(region.sample(5000, rng)).max() < 0
    assert found.network(draw(5000, rng)).__gt__(0).mean() >= 0.99
    assert found.start_accuracy < 0.5
    assert found.status == "finished"


def test_leaky_units_are_proved_too(rng):
    region = rotated_box(rng.standard_normal(4), rotation(4, rng))
    options = QUICK.replace(activation=LeakyReLU(0.2), arithmetic="float64+slack", hidden_units=16)
    found = train_region_facets(region, shell(region, 1.4)(3000, rng), np.ones(3000), options=options)
    assert found.network.activation == LeakyReLU(0.2)
    assert found.network.n_hidden == (16,)
    assert found.certificate.arithmetic == "float64+slack"
    assert exact_value(found.network, region) <= found.bound < 0
    assert found.accuracy >= 0.99


def test_the_same_seed_gives_the_same_network_and_files_check(rng, tmp_path):
    region = rotated_box(np.zeros(3), rotation(3, rng))
    X = shell(region, 2.0)(200, rng)
    one, two = (train_region_facets(region, X, options=QUICK) for _ in range(2))
    assert one.network == two.network
    path = one.certificate.save(tmp_path / "proof.npz")
    assert Certificate.load(path).check(one.network) == one.bound


def test_a_single_sample_a_point_and_a_flat_box(rng):
    point = rotated_box(np.ones(2), np.zeros(2))
    found = train_region_facets(point, np.array([[1.0, 3.0]]), options=QUICK)
    assert found.accuracy == 1.0
    assert found.network(np.ones((1, 2)))[0] < 0
    flat = rotated_box(np.zeros(3), np.array([1.0, 2.0, 0.0]))
    X = np.array([[0.0, 0.0, 0.5], [0.0, 0.0, -0.5], [1.5, 0.0, 0.0], [0.0, 3.0, 0.0]])
    found = train_region_facets(flat, X, options=QUICK)
    assert found.accuracy == 1.0
    assert found.bound < 0


def test_settings_and_samples_are_refused(rng):
    box = rotated_box(np.zeros(2), np.ones(2))
    for change in ({"hidden_units": 1}, {"activation": "tanh"}, {"arithmetic": "?"}, {"learning_rate": 0.0}):
        with pytest.raises(InvalidInputError):
            FacetOptions(**change)
    with pytest.raises(InvalidInputError, match="train_safe_region"):
        train_region_facets(ellipsoid(np.zeros(2), np.ones(2)), np.full((3, 2), 2.0), options=QUICK)
    with pytest.raises(InvalidInputError, match="inside"):
        train_region_facets(box, np.zeros((3, 2)), options=QUICK)
    with pytest.raises(InvalidInputError, match="NaN"):
        train_region_facets(box, np.full((3, 2), np.nan), options=QUICK)
    with pytest.raises(InvalidInputError, match="directions"):
        train_region_facets(box, np.full((3, 2), 2.0), options=QUICK, directions=np.zeros((2, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("rotated", [False, True])
def test_forty_inputs_from_dense_starts(rotated, rng):
    region = rotated_box(np.zeros(40), rotation(40, rng) if rotated else np.ones(40))
    found = train_region_facets(region, shell(region, 1.3), random_state=1)
    assert found.bound < 0
    assert found.network(shell(region, 1.3)(20000, rng)).__gt__(0).mean() >= 0.99
    assert found.start_accuracy <= 0.01

"""LipSDP of networks with several hidden layers: the value, the check, and what no multiplier may do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convexnn import Certificate, CertificateError, Network, UnsupportedModelError, lipschitz
from convexnn.certificates.deep_lipschitz import check_deep_lipsdp, deep_lmi_problem, deep_lmi_value
from convexnn.certificates.lipschitz_lower import lipschitz_lower_bound
from convexnn.lipsdp.deep import maximize_deep, normalized_layers
from convexnn.lipsdp.deep_bound import upper_bound_deep

SHAPES = [(3, 5, 4, 1), (2, 4, 4, 3, 2), (6, 3, 5, 2)]


def deep(rng, sizes, activation="relu", scale=1.0):
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    layers = [(scale * rng.standard_normal((b, a)), rng.standard_normal(b)) for a, b in pairs]
    return Network(layers, activation)


def weights(network):
    return [W for W, _ in network.layers]


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_agrees_with_the_matrix_inequality(rng, sizes):
    network = deep(rng, sizes)
    certificate = lipschitz(network)
    value = deep_lmi_value(network)
    assert certificate.method == "deep_lipsdp"
    assert certificate.bound == pytest.approx(value, rel=1e-6)
    assert certificate.bound >= value * (1 - 1e-6)
    assert certificate.bound <= lipschitz(network, method="product").bound
    assert 0.99999 * value <= certificate.lower <= certificate.bound


def test_one_hidden_layer_is_lipsdp(rng):
    network = deep(rng, (4, 7, 2))
    assert lipschitz(network, method="deep_lipsdp").bound == pytest.approx(lipschitz(network).bound, rel=1e-6)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "sigmoid", "identity"])
def test_never_below_an_attained_gradient(rng, activation):
    for sizes in SHAPES:
        network = deep(rng, sizes, activation)
        attained = lipschitz_lower_bound(network, n_samples=400)
        certificate = lipschitz(network)
        assert attained <= certificate.bound
        assert certificate.check(network) == certificate.bound
        for _ in range(10):
            t = certificate.multiplier["t"] * rng.uniform(0.3, 3.0, sum(network.n_hidden))
            assert attained <= check_deep_lipsdp(network, {"t": t})


def test_a_linear_network_has_the_norm_of_its_product(rng):
    network = deep(rng, (3, 4, 4, 2), "identity")
    exact = np.linalg.norm(np.linalg.multi_dot([W for W, _ in network.layers[::-1]]), 2)
    assert exact <= lipschitz(network, method="deep_lipsdp").bound <= exact * 1.01


def test_positive_weights_in_one_direction_are_exact():
    # every unit is active on x > 0 and nothing cancels: L is the product of the numbers
    network = Network([([[2.0]], [0.0]), ([[3.0]], [1.0]), ([[0.5]], [0.0])])
    assert lipschitz(network).bound == pytest.approx(3.0, rel=1e-7)
    assert lipschitz(network).bound >= 3.0


def test_corrupted_multipliers_only_loosen(rng):
    network = deep(rng, (3, 6, 5, 2))
    best = lipschitz(network)
    value, m = best.bound * (1 - 1e-7), sum(network.n_hidden)
    product = lipschitz(network, method="product").bound
    for t in [np.ones(m), np.zeros(m), np.full(m, 1e300), np.full(m, 5e-324), 10.0 ** rng.uniform(-300, 300, m)]:
        assert value <= check_deep_lipsdp(network, {"t": t}) <= product
    for t in [-np.ones(m), np.full(m, np.nan), np.full(m, np.inf), np.ones(m - 1), np.ones((m, 1)), np.nan]:
        assert check_deep_lipsdp(network, {"t": t}) == math.inf
    assert check_deep_lipsdp(network, {}) == math.inf


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1e3, 1e100])
def test_powers_of_the_weights_are_followed(rng, scale):
    network = deep(rng, (3, 5, 4, 2))
    scaled = Network([(scale * network.layers[0][0], network.layers[0][1]), *network.layers[1:]])
    assert lipschitz(scaled).bound == pytest.approx(scale * lipschitz(network).bound, rel=1e-5)


def test_ill_conditioned_layers_stay_sound(rng):
    for _ in range(10):
        network = deep(rng, (4, 6, 6, 2))
        layers = [(W * 10.0 ** rng.uniform(-8, 8, W.shape), b) for W, b in network.layers]
        network = Network(layers)
        assert lipschitz_lower_bound(network, n_samples=300) <= lipschitz(network).bound
        assert lipschitz(network).bound <= lipschitz(network, method="product").bound


def test_dead_units_and_zero_layers(rng):
    network = deep(rng, (3, 5, 4, 1))
    full = lipschitz(network).bound
    (W0, b0), (W1, b1), last = network.layers
    wider = Network(
        [
            (np.vstack([W0, np.zeros((1, 3)), W0[:1]]), np.r_[b0, 1.0, 0.0]),
            (np.hstack([W1, np.ones((4, 1)), np.zeros((4, 1))]), b1),
            last,
        ]
    )
    assert lipschitz(wider).bound == pytest.approx(full, rel=1e-6)
    assert lipschitz(Network([(W0, b0), (0 * W1, b1), last])).bound == 0.0
    # two layers that never meet: each alone is not zero, their composition is
    apart = Network([([[1.0], [0.0]], [0, 0]), ([[0.0, 1.0]], [0.0]), ([[1.0]], [0.0])])
    assert 0.0 <= lipschitz(apart).bound <= 1e-5


def test_subnormal_and_huge_weights_prove_something_or_infinity(rng):
    for value in (5e-324, 1e308):
        network = Network([(np.full((2, 2), value), [0, 0]), (np.full((2, 2), value), [0, 0]), ([[1.0, 1.0]], [0.0])])
        bound = lipschitz(network, method="deep_lipsdp").bound
        assert bound > 0.0
        assert bound <= lipschitz(network, method="product").bound


def test_the_certificate_travels(rng, tmp_path):
    network = deep(rng, (3, 5, 4, 1))
    certificate = lipschitz(network, method="deep_lipsdp")
    loaded = Certificate.load(certificate.save(tmp_path / "deep.npz"))
    assert loaded.check(network) == certificate.bound
    with pytest.raises(CertificateError):
        loaded.check(deep(rng, (3, 5, 4, 1)))


def test_many_units_take_the_product_unasked(rng):
    assert lipschitz(deep(rng, (3, 90, 90, 1))).method == "product_l2"


def test_the_reference_needs_slopes_zero_one(rng):
    with pytest.raises(UnsupportedModelError, match="leaky"):
        deep_lmi_problem(deep(rng, (2, 3, 3, 1), "leaky_relu"))


def test_a_path_cut_short_is_valid(rng):
    network = deep(rng, (4, 8, 8, 2))
    layers, exponent = normalized_layers(weights(network))
    best = upper_bound_deep(weights(network), maximize_deep(layers).t)
    for steps in (0, 1, 5, 10):
        cut = upper_bound_deep(weights(network), maximize_deep(layers, max_iter=steps).t)
        assert best * (1 - 1e-7) <= cut <= lipschitz(network, method="product").bound
    assert exponent == sum(math.frexp(np.abs(W).max())[1] for W in weights(network))

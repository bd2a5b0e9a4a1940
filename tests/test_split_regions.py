"""Branch and bound on the pieces of units: sandwiches, repeated proofs, and trees that were tampered with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convexnn.activations import LeakyReLU, ReLU
from convexnn.certificates.region import certified_regions, region_bound
from convexnn.certificates.split_regions import split_bound
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network
from convexnn.regions import ellipsoid, rotated_box
from convexnn.training import train_safe_region


def random_network(rng: np.random.Generator, d: int, h: int, activation: object) -> Network:
    W = rng.standard_normal((h, d))
    W[1] = -W[0]  # one group of two
    return Network.shallow(W, 0.5 * rng.standard_normal(h), rng.standard_normal(h), 0.3, activation)


def regions(rng: np.random.Generator, d: int) -> list:
    return [ellipsoid(np.zeros(d), np.ones(d)), rotated_box(rng.standard_normal(d), rng.standard_normal((d, d)))]


def best_on_a_grid(network: Network, region, rng: np.random.Generator) -> float:
    points = np.vstack([region.sample(20_000, rng), region.sample_surface(20_000, rng)])
    return float(network(points).max())


@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.2)])
def test_bounds_close_in_and_repeat(rng: np.random.Generator, activation: object) -> None:
    for d, h in ((1, 4), (2, 6)):
        network = random_network(rng, d, h, activation)
        for region in regions(rng, d):
            plain = region_bound(network, region, method="paired")
            found = split_bound(network, region, max_leaves=30)
            top = best_on_a_grid(network, region, rng)
            assert top <= found.bound <= plain.bound + 1e-4 * abs(plain.bound)
            assert found.lower <= found.bound
            assert found.check(network) == found.bound
            assert certified_regions(found) == (region,)
            if found.details["status"] == "optimal":
                assert found.bound - found.lower <= 1.1e-6 * max(abs(found.bound), abs(found.lower))


def test_a_shifted_bias_moves_the_bound_and_too_small_a_shift_is_seen(rng: np.random.Generator) -> None:
    network, region = random_network(rng, 2, 5, ReLU()), ellipsoid([0.1, 0.2], [1.0, 2.0])
    found = split_bound(network, region, max_leaves=8)
    for extra, safe in ((1e-6, True), (-1e-6, False)):
        moved = Network.shallow(network.W, network.b, network.v, float(network.c) - found.bound - extra)
        draft = replace(found, bound=np.inf, lower=np.nan, fingerprint=moved.fingerprint())
        assert (draft.check(moved) < 0) is safe


def test_trees_that_leave_something_out_are_no_proof(rng: np.random.Generator) -> None:
    network, region = random_network(rng, 2, 6, ReLU()), ellipsoid(np.zeros(2), np.ones(2))
    found = split_bound(network, region, max_leaves=8, tol=0.0)
    tree = found.multiplier["0/tree"]
    assert len(tree) >= 3
    top = best_on_a_grid(network, region, rng)

    def outcome(**changes: np.ndarray) -> float:
        arrays = {**found.multiplier, **{f"0/{key}": value for key, value in changes.items()}}
        draft = replace(found, bound=np.inf, lower=np.nan, multiplier=arrays)
        try:
            return draft.check(network)
        except CertificateError:
            return np.inf

    one_sided, looped, torn = tree.copy(), tree.copy(), tree.copy()
    one_sided[0, 2] = one_sided[0, 3]  # the same child on both sides
    looped[0, 2:] = 0
    torn[0, 3] = len(tree) + 5
    trees = [one_sided, looped, torn, tree[:1], np.zeros((0, 4)), tree + 0.5, tree[:, :3], np.full((1, 4), np.nan)]
    assert outcome(tree=np.array([[-1.0, 0.0, 0.0, 0.0]])) >= top
    assert outcome(tree=np.array([[-1.0, 9e9, 0.0, 0.0]])) == np.inf
    for one in trees:
        assert outcome(tree=one) >= top
    for name in ("curvature", "slope", "rho"):
        values = found.multiplier[f"0/{name}"]
        for other in (values[:-1], rng.standard_normal(values.shape), np.full(values.shape, np.nan), values[:, :1]):
            assert outcome(**{name: other}) >= top
    for _ in range(50):  # any tree and any majorants: a bound or a refusal
        wild = rng.integers(-1, 9, size=(int(rng.integers(1, 9)), 4)).astype(float)
        assert outcome(tree=wild) >= top


def test_other_networks_are_refused(rng: np.random.Generator) -> None:
    deep = Network(((np.ones((2, 2)), np.zeros(2)), (np.ones((2, 2)), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))))
    two = Network.shallow(np.ones((2, 2)), np.zeros(2), np.ones((2, 2)), np.zeros(2))
    for network in (deep, two):
        with pytest.raises(InvalidInputError, match="one hidden layer and one output"):
            split_bound(network, ellipsoid(np.zeros(2), np.ones(2)))


@pytest.mark.slow
def test_dense_networks_of_five_inputs_get_all_their_slack_back(rng: np.random.Generator) -> None:
    region = ellipsoid(np.zeros(5), np.ones(5))
    settings = {"method": "dense", "steps": 250, "random_state": 0}

    def draw(n: int, r: np.random.Generator) -> np.ndarray:
        return 1.3 * region.sample_surface(n, r)

    plain = train_safe_region(region, draw, **settings)
    split = train_safe_region(region, draw, finish="branch_and_bound", finish_seconds=20.0, **settings)
    assert split.certificate.method == "region_split"
    assert split.network(region.sample_surface(5000, rng)).max() <= split.bound == split.check() < 0
    assert split.accuracy > plain.accuracy + 0.01
    gap = -float(split.network.c) * 1e-5
    assert split.bound - split.lower < plain.bound - plain.lower
    assert split.bound - split.lower < gap

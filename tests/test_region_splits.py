"""Proofs by splitting: sandwiches, repeated proofs, trees that were tampered with, deep trees, ends of the search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convexnn.activations import LeakyReLU, ReLU
from convexnn.certificates import region_methods
from convexnn.certificates.region import certified_regions, region_bound
from convexnn.exceptions import CertificateError
from convexnn.network import Network
from convexnn.regions import ellipsoid, rotated_box
from convexnn.regions.check import proved_bound
from convexnn.regions.folding import folded_units
from convexnn.regions.newton import best_majorants
from convexnn.regions.ridges import ridges
from convexnn.regions.splits import LEAF, splits_bound
from convexnn.regions.splitting import _Part, evidence, split_region
from convexnn.training import train_safe_region


def random_network(rng: np.random.Generator, d: int, h: int, activation: object) -> Network:
    W = rng.standard_normal((h, d))
    W[1] = -W[0]  # one group of two
    return Network.shallow(W, 0.5 * rng.standard_normal(h), rng.standard_normal(h), 0.3, activation)


def regions(rng: np.random.Generator, d: int) -> list:
    return [ellipsoid(np.zeros(d), np.ones(d)), rotated_box(rng.standard_normal(d), rng.standard_normal((d, d)))]


def best_on_a_grid(network: Network, region, rng: np.random.Generator) -> float:
    points = np.vstack([region.sample(4000, rng), region.sample_surface(4000, rng)])
    return float(network(points).max())


def pieces(network: Network, region):
    return ridges(folded_units(network, region, np.ones(1), None))


def searched(network: Network, region, **options):
    """A search whose attack takes what it is given."""
    parts = pieces(network, region)
    return parts, split_region(parts, parts, lambda e: float(network(region.image(region.project_unit(e[None])))[0]),
                               **options)  # fmt: skip


@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.2)])
def test_bounds_close_in_and_repeat(rng: np.random.Generator, activation: object) -> None:
    for d, h in ((1, 4), (2, 6)):
        network = random_network(rng, d, h, activation)
        for region in regions(rng, d):
            plain = region_bound(network, region, method="paired")
            found = region_bound(network, region, method="splits", tol=1e-4)
            top = best_on_a_grid(network, region, rng)
            assert top <= found.bound <= plain.bound + 1e-4 * abs(plain.bound)
            assert found.lower <= found.check(network) == found.bound
            assert certified_regions(found) == (region,)
            assert found.details["status"] == "optimal"
            assert found.bound - found.lower <= 1.1e-4 * abs(found.bound)


def test_a_shifted_bias_moves_the_bound_and_too_small_a_shift_is_seen(rng: np.random.Generator) -> None:
    network, region = random_network(rng, 2, 5, ReLU()), ellipsoid([0.1, 0.2], [1.0, 2.0])
    found = region_bound(network, region, method="splits", tol=1e-3)
    for extra, safe in ((1e-6, True), (-1e-6, False)):
        moved = Network.shallow(network.W, network.b, network.v, float(network.c) - found.bound - extra)
        draft = replace(found, bound=np.inf, lower=np.nan, fingerprint=moved.fingerprint())
        assert (draft.check(moved) < 0) is safe


def test_trees_that_leave_something_out_are_no_proof(rng: np.random.Generator) -> None:
    network, region = random_network(rng, 2, 6, ReLU()), ellipsoid(np.zeros(2), np.ones(2))
    found = region_bound(network, region, method="splits")
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

    one_sided, moved, other = tree.copy(), tree.copy(), tree.copy()
    one_sided[1] = LEAF  # the first part whole, rows left over or missing
    moved[tree[:, 0] != LEAF, 1] += 0.1
    other[0, 0] = 77
    for one in (one_sided, moved, other, tree[:1], tree[::-1], np.zeros((0, 2)), tree + 0.5, tree[:, :1],
                np.full((1, 2), np.nan), np.full((1, 2), LEAF)):  # fmt: skip
        assert outcome(tree=one) >= top
    for name in ("curvature", "slope", "rho"):
        values = found.multiplier[f"0/{name}"]
        for wrong in (values[:-1], rng.standard_normal(values.shape), np.full(values.shape, np.nan), values[:, :1]):
            assert outcome(**{name: wrong}) >= top
    for _ in range(50):  # any tree and any majorants: a bound or a refusal
        wild = np.column_stack([rng.integers(-1, 3, size=5), rng.standard_normal(5)])
        assert outcome(tree=wild) >= top
    with pytest.raises(CertificateError, match="cannot be read"):
        splits_bound(pieces(network, region), {"tree": tree})


def test_a_tree_of_five_thousand_levels_is_found_and_checked(rng: np.random.Generator) -> None:
    network, region = random_network(rng, 2, 5, ReLU()), ellipsoid(np.zeros(2), np.ones(2))
    parts = pieces(network, region)
    whole = best_majorants(parts)
    better = replace(whole, bound=whole.bound - 1.0)
    levels = 5000
    made = [_Part((np.full(4, -np.inf), np.full(4, np.inf)), whole)]
    for level in range(levels):  # a split of one group after the other, always of the second part
        made[-1].split, made[-1].parts = (level % 4, 50.0 + level), (len(made), len(made) + 1)
        made += [_Part(made[0].ranges, better), _Part(made[0].ranges, whole)]
    made[-1].found = better
    stored = evidence(made)
    assert stored["tree"].shape == (2 * levels + 1, 2)
    assert len(stored["curvature"]) == levels + 1
    # splits beyond what a group can reach: nothing is left above them
    assert splits_bound(parts, stored) == proved_bound(parts, whole.curvature, whole.slope)
    made[-1].found = replace(whole, bound=whole.bound + 1.0)  # the best tree is none: all parts are worse somewhere
    assert len(evidence(made)["tree"]) == 1


def test_every_end_of_the_search_is_said_and_proved(rng: np.random.Generator) -> None:
    network, region = random_network(rng, 2, 6, ReLU()), ellipsoid(np.zeros(2), np.ones(2))
    top = best_on_a_grid(network, region, rng)
    for status, options in (("max_leaves", {"max_leaves": 1, "tol": 0.0}), ("time_limit", {"deadline": 0.0})):
        parts, found = searched(network, region, **options)
        assert (found.status, found.leaves) == (status, 1)
        assert top <= splits_bound(parts, found.evidence)
    linear = Network.shallow([[1.0, 0.3]], [5.0], [1.0], 0.0)  # active everywhere: exact
    parts, found = searched(linear, rotated_box(np.zeros(2), np.ones(2)), tol=0.0, max_leaves=4)
    assert 6.3 <= splits_bound(parts, found.evidence) < 6.3 + 1e-6


def test_a_search_whose_attack_stays_below_closes_in_on_the_maximum(rng: np.random.Generator) -> None:
    network, region = random_network(rng, 2, 4, ReLU()), ellipsoid(np.zeros(2), np.ones(2))
    parts, top = pieces(network, region), best_on_a_grid(network, region, rng)
    found = split_region(parts, parts, lambda e: top - 1e-3, tol=1e-6, max_leaves=8)
    assert found.status in ("max_leaves", "stalled")
    assert top <= splits_bound(parts, found.evidence) <= top + 1e-2


def test_a_maximum_in_the_centre_points_nowhere() -> None:
    valley = Network.shallow([[1.0], [-1.0]], [0.0, 0.0], [-1.0, -1.0], 0.0)  # -|x|
    for region in (ellipsoid([0.0], [1.0]), rotated_box([0.0], [1.0]), ellipsoid([0.0], [0.0])):
        found = region_bound(valley, region, method="splits")
        assert found.lower <= 0.0 <= found.bound < 1e-6


def test_weights_at_the_ends_of_float64_have_finite_bounds() -> None:
    tiny = Network.shallow([[1e-200], [1.0]], [0.0, 1.0], [1e-200, -1e-150], 0.0)  # one group, a reach of 1e-200
    ball, box = ellipsoid([0.0], [1.0]), rotated_box([0.5], [[2.0]])
    for region, method in ((ball, "paired"), (ball, "splits"), (box, "paired")):
        found = region_bound(tiny, region, method=method)
        assert 0.0 <= found.lower + 1e-149 <= found.bound + 1e-149 < 1e-100
        assert found.check(tiny) == found.bound


def test_rational_bounds_of_parts_lie_between_the_attack_and_the_rounded_bound(rng: np.random.Generator) -> None:
    network = random_network(rng, 2, 5, LeakyReLU(0.1))
    for region in regions(rng, 2):
        found = region_bound(network, region, method="splits", tol=1e-3, arithmetic="exact")
        assert found.arithmetic == "exact"
        rounded = replace(found, method="region_splits", arithmetic="float64+slack", bound=np.inf).check(network)
        top = best_on_a_grid(network, region, rng)
        assert top <= found.check(network) == found.bound <= rounded
        assert found.bound <= found.lower + 1e-2 * (1.0 + abs(found.lower))
        tree = found.multiplier["0/tree"]
        assert len(tree) > 1
        for key, values in (
            ("tree", tree[:1]), ("tree", tree + 0.5), ("tree", tree * [1.0, 1.5]),
            ("rho", 0.0 * found.multiplier["0/rho"]),
            ("curvature", rng.standard_normal(found.multiplier["0/curvature"].shape)),
        ):  # fmt: skip
            draft = replace(found, bound=np.inf, lower=np.nan, multiplier={**found.multiplier, f"0/{key}": values})
            try:
                assert top <= draft.check(network)
            except CertificateError:
                continue


def test_empty_parts_are_nothing_over_the_rational_numbers(rng: np.random.Generator) -> None:
    network, region = random_network(rng, 2, 4, ReLU()), ellipsoid(np.zeros(2), np.ones(2))
    whole = region_bound(network, region, method="paired", arithmetic="exact")
    twice = {f"0/{key}": np.stack([whole.multiplier[f"0/{key}"]] * 2) for key in ("curvature", "slope", "rho")}
    tree = np.array([[0.0, 50.0], [LEAF, 0.0], [LEAF, 0.0]])  # nothing reaches 50
    twice["0/rho"][1] = np.nan  # so nobody asks what is proved there
    stored = {**whole.multiplier, **twice, "0/tree": tree}
    parts = replace(whole, method="region_splits_exact", multiplier=stored)
    assert parts.check(network) == whole.bound
    asked = region_methods.Question(network, region, np.ones(1), "splits", True)
    plain = {key.removeprefix("0/"): values for key, values in stored.items()}
    levels = region_methods._exact_levels(asked, plain, whole.bound)
    assert levels.shape == twice["0/rho"].shape
    assert np.isnan(levels[1]).all()


def test_a_shift_by_less_than_the_rational_bound_is_seen(rng: np.random.Generator) -> None:
    network, region = random_network(rng, 1, 4, ReLU()), rotated_box([0.1], [[1.0]])
    found = region_bound(network, region, method="splits", arithmetic="exact")
    for extra, safe in ((1e-9, True), (-1e-9, False)):
        moved = Network.shallow(network.W, network.b, network.v, float(network.c) - found.bound - extra)
        draft = replace(found, bound=np.inf, lower=np.nan, fingerprint=moved.fingerprint())
        assert (draft.check(moved) < 0) is safe


@pytest.mark.slow
def test_an_exact_finish_is_exact(rng: np.random.Generator) -> None:
    region = ellipsoid(np.zeros(3), np.ones(3))
    settings = {"method": "dense", "steps": 60, "random_state": 0, "arithmetic": "exact", "finish": "branch_and_bound"}
    found = train_safe_region(region, 1.3 * region.sample_surface(200, rng), **settings)
    assert found.certificate.method == "region_splits_exact"
    assert found.network(region.sample_surface(5000, rng)).max() <= found.bound == found.check() < 0


@pytest.mark.slow
def test_dense_networks_of_five_inputs_get_all_their_slack_back(rng: np.random.Generator) -> None:
    region = ellipsoid(np.zeros(5), np.ones(5))
    settings = {"method": "dense", "steps": 250, "random_state": 0}

    def draw(n: int, r: np.random.Generator) -> np.ndarray:
        return 1.3 * region.sample_surface(n, r)

    plain = train_safe_region(region, draw, **settings)
    split = train_safe_region(region, draw, finish="branch_and_bound", finish_seconds=20.0, **settings)
    assert split.certificate.method == "region_splits"
    assert split.network(region.sample_surface(5000, rng)).max() <= split.bound == split.check() < 0
    assert split.accuracy > plain.accuracy + 0.01
    gap = -float(split.network.c) * 2e-5
    assert split.bound - split.lower < plain.bound - plain.lower
    assert split.bound - split.lower < gap

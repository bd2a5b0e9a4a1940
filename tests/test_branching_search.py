"""Branch and bound equals enumeration, and its check proves nothing false whatever it is given."""

from __future__ import annotations

import numpy as np
import pytest
from relu_truth import exact_max

from convexnn.activations import LeakyReLU, Tanh
from convexnn.branching.certifier import BRANCH_AND_BOUND, refusal
from convexnn.network import Network
from convexnn.propagation.query import Effort, Query
from convexnn.threats import L2Ball, LInfBall

THREATS = (LInfBall(0.5), L2Ball(0.7), L2Ball(0.8, clip=(-1.0, 1.0)))
EXACT = Effort(tol=1e-5)


def network(rng, hidden, *, inputs=2, outputs=3, activation="relu", scale=1.0, extremes=False):
    sizes = [inputs, *hidden, outputs]
    layers = []
    for below, units in zip(sizes[:-1], sizes[1:], strict=True):
        bias = 0.5 * rng.standard_normal(units)
        if extremes and units > 2:
            bias[:2] = -20.0, 20.0  # dead and always active
        layers.append((scale * rng.standard_normal((units, below)), bias))
    return Network(layers, activation)


def query_of(rng, net, threat):
    x = np.clip(rng.standard_normal(net.n_inputs), -0.9, 0.9)
    return Query.of_rivals(net, x, 0, threat)


def assert_exact(query, tol=1e-4):
    evidence = BRANCH_AND_BOUND.propose(query, EXACT)
    bound, truth = BRANCH_AND_BOUND.check(query, evidence.multiplier), exact_max(query)
    size = np.maximum(1.0, np.abs(truth))
    assert np.all(bound >= truth - 1e-7 * size)
    assert np.all(bound <= truth + tol * size)
    assert np.all(evidence.details["lower"] <= bound + 1e-9 * size)
    return evidence


@pytest.mark.parametrize("threat", THREATS)
@pytest.mark.parametrize("hidden", [(1,), (5,), (3, 3)])
def test_bounds_equal_enumeration(rng, hidden, threat):
    assert_exact(query_of(rng, network(rng, hidden), threat))


@pytest.mark.slow
@pytest.mark.parametrize("threat", THREATS)
@pytest.mark.parametrize("activation", ["relu", LeakyReLU(0.2)])
def test_many_networks_equal_enumeration(rng, threat, activation):
    for hidden in ((2,), (6,), (8,), (4, 3), (3, 4), (2, 2, 3), (3, 3, 2)):
        extremes = bool(rng.random() < 0.5)
        net = network(rng, hidden, inputs=int(rng.integers(1, 4)), activation=activation, extremes=extremes)
        assert_exact(query_of(rng, net, threat))


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_scales(rng, scale):
    net = network(rng, (4,), scale=scale)
    assert_exact(query_of(rng, net, THREATS[1]))


@pytest.mark.parametrize("threat", [LInfBall(0.0), L2Ball(0.0), LInfBall(30.0), L2Ball(30.0)])
def test_radius_zero_and_huge(rng, threat):
    assert_exact(query_of(rng, network(rng, (4,)), threat), tol=1e-3)


def test_one_output_and_duplicate_units(rng):
    W, b = rng.standard_normal((2, 2)), rng.standard_normal(2)
    net = Network([(np.vstack([W, W, 0 * W]), np.concatenate([b, b, b])), (rng.standard_normal((1, 6)), np.zeros(1))])
    for threat in THREATS:
        assert_exact(query_of(rng, net, threat))


def test_signs_restrict_the_set_and_contradictions_are_empty(rng):
    net = network(rng, (4,))
    query = query_of(rng, net, THREATS[0])
    for signs in ([1, 0, 0, 0], [0, -1, 1, 0], [1, 1, 1, 1], [-1, 1, -1, 1]):
        part = query.with_signs((np.array(signs, dtype=np.int8),))
        truth = exact_max(part)
        bound = BRANCH_AND_BOUND.check(part, BRANCH_AND_BOUND.propose(part, EXACT).multiplier)
        empty = np.isneginf(truth)
        assert np.all(bound[~empty] >= truth[~empty] - 1e-7)
        assert np.all(bound[~empty] <= truth[~empty] + 1e-3)
        assert np.all(bound[empty] <= exact_max(query)[empty])


def test_a_target_stops_the_search_from_either_side(rng):
    query = query_of(rng, network(rng, (6,)), THREATS[0]).rows([0])
    truth = exact_max(query)[0]
    above = BRANCH_AND_BOUND.propose(query, Effort(stop_below=truth + 0.05))
    assert above.status == "below"
    assert BRANCH_AND_BOUND.check(query, above.multiplier)[0] < truth + 0.05
    below = BRANCH_AND_BOUND.propose(query, Effort(stop_below=truth - 0.05))
    assert below.status == "hopeless"
    assert query.values(below.points)[0, 0] >= truth - 0.05
    assert query.inputs.lower[0] <= below.points[0, 0] <= query.inputs.upper[0]


def test_rows_are_decided_on_their_own(rng):
    for threat in THREATS:
        query = query_of(rng, network(rng, (5,), outputs=5), threat)
        truth = np.sort(exact_max(query))
        target = float(0.5 * (truth[1] + truth[2]))
        evidence = BRANCH_AND_BOUND.propose(query, Effort(stop_below=target))
        below = BRANCH_AND_BOUND.check(query, evidence.multiplier) < target
        np.testing.assert_array_equal(below, exact_max(query) < target)
        assert evidence.status == "hopeless"
        assert np.all(evidence.details["lower"][~below] >= target)
        stopped = BRANCH_AND_BOUND.propose(query, Effort(stop_below=target, first_failure=True))
        assert np.all(BRANCH_AND_BOUND.check(query, stopped.multiplier) >= exact_max(query) - 1e-7)
        sure = BRANCH_AND_BOUND.propose(query, Effort(stop_below=float(truth[-1]) + 0.1))
        assert sure.status == "below"
        assert np.all(BRANCH_AND_BOUND.check(query, sure.multiplier) < truth[-1] + 0.1)


@pytest.mark.slow
def test_deep_and_wide_networks_start_from_slopes_and_spend_what_they_may(rng):
    net = network(rng, (45, 45, 45), inputs=12, scale=0.3)
    query = query_of(rng, net, LInfBall(0.3)).rows([0])
    evidence = BRANCH_AND_BOUND.propose(query, Effort(max_iter=3))
    assert evidence.details["calls"]["alpha_crown"] > 0
    bound = BRANCH_AND_BOUND.check(query, evidence.multiplier)
    assert evidence.details["lower"][0] <= bound[0] < 1.5 * abs(evidence.details["lower"][0]) + 2.0
    shared = [key for key in evidence.multiplier if key.startswith("bounds/slopes/")]
    assert len(shared) > 0
    for key in shared:
        other = {**evidence.multiplier, key: rng.random(evidence.multiplier[key].shape)}
        assert BRANCH_AND_BOUND.check(query, other)[0] >= evidence.details["lower"][0]


@pytest.mark.parametrize("effort", [Effort(deadline=0.0), Effort(max_iter=1), Effort(max_iter=3)])
def test_a_search_cut_short_has_a_valid_loose_bound(rng, effort):
    query = query_of(rng, network(rng, (6, 5)), THREATS[1])
    evidence = BRANCH_AND_BOUND.propose(query, effort)
    bound = BRANCH_AND_BOUND.check(query, evidence.multiplier)
    assert np.all(np.isfinite(bound))
    assert np.all(bound >= exact_max(query) - 1e-7)
    assert evidence.status in ("time_limit", "max_iter", "optimal")


def test_other_units_are_refused():
    net = network(np.random.default_rng(0), (3,), activation=Tanh())
    query = query_of(np.random.default_rng(0), net, THREATS[0])
    assert "tanh" in str(refusal(query))
    assert np.all(BRANCH_AND_BOUND.check(query, {"row0/tree": np.array([[-1.0, 1.0]])}) == np.inf)
    assert refusal(query_of(np.random.default_rng(0), network(np.random.default_rng(0), (3,)), THREATS[0])) is None


def tampered(rng, multiplier):
    """The multiplier with one thing wrong: something missing, exchanged, or written over."""
    changed = {key: np.array(value) for key, value in multiplier.items()}
    keys = sorted(changed)
    kind, key = rng.integers(7), keys[rng.integers(len(keys))]
    other = keys[rng.integers(len(keys))]
    if kind == 0:
        del changed[key]
    elif kind == 1:
        changed[key], changed[other] = changed[other], changed[key]
    elif kind == 2:
        changed[key] = rng.choice([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0]) * np.ones_like(changed[key])
    elif kind == 3:
        changed[key] = changed[key] * rng.choice([-1.0, 10.0, 0.5])
    elif kind == 4:
        changed[key] = changed[key][: len(changed[key]) // 2]
    elif kind == 5:
        changed[key] = changed[key] + rng.standard_normal(changed[key].shape)
    else:
        tree = changed["row0/tree"]
        changed["row0/tree"] = np.delete(tree, rng.integers(len(tree)), axis=0) if rng.random() < 0.5 else tree[::-1]
    return changed


@pytest.mark.slow
@pytest.mark.parametrize("threat", THREATS)
def test_no_tampered_tree_proves_too_much(rng, threat):
    for hidden in ((5,), (3, 3)):
        query = query_of(rng, network(rng, hidden), threat)
        truth = exact_max(query)
        multiplier = dict(BRANCH_AND_BOUND.propose(query, EXACT).multiplier)
        looser = 0
        for _ in range(60):
            bound = BRANCH_AND_BOUND.check(query, tampered(rng, multiplier))
            assert np.all(bound >= truth - 1e-7)
            looser += bool(np.any(bound > truth + 1e-3))
        assert looser > 0


def test_leaves_that_are_missing_or_exchanged_or_negated(rng):
    leaves = np.zeros(0)
    while len(leaves) < 3:
        query = query_of(rng, network(rng, (9,)), THREATS[0]).rows([0])
        multiplier = dict(BRANCH_AND_BOUND.propose(query, EXACT).multiplier)
        tree = multiplier["row0/tree"]
        leaves = np.flatnonzero(tree[:, 0] == -1)
    truth = exact_max(query)[0]
    for changed in (
        np.delete(tree, leaves[0], axis=0),
        np.vstack([tree, tree[-1:]]),
        tree * [1, 1e9],
        tree[::-1],
        -tree,
    ):
        assert BRANCH_AND_BOUND.check(query, {**multiplier, "row0/tree": changed})[0] >= truth
    for changed in (np.delete(tree, leaves[0], axis=0), np.vstack([tree, tree[-1:]])):
        assert BRANCH_AND_BOUND.check(query, {**multiplier, "row0/tree": changed})[0] == np.inf
    assert BRANCH_AND_BOUND.check(query, {})[0] == np.inf
    words = {key: np.array(["a"]) for key in multiplier if key != "row0/tree"}
    assert BRANCH_AND_BOUND.check(query, {"row0/tree": tree, **words})[0] >= truth
    only_tree = BRANCH_AND_BOUND.check(query, {"row0/tree": tree})[0]
    assert only_tree >= truth

"""Patterns: extraction, sampling that sees only the set of rows, exact enumeration, multiset arithmetic, statistics."""

from __future__ import annotations

import copy
import pickle
from itertools import product
from math import comb

import numpy as np
import pytest
from scipy.optimize import linprog
from torch import nn

from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network
from convexnn.patterns import (
    ActivationPatterns,
    canonical_order,
    count_patterns,
    enumerate_patterns,
    extract,
    pattern_statistics,
    sample,
    sample_gates,
)
from convexnn.patterns.rows import distinct
from tests._families import few

KINDS = ("gaussian", "data")


def columns(D: np.ndarray) -> set[bytes]:
    return {column.tobytes() for column in np.asarray(D, dtype=bool).T}


# -- multiset ------------------------------------------------------------------------------------------------------


def test_unique_and_expand_are_inverse_as_multisets(rng) -> None:
    patterns = ActivationPatterns(rng.random((6, 3)) < 0.5, [1, -1, 1], [2, 1, 3])
    assert len(patterns) == 6
    assert patterns.expand() == patterns
    assert patterns.expand().unique() == patterns
    assert (patterns.expand().counts == 1).all()
    assert hash(patterns) == hash(patterns.expand().select(rng.permutation(6)))
    np.testing.assert_array_equal(patterns.unique().D, np.unique(np.vstack([patterns.D, patterns.s > 0]), axis=1)[:-1])


def test_equal_patterns_with_other_signs_stay_apart() -> None:
    D = np.array([[1, 1, 1], [0, 0, 0]])
    unique = ActivationPatterns(D, [1, -1, 1]).unique()
    assert sorted(zip(unique.s, unique.counts, strict=True)) == [(-1.0, 1), (1.0, 2)]
    assert ActivationPatterns(D, [1, -1, 1]) != ActivationPatterns(D, [1, -1, -1])


def test_union_adds_multiplicities(rng) -> None:
    a = ActivationPatterns(rng.random((5, 4)) < 0.5)
    both = a.union(a)
    assert len(both) == 2 * len(a)
    np.testing.assert_array_equal(both.counts, 2 * a.unique().counts)
    with pytest.raises(InvalidInputError, match="5 and 4 rows"):
        a.union(a.on_rows([0, 1, 2, 3]))


def test_with_both_signs_has_every_pattern_twice(rng) -> None:
    D = rng.random((5, 7)) < 0.5
    both = ActivationPatterns(D, -np.ones(7), np.full(7, 4)).with_both_signs()
    assert both.n_patterns == 2 * len(columns(D))
    assert both.s.sum() == 0
    assert columns(both.D) == columns(D)


def test_select_takes_integers_masks_and_slices(rng) -> None:
    patterns = ActivationPatterns(rng.random((5, 4)) < 0.5, [1, -1, 1, 1], [1, 2, 3, 4])
    for index in ([1, 3], np.array([False, True, False, True]), slice(1, None, 2)):
        np.testing.assert_array_equal(patterns.select(index).counts, [2, 4])
    assert patterns.select(2).n_patterns == 1
    np.testing.assert_array_equal(patterns.on_rows([4, 0]).D, patterns.D[[4, 0]])
    with pytest.raises(InvalidInputError, match="index"):
        patterns.select([9])
    with pytest.raises(InvalidInputError, match="empty"):
        patterns.select([])


def test_patterns_are_frozen_also_after_copies_and_pickles(rng) -> None:
    patterns = ActivationPatterns(rng.random((5, 4)) < 0.5)
    for copied in (patterns, copy.copy(patterns), copy.deepcopy(patterns), pickle.loads(pickle.dumps(patterns))):
        assert copied == patterns
        for values in (copied.D, copied.s, copied.counts):
            with pytest.raises(ValueError, match="read-only"):
                values[:] = 1


BAD_SETS = [
    ((np.ones(3),), "matrix"),
    ((np.ones((0, 3)),), "empty"),
    ((np.ones((3, 0)),), "empty"),
    ((np.array([[0.5, 1.0]]),), "0/1"),
    ((np.array([[np.nan, 1.0]]),), "0/1"),
    (([[1, 0], [1]],), "matrix"),
    ((np.ones((2, 2)), [1]), "2 signs"),
    ((np.ones((2, 2)), [1, 0]), "2 signs"),
    ((np.ones((2, 2)), ["a", "b"]), "s cannot"),
    ((np.ones((2, 2)), None, [1, 0]), "positive integers"),
    ((np.ones((2, 2)), None, [1, 1.5]), "positive integers"),
    ((np.ones((2, 2)), None, [1, np.nan]), "positive integers"),
]


@pytest.mark.parametrize(("arguments", "named"), BAD_SETS)
def test_unusable_patterns_are_refused(arguments, named) -> None:
    with pytest.raises(InvalidInputError, match=named):
        ActivationPatterns(*arguments)


# -- extraction ----------------------------------------------------------------------------------------------------


def test_patterns_reproduce_the_network(rng) -> None:
    # f(x) = sum_j v_j D_j(x) (w_j'x + b_j) + c, the bias being a weight of the unit
    network = Network.shallow(
        rng.standard_normal((9, 3)), rng.standard_normal(9), rng.standard_normal(9), rng.standard_normal()
    )
    X = rng.standard_normal((20, 3))
    patterns = extract(network, X)
    linear = X @ network.W.T + network.b
    np.testing.assert_allclose((patterns.D * linear) @ network.v + network.c, network(X))
    np.testing.assert_array_equal(patterns.s, np.sign(network.v))
    assert patterns.n_patterns == 9  # a multiset: duplicates stay


def test_ties_are_active_and_a_zero_outer_weight_is_positive() -> None:
    network = Network.shallow([[1.0], [1.0], [1.0]], [0.0, -1.0, 0.0], [1.0, -1.0, 0.0])
    patterns = extract(network, [[0.0], [1.0]])
    np.testing.assert_array_equal(patterns.D, [[True, False, True], [True, True, True]])
    np.testing.assert_array_equal(patterns.s, [1, -1, 1])


def test_repeated_rows_have_equal_patterns_whatever_the_rounding(rng) -> None:
    # each unit passes through a row, where the sign of the product is rounding
    X = rng.standard_normal((40, 7)) * 1e3
    W = rng.standard_normal((60, 7))
    network = Network.shallow(W, -np.einsum("ij,ij->i", W, X[rng.integers(40, size=60)]), np.ones(60))
    index = rng.permutation(np.repeat(np.arange(40), 5))
    np.testing.assert_array_equal(extract(network, X[index]).D, extract(network, X).D[index])


def test_deep_and_vector_networks(rng) -> None:
    layers = [(rng.standard_normal((5, 3)), np.zeros(5)), (rng.standard_normal((4, 5)), np.ones(4))]
    network = Network((*layers, (rng.standard_normal((2, 4)), np.zeros(2))))
    X = rng.standard_normal((10, 3))
    assert extract(network, X).n_patterns == 5
    np.testing.assert_array_equal(extract(network, X, layer=1).D, network.pre_activations(X)[1] >= 0)
    assert extract(network, X, layer=-1) == extract(network, X, layer=1)
    assert (extract(network, X, layer=1).s == 1).all()  # no single sign with two outputs
    np.testing.assert_array_equal(extract(network.select(0), X, layer=1).s, np.sign(network.layers[-1][0][0]))
    with pytest.raises(InvalidInputError, match="no hidden layer 2"):
        extract(network, X, layer=2)


def test_extract_refuses_what_has_no_patterns(rng) -> None:
    smooth = Network.shallow(np.eye(2), np.zeros(2), np.ones(2), activation="tanh")
    with pytest.raises(UnsupportedModelError, match="tanh"):
        extract(smooth, np.ones((3, 2)))
    relu = Network.shallow(np.eye(2), np.zeros(2), np.ones(2))
    for bad in (np.full((3, 2), np.nan), np.full((3, 2), np.inf), np.ones((3, 5)), np.ones(2), np.ones((0, 2)), "X"):
        with pytest.raises(InvalidInputError):
            extract(relu, bad)


def test_extract_takes_torch_modules(rng) -> None:
    module = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1)).double()
    X = rng.standard_normal((8, 3))
    assert extract(module, X) == extract(Network.from_torch(module), X)


@pytest.mark.parametrize("shape", [(1, 1), (50, 1), (50, 3)])
def test_distinct_rows_are_those_of_numpy(shape, rng) -> None:
    X = rng.integers(-2, 3, shape) * rng.choice([1e-300, 1.0, -1e149, -0.0], size=shape)
    rows, inverse = distinct(X)
    np.testing.assert_array_equal(rows, np.unique(X + 0.0, axis=0))
    np.testing.assert_array_equal(rows[inverse], X)


# -- sampling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_distinct_realizable_and_never_dead(kind, rng) -> None:
    X = rng.standard_normal((15, 2))
    patterns = sample(X, 60, kind=kind, signs=1, random_state=0)
    assert patterns.n_patterns == 60 == len(columns(patterns.D))
    assert patterns.D.any(axis=0).all()
    assert columns(patterns.D) <= columns(enumerate_patterns(X).D)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signs", ["both", "random", 1, -1])
def test_sampling_sees_only_the_set_of_rows(kind, signs, rng) -> None:
    X = rng.standard_normal((25, 3))
    patterns = sample(X, 40, kind=kind, signs=signs, random_state=7)
    index = rng.permutation(np.r_[np.arange(25), rng.integers(25, size=30)])
    other = sample(X[index], 40, kind=kind, signs=signs, random_state=7)
    np.testing.assert_array_equal(other.D, patterns.D[index])
    np.testing.assert_array_equal(other.s, patterns.s)


@pytest.mark.parametrize("kind", KINDS)
def test_sampling_does_not_see_units(kind, rng) -> None:
    X = rng.standard_normal((30, 4))
    other = X * np.array([1e-3, 1.0, 60.0, 1e5]) + np.array([0.0, 273.15, -1e3, 4.0])
    np.testing.assert_array_equal(
        sample(X, 50, kind=kind, random_state=1).D, sample(other, 50, kind=kind, random_state=1).D
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gates_have_the_sampled_patterns_in_raw_units(kind, rng) -> None:
    X = rng.standard_normal((30, 4)) * np.array([1e-3, 1.0, 60.0, 1e4]) + 5.0
    W, b = sample_gates(X, 50, kind=kind, random_state=1)
    patterns = sample(X, 50, kind=kind, signs=1, random_state=1)
    np.testing.assert_array_equal(X @ W.T + b >= 0, patterns.D)
    assert extract(Network.shallow(W, b, np.ones(50)), X) == patterns


@pytest.mark.parametrize("kind", KINDS)
def test_asking_for_more_only_appends(kind, rng) -> None:
    X = rng.standard_normal((40, 3))
    few = sample(X, 20, kind=kind, signs=1, random_state=3)
    many = sample(X, 300, kind=kind, signs=1, random_state=3)
    np.testing.assert_array_equal(many.D[:, :20], few.D)


@pytest.mark.parametrize("kind", KINDS)
def test_every_pattern_is_found_when_there_are_few(kind, rng) -> None:
    X = rng.standard_normal((12, 2))
    everything = columns(enumerate_patterns(X).D) - columns(np.zeros((12, 1)))
    found = sample(X, 10_000, kind=kind, signs=1, random_state=0)
    assert columns(found.D) == everything
    W, b = sample_gates(X, 10_000, kind=kind, random_state=0)
    np.testing.assert_array_equal(X @ W.T + b >= 0, found.D)


def test_corners_of_sampling() -> None:
    for X in ([[3.0]], [[1.0, 2.0]] * 5, np.zeros((4, 2))):  # one distinct row: active or not
        assert sample(X, 50, signs=1, random_state=0).D.tolist() == [[True]] * len(X)
    # two points on a line: 10, 01, 11; a constant feature changes nothing
    for X in ([[0.0], [1.0]], [[0.0, 7.0], [1.0, 7.0]], [[1e8, 0.0], [1e8 + 1, 0.0]]):
        for kind in KINDS:
            assert sample(X, 9, kind=kind, signs=1, random_state=0).n_patterns == 3


def test_signs_of_samples(rng) -> None:
    X = rng.standard_normal((30, 3))
    both = sample(X, 20, random_state=0)
    assert both.n_patterns == 40
    assert both == sample(X, 20, signs=1, random_state=0).with_both_signs()
    drawn = sample(X, 200, signs="random", random_state=0)
    assert 60 < (drawn.s > 0).sum() < 140
    assert (sample(X, 5, signs=-1, random_state=0).s == -1).all()


def test_random_states(rng) -> None:
    X = rng.standard_normal((30, 3))
    fixed = sample(X, 9, random_state=5)
    np.testing.assert_array_equal(sample(X, 9, random_state=np.random.default_rng(5)).D, fixed.D)
    assert sample(X, 9, random_state=6) != fixed
    legacy = [sample(X, 9, random_state=np.random.RandomState(5)) for _ in range(2)]
    assert legacy[0] == legacy[1]
    state = np.random.get_state()[1].copy()
    sample(X, 9)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # the global generator is left alone


BAD_SAMPLES = [
    ({"X": [[np.nan]]}, "NaN"),
    ({"X": [[np.inf]]}, "infinite"),
    ({"X": np.ones(3)}, "n_features"),
    ({"X": np.ones((0, 2))}, "at least 1"),
    ({"X": np.ones((2, 0))}, "at least 1"),
    ({"X": [["a"]]}, "must hold numbers"),
    ({"p": 0}, "p must"),
    ({"p": 2.0}, "p must"),
    ({"p": True}, "p must"),
    ({"kind": "uniform"}, "uniform"),
    ({"signs": 0}, "signs"),
    ({"random_state": "seed"}, "random_state"),
]


@pytest.mark.parametrize(("change", "named"), BAD_SAMPLES)
def test_bad_sampling_arguments_are_named(change, named) -> None:
    arguments = {"X": [[0.0], [1.0]], "p": 3} | change
    with pytest.raises(InvalidInputError, match=named):
        sample(**arguments)


# -- enumeration ---------------------------------------------------------------------------------------------------


def brute_force(X: np.ndarray, bias: bool) -> set[bytes]:
    """Sign vectors s for which some (w, b) has s_k (w'x_k + b) >= 1 for all k, by 2^n linear programs."""
    H = np.hstack([X, np.ones((len(X), 1))]) if bias else X
    H = H / np.maximum(np.linalg.norm(H, axis=1, keepdims=True), 1e-300)
    tie = ~H.any(axis=1)
    found = set()
    for pattern in product((False, True), repeat=len(X)):
        active = np.array(pattern)
        if not active[tie].all():
            continue
        A = -(np.where(active, 1.0, -1.0)[:, None] * H)[~tie]
        result = linprog(np.zeros(H.shape[1]), A_ub=A, b_ub=-np.ones(len(A)), bounds=(None, None))
        if len(A) == 0 or result.status == 0:
            found.add(active.tobytes())
    return found


def small_sets() -> list[tuple[str, np.ndarray, bool]]:
    rng = np.random.default_rng(11)
    line = np.arange(6.0)[:, None]
    grid = np.array(list(product(range(3), repeat=2)), dtype=float)
    return [
        ("general position", rng.standard_normal((7, 2)), True),
        ("general position in three dimensions", rng.standard_normal((7, 3)), True),
        ("more features than rows", rng.standard_normal((4, 6)), True),
        ("one feature", rng.standard_normal((7, 1)), True),
        ("collinear", np.hstack([line, 2 * line]), True),
        ("collinear but one", np.vstack([np.hstack([line, 2 * line]), [[0.5, 3.0]]]), True),
        ("grid", grid, True),
        ("repeated rows", rng.integers(0, 2, (9, 3)).astype(float), True),
        ("cube", np.array(list(product((0.0, 1.0), repeat=3))), True),
        ("constant feature", np.hstack([rng.standard_normal((6, 2)), np.ones((6, 1))]), True),
        ("one row", np.ones((1, 3)), True),
        ("no bias", rng.standard_normal((7, 3)), False),
        (
            "no bias, opposite and parallel rows",
            np.array([[1, 1], [2, 2], [-1, -1], [1, 0], [0, 3], [0, 0]]) * 1.0,
            False,
        ),
        ("no bias, many ties", rng.integers(-1, 2, (8, 3)).astype(float), False),
        ("no bias, zeros", np.zeros((2, 2)), False),
    ]


SMALL = {case[0]: case[1:] for case in small_sets()}


@pytest.mark.parametrize("case", few(SMALL, list(SMALL)[::3]))
@pytest.mark.slow
def test_enumeration_equals_linear_programs_over_all_signs(case) -> None:
    X, bias = case
    found = enumerate_patterns(X, bias=bias)
    assert len(columns(found.D)) == found.n_patterns
    assert columns(found.D) == brute_force(X, bias)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 3), (30, 1), (40, 2), (18, 3), (14, 5), (9, 8)])
def test_enumeration_has_covers_count_in_general_position(n, d, rng) -> None:
    X = rng.standard_normal((n, d))
    rank = min(n, d + 1)
    assert enumerate_patterns(X).n_patterns == count_patterns(n, rank)
    if n >= d:
        assert enumerate_patterns(X, bias=False).n_patterns == count_patterns(n, d)


def test_count_in_closed_form() -> None:
    assert count_patterns(10, 2) == 20  # ten points on a line
    assert count_patterns(4, 3) == 14  # all but the two diagonals of four points in the plane
    assert count_patterns(6, 6) == 2**6  # independent rows
    assert count_patterns(6, 9) == 2**6
    assert count_patterns(50, 7) == 2 * sum(comb(49, k) for k in range(7))


def test_enumeration_does_not_see_order_repetition_or_units(rng) -> None:
    X = rng.standard_normal((12, 2))
    expected = columns(enumerate_patterns(X).D)
    index = rng.permutation(np.r_[np.arange(12), 3, 3, 7])
    moved = enumerate_patterns((X * [1e-4, 1e5] + [2.0, -3e5])[index])
    first = [np.flatnonzero(index == k)[0] for k in range(12)]
    assert columns(moved.D[first]) == expected
    assert moved.n_patterns == len(expected)


def test_gates_never_leave_the_enumerated_set(rng) -> None:
    X = rng.integers(0, 4, (14, 2)).astype(float)
    expected = columns(enumerate_patterns(X).D)
    W, b = rng.standard_normal((3000, 2)), rng.standard_normal(3000) * 3
    assert columns(X @ W.T + b >= 0) <= expected


def test_enumeration_says_when_there_are_too_many(rng) -> None:
    with pytest.raises(InvalidInputError, match=r"rank 11 can have .* more than max_patterns=100000"):
        enumerate_patterns(rng.standard_normal((200, 10)))
    with pytest.raises(InvalidInputError, match="max_patterns=5"):
        enumerate_patterns([[0.0], [1.0], [2.0]], max_patterns=5)
    assert enumerate_patterns([[0.0], [1.0], [2.0]], max_patterns=6).n_patterns == 6
    with pytest.raises(InvalidInputError, match="NaN"):
        enumerate_patterns([[np.nan]])


# -- statistics and order ------------------------------------------------------------------------------------------


def test_statistics_by_hand() -> None:
    D = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1]])
    stats = pattern_statistics(ActivationPatterns(D, [1, -1, 1, 1], [1, 2, 1, 1]))
    # columns: always active (twice, one unit each), half active (two units), never active
    assert (stats.n_rows, stats.n_units, stats.n_distinct, stats.n_duplicates) == (4, 5, 3, 2)
    assert (stats.n_always_active, stats.n_never_active, stats.n_positive) == (2, 1, 3)
    assert stats.mean_active == pytest.approx((1 + 0.5 * 2 + 0 + 1) / 5)
    np.testing.assert_allclose(stats.active_fraction, [1, 0.5, 0, 1])
    # shares of active units: 4/5 on two rows, 2/5 on the others
    entropy = [-(p * np.log2(p) + (1 - p) * np.log2(1 - p)) for p in (0.8, 0.4)]
    assert stats.row_entropy == pytest.approx(np.mean(entropy))
    assert (stats.hamming_min, stats.hamming_mean, stats.hamming_max) == (0.5, pytest.approx(2 / 3), 1.0)
    assert "always active          2" in str(stats)


def test_statistics_of_a_single_pattern_and_of_many(rng) -> None:
    one = pattern_statistics(ActivationPatterns(np.ones((3, 1))))
    assert (one.hamming_min, one.hamming_max, one.row_entropy) == (0, 0, 0)
    many = pattern_statistics(ActivationPatterns(rng.random((60, 2000)) < 0.5))
    assert many.hamming_mean == pytest.approx(0.5, abs=0.01)
    assert many.row_entropy == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (30, 12), (1200, 5)])
def test_canonical_order_is_a_permutation_that_forgets_the_given_order(shape, rng) -> None:
    D = rng.random(shape) < 0.4
    rows, units = canonical_order(ActivationPatterns(D))
    np.testing.assert_array_equal(np.sort(rows), np.arange(shape[0]))
    np.testing.assert_array_equal(np.sort(units), np.arange(shape[1]))
    shuffled = rng.permutation(shape[1])
    again = canonical_order(ActivationPatterns(D[:, shuffled]))
    np.testing.assert_array_equal(D[np.ix_(rows, units)], D[:, shuffled][np.ix_(*again)])


def test_canonical_order_unshuffles_a_staircase(rng) -> None:
    stairs = np.tril(np.ones((12, 12), dtype=bool))
    D = stairs[rng.permutation(12)][:, rng.permutation(12)]
    rows, units = canonical_order(ActivationPatterns(D))
    picture = D[np.ix_(rows, units)]
    changes = np.abs(np.diff(picture.astype(int), axis=0)).sum() + np.abs(np.diff(picture.astype(int), axis=1)).sum()
    assert changes == 22  # neighbors differ in one entry: 11 steps down, 11 steps across

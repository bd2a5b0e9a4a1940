"""A tree that can be read covers every sign pattern; what cannot be read proves nothing."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.branching.tree import no_signs, read_tree, with_sign

SIZES = (3, 2)


def random_tree(rng, signs, depth=0):
    free = [(k, int(j)) for k, own in enumerate(signs) for j in np.flatnonzero(own == 0)]
    if not free or (depth and rng.random() < 0.3):
        return [(-1, int(rng.integers(4)))]
    layer, unit = free[rng.integers(len(free))]
    sides = [random_tree(rng, with_sign(signs, layer, unit, sign), depth + 1) for sign in (1, -1)]
    return [(layer, unit), *sides[0], *sides[1]]


def test_every_pattern_has_exactly_one_leaf(rng):
    for _ in range(30):
        leaves = read_tree(np.array(random_tree(rng, no_signs(SIZES))), no_signs(SIZES))
        assert leaves is not None
        for _ in range(20):
            pattern = [rng.choice([-1, 1], size=size) for size in SIZES]
            fits = [
                all(np.all(own * signs >= 0) for own, signs in zip(pattern, leaf.signs, strict=True)) for leaf in leaves
            ]
            assert sum(fits) == 1


def test_signs_of_the_query_stay(rng):
    start = with_sign(no_signs(SIZES), 1, 0, -1)
    leaves = read_tree(np.array(random_tree(rng, start)), start)
    assert leaves is not None
    assert all(leaf.signs[1][0] == -1 for leaf in leaves)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(0, 0)],
        [(0, 0), (-1, 0)],  # one side is missing
        [(-1, 0), (-1, 0)],  # more than a tree
        [(0, 0), (-1, 0), (-1, 0), (-1, 0)],
        [(0, 3), (-1, 0), (-1, 0)],  # no such unit
        [(2, 0), (-1, 0), (-1, 0)],
        [(0, -1), (-1, 0), (-1, 0)],
        [(-2, 0)],
        [(0, 0), (0, 0), (-1, 0), (-1, 0), (-1, 0)],  # split twice: a side with >= 0 and <= 0 at once
        [(0.5, 0), (-1, 0), (-1, 0)],
        [(np.nan, 0)],
        [(np.inf, 0)],
        [(-1, 1e300)],
        [(-1, 0, 0)],
        [-1.0, 0.0],
    ],
)
def test_other_lists_are_not_trees(rows):
    assert read_tree(np.array(rows, dtype=float), no_signs(SIZES)) is None


def test_no_numbers_are_no_tree():
    assert read_tree(np.array([["a", "b"]]), no_signs(SIZES)) is None
    assert read_tree(np.array([None, {}], dtype=object), no_signs(SIZES)) is None


def test_lists_with_rows_changed_at_random_are_trees_that_cover_or_none(rng):
    read = 0
    for _ in range(200):
        rows = np.array(random_tree(rng, no_signs(SIZES)))
        rows[rng.integers(len(rows)), rng.integers(2)] = rng.integers(-2, 4)
        rows = np.delete(rows, rng.integers(len(rows)), axis=0) if rng.random() < 0.3 else rows
        leaves = read_tree(rows, no_signs(SIZES))
        if leaves is None:
            continue
        read += 1
        volume = sum(0.5 ** sum(int((own != 0).sum()) for own in leaf.signs) for leaf in leaves)
        assert volume == 1.0  # of 2^5 patterns
    assert read > 20

"""kappa(nu) = max |sum nu_i relu(x_i'w)| over the unit ball: boxes against exact arcs, sampling and cells."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.global_gap.boxes import kappa_boxes
from convexnn.global_gap.faces import Boxes, cone_bound, tightened
from convexnn.global_gap.kappa import magnitude, reduce_rows, response
from convexnn.global_gap.oracle import kappa_upper
from convexnn.global_gap.pricing import candidates, cell_ascent, local_search
from convexnn.global_gap.signs import kappa_upper_signs


def instance(rng, n=30, rank=3, ones=True):
    X = rng.normal(size=(n, rank))
    if ones:
        X[:, -1] = 1.0
    return X, rng.normal(size=n) / n


def arcs(X, nu):
    """Exact kappa for two columns: on every arc between two zeros of pre-activations F is a cosine."""
    angle = np.arctan2(X[:, 1], X[:, 0])
    knots = np.sort(np.mod(np.r_[angle + np.pi / 2, angle - np.pi / 2], 2 * np.pi))
    knots = np.r_[knots, knots[0] + 2 * np.pi]
    best = 0.0
    for low, high in zip(knots[:-1], knots[1:], strict=True):
        middle = np.array([np.cos((low + high) / 2), np.sin((low + high) / 2)])
        g = (nu * (X @ middle > 0)) @ X
        for sign in (1.0, -1.0):
            inside = np.mod(np.arctan2(sign * g[1], sign * g[0]) - low, 2 * np.pi) <= high - low
            ends = [sign * g @ [np.cos(end), np.sin(end)] for end in (low, high)]
            best = max(best, np.linalg.norm(g) if inside else max(ends))
    return best


@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_two_columns_agree_with_exact_arcs(rng, n):
    for _ in range(5):
        X, nu = instance(rng, n, 2)
        exact = arcs(X, nu)
        found = kappa_upper(X, nu, tol=1e-6)
        assert exact * (1 - 1e-12) <= found.upper <= exact * (1 + 3e-6)
        assert found.lower <= exact * (1 + 1e-12)


@pytest.mark.parametrize(("n", "rank"), [(12, 1), (40, 3), (40, 4), (25, 5), (20, 6)])
def test_bracket_holds_every_sampled_direction_and_closes(rng, n, rank):
    X, nu = instance(rng, n, rank)
    found = kappa_upper(X, nu, tol=1e-4)
    W = rng.normal(size=(100_000, rank))
    sampled = np.abs(response(X, nu, W / np.linalg.norm(W, axis=1, keepdims=True))).max()
    reduced = reduce_rows(X, nu)
    climbed = cell_ascent(reduced, local_search(reduced, rng, np.zeros((0, reduced.rank))), rng).best
    assert found.status == "converged"
    assert max(sampled, climbed) <= found.upper <= found.lower * (1 + 1.01e-4)
    best = found.directions[0]
    assert np.linalg.norm(best) == pytest.approx(1)
    assert abs(response(X, nu, best[None])[0]) == pytest.approx(found.lower, rel=1e-12)
    assert np.sign(response(X, nu, best[None])[0]) == found.signs[0]


def test_bounds_of_single_boxes_hold_inside_them(rng):
    """cone_bound and tightened against G'w / |w| and F(w) / |w| at random points of random boxes."""
    rank, k = 4, 60
    boxes = Boxes.faces(rank).select(rng.integers(0, 2 * rank, k))
    for _ in range(5):
        boxes = boxes.halves().select(rng.permutation(2 * k)[:k])
        boxes = Boxes(*(getattr(boxes, f) for f in ("centre", "half", "face", "bound")), *pick_axis(boxes, rng))
        G, rows = rng.normal(size=(k, rank)), rng.normal(size=(k, 3, rank))
        c = -rng.random((k, 3))
        slope = rng.random((k, 3))
        start = G + np.einsum("bk,bk,bkd->bd", c, slope, rows)
        linear, refined = cone_bound(start, boxes), tightened(boxes, start.copy(), c, rows, slope.copy())
        for _ in range(50):
            w = boxes.centre + boxes.half * rng.uniform(-1, 1, size=(k, rank))
            size = np.linalg.norm(w, axis=1)
            active = np.maximum(np.einsum("bkd,bd->bk", rows, w), 0)
            F = (G * w).sum(axis=1) + (c * active).sum(axis=1)
            assert ((start * w).sum(axis=1) / size <= linear + 1e-12).all()
            assert (F / size <= refined + 1e-12).all()


def pick_axis(boxes, rng):
    axis = np.array([rng.choice(np.flatnonzero(half)) for half in boxes.half])
    return axis, boxes.rows, boxes.linear


def test_a_target_ends_the_search_with_a_proof_or_with_a_direction_above(rng):
    X, nu = instance(rng, 40, 4)
    true = kappa_upper(X, nu, tol=1e-6)
    proved = kappa_upper(X, nu, target=1.1 * true.upper)
    assert proved.status == "target"
    assert true.lower <= proved.upper <= 1.1 * true.upper
    broken = kappa_upper(X, nu, target=0.9 * true.lower, stop_above=True)
    assert broken.status == "above"
    assert broken.lower > 0.9 * true.lower
    assert true.lower <= broken.upper


def test_no_time_gives_a_valid_bound(rng):
    X, nu = instance(rng, 80, 6)
    truth = local_search(reduce_rows(X, nu), rng, np.zeros((0, 6))).best
    hurried = kappa_upper(X, nu, tol=1e-9, time_limit=1e-3)
    assert hurried.status == "time_limit"
    assert truth <= hurried.upper <= magnitude(X, nu)


def test_duplicates_zero_rows_and_unused_rows_change_nothing(rng):
    X, nu = instance(rng, 20, 3)
    more = np.vstack([X, X[:5], 2 * X[5:8], np.zeros((2, 3)), rng.normal(size=(3, 3))])
    weights = np.r_[nu, nu[:5], 0.5 * nu[5:8], 1.0, -1.0, np.zeros(3)]
    doubled = nu.copy()
    doubled[:8] *= 2
    plain, crowded = kappa_upper(X, doubled, tol=1e-7), kappa_upper(more, weights, tol=1e-7)
    assert crowded.upper == pytest.approx(plain.upper, rel=3e-7)
    assert reduce_rows(more, weights).rows.shape == (20, 3)
    opposite = kappa_upper(np.vstack([X, X]), np.r_[nu, -nu])  # F vanishes everywhere
    assert opposite.upper <= 1e-13 * magnitude(X, nu)


def test_rank_deficient_rows_rotations_and_scales(rng):
    X, nu = instance(rng, 25, 3, ones=False)
    value = kappa_upper(X, nu, tol=1e-7).upper
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    embedded = X @ Q[:3]
    assert reduce_rows(embedded, nu).rank == 3
    assert kappa_upper(embedded, nu, tol=1e-7).upper == pytest.approx(value, rel=1e-6)
    for size in (1e-3, 1e3):
        assert kappa_upper(size * X, nu, tol=1e-7).upper == pytest.approx(size * value, rel=1e-6)
        assert kappa_upper(X, size * nu, tol=1e-7).upper == pytest.approx(size * value, rel=1e-6)


def test_empty_and_single_rows():
    nothing = kappa_upper(np.ones((3, 2)), np.zeros(3))
    assert (nothing.upper, nothing.lower) == (0.0, 0.0)
    one = kappa_boxes(np.array([[3.0, 4.0]]), np.array([-2.0]), tol=1e-8)  # kappa = |nu| |x| = 10
    assert 10 <= one.upper <= 10 * (1 + 1e-7)


def test_cell_ascent_never_descends(rng):
    X, nu = instance(rng, 40, 4)
    reduced = reduce_rows(X, nu)
    start = candidates(reduced, rng.normal(size=(20, 4)), rng.choice([-1.0, 1.0], 20))
    better = cell_ascent(reduced, start, rng)
    assert better.best >= start.best * (1 - 1e-12)
    values = better.signs * response(reduced.rows, reduced.nu, better.directions)
    assert values == pytest.approx(better.values)


@pytest.mark.parametrize("method", [kappa_upper, kappa_upper_signs])
@pytest.mark.parametrize("scale", [1e-160, 1e-110, 1e110])
def test_extreme_scales_do_not_under_or_overflow(rng, method, scale):
    """At 1e-160 the squares of a linear form were zero, and so was its length: the bound was below the value."""
    X, nu = rng.normal(size=(6, 2)), rng.normal(size=6)
    plain, scaled = method(X, nu), method(X * scale, nu)
    assert scaled.upper == pytest.approx(plain.upper * scale, rel=2e-3)
    assert scaled.upper >= plain.lower * scale * (1 - 1e-9)
    assert method(X, nu * scale).upper >= plain.lower * scale * (1 - 1e-9)

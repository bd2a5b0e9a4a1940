"""Kappa by branching on signs: above dense sampling, equal to boxes, valid for every multiplier and at every moment."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.global_gap.boxes import kappa_boxes
from convexnn.global_gap.kappa import response
from convexnn.global_gap.signs import kappa_signs, kappa_upper_signs
from convexnn.global_gap.signs_majorants import Majorant, Piece, ball_maximum, majorant_bound, offsets
from convexnn.global_gap.signs_relaxation import Moments, largest_mean, relax


def instance(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=n) / n


def sampled(X, nu, rng, count=40_000):
    W = rng.normal(size=(count, X.shape[1]))
    return float(np.abs(response(X, nu, W / np.linalg.norm(W, axis=1, keepdims=True))).max())


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d"), [(1, 2), (8, 2), (15, 3), (20, 4), (12, 6)])
def test_the_bracket_holds_sampling_and_agrees_with_boxes(rng, n, d):
    X, nu = instance(n, d, n)
    found = kappa_signs(X, nu, tol=1e-3)
    assert sampled(X, nu, rng) <= found.upper
    assert found.lower <= found.upper <= (1 + 1.5e-3) * found.lower
    assert found.lower == pytest.approx(found.signs[0] * response(X, nu, found.directions[:1])[0])
    boxes = kappa_boxes(X, nu, tol=1e-3)
    assert boxes.lower <= found.upper
    assert found.lower <= boxes.upper


def test_any_majorant_is_above_the_function_on_its_piece(rng):
    X, nu = instance(12, 3)
    signs = np.zeros(12)
    signs[:3] = 1, -1, 1
    W = rng.normal(size=(20_000, 3))
    W *= rng.random((20_000, 1)) / np.linalg.norm(W, axis=1, keepdims=True)
    W = W[((W @ X[:3].T) * signs[:3] >= 0).all(axis=1)]
    size = np.linalg.norm(X, axis=1) * (1 + 1e-12)
    low, high = np.where(signs > 0, 0.0, -size), np.where(signs < 0, 0.0, size)
    for scale in (0.0, 0.01, 1.0):
        majorant = Majorant(scale * rng.normal(size=12), scale * rng.normal(size=12), scale * rng.normal(size=(3, 3)))
        assert response(X, nu, W).max() <= majorant_bound(X, nu, Piece(signs, low, high), majorant)
    broken = Majorant(np.full(12, np.nan), np.zeros(12), np.zeros((3, 3)))
    assert majorant_bound(X, nu, Piece(signs, low, high), broken) == np.inf


def test_offsets_and_ball_maximum_against_grids(rng):
    a = np.linspace(-1, 0.7, 20_001)
    for al, be, c in rng.normal(size=(50, 3)):
        exact = (c * np.maximum(a, 0) - al * a * a - be * a).max()
        found = offsets(*(np.array([x]) for x in (al, be, c, -1.0, 0.7)))[0]
        assert exact - 1e-12 <= found <= exact + 1e-3
    angle = np.linspace(0, 2 * np.pi, 2001)
    W = np.concatenate([r * np.column_stack([np.cos(angle), np.sin(angle)]) for r in np.linspace(0, 1, 101)])
    for _ in range(20):
        A, g = rng.normal(size=(2, 2)), rng.normal(size=2)
        A = A + A.T
        exact = (np.einsum("ki,ij,kj->k", W, A, W) + W @ g).max()
        assert exact - 1e-12 <= ball_maximum(A, g) <= exact + 1e-3
    assert ball_maximum(np.zeros((2, 2)), np.zeros(2)) == pytest.approx(0.0, abs=1e-12)


def test_largest_mean_is_attained_and_never_exceeded(rng):
    """Random distributions on three points stay below it; two points reach it."""
    low, high = -rng.random(3000) - 0.05, rng.random(3000) + 0.05
    points = low[:, None] + (high - low)[:, None] * rng.random((3000, 3))
    weight = rng.dirichlet(np.ones(3), 3000)
    m, e = (weight * points).sum(axis=1), (weight * points**2).sum(axis=1)
    value, (dm, de), _ = largest_mean(m, e, low, high)
    assert ((weight * np.maximum(points, 0)).sum(axis=1) <= value + 1e-12).all()
    root = np.sqrt(e)
    inside = (root < high) & (root < -low)
    share = 0.5 * (1 + m / root)  # on +root and -root
    assert value[inside] == pytest.approx((share * root)[inside])
    step = 1e-7
    change = largest_mean(m + step, e, low, high)[0] - largest_mean(m - step, e, low, high)[0]
    assert np.median(np.abs(change / (2 * step) - dm)) < 1e-6
    assert (de >= 0).all()


def test_the_relaxation_is_below_the_interval_bound_and_above_the_maximum(rng):
    X, nu = instance(30, 4)
    length = np.linalg.norm(X, axis=1) * (1 + 1e-12)
    piece = Piece(np.zeros(30), -length, length)
    found = relax(Moments(X), nu, piece, np.zeros(4), 1e-4, 0.0)
    W = rng.normal(size=(40_000, 4))
    values = response(X, nu, W / np.linalg.norm(W, axis=1, keepdims=True))
    assert values.max() <= found.bound < np.maximum(nu, 0) @ length


def test_duplicates_scales_and_permutations(rng):
    X, nu = instance(14, 3)
    plain = kappa_upper_signs(X, nu)
    twice = kappa_upper_signs(np.vstack([X, 2 * X[:4]]), np.concatenate([nu[:4] - 2, nu[4:], np.ones(4)]))
    assert twice.lower == pytest.approx(plain.lower, rel=3e-3)
    order = rng.permutation(14)
    assert kappa_upper_signs(X[order], nu[order]).lower == pytest.approx(plain.lower, rel=2e-3)
    for scale in (1e-3, 1e3):
        scaled = kappa_upper_signs(scale * X, nu / scale)
        assert scaled.lower <= plain.upper * (1 + 1e-9)
        assert plain.lower <= scaled.upper * (1 + 1e-9)


def test_cancelling_rows_and_nothing_at_all():
    X, _ = instance(6, 2)
    assert kappa_upper_signs(X, np.zeros(6)).upper == 0.0
    assert kappa_upper_signs(np.vstack([X[:1], X[:1]]), np.array([1.0, -1.0])).upper <= 1e-12


def test_limits_leave_a_valid_bound(rng):
    X, nu = instance(60, 8)
    cut = kappa_signs(X, nu, time_limit=1e-6)
    assert cut.status == "time_limit"
    assert sampled(X, nu, rng, 5000) <= cut.upper < np.inf
    loose = kappa_signs(X, nu, target=cut.upper * 1.01)
    assert loose.status == "target"
    above = kappa_signs(X, nu, target=0.5 * cut.lower, stop_above=True)
    assert above.status == "above"
    assert above.upper >= above.lower > 0.5 * cut.lower

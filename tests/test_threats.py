"""Threat sets: projection, support, membership, samples and boxes agree with each other and with the definition."""

from __future__ import annotations

import pickle

import cvxpy as cp
import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError
from convexnn.threats import Box, L2Ball, LInfBall, Threat

D = 4
THREATS = [
    L2Ball(0.7),
    L2Ball(0.0),
    L2Ball(0.7, clip=(-1.0, 1.0)),
    L2Ball(0.7, clip=(np.array([-1.0, -0.2, -np.inf, -1.0]), np.array([1.0, 0.3, np.inf, 0.1]))),
    LInfBall(0.4),
    LInfBall(0.0),
    LInfBall(0.4, clip=(-1.0, 1.0)),
    LInfBall(0.4, clip=(-1.0, np.inf)),
    Box(-1.0, [0.5, 1.0, 2.0, 0.0]),
    Box(-2.0, 2.0, clip=(-1.0, 1.0)),
]
each = pytest.mark.parametrize("threat", THREATS, ids=repr)


def centres(threat, rng: np.random.Generator, n: int = 40) -> np.ndarray:
    """Samples that lie in the data range of the threat."""
    X = rng.uniform(-1.0, 1.0, size=(n, D))
    return X if getattr(threat, "clip", None) is None else np.clip(X, *threat.clip)


@each
def test_projections_lie_in_the_set_and_stay(threat, rng) -> None:
    X = centres(threat, rng)
    Z = threat.project(X + 2 * rng.standard_normal(X.shape), X)
    assert threat.contains(Z, X).all()
    np.testing.assert_allclose(threat.project(Z, X), Z, atol=1e-12)


@each
def test_points_of_the_set_are_their_own_projection(threat, rng) -> None:
    X = centres(threat, rng)
    Z = threat.sample(X, rng)
    np.testing.assert_allclose(threat.project(Z, X), Z, atol=1e-12)


@each
def test_projection_is_the_nearest_point(threat, rng) -> None:
    # obtuse angle: <z - P, s - P> <= 0 for every s of the set
    X = centres(threat, rng)
    Z = X + 2 * rng.standard_normal(X.shape)
    P = threat.project(Z, X)
    for _ in range(50):
        assert (((Z - P) * (threat.sample(X, rng) - P)).sum(axis=1) <= 1e-9).all()


def test_clipped_ball_projection_equals_a_cone_program(rng) -> None:
    X = rng.uniform(-1, 1, size=(6, D))
    Z = X + 3 * rng.standard_normal(X.shape)
    found = L2Ball(0.9, clip=(-1.0, 1.0)).project(Z, X)
    for x, z, p in zip(X, Z, found, strict=True):
        s = cp.Variable(D)
        problem = cp.Problem(cp.Minimize(cp.sum_squares(s - z)), [cp.norm(s - x) <= 0.9, s >= -1, s <= 1])
        problem.solve(solver=cp.CLARABEL)
        np.testing.assert_allclose(p, s.value, atol=1e-4)
        assert np.sum((p - z) ** 2) <= problem.value * (1 + 1e-7)


def test_a_centre_outside_the_clip_is_met_where_the_sets_meet() -> None:
    X = np.array([[2.0, 0.0], [5.0, 0.0]])
    threat = L2Ball(1.5, clip=(-1.0, 1.0))
    P = threat.project(np.array([[0.0, 4.0], [0.0, 0.0]]), X)
    # first: on the edge of height 1, as far left as (2 - p)^2 + 1 <= 1.5^2 allows; second: ball and box do not meet
    np.testing.assert_allclose(P, [[2 - np.sqrt(1.25), 1.0], [1.0, 0.0]], atol=1e-9)
    assert threat.contains(P, X).tolist() == [True, False]


@pytest.mark.parametrize("radius", [5.0, 1e300])
def test_a_centre_is_its_own_projection_on_a_large_ball(radius) -> None:
    X = np.ones((2, D))  # warnings are errors: the length zero is divided by nowhere
    np.testing.assert_array_equal(L2Ball(radius).project(X, X), X)
    np.testing.assert_array_equal(L2Ball(radius, clip=(0.0, 2.0)).project(X, X), X)


@each
def test_samples_lie_in_the_set(threat, rng) -> None:
    X = centres(threat, rng)
    for _ in range(20):
        assert threat.contains(threat.sample(X, rng), X).all()


@each
def test_support_is_above_every_sample_and_attained_without_clip(threat, rng) -> None:
    X = centres(threat, rng)
    G = rng.standard_normal(X.shape)
    top = threat.support(G, X)
    for _ in range(200):
        assert ((G * (threat.sample(X, rng) - X)).sum(axis=1) <= top + 1e-12).all()
    far = threat.project(X + 1e6 * G, X)
    reached = (G * (far - X)).sum(axis=1)
    assert (reached <= top + 1e-6).all()
    if isinstance(threat, L2Ball) and threat.clip is None:
        np.testing.assert_allclose(reached, top, atol=1e-6)


@pytest.mark.parametrize("threat", [t for t in THREATS if not isinstance(t, L2Ball)], ids=repr)
def test_support_of_boxes_is_attained_at_a_corner(threat, rng) -> None:
    X = centres(threat, rng)
    G = rng.standard_normal(X.shape)
    low, high = threat.bounding_box(X)
    corner = np.where(G >= 0, high, low)
    assert threat.contains(corner, X).all()
    np.testing.assert_allclose((G * (corner - X)).sum(axis=1), threat.support(G, X))


@each
def test_the_bounding_box_holds_the_set_and_touches_it(threat, rng) -> None:
    X = centres(threat, rng)
    low, high = threat.bounding_box(X)
    assert low.shape == high.shape == X.shape
    Z = threat.sample(X, rng)
    assert (low <= Z + 1e-12).all()
    assert (high >= Z - 1e-12).all()
    if getattr(threat, "clip", None) is None:
        for j in range(D):
            target = X.copy()
            target[:, j] = high[:, j]
            if not isinstance(threat, Box):
                assert threat.contains(target, X).all()


@each
def test_points_outside_are_not_contained(threat, rng) -> None:
    X = centres(threat, rng)
    assert not threat.contains(X + 10.0, X).any()
    assert not threat.contains(np.full_like(X, np.nan), X).any()
    low, high = threat.bounding_box(X)
    outside = X.copy()
    outside[:, 1] = high[:, 1] + 1e-3
    assert not threat.contains(outside, X).any()
    outside[:, 1] = low[:, 1] - 1e-3
    assert not threat.contains(outside, X).any()


def test_samples_fill_the_ball() -> None:
    rng = np.random.default_rng(0)
    X = np.zeros((20_000, 3))
    length = np.linalg.norm(L2Ball(2.0).sample(X, rng), axis=1)
    assert np.mean(length <= 1.0) == pytest.approx(1 / 8, abs=0.01)  # (1/2)^3


@each
def test_threats_follow_the_protocol_and_pickle(threat, rng) -> None:
    assert isinstance(threat, Threat)
    assert threat.norm in {"l2", "linf", "box"}
    X = centres(threat, rng)
    Z = rng.standard_normal(X.shape)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(threat)).project(Z, X), threat.project(Z, X))


BAD = [
    (lambda: L2Ball(-1.0), "radius"),
    (lambda: L2Ball(np.nan), "radius"),
    (lambda: LInfBall(np.inf), "radius"),
    (lambda: LInfBall("wide"), "radius"),
    (lambda: L2Ball(None), "radius"),
    (lambda: L2Ball(1.0, clip=3.0), "clip"),
    (lambda: L2Ball(1.0, clip=(0.0, 1.0, 2.0)), "clip"),
    (lambda: LInfBall(1.0, clip=(1.0, 0.0)), "lower <= upper"),
    (lambda: LInfBall(1.0, clip=("a", "b")), "clip"),
    (lambda: Box(1.0, 0.0), "lower <= upper"),
    (lambda: Box(np.nan, 0.0), "NaN"),
    (lambda: Box(-np.inf, 0.0), "finite"),
    (lambda: Box([0.0, 0.0], [1.0, 1.0, 1.0]), "shape|arrays"),
    (lambda: Box(0.0, 1.0, clip=(2.0, 3.0)), "lower <= upper"),
]


@pytest.mark.parametrize(("make", "named"), BAD)
def test_unusable_sets_are_refused(make, named) -> None:
    with pytest.raises(InvalidInputError, match=named):
        make()


def test_threats_compare_by_value() -> None:
    assert L2Ball(1.0) == L2Ball(1)
    assert hash(L2Ball(1.0)) == hash(L2Ball(1.0))
    assert L2Ball(1.0) != L2Ball(2.0)
    assert L2Ball(1.0) != LInfBall(1.0)
    assert L2Ball(1.0, clip=(0, 1)) != L2Ball(1.0)
    assert L2Ball(1.0, clip=(np.zeros(2), np.ones(2))) == L2Ball(1.0, clip=(np.zeros(2), np.ones(2)))
    assert Box([0, 0], [1, 2]) == Box([0.0, 0.0], [1.0, 2.0])
    assert Box([0, 0], [1, 2]) != Box([0, 0], [1, 3])

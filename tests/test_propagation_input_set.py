"""Sets of inputs: support functions are attained, rounded up, and right at every scale; corners of clipped balls."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError
from convexnn.propagation import InputSet
from convexnn.propagation.support import fill
from convexnn.threats import Box, L2Ball, LInfBall


def random_clipped_ball(rng, scale=1.0):
    """Centres inside and outside of the box, one-sided and flat boxes, balls that hardly reach the box."""
    d = rng.integers(1, 7)
    low, high = -rng.random(d) * rng.choice([0.05, 0.5, 2.0]), rng.random(d) * rng.choice([0.05, 0.5, 2.0])
    centre = rng.standard_normal(d) * rng.choice([0.01, 0.3, 1.0])
    kind = rng.integers(5)
    if kind == 1:
        low[:] = -np.inf
    elif kind == 2:
        high[rng.random(d) < 0.5] = np.inf
    elif kind == 3:
        low[0] = high[0] = np.clip(centre, low, high)[0]
    distance = np.linalg.norm(np.clip(centre, low, high) - centre)
    radius = max(rng.choice([0.1, 0.5, 1.0, 3.0]), distance * rng.choice([1.001, 1.5]))
    return InputSet(low * scale, high * scale, centre * scale, radius * scale)


@pytest.mark.parametrize("scale", [1e-150, 1e-80, 1e-3, 1.0, 1e3, 1e80, 1e150])
def test_maxima_over_clipped_balls_are_attained(scale, rng):
    for _ in range(15):
        inputs = random_clipped_ball(rng, scale)
        A = np.vstack([rng.standard_normal((2, len(inputs.centre))), rng.integers(-1, 2, size=len(inputs.centre))])
        bound, points = inputs.maximum(A) / scale, inputs.maximizer(A)
        assert ((points >= inputs.lower) & (points <= inputs.upper)).all()
        assert (np.linalg.norm((points - inputs.centre) / inputs.radius, axis=1) <= 1 + 1e-12).all()
        size = np.linalg.norm(A, axis=1) * inputs.radius / scale + 1e-300
        gap = bound - (A @ (points / scale)[..., None])[np.arange(3), np.arange(3), 0]
        assert (gap >= -1e-14 * size).all()
        assert (gap[A.any(axis=1)] <= 1e-8 * size[A.any(axis=1)]).all()


@pytest.mark.slow
def test_maxima_over_clipped_balls_agree_with_a_cone_solver(rng):
    import cvxpy as cp

    for _ in range(25):
        inputs = random_clipped_ball(rng)
        a = rng.standard_normal(len(inputs.centre))
        x = cp.Variable(len(a))
        finite = np.isfinite(inputs.lower), np.isfinite(inputs.upper)
        rows = [x[finite[0]] >= inputs.lower[finite[0]]] if finite[0].any() else []
        rows += [x[finite[1]] <= inputs.upper[finite[1]]] if finite[1].any() else []
        problem = cp.Problem(cp.Maximize(a @ x), [*rows, cp.norm(x - inputs.centre) <= inputs.radius])
        problem.solve(solver="CLARABEL")
        assert inputs.maximum(a[None])[0] == pytest.approx(problem.value, abs=1e-5)


def exact(values):
    """Fractions of an array."""
    return [Fraction(float(v)) for v in np.ravel(values)]


@pytest.mark.parametrize("scale", [1e-160, 1e-3, 1.0, 1e8])
def test_rounding_goes_up_in_rational_arithmetic(scale, rng):
    for _ in range(40):
        d = int(rng.integers(1, 9))
        A, b = rng.standard_normal((1, d)) * 10.0 ** rng.integers(-8, 9, size=d), rng.standard_normal(1)
        centre = rng.standard_normal(d) * scale * 10.0 ** rng.integers(-3, 4, size=d)
        half = rng.random(d) * scale
        box = InputSet.box(centre - half, centre + half)
        corner = np.where(A[0] > 0, box.upper, box.lower)
        true = sum((a * x for a, x in zip(exact(A), exact(corner), strict=True)), Fraction(float(b[0])))
        assert Fraction(float(box.maximum(A, b)[0])) >= true
        # a ball contains centre + radius u for every rational unit vector u: (3/5, 4/5), and the axes
        ball = InputSet.around(centre, L2Ball(float(scale)))
        j, k = rng.integers(d), rng.integers(d)
        step = {int(j): Fraction(3, 5), int(k): Fraction(4, 5)} if j != k else {int(j): Fraction(1)}
        point = [
            c + Fraction(float(scale)) * step.get(i, 0) * (1 if A[0, i] > 0 else -1)
            for i, c in enumerate(exact(centre))
        ]
        true = sum((a * x for a, x in zip(exact(A), point, strict=True)), Fraction(float(b[0])))
        assert Fraction(float(ball.maximum(A, b)[0])) >= true


def test_the_bounds_of_a_ball_and_a_box_are_those_of_the_norms():
    A, centre = np.array([[3.0, -4.0], [0.0, 0.0]]), np.array([1.0, 2.0])
    # 3 - 8 + 0.5 * 5 for the ball, 3 - 8 + 0.5 * 7 for the box
    assert InputSet.around(centre, L2Ball(0.5)).maximum(A) == pytest.approx([-2.5, 0.0], abs=1e-13)
    assert InputSet.around(centre, LInfBall(0.5)).maximum(A) == pytest.approx([-1.5, 0.0], abs=1e-13)
    # clipped at (1.2, 1.9): the box is reached before the ball
    clipped = InputSet.around(centre, L2Ball(0.5, clip=(np.array([0.0, 1.9]), np.array([1.2, 5.0]))))
    assert clipped.maximum(A) == pytest.approx([3.6 - 7.6, 0.0], abs=1e-13)


def test_a_radius_of_zero_is_a_point(rng):
    x = rng.standard_normal(5)
    A = rng.standard_normal((4, 5))
    for threat in (L2Ball(0.0), LInfBall(0.0), L2Ball(0.0, clip=(-9, 9)), Box(x, x)):
        inputs = InputSet.around(x, threat)
        assert inputs.maximum(A) == pytest.approx(A @ x, abs=1e-13)
        assert (inputs.maximum(A) >= A @ x - 1e-14).all()
        assert inputs.maximizer(A) == pytest.approx(np.tile(x, (4, 1)), abs=1e-15)
        assert inputs.project(x[None] + 1.0) == pytest.approx(x[None], abs=1e-15)


def test_one_input(rng):
    inputs = InputSet.around(np.array([0.3]), L2Ball(0.5, clip=(0.0, 1.0)))
    assert inputs.maximum(np.array([[2.0], [-2.0]])) == pytest.approx([1.6, 0.0], abs=1e-13)
    assert inputs.maximizer(np.array([[2.0], [-2.0]])) == pytest.approx(np.array([[0.8], [0.0]]), abs=1e-13)


def test_a_ball_that_touches_its_clip():
    # the only point is (1, 0): distance 1 from the centre (0, 0)
    inputs = InputSet.around(np.zeros(2), L2Ball(1.0, clip=(np.array([1.0, -5.0]), np.array([2.0, 5.0]))))
    A = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert (inputs.maximum(A) >= [1.0, -1.0, 0.0]).all()
    assert inputs.maximum(A)[:2] == pytest.approx([1.0, -1.0], abs=1e-7)


def test_projections_and_bounding_boxes_contain_the_set(rng):
    for _ in range(40):
        inputs = random_clipped_ball(rng)
        points = inputs.project(inputs.centre + 3.0 * rng.standard_normal((20, len(inputs.centre))))
        low, high = inputs.bounding_box()
        assert ((points >= low) & (points <= high)).all()
        assert (np.linalg.norm(points - inputs.centre, axis=1) <= inputs.radius * (1 + 1e-12)).all()


def test_bad_numbers_give_no_bound():
    inputs = InputSet.around(np.zeros(2), L2Ball(1.0, clip=(-0.5, 0.5)))
    assert (inputs.maximum(np.array([[np.nan, 1.0], [np.inf, 1.0], [-np.inf, 0.0]])) == np.inf).all()
    assert inputs.maximum(np.ones((1, 2)), np.array([np.nan]))[0] == np.inf
    assert InputSet.box(np.zeros(2), np.ones(2)).maximum(np.full((1, 2), 1e308))[0] == np.inf


def test_empty_sets_are_refused():
    with pytest.raises(InvalidInputError, match="empty"):
        InputSet.around(np.zeros(2), L2Ball(0.5, clip=(1.0, 2.0)))
    with pytest.raises(InvalidInputError, match="empty"):
        InputSet.around(np.zeros(2), LInfBall(0.5, clip=(1.0, 2.0)))
    with pytest.raises(InvalidInputError, match="corners"):
        InputSet.box(np.ones(2), np.zeros(2))


def test_sets_are_checked_and_do_not_change():
    centre = np.zeros(2)
    inputs = InputSet.around(centre, L2Ball(1.0))
    centre[:] = 9.0
    assert not inputs.centre.any()
    with pytest.raises(ValueError, match="read-only"):
        inputs.lower[0] = 0.0
    free, one = np.full(2, np.inf), np.ones(2)
    for wrong in (
        (one, 0 * one, one, np.inf),
        (-free, free, np.full(2, np.nan), 1.0),
        (-free, free, one, np.nan),
        (-free, free, one, -1.0),
        (np.full(2, np.nan), free, one, 1.0),
        (-free, free, np.ones(3), 1.0),
    ):
        with pytest.raises(InvalidInputError, match="set of inputs"):
            InputSet(*wrong)


def test_levels_of_sums_of_clipped_rays(rng):
    for _ in range(80):
        d = rng.integers(1, 8)
        floor = np.where(rng.random(d) < 0.4, rng.random(d) / d, 0.0)
        cap = floor + rng.choice([0.0, 0.1, 1.0, 1e30], size=(3, d))
        rates = rng.random((3, d)) * 10.0 ** rng.integers(-6, 3, size=(3, d)) * rng.integers(0, 2, size=(3, d))
        s = fill(rates, floor, cap)
        at = np.clip(np.where(np.isfinite(s), s, 1e200)[:, None] * rates, floor, cap).sum(axis=1)
        assert np.where(np.isfinite(s), at, 1.0) == pytest.approx(1.0, abs=1e-9)
        assert (at[~np.isfinite(s)] <= 1 + 1e-12).all()

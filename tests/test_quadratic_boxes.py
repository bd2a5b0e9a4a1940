"""Quadratics over boxes: attack <= exact <= certificate, against vertices, an interior point solver and rationals."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from convexnn import (
    Box,
    InvalidInputError,
    L2Ball,
    LInfBall,
    Network,
    Polynomial,
    UnsupportedModelError,
    attack,
    certify_quadratic,
)
from convexnn.quadratic.boxes import Boxes, coordinate_descent, diagonal_bounds
from convexnn.quadratic.branching import branch_and_bound
from convexnn.quadratic.diagonal import best_diagonal, common_diagonal
from convexnn.quadratic.form import QuadraticForm


def random_boxes(rng: np.random.Generator, n: int, d: int, kind: str = "generic", scale: float = 1.0) -> Boxes:
    A = rng.standard_normal((d, d)) / np.sqrt(d)
    Q = {"generic": A + A.T, "concave": -A @ A.T, "convex": A @ A.T, "zero": 0.0 * A, "diagonal": np.diag(A[0])}[kind]
    form = QuadraticForm(scale * Q, scale * rng.standard_normal(d), scale)
    X, radius = rng.standard_normal((n, d)), rng.uniform(0.1, 1.0, (n, 1))
    return Boxes.between(form, X - radius, X + radius, np.where(rng.random(n) < 0.5, 1.0, -1.0))


def classifier(rng: np.random.Generator, d: int, k: int) -> Network:
    W, b, V = rng.standard_normal((8, d)) / np.sqrt(d), rng.standard_normal(8), rng.standard_normal((k, 8))
    return Network.shallow(W, b, V, rng.standard_normal(k), Polynomial(0.3, 0.5, 0.2))


def shor(boxes: Boxes, row: int) -> float:
    """The relaxation of Shor as a semidefinite program."""
    import cvxpy as cp

    Q, g = (part[row] for part in boxes.units())
    D, w = cp.Variable(len(g), nonneg=True), cp.Variable()
    side = cp.reshape(cp.Constant(g), (len(g), 1), order="C")
    corner = cp.reshape(boxes.values[row] - w - cp.sum(D), (1, 1), order="C")
    problem = cp.Problem(cp.Maximize(w), [cp.bmat([[Q + cp.diag(D), side], [side.T, corner]]) >> 0])
    problem.solve(solver="CLARABEL")
    return float(problem.value)


@pytest.mark.parametrize("kind", ["generic", "concave", "convex"])
def test_diagonals_reach_the_relaxation_of_shor(kind: str, rng: np.random.Generator) -> None:
    boxes = random_boxes(rng, 4, 5, kind)
    bounds = diagonal_bounds(boxes, best_diagonal(boxes)[0])
    expected = [shor(boxes, row) for row in range(4)]
    np.testing.assert_allclose(bounds, expected, atol=2e-6)
    assert (diagonal_bounds(boxes, common_diagonal(boxes)) <= bounds + 2e-6).all()


@pytest.mark.parametrize("kind", ["generic", "concave", "convex", "zero", "diagonal"])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_attack_exact_and_certificate_stand_in_this_order(kind: str, d: int, rng: np.random.Generator) -> None:
    boxes = random_boxes(rng, 12, d, kind)
    exact = branch_and_bound(boxes, tol=1e-7)
    assert (exact.upper - exact.lower <= 1e-6 * (1 + np.abs(exact.upper))).all()
    multipliers, steps = best_diagonal(boxes)
    assert (diagonal_bounds(boxes, multipliers) <= exact.upper + 1e-12).all()
    _, reached = coordinate_descent(boxes, steps)
    assert (reached >= exact.lower - 1e-12).all()
    np.testing.assert_allclose(boxes.values_at(exact.points - boxes.centres), exact.upper, atol=1e-12)
    assert (np.abs(exact.points - boxes.centres) <= boxes.halves * (1 + 1e-9)).all()
    if kind == "concave":  # the minimum of a concave function is at a vertex
        corners = np.array(list(itertools.product((-1.0, 1.0), repeat=d)))
        for row in np.flatnonzero(boxes.signs > 0):
            part = boxes.take(np.full(len(corners), row))
            assert abs(part.values_at(corners * part.halves).min() - exact.upper[row]) <= 1e-9


@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_any_multipliers_give_bounds_and_bad_ones_never_lie(scale: float, rng: np.random.Generator) -> None:
    boxes = random_boxes(rng, 6, 3, scale=scale)
    exact = branch_and_bound(boxes, tol=1e-7)
    good, _ = best_diagonal(boxes)
    assert (np.abs(diagonal_bounds(boxes, good) - exact.upper) <= 0.1 * scale).any()
    wrong = [0.0 * good, 0.5 * good, 2.0 * good, -good, np.full_like(good, np.nan), np.full_like(good, np.inf)]
    wrong += [good * rng.random(good.shape), scale * rng.random(good.shape), np.full_like(good, 1e300)]
    for multipliers in wrong:
        assert (diagonal_bounds(boxes, multipliers) <= exact.upper).all()


def test_bounds_hold_in_rational_arithmetic(rng: np.random.Generator) -> None:
    # Any rational point of the box is above the minimum; those of the search are close to it.
    boxes = random_boxes(rng, 10, 3, "convex")
    bounds = diagonal_bounds(boxes, best_diagonal(boxes)[0])
    points = branch_and_bound(boxes).points
    Q, q, h = boxes.form.Q.tolist(), boxes.form.q.tolist(), Fraction(boxes.form.h)
    for bound, x, sign in zip(bounds.tolist(), points.tolist(), boxes.signs.tolist(), strict=True):
        t = [Fraction(number) for number in x]
        value = sum(Fraction(Q[i][j]) * t[i] * t[j] for i in range(3) for j in range(3))
        value += 2 * sum(Fraction(number) * s for number, s in zip(q, t, strict=True)) + h
        assert Fraction(bound) <= Fraction(sign) * value


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.slow
def test_certification_and_attacks_agree(k: int, rng: np.random.Generator) -> None:
    network, X = classifier(rng, 4, k), np.clip(rng.standard_normal((20, 4)), -1, 1)
    y = network(X).argmax(axis=1) if k > 1 else (network(X) > 0).astype(int)
    threats = [LInfBall(0.2), LInfBall(0.3, clip=(-1, 1)), Box(-0.5 * np.ones(4), 0.3 * np.ones(4)), L2Ball(0.3)]
    for threat in [*threats, L2Ball(0.3, clip=(-1, 1))]:
        clipped = threat.norm == "l2" and threat.clip is not None
        for method in ("common", "diagonal", "auto") if clipped else ("common", "diagonal", "auto", "exact"):
            found = certify_quadratic(network, X, y, threat, method=method)
            other = attack(network, X, y, threat, method="best", random_state=0, restarts=2)
            assert (other.values <= found.margins + 1e-12).all()
            assert (found.reached <= found.margins + 1e-12).all()
            assert not (found.certified & (found.broken | other.success)).any()
            assert threat.contains(found.X_adv, X).all()
            assert found.certified_accuracy <= found.attacked_accuracy
            if method == "exact":
                assert (found.gap <= 1e-5).all()
            if method in ("auto", "exact") and not clipped:
                assert (found.certified ^ found.broken).all()


def test_a_search_that_is_cut_short_is_honest(rng: np.random.Generator) -> None:
    boxes = random_boxes(rng, 3, 14)
    early, exact = branch_and_bound(boxes, time_limit=0.0), branch_and_bound(boxes, time_limit=5.0)
    assert (early.lower <= exact.lower + 1e-9).all()
    assert (early.lower <= exact.upper).all()
    assert (early.upper >= exact.lower).all()


@pytest.mark.parametrize("radius", [0.0, 1e-12, 1e6])
def test_extreme_boxes(radius: float, rng: np.random.Generator) -> None:
    network, X = classifier(rng, 3, 1), rng.standard_normal((6, 3))
    y = (network(X) > 0).astype(int)
    found = certify_quadratic(network, np.r_[X, X], np.r_[y, y], LInfBall(radius), time_limit=5.0)
    np.testing.assert_array_equal(found.margins[:6], found.margins[6:])
    if radius < 1.0:
        assert found.certified.all()
        np.testing.assert_allclose(found.margins, found.clean, atol=1e-9)


def test_coordinate_descent_is_an_attack_on_boxes_only(rng: np.random.Generator) -> None:
    network, X = classifier(rng, 4, 1), rng.standard_normal((30, 4))
    y = network(X) + 0.1
    found = attack(network, X, y, LInfBall(0.4), method="coordinate", random_state=0)
    one = attack(network, X[3:4], y[3:4], LInfBall(0.4), method="coordinate", random_state=0)
    assert (found.values >= found.clean_values).all()
    np.testing.assert_allclose(one.values, found.values[3:4], rtol=1e-12)
    assert (found.values >= attack(network, X, y, LInfBall(0.4), method="fgsm").values - 1e-12).all()
    relu = Network.shallow(np.eye(4), np.zeros(4), np.ones(4))
    for model, threat in ((network, L2Ball(1.0)), (relu, LInfBall(1.0))):
        with pytest.raises(UnsupportedModelError, match="needs"):
            attack(model, X, y, threat, method="coordinate")


def test_bad_requests_are_refused(rng: np.random.Generator) -> None:
    network, X = classifier(rng, 2, 1), np.zeros((1, 2))
    for options in ({"method": "magic"}, {"time_limit": -1.0}, {"time_limit": np.nan}):
        with pytest.raises(InvalidInputError):
            certify_quadratic(network, X, [0], LInfBall(0.1), **options)
    with pytest.raises(InvalidInputError, match="clipped"):
        certify_quadratic(network, X, [0], L2Ball(0.1, clip=(0, 1)), method="exact")
    with pytest.raises(InvalidInputError, match="no point"):
        certify_quadratic(network, X, [0], LInfBall(0.1, clip=(1, 2)))

"""Losses: subgradients, conjugates by Fenchel-Young, and the cvxpy form as the same function."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from convexnn.exceptions import InvalidInputError
from convexnn.losses import LOSSES, Hinge, Huber, Logistic, Loss, MultiMargin, Squared, SquaredHinge, get_loss

SCALAR = [Squared(), Huber(0.7), Hinge(), SquaredHinge(), Logistic()]
EVERY = [*SCALAR, MultiMargin()]
each = pytest.mark.parametrize("loss", EVERY, ids=lambda loss: loss.name)


def draw(loss: Loss, n: int, rng: np.random.Generator, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets that the loss takes."""
    if isinstance(loss, MultiMargin):
        return 2 * rng.standard_normal((n, k)), rng.integers(k, size=n)
    y = rng.standard_normal(n) if isinstance(loss, Squared | Huber) else rng.choice((-1.0, 1.0), size=n)
    return 3 * rng.standard_normal(n), y


def inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a * b if a.ndim == 1 else (a * b).sum(axis=1)


@each
def test_subgradient_inequality(loss, rng) -> None:
    f, y = draw(loss, 500, rng)
    g, _ = draw(loss, 500, rng)
    slope = loss.gradient(f, y)
    assert slope.shape == f.shape
    assert (loss.value(g, y) >= loss.value(f, y) + inner(slope, g - f) - 1e-12).all()


@each
def test_gradient_agrees_with_finite_differences(loss, rng) -> None:
    f, y = draw(loss, 200, rng)
    direction = rng.standard_normal(f.shape)
    h = 1e-6
    slope = (loss.value(f + h * direction, y) - loss.value(f - h * direction, y)) / (2 * h)
    np.testing.assert_allclose(inner(loss.gradient(f, y), direction), slope, atol=1e-5)


@each
def test_fenchel_young_inequality(loss, rng) -> None:
    f, y = draw(loss, 500, rng)
    other, _ = draw(loss, 500, rng)
    for nu in (loss.gradient(other, y), rng.standard_normal(f.shape)):  # in the domain, and anywhere
        assert (loss.value(f, y) + loss.conjugate(nu, y) >= inner(nu, f) - 1e-10).all()


@each
def test_fenchel_young_equality_at_the_subgradient(loss, rng) -> None:
    f, y = draw(loss, 500, rng)
    nu = loss.gradient(f, y)
    np.testing.assert_allclose(loss.value(f, y) + loss.conjugate(nu, y), inner(nu, f), atol=1e-10)


@pytest.mark.parametrize("loss", SCALAR, ids=lambda loss: loss.name)
@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_conjugate_is_the_supremum(loss, y, rng) -> None:
    for nu in -y * rng.uniform(0.01, 0.99, size=5):
        best = minimize_scalar(
            lambda f, nu=nu: float(loss.value(np.array([f]), np.array([y]))[0]) - nu * f,
            bounds=(-60, 60),
            method="bounded",
        )
        assert float(loss.conjugate(np.array([nu]), np.array([y]))[0]) == pytest.approx(-best.fun, abs=1e-4)


def test_conjugate_is_infinite_outside_its_domain() -> None:
    y = np.array([1.0])
    assert Hinge().conjugate(np.array([0.1]), y) == np.inf
    assert Hinge().conjugate(np.array([-1.1]), y) == np.inf
    assert SquaredHinge().conjugate(np.array([0.1]), y) == np.inf
    assert Logistic().conjugate(np.array([0.1]), y) == np.inf
    assert Logistic().conjugate(np.array([-1.1]), y) == np.inf
    # ends of the domain: entropy of 0 and of 1 is 0
    np.testing.assert_array_equal(Logistic().conjugate(np.array([0.0, -1.0]), np.ones(2)), [0.0, 0.0])


def test_multi_margin_conjugate_is_a_linear_program(rng) -> None:
    # l* (nu) = sup_f nu'f - l(f): finite exactly on {sum nu = 0, nu_t >= 0 off the class, nu_y >= -1}, where it is nu_y
    loss, y = MultiMargin(), np.array([1])
    for nu in (
        [0.3, -0.8, 0.5],
        [0.0, 0.0, 0.0],
        [1.0, -1.0, 0.0],
        [0.6, -0.4, -0.2],
        [0.9, -1.2, 0.3],
        [0.2, -0.1, 0.2],
    ):
        f = cp.Variable((1, 3))
        problem = cp.Problem(cp.Maximize(f @ np.array(nu) - loss.cvxpy(f, y)))
        problem.solve(solver=cp.CLARABEL)
        expected = np.inf if problem.status != cp.OPTIMAL else problem.value
        found = loss.conjugate(np.array([nu]), y)[0]
        assert found == pytest.approx(expected, abs=1e-6)


def test_multi_margin_by_hand() -> None:
    f = np.array([[2.0, 0.5, 1.8], [0.0, 3.0, 0.0]])
    loss = MultiMargin()
    np.testing.assert_allclose(loss.value(f, np.array([0, 1])), [0.8, 0.0])  # 1 - (2 - 1.8), and margin 3
    np.testing.assert_array_equal(loss.gradient(f, np.array([0, 1])), [[-1, 0, 1], [0, 0, 0]])


def test_multi_margin_of_two_classes_is_the_hinge_of_the_difference(rng) -> None:
    f, y = rng.standard_normal((50, 2)), rng.integers(2, size=50)
    np.testing.assert_allclose(MultiMargin().value(f, y), Hinge().value(f[:, 1] - f[:, 0], 2.0 * y - 1))


@each
def test_cvxpy_states_the_same_function(loss, rng) -> None:
    f, y = draw(loss, 30, rng)
    expression = loss.cvxpy(cp.Constant(f), y)
    assert expression.shape == (30,)
    np.testing.assert_allclose(expression.value, loss.value(f, y), atol=1e-12)
    assert loss.cvxpy(cp.Variable(f.shape), y).is_convex()


each_scalar = pytest.mark.parametrize("loss", SCALAR, ids=lambda loss: loss.name)


@each_scalar
def test_curvature_is_the_derivative_of_the_gradient(loss, rng) -> None:
    f, y = draw(loss, 200, rng)
    h = 1e-6
    slope = (loss.gradient(f + h, y) - loss.gradient(f - h, y)) / (2 * h)
    smooth = np.abs(slope) < 3  # a jump of the hinge inside the difference
    np.testing.assert_allclose(loss.curvature(f, y)[smooth], slope[smooth], atol=1e-5)


@each_scalar
def test_slopes_lie_in_their_interval_and_the_conjugate_is_finite_exactly_there(loss, rng) -> None:
    f, y = draw(loss, 300, rng)
    low, high = loss.slopes(y)
    slope = loss.gradient(10 * f, y)
    assert ((slope >= low) & (slope <= high)).all()
    assert ((low <= 0) & (high >= 0)).all()
    nu = 3 * rng.standard_normal(300)
    np.testing.assert_array_equal(np.isfinite(loss.conjugate(nu, y)), (nu >= low) & (nu <= high))
    assert (loss.conjugate(np.zeros(300), y) == 0).all()


@each_scalar
def test_the_best_constant_is_the_best_one(loss, rng) -> None:
    for scale in (1e-3, 1.0, 1e3):
        f, y = draw(loss, 40, rng)
        f, weight = scale * f, rng.random(40) + 0.01
        c = loss.best_constant(f, y, weight)
        best = weight @ loss.value(f + c, y)
        trials = c + np.r_[-1.0, 1.0, -1e-3, 1e-3, -scale, scale, scale * rng.standard_normal(30)]
        assert best <= min(weight @ loss.value(f + t, y) for t in trials) * (1 + 1e-13)


@pytest.mark.parametrize("loss", [Hinge(), SquaredHinge(), Logistic()], ids=lambda loss: loss.name)
@pytest.mark.parametrize("label", [-1.0, 1.0])
def test_the_best_constant_of_one_class_is_finite(loss, label, rng) -> None:
    f = 5 * rng.standard_normal(20)
    c = loss.best_constant(f, np.full(20, label), np.ones(20))
    assert np.isfinite(c)
    assert loss.value(f + c, np.full(20, label)).max() <= 1e-40


def test_huber_by_hand() -> None:
    loss = Huber(0.5)  # 0.5^2 + 2 * 0.5 * (2 - 0.5) at a residual of 2
    np.testing.assert_allclose(loss.value(np.array([0.3, 2.0, -2.0]), np.zeros(3)), [0.09, 1.75, 1.75])
    np.testing.assert_allclose(loss.gradient(np.array([0.3, 2.0, -2.0]), np.zeros(3)), [0.6, 1.0, -1.0])
    for delta in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InvalidInputError, match="expected a finite number"):
            Huber(delta)


def test_logistic_is_accurate_far_out() -> None:
    f, y = np.array([1e4, -1e4, 40.0]), np.ones(3)
    np.testing.assert_allclose(Logistic().value(f, y), [0.0, 1e4, np.exp(-40.0)], rtol=1e-12)
    np.testing.assert_allclose(Logistic().gradient(f, y), [0.0, -1.0, -np.exp(-40.0)], rtol=1e-12)


def test_logistic_entropy_keeps_its_digits() -> None:
    """``-q + q^2/2 + q log q`` for small q: with ``log(1 - q)`` plain, bounds of rare classes came out too high."""
    q = np.array([1e-20, 1e-12, 1e-8])
    expected = q * np.log(q) - q + q**2 / 2
    np.testing.assert_allclose(Logistic().conjugate(-q, np.ones(3)), expected, rtol=1e-14)


def test_names() -> None:
    for name, kind in LOSSES.items():
        assert get_loss(name) == kind()
        assert get_loss(kind()) == kind()
    for unknown in ("mse", None, 1, Squared):
        with pytest.raises(InvalidInputError, match="expected one of"):
            get_loss(unknown)

"""Training in one call: l2 is one program, linf never rises and bounds the box; where the zero network is optimal."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError
from convexnn.restrictions import PolynomialProgram
from convexnn.solvers import solve
from convexnn.training.polynomial import train_polynomial
from convexnn.training.polynomial_threshold import polynomial_lam_max
from tests._families import few


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, np.where(X[:, 0] + X[:, -1] ** 2 - 1 + 0.3 * rng.standard_normal(n) > 0, 1.0, -1.0)


def box_loss(net, X, y, radius, rng):
    """Squared hinge under the best of corners and random points of the box: a lower bound on the worst case."""
    d = X.shape[1]
    corners = radius * np.array(np.meshgrid(*[[-1, 1]] * d)).reshape(d, -1).T
    points = np.vstack([corners, rng.uniform(-radius, radius, (2000, d))])
    worst = np.array([np.min(label * net(x + points)) for x, label in zip(X, y, strict=True)])
    return np.mean(np.maximum(0, 1 - worst) ** 2)


def test_l2_is_the_program():
    X, y = data(40, 3)
    result = train_polynomial(X, y, lam=0.02, radius=0.2)
    alone = solve(PolynomialProgram(X, y, lam=0.02, radius=0.2), tol=1e-4)
    assert result.solution.objective == pytest.approx(alone.objective, rel=1e-12)
    assert result.solution.is_optimal
    assert len(result.history) == 1
    assert result.program.network_objective(result.network) == pytest.approx(result.solution.objective, rel=1e-10)


def test_linf_never_rises_gains_and_bounds_the_box(rng):
    X, y = data(40, 4)
    X[:, 1:3] *= [5.0, 0.2]  # a box is cheap along some inputs and dear along others
    result = train_polynomial(X, y, lam=0.02, radius=0.15, norm=math.inf)
    assert (np.diff(result.history) <= 0).all()
    assert result.history[-1] < 0.999 * result.history[0]
    assert result.solution.is_optimal
    regularizer = 0.02 * np.abs(result.network.v).sum()
    assert box_loss(result.network, X, y, 0.15, rng) + regularizer <= result.solution.objective + 1e-9
    assert any("ellipsoid" in note for note in result.solution.notes)
    # the set of the program holds the corners of the box
    s = result.program.structure()
    assert s.metric @ np.full(4, 0.15**2) <= s.radius**2 * (1 + 1e-15)


def test_in_one_dimension_the_box_is_the_ball():
    X, y = data(30, 1)
    ball = train_polynomial(X, y, lam=0.02, radius=0.2)
    box = train_polynomial(X, y, lam=0.02, radius=0.2, norm=math.inf)
    assert box.solution.objective == pytest.approx(ball.solution.objective, rel=2e-4)


def test_several_classes_and_a_time_limit():
    X, y = data(24, 2)
    labels = ((y > 0) + (X[:, 1] > 0.5)).astype(int)
    result = train_polynomial(X, labels, lam=0.02, radius=0.1, norm=math.inf, n_classes=3, time_limit=20.0, tol=1e-3)
    assert result.network.n_outputs == 3
    assert (np.diff(result.history) <= 0).all()
    with pytest.raises(InvalidInputError, match="radius"):
        train_polynomial(X, y, lam=0.02, radius=-1.0)


@pytest.mark.parametrize("loss", few(["squared_hinge", "hinge", "logistic", "squared"], ["hinge", "squared"]))
@pytest.mark.parametrize("radius", [0.0, 0.4])
def test_zero_is_optimal_from_the_threshold_on(loss, radius):
    X, y = data(30, 3)
    program = PolynomialProgram(X, y, lam=1.0, loss=loss, radius=radius)
    threshold = polynomial_lam_max(program)
    assert 0 < threshold.lower <= threshold.upper <= 1.02 * threshold.lower
    below = solve(program.reweighted(0.97 * threshold.lower), tol=1e-6)
    above = solve(program.reweighted(threshold.upper), tol=1e-6)
    assert below.objective < program.scale * (1 - 1e-6)
    assert above.lower_bound >= program.scale * (1 - 1e-6)
    assert above.objective == pytest.approx(program.scale, rel=1e-6)


def test_the_threshold_falls_with_the_radius_and_is_a_norm_of_one_sample():
    # one sample, one class: slope 2 at zero, kappa = 2 max_u sigma(u x) = 2 (0.09 x^2 + 0.5 x + 0.47) at x = 3
    program = PolynomialProgram([[3.0]], [1.0], lam=1.0)
    assert polynomial_lam_max(program).upper == pytest.approx(2 * (0.81 + 1.5 + 0.47), rel=1e-12)
    X, y = data(30, 2)
    assert polynomial_lam_max(PolynomialProgram(X, y, lam=1.0, radius=100.0)).upper <= 1e-6
    uppers = [polynomial_lam_max(PolynomialProgram(X, y, lam=1.0, radius=r)).upper for r in (0.0, 0.1, 0.3)]
    assert uppers == sorted(uppers, reverse=True)

"""Where a path of weights starts: exact for weight decay, a proved share of the variance for the Lipschitz penalty."""

from __future__ import annotations

import numpy as np
import pytest
from _instances import line, regression

from convexnn import SafeSNNRegressor
from convexnn.exceptions import InvalidInputError
from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import Dual
from convexnn.restrictions import GatedGroupLasso, LipschitzProgram, ReluGroupLasso, lam_max
from convexnn.restrictions.cones import nonnegative_fit, project
from convexnn.solvers import solve
from tests._families import few

PROGRAMS = {"l2": ReluGroupLasso, "gated": GatedGroupLasso}
REGULARIZERS = ["lipschitz", "l2", "gated"]


def value(X, y, net, regularizer, **options):
    return lam_max(X, y, extract(net, X), regularizer=regularizer, **options)


@pytest.mark.parametrize("regularizer", ["l2", "gated"])
@pytest.mark.parametrize("seed", range(4))
def test_l2_threshold_is_proved_from_above_and_beaten_from_below(seed, regularizer):
    X, y, net = regression(seed)
    patterns = extract(net, X)
    threshold = lam_max(X, y, patterns, regularizer=regularizer)

    above = PROGRAMS[regularizer](X, y, patterns, threshold * (1 + 1e-9))
    zero = np.zeros((patterns.n_patterns, 4))
    dual = above.refine(zero, Dual(above.residual_multiplier(zero), np.zeros_like(above.structure().S)))
    np.testing.assert_allclose(above.objective(zero), np.var(y))
    np.testing.assert_allclose(above.lower_bound(dual), np.var(y), rtol=1e-9)

    below = PROGRAMS[regularizer](X, y, patterns, 0.98 * threshold)
    solution = solve(below, tol=1e-7)
    assert solution.objective < np.var(y) * (1 - 1e-5)
    assert np.abs(solution.z).max() > 1e-3


@pytest.mark.parametrize("regularizer", ["l2", "gated"])
def test_an_estimator_is_constant_just_above_the_threshold_and_not_just_below(regularizer):
    X, y, net = regression(1)
    threshold = value(X, y, net, regularizer)
    fits = [SafeSNNRegressor(regularizer="l2", lam=c * threshold, start=net).fit(X, y) for c in (1.001, 0.98)]
    np.testing.assert_allclose(fits[0].predict(X), np.mean(y), atol=1e-6)
    if regularizer == "l2":  # the gated threshold is above that of the program with cones
        assert np.ptp(fits[1].predict(X)) > 1e-3


def test_the_cones_lower_the_threshold():
    for seed in range(5):
        X, y, net = regression(seed)
        assert value(X, y, net, "l2") <= value(X, y, net, "gated")


def test_l2_threshold_by_hand():
    # x of mean 0 and variance 1, y = 1.5 x, one always active unit: g = (1.5, 0), which its cone, |slope x| <= bias,
    # does not hold; the nearest point (a, b) has b = a |x|_max and lies on the ray (1, x_max) / |.|
    X, y, patterns = line()
    largest = X.max()
    assert lam_max(X, y, patterns, regularizer="gated") == pytest.approx(1.5)
    assert lam_max(X, y, patterns, regularizer="l2") == pytest.approx(1.5 / np.hypot(1, largest))
    down = ActivationPatterns(patterns.D, -patterns.s)  # the cone of s = -1 is the mirror image
    assert lam_max(X, y, down, regularizer="l2") == pytest.approx(1.5 / np.hypot(1, largest))


@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("seed", few(range(3)))
def test_lipschitz_gain_is_at_most_the_fraction(seed, fraction):
    X, y, net = regression(seed)
    program = LipschitzProgram(X, y, extract(net, X), lam_max(X, y, fraction=fraction))
    solution = solve(program, tol=1e-7)
    gain = (np.var(y) - solution.lower_bound) / np.var(y)
    assert 0 < gain <= fraction


def test_lipschitz_bound_is_attained_by_two_points():
    X, y = np.array([[-1.0], [1.0]]), np.array([-2.0, 2.0])
    patterns = ActivationPatterns(np.array([[False], [True]]), [1])
    both = patterns.union(ActivationPatterns(np.ones((2, 1), dtype=bool), [1]))
    for fraction in (0.9, 0.3, 0.02):
        lam = lam_max(X, y, fraction=fraction)
        assert lam == pytest.approx(1 / fraction - 1)
        solution = solve(LipschitzProgram(X, y, both, lam), tol=1e-8)
        assert solution.objective == pytest.approx(4 * (1 - fraction), rel=1e-5)


def test_any_lipschitz_function_obeys_the_bound(rng):
    X, y = rng.normal(size=(15, 2)), rng.normal(size=15)
    for fraction in (0.3, 0.05):
        lam = lam_max(X, y, fraction=fraction)
        for _ in range(200):
            centre, slope = rng.normal(size=2), rng.normal() * 10.0 ** rng.uniform(-3, 1)
            h = slope * np.linalg.norm(X - centre, axis=1)  # Lipschitz constant |slope|
            objective = np.mean((h - h.mean() - y + y.mean()) ** 2) + lam * slope**2
            assert objective >= (1 - fraction) * np.var(y)


def test_repeated_rows_leave_less_to_gain(rng):
    X = np.repeat(rng.normal(size=(6, 2)), 2, axis=0)
    y = rng.normal(size=12)
    fraction = 0.1
    lam = lam_max(X, y, fraction=fraction)
    # sixty-four cones hold every pattern of six points in the plane that these units make
    W, b = rng.normal(size=(64, 2)), rng.normal(size=64)
    patterns = ActivationPatterns(X @ W.T + b >= 0, np.where(np.arange(64) % 2, 1, -1))
    solution = solve(LipschitzProgram(X, y, patterns, lam))
    assert solution.objective >= (1 - fraction) * np.var(y) * (1 - 1e-9)
    # all variance within the rows: nothing to gain at any weight
    noise = np.tile([-1.0, 1.0], 6)
    assert lam_max(X, noise, fraction=fraction) == 0.0


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_constant_targets_have_nothing_to_gain(regularizer):
    X, _, net = regression()
    assert value(X, np.full(len(X), 0.1), net, regularizer) == 0.0
    assert value(X[:1], [3.0], net, regularizer) == 0.0


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_weights_are_repetitions_and_order_does_not_matter(regularizer, rng):
    X, y, net = regression()
    weight = rng.integers(0, 4, size=len(y))
    expected = value(X, y, net, regularizer, sample_weight=weight)
    rows = rng.permutation(np.repeat(np.arange(len(y)), weight))
    assert value(X[rows], y[rows], net, regularizer) == pytest.approx(expected)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_units_of_the_targets(regularizer):
    X, y, net = regression()
    expected = value(X, y, net, regularizer) * (1 if regularizer == "lipschitz" else 7)
    assert value(X, 7 * y + 100, net, regularizer) == pytest.approx(expected)


def test_units_of_the_inputs(rng):
    X, y, _ = regression()
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert lam_max(5 * X @ rotation + 3, y) == pytest.approx(25 * lam_max(X, y))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"regularizer": "l1"}, "regularizer"),
        ({"regularizer": "l2"}, "patterns"),
        ({"fraction": 0.0}, "fraction"),
        ({"fraction": 1.0}, "fraction"),
        ({"fraction": np.nan}, "fraction"),
        ({"sample_weight": -np.ones(30)}, "sample_weight"),
    ],
)
def test_bad_input_is_named(options, word):
    X, y, _ = regression()
    with pytest.raises(InvalidInputError, match=word):
        lam_max(X, y, **options)


def test_a_point_of_a_cone_is_its_own_projection():
    # scipy's nnls corrupts memory when it gets no column, which is what a point without violated rows asks for
    assert nonnegative_fit(np.zeros((3, 0)), np.ones(3)).shape == (0,)
    np.testing.assert_array_equal(project(np.eye(3), np.ones(3)), np.ones(3))

"""Certified intervals of a regressor: nothing leaves them, and the picture shows them as they are."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from _instances import regression
from _shared import require_shared
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn import Box, InvalidInputError, L2Ball, LInfBall, Network, SafeSNNRegressor, lipschitz
from convexnn.datasets import load_split, make_rastrigin
from convexnn.plotting import IntervalDisplay
from tests._families import few

THREATS = [L2Ball(0.3), LInfBall(0.2), L2Ball(0.5, clip=(-1, 1)), Box(-1.0, 1.5)]
IDS = ["l2", "linf", "clipped", "box"]
each_threat = pytest.mark.parametrize("threat", THREATS, ids=IDS)


@pytest.fixture(scope="module")
def fitted():
    X, y, net = regression(n=40, p=12)
    X = np.clip(X, -1, 1)
    return SafeSNNRegressor(lam=0.02, start=net).fit(X, y), X, y


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@each_threat
def test_intervals_hold_every_attack_and_every_random_perturbation(fitted, threat, rng):
    model, X, y = fitted
    lower, upper = model.certified_interval(X, threat)
    tiny = 1e-9 * (upper - lower)
    far = 1e3 * np.ones_like(y)
    for target in (y, far, -far):  # far targets drive the output to its extremes
        outputs = model.predict(model.attack(X, target, threat, random_state=0).X_adv)
        assert (lower - tiny <= outputs).all()
        assert (outputs <= upper + tiny).all()
    for _ in range(100):
        outputs = model.predict(threat.sample(X, rng))
        assert (lower - tiny <= outputs).all()
        assert (outputs <= upper + tiny).all()


def rows_of(name):
    """At most 300 training and 40 test rows of a data set, standardized."""
    if name == "diabetes":
        X, y = load_diabetes(return_X_y=True)
    elif name == "rastrigin":
        X, y = make_rastrigin(340, random_state=0)
    else:
        X, y, X_test, y_test = load_split(name, 0, require_shared("data"), return_X_y=True)
        X, y = np.vstack([X_test[:40], X]), np.r_[y_test[:40], y]
    X = StandardScaler().fit_transform(X[:340])
    y = (y[:340] - y.mean()) / y.std()
    cut = min(40, len(X) // 5)
    return X[cut:], y[cut:], X[:cut], y[:cut]


@pytest.mark.parametrize("name", few(["diabetes", "rastrigin", "servo", "machine", "solar", "wine"], 2))
def test_intervals_hold_every_attack_on_every_data_set(name):
    X, y, X_test, y_test = rows_of(name)
    model = SafeSNNRegressor(10, lam=0.01, start="random", tol=1e-4, random_state=0).fit(X, y)
    assert model.lipschitz_.bound > 0
    for threat in (L2Ball(0.25), LInfBall(0.1)):
        lower, upper = model.certified_interval(X_test, threat)
        for method in ("pgd", "fgsm"):
            attacked = model.attack(X_test, y_test, threat, method=method, random_state=0)
            outputs = model.predict(attacked.X_adv)
            assert (lower <= outputs).all()
            assert (outputs <= upper).all()
        low, high = IntervalDisplay.from_estimator(model, X_test, threat, y=y_test, ax=Figure().subplots()).reached
        assert np.mean(high - low) > 0.1 * np.mean(upper - lower)  # the certificate is not empty talk
        assert (high - low <= upper - lower).all()


def test_width_is_twice_the_bound_times_the_reach(fitted):
    model, X, _ = fitted
    bound = model.lipschitz_.bound
    for threat, reach in ((L2Ball(0.3), 0.3), (LInfBall(0.2), 0.2 * np.sqrt(3)), (L2Ball(0.0), 0.0)):
        lower, upper = model.certified_interval(X, threat)
        np.testing.assert_allclose(upper - lower, 2 * bound * reach, rtol=1e-9, atol=1e-12)  # rounding is covered
        np.testing.assert_allclose(0.5 * (lower + upper), model.predict(X))


def test_intervals_need_no_targets_and_agree_with_certify(fitted):
    model, X, y = fitted
    report = model.certify(X, y, L2Ball(0.3))
    np.testing.assert_array_equal(model.certified_interval(X.tolist(), L2Ball(0.3)), (report.lower, report.upper))
    with pytest.raises(NotFittedError):
        SafeSNNRegressor().certified_interval(X, L2Ball(0.3))
    with pytest.raises(ValueError, match="features"):
        model.certified_interval(X[:, :2], L2Ball(0.3))


def test_tight_on_a_linear_network():
    # relu(3 x + 4 z + 100) - 100 is linear near the origin: slope 5, so radius 0.5 moves the output by 2.5 either way
    network = Network.shallow([[3.0, 4.0]], [100.0], [1.0], -100.0)
    display = IntervalDisplay.from_network(network, np.zeros((1, 2)), L2Ball(0.5))
    np.testing.assert_allclose([display.lower[0], display.upper[0]], [-2.5, 2.5], rtol=1e-6)
    np.testing.assert_allclose([end[0] for end in display.reached], [-2.5, 2.5], rtol=1e-6)


@each_threat
def test_samples_are_sorted_by_prediction_with_their_own_intervals(fitted, threat, ax):
    model, X, y = fitted
    display = IntervalDisplay.from_estimator(model, X, threat, y=y, ax=ax)
    order = np.argsort(model.predict(X))
    np.testing.assert_array_equal(display.prediction, model.predict(X)[order])
    np.testing.assert_array_equal(display.target, y[order])
    np.testing.assert_allclose((display.lower, display.upper), np.array(model.certified_interval(X, threat))[:, order])
    low, high = display.reached
    assert (low <= display.prediction).all()
    assert (display.prediction <= high).all()
    assert display.ax_ is ax
    assert not plt.get_fignums()
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(labels) == 4
    assert labels[0].startswith("certified")


def test_a_ray_shows_the_output_along_it(fitted, ax):
    model, X, _ = fitted
    origin = X[0]
    display = IntervalDisplay.from_ray(model, origin, 1, LInfBall(0.1), span=(-1.0, 2.0), n_points=30, ax=ax)
    np.testing.assert_allclose(display.position, origin[1] + np.linspace(-1, 2, 30))  # in units of the feature
    points = np.tile(origin, (30, 1))
    points[:, 1] = display.position
    np.testing.assert_allclose(display.prediction, model.predict(points))
    along = IntervalDisplay.from_ray(model, origin, [0.0, 7.0, 0.0], LInfBall(0.1), span=(-1, 2), n_points=30)
    np.testing.assert_allclose(along.prediction, display.prediction)
    np.testing.assert_allclose(along.upper, display.upper)


def test_it_makes_one_figure_of_its_own_and_can_be_drawn_again(fitted, ax):
    model, X, _ = fitted
    before = plt.rcParams.copy()
    display = IntervalDisplay.from_network(model.network_, X, L2Ball(0.1), attacked=False)
    assert display.reached is None
    assert plt.get_fignums() == [display.figure_.number]
    display.figure_.canvas.draw()
    assert plt.rcParams == before
    assert display.plot(ax=ax) is display
    assert display.ax_ is ax


def test_a_pipeline_is_drawn_in_raw_units(fitted):
    model, X, _ = fitted
    scaler = StandardScaler().fit(10 * X)
    inner = SafeSNNRegressor(lam=0.02, start=model.network_).fit(scaler.transform(10 * X), X[:, 0])
    pipeline = make_pipeline(scaler, inner)
    display = IntervalDisplay.from_estimator(pipeline, 10 * X, L2Ball(0.1))
    raw = inner.network_.fold_scaling(scaler)
    np.testing.assert_allclose(display.upper - display.lower, 0.2 * lipschitz(raw).bound, rtol=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda net, X: IntervalDisplay([], [], [], []),
        lambda net, X: IntervalDisplay([1, 2], [0.0, 0.0], [-1.0], [1.0, 1.0]),
        lambda net, X: IntervalDisplay([2, 1], [0.0, 0.0], [-1.0, -1.0], [1.0, 1.0]),
        lambda net, X: IntervalDisplay([1, 2], [0.0, 3.0], [-1.0, -1.0], [1.0, 1.0]),
        lambda net, X: IntervalDisplay([1], [0.0], [-1.0], [1.0], reached=([0.0, 1.0], [0.0])),
        lambda net, X: IntervalDisplay.from_network(net, X, L2Ball(0.1), y=[1.0]),
        lambda net, X: IntervalDisplay.from_ray(net, X[0], 3, L2Ball(0.1)),
        lambda net, X: IntervalDisplay.from_ray(net, X[0], [0.0, 0.0, 0.0], L2Ball(0.1)),
        lambda net, X: IntervalDisplay.from_ray(net, X[0, :2], 0, L2Ball(0.1)),
        lambda net, X: IntervalDisplay.from_network(Network.shallow(net.W, net.b, np.ones((2, 12))), X, L2Ball(0.1)),
    ],
)
def test_what_does_not_fit_is_refused(make, fitted):
    model, X, _ = fitted
    with pytest.raises(InvalidInputError):
        make(model.network_, X)

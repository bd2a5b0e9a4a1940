"""Displays of decision boundaries and certified radii: what they hold is what the model says."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

from convexnn.exceptions import InvalidInputError
from convexnn.plotting import DecisionBoundaryDisplay, RadiusDisplay


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


class Line:
    """Predicts by the sign of the first feature; the distance to its boundary is known."""

    classes_ = np.array(["left", "right"])

    def predict(self, X):
        return self.classes_[(np.asarray(X)[:, 0] > 0).astype(int)]

    def certified_radius(self, X, y, norm=2):
        del norm
        return np.where(self.predict(X) == y, np.abs(np.asarray(X)[:, 0]), 0.0)


@pytest.fixture
def data(rng):
    X = rng.standard_normal((30, 2))
    return X, Line().predict(X)


def test_the_plane_holds_the_predictions_and_the_balls_the_radii(data):
    X, y = data
    radii = Line().certified_radius(X, y)
    shown = DecisionBoundaryDisplay.from_estimator(Line(), X, y, radii=radii, grid_resolution=40)
    np.testing.assert_array_equal(shown.plane.classes, (shown.plane.first > 0).astype(int))
    assert len(shown.balls_.get_paths()) == np.count_nonzero(radii)
    box = shown.balls_.get_paths()[0].get_extents()
    assert box.width == pytest.approx(2 * radii[radii > 0][0])
    assert shown.plane.first.min() <= (X[:, 0] - radii).min()
    squares = DecisionBoundaryDisplay.from_estimator(Line(), X, y, radii=radii, norm="linf", grid_resolution=10)
    assert len(squares.balls_.get_paths()) == np.count_nonzero(radii)


def test_a_section_through_more_features_and_several_classes(rng):
    X = rng.standard_normal((60, 3))
    y = np.argmax(X, axis=1) + 5
    model = LogisticRegression().fit(X, y)
    ax = Figure().subplots()
    shown = DecisionBoundaryDisplay.from_estimator(model, X, y, features=(2, 0), grid_resolution=15, ax=ax)
    assert shown.ax_ is ax
    assert shown.names == ("feature 2", "feature 0")
    grid = np.column_stack([shown.plane.second.ravel(), np.full(225, X[:, 1].mean()), shown.plane.first.ravel()])
    np.testing.assert_array_equal(shown.plane.labels[shown.plane.classes.ravel()], model.predict(grid))
    with pytest.raises(InvalidInputError, match="two columns"):
        DecisionBoundaryDisplay.from_estimator(model, X, y, radii=np.ones(60))


def test_data_frames_name_the_axes_and_points_need_no_labels(data):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(data[0], columns=["width", "height"])
    shown = DecisionBoundaryDisplay.from_estimator(Line(), frame, grid_resolution=5)
    assert (shown.ax_.get_xlabel(), shown.ax_.get_ylabel()) == ("width", "height")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"features": (0, 0)}, "two columns"),
        ({"features": (0, 7)}, "two columns"),
        ({"radii": np.ones(3)}, "one number for each"),
        ({"radii": -np.ones(30)}, "nonnegative"),
        ({"norm": "l1"}, "norm must be"),
    ],
)
def test_what_cannot_be_drawn_is_refused(data, options, words):
    with pytest.raises(InvalidInputError, match=words):
        DecisionBoundaryDisplay.from_estimator(Line(), *data, grid_resolution=5, **options)


def test_unknown_labels_and_regressors_are_refused(data):
    X, y = data
    with pytest.raises(InvalidInputError, match="does not know"):
        DecisionBoundaryDisplay.from_estimator(Line(), X, np.where(y == "left", "up", y), grid_resolution=5)
    with pytest.raises(InvalidInputError, match="classes_"):
        DecisionBoundaryDisplay.from_estimator(object(), X, grid_resolution=5)


def test_the_curve_counts_the_radii_that_are_larger(data):
    X, y = data
    shown = RadiusDisplay.from_estimators({"line": Line()}, X, y)
    radii = shown.radii["line"]
    levels = np.linspace(0, 3, 17)
    np.testing.assert_allclose(shown.accuracy("line", levels), [(radii > level).mean() for level in levels])
    (line,) = shown.lines_
    x, height = line.get_data()
    np.testing.assert_allclose(height, shown.accuracy("line", x))
    assert (np.diff(height) <= 0).all()


def test_radii_that_are_zero_or_infinite_are_drawn():
    shown = RadiusDisplay({"a": [0.0, 1.0, np.inf], "b": [0.0, 0.0]}).plot()
    np.testing.assert_allclose(shown.accuracy("a", [0.0, 1.0, 5.0]), [2 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(shown.lines_[1].get_ydata(), 0.0)
    RadiusDisplay({"never": [np.inf]}).plot()


@pytest.mark.parametrize("radii", [{}, {"a": []}, {"a": [np.nan]}, {"a": [-1.0]}])
def test_radii_that_are_none_are_refused(radii):
    with pytest.raises(InvalidInputError):
        RadiusDisplay(radii)


def test_models_without_radii_are_named(data):
    with pytest.raises(InvalidInputError, match="mlp"):
        RadiusDisplay.from_estimators({"mlp": object()}, *data)

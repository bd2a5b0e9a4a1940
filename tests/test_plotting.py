"""Displays: they hold what they show, draw on given axes, and leave pyplot alone."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.patterns import extract
from convexnn.plotting import ObjectiveDisplay, PatternDisplay, RobustnessCurveDisplay
from convexnn.report import robustness_table

RADII = [0.1, 0.3]


@pytest.fixture
def network(rng):
    return Network.shallow(rng.standard_normal((7, 3)), rng.standard_normal(7), rng.standard_normal(7))


@pytest.fixture
def data(rng):
    return rng.standard_normal((20, 3)), rng.standard_normal(20)


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def displays(network, data):
    X, y = data
    return {
        "patterns": lambda **how: PatternDisplay.from_network(network, X, **how),
        "curve": lambda **how: RobustnessCurveDisplay.from_network(
            network, X, y, RADII, steps=3, restarts=1, random_state=0, **how
        ),
        "objective": lambda **how: ObjectiveDisplay.from_history(
            [
                {"stage": "start", "objective": 3.0, "seconds": 0.0},
                {"stage": "joint", "objective": 1.0, "seconds": 2.0},
            ],
            0.9,
            **how,
        ),
    }


@pytest.mark.parametrize("name", ["patterns", "curve", "objective"])
def test_a_display_draws_on_the_axes_it_is_given(name, network, data, ax):
    display = displays(network, data)[name](ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert not plt.get_fignums()
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert ax.get_legend() is not None


@pytest.mark.parametrize("name", ["patterns", "curve", "objective"])
def test_a_display_makes_one_figure_of_its_own_and_can_be_drawn_again(name, network, data, ax):
    before = plt.rcParams.copy()
    display = displays(network, data)[name]()
    assert plt.get_fignums() == [display.figure_.number]
    display.figure_.canvas.draw()
    assert plt.rcParams == before
    assert display.plot(ax=ax) is display
    assert display.ax_ is ax


def test_the_pattern_picture_shows_every_entry_once_grouped_by_sign(network, data, ax):
    X, _ = data
    display = PatternDisplay.from_network(network, X, ax=ax)
    patterns = extract(network, X)
    assert sorted(display.row_order) == list(range(20))
    assert sorted(display.unit_order) == list(range(7))
    signs = display.s[display.unit_order]
    assert (np.diff(signs) <= 0).all()
    code = np.asarray(display.image_.get_array())
    drawn = patterns.D[np.ix_(display.row_order, display.unit_order)]
    np.testing.assert_array_equal(code > 0, drawn)
    np.testing.assert_array_equal(code, np.where(drawn, np.where(signs > 0, 1, 2), 0))


def test_the_pattern_picture_does_not_depend_on_the_order_of_rows_and_units(network, data, rng):
    X, _ = data
    D, s = (patterns := extract(network, X)).D, patterns.s
    rows, units = rng.permutation(20), rng.permutation(7)

    def picture(D, s):
        display = PatternDisplay(D, s)
        return display.D[np.ix_(display.row_order, display.unit_order)]

    first, second = picture(D, s), picture(D[rows][:, units], s[units])
    assert sorted(map(tuple, first.T)) == sorted(map(tuple, second.T))  # equal columns may swap


def test_patterns_with_multiplicities_and_of_one_sign(ax):
    patterns = extract(Network.shallow([[1.0], [1.0]], [0.0, 0.0], [1.0, 1.0]), [[-1.0], [1.0]]).unique()
    display = PatternDisplay.from_patterns(patterns, ax=ax)
    assert display.D.shape == (2, 2)
    assert "2 units" in ax.get_legend().get_texts()[0].get_text()


def test_a_curve_starts_at_the_clean_error_and_keeps_its_order(network, data, ax):
    table = robustness_table({"net": network}, *data, RADII, steps=3, restarts=1, random_state=0)
    display = RobustnessCurveDisplay.from_table(table, ax=ax)
    x, low = display.lines_[0].get_data()
    np.testing.assert_allclose(x, [0.0, *RADII])
    np.testing.assert_allclose(low, [table.clean_mse[0], *table.attacked_mse[0]])
    assert (display.certified >= display.attacked).all()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["net", "attacked (lower bound)", "certified (upper bound)"]


def test_a_wide_range_is_drawn_on_a_logarithmic_axis(ax):
    RobustnessCurveDisplay([0.1, 0.2], [[1.0, 2.0]], [[1.5, 90.0]], clean=[0.9]).plot(ax=ax)
    assert ax.get_yscale() == "log"


def test_a_curve_of_predictions_needs_no_network(ax):
    truth, clean = np.zeros(3), np.ones(3)
    display = RobustnessCurveDisplay.from_predictions(truth, clean, [2 * clean, 3 * clean], RADII, name="peer", ax=ax)
    np.testing.assert_allclose(display.lines_[0].get_ydata(), [1.0, 4.0, 9.0])
    assert display.certified is None


def test_an_estimator_in_a_pipeline_is_drawn_in_raw_units(network, data, ax):
    class Fitted:
        network_ = network
        history_ = ({"stage": "start", "objective": 2.0, "seconds": 0.0},)

    X, y = data
    raw = 10 * X
    scaler = StandardScaler().fit(raw)
    pipeline = make_pipeline(scaler, Fitted())
    options = {"steps": 3, "restarts": 1, "random_state": 0}
    display = RobustnessCurveDisplay.from_estimator(pipeline, raw, y, RADII, ax=ax, **options)
    direct = robustness_table({"raw": network.fold_scaling(scaler)}, raw, y, RADII, **options)
    np.testing.assert_allclose(display.attacked, direct.attacked_mse)
    assert PatternDisplay.from_estimator(Fitted(), X).D.shape == (20, 7)
    assert ObjectiveDisplay.from_estimator(Fitted()).lower_bound == -np.inf


@pytest.mark.parametrize(
    "make",
    [
        lambda: RobustnessCurveDisplay([0.2, 0.1], [[1.0, 2.0]]),
        lambda: RobustnessCurveDisplay([0.1, 0.2], [[1.0]]),
        lambda: RobustnessCurveDisplay([0.1, 0.2], [[1.0, 2.0]], [[1.0]]),
        lambda: ObjectiveDisplay([0.0], [1.0, 2.0], ["start"]),
        lambda: ObjectiveDisplay([], [], []),
        lambda: PatternDisplay(np.zeros((3, 0)), []),
    ],
)
def test_shapes_that_do_not_fit_are_refused(make):
    with pytest.raises(InvalidInputError):
        make()

"""Displays of networks that are safe on regions: what they hold, and that they draw where they are told."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from convexnn import L2Ball, LInfBall, Network
from convexnn.exceptions import InvalidInputError
from convexnn.plotting import RegionScoreDisplay, RegionTrainingDisplay
from convexnn.regions import Polytope, ellipsoid

# f(x) = |x_1| - 2: -2 at the center, -1 where |x_1| = 1
VALLEY = Network.shallow([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0], [1.0, 1.0], -2.0)
HISTORY = (
    {"step": 0.0, "bound": 80.0, "lower": 2.0, "accuracy": 0.1, "attainable": 0.6},
    {"step": 100.0, "bound": 3.0, "lower": 2.5, "accuracy": 0.9, "attainable": 0.95},
)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_scores_are_the_networks_along_its_rays(rng) -> None:
    ax = Figure().subplots()
    X = rng.standard_normal((9, 2))
    display = RegionScoreDisplay.from_network(VALLEY, L2Ball(2.0), X, bound=0.25, reach=1.5, n_rays=40, ax=ax)
    assert display.ax_ is ax
    assert not plt.get_fignums()
    assert (display.size[0], display.size[-1]) == (0.0, 1.5)
    np.testing.assert_array_equal(display.scores[:, 0], -2.0)
    # along a ray to (cos, sin) * 2: |2 t cos| - 2, so affine in t with a slope from 0 to 2
    slopes = np.diff(display.scores, axis=1) / np.diff(display.size)
    assert 0 <= slopes.min() <= slopes.max() <= 2 + 1e-9
    np.testing.assert_allclose(slopes - slopes[:, :1], 0.0, atol=1e-9)
    sizes, scores = display.samples
    np.testing.assert_allclose(sizes, np.linalg.norm(X, axis=1) / 2.0)
    np.testing.assert_allclose(scores, np.abs(X[:, 0]) - 2.0)
    np.testing.assert_array_equal(display.bound_.get_ydata(), [0.25, 0.25])


def test_rays_of_a_box_end_on_its_surface_and_flat_regions_have_no_size_off_them() -> None:
    box = RegionScoreDisplay.from_network(VALLEY, LInfBall(1.0), reach=1.0, n_rays=60)
    assert box.scores[:, -1].max() <= -1.0 + 1e-12
    assert box.scores[:, -1].max() == pytest.approx(-1.0)  # a quarter of the rays end where x_1 = 1
    assert box.bound_ is None
    segment = ellipsoid([0.0, 0.0], [[1.0], [0.0]])
    flat = RegionScoreDisplay.from_network(VALLEY, segment, [[0.5, 0.0], [0.5, 1.0]])
    np.testing.assert_allclose(flat.samples[0], [0.5, math.nan])


def test_rays_of_a_polytope_end_on_its_surface() -> None:
    """A triangle with corners (-3, 0), (3, 0), (0, 4): the center is that of its largest ball, of radius 1.5."""
    triangle = Polytope([[4.0, 3.0], [-4.0, 3.0], [0.0, -1.0]], [12.0, 12.0, 0.0])
    corners = [[-3.0, 0.0], [3.0, 0.0], [0.0, 4.0], [0.0, 1.5], [0.0, -1.5]]
    display = RegionScoreDisplay.from_network(VALLEY, [triangle], corners, reach=1.0, n_rays=400)
    np.testing.assert_allclose(display.samples[0], [1.0, 1.0, 1.0, 0.0, 2.0], atol=1e-9)
    assert display.scores.max() <= 1.0 + 1e-9  # |x_1| - 2 at a corner
    assert display.scores[:, -1].max() > 0.9
    with pytest.raises(InvalidInputError, match="Polytope"):
        RegionScoreDisplay.from_network(VALLEY, [triangle, L2Ball(1.0)])


@pytest.mark.parametrize(
    ("panel", "names", "scale"),
    [("bound", ("bound", "lower"), "log"), ("accuracy", ("attainable", "accuracy"), "linear")],
)
def test_training_is_drawn_from_its_history(panel, names, scale) -> None:
    display = RegionTrainingDisplay(HISTORY, panel=panel).plot()
    assert plt.get_fignums() == [display.figure_.number]
    for line, name in zip(display.lines_, names, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [0.0, 100.0])
        np.testing.assert_array_equal(line.get_ydata(), [row[name] for row in HISTORY])
    assert display.ax_.get_yscale() == scale
    display.figure_.canvas.draw()


def test_a_history_without_attacks_is_drawn() -> None:
    display = RegionTrainingDisplay([{"step": 0.0, "bound": 1.0}]).plot()
    assert np.isnan(display.lines_[1].get_ydata()).all()


BAD = [
    (lambda: RegionScoreDisplay([0.0, 1.0], [[1.0]]), "scores must have shape"),
    (lambda: RegionScoreDisplay.from_network(VALLEY, [L2Ball(1.0), L2Ball(2.0)]), "one by one"),
    (lambda: RegionScoreDisplay.from_network(VALLEY, L2Ball(1.0), reach=0.0), "reach"),
    (lambda: RegionTrainingDisplay([]), "empty"),
    (lambda: RegionTrainingDisplay(HISTORY, panel="speed"), "panel"),
]


@pytest.mark.parametrize(("call", "named"), BAD)
def test_what_cannot_be_drawn_is_named(call, named) -> None:
    with pytest.raises(InvalidInputError, match=named):
        call()

"""Pictures of brackets: Lipschitz constants, objectives and gaps, tightness, certified balls."""

from __future__ import annotations

import math
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn.estimators import SafeSNNRegressor
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.plotting import (
    DecisionBoundaryDisplay,
    GapDisplay,
    LipschitzDisplay,
    ObjectiveDisplay,
    TightnessDisplay,
)
from convexnn.threats import L2Ball
from convexnn.verification import CertifyOptions, certify


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return Figure().subplots()


def shallow(rng, m=5, d=3):
    return Network.shallow(rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal(m))


@pytest.mark.parametrize("norm", [2, np.inf])
def test_the_bracket_of_one_unit_is_closed(norm, ax):
    # f(x) = 2 relu(3 x): the constant is 6 in every norm, attained where the unit is active
    network = Network.shallow([[3.0]], [0.0], [2.0])
    shown = LipschitzDisplay.from_network(network, [[1.0]], norm=norm, ax=ax)
    assert shown.lower["network"] == pytest.approx(6.0, rel=1e-6)
    assert all(bound == pytest.approx(6.0, rel=1e-6) for bound in shown.upper["network"].values())
    assert shown.ratios_["network"] == pytest.approx(1.0, rel=1e-6)
    assert shown.ax_ is ax
    assert ax.get_xlabel()
    assert not plt.get_fignums()


def test_brackets_are_ordered_and_in_raw_units(rng, ax):
    networks = {
        "small": shallow(rng),
        "large": Network.shallow(50 * rng.standard_normal((4, 3)), np.zeros(4), np.ones(4)),
    }
    shown = LipschitzDisplay.from_networks(networks, methods=("lipsdp", "product"), ax=ax)
    for name, found in shown.upper.items():
        assert 0 < shown.lower[name] <= found["lipsdp"] <= found["product_l2"] * (1 + 1e-9)
    assert ax.get_xscale() == "log"
    X, y = 5.0 * rng.standard_normal((30, 3)), rng.standard_normal(30)
    model = make_pipeline(StandardScaler(), SafeSNNRegressor(lam=0.1, start=networks["small"])).fit(X, y)
    raw = LipschitzDisplay.from_estimator(model, X)
    network = model[-1].network_.fold_scaling(model[0])
    reference = LipschitzDisplay.from_network(network, X)
    assert list(raw.lower) == ["SafeSNNRegressor"]
    assert raw.upper["SafeSNNRegressor"]["lipsdp"] == pytest.approx(reference.upper["network"]["lipsdp"])
    assert raw.figure_ is not None


def test_brackets_that_contradict_themselves_are_refused():
    with pytest.raises(InvalidInputError, match="not above"):
        LipschitzDisplay({"a": 2.0}, {"a": {"lipsdp": 1.0}})
    with pytest.raises(InvalidInputError, match="upper one"):
        LipschitzDisplay({"a": 2.0}, {"a": {}})
    with pytest.raises(InvalidInputError, match="norm"):
        LipschitzDisplay.from_networks({}, norm=1)


ROUNDS = [(0.1, 3.0, -math.inf, math.inf), (0.4, 2.0, 1.0, 0.5), (0.9, 1.5, 1.5, 0.0)]


def result():
    names = ("seconds", "objective", "lower_bound", "gap")
    return SimpleNamespace(history=[SimpleNamespace(**dict(zip(names, row, strict=True))) for row in ROUNDS])


def test_a_global_run_is_drawn_between_network_and_bound(ax):
    shown = ObjectiveDisplay.from_result(result(), ax=ax)
    np.testing.assert_array_equal(shown.line_.get_ydata(), [3.0, 2.0, 1.5])
    np.testing.assert_array_equal(shown.lower_bound, [-math.inf, 1.0, 1.5])
    (bound,) = [line for line in ax.get_lines() if "proved" in str(line.get_label())]
    np.testing.assert_array_equal(bound.get_ydata(), [1.0, 1.5])  # no line before anything is proved
    with pytest.raises(InvalidInputError, match="lower_bound"):
        ObjectiveDisplay([0.0, 1.0], [2.0, 1.0], ["a", "b"], [0.0, 0.0, 0.0])


def test_gaps_are_drawn_from_the_first_that_is_known(ax):
    shown = GapDisplay.from_result(result(), tol=1e-3, ax=ax)
    np.testing.assert_array_equal(shown.line_.get_xdata(), [0.4, 0.9])
    assert shown.line_.get_ydata()[0] == 0.5
    assert 0 < shown.line_.get_ydata()[1] < 1e-15
    assert "every width" in shown.line_.get_label()
    assert ax.get_yscale() == "log"
    for words, arguments, options in [
        ("one length", ([0.0, 1.0], [0.1]), {}),
        ("negative", ([0.0], [-0.1]), {}),
        ("scope", ([0.0], [0.1]), {"scope": "all"}),
    ]:
        with pytest.raises(InvalidInputError, match=words):
            GapDisplay(*arguments, **options)
    at_once = SimpleNamespace(history=[], seconds=0.2, objective=2.0, lower_bound=1.9, gap=0.05)
    assert GapDisplay.from_result(at_once).gap.tolist() == [0.05]  # found before the first round
    assert ObjectiveDisplay.from_result(at_once).lower_bound.tolist() == [1.9]


def test_the_gap_of_a_fit_is_that_of_its_solution(rng):
    X, y = rng.standard_normal((25, 3)), rng.standard_normal(25)
    model = SafeSNNRegressor(lam=0.1, start=shallow(rng)).fit(X, y)
    shown = GapDisplay.from_estimator(model)
    assert shown.gap[0] == pytest.approx(1 - model.solution_.lower_bound / model.start_objective_)
    assert shown.gap[-1] <= model.solution_.gap + 1e-7
    assert "patterns" in shown.line_.get_label()
    with pytest.raises(InvalidInputError, match="no solution"):
        GapDisplay.from_estimator(SimpleNamespace(solution_=None))


def test_reports_of_methods_are_compared_on_the_same_attacks(rng):
    network = shallow(rng, d=2)
    X = rng.standard_normal((10, 2))
    y = (network(X) > 0).astype(int)
    options = CertifyOptions(early_stop=False, steps=3, restarts=1)

    def report(method, radius=0.2):
        return certify(network, X, y, L2Ball(radius), method=method, options=options, random_state=0)

    reports = {method: report(method) for method in ("ibp", "crown")}
    shown = TightnessDisplay.from_reports(reports)
    reached = np.max([np.maximum(r.lower, r.clean) for r in reports.values()], axis=0)
    for method, found in reports.items():
        np.testing.assert_allclose(shown.gaps[method], np.maximum(found.margins - reached, 0))
    assert "0.2" in shown.ax_.get_title()
    with pytest.raises(InvalidInputError, match="one threat set"):
        TightnessDisplay.from_reports({"a": reports["ibp"], "b": report("crown", 0.3)})


class Flat:
    """A classifier whose boundary is the line x_0 = 0: the certified radius of a sample is its distance."""

    classes_ = np.array([0, 1])

    def predict(self, X):
        return (np.asarray(X)[:, 0] > 0).astype(int)

    def certified_radius(self, X, y):
        return np.where(self.predict(X) == y, np.abs(np.asarray(X)[:, 0]), 0.0)


def test_certified_balls_are_asked_of_the_model(rng):
    X = rng.standard_normal((6, 2))
    y = np.array([0, 1, 0, 1, 0, 1])
    shown = DecisionBoundaryDisplay.from_estimator(Flat(), X, y, radii="certified", grid_resolution=5)
    np.testing.assert_array_equal(shown.radii, Flat().certified_radius(X, y))
    assert shown.balls_ is not None
    for options in ({"norm": "linf"}, {"radii": "exact"}):
        with pytest.raises(InvalidInputError, match="certified_radius"):
            DecisionBoundaryDisplay.from_estimator(Flat(), X, y, **({"radii": "certified"} | options))
    with pytest.raises(InvalidInputError, match="y missing"):
        DecisionBoundaryDisplay.from_estimator(Flat(), X, radii="certified")

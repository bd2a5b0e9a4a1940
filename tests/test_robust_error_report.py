"""The robust-error report: clean <= attack <= certified, a page that stands alone, displays of the same numbers."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from _html import Page, stands_alone
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network
from convexnn.pages.svg import Chart, ticks
from convexnn.plotting import RobustErrorDisplay, TightnessDisplay
from convexnn.report import RobustErrorReport, collect_reports, robust_error_report
from convexnn.threats import Box, L2Ball, LInfBall
from convexnn.verification import certify

RADII = [0.05, 0.2, 0.6]


def network(rng, k=3, d=2, m=6):
    v = rng.standard_normal((k, m)) if k > 1 else rng.standard_normal(m)
    return Network.shallow(rng.standard_normal((m, d)), rng.standard_normal(m), v)


def data(net, rng, n=8):
    """Samples with the labels that the network gives them, one of them wrong."""
    X = rng.standard_normal((n, net.n_inputs))
    outputs = net(X)
    y = outputs.argmax(axis=1) if net.n_outputs > 1 else (outputs > 0).astype(int)
    y[0] = 1 - min(y[0], 1)
    return X, y


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(3)
    models = {"first": network(rng), "second <script>alert(1)</script> & co": network(rng)}
    X, y = data(models["first"], rng)
    return robust_error_report(models, X, y, RADII, methods=("ibp", "crown"))


def arrays(m=1, r=2, p=1, n=3):
    """A report of nothing but unknowns."""
    return {
        "names": tuple(f"model {i}" for i in range(m)),
        "methods": tuple(f"method {k}" for k in range(p)),
        "radii": np.arange(1.0, r + 1),
        "norm": "linf",
        "clean": np.full((m, n), -1.0),
        "attack": np.full((m, r, n), -0.5),
        "bound": np.full((m, r, p, n), np.inf),
        "certified": np.zeros((m, r, p, n), dtype=bool),
        "rigorous": np.ones((m, p), dtype=bool),
        "seconds": np.ones((m, r, p)),
    }


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


# -- the numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("norm", "k"),
    [("linf", 3), *(pytest.param(*c, marks=pytest.mark.slow) for c in [("l2", 1), ("l2", 3), ("linf", 1)])],
)
def test_errors_are_ordered_and_grow_with_the_radius(rng, norm, k):
    net = network(rng, k=k)
    X, y = data(net, rng)
    found = robust_error_report(net, X, y, RADII, norm=norm, methods=("ibp", "crown"))
    assert (found.clean_error[:, None] <= found.attack_error).all()
    assert (found.attack_error <= found.best_certified_error).all()
    assert (found.best_certified_error[..., None] <= found.certified_error).all()
    for errors in (found.attack_error, found.best_certified_error):
        assert (np.diff(errors, axis=1) >= 0).all()
    assert (np.diff(found.certified_error, axis=1) >= 0).all()
    assert (found.tightness >= 0).all()
    assert np.isfinite(found.tightness).all()
    assert found.clean_error[0] == 1 / 8
    assert (found.bound[:, :, 1] <= found.bound[:, :, 0] + 1e-9).all()  # CROWN is no worse than intervals


def test_one_method_at_one_radius_is_the_certification_report(rng):
    net = network(rng)
    X, y = data(net, rng)
    alone = certify(net, X, y, LInfBall(0.2), method="crown", random_state=0)
    found = collect_reports({"net": [alone]})
    assert found.attack_error[0, 0] == pytest.approx(1 - alone.robust_accuracy)
    assert found.certified_error[0, 0, 0] == pytest.approx(1 - alone.certified_accuracy)
    np.testing.assert_array_equal(found.bound[0, 0, 0], alone.margins)


def test_what_holds_at_one_radius_is_spread_to_the_others():
    """Attacked at radius 1 counts at 2; certified with bound -3 at radius 2 counts at 1."""
    given = arrays()
    given["attack"][0, 0, 0] = 2.0
    given["attack"][0, :, 1] = -5.0
    given["clean"][0, 1] = -6.0
    given["bound"][0, 1, 0, 1] = -3.0
    given["certified"][0, 1, 0, 1] = True
    found = RobustErrorReport(**given)
    np.testing.assert_array_equal(found.attack[0, :, 0], [2.0, 2.0])
    np.testing.assert_array_equal(found.bound[0, :, 0, 1], [-3.0, -3.0])
    assert found.certified[0, :, 0, 1].all()
    np.testing.assert_allclose(found.attack_error, [[1 / 3, 1 / 3]])
    np.testing.assert_allclose(found.certified_error[0, :, 0], [2 / 3, 2 / 3])
    np.testing.assert_array_equal(found.n_unknown, [[1, 1]])
    assert found.tightness[0, 0, 0, 1] == 2.0


def test_methods_together_certify_more_than_each():
    given = arrays(r=1, p=2, n=2)
    for k in (0, 1):
        given["bound"][0, 0, k, k], given["certified"][0, 0, k, k] = -0.1, True
    found = RobustErrorReport(**given)
    np.testing.assert_allclose(found.certified_error, [[[0.5, 0.5]]])
    np.testing.assert_allclose(found.best_certified_error, [[0.0]])


def test_contradictions_are_refused():
    for change in ({"attack": 1.0}, {"clean": 1.0}):
        given = arrays()
        given["bound"][0, 1, 0, 0], given["certified"][0, 1, 0, 0] = -0.2, True
        name, value = next(iter(change.items()))
        given[name][(0, 0, 0)[: given[name].ndim]] = value
        with pytest.raises(CertificateError, match="exceeds"):
            RobustErrorReport(**given)
    for name, value in (("attack", np.nan), ("bound", np.nan)):
        given = arrays()
        given[name][:] = value
        with pytest.raises(InvalidInputError, match="nan"):
            RobustErrorReport(**given)
    with pytest.raises(InvalidInputError, match="fit"):
        RobustErrorReport(**(arrays() | {"clean": np.zeros((1, 2))}))
    with pytest.raises(InvalidInputError, match="radii"):
        RobustErrorReport(**(arrays() | {"radii": np.array([2.0, 1.0])}))


def test_reports_that_do_not_fit_together_are_refused(rng):
    net, other = network(rng), network(rng)
    X, y = data(net, rng)

    def run(model=net, radius=0.1, method="ibp", points=X, labels=y, threat=LInfBall):
        return certify(model, points, labels, threat(radius), method=method, random_state=0)

    refused = {
        "different networks": {"a": [run(), run(other, 0.2)]},
        "exactly one": {"a": [run(), run(radius=0.2), run(method="crown")]},
        "exactly one report": {"a": [run(), run()]},
        "norms": {"a": [run(), run(radius=0.2, threat=L2Ball)]},
        "samples": {"a": [run(), run(radius=0.2, points=X[:5], labels=y[:5])]},
        "balls": {"a": [certify(net, X, y, Box(-1.0, 1.0), method="ibp")]},
        "names": {"a": ["no report"]},
    }
    for words, reports in refused.items():
        with pytest.raises(InvalidInputError, match=words):
            collect_reports(reports)
    with pytest.raises(InvalidInputError, match="norm"):
        robust_error_report(net, X, y, RADII, norm="l1")
    with pytest.raises(InvalidInputError, match="one radius"):
        robust_error_report(net, X, y, [])


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_stands_alone_and_is_well_formed(report, tmp_path):
    path = report.to_html(tmp_path / "page.html", title='Robust "errors" <of> these & those')
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    stands_alone(text)
    # errors, tightness of every method, margins: for each of two models
    assert page.seen.count("figure") == 2 + 2 * 2 + 2
    assert page.seen.count("table") == 2
    assert "second <script>alert(1)</script> & co" in page.texts
    assert "<script" not in text
    for word in ("certified", "falsified", "unknown"):
        assert word in page.texts
    for share in report.certified_error.ravel():
        assert f"{share:.3f}" in page.texts
    assert 'Robust "errors" <of> these & those' in page.texts


def test_the_page_is_deterministic_and_takes_a_radius(report, tmp_path):
    one, two = (report.to_html(tmp_path / name, radius=0.2).read_bytes() for name in ("one.html", "two.html"))
    assert one == two
    assert one != report.to_html(tmp_path / "three.html", radius=0.6).read_bytes()
    assert report.index_of(None) == 1
    with pytest.raises(InvalidInputError, match="radius"):
        report.to_html(tmp_path / "four.html", radius=0.3)


def test_every_mark_lies_in_its_chart(report, tmp_path):
    text = report.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    for chart in re.findall(r"<svg xmlns.*?</svg>", text, flags=re.DOTALL):
        width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', chart).groups())
        assert "nan" not in chart
        assert "inf" not in chart.replace("linf", "")
        points = " ".join(re.findall(r'points="([^"]*)"', chart)).split()
        dots = re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', chart)
        for x, y in [pair.split(",") for pair in points] + dots:
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height


def test_pages_of_poor_reports(tmp_path):
    """One sample, no bound at all, radius zero alone, equal margins: still a page."""
    for given in (arrays(m=1, r=1, p=1, n=1), arrays(r=1) | {"radii": np.zeros(1)}, arrays(m=2, r=3, p=7, n=2)):
        found = RobustErrorReport(**given)
        page = Page(found.to_html(tmp_path / "page.html").read_text(encoding="utf-8"))
        assert not page.open
        assert "no bound" in " ".join(page.texts)
        assert str(found)


def test_round_ticks():
    for low, high in [(0, 1), (0, 0.06), (-3, 17), (0, 1e-7), (0, 12345)]:
        found = ticks(low, high)
        assert 2 <= len(found) <= 8
        assert low <= min(found) <= max(found) <= high * (1 + 1e-9)
        assert np.ptp(np.diff(found)) <= 1e-9 * high
    assert ticks(1.0, 1.0) == [1.0]
    chart = Chart((0, 1), (0, 1), "a < b", "x & y", '"z"')
    assert "a &lt; b" in str(chart)
    assert "x &amp; y" in str(chart)


def test_text_says_what_the_report_says(report):
    text = str(report)
    assert "lies between" in text
    assert all(f"{share:.3f}" in text for share in report.attack_error.ravel())
    word = replace(report, rigorous=np.zeros_like(report.rigorous))
    assert "a solver's word: ibp, crown" in str(word)


# -- displays ---------------------------------------------------------------------------------------------------------


def test_displays_show_the_numbers_of_the_report(report):
    ax = Figure().subplots()
    shown = RobustErrorDisplay.from_report(report, ax=ax)
    assert shown.ax_ is ax
    np.testing.assert_allclose(shown.lines_[0].get_ydata(), np.r_[report.clean_error[0], report.attack_error[0]])
    for k, line in enumerate(shown.lines_[1:]):
        np.testing.assert_allclose(line.get_ydata()[1:], report.certified_error[0, :, k])
    tight = TightnessDisplay.from_report(report, name=report.names[1], radius=0.6, ax=Figure().subplots())
    assert tight.medians_["crown"] == pytest.approx(np.median(report.tightness[1, 2, 1]))
    assert "0.6" in tight.ax_.get_title()
    assert not plt.get_fignums()
    assert RobustErrorDisplay.from_report(report).figure_ is not None


def test_displays_refuse_what_they_cannot_show(report):
    for words, call in {
        "about": lambda: RobustErrorDisplay.from_report(report, name="third"),
        "ordered": lambda: RobustErrorDisplay([1.0], 0.0, [0.5], {"a": [0.4]}),
        "increase": lambda: RobustErrorDisplay([1.0, 1.0], 0.0, [0.5] * 2, {"a": [0.5] * 2}),
        "shape": lambda: RobustErrorDisplay([1.0], 0.0, [0.5], {}),
        "negative": lambda: TightnessDisplay({"a": [-1.0]}),
    }.items():
        with pytest.raises(InvalidInputError, match=words):
            call()


@pytest.mark.slow
def test_digits_semidefinite_bounds_are_the_tightest():
    from convexnn.training import CertifiedOptions, TrainingOptions, train_certified

    X, y = load_digits(return_X_y=True)
    X = X / 16.0
    training = TrainingOptions(epochs=100, evaluate_every=50)
    asked = CertifiedOptions(lam=1e-3, loss="multi_margin", random_state=0, training=training)
    net = train_certified(16, X[:1200], y[:1200], asked).network
    methods = ("crown", "max_gradient", "sdp")
    found = robust_error_report(net, X[1200:1203], y[1200:1203], [0.05, 0.1], clip=(0, 1), methods=methods)
    medians = np.median(found.tightness[0], axis=-1)
    assert (medians[:, 2] < medians[:, :2].min(axis=1)).all()  # what is left holds what the attack misses
    assert (found.certified_error[0, :, 2] <= found.certified_error[0, :, :2].min(axis=1)).all()
    for low, high in itertools.pairwise(found.certified_error[0, :, 2]):
        assert low <= high

"""Reports as pages: they stand alone, say what the report says, and escape what others wrote."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from _html import Page, stands_alone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn.certificates.lipschitz import lipschitz
from convexnn.estimators import PolynomialSNNClassifier, SafeRegionClassifier, SafeSNNRegressor
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network, as_network
from convexnn.report import FitReport, fit_report
from convexnn.threats import Box, L2Ball, LInfBall
from convexnn.verification import CertificationReport, CertifyOptions, certify

CHEAP = CertifyOptions(early_stop=False, steps=3, restarts=1)


@pytest.fixture(scope="module")
def judged():
    """A network with three outputs, samples with its own labels, one of them wrong."""
    rng = np.random.default_rng(0)
    network = Network.shallow(rng.standard_normal((6, 2)), rng.standard_normal(6), rng.standard_normal((3, 6)))
    X = rng.standard_normal((12, 2))
    y = network(X).argmax(axis=1)
    y[0] = (y[0] + 1) % 3
    return network, X, y


def certified(judged, threat, method="crown") -> CertificationReport:
    return certify(*judged, threat, method=method, options=CHEAP, random_state=0)


@pytest.mark.parametrize("threat", [L2Ball(0.3), LInfBall(0.2, clip=(-2, 2)), Box(-1.0, 1.0)], ids=str)
def test_the_page_of_a_certification_stands_alone_and_counts_right(judged, threat, tmp_path):
    report = certified(judged, threat)
    path = report.to_html(tmp_path / "page.html", title="a <b> & c")
    page = stands_alone(path.read_text(encoding="utf-8"))
    assert "a <b> & c" in page.texts
    for status, count in report.counts.items():
        assert status in page.texts
        assert f"{count / 12:.1%}" in page.texts
    dots = sum(1 for name, value in page.attributes if name == "class" and str(value).startswith("dot"))
    assert dots == int(np.isfinite(report.margins).sum())  # every sample that has both numbers is a dot
    assert path.read_bytes() == report.to_html(tmp_path / "again.html", title="a <b> & c").read_bytes()


def test_bounds_on_a_page_are_rounded_outward(judged, tmp_path):
    report = certified(judged, L2Ball(0.3))
    text = report.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr>((?:<td[^>]*>[^<]*</td>){7})</tr>", text)
    assert len(rows) == 12
    for row in rows:
        cells = re.findall(r"<td[^>]*>([^<]*)</td>", row)
        verdict = report.verdicts[int(cells[0])]
        assert cells[2] == verdict.status
        assert float(cells[4]) <= verdict.lower
        assert float(cells[5]) >= verdict.margin


def test_unknown_samples_and_labels_in_words(judged, tmp_path):
    report = certified(judged, L2Ball(0.8), method="ibp")
    assert report.counts["unknown"]
    named = replace(report, classes=("<i>", "two", "three"))
    page = Page(named.to_html(tmp_path / "page.html").read_text(encoding="utf-8"))
    assert not page.open
    assert "<i>" in page.texts
    assert "i" not in page.seen
    assert "Why samples are unknown" in page.texts


@pytest.fixture(scope="module")
def regression():
    rng = np.random.default_rng(1)
    X = 3.0 * rng.standard_normal((40, 3)) + 1.0
    return X, np.maximum(X[:, 0], 0) - 0.3 * X[:, 1]


@pytest.fixture(scope="module")
def fitted(regression):
    start = Network.shallow(*(np.random.default_rng(2).standard_normal(s) for s in ((4, 3), 4, 4)))
    return make_pipeline(StandardScaler(), SafeSNNRegressor(lam=0.05, start=start)).fit(*regression)


def test_the_report_of_a_fit_says_what_the_estimator_holds(fitted, regression, tmp_path):
    report = fit_report(fitted, *regression, [0.1, 0.3], steps=2, restarts=1)
    numbers = {claim.claim: claim.number for claim in report.claims}
    network, raw = fitted[-1].network_, lipschitz(as_network(fitted)).bound
    bounds = [float(number) for claim, number in numbers.items() if "Lipschitz" in claim or "pipeline" in claim]
    for shown, true in zip(bounds, (lipschitz(network).bound, raw), strict=True):
        assert true * (1 - 1e-9) <= shown <= 1.001 * true
    assert float(numbers["optimal for these activation patterns, up to a relative gap of"]) >= fitted[-1].solution_.gap
    assert report.robustness.names == ("SafeSNNRegressor",)
    page = stands_alone(report.to_html(tmp_path / "fit.html").read_text(encoding="utf-8"))
    assert page.seen.count("figure") == 2
    for claim in report.claims:
        assert {claim.claim, claim.number, claim.limit} <= set(page.texts)
    assert all(claim.claim in str(report) for claim in report.claims)


def test_a_certificate_that_does_not_hold_is_no_claim(fitted, regression):
    model = SafeSNNRegressor(lam=0.05, start=fitted[-1].network_).fit(*regression)
    model.lipschitz_ = replace(model.lipschitz_, bound=0.5 * model.lipschitz_.bound)
    with pytest.raises(CertificateError, match="not the claimed"):
        fit_report(model)


def test_a_fit_with_constraints_shows_its_guarantees_and_is_not_called_better_than_its_start(rng):
    X = rng.uniform(-1, 1, (20, 1))
    model = SafeSNNRegressor(3, regularizer="l2", start="random", random_state=0, monotonic_cst=[-1])
    claims = [claim.claim for claim in fit_report(model.fit(X, X[:, 0])).claims]
    assert "checked again: f is nonincreasing in feature 0 everywhere; largest slope in feature 0" in claims
    assert any("lower bound of all networks on these cells" in claim for claim in claims)
    assert not any("never worse" in claim for claim in claims)
    model.guarantees_ = type(model.guarantees_)([replace(item, bound=item.bound - 1.0) for item in model.guarantees_])
    with pytest.raises(CertificateError, match="not the claimed"):
        fit_report(model)


@pytest.mark.slow
def test_reports_of_other_estimators(rng, tmp_path):
    X = 2.0 * rng.standard_normal((60, 2))
    y = (np.linalg.norm(X, axis=1) > 1.3).astype(int)
    polynomial = fit_report(PolynomialSNNClassifier(0.1, tol=1e-2).fit(X, y))
    assert ["every width" in claim.claim for claim in polynomial.claims] == [True, False]
    safe = SafeRegionClassifier(L2Ball(1.0), 6, max_iter=5, random_state=0).fit(X, y)
    report = fit_report(safe)
    assert isinstance(report, FitReport)
    (shown,) = [float(claim.number) for claim in report.claims if "region" in claim.claim]
    assert safe.region_certificate_.bound <= shown < 0
    for found in (polynomial, report):
        stands_alone(found.to_html(tmp_path / "page.html").read_text(encoding="utf-8"))


def test_errors_under_attack_need_data(fitted, regression):
    with pytest.raises(InvalidInputError, match="X, y and radii"):
        fit_report(fitted, radii=[0.1])
    with pytest.raises(InvalidInputError, match="X, y and radii"):
        fit_report(fitted, regression[0])

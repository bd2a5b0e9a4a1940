"""The report of a certification run: its numbers, its files, its table."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from rich import console
from test_certify_stream import problem, run

from convexnn import CertificationReport, L2Ball, Network, certify
from convexnn.archive import read_archive, write_archive
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.propagation import Effort
from convexnn.verification.combined import COMBINED, combine, parts_of
from convexnn.verification.registry import get_certifier
from convexnn.verification.report import FORMAT, VERSION
from convexnn.verification.task import read_task


@pytest.fixture(scope="module")
def report():
    return run(None, 12, keep_evidence=True)


def test_counts_and_accuracies_follow_from_the_verdicts(report):
    assert sum(report.counts.values()) == report.n_samples == 12
    assert report.certified_accuracy <= report.robust_accuracy <= report.clean_accuracy
    assert report.certified_accuracy == np.mean([v.margin < 0 for v in report.verdicts])
    assert (report.lower <= report.margins).all()
    broken = np.array(report.statuses) == "falsified"
    assert np.isfinite(report.counterexamples[broken]).all()
    assert np.isnan(report.counterexamples[~broken]).all()
    spent = sum(report.stage_seconds.values())
    assert spent == pytest.approx(sum(v.total_seconds for v in report.verdicts))
    assert sum(report.decided_by.values()) == report.counts["certified"] + report.counts["falsified"]


def test_a_report_is_saved_and_loaded_without_loss(report, tmp_path):
    path = report.save(tmp_path / "report.npz")
    again = CertificationReport.load(path)
    assert again.margins.tolist() == report.margins.tolist()
    assert again.statuses == report.statuses
    assert again.threat == report.threat
    assert np.array_equal(again.counterexamples, report.counterexamples, equal_nan=True)
    for one, two in zip(report.verdicts, again.verdicts, strict=True):
        assert dict(one.seconds) == dict(two.seconds)
        if one.evidence is not None:
            assert one.evidence.multiplier.keys() == two.evidence.multiplier.keys()
    again.check(*problem(12)[:3])


def test_reports_without_numbers_and_with_labels_are_saved(tmp_path):
    network, X, y, _ = problem(4)
    threat = L2Ball(0.1, clip=(np.full(4, -9.0), np.inf))
    one = certify(network, X, y, threat, method="lp", sample_time_limit=0.0)
    again = CertificationReport.load(one.save(tmp_path / "report.npz"))
    assert np.isinf(again.margins).any()
    assert again.threat.clip[1] == np.inf
    assert [v.reason for v in again.verdicts] == [v.reason for v in one.verdicts]


def test_check_refuses_other_networks_data_and_altered_numbers(report, tmp_path):
    network, X, y, _ = problem(12)
    with pytest.raises(CertificateError, match="another network or other data"):
        report.check(Network([(network.W + 1e-12, network.b), network.layers[1]]), X, y)
    with pytest.raises(CertificateError, match="another network or other data"):
        report.check(network, X[::-1], y)
    header, arrays = read_archive(report.save(tmp_path / "report.npz"), format=FORMAT, version=VERSION)
    moved = {"counterexamples": arrays["counterexamples"] + 1.0}
    with pytest.raises(CertificateError, match="outside of the threat set"):
        CertificationReport.load(write_archive(tmp_path / "moved.npz", header, moved)).check(network, X, y)


def test_damaged_files_are_refused(report, tmp_path):
    header, arrays = read_archive(report.save(tmp_path / "report.npz"), format=FORMAT, version=VERSION)
    for change in (
        {"verdicts": header["verdicts"][1:]},
        {"verdicts": [record | {"status": "certified", "margin": 1.0} for record in header["verdicts"]]},
        {"threat": {"type": "Cube"}},
        {"n_inputs": "many"},
    ):
        path = write_archive(tmp_path / "bad.npz", header | change, arrays)
        with pytest.raises(InvalidInputError, match="does not hold a valid report"):
            CertificationReport.load(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InvalidInputError, match="not a readable"):
        CertificationReport.load(path)


def test_the_table_names_counts_stages_and_reasons(report):
    text = str(report)
    assert "12 samples" in text
    assert f"certified {report.certified_accuracy:.4f} <= robust" in text
    assert all(stage in text for stage in report.stage_seconds)
    unknown = certify(*problem(4), time_limit=0.0)
    assert "unknown: time limit: " in str(unknown)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_terminals_only(monkeypatch, terminal):
    screen = io.StringIO()
    make = console.Console
    monkeypatch.setattr(console, "Console", lambda stderr: make(file=screen, force_terminal=terminal, width=120))
    certify(*problem(6), random_state=1, verbose=2)
    shown = screen.getvalue()
    assert ("6/6" in shown and "falsified 4" in shown) if terminal else shown == ""


def test_a_data_frame_has_one_row_a_sample(report, monkeypatch):
    frame = report.to_frame()
    assert frame.index.tolist() == list(range(12))
    assert frame["margin"].tolist() == report.margins.tolist()
    assert (frame["status"] == report.statuses).all()
    json.dumps(frame["status"].tolist())
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InvalidInputError, match="pip install pandas"):
        report.to_frame()


def test_evidence_of_several_methods_is_one_and_its_check_is_never_wrong():
    query = read_task(*problem(6), 0).query(1)
    parts = []
    for rows, name in (((0,), "ibp"), ((1,), "lp"), ((0, 1), "crown")):
        parts.append((rows, get_certifier(name).propose(query.rows(list(rows)), Effort(), None)))
    evidence = combine(parts, 2)
    found = COMBINED.check(query, evidence.multiplier)
    alone = [get_certifier(part.method).check(query.rows(list(rows)), part.multiplier) for rows, part in parts]
    assert found[0] == min(alone[0][0], alone[2][0])
    assert found[1] == min(alone[1][0], alone[2][1])
    assert [part.method for _, part in parts_of(evidence.multiplier, 2)] == ["ibp", "lp", "crown"]
    assert combine(parts[2:], 2) is parts[2][1]
    with pytest.raises(InvalidInputError, match="method='auto'"):
        COMBINED.propose(query, Effort(), None)


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"0/rows": np.array([7.0]), "0/method": np.zeros(1)},
        {"0/rows": np.array([np.nan]), "0/method": np.zeros(1)},
        {"0/rows": np.array([0.0, 0.0]), "0/method": np.zeros(1)},
        {"0/rows": np.zeros(1), "0/method": np.ones(9)},
        {"0/rows": np.zeros(1), "0/method": np.array([-1.0])},
    ],
)
def test_combined_evidence_that_cannot_be_read_proves_nothing(bad):
    query = read_task(*problem(6), 0).query(1)
    assert np.isinf(COMBINED.check(query, bad)).all()

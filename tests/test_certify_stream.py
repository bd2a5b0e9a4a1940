"""Runs of certify that stream to a file, are killed, resumed, interrupted and spread over workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from _interruption import count_calls, interrupted_at
from joblib import parallel_config

from convexnn import CertifyOptions, L2Ball, LInfBall, Network, certify
from convexnn.exceptions import CertificateError, InvalidInputError

ROOT = Path(__file__).resolve().parents[1]
SMALL = CertifyOptions(steps=5, restarts=1)


def problem(n=8, seed=0):
    rng = np.random.default_rng(seed)
    network = Network([(rng.normal(size=(6, 4)), rng.normal(size=6)), (rng.normal(size=(3, 6)), rng.normal(size=3))])
    X = rng.normal(size=(n, 4))
    y = network(X).argmax(axis=1)
    y[::5] = (y[::5] + 1) % 3
    return network, X, y, LInfBall(0.15)


def told(verdict):
    """Everything but the time."""
    return (verdict.index, verdict.label, verdict.status, verdict.clean, verdict.margin, verdict.lower, verdict.method,
            verdict.rigorous, verdict.reason, verdict.bounds.tolist(),
            None if verdict.counterexample is None else verdict.counterexample.tolist())  # fmt: skip


def same(one, two):
    assert [told(v) for v in one.verdicts] == [told(v) for v in two.verdicts]


def run(path, n=8, **options):
    return certify(*problem(n), output=path, options=SMALL, random_state=1, **options)


def test_a_finished_file_is_read_and_nothing_is_computed_again(tmp_path):
    path = tmp_path / "run.jsonl"
    first = run(path, keep_evidence=True)
    written = path.read_bytes()
    assert len(written.splitlines()) == 9
    assert count_calls(lambda: run(path, keep_evidence=True), "relaxations", "branching") == 0
    again = run(path, keep_evidence=True)
    same(first, again)
    assert path.read_bytes() == written
    kept = [v for v in again.verdicts if v.status == "certified"]
    assert kept
    assert all(v.evidence is not None for v in kept)
    again.check(*problem()[:3])


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_a_partial_file_is_completed_to_the_same_verdicts(tmp_path, cut):
    path = tmp_path / "run.jsonl"
    whole = run(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:cut]) + lines[cut][: len(lines[cut]) // 2])
    same(whole, run(path))
    assert len(path.read_bytes().splitlines()) == 9
    same(whole, run(path))


def test_a_file_cut_in_its_header_is_begun_anew(tmp_path):
    path = tmp_path / "run.jsonl"
    whole = run(path)
    path.write_bytes(path.read_bytes()[:40])
    same(whole, run(path))


def test_without_random_state_the_seed_of_the_file_counts(tmp_path):
    path = tmp_path / "run.jsonl"
    whole = run(path)
    certify(*problem(), output=path, options=SMALL)
    other = tmp_path / "other.jsonl"
    certify(*problem(), output=other, options=SMALL)
    assert json.loads(other.read_text().splitlines()[0])["seed"] != 1
    same(whole, run(path))


def test_a_file_of_another_run_is_refused_in_words(tmp_path):
    path = tmp_path / "run.jsonl"
    run(path)
    network, X, y, threat = problem()
    others = {
        "data": (network, X + 1e-9, y, threat),
        "threat set": (network, X, y, L2Ball(0.15)),
        "network": (Network([(2 * network.W, network.b), network.layers[1]]), X, y, threat),
    }
    for what, arguments in others.items():
        with pytest.raises(InvalidInputError, match=f"another run .other {what}"):
            certify(*arguments, output=path, options=SMALL, random_state=1)
    with pytest.raises(InvalidInputError, match="other method"):
        run(path, method="crown")
    with pytest.raises(InvalidInputError, match="other options"):
        run(path, keep_evidence=True)
    with pytest.raises(InvalidInputError, match="random_state"):
        certify(*problem(), output=path, options=SMALL, random_state=2)
    run(path, method="crown", resume=False)
    for text in ("no json\n", "{}\n", "[]\n", '{"format": "convexnn.certification.lines", "version": 99}\n'):
        path.write_text(text)
        with pytest.raises(InvalidInputError, match="not a file of verdicts"):
            run(path)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(InvalidInputError, match="not a file of verdicts"):
        run(path)


def tampered(path, index, change):
    lines = path.read_text().splitlines()
    for i, line in enumerate(lines[1:], start=1):
        record = json.loads(line)
        if record["index"] == index:
            lines[i] = json.dumps(record | change(record))
    path.write_text("\n".join(lines) + "\n")


def test_stored_verdicts_are_checked_again(tmp_path):
    path = tmp_path / "run.jsonl"
    whole = run(path, keep_evidence=True)
    good = path.read_text()
    broken, proved = whole.statuses.index("falsified"), whole.statuses.index("certified")
    X = problem()[1]
    changes = (
        (broken, lambda r: {"counterexample": (X[broken] + 7).tolist()}, "outside of the threat set"),
        (broken, lambda r: {"counterexample": [0.0]}, "shape"),
        (broken, lambda r: {"lower": r["lower"] + 0.5}, "its margin is"),
        (broken, lambda r: {"label": (r["label"] + 1) % 3}, "label"),
        (broken, lambda r: {"status": "certified"}, "contradicts itself"),
        (proved, lambda r: {"margin": r["margin"] - 1.0, "lower": -9.0}, "below the bounds"),
        (proved, lambda r: {"bounds": [0.0]}, "one bound for each of its 2 rivals"),
        (proved, lambda r: {"index": 99}, "sample 99"),
    )
    for index, change, pattern in changes:
        path.write_text(good)
        tampered(path, index, change)
        with pytest.raises(CertificateError, match=pattern):
            run(path, keep_evidence=True)
    for change in (lambda r: {"margin": "soon"}, lambda r: {"bounds": "x"}, lambda r: {"evidence": {"method": "sdp"}}):
        path.write_text(good)
        tampered(path, proved, change)
        with pytest.raises(InvalidInputError, match="does not hold a verdict"):
            run(path, keep_evidence=True)


LIES = {
    "a wrong class certified": (0, {"status": "certified", "counterexample": None, "margin": -1.0, "lower": -2.0,
                                    "bounds": [-1.0, -1.0]}, "does not hold"),
    "a better margin": (1, {"margin": -100.0, "lower": -200.0, "bounds": [-100.0, -100.0]}, "the sample itself"),
    "bounds above the margin": (1, {"bounds": [5.0, 5.0]}, "below the bounds"),
    "bounds that nobody proves": (1, {"bounds": [-1e3, -1e3]}, "does not prove the bounds"),
    "another clean margin": (1, {"clean": -1e9, "lower": -1e9}, "margin of the sample itself"),
    "nan": (1, {"status": "unknown", "margin": "nan"}, "contradicts itself"),
    "no index": (1, {"index": 1.7}, "does not hold a verdict"),
    "no flag": (1, {"rigorous": "no"}, "does not hold a verdict"),
    "no evidence": (1, {"evidence": None}, "missing"),
}  # fmt: skip


def test_files_that_lie_are_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    report = run(path, keep_evidence=True)
    assert [verdict.status for verdict in report.verdicts[:2]] == ["falsified", "certified"]
    written = path.read_text().splitlines()
    lines = [written[0], *sorted(written[1:], key=lambda line: json.loads(line)["index"])]
    for index, changes, message in LIES.values():
        altered = [*lines]
        altered[1 + index] = json.dumps({**json.loads(lines[1 + index]), **changes})
        path.write_text("\n".join([*altered, ""]))
        with pytest.raises((CertificateError, InvalidInputError), match=message):
            run(path, keep_evidence=True)
    path.write_text("\n".join([*lines, lines[2], ""]))
    with pytest.raises(InvalidInputError, match="several verdicts of sample 1"):
        run(path, keep_evidence=True)


def test_a_time_limit_leaves_the_rest_to_the_next_run(tmp_path):
    path = tmp_path / "run.jsonl"
    assert set(run(path, time_limit=0.0).statuses) == {"unknown", "falsified"}
    with parallel_config("threading", n_jobs=2):
        assert set(run(None, time_limit=0.0).statuses) == {"unknown", "falsified"}
    same(run(None), run(path))


def test_an_interrupt_returns_what_is_known_and_loses_nothing(tmp_path):
    whole, path = run(None), tmp_path / "run.jsonl"
    total = count_calls(lambda: run(None), "verification")
    for k in np.linspace(total // 3, total - 40, 6).astype(int):
        path.unlink(missing_ok=True)
        report = interrupted_at(int(k), lambda: run(path), "verification")
        for verdict, final in zip(report.verdicts, whole.verdicts, strict=True):
            assert verdict.status in (final.status, "unknown")
            assert verdict.status != "unknown" or verdict.reason.startswith("interrupted")
        same(whole, run(path))


def test_results_do_not_depend_on_jobs():
    arguments = problem(40)
    serial = certify(*arguments, options=SMALL, random_state=1)
    with parallel_config("threading"):
        same(serial, certify(*arguments, options=SMALL, random_state=1, n_jobs=2))


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
import convexnn.verification.running as running
import test_certify_stream as here
slow = running.heavy_stages
def slower(*arguments):
    time.sleep(0.2)
    return slow(*arguments)
running.heavy_stages = slower
here.run({path!r}, 24, method="crown")
"""


@pytest.mark.slow
def test_a_killed_process_resumes(tmp_path):
    path = tmp_path / "run.jsonl"
    code = SCRIPT.format(tests=str(ROOT / "tests"), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until and (not path.exists() or path.read_bytes().count(b"\n") < 8):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = path.read_bytes().count(b"\n")
    assert 8 <= done < 25
    resumed = run(path, 24, method="crown")
    same(run(None, 24, method="crown"), resumed)
    assert len(path.read_bytes().splitlines()) == 25


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["threading", "multiprocessing", "loky"])
def test_every_backend_gives_the_same_verdicts(backend, tmp_path):
    arguments = problem(40, seed=3)
    serial = certify(*arguments, options=SMALL, random_state=1)
    with parallel_config(backend, n_jobs=2):
        same(serial, certify(*arguments, options=SMALL, random_state=1, output=tmp_path / "run.jsonl"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of distributed and tornado, on their way down
@pytest.mark.parametrize("processes", [False, True])
def test_a_dask_cluster_gives_the_same_verdicts(processes, tmp_path):
    distributed = pytest.importorskip("distributed")
    arguments = problem(40, seed=4)
    serial = certify(*arguments, options=SMALL, random_state=1)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=None, local_directory=str(tmp_path)
    )
    with cluster, distributed.Client(cluster), parallel_config("dask"):
        same(serial, certify(*arguments, options=SMALL, random_state=1, keep_evidence=False))


def test_claims_without_evidence_are_decided_anew(tmp_path):
    network, X, y, _ = problem()
    asked = {"output": tmp_path / "run.jsonl", "options": SMALL, "random_state": 1, "method": "crown"}
    truth = certify(network, X, y, LInfBall(0.6), **asked)
    assert all(verdict.evidence is None for verdict in truth.verdicts)
    head, *lines = asked["output"].read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert all(record["evidence"] for record in records if record["status"] == "certified")
    forged = {"status": "certified", "margin": -0.5, "lower": -1e9, "bounds": [-0.5, -0.5], "counterexample": None}
    for rigorous in (True, False):
        claims = [
            record | forged | {"lower": record["clean"], "evidence": None, "rigorous": rigorous, "method": "crown"}
            if record["clean"] < -0.5 and record["status"] != "certified" else record
            for record in records
        ]  # fmt: skip
        assert claims != records
        asked["output"].write_text("\n".join([head, *map(json.dumps, claims)]) + "\n")
        same(truth, certify(network, X, y, LInfBall(0.6), **asked))
        again = [json.loads(line) for line in asked["output"].read_text().splitlines()[1:]]
        assert sorted(one["index"] for one in again) == list(range(len(X)))
        same(truth, certify(network, X, y, LInfBall(0.6), **asked))


def test_files_hold_the_evidence_that_reports_drop(tmp_path):
    path = tmp_path / "run.jsonl"
    first = run(path)
    assert count_calls(lambda: run(path), "relaxations", "branching") == 0
    again = run(path)
    same(first, again)
    assert all(verdict.evidence is None for report in (first, again) for verdict in report.verdicts)

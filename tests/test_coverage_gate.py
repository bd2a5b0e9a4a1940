"""The gate of `make coverage`: what it lets through and what it stops, on made-up reports."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

GATE = Path(__file__).parents[1] / ".ci" / "coverage_gate.py"
pytestmark = pytest.mark.skipif(not GATE.exists(), reason="the gate is in the repository, not in the distribution")


@pytest.fixture(scope="module")
def gate():
    spec = importlib.util.spec_from_file_location("coverage_gate", GATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(lines: int, missing: tuple = (), branches: tuple = ()) -> dict:
    covered = lines - len(missing)
    summary = {"num_statements": lines, "covered_lines": covered, "percent_covered": 100.0 * covered / lines}
    return {"summary": summary, "missing_lines": list(missing), "missing_branches": [list(b) for b in branches]}


def report(**files: dict) -> dict:
    names = {"rigorous": "convexnn/rigorous/rounding.py", "proofs": "convexnn/certificates/region.py"}
    return {
        "meta": {"branch_coverage": True},
        "files": {names.get(name, f"convexnn/{name}.py"): file for name, file in files.items()},
    }


def test_the_goals_are_met(gate, tmp_path, capsys):
    good = report(rigorous=measured(50), proofs=measured(50), network=measured(100, tuple(range(10)), ((1, 2),)))
    assert list(gate.missed(good)) == []  # 190 of 200 lines are 95 %, and branches elsewhere do not count
    (tmp_path / "coverage.json").write_text(json.dumps(good))
    assert gate.main(str(tmp_path / "coverage.json")) == 0
    shown = capsys.readouterr().out
    assert "190 of 200, 95.0 %" in shown
    assert "all goals are met" in shown


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"rigorous": measured(50), "proofs": measured(49), "network": measured(100, tuple(range(10)))}, "189 of 199"),
        ({"rigorous": measured(900, (7,)), "proofs": measured(9)}, r"rounding.py: lines \[7\], branches -"),
        ({"rigorous": measured(900), "proofs": measured(9, (), ((3, 5),))}, r"region.py: .*branches \[\[3, 5\]\]"),
        ({"rigorous": measured(900), "network": measured(9)}, "no file of convexnn/certificates/"),
        ({}, "0 of 0 lines"),
    ],
)
def test_a_goal_that_is_missed_is_said(gate, tmp_path, capsys, files, said):
    (tmp_path / "coverage.json").write_text(json.dumps(report(**files)))
    assert gate.main(str(tmp_path / "coverage.json")) == 1
    lines = capsys.readouterr().out
    assert re.search(said, lines), lines
    assert "all goals are met" not in lines


def test_branches_that_nobody_measured_are_not_complete(gate):
    found = report(rigorous=measured(9), proofs=measured(9))
    found["meta"]["branch_coverage"] = False
    assert [one for one in gate.missed(found) if "--cov-branch" in one]


def test_what_must_be_complete_exists(gate):
    for start in gate.COMPLETE:
        assert list((GATE.parents[1] / start).glob("*.py")), f"{start} holds nothing"

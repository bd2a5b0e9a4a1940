"""The driver of the benchmarks: it reads printed tables, and a benchmark that fails is reported, not fatal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "examples" / "benchmarks"


@pytest.fixture
def bench(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench

    monkeypatch.setattr(bench, "HERE", tmp_path)
    return bench


TWO = """words
| method | CPU s | gap |
|---|---:|---:|
| **ours** | 1,200 | 1e-7 |
| peer | none | |

| n | wall s |
| --- | --- |
| 3 | 0.5 |
a | b
"""


def test_every_benchmark_of_the_folder_is_run(bench) -> None:
    assert set(bench.SCRIPTS) == {path.stem for path in BENCHMARKS.glob("*.py")} - {"bench"}


def test_tables_are_read_from_what_is_printed(bench) -> None:
    first, second = bench.tables(TWO)
    assert first["columns"] == ["method", "CPU s", "gap"]
    assert first["rows"] == [["ours", 1200, 1e-7], ["peer", "none", ""]]
    assert second == {"columns": ["n", "wall s"], "rows": [[3, 0.5]]}


def test_failures_are_reported_and_the_others_run(bench, monkeypatch, tmp_path, capfd) -> None:
    (tmp_path / "breaks.py").write_text("print('| n |\\n|---|\\n| 7 |', flush=True)\nraise ValueError('on purpose')\n")
    (tmp_path / "works.py").write_text(f"print({TWO!r})\n")
    monkeypatch.setattr(bench, "SCRIPTS", {name: ([], []) for name in ("breaks", "works")})
    page = tmp_path / "page.md"
    assert bench.main(["--quick", "--output", str(tmp_path), "--write", str(page), "--only", "breaks", "works"]) == 1
    record = json.loads((tmp_path / "bench.json").read_text())
    assert [one["status"] for one in record["benchmarks"]] == [
        "failed: ValueError: on purpose",
        "done",
    ]
    assert record["benchmarks"][0]["tables"] == [{"columns": ["n"], "rows": [[7]]}]
    assert record["mode"] == "quick"
    assert {"cores", "python", "numpy"} <= set(record["machine"])
    text = page.read_text()
    assert "| works | ours | 1200 | gap 1e-07 |" in text
    assert "on purpose" in text
    assert sys.prefix not in text
    assert "breaks: failed" in capfd.readouterr().out
    # the next run measures one of them again and keeps the other; the full mode keeps nothing of the quick one
    (tmp_path / "breaks.py").write_text(f"print({TWO!r})\n")
    assert bench.main(["--quick", "--output", str(tmp_path), "--only", "breaks"]) == 0
    record = json.loads((tmp_path / "bench.json").read_text())
    assert [(one["name"], one["status"]) for one in record["benchmarks"]] == [("breaks", "done"), ("works", "done")]
    assert bench.main(["--output", str(tmp_path), "--only", "works"]) == 0
    assert len(json.loads((tmp_path / "bench.json").read_text())["benchmarks"]) == 1


def test_what_hangs_is_stopped(bench, tmp_path) -> None:
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(600)\n")
    assert bench.run("hangs", [], 0.3).status == "stopped after 0.3 s"


def test_an_unfinished_run_is_gone_on_with(bench, monkeypatch, tmp_path, capfd) -> None:
    monkeypatch.setattr(bench, "SCRIPTS", {name: ([], []) for name in ("first", "second")})
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text(f"print({TWO!r})\n")
    call = ["--quick", "--output", str(tmp_path)]
    assert bench.main([*call, "--only", "first"]) == 0
    (tmp_path / "second.py").write_text(f"# other bytes\nprint({TWO!r})\n")
    assert "Not measured yet: second." in (tmp_path / "bench.md").read_text()
    capfd.readouterr()
    assert bench.main(call) == 0  # as after an interrupt: only what is left
    assert capfd.readouterr().out.startswith("first: done in an earlier call\nsecond: done, 3 rows")
    assert "with\n2 states of the sources" in (tmp_path / "bench.md").read_text()
    assert bench.main(call) == 0  # all are done: anew
    assert capfd.readouterr().out.startswith("first: done, 3 rows")
    assert "with\nthe same sources" in (tmp_path / "bench.md").read_text()

"""
Every benchmark, one JSON and one table
=======================================

Runs each benchmark of this folder in a process of its own, reads the tables that it prints, and writes every figure to
``bench_output/bench.json`` with the facts of the machine, and all of them as one table to ``bench_output/bench.md``.
A benchmark that fails or exceeds its time is reported, with what it had printed; the others run all the same. Both
files are written after each benchmark: the next call in the same mode goes on where one was interrupted, and begins
anew once all are done. With ``--only`` the named ones are measured again and the figures of the others stay, if they
were measured in the same mode with the same versions.

    python examples/benchmarks/bench.py                  # everything: about 1.5 CPU hours; interrupt as you like
    python examples/benchmarks/bench.py --quick          # small cases: some minutes
    python examples/benchmarks/bench.py --quick --write docs/results/benchmarks.md
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
LIBRARIES = ("numpy", "scipy", "torch", "scikit-learn", "cvxpy", "clarabel", "scs", "highspy", "auto_LiRPA", "convexnn")
QUICK_SECONDS, FULL_SECONDS = 400.0, 6 * 3600.0
#: Columns that say what was measured; the others hold figures.
CASE = {"call", "n", "d", "p", "h", "rows", "device", "sums", "data (rows)", "program", "method", "case", "network"}
CASE |= {"units x inputs", "loss", "radius", "solver", "peer", "points"}

#: Script -> options of the quick run, options of the full one.
SCRIPTS: dict[str, tuple[list[str], list[str]]] = {
    "certification": (["--quick", "--only", "linf", "--seconds", "5", "--peers", "LP", "MILP"], []),
    "certifier_soundness": (["--networks", "12"], ["--networks", "2000"]),
    "costs": (["--quick", "--table", "TABLE"], ["--table", "TABLE"]),
    "large_training": (["2000"], []),
    "lipsdp": (["--quick"], []),
    "polynomial": (["--rows", "100,10", "--solvers", "clarabel"], ["--large"]),
    "region_bounds": (["--alone"], []),
    "training": (["--quick", "--output", "TABLE.d", "--only", "diabetes joint"], ["--output", "TABLE.d"]),
}
#: CPU minutes of the full runs: measured, but for costs and training, which are estimated from their pages of results.
FULL_MINUTES = {"certification": 17, "certifier_soundness": 4, "costs": 2, "large_training": 1.2, "lipsdp": 1.8}
FULL_MINUTES |= {"polynomial": 4, "region_bounds": 1.2, "training": 40}


@dataclass
class Result:
    """What one benchmark gave."""

    name: str
    options: list[str]
    status: str = "done"
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    load: float = 0.0
    sources: str = ""
    tables: list[dict[str, list]] = field(default_factory=list)


def value(cell: str) -> str | float | int:
    """A number where the cell is a finite one (JSON has no others)."""
    plain = cell.strip().strip("*")
    for kind in (int, float):
        try:
            number = kind(plain.replace(",", ""))
        except ValueError:
            continue
        return number if math.isfinite(number) else plain
    return plain


def tables(text: str) -> list[dict[str, list]]:
    """Markdown tables of a text: columns and rows."""
    found: list[dict[str, list]] = []
    header: list[str] | None = None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.strip().startswith("|"):
            header = header if not line.strip() else None
        elif all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            found.append({"columns": header or [], "rows": []})
        elif found and header is not None and len(cells) == len(found[-1]["columns"]) and header != cells:
            found[-1]["rows"].append([value(cell) for cell in cells])
        else:
            header = cells
    return [table for table in found if table["rows"]]


def run(name: str, options: list[str], limit: float) -> Result:
    """One benchmark; its whole group of processes ends with it."""
    result, began = Result(name, options, sources=sources()), time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        given = [option.replace("TABLE", f"{folder}/table") for option in options]
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [sys.executable, str(HERE / f"{name}.py"), *given],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            result.status = f"stopped after {limit:g} s"
        if result.status == "done" and process.returncode:
            reason = err.strip().splitlines()[-1:] or ["no message"]
            result.status = f"failed: {reason[0].replace(str(ROOT), '.').replace(str(Path.home()), '~')[:200]}"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result.cpu_seconds = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
    result.wall_seconds, result.load = round(time.monotonic() - began, 1), round(os.getloadavg()[0], 1)
    result.tables = tables(out)
    if result.status == "done" and not result.tables:
        result.status = f"failed: it printed no table, but: {' '.join(out.split())[:200]}"
    return result


def sources() -> str:
    """Digest of the package and of the benchmarks, so that a page can say whether its parts saw the same code."""
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "convexnn").rglob("*.py"), *HERE.rglob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def machine() -> dict[str, object]:
    """Facts that explain times; nothing that names the machine."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "not installed"
    return {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()} | versions


def lines(result: Result) -> list[str]:
    """Rows of the one table: benchmark, case, CPU seconds, everything else."""
    found = []
    for table in result.tables:
        for row in table["rows"]:
            cells = [
                (name, str(cell)) for name, cell in zip(table["columns"], row, strict=True) if cell not in ("", "-")
            ]
            case = ", ".join(
                cell if not cell[:1].isdigit() else f"{name} {cell}" for name, cell in cells if name in CASE
            )
            seconds = "".join(cell for name, cell in cells if name == "CPU s")
            others = "; ".join(f"{name} {cell}" for name, cell in cells if name not in CASE | {"CPU s"})
            found.append(f"| {result.name} | {case} | {seconds} | {others} |")
    return found


def page(results: list[Result], quick: bool) -> str:
    """The page of the documentation."""
    facts = ", ".join(f"{name} {fact}" for name, fact in machine().items())
    loads = [result.load for result in results]
    command = "make bench QUICK=1" if quick else "make bench"
    mode = (
        "the QUICK mode: the smallest cases, few peers or none, so nothing here replaces the pages of single benchmarks"
        if quick
        else "the full mode"
    )
    ends = "\n".join(
        f"- `{result.name}.py {' '.join(result.options)}`: {result.status}, {result.cpu_seconds:.0f} CPU s, "
        f"{result.wall_seconds:.0f} s on the clock"
        for result in results
    )
    states = len({result.sources for result in results})
    same = "the same sources" if states == 1 else f"{states} states of the sources, as work on them went on"
    absent = sorted(set(SCRIPTS) - {result.name for result in results})
    left = f"Not measured yet: {', '.join(absent)}.\n" if absent else ""
    body = "\n".join(line for result in results for line in lines(result))
    title = "All benchmarks in one table" if quick else "Benchmarks in full"
    return f"""# {title}

Written by `{command}`, {mode}. Load average after each benchmark {min(loads)} to {max(loads)} on {os.cpu_count()} cores
(other jobs ran), one thread each: CPU seconds are comparable within a benchmark, wall seconds are not. Measured with
{same}. What the columns mean stands in the head of each script in `examples/benchmarks` and on its own page of
results. Machine: {facts}.
{left}The same figures as numbers: `bench_output/bench.json`.

{ends}

| benchmark | case | CPU s | other figures |
|---|---|---:|---|
{body}
"""


def kept(source: Path, mode: str) -> list[Result]:
    """What an earlier run of the same mode, on the same machine and versions, measured."""
    if not source.exists():
        return []
    record = json.loads(source.read_text(encoding="utf-8"))
    if (record["mode"], record["machine"]) != (mode, machine()):
        return []
    return [Result(**one) for one in record["benchmarks"] if one["name"] in SCRIPTS]


def planned(earlier: list[Result], only: list[str] | None) -> list[str]:
    """What to measure: what was asked for, or else what an unfinished run left, or else everything."""
    done = {result.name for result in earlier if result.status == "done"}
    return only or sorted(set(SCRIPTS) - done) or sorted(SCRIPTS)


def main(arguments: list[str] | None = None) -> int:
    """Run all, write after each; 1 when a benchmark failed."""
    parser = argparse.ArgumentParser(description="Every benchmark, one JSON and one table", allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="small cases, minutes")
    parser.add_argument("--only", nargs="+", choices=sorted(SCRIPTS), help="measure these again")
    parser.add_argument("--output", type=Path, default=ROOT / "bench_output", help="folder of bench.json and bench.md")
    parser.add_argument("--write", type=Path, help="write the table to this page as well")
    given = parser.parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    mode = "quick" if given.quick else "full"
    results = kept(given.output / "bench.json", mode)
    names = planned(results, given.only)
    results = [result for result in results if result.name not in names]
    for result in results:
        print(f"{result.name}: {result.status} in an earlier call", flush=True)
    for name in names:
        if not given.quick and name in FULL_MINUTES:
            print(f"{name}: about {FULL_MINUTES[name]:g} CPU minutes", flush=True)
        found = run(name, SCRIPTS[name][not given.quick], QUICK_SECONDS if given.quick else FULL_SECONDS)
        rows = sum(len(table["rows"]) for table in found.tables)
        print(f"{name}: {found.status}, {rows} rows, {found.cpu_seconds:.0f} CPU s", flush=True)
        results = sorted([*results, found], key=lambda result: result.name)
        record: dict[str, object] = {"mode": mode, "machine": machine()}
        record["benchmarks"] = [asdict(result) for result in results]
        (given.output / "bench.json").write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
        for target in (given.output / "bench.md", given.write):
            if target is not None:
                target.write_text(page(results, given.quick), encoding="utf-8")
    return int(any(result.status != "done" for result in results))


if __name__ == "__main__":
    sys.exit(main())

"""From stored results to one table and one plot."""

from __future__ import annotations

import json
import math
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from training_parts.problems import CASES, KINDS

Run = dict[str, Any]
Results = dict[tuple[str, str, str], dict[str, Any]]

NAMES = {
    "interior_point": "interior point (ours)",
    "first_order": "first order (ours)",
    "clarabel": "Clarabel",
    "clarabel_all": "Clarabel, rows not merged",
    "scs": "SCS",
    "pyscnn": "pyscnn, augmented Lagrangian",
}
OURS = ("interior_point", "first_order")
MARKERS = {"interior_point": "o", "first_order": "D", "clarabel": "s", "clarabel_all": "P", "scs": "v", "pyscnn": "^"}
INTRODUCTION = """# Training programs: how fast, against whom

Written by `examples/benchmarks/training.py`. 100 units, `lam = 0.01`; joint program and restriction (12) on the
patterns of a network trained by Adam, l2 program on 100 sampled gates with both signs. Every run has a process of its
own and one thread. Seconds are CPU seconds, with the wall clock in brackets where that is a quarter more; memory is
the peak of the whole process, Python and imports included (about {baseline:.2f} GiB).

A gap counts when it is *verified*: the returned point is moved into its cones and evaluated from the data against the
best lower bound that was proved, the same code for everyone. Our solvers must prove their own gap. "Violation" is the
largest violation of a cone before that repair, relative to the longest unit. Clarabel gets the loosest of three
settings that passes, SCS a tenth of the gap as its tolerance, both our merging of equal rows; "rows not merged" is the
program on all rows. pyscnn gets float64, columns of unit norm, its own step rules, inner tolerances that tighten by
themselves, and the optimal output bias, which its model does not have: then its program is ours. Its iterates are
recorded, and the first that passes counts. "Factor" is the seconds of a method by the seconds of the faster of our
solvers, to the tightest gap that both reached. A time after ">" is when a method gave up or its limit came; "-" was
not tried, after a looser gap had used up the limit, or because the problem is too large for the method.

{machine}
"""


def write_report(source: Path, target: Path) -> None:
    """Write ``training.md`` and ``training.png`` from the results stored in ``source``."""
    results = _read(source)
    target.mkdir(parents=True, exist_ok=True)
    baseline = max((entry.get("baseline", 0.0) for entry in results.values()), default=0.0)
    lines = [INTRODUCTION.format(baseline=baseline, machine=_machine(results))]
    absent = [f"{name} {kind}" for name in CASES for kind in KINDS if not any(k[:2] == (name, kind) for k in results)]
    if absent:
        lines += [f"Not measured in this run: {', '.join(absent)}.", ""]
    lines += ["![CPU seconds to a verified gap of 1e-6](training.png)", "", *_table(results), ""]
    (target / "training.md").write_text("\n".join(lines))
    _plot(results, target / "training.png")


def _read(source: Path) -> Results:
    entries = [json.loads(path.read_text()) for path in sorted(source.glob("*.json"))]
    return {(entry["case"], entry["kind"], entry["label"]): entry for entry in entries}


def _machine(results: Results) -> str:
    loads = [entry["load"] for entry in results.values() if "load" in entry]
    packages = ", ".join(f"{name} {_version(name)}" for name in ("numpy", "scipy", "cvxpy", "clarabel", "scs"))
    span = (
        f"load average {min(loads):.1f} to {max(loads):.1f} (tasks that wanted a core)" if loads else "nothing measured"
    )
    return f"Machine: {platform.machine()}, {os.cpu_count()} cores, {span}; {packages}."


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _table(results: Results) -> list[str]:
    rows = [
        "| data (rows) | program | method | to 1e-2 | to 1e-4 | to 1e-6 | GiB | gap at the end | violation | factor |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in CASES:
        for kind in KINDS:
            for label in NAMES:
                entry = results.get((name, kind, label))
                if entry is not None:
                    rows.append(_row(results, entry))
    return rows


def _row(results: Results, entry: dict[str, Any]) -> str:
    runs = entry["runs"]
    last = min(runs, key=lambda run: run["gap"]) if runs else None
    cells = [_seconds(entry, tol) for tol in (1e-2, 1e-4, 1e-6)]
    memory = max((run.get("memory", 0.0) for run in runs), default=0.0)
    ends = [
        f"{memory:.2f}" if memory else "-",
        *([_short(last["gap"]), _short(last["violation"])] if last else ["-", "-"]),
    ]
    data = f"{entry['case']} ({entry.get('rows_used', '')})"
    return f"| {' | '.join([data, entry['kind'], NAMES[entry['label']], *cells, *ends, _factor(results, entry)])} |"


def _seconds(entry: dict[str, Any], tol: float) -> str:
    run = passing(entry, tol)
    if run is not None:
        wall = f" ({_number(run['wall'])})" if run["wall"] > 1.25 * run["cpu"] + 0.05 else ""
        return _number(run["cpu"]) + wall
    tried = [run for run in entry["runs"] if run["tol"] <= tol]
    if tried:
        return f"> {_number(max(run['cpu'] for run in tried))}"
    return "-" if tol in entry["tols"] and not entry.get("refused") else ("failed" if entry.get("refused") else "")


def passing(entry: dict[str, Any] | None, tol: float) -> Run | None:
    """Cheapest stored run whose verified gap is at most ``tol``."""
    good = [run for run in (entry or {"runs": []})["runs"] if run["gap"] <= tol]
    return min(good, key=lambda run: run["cpu"]) if good else None


def _factor(results: Results, entry: dict[str, Any]) -> str:
    if entry["label"] in OURS:
        return ""
    for tol in (1e-6, 1e-4, 1e-2):
        other = passing(entry, tol)
        mine = [passing(results.get((entry["case"], entry["kind"], label)), tol) for label in OURS]
        times = [run["cpu"] for run in mine if run is not None]
        if other is not None and times:
            return f"{other['cpu'] / min(times):.1f}" + ("" if tol == 1e-6 else f" (to {tol:.0e})")
    return "-"


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _short(value: float) -> str:
    return "0" if value == 0 else f"{value:.0e}" if math.isfinite(value) else "-"


def _plot(results: Results, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    problems = [(name, kind) for name in CASES for kind in KINDS if any(key[:2] == (name, kind) for key in results)]
    figure, axes = plt.subplots(figsize=(8, 2 + 0.27 * len(problems)), layout="constrained")
    for label, title in NAMES.items():
        points = [(row, results.get((*problem, label))) for row, problem in enumerate(problems)]
        solved = [(row, run["cpu"]) for row, entry in points if (run := passing(entry, 1e-6)) is not None]
        cut = [
            (row, max(run["cpu"] for run in entry["runs"]))
            for row, entry in points
            if entry is not None and entry["runs"] and passing(entry, 1e-6) is None
        ]
        colour = f"C{list(NAMES).index(label)}"
        style = {"linestyle": "none", "marker": MARKERS[label], "color": colour}
        if solved or cut:
            axes.plot([x for _, x in solved], [row for row, _ in solved], label=title, **style)
            axes.plot([x for _, x in cut], [row for row, _ in cut], markerfacecolor="none", **style)
    if not problems:
        plt.close(figure)
        return
    axes.set_xscale("log")
    axes.set_yticks(range(len(problems)), [f"{name}, {kind}" for name, kind in problems])
    axes.invert_yaxis()
    axes.grid(axis="x", which="major", alpha=0.4)
    axes.set_xlabel("CPU seconds to a verified gap of 1e-6 (open: gave up there)")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)

"""
Training programs: our solvers against generic ones and pyscnn, at equal verified accuracy
==========================================================================================

How long until the network that a solver returns is provably within 1e-2, 1e-4, 1e-6 of the optimum of its program?
Every run has a process of its own, one thread, and the same data, network and patterns. Whatever comes back is moved
into the cones and evaluated by the same code, against the best lower bound that was proved; our solvers must prove
their gap themselves. Seconds include compilation by cvxpy, and for ours the construction of the program.

    python examples/benchmarks/training.py --quick                # two minutes: the smallest data, to 1e-6
    python examples/benchmarks/training.py --publish              # everything; writes docs/results/training.{md,png}
    python examples/benchmarks/training.py --pyscnn-python PATH   # also pyscnn, which lives in its own environment
    python examples/benchmarks/training.py --only "wine joint"    # some problems; --fresh measures again

Results are kept in ``bench_output/training``; what is there is not measured again. Data sets are looked for in
``--data``, in the folder named by ``CONVEXNN_SHARED`` and in ``shared`` beside the repository.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from training_parts.problems import CASES, KINDS, Case
from training_parts.report import write_report

from convexnn.solvers.registry import SOLVER_NAMES

TOLERANCES = [1e-2, 1e-4, 1e-6]
QUICK_CASES = ("diabetes", "servo", "machine")
#: Seconds for a run, on an idle machine.
LIMITS = {"interior_point": 120.0, "first_order": 300.0, "clarabel": 90.0, "scs": 5.0, "pyscnn": 20.0}
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}
#: Generic solvers are not tried above this many cone rows: half a million took more than ten minutes and 6 GiB.
GENERIC_ROWS = 300_000


@dataclass(frozen=True)
class Bench:
    """What is measured, and where the results are kept."""

    output: Path
    folder: str | None
    pyscnn: str | None
    quick: bool
    fresh: bool
    only: tuple[str, ...]
    solvers: tuple[str, ...]
    tols: tuple[float, ...]

    def run(self) -> None:
        """Measure what is missing, problem by problem."""
        for name in QUICK_CASES if self.quick else CASES:
            wanted = [kind for kind in KINDS if not self.only or f"{name} {kind}" in self.only or name in self.only]
            if wanted and self._made(name):
                for kind in wanted:
                    if not (name == "synthetic 100k" and kind != "l2"):
                        self._program(name, kind)

    def _made(self, name: str) -> bool:
        problem = self._path(name, ".npz")
        if not problem.exists():
            self._child({"solver": "make", "case": name, "folder": self.folder, "problem": str(problem)}, None, 900.0)
        if not problem.exists():
            print(f"{name}: skipped, its data is not here; give --data", flush=True)
        return problem.exists()

    def _program(self, name: str, kind: str) -> None:
        """Ours first: they give the lower bound by which the others are judged."""
        case = Case.load(self._path(name, ".npz"))
        size = len(case.X) * (200 if kind == "l2" else 100)
        mine = [solver for solver in ("interior_point", "first_order") if _suits(solver, kind, size)]
        for solver in mine:
            self._measure(name, kind, solver, {})
        if size <= GENERIC_ROWS:
            self._measure(name, kind, "interior_point", {"tols": [1e-8]}, label="reference")
        known = [run for solver in (*mine, "reference") for run in self.runs(name, kind, solver) if "lower" in run]
        if not known or size > GENERIC_ROWS:
            return
        best = max(known, key=lambda run: run["lower"])
        for solver, extra in _peers(case, self.tols):
            self._measure(name, kind, solver, {"reference": best["lower"], **extra})
        if self.pyscnn and kind == "l2" and (not self.solvers or "pyscnn" in self.solvers):
            self._pyscnn(name, case, best)

    def _measure(self, name: str, kind: str, solver: str, extra: dict[str, Any], label: str = "") -> None:
        rows = "all" if solver.endswith("_all") else "distinct"
        label, solver = label or solver, solver.removesuffix("_all")
        target = self._path(name, ".json", kind, label)
        unwanted = self.solvers and label not in (*self.solvers, "reference")
        if unwanted or (target.exists() and not self.fresh):
            return
        limit = LIMITS[solver] * _business()
        tols = self.tols[-1:] if self.quick or rows == "all" else self.tols
        spec = {"case": name, "kind": kind, "solver": solver, "label": label, "rows": rows, "limit": limit}
        spec |= {"problem": str(self._path(name, ".npz")), "tols": tols, "reference": -math.inf} | extra
        failure = self._child(spec, target, 4 * limit + 120)
        if failure:
            target.write_text(json.dumps(spec | {"runs": self.runs(name, kind, label), "refused": failure}))
        self._say(name, kind, label)

    def _pyscnn(self, name: str, case: Case, best: dict[str, Any]) -> None:
        target, trace = self._path(name, ".json", "l2", "pyscnn"), self._path(name, ".trace.npz")
        if target.exists() and not self.fresh:
            return
        source = self._path(name, ".gates.npz")
        case.save_for_pyscnn(source, best["bias"])
        worker = str(HERE / "training_parts" / "pyscnn_worker.py")
        limit = LIMITS["pyscnn"]
        command = [str(self.pyscnn), worker, str(source), str(trace), str(limit), "unitize", "float64"]
        try:
            subprocess.run(command, env=os.environ | ONE_THREAD, check=True, timeout=120 + 20 * limit)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{name} l2: pyscnn failed: {error}", flush=True)
            return
        spec = {"case": name, "kind": "l2", "solver": "pyscnn", "label": "pyscnn", "limit": limit, "tols": self.tols}
        spec |= {"problem": str(self._path(name, ".npz")), "trace": str(trace), "reference": best["lower"]}
        self._child(spec, target, 900.0)
        self._say(name, "l2", "pyscnn")

    def _child(self, spec: dict[str, Any], target: Path | None, timeout: float) -> str:
        """Run one solver in a fresh process; the reason when it did not come to an end."""
        source = self.output / f"{target.stem if target else Path(spec['problem']).stem}.spec"
        source.write_text(json.dumps(spec))
        command = [sys.executable, "-m", "training_parts.child", str(source), str(target)]
        paths = os.pathsep.join([str(HERE), str(ROOT), os.environ.get("PYTHONPATH", "")])
        try:
            subprocess.run(
                command, cwd=HERE, env=os.environ | ONE_THREAD | {"PYTHONPATH": paths}, check=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return f"stopped after {timeout:.0f} s"
        except subprocess.CalledProcessError as error:
            return f"ended with exit status {error.returncode}"
        return ""

    def runs(self, name: str, kind: str, label: str) -> list[dict[str, Any]]:
        """Stored runs of one solver on one program."""
        path = self._path(name, ".json", kind, label)
        return json.loads(path.read_text())["runs"] if path.exists() else []

    def _say(self, name: str, kind: str, label: str) -> None:
        cells = [f"{run['tol']:.0e}: {run['cpu']:.2f} s, gap {run['gap']:.0e}" for run in self.runs(name, kind, label)]
        print(f"{name:<15}{kind:<6}{label:<15} {'   '.join(cells) or 'no result'}", flush=True)

    def _path(self, name: str, suffix: str, *parts: str) -> Path:
        words = "-".join([name, *parts]).replace(" ", "_").replace("(12)", "12")
        return self.output / f"{words}{suffix}"


def _suits(solver: str, kind: str, size: int) -> bool:
    if solver == "interior_point":
        return size <= 2_000_000
    return solver in SOLVER_NAMES and kind == "l2"


def _peers(case: Case, tols: tuple[float, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    large = len(case.X) * case.X.shape[1] > 12_000
    yield "clarabel", {"tols": tols[-1:]} if large else {}
    if case.has_repeated_rows():
        yield "clarabel_all", {}
    yield "scs", {}


def _business() -> float:
    """By how much longer than on an idle machine things take."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)) if hasattr(os, "getloadavg") else 1.0


def main() -> None:
    """Measure, then write the table and the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest data sets, to 1e-6 only")
    parser.add_argument("--publish", action="store_true", help="write docs/results/training.md and .png")
    parser.add_argument("--fresh", action="store_true", help="measure again what is stored")
    parser.add_argument("--data", help="folder that holds data/splits or splits")
    parser.add_argument("--pyscnn-python", metavar="PATH", help="interpreter of an environment with pyscnn")
    parser.add_argument("--only", nargs="+", default=(), metavar="PROBLEM", help='"wine joint" or "wine"')
    parser.add_argument("--solvers", nargs="+", default=(), help="some methods, such as interior_point clarabel pyscnn")
    parser.add_argument("--tolerances", nargs="+", type=float, default=TOLERANCES, help="from loose to tight")
    parser.add_argument("--output", type=Path, default=ROOT / "bench_output" / "training")
    options = parser.parse_args()
    output = (options.output / "quick" if options.quick else options.output).resolve()
    output.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        output=output,
        folder=options.data,
        pyscnn=options.pyscnn_python,
        quick=options.quick,
        fresh=options.fresh or options.quick,
        only=tuple(options.only),
        solvers=tuple(options.solvers),
        tols=tuple(options.tolerances),
    )
    if not options.pyscnn_python:
        print("pyscnn: not measured; give --pyscnn-python, the interpreter of an environment that has it")
    bench.run()
    folder = ROOT / "docs" / "results" if options.publish else output
    write_report(output, folder)
    print(f"\n{(folder / 'training.md').read_text()}\nwritten to {folder}")


if __name__ == "__main__":
    main()

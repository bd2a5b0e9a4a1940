"""One solver on one program in a process of its own: ``python -m training_parts.child spec.json result.json``.

``spec.json`` names the problem file, program, solver, tolerances, the reference (a proved lower bound on the optimum)
and a limit in seconds. Whatever a solver returns is moved into the cones and evaluated here from the data::

    gap = (objective of the repaired point - reference) / objective

Clarabel gets the loosest of three settings that passes, SCS a tenth of the gap that is asked for. Our own solvers must
prove their gap themselves.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from convexnn.exceptions import SolverError
from convexnn.network import Network
from convexnn.program import Program, relative_gap
from convexnn.solvers import solve
from training_parts.problems import Case, make

OURS = ("interior_point", "first_order")
#: SCS counts steps, not iterations of an interior point method.
STEPS = 10**7


def peak() -> float:
    """Peak memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Stopwatch:
    """CPU and wall seconds since it was made."""

    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def read(self) -> dict[str, float]:
        """Both, as they stand now."""
        return {"cpu": time.process_time() - self.cpu, "wall": time.perf_counter() - self.wall}


def judge(program: Program, z: np.ndarray, reference: float) -> dict[str, float]:
    """Gap to the reference of the point and of the point moved into the cones, and the violation before.

    The violation is ``max (-S_ki x_k'u_i)`` by the longest row times the longest unit: tiny units do not count.
    """
    inside, structure = program.repair(z), program.structure()
    size = np.linalg.norm(structure.X, axis=1).max() * np.linalg.norm(z, axis=1).max()
    return {
        "gap": relative_gap(program.objective(inside), reference, program.scale),
        "gap_as_returned": (program.objective(z) - reference) / abs(reference or 1.0),
        "violation": max(0.0, -float(structure.slack(z).min())) / max(size, np.finfo(float).tiny),
    }


def ours(case: Case, spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Runs of a solver of this package, the construction of the program included."""
    for tol in spec["tols"]:
        watch = Stopwatch()
        program = case.program(spec["kind"])
        solution = solve(program, solver=spec["solver"], tol=tol, max_iter=10**6, time_limit=spec["limit"])
        row = {"tol": tol, **watch.read(), "gap": solution.gap, "violation": solution.violation}
        yield row | {
            "status": solution.status,
            "iterations": solution.iterations,
            "objective": solution.objective,
            "lower": solution.lower_bound,
            "bias": program.decode(solution.z).c,
        }


def generic(case: Case, spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Runs of a solver behind cvxpy: compilation and solution count, the construction of our program does not."""
    program = case.program(spec["kind"])
    stated = case.with_all_rows(program) if spec["rows"] == "all" else program
    for tol in spec["tols"]:
        for setting in (tol, 0.1 * tol, 0.01 * tol) if spec["solver"] != "scs" else (0.1 * tol,):
            row = {"tol": tol, "setting": setting, **_cvxpy(stated, program, spec, setting)}
            if row["gap"] <= tol or row["wall"] >= spec["limit"]:
                break
        yield row


def _cvxpy(stated: Program, program: Program, spec: dict[str, Any], setting: float) -> dict[str, Any]:
    watch = Stopwatch()
    problem = stated.cvxpy_problem()
    problem.get_problem_data(spec["solver"].upper())
    compiled = watch.read()["cpu"]
    if spec["solver"] == "scs":
        options = {"eps_abs": setting, "eps_rel": setting, "max_iters": STEPS, "time_limit_secs": spec["limit"]}
    else:
        options = {"tol_gap_abs": setting, "tol_gap_rel": setting, "tol_feas": setting, "time_limit": spec["limit"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "may be inaccurate": judged below
        problem.solve(solver=spec["solver"].upper(), **options)
    seconds = watch.read()
    row = {**seconds, "compilation": compiled, "iterations": int(problem.solver_stats.num_iters or 0)}
    if any(variable.value is None for variable in problem.variables()):
        return row | {"gap": math.inf, "violation": math.inf, "status": str(problem.status)}
    z = stated.read_cvxpy(problem)[0] if spec["kind"] == "(12)" else problem.var_dict["U"].value
    return row | judge(program, z, spec["reference"]) | {"status": str(problem.status)}


def trace(case: Case, spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Iterates that pyscnn left behind: for each tolerance the first that passes, else the best one."""
    program = case.program("l2")
    with np.load(spec["trace"]) as file:
        weights, gates, cpu, wall, memory = (file[k] for k in ("weights", "gates", "cpu", "wall", "memory"))
    W, b = case.gates
    order = [int(np.abs(np.hstack([W, b[:, None]]) - gate).sum(axis=1).argmin()) for gate in gates]
    if sorted(order) != list(range(len(W))):
        raise SystemExit("pyscnn did not keep the gates it was given")
    rows: list[dict[str, Any]] = []
    for k in range(len(cpu)):
        z = np.zeros((2 * len(W), len(gates[0])))
        z[order], z[np.array(order) + len(W)] = weights[k][0], -weights[k][1]
        rows.append({"cpu": cpu[k], "wall": wall[k], **judge(program, z, spec["reference"]), "status": "traced"})
        if rows[-1]["gap"] <= min(spec["tols"]):
            break
    best = min(rows, key=lambda row: row["gap"])
    found = [{"tol": tol, **next((row for row in rows if row["gap"] <= tol), best)} for tol in spec["tols"]]
    return [row | {"memory": float(memory.max())} for row in found]


def warm_up(spec: dict[str, Any]) -> None:
    """Solve something tiny, so that lazy imports and first calls are not measured."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 2))
    net = Network.shallow(rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=3), 0.0)
    case = Case(X, X[:, 0], net, (rng.normal(size=(3, 2)), rng.normal(size=3)))
    run = ours if spec["solver"] in OURS else generic
    list(run(case, spec | {"tols": [1e-2], "reference": -math.inf, "limit": 5.0, "rows": "distinct"}))


def main() -> None:
    """Read the specification, run, write what was seen after every run."""
    spec, target = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    if spec["solver"] == "make":
        case = make(spec["case"], spec["folder"])
        if case is not None:
            case.save(Path(spec["problem"]))
        return
    case = Case.load(Path(spec["problem"]))
    result: dict[str, Any] = {**spec, "rows_used": len(case.X), "load": os.getloadavg()[0], "runs": []}
    if spec["solver"] == "pyscnn":
        result["runs"] = trace(case, spec)
    else:
        try:
            warm_up(spec)
            result["baseline"] = peak()
            for row in (ours if spec["solver"] in OURS else generic)(case, spec):
                result["runs"].append({**row, "memory": peak()})
                target.write_text(json.dumps(result))
                if row["wall"] >= spec["limit"]:
                    break
        except (SolverError, MemoryError) as error:
            result["refused"] = str(error)[:200]
    target.write_text(json.dumps(result))


if __name__ == "__main__":
    main()

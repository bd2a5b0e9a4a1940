"""
Training programs: interior point method and Clarabel, side by side
===================================================================

How much does a solver gain that knows the structure of the training programs? Both solvers get the same
data, network and patterns in one process, on one thread, and both count only when the gap that is
*recomputed from the data* passes the same tolerance. Clarabel gets the loosest of three settings that passes;
its time is given with and without cvxpy's compilation. Seconds are CPU seconds of this process, which on an
idle core are wall-clock seconds and on a busy one still compare.

    python examples/benchmarks/training_programs.py                  # diabetes, and servo and machine where found
    python examples/benchmarks/training_programs.py --large          # also solar and wine (minutes for Clarabel)
    python examples/benchmarks/training_programs.py --data FOLDER    # folder with splits/<name>.csv

Without ``--data`` the files are looked for in the folder named by ``CONVEXNN_SHARED``, then in ``shared``
beside the repository, each in ``data/splits``.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits

from convexnn.network import Network
from convexnn.patterns import extract
from convexnn.program import Program, Proposal, Solution, evaluate
from convexnn.restrictions import LipschitzProgram, LipschitzRestriction, ReluGroupLasso
from convexnn.solvers import solve

ROOT = Path(__file__).resolve().parents[2]
HEADER = (
    f"{'data':<10}{'program':<9}{'rows':>6}{'vars':>6} | {'ours s':>8}{'iter':>5}{'gap':>9} | "
    f"{'Clarabel s':>11}{'(solver)':>10}{'iter':>5}{'gap':>9} | {'ratio':>6}{'(solver)':>9} | objectives agree to"
)


@dataclass(frozen=True)
class Run:
    """A verified solution, its CPU seconds, and those without cvxpy's compilation."""

    solution: Solution
    seconds: float
    inside: float


def find_splits(folder: str | None) -> Path | None:
    """Folder with <name>.csv and <name>_test_mask.csv, or None."""
    named = os.environ.get("CONVEXNN_SHARED")
    bases = [Path(folder)] if folder else [*([Path(named)] if named else []), ROOT.parent / "shared"]
    candidates = [base / part for base in bases for part in ("", "splits", "data/splits")]
    return next((path for path in candidates if (path / "servo.csv").exists()), None)


def load(name: str, splits: Path | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the standardized training part of the first split; None where the file is absent."""
    if name == "diabetes":
        X, y = load_diabetes(return_X_y=True)
    elif splits is None:
        return None
    else:
        table = np.loadtxt(splits / f"{name}.csv", delimiter=",")
        test = np.loadtxt(splits / f"{name}_test_mask.csv", delimiter=",")[:, 0].astype(bool)
        X, y = table[~test, :-1], table[~test, -1]
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()


def pretrain(X: np.ndarray, y: np.ndarray, units: int) -> Network:
    """Train a shallow network by Adam."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPRegressor(
            hidden_layer_sizes=(units,), alpha=1e-4, learning_rate_init=1e-2, max_iter=200, random_state=0
        ).fit(X, y)
    return Network.from_sklearn(model)


def programs(X: np.ndarray, y: np.ndarray, network: Network, lam: float) -> dict[str, Program]:
    """Build the three programs around a network."""
    patterns = extract(network, X)
    return {
        "joint": LipschitzProgram(X, y, patterns, lam, start=network),
        "(12)": LipschitzRestriction.at(network, X, y, lam),
        "(6)": ReluGroupLasso(X, y, patterns, lam, start=network),
    }


def run_ours(program: Program, tol: float) -> Run:
    """Solve by the interior point method."""
    began = time.process_time()
    solution = solve(program, solver="interior_point", tol=tol)
    seconds = time.process_time() - began
    return Run(solution, seconds, seconds)


def run_clarabel(program: Program, tol: float) -> Run:
    """Solve by Clarabel with the loosest setting whose verified gap passes."""
    for setting in (tol, 0.1 * tol, 0.01 * tol):
        began = time.process_time()
        problem = program.as_cvxpy()
        problem.get_problem_data("CLARABEL")
        compiled = time.process_time()
        problem.solve(solver="CLARABEL", tol_gap_abs=setting, tol_gap_rel=setting, tol_feas=setting)
        done = time.process_time()
        z, dual = program.read_cvxpy(problem)
        proposal = Proposal(z, dual, "solved", int(problem.solver_stats.num_iters), "clarabel")
        run = Run(evaluate(program, proposal, seconds=done - began, tol=tol), done - began, done - compiled)
        if run.solution.is_optimal:
            break
    return run


def row(data: str, kind: str, program: Program, ours: Run, other: Run) -> str:
    """Format one line of the table; a gap that does not pass is marked."""
    p, width = program.start.shape
    difference = abs(ours.solution.objective - other.solution.objective) / ours.solution.objective

    def gap(run: Run) -> str:
        return f"{run.solution.gap:.0e}{'' if run.solution.is_optimal else '!'}"

    return (
        f"{data:<10}{kind:<9}{len(program.structure().y):>6}{p * width:>6} | "
        f"{ours.seconds:>8.2f}{ours.solution.iterations:>5}{gap(ours):>9} | "
        f"{other.seconds:>11.2f}{other.inside:>10.2f}{other.solution.iterations:>5}{gap(other):>9} | "
        f"{other.seconds / ours.seconds:>6.1f}{other.inside / ours.seconds:>9.1f} | {difference:.0e}"
    )


def main() -> None:
    """Run the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--data", help="folder with splits/<name>.csv")
    parser.add_argument("--large", action="store_true", help="also solar and wine")
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--lam", type=float, default=1e-2)
    parser.add_argument("--tol", type=float, default=1e-6, help="verified relative gap")
    options = parser.parse_args()
    splits = find_splits(options.data)
    names = ["diabetes", "servo", "machine", *(["solar", "wine"] if options.large else [])]
    load_average = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"{options.units} units, lam {options.lam:g}, verified relative gap {options.tol:g}, one thread{load_average}"
    )
    print(HEADER)
    for name in names:
        data = load(name, splits)
        if data is None:
            print(f"{name:<10}skipped: no {name}.csv found; give --data")
            continue
        network = pretrain(*data, options.units)
        for kind, program in programs(*data, network, options.lam).items():
            print(
                row(name, kind, program, run_ours(program, options.tol), run_clarabel(program, options.tol)), flush=True
            )
    print("ratio: Clarabel's seconds / ours, with cvxpy's compilation and (in brackets) without; ! marks a failed gap")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()

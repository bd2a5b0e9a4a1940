"""
Adversarial training of polynomial networks
===========================================

How much faster is column generation than the semidefinite program in cvxpy, at equal verified accuracy? One process,
the Wisconsin breast cancer data (whitened principal components for fewer than 30 inputs, bootstrapped with noise for
more rows). Every point is judged by the program's own objective, and its error against the best lower bound known: a
generic solver gets no credit for its own figures. CPU seconds include compilation by cvxpy.

    python examples/benchmarks/polynomial.py                        # the rows of the table, minutes
    python examples/benchmarks/polynomial.py --rows 100,10 --solvers scs
    python examples/benchmarks/polynomial.py --large                # without a generic solver: n = 50,000 and d = 100
    python examples/benchmarks/polynomial.py --write docs/results/polynomial_training.md
"""

from __future__ import annotations

import argparse
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convexnn.exceptions import SolverError
from convexnn.restrictions import PolynomialProgram
from convexnn.solvers import solve

HEADER = ("n", "d", "loss", "radius", "solver", "CPU s", "wall s", "objective", "error", "certified gap", "ratio")


@dataclass(frozen=True)
class Case:
    """One problem, the tolerance for column generation and the generic solvers it is compared with."""

    n: int
    d: int
    loss: str = "squared_hinge"
    radius: float = 0.5
    tol: float = 1e-4
    generic: tuple[str, ...] = ()
    synthetic: bool = False


CASES = (
    Case(100, 10, "squared_hinge", 0.5, 1e-6, ("clarabel",)),
    Case(100, 10, "squared_hinge", 1.5, 1e-6, ("clarabel",)),
    Case(100, 10, "hinge", 0.5, 1e-6, ("clarabel",)),
    Case(100, 10, "hinge", 1.5, 1e-6, ("clarabel",)),
    Case(100, 30, "squared_hinge", 0.5, 1e-4, ("scs",)),
    Case(2000, 10, "squared_hinge", 0.5, 1e-4, ("clarabel",)),
)
LARGE = (
    Case(2000, 100, "squared_hinge", 0.5, 1e-4, synthetic=True),
    Case(2000, 100, "squared_hinge", 0.1, 1e-4, synthetic=True),
    Case(50_000, 50, "squared_hinge", 0.1, 1e-3, synthetic=True),
)


@dataclass(frozen=True)
class Run:
    """One solver on one problem."""

    solver: str
    cpu: float
    wall: float
    objective: float
    bound: float
    gap: float


def cancer(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Standardized breast cancer data with n rows and d inputs."""
    from sklearn.datasets import load_breast_cancer

    X, target = load_breast_cancer(return_X_y=True)
    X, y = (X - X.mean(0)) / X.std(0), 2.0 * target - 1
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    X, y = X[order], y[order]
    if d < X.shape[1]:
        X = X @ np.linalg.svd(X, full_matrices=False)[2][:d].T
        X = X / X.std(0)
    if n <= len(X):
        return X[:n], y[:n]
    chosen = rng.integers(0, len(X), n)
    return X[chosen] + 0.3 * rng.standard_normal((n, d)), y[chosen]


def synthetic(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian inputs, labels by the median of a quadratic function of rank ten."""
    rng = np.random.default_rng(seed)
    X, U = rng.standard_normal((n, d)), rng.standard_normal((10, d)) / np.sqrt(d)
    f = (X @ U.T) ** 2 @ rng.choice([-1, 1], 10)
    f = f + 1.5 * X @ rng.standard_normal(d) / np.sqrt(d)
    return X, np.where(f > np.median(f), 1.0, -1.0)


def program_of(case: Case) -> PolynomialProgram:
    """The program of a case."""
    X, y = (synthetic if case.synthetic else cancer)(case.n, case.d)
    return PolynomialProgram(X, y, lam=0.01, loss=case.loss, radius=case.radius)


def run(program: PolynomialProgram, solver: str, tol: float, time_limit: float) -> Run | None:
    """Solve once; None where the solver fails."""
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        found = solve(program, solver=solver, tol=tol, time_limit=time_limit, max_iter=5000)
    except SolverError as error:
        print(f"    {solver}: {error}")
        return None
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Run(solver, cpu, wall, program.objective(found.z), found.lower_bound, found.gap)


def lines_of(case: Case, solvers: tuple[str, ...], time_limit: float) -> list[tuple[str, ...]]:
    """Rows of the table for one case; ratios are CPU seconds over those of column generation."""
    program = program_of(case)
    runs = [run(program, "column_generation", case.tol, time_limit)]
    runs += [run(program, name, 1e-4 if name == "scs" else 1e-6, time_limit) for name in solvers]
    done = [entry for entry in runs if entry is not None]
    best = max(entry.bound for entry in done)
    rows = []
    for entry in done:
        ratio = "" if entry is done[0] else f"{entry.cpu / done[0].cpu:.0f}"
        error = (entry.objective - best) / entry.objective
        gap = f"{entry.gap:.1e}" if math.isfinite(entry.gap) else "none"
        rows.append(
            (
                f"{case.n:,}",
                str(case.d),
                case.loss,
                f"{case.radius:g}",
                entry.solver,
                f"{entry.cpu:.2f}",
                f"{entry.wall:.2f}",
                f"{entry.objective:.7f}",
                f"{max(error, 0.0):.1e}",
                gap,
                ratio,
            )
        )
        print(f"| {' | '.join(rows[-1])} |", flush=True)
    return rows


def page(rows: list[tuple[str, ...]]) -> str:
    """The table with the words that go with it."""
    table = [HEADER, ("---",) * len(HEADER), *rows]
    body = "\n".join("| " + " | ".join(row) + " |" for row in table)
    return f"""# Training polynomial networks

Written by `examples/benchmarks/polynomial.py`. Comparisons in one process, one BLAS thread, lam = 0.01. *Error*: of a
point's exact objective to the best lower bound proved by any of the solvers, relative; *certified gap* is what the
multipliers of that solver prove after `evaluate`; *ratio* is CPU seconds over those of column generation, compilation
by cvxpy included. Points of generic solvers are repaired to feasible ones first. Load of the machine at the end:
{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.

{body}
"""


def main() -> None:
    """Run the cases and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="n,d instead of the cases of the table")
    parser.add_argument("--solvers", nargs="*", help="generic solvers for --rows")
    parser.add_argument("--large", action="store_true", help="the cases without a generic solver as well")
    parser.add_argument("--time-limit", type=float, default=600.0, help="seconds for each run")
    parser.add_argument("--write", type=Path, help="file for the table")
    arguments = parser.parse_args()
    cases = CASES + (LARGE if arguments.large else ())
    if arguments.rows:
        n, d = (int(part) for part in arguments.rows.split(","))
        cases = (Case(n, d, generic=tuple(arguments.solvers or ())),)
    for name in ("column_generation", "clarabel"):  # imports
        solve(program_of(Case(10, 2)), solver=name, tol=1e-3)
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    rows = [row for case in cases for row in lines_of(case, case.generic, arguments.time_limit)]
    if arguments.write is not None:
        arguments.write.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()

"""
How far from the global optimum?
================================

Weight decay training of shallow ReLU networks to a certified global gap, on synthetic data, servo and machine:
objective, lower bound for every width, and the best of a hundred local trainings beside them.

``python examples/reproduce_global_gap.py`` prints the table of ``docs/results/global_gap.md``; ``--write`` stores it.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from convexnn import DatasetError, SafeSNNRegressor, global_lam_max, train_global
from convexnn.datasets import fetch_machine, fetch_servo
from convexnn.global_gap.descent import descend
from convexnn.global_gap.training_rows import TrainingRows
from convexnn.patterns import ActivationPatterns

HEADER = (
    "| data | n | columns | lam / lam_max | objective | lower bound | global gap % | units | CPU s "
    "| Adam + convex step % above | best / median of 100 local trainings, % above | below the bound |\n"
    "|-|-|-|-|-|-|-|-|-|-|-|-|"
)


def teacher(n, d, seed=1):
    """Inputs with ``d - 1`` features (the bias is the last column) and noisy targets of four random units."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d - 1))
    A = rng.standard_normal((4, d))
    y = np.maximum(np.c_[X, np.ones(n)] @ A.T, 0) @ rng.standard_normal(4)
    return X, (y - y.mean()) / y.std() + 0.3 * rng.standard_normal(n)


def standardized(bunch):
    """Features and targets with mean zero and variance one; constant features are dropped."""
    X, y = np.asarray(bunch.data, dtype=float), np.asarray(bunch.target, dtype=float)
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()


def local_trainings(X, y, lam, runs=100, units=20):
    """Objectives at which L-BFGS ends from random starts."""
    rng, n = np.random.default_rng(0), len(X)
    rows = TrainingRows.of(X, y, None)
    everywhere = ActivationPatterns(np.ones((len(rows.distinct.X), 1), dtype=bool))
    structure = rows.program(everywhere, lam).structure()
    ends = []
    for _ in range(runs):
        W, v = descend(structure, lam, rng.normal(size=(units, X.shape[1] + 1)), rng.normal(size=units) / units, 500)
        raw = np.maximum(np.c_[X, np.ones(n)] @ W.T, 0) @ v
        residual = raw - y - (raw - y).mean()
        ends.append(float(np.mean(residual**2) + lam * ((W**2).sum() + (v**2).sum())))
    return np.sort(ends)


def row(name, X, y, share, tol):
    """One line of the table."""
    lam = share * global_lam_max(X, y, tol=1e-3, time_limit=60)
    began = time.process_time()
    found = train_global(X, y, lam, tol=tol, time_limit=300, random_state=0)
    seconds = time.process_time() - began
    usual = SafeSNNRegressor(30, regularizer="l2", lam=lam, random_state=0).fit(X, y).objective_
    ends = local_trainings(X, y, lam)
    above = 100 * (np.array([usual, ends[0], np.median(ends)]) / found.lower_bound - 1)
    return (
        f"| {name} | {len(X)} | {X.shape[1] + 1} | {share:g} | {found.objective:.6f} | {found.lower_bound:.6f} "
        f"| {100 * found.gap:.3f} | {len(found.network.v)} | {seconds:.1f} | {above[0]:.2f} "
        f"| {above[1]:.2f} / {above[2]:.2f} | {int((ends < found.lower_bound).sum())} |"
    )


def cases():
    """Names, data and shares of the largest useful weight."""
    for d in (2, 3, 4, 5):
        yield f"synthetic, {d - 1} features", *teacher(100, d), (0.01, 0.05, 0.2)
    for name, fetch, shares in (("servo", fetch_servo, (0.05, 0.2)), ("machine", fetch_machine, (0.05, 0.2))):
        try:
            yield name, *standardized(fetch()), shares
        except DatasetError as error:
            print(f"{name} is left out: {error}")


def main():
    """Print the table, and store it when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="store docs/results/global_gap.md")
    parser.add_argument("--tol", type=float, default=1e-3, help="relative global gap at which to stop")
    options = parser.parse_args()
    lines = [HEADER]
    print(HEADER)
    for name, X, y, shares in cases():
        for share in shares:
            lines.append(row(name, X, y, share, options.tol))
            print(lines[-1], flush=True)
    if options.write:
        page = Path(__file__).resolve().parents[1] / "docs" / "results" / "global_gap.md"
        page.write_text(TEXT.format(table="\n".join(lines), tol=options.tol), encoding="utf-8")


TEXT = """# Global gap: results

Written by `examples/reproduce_global_gap.py --write`. Weight decay training with squared loss; `columns` counts
the bias; `lam_max` is `global_lam_max`, from which on the best constant is optimal. `train_global` stops at a
relative gap of {tol:g} or after 300 s. The last three columns say how much the usual fit (Adam, then the convex
program on its patterns) and 100 local trainings (L-BFGS, 20 units) lie above the lower bound, and how many of them
lie below it, which would be a contradiction. CPU seconds are those of `train_global` alone, on a busy machine.

{table}

Reading: on these sizes local training is close to the optimum at moderate weights and some per cent off at small ones;
what is new is the proof. The bound holds for every width.
"""

if __name__ == "__main__":
    main()

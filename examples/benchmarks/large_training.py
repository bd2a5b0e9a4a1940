"""
Training with many rows
=======================

How do time and memory grow with the number of rows? The l2-regularized ReLU program with 100 sampled patterns (200
cones with both signs) on 20 inputs, solved by passes over the rows, to a verified relative gap. With a GPU that torch
sees, every line is run on it as well.

    python examples/benchmarks/large_training.py            # 10 000 and 100 000 rows
    python examples/benchmarks/large_training.py 1000000    # other sizes
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from convexnn.patterns import sample
from convexnn.program import evaluate
from convexnn.restrictions import ReluGroupLasso
from convexnn.solvers.first_order import Computing, solve_first_order

HEADER = """| rows | device | sums | status | objective | gap | violation | rounds | CPU s | wall s | peak GiB |
|---:|---|---|---|---:|---:|---:|---:|---:|---:|---:|"""


def data(n: int, d: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian inputs, targets of a network of ten units with noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    W, b, v = rng.standard_normal((10, d)) / np.sqrt(d), 0.5 * rng.standard_normal(10), rng.standard_normal(10)
    y = np.maximum(X @ W.T + b, 0) @ v
    return X, (y - y.mean()) / y.std() + 0.1 * rng.standard_normal(n)


def line(program: ReluGroupLasso, device: str, dtype: str, tol: float) -> str:
    """Solve once and describe the run."""
    computing = Computing(device=device, dtype=dtype)
    cpu, wall = time.process_time(), time.perf_counter()
    proposal = solve_first_order(program, tol=tol, computing=computing)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    s = evaluate(program, proposal, seconds=wall, tol=tol)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    n = len(program.structure().X)
    return (
        f"| {n} | {device} | {dtype} | {s.status} | {s.objective:.6f} | {s.gap:.1e} | {s.violation:.1e} "
        f"| {s.iterations} | {cpu:.1f} | {wall:.1f} | {peak:.2f} |"
    )


def main() -> None:
    """Print one line a size, a device and an arithmetic."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--patterns", type=int, default=100)
    parser.add_argument("--lam", type=float, default=1e-2)
    parser.add_argument("--tol", type=float, default=1e-3)
    options = parser.parse_args()
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    print(HEADER)
    for n in options.rows:
        X, y = data(n)
        program = ReluGroupLasso(X, y, sample(X, options.patterns, random_state=0), options.lam)
        for device in devices:
            for dtype in ("float64", "float32"):
                print(line(program, device, dtype, options.tol), flush=True)


if __name__ == "__main__":
    main()

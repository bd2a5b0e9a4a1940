"""
Bounds of networks over whole regions
=====================================

How much faster is the reduced dual of `region_bound` than the semidefinite program of the paper in cvxpy? One process,
one thread; CPU seconds of the peers include compilation by cvxpy. Random networks (Xavier weights, h = 3d, the unit
ball), the same program for all: method "sdp". "verified gap" is the distance to a lower bound from the solver's moments
by Scarf's formula, which knows nothing of the solver; the value of a peer is compared with ours.

    python examples/benchmarks/region_bounds.py                      # minutes, most of them in the peers
    python examples/benchmarks/region_bounds.py --alone              # ours only
    python examples/benchmarks/region_bounds.py --write docs/results/region_bounds.md
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

from convexnn.regions.newton import best_majorants
from convexnn.regions.reference import dual_problem, primal_problem
from convexnn.regions.ridges import Units, ridges

HEADER = (
    "d",
    "h",
    "network",
    "CPU s",
    "steps",
    "bound",
    "verified gap",
    "peer",
    "CPU s of the peer",
    "its value",
    "ratio",
)
PEERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "Clarabel, dual": (dual_problem, {"solver": "CLARABEL"}),
    "SCS, primal, 1e-4": (primal_problem, {"solver": "SCS", "eps_abs": 1e-4, "eps_rel": 1e-4}),
    "SCS, primal, 1e-6": (primal_problem, {"solver": "SCS", "eps_abs": 1e-6, "eps_rel": 1e-6}),
}
CASES = (
    (20, "no biases", ("Clarabel, dual", "SCS, primal, 1e-4")),
    (20, "biases", ("Clarabel, dual",)),
    (20, "scaled units", ()),
    (40, "no biases", ("SCS, primal, 1e-4", "SCS, primal, 1e-6")),
    (40, "biases", ("SCS, primal, 1e-4",)),
    (40, "scaled units", ()),
    (100, "biases", ()),
    (200, "no biases", ()),
    (200, "biases", ()),
    (200, "scaled units", ()),
)


def network(d: int, kind: str, seed: int = 0) -> Units:
    """Xavier weights; "scaled units" are the network with biases, unit i multiplied and divided by 1e-8 to 1e8."""
    rng = np.random.default_rng([seed, d])
    h = 3 * d
    W, c = rng.standard_normal((h, d)) * np.sqrt(2 / (d + h)), rng.standard_normal(h) * np.sqrt(2 / (h + 1))
    b = (kind != "no biases") * 0.2 * rng.standard_normal(h)
    s = 10.0 ** rng.uniform(-8, 8, h) if kind == "scaled units" else np.ones(h)
    return Units(s[:, None] * W, s * b, c / s, 0.0, "ball")


def scarf(units: Units, mean: np.ndarray, second: np.ndarray) -> float:
    """Largest mean of the network under first and second moments, unit by unit: a lower bound of the program."""
    size = max(float(np.trace(second)), 1.0)
    mean, second = mean / np.sqrt(size), second / size
    m = units.weights @ mean
    s = np.einsum("gi,ij,gj->g", units.weights, second, units.weights) + 2 * units.biases * m + units.biases**2
    m, c = m + units.biases, units.outer
    return float(np.where(c > 0, 0.5 * c * (m + np.sqrt(s)), c * np.maximum(m, 0)).sum())


def rows(d: int, kind: str, peers: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Ours first, then every peer on the same program."""
    units = network(d, kind)
    begin = time.process_time()
    found = best_majorants(ridges(units, tight=False))
    own = time.process_time() - begin
    gap = (found.bound - scarf(units, found.point, found.second_moments)) / abs(found.bound)
    head = (str(d), str(3 * d), kind, f"{own:.3f}", str(found.iterations), f"{found.bound:.7f}", f"{gap:.1e}")
    table = [] if peers else [(*head, "", "", "", "")]
    for name in peers:
        build, options = PEERS[name]
        begin = time.process_time()
        value = build(units)[0].solve(**options)
        spent = time.process_time() - begin
        table.append((*head, name, f"{spent:.1f}", f"{value:.7f}", f"{spent / own:.0f}"))
    return table


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Region bounds against generic solvers", allow_abbrev=False)
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument("--write", type=Path, help="write the table to this markdown file")
    options = parser.parse_args(arguments)
    rows(5, "biases", ("Clarabel, dual",))  # imports and first calls are not measured
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "-|" * len(HEADER)]
    print(*lines, sep="\n")
    for d, kind, peers in CASES:
        for row in rows(d, kind, () if options.alone else peers):
            lines.append("| " + " | ".join(row) + " |")
            print(lines[-1], flush=True)
    if options.write:
        before, mark, rest = options.write.read_text(encoding="utf-8").partition("<!-- table -->\n")
        _, end, after = rest.partition("<!-- end of table -->\n")
        table = "\n".join(lines)
        options.write.write_text(f"{before}{mark}\n{table}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()

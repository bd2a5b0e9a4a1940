"""
Is any certifier ever wrong?
============================

Thousands of random networks that are meant to hurt: one to three hidden layers of one to twenty units, dead, constant,
duplicated and always-active units, scales over six decades, leaky slopes, boxes, balls, clipped balls, single points.
Every bound is compared with values that the network attains, in rational arithmetic and without any tolerance, and, up
to ten hidden units, with the maximum by enumeration. Printed: the smallest distance of every method to both, as a share
of the numbers that meet in the outputs (negative: the method is wrong), and how often it is tight.

    python examples/benchmarks/certifier_soundness.py --networks 2000
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from convexnn.exceptions import CertificateError
from convexnn.propagation import Effort, crown_bounds
from convexnn.verification.exact import EXACT, exact_values
from convexnn.verification.exact_numbers import float_up, fraction, rational
from convexnn.verification.registry import METHODS, get_certifier
from tests.certifier_cases import attained, corrupted, random_case
from tests.relu_truth import exact_max
from tests.test_certifier_soundness import DEAR, EFFORT, size_of

HEADER = """| method | bounds | -attained | -truth | tight | -exact bound | read/refused | corrupted -attained |
|---|---:|---:|---:|---:|---:|---:|---:|"""
TIGHT = 1e-6  # a bound this close to the truth, relative to the sizes, counts as tight


class Row:
    """What has been seen of one method."""

    def __init__(self) -> None:
        self.bounds = self.tight = self.known = self.corrupted = self.refused = 0
        self.attack = self.truth = self.exact = self.bad = np.inf
        self.seconds = 0.0

    def see(self, bounds, values, truth, scale) -> None:
        """Distances of the bounds of one query to what is attained (rational) and to the truth."""
        self.bounds += len(bounds)
        if values is not None:
            self.attack = min(self.attack, below(bounds, values) / scale)
        known = np.isfinite(truth)
        if known.any():
            gap = (bounds - truth)[known] / scale
            self.truth = min(self.truth, float(gap.min()))
            self.known += int(known.sum())
            self.tight += int((gap <= TIGHT).sum())


def below(bounds, values) -> float:
    """Smallest ``bound - value``, rounded up; inf bounds are far away."""
    gaps = [float_up(rational(float(b)) - v) for b, v in zip(bounds, values, strict=True) if np.isfinite(b)]
    return min(gaps, default=np.inf) if not np.isneginf(bounds).any() else -np.inf


def study(place: int, seed: int, table: dict[str, Row], dear: bool, hostile: bool) -> str:
    """One network: all methods, their exact checks, and corrupted multipliers."""
    case = random_case(np.random.default_rng([seed, place]), small=place % 2 == 0)
    query, rng, layers = case.query, np.random.default_rng([seed, place, 1]), crown_bounds(case.query)
    multipliers, bounds, points = {}, {}, []
    for name in METHODS:
        certifier = get_certifier(name)
        if (name in DEAR and not dear) or certifier.refusal(query) is not None:
            continue
        began = time.process_time()
        evidence = certifier.propose(query, EFFORT.get(name, Effort()), layers)
        bounds[name] = certifier.check(query, evidence.multiplier)
        table[name].seconds += time.process_time() - began
        multipliers[name] = evidence.multiplier
        points.append(evidence.points)
        if name == "milp":
            bounds["milp (word)"] = np.asarray(evidence.details["solver_bound"])
    scale, values = size_of(query), attained(query, rng, points)
    truth = exact_max(query) if case.small else np.full(query.n_rows, np.nan)
    for name, found in bounds.items():
        table[name].see(found, values if name in METHODS else None, truth, scale)
    for name in set(multipliers) & set(EXACT):
        exact = exact_values(query, name, multipliers[name])
        if exact is not None:
            table[name].exact = min(table[name].exact, below(bounds[name], exact) / scale)
            if values is not None:
                gap = min(float(fraction(e - v)) for e, v in zip(exact, values, strict=True))
                table[f"{name} (exact)"].see(np.array([float_up(e) for e in exact]), values, truth, scale)
                table[f"{name} (exact)"].attack = min(table[f"{name} (exact)"].attack, gap / scale)
    if hostile and values is not None:
        for name, own in multipliers.items():
            attack_check(name, query, own, values, rng, table[name], scale)
    return case.kind


def attack_check(name, query, own, values, rng, row: Row, scale: float) -> None:
    """Corrupted multipliers of one method."""
    for _, multiplier in corrupted(rng, own, {}):
        try:
            found = get_certifier(name).check(query, multiplier)
        except CertificateError:
            row.refused += 1
            continue
        row.corrupted += 1
        row.bad = min(row.bad, below(found, values) / scale)


def main() -> None:
    """Run the study and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--every", type=int, default=4, help="networks between those that the dear methods see")
    arguments = parser.parse_args()
    names = [*METHODS, "milp (word)", *(f"{name} (exact)" for name in EXACT)]
    table, began = {name: Row() for name in names}, time.process_time()
    for place in range(arguments.networks):
        study(place, arguments.seed, table, place % arguments.every == 0, place % 10 == 0)
    print(f"{arguments.networks} networks, seed {arguments.seed}, {time.process_time() - began:.0f} CPU s")
    print(HEADER)
    for name, row in table.items():
        if row.bounds:
            share = f"{row.tight}/{row.known}"
            bad = f"{row.corrupted}/{row.refused}"
            sizes = (row.attack, row.truth, row.exact, row.bad)
            attack, truth, exact, worst = (f"{size:.1e}" if np.isfinite(size) else "-" for size in sizes)
            print(f"| {name} | {row.bounds} | {attack} | {truth} | {share} | {exact} | {bad} | {worst} |")


if __name__ == "__main__":
    main()

"""Rows that are kept: one JSON line a run, so that an interrupted script goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from global_safety_parts.cases import METHODS, Case, bounds_of, outcome, unit_region, xavier
from global_safety_parts.starts import STARTS, start_accuracy

NAMES = ("attack", *METHODS)


class Rows:
    """A file of rows; several processes may add to it.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def all(self) -> list[dict[str, Any]]:
        """Every row so far."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def add(self, row: dict[str, Any]) -> None:
        """One more."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def training(self, cases: Iterable[Case]) -> dict[Case, list[dict[str, Any]]]:
        """Rows of each case by seed, cases without one left out."""
        found: dict[Case, dict[int, dict[str, Any]]] = {}
        for row in self.all():
            if row["kind"] == "training":
                found.setdefault(Case(**row["case"]), {})[row["seed"]] = row
        return {case: [found[case][seed] for seed in sorted(found[case])] for case in cases if case in found}

    def known(self, **wanted: Any) -> dict[str, Any] | None:
        """The last row with these values."""
        return next((row for row in reversed(self.all()) if all(row.get(k) == v for k, v in wanted.items())), None)


def measured(rows: Rows, wanted: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row of this name, measured where it is not known yet."""
    known = rows.known(**wanted)
    if known is not None:
        return known
    cpu = time.process_time()
    found = measure()
    row = {**wanted, **found, "spent": time.process_time() - cpu}
    rows.add(row)
    return row


def run_jobs(rows: Rows, cases: list[Case], seeds: int, deadline: float) -> None:
    """Seed by seed, case by case, until the time is over; what is known is not run again."""
    for seed in range(seeds):
        for case in cases:
            if time.monotonic() > deadline:
                return
            wanted = {"kind": "training", "case": asdict(case), "seed": seed}
            row = measured(rows, wanted, lambda: outcome(case, seed))  # noqa: B023
            print(f"{case.label} seed {seed}: {row['accuracy']:.4f} (start {row['start']:.4f}), {row['cpu']:.1f} s",
                  flush=True)  # fmt: skip


def run_starts(rows: Rows, sizes: Iterable[int], seeds: int) -> None:
    """Accuracy of every designed start before training."""
    for name in STARTS:
        for d in sizes:
            for seed in range(seeds):
                wanted = {"kind": "start", "name": name, "d": d, "seed": seed}
                measured(rows, wanted, lambda: {"accuracy": start_accuracy(name, d, seed)})  # noqa: B023


def xavier_bounds(rows: Rows, norm: str, d: int, seed: int) -> dict[str, float]:
    """Every bound of one random network."""
    wanted = {"kind": "random", "norm": norm, "d": d, "seed": seed}
    return measured(rows, wanted, lambda: bounds_of(xavier(d, seed), unit_region(norm, d), METHODS))


def scaling(
    rows: Rows, norm: str, sizes: Iterable[int], seeds: int
) -> tuple[dict[int, dict[str, float]], dict[str, float]]:
    """Means of the bounds of random networks for every d, and the fitted exponents."""
    table = {}
    for d in sizes:
        found = [xavier_bounds(rows, norm, d, seed) for seed in range(seeds)]
        table[d] = {name: float(np.mean([row[name] for row in found])) for name in NAMES}
    logs = np.log([float(d) for d in table])
    fits = {name: np.polyfit(logs, np.log([table[d][name] for d in table]), 1)[0] for name in NAMES}
    return table, {name: float(slope) for name, slope in fits.items()}

"""The tables of the certification benchmark."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from certification_parts.measure import Row
from convexnn import certify

HEADER = (
    "case",
    "method",
    "points",
    "mean bound",
    "above attack",
    "certified",
    "CPU s",
    "wall s",
    "CPU ratio",
    "bound - ours",
)
COUNTS = (
    "case",
    "points",
    "clean",
    "attack (upper)",
    "certified",
    "CPU s / point",
    "wall s / clean point",
    "decided by",
)


@dataclass(frozen=True)
class Count:
    """What certify() says about the first points of a case."""

    case: str
    points: int
    clean: int
    robust: int
    certified: int
    cpu: float
    wall: float
    decided_by: Mapping[str, int]


@dataclass
class Run:
    """Everything measured; ``same`` maps a peer to our method that computes the same thing."""

    same: Mapping[str, str]
    rows: list[Row] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    missing: str = ""

    def own(self, case: str, method: str) -> Row | None:
        """Our row of a case."""
        return next((row for row in self.rows if row.case == case and row.method == method), None)

    def as_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rows = [row.as_record() for row in self.rows]
        return {"rows": rows, "counts": [asdict(count) for count in self.counts], "missing": self.missing}


def counted(case: Any, points: int) -> Count:
    """Run the cascade on the first points of a case, all rivals, at most 60 s a sample."""
    began, clock = time.process_time(), time.monotonic()
    report = certify(case.network, case.X[:points], case.y[:points], case.threat, random_state=0)
    cpu, wall, n = time.process_time() - began, time.monotonic() - clock, report.n_samples
    clean, counts = int((report.clean < 0).sum()), report.counts
    robust = n - counts["falsified"]
    return Count(
        case.name, n, clean, robust, counts["certified"], cpu / n, wall / max(clean, 1), dict(report.decided_by)
    )


def markdown(run: Run) -> str:
    """Both tables with what one has to know to read them."""
    load = os.getloadavg()[0]
    parts = [
        "# Certification of given networks",
        "Written by `examples/benchmarks/certification.py`: one process, one thread, load of the machine at the end "
        f"{load:.1f} on {os.cpu_count()} cores. One question a point, the runner-up against the true class; bounds are "
        "UPPER bounds on its margin over the threat set (l2: the ball; linf: the box cut to [0, 1]), certified below "
        "zero. *Above attack*: mean distance to a margin that projected gradients attain: the gap to the truth is at "
        "most that. *CPU ratio*: CPU seconds of the peer over those of our method that computes the same "
        "thing, on the same points; *bound - ours*: mean difference of the two. Peers are given the same "
        "pre-activation bounds and tolerance; their bounds are solvers' words, ours are recomputed with outward "
        "rounding.",
        _table(HEADER, [_line(run, row) for row in run.rows]),
        '## The cascade: `certify(..., method="auto")`, all rivals',
        "*attack (upper)* counts the points that no attack broke, an upper bound on the number that is robust; equal "
        "counts mean that every point is decided.",
        _table(COUNTS, [_count_line(count) for count in run.counts]),
    ]
    if run.missing:
        parts.append(run.missing)
    return "\n\n".join(parts) + "\n"


def _line(run: Run, row: Row) -> tuple[str, ...]:
    bounds, cpu, wall = np.array(row.bounds), np.mean(row.cpu), np.mean(row.wall)
    reached = run.own(row.case, "attack")
    above = np.mean(bounds - np.array(reached.bounds)[: row.points]) if reached is not None else np.nan
    ours = run.own(row.case, run.same.get(row.method, ""))
    ratio, difference = "", ""
    if ours is not None:
        shared = min(row.points, ours.points)
        ratio = f"{np.mean(row.cpu[:shared]) / np.mean(ours.cpu[:shared]):.3g}"
        difference = f"{np.mean(bounds[:shared] - np.array(ours.bounds)[:shared]):+.4f}"
    name = f"{row.method} (peer)" if row.peer else f"**{row.method}**"
    certified = f"{int((bounds < 0).sum())}"
    shown = "" if row.method == "attack" else f"{above:.4f}"
    return (
        row.case, name, str(row.points), f"{bounds.mean():.4f}", shown, certified, f"{cpu:.4f}", f"{wall:.4f}", ratio,
        difference,
    )  # fmt: skip


def _count_line(count: Count) -> tuple[str, ...]:
    who = ", ".join(f"{name} {number}" for name, number in sorted(count.decided_by.items(), key=lambda item: -item[1]))
    return (
        count.case, str(count.points), str(count.clean), str(count.robust), str(count.certified), f"{count.cpu:.4f}",
        f"{count.wall:.4f}", who,
    )  # fmt: skip


def _table(header: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    rule = tuple("---" for _ in header)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))

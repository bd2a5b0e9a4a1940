"""The tables of the certification benchmark."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from certification_parts.curves import HEADER as RACES
from certification_parts.curves import Race
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
INTRODUCTION = """\
Written by `examples/benchmarks/certification.py`: one process and one thread a run, several runs (each wrote the
lines it measured), load of the machine at the end of the last one {load:.1f} on {cores} cores: CPU seconds are
comparable within a case, wall seconds are not. One question a point, the runner-up against the true class; bounds are
UPPER bounds on its margin over the threat set (l2: the ball; linf: the box cut to [0, 1]), certified below zero.
*Above attack*: mean distance to a margin that projected gradients attain: the gap to the truth is at most that. *CPU
ratio*: CPU seconds of the peer over those of our method that computes the same thing, on the same points of the same
run (a peer that was given time for fewer points is compared on those); *bound - ours*: mean difference of the two.
Peers are given the same pre-activation bounds and tolerance; their bounds are solvers' words, ours are recomputed
with outward rounding."""
PEERS = """\
The program of Clarabel with *all units kept* is the one that was published, a little looser than the one with stable
units substituted; ours has further rows (products of units) where its first bound is well above what is attained. SCS
stops at its tolerance below the truth (`linf`): its value is no bound. The mixed-integer program of scipy and our
branch and bound take the same time on one hidden layer over boxes; only the latter is rigorous, and takes balls.
auto_LiRPA is release 0.3 of the package index, in double precision on the CPU; it needs names that numpy and torch
have moved since, which the script puts back.

*SDP-FO, jax_verify* is the published implementation (release 1.0 of the package index, under jax 0.4.13 with the names
that jax has moved put back and the gradient, which does not pass the eigenvalues, stopped before them):
its Adam, single precision, exact eigenvalues, boxes only, with the step sizes of our own
rewriting below, whose steps cost less than half. It compiles every question anew, which is part of the time; *without
compilation* takes off what a call with one step costs. With the measured lines above, ours is tighter in all cases and
175 to 406 times faster than the published implementation as called, 100 to 251 times without its compilation (86 in an
earlier run of the closest case), but only 31 to 68 times faster than our rewriting of it with as many steps."""
SDP_FO = """\
The first-order dual of Dathathri et al. (2020) with exact eigenvalues, all units kept as published, written for speed
(gradients by hand, one eigenpair from LAPACK: a third of a millisecond a step) and with the best step sizes of those
tried. Every step is a bound; the curve keeps the smallest. *CPU ratio*: its whole budget over our time. *Within*: on
how many points it gets that close to our bound at all, the mean step at which it does, and the ratio of CPU seconds
until then on these points. 15,000 steps are the number of its authors."""


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
    """Everything measured; ``same``: peer -> our method for the same thing; ``missing``: why a peer is not there."""

    same: Mapping[str, str]
    rows: list[Row] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    races: list[Race] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def own(self, case: str, method: str) -> Row | None:
        """Our row of a case."""
        return next((row for row in self.rows if row.case == case and row.method == method), None)

    def as_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rows = [row.as_record() for row in self.rows]
        races = [race.as_record() for race in self.races]
        counts = [asdict(count) for count in self.counts]
        return {"rows": rows, "counts": counts, "races": races, "missing": self.missing}


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


def markdown(run: Run, earlier: str = "") -> str:
    """The tables with what one has to know to read them; what an earlier file says and the run does not is kept."""
    parts = [
        "# Certification of given networks",
        INTRODUCTION.format(load=os.getloadavg()[0], cores=os.cpu_count()),
        _merged(earlier, HEADER, [_line(run, row) for row in run.rows], 2),
        PEERS,
        "## SDP-FO, step by step",
        SDP_FO,
        _merged(earlier, RACES, [race.line() for race in run.races], 2),
        '## The cascade: `certify(..., method="auto")`, all rivals',
        "*attack (upper)* counts the points that no attack broke, an upper bound on the number that is robust; equal "
        "counts mean that every point is decided.",
        _merged(earlier, COUNTS, [_count_line(count) for count in run.counts], 1),
    ]
    parts += [f"{why}." for name, why in run.missing.items() if why and name not in parts[2]]
    return "\n\n".join(parts) + "\n"


def _merged(earlier: str, header: tuple[str, ...], lines: list[tuple[str, ...]], keys: int) -> str:
    """A table of the new lines and of the earlier ones whose first cells are not among them; a case stays together."""
    fresh = {line[:keys] for line in lines}
    both = [line for line in _lines(earlier, header) if line[:keys] not in fresh] + lines
    cases = list(dict.fromkeys(line[0] for line in both))
    both.sort(key=lambda line: (not line[0].startswith("digits"), _place(line[0], cases), line[1].endswith("(peer)")))
    return _table(header, both)


def _place(case: str, cases: list[str]) -> tuple[str, int]:
    """Digits by name, the others in their order."""
    return (case, 0) if case.startswith("digits") else ("", cases.index(case))


def _lines(text: str, header: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Lines of the table with this header in a file."""
    found, inside = [], False
    for line in text.splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split("|")) if line.startswith("|") else ()
        inside = cells == header or (inside and len(cells) == len(header))
        if inside and cells != header and not cells[0].startswith("---"):
            found.append(cells)
    return found


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

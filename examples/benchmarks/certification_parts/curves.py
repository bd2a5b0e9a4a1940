"""SDP-FO step by step against our bound: its whole budget, and the first step at which it is close."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from certification_parts.measure import Row, measured
from certification_parts.sdp_fo import Curve, sdp_fo
from convexnn.propagation import Query

#: Steps: the tuned schedule, and the number of the authors (on one question: five seconds).
BUDGETS, FEW = (3000, 15_000), 1
#: Distances to our bound that are looked for on the curves.
CLOSE = (0.05, 0.01)
HEADER = (
    "case", "steps", "points", "SDP-FO", "sdp", "CPU s", "sdp CPU s", "CPU ratio",
    *(f"within {level:g}: points, steps, CPU ratio" for level in CLOSE), "at least as tight",
)  # fmt: skip


@dataclass(frozen=True)
class Race:
    """One budget on the questions of a case beside our bounds and seconds on the same ones.

    Attributes
    ----------
    reached : tuple of (distance, points, mean step, ratio of CPU seconds on these points)
    """

    case: str
    steps: int
    bounds: list[float]
    seconds: list[float]
    ours: list[float]
    our_seconds: list[float]
    reached: tuple[tuple[float, int, float, float], ...]

    def as_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def line(self) -> tuple[str, ...]:
        """One line of the table."""
        found, own = np.array(self.bounds), np.array(self.ours)
        seconds, our_seconds = np.mean(self.seconds), np.mean(self.our_seconds)
        close = [
            f"{n} of {len(own)}" + (f", {step:.0f}, {ratio:.3g}" if n else "") for _, n, step, ratio in self.reached
        ]
        return (
            self.case, f"{self.steps:,}", str(len(own)), f"{found.mean():.4f}", f"{own.mean():.4f}", f"{seconds:.3f}",
            f"{our_seconds:.4f}", f"{seconds / our_seconds:.3g}", *close, f"{int((found <= own).sum())} of {len(own)}",
        )  # fmt: skip


def races(case: str, queries: Sequence[Query], ours: Row, seconds: float) -> tuple[list[Row], list[Race]]:
    """Both budgets of SDP-FO, as rows of the large table and as curves against our bounds."""
    rows, found = [], []
    for steps in BUDGETS:
        curves: list[Curve] = []

        def bound(query: Query, steps: int = steps, curves: list[Curve] = curves) -> float:
            curves.append(sdp_fo(query, steps))
            return float(curves[-1].bounds[-1])

        asked = queries if steps == BUDGETS[0] else queries[:FEW]
        rows.append(measured(case, f"SDP-FO, {steps:,} steps", bound, asked, peer=True, seconds=seconds))
        found.append(_race(case, steps, rows[-1], curves, ours))
    return rows, found


def _race(case: str, steps: int, row: Row, curves: list[Curve], ours: Row) -> Race:
    n, reached = row.points, []
    for level in CLOSE:
        firsts = [curve.first_within(own + level) for curve, own in zip(curves, ours.bounds, strict=False)]
        hits = [(i, first) for i, first in enumerate(firsts) if first is not None]
        spent = sum(float(curves[i].seconds[first]) for i, first in hits)
        own = sum(ours.cpu[i] for i, _ in hits)
        step = float(np.mean([first + 1 for _, first in hits])) if hits else np.nan
        reached.append((level, len(hits), step, spent / own if hits else np.nan))
    return Race(case, steps, row.bounds, row.cpu, ours.bounds[:n], ours.cpu[:n], tuple(reached))

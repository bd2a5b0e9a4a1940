"""Progress of certification runs: a bar of rich on terminals, lines of the log elsewhere."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from convexnn.verification.verdict import STATUSES, Verdict

LOGGER = logging.getLogger("convexnn.progress")
PAUSE = 30.0  # seconds between two lines


@contextmanager
def reporting(verbose: int, total: int) -> Iterator[Callable[[Verdict], None]]:
    """Yield what to call after each verdict; nothing is shown for ``verbose=0``.

    A bar where stderr is a terminal; else a line of the log now and then, for log files.
    """
    if not verbose:
        yield _silent
        return
    from rich import console, progress

    screen = console.Console(stderr=True)
    if not screen.is_terminal:
        yield _Lines(total)
        return
    columns = (
        progress.TextColumn("certify"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[counts]}"),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    counts: Counter[str] = Counter()
    with progress.Progress(*columns, console=screen, transient=verbose < 2) as bar:
        job = bar.add_task("certify", total=total, counts="")

        def show(verdict: Verdict) -> None:
            counts[verdict.status] += 1
            bar.update(job, advance=1, counts="  ".join(f"{status} {counts[status]}" for status in STATUSES))

        yield show


class _Lines:
    """Logs how many verdicts there are, at most one line in so many seconds, and never for short runs."""

    def __init__(self, total: int, pause: float = PAUSE) -> None:
        self.total, self.pause, self.counts = total, pause, Counter[str]()
        self._next = time.monotonic() + pause

    def __call__(self, verdict: Verdict) -> None:
        """Count a verdict."""
        self.counts[verdict.status] += 1
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self.pause
            shares = ", ".join(f"{self.counts[status]} {status}" for status in STATUSES)
            LOGGER.info("certify: %d of %d samples, %s", self.counts.total(), self.total, shares)


def _silent(verdict: Verdict) -> None:
    del verdict

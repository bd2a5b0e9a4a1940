"""A progress bar for certification runs: rich, on terminals only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from convexnn.verification.verdict import STATUSES, Verdict


@contextmanager
def reporting(verbose: int, total: int) -> Iterator[Callable[[Verdict], None]]:
    """Yield what to call after each verdict; nothing is shown for ``verbose=0`` or where there is no terminal."""
    if not verbose:
        yield _silent
        return
    from rich import console, progress

    screen = console.Console(stderr=True)
    if not screen.is_terminal:
        yield _silent
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


def _silent(verdict: Verdict) -> None:
    del verdict

"""Progress of long runs: a rich bar where rich is installed, log records otherwise, silence by default."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from convexnn.training.options import Progress

LOGGER = logging.getLogger("convexnn")
Report = Callable[[Progress], None]


@contextmanager
def reporting(verbose: int, total: int, label: str) -> Iterator[Report]:
    """Yield the function to call after each evaluation.

    Parameters
    ----------
    verbose : int
        0 reports nothing.
    total : int
        Epochs of the whole run.
    label : str
    """
    if not verbose:
        yield _silent
        return
    try:
        from rich import progress as rich
    except ImportError:
        yield lambda now: LOGGER.info("%s: %s", label, _line(now))
        return
    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TextColumn("{task.fields[line]}"),
        rich.TimeElapsedColumn(),
    )
    with rich.Progress(*columns, transient=verbose < 2) as bar:
        task = bar.add_task(label, total=total, line="")
        yield lambda now: bar.update(task, completed=now.epoch, line=_line(now))


def _silent(now: Progress) -> None:
    del now


def _line(now: Progress) -> str:
    held_out = "" if now.validation_loss != now.validation_loss else f"  validation {now.validation_loss:.4g}"
    return f"objective {now.objective:.4g}{held_out}  best {now.best:.4g}"

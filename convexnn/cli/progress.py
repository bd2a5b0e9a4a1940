"""Signs of life: a spinner on a terminal, a line now and then in a log file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

#: Seconds until the first line in a log file; each pause is twice the one before, up to the last.
FIRST, LAST = 15.0, 300.0


class Heartbeat:
    """Writes one line after 15 s, 45 s, 105 s, ... and then every five minutes, while the body of ``with`` runs.

    Parameters
    ----------
    what : str
        What is going on.
    write : callable
        Takes a line.
    first, last : float
        Seconds of the first and the longest pause.
    """

    def __init__(self, what: str, write: Callable[[str], None], first: float = FIRST, last: float = LAST) -> None:
        self.what, self.write, self.pause, self.last = what, write, first, last
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="convexnn-heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        """Start counting."""
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop at once."""
        del kind, error, at
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._done.wait(self.pause):
            self.write(f"{self.what}: {time.monotonic() - self._began:.0f} s")
            self.pause = min(2.0 * self.pause, self.last)

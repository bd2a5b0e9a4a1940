"""The time limit of a run: whether another iteration fits, and a stop in the middle of something long."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


class TimeUpError(Exception):
    """The time limit has passed in the middle of something."""


@dataclass
class Clock:
    """Seconds since the run began, and the slowest iteration so far."""

    limit: float | None
    began: float = field(default_factory=time.perf_counter)
    last: float = field(default_factory=time.perf_counter)
    slowest: float = 0.0

    def tick(self) -> None:
        """An iteration ends."""
        now = time.perf_counter()
        self.slowest, self.last = max(self.slowest, now - self.last), now

    def expired(self) -> bool:
        """Whether another iteration would end after the limit."""
        return self.limit is not None and self.last + self.slowest - self.began > self.limit

    def pulse(self) -> None:
        """Stop whatever runs once the limit has passed."""
        if self.limit is not None and time.perf_counter() - self.began > self.limit:
            raise TimeUpError

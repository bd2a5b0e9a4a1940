"""What has been found out about one sample so far: the best bound of every row, the worst point, and who found them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation import Evidence
from convexnn.verification.combined import Part, combine
from convexnn.verification.verdict import Verdict

Array = NDArray[np.float64]


@dataclass(eq=False)
class Sample:
    """The state of one sample during a run; goes from worker to worker, so it holds plain values.

    Attributes
    ----------
    index, label : int
    clean : float
        Margin of the sample itself.
    rounding : array, shape (q,)
        Bounds on the rounding of float64 margins over the set.
    bounds : array, shape (q,)
        Best upper bound of every row.
    source : int array, shape (q,)
        Which of ``parts`` (or of ``names``) gave it, -1 for none.
    lower : float
        Largest margin found.
    point : array, shape (d,)
        Where it was found, strictly inside the set.
    worst_method : str
        Who found it.
    """

    index: int
    label: int
    clean: float
    rounding: Array
    bounds: Array
    source: NDArray[np.intp]
    lower: float = -np.inf
    point: Array = field(default_factory=lambda: np.empty(0))
    worst_method: str = "clean"
    names: list[str] = field(default_factory=list)
    sure: list[bool] = field(default_factory=list)
    parts: list[Part | None] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    stopped: str = ""

    @classmethod
    def start(cls, index: int, label: int, clean: float, rounding: Array) -> Sample:
        """Nothing is known but the clean margin."""
        q = len(rounding)
        return cls(index, label, clean, rounding, np.full(q, np.inf), np.full(q, -1, dtype=np.intp))

    @property
    def open_rows(self) -> NDArray[np.intp]:
        """Rivals that are not excluded yet, float64 rounding included."""
        return np.flatnonzero(~(self.bounds + self.rounding < 0))

    @property
    def falsified(self) -> bool:
        """Whether a point of the set has a margin >= 0."""
        return self.lower >= 0

    @property
    def decided(self) -> bool:
        """Whether nothing needs to be computed any more."""
        return self.falsified or not len(self.open_rows)

    @property
    def target(self) -> float:
        """A row below this number is excluded."""
        return float(np.nextafter(-self.rounding.max(), -np.inf))

    def take_point(self, value: float, point: Array, method: str) -> None:
        """A point strictly inside the set; the worst one is kept."""
        if value > self.lower:
            self.point, self.worst_method = point, method
            self.lower = float(value)  # last, so that an interrupt leaves no value without its point

    def take_bounds(self, rows: NDArray[np.intp], found: Array, method: str, sure: bool, part: Part | None) -> None:
        """Upper bounds of some rows; each row keeps its best one."""
        found = np.where(np.isnan(found), np.inf, found)
        better = found < self.bounds[rows]
        self.names.append(method)
        self.sure.append(sure)
        self.parts.append(part)
        self.source[rows[better]] = (
            len(self.names) - 1
        )  # before the bounds, so that an interrupt leaves none without source
        self.bounds[rows[better]] = found[better]

    def spend(self, stage: str, seconds: float) -> None:
        """Add to the time of a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def verdict(self) -> Verdict:
        """What is known, as a value."""
        certified = not len(self.open_rows) and not self.falsified
        status = "falsified" if self.falsified else "certified" if certified else "unknown"
        worst = int(np.argmax(self.bounds + self.rounding))
        sure = all(self.sure[i] for i in set(self.source.tolist()) if i >= 0)
        margin = float(np.nextafter(np.max(self.bounds + self.rounding), np.inf)) if not certified else self._proved()
        last = self.source.max() if certified else self.source[worst]
        return Verdict(
            index=self.index,
            label=self.label,
            status=status,
            clean=self.clean,
            margin=margin if sure else max(margin, self.lower),
            lower=self.lower,
            method=self.worst_method if self.falsified else self.names[last] if last >= 0 else "none",
            rigorous=sure or self.falsified,
            seconds=dict(self.seconds),
            reason=self._reason(worst) if status == "unknown" else "",
            counterexample=self.point if self.falsified else None,
            bounds=self.bounds.copy(),
            evidence=self._evidence(),
        )

    def _proved(self) -> float:
        """The largest sum of bound and rounding, rounded up but for what is below zero already."""
        value = np.max(self.bounds + self.rounding)
        return float(min(np.nextafter(value, np.inf), -np.finfo(float).smallest_subnormal))

    def _evidence(self) -> Evidence | None:
        kept = sorted({int(i) for i in self.source if i >= 0 and self.parts[i] is not None})
        parts = [part for part in (self.parts[i] for i in kept) if part is not None]
        return combine(parts, len(self.bounds)) if parts else None

    def _reason(self, worst: int) -> str:
        tried = self.names[self.source[worst]] if self.source[worst] >= 0 else ""
        gap = f"relaxation gap of {tried}" if tried else "no method gave a bound"
        return "; ".join([self.stopped or gap, *self.notes])

"""Robustness tables of repeated trials: medians and quantiles over the trials."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.certificates.records import as_frame, flat, write_csv
from convexnn.certificates.robustness import KINDS, RobustnessTable
from convexnn.exceptions import InvalidInputError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RobustnessTrials:
    """The same models, trained and tested several times, at the same radii.

    What is summarized over the T trials are the means over each trial's samples. A median of lower bounds is a lower
    bound on the median worst case, a median of upper bounds an upper bound; the same holds for every quantile.

    Attributes
    ----------
    tables : tuple of RobustnessTable
        One a trial, per-sample results included; trials may have different samples.
    """

    tables: tuple[RobustnessTable, ...]

    def __post_init__(self) -> None:
        """Refuse tables that do not speak of the same models, radii, norm and task."""
        object.__setattr__(self, "tables", tuple(self.tables))
        if not self.tables or not all(isinstance(table, RobustnessTable) for table in self.tables):
            raise InvalidInputError(f"Trials need one RobustnessTable or more, got {self.tables!r}.")
        first = self.tables[0]
        for number, table in enumerate(self.tables):
            for label in ("names", "norm", "task"):
                if getattr(table, label) != getattr(first, label):
                    raise InvalidInputError(
                        f"Trial {number} has {label} {getattr(table, label)!r}, the first {getattr(first, label)!r}."
                    )
            if not np.array_equal(table.radii, first.radii):
                raise InvalidInputError(
                    f"Trial {number} has radii {table.radii.tolist()}, the first {first.radii.tolist()}."
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The models, m of them."""
        return self.tables[0].names

    @property
    def radii(self) -> Array:
        """Increasing, input units, shape (r,)."""
        return self.tables[0].radii

    @property
    def norm(self) -> str:
        """Norm of the perturbation."""
        return self.tables[0].norm

    @property
    def task(self) -> str:
        """``"regression"`` or ``"classification"``."""
        return self.tables[0].task

    def values(self, kind: str) -> Array:
        """Mean errors of every trial: ``"clean"`` (T, m), ``"attacked"`` or ``"certified"`` (T, m, r).

        ``"lipschitz"`` gives the certified Lipschitz bounds (l2), shape (T, m).
        """
        if kind == "lipschitz":
            return np.array([table.lipschitz for table in self.tables])
        if kind not in KINDS:
            raise InvalidInputError(f"kind must be one of {(*KINDS, 'lipschitz')}, got {kind!r}.")
        return np.array([table.mean(kind) for table in self.tables])

    def median(self, kind: str) -> Array:
        """Median over the trials: (m,), or (m, r) where ``kind`` depends on the radius."""
        return np.asarray(np.median(self.values(kind), axis=0))

    def quantiles(self, kind: str, q: Sequence[float] = (0.25, 0.75)) -> Array:
        """Quantiles over the trials (interpolated linearly), one after the other: (len(q), m) or (len(q), m, r)."""
        levels = np.asarray(q, dtype=float)
        if levels.ndim != 1 or not ((levels >= 0) & (levels <= 1)).all():
            raise InvalidInputError(f"Quantiles are numbers between 0 and 1, got {q!r}.")
        return np.asarray(np.quantile(self.values(kind), levels, axis=0))

    def to_columns(self) -> dict[str, list[Any]]:
        """Mean errors as columns: one row a trial, model and radius."""
        means = {kind: self.values(kind) for kind in ("clean", "lipschitz")}
        return flat(
            trial=np.arange(len(self.tables))[:, None, None],
            model=np.array(self.names)[:, None],
            norm=self.norm,
            radius=self.radii,
            clean=means["clean"][:, :, None],
            attacked=self.values("attacked"),
            certified=self.values("certified"),
            lipschitz=means["lipschitz"][:, :, None],
        )

    def to_frame(self) -> Any:
        """Mean errors as a :class:`pandas.DataFrame`, one row a trial, model and radius; needs pandas."""
        return as_frame(self.to_columns())

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the mean errors with all digits, one row a trial, model and radius; returns the path."""
        return write_csv(self.to_columns(), path)

    def __repr__(self) -> str:
        """Sizes on one line."""
        radii = ", ".join(f"{radius:g}" for radius in self.radii)
        return f"RobustnessTrials({', '.join(self.names)}; {self.norm} radii {radii}; {len(self.tables)} trials)"


def stack_trials(tables: Sequence[RobustnessTable]) -> RobustnessTrials:
    """Tables of repeated trials as one value with medians and quantiles.

    Parameters
    ----------
    tables : sequence of RobustnessTable
        Of the same models, radii, norm and task.

    Returns
    -------
    RobustnessTrials

    Raises
    ------
    InvalidInputError
        When the tables do not fit together.
    """
    return RobustnessTrials(tuple(tables))

"""The objective of a fit against time, above its lower bound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from convexnn.exceptions import InvalidInputError
from convexnn.plotting.style import PALETTE, axes, quiet, spans_decades


class ObjectiveDisplay:
    """Objective of the best network so far against time, stage by stage, above a lower bound.

    Parameters
    ----------
    seconds : array, shape (k,)
    objective : array, shape (k,)
        Never rises in a history of :func:`convexnn.refinement.refine`.
    stages : sequence of str, length k
    lower_bound : float
        Lower bound on the optimum of the last program, ``-inf`` when unknown.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    line_ : matplotlib Line2D
    """

    def __init__(
        self, seconds: ArrayLike, objective: ArrayLike, stages: Sequence[str], lower_bound: float = -math.inf
    ) -> None:
        self.seconds, self.objective = np.asarray(seconds, dtype=float), np.asarray(objective, dtype=float)
        self.stages, self.lower_bound = tuple(stages), float(lower_bound)
        if not (self.seconds.shape == self.objective.shape == (len(self.stages),)) or not self.stages:
            raise InvalidInputError(
                f"seconds, objective and stages must have one equal length, got {self.seconds.shape}, "
                f"{self.objective.shape} and {len(self.stages)}."
            )

    @classmethod
    def from_history(
        cls, history: Sequence[Mapping[str, Any]], lower_bound: float = -math.inf, *, ax: Any = None
    ) -> ObjectiveDisplay:
        """Draw the entries ``stage``, ``objective``, ``seconds`` of a refinement or a fitted estimator."""
        seconds, objective, stages = ([entry[key] for entry in history] for key in ("seconds", "objective", "stage"))
        return cls(seconds, objective, stages, lower_bound).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> ObjectiveDisplay:
        """Draw ``history_`` and the lower bound of ``solution_`` of a fitted estimator."""
        solution = getattr(estimator, "solution_", None)
        bound = -math.inf if solution is None else solution.lower_bound
        return cls.from_history(estimator.history_, bound, ax=ax)

    def plot(self, ax: Any = None) -> ObjectiveDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes(ax, (6.4, 3.8))
        (self.line_,) = self.ax_.step(
            self.seconds, self.objective, where="post", color=PALETTE[0], marker="o", markersize=5, label="objective"
        )
        if math.isfinite(self.lower_bound):
            label = "lower bound of the last program"
            self.ax_.axhline(self.lower_bound, color=PALETTE[1], linestyle=(0, (4, 2)), label=label)
        middle = 0.5 * (self.seconds.min() + self.seconds.max())
        for x, y, stage in zip(self.seconds, self.objective, self.stages, strict=True):
            side, shift = ("right", -6) if x > middle else ("left", 6)
            name = stage.replace("_", " ")
            self.ax_.annotate(name, (x, y), xytext=(shift, 6), textcoords="offset points", ha=side, fontsize="small")
        if spans_decades(self.objective):
            self.ax_.set_yscale("log")
        self.ax_.margins(x=0.12, y=0.15)
        self.ax_.set_xlabel("seconds")
        self.ax_.set_ylabel("training objective")
        self.ax_.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize="small", borderaxespad=0.2
        )
        quiet(self.ax_)
        return self

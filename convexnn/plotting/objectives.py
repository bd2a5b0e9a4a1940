"""The objective of a fit against time above what is proved about the optimum, and the gap between the two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.plotting.style import PALETTE, axes, quiet, spans_decades

Array = NDArray[np.float64]

FLOOR = 1e-16
SCOPES = {"global": "to networks of every width", "patterns": "to networks with these patterns"}


class ObjectiveDisplay:
    """Objective of the best network so far against time, above a lower bound: the optimum lies between the two.

    Parameters
    ----------
    seconds : array, shape (k,)
    objective : array, shape (k,)
        Never rises in a history of :func:`convexnn.refinement.refine`.
    stages : sequence of str, length k
    lower_bound : float or array, shape (k,)
        Lower bound on the optimum: of the last program (one number), or as far as it was proved at every step;
        ``-inf`` when unknown.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    line_ : matplotlib Line2D
    """

    def __init__(
        self, seconds: ArrayLike, objective: ArrayLike, stages: Sequence[str], lower_bound: Any = -math.inf
    ) -> None:
        self.seconds, self.objective = np.asarray(seconds, dtype=float), np.asarray(objective, dtype=float)
        self.stages, self.lower_bound = tuple(stages), np.asarray(lower_bound, dtype=float)
        if not (self.seconds.shape == self.objective.shape == (len(self.stages),)) or not self.stages:
            raise InvalidInputError(
                f"seconds, objective and stages must have one equal length, got {self.seconds.shape}, "
                f"{self.objective.shape} and {len(self.stages)}."
            )
        if self.lower_bound.shape not in ((), self.seconds.shape):
            raise InvalidInputError(
                f"lower_bound must be a number or one for each of {len(self.stages)} steps, "
                f"got shape {self.lower_bound.shape}."
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

    @classmethod
    def from_result(cls, result: Any, *, ax: Any = None) -> ObjectiveDisplay:
        """Draw the rounds of :func:`convexnn.train_global` or its Lipschitz twin: network and bound close in."""
        rounds = _rounds(result)
        seconds, objective, bound = (_column(rounds, name) for name in ("seconds", "objective", "lower_bound"))
        return cls(seconds, objective, [""] * len(rounds), bound).plot(ax=ax)

    def plot(self, ax: Any = None) -> ObjectiveDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes(ax, (6.4, 3.8))
        (self.line_,) = self.ax_.step(
            self.seconds, self.objective, where="post", color=PALETTE[0], marker="o", markersize=5, label="objective"
        )
        self._draw_bound()
        middle = 0.5 * (self.seconds.min() + self.seconds.max())
        for x, y, stage in zip(self.seconds, self.objective, self.stages, strict=True):
            side, shift = ("right", -6) if x > middle else ("left", 6)
            name = stage.replace("_", " ")
            if not name:
                continue
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

    def _draw_bound(self) -> None:
        if not np.isfinite(self.lower_bound).any():
            return
        style = {"color": PALETTE[1], "linestyle": (0, (4, 2))}
        if self.lower_bound.ndim == 0:
            self.ax_.axhline(float(self.lower_bound), label="lower bound of the last program", **style)
            return
        known = np.isfinite(self.lower_bound)
        seconds, bound, objective = self.seconds[known], self.lower_bound[known], self.objective[known]
        self.ax_.step(seconds, bound, where="post", label="proved lower bound", **style)
        self.ax_.fill_between(seconds, bound, objective, step="post", color=PALETTE[5], alpha=0.2, linewidth=0)


class GapDisplay:
    """Relative gap between the best network so far and what is proved about the optimum, against time.

    Parameters
    ----------
    seconds : array, shape (k,)
    gap : array, shape (k,)
        Nonnegative, ``inf`` where nothing is proved yet (not drawn).
    tol : float or None
        The gap that was asked for, drawn as a line.
    scope : {"global", "patterns"}
        What the bound is about: networks of every width, or the program with its activation patterns.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    line_ : matplotlib Line2D
    """

    def __init__(
        self, seconds: ArrayLike, gap: ArrayLike, *, tol: float | None = None, scope: str = "patterns"
    ) -> None:
        self.seconds, self.gap = np.asarray(seconds, dtype=float), np.asarray(gap, dtype=float)
        self.tol, self.scope = tol, scope
        if self.seconds.ndim != 1 or not len(self.seconds) or self.gap.shape != self.seconds.shape:
            raise InvalidInputError(
                f"seconds and gap must be lists of one length, got {self.seconds.shape} and {self.gap.shape}."
            )
        if not (self.gap >= 0).all():
            raise InvalidInputError("Gaps must not be negative: the bound would exceed the objective.")
        if scope not in SCOPES:
            raise InvalidInputError(f"scope must be one of {tuple(SCOPES)}, got {scope!r}.")

    @classmethod
    def from_result(cls, result: Any, *, tol: float | None = None, ax: Any = None) -> GapDisplay:
        """Draw the rounds of :func:`convexnn.train_global` or its Lipschitz twin; the gap is global."""
        rounds = _rounds(result)
        return cls(_column(rounds, "seconds"), _column(rounds, "gap"), tol=tol, scope="global").plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> GapDisplay:
        """Draw the stages of a fitted estimator against the lower bound of its last program (these patterns)."""
        solution = getattr(estimator, "solution_", None)
        if solution is None or not math.isfinite(solution.lower_bound):
            raise InvalidInputError(f"{type(estimator).__name__} holds no solution with a lower bound.")
        history, low = estimator.history_, solution.lower_bound
        objective = np.array([entry["objective"] for entry in history], dtype=float)
        gap = np.maximum(objective - low, 0.0) / np.maximum(objective, np.finfo(float).tiny)
        return cls([entry["seconds"] for entry in history], gap, tol=estimator.tol).plot(ax=ax)

    def plot(self, ax: Any = None) -> GapDisplay:
        """Draw on ``ax``, or on a new figure; gaps of zero are drawn at the smallest positive float64 precision."""
        self.figure_, self.ax_ = axes(ax, (6.4, 3.8))
        known = np.isfinite(self.gap)
        shown = np.maximum(self.gap[known], FLOOR)
        (self.line_,) = self.ax_.step(
            self.seconds[known],
            shown,
            where="post",
            color=PALETTE[0],
            marker="o",
            markersize=5,
            label=SCOPES[self.scope],
        )
        if self.tol is not None:
            self.ax_.axhline(self.tol, color=PALETTE[1], linestyle=(0, (4, 2)), label=f"asked for: {self.tol:g}")
        self.ax_.set_yscale("log")
        self.ax_.set_xlabel("seconds")
        self.ax_.set_ylabel("relative gap")
        self.ax_.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize="small", borderaxespad=0.2
        )
        quiet(self.ax_)
        return self


def _rounds(result: Any) -> Sequence[Any]:
    """The rounds of a result, or the result itself where it was found before the first one; they have one shape."""
    return list(result.history) or [result]


def _column(rounds: Sequence[Any], name: str) -> Array:
    return np.array([getattr(row, name) for row in rounds], dtype=float)

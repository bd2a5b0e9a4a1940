"""Errors against the radius of the perturbation, from below and from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.certificates.robustness import KINDS, RobustnessTable, robustness_table
from convexnn.certificates.trials import RobustnessTrials
from convexnn.exceptions import InvalidInputError
from convexnn.plotting.style import GRAY, PALETTE, axes, quiet, spans_decades

Array = NDArray[np.float64]

#: Bands of more models than this would cover one another.
SHADED = 2

DASHES = (0, (4, 2))

QUANTITIES = {"regression": "mean squared error", "classification": "fraction misclassified"}


class RobustnessCurveDisplay:
    """Mean error against the radius: attacked from below, certified from above.

    The worst case lies in the band between the two (shaded for one or two models). Repeated trials are drawn as
    medians with bands of quantiles around each curve instead.

    Parameters
    ----------
    radii : array, shape (r,)
        Increasing, nonnegative.
    attacked : array, shape (m, r)
        Attacked mean errors of m models: lower bounds.
    certified : array, shape (m, r), or None
        Certified mean errors: upper bounds.
    names : sequence of str, length m
    norm : str
        Norm of the perturbation, for the label.
    clean : array, shape (m,), or None
        Errors at radius zero, drawn as the start of every curve.
    bands : mapping of str to array, shape (2, m, r), or None
        Lower and upper edges of bands around ``"attacked"`` and ``"certified"``, for instance quantiles over trials.
    band_label : str
        What the bands are, for the legend.
    quantity : str
        What is drawn, for the label.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    lines_ : list of matplotlib Line2D
        The attacked curves.
    """

    def __init__(
        self,
        radii: ArrayLike,
        attacked: ArrayLike,
        certified: ArrayLike | None = None,
        *,
        names: Sequence[str] = ("model",),
        norm: str = "l2",
        clean: ArrayLike | None = None,
        bands: Mapping[str, ArrayLike] | None = None,
        band_label: str = "",
        quantity: str = QUANTITIES["regression"],
    ) -> None:
        self.radii = np.asarray(radii, dtype=float)
        self.names, self.norm, self.quantity, self.band_label = tuple(names), norm, quantity, band_label
        shape = (len(self.names), len(self.radii))
        self.attacked = _checked_curves(attacked, shape, "attacked")
        self.certified = None if certified is None else _checked_curves(certified, shape, "certified")
        self.clean = None if clean is None else np.asarray(clean, dtype=float).reshape(shape[0])
        given = {} if bands is None else dict(bands)
        self.bands = {kind: _checked_curves(edges, (2, *shape), f"bands[{kind!r}]") for kind, edges in given.items()}
        if (np.diff(self.radii) <= 0).any() or self.radii[0] < 0:
            raise InvalidInputError(f"radii must increase and be nonnegative, got {self.radii.tolist()}.")

    @classmethod
    def from_table(
        cls, table: RobustnessTable, *, ax: Any = None, units: str = "input units"
    ) -> RobustnessCurveDisplay:
        """Draw a table of :func:`convexnn.robustness_table`; ``units`` are those of the radii.

        The errors of regressors are squared errors, those of classifiers the fraction of misclassified samples.
        """
        clean, attacked, certified = (table.mean(kind) for kind in KINDS)
        quantity = QUANTITIES[table.task]
        display = cls(
            table.radii, attacked, certified, names=table.names, norm=table.norm, clean=clean, quantity=quantity
        )
        return display.plot(ax=ax, units=units)

    @classmethod
    def from_trials(
        cls,
        trials: RobustnessTrials,
        *,
        quantiles: tuple[float, float] = (0.25, 0.75),
        ax: Any = None,
        units: str = "input units",
    ) -> RobustnessCurveDisplay:
        """Draw medians over the trials, and bands between two quantiles around them.

        Parameters
        ----------
        trials : RobustnessTrials
            Of :func:`convexnn.report.stack_trials`.
        quantiles : pair of float
            Edges of the bands, between 0 and 1.
        ax : matplotlib Axes, optional
        units : str
            Of the radii.
        """
        if len(quantiles) != 2 or quantiles[0] > quantiles[1]:
            raise InvalidInputError(f"quantiles must be a pair that increases, got {quantiles!r}.")
        radii = trials.radii if trials.radii[0] == 0 else np.r_[0.0, trials.radii]
        levels = (quantiles[0], 0.5, quantiles[1])
        curves = {kind: _from_clean(trials, kind, levels) for kind in ("attacked", "certified")}
        display = cls(
            radii,
            curves["attacked"][1],
            curves["certified"][1],
            names=trials.names,
            norm=trials.norm,
            bands={kind: edges[[0, 2]] for kind, edges in curves.items()},
            band_label=f"medians, quantiles {levels[0]:g} to {levels[2]:g} of {len(trials.tables)} trials",
            quantity=QUANTITIES[trials.task],
        )
        return display.plot(ax=ax, units=units)

    @classmethod
    def from_network(
        cls,
        network: Any,
        X: ArrayLike,
        y: ArrayLike,
        radii: Sequence[float],
        *,
        name: str = "network",
        ax: Any = None,
        **options: Any,
    ) -> RobustnessCurveDisplay:
        """Attack and certify a model on ``X, y`` and draw it; options of :func:`convexnn.robustness_table`."""
        return cls.from_table(robustness_table({name: network}, X, y, radii, **options), ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        radii: Sequence[float],
        *,
        name: str | None = None,
        ax: Any = None,
        **options: Any,
    ) -> RobustnessCurveDisplay:
        """Attack and certify a fitted estimator (or a pipeline of scalers and one) and draw it, raw input units."""
        label = type(estimator).__name__ if name is None else name
        return cls.from_network(estimator, X, y, radii, name=label, ax=ax, **options)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        y_attacked: ArrayLike,
        radii: ArrayLike,
        *,
        name: str = "model",
        norm: str = "l2",
        ax: Any = None,
    ) -> RobustnessCurveDisplay:
        """Draw predictions on attacked inputs, shape (r, n), one line a radius, without certificate."""
        truth = np.asarray(y_true, dtype=float)
        clean = np.mean((np.asarray(y_pred, dtype=float) - truth) ** 2)
        attacked = np.mean((np.asarray(y_attacked, dtype=float) - truth) ** 2, axis=-1)
        return cls(radii, [attacked], names=[name], norm=norm, clean=[clean]).plot(ax=ax)

    def _from_zero(self, values: Array, index: int) -> tuple[Array, Array]:
        if self.clean is None or self.radii[0] == 0:
            return self.radii, values
        return np.r_[0.0, self.radii], np.r_[self.clean[index], values]

    def plot(self, ax: Any = None, *, units: str = "input units") -> RobustnessCurveDisplay:
        """Draw on ``ax``, or on a new figure; ``units`` names the units of the radius."""
        self.figure_, self.ax_ = axes(ax, (6.4, 4.2))
        self.lines_: list[Any] = []
        for index, name in enumerate(self.names):
            color, marker = PALETTE[index % len(PALETTE)], "osD^vPX"[index % 7]
            x, low = self._from_zero(self.attacked[index], index)
            self.lines_ += self.ax_.plot(x, low, color=color, marker=marker, markersize=4.5, label=name, clip_on=False)
            if self.certified is not None:
                _, high = self._from_zero(self.certified[index], index)
                self.ax_.plot(x, high, color=color, linestyle=DASHES)
                if len(self.names) <= SHADED and not self.bands:
                    self.ax_.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
            for lower, upper in (edges[:, index] for edges in self.bands.values()):
                self.ax_.fill_between(self.radii, lower, upper, color=color, alpha=0.15, linewidth=0)
        self._scale()
        norm = {"l2": "ℓ₂", "linf": "ℓ∞"}.get(self.norm, self.norm)
        self.ax_.set_xlabel(f"{norm} radius of the perturbation ({units})")
        self.ax_.set_ylabel(self.quantity)
        self.ax_.legend(handles=[*self.lines_, *self._styles()], frameon=False, fontsize="small", loc="upper left")
        quiet(self.ax_)
        return self

    def _styles(self) -> list[Any]:
        """Legend entries for the kinds of curves."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        styles: list[Any] = [Line2D([], [], color=GRAY, label="attacked (lower bound)")]
        if self.certified is not None:
            styles.append(Line2D([], [], color=GRAY, linestyle=DASHES, label="certified (upper bound)"))
        if self.bands and self.band_label:
            styles.append(Patch(color=GRAY, alpha=0.25, linewidth=0, label=self.band_label))
        return styles

    def _scale(self) -> None:
        self.ax_.set_xlim(left=0)
        if self.quantity == QUANTITIES["classification"]:
            self.ax_.set_ylim(bottom=0)
            return
        values = np.concatenate([part.ravel() for part in (self.attacked, self.certified) if part is not None])
        if spans_decades(values):
            from matplotlib.ticker import LogFormatter, NullFormatter

            self.ax_.set_yscale("log")
            self.ax_.yaxis.set_major_formatter(LogFormatter())
            self.ax_.yaxis.set_minor_formatter(NullFormatter())


def _from_clean(trials: RobustnessTrials, kind: str, levels: Sequence[float]) -> Array:
    """Quantiles (q, m, r) of a kind over the trials, with those of the clean errors in front."""
    found = trials.quantiles(kind, levels)
    if trials.radii[0] == 0:
        return found
    return np.concatenate([trials.quantiles("clean", levels)[..., None], found], axis=-1)


def _checked_curves(values: ArrayLike, shape: tuple[int, ...], label: str) -> Array:
    curves = np.asarray(values, dtype=float)
    if curves.shape != shape:
        raise InvalidInputError(f"{label} must have shape {shape}, the last two (models, radii); got {curves.shape}.")
    return curves

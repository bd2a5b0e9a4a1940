"""Clean, attacked and certified errors of classifiers against the radius, and how tight every method's bounds are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.plotting.style import GRAY, PALETTE, axes, quiet

Array = NDArray[np.float64]

#: Color of the attack, and of the methods in order.
ATTACK, METHODS = PALETTE[1], (PALETTE[0], PALETTE[2], PALETTE[3], PALETTE[4], PALETTE[5])
DASHES = ((0, (8, 3)), (0, (2, 2)), (0, (10, 3, 2, 3)), (0, (5, 5)), "solid")
ROUNDING = 1e-9
NORMS = {"l2": "ℓ₂", "linf": "ℓ∞"}


class RobustErrorDisplay:
    """Errors of one classifier against the radius; the robust error lies in the shaded band.

    Parameters
    ----------
    radii : array-like, shape (r,)
        Increasing, nonnegative, raw input units.
    clean : float
        Share of samples that are misclassified without perturbation.
    attack : array-like, shape (r,)
        Shares that an attack misclassifies: lower bounds on the robust error.
    certified : mapping of str to array-like, shape (r,)
        Shares that a method does not certify: upper bounds.
    norm : {"l2", "linf"}
    name : str
        Of the classifier.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    lines_ : list of matplotlib Line2D
        Attack, then the methods.
    """

    def __init__(
        self,
        radii: ArrayLike,
        clean: float,
        attack: ArrayLike,
        certified: Mapping[str, ArrayLike],
        *,
        norm: str = "linf",
        name: str = "",
    ) -> None:
        self.radii, self.clean = np.asarray(radii, dtype=float), float(clean)
        self.attack = np.asarray(attack, dtype=float)
        self.certified = {method: np.asarray(errors, dtype=float) for method, errors in certified.items()}
        self.norm, self.name = norm, name
        shapes = {part.shape for part in (self.attack, *self.certified.values())}
        if not self.certified or self.radii.ndim != 1 or not len(self.radii) or shapes != {self.radii.shape}:
            raise InvalidInputError(f"{self.radii.shape} radii need errors of that shape and a method, got {shapes}.")
        if (np.diff(self.radii) <= 0).any() or self.radii[0] < 0:
            raise InvalidInputError(f"radii must increase and be nonnegative, got {self.radii.tolist()}.")
        if (self.attack > self.best + ROUNDING).any() or (self.clean > self.attack + ROUNDING).any():
            raise InvalidInputError("Errors must be ordered: clean <= attack <= certified.")

    @property
    def best(self) -> Array:
        """Least certified errors, shape (r,) (an upper bound when each method certifies other samples)."""
        return np.min(list(self.certified.values()), axis=0)

    @classmethod
    def from_report(cls, report: Any, *, name: str | None = None, ax: Any = None) -> RobustErrorDisplay:
        """Draw one model of a :class:`convexnn.report.RobustErrorReport` (the first one by default)."""
        i = _model(report, name)
        certified = {method: report.certified_error[i, :, k] for k, method in enumerate(report.methods)}
        shown = cls(
            report.radii,
            report.clean_error[i],
            report.attack_error[i],
            certified,
            norm=report.norm,
            name=report.names[i],
        )
        return shown.plot(ax=ax)

    def _from_zero(self, errors: Array) -> tuple[Array, Array]:
        if self.radii[0] == 0:
            return self.radii, errors
        return np.r_[0.0, self.radii], np.r_[self.clean, errors]

    def plot(self, ax: Any = None) -> RobustErrorDisplay:
        """Draw on ``ax``, or on a new figure."""
        from matplotlib.ticker import PercentFormatter

        self.figure_, self.ax_ = axes(ax, (6.0, 4.0))
        x, low = self._from_zero(self.attack)
        self.ax_.fill_between(x, low, self._from_zero(self.best)[1], color=GRAY, alpha=0.15, linewidth=0)
        self.ax_.axhline(self.clean, color=GRAY, linestyle=":", linewidth=1.2, label="clean")
        self.lines_ = self.ax_.plot(x, low, color=ATTACK, marker="o", markersize=4, label="attack (lower bound)")
        for k, (method, errors) in enumerate(self.certified.items()):
            style = {"color": METHODS[k % len(METHODS)], "linestyle": DASHES[k % len(DASHES)]}
            label = f"certified by {method} (upper bound)"
            self.lines_ += self.ax_.plot(*self._from_zero(errors), marker="s", markersize=3, label=label, **style)
        self.ax_.set(xlim=(0, None), ylim=(0, None), ylabel="error", title=self.name)
        self.ax_.yaxis.set_major_formatter(PercentFormatter(1.0))
        self.ax_.set_xlabel(f"{NORMS.get(self.norm, self.norm)} radius (input units)")
        self.ax_.legend(frameon=False, fontsize="small")
        quiet(self.ax_)
        return self


class TightnessDisplay:
    """Histograms of ``bound - attack``, one a method: a bound is at most this far from the worst margin.

    Parameters
    ----------
    gaps : mapping of str to array-like, shape (n,)
        Nonnegative; infinite where a method has no bound.
    radius : float, optional
        For the title.
    norm : {"l2", "linf"}
    name : str
        Of the classifier.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    medians_ : dict of str to float
        Over the samples that have a bound.
    """

    def __init__(
        self, gaps: Mapping[str, ArrayLike], *, radius: float | None = None, norm: str = "linf", name: str = ""
    ) -> None:
        self.gaps = {method: np.asarray(values, dtype=float) for method, values in gaps.items()}
        self.radius, self.norm, self.name = radius, norm, name
        if not self.gaps or any(values.ndim != 1 or not (values >= 0).all() for values in self.gaps.values()):
            raise InvalidInputError("Gaps must be lists of numbers that are not negative, one for every method.")

    @classmethod
    def from_report(
        cls, report: Any, *, name: str | None = None, radius: float | None = None, ax: Any = None
    ) -> TightnessDisplay:
        """Draw one model at one radius of a :class:`convexnn.report.RobustErrorReport` (first, middle by default)."""
        i, j = _model(report, name), report.index_of(radius)
        gaps = {method: report.tightness[i, j, k] for k, method in enumerate(report.methods)}
        return cls(gaps, radius=float(report.radii[j]), norm=report.norm, name=report.names[i]).plot(ax=ax)

    @classmethod
    def from_reports(cls, reports: Mapping[str, Any], *, name: str = "", ax: Any = None) -> TightnessDisplay:
        """Draw reports of :func:`convexnn.certify`, one a method, on the same samples and threat set.

        Bounds that stopped at their sign look looser than they are: use ``CertifyOptions(early_stop=False)``.
        """
        found = list(reports.values())
        if len({(report.data_digest, report.network_fingerprint, repr(report.threat)) for report in found}) != 1:
            raise InvalidInputError("The reports must be about one network, the same samples and one threat set.")
        reached = np.max([np.maximum(report.lower, report.clean) for report in found], axis=0)
        gaps = {method: np.maximum(report.margins - reached, 0.0) for method, report in reports.items()}
        radius, norm = getattr(found[0].threat, "radius", None), found[0].threat.norm
        return cls(gaps, radius=radius, norm=norm, name=name).plot(ax=ax)

    def plot(self, ax: Any = None) -> TightnessDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes(ax, (6.0, 4.0))
        finite = {method: values[np.isfinite(values)] for method, values in self.gaps.items()}
        top = max((float(values.max(initial=0.0)) for values in finite.values()), default=0.0) or 1.0
        self.medians_ = {m: float(np.median(values)) if len(values) else np.inf for m, values in finite.items()}
        for k, (method, values) in enumerate(finite.items()):
            label = f"{method}: median {self.medians_[method]:.3g}"
            missing = len(self.gaps[method]) - len(values)
            label += f", {missing} without a bound" if missing else ""
            color = METHODS[k % len(METHODS)]
            self.ax_.hist(
                values, bins=np.linspace(0, top, 33), histtype="stepfilled", alpha=0.35, color=color, label=label
            )
            self.ax_.hist(values, bins=np.linspace(0, top, 33), histtype="step", color=color)
        where = "" if self.radius is None else f"{NORMS.get(self.norm, self.norm)} radius {self.radius:g}"
        self.ax_.set(xlabel="bound − attack", ylabel="samples", title=", ".join(filter(None, (self.name, where))))
        self.ax_.set_xlim(left=0)
        self.ax_.legend(frameon=False, fontsize="small")
        quiet(self.ax_)
        return self


def _model(report: Any, name: str | None) -> int:
    if name is None:
        return 0
    if name not in report.names:
        raise InvalidInputError(f"The report is about {list(report.names)}, not about {name!r}.")
    return int(report.names.index(name))

"""Certified radii of several classifiers: the fraction of samples that no perturbation up to a radius can break."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.plotting.style import PALETTE, axes, quiet

Array = NDArray[np.float64]


class RadiusDisplay:
    """Certified accuracy against the radius, one curve a model: the share of samples with a larger certified radius.

    The curve of a radius that is exact (polynomial networks in l2) is the true accuracy under the worst attack; the
    curve of a lower bound lies below it.

    Parameters
    ----------
    radii : mapping of str to array, shape (n,)
        Certified radii, 0 for misclassified samples, in raw input units; ``inf`` where nothing can change the
        prediction.
    norm : {"l2", "linf"}
        Of the radii, for the label.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    lines_ : list of matplotlib Line2D
    """

    def __init__(self, radii: Mapping[str, ArrayLike], *, norm: str = "l2") -> None:
        if not radii:
            raise InvalidInputError("No radii were given; a mapping from names to radii is needed.")
        self.radii = {name: _checked(name, values) for name, values in radii.items()}
        self.norm = norm

    @classmethod
    def from_estimators(
        cls, models: Mapping[str, Any], X: ArrayLike, y: ArrayLike, *, ax: Any = None, **options: Any
    ) -> RadiusDisplay:
        """Draw fitted classifiers that have ``certified_radius(X, y)``.

        Parameters
        ----------
        models : mapping of str to fitted classifier
        X, y : array-like
            Held-out samples and their labels.
        ax : matplotlib Axes, optional
        **options
            For ``certified_radius``.
        """
        missing = [name for name, model in models.items() if not hasattr(model, "certified_radius")]
        if missing:
            raise InvalidInputError(f"These models have no certified_radius: {missing}.")
        norm = "linf" if options.get("norm") in ("linf", np.inf) else "l2"
        radii = {name: model.certified_radius(X, y, **options) for name, model in models.items()}
        return cls(radii, norm=norm).plot(ax=ax)

    def accuracy(self, name: str, radius: ArrayLike) -> Array:
        """Fraction of samples of a model whose certified radius exceeds ``radius`` (any shape)."""
        ordered = np.sort(self.radii[name])
        at = np.asarray(radius, dtype=float)
        return np.asarray(1.0 - np.searchsorted(ordered, at, side="right") / len(ordered))

    def plot(self, ax: Any = None) -> RadiusDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes(ax, (5.6, 3.8))
        finite = np.concatenate([values[np.isfinite(values)] for values in self.radii.values()])
        reach = 1.05 * float(finite.max(initial=0.0)) or 1.0
        self.lines_ = []
        for k, name in enumerate(self.radii):
            steps = np.unique(np.r_[0.0, self.radii[name][np.isfinite(self.radii[name])], reach])
            color = PALETTE[k % len(PALETTE)]
            self.lines_ += self.ax_.step(steps, self.accuracy(name, steps), where="post", color=color, label=name)
        self.ax_.set_xlim(0, reach)
        self.ax_.set_ylim(0, 1.02)
        self.ax_.set_xlabel(f"radius ({self.norm}, input units)")
        self.ax_.set_ylabel("certified accuracy")
        self.ax_.legend(frameon=False, fontsize="small")
        quiet(self.ax_)
        return self


def _checked(name: str, radii: ArrayLike) -> Array:
    values = np.asarray(radii, dtype=float)
    if values.ndim != 1 or not len(values) or np.isnan(values).any() or (values < 0).any():
        raise InvalidInputError(f"radii[{name!r}] must be a list of nonnegative numbers, got shape {values.shape}.")
    return values

"""The picture of an activation-pattern matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.network import as_network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.plotting.style import GRAY, PALE, PALETTE, axes

Array = NDArray[np.float64]


class PatternDisplay:
    """Which hidden units are active on which rows: the matrix that fixes the convex program.

    Units (columns) are grouped by the sign of their outer weight. Rows are sorted by their first principal
    component, so that similar rows stand together; units, within a group, by the rows that activate them.

    Parameters
    ----------
    D : array of bool, shape (n, p)
        Column j tells on which rows unit j is active.
    s : array, shape (p,)
        Signs of the outer weights, -1 or +1.

    Attributes
    ----------
    row_order, unit_order : array of int
        What is drawn in which order.
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    image_ : matplotlib AxesImage
    """

    def __init__(self, D: ArrayLike, s: ArrayLike) -> None:
        patterns = ActivationPatterns(D, s)
        self.D, self.s = patterns.D, patterns.s
        self.row_order = _row_order(self.D)
        self.unit_order = np.lexsort((_mean_position(self.D, self.row_order), -self.s))

    @classmethod
    def from_patterns(cls, patterns: ActivationPatterns, *, ax: Any = None) -> PatternDisplay:
        """Draw a multiset of patterns; copies are drawn as often as they count."""
        full = patterns.expand()
        return cls(full.D, full.s).plot(ax=ax)

    @classmethod
    def from_network(cls, network: Any, X: ArrayLike, *, ax: Any = None) -> PatternDisplay:
        """Draw the patterns of a network's first hidden layer on the rows of ``X`` (its raw input units)."""
        return cls.from_patterns(extract(network, X), ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, X: ArrayLike, *, ax: Any = None) -> PatternDisplay:
        """Draw the patterns of a fitted estimator's network on the rows of ``X``."""
        return cls.from_network(as_network(estimator), X, ax=ax)

    def plot(self, ax: Any = None) -> PatternDisplay:
        """Draw on ``ax``, or on a new figure."""
        from matplotlib.colors import ListedColormap
        from matplotlib.patches import Patch

        self.figure_, self.ax_ = axes(ax, (6.4, 4.4))
        n, p = self.D.shape
        drawn = self.D[np.ix_(self.row_order, self.unit_order)]
        signs = self.s[self.unit_order]
        colors = ListedColormap([PALE, PALETTE[0], PALETTE[1]])
        code = np.where(drawn, np.where(signs > 0, 1, 2), 0)
        self.image_ = self.ax_.imshow(code, cmap=colors, vmin=0, vmax=2, aspect="auto", interpolation="nearest")
        positive = int((signs > 0).sum())
        if 0 < positive < p:
            self.ax_.axvline(positive - 0.5, color="black", linewidth=1.2)
        share = 100 * float(self.D.mean())
        self.ax_.set_xlabel(f"{p} hidden units, by sign of the outer weight v, similar ones together")
        self.ax_.set_ylabel(f"{n} rows, similar ones together")
        self.ax_.set_title(f"Activation patterns: {share:.0f}% active", loc="left", pad=26)
        keys = [
            (PALETTE[0], f"active, v ≥ 0 ({positive} units)"),
            (PALETTE[1], f"active, v < 0 ({p - positive} units)"),
        ]
        handles = [Patch(facecolor=color, label=label) for color, label in keys]
        handles.append(Patch(facecolor=PALE, edgecolor=GRAY, linewidth=0.5, label="inactive"))
        self.ax_.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0.2,
            fontsize="small", handlelength=1.0, handleheight=1.0, columnspacing=1.4,
        )  # fmt: skip
        return self


def _row_order(D: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Rows by their first principal component: rows with similar patterns stand together."""
    centred = D - D.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    leading = directions[0] * np.sign(directions[0].sum() or 1.0)
    return np.argsort(-(centred @ leading), kind="stable")


def _mean_position(D: NDArray[np.bool_], row_order: NDArray[np.intp]) -> Array:
    """Average place of the rows that activate each unit; dead units come last."""
    active = D.sum(axis=0)
    total = (D[row_order] * np.arange(len(D))[:, None]).sum(axis=0)
    return np.where(active > 0, total / np.maximum(active, 1), len(D))

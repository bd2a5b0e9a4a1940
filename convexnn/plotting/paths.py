"""A regularization path: the certified interval of the optimum, and loss against penalty."""

from __future__ import annotations

from typing import Any

import numpy as np

from convexnn.exceptions import InvalidInputError
from convexnn.paths import RegularizationPath
from convexnn.plotting.style import PALETTE, axes, quiet

NAMES = {"lipschitz": "squared Lipschitz bound", "l2": "sum of squared weights", "gated": "sum of squared weights"}


class PathDisplay:
    """Loss and penalty of every network of a path against ``lam``.

    Parameters
    ----------
    path : RegularizationPath
    X, y : array-like, optional
        Held-out data; their mean squared error is drawn as well.

    Attributes
    ----------
    ax_, penalty_ax_, figure_ : matplotlib Axes, Axes and Figure
        After :meth:`plot`.
    held_out_ : array, shape (k,), or None
        Mean squared error on ``X, y`` at every lam.
    """

    def __init__(self, path: RegularizationPath, X: Any = None, y: Any = None) -> None:
        if (X is None) != (y is None):
            raise InvalidInputError("held-out data need both X and y")
        self.path = path
        self.held_out_ = None if X is None else ((path.predict(X) - np.asarray(y, dtype=float)) ** 2).mean(axis=1)

    @classmethod
    def from_path(cls, path: RegularizationPath, X: Any = None, y: Any = None, *, ax: Any = None) -> PathDisplay:
        """Draw a path, with the error on held-out data when they are given."""
        return cls(path, X, y).plot(ax=ax)

    def plot(self, ax: Any = None) -> PathDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes(ax, (6.4, 3.8))
        lams, name = self.path.lams, NAMES[self.path.regularizer]
        self.ax_.plot(lams, self.path.losses, color=PALETTE[0], marker="o", markersize=4, label="training loss")
        if self.held_out_ is not None:
            label = "held-out squared error"
            self.ax_.plot(lams, self.held_out_, color=PALETTE[1], marker="s", markersize=4, label=label)
        self.penalty_ax_ = self.ax_.twinx()
        self.penalty_ax_.plot(lams, self.path.penalties, color=PALETTE[2], linestyle=(0, (4, 2)), label=name)
        self.penalty_ax_.set_ylabel(name)
        self.penalty_ax_.spines[["top"]].set_visible(False)
        self.ax_.set_xscale("log")
        self.ax_.set_xlabel("lam")
        self.ax_.set_ylabel("mean squared error")
        handles = [*self.ax_.get_lines(), *self.penalty_ax_.get_lines()]
        self.ax_.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=3,
            frameon=False,
            fontsize="small",
            borderaxespad=0.2,
        )
        quiet(self.ax_)
        return self

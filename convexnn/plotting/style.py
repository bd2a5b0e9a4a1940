"""What all pictures share: axes, colors, the choice of a logarithmic scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Okabe and Ito's palette, readable with every common color vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PALE, GRAY = "#F2F2F2", "#595959"

#: Values that span more than this factor are drawn on a logarithmic axis.
LOG_FROM = 20.0


def spans_decades(values: Array) -> bool:
    """Whether finite values are positive and need a logarithmic axis."""
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() > LOG_FROM * finite.min())


def axes(ax: Any, size: tuple[float, float]) -> tuple[Any, Any]:
    """The given axes, or those of a new figure."""
    if ax is not None:
        return ax.figure, ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")


def quiet(ax: Any) -> None:
    """Leave only the two axis lines that carry numbers."""
    ax.spines[["top", "right"]].set_visible(False)

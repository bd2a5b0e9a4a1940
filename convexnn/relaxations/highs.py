"""HiGHS models from sparse rows, silent and with one thread."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from convexnn.propagation.query import Effort

Array = NDArray[np.float64]
Ends = tuple[Array, Array]


def highs_model(
    rows: sparse.csr_array, row_ends: Ends, column_ends: Ends, costs: Array, integers: NDArray[np.intp] | None = None
) -> Any:
    """The model ``min costs'v`` with ``row_low <= rows v <= row_high`` and bounds on v, some of them integers."""
    import highspy

    model: Any = highspy.HighsLp()
    model.num_row_, model.num_col_ = rows.shape
    model.col_cost_ = costs
    model.col_lower_, model.col_upper_ = column_ends
    model.row_lower_, model.row_upper_ = row_ends
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = rows.indptr, rows.indices, rows.data
    if integers is not None:
        kinds = np.full(rows.shape[1], highspy.HighsVarType.kContinuous, dtype=object)
        kinds[integers] = highspy.HighsVarType.kInteger
        model.integrality_ = kinds.tolist()
    make: Any = highspy.Highs
    highs: Any = make()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    highs.passModel(model)
    return highs


def seconds_left(effort: Effort) -> float:
    """Seconds before the deadline, at least a moment; HiGHS knows no negative limits."""
    return float(min(max(effort.deadline - time.monotonic(), 0.01), 1e7))

"""Programs as blocks of rows in cones, handed to Clarabel as they are: a modeling layer takes longer than it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from convexnn.exceptions import SolverError
from convexnn.memory import require_room

Array = NDArray[np.float64]

#: Cones of a block; of "psd" the rows are the upper triangle by columns, off the diagonal times sqrt(2).
ZERO, NONNEGATIVE, SECOND_ORDER, PSD = "zero", "nonnegative", "second order", "psd"
ROOT = math.sqrt(2.0)
#: What a program too large for this machine is told.
FEWER = (
    "Take fewer hidden_units or samples (upper bounds on regions are one matrix inequality of the order of the units)"
)


@dataclass(frozen=True)
class Block:
    """``matrix z + constant`` in a cone.

    Attributes
    ----------
    label : str
        Under which the multiplier is found.
    cone : str
    matrix : array or sparse array, shape (m, size)
    constant : array, shape (m,)
    order : int
        Of one cone, for "second order" (its number of rows) and "psd"; there are as many cones as the rows make.
    """

    label: str
    cone: str
    matrix: Any
    constant: Array
    order: int = 0

    def cones(self) -> list[Any]:
        """What Clarabel calls them."""
        import clarabel

        m = len(self.constant)
        if self.cone == ZERO:
            return [clarabel.ZeroConeT(m)]
        if self.cone == NONNEGATIVE:
            return [clarabel.NonnegativeConeT(m)]
        if self.cone == SECOND_ORDER:
            return [clarabel.SecondOrderConeT(self.order)] * (m // self.order)
        return [clarabel.PSDTriangleConeT(self.order)] * (2 * m // (self.order * (self.order + 1)))


@dataclass(frozen=True)
class Answer:
    """A point, and multipliers y by label with ``objective - sum <y, matrix z + constant>`` stationary.

    Attributes
    ----------
    z : array, shape (size,)
    duals : dict of str to array
    """

    z: Array
    duals: dict[str, Array]


@dataclass(frozen=True)
class Effort:
    """Accuracy and time that Clarabel is given.

    Attributes
    ----------
    accuracy : float
        Relative and absolute, in the units of ``size``.
    max_iter : int
    time_limit : float or None
        Seconds.
    size : float
        Typical size of the variables: what is handed over is the same program in variables of order one.
    columns : array, shape (size,), or None
        Powers of two, how large each variable is beside the others.
    """

    accuracy: float = 1e-9
    max_iter: int = 200
    time_limit: float | None = None
    size: float = 1.0
    columns: Array | None = None


def minimized(quadratic: Array, linear: Array, blocks: list[Block], effort: Effort, instead: str) -> Answer | None:
    """Minimize ``sum_j quadratic_j z_j^2 + linear'z`` over z with all blocks in their cones; None when there is no z.

    Parameters
    ----------
    quadratic, linear : array, shape (size,)
    blocks : list of Block
    effort : Effort
    instead : str
        What to do when the machine could not hold the program.

    Raises
    ------
    SolverError
        When Clarabel fails and leaves no point, or the program is too large.
    """
    import clarabel

    blocks = [block for block in blocks if len(block.constant)]
    columns = np.ones(len(linear)) if effort.columns is None else effort.columns
    A = sparse.vstack([sparse.csc_array(block.matrix) for block in blocks], format="csc") @ sparse.diags_array(columns)
    rows = _row_sizes(A, blocks)
    A = sparse.csc_array(-(sparse.diags_array(1 / rows) @ A))
    matrices = [block.order for block in blocks if block.cone == PSD for _ in block.cones()]
    require_room(A.nnz, matrices, "clarabel", instead)
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_iter = False, effort.max_iter
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = effort.accuracy
    if hasattr(settings, "max_threads"):  # older versions have one thread only
        settings.max_threads = 1
    if effort.time_limit is not None:
        settings.time_limit = effort.time_limit
    b = np.concatenate([block.constant for block in blocks]) / effort.size / rows
    cones = [cone for block in blocks for cone in block.cones()]
    P = sparse.csc_array(sparse.diags_array(2.0 * quadratic * columns**2))
    try:
        found = clarabel.DefaultSolver(P, linear * columns / effort.size, A, b, cones, settings).solve()
    except (ArithmeticError, ValueError, TypeError, RuntimeError) as error:
        raise SolverError(f"clarabel failed on a constrained program: {error}") from error
    status = str(found.status)
    if "PrimalInfeasible" in status:
        return None
    z, y = effort.size * columns * np.asarray(found.x), effort.size * np.asarray(found.z) / rows
    if not np.isfinite(z).all() or "Infeasible" in status:
        raise SolverError(f"clarabel ended with {status!r} on a constrained program and left no point")
    ends = np.cumsum([len(block.constant) for block in blocks])
    parts = np.split(y, ends[:-1])
    return Answer(z, {block.label: part for block, part in zip(blocks, parts, strict=True)})


def power_of_two(sizes: Array) -> Array:
    """Powers of two next to positive numbers, one for others: scaling by them is exact."""
    return np.asarray(2.0 ** np.round(np.log2(np.where((sizes > 0) & np.isfinite(sizes), sizes, 1.0))))


def _row_sizes(A: Any, blocks: list[Block]) -> Array:
    """Powers of two near the largest entry of a row; one in cones that do not allow it."""
    sizes = power_of_two(abs(sparse.csr_array(A)).max(axis=1).toarray().ravel())
    alone = np.concatenate([np.full(len(block.constant), block.cone in (ZERO, NONNEGATIVE)) for block in blocks])
    return np.where(alone, sizes, 1.0)


def triangle(order: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Rows and columns of the upper triangle by columns, and the factors of its entries in a "psd" block."""
    columns, rows = np.tril_indices(order)
    return rows, columns, np.where(rows == columns, 1.0, ROOT)


def symmetric(entries: Array, order: int) -> Array:
    """The matrix of the entries of a "psd" block or of its multiplier."""
    rows, columns, factors = triangle(order)
    matrix = np.zeros((order, order))
    matrix[rows, columns] = entries / factors
    matrix[columns, rows] = entries / factors
    return matrix

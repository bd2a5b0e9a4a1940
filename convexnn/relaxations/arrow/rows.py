"""Groups of rows of the relaxation, and rows that multiply two units; both by their places in the stack of vectors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Places = slice | NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class RowGroup:
    """Rows ``sign p' X q <= or = cost``: where their vectors stand in the stack ``[e0; z; r; extra; g; tau]``.

    Attributes
    ----------
    name : str
    p, q : slice, or array of int for products of two units
        Into the stack; p is e0, z or g.
    at : slice
        Into the multipliers.
    sign : float
        -1 for rows that are written with a reversed vector.
    """

    name: str
    p: Places
    q: Places
    at: slice
    sign: float = 1.0

    @property
    def on_constant(self) -> bool:
        """Whether p is e0."""
        return isinstance(self.p, slice) and self.p.stop == 1

    def of(self, gram: Array) -> Array:
        """Values of the rows under a matrix, from its Gram matrix of the stack."""
        if self.on_constant:
            return gram[0, self.q]
        return gram[self.p, self.q].diagonal() if isinstance(self.p, slice) else self.sign * gram[self.p, self.q]


def corner(M: Array, rows: Places, columns: Places) -> Array:
    """``M[rows, columns]`` as a block; a view where both are slices."""
    return M[rows][:, columns]


@dataclass(frozen=True, eq=False)
class Products:
    """Rows that multiply what two different units satisfy, in scaled variables and with ``r = s - z <= 0``.

        ``z_i r_j <= 0``  where ``low``,    ``(u_i - z_i) r_j <= 0``  elsewhere.

    Attributes
    ----------
    i, j : array of int, shape (n,)
    low : array of bool, shape (n,)
        True before False.
    """

    i: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    j: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    low: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=np.bool_))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.i)

    @property
    def signs(self) -> Array:
        """Sign with which ``z_i r_j`` enters the row."""
        return np.where(self.low, 1.0, -1.0)

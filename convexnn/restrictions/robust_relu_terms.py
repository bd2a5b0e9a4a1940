"""What the robust ReLU programs are made of: margins of pairs of outputs, units with fixed output directions, slopes.

With hidden units ``p_i`` as rows of ``U`` (last column the bias), output directions ``V`` (units, outputs) and
``x_k = (x, 1)``, the margin t of row k is ``f_plus - f_minus = sum_i B_ti relu(x_k'p_i) + c_plus - c_minus`` with
``B_ti = V[i, plus] - V[i, minus]``; an output -1 is the constant zero. One output with labels -1 / +1 has one margin
a row, ``y f``; k outputs have k - 1 of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import is_one_of
from convexnn.losses import MarginLoss, get_loss
from convexnn.threats import L2Ball

Array = NDArray[np.float64]
Index = NDArray[np.intp]

#: Numbers of one array that is formed for a part of the margins.
CHUNK_SIZE = 4_000_000


@dataclass(frozen=True, eq=False)
class RobustTerms:
    """Margins of a training set with what is held fixed in a convex program.

    Parameters
    ----------
    X : array, shape (n, d + 1)
        Rows, the last column is the bias column of ones; it is never attacked.
    slopes : array, shape (n, p)
        In [0, 1]: linear part of unit i on the ball around row k; an activation pattern is the special case 0 / 1.
    directions : array, shape (p, k)
        Output direction of every unit.
    rows, plus, minus : arrays of int, shape (N,)
        Row and outputs of every margin; -1 for the constant zero.
    weight : array, shape (N,)
        Nonnegative weights of the margins.
    radius : float
        Size of the ball, in the units of the inputs.
    norm : float
        2 or ``inf``: the norm of the attack.
    loss : MarginLoss
        Nonincreasing in the margin.
    lam : float
        Weight of the squared weights of the network; ``2 lam sum_i |p_i|`` in the program.
    """

    X: Array
    slopes: Array
    directions: Array
    rows: Index
    plus: Index
    minus: Index
    weight: Array
    radius: float
    norm: float
    loss: MarginLoss
    lam: float

    @property
    def n_inputs(self) -> int:
        """Number of inputs d, the bias column not counted."""
        return int(self.X.shape[1] - 1)

    @property
    def n_units(self) -> int:
        """Number of units p."""
        return len(self.directions)

    @property
    def n_outputs(self) -> int:
        """Number of outputs k."""
        return int(self.directions.shape[1])

    @property
    def n_margins(self) -> int:
        """Number of margins N."""
        return len(self.rows)

    def with_slopes(self, slopes: Array) -> RobustTerms:
        """The same margins with other slopes."""
        return replace(self, slopes=slopes)

    def coefficients(self, part: slice) -> Array:
        """``B_ti`` of some margins, shape (part, p)."""
        padded = np.hstack([self.directions, np.zeros((self.n_units, 1))])
        difference: Array = (padded[:, self.plus[part]] - padded[:, self.minus[part]]).T
        return difference

    def offsets(self, c: Array) -> Array:
        """``c_plus - c_minus`` of every margin, shape (N,)."""
        padded = np.append(c, 0.0)
        difference: Array = padded[self.plus] - padded[self.minus]
        return difference

    def parts(self, size: int = CHUNK_SIZE) -> Iterator[slice]:
        """Slices of the margins, small enough for arrays of shape (part, units) and (part, inputs)."""
        step = max(1, size // max(self.n_units, self.n_inputs, 1))
        for start in range(0, self.n_margins, step):
            yield slice(start, min(start + step, self.n_margins))

    def losses(self, margins: Array) -> Array:
        """Loss of every margin, shape (N,)."""
        return self.loss.value(margins, np.ones(len(margins)))


def dual_norms(G: Array, norm: float) -> Array:
    """``max <g, e>`` over ``|e| <= 1`` in the norm of the attack, for every row g: l2 for 2, l1 for inf."""
    lengths: Array = np.linalg.norm(G, axis=-1) if norm == 2 else np.abs(G).sum(axis=-1)
    return lengths


def checked_norm(norm: Any) -> float:
    """2.0 or ``inf`` from 2, "l2", inf or "linf".

    Raises
    ------
    InvalidInputError
        For any other norm.
    """
    known = {"l2": 2.0, "linf": math.inf}
    value = known.get(norm) if isinstance(norm, str) else norm
    if value is None or not is_one_of(value, (2, math.inf)):
        raise InvalidInputError(f"norm={norm!r} was given; expected 2 or inf, the norm of the attack")
    return float(value)


def checked_radius(radius: Any) -> float:
    """Radius as a finite number >= 0, else InvalidInputError."""
    return L2Ball(radius).radius


def margin_loss(loss: str | MarginLoss) -> MarginLoss:
    """Loss that falls with the margin.

    Raises
    ------
    InvalidInputError
        For a loss that is not one of the margin: an attack can make it worse in both directions.
    """
    chosen = get_loss(loss)
    if not isinstance(chosen, MarginLoss):
        raise InvalidInputError(
            f"loss={chosen.name!r} is no loss of the margin; expected 'hinge', 'squared_hinge' or 'logistic'"
        )
    return chosen


def binary_margins(y: Array) -> tuple[Index, Index, Index]:
    """Rows, plus and minus of the margins ``y f`` for labels -1 / +1."""
    positive = y > 0
    return np.arange(len(y)), np.where(positive, 0, -1), np.where(positive, -1, 0)


def rival_margins(y: Array, n_outputs: int) -> tuple[Index, Index, Index]:
    """Rows, plus and minus of the margins ``f_y - f_k`` of class indices against every other class."""
    labels = y.astype(np.intp)
    rivals = np.tile(np.arange(n_outputs), (len(y), 1))
    keep = rivals != labels[:, None]
    rows = np.repeat(np.arange(len(y)), n_outputs - 1)
    return rows, labels[rows], rivals[keep]


def checked_slopes(slopes: ArrayLike, shape: tuple[int, int]) -> Array:
    """Slopes in [0, 1] of this shape.

    Raises
    ------
    InvalidInputError
        For another shape, NaN, or numbers outside of [0, 1].
    """
    array = np.asarray(slopes, dtype=float)
    if array.shape != shape or not ((array >= 0) & (array <= 1)).all():
        raise InvalidInputError(f"slopes have shape {array.shape}; expected numbers in [0, 1] of shape {shape}")
    return array

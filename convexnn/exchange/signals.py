"""What a tensor of a graph is: a polynomial of an affine function of the units of the last activation.

A graph of matrix products, constants and activations is a chain of layers in disguise. Read in order, every tensor
is ``a t^2 + b t + c`` (scalars a, b, c) with ``t = A h + o``, where h are the outputs of one activation or the inputs.
An activation ends a layer; two tensors of different layers cannot be combined, since that is no chain any more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import Activation, Identity, Polynomial
from convexnn.exceptions import UnsupportedModelError

Array = NDArray[np.float64]
Shape = tuple[int, ...]

#: Entries of the largest matrix that is formed (1 GB).
MAX_ENTRIES = 2**27


def check_size(entries: int) -> None:
    """Refuse arrays that no ordinary memory holds."""
    if entries > MAX_ENTRIES:
        raise UnsupportedModelError(f"needs a matrix of {entries:.3g} entries, more than {MAX_ENTRIES:.3g}.")


@dataclass(frozen=True, eq=False)
class Stage:
    """Units of one layer: the inputs (no previous), or an activation of a signal of the stage before."""

    width: int
    previous: Signal | None = None
    activation: Activation | None = None


@dataclass(frozen=True, eq=False)
class Signal:
    """``A h + offset`` for the units h of a stage, as a tensor of a given shape in row-major order.

    Attributes
    ----------
    stage : Stage
    shape : tuple of int
        Its product is m.
    matrix : array (m, width), its diagonal (width,), or None for the identity
    offset : array, shape (m,)
    """

    stage: Stage
    shape: Shape
    matrix: Array | None
    offset: Array

    @classmethod
    def of(cls, stage: Stage, shape: Shape) -> Signal:
        """The units of a stage themselves."""
        return cls(stage, shape, None, np.zeros(stage.width))

    @property
    def is_mixed(self) -> bool:
        """Whether units were combined, so that another product would be a second layer."""
        return self.matrix is not None and self.matrix.ndim == 2

    def dense(self) -> Array:
        """The matrix (m, width)."""
        if self.matrix is not None and self.matrix.ndim == 2:
            return self.matrix
        check_size(self.stage.width**2)
        return np.eye(self.stage.width) if self.matrix is None else np.diag(self.matrix)

    def scaled(self, factor: ArrayLike) -> Signal:
        """Elementwise ``factor * self``; a number or an array (m,)."""
        scale = np.broadcast_to(np.asarray(factor, dtype=np.float64), self.offset.shape)
        if (scale == 1.0).all():
            return self
        if self.matrix is None:
            matrix = scale.copy()
        else:
            matrix = self.matrix * (scale if self.matrix.ndim == 1 else scale[:, None])
        return replace(self, matrix=matrix, offset=scale * self.offset)

    def mapped(self, left: Array | None, order: NDArray[np.intp], shape: Shape) -> Signal:
        """Rows in another order, grouped in columns of ``left.shape[1]``, each group multiplied by ``left``.

        Parameters
        ----------
        left : array (p, n), or None
            None only reorders.
        order : array of int, shape (groups * n,)
        shape : tuple of int
            Of the result.
        """
        matrix = self.dense()[order]
        offset = self.offset[order]
        if left is None:
            return Signal(self.stage, shape, matrix, offset)
        p, n = left.shape
        groups = len(order) // n
        check_size(groups * p * self.stage.width)
        product = left @ matrix.reshape(groups, n, -1)
        return Signal(self.stage, shape, product.reshape(groups * p, -1), (offset.reshape(groups, n) @ left.T).ravel())


@dataclass(frozen=True, eq=False)
class Value:
    """``a t^2 + b t + c`` elementwise, t a signal; what a tensor that depends on the inputs is."""

    base: Signal
    a: float = 0.0
    b: float = 1.0
    c: float = 0.0

    @property
    def shape(self) -> Shape:
        """Shape of the tensor."""
        return self.base.shape

    @cached_property
    def signal(self) -> Signal:
        """The affine function; a quadratic one ends a layer with a polynomial activation."""
        if self.a != 0.0:
            return activated(self.base, Polynomial(self.a, self.b, self.c))
        scaled = self.base.scaled(self.b)
        return scaled if self.c == 0.0 else replace(scaled, offset=scaled.offset + self.c)

    def reshaped(self, shape: Shape) -> Value:
        """The same elements in the same order, in another shape."""
        if math.prod(shape) != math.prod(self.shape):
            raise UnsupportedModelError(f"cannot give {self.shape} the shape {shape}.")
        return self if shape == self.shape else replace(self, base=replace(self.base, shape=shape))

    def transposed(self, axes: tuple[int, ...]) -> Value:
        """Axes in another order."""
        index = np.arange(math.prod(self.shape)).reshape(self.shape).transpose(axes)
        order = index.ravel()
        if (order == np.arange(len(order))).all():
            return self.reshaped(index.shape)
        return Value(self.signal.mapped(None, order, index.shape))

    def plus(self, other: Any) -> Value:
        """Sum with a constant array or another value."""
        if isinstance(other, Value):
            if other.base is self.base:
                return replace(self, a=self.a + other.a, b=self.b + other.b, c=self.c + other.c)
            return Value(_sum(self.signal, other.signal))
        value, constant = self._broadcast(other)
        if constant.ndim == 0:
            return replace(value, c=value.c + float(constant))
        signal = value.signal
        return Value(replace(signal, offset=signal.offset + constant))

    def times(self, other: Any) -> Value:
        """Product with a constant array, or with a value when it stays quadratic in one signal."""
        if isinstance(other, Value):
            return self._square(other)
        value, constant = self._broadcast(other)
        if constant.ndim == 0:
            factor = float(constant)
            return replace(value, a=value.a * factor, b=value.b * factor, c=value.c * factor)
        return Value(value.signal.scaled(constant))

    def over(self, constant: Array) -> Value:
        """Quotient by a constant array without zeros."""
        if not np.all(constant != 0):
            raise UnsupportedModelError("divides by zero.")
        value, divisor = self._broadcast(constant)
        if divisor.ndim == 0:
            d = float(divisor)
            return replace(value, a=value.a / d, b=value.b / d, c=value.c / d)
        signal = value.signal
        matrix = np.ones(len(signal.offset)) if signal.matrix is None else signal.matrix
        matrix = matrix / (divisor if matrix.ndim == 1 else divisor[:, None])
        return Value(replace(signal, matrix=matrix, offset=signal.offset / divisor))

    def _square(self, other: Value) -> Value:
        if other.base is not self.base or (self.a != 0.0 and (other.a or other.b)) or (other.a and self.b):
            raise UnsupportedModelError("multiplies two tensors that both depend on the input.")
        return Value(
            self.base,
            self.a * other.c + self.b * other.b + self.c * other.a,
            self.b * other.c + self.c * other.b,
            self.c * other.c,
        )

    def _broadcast(self, constant: Any) -> tuple[Value, Array]:
        """The value in the common shape, and the constant as a number or an array (m,)."""
        array = np.asarray(constant, dtype=np.float64)
        try:
            shape = np.broadcast_shapes(self.shape, array.shape)
        except ValueError as error:
            raise UnsupportedModelError(f"combines shapes {self.shape} and {array.shape}.") from error
        value = self.reshaped(shape)
        if array.size and (array == array.flat[0]).all():
            return value, np.asarray(array.flat[0])
        return value, np.broadcast_to(array, shape).ravel()


def activated(signal: Signal, activation: Activation) -> Signal:
    """The units after an activation: a new stage."""
    stage = Stage(len(signal.offset), signal, activation)
    return Signal.of(stage, signal.shape)


def _sum(one: Signal, two: Signal) -> Signal:
    if one.stage is not two.stage:
        raise UnsupportedModelError(
            "combines tensors of different layers (a residual connection or parallel branches); "
            "only chains of layers can be represented."
        )
    if one.shape != two.shape:
        raise UnsupportedModelError(f"adds tensors of shapes {one.shape} and {two.shape}.")
    return Signal(one.stage, one.shape, one.dense() + two.dense(), one.offset + two.offset)


def product(value: Value, constant: Array, *, constant_first: bool, merge: bool) -> Value:
    """``value @ constant``, or ``constant @ value``, by the rules of ``numpy.matmul``.

    Parameters
    ----------
    value : Value
    constant : array
        One or two dimensions, beside leading ones.
    constant_first : bool
    merge : bool
        False ends a layer (identity activation) before a second product, so that linear layers stay apart.
    """
    if constant.ndim > 2 and math.prod(constant.shape[:-2]) != 1:
        raise UnsupportedModelError(f"multiplies by a stack of matrices of shape {constant.shape}.")
    shapes = (constant.shape, value.shape) if constant_first else (value.shape, constant.shape)
    shape = _product_shape(*shapes)
    signal = value.signal
    if signal.is_mixed and not merge:
        signal = activated(signal, Identity())
    matrix = constant.reshape(constant.shape[-2:]) if constant.ndim > 2 else constant
    index = np.arange(len(signal.offset)).reshape(value.shape)
    if not constant_first:
        left = matrix[None] if matrix.ndim == 1 else matrix.T
        return Value(_left(signal, left, index.ravel(), shape))
    left = np.atleast_2d(matrix)
    columns = index if index.ndim == 1 else index.swapaxes(-1, -2)  # one group a column
    signal = _left(signal, left, columns.ravel(), shape)
    if index.ndim > 1 and index.shape[-1] > 1 and len(left) > 1:  # groups are columns: (..., k, p) -> (..., p, k)
        turned = np.arange(len(signal.offset)).reshape(*columns.shape[:-1], len(left)).swapaxes(-1, -2)
        signal = signal.mapped(None, turned.ravel(), shape)
    return Value(signal)


def _left(signal: Signal, left: Array, order: NDArray[np.intp], shape: Shape) -> Signal:
    if signal.is_mixed or len(order) != left.shape[1] or (order != np.arange(len(order))).any():
        return signal.mapped(left, order, shape)
    matrix = left if signal.matrix is None else left * signal.matrix  # no identity matrix is formed
    return Signal(signal.stage, shape, np.array(matrix), left @ signal.offset)


def _product_shape(one: Shape, two: Shape) -> Shape:
    """Shape of a matrix product."""
    if not one or not two or one[-1] != two[-2 if len(two) > 1 else 0]:
        raise UnsupportedModelError(f"multiplies tensors of shapes {one} and {two}.")
    try:
        lead = np.broadcast_shapes(one[:-2], two[:-2])
    except ValueError as error:
        raise UnsupportedModelError(f"multiplies tensors of shapes {one} and {two}.") from error
    return (*lead, *(one[-2:-1] if len(one) > 1 else ()), *(two[-1:] if len(two) > 1 else ()))

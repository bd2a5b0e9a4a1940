"""A ReLU network between bounds as sparse linear rows: what linear, cone and mixed-integer programs share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from convexnn.propagation.layer_bounds import LayerBounds
from convexnn.propagation.query import Query

Array = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class NetworkModel:
    """Variables ``(x, s_1, z_1, ..., s_L, z_L)``: inputs, pre-activations of all units, outputs of unstable ones.

        s_1 = W_1 x + b_1,  s_i = W_i h_{i-1} + b_i,  h = leak s + (1 - leak) z,  z = s or 0 where the unit is stable,

    and for unstable units ``z >= 0, z >= s``. The triangle adds ``z <= u (s - l) / (u - l)``. Bounds on s hold for
    every unit, so the signs of a query are in them.

    Attributes
    ----------
    query : Query
        ReLU, LeakyReLU or linear units.
    bounds : LayerBounds
        Of the pre-activations, not empty.
    """

    query: Query
    bounds: LayerBounds

    @property
    def leak(self) -> float:
        """Slope below zero."""
        return float(self.query.network.activation.slopes[0])

    @cached_property
    def unstable(self) -> tuple[Index, ...]:
        """Units of each layer with a variable z."""
        pairs = zip(self.bounds.lower, self.bounds.upper, strict=True)
        return tuple(np.flatnonzero((low < 0) & (high > 0) & (self.leak < 1.0)) for low, high in pairs)

    @cached_property
    def pre_columns(self) -> tuple[Index, ...]:
        """Columns of s, a layer each."""
        return tuple(first + np.arange(len(low)) for first, low in zip(self._starts, self.bounds.lower, strict=True))

    @cached_property
    def post_columns(self) -> tuple[Index, ...]:
        """Columns of z, a layer each, in the order of ``unstable``."""
        both = zip(self.pre_columns, self.unstable, strict=True)
        return tuple(pre[-1] + 1 + np.arange(len(own)) for pre, own in both)

    @cached_property
    def _starts(self) -> list[int]:
        sizes = [len(low) + len(own) for low, own in zip(self.bounds.lower, self.unstable, strict=True)]
        return [self.query.network.n_inputs + sum(sizes[:i]) for i in range(len(sizes))]

    @cached_property
    def n_columns(self) -> int:
        """Number of variables."""
        return int(self.post_columns[-1][-1] + 1 if len(self.post_columns[-1]) else self.pre_columns[-1][-1] + 1)

    def _hidden(self, layer: int) -> sparse.csr_array:
        """``h`` of a layer as rows over the variables."""
        units, own = len(self.bounds.lower[layer]), self.unstable[layer]
        weights = np.where(self.bounds.lower[layer] >= 0, 1.0, self.leak)
        rows = np.concatenate([np.arange(units), own])
        columns = np.concatenate([self.pre_columns[layer], self.post_columns[layer]])
        values = np.concatenate([weights, np.full(len(own), 1.0 - self.leak)])
        return sparse.csr_array((values, (rows, columns)), shape=(units, self.n_columns))

    @cached_property
    def equations(self) -> sparse.csr_array:
        """Rows ``W h - s``, layer after layer; they equal ``-b``."""
        d = self.query.network.n_inputs
        previous, blocks = sparse.eye_array(d, self.n_columns, format="csr"), []
        for layer, (W, _) in enumerate(self.query.network.layers[:-1]):
            own = _selection(self.pre_columns[layer], self.n_columns)
            blocks.append(sparse.csr_array(W) @ previous - own)
            previous = self._hidden(layer)
        return sparse.csr_array(sparse.vstack(blocks))

    @cached_property
    def right_sides(self) -> Array:
        """``-b`` of all hidden layers."""
        return -np.concatenate([b for _, b in self.query.network.layers[:-1]])

    @cached_property
    def floors(self) -> sparse.csr_array:
        """Rows ``z - s >= 0`` of the unstable units."""
        return _selection(self._z, self.n_columns) - _selection(self._s, self.n_columns)

    @cached_property
    def chords(self) -> tuple[sparse.csr_array, Array]:
        """Rows ``z - t s`` of the unstable units and their upper bounds ``-t l``, ``t = u / (u - l)``."""
        low, high = self.ranges
        t = high / (high - low)
        return _selection(self._z, self.n_columns) - sparse.diags_array(t) @ _selection(
            self._s, self.n_columns
        ), -t * low

    @cached_property
    def ranges(self) -> tuple[Array, Array]:
        """Bounds ``l < 0 < u`` of all unstable units."""
        pairs = list(zip(self.bounds.lower, self.bounds.upper, self.unstable, strict=True))
        return np.concatenate([low[own] for low, _, own in pairs]), np.concatenate(
            [high[own] for _, high, own in pairs]
        )

    @cached_property
    def _z(self) -> Index:
        return np.concatenate(self.post_columns)

    @cached_property
    def _s(self) -> Index:
        return np.concatenate([pre[own] for pre, own in zip(self.pre_columns, self.unstable, strict=True)])

    @cached_property
    def column_bounds(self) -> tuple[Array, Array]:
        """Bounds of all variables; of the inputs those of the box around the set."""
        low, high = np.full(self.n_columns, -np.inf), np.full(self.n_columns, np.inf)
        low[: self.query.network.n_inputs], high[: self.query.network.n_inputs] = self.query.inputs.bounding_box()
        for pre, lower, upper in zip(self.pre_columns, self.bounds.lower, self.bounds.upper, strict=True):
            low[pre], high[pre] = lower, upper
        low[self._z], high[self._z] = 0.0, self.ranges[1]
        return low, high

    @cached_property
    def objectives(self) -> tuple[Array, Array]:
        """Rows of ``weights f`` over the variables (q, n), and constants (q,)."""
        W, b = self.query.network.layers[-1]
        rows = (self._hidden(len(self.bounds.lower) - 1).T @ (self.query.weights @ W).T).T
        return np.asarray(rows), self.query.weights @ b + self.query.offset

    def split_prices(self, multipliers: Array) -> Iterator[Array]:
        """Multipliers of ``equations`` by layer."""
        yield from np.split(multipliers, np.cumsum([len(low) for low in self.bounds.lower])[:-1])


def _selection(columns: Index, n: int) -> sparse.csr_array:
    """Rows that pick columns."""
    m = len(columns)
    return sparse.csr_array((np.ones(m), (np.arange(m), columns)), shape=(m, n))

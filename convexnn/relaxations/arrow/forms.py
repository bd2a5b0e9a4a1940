"""The pre-activations of a network as affine forms of the unstable units and the scaled inputs, rounding included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation.query import Query
from convexnn.relaxations.arrow.chart import Chart
from convexnn.rigorous import UNIT, gamma

Array = NDArray[np.float64]
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, eq=False)
class Forms:
    """Affine forms over ``(1, z, xi)``: z the relu of the unstable units divided by ``scale``, xi the chart's inputs.

    A form F stands for ``F (1, z, xi)``; the true quantity differs from it by at most its entry of the error, for every
    input of the set. z and the pre-activation s of a unit are divided by the same ``scale = (u - l) / 2``.

    Attributes
    ----------
    layer, unit : array of int, shape (m,)
        Where the unstable units sit, layer by layer.
    scale, lower, upper : array, shape (m,)
        ``scale lower <= s <= scale upper``, rounded outward.
    units : array, shape (m, 1 + m + d)
        Scaled pre-activations of the unstable units.
    signs : array, shape (x, 1 + m + d)
        Forms that are <= 0 on the set because of the signs of the query (scaled).
    outputs : array, shape (q, 1 + m + d)
        ``weights f + offset``.
    units_error, signs_error, outputs_error : array
        Nonnegative, rounded up.
    """

    layer: NDArray[np.intp]
    unit: NDArray[np.intp]
    scale: Array
    lower: Array
    upper: Array
    units: Array
    signs: Array
    outputs: Array
    units_error: Array
    signs_error: Array
    outputs_error: Array

    @property
    def m(self) -> int:
        """Number of unstable units."""
        return len(self.scale)


@dataclass
class _Layer:
    """Forms (units, 1 + m + d) of one layer and their errors (units,)."""

    forms: Array
    error: Array

    def rows(self, index: Any, scale: Array) -> _Layer:
        """Some rows, divided by scale."""
        return _Layer(self.forms[index] / scale[:, None], self.error[index] / scale)


def unstable(query: Query, lower: Array, upper: Array, k: int) -> NDArray[np.bool_]:
    """Units of hidden layer k whose relu is neither the identity nor zero on the set, shape (units,)."""
    free = (lower < 0) & (upper > 0) & (query.network.activation.slopes[0] < 1.0)
    return free if query.signs is None else free & (query.signs[k] == 0)


def compose(query: Query, bounds: Any, chart: Chart) -> Forms:
    """Forms of a query: stable units and units with a sign are substituted, the others become variables.

    A leaky unit is ``slope s + (1 - slope) relu(s)``. Every product is followed by a bound on its rounding error, so
    that the forms can be used as if they were exact once ``error`` is paid for.

    Parameters
    ----------
    query : Query
        ReLU or LeakyReLU network.
    bounds : LayerBounds
        Bounds of the hidden pre-activations on the set.
    chart : Chart
        Scaled coordinates of the inputs.
    """
    layers, slope = query.network.layers, query.network.activation.slopes[0]
    masks = [unstable(query, low, up, k) for k, (low, up) in enumerate(zip(bounds.lower, bounds.upper, strict=True))]
    m = sum(int(mask.sum()) for mask in masks)
    reach = np.ones(1 + m + chart.d)  # largest absolute value of each variable
    bias, slopes, error = chart.first_layer(*layers[0])
    forms = np.zeros((len(bias), 1 + m + chart.d))
    forms[:, 0], forms[:, 1 + m :] = bias, slopes
    pre, start, units, signs, scales, ends = _Layer(forms, error), 0, [], [], [], []
    for k, mask in enumerate(masks):
        low, up = bounds.lower[k], bounds.upper[k]
        index = np.flatnonzero(mask)
        here = slice(1 + start, 1 + start + len(index))
        scale = 0.5 * up[index] - 0.5 * low[index]
        ends.append((np.nextafter(low[index] / scale, -np.inf), np.nextafter(up[index] / scale, np.inf)))
        scales.append(scale)
        units.append(pre.rows(index, scale))
        signs.append(_sign_rows(query, k, pre, low, up))
        reach[here] = ends[-1][1]
        post = _activate(pre, slope, (low >= 0) | _positive(query, k, len(low)), reach)
        post.forms[index, np.arange(here.start, here.stop)] = (1.0 - slope) * scale
        post.error[index] += 4.0 * UNIT * up[index]
        pre, start = _affine(post, *layers[k + 1], reach), here.stop - 1
    output = _affine(pre, query.weights, query.offset, reach)
    unit_forms, unit_error = _stacked(units, reach)
    sign_forms, sign_error = _stacked(signs, reach)
    return Forms(
        layer=np.repeat(np.arange(len(masks)), [int(mask.sum()) for mask in masks]),
        unit=np.concatenate([np.flatnonzero(mask) for mask in masks]),
        scale=np.concatenate(scales),
        lower=np.concatenate([low for low, _ in ends]),
        upper=np.concatenate([up for _, up in ends]),
        units=unit_forms,
        signs=sign_forms,
        outputs=output.forms,
        units_error=unit_error,
        signs_error=sign_error,
        outputs_error=output.error,
    )


def _positive(query: Query, k: int, units: int) -> NDArray[np.bool_]:
    return np.zeros(units, dtype=bool) if query.signs is None else query.signs[k] > 0


def _sign_rows(query: Query, k: int, pre: _Layer, low: Array, up: Array) -> _Layer:
    """Forms ``-sign s / size <= 0`` of the units whose sign is not clear without it."""
    if query.signs is None:
        return _Layer(pre.forms[:0], pre.error[:0])
    sign = query.signs[k]
    index = np.flatnonzero(((sign > 0) & (low <= 0)) | ((sign < 0) & (up >= 0)))
    size = np.maximum(np.abs(low[index]), np.abs(up[index]))
    found = pre.rows(index, np.where(size > 0, size, 1.0))
    return _Layer(-sign[index, None] * found.forms, found.error)


def _activate(pre: _Layer, slope: float, active: NDArray[np.bool_], reach: Array) -> _Layer:
    """Linear part of the activation: the identity where active, else the slope."""
    factor = np.where(active, 1.0, slope)
    forms = factor[:, None] * pre.forms
    rounding = 4.0 * UNIT * (np.abs(forms) @ reach) * (factor != 1.0) + TINY * len(reach) if slope else 0.0
    return _Layer(forms, factor * pre.error * (1.0 + 8.0 * UNIT) + rounding)


def _affine(post: _Layer, W: Array, b: Array, reach: Array) -> _Layer:
    """``W post + b``, the error of the product included."""
    forms = W @ post.forms
    forms[:, 0] += b
    relative = 2.0 * gamma(W.shape[1] + len(reach) + 8)
    size = np.abs(post.forms) @ reach
    spread = np.abs(W) @ (post.error + relative * size) + relative * np.abs(b)
    return _Layer(forms, spread * (1.0 + relative) + TINY * forms.size)


def _stacked(parts: list[_Layer], reach: Array) -> tuple[Array, Array]:
    """Rows of all layers; the division by the scale is one more rounding."""
    forms = np.vstack([part.forms for part in parts])
    error = np.concatenate([part.error for part in parts])
    total = error + 2.0 * UNIT * (np.abs(forms) @ reach)
    return forms, total * (1.0 + 2.0 * gamma(len(reach) + 8)) + TINY * len(reach)

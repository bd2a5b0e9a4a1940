"""Pre-activations and rows of a network as affine forms over ``(1, z, xi)``, in rational numbers.

z are the outputs of the unstable units divided by powers of two, xi the coordinates of a chart of the input set:
``x = centre + half xi`` with ``|xi_i| <= 1`` (boxes), ``|xi|_2 <= 1`` (balls), or both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import CertificateError
from convexnn.propagation import InputSet, Query
from convexnn.relaxations.arrow.chart import Chart
from convexnn.verification.exact_bounds import ExactBounds
from convexnn.verification.exact_numbers import Rationals, rational, rationals
from convexnn.verification.exact_sets import extent

Array = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class ExactForms:
    """Affine forms without rounding.

    Attributes
    ----------
    unit : array of float, shape (m,)
        Powers of two; ``z = relu(s) / unit``.
    lower, upper : rational array, shape (m,)
        Of ``s / unit``, moved so that they enclose zero.
    units : rational array, shape (m, 1 + m + d)
        ``s / unit`` of the unstable units.
    hidden : tuple of rational arrays (units, 1 + m + d)
        Pre-activations of all units, layer by layer.
    outputs : rational array, shape (q, 1 + m + d)
        The rows of the query.
    """

    unit: Array
    lower: Rationals
    upper: Rationals
    units: Rationals
    hidden: tuple[Rationals, ...]
    outputs: Rationals


def compose(query: Query, bounds: ExactBounds, chart: Chart, layer: Index, unit: Index, scale: Array) -> ExactForms:
    """Forms of a query with these unstable units; all others are substituted.

    Parameters
    ----------
    query : Query
        ReLU or LeakyReLU network.
    bounds : ExactBounds
        Of the pre-activations over the set.
    chart : Chart
        Of the set, without lift; it must contain the set.
    layer, unit : array of int, shape (m,)
        Units that get a variable, layer by layer.
    scale : array, shape (m,)
        Sizes of the units, rounded here to powers of two.

    Raises
    ------
    CertificateError
        When a unit without variable is not stable, or the chart does not contain the set.
    """
    m, network = len(layer), query.network
    slope = rational(float(network.activation.slopes[0]))
    powers = np.ldexp(1.0, np.frexp(scale)[1])
    _refuse_chart(query.inputs, chart)
    post = np.empty((0, 1 + m + chart.d), dtype=object)
    hidden, rows = [], []
    for k, (W, b) in enumerate(network.layers[:-1]):
        pre = _affine(W, b, post) if k else _first(W, b, chart, m)
        own = np.flatnonzero(layer == k)
        post = pre * _factors(bounds, k, unit[own], slope)[:, None]
        for j in own:
            rows.append(pre[unit[j]] / rational(float(powers[j])))
            post[unit[j], 1 + j] = post[unit[j], 1 + j] + (rational(1) - slope) * rational(float(powers[j]))
        hidden.append(pre)
    outputs = _affine(query.weights, query.offset, _affine(*network.layers[-1], post))
    zero = rational(0)
    ends = [
        [values[k][j] / rational(float(p)) for k, j, p in zip(layer, unit, powers, strict=True)]
        for values in (bounds.lower, bounds.upper)
    ]
    lower, upper = (np.array(values, dtype=object) for values in ends)
    stacked = np.array(rows, dtype=object).reshape(m, 1 + m + chart.d)
    return ExactForms(powers, np.minimum(lower, zero), np.maximum(upper, zero), stacked, tuple(hidden), outputs)


def _refuse_chart(inputs: InputSet, chart: Chart) -> None:
    """Charts must contain the set."""
    centre, half = rationals(chart.centre), rationals(chart.half)
    if chart.is_ball:
        fits = bool((centre == rationals(inputs.centre)).all() and (half >= rational(float(inputs.radius))).all())
    else:
        low, high = extent(inputs)
        reach = np.where(np.isin(np.arange(len(half)), chart.kept), half, rational(0))
        fits = bool((centre - reach <= low).all() and (centre + reach >= high).all())
    if not fits or chart.lift is not None:
        raise CertificateError("The chart of the inputs does not contain the set.")


def _first(W: Array, b: Array, chart: Chart, m: int) -> Rationals:
    """``W x + b`` as forms (units, 1 + m + d)."""
    weights = rationals(W)
    forms = np.full((len(b), 1 + m + chart.d), rational(0), dtype=object)
    forms[:, 0] = weights @ rationals(chart.centre) + rationals(b)
    forms[:, 1 + m :] = weights[:, chart.kept] * rationals(chart.half)[chart.kept]
    return forms


def _affine(W: Array, b: Array, post: Rationals) -> Rationals:
    found = rationals(W) @ post
    found[:, 0] = found[:, 0] + rationals(b)
    return np.asarray(found)


def _factors(bounds: ExactBounds, k: int, unstable: Index, slope: Any) -> Rationals:
    """What every unit does to its pre-activation: 1 where active, the slope elsewhere; unstable units add their z."""
    lower, upper, zero = bounds.lower[k], bounds.upper[k], rational(0)
    active, dead = lower >= zero, upper <= zero
    linear = np.full(len(lower), slope == rational(1))
    free = np.isin(np.arange(len(lower)), unstable)
    if not (active | dead | linear | free).all():
        raise CertificateError(
            f"Exact bounds leave units of hidden layer {k} unstable that the multiplier takes for stable: evidence for "
            "bounds has no exact check."
        )
    return np.where(active & ~free, rational(1), slope)

"""Bounds on every pre-activation over a set of inputs: intervals, linear bounds, and what evidence adds to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import ReLU
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.propagation.backward import TINY, Layer, upper_bounds
from convexnn.propagation.lines import image
from convexnn.propagation.query import Query
from convexnn.rigorous import gamma
from convexnn.values import ByValue

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LayerBounds(ByValue):
    """Intervals of all pre-activations over the input set (with the signs of the query), rounded outward.

    Attributes
    ----------
    lower, upper : tuple of arrays (units,)
        One pair a hidden layer.
    multiplier : mapping of str to array
        Evidence from which :func:`read_bounds` computes the same numbers again; empty when there is no need of any.
    """

    lower: tuple[Array, ...]
    upper: tuple[Array, ...]
    multiplier: Mapping[str, Array] = field(default_factory=dict, repr=False)

    @property
    def empty(self) -> bool:
        """Whether no input of the set has the signs: every bound is ``-inf`` then."""
        return any(bool((low > high).any()) for low, high in zip(self.lower, self.upper, strict=True))

    def intersect(self, other: LayerBounds) -> LayerBounds:
        """The better of both, with the multiplier of both."""
        lower = tuple(np.maximum(a, b) for a, b in zip(self.lower, other.lower, strict=True))
        upper = tuple(np.minimum(a, b) for a, b in zip(self.upper, other.upper, strict=True))
        return LayerBounds(lower, upper, {**self.multiplier, **other.multiplier})

    def layers(self, query: Query, count: int | None = None) -> tuple[Layer, ...]:
        """The first hidden layers with these bounds, ready for a backward pass."""
        reach = np.max(np.abs(query.inputs.bounding_box()), axis=0)
        found: list[Layer] = []
        for k in range(len(self.lower) if count is None else count):
            found.append(Layer.of(query.network, k, self.lower[k], self.upper[k], reach))
            reach = found[-1].reach
        return tuple(found)


Refiner = Callable[[Query, LayerBounds, Mapping[str, Array]], LayerBounds]
_REFINERS: dict[str, Refiner] = {}


def register_refiner(prefix: str, function: Refiner) -> None:
    """Let evidence under keys that start with ``prefix`` tighten bounds in :func:`read_bounds`.

    Parameters
    ----------
    prefix : str
        Starts with ``"bounds/"``.
    function : callable (query, bounds, multiplier) -> LayerBounds
        Rigorous bounds from ANY arrays under these keys (only they are handed over); ``bounds`` hold already. The
        result is intersected with them.
    """
    if not prefix.startswith("bounds/"):
        raise InvalidInputError(f'The prefix of a refiner starts with "bounds/", got {prefix!r}.')
    _REFINERS[prefix] = function


def interval_bounds(query: Query) -> LayerBounds:
    """Interval arithmetic from layer to layer; the first layer is exact up to rounding.

    Implements: Gowal et al. (2019), section 3, interval bounds.
    """
    return _forward(query, _first_layer(query), linear=False)


def crown_bounds(query: Query) -> LayerBounds:
    """Backward linear bounds for every hidden layer, each intersected with intervals; never above them."""
    first = _first_layer(query)
    wide = _forward(query, first, linear=False)
    return wide if query.network.is_shallow else _forward(query, first, linear=True).intersect(wide)


def read_bounds(query: Query, multiplier: Mapping[str, Array]) -> LayerBounds:
    """Bounds recomputed from the evidence under the keys ``"bounds/..."``; without any, :func:`crown_bounds`.

    Every kind of evidence can only tighten them; kinds that nobody registered are ignored.
    """
    return refined(query, crown_bounds(query), multiplier)


def refined(query: Query, bounds: LayerBounds, multiplier: Mapping[str, Array]) -> LayerBounds:
    """Rigorous bounds, tightened by all registered kinds of evidence in a multiplier."""
    for prefix, function in sorted(_REFINERS.items()):
        evidence = {key: value for key, value in multiplier.items() if key.startswith(prefix)}
        if evidence and not bounds.empty:
            found = bounds.intersect(function(query, bounds, evidence))
            bounds = LayerBounds(found.lower, found.upper, {**bounds.multiplier, **evidence})
    return bounds


def checked_shape(values: Array, key: str, shape: tuple[int, ...]) -> Array:
    """An array of a multiplier as floats.

    Raises
    ------
    CertificateError
        When it is no array of numbers of this shape.
    """
    try:
        if np.iscomplexobj(values):
            raise TypeError("it holds complex numbers")
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CertificateError(f"The multiplier {key!r} is no array of numbers: {error}") from error
    if array.shape != shape:
        raise CertificateError(f"The multiplier {key!r} has the shape {array.shape}; it should be {shape}.")
    return array


def next_interval(network_layer: tuple[Array, Array], low: Array, high: Array) -> tuple[Array, Array]:
    """Interval of ``W h + b`` for ``low <= h <= high``, rounded outward, shapes (units,)."""
    W, b = network_layer
    with np.errstate(all="ignore"):
        middle = low + 0.5 * (high - low)
        half = np.nextafter(np.maximum(high - middle, middle - low), np.inf) * (high > low)
        size = np.abs(W) @ np.maximum(np.abs(low), np.abs(high)) + np.abs(b)
        error = 4.0 * gamma(W.shape[1] + 8) * size + TINY * (1.0 + W.shape[1])
        centre, spread = W @ middle + b, np.abs(W) @ half + error
        lower, upper = np.nextafter(centre - spread, -np.inf), np.nextafter(centre + spread, np.inf)
    return np.where(np.isnan(lower), -np.inf, lower), np.where(np.isnan(upper), np.inf, upper)


def _first_layer(query: Query) -> tuple[Array, Array]:
    W, b = query.network.layers[0]
    return -query.inputs.maximum(-W, -b), query.inputs.maximum(W, b)


def _forward(query: Query, first: tuple[Array, Array], linear: bool) -> LayerBounds:
    """Layer by layer; an empty layer ends up with its bounds crossed, later ones are computed as if it were not."""
    network = query.network
    lower: list[Array] = []
    upper: list[Array] = []
    found = first
    for k in range(len(network.layers) - 1):
        if k:
            last = np.minimum(lower[-1], upper[-1]), np.maximum(lower[-1], upper[-1])
            with np.errstate(all="ignore"):
                found = next_interval(network.layers[k], *image(network.activation, *last))
        if k and linear:
            known = LayerBounds(tuple(lower), tuple(upper)).layers(query)
            found = _linear(query, k, known, found)
        found = _with_signs(query, k, *found)
        lower.append(found[0])
        upper.append(found[1])
    return LayerBounds(tuple(lower), tuple(upper))


def _linear(query: Query, k: int, known: tuple[Layer, ...], found: tuple[Array, Array]) -> tuple[Array, Array]:
    """Bounds of layer k by a backward pass, better than those found; dead units are left alone."""
    W, b = query.network.layers[k]
    dead = (found[1] <= 0) if isinstance(query.network.activation, ReLU) else np.zeros(len(b), dtype=bool)
    live = np.flatnonzero(~dead)
    if not len(live):
        return found
    both = upper_bounds(known, query.inputs, np.vstack([W[live], -W[live]]), np.concatenate([b[live], -b[live]]))
    lower, upper = found[0].copy(), found[1].copy()
    upper[live] = np.minimum(upper[live], both[: len(live)])
    lower[live] = np.maximum(lower[live], -both[len(live) :])
    return lower, upper


def _with_signs(query: Query, k: int, lower: Array, upper: Array) -> tuple[Array, Array]:
    if query.signs is None:
        return lower, upper
    sign = np.asarray(query.signs[k])
    return np.where(sign > 0, np.maximum(lower, 0.0), lower), np.where(sign < 0, np.minimum(upper, 0.0), upper)

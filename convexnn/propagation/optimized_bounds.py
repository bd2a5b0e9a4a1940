"""Pre-activation bounds with optimized slopes: every unit of a deeper layer has a backward pass with its own lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import LeakyReLU, ReLU
from convexnn.propagation.backward import Choice, upper_bounds
from convexnn.propagation.layer_bounds import LayerBounds, checked_shape, crown_bounds, register_refiner
from convexnn.propagation.query import Effort, Query
from convexnn.propagation.slope_descent import descend
from convexnn.propagation.slopes import SlopeProblem

Array = NDArray[np.float64]
Index = NDArray[np.intp]

PREFIX = "bounds/slopes/"
#: Steps on the slopes of a unit: most of the gain comes early.
STEPS = 30
KINDS, SIDES = ("shares", "tensions"), ("upper", "lower")


def optimized_bounds(query: Query, effort: Effort, bounds: LayerBounds | None = None) -> LayerBounds:
    """Bounds of the deeper layers with slopes of their own, layer by layer; never above those handed over.

    Units that are linear between their bounds are left alone. Costs as much as :func:`crown_bounds` times the number
    of steps.

    Parameters
    ----------
    query : Query
    effort : Effort
        ``max_iter`` steps for every layer (None: 30), and the deadline; a target does not matter.
    bounds : LayerBounds, optional
        Default :func:`crown_bounds`.

    Returns
    -------
    LayerBounds
        The multiplier holds the slopes, from which :func:`read_bounds` computes the bounds again.
    """
    known = crown_bounds(query) if bounds is None else bounds
    quiet = replace(effort, stop_below=None, first_failure=False)
    for k in range(1, len(query.network.n_hidden)):
        units = _open_units(query, known, k)
        if known.empty or not len(units) or effort.out_of_time():
            break
        W, b = query.network.layers[k]
        A, c = np.vstack([W[units], -W[units]]), np.concatenate([b[units], -b[units]])
        found = descend(SlopeProblem(known.layers(query, k), query.inputs, A, c), query.signs, quiet, STEPS)
        evidence = _as_evidence(k, units, len(b), found.choice(query.network.n_hidden))
        known = refine(query, replace(known, multiplier={**known.multiplier, **evidence}), evidence)
    return known


def refine(query: Query, bounds: LayerBounds, multiplier: Mapping[str, Array]) -> LayerBounds:
    """Bounds that are better by slopes under the keys ``"bounds/slopes/{k}/{side}/{kind}/{j}"``; ANY slopes are valid.

    An array holds the slopes (or tensions) of layer j in the passes of all units of layer k, shape (units of k, units
    of j); rows of nan stand for units without a pass.
    """
    for k in range(1, len(query.network.n_hidden)):
        for side in SIDES:
            shares, tensions = (_read(query, multiplier, f"{k}/{side}/{kind}", k) for kind in KINDS)
            wanted = ~np.all([np.isnan(share).all(axis=1) for share in shares], axis=0)
            units = np.flatnonzero(wanted)
            if len(units) and not bounds.empty:
                zeros = [np.where(np.isfinite(tension), tension, 0.0)[units] for tension in tensions]
                choice = Choice([np.clip(share[units], 0.0, 1.0) for share in shares], zeros)
                bounds = _improve(query, bounds, k, units, 1.0 if side == "upper" else -1.0, choice)
    return bounds


def _improve(query: Query, bounds: LayerBounds, k: int, units: Index, sign: float, choice: Choice) -> LayerBounds:
    W, b = query.network.layers[k]
    found = sign * upper_bounds(bounds.layers(query, k), query.inputs, sign * W[units], sign * b[units], choice)
    lower, upper = [list(side) for side in (bounds.lower, bounds.upper)]
    best = (upper if sign > 0 else lower)[k].copy()
    best[units] = (np.minimum if sign > 0 else np.maximum)(best[units], found)
    (upper if sign > 0 else lower)[k] = best
    return LayerBounds(tuple(lower), tuple(upper), bounds.multiplier)


def _open_units(query: Query, bounds: LayerBounds, k: int) -> Index:
    if isinstance(query.network.activation, ReLU | LeakyReLU):
        return np.flatnonzero((bounds.lower[k] < 0) & (bounds.upper[k] > 0))
    return np.arange(len(bounds.lower[k]))


def _read(query: Query, multiplier: Mapping[str, Array], name: str, k: int) -> list[Array]:
    found, sizes = [], query.network.n_hidden
    for j in range(k):
        key, shape = f"{PREFIX}{name}/{j}", (sizes[k], sizes[j])
        found.append(checked_shape(multiplier[key], key, shape) if key in multiplier else np.full(shape, np.nan))
    return found


def _as_evidence(k: int, units: Index, n_units: int, choice: Choice) -> dict[str, Array]:
    evidence = {}
    for kind, arrays in zip(KINDS, (choice.shares, choice.tensions), strict=True):
        for j, values in enumerate(arrays):
            for side, rows in zip(SIDES, (slice(len(units)), slice(len(units), None)), strict=True):
                if values is not None:
                    full = np.full((n_units, values.shape[1]), np.nan)
                    full[units] = values[rows]
                    evidence[f"{PREFIX}{k}/{side}/{kind}/{j}"] = full
    return evidence


register_refiner(PREFIX, refine)

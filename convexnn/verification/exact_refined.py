"""Bounds of layers with the evidence that tightens them, in rational numbers (see `read_bounds`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import CertificateError
from convexnn.propagation import LayerBounds, Query, read_bounds
from convexnn.propagation.backward import Choice
from convexnn.propagation.layer_bounds import checked_shape
from convexnn.propagation.optimized_bounds import PREFIX, SIDES
from convexnn.relaxations.tightening import READERS, UNITS, unit_query
from convexnn.verification.exact_bounds import ExactBounds, chosen_rule, crown_rule, exact_crown, priced
from convexnn.verification.exact_numbers import rationals

Array = NDArray[np.float64]
Multiplier = Mapping[str, Array]


def exact_read(query: Query, multiplier: Multiplier) -> ExactBounds:
    """Bounds of CROWN, better where the multiplier holds slopes or evidence for the units of deeper layers."""
    bounds = exact_crown(query)
    if any(key.startswith(PREFIX) for key in multiplier):
        for k in range(1, len(query.network.n_hidden)):
            for side, sign in zip(SIDES, (1, -1), strict=True):
                if not bounds.empty:
                    bounds = _with_slopes(bounds, multiplier, k, side, sign)
    evidence = {key: value for key, value in multiplier.items() if key.startswith(UNITS)}
    return _with_units(bounds, multiplier, evidence) if evidence else bounds


def _with_units(bounds: ExactBounds, multiplier: Multiplier, evidence: Multiplier) -> ExactBounds:
    """Bounds tightened by evidence for single units, layer by layer (see `convexnn.relaxations.tightening`).

    The layout of a multiplier is that of the bounds in float64 which its own check uses.
    """
    query, groups = bounds.query, _groups(evidence)
    others = {key: value for key, value in multiplier.items() if not key.startswith(UNITS)}
    for layer in range(1, len(bounds.lower)):
        if bounds.empty:
            break
        if any(at < layer for at, _ in groups):
            W, b = query.network.layers[layer]
            below, units = bounds.below(layer), np.arange(len(b))
            for sign in (1, -1):
                values = priced(below, rationals(sign * W), rationals(sign * b), crown_rule(below))
                bounds = bounds.with_values(layer, sign, units, values)
        for (at, method), own in groups.items():
            if at == layer:
                lower_ones = {key: value for key, value in evidence.items() if int(key.split("/")[2]) < layer}
                layout = read_bounds(query, {**others, **lower_ones})
                bounds = _with_evidence(bounds, layout, layer, method, own)
    return bounds


def _groups(evidence: Multiplier) -> dict[tuple[int, str], dict[str, Array]]:
    found: dict[tuple[int, str], dict[str, Array]] = {}
    for key, value in evidence.items():
        layer, _, rest = key.removeprefix(UNITS).partition("/")
        method, _, own = rest.partition("/")
        if not layer.isdecimal() or method not in READERS:
            raise CertificateError(f"Evidence for bounds cannot be read: {key!r}.")
        found.setdefault((int(layer), method), {})[own] = value
    return found


def _with_evidence(bounds: ExactBounds, layout: LayerBounds, layer: int, method: str, own: Multiplier) -> ExactBounds:
    from convexnn.verification.exact_methods import KNOWN_CHECKS

    units, rows = len(bounds.lower[layer]), np.asarray(own.get("rows", np.nan), dtype=np.float64)
    if rows.ndim != 1 or not np.isin(np.abs(rows), np.arange(1, units + 1)).all():
        raise CertificateError(f"Evidence for hidden layer {layer} names units that do not exist.")
    chosen = rows.astype(np.intp)
    sub = unit_query(bounds.query, layer, chosen)
    known = ExactBounds(sub, bounds.lower[:layer], bounds.upper[:layer])
    below = LayerBounds(layout.lower[:layer], layout.upper[:layer])
    values = KNOWN_CHECKS[method](sub, own, known, below)
    for sign in (1, -1):
        side = np.flatnonzero(np.sign(chosen) == sign)
        for place in side:  # one by one: a unit may be named twice
            unit = np.array([abs(chosen[place]) - 1])
            bounds = bounds.with_values(layer, sign, unit, values[place : place + 1])
    return bounds


def _with_slopes(bounds: ExactBounds, multiplier: Multiplier, k: int, side: str, sign: int) -> ExactBounds:
    """Backward passes of the units of layer k with slopes of their own; rows of nan have none."""
    shares = [_slopes(bounds.query, multiplier, f"{PREFIX}{k}/{side}/shares/{j}", k, j) for j in range(k)]
    tensions = [_slopes(bounds.query, multiplier, f"{PREFIX}{k}/{side}/tensions/{j}", k, j) for j in range(k)]
    units = np.flatnonzero(~np.all([np.isnan(share).all(axis=1) for share in shares], axis=0))
    if not len(units):
        return bounds
    zeros = [np.where(np.isfinite(tension), tension, 0.0)[units] for tension in tensions]
    choice = Choice([np.clip(share[units], 0.0, 1.0) for share in shares], zeros)
    W, b = bounds.query.network.layers[k]
    below = bounds.below(k)
    values = priced(below, rationals(sign * W[units]), rationals(sign * b[units]), chosen_rule(below, choice))
    return bounds.with_values(k, sign, units, values)


def _slopes(query: Query, multiplier: Multiplier, key: str, k: int, j: int) -> Array:
    shape = (query.network.n_hidden[k], query.network.n_hidden[j])
    return checked_shape(multiplier[key], key, shape) if key in multiplier else np.full(shape, np.nan)

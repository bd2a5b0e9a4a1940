"""Tighter bounds on the units of the second hidden layer and beyond, unit by unit, by any certifier.

A pre-activation is an output of the network that ends there, so every certifier bounds it. All units of a layer get
slopes of their own (`convexnn.propagation.optimized_bounds`), and here the units that matter most get semidefinite
bounds. The evidence is read again by `convexnn.propagation.layer_bounds.read_bounds`, lower layers first:

    bounds/units/{layer}/{method}/rows   (n,): +j + 1 for an upper, -j - 1 for a lower bound on unit j
    bounds/units/{layer}/{method}/...    the multiplier of the method, row r for the r-th of them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import CertificateError, ConvexNNError
from convexnn.network import Network
from convexnn.propagation.crown import row_bounds
from convexnn.propagation.layer_bounds import LayerBounds, crown_bounds, read_bounds, register_refiner
from convexnn.propagation.optimized_bounds import optimized_bounds
from convexnn.propagation.query import Certifier, Effort, Query
from convexnn.relaxations.arrow.certifier import SDP
from convexnn.relaxations.linear import LP

Array = NDArray[np.float64]
Index = NDArray[np.intp]
UNITS, KNOWN = "bounds/units/", "bounds/known"
READERS: Mapping[str, Certifier] = {certifier.name: certifier for certifier in (LP, SDP)}


@dataclass(frozen=True)
class Tightening:
    """How much to spend on intermediate bounds.

    Attributes
    ----------
    steps : int
        Steps on the slopes of all units; 0 for none.
    units : int
        Units of each layer, those with the largest scores, that get bounds of their own by ``method``.
    tol : float
        Relative gap of these bounds.
    method : str
        "sdp" or "lp".
    """

    steps: int = 20
    units: int = 0
    tol: float = 1e-2
    method: str = "sdp"


class Known:
    """Bounds that this process has checked, handed to the checks of parts so that they need not be read again.

    Never part of stored evidence: it is no array, and whatever else stands under its key is ignored.
    """

    def __init__(self, query: Query, bounds: LayerBounds) -> None:
        self.query, self.bounds = query, bounds

    def covers(self, query: Query) -> bool:
        """Whether the bounds hold for a query: same network, same set, and at least these signs."""
        if query.network is not self.query.network or query.inputs is not self.query.inputs:
            return False
        if self.query.signs is None:
            return True
        mine = self.query.signs
        return query.signs is not None and all(
            bool(np.all((a == 0) | (a == b))) for a, b in zip(mine, query.signs, strict=True)
        )


def known_evidence(query: Query, bounds: LayerBounds) -> dict[str, Array]:
    """Checked bounds as an entry of a multiplier that lives in this process only; none when they have no evidence.

    Plain linear bounds are computed anew on every part, with its signs.
    """
    return _entry(query, bounds) if bounds.multiplier else {}


def _entry(query: Query, bounds: LayerBounds) -> dict[str, Array]:
    return {KNOWN: Known(query, bounds)}  # type: ignore[dict-item]


def _read_known(query: Query, bounds: LayerBounds, evidence: Mapping[str, Array]) -> LayerBounds:
    known: object = evidence.get(KNOWN)
    return known.bounds if isinstance(known, Known) and known.covers(query) else bounds


def unit_query(query: Query, layer: int, rows: Index) -> Query:
    """The question about pre-activations of a hidden layer; rows (n,): +j + 1 for ``s_j``, -j - 1 for ``-s_j``."""
    network = Network(query.network.layers[: layer + 1], query.network.activation)
    weights = np.zeros((len(rows), query.network.n_hidden[layer]))
    weights[np.arange(len(rows)), np.abs(rows) - 1] = np.sign(rows)
    signs = None if query.signs is None else query.signs[:layer]
    return replace(query, network=network, weights=weights, offset=np.zeros(len(rows)), signs=signs)


def read_units(query: Query, bounds: LayerBounds, evidence: Mapping[str, Array]) -> LayerBounds:
    """Bounds tightened by evidence about single units, whatever it holds; layers above are propagated again.

    Implements: convexnn, Proposition 3 of theory/branching: a pre-activation is an output.

    Parameters
    ----------
    query : Query
    bounds : LayerBounds
        Valid ones.
    evidence : mapping
        Keys as in the docstring of the module; what cannot be read changes nothing.
    """
    groups = _groups(evidence)
    current = bounds
    for layer in range(1, len(bounds.lower)):
        if current.empty:
            break
        if any(below < layer for below, _ in groups):
            everything = np.arange(1, len(bounds.lower[layer]) + 1)
            rows = np.concatenate([everything, -everything])
            sub = unit_query(query, layer, rows)
            current = _with_values(current, layer, rows, row_bounds(sub, _below(current, layer)))
        for method, own in ((name, own) for (at, name), own in groups.items() if at == layer):
            current = _with_evidence(query, current, layer, READERS[method], own)
    return LayerBounds(current.lower, current.upper)


def _groups(evidence: Mapping[str, Array]) -> dict[tuple[int, str], dict[str, Array]]:
    found: dict[tuple[int, str], dict[str, Array]] = {}
    for key, value in evidence.items():
        layer, _, rest = key.removeprefix(UNITS).partition("/")
        method, _, own = rest.partition("/")
        if layer.isdecimal() and len(layer) < 6 and method in READERS and own:
            found.setdefault((int(layer), method), {})[own] = value
    return found


def _with_evidence(
    query: Query, bounds: LayerBounds, layer: int, method: Certifier, own: Mapping[str, Array]
) -> LayerBounds:
    rows = _checked_rows(own.get("rows"), len(bounds.lower[layer]))
    if rows is None:
        return bounds
    sub = unit_query(query, layer, rows)
    if method.refusal(sub) is not None:
        return bounds
    multiplier = {key: value for key, value in own.items() if key.startswith("row") and key != "rows"}
    try:
        values = method.check(sub, {**multiplier, **_entry(sub, _below(bounds, layer))})
    except CertificateError:
        return bounds
    return _with_values(bounds, layer, rows, values)


def _checked_rows(given: Array | None, units: int) -> Index | None:
    """The list of units, or None where it is none."""
    rows = np.asarray(np.nan if given is None else given, dtype=np.float64)
    if rows.ndim != 1 or not len(rows) or len(rows) > 2 * units:
        return None
    fine = np.all((np.abs(rows) >= 1) & (np.abs(rows) <= units)) and np.array_equal(rows, np.rint(rows))
    return rows.astype(np.intp) if fine else None


def _below(bounds: LayerBounds, layer: int) -> LayerBounds:
    return LayerBounds(bounds.lower[:layer], bounds.upper[:layer])


def _with_values(bounds: LayerBounds, layer: int, rows: Index, values: Array) -> LayerBounds:
    """Bounds with upper bounds on ``s_j`` (rows > 0) and on ``-s_j`` (rows < 0) of one layer worked in."""
    lower, upper = list(bounds.lower), list(bounds.upper)
    low, high = lower[layer].copy(), upper[layer].copy()
    up = rows > 0
    np.minimum.at(high, rows[up] - 1, np.where(np.isnan(values[up]), np.inf, values[up]))
    np.maximum.at(low, -rows[~up] - 1, np.where(np.isnan(values[~up]), -np.inf, -values[~up]))
    lower[layer], upper[layer] = low, high
    return LayerBounds(tuple(lower), tuple(upper), bounds.multiplier)


def unit_scores(query: Query, bounds: LayerBounds) -> tuple[Array, ...]:
    """``|weight| (-l) u / (u - l)``, the largest over the rows: what the triangle of a unit may cost, a layer each."""
    A, found = query.weights @ query.network.layers[-1][0], []
    for layer in reversed(bounds.layers(query)):
        width = np.maximum(layer.upper - layer.lower, np.finfo(float).tiny)
        height = np.maximum(-layer.lower, 0.0) * np.maximum(layer.upper, 0.0) / width
        found.append(np.abs(A).max(axis=0) * height)
        A = (A * layer.slopes(A)) @ layer.W
    return tuple(reversed(found))


def tighten(
    query: Query, effort: Effort | None = None, bounds: LayerBounds | None = None, plan: Tightening | None = None
) -> LayerBounds:
    """Bounds of the layers with evidence for units of the second layer and beyond.

    Parameters
    ----------
    query : Query
        ReLU or LeakyReLU units; its rows decide which of them matter.
    effort : Effort, optional
        ``deadline``; what was found until then is returned.
    bounds : LayerBounds, optional
        Default: linear bounds.
    plan : Tightening, optional

    Returns
    -------
    LayerBounds
        Its multiplier holds the evidence; `read_bounds` gives the same numbers.
    """
    effort, plan = Effort() if effort is None else effort, Tightening() if plan is None else plan
    current = crown_bounds(query) if bounds is None else bounds
    if plan.steps:
        current = optimized_bounds(query, replace(effort, max_iter=plan.steps), current)
    method = READERS[plan.method]
    for layer in range(1, len(current.lower)):
        units = _chosen(query, current, layer, plan.units)
        if not len(units) or current.empty or effort.out_of_time():
            continue
        single = replace(effort, tol=plan.tol, max_iter=None, stop_below=None, first_failure=False)
        evidence = _evidence(query, current, layer, units, method, single)
        current = read_bounds(query, {**current.multiplier, **evidence})
    return current


def _evidence(
    query: Query, bounds: LayerBounds, layer: int, units: Index, method: Certifier, effort: Effort
) -> dict[str, Array]:
    """Evidence of one method for both sides of some units; none where it fails."""
    rows = np.concatenate([units + 1, -units - 1])
    sub = unit_query(query, layer, rows)
    if method.refusal(sub) is not None:
        return {}
    try:
        evidence = method.propose(sub, effort, _below(bounds, layer))
    except ConvexNNError:
        return {}
    prefix = f"{UNITS}{layer}/{method.name}/"
    return {prefix + "rows": rows.astype(np.float64)} | {
        prefix + key: value for key, value in evidence.multiplier.items() if not key.startswith("bounds/")
    }


def _chosen(query: Query, bounds: LayerBounds, layer: int, count: int) -> Index:
    """Units that change sign, by falling score."""
    scores = unit_scores(query, bounds)[layer]
    crossing = (bounds.lower[layer] < 0) & (bounds.upper[layer] > 0)
    order: Sequence[int] = [j for j in np.argsort(-scores, kind="stable") if crossing[j]]
    return np.array(order[:count], dtype=np.intp)


register_refiner(KNOWN, _read_known)
register_refiner(UNITS, read_units)

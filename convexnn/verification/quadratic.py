"""Certifier "quadratic": networks with one hidden layer of polynomial units are quadratic functions.

Over a ball the bound is the exact maximum (a trust region, up to rounding); over a box it is the bound of Shor's
diagonal multipliers; over a clipped ball the better of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.propagation.layer_bounds import LayerBounds
from convexnn.propagation.query import Certifier, Effort, Evidence, Query
from convexnn.quadratic.boxes import Boxes, coordinate_descent, diagonal_bounds
from convexnn.quadratic.diagonal import best_diagonal
from convexnn.quadratic.form import QuadraticForm, is_quadratic

Array = NDArray[np.float64]

#: Maxima of f are minima of -f.
DOWN = -np.ones(1)


@lru_cache(maxsize=256)
def _form(network: Network, weights: bytes) -> QuadraticForm:
    """``weights f``; remembered, since its eigendecomposition serves every sample."""
    return QuadraticForm.of_network(network, np.frombuffer(weights))


def _forms(query: Query) -> list[QuadraticForm]:
    return [_form(query.network, (row + 0.0).tobytes()) for row in query.weights]


def _box(query: Query, form: QuadraticForm) -> Boxes:
    low, high = query.inputs.bounding_box()
    return Boxes.between(form, low[None], high[None], DOWN)


def _is_boxed(query: Query) -> bool:
    """Whether bounds on single inputs cut the set."""
    return bool(np.isfinite([query.inputs.lower, query.inputs.upper]).any())


def propose_quadratic(query: Query, effort: Effort, bounds: LayerBounds | None = None) -> Evidence:
    """Multipliers of every row: ``row{r}/excess`` (1,) of the ball, ``row{r}/diagonal`` (d,) of the box.

    Parameters
    ----------
    query : Query
        One hidden layer, polynomial or linear units; signs do not help.
    effort : Effort
        ``deadline``.
    bounds : LayerBounds, optional
        Not needed.

    Returns
    -------
    Evidence
        Points are where the rows are largest: exactly so over a ball, the best found over a box.
    """
    del bounds
    inputs = query.inputs
    keys: dict[str, Array] = {}
    points: list[Array] = []
    for row, form in enumerate(_forms(query)):
        if effort.out_of_time():
            return Evidence("quadratic", keys, "time_limit", row, _stacked(query, points))
        if inputs.has_ball:
            centre, radius = inputs.centre[None], np.array([inputs.radius])
            keys[f"row{row}/excess"] = form.trust_region(centre, DOWN, radius).excesses
            points.append(form.worst_case(centre, DOWN, radius)[1])
        if _is_boxed(query):
            box = _box(query, form)
            diagonal, steps = best_diagonal(box)
            keys[f"row{row}/diagonal"] = diagonal[0]
            points.append(box.centres + coordinate_descent(box, np.clip(steps, -box.halves, box.halves))[0])
    return Evidence("quadratic", keys, "optimal", query.n_rows, _stacked(query, points))


def _stacked(query: Query, points: list[Array]) -> Array:
    found = np.vstack(points) if points else np.empty((0, query.network.n_inputs))
    return query.inputs.project(found[np.isfinite(found).all(axis=1)])


def check_quadratic(query: Query, multiplier: Mapping[str, Array]) -> Array:
    """Rigorous upper bounds from any multipliers of the ball and of the box; the smaller where there are both.

    Implements: convexnn, Propositions 3 and 6 of docs/theory/quadratic_worst_cases.md, for one sample.

    Parameters
    ----------
    query : Query
    multiplier : mapping of str to array
        As of :func:`propose_quadratic`; any numbers. Without them the proposal for a ball is made anew, and a box has
        multipliers zero.

    Returns
    -------
    array, shape (q,)
        ``inf`` for wrong shapes and where nothing is proved.
    """
    inputs, found = query.inputs, np.full(query.n_rows, np.inf)
    for row, form in enumerate(_forms(query)):
        lower = [-np.inf]
        if inputs.has_ball:
            excess = _given(multiplier, f"row{row}/excess", (1,))
            radius = np.array([inputs.radius])
            lower.append(float(form.worst_case_bounds(inputs.centre[None], DOWN, radius, excess)[0]))
        if not inputs.has_ball or _is_boxed(query):
            diagonal = _given(multiplier, f"row{row}/diagonal", inputs.centre.shape)
            usable = np.zeros_like(inputs.centre) if diagonal is None else diagonal
            lower.append(float(diagonal_bounds(_box(query, form), usable[None])[0]))
        best = max(value for value in lower if not np.isnan(value))
        with np.errstate(over="ignore"):
            found[row] = np.nextafter(query.offset[row] - best, np.inf)
    return np.where(np.isnan(found), np.inf, found)


def _given(multiplier: Mapping[str, Array], key: str, shape: tuple[int, ...]) -> Array | None:
    """The array of a key, None when it is absent or of another shape."""
    values = multiplier.get(key)
    array = None if values is None else np.asarray(values, dtype=np.float64)
    return array if array is not None and array.shape == shape else None


def refuse_other_networks(query: Query) -> str | None:
    """Why the method does not apply, or None."""
    if is_quadratic(query.network):
        return None
    return f"Only one hidden layer of polynomial or linear units makes a quadratic function; this is {query.network!r}."


QUADRATIC = Certifier("quadratic", propose_quadratic, check_quadratic, refuse_other_networks)

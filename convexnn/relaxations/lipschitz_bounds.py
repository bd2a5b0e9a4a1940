"""Certifiers "lipsdp" and "max_gradient": the value at the centre plus a Lipschitz bound of the row times the radius.

The multipliers belong to the network and the row, not to the sample: proposals and the rates that they prove are kept,
so that further samples cost an evaluation. Tanh and sigmoid units are taken as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from convexnn.lipsdp import (
    maximize,
    maximize_linf,
    multiplier_from_factor,
    stack_rounded,
    upper_bound,
    upper_bound_linf,
)
from convexnn.lipsdp.deep import maximize_deep, normalized_layers
from convexnn.lipsdp.deep_bound import upper_bound_deep
from convexnn.lipsdp.linf import multipliers_linf
from convexnn.lipsdp.pairs import certified_pairs
from convexnn.network import Network
from convexnn.propagation.crown import check_interval
from convexnn.propagation.input_set import InputSet
from convexnn.propagation.layer_bounds import LayerBounds
from convexnn.propagation.query import Certifier, Effort, Evidence, Query
from convexnn.rigorous import gamma, ldexp_up, norm_up, product_up, sqrt_up, sum_up

Array = NDArray[np.float64]

#: Gap of the proposals relative to the value of the relaxation; bounds hold whatever it is.
GAP_L2, GAP_LINF, GAP_DEEP = 1e-6, 1e-4, 1e-4
#: Rows (of all networks) whose multipliers and rates are remembered.
REMEMBERED = 1024
#: Half widths below this share of the largest count as that share when multipliers are made for a box.
NARROWEST = 1e-3
#: Inputs and hidden units of deep networks up to which LipSDP is solved; larger ones get the product of the norms.
LARGEST_DEEP = 600


def _largest_distances(inputs: InputSet) -> tuple[Array, float]:
    """``|x_i - centre_i|`` (d,) and ``|x - centre|_2`` at most, over the set."""
    low, high = inputs.bounding_box()
    half = np.maximum(np.maximum(high - inputs.centre, inputs.centre - low), 0.0)
    half = np.where(half > 0, np.nextafter(half, np.inf), 0.0)
    return half, min(inputs.radius, norm_up(half))


def _outer(query: Query) -> Array:
    """Rows ``weights V`` (q, m), rounded; their error is covered by :func:`_rounding`."""
    return np.asarray(query.weights @ query.network.layers[-1][0])


def _rounding(query: Query, distance: float) -> Array:
    """What the rounding of ``weights V`` may add to a row within the distance (l2), shape (q,)."""
    network, V = query.network, query.network.layers[-1][0]
    slope = max(abs(value) for value in network.activation.slopes)
    body = product_up(*(norm_up(W) for W, _ in network.layers[:-1]), *[slope] * (len(network.layers) - 1), distance)
    size = [norm_up(row) for row in np.abs(query.weights) @ np.abs(V) + np.finfo(float).tiny]  # for underflow
    return np.array([product_up(2.0 * gamma(len(V) + 4), entry, body) for entry in size])


# -- proposals and rates of one row, remembered --------------------------------------------------------------------
@lru_cache(maxsize=REMEMBERED)
def _proposal_l2(network: Network, outer: bytes) -> Array:
    rows = stack_rounded(network.W, np.frombuffer(outer), network.activation.slopes)
    return multiplier_from_factor(rows.B, maximize(rows.B, GAP_L2).factor, rows.error)


@lru_cache(maxsize=REMEMBERED)
def _proposal_linf(network: Network, outer: bytes) -> tuple[Array, Array]:
    return _multipliers_linf(network.W, np.frombuffer(outer), network.activation.slopes)


def _multipliers_linf(W: Array, v: Array, slopes: tuple[float, float]) -> tuple[Array, Array]:
    """Multipliers for the unit cube; those of the columns of W times half widths serve a box."""
    rows = stack_rounded(W, v, slopes)
    if slopes[0] == 0.0:  # power steps on the pairs' form, which does not know the upper slope and need not
        q, y, _ = multipliers_linf(rows.B, certified_pairs(W, v[None], np.inf, tol=GAP_LINF).factors[0].T)
    else:
        found = maximize_linf(rows.B, GAP_LINF)
        q, y = found.q, found.y
    share = (rows.error / max(float(rows.error.sum() + np.linalg.norm(rows.B)), 1e-290)) ** (2.0 / 3.0)
    return np.maximum(q, share * q.sum()), y


@lru_cache(maxsize=REMEMBERED)
def _proposal_deep(network: Network, outer: bytes) -> Array:
    layers, _ = normalized_layers([*(W for W, _ in network.layers[:-1]), np.frombuffer(outer)[None]])
    order = min(network.n_inputs, network.n_hidden[0]) + sum(network.n_hidden)
    if order > LARGEST_DEEP:
        return np.zeros(sum(network.n_hidden))
    return maximize_deep(layers, network.activation.slopes, GAP_DEEP).t


@lru_cache(maxsize=REMEMBERED)
def _rate_l2(network: Network, outer: bytes, q: bytes) -> float:
    """Proved Lipschitz constant (l2) of one row; never above the product of the norms."""
    v, slopes = np.frombuffer(outer), network.activation.slopes
    weights = [*(W for W, _ in network.layers[:-1]), v[None]]
    given = np.frombuffer(q)
    if not network.is_shallow:
        usable = given.shape == (sum(network.n_hidden),) and bool(np.isfinite(given).all() and (given >= 0).all())
        return upper_bound_deep(weights, given if usable else np.zeros(sum(network.n_hidden)), slopes)
    rows = stack_rounded(network.W, v, slopes)
    rate = ldexp_up(upper_bound(rows.B, given, rows.error), rows.exponent)
    return rate if rate < math.inf else upper_bound_deep(weights, np.zeros(len(v)), slopes)


@lru_cache(maxsize=REMEMBERED)
def _rate_linf(network: Network, outer: bytes, q: bytes, y: bytes) -> float:
    """Proved l1 norm of every gradient of one row."""
    rows = stack_rounded(network.W, np.frombuffer(outer), network.activation.slopes)
    return ldexp_up(upper_bound_linf(rows.B, np.frombuffer(q), np.frombuffer(y), rows.error), rows.exponent)


# -- certifiers ----------------------------------------------------------------------------------------------------
def _rise_in_box(network: Network, v: Array, multiplier: Mapping[str, Array], row: int, half: Array) -> float:
    """Rise of a row within half widths, from the multipliers of the max-gradient program with all widths one.

        1/2 (sum q . kappa . sum_j y_j half_j^2)^(1/2),   kappa = || diag(q)^(-1/2) B diag(y)^(-1/2) ||^2

    Implements: convexnn, Proposition 3 of docs/theory/relaxations.md: boxes of any shape.
    """
    q, y = (np.asarray(multiplier.get(f"row{row}/{name}", np.nan), dtype=np.float64) for name in ("q", "y"))
    if not half.any():
        return 0.0
    if y.shape != half.shape or not (np.isfinite(y).all() and (y > 0).all()):
        return math.inf
    rate = _rate_linf(network, v.tobytes(), q.tobytes(), y.tobytes())
    top = float(half.max())
    used = np.any(network.W != 0.0, axis=0)
    if rate == 0.0 or not used.any():
        return 0.0
    share = np.nextafter(np.nextafter((half / top) ** 2, np.inf) * (y / y.max()), np.inf) + 1e-300
    whole = -sum_up(-(y / y.max())[used]) * (1.0 - 4e-16)
    return product_up(rate, top, sqrt_up(sum_up(share) / whole * (1.0 + 1e-15))) if whole > 0 else math.inf


def _rise_in_ball(network: Network, v: Array, multiplier: Mapping[str, Array], row: int, distance: float) -> float:
    if distance == 0.0:
        return 0.0
    q = np.asarray(multiplier.get(f"row{row}/t", multiplier.get(f"row{row}/q", np.nan)), dtype=np.float64)
    return product_up(_rate_l2(network, v.tobytes(), q.tobytes()), distance)


def _check(query: Query, multiplier: Mapping[str, Array], box: bool) -> Array:
    """Value at the centre plus the rise of each row, rounded up."""
    centre = query.inputs.centre
    point = replace(query, inputs=InputSet.box(centre, centre), signs=None)
    half, distance = _largest_distances(query.inputs)
    rises = []
    for row, v in enumerate(_outer(query)):
        if not np.isfinite(v).all():  # weights V overflowed
            rises.append(math.inf)
        elif box and not query.inputs.has_ball:
            rises.append(_rise_in_box(query.network, v, multiplier, row, half))
        else:
            rises.append(_rise_in_ball(query.network, v, multiplier, row, distance))
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.nextafter(check_interval(point, {}) + np.array(rises), np.inf)
        found = np.nextafter(found + _rounding(query, distance), np.inf)
    return np.where(np.isnan(found), np.inf, found)


def check_lipsdp_bound(query: Query, multiplier: Mapping[str, Array]) -> Array:
    """Rigorous bounds ``g(centre) + L radius`` from any multipliers of LipSDP; a box counts as the ball around it.

    Parameters
    ----------
    query : Query
        Any depth, any activation with bounded slopes; signs do not help.
    multiplier : mapping of str to array
        ``row{r}/q`` (m + 1,) for one hidden layer, ``row{r}/t`` (all hidden units,) for more; any numbers. Without
        usable ones the product of the norms is taken.

    Returns
    -------
    array, shape (q,)
    """
    return _check(query, multiplier, box=False)


def check_max_gradient_bound(query: Query, multiplier: Mapping[str, Array]) -> Array:
    """Rigorous bounds from any multipliers of the max-gradient program: boxes of any shape; a ball by its l2 form.

    The l2 form, ``max |1/2 W'(v (1 + s))|_2`` over s relaxed to unit vectors, is LipSDP of the row.

    Implements: Raghunathan et al. (2018a), MaxGrad bound on a margin, in the d x d form of docs/theory/lipsdp.md.

    Parameters
    ----------
    query : Query
        One hidden layer, an activation with bounded slopes; signs do not help.
    multiplier : mapping of str to array
        ``row{r}/q`` (m + 1,) and, for boxes, ``row{r}/y`` (d,); any numbers.

    Returns
    -------
    array, shape (q,)
    """
    return _check(query, multiplier, box=True)


def _propose(name: str, query: Query, effort: Effort, box: bool) -> Evidence:
    keys: dict[str, Array] = {}
    for row, v in enumerate(_outer(query)):
        if effort.out_of_time():
            return Evidence(name, keys, "time_limit")
        oriented = (v if v[np.flatnonzero(v)[0]] > 0 else -v) if v.any() else np.zeros_like(v)  # both have the same
        outer = (oriented + 0.0).tobytes()
        if box and not query.inputs.has_ball:
            keys |= _proposal_in_box(query, effort, row, v, outer)
        elif query.network.is_shallow:
            keys[f"row{row}/q"] = _proposal_l2(query.network, outer)
        else:
            keys[f"row{row}/t"] = _proposal_deep(query.network, outer)
    return Evidence(name, keys)


def _proposal_in_box(query: Query, effort: Effort, row: int, v: Array, outer: bytes) -> dict[str, Array]:
    """Multipliers of the cube; where these leave a row open and the box is no cube, better ones for the box itself."""
    network, (half, _) = query.network, _largest_distances(query.inputs)
    cube = _named(row, *_proposal_linf(network, outer))
    used = half[np.any(network.W != 0.0, axis=0)]
    if not used.size or used.max() <= used.min() * (1.0 + 1e-9):
        return cube
    value = float(query.rows(row).values(query.inputs.centre[None])[0, 0])
    rise = _rise_in_box(network, v, cube, row, half)
    if effort.stop_below is not None and value + rise < effort.stop_below:
        return cube
    relative = np.maximum(half / half.max(), NARROWEST)
    q, y = _multipliers_linf(network.W * relative, v, network.activation.slopes)
    own = _named(row, q, y / relative**2)
    return own if _rise_in_box(network, v, own, row, half) < rise else cube


def _named(row: int, q: Array, y: Array) -> dict[str, Array]:
    return {f"row{row}/q": q, f"row{row}/y": y}


def propose_lipsdp(query: Query, effort: Effort, bounds: LayerBounds | None = None) -> Evidence:
    """Multipliers of LipSDP, one program a row of the network (remembered); pre-activation bounds do not matter."""
    del bounds
    return _propose("lipsdp", query, effort, box=False)


def propose_max_gradient(query: Query, effort: Effort, bounds: LayerBounds | None = None) -> Evidence:
    """Multipliers of the max-gradient program, one a row of the network (remembered); bounds do not matter.

    Boxes that are no cubes and rows that are not below ``effort.stop_below`` get multipliers of their own.
    """
    del bounds
    return _propose("max_gradient", query, effort, box=True)


def refuse_unbounded_slopes(query: Query) -> str | None:
    """Why there is no Lipschitz bound, or None."""
    activation = query.network.activation
    if np.isfinite(activation.slopes).all():
        return None
    return f"The activation {activation.name!r} has unbounded slopes, so its networks have no Lipschitz constant."


def refuse_max_gradient(query: Query) -> str | None:
    """Why the max-gradient program does not apply, or None."""
    if not query.network.is_shallow:
        return "The max-gradient program is for one hidden layer; 'lipsdp' takes any depth."
    return refuse_unbounded_slopes(query)


LIPSDP = Certifier("lipsdp", propose_lipsdp, check_lipsdp_bound, refuse_unbounded_slopes)
MAX_GRADIENT = Certifier("max_gradient", propose_max_gradient, check_max_gradient_bound, refuse_max_gradient)

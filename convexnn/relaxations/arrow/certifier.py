"""Certifier "sdp": the semidefinite relaxation of Raghunathan et al. by the structured dual solver of this folder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation.layer_bounds import LayerBounds, crown_bounds
from convexnn.propagation.query import Certifier, Effort, Evidence, Query
from convexnn.relaxations.arrow.evidence import check_arrow, has_relaxation
from convexnn.relaxations.arrow.linear_prices import linear_prices
from convexnn.relaxations.arrow.targets import Strengthening, as_details, bound_rows, count_unstable
from convexnn.relaxations.support import refuse_smooth_units

Array = NDArray[np.float64]
#: Largest Newton system, in multipliers, that is factored densely.
LARGEST_SYSTEM = 4000
DEFAULT = Strengthening()


def propose_sdp(
    query: Query, effort: Effort, bounds: LayerBounds | None = None, *, extra: Strengthening = DEFAULT
) -> Evidence:
    """Multipliers of the semidefinite relaxation (SDP-CERT, stable units substituted) for every row.

    Rows that stay well above what the moments attain are solved again with more rows, and rows that might be above the
    linear relaxation with the same bounds get its prices as well, so that no bound is above the one of "lp" (rows
    below the target need neither).

    Implements: Raghunathan, Steinhardt and Liang (2018b), eq. (7)-(8), in dual arrow form.

    Parameters
    ----------
    query : Query
        ReLU, LeakyReLU or linear units, any number of hidden layers; signs are honoured.
    effort : Effort
    bounds : LayerBounds, optional
        Default: linear bounds.
    extra : Strengthening
        What is added to the published relaxation.

    Returns
    -------
    Evidence
        Multiplier ``row{r}/y``, ``row{r}/nu``, and where there are any ``row{r}/products`` and ``row{r}/price{layer}``;
        rows already below the target have none. Points are the first moments
        of the inputs; details hold "branching", the scores of the units for the worst row.
    """
    bounds = crown_bounds(query) if bounds is None else bounds
    if size_refusal(query, bounds) is not None:
        return Evidence("sdp", dict(bounds.multiplier), f"failed: {size_refusal(query, bounds)}")
    result = bound_rows(query, bounds, effort, None, extra)
    prices = linear_prices(query, bounds, effort, result) if extra.linear else {}
    points = [row.points for row in result.rows if row.points.size]
    return Evidence(
        "sdp",
        {**bounds.multiplier, **result.multiplier(), **prices},
        result.status,
        result.iterations,
        np.vstack(points) if points else np.empty((0, query.network.n_inputs)),
        as_details(result),
    )


def size_refusal(query: Query, bounds: LayerBounds) -> str | None:
    """Why these bounds leave a Newton system too large for dense linear algebra, or None."""
    if bounds.empty or not has_relaxation(query, bounds):
        return None
    low, high = query.inputs.bounding_box()
    d = int((high > low).sum()) if query.inputs.has_box else 1
    size = 1 + 3 * count_unstable(query, bounds) + d
    if size <= LARGEST_SYSTEM:
        return None
    return (
        f"The dense Newton system would have {size} unknowns ({LARGEST_SYSTEM} at most): use 'sdp_first_order' or "
        "tighter bounds on the hidden units."
    )


def refuse_sdp(query: Query) -> str | None:
    """Why the method does not apply, or None."""
    return refuse_smooth_units(query) or size_refusal(query, crown_bounds(query))


SDP = Certifier("sdp", propose_sdp, check_arrow, refuse_sdp)

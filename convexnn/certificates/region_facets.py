"""The bound of networks on boxes by directions, as the trainer of facets asks for it; see :func:`region_bound`."""

from __future__ import annotations

from typing import Any

from convexnn.certificate import Certificate
from convexnn.certificates.region import region_bound
from convexnn.network import Network
from convexnn.regions.facets import exact_facet_value as exact_value

METHOD, EXACT = "region_facets", "region_facets_exact"

__all__ = ["EXACT", "METHOD", "exact_value", "facet_bound"]


def facet_bound(network: Network, region: Any, *, arithmetic: str = "float64+slack") -> Certificate:
    """``region_bound(network, region, method="facets")``: the sum of the maxima of all directions."""
    return region_bound(network, region, method="facets", arithmetic=arithmetic)

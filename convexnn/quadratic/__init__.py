"""Quadratics over balls and boxes: exact worst cases of polynomial networks, and what a solver reads of them."""

from convexnn.quadratic.trust_region import (
    SmoothedTrustRegion,
    TrustRegion,
    minimize_over_ball,
    smoothed_over_ball,
)

__all__ = [
    "SmoothedTrustRegion",
    "TrustRegion",
    "minimize_over_ball",
    "smoothed_over_ball",
]

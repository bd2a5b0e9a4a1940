"""Quadratics over balls and boxes: exact worst cases of polynomial networks, and what a solver reads of them."""

from convexnn.quadratic.form import QuadraticForm, is_quadratic, polynomial_coefficients
from convexnn.quadratic.trust_region import (
    SmoothedTrustRegion,
    TrustRegion,
    minimize_over_ball,
    smoothed_over_ball,
)

__all__ = [
    "QuadraticForm",
    "SmoothedTrustRegion",
    "TrustRegion",
    "is_quadratic",
    "minimize_over_ball",
    "polynomial_coefficients",
    "smoothed_over_ball",
]

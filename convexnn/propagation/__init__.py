"""Bounds carried through a network layer by layer: intervals, linear bounds, and the questions they answer."""

from convexnn.propagation.alpha_crown import ALPHA_CROWN
from convexnn.propagation.crown import CROWN, IBP
from convexnn.propagation.input_set import InputSet
from convexnn.propagation.layer_bounds import (
    LayerBounds,
    crown_bounds,
    interval_bounds,
    read_bounds,
    register_refiner,
)
from convexnn.propagation.optimized_bounds import optimized_bounds
from convexnn.propagation.query import Certifier, Effort, Evidence, Query, Signs

__all__ = [
    "ALPHA_CROWN",
    "CROWN",
    "IBP",
    "Certifier",
    "Effort",
    "Evidence",
    "InputSet",
    "LayerBounds",
    "Query",
    "Signs",
    "crown_bounds",
    "interval_bounds",
    "optimized_bounds",
    "read_bounds",
    "register_refiner",
]

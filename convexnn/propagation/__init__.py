"""Bounds carried through a network layer by layer: intervals, linear bounds, and the questions they answer."""

from convexnn.propagation.input_set import InputSet
from convexnn.propagation.query import Certifier, Effort, Evidence, Query, Signs

__all__ = ["Certifier", "Effort", "Evidence", "InputSet", "Query", "Signs"]

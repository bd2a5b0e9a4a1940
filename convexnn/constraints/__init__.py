"""Networks with guaranteed properties: monotone, slopes, convex, bounded on regions, symmetric, fixed values."""

from convexnn.constraints.guarantees import Guarantee, Guarantees, guarantees
from convexnn.constraints.training import ConstrainedOptions, ConstrainedTraining, train_constrained
from convexnn.constraints.values import (
    Concave,
    Constraint,
    Convex,
    Even,
    FixedGradient,
    FixedValue,
    Invariant,
    LowerBound,
    Monotone,
    Odd,
    SlopeBounds,
    UpperBound,
    monotone_constraints,
)

__all__ = [
    "Concave",
    "ConstrainedOptions",
    "ConstrainedTraining",
    "Constraint",
    "Convex",
    "Even",
    "FixedGradient",
    "FixedValue",
    "Guarantee",
    "Guarantees",
    "Invariant",
    "LowerBound",
    "Monotone",
    "Odd",
    "SlopeBounds",
    "UpperBound",
    "guarantees",
    "monotone_constraints",
    "train_constrained",
]

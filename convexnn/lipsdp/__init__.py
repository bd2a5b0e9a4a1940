"""LipSDP of one hidden layer as a small concave problem with a one-eigenvalue certificate (arXiv 1906.04893, reformulated)."""

from convexnn.lipsdp.scalar import (
    LipSDPResult,
    gradient,
    maximize,
    multiplier_from_factor,
    multiplier_from_t,
    t_from_multiplier,
    upper_bound,
)
from convexnn.lipsdp.stacking import Stack, stack, stack_rounded
from convexnn.lipsdp.vector import (
    VectorLipSDPResult,
    gradient_vector,
    maximize_vector,
    multiplier_from_t_vector,
    t_from_multiplier_vector,
    upper_bound_vector,
)

__all__ = [
    "LipSDPResult",
    "Stack",
    "VectorLipSDPResult",
    "gradient",
    "gradient_vector",
    "maximize",
    "maximize_vector",
    "multiplier_from_factor",
    "multiplier_from_t",
    "multiplier_from_t_vector",
    "stack",
    "stack_rounded",
    "t_from_multiplier",
    "t_from_multiplier_vector",
    "upper_bound",
    "upper_bound_vector",
]

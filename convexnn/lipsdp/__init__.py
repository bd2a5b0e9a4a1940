"""LipSDP (arXiv 1906.04893) of one hidden layer as a small concave problem, certified by one eigenvalue."""

from convexnn.lipsdp.gradients import gradient, gradient_vector
from convexnn.lipsdp.linf import LInfResult, maximize_linf, upper_bound_linf
from convexnn.lipsdp.relations import (
    multiplier_from_t,
    multiplier_from_t_vector,
    t_from_multiplier,
    t_from_multiplier_vector,
)
from convexnn.lipsdp.scalar import LipSDPResult, maximize, multiplier_from_factor, upper_bound
from convexnn.lipsdp.stacking import Stack, stack, stack_rounded
from convexnn.lipsdp.vector import VectorLipSDPResult, maximize_vector, upper_bound_vector

__all__ = [
    "LInfResult",
    "LipSDPResult",
    "Stack",
    "VectorLipSDPResult",
    "gradient",
    "gradient_vector",
    "maximize",
    "maximize_linf",
    "maximize_vector",
    "multiplier_from_factor",
    "multiplier_from_t",
    "multiplier_from_t_vector",
    "stack",
    "stack_rounded",
    "t_from_multiplier",
    "t_from_multiplier_vector",
    "upper_bound",
    "upper_bound_linf",
    "upper_bound_vector",
]

"""Rigorous upper bounds from float64 arithmetic: outward rounding, eigenvalues, spectral norms, exact semidefiniteness.

Only this package says "rigorous". Every bound holds for the real-valued quantity defined by the float64 numbers handed
over, provided the machine rounds as IEEE 754 says and its matrix products are conventional (any order of summation,
fused multiply-add allowed, no Strassen). Bad input (nan, inf) gives ``inf``, never a guess.
"""

from convexnn.rigorous.eigenvalues import (
    gram_max_eigenvalue,
    lack_of_definiteness,
    max_eigenvalue,
    spectral_norm_up,
)
from convexnn.rigorous.rationals import fraction_down, fraction_up, is_psd_exact
from convexnn.rigorous.rounding import (
    CHUNK,
    TINY,
    UNIT,
    column_sums,
    gamma,
    ldexp_up,
    norm_up,
    power_of_two,
    product_up,
    round_up,
    row_norms_up,
    sqrt_up,
    sum_up,
)

__all__ = [
    "CHUNK",
    "TINY",
    "UNIT",
    "column_sums",
    "fraction_down",
    "fraction_up",
    "gamma",
    "gram_max_eigenvalue",
    "is_psd_exact",
    "lack_of_definiteness",
    "ldexp_up",
    "max_eigenvalue",
    "norm_up",
    "power_of_two",
    "product_up",
    "round_up",
    "row_norms_up",
    "spectral_norm_up",
    "sqrt_up",
    "sum_up",
]

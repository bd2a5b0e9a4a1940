"""Mutants that prove no false bound and loosen none beyond its limit: by function, the change and why.

A change that stands more than once in a function is named with its line: ``change in: line``.
"""

from __future__ import annotations

_PROPOSED = "a number that is proposed: others are tried, and what counts is proved by a factorization"
_SLOPES = "no activation has a negative slope"
_TWICE = "what this lets through is refused by the next test of the same numbers"

EQUIVALENT: dict[str, dict[str, str]] = {
    "convexnn.rigorous.rounding:column_sums": {
        "2.0 -> 1.0": "the factor covers the rounding of the sum of absolute values, m u of it: no column that fits "
        "into a test loses half of it there and all of it in the tree",
    },
    "convexnn.rigorous.eigenvalues:_proved_eigenvalue": {
        "4.0 -> 8.0": _PROPOSED,
        "4.0 -> 2.0": _PROPOSED,
        "2.0 * n -> 2.0 / n": _PROPOSED,
        "2.0 -> 4.0": _PROPOSED,
        "2.0 -> 1.0": _PROPOSED,
        "2.0 * n * UNIT * float(np.max(np.abs(values))) -> 2.0 * n * UNIT / float(np.max(np.abs(values)))": _PROPOSED,
    },
    "convexnn.rigorous.eigenvalues:gram_max_eigenvalue": {
        "math.nextafter(ldexp_up(sqrt_up(square), exponent) + error, math.inf) -> "
        "ldexp_up(sqrt_up(square), exponent) + error": "product_up moves its first factor up by an ulp, which is more "
        "than the rounding of this sum",
    },
    "convexnn.rigorous.eigenvalues:lack_of_definiteness": {
        "np.abs(A) -> A": _PROPOSED,
        "64.0 * n -> 64.0 / n": _PROPOSED,
        "64.0 -> 32.0": _PROPOSED,
        "n * UNIT * size -> n * UNIT / size": _PROPOSED,
        "64.0 * n * UNIT * size -> 64.0 * n * UNIT / size": _PROPOSED,
    },
    "convexnn.certificates.lipschitz:check_product_l2": {"abs(s) -> s": _SLOPES},
    "convexnn.certificates.lipschitz:check_product_linf": {"abs(s) -> s": _SLOPES},
    "convexnn.certificates.lipschitz:_body_norm": {"abs(s) -> s": _SLOPES},
    "convexnn.lipsdp.deep_bound:upper_bound_deep": {
        "abs(value) -> value": _SLOPES,
    },
    "convexnn.lipsdp.vector:upper_bound_vector": {
        "np.isfinite(weights).all() and (weights > 0.0).all() -> "
        "np.isfinite(weights).all() or (weights > 0.0).all()": _TWICE,
        "np.isfinite(P).all() and np.isfinite(R).all() -> np.isfinite(P).all() or np.isfinite(R).all()": _TWICE,
    },
}

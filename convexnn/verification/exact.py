"""Checks of evidence in rational numbers: the bounds that a multiplier proves, with no rounding at all.

Every number in a network, a set of inputs and a multiplier is a float64, hence rational; sums, products and comparisons
are exact, square roots and a few divisions are bounded from the safe side by rational numbers. For small networks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import CertificateError
from convexnn.propagation import Query
from convexnn.verification.exact_methods import METHOD_CHECKS, ExactCheck
from convexnn.verification.exact_numbers import Rationals, floats_up
from convexnn.verification.exact_tree import exact_tree

Array = NDArray[np.float64]
Multiplier = Mapping[str, Array]


def exact_values(query: Query, method: str, multiplier: Multiplier) -> Rationals | None:
    """Rational upper bounds (q,) on the rows of the query that this multiplier proves; None where the set is empty.

    Raises
    ------
    CertificateError
        When the method has no exact check, or it does not apply to the activation.
    """
    if method not in EXACT:
        raise CertificateError(f"There is no exact check of {method!r}; there is one of {sorted(EXACT)}.")
    return EXACT[method](query, multiplier)


def exact_bounds(query: Query, method: str, multiplier: Multiplier) -> Array:
    """:func:`exact_values` rounded up to float64, ``-inf`` where the set is empty."""
    found = exact_values(query, method, multiplier)
    return np.full(query.n_rows, -np.inf) if found is None else floats_up(found)


EXACT: dict[str, ExactCheck] = {**METHOD_CHECKS, "branch_and_bound": exact_tree}

"""Numbers at which a bound once said less than the truth: each is held against the value at a point of the set."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.activations import Polynomial
from convexnn.network import Network
from convexnn.propagation import Effort, InputSet, Query
from convexnn.verification.registry import get_certifier


def one_unit(w: float, v: float, activation="relu") -> Network:
    return Network(((np.array([[w]]), np.zeros(1)), (np.array([[v]]), np.zeros(1))), activation)


def proved(query: Query, method: str) -> float:
    certifier = get_certifier(method)
    return float(certifier.check(query, certifier.propose(query, Effort(max_iter=5), None).multiplier)[0])


@pytest.mark.parametrize("method", ["ibp", "crown", "alpha_crown", "quadratic"])
@pytest.mark.parametrize(("a", "reach"), [(-1e-200, 1e200), (-1e-130, 1e160)])
def test_parabolas_whose_curvature_vanishes_against_the_weight(method, a, reach) -> None:
    """``1e-200 a s^2`` is concave, also where the product of both numbers underflows: its maximum is 0, inside."""
    query = Query(one_unit(1.0, 1e-200, Polynomial(a, 0.0, 0.0)), InputSet.box([-reach], [reach]), [[1.0]], [0.0])
    assert proved(query, method) >= 0.0


@pytest.mark.parametrize("method", ["lipsdp", "max_gradient", "crown", "sdp"])
def test_rows_that_vanish_in_the_product_with_the_outer_weights(method) -> None:
    """Weights 1e-200 twice underflow to a zero row, whose value at 1e200 is 1e100 all the same."""
    query = Query(one_unit(1e300, 1e-200), InputSet.box([-1e200], [1e200]), [[1e-200]], [0.0])
    assert proved(query, method) >= 1e100

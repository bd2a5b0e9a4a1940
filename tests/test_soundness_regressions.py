"""Numbers at which a bound once said less than the truth: each is held against the value at a point of the set."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from convexnn.activations import Polynomial
from convexnn.network import Network
from convexnn.propagation import Effort, InputSet, Query
from convexnn.threats import Box, L2Ball, LInfBall
from convexnn.verification import certify
from convexnn.verification.registry import get_certifier
from convexnn.verification.task import surely_inside


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


def is_in_set(threat, z, x) -> bool:
    """In rational numbers."""
    steps = [Fraction(float(a)) - Fraction(float(b)) for a, b in zip(z, x, strict=True)]
    radius = Fraction(threat.radius)
    fits = sum(s * s for s in steps) <= radius**2 if threat.norm == "l2" else max(map(abs, steps)) <= radius
    return fits and (threat.clip is None or all(threat.clip[0] <= a <= threat.clip[1] for a in z))


@pytest.mark.parametrize("threat", [L2Ball(0.7), L2Ball(0.5, (-1.0, 1.0)), LInfBall(0.3, (-1, 1)), LInfBall(0.1)])
def test_counterexamples_are_in_the_set_without_any_rounding(threat, rng) -> None:
    layers = [(rng.standard_normal((8, 3)), np.zeros(8)), (rng.standard_normal((3, 8)), np.zeros(3))]
    network, X = Network(layers), rng.uniform(-1.0, 1.0, (40, 3))
    report = certify(network, X, network(X).argmax(axis=1), threat, method="ibp", random_state=0)
    found = [verdict for verdict in report.verdicts if verdict.counterexample is not None]
    assert len(found) > 5
    assert all(is_in_set(threat, verdict.counterexample, X[verdict.index]) for verdict in found)


def test_points_at_the_edge_are_told_apart(rng) -> None:
    X = rng.standard_normal((200, 3)) * 10.0 ** rng.integers(-3, 4, (200, 1))
    Z = {"l2": X + 0.3 / np.sqrt(3.0), "linf": X + 0.3 * rng.choice([-1.0, 1.0], X.shape)}
    for threat in (L2Ball(0.3), LInfBall(0.3)):
        found = surely_inside(threat, Z[threat.norm], X)
        truth = np.array([is_in_set(threat, z, x) for z, x in zip(Z[threat.norm], X, strict=True)])
        assert not (found & ~truth).any()
        assert (found == truth).all() or threat.norm == "l2"
        assert surely_inside(threat, X, X).all()
        assert truth.any()
        assert not truth.all()
    tiny = L2Ball(1e-200)
    assert surely_inside(tiny, np.full((1, 2), 5e-201), np.zeros((1, 2)))[0]
    assert not surely_inside(tiny, np.full((1, 2), 1e-199), np.zeros((1, 2)))[0]  # squares of both underflow
    assert surely_inside(L2Ball(0.0), X, X).all()
    assert not surely_inside(L2Ball(0.0), X + 1.0, X).any()
    assert not surely_inside(Box(0.0, 1.0), X + 1e9, X).any()


@pytest.mark.parametrize("method", ["lipsdp", "max_gradient"])
def test_rows_that_overflow_prove_nothing(method) -> None:
    query = Query(one_unit(1.0, 1e300), InputSet.box([-1.0], [1.0]), [[1e300]], [0.0])
    assert get_certifier(method).check(query, {})[0] == np.inf


def test_products_that_overflow_are_no_bounds() -> None:
    inputs = InputSet.box([1e200], [1e200])
    assert inputs.maximum(np.array([[-1e200], [1e200]])).tolist() == [np.inf, np.inf]

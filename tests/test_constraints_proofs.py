"""Proofs about given networks: two roads to the smallest slope, the unique form, bounds for any multipliers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from convexnn.constraints import (
    Convex,
    Even,
    FixedValue,
    Monotone,
    SlopeBounds,
    UpperBound,
    guarantees,
    monotone_constraints,
    vertices,
)
from convexnn.constraints.caps import CapDual, CapProgram
from convexnn.constraints.evidence import ShapeDual, lower_bound
from convexnn.constraints.layout import layout_of
from convexnn.constraints.pieces import pieces_of
from convexnn.constraints.program import Demands, solve_shape
from convexnn.constraints.proofs import Limits, proved_slope
from convexnn.constraints.rows import anchor_rows, joined, necessary_rows, worst_rows
from convexnn.constraints.shape import resolve, shape_of
from convexnn.constraints.slopes import Search, all_patterns_slope, smallest_slope
from convexnn.constraints.vertices import Arrangement
from convexnn.exceptions import CertificateError, InvalidInputError, UnsupportedModelError
from convexnn.network import Network
from convexnn.patterns import sample_gates
from convexnn.threats import Box


def network(m: int, d: int, seed: int) -> Network:
    rng = np.random.default_rng(seed)
    return Network.shallow(rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal(m), 0.3)


@pytest.mark.parametrize(("m", "d", "seed"), [(1, 1, 0), (5, 1, 1), (8, 2, 2), (9, 3, 3)])
@pytest.mark.parametrize("domain", [None, Box(-0.7, 0.9)])
def test_two_roads_to_the_smallest_slope(m: int, d: int, seed: int, domain: Box | None) -> None:
    net, e = network(m, d, seed), np.eye(d)[0]
    pieces = pieces_of(net)
    branched = smallest_slope(pieces, e, domain)
    visited = Arrangement(pieces, e, domain).smallest()
    assert visited is not None
    assert branched.exact
    assert branched.bound == visited.bound  # over the rational numbers
    assert all_patterns_slope(pieces, e) <= visited.bound
    Z = np.random.default_rng(9).uniform(-0.7, 0.9, (20000, d)) * (1 if domain else 20)
    assert float(visited.bound) <= net.gradient(Z)[:, 0].min() + 1e-12
    # attained at the point the search names
    assert net.gradient(branched.points)[:, 0].min() == pytest.approx(float(branched.bound), abs=1e-9)


def test_a_deadline_cuts_both_roads_and_leaves_a_valid_bound() -> None:
    net, e = network(9, 3, 3), np.eye(3)[0]
    pieces = pieces_of(net)
    assert Arrangement(pieces, e, None).smallest(1, -np.inf) is None
    cut, _, how = proved_slope(pieces, e, None, limits=Limits(deadline=-np.inf))
    whole, _, _ = proved_slope(pieces, e, None)
    assert cut == all_patterns_slope(pieces, e) <= whole
    assert how.startswith("0 sets of sides")


def test_every_pattern_is_realised_by_independent_units() -> None:
    # 3.1: with m <= d independent weights the sum of all falls is the smallest slope
    pieces = pieces_of(network(3, 4, 0))
    e = np.eye(4)[1]
    assert smallest_slope(pieces, e).bound == all_patterns_slope(pieces, e)


def test_the_smallest_slope_is_the_minimum_over_realisable_patterns() -> None:
    net = network(4, 2, 5)
    from scipy.optimize import linprog

    u, slopes = net.v[:, None] * net.W, []
    for sides in product((-1.0, 1.0), repeat=4):
        s = np.array(sides)
        A = np.hstack([-s[:, None] * net.W, np.ones((4, 1))])
        margin = linprog([0, 0, -1.0], A_ub=A, b_ub=s * net.b, bounds=[(None, None)] * 2 + [(0, 1)])
        if margin.status == 0 and margin.x[-1] > 1e-9:
            slopes.append(u[s > 0, 0].sum())
    assert float(smallest_slope(pieces_of(net), np.eye(2)[0]).bound) == pytest.approx(min(slopes), abs=1e-12)


def test_a_search_cut_short_stays_below() -> None:
    pieces, e = pieces_of(network(9, 3, 3)), np.eye(3)[0]
    exact = smallest_slope(pieces, e).bound
    for nodes in (0, 1, 3, 8):
        assert smallest_slope(pieces, e, None, Search(max_nodes=nodes)).bound <= exact
    target = exact - Fraction(1, 2)
    assert target <= smallest_slope(pieces, e, None, Search(target)).bound <= exact


def test_the_form_is_unique() -> None:
    net = network(6, 3, 1)
    # scaled, opposite and cancelling units, in another order: the same function, exactly
    W = np.vstack([4.0 * net.W[::-1], net.W[0], -net.W[0]])
    b = np.r_[4.0 * net.b[::-1], net.b[0], -net.b[0]]
    other = Network.shallow(W, b, np.r_[net.v[::-1] / 4.0, 0.5, 0.5], 0.3)
    shifted = Network.shallow(
        np.vstack([net.W, net.W[:1], -net.W[:1]]), np.r_[net.b, net.b[0], -net.b[0]], np.r_[net.v, 0.5, 0.5], 0.3
    )
    assert pieces_of(other) == pieces_of(shifted)
    Z = np.random.default_rng(0).standard_normal((50, 3))
    values = [float(pieces_of(other).at(z)) for z in Z]
    np.testing.assert_allclose(values, other(Z), rtol=1e-12, atol=1e-12)
    mirrored = pieces_of(net).moved(-np.eye(3), -1.0)
    np.testing.assert_allclose([float(mirrored.at(z)) for z in Z], -net(-Z), rtol=1e-12, atol=1e-12)


def test_coincident_units_decide_convexity_together() -> None:
    W, b = np.array([[1.0], [-1.0], [0.5]]), np.array([0.0, 0.0, 1.0])
    # kinks: -0.5 + 1 at zero, 0.5 * 1 at -2
    assert guarantees(Network.shallow(W, b, [-0.5, 1.0, 1.0]), Convex())[0].bound == 0.5
    bent = guarantees(Network.shallow(W, b, [-1.5, 1.0, 1.0]), Convex())[0]
    assert bent.bound == -0.5
    assert not bent.holds
    assert "NOT PROVED" in str(bent)


def test_guarantees_of_a_given_network() -> None:
    net = Network.shallow([[1.0, 0.0], [-1.0, 0.0]], [1.0, 1.0], [1.0, 1.0], 0.0)
    even, low, value = guarantees(
        net, [Even(), Monotone("age"), FixedValue([0.0, 5.0], 2.0)], feature_names=["age", "b"]
    )
    assert even.holds
    assert low.bound == -1.0
    assert value.bound == 0.0
    with pytest.raises(UnsupportedModelError):
        guarantees(Network.shallow([[1.0]], [0.0], [1.0], activation="tanh"), Convex())


def test_a_check_takes_as_much_effort_as_the_guarantee(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vertices, "MAX_WORK", 0)  # as in many inputs: only the search is left
    net, wanted = network(7, 2, 1), SlopeBounds(0, low=5.0)
    found = [guarantees(net, wanted, max_nodes=n)[0] for n in (1, 4, 400)]
    assert found[0].bound < found[1].bound < found[2].bound
    for item, effort in zip(found, (1, 4, 400), strict=True):
        assert item.max_nodes == effort
        assert item.check(net) == item.bound
        assert item.check(net, max_nodes=5000) >= item.bound
        with pytest.raises(CertificateError, match="not the claimed"):
            replace(item, max_nodes=0).check(net)
    with pytest.raises(CertificateError, match="not the claimed"):
        found[2].check(net, max_nodes=4)


def programs() -> list[tuple[object, Demands]]:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (12, 2))
    y = np.sin(3 * X[:, 0]) + X[:, 1] ** 2
    W, b = sample_gates(X, 4, random_state=0)
    found = []
    for wanted in ([Monotone(0), FixedValue([0.0, 0.0], 0.1)], [Even(), UpperBound(Box(-1.0, 1.0), 0.5)]):
        layout = layout_of(X, y, Network.shallow(W, b, np.ones(4)), shape_of(resolve(wanted, 2), 2), lam=1e-2)
        anchors = anchor_rows(layout)
        caps = tuple(CapProgram(c, layout.all_signs, np.full(len(layout.all_signs), 0.5)) for c in layout.shape.caps)
        found += [
            (layout, Demands("necessary", joined(anchors, necessary_rows(layout)))),
            (layout, Demands("sufficient", anchors, worst_rows(layout), caps)),
        ]
    return found


@pytest.mark.slow
def test_lower_bounds_hold_for_any_multipliers() -> None:
    rng = np.random.default_rng(1)
    for layout, demands in programs():
        solved = solve_shape(layout, demands, tol=1e-7)
        assert solved is not None
        assert solved.gap < 1e-6
        s, P = layout.structure, layout.structure.S.shape[1]
        worst = 0 if demands.worst is None else len(demands.worst)
        for scale in (0.0, 1e-2, 1.0, 1e8):
            adds = [int(cap.adds.sum()) + cap.frame.shape[1] for cap in demands.caps]
            square = [rng.standard_normal((k, k)) for k in adds]
            dual = ShapeDual(
                scale * rng.standard_normal(len(s.y)), scale * rng.standard_normal(s.S.shape),
                scale * rng.standard_normal(layout.D0.shape), scale * rng.standard_normal(len(demands.pieces)),
                scale * rng.standard_normal(worst), scale * rng.standard_normal((worst, P)),
                tuple(CapDual(scale * A @ A.T) for A in square),
            )  # fmt: skip
            assert lower_bound(layout, demands, dual) <= solved.objective * (1 + 1e-9)
            assert lower_bound(layout, demands, replace(dual, residual=np.full(len(s.y), np.nan))) == -np.inf
            assert lower_bound(layout, demands, replace(dual, residual=np.zeros(1))) == -np.inf


def test_monotonic_cst_as_in_scikit_learn() -> None:
    assert monotone_constraints(None, 2) == ()
    assert monotone_constraints([1, 0], 2) == (Monotone(0),)
    assert monotone_constraints({"b": -1, "a": 0}, 2, ["a", "b"]) == (Monotone(1, -1),)
    for wrong, words in (([1], "2 features"), ([2, 0], "-1, 0 or 1"), ({"c": 1}, "no feature 'c'")):
        with pytest.raises(InvalidInputError, match=words):
            monotone_constraints(wrong, 2, ["a", "b"])
    with pytest.raises(InvalidInputError, match="no feature names"):
        monotone_constraints({"a": 1}, 2)

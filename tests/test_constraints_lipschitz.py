"""The Lipschitz penalty with demands: its value, two statements, evidence, and networks that keep everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from convexnn.conic.run import OPTIONS
from convexnn.constraints import ConstrainedOptions, Even, Monotone, Odd, SlopeBounds, UpperBound, train_constrained
from convexnn.constraints.caps import CapProgram
from convexnn.constraints.cones import Effort
from convexnn.constraints.direct import solve_direct
from convexnn.constraints.evidence import ShapeDual, lower_bound
from convexnn.constraints.layout import Layout, Point, layout_of
from convexnn.constraints.lipschitz import Spectral, network_penalty
from convexnn.constraints.program import Demands, solve_stated
from convexnn.constraints.rows import no_rows, worst_rows
from convexnn.constraints.shape import resolve, shape_of
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.threats import L2Ball

CASES: dict[str, list[Any]] = {
    "rising": [Monotone(0)],
    "odd": [Odd(), SlopeBounds(1, -2.0, 2.0)],
    "even with a ball": [Even(), UpperBound(L2Ball(0.5), 1.2)],
}


def program(constraints: list[Any], n: int = 25) -> tuple[Layout, Demands]:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (n, 2))
    y = 2 * np.exp(-3 * (X**2).sum(axis=1)) + X[:, 0] + 0.1 * rng.standard_normal(n)
    gates = Network.shallow(rng.standard_normal((3, 2)), rng.uniform(-0.5, 0.5, 3), np.ones(3))
    layout = layout_of(X, y, gates, shape_of(resolve(constraints, 2), 2), lam=1e-2, lipschitz=True)
    caps = tuple(CapProgram(cap, layout.all_signs, np.full(len(layout.all_signs), 0.5)) for cap in layout.shape.caps)
    return layout, Demands("sufficient", no_rows(layout), worst_rows(layout), caps)


def test_the_penalty_is_a_norm_above_all_slopes(rng: np.random.Generator) -> None:
    layout, _ = program([])
    shape = layout.units, 3
    point = Point(layout.signs[:, None] * np.abs(rng.standard_normal(shape)), rng.standard_normal(2), 0.3)
    net, zero = layout.decode(point), np.zeros(2)
    slope = float(np.linalg.norm(net.gradient(30 * rng.standard_normal((500, 2))), axis=1).max())
    size = network_penalty(net, 1.0, zero, layout.base.rows.X)
    assert slope**2 <= size * (1 + 1e-12)
    # turned units: relu(g) = relu(-g) + g, the affine rest as a pair of units
    W, b, v, c = net.W, net.b, net.v, net.c
    line = v @ W
    turned = Network.shallow(
        np.vstack([-W, line, -line]), np.concatenate([-b, [0.0, 0.0]]), np.concatenate([v, [1.0, -1.0]]), c + v @ b
    )
    np.testing.assert_allclose(turned(layout.base.rows.X), net(layout.base.rows.X), atol=1e-12)
    assert network_penalty(turned, 1.0, zero, layout.base.rows.X) == pytest.approx(size, rel=1e-8)
    # one affine function: its slope, not that of the pair
    pair = Network.shallow([[3.0, 4.0], [-3.0, -4.0]], [0, 0], [1, -1])
    assert network_penalty(pair, 1.0, zero, layout.base.rows.X) == pytest.approx(25)


def test_many_small_units_in_place_of_one_are_not_below_the_bound() -> None:
    X = np.array([[-3.0], [-2.5], [-2.0], [2.0], [2.5], [3.0]])
    y = 3 * np.maximum(X[:, 0] + 0.5, 0)
    gates = Network.shallow([[1.0]], [0.5], [1.0])
    layout = layout_of(X, y, gates, shape_of((), 1), lam=1e-9, lipschitz=True)
    demands = Demands("sufficient", no_rows(layout), worst_rows(layout), ())
    found = solve_direct(layout, demands, Effort(1e-12, size=layout.size))
    assert found is not None
    point, dual = found
    net, bound = layout.decode(point), lower_bound(layout, demands, dual)
    k, shifts = 50, 1e-9 * np.arange(50)[:, None]  # other hyperplanes in the same cells
    parts = np.tile(net.W, (k, 1)), (net.b + shifts).ravel(), np.tile(net.v / k, k)
    objective = layout.network_objective(Network.shallow(*parts, net.c))
    assert bound <= objective <= layout.objective(point) * (1 + 1e-5)


def solve(layout: Layout, demands: Demands, road: str) -> tuple[Point, ShapeDual]:
    found = (
        solve_direct(layout, demands, Effort(1e-9, size=layout.size))
        if road == "direct"
        else solve_stated(layout, demands, "clarabel", OPTIONS["clarabel"](1e-9, 200, None))
    )
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_both_statements_have_one_optimum_and_multipliers_that_prove_it(name: str) -> None:
    layout, demands = program(CASES[name])
    first = layout.objective(solve(layout, demands, "direct")[0])
    for road in ("direct", "stated"):
        point, dual = solve(layout, demands, road)
        value, bound = layout.objective(point), lower_bound(layout, demands, dual)
        assert value == pytest.approx(first, abs=1e-6)
        assert bound == pytest.approx(value, abs=1e-6)
        assert bound <= first + 1e-8
        # the network of the point, judged by its unique form, is the point
        assert layout.network_objective(layout.decode(point)) <= value * (1 + 1e-8)


@pytest.mark.parametrize("name", [pytest.param("odd", marks=pytest.mark.slow), "rising"])
def test_any_multipliers_prove_no_more_than_the_optimum(name: str, rng: np.random.Generator) -> None:
    layout, demands = program(CASES[name], n=10)
    point, dual = solve(layout, demands, "direct")
    optimum = layout.objective(point) * (1 + 1e-7)
    assert lower_bound(layout, demands, dual) >= layout.objective(point) - 1e-6

    def moved(part: Any, size: float) -> Any:
        return part + size * (1 + np.abs(part)) * rng.standard_normal(np.shape(part))

    for size in (1e-12, 1e-9, 1e-6, 1e-3, 1.0, 1e6, 1e150):
        names = ("residual", "cones", "rows", "worst", "falls")
        with np.errstate(all="ignore"):
            parts = {name: moved(getattr(dual, name), size) for name in names}
            matrix, first = moved(dual.spectral.matrix, size), moved(dual.spectral.first, size)
        for spectral in (dual.spectral, Spectral(matrix, first), Spectral(-matrix), Spectral(first, matrix)):
            both = ShapeDual(anchors=dual.anchors, spectral=spectral, **parts)
            only = replace(dual, spectral=spectral)
            assert lower_bound(layout, demands, both) <= optimum
            assert lower_bound(layout, demands, only) <= optimum
    for wrong in (np.full((2, 2), np.nan), np.eye(2) * 1j, np.eye(3), "no", np.zeros((2, 2))):
        only = replace(dual, spectral=Spectral(wrong, wrong))
        assert 0.0 <= lower_bound(layout, demands, only) <= optimum


@pytest.mark.slow
def test_monotone_with_a_small_lipschitz_constant() -> None:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (15, 2))
    y = np.sin(4 * X[:, 0]) + X[:, 0] + 0.5 * X[:, 1] ** 2
    settings: dict[str, Any] = {"regularizer": "lipschitz", "lam": 1e-3, "hidden_units": 3, "random_state": 0}
    found = train_constrained(X, y, Monotone(0), options=ConstrainedOptions(rounds=1), **settings)
    assert found.guarantees.hold
    assert found.free_lower_bound - 1e-9 <= found.lower_bound <= found.objective
    assert max(item.gap for item in found.programs) < 1e-5
    Z = 10 * rng.standard_normal((2000, 2))
    assert found.network.gradient(Z)[:, 0].min() >= 0
    huber = train_constrained(X, y, Monotone(0), loss="huber", options=ConstrainedOptions(rounds=0), **settings)
    assert huber.guarantees.hold
    assert max(item.gap for item in huber.programs) < 1e-4
    assert huber.lower_bound <= huber.objective
    one = train_constrained([[1.0, 2.0]], [3.0], Monotone(0), **settings)
    assert one.objective == pytest.approx(0.0, abs=1e-9)


def test_another_regularizer_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="one of l2, lipschitz"):
        train_constrained([[1.0]], [1.0], Monotone(0), regularizer="gated")

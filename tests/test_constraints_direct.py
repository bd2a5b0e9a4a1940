"""Programs stated in cones against the same programs in cvxpy, and corners of exact vertices against fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from convexnn.conic.run import OPTIONS
from convexnn.constraints import (
    Convex,
    Even,
    FixedGradient,
    FixedValue,
    LowerBound,
    Monotone,
    Odd,
    SlopeBounds,
    UpperBound,
    train_constrained,
)
from convexnn.constraints.caps import CapProgram
from convexnn.constraints.cones import Effort, symmetric, triangle
from convexnn.constraints.direct import solve_direct
from convexnn.constraints.evidence import lower_bound
from convexnn.constraints.layout import layout_of
from convexnn.constraints.program import Demands, solve_stated
from convexnn.constraints.repair import resized
from convexnn.constraints.rows import anchor_rows, joined, necessary_rows, worst_rows
from convexnn.constraints.shape import resolve, shape_of
from convexnn.constraints.sizes import Sizes
from convexnn.constraints.vertices import _solve, _whole
from convexnn.exceptions import SolverError
from convexnn.memory import memory_limit
from convexnn.network import Network
from convexnn.threats import Box, L2Ball

CASES = {
    "rising": [Monotone(0)],
    "ball": [UpperBound(L2Ball(0.5), 1.2)],
    "boxes": [UpperBound(Box([-0.5, -0.5], [0.5, 0.5]), 1.2), LowerBound(Box(-1.0, 1.0), 0.0)],
    "odd": [Odd()],
    "even with a ball": [Even(), UpperBound(L2Ball(0.5), 1.2)],
    "even with slopes": [SlopeBounds(0, -1, 1), Even()],
    "fixed": [FixedValue([0.0, 0.0], 1.0), FixedGradient([0.3, 0.2], [0.0, 0.1]), Convex()],
}
QUICK = ("fixed",)


def programs(constraints, n=25, units=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 2))
    y = 2 * np.exp(-3 * (X**2).sum(axis=1)) + 0.3 * X[:, 0] + 0.1 * rng.standard_normal(n)
    gates = Network.shallow(rng.standard_normal((units, 2)), rng.uniform(-0.5, 0.5, units), np.ones(units))
    layout = layout_of(X, y, gates, shape_of(resolve(constraints, 2), 2), lam=1e-2)
    P = layout.structure.D.shape[1]
    caps = tuple(CapProgram(cap, layout.all_signs, np.full(P, 0.5)) for cap in layout.shape.caps)
    necessary = Demands("necessary", joined(anchor_rows(layout), necessary_rows(layout)))
    return layout, (necessary, Demands("sufficient", anchor_rows(layout), worst_rows(layout), caps))


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_both_statements_have_one_optimum_and_multipliers_that_prove_it(name):
    layout, both = programs(CASES[name])
    for demands in both:
        roads = (
            solve_direct(layout, demands, Effort(1e-9)),
            solve_stated(layout, demands, "clarabel", OPTIONS["clarabel"](1e-9, 200, None)),
        )
        values = [layout.objective(point) for point, _ in roads]
        bounds = [lower_bound(layout, demands, dual) for _, dual in roads]
        assert values[0] == pytest.approx(values[1], abs=1e-6)
        assert bounds[0] == pytest.approx(values[0], abs=1e-6)
        assert max(bounds) <= min(values) + 1e-7


def test_nothing_feasible_is_none():
    layout, (necessary, _) = programs([FixedValue([0.0, 0.0], 1.0), Convex()])
    rows = necessary.pieces
    raised = type(rows)(rows.A, rows.E, rows.low + 1.0, rows.high + 1.0)
    assert solve_direct(layout, Demands("both", joined(rows, raised)), Effort()) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rising", "odd", "even with slopes", "fixed"])
def test_sizes_by_both_statements(name):
    layout, (necessary, _) = programs(CASES[name])
    point, _ = solve_direct(layout, necessary, Effort(1e-9))
    lengths = np.linalg.norm(point.U, axis=1)
    alive = np.flatnonzero(lengths > 1e-7)
    sizes = Sizes(layout, point.U[alive] / lengths[alive, None], alive)
    rows = joined(anchor_rows(layout), necessary.pieces)
    for one, other in zip(sizes.best(rows), sizes.best_stated(rows), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)
    again = resized(layout, point, necessary.pieces)
    assert layout.objective(again) <= layout.objective(point) + 1e-7


def test_best_slopes_of_units_that_subtract(rng):
    """With one slope for all units that subtract, the bound at the best slopes is below that of 200 random ones.

    For given slopes and free kappa the bound of Proposition 7 is at least the maximum of the majorant with every kappa
    at its best in each point, and relu for the units that add is below that.
    """
    layout, (_, sufficient) = programs(CASES["ball"])
    (cap,) = sufficient.caps
    U = layout.all_signs[:, None] * rng.standard_normal((len(layout.all_signs), 3))
    U[cap.adds] = 0.0  # what is left is linear: the maximum over the ball is |slope| / 2 + constant
    best = cap.best_tau(U, np.array([0.3, -0.2]), 0.1)
    assert ((best.tau >= 0) & (best.tau <= 1)).all()

    def bound(tau):
        total = (tau * ~cap.adds) @ U + [0.3, -0.2, 0.1]
        return 0.5 * np.linalg.norm(total[:2]) + total[2]

    assert bound(best.tau) <= min(bound(tau) for tau in rng.random((200, len(U)))) + 1e-7


def test_triangles_keep_the_scalar_product(rng):
    A, B = (M + M.T for M in rng.standard_normal((2, 4, 4)))
    rows, columns, factors = triangle(4)
    a, b = (M[rows, columns] * factors for M in (A, B))
    assert a @ b == pytest.approx(np.trace(A @ B))
    np.testing.assert_allclose(symmetric(a, 4), A)


def test_integer_vertices_are_the_rational_ones(rng):
    for d in (1, 2, 3, 5):
        for _ in range(20):
            floats = rng.integers(-3, 4, (d, d + 1)) / rng.integers(1, 9, (d, d + 1))
            rows = [[Fraction(x) for x in row] for row in floats.tolist()]
            point = _solve([_whole(row) for row in rows])
            if point is None:
                assert abs(np.linalg.det(floats[:, :-1])) < 1e-12
            else:
                assert point[-1] > 0
                assert all(sum(a * x for a, x in zip(row, point, strict=True)) == 0 for row in rows)


def test_a_program_beyond_the_memory_is_refused_with_the_way_out():
    layout, both = programs(CASES["ball"])
    with memory_limit(1e-6):
        for demands in both:
            with pytest.raises(SolverError, match="GiB are free. Take fewer hidden_units"):
                solve_direct(layout, demands, Effort())
        with pytest.raises(SolverError, match="Take fewer hidden_units"):
            solve_stated(layout, both[0], "scs", OPTIONS["scs"](1e-4, 200, None))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-4, 1e4])
def test_the_unit_of_the_targets_does_not_matter(size):
    """``s y`` with weight ``s lam``: objectives times ``s^2``, of every program and of the network with its cap."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (25, 2))
    y = 2 * np.exp(-3 * (X**2).sum(axis=1)) + 0.1 * rng.standard_normal(25)
    one, other = (
        train_constrained(X, s * y, UpperBound(L2Ball(0.5), 1.2 * s), lam=1e-3 * s, hidden_units=5, random_state=0)
        for s in (1.0, size)
    )
    assert other.guarantees.hold
    assert other.objective == pytest.approx(size**2 * one.objective, rel=1e-2)
    assert other.lower_bound == pytest.approx(size**2 * one.lower_bound, rel=1e-5)
    assert max(program.gap for program in other.programs) <= 1e-6

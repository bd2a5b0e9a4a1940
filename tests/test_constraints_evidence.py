"""Lower bounds of constrained programs against exact optima: multipliers chosen to make rounding lie do not."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from convexnn.constraints.caps import CapDual, CapProgram
from convexnn.constraints.evidence import ShapeDual, lower_bound
from convexnn.constraints.layout import Layout, layout_of
from convexnn.constraints.program import Demands
from convexnn.constraints.rows import PieceRows, no_rows
from convexnn.constraints.shape import resolve, shape_of
from convexnn.constraints.values import Even, Monotone, UpperBound
from convexnn.losses import Hinge, Huber, Logistic, Loss, SquaredHinge
from convexnn.network import Network
from convexnn.threats import Box, L2Ball

N = 12


def layout(y, loss: str | Loss = "squared", lam: float = 1e-2, wanted=None) -> Layout:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (len(y), 2))
    gates = Network.shallow(rng.standard_normal((4, 2)), rng.standard_normal(4), np.ones(4))
    return layout_of(X, y, gates, shape_of(resolve(wanted or [Monotone(0)], 2), 2), lam=lam, loss=loss)


def dual(program: Layout, residual, rows=(), caps=()) -> ShapeDual:
    s = program.structure
    P = s.S.shape[1]
    return ShapeDual(
        np.asarray(residual), np.zeros(s.S.shape), np.zeros(program.D0.shape), np.asarray(rows, dtype=float),
        np.zeros(0), np.zeros((0, P)), tuple(caps),
    )  # fmt: skip


def constants(program: Layout, level: float, copies: int, equation: bool) -> Demands:
    """So many times ``c >= level`` and ``c <= level``, or ``c = level``."""
    E = np.tile([0.0, 0.0, 1.0], (2 * copies, 1))
    low, high = np.full(2 * copies, level), np.full(2 * copies, level)
    if not equation:
        low[copies:], high[:copies] = -np.inf, np.inf
    return Demands("constant", PieceRows(np.zeros((len(E), program.structure.D.shape[1])), E, low, high))


@pytest.mark.parametrize("loss", ["squared", Huber(1e3)])
@pytest.mark.parametrize("offset", [1e3, 1e9])
def test_the_constant_is_free_to_the_last_digit(loss, offset, rng) -> None:
    program = layout(np.full(N, 1e6), loss)  # the constant network has no loss: the optimum is zero
    s, free = program.structure, Demands("free", no_rows(program))
    for size in (1e-8, 1.0):
        residual = s.weight * (offset + size * rng.standard_normal(N))
        assert lower_bound(program, free, dual(program, residual)) == 0.0
        assert lower_bound(program, free, dual(program, -residual)) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("equation", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1e8, 1e16, 1e300, 1e-320])
def test_sums_that_cancel_prove_nothing_false(equation, scale, rng) -> None:
    program = layout(np.full(N, 1e3))  # f = 1000 everywhere is feasible, at no cost
    demands, s = constants(program, 1e3, 6, equation), program.structure
    for _ in range(8):
        up = scale * np.exp(8 * rng.standard_normal(6))
        rows = np.concatenate([up, -rng.permutation(up) * (1 + 2.0**-50 * rng.integers(-3, 4, 6))])
        with np.errstate(all="ignore"):
            residual = s.weight * (scale * rng.standard_normal() + rng.standard_normal(N))
        for signed in (rows, -rows):
            assert lower_bound(program, demands, dual(program, residual, signed)) <= 0.0


@pytest.mark.parametrize("equation", [True, False, None])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4, 1e9])
def test_tight_and_never_above_the_exact_optimum(equation, offset, rng) -> None:
    program = layout(rng.standard_normal(N), lam=1e3)  # so heavy that constants are best
    s = program.structure
    weight, y = [list(map(Fraction, values.tolist())) for values in (s.weight, s.y)]
    level = 0.25
    demands = Demands("free", no_rows(program)) if equation is None else constants(program, level, 1, equation)
    mean = sum(w * v for w, v in zip(weight, y, strict=True)) / sum(weight)
    best = mean if equation is None else Fraction(level)
    optimum = sum(w * (best - v) ** 2 for w, v in zip(weight, y, strict=True))
    exact = 2 * s.weight * (float(best) - s.y)
    rows = np.array([max(exact.sum(), 0.0), min(exact.sum(), 0.0)] if equation is not None else [])
    found = []
    for size in (0.0, 1e-12, 1e-9, 1e-6):
        residual = exact + s.weight * (offset + size * rng.standard_normal(N))
        found.append(lower_bound(program, demands, dual(program, residual, rows)))
        assert Fraction(found[-1]) <= optimum
    if offset == 0.0 or equation is None:
        assert max(found) >= float(optimum) * (1 - 1e-12 * (1 + offset))


def test_variances_of_repeated_rows_are_rounded_down(rng) -> None:
    """One input, many targets: the optimum is their variance, a rational number, and so is what multipliers prove."""
    one = Network.shallow([[1.0, 0.5]], [0.1], [1.0])
    for _ in range(12):
        y = rng.standard_normal(7) * 10.0 ** rng.integers(-3, 9)
        program = layout_of(np.ones((7, 2)), y, one, shape_of(resolve([Monotone(0)], 2), 2), lam=1.0)
        exact = [Fraction(value) for value in y.tolist()]
        mean = sum(exact) / 7
        variance = sum((value - mean) ** 2 for value in exact) / 7
        for residual in ([0.0], [1e-9], [1e9]):
            found = lower_bound(program, Demands("free", no_rows(program)), dual(program, residual))
            assert variance * (1 - Fraction(1, 10**13)) <= Fraction(found) <= variance


@pytest.mark.slow
@pytest.mark.parametrize("loss", [Hinge(), SquaredHinge(), Logistic(), Huber(0.5)])
def test_every_loss_below_its_value_at_a_constant(loss, rng) -> None:
    y = np.repeat([-1.0, 1.0], N // 2)
    program = layout(y, loss, lam=1e3)
    s, free = program.structure, Demands("free", no_rows(program))
    value = float(s.weight @ loss.value(np.zeros(N), s.y))  # by symmetry the optimum
    gradient = s.weight * loss.gradient(np.zeros(N), s.y)
    assert value * (1 - 1e-12) <= lower_bound(program, free, dual(program, gradient)) <= value * (1 + 1e-15)
    for size in (1e-14, 1e-6, 1.0, 1e6, 1e12):
        for offset in (0.0, size):
            residual = gradient + s.weight * (offset + size * rng.standard_normal(N))
            assert lower_bound(program, free, dual(program, residual)) <= value * (1 + 1e-15)
    assert lower_bound(program, free, dual(program, np.where(s.y > 0, -1e9, 0.0))) <= value


@pytest.mark.slow
@pytest.mark.parametrize("region", [Box(-1.0, 1.0), L2Ball(2.0)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e8, 1e160, 1e300])
def test_matrices_of_caps_prove_nothing_false(region, scale, rng) -> None:
    program = layout(np.zeros(N), wanted=[Even(), UpperBound(region, 0.0)])  # f = 0 is feasible, at no cost
    signs = program.all_signs
    caps = tuple(CapProgram(cap, signs, rng.uniform(0, 1, len(signs))) for cap in program.shape.caps)
    demands = Demands("cap", no_rows(program), None, caps)
    k = int(caps[0].adds.sum()) + caps[0].frame.shape[1]
    for rank in (1, 2, k):
        A = rng.standard_normal((k, rank))
        for matrix in (scale * A @ A.T, scale * rng.standard_normal((k, k)), np.diag(scale ** rng.uniform(-1, 1, k))):
            residual = program.structure.weight * scale * rng.standard_normal(N)
            assert lower_bound(program, demands, dual(program, residual, caps=[CapDual(matrix)])) <= 0.0
    for wrong in (
        np.zeros((k, k)),
        np.full((k, k), np.nan),
        np.eye(k) * 1j,
        np.eye(k + 1),
        None,
        np.eye(k).astype(str),
    ):
        assert lower_bound(program, demands, dual(program, np.zeros(N), caps=[CapDual(wrong)])) == 0.0


@pytest.mark.parametrize("wrong", [np.zeros(N, complex), np.full(N, "1"), np.zeros((N, 1)), np.full(N, np.inf)])
def test_what_is_no_multiplier_proves_nothing(wrong) -> None:
    program = layout(np.zeros(N))
    assert lower_bound(program, Demands("free", no_rows(program)), dual(program, wrong)) == -np.inf


def test_slopes_at_their_ends_leave_no_room() -> None:
    program = layout(np.ones(N), "hinge", lam=1e3)  # all of one class: slopes in [-1, 0]
    demands, s = constants(program, 0.5, 1, False), program.structure
    for rows in ([0.0, 0.0], [0.0, -1.0], [2.0, 0.0]):  # sums 0, -1 and 2: none missing, the other end, out of reach
        for residual in (np.zeros(N), -s.weight):
            assert lower_bound(program, demands, dual(program, residual, rows)) <= 0.5 * (1 + 1e-15)
    # c <= 1/2 costs one half at least, and the multiplier -1 proves it
    assert lower_bound(program, demands, dual(program, -s.weight, [0.0, -1.0])) >= 0.5 * (1 - 1e-12)

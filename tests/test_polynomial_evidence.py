"""Lower bounds of polynomial programs from good, random and corrupted multipliers; the norm of the multipliers."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from convexnn.program import PolynomialDual, evaluate
from convexnn.restrictions import PolynomialProgram
from convexnn.restrictions.polynomial_evidence import atomic_norm_up, class_norms
from convexnn.restrictions.polynomial_neurons import point_of
from convexnn.solvers.cvx import solve_cvxpy
from tests._families import few

LOSSES = ("squared_hinge", "hinge", "logistic", "squared", "huber")


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, np.where(X[:, 0] + X[:, -1] ** 2 - 1 + 0.3 * rng.standard_normal(n) > 0, 1.0, -1.0)


def solved(loss, radius, n=10, d=2, **options):
    X, y = data(n, d)
    program = PolynomialProgram(X, y, lam=0.05, loss=loss, radius=radius, **options)
    return program, evaluate(program, solve_cvxpy(program, "clarabel"), seconds=0.0)


def random_dual(program, rng, *, spread=True):
    s = program.structure()
    n, d = s.n_terms, s.n_features
    size = 10.0 ** rng.uniform(-3, 2)
    return PolynomialDual(
        rng.exponential(size, n) * rng.integers(0, 2, n),
        rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-3, 2),
        rng.exponential(10.0 ** rng.uniform(-4, 1), (n, 3)) if spread else None,
        rng.standard_normal((2, d, 3)) if spread else None,
        rng.integers(0, 2, n) if spread else None,
    )


def corrupted(dual, rng):
    """The same multipliers with some of them wrong."""
    kind = rng.integers(5)
    if kind == 0:
        return replace(dual, slopes=dual.slopes * rng.uniform(-1, 3, len(dual.slopes)))
    if kind == 1:
        return replace(dual, shifts=dual.shifts + rng.standard_normal(dual.shifts.shape))
    if kind == 2:
        return replace(dual, shifts=10 * dual.shifts[rng.permutation(len(dual.shifts))])
    if kind == 3 and dual.variances is not None:
        return replace(dual, variances=rng.exponential(1.0, dual.variances.shape) - 0.5)
    return replace(dual, slopes=np.roll(dual.slopes, 1) * 10.0 ** rng.uniform(-5, 5))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("radius", few([0.3, 0.0]))
def test_no_multiplier_proves_more_than_the_optimum(loss, radius, rng):
    program, solution = solved(loss, radius)
    assert solution.gap <= 1e-6
    optimum = solution.objective
    for _ in range(15):
        for dual in (random_dual(program, rng), random_dual(program, rng, spread=False), corrupted(solution.dual, rng)):
            bound = program.lower_bound(dual)
            assert 0.0 <= bound <= optimum * (1 + 1e-12)
    # slopes that are too small are scaled up again: that bound is tight
    for size in (0.1, 1e-9, 1e-200):
        assert program.lower_bound(replace(solution.dual, slopes=size * solution.dual.slopes)) >= optimum * (1 - 1e-5)


@pytest.mark.parametrize("loss", ["squared_hinge", "squared"])
def test_no_network_is_below_a_bound(loss, rng):
    program, solution = solved(loss, 0.4, metric=[0.5, 2.0])
    bound = program.lower_bound(solution.dual)
    for _ in range(200):
        m = int(rng.integers(1, 5))
        units = rng.standard_normal((m, 2))
        units /= np.linalg.norm(units, axis=1, keepdims=True)
        z = point_of(units, rng.standard_normal((1, m)) * 10.0 ** rng.uniform(-2, 1))
        near = solution.z + 1e-3 * rng.uniform() * z
        assert min(program.objective(z), program.objective(near)) >= bound * (1 - 1e-13)


def test_unusable_multipliers_prove_nothing(rng):
    program, solution = solved("hinge", 0.3)
    good, n = solution.dual, program.structure().n_terms
    for wrong in (
        replace(good, slopes=np.full(n, math.nan)),
        replace(good, slopes=good.slopes[:-1]),
        replace(good, shifts=np.full((n, 2), math.inf)),
        replace(good, shifts=np.zeros((n, 3))),
        replace(good, variances=np.ones((n, 5))),
        replace(good, directions=None),
        replace(good, groups=np.full(n, 99)),
        replace(good, groups=np.full(n, 0.5)),
    ):
        assert program.lower_bound(wrong) == -math.inf
    for useless in (
        replace(good, slopes=np.zeros(n)),
        replace(good, slopes=-good.slopes),
        PolynomialDual(good.slopes, np.full((n, 2), 1e200)),
        replace(good, slopes=np.full(n, 1e300)),
        replace(good, directions=1e200 * good.directions),
        PolynomialDual(np.full(n, 5e-324), np.full((n, 2), 5e-324)),
    ):
        assert 0.0 <= program.lower_bound(useless) <= solution.objective


@pytest.mark.parametrize("scale", [1e-120, 1e-3, 1e3, 1e70])
def test_bounds_hold_at_any_scale(scale, rng):
    X, y = data(8, 2)
    program = PolynomialProgram(scale * X, y, lam=0.05, radius=0.2 * scale, coefficients=(0.09, 0.5, 0.47))
    s = program.structure()
    best = min(
        program.objective(point_of(np.array([[math.cos(t), math.sin(t)]]), np.array([[w]])))
        for t in np.linspace(0, 6.28, 16)
        for w in (-1.0, -1e-3, 0.0, 1e-3, 1.0, 1 / scale)
    )
    for _ in range(30):
        shifts = scale * rng.standard_normal((s.n_terms, 2))
        assert program.lower_bound(PolynomialDual(rng.exponential(1.0, s.n_terms), shifts)) <= best


def test_the_norm_of_multipliers_is_proved_and_tight(rng):
    for d in (1, 2, 5, 30):
        for _ in range(10):
            G = rng.standard_normal((d + 1, d + 1)) * 10.0 ** rng.uniform(-8, 8)
            G = G + G.T
            if rng.uniform() < 0.3:
                G[:-1, -1] = G[-1, :-1] = 0.0  # the hard case
            bound = atomic_norm_up(G)
            U = rng.standard_normal((2000, d))
            U = np.hstack([U / np.linalg.norm(U, axis=1, keepdims=True), np.ones((2000, 1))])
            sampled = np.abs(np.einsum("ij,jk,ik->i", U, G, U)).max()
            assert sampled <= bound * (1 + 1e-12)
            if d <= 2:
                assert sampled >= 0.999 * bound
    # nothing but the trace condition: zero on every unit vector, up to the rounding that the proof adds
    assert atomic_norm_up(np.diag([3.0, 3.0, -3.0])) <= 1e-13
    assert atomic_norm_up(np.zeros((3, 3))) == 0.0
    assert atomic_norm_up(np.full((3, 3), math.nan)) == math.inf


def test_the_norm_holds_in_exact_arithmetic(rng):
    # [u; 1]'G [u; 1] at rational unit vectors (3/5, 4/5) and (-5/13, 12/13), against the float bound
    for _ in range(50):
        G = rng.standard_normal((3, 3)) * 10.0 ** rng.integers(-5, 5)
        G = G + G.T
        bound = Fraction(atomic_norm_up(G))
        for u in ((Fraction(3, 5), Fraction(4, 5)), (Fraction(-5, 13), Fraction(12, 13))):
            p = (*u, Fraction(1))
            value = sum(Fraction(float(G[i, j])) * p[i] * p[j] for i in range(3) for j in range(3))
            assert abs(value) <= bound


def test_rounding_of_sums_is_covered(rng):
    # one unit vector u = e_1: the exact sum of t (a (x + shift)^2 + b (x + shift) + c) is below the bound
    X, y = data(40, 1)
    program = PolynomialProgram(1e3 + 1e-3 * X, y, lam=0.05, radius=0.1)
    s = program.structure()
    slopes = rng.exponential(1.0, s.n_terms)
    shifts = rng.uniform(-0.09, 0.09, (s.n_terms, 1))
    bound = class_norms(s, slopes, PolynomialDual(slopes, shifts))[0]
    a, b, c = (Fraction(value) for value in program.coefficients)
    total = Fraction(0)
    for t in range(s.n_terms):
        x = Fraction(float(s.X[s.rows[t], 0])) + Fraction(float(shifts[t, 0]))
        sign = 1 if s.plus[t] == 0 else -1
        total += sign * Fraction(float(s.share[t] * slopes[t])) * (a * x * x + b * x + c)
    assert abs(total) <= Fraction(float(bound))
    assert float(abs(total)) >= 0.9 * bound


def test_random_attacks_prove_what_single_attacks_cannot():
    # two opposite classes at the same point: only attacks in both directions at once balance a wide ball
    X, y = np.array([[-1.0, 0.0], [1.0, 0.0]]), np.array([-1.0, 1.0])
    program = PolynomialProgram(X, y, lam=1e-3, radius=3.0)
    slopes = np.full(2, 2.0)
    towards = PolynomialDual(slopes, -X * 3.0)
    meeting = PolynomialDual(slopes, -X)  # both at the origin: no network tells them apart
    assert program.lower_bound(meeting) == pytest.approx(1.0, abs=1e-9)
    assert program.lower_bound(towards) < 0.9


@pytest.mark.parametrize("variance", [1e300, 1e200, 1.0])
def test_attacks_with_directions_whose_squares_underflow_are_weakened_like_any_other(variance):
    program = PolynomialProgram([[1e-20], [2e-20]], [1.0, -1.0], lam=1e-42, radius=1e-30, coefficients=(1.0, 0.0, 0.0))
    network = point_of(np.ones((1, 1)), np.array([[-0.7 / 4e-40]]))
    variances = np.where(program.structure().X == 1e-20, variance, 0.0)
    directions = np.full((1, 1, 1), math.sqrt(3e-40) / math.sqrt(variance))  # would make both classes look alike
    dual = PolynomialDual(np.ones(2), np.zeros((2, 1)), variances, directions, np.zeros(2, dtype=int))
    assert program.violation(network) == 0
    assert program.lower_bound(dual) <= program.objective(network)


@pytest.mark.parametrize("size", [1e308, 1e-310])
def test_the_norm_of_matrices_at_both_ends_of_the_range(size):
    G = size * np.array([[1.0, 0.0], [0.0, 0.5]])
    assert 1.5 * size <= atomic_norm_up(G) <= 1.6 * size + 1e-279
    assert atomic_norm_up(size * np.ones((3, 3))) >= 4 * min(size, 4e307)

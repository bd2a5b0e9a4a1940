"""Bounds by separable quadratic majorants: valid for any numbers, equal to the semidefinite programs at their best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convexnn.activations import Identity, LeakyReLU, Polynomial, ReLU
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.regions.check import majorant_offsets, proved_bound, quadratic_maximum, units_bound
from convexnn.regions.newton import best_majorants, majorant_bound, solve_majorants
from convexnn.regions.paired import parallel_groups
from convexnn.regions.region import Region
from convexnn.regions.ridges import Units, ridges

KINDS = ("ball", "box")
each_kind = pytest.mark.parametrize("kind", KINDS)


def network(rng, r=4, h=12, bias=0.4, kind="ball", activation=None):
    W = rng.standard_normal((h, r)) * np.sqrt(2 / (r + h))
    return Units(W, bias * rng.standard_normal(h), rng.standard_normal(h), 0.3, kind, activation or ReLU())


def paired(rng, r=4, n=5, kind="ball", signs=True):
    U = rng.standard_normal((n, r)) / np.sqrt(r)
    c = rng.standard_normal(2 * n) if signs else 0.2 + rng.random(2 * n)
    W = np.vstack([U, -U])
    return Units(W, -0.3 + 0.3 * rng.standard_normal(2 * n), c, 0.0, kind, groups=np.tile(np.arange(n), 2))


def sampled(units, rng, n=4000):
    region = Region(np.zeros(units.weights.shape[1]), np.ones(units.weights.shape[1]), units.kind)
    E = np.vstack([region.sample(n, rng), region.sample_surface(n, rng), np.zeros((1, units.weights.shape[1]))])
    S = E @ units.weights.T + units.biases
    values = units.activation(S) @ units.outer + units.offset
    for _ in range(40):  # ascent
        G = (units.activation.derivative(S) * units.outer) @ units.weights
        size = (
            np.linalg.norm(G, axis=1, keepdims=True) if units.kind == "ball" else np.abs(G).max(axis=1, keepdims=True)
        )
        E = region.project_unit(E + 0.3 * G / np.where(size > 0, size, 1))
        S = E @ units.weights.T + units.biases
        values = np.maximum(values, units.activation(S) @ units.outer + units.offset)
    return float(values.max())


@each_kind
@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.2), Polynomial(), Polynomial(-0.3, 0.1, 0.2), Identity()])
def test_any_majorants_are_valid(rng, kind, activation):
    units = network(rng, kind=kind, activation=activation)
    attained = sampled(units, rng, 300)
    for scale in (1e-6, 1.0, 1e3, 1e150):
        al, be = scale * rng.standard_normal((2, 12))
        for rho in (None, scale * rng.random(4), np.full(4, np.nan)):
            for tight in (True, False):
                assert units_bound(units, al, be, rho, tight=tight) >= attained
    assert units_bound(units, np.full(12, np.nan), np.zeros(12)) == np.inf
    with pytest.raises(CertificateError):
        units_bound(units, np.zeros(3), np.zeros(12))
    best = best_majorants(ridges(units))
    assert attained <= best.bound < np.inf


@each_kind
def test_offsets_are_the_least_ones(rng, kind):
    units = replace(paired(rng, kind=kind), activation=LeakyReLU(0.1))
    parts = ridges(units)
    al, be = 2 * rng.random(5) - 0.5, rng.standard_normal(5)
    a = np.linspace(-1, 1, 200001)[None] * parts.reach[:, None]
    phi = np.zeros_like(a)
    for i in range(10):
        g = units.groups[i]
        phi[g] += units.outer[i] * units.activation((1 if i < 5 else -1) * a[g] + units.biases[i])
    needed = (phi - al[:, None] * a**2 - be[:, None] * a).max(axis=1)
    found = majorant_offsets(parts, al, be)
    fixed = parts.offset - units.offset  # what units that are linear on the region add, and rounding
    assert abs(found.sum() + fixed - needed.sum()) < 1e-7


def test_quadratic_maximum_is_the_trust_region(rng):
    V, al, g = rng.standard_normal((6, 3)), rng.standard_normal(6), rng.standard_normal(3)
    E = rng.standard_normal((200000, 3))
    E /= np.linalg.norm(E, axis=1, keepdims=True)
    bound = quadratic_maximum(V, al, g, "ball")
    best = max(float((((E @ V.T) ** 2) @ al + E @ g).max()), 0.0)
    assert best <= bound <= best + 1e-2
    # hard case: no gradient, the largest eigenvalue of a multiple of the identity
    assert quadratic_maximum(np.eye(3), np.full(3, 2.0), np.zeros(3), "ball") == pytest.approx(2.0, abs=1e-9)
    assert quadratic_maximum(np.eye(3), np.zeros(3), np.zeros(3), "box") < 1e-200


@pytest.mark.slow
@each_kind
@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_equals_the_programs_of_the_paper(rng, kind, bias):
    from convexnn.regions.reference import dual_problem, primal_problem

    units = network(rng, r=3, h=7, bias=bias, kind=kind)
    found = solve_majorants(units.weights, units.biases, units.outer, units.offset, kind, tight=False)
    for problem, _ in (primal_problem(units), dual_problem(units)):
        assert problem.solve(solver="CLARABEL") == pytest.approx(found.bound, abs=2e-6)
    assert found.value == pytest.approx(found.bound, abs=1e-6)
    tight = solve_majorants(units.weights, units.biases, units.outer, units.offset, kind)
    assert sampled(units, rng, 500) <= tight.bound <= found.bound + 1e-7


@pytest.mark.slow
@each_kind
@pytest.mark.parametrize("signs", [False, True])
def test_pairs_are_the_program_with_one_equality_a_pair(rng, kind, signs):
    from convexnn.regions.reference import primal_problem

    units = paired(rng, r=3, n=4, kind=kind, signs=signs)
    grouped = best_majorants(ridges(units, tight=False), tol=1e-9)
    alone = best_majorants(ridges(replace(units, groups=np.arange(8)), tight=False), tol=1e-9)
    assert primal_problem(units)[0].solve(solver="CLARABEL") == pytest.approx(alone.bound, abs=5e-6)
    tied = primal_problem(units, opposite=True)[0].solve(solver="CLARABEL")
    assert grouped.bound <= tied + 5e-6
    if not signs:  # with outer weights of both signs a group knows more than the equality says
        assert tied == pytest.approx(grouped.bound, abs=5e-6)
    assert grouped.bound <= alone.bound + 1e-8
    assert sampled(units, rng, 300) <= best_majorants(ridges(units)).bound <= grouped.bound + 1e-7


@pytest.mark.slow
def test_dead_units_with_huge_ratios_are_not_silently_loose(rng):
    W, b, c = rng.standard_normal((50, 5)) * 0.2, 0.3 * rng.standard_normal(50), np.abs(rng.standard_normal(50))
    without = solve_majorants(W[1:], b[1:], c[1:], 0.0, "ball", tight=False).bound
    for length, ratio in ((1e-14, -1.8e12), (1e-300, -1e280), (1e-3, -1e7), (0.0, -1.0)):
        W[0] *= length / max(np.linalg.norm(W[0]), 1e-310) if length else 0.0
        b[0] = ratio * (length or 1.0)
        assert solve_majorants(W, b, c, 0.0, "ball", tight=False).bound == pytest.approx(without, abs=1e-7)
        W[0] = 0.2 * rng.standard_normal(5)


@pytest.mark.slow
@each_kind
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_scales(rng, kind, scale):
    units = network(rng, kind=kind)
    base = best_majorants(ridges(units), tol=1e-8).bound - units.offset
    moved = replace(units, outer=scale * units.outer, offset=0.0)
    assert best_majorants(ridges(moved), tol=1e-8).bound == pytest.approx(scale * base, rel=1e-5, abs=1e-5 * scale)
    longer = replace(units, weights=scale * units.weights, biases=scale * units.biases, offset=0.0)
    assert best_majorants(ridges(longer), tol=1e-8).bound == pytest.approx(scale * base, rel=1e-5, abs=1e-5 * scale)


def test_corners(rng):
    # one unit: the largest value of c relu(w e + b) on the ball is c (|w| + b), for negative c it is 0
    for c, expected in ((2.0, 2.0 * (5.0 + 0.5)), (-2.0, 0.0)):
        assert solve_majorants([[3.0, 4.0]], [0.5], [c], 0.0, "ball").bound == pytest.approx(expected, abs=1e-6)
    assert solve_majorants([[3.0, 4.0]], [9.0], [-1.0], 0.0, "box").bound == pytest.approx(-2.0, abs=1e-6)
    assert solve_majorants(np.zeros((2, 3)), [1.0, -1.0], [1.0, 5.0], 0.25, "box").bound == pytest.approx(1.25)
    assert majorant_bound([[1.0]], [0.0], [1.0], 0.0, [0.0], [0.5], "ball") == pytest.approx(1.0)
    with pytest.raises(InvalidInputError):
        solve_majorants([[np.nan]], [0.0], [1.0], 0.0, "ball")
    with pytest.raises(InvalidInputError):
        solve_majorants([[1.0]], [0.0], [1.0], 0.0, "simplex")
    with pytest.raises(InvalidInputError):
        Units(np.ones((2, 1)), np.zeros(2), np.ones(2), 0.0, "ball", groups=np.array([0, 2]))


def test_a_start_is_never_lost(rng):
    units = network(rng)
    parts = ridges(units)
    good = best_majorants(parts)
    again = best_majorants(parts, max_iter=1, start=(good.curvature, good.slope))
    assert again.bound <= good.bound + 1e-12
    assert proved_bound(parts, good.curvature, good.slope) == good.bound


def test_parallel_rows_are_found_and_any_grouping_is_sound(rng):
    W = rng.standard_normal((40, 6))
    W[10:20], W[20:25], W[30] = -W[:10], 3.7 * W[:5], 0.0
    groups = parallel_groups(W)
    assert (groups[10:20] == groups[:10]).all()
    assert (groups[20:25] == groups[:5]).all()
    assert len(np.unique(groups)) == 25
    assert groups[0] == 0
    b, c = 0.2 * rng.standard_normal(40), rng.standard_normal(40)
    units = Units(W, b, c, 0.0, "ball", groups=groups)
    wrong = replace(units, groups=np.arange(40) % 7)
    attained = sampled(units, rng, 500)
    assert attained <= best_majorants(ridges(units)).bound
    assert attained <= best_majorants(ridges(wrong)).bound


def test_a_row_of_almost_zeros_is_not_silently_loose(rng):
    """The unit is dead by far: the bound is that of the network without it."""
    W, b, c = 0.4 * rng.standard_normal((12, 3)), 0.3 * rng.standard_normal(12), np.abs(rng.standard_normal(12))
    W[0] *= 1e-14 / np.linalg.norm(W[0])
    b[0] = -1.8e12 * 1e-14
    without = solve_majorants(W[1:], b[1:], c[1:], 0.0, "ball", tight=False).bound
    assert solve_majorants(W, b, c, 0.0, "ball", tight=False).bound == pytest.approx(without, abs=1e-8)

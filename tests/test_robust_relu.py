"""Robust ReLU programs: certified margins, exactness where units are stable, bounds from any multiplier, corners."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import evaluate
from convexnn.restrictions import ReluGroupLasso
from convexnn.restrictions.robust_relu import RobustRelu
from convexnn.restrictions.robust_relu_dual import RobustDual, balanced_slopes, circulation
from convexnn.restrictions.robust_relu_margins import certified_margins
from convexnn.restrictions.robust_relu_terms import dual_norms
from convexnn.solvers import solve

NORMS = (2.0, math.inf)
LOSSES = ("hinge", "squared_hinge", "logistic")
each_norm = pytest.mark.parametrize("norm", NORMS)
each_loss = pytest.mark.parametrize("loss", LOSSES)


def data(rng, n=24, d=3, p=8, k=1):
    """X, labels, and a random network with k outputs."""
    X = rng.normal(size=(n, d))
    V = rng.normal(size=(k, p)) / p
    net = Network.shallow(rng.normal(size=(p, d)), 0.3 * rng.normal(size=p), V[0] if k == 1 else V, 0.1 * np.ones(k))
    score = X[:, 0] + np.abs(X[:, 1]) - 0.6
    y = np.where(score > 0, 1.0, -1.0) if k == 1 else np.digitize(score, [-0.3, 0.6][: k - 1]).astype(float)
    return X, y, net


def attacked(network, x, plus, minus, radius, norm, rng, tries=60, steps=40):
    """Smallest ``f_plus - f_minus`` found around x: samples, corners and descent from each of them."""
    d = len(x)
    moves = rng.normal(size=(tries, d))
    moves = moves / np.linalg.norm(moves, axis=1, keepdims=True) if norm == 2 else np.sign(moves)
    moves *= radius * np.where(np.arange(tries) % 2, 1.0, rng.random(tries))[:, None]
    f = network.margin(plus, minus) if plus >= 0 and minus >= 0 else network
    sign = 1.0 if plus >= 0 else -1.0
    worst = math.inf
    for step in range(steps):
        worst = min(worst, float((sign * f(x + moves)).min()))
        G = sign * f.gradient(x + moves)
        unit = G / np.maximum(np.linalg.norm(G, axis=1, keepdims=True), 1e-30) if norm == 2 else np.sign(G)
        moves = moves - radius * 0.5 * 0.9**step * unit
        length = np.linalg.norm(moves, axis=1, keepdims=True)
        moves = moves * np.minimum(1, radius / length) if norm == 2 else np.clip(moves, -radius, radius)
    return worst


def random_point(rng, program):
    return program.pack(
        rng.normal(size=(program.terms.n_units, program.terms.n_inputs + 1)), rng.normal(size=program.terms.n_outputs)
    )


@each_norm
@pytest.mark.parametrize("k", [1, 3])
def test_margins_are_below_every_attack(rng, norm, k):
    X, y, net = data(rng, n=8, k=k)
    for radius in (0.05, 0.4):
        program = RobustRelu.at(net, X, y, 0.01, radius, norm=norm)
        random = rng.random(program.terms.slopes.shape)
        for slopes in (program.terms.slopes, random, np.ones_like(random), np.zeros_like(random)):
            trial = program.with_slopes(slopes)
            z = random_point(rng, trial)
            margins, decoded = trial.margins(z), trial.decode(z)
            for t in range(trial.terms.n_margins):
                plus, minus = int(trial.terms.plus[t]), int(trial.terms.minus[t])
                x = trial.rows.X[trial.terms.rows[t]]
                assert margins[t] <= attacked(decoded, x, plus, minus, radius, norm, rng, tries=10, steps=10) + 1e-12


@each_norm
def test_stable_units_make_the_margin_exact(rng, norm):
    # far from every hyperplane: the network is linear on the ball, its worst case y f - r |gradient|_q
    X, y, net = data(rng, n=12, p=3)
    far = Network.shallow(net.W, np.array([30.0, -30.0, 30.0]), net.v, 0.2)
    program = RobustRelu.at(far, X, y, 0.01, 0.3, norm=norm, stable=True)
    z = program.lift(far)
    assert program.violation(z) == 0
    exact = program.rows.y * far(program.rows.X) - 0.3 * dual_norms(far.gradient(program.rows.X), norm)
    assert program.margins(z) == pytest.approx(exact, abs=1e-12)
    assert (program.margins(z) <= exact).all()


@each_norm
@each_loss
def test_agrees_with_cvxpy_and_beats_the_constrained_program(rng, norm, loss):
    X, y, net = data(rng)
    patterns = extract(net, X)
    solutions = [
        solve(RobustRelu(X, y, patterns, 0.01, 0.1, norm=norm, loss=loss, stable=stable), solver="clarabel", tol=1e-5)
        for stable in (False, True)
    ]
    for solution in solutions:
        assert solution.status == "optimal"
        assert solution.lower_bound <= solution.objective + 1e-9
    assert solutions[0].objective < solutions[1].objective * (1 + 1e-4)


@each_loss
def test_radius_zero_with_constraints_is_the_group_lasso_program(rng, loss):
    X, y, net = data(rng)
    robust = solve(RobustRelu(X, y, extract(net, X), 0.01, 0.0, loss=loss, stable=True), solver="clarabel", tol=1e-5)
    plain = solve(ReluGroupLasso(X, y, extract(net, X), 0.01, loss=loss), solver="clarabel", tol=1e-5)
    assert robust.objective == pytest.approx(plain.objective, rel=3e-5)


def test_patterns_of_a_solution_of_15_do_not_change_on_the_balls(rng):
    X, y, _ = data(rng, n=10, d=2)
    gates = rng.normal(size=(3, 12))
    D = np.c_[np.c_[X, np.ones(len(X))] @ gates >= 0, np.ones((len(X), 2), dtype=bool)]
    program = RobustRelu(X, y, ActivationPatterns(D, np.resize([1.0, -1.0], 14)), 1e-3, 0.05, stable=True)
    solution = solve(program, solver="clarabel", tol=1e-4)
    assert solution.violation <= 1e-6
    network = program.decode(solution.z)
    alive = np.linalg.norm(network.W, axis=1) > 1e-3
    assert alive.any()
    moves = rng.normal(size=(500, 2))
    moves *= (1 - 1e-5) * 0.05 / np.linalg.norm(moves, axis=1, keepdims=True)
    for k, x in enumerate(program.rows.X):
        active = network.pre_activations(x + moves)[0][:, alive] > 0
        assert (active == (program.terms.slopes[k] > 0.5)[alive]).all()
    # and the value is the exact worst case: a strong attack reaches it
    found = [attacked(network, x, 0, -1, 0.05, 2, rng) for x in program.rows.X[program.rows.y > 0]]
    assert program.margins(solution.z)[program.rows.y > 0] == pytest.approx(found, abs=1e-4)


def test_every_network_is_a_point_and_its_value_bounds_the_attacked_loss(rng):
    for k in (1, 3):
        X, y, net = data(rng, k=k, n=10)
        program = RobustRelu.at(net, X, y, 0.01, 0.3, loss="hinge")
        assert program.violation(program.start) == 0
        assert program.network_objective(net) <= program.objective(program.start) + 1e-12
        decoded = program.decode(program.start)
        assert decoded(X) == pytest.approx(net(X), abs=1e-12)
        t = program.terms
        worst = [
            attacked(net, t.X[row, :-1], int(a), int(b), 0.3, 2, rng)
            for row, a, b in zip(t.rows, t.plus, t.minus, strict=True)
        ]
        loss = float(t.weight @ t.losses(np.array(worst)))
        size = 0.02 * float(np.linalg.norm(program.unpack(program.start)[0], axis=1).sum())
        assert loss + size <= program.network_objective(net) + 1e-9


def test_two_outputs_are_the_program_with_one(rng):
    # directions (-1, 1) / sqrt(2): margins are sqrt(2) times as steep, so a unit is cheaper by that factor
    X, y, net = data(rng)
    one = RobustRelu.at(net, X, y, 0.01, 0.1)
    pair = np.array([[-1.0, 1.0]]) / math.sqrt(2)
    directions = np.sign(net.v)[:, None] * pair
    two = RobustRelu(X, (y + 1) / 2, extract(net, X), 0.01 * math.sqrt(2), 0.1, directions=directions)
    first, second = solve(one, solver="clarabel", tol=1e-5), solve(two, solver="clarabel", tol=1e-5)
    assert first.objective == pytest.approx(second.objective, rel=1e-4)


@each_norm
@pytest.mark.parametrize("k", [1, 3])
def test_no_multiplier_proves_too_much(rng, norm, k):
    X, y, net = data(rng, n=15, k=k)
    for stable in (False, True):
        program = RobustRelu.at(net, X, y, 0.02, 0.2, norm=norm, stable=stable)
        solution = solve(program, solver="clarabel", tol=1e-4)
        good, upper = solution.dual, solution.objective * (1 + 1e-9)
        for trial in range(30):
            noise = (0.0, 1e-3, 1.0, 1e8, 1e-300, 1e150)[trial % 6]

            def corrupt(array, noise=noise):
                return array + noise * rng.normal(size=array.shape)

            rows = None if good.rows is None else corrupt(good.rows)
            bad = RobustDual(corrupt(good.slopes), corrupt(good.attacks), corrupt(good.shares), rows)
            assert program.lower_bound(bad) <= upper
        assert (
            program.lower_bound(RobustDual(good.slopes * math.nan, good.attacks, good.shares, good.rows)) == -math.inf
        )
        assert program.lower_bound(RobustDual(good.slopes[1:], good.attacks, good.shares, good.rows)) == -math.inf


def test_flows_between_outputs_are_balanced(rng):
    flow = rng.random((5, 5)) * (1 - np.eye(5))
    kept = circulation(flow)
    assert (kept <= flow + 1e-15).all()
    assert kept.sum(axis=0) == pytest.approx(kept.sum(axis=1), abs=1e-14)
    assert circulation(kept) == pytest.approx(kept, abs=1e-14)  # nothing is lost of a flow that is balanced
    assert not circulation(np.triu(flow)).any()
    X, y, net = data(rng, k=3)
    terms = RobustRelu.at(net, X, y, 0.01, 0.1).terms
    slopes = balanced_slopes(terms, rng.random(terms.n_margins))
    a = terms.weight * slopes
    out = np.bincount(terms.plus, a, minlength=3) - np.bincount(terms.minus, a, minlength=3)
    assert np.abs(out).max() <= 1e-15
    assert slopes.any()


@each_norm
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_scaling_inputs_and_radius_scales_units(rng, norm, scale):
    X, y, net = data(rng)
    program = RobustRelu.at(net, X, y, 0.01, 0.1, norm=norm)
    other = Network.shallow(net.W / scale, net.b, net.v, net.c)
    scaled = RobustRelu.at(other, scale * X, y, 0.01, 0.1 * scale, norm=norm)
    assert scaled.margins(scaled.start) == pytest.approx(program.margins(program.start), abs=1e-9)


def test_order_and_repetition_of_rows_do_not_matter(rng):
    X, y, net = data(rng)
    program = RobustRelu.at(net, X, y, 0.01, 0.1)
    order = rng.permutation(len(X))
    again = np.r_[order, order[:5]]
    weights = np.r_[np.ones(len(X)), np.zeros(5)]
    weights[:5] = 0.5
    weights[-5:] = 0.5
    other = RobustRelu.at(net, X[again], y[again], 0.01, 0.1, sample_weight=weights)
    assert other.objective(other.start) == pytest.approx(program.objective(program.start), rel=1e-13)
    assert other.to_rows(np.arange(len(X)))[: len(X)] == pytest.approx(program.to_rows(np.arange(len(X)))[order])


def test_margins_of_one_unit_by_hand():
    # one unit relu(x) at x = 1, r = 0.5: worst y f is 0.5 for y = 1 and -1.5 for y = -1, slope 1 is exact for both
    X, D = np.array([[1.0], [-1.0]]), np.array([[True], [True]])
    for y, expected in ((1.0, 0.5), (-1.0, -1.5)):
        program = RobustRelu(X, [y, -y], ActivationPatterns(D), 0.01, 0.5)
        z = program.pack(np.array([[1.0, 0.0]]), np.zeros(1))
        row = int(np.flatnonzero(program.rows.X[:, 0] > 0)[0])
        assert program.margins(z)[row] == pytest.approx(expected, abs=1e-12)
    # and at x = 0.25 the chord slope (z + r) / (2 r) = 3/4 bounds relu on [-0.25, 0.75] by 0.75 exactly
    program = RobustRelu([[0.25]], [-1.0], ActivationPatterns([[True]]), 0.01, 0.5, slopes=[[0.75]])
    assert program.margins(program.pack(np.array([[1.0, 0.0]]), np.zeros(1)))[0] == pytest.approx(-0.75, abs=1e-12)


def test_the_bias_is_never_attacked():
    # a unit that is constant 2: no radius changes it
    program = RobustRelu([[0.0], [1.0]], [1.0, 1.0], ActivationPatterns([[True], [True]]), 0.01, 1e6)
    z = program.pack(np.array([[0.0, 2.0]]), np.array([-0.5]))
    assert program.margins(z) == pytest.approx([1.5, 1.5], abs=1e-12)


def test_one_sample_and_a_huge_weight_leave_the_constant_network():
    program = RobustRelu([[1.0, 2.0]], [1.0], ActivationPatterns([[True]]), 100.0, 0.1)
    solution = solve(program, solver="clarabel", tol=1e-4)
    # the free output bias alone gives margin 1: no loss, no weights
    assert solution.objective == pytest.approx(0.0, abs=1e-6)


def test_what_cannot_be_used_is_refused(rng):
    X, y, net = data(rng)
    patterns = extract(net, X)
    wrong = [
        ((X, y, patterns, 0.01, -0.1), {}),
        ((X, y, patterns, 0.01, math.nan), {}),
        ((X, y, patterns, 0.0, 0.1), {}),
        ((X, y, patterns, 0.01, 0.1), {"norm": 1}),
        ((X, y, patterns, 0.01, 0.1), {"norm": "l1"}),
        ((X, y, patterns, 0.01, 0.1), {"loss": "squared"}),
        ((X, y + 0.5, patterns, 0.01, 0.1), {}),
        ((X, y, patterns, 0.01, 0.1), {"directions": np.ones((3, 2))}),
        ((X, y, patterns, 0.01, 0.1), {"directions": np.ones((8, 2))}),
        ((X, y, patterns, 0.01, 0.1), {"slopes": 2 * np.ones((24, 8))}),
        ((X, y, patterns, 0.01, 0.1), {"slopes": np.ones((24, 8)), "stable": True}),
        ((np.where(X > 1, np.nan, X), y, patterns, 0.01, 0.1), {}),
        ((X, y, "patterns", 0.01, 0.1), {}),
    ]
    for arguments, options in wrong:
        with pytest.raises(InvalidInputError):
            RobustRelu(*arguments, **options)
    program = RobustRelu.at(net, X, y, 0.01, 0.1)
    with pytest.raises(InvalidInputError, match="point of this program"):
        program.objective(np.zeros(3))
    with pytest.raises(InvalidInputError, match="output direction"):
        program.lift(Network.shallow(np.ones((9, 3)), np.ones(9), np.ones(9)))
    with pytest.raises(InvalidInputError, match=r"program\s+\(15\) does not contain it"):
        RobustRelu.at(net, X, y, 0.01, 5.0, stable=True).lift(net)


def test_points_that_are_no_numbers_are_infinitely_bad(rng):
    X, y, net = data(rng)
    program = RobustRelu.at(net, X, y, 0.01, 0.1)
    for value in (math.nan, math.inf, 1e200):
        z = program.start.copy()
        z[0] = value
        assert program.objective(z) in (math.inf, pytest.approx(program.objective(z)))
        if not math.isfinite(value):
            assert program.objective(z) == program.violation(z) == math.inf
    U, c = program.unpack(np.full_like(program.start, 1e-310))
    assert np.isfinite(certified_margins(program.terms, U, c)).all()
    assert evaluate(program, _proposal(program), seconds=0.0).lower_bound <= program.objective(program.start)


def _proposal(program):
    from convexnn.program import Proposal

    return Proposal(program.start, program.natural_dual(program.start), "solved", 0, "nothing")

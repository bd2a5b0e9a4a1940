"""Program M: its objective bounds every attack, the program meets its evaluation, any multiplier gives a bound."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from convexnn import L2Ball, LInfBall, Network, attack, solve
from convexnn.certificates.lipschitz import lipschitz, lipschitz_pairs
from convexnn.certificates.lipschitz_lower import lipschitz_lower_bound
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.lipsdp.pairs import certified_pairs, follow, pair_gradients, pair_values, random_factors
from convexnn.patterns import ActivationPatterns, enumerate_patterns
from convexnn.program import Dual
from convexnn.restrictions.certified_margin import CertifiedMargin
from convexnn.restrictions.certified_margin_terms import MarginTerms
from convexnn.training.certified_margin import MarginOptions, train_certified_margin

NORMS = [2, np.inf]
LOSSES = ["hinge", "squared_hinge", "logistic"]
BALLS = {2: L2Ball, np.inf: LInfBall}


def random_network(rng, d=3, m=6, k=3):
    return Network.shallow(
        rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal((k, m)), rng.standard_normal(k)
    )


def data(rng, n=25, d=3, k=3):
    X = rng.standard_normal((n, d))
    y = (X @ rng.standard_normal((d, max(k, 2)))).argmax(axis=1)
    y[: max(k, 2)] = np.arange(max(k, 2))
    return X, y


def plain_loss(terms, network, X):
    """Loss of the margins at other inputs, without any certificate."""
    gaps = terms.gaps(network(X))
    return terms.data_value(network(X), np.zeros(len(terms.members))) if gaps.size else 0.0


# -- the objective ----------------------------------------------------------------------------------
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_objective_is_at_least_the_attacked_loss(rng, norm, loss):
    tightest = 0.0
    for k in (1, 2, 4):
        X, y = data(rng, k=k)
        network = random_network(rng, k=k)
        terms = MarginTerms.of(X, y, k, radius=0.3, norm=norm, loss=loss)
        rows, labels = terms.rows.X, terms.labels
        found = attack(network, rows, labels, BALLS[norm](0.3), steps=20, restarts=2, random_state=0).X_adv
        value, attacked = terms.objective(network), plain_loss(terms, network, found)
        assert attacked <= value * (1 + 1e-12)
        tightest = max(tightest, attacked / value)
    assert tightest > 0.3  # the bound is no joke either


@pytest.mark.parametrize("norm", NORMS)
def test_bounds_of_pairs_are_those_of_the_certificates(rng, norm):
    network = random_network(rng, d=4, m=9, k=4)
    X, y = data(rng, d=4, k=4)
    terms = MarginTerms.of(X, y, 4, radius=0.1, norm=norm)
    found = terms.bounds(network.W, network.v)
    L = lipschitz_pairs(network, norm=norm)
    expected = L[terms.members[:, 0], terms.members[:, 1]]
    np.testing.assert_allclose(found.upper, expected, rtol=1e-6 if norm == 2 else 2e-3)
    assert (found.lower <= found.upper).all()
    assert (found.lower <= expected).all()


@pytest.mark.parametrize("scale", [1.0, 1e-120, 1e120])
def test_linf_pairs_at_once_are_those_one_by_one(rng, scale):
    W, V = scale * rng.standard_normal((9, 4)), rng.standard_normal((4, 9))
    V[1] = V[0]  # equal outputs
    W[3], W[4], W[:, 2] = 0.0, 1e-9 * W[4], 0.0
    network = Network.shallow(W, rng.standard_normal(9), V)
    L = lipschitz_pairs(network, norm=np.inf)
    for a, b in itertools.combinations(range(4), 2):
        slow = lipschitz(network.margin(a, b), norm=np.inf)
        assert slow.lower <= L[a, b] <= slow.bound * (1 + 1.1e-4) + 1e-12 * scale
        assert L[a, b] >= lipschitz_lower_bound(network.margin(a, b), norm=np.inf)
    assert L[1, 0] == pytest.approx(0.0, abs=1e-12 * scale)
    tight = lipschitz_pairs(network, norm=np.inf, tol=1e-7)
    assert (tight <= L * (1 + 1e-7)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_corrupted_factors_only_loosen_the_bounds(rng, norm):
    W, A = rng.standard_normal((7, 3)), rng.standard_normal((2, 7))
    good = certified_pairs(W, A, norm)
    for spoil in (np.zeros_like(good.factors), 1e200 * good.factors, rng.standard_normal(good.factors.shape)):
        bad = certified_pairs(W, A, norm, spoil)
        assert (bad.upper >= good.lower * (1 - 1e-9)).all()
    for spoil in (np.nan, np.inf):
        bad = certified_pairs(W, A, norm, np.full_like(good.factors, spoil))
        assert (bad.upper >= good.lower * (1 - 1e-9)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_of_pairs_are_those_of_finite_differences(rng, norm):
    W, A, rates = rng.standard_normal((6, 4)), rng.standard_normal((3, 6)), rng.random(3)
    S = follow(W, A, random_factors(3, 4, norm), norm, 3000)
    dW, dA = pair_gradients(W, A, S, rates)
    tW, tA, h = rng.standard_normal(W.shape), rng.standard_normal(A.shape), 1e-5

    def value(step):
        moved = follow(W + step * tW, A + step * tA, S, norm, 500)
        return rates @ pair_values(W + step * tW, A + step * tA, moved)

    slope = (value(h) - value(-h)) / (2 * h)
    assert slope == pytest.approx(np.vdot(dW, tW) + np.vdot(dA, tA), rel=1e-4)


def test_power_steps_never_lower_a_value(rng):
    W, A = rng.standard_normal((6, 5)), rng.standard_normal((4, 6))
    for norm in NORMS:
        S = random_factors(4, 5, norm)
        for _ in range(30):
            moved = follow(W, A, S, norm)
            assert (pair_values(W, A, moved) >= pair_values(W, A, S) * (1 - 1e-12)).all()
            S = moved


def test_radius_zero_is_plain_margin_training(rng):
    X, y = data(rng)
    network = random_network(rng)
    terms = MarginTerms.of(X, y, 3, radius=0, loss="hinge", lam=0.01)
    f = network(X)
    gaps = f[np.arange(len(y)), y][:, None] - f
    losses = np.maximum(0, 1 - gaps).sum(axis=1) - 1  # the class itself has gap 0 and loss 1
    decay = 2 * np.linalg.norm(network.v, axis=0) @ np.linalg.norm(np.c_[network.W, network.b], axis=1)
    assert terms.objective(network) == pytest.approx(losses.mean() / 2 + 0.01 * decay, rel=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_two_outputs_agree_with_one(rng, norm):
    X, y = data(rng, k=1)
    one = random_network(rng, k=1)
    two = Network.shallow(one.W, one.b, np.stack([-0.25 * one.v, 0.75 * one.v]), [1.0, 1.0 + one.c])
    values = [
        MarginTerms.of(X, y, net.n_outputs, radius=0.2, norm=norm, loss="logistic").objective(net) for net in (one, two)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6 if norm == 2 else 2e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_classes_units_and_rows_may_be_permuted(rng, norm):
    X, y = data(rng, k=4)
    net = random_network(rng, k=4)
    new, units, rows = rng.permutation(4), rng.permutation(6), rng.permutation(len(X))
    other = Network.shallow(net.W[units], net.b[units], net.v[np.argsort(new)][:, units], net.c[np.argsort(new)])
    first = MarginTerms.of(X, y, 4, radius=0.2, norm=norm).objective(net)
    second = MarginTerms.of(X[rows], new[y][rows], 4, radius=0.2, norm=norm).objective(other)
    assert first == pytest.approx(second, rel=1e-6 if norm == 2 else 2e-3)


@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e100])
def test_units_of_the_inputs_do_not_matter(rng, scale):
    X, y = data(rng)
    net = random_network(rng)
    other = Network.shallow(net.W / scale, net.b, net.v, net.c)
    for norm in NORMS:
        values = [
            MarginTerms.of(s * X, y, 3, radius=0.2 * s, norm=norm).objective(n) for s, n in ((1, net), (scale, other))
        ]
        assert values[0] == pytest.approx(values[1], rel=1e-6 if norm == 2 else 2e-3)


def test_repeated_rows_are_weights_and_may_contradict(rng):
    X, y = data(rng, n=8)
    net = random_network(rng)
    repeated = MarginTerms.of(np.r_[X, X[:3]], np.r_[y, y[:3]], 3, radius=0.1)
    weighted = MarginTerms.of(X, y, 3, radius=0.1, sample_weight=np.r_[[2] * 3, [1] * 5])
    assert len(repeated.labels) == 8
    assert repeated.objective(net) == pytest.approx(weighted.objective(net), rel=1e-12)
    conflict = MarginTerms.of(np.zeros((2, 3)), [0, 1], 1, radius=0.1)
    assert conflict.objective(random_network(rng, k=1)) >= 1.0  # (l(m) + l(-m)) / 2 >= l(0) = 1, hinge


def test_weights_whose_squares_overflow_give_infinity_not_nan(rng):
    X, y = data(rng)
    net = random_network(rng)
    huge = Network.shallow(1e200 * net.W, net.b, 1e200 * net.v, net.c)
    assert MarginTerms.of(X, y, 3, radius=0.1).objective(huge) == np.inf


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"radius": -0.1}, "radius"),
        ({"radius": np.nan}, "radius"),
        ({"norm": 1}, "norm"),
        ({"lam": -1.0}, "lam"),
        ({"loss": "squared"}, "margin"),
        ({"y": np.array([0, 1, 3])}, "class index"),
        ({"y": np.array([0.5, 1, 0])}, "class index"),
        ({"X": np.full((3, 2), np.nan)}, "NaN"),
    ],
)
def test_bad_input_is_refused_by_a_sentence(change, words):
    settings = {"X": np.eye(3, 2), "y": np.array([0, 1, 2]), "radius": 0.1} | change
    X, y = settings.pop("X"), settings.pop("y")
    with pytest.raises(InvalidInputError, match=words):
        MarginTerms.of(X, y, 3, **settings)


def test_other_networks_are_refused(rng):
    X, y = data(rng)
    terms = MarginTerms.of(X, y, 3, radius=0.1)
    with pytest.raises(UnsupportedModelError):
        terms.objective(random_network(rng, k=2))
    with pytest.raises(UnsupportedModelError):
        terms.objective(Network(((np.eye(3), np.zeros(3)), (np.eye(3), np.zeros(3))), "tanh"))


# -- the convex program -----------------------------------------------------------------------------
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("k", "loss"), [(1, "logistic"), (3, "hinge"), (3, "squared_hinge")])
def test_program_value_is_the_objective_of_its_network(rng, norm, k, loss):
    X, y = data(rng, n=20, k=k)
    net = random_network(rng, m=5, k=k)
    program = CertifiedMargin.at(net, X, y, radius=0.15, norm=norm, lam=0.01, loss=loss)
    assert program.violation(program.start) < 1e-9
    assert program.objective(program.start) == pytest.approx(program.network_objective(net), rel=2e-3)
    problem = program.cvxpy_problem()
    solution = solve(program, solver="clarabel", tol=1e-5)
    problem.solve(solver="CLARABEL")
    assert solution.violation < 1e-9
    assert solution.objective == pytest.approx(problem.value, rel=1e-4)  # two roads
    assert -1e-9 <= solution.gap < (1e-4 if norm == 2 else 2e-3)
    assert solution.objective <= program.objective(program.start)
    decoded = program.decode(solution.z)
    assert program.network_objective(decoded) == pytest.approx(solution.objective, rel=2e-3)
    np.testing.assert_allclose(program.lift(decoded), solution.z, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_any_multiplier_gives_a_lower_bound(rng, norm):
    X, y = data(rng, n=15)
    program = CertifiedMargin.at(random_network(rng, m=4), X, y, radius=0.2, norm=norm, lam=0.02, loss="hinge")
    solution = solve(program, solver="clarabel", tol=1e-5)
    top, dual = solution.objective, solution.dual
    assert solution.lower_bound > 0.9 * top
    for _ in range(20):
        spoiled = [replace(dual, residual=dual.residual * rng.lognormal(0, 1, dual.residual.shape))]
        spoiled += [replace(dual, rows=dual.rows + rng.standard_normal(dual.rows.shape))]
        spoiled += [replace(dual, matrix=dual.matrix * rng.lognormal(0, 1, dual.matrix.shape))]
        spoiled += [Dual(*(rng.standard_normal(part.shape) for part in (dual.residual, dual.rows, dual.matrix)))]
        spoiled += [replace(dual, residual=1e9 * dual.residual), replace(dual, matrix=1e9 * dual.matrix)]
        spoiled += [replace(dual, matrix=None), replace(dual, matrix=-dual.matrix)]
        assert all(0.0 <= program.lower_bound(one) <= top * (1 + 1e-9) for one in spoiled)
    assert program.lower_bound(replace(dual, rows=np.full_like(dual.rows, np.nan))) == -np.inf
    assert program.lower_bound(replace(dual, residual=dual.residual[:-1])) == -np.inf


def test_multipliers_beyond_float64_prove_nothing():
    dead = Network.shallow([[0.0, 0.0]], [-1.0], [1.0], 0.0)  # never active: no multiplier meets a residual
    program = CertifiedMargin.at(dead, np.eye(2), [0, 1], radius=0.1, lam=0.1, loss="squared_hinge")
    for size in (1e160, 1e300):
        bound = program.lower_bound(Dual(np.full((2, 1), size), np.zeros((2, 1)), None))
        assert 0.0 <= bound <= 1.0  # the value at zero


def test_more_directions_never_hurt_and_two_outputs_agree_with_one(rng):
    X, y = data(rng, n=15, k=1)
    one = random_network(rng, m=4, k=1)
    two = Network.shallow(one.W, one.b, np.stack([-0.5 * one.v, 0.5 * one.v]), [0.0, one.c])
    settings = {"radius": 0.1, "loss": "logistic"}
    # a unit of length l in the direction (-1, 1) / sqrt 2 has the margin of one of length sqrt(2) l
    lams = (0.01, 0.01 * np.sqrt(2))
    programs = [CertifiedMargin.at(net, X, y, lam=lam, **settings) for net, lam in zip((one, two), lams, strict=True)]
    values = [solve(program, solver="clarabel", tol=1e-6).objective for program in programs]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    more = CertifiedMargin.at(one, X, y, classwise=True, lam=0.01, **settings)
    assert solve(more, solver="clarabel", tol=1e-6).objective <= values[0] * (1 + 1e-6)


def test_one_unit_one_sample():
    # f = t relu(x) + c at x = 2, class 1: the bias alone gives margin 1, so the optimum is 0 with L = 0
    net = Network.shallow([[1.0]], [0.0], [1.0], 0.0)
    program = CertifiedMargin.at(net, [[2.0]], [1], radius=0.5, lam=0.1)
    solution = solve(program, solver="clarabel", tol=1e-6)
    assert solution.objective == pytest.approx(0.0, abs=1e-6)
    assert program.objective(program.start) == pytest.approx(0.2, abs=1e-9)  # margin 2 - 0.5 > 1, decay 0.1 * 2


def test_two_samples_on_a_line():
    # x = -1, 1 with classes 0, 1 and units s relu(+-x): f = t x is t (relu(x) - relu(-x)), L = t exactly, margin
    # t (1 - radius), no lam: J = 0 at t = 1 / (1 - radius); with radius 1.5 nothing beats the constant, J = 1
    net = Network.shallow([[1.0], [-1.0]], [0.0, 0.0], [1.0, -1.0], 0.0)
    for radius, expected in ((0.5, 0.0), (1.5, 1.0)):
        for norm in NORMS:
            program = CertifiedMargin.at(net, [[-1.0], [1.0]], [0, 1], radius=radius, norm=norm)
            found = solve(program, solver="clarabel", tol=1e-6)
            assert found.objective == pytest.approx(expected, abs=1e-5)


def test_one_output_with_all_patterns_is_a_global_optimum(rng):
    X, y = np.linspace(-1, 1, 7)[:, None], np.array([0, 1, 1, 0, 0, 1, 0])
    every = enumerate_patterns(X)
    patterns = ActivationPatterns(np.hstack([every.D, every.D]))
    directions = np.repeat([[1.0], [-1.0]], every.n_patterns, axis=0)
    settings = {"radius": 0.05, "lam": 1e-3, "loss": "squared_hinge"}
    best = solve(CertifiedMargin(X, y, patterns, directions, **settings), solver="clarabel", tol=1e-6)
    assert best.gap < 1e-5
    options = MarginOptions(**settings, max_iter=100, random_state=0, extra_patterns=40)
    found = train_certified_margin(random_network(rng, d=1, m=3, k=1), X, y, options)
    assert best.lower_bound <= found.after <= best.objective * (1 + 1e-4)  # descent alone stays far above, near 0.9
    assert found.solution.gap < 1e-4
    for _ in range(20):
        assert MarginTerms.of(X, y, 1, **settings).objective(random_network(rng, d=1, k=1)) >= best.lower_bound

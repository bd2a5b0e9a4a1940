"""Pattern search: never worse at any step, flips and prices mean what they say, known global optima are reached."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace

import joblib
import numpy as np
import pytest

from convexnn import Network, SafeSNNRegressor, extract, pattern_search, refine, solve
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.patterns import enumerate_patterns
from convexnn.restrictions import GatedGroupLasso, LipschitzProgram, ReluGroupLasso
from convexnn.search import MOVES, SearchOptions, TrainingObjective, continued, search_from
from convexnn.search.flips import flip_gains, flipped
from convexnn.search.pricing import FLOOR, ascend_sphere, price
from convexnn.search.task import SearchPoint, tidy
from tests._families import few

REGULARIZERS = ["lipschitz", "l2"]
PROGRAMS = {"lipschitz": LipschitzProgram, "l2": ReluGroupLasso}


def problem(seed: int, n: int = 25, d: int = 2, m: int = 5) -> tuple[np.ndarray, np.ndarray, Network]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = np.sin(2 * X[:, 0]) + X[:, -1] ** 2 + 0.1 * rng.standard_normal(n)
    network = Network.shallow(rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal(m) / m, 0.5)
    return X, y, network


def assert_honest(result, start, X, y, regularizer, lam, weight=None) -> None:
    """Monotone within every search, never worse than the start, all numbers recomputed."""
    objective = TrainingObjective(X, y, weight, regularizer, lam)
    assert result.start_objective == objective(start)
    assert result.objective == objective(result.network) <= result.start_objective
    for _, steps in itertools.groupby(result.history, key=lambda step: step.start):
        values = [step.objective for step in steps]
        assert values == sorted(values, reverse=True)
    for step in result.history:
        assert not step.accepted or step.tried == step.objective


def solved_point(X, y, network, regularizer, lam, tol=1e-9) -> SearchPoint:
    """The start's own program, solved sharply."""
    objective = TrainingObjective(X, y, None, regularizer, lam)
    task, _ = continued(network, objective, SearchOptions(tol=tol), extract(network, X), None)
    point = task.solve_patterns(network)
    assert point is not None
    return point


@pytest.mark.parametrize("regularizer", few(REGULARIZERS))
@pytest.mark.parametrize("moves", [(move,) for move in MOVES] + [MOVES], ids="+".join)
def test_each_move_alone_and_all_together_never_rise(regularizer, moves):
    X, y, network = problem(3)
    result = pattern_search(network, X, y, regularizer=regularizer, lam=1e-2, moves=moves, rounds=2)
    assert_honest(result, network, X, y, regularizer, 1e-2)
    assert {step.move for step in result.history if step.round} <= set(moves)
    assert len(result.network.v) == len(network.v)
    assert 0 <= result.accepted <= 1
    assert result.reduction > 0.1


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_the_solution_is_that_of_the_returned_patterns(regularizer):
    X, y, network = problem(4)
    result = pattern_search(network, X, y, regularizer=regularizer, lam=1e-2, rounds=3)
    program = PROGRAMS[regularizer](X, y, result.patterns, 1e-2)
    assert program.violation(result.solution.z) <= 1e-9
    assert program.lower_bound(result.solution.dual) == pytest.approx(result.solution.lower_bound, rel=1e-12)
    assert result.solution.gap <= 1e-6
    assert result.objective == pytest.approx(result.solution.objective, rel=1e-6)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("seed", few(range(4)))
def test_a_bad_start_reaches_the_optimum_over_all_patterns(regularizer, seed):
    """All patterns of nine points are enumerated: their program is the global optimum of training."""
    X, y, _ = problem(seed, n=9)
    lam = {"l2": 1e-2, "lipschitz": 3e-3}[regularizer]
    best = solve(PROGRAMS[regularizer](X, y, enumerate_patterns(X).with_both_signs(), lam))
    rng = np.random.default_rng(seed)
    active = Network.shallow(1e-2 * rng.standard_normal((14, 2)), 10 + rng.random(14), rng.standard_normal(14) / 99, 0)
    result = pattern_search(active, X, y, regularizer=regularizer, lam=lam, moves=("price", "flip"), rounds=8)
    assert_honest(result, active, X, y, regularizer, lam)
    assert best.lower_bound * (1 - 1e-9) <= result.objective <= best.objective * (1 + 1e-4)
    flips = pattern_search(active, X, y, regularizer=regularizer, lam=lam, moves=("flip",), rounds=8)
    assert flips.objective > 1.02 * result.objective, "flips alone are stuck here"


@pytest.mark.parametrize("move", ["price", "replace"])
def test_a_planted_kink_that_flips_cannot_reach(move):
    # always-active units make a line: no row is touched, no flip exists; |x| needs a kink at zero
    X = np.linspace(-1, 1, 11)[:, None]
    line = Network.shallow([[1.0], [-1.0], [1.0], [-1.0]], [3.0] * 4, [0.1, -0.1, 0.1, 0.1], 0.0)
    y = np.abs(X[:, 0])
    flips = pattern_search(line, X, y, lam=1e-4, moves=("flip",), rounds=3)
    found = pattern_search(line, X, y, lam=1e-4, moves=(move,), rounds=8)
    # the constant is the best line: the variance of y; f = |x| has L = 1 and leaves lam, kinks beside 0 a little more
    assert flips.objective == pytest.approx(y.var(), rel=1e-5)
    assert found.objective <= 5e-4


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_no_flip_gain_means_a_local_minimum(regularizer):
    """Proposition 1 both ways: without gains no nearby merged units are better, with a gain the flip is."""
    X, y, network = problem(5, n=20)
    objective = TrainingObjective(X, y, None, regularizer, 1e-2)
    result = pattern_search(network, X, y, regularizer=regularizer, lam=1e-2, moves=("flip",), rounds=20, tol=1e-9)
    task, point = continued(
        result.network, objective, SearchOptions(tol=1e-9), extract(result.network, X), result.solution
    )
    point = point or task.solve_patterns(result.network)
    assert flip_gains(point).max() <= 1e-6 * np.abs(point.slopes).max()
    rng = np.random.default_rng(0)
    size = np.linalg.norm(point.solution.z, axis=1, keepdims=True)
    for scale in (1e-2, 1e-3, 1e-4):
        for _ in range(20):
            U = point.solution.z + scale * size * rng.standard_normal(point.solution.z.shape)
            near = point.program.decode(U)  # signs kept, patterns free
            near = Network.shallow(near.W, near.b, near.v, near.c + np.mean(y - near(X)))
            assert objective(near) >= point.value * (1 - 1e-6)
    first = solved_point(X, y, network, regularizer, 1e-2)
    cells, _ = flipped(first)
    assert task.solve(cells.merged()).value < first.value


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_a_price_is_the_slope_of_the_objective(regularizer):
    """Proposition 2: with merged size alpha the objective falls at the rate price times floored cost minus cost."""
    X, y, network = problem(6)
    lam = 1e-2
    point = solved_point(X, y, network, regularizer, lam, tol=1e-10)
    objective = TrainingObjective(X, y, None, regularizer, lam)
    priced = price(point, np.random.default_rng(0))
    assert priced.prices[0] > 1
    assert (np.diff(priced.prices) <= 0).all()
    w, s = priced.directions[0], priced.signs[0]
    k = point.structure.n_weights
    M = point.solution.dual.matrix
    cost, floored = 2 * lam, 2 * lam
    if M is not None:
        values, vectors = np.linalg.eigh(M[:k, :k])
        along = (w[:k] @ vectors) ** 2
        cost, floored = (np.sqrt(lam * along @ np.maximum(values, v)) for v in (0.0, FLOOR * values[-1]))
    alpha = 1e-6 * np.linalg.norm(point.solution.z, axis=1).max()
    base = tidy(point.network, 0)
    shift = w[-1] - w[:-1] @ (X.mean(axis=0) if regularizer == "lipschitz" else np.zeros(2))
    root = np.sqrt(alpha)
    wider = Network.shallow(
        np.vstack([base.W, root * w[:-1]]), np.r_[base.b, root * shift], np.r_[base.v, s * root], base.c
    )
    drop = (objective(base) - objective(wider)) / alpha
    assert drop == pytest.approx(priced.prices[0] * floored - cost, rel=1e-2)


def test_climbing_on_the_sphere_finds_the_best_direction_of_a_small_problem(rng):
    X = np.column_stack([rng.standard_normal(12), np.ones(12)])
    p = rng.standard_normal(12)
    angles = np.linspace(0, 2 * np.pi, 20001)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    for tau in (1.0, -1.0):
        exact = (tau * np.maximum(circle @ X.T, 0) @ p).max()
        values, E = ascend_sphere(X, p, np.full(40, tau), rng.standard_normal((40, 2)))
        np.testing.assert_allclose(tau * np.maximum(E @ X.T, 0) @ p, values, atol=1e-12)
        assert values.max() == pytest.approx(exact, rel=1e-3)  # the grid misses the kink at the top


@pytest.mark.parametrize("regularizer", few(REGULARIZERS))
@pytest.mark.slow
def test_the_number_of_units_is_kept_or_as_allowed(regularizer):
    X, y, network = problem(7, m=2)
    kept = pattern_search(network, X, y, regularizer=regularizer, rounds=3)
    more = pattern_search(network, X, y, regularizer=regularizer, rounds=3, max_units=8)
    fewer = pattern_search(network, X, y, regularizer=regularizer, rounds=3, max_units=1)
    assert len(kept.network.v) == 2
    assert 2 < (more.network.v != 0).sum() <= 8
    assert more.objective < kept.objective
    assert fewer.network == network or (fewer.network.v != 0).sum() == 1


CORNERS = {
    "one unit": lambda X, y, net: (X, y, Network.shallow(net.W[:1], net.b[:1], net.v[:1], 0.0)),
    "one sample": lambda X, y, net: (X[:1], y[:1], net),
    "constant targets": lambda X, y, net: (X, np.full_like(y, 3.0), net),
    "duplicates": lambda X, y, net: (np.repeat(X[:6], 4, axis=0), y[:24], net),
    "equal rows": lambda X, y, net: (np.ones_like(X), y, net),
    "constant column": lambda X, y, net: (X * [1.0, 0.0], y, net),
    "dead units": lambda X, y, net: (X, y, Network.shallow(net.W, net.b - 100, net.v, 0.0)),
    "zero network": lambda X, y, net: (X, y, Network.shallow(0 * net.W, 0 * net.b, 0 * net.v, 0.0)),
    "equal units": lambda X, y, net: (X, y, Network.shallow(net.W[[0] * 5], net.b[[0] * 5], net.v, 0.0)),
    "small inputs": lambda X, y, net: (1e-3 * X, y, net),
    "large numbers": lambda X, y, net: (1e3 * X, 1e3 * y, net),
    "one input": lambda X, y, net: (X[:, :1], y, Network.shallow(net.W[:, :1], net.b, net.v, 0.0)),
}


@pytest.mark.parametrize("regularizer", few(REGULARIZERS))
@pytest.mark.parametrize("corner", CORNERS.values(), ids=CORNERS)
def test_corners(regularizer, corner):
    X, y, network = corner(*problem(8))
    result = pattern_search(network, X, y, regularizer=regularizer, lam=1e-3, rounds=1)
    assert_honest(result, network, X, y, regularizer, 1e-3)
    again = pattern_search(network, X, y, regularizer=regularizer, lam=1e-3, rounds=1)
    assert again.objective == result.objective


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_weights_equal_repetitions(regularizer):
    X, y, network = problem(9)
    weight = np.random.default_rng(1).integers(0, 3, len(y)).astype(float)
    repeated = np.repeat(np.arange(len(y)), weight.astype(int))
    options = {"regularizer": regularizer, "moves": ("flip",), "rounds": 2}
    a = pattern_search(network, X, y, sample_weight=weight, **options)
    b = pattern_search(network, X[repeated], y[repeated], **options)
    assert_honest(a, network, X, y, regularizer, 1e-2, weight)
    assert a.objective == pytest.approx(b.objective, rel=1e-5)


def strip(result):
    return [replace(step, seconds=0.0) for step in result.history]


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_several_starts_do_not_depend_on_the_number_of_jobs(backend):
    X, y, network = problem(10)
    options = {"n_starts": 3, "rounds": 1, "random_state": 4, "moves": ("price", "flip")}
    alone = pattern_search(network, X, y, **options)
    with joblib.parallel_config(backend=backend):
        together = pattern_search(network, X, y, n_jobs=2, **options)
    assert strip(alone) == strip(together)
    assert alone.network == together.network
    assert {step.start for step in alone.history} == {0, 1, 2}
    assert alone.objective <= pattern_search(network, X, y, **options | {"n_starts": 1}).objective
    assert_honest(alone, network, X, y, "lipschitz", 1e-2)


def test_a_time_limit_keeps_the_best_network():
    X, y, network = problem(11, n=60, d=3, m=20)
    result = pattern_search(network, X, y, rounds=10_000, time_limit=0.3, patience=10_000)
    assert result.status == "time_limit"
    assert_honest(result, network, X, y, "lipschitz", 1e-2)
    tiny = pattern_search(network, X, y, rounds=3, time_limit=1e-6, n_starts=2)
    assert_honest(tiny, network, X, y, "lipschitz", 1e-2)


@pytest.mark.parametrize("when", [0, 1, 2, 4])
def test_an_interrupt_keeps_the_best_network(monkeypatch, when):
    from convexnn.search import task as module

    X, y, network = problem(12)
    calls = itertools.count()
    original = module.solve

    def interrupted(*args, **options):
        if next(calls) == when:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(module, "solve", interrupted)
    result = pattern_search(network, X, y, rounds=5, n_starts=2)
    assert result.status == "interrupted"
    assert next(calls) == when + 1, "nothing is solved after the interrupt"
    assert_honest(result, network, X, y, "lipschitz", 1e-2)
    assert (result.network == network) == (when == 0)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_a_program_is_a_start(regularizer):
    X, y, network = problem(13)
    program = PROGRAMS[regularizer](X, y, extract(network, X), 1e-2)
    plain = solve(program)
    result = pattern_search(program, X, y, rounds=2)
    assert result.objective < program.network_objective(program.decode(plain.z))
    with pytest.raises(InvalidInputError, match="not those of the program"):
        pattern_search(program, X, y + 1)
    with pytest.raises(InvalidInputError, match="gated"):
        pattern_search(GatedGroupLasso(X, y, extract(network, X), 1e-2), X, y)
    robust = type(program)(X, y, extract(network, X), 1e-2, loss="huber")
    found = pattern_search(robust, X, y, rounds=1)
    assert found.objective < robust.network_objective(robust.decode(solve(robust).z))


@pytest.mark.parametrize("loss", few(["squared_hinge", "logistic", "hinge"]))
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_margin_losses_are_searched_with_conflicting_labels(regularizer, loss):
    X, y, network = problem(13)
    X, y = np.vstack([X, X[:4]]), np.r_[np.where(y > np.median(y), 1.0, -1.0), np.ones(4)]  # some rows have both labels
    result = pattern_search(network, X, y, regularizer=regularizer, lam=1e-2, loss=loss, rounds=2, max_units=8)
    objective = TrainingObjective(X, y, None, regularizer, 1e-2, loss)
    assert result.objective == objective(result.network) < 0.9 * objective(network)
    solved = PROGRAMS[regularizer](X, y, extract(network, X), 1e-2, loss=loss)
    assert result.objective < solve(solved).objective
    with pytest.raises(InvalidInputError, match="targets -1"):
        pattern_search(network, X, y + 0.5, loss=loss)


def test_what_cannot_be_meant_is_refused():
    X, y, network = problem(14)
    wrong = [
        {"moves": ("jump",)},
        {"moves": "flip"},
        {"rounds": -1},
        {"rounds": 1.5},
        {"n_starts": 0},
        {"max_units": 0},
        {"time_limit": 0},
        {"tol": 0},
        {"lam": -1},
        {"regularizer": "gated"},
        {"solver": "cplex"},
    ]
    for options in wrong:
        with pytest.raises(InvalidInputError, match=next(iter(options)) + "|solver"):
            pattern_search(network, X, y, **options)
    for inputs, targets in ((np.where(X > 1, np.nan, X), y), (X, y[:-1])):
        with pytest.raises(InvalidInputError):
            pattern_search(network, inputs, targets)
    with pytest.raises(UnsupportedModelError):
        pattern_search(Network.shallow(network.W, network.b, network.v, 0.0, "tanh"), X, y)


@pytest.mark.parametrize("regularizer", few([*REGULARIZERS, "gated"]))
def test_the_estimator_searches_and_is_never_worse(regularizer):
    X, y, _ = problem(15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = SafeSNNRegressor(6, regularizer=regularizer, start="random", random_state=0).fit(X, y)
        found = SafeSNNRegressor(6, regularizer=regularizer, start="random", random_state=0, pattern_search=3).fit(X, y)
    assert found.objective_ < plain.objective_
    values = [row["objective"] for row in found.history_]
    assert values == sorted(values, reverse=True)
    assert [row["stage"] for row in found.history_].count("pattern_search") <= 3
    assert found.solution_.gap <= 1e-6


def test_refine_goes_on_from_the_solved_program(monkeypatch):
    from convexnn.refinement import stages

    X, y, network = problem(16)
    points = []
    original = stages.search_from
    monkeypatch.setattr(stages, "search_from", lambda *a: points.append(a[2]) or original(*a))
    searched = refine(network, X, y, pattern_search=2)
    plain = refine(network, X, y)
    assert points[0].value == plain.after, "the first program is not solved twice"
    assert searched.after < plain.after
    assert searched.network.n_hidden == network.n_hidden
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the last program may be cut short
        limited = refine(network, X, y, pattern_search=50, time_limit=0.5)
    assert limited.after <= limited.before


def test_a_search_without_rounds_is_the_convex_step():
    X, y, network = problem(17)
    result = pattern_search(network, X, y, rounds=0, moves=("price",))
    assert [step.move for step in result.history] == ["start", "solve"]
    assert result.objective == pytest.approx(refine(network, X, y).after, rel=1e-6)
    task, _ = continued(
        network, TrainingObjective(X, y, None, "l2", 1e-2), SearchOptions(rounds=0), result.patterns, None
    )
    assert search_from(task, network).objective <= task.objective(network)

"""Weight decay training to a certified global gap: bounds against local trainings and against all patterns."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from convexnn import InvalidInputError, Network, SafeSNNRegressor, global_lam_max, lam_max, optimality_gap, solve
from convexnn.global_gap import l2, l2_global_bound
from convexnn.global_gap.descent import descend
from convexnn.global_gap.l2_bound import DualBound
from convexnn.global_gap.pruning import merge_cells, prune
from convexnn.patterns import enumerate_patterns
from convexnn.program import evaluate, with_global_bound
from convexnn.restrictions import ReluGroupLasso
from convexnn.restrictions.rows import distinct_rows
from convexnn.restrictions.units import balanced
from tests._families import few

train_global = l2.train_global


def teacher(rng, n=40, d=2):
    """Targets of four random units with noise."""
    X = rng.normal(size=(n, d))
    y = np.maximum(np.c_[X, np.ones(n)] @ rng.normal(size=(d + 1, 4)), 0) @ rng.normal(size=4)
    return X, (y - y.mean()) / y.std() + 0.3 * rng.normal(size=n)


def objective(network, X, y, lam, weight=None):
    """The training objective, stated once more."""
    size = (network.W**2).sum() + (network.b**2).sum() + (network.v**2).sum()
    return float(np.average((network(X) - y) ** 2, weights=weight) + lam * size)


def all_patterns(X, y, lam, weight=None):
    """Optimum over every activation pattern: the global optimum."""
    program = ReluGroupLasso(X, y, enumerate_patterns(X).with_both_signs(), lam, sample_weight=weight)
    return solve(program, solver="interior_point", tol=1e-8)


@pytest.mark.parametrize(("n", "d", "lam"), [(1, 2, 0.1), (6, 1, 0.01), (12, 1, 0.1), (8, 2, 0.02), (10, 2, 0.001)])
def test_the_bound_is_the_optimum_over_all_patterns(rng, n, d, lam):
    X, y = teacher(rng, max(n, 2), d)
    X, y = X[:n], y[:n]
    exact = all_patterns(X, y, lam)
    found = train_global(X, y, lam, tol=1e-5, random_state=0)
    assert found.status == "global"
    assert found.lower_bound <= exact.objective * (1 + 1e-9)
    assert found.objective >= exact.lower_bound * (1 - 1e-9)
    assert found.objective - found.lower_bound <= 1.01e-5 * max(found.objective, 1e-6)
    assert objective(found.network, X, y, lam) == pytest.approx(found.objective, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d", "share"), [(60, 1, 0.05), (50, 2, 0.02), (40, 3, 0.05)])
def test_no_local_training_ends_below_the_bound(rng, n, d, share):
    X, y = teacher(rng, n, d)
    lam = share * global_lam_max(X, y, tol=1e-2)
    found = train_global(X, y, lam, tol=1e-3, random_state=0)
    data = ReluGroupLasso(X, y, enumerate_patterns(X[:1]).select([0]).on_rows(np.zeros(n, int)), lam).structure()
    ends = []
    for _ in range(34):  # over the three cases about a hundred
        W, v = descend(data, lam, rng.normal(size=(15, d + 1)), rng.normal(size=15) / 15, 400)
        raw = np.maximum(np.c_[X, np.ones(n)] @ W.T, 0) @ v
        ends.append(objective(Network.shallow(W[:, :-1], W[:, -1], v, float((y - raw).mean())), X, y, lam))
    assert found.status == "global"
    assert found.lower_bound <= min(ends)
    assert found.objective <= min(ends) * (1 + 1e-3)
    assert min(ends) <= found.lower_bound * 1.05  # local training is good here: the value is the certificate


@pytest.mark.parametrize(
    "kind", few(["random", "noise", "huge", "tiny", "zero", "nan", "shape"], ["noise", "huge", "nan", "shape"])
)
def test_no_multiplier_proves_more_than_the_optimum(rng, kind):
    X, y = teacher(rng, 15, 1)
    lam = 0.02
    exact = all_patterns(X, y, lam)
    good = 2 / 15 * (train_global(X, y, lam, random_state=0).network(X) - y)
    make = {
        "random": lambda: rng.normal(size=15),
        "noise": lambda: good * (1 + 0.1 * rng.normal(size=15)),
        "huge": lambda: 1e6 * good,
        "tiny": lambda: 1e-6 * good,
        "zero": lambda: np.zeros(15),
        "nan": lambda: np.where(np.arange(15) == 3, np.nan, good),
        "shape": lambda: good[:-1],
    }[kind]
    if kind == "shape":
        with pytest.raises(InvalidInputError, match="nu has shape"):
            l2_global_bound(X, y, lam, make())
        return
    for _ in range(5):
        bound = l2_global_bound(X, y, lam, make())
        assert 0 <= bound.lower <= exact.objective * (1 + 1e-9)
    if kind == "huge":  # the scaling is free: nothing is lost
        assert bound.lower == pytest.approx(l2_global_bound(X, y, lam, good).lower, rel=1e-4)


def test_the_best_scaling_and_the_wanted_kappa_are_inverse(rng):
    X, y = teacher(rng, 30, 2)
    rows = distinct_rows(X, y)
    nu = 2 * rows.weight * (rows.y.mean() - rows.y)
    dual = DualBound.of(rows, 0.05, nu)
    for kappa in (0.2, 0.5, 2.0):
        assert dual.kappa_for(dual.lower(kappa)) == pytest.approx(kappa, rel=1e-6)
    assert dual.lower(np.inf) == dual.constant
    assert dual.kappa_for(dual.constant - 1) == np.inf
    assert dual.kappa_for(1e9) == 0


@pytest.mark.slow
def test_objective_never_rises_and_bound_never_falls(rng):
    X, y = teacher(rng, 50, 2)
    start = Network.shallow(rng.normal(size=(5, 2)), rng.normal(size=5), rng.normal(size=5) / 5, 0.0)
    found = train_global(X, y, 0.003, start=start, tol=1e-4, random_state=1)
    values = [objective(start, X, y, 0.003)] + [step.objective for step in found.history]
    bounds = [step.lower_bound for step in found.history]
    assert found.status == "global"
    assert values == sorted(values, reverse=True)
    assert bounds == sorted(bounds)
    assert found.objective == values[-1]
    assert found.lower_bound == bounds[-1]
    again = l2_global_bound(X, y, 0.003, found.multipliers)
    assert again.lower == pytest.approx(found.lower_bound, rel=2e-4)
    assert len(found.network.v) <= 51


def test_multipliers_prove_the_bound_again_on_repeated_and_weightless_rows(rng):
    X, y = teacher(rng, 20, 2)
    X, y, weight = np.vstack([X, X[:7]]), np.r_[y, y[:7] + 0.1], np.r_[0.0, rng.uniform(0.5, 2, 26)]
    found = train_global(X, y, 0.01, random_state=0, sample_weight=weight)
    again = l2_global_bound(X, y, 0.01, found.multipliers, sample_weight=weight)
    assert found.lower_bound * (1 - 2e-4) <= again.lower <= found.objective


def test_the_variance_of_repeated_rows_is_rounded_down(rng):
    """Against exact rational arithmetic; with equal inputs the best constant, with its variance, is the optimum."""
    for shift, scale in ((0.0, 1.0), (1e6, 1.0), (0.0, 1e-155), (0.0, 1e-160)):  # squares of the last are subnormal
        for _ in range(20):
            y = shift + scale * rng.normal(size=5)
            exact = [Fraction(value) for value in y]
            mean = sum(exact) / 5
            truth = sum((value - mean) ** 2 for value in exact) / 5
            rows = distinct_rows(np.zeros((5, 1)), y)
            assert abs(Fraction(float(rows.y[0])) - mean) <= Fraction(float(rows.mean_error[0]))
            assert Fraction(l2_global_bound(np.zeros((5, 1)), y, 0.1, rng.normal(size=5)).lower) <= truth
            assert rows.proved_constant >= 0.999 * float(truth) - 1e-321


def test_nothing_is_left_over_when_no_row_is_repeated(rng):
    """Means of one target were rounded, and their 'variance' of 1e-32 was a bound above the optimum of tiny lam."""
    rows = distinct_rows(rng.normal(size=(50, 2)), 1e3 + rng.normal(size=50), rng.uniform(size=50))
    assert rows.constant == 0.0
    assert l2_global_bound([[0.0], [1.0]], [0.1, 0.7], 1e-40, [0.0, 0.0], sample_weight=[1.0, 3.0]).lower == 0.0


def test_units_that_are_silent_on_the_data_are_pruned():
    """Their column of the linear program is zero; scaled by its size the cost was infinite."""
    W, b = np.array([[1.0], [1.0], [1.0], [-1.0], [-1.0]]), np.array([0.0, -2.0, -9.0, 2.0, -9.0])
    network = Network.shallow(W, b, np.array([1.0, 1.0, 1.0, 1.0, -1.0]), 0.0)
    X = np.array([[1.0], [3.0]])
    pruned = prune(network, X)
    assert len(pruned.v) <= 3
    assert pruned(X) == pytest.approx(network(X), abs=1e-9)


def test_a_tenth_of_a_second_gives_a_network_and_a_valid_bound(rng):
    X, y = teacher(rng, 100, 5)
    start = Network.shallow(rng.normal(size=(4, 5)), rng.normal(size=4), np.zeros(4), 0.3)
    found = train_global(X, y, 0.001, start=start, tol=1e-6, time_limit=0.1)
    assert found.status == "time_limit"
    assert found.objective <= objective(start, X, y, 0.001)
    assert 0 <= found.lower_bound <= found.objective
    assert found.scope == "patterns"


def test_an_interrupt_keeps_the_network_and_the_bound(rng, monkeypatch):
    X, y = teacher(rng, 40, 2)
    start = Network.shallow(rng.normal(size=(4, 2)), rng.normal(size=4), np.zeros(4), 0.3)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(l2, "kappa_upper", interrupt)
    found = train_global(X, y, 0.01, start=start, random_state=0)
    assert found.status == "interrupted"
    assert found.objective < objective(start, X, y, 0.01)
    assert 0 <= found.lower_bound < 1e-20


@pytest.mark.slow
def test_repetitions_are_weights_and_order_does_not_matter(rng):
    X, y = teacher(rng, 25, 2)
    repeated = train_global(np.vstack([X, X[:6]]), np.r_[y, y[:6] + 0.5], 0.02, tol=1e-6, random_state=0)
    order = rng.permutation(31)
    shuffled = train_global(np.vstack([X, X[:6]])[order], np.r_[y, y[:6] + 0.5][order], 0.02, tol=1e-6, random_state=0)
    weight = np.r_[np.full(6, 2.0), np.ones(19), 0.0]
    weighted = train_global(np.vstack([X, X[:1]]), np.r_[y[:6], y[6:], 9.0], 0.02, sample_weight=weight, tol=1e-6)
    twice = train_global(np.vstack([X, X[:6]]), np.r_[y, y[:6]], 0.02, tol=1e-6)
    assert shuffled.objective == pytest.approx(repeated.objective, rel=2e-6)
    assert weighted.objective == pytest.approx(twice.objective, rel=2e-6)
    for found in (repeated, shuffled, weighted, twice):
        assert found.status == "global"


def test_constant_columns_constant_targets_and_large_lam(rng):
    X, y = teacher(rng, 20, 2)
    assert train_global(np.c_[X, np.full(20, 3.0)], y, 0.05, random_state=0).status == "global"
    flat = train_global(X, np.full(20, 2.5), 0.1)
    assert (flat.status, flat.objective, flat.lower_bound) == ("global", 0.0, 0.0)
    alone = train_global(X[:1], y[:1], 0.1)
    assert alone.objective == pytest.approx(0, abs=1e-30)
    top = global_lam_max(X, y)
    constant = train_global(X, y, 1.001 * top)
    assert constant.status == "global"
    assert constant.objective == pytest.approx(y.var(), rel=1e-9)


def test_global_lam_max_is_the_threshold_over_all_patterns(rng):
    X, y = teacher(rng, 12, 2)
    top = global_lam_max(X, y)
    assert top == pytest.approx(lam_max(X, y, enumerate_patterns(X).with_both_signs(), regularizer="l2"), rel=2e-4)
    below = train_global(X, y, 0.95 * top, tol=1e-6)
    assert below.objective < y.var() * (1 - 1e-6)
    assert global_lam_max(X, np.ones(12)) == 0
    assert global_lam_max(X, y, time_limit=1e-4) >= top * (1 - 1e-9)


@pytest.mark.slow
def test_scaled_targets_scale_the_result(rng):
    X, y = teacher(rng, 25, 2)
    plain = train_global(X, y, 0.02, tol=1e-6, random_state=0)
    for size in (1e-3, 1e3):  # f -> size f: loss size^2, merged units size
        scaled = train_global(X, size * y, 0.02 * size, tol=1e-6, random_state=0)
        assert scaled.status == "global"
        assert scaled.lower_bound <= size**2 * plain.objective * (1 + 1e-9)
        assert scaled.objective >= size**2 * plain.lower_bound * (1 - 1e-9)


def test_a_foreign_network_is_judged_by_its_own_objective(rng):
    X, y = teacher(rng, 30, 2)
    network = Network.shallow(3 * rng.normal(size=(6, 2)), rng.normal(size=6), rng.normal(size=6), 0.1)
    found = optimality_gap(network, X, y, 0.02, random_state=0)
    assert found.objective == pytest.approx(objective(network, X, y, 0.02), rel=1e-12)
    assert found.lower_bound <= found.best.objective < found.objective
    assert found.gap == pytest.approx(1 - found.lower_bound / found.objective)
    assert optimality_gap(found.best.network, X, y, 0.02, random_state=0).gap <= 2e-3


def test_solutions_carry_the_global_gap_and_a_contradiction_counts_as_none(rng):
    X, y = teacher(rng, 30, 2)
    found = train_global(X, y, 0.02, tol=1e-3, random_state=0)
    assert found.solution.scope == "global"
    assert found.solution.global_gap <= 1e-3
    program = ReluGroupLasso(X, y, enumerate_patterns(X[:, :1]), 0.02)
    plain = solve(program)
    assert (plain.scope, plain.global_gap) == ("patterns", np.inf)
    assert with_global_bound(plain, 2 * plain.objective, scale=program.scale, tol=0.1).global_gap == np.inf
    half = with_global_bound(plain, 0.5 * plain.objective, scale=program.scale, tol=0.1)
    assert (half.scope, half.global_gap) == ("patterns", pytest.approx(0.5))
    assert evaluate(program, plain, seconds=0.0).scope == "patterns"


def test_pruning_keeps_the_function_on_the_data(rng):
    X = rng.normal(size=(8, 2))
    network = Network.shallow(rng.normal(size=(40, 2)), rng.normal(size=40), rng.normal(size=40), 0.7)
    units, outer = balanced(network.v[:, None] * np.c_[network.W, network.b], np.sign(network.v))
    network = Network.shallow(units[:, :-1], units[:, -1], outer, 0.7)
    pruned = prune(network, X)
    assert len(pruned.v) <= 9
    doubled = Network.shallow(*(np.concatenate([part, part]) for part in (network.W, network.b, network.v / 2)), 0.7)
    assert len(merge_cells(doubled, X).v) <= 40
    assert merge_cells(doubled, X)(X) == pytest.approx(network(X), abs=1e-9)
    assert pruned(X) == pytest.approx(network(X), abs=1e-9)
    assert objective(pruned, X, network(X), 1.0) <= objective(network, X, network(X), 1.0)


def test_unusable_options_are_refused(rng):
    X, y = teacher(rng, 10, 1)
    for bad in ({"lam": 0.0}, {"lam": np.nan}, {"lam": 0.1, "tol": 0}, {"lam": 0.1, "time_limit": -1}):
        with pytest.raises(InvalidInputError):
            train_global(X, y, **bad)
    with pytest.raises(InvalidInputError, match="NaN"):
        train_global(X, np.where(np.arange(10) == 2, np.nan, y), 0.1)


@pytest.mark.parametrize("regularizer", ["l2", "gated", "lipschitz"])
def test_the_estimator_goes_global(rng, regularizer):
    X, y = teacher(rng, 25, 1)
    options = {"regularizer": regularizer, "lam": 0.02, "random_state": 0, "start": "random"}
    plain = SafeSNNRegressor(8, **options).fit(X, y)
    found = SafeSNNRegressor(8, scope="global", global_tol=2e-3, **options).fit(X, y)
    assert (plain.solution_.scope, plain.global_gap_, plain.global_bound_) == ("patterns", np.inf, -np.inf)
    assert (found.solution_.scope, found.history_[-1]["stage"]) == ("global", "global")
    assert found.global_gap_ <= 2e-3
    assert found.global_bound_ <= found.objective_ <= plain.objective_
    with pytest.raises(InvalidInputError, match="scope"):
        SafeSNNRegressor(scope="world").fit(X, y)
    with pytest.raises(InvalidInputError, match="global_tol"):
        SafeSNNRegressor(global_tol=0).fit(X, y)

"""Global training with the Lipschitz penalty: the bound is below everything, the network reaches it, corners work."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn import Network, SafeSNNRegressor, solve
from convexnn.exceptions import InvalidInputError
from convexnn.global_gap import lipschitz_global_bound, train_global_lipschitz
from convexnn.global_gap.lipschitz_bound import LipschitzMultipliers
from convexnn.global_gap.lipschitz_boxes import ramp_upper
from convexnn.global_gap.lipschitz_pricing import local_search, ramp_problem, sweep
from convexnn.patterns import enumerate_patterns, extract, sample
from convexnn.restrictions import LipschitzProgram


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = np.sin(2 * X[:, 0]) + (X[:, -1] ** 2 if d > 1 else 0) + 0.2 * rng.normal(size=n)
    return X, (y - y.mean()) / y.std()


def random_network(rng, X, m=6):
    d = X.shape[1]
    return Network.shallow(rng.normal(size=(m, d)), rng.normal(size=m), 0.3 * rng.normal(size=m), 0.0)


def network_objective(X, y, lam, network):
    return LipschitzProgram(X, y, extract(network, X), lam, ridge=1e-13).network_objective(network)


def recomputed(X, y, lam, result, **options):
    return lipschitz_global_bound(X, y, lam, result.multipliers, tol=1e-4, **options).lower


# -- the ramp problem ---------------------------------------------------------------------------------


def dense(problem, rng, count=3000):
    E = rng.normal(size=(count, problem.rank))
    return float(sweep(problem, E / np.linalg.norm(E, axis=1, keepdims=True)).values[0])


@pytest.mark.parametrize(("n", "d"), [(1, 1), (20, 1), (3, 5), (25, 2), (20, 3)])
def test_ramp_bracket_holds_sampling_and_is_tight(rng, n, d):
    problem = ramp_problem(rng.normal(size=(n, d)), rng.normal(size=n), 0.3 * rng.normal(size=d), np.zeros(n))
    local = local_search(problem, rng, np.zeros((0, problem.rank)))
    found = ramp_upper(problem, 0.0, tol=1e-3, seeds=local)
    floor = np.linalg.norm(problem.linear)
    assert max(dense(problem, rng), local.values[0]) <= found.upper
    assert found.upper <= max(1.0015 * found.lower, floor * (1 + 1e-9)) + 1e-12


def test_sweep_takes_the_best_bias_of_all(rng):
    problem = ramp_problem(rng.normal(size=(15, 2)), rng.normal(size=15), rng.normal(size=2), np.zeros(15))
    e = np.array([[0.6, 0.8]])
    swept = sweep(problem, e)
    b = np.linspace(-2 * problem.reach, 2 * problem.reach, 20_001)
    phi = problem.value(np.repeat(e, len(b), axis=0), b)
    assert swept.values[swept.signs > 0][0] >= phi.max() - 1e-12
    assert swept.values[swept.signs < 0][0] >= -phi.min() - 1e-12
    assert swept.signs * problem.value(swept.E, swept.b) == pytest.approx(swept.values)


# -- the bound ----------------------------------------------------------------------------------------


def test_any_multipliers_give_a_bound_below_trained_networks(rng):
    """Corrupted multipliers loosen the bound and never lie; the optimum is known to 1e-4 from training."""
    X, y = data(20, 2, 3)
    best = train_global_lipschitz(X, y, 0.05, tol=1e-3, random_state=0)
    good = best.multipliers
    assert recomputed(X, y, 0.05, best) == pytest.approx(best.lower_bound, rel=1e-3)
    for scale in (1e-3, 0.1, 1.0, 10.0):
        parts = (part + scale * np.abs(part).max() * rng.normal(size=part.shape) for part in vars(good).values())
        bad = LipschitzMultipliers(*parts)
        assert lipschitz_global_bound(X, y, 0.05, bad, tol=1e-2, time_limit=2.0).lower <= best.objective
    singular = LipschitzMultipliers(good.nu, good.linear, np.zeros((2, 2)))
    broken = LipschitzMultipliers(good.nu * np.nan, good.linear, good.root)
    for bad in (singular, broken):
        assert lipschitz_global_bound(X, y, 0.05, bad).lower == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(InvalidInputError, match="shapes"):
        lipschitz_global_bound(X[:-1], y[:-1], 0.05, good)


def test_a_larger_kappa_never_raises_the_bound():
    X, y = data(15, 1)
    best = train_global_lipschitz(X, y, 0.05, tol=1e-4)
    cut = lipschitz_global_bound(X, y, 0.05, best.multipliers, time_limit=1e-9)
    assert cut.lower <= best.lower_bound * (1 + 1e-9)
    for wrong in ({"time_limit": -1.0}, {"tol": 0.0}):
        with pytest.raises(InvalidInputError, match=next(iter(wrong))):
            lipschitz_global_bound(X, y, 0.05, best.multipliers, **wrong)


# -- training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [0.1, 0.01])
def test_one_input_equals_the_program_with_all_patterns(lam):
    """All patterns of both signs: the joint program's optimum is the global one."""
    X, y = data(12, 1, 1)
    everything = solve(LipschitzProgram(X, y, enumerate_patterns(X).with_both_signs(), lam), tol=1e-8)
    found = train_global_lipschitz(X, y, lam, tol=1e-5)
    assert found.status == "global"
    assert found.lower_bound <= everything.objective * (1 + 1e-9)
    assert found.objective == pytest.approx(everything.objective, rel=2e-5)


def test_two_inputs_equal_the_program_with_all_patterns():
    X, y = data(7, 2, 2)
    everything = solve(LipschitzProgram(X, y, enumerate_patterns(X).with_both_signs(), 0.05), tol=1e-7)
    found = train_global_lipschitz(X, y, 0.05, tol=1e-4, random_state=0)
    assert found.status == "global"
    assert found.lower_bound <= everything.objective * (1 + 1e-8)
    assert found.objective == pytest.approx(everything.objective, rel=2e-4)


@pytest.mark.slow
def test_bound_is_below_every_program_and_every_network(rng):
    X, y = data(25, 2)
    found = train_global_lipschitz(X, y, 0.1, tol=1e-3, random_state=0)
    assert found.status == "global"
    assert found.scope == "global"
    assert found.objective == pytest.approx(network_objective(X, y, 0.1, found.network), rel=1e-9)
    for seed in range(8):
        patterns = sample(X, 10, random_state=seed).with_both_signs()
        assert found.lower_bound <= solve(LipschitzProgram(X, y, patterns, 0.1), tol=1e-4).objective
    for scale in (0.1, 1.0):
        for _ in range(20):
            network = random_network(rng, X)
            network = Network.shallow(network.W, network.b, scale * network.v, float(y.mean()))
            assert found.lower_bound <= network_objective(X, y, 0.1, network)
    objectives = [step.objective for step in found.history]
    bounds = [step.lower_bound for step in found.history]
    assert objectives == sorted(objectives, reverse=True)
    assert bounds == sorted(bounds)


@pytest.mark.slow
def test_three_inputs_close_as_well():
    X, y = data(40, 3, 43)
    found = train_global_lipschitz(X, y, 0.05, tol=2e-3, random_state=0)
    assert found.status == "global"
    assert recomputed(X, y, 0.05, found, time_limit=60.0) >= found.lower_bound * (1 - 1e-3)


@pytest.mark.slow
def test_never_worse_than_the_start_and_time_limits(rng):
    X, y = data(30, 2)
    start = random_network(rng, X)
    before = network_objective(X, y, 0.02, start)
    for limit in (1e-9, 0.05):
        cut = train_global_lipschitz(X, y, 0.02, start=start, time_limit=limit, random_state=0)
        assert cut.objective <= before
        assert 0.0 <= cut.lower_bound <= cut.objective
        assert cut.status in ("time_limit", "global")
    again = train_global_lipschitz(X, y, 0.02, tol=0.5, random_state=0)
    better = train_global_lipschitz(X, y, 0.02, start=again.network, tol=0.3, random_state=0)
    assert better.objective <= again.objective * (1 + 1e-9)


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_an_interrupt_leaves_the_best_so_far(rng, monkeypatch, calls):
    X, y = data(30, 2)
    start = random_network(rng, X)
    before = network_objective(X, y, 0.02, start)
    count = iter(range(100))

    def interrupted(*args, **kwargs):
        if next(count) == calls:
            raise KeyboardInterrupt
        return solve(*args, **kwargs)

    monkeypatch.setattr("convexnn.global_gap.lipschitz.solve", interrupted)
    cut = train_global_lipschitz(X, y, 0.02, start=start, random_state=0)
    assert cut.status == "interrupted"
    assert 0.0 <= cut.lower_bound <= cut.objective <= before
    assert cut.objective == pytest.approx(network_objective(X, y, 0.02, cut.network))


@pytest.mark.slow
def test_offsets_and_unequal_units_of_the_inputs(rng):
    """Shifting the inputs changes nothing; a ridge that shows as a gap would."""
    X, y = data(10, 2, 6)
    skewed = X * np.array([30.0, 0.01]) + np.array([-100.0, 5.0])
    found = train_global_lipschitz(skewed, y, 1e-2, tol=1e-3, random_state=0)
    moved = train_global_lipschitz(skewed + 7.0, y, 1e-2, tol=1e-3, random_state=0)
    assert found.status == moved.status == "global"
    assert found.lower_bound <= moved.objective
    assert moved.lower_bound <= found.objective


def test_the_estimator_goes_on_to_the_global_optimum():
    X, y = data(20, 2, 4)
    model = SafeSNNRegressor(8, lam=0.05, start="random", scope="global", random_state=0).fit(X, y)
    assert model.solution_.scope == "global"
    assert model.global_gap_ <= 1e-3
    assert model.global_bound_ <= model.objective_ <= model.start_objective_


def test_duplicates_weights_permutations_and_scales(rng):
    X, y = data(12, 1, 5)
    plain = train_global_lipschitz(X, y, 0.05, tol=1e-4)
    order = rng.permutation(12)
    weights = np.ones(12)
    weights[:3] = 2.0
    twice = train_global_lipschitz(np.vstack([X, X[:3]]), np.r_[y, y[:3]], 0.05, tol=1e-4)
    for other, same in (
        (train_global_lipschitz(X[order], y[order], 0.05, tol=1e-4), plain),
        (train_global_lipschitz(X, y, 0.05, tol=1e-4, sample_weight=weights), twice),
    ):
        assert other.objective == pytest.approx(same.objective, rel=3e-4)
    # f(x / s) has s times the Lipschitz bound: lam s^2 undoes it; scaled targets scale the objective by their square
    for s in (1e-3, 1e3):
        wide = train_global_lipschitz(s * X, y, 0.05 * s * s, tol=1e-4)
        tall = train_global_lipschitz(X, s * y, 0.05, tol=1e-4)
        assert wide.status == tall.status == "global"
        assert wide.objective == pytest.approx(plain.objective, rel=3e-4)
        assert tall.objective == pytest.approx(s * s * plain.objective, rel=3e-4)


def test_noise_on_repeated_inputs_counts_as_constant():
    X = np.repeat(np.linspace(-1, 1, 5), 2)[:, None]
    y = X[:, 0] + np.tile([0.5, -0.5], 5)
    found = train_global_lipschitz(X, y, 1e-3, tol=1e-4)
    assert found.status == "global"
    assert found.lower_bound >= 0.25  # the variance within equal rows


@pytest.mark.parametrize(("n", "d", "constant"), [(1, 1, False), (1, 3, False), (2, 4, False), (6, 2, True)])
def test_corners(n, d, constant):
    """One sample or constant targets: the constant is optimal, value zero. Fewer rows than inputs: certified."""
    X, y = data(n, d, 8) if n > 1 else (np.ones((1, d)), np.array([2.0]))
    if constant:
        y = np.full(n, 3.0)
    found = train_global_lipschitz(X, y, 0.1, tol=1e-3, random_state=0, time_limit=20.0)
    assert found.status == "global"
    if n == 1 or constant:
        assert found.objective == pytest.approx(0.0, abs=1e-12)


def test_a_huge_weight_leaves_the_constant():
    X, y = data(15, 2)
    found = train_global_lipschitz(X, y, 1e4, tol=1e-3, random_state=0)
    assert found.status == "global"
    assert found.objective == pytest.approx(1.0, rel=1e-3)  # the variance of standardized targets


@pytest.mark.parametrize("wrong", [{"tol": 0.0}, {"lam": -1.0}, {"time_limit": 0.0}, {"max_rounds": -1}])
def test_bad_options_are_refused(wrong):
    X, y = data(5, 1)
    options = {"lam": 0.1, **wrong}
    with pytest.raises(InvalidInputError):
        train_global_lipschitz(X, y, **options)
    with pytest.raises(InvalidInputError, match="NaN"):
        train_global_lipschitz(X * np.nan, y, 0.1)

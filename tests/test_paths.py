"""Paths: every point proved, the interval between the points proved as well, neighbors never better."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.paths import RegularizationPath, path
from convexnn.patterns import extract
from convexnn.plotting import PathDisplay
from convexnn.program import Solution
from convexnn.restrictions import GatedGroupLasso, LipschitzProgram, ReluGroupLasso, lam_max
from convexnn.solvers import solve
from tests._instances import regression

PROGRAMS = {"lipschitz": LipschitzProgram, "l2": ReluGroupLasso, "gated": GatedGroupLasso}
REGULARIZERS = sorted(PROGRAMS)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_every_point_equals_a_solve_from_scratch(regularizer):
    X, y, net = regression()
    found = path(X, y, net, regularizer=regularizer, n_lams=6, lam_ratio=1e-3)
    assert (found.gaps <= 1e-6).all()
    for lam, solution in zip(found.lams, found.solutions, strict=True):
        alone = solve(PROGRAMS[regularizer](X, y, extract(net, X), lam))
        assert solution.objective == pytest.approx(alone.objective, rel=3e-6)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_loss_falls_and_penalty_rises_as_lam_falls(regularizer):
    X, y, net = regression(seed=1)
    found = path(X, y, net, regularizer=regularizer, n_lams=8)
    assert (np.diff(found.lams) < 0).all()
    assert (np.diff(found.losses) <= 1e-12).all()
    assert (np.diff(found.penalties) >= -1e-12).all()
    np.testing.assert_allclose(found.losses + found.lams * found.penalties, found.objectives, rtol=1e-12)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_networks_are_no_worse_than_their_objectives(regularizer):
    X, y, net = regression(seed=2)
    found = path(X, y, net, regularizer=regularizer, n_lams=4)
    for lam, objective, network in zip(found.lams, found.objectives, found.networks, strict=True):
        program = PROGRAMS["l2" if regularizer == "gated" else regularizer](X, y, extract(net, X), lam)
        if regularizer != "gated":  # a gated solution decodes to other patterns
            assert program.network_objective(network) <= objective * (1 + 1e-9)
    np.testing.assert_array_equal(found.predict(X), [network(X) for network in found.networks])


@pytest.mark.parametrize("regularizer", ["l2", "lipschitz"])
def test_the_model_whose_patterns_are_used_competes(regularizer):
    X, y, net = regression(seed=3)
    found = path(X, y, net, regularizer=regularizer, n_lams=4, max_iter=1)  # the solver is stopped at once
    for lam, objective in zip(found.lams, found.objectives, strict=True):
        program = PROGRAMS[regularizer](X, y, extract(net, X), lam, start=net)
        assert objective <= program.objective(program.start) * (1 + 1e-12)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_intervals_between_the_points_hold_the_optimum(rng, regularizer):
    X, y, net = regression(seed=4)
    found = path(X, y, net, regularizer=regularizer, n_lams=4, lam_ratio=1e-3)
    top, bottom = found.lams[0], found.lams[-1]
    for lam in [bottom / 30, *np.exp(rng.uniform(np.log(bottom), np.log(top), 5)), 10 * top]:
        solution = solve(PROGRAMS[regularizer](X, y, extract(net, X), lam))
        lower, upper = found.interval_at(lam)
        assert lower <= solution.objective * (1 + 1e-12)
        assert solution.lower_bound <= upper * (1 + 1e-12)
        if bottom <= lam <= top:
            assert found.gap_at(lam) <= found.gaps_between.max() + 1e-12


def test_a_filled_path_is_certified_everywhere(rng):
    X, y, net = regression(seed=5)
    coarse = path(X, y, net, regularizer="l2", n_lams=3, lam_ratio=0.03)
    fine = path(X, y, net, regularizer="l2", n_lams=3, lam_ratio=0.03, between=0.01)
    assert coarse.gaps_between.max() > 0.01 >= fine.gaps_between.max()
    assert set(coarse.lams) <= set(fine.lams)
    for lam in np.exp(rng.uniform(*np.log(fine.lams[[-1, 0]]), 50)):
        assert fine.gap_at(lam) <= 0.01


def test_corrupted_lower_bounds_are_never_extrapolated():
    """A path without evidence knows only that an objective is nonnegative."""
    net = Network.shallow([[1.0]], [0.0], [1.0], 0.0)
    patterns = extract(net, np.array([[1.0], [2.0]]))
    blind = Solution(np.zeros((1, 2)), None, 1.0, -np.inf, np.inf, 0.0, "failed", 0, 0.0, "none")
    found = RegularizationPath(
        np.array([2.0, 1.0]), (blind, blind), (net, net), np.array([0.5, 0.2]), np.array([0.25, 0.5]), patterns, "l2"
    )
    assert found.interval_at(1.5) == (0.0, pytest.approx(0.875))  # min(.5 + 1.5 / 4, .2 + 1.5 / 2)
    assert found.gaps_between == pytest.approx([1.0])
    assert found.crossings == pytest.approx([1.2])  # .5 + lam / 4 = .2 + lam / 2


def test_at_the_top_of_an_l2_path_nothing_is_gained():
    X, y, net = regression(seed=6)
    found = path(X, y, net, regularizer="l2", n_lams=2)
    assert found.lams[0] == pytest.approx(lam_max(X, y, extract(net, X), regularizer="l2"))
    assert found.objectives[0] == pytest.approx(y.var(), rel=1e-6)
    assert found.objectives[1] < 0.999 * y.var()


def test_weights_equal_repetitions_and_order_does_not_matter(rng):
    X, y, net = regression(seed=7)
    counts = rng.integers(1, 4, len(X))
    lams = [0.1, 0.01]
    weighted = path(X, y, net, lams=lams, sample_weight=counts)
    order = rng.permutation(counts.sum())
    repeated = path(np.repeat(X, counts, axis=0)[order], np.repeat(y, counts)[order], net, lams=lams[::-1])
    np.testing.assert_array_equal(weighted.lams, repeated.lams)
    np.testing.assert_allclose(weighted.objectives, repeated.objectives, rtol=3e-6)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_targets_carry_their_unit(scale):
    X, y, net = regression(seed=8)
    plain, scaled = (path(X, f * y, net, lams=[0.1, 0.01]) for f in (1.0, scale))
    np.testing.assert_allclose(scaled.objectives, scale**2 * plain.objectives, rtol=3e-6)


def test_a_time_limit_cuts_the_path_short():
    X, y, net = regression(seed=9)
    with pytest.warns(ConvergenceWarning, match="cut short"):
        found = path(X, y, net, n_lams=20, time_limit=1e-9)
    assert 1 <= len(found) < 20
    assert (found.lower_bounds <= found.objectives * (1 + 1e-12)).all()


def test_an_interrupt_keeps_what_is_there(monkeypatch):
    X, y, net = regression(seed=9)
    calls = []

    def interrupted(program, **options):
        calls.append(program)
        solution = solve(program, **options)
        if len(calls) < 3:
            return solution
        return Solution(**{**vars(solution), "status": "interrupted"})

    monkeypatch.setattr("convexnn.paths.grid.solve", interrupted)
    with pytest.warns(ConvergenceWarning, match="3 points"):
        assert len(path(X, y, net, n_lams=20)) == 3


@pytest.mark.parametrize("before", [0, 2])
def test_an_interrupt_between_two_solves_keeps_what_is_there(monkeypatch, before):
    X, y, net = regression(seed=9)
    calls = []

    def stopped(program, **options):
        calls.append(program)
        if len(calls) > before:
            raise KeyboardInterrupt
        return solve(program, **options)

    monkeypatch.setattr("convexnn.paths.grid.solve", stopped)
    if before:
        with pytest.warns(ConvergenceWarning, match=f"{before} points"):
            assert len(path(X, y, net, n_lams=20)) == before
    else:  # there is nothing to hand back
        with pytest.raises(KeyboardInterrupt):
            path(X, y, net, n_lams=20)


def test_one_sample_and_constant_targets_need_given_weights():
    net = Network.shallow([[1.0]], [0.0], [1.0], 0.0)
    with pytest.raises(InvalidInputError, match="gains anything"):
        path([[1.0]], [2.0], net)
    assert path([[1.0]], [2.0], net, lams=[1.0]).objectives == pytest.approx([0.0], abs=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"lams": []},
        {"lams": [1.0, -1.0]},
        {"lams": [np.nan]},
        {"n_lams": 0},
        {"n_lams": 1.5},
        {"lam_ratio": 1.0},
        {"between": 1e-6},
        {"regularizer": "ridge"},
    ],
)
def test_unusable_options_are_sentences(options):
    X, y, net = regression(seed=10)
    with pytest.raises(InvalidInputError):
        path(X, y, net, **options)


def test_path_prints_tabulates_and_compares():
    X, y, net = regression(seed=11)
    found, again = (path(X, y, net, lams=[0.1, 0.01]) for _ in range(2))
    assert len(str(found).splitlines()) == 3
    assert list(found.to_frame()["lam"]) == [0.1, 0.01]
    np.testing.assert_array_equal(found.objectives, again.objectives)
    assert found.best_at(1.0) == 0
    with pytest.raises(InvalidInputError, match="finite number"):
        found.best_at(0.0)


def test_display_shows_the_numbers_of_the_path():
    X, y, net = regression(seed=12)
    found = path(X, y, net, n_lams=3)
    display = PathDisplay.from_path(found, X, y)
    plt.close(display.figure_)
    np.testing.assert_array_equal(display.ax_.get_lines()[0].get_ydata(), found.losses)
    np.testing.assert_allclose(display.held_out_, ((found.predict(X) - y) ** 2).mean(axis=1))
    with pytest.raises(InvalidInputError, match="both"):
        PathDisplay(found, X)


@pytest.mark.parametrize("options", [{"lams": ["large"]}, {"n_lams": "many"}, {"lam_ratio": "small"}])
def test_words_for_numbers_are_refused_in_a_sentence(options):
    X, y, net = regression(seed=10)
    with pytest.raises(InvalidInputError, match="got"):
        path(X, y, net, **options)

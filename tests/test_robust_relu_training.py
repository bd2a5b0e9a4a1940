"""Robust ReLU training: never worse, certified, evidence recomputed, interrupts, corners."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_robust_relu import LOSSES, NORMS, attacked, data, each_norm

from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network
from convexnn.patterns import extract
from convexnn.program import evaluate
from convexnn.restrictions.robust_relu import RobustRelu
from convexnn.restrictions.robust_relu_margins import certified_margins
from convexnn.solvers import solve
from convexnn.training import robust_relu
from convexnn.training.robust_relu import RobustReluOptions, train_robust_relu
from convexnn.training.robust_relu_slopes import improved_slopes, row_losses
from convexnn.training.robust_relu_smooth import SmoothedRobust, TimeUpError
from convexnn.training.robust_relu_solver import RobustSolver
from tests._families import few
from tests._interruption import count_calls, interrupted_at


def classes(y):
    """Class indices of labels -1 / +1."""
    return ((y + 1) / 2).astype(int)


@each_norm
@pytest.mark.parametrize("k", few([3, 1]))
def test_never_worse_and_every_number_is_recomputed(rng, norm, k):
    X, y, net = data(rng, n=30, k=k)
    labels = classes(y) if k == 1 else y.astype(int)
    options = RobustReluOptions(radius=0.1, norm=norm, lam=0.01, loss="hinge", rounds=2, max_iter=6)
    result = train_robust_relu(net, X, labels, options)
    objectives = [stage.objective for stage in result.history]
    assert objectives == sorted(objectives, reverse=True)
    assert result.after == objectives[-1] < result.before <= objectives[0]
    program = RobustRelu.at(net, X, y, 0.01, 0.1, norm=norm, loss="hinge")
    t = program.terms
    worst = np.array(
        [
            attacked(result.network, t.X[row, :-1], int(a), int(b), 0.1, norm, rng, tries=10, steps=15)
            for row, a, b in zip(t.rows, t.plus, t.minus, strict=True)
        ]
    )
    V = result.network.layers[-1][0]
    hidden = np.hypot(np.linalg.norm(result.network.W, axis=1), result.network.b)
    size = 0.02 * float(hidden @ np.linalg.norm(V, axis=0))
    assert float(t.weight @ t.losses(worst)) + size <= result.after + 1e-9
    smallest = np.full(len(X), np.inf)
    np.minimum.at(smallest, t.rows, worst)
    assert (result.margins <= program.to_rows(smallest) + 1e-9).all()
    assert (result.margins > 0).mean() > 0.5
    assert result.solution.lower_bound <= result.solution.objective


@pytest.mark.slow
@each_norm
@pytest.mark.parametrize("loss", LOSSES)
def test_the_solver_agrees_with_cvxpy_within_its_gap(rng, norm, loss):
    X, y, net = data(rng, n=30, p=10)
    program = RobustRelu(X, y, extract(net, X), 0.01, 0.1, norm=norm, loss=loss)
    reference = solve(program, solver="clarabel", tol=1e-5)
    proposal = RobustSolver(tol=1e-3, max_iter=40, smoothing=0.3).solve(program, np.zeros_like(reference.z))
    ours = evaluate(program, proposal, seconds=0.0, tol=1e-3)
    assert ours.status == "optimal"
    assert reference.lower_bound - 1e-9 <= ours.objective <= reference.objective * (1 + 1e-3)
    assert ours.lower_bound <= reference.objective + 1e-9


def test_slopes_only_improve(rng):
    for norm in NORMS:
        for k in (1, 3):
            X, y, net = data(rng, k=k)
            program = RobustRelu.at(net, X, y, 0.01, 0.5, norm=norm)
            U, c = program.unpack(program.start)
            better = improved_slopes(program.terms, U, c)
            assert ((better >= 0) & (better <= 1)).all()
            gain = row_losses(program.terms, U, c) - row_losses(program.terms.with_slopes(better), U, c)
            assert (gain >= 0).all()
            assert gain.max() > 1e-3
    # one unit that lowers the margin, alone: the chord is the best slope
    X, net = np.array([[0.25], [-3.0]]), Network.shallow([[1.0]], [0.0], [1.0])
    program = RobustRelu.at(net, X, [-1.0, 1.0], 0.01, 0.5)
    U, c = program.unpack(program.start)
    margins = certified_margins(program.terms.with_slopes(improved_slopes(program.terms, U, c)), U, c)
    assert margins.min() == pytest.approx(-0.75, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3])
def test_a_huge_radius_gives_the_constant_network_and_says_so(rng, k):
    X, y, net = data(rng, n=12, k=k)
    labels = classes(y) if k == 1 else y.astype(int)
    result = train_robust_relu(net, X, labels, RobustReluOptions(radius=1e4, lam=0.01, loss="hinge"))
    assert result.status == "trivial"
    assert result.is_trivial
    assert not np.ptp(result.network(X), axis=0).any()
    if k == 1:  # hinge of the best constant: twice the share of the smaller class
        share = min(labels.mean(), 1 - labels.mean())
        assert result.after == pytest.approx(2 * share, rel=1e-6)
        assert result.solution.gap <= 1e-3


def test_a_time_limit_of_zero_gives_the_start(rng):
    X, y, net = data(rng)
    result = train_robust_relu(net, X, classes(y), RobustReluOptions(time_limit=0.0))
    assert result.status == "time_limit"
    assert result.after <= result.before
    assert result.network(X) == pytest.approx(net(X), abs=1e-12)


@pytest.mark.parametrize("module", ["restrictions.robust_relu", "training.robust_relu_slopes"])
def test_when_the_time_is_over_nothing_is_started(rng, monkeypatch, module):
    torch = pytest.importorskip("torch")
    X, y, net = data(rng)
    calls = [0]

    def counted(*arguments):
        calls[0] += 1
        return certified_margins(*arguments)

    monkeypatch.setattr(f"convexnn.{module}.certified_margins", counted)
    result = train_robust_relu(net, X, classes(y), RobustReluOptions(time_limit=0.0))
    assert calls[0] == (1 if module == "restrictions.robust_relu" else 0)  # the start, and no more
    assert [stage.stage for stage in result.history] == ["start"]
    assert result.solution is None
    program = RobustRelu.at(net, X, y, 0.01, 0.5)
    calls[0] = 0
    improved_slopes(program.terms, *program.unpack(program.start), deadline=0.0)
    assert calls[0] == 0
    with pytest.raises(TimeUpError):
        SmoothedRobust(program.terms, 1.0, "cpu", torch.float64, 0.0)


@pytest.mark.slow
def test_the_history_ends_with_the_objective_wherever_an_interrupt_comes(rng):
    X, y, net = data(rng)

    def settings():
        return RobustReluOptions(radius=0.1, lam=0.01, rounds=1, max_iter=1)

    def work():
        return train_robust_relu(net, X, classes(y), settings())

    folders = ("training/robust_relu", "restrictions/robust_relu")
    first = count_calls(lambda: robust_relu._Run(net, X, classes(y), settings()), *folders) + 2  # and the two doors
    last = count_calls(work, *folders)
    for k in {*range(first, last, 157), *range(last - 12, last, 3)}:
        result = interrupted_at(k, work, *folders)
        assert result.status == "interrupted"
        objectives = [stage.objective for stage in result.history]
        assert objectives == sorted(objectives, reverse=True)
        assert result.after == objectives[-1] <= result.before <= objectives[0]


@pytest.mark.parametrize("call", [1, 40, 200])
def test_an_interrupt_gives_the_best_network_so_far(rng, monkeypatch, call):
    from convexnn.training import robust_relu_solver

    X, y, net = data(rng)
    calls = [0]
    plain = robust_relu_solver.SmoothedRobust.__call__

    def interrupted(self, z):
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return plain(self, z)

    monkeypatch.setattr(robust_relu_solver.SmoothedRobust, "__call__", interrupted)
    result = train_robust_relu(net, X, classes(y), RobustReluOptions(lam=0.01))
    assert result.status == "interrupted"
    assert result.after <= result.before
    assert calls[0] == call


def test_sampled_patterns_keep_the_start(rng):
    X, y, net = data(rng)
    options = RobustReluOptions(lam=0.01, n_patterns=10, rounds=1, max_iter=3, random_state=0)
    result = train_robust_relu(net, X, classes(y), options)
    again = train_robust_relu(net, X, classes(y), options)
    assert result.network == again.network
    assert result.network.n_hidden[0] == 8 + 20
    plain = train_robust_relu(net, X, classes(y), RobustReluOptions(lam=0.01, rounds=0))
    assert result.before == pytest.approx(plain.before, rel=1e-9)


@pytest.mark.slow
def test_float32_is_certified_in_float64(rng):
    X, y, net = data(rng)
    single = train_robust_relu(net, X, classes(y), RobustReluOptions(lam=0.01, dtype="float32", rounds=1, max_iter=10))
    double = train_robust_relu(net, X, classes(y), RobustReluOptions(lam=0.01, rounds=1, max_iter=10))
    assert single.after == pytest.approx(double.after, rel=1e-2)
    assert single.solution.lower_bound <= double.solution.objective


def test_what_cannot_be_used_is_refused(rng):
    X, y, net = data(rng)
    labels = classes(y)
    for bad in (y, labels + 1, np.zeros(len(y)), labels[:3], labels[:, None], np.full(len(y), math.nan)):
        with pytest.raises(InvalidInputError):
            train_robust_relu(net, X, bad)
    with pytest.raises(InvalidInputError):
        train_robust_relu(net, np.where(X > 1, math.nan, X), labels)
    for wrong in ({"radius": -1.0}, {"norm": 1}, {"lam": 0.0}, {"loss": "squared"}, {"device": "xpu"}):
        with pytest.raises(InvalidInputError):
            train_robust_relu(net, X, labels, RobustReluOptions(**wrong))
    for wrong in ({"rounds": -1}, {"tol": 0.0}, {"dtype": "float16"}, {"max_iter": 0}, {"time_limit": -1.0}):
        with pytest.raises(InvalidInputError):
            RobustReluOptions(**wrong)
    with pytest.raises(UnsupportedModelError):
        train_robust_relu(Network.shallow(net.W, net.b, net.v, net.c, "tanh"), X, labels)


def test_rows_that_contradict_each_other(rng):
    X, y, net = data(rng)
    doubled, labels = np.vstack([X, X]), np.r_[classes(y), 1 - classes(y)]
    result = train_robust_relu(net, doubled, labels, RobustReluOptions(radius=0.1, lam=0.01, loss="hinge", rounds=2))
    # of every pair one margin is at most zero: the mean hinge loss is at least one, which the zero network has
    assert result.after == pytest.approx(1.0, abs=1e-6)

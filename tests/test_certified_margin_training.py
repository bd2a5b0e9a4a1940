"""Certified-margin training: never worse, monotone, certified; no attack breaks a certified point."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from convexnn import L2Ball, LInfBall, Network, attack, pretrain
from convexnn.certificates.lipschitz import lipschitz_pairs
from convexnn.certificates.margins import certified_radii, rival_bounds
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.restrictions.certified_margin_terms import MarginTerms
from convexnn.solvers._margin_descent import MarginDescent, Schedule, value_and_gradient
from convexnn.training import certified_margin
from convexnn.training.certified_margin import MarginOptions, train_certified_margin
from tests._families import few
from tests._interruption import count_calls, interrupted_at

BALLS = {2: L2Ball, np.inf: LInfBall}


def blobs(rng, n=60, d=3, k=3, spread=0.5):
    centres = 2.0 * rng.standard_normal((k, d))
    y = np.arange(n) % k
    return centres[y] + spread * rng.standard_normal((n, d)), y


def random_network(rng, d=3, m=8, k=3):
    return Network.shallow(
        rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal((k, m)), rng.standard_normal(k)
    )


@pytest.mark.parametrize("norm", [2, np.inf])
@pytest.mark.parametrize("k", few([3, 1]))
def test_training_is_never_worse_certified_and_unbroken(rng, norm, k):
    X, y = blobs(rng, k=max(k, 2))
    start = random_network(rng, k=k)
    found = train_certified_margin(start, X, y, MarginOptions(radius=0.3, norm=norm, max_iter=400, random_state=0))
    objectives = [stage.objective for stage in found.history]
    assert (
        found.before
        == objectives[0]
        == pytest.approx(
            MarginTerms.of(X, y, k, radius=0.3, norm=norm, loss="squared_hinge").objective(start), rel=1e-9
        )
    )
    assert all(later <= earlier for earlier, later in zip(objectives, objectives[1:], strict=False))
    assert found.after == objectives[-1] < 0.5 * found.before
    assert found.status == "finished"
    terms = MarginTerms.of(X, y, k, radius=0.3, norm=norm, loss="squared_hinge")
    assert terms.objective(found.network) == pytest.approx(found.after, rel=3e-3)
    radii = certified_radii(found.network, X, y, rival_bounds(found.network, "l2" if norm == 2 else "linf"))
    safe = radii >= 0.3
    assert safe.mean() > 0.5
    broken = attack(found.network, X[safe], y[safe], BALLS[norm](0.3), steps=30, restarts=3, random_state=0)
    assert not broken.success.any()
    # J bounds the share of samples without a certificate: l >= 1 at every margin that is not positive
    assert 1 - safe.mean() <= found.after * max(k - 1, 1) + 1e-9


def test_bounds_of_the_result_are_certified(rng):
    X, y = blobs(rng)
    found = train_certified_margin(random_network(rng), X, y, MarginOptions(max_iter=50, random_state=1))
    L = lipschitz_pairs(found.network)
    np.testing.assert_allclose(found.bounds, L[found.pairs[:, 0], found.pairs[:, 1]], rtol=1e-5)
    assert not found.is_trivial


@pytest.mark.parametrize("norm", [2, np.inf])
@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
def test_gradient_of_the_objective(rng, norm, loss):
    X, y = blobs(rng, k=4)
    net = random_network(rng, k=4)
    terms = MarginTerms.of(X, y, 4, radius=0.2, norm=norm, lam=0.03, loss=loss, sample_weight=1 + np.arange(60.0))
    layers = (net.W, net.b, net.v, net.c)
    factors = MarginDescent(terms, layers, Schedule(1)).factors
    value, gradient = value_and_gradient(terms, layers, factors, 0.2)
    assert value <= terms.objective(net) * (1 + 1e-12)
    assert value == pytest.approx(terms.objective(net), rel=1e-2)
    for _ in range(4):
        move = [rng.standard_normal(part.shape) for part in layers]
        sides = [tuple(p + h * t for p, t in zip(layers, move, strict=True)) for h in (1e-6, -1e-6)]
        up, down = (value_and_gradient(terms, side, factors, 0.2)[0] for side in sides)
        slope = sum(float(np.vdot(g, t)) for g, t in zip(gradient, move, strict=True))
        assert (up - down) / 2e-6 == pytest.approx(slope, rel=1e-4)


def test_units_of_the_inputs_do_not_matter(rng):
    X, y = blobs(rng)
    start, scale = random_network(rng), 2.0**-20
    other = Network.shallow(start.W / scale, start.b, start.v, start.c)
    one, two = (
        train_certified_margin(net, s * X, y, MarginOptions(radius=0.2 * s, max_iter=100, random_state=0, convex=False))
        for net, s in ((start, 1.0), (other, scale))
    )
    assert one.after == pytest.approx(two.after, rel=1e-5)


def test_repetition_is_weight_and_seeds_repeat(rng):
    X, y = blobs(rng, n=20)
    start = random_network(rng)
    plain = MarginOptions(radius=0.2, max_iter=60, random_state=3)
    first = train_certified_margin(start, X, y, plain)
    assert train_certified_margin(start, X, y, plain).network == first.network
    twice = train_certified_margin(start, np.r_[X, X], np.r_[y, y], plain)
    assert twice.network == first.network


def test_a_radius_that_nobody_can_meet_gives_the_constant_network(rng):
    X, y = blobs(rng, n=30)
    hopeless = MarginOptions(radius=1e6, max_iter=20, random_state=0, convex=False)
    found = train_certified_margin(random_network(rng), X, y, hopeless)
    assert found.status == "trivial"
    assert found.is_trivial
    assert found.after == pytest.approx(1.0, abs=1e-9)  # l(0) = 1: three classes of equal size
    # two classes with weights 3/4 and 1/4: min over c of 3/4 (1 - c)^2 + 1/4 (1 + c)^2 is 3/4 at c = 1/2
    skewed = train_certified_margin(random_network(rng, k=1), X[:4], [1, 1, 1, 0], hopeless)
    assert skewed.after == pytest.approx(0.75, abs=1e-9)
    assert skewed.network(X) == pytest.approx(0.5, abs=1e-5)


def test_one_class_one_sample_constant_and_conflicting_columns(rng):
    only = train_certified_margin(random_network(rng), np.ones((5, 3)), np.ones(5, int), MarginOptions(max_iter=20))
    assert only.after <= only.before
    single = train_certified_margin(random_network(rng), np.ones((1, 3)), [2], MarginOptions(max_iter=20))
    assert single.after <= single.before
    conflict = train_certified_margin(
        random_network(rng, k=1), np.ones((2, 3)), [0, 1], MarginOptions(max_iter=20, loss="hinge")
    )
    assert conflict.after == pytest.approx(1.0, abs=1e-6)  # (l(m) + l(-m)) / 2 >= l(0), attained by a constant
    unit = train_certified_margin(
        random_network(rng, m=1, k=1), [[-1.0] * 3, [1.0] * 3], [0, 1], MarginOptions(max_iter=300)
    )
    assert unit.after < 1e-2


def test_limits_and_interrupts_return_the_best_so_far(rng, monkeypatch):
    X, y = blobs(rng)
    start = random_network(rng)
    late = train_certified_margin(start, X, y, MarginOptions(time_limit=0.0))
    assert late.status == "time_limit"
    assert late.after <= late.before
    assert [stage.stage for stage in late.history] == ["start", "rescaled"]
    none = train_certified_margin(start, X, y, MarginOptions(max_iter=0, convex=False))
    assert [stage.stage for stage in none.history] == ["start", "rescaled", "constant"]

    def interrupted(self):
        yield self.layers
        raise KeyboardInterrupt

    monkeypatch.setattr(MarginDescent, "run", interrupted)
    stopped = train_certified_margin(start, X, y, MarginOptions(max_iter=10))
    assert stopped.status == "interrupted"
    assert stopped.after <= stopped.before


@pytest.mark.slow
def test_an_interrupt_at_any_call_gives_the_best_so_far(rng):
    X, y = blobs(rng, n=20)
    settings = MarginOptions(radius=0.2, max_iter=20, convex=False, random_state=0)
    start, folders = random_network(rng, m=4), ("training/certified_margin", "restrictions/certified", "lipsdp/pairs")

    def work():
        return train_certified_margin(start, X, y, settings)

    first = count_calls(lambda: certified_margin._Run(start, X, y, settings), *folders) + 2  # and the two doors
    last = count_calls(work, *folders)
    for k in {*range(first, last, 47), *range(last - 6, last, 2)}:
        found = interrupted_at(k, work, *folders)
        assert found.status == "interrupted"
        objectives = [stage.objective for stage in found.history]
        assert found.after == objectives[-1] <= found.before == objectives[0]
        assert objectives == sorted(objectives, reverse=True)
        assert found.bounds.shape == (3,)


def test_a_descent_that_diverges_is_not_kept(rng):
    X, y = blobs(rng)
    start = random_network(rng)
    found = train_certified_margin(start, X, y, MarginOptions(learning_rate=1e300, max_iter=5, convex=False))
    assert found.after <= found.before
    assert np.isfinite(found.network(X)).all()


def test_the_convex_step_reports_its_gap(rng):
    X, y = blobs(rng, n=20)
    found = train_certified_margin(
        random_network(rng, m=4), X, y, MarginOptions(radius=0.3, lam=1e-2, max_iter=60, random_state=0)
    )
    assert found.history[-1].stage == "convex"
    assert found.solution is not None
    assert 0 <= found.solution.gap < 1e-3
    assert found.after <= found.solution.objective * (1 + 1e-5)


def test_good_starts_are_kept_and_verbose_is_logged(rng, caplog):
    X, y = blobs(rng, n=20)
    first = train_certified_margin(random_network(rng), X, y, MarginOptions(radius=0.2, max_iter=200, random_state=0))
    with caplog.at_level(logging.INFO, "convexnn"):
        again = train_certified_margin(first.network, X, y, MarginOptions(radius=0.2, max_iter=10, verbose=1))
    assert again.after <= again.before == pytest.approx(first.after, rel=1e-5)
    assert "descent" in caplog.text


@pytest.mark.parametrize(
    "settings",
    [{"max_iter": -1}, {"tol": 0.0}, {"learning_rate": np.nan}, {"convex": "maybe"}, {"time_limit": -1.0}],
)
def test_settings_are_checked_at_once(settings):
    with pytest.raises(InvalidInputError):
        MarginOptions(**settings)


def test_data_and_networks_are_checked(rng):
    X, y = blobs(rng)
    net = random_network(rng)
    with pytest.raises(InvalidInputError, match="class index"):
        train_certified_margin(net, X, y - 1)
    with pytest.raises(InvalidInputError, match="radius"):
        train_certified_margin(net, X, y, MarginOptions(radius=-1.0))
    with pytest.raises(InvalidInputError, match="inputs"):
        train_certified_margin(net, X[:, :2], y)
    with pytest.raises(UnsupportedModelError):
        train_certified_margin(object(), X, y)


@pytest.mark.parametrize("scale", [1e-300, 1e-3, 1e200])
def test_starts_of_any_size_and_none_at_all(rng, scale):
    X, y = blobs(rng, n=30)
    net = random_network(rng)
    start = Network.shallow(scale * net.W, scale * net.b, scale * net.v, net.c)
    zero = Network.shallow(0 * net.W, net.b, 0 * net.v, net.c)
    for one in (start, zero):
        found = train_certified_margin(one, X, y, MarginOptions(radius=0.2, max_iter=60, random_state=0, convex=False))
        assert found.after < min(found.before, 1.0)


def test_inputs_far_from_zero_and_of_extreme_size(rng):
    X, y = blobs(rng, n=30)
    for scale, shift in ((1e-160, 0.0), (1e100, 0.0), (1.0, 1e6)):
        options = MarginOptions(radius=0.2 * scale, max_iter=60, random_state=0, convex=False)
        found = train_certified_margin(random_network(rng), scale * X + shift, y, options)
        assert found.after < 1.0


@pytest.mark.slow
def test_digits_program_m_certifies_more_than_one_against_the_rest():
    X, y = load_digits(return_X_y=True)
    X, rest, y, y_rest = train_test_split(X / 16, y, train_size=400, random_state=0, stratify=y)
    start = pretrain(X, y, hidden_units=30, loss="cross_entropy", epochs=20, lam=1e-4, random_state=0).network
    options = MarginOptions(radius=0.5, lam=1e-3, max_iter=300, random_state=0)
    joint = train_certified_margin(start, X, y, options).network
    single = [
        pretrain(X, (y == c).astype(int), hidden_units=3, loss="squared_hinge", epochs=80, lam=3e-3, random_state=0)
        for c in range(10)
    ]
    V = np.kron(np.eye(10), np.ones(3))
    nets = [result.network for result in single]
    V[V > 0] = np.hstack([net.v for net in nets])
    versus = Network.shallow(
        np.vstack([net.W for net in nets]), np.hstack([net.b for net in nets]), V, [net.c for net in nets]
    )
    radii = [certified_radii(net, rest, y_rest, rival_bounds(net)) for net in (joint, versus)]
    ours, theirs = ((r >= 0.5).mean() for r in radii)
    assert ours > theirs + 0.02
    assert ours > 0.4
    safe = np.flatnonzero(radii[0] >= 0.5)[:60]
    assert not attack(joint, rest[safe], y_rest[safe], L2Ball(0.5), steps=20, restarts=2, random_state=0).success.any()

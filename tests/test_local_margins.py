"""Local margins: never below an attack, exact where nothing switches, as good as the relaxation, for any slopes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from convexnn.activations import LeakyReLU
from convexnn.attacks import attack
from convexnn.certificates import local_margins as local
from convexnn.certificates.classification import certify_classification, margin_bounds, radii_from
from convexnn.certificates.local_margins import Gaps, local_intervals, local_margins, local_radii
from convexnn.certificates.local_regions import Region, regions_of
from convexnn.certificates.margins import certified_radii, rival_bounds, rival_margins
from convexnn.certificates.robustness import robustness_table
from convexnn.network import Network
from convexnn.threats import Box, L2Ball, LInfBall

ACTIVATIONS = ["relu", LeakyReLU(0.2)]
BALLS = {"l2": L2Ball, "linf": LInfBall}


def random_network(rng, k=3, units=6, d=3, activation="relu"):
    V = rng.standard_normal((k, units))
    return Network.shallow(
        rng.standard_normal((units, d)), rng.standard_normal(units), V, rng.standard_normal(k), activation
    )


def rival_gaps(network, X, y):
    """``f_t - f_y`` for every rival in order."""
    scores = network(X).reshape(len(X), -1)
    if network.n_outputs == 1:
        return np.where(y[:, None] == 1, -scores, scores)
    others = np.arange(network.n_outputs) != y[:, None]
    return (scores - scores[np.arange(len(X)), y][:, None])[others].reshape(len(X), -1)


def threats(radius):
    clip = (-0.7, 0.9)
    return [L2Ball(radius), LInfBall(radius), L2Ball(radius, clip), LInfBall(radius, clip), Box([-1, 0, -0.2], 0.8)]


# -- the truth ----------------------------------------------------------------------------------------
def exact_over_a_box(network, x, radius, goal):
    """Largest ``f_t - f_y`` over a box by one linear program for every activation pattern of ReLU units."""
    W, b, (V, c) = network.W, network.b, network.layers[1]
    contrast, best = V[goal[0]] - V[goal[1]], -np.inf
    for pattern in itertools.product([0.0, 1.0], repeat=len(b)):
        active, sign = np.array(pattern), 2 * np.array(pattern) - 1
        g = (contrast * active) @ W
        box = [(xi - radius, xi + radius) for xi in x]
        found = linprog(-g, A_ub=-sign[:, None] * W, b_ub=sign * b, bounds=box)
        if found.status == 0:
            best = max(best, -found.fun + contrast @ (active * b) + c[goal[0]] - c[goal[1]])
    return best


def test_linf_margins_are_above_the_exact_ones_by_enumeration(rng):
    tight = []
    for _ in range(6):
        network, X, radius = random_network(rng, k=2, units=4, d=2), rng.standard_normal((2, 2)), rng.uniform(0.05, 1)
        y = network(X).argmax(axis=1)
        found = local_margins(network, X, y, LInfBall(radius))[:, 0]
        exact = np.array([exact_over_a_box(network, x, radius, (1 - i, i)) for x, i in zip(X, y, strict=True)])
        assert (found >= exact).all()
        tight.extend(found - exact < 1e-6)
    assert any(tight)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_l2_margins_are_above_a_dense_sample_of_the_disc(rng, activation):
    angle, length = np.meshgrid(np.linspace(0, 2 * np.pi, 200), np.linspace(0, 1, 30))
    disc = np.stack([length * np.cos(angle), length * np.sin(angle)], axis=-1).reshape(-1, 2)
    close = []
    for _ in range(20):
        network, x, radius = random_network(rng, 3, 5, 2, activation), rng.standard_normal(2), rng.uniform(0.05, 1.5)
        y = network(x[None]).argmax(axis=1)
        found = local_margins(network, x[None], y, L2Ball(radius))[0]
        reached = rival_gaps(network, x + radius * disc, np.repeat(y, len(disc))).max(axis=0)
        assert (found >= reached).all()
        close.append(np.min(found - reached) < 0.02)
    assert any(close)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("k", [1, 3])
def test_no_attack_exceeds_it(rng, k, activation):
    for radius in (0.0, 0.05, 0.4, 3.0):
        network, X = random_network(rng, k, activation=activation), rng.uniform(-0.7, 0.9, (30, 3))
        y = rng.integers(max(k, 2), size=30)
        for threat in threats(radius):
            margins = local_margins(network, X, y, threat).max(axis=1)
            found = attack(network, X, y, threat, loss="margin", steps=10, restarts=2, random_state=0)
            assert (found.values <= margins).all()
            inside = threat.sample(X, rng)
            assert (rival_gaps(network, inside, y).max(axis=1) <= margins).all()


def test_samples_outside_of_the_clip_are_covered(rng):
    network, X, y = random_network(rng), 3 * rng.standard_normal((40, 3)), rng.integers(3, size=40)
    for ball in BALLS.values():
        threat = ball(0.2, clip=(-0.5, 0.5))
        margins = local_margins(network, X, y, threat)
        for points in (X, threat.project(X, X), threat.sample(X, rng)):
            assert (rival_gaps(network, points, y) <= margins).all()


# -- the relaxation -------------------------------------------------------------------------------------
def relaxation(network, x, y, t, radius, norm):
    """Least ``f_y - f_t`` where every unit lies between its lines: the triangle relaxation, solved by cvxpy."""
    import cvxpy as cp

    W, (V, c) = network.W, network.layers[1]
    z = W @ x + network.b
    rho = radius * np.linalg.norm(W, ord=2 if norm == "l2" else 1, axis=1)
    e, h = cp.Variable(len(x)), cp.Variable(len(z))
    u = z + W @ e
    low, high = z - rho, z + rho
    chord = np.where(low >= 0, 1.0, np.where(high <= 0, 0.0, high / (2 * rho)))
    top = np.where((low < 0) & (high > 0), -chord * low, 0.0)
    limits = [cp.norm(e, 2 if norm == "l2" else "inf") <= radius, h >= 0, h >= u, h <= cp.multiply(chord, u) + top]
    problem = cp.Problem(cp.Minimize((V[y] - V[t]) @ h + c[y] - c[t]), limits)
    return problem.solve(solver="CLARABEL")


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_few_steps_reach_the_value_of_the_relaxation(rng, norm):
    network, X, y = random_network(rng, 2, 12, 4), rng.standard_normal((6, 4)), np.array([0, 1, 0, 1, 0, 1])
    for radius in (0.1, 0.6):
        exact = np.array([relaxation(network, x, i, 1 - i, radius, norm) for x, i in zip(X, y, strict=True)])
        region = Region.around(X, np.full(6, radius), norm)
        gaps = Gaps.of_rivals(y, 2)
        none, few, many = (local.worst_gaps(network, X, gaps, region, steps)[:, 0] for steps in (0, local.STEPS, 300))
        for found in (none, few, many):
            assert (found <= exact + 1e-6).all()
        assert (many >= few - 1e-9).all()
        assert (few >= none - 1e-9).all()
        np.testing.assert_allclose(few, exact, atol=0.05)
        np.testing.assert_allclose(many, exact, atol=0.02)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_corrupted_slopes_only_loosen(rng, norm):
    network, X, y = random_network(rng, 3, 8), rng.standard_normal((10, 3)), rng.integers(3, size=10)
    region, gaps = Region.around(X, np.full(10, 0.5), norm), Gaps.of_rivals(y, 3)
    best = local.worst_gaps(network, X, gaps, region, 300)
    slopes = local.propose_slopes(network, gaps, region)
    size = slopes.shape
    for bad in (np.full(size, np.nan), 1e300 * slopes, -slopes, rng.random(size), 1 - slopes, np.full(size, np.inf)):
        found = local.lower_bounds(network, gaps, region, bad)
        assert np.isfinite(found).all()
        assert (found <= best + 1e-3).all()  # the relaxation is the best that any slopes can prove


# -- where it is exact ------------------------------------------------------------------------------------
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_radius_zero_gives_the_margin(rng, activation):
    network, X, y = random_network(rng, activation=activation), rng.standard_normal((20, 3)), rng.integers(3, size=20)
    for threat in (L2Ball(0.0), LInfBall(0.0)):
        found, plain = local_margins(network, X, y, threat), rival_gaps(network, X, y)
        assert (found >= plain).all()
        np.testing.assert_allclose(found, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_stable_units_are_exact(rng, norm, activation):
    network, X, y = random_network(rng, activation=activation), rng.standard_normal((20, 3)), rng.integers(3, size=20)
    dual = 2 if norm == "l2" else 1
    distances = np.abs(network.pre_activations(X)[0]) / np.linalg.norm(network.W, ord=dual, axis=1)
    G = network.gradient(X)
    for i, radius in enumerate(0.99 * distances.min(axis=1)):
        rivals = [t for t in range(3) if t != y[i]]
        slopes = np.linalg.norm(G[i, rivals] - G[i, y[i]], ord=dual, axis=1)
        found = local_margins(network, X[[i]], y[[i]], BALLS[norm](radius))[0]
        np.testing.assert_allclose(found, rival_gaps(network, X[[i]], y[[i]])[0] + radius * slopes, atol=1e-12)


def test_boxes_are_exact_for_one_unit():
    # f = relu(x1 - 2 x2) on [0, 1] x [-1, 2]: between 0 and 3
    network = Network.shallow([[1.0, -2.0]], [0.0], [1.0])
    low, high = local_intervals(network, np.array([[0.5, 0.0]]), Box([0, -1], [1, 2]))
    np.testing.assert_allclose(high, 3.0, atol=1e-12)
    assert low[0, 0] == pytest.approx(0.0, abs=1e-12)


# -- symmetries and scales ----------------------------------------------------------------------------------
def test_two_outputs_are_one_difference(rng):
    two, X, y = random_network(rng, 2), rng.standard_normal((20, 3)), rng.integers(2, size=20)
    V, c = two.layers[1]
    one = Network.shallow(two.W, two.b, V[1] - V[0], c[1] - c[0])
    for threat in threats(0.3):
        np.testing.assert_allclose(local_margins(two, X, y, threat), local_margins(one, X, y, threat), atol=1e-12)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_duplicates_order_and_scales_change_nothing(rng, norm):
    network, X, y = random_network(rng), rng.standard_normal((15, 3)), rng.integers(3, size=15)
    V, c = network.layers[1]
    found = local_margins(network, X, y, BALLS[norm](0.4))
    twice = local_margins(network, np.repeat(X, 2, axis=0), np.repeat(y, 2), BALLS[norm](0.4))
    np.testing.assert_allclose(twice, np.repeat(found, 2, axis=0), rtol=1e-12)
    order = rng.permutation(6)
    halves = Network.shallow(
        np.repeat(network.W[order], 2, 0), np.repeat(network.b[order], 2), np.repeat(V[:, order], 2, 1) / 2, c
    )
    split = local_margins(halves, X, y, BALLS[norm](0.4))
    np.testing.assert_allclose(split, found, atol=1e-9 if norm == "l2" else 1e-3)  # steps end at ties of linf
    for scale in (1e-3, 1e3, 1e60):
        moved = Network.shallow(network.W / scale, network.b, V, c)
        np.testing.assert_allclose(local_margins(moved, scale * X, y, BALLS[norm](0.4 * scale)), found, atol=1e-9)
        larger = Network.shallow(network.W, network.b, scale * V, scale * c)
        np.testing.assert_allclose(local_margins(larger, X, y, BALLS[norm](0.4)) / scale, found, atol=1e-9)


def test_parts_of_the_samples_change_nothing(rng, monkeypatch):
    network, X, y = random_network(rng), rng.standard_normal((15, 3)), rng.integers(3, size=15)
    found = local_margins(network, X, y, L2Ball(0.4))
    monkeypatch.setattr(local, "CHUNK_SIZE", 50)
    np.testing.assert_allclose(local_margins(network, X, y, L2Ball(0.4)), found, rtol=1e-12)
    assert local_margins(network, X[:0], y[:0], L2Ball(0.4)).shape == (0, 2)


@pytest.mark.parametrize(("inner", "outer"), [(1e200, 1e200), (1e-320, 1.0), (1e-200, 1e-200), (1e160, 1e-160), (0, 1)])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_extreme_weights_never_give_a_margin_that_is_too_small(rng, norm, inner, outer):
    one = random_network(rng)
    V, c = one.layers[1]
    network, X, y = (
        Network.shallow(inner * one.W, inner * one.b, outer * V, 0 * c),
        rng.standard_normal((9, 3)),
        np.arange(9) % 3,
    )
    for radius in (1e-300, 0.3, 1e90):
        with np.errstate(all="ignore"):
            margins = local_margins(network, X, y, BALLS[norm](radius))
            reached = rival_gaps(network, BALLS[norm](radius).sample(X, rng), y)
        assert not np.isnan(margins).any()
        assert ((reached <= margins) | ~np.isfinite(reached)).all()


def test_norms_that_underflow_count(rng):
    # the gradient is 1e-200 in each coordinate, its square underflows; the ball is 1e200 wide
    network = Network.shallow([[1e-200, 1e-200]], [1.0], [1.0])
    found = local_margins(network, np.zeros((1, 2)), np.array([0]), L2Ball(1e200))
    assert found[0, 0] >= 1 + np.sqrt(2)


# -- what it is used for --------------------------------------------------------------------------------------
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_certificates_take_the_better_bound_of_every_rival(rng, norm):
    network, X = random_network(rng, 4, 20), rng.standard_normal((60, 3))
    y, threat = network(X).argmax(axis=1), BALLS[norm](0.1)
    bounds = margin_bounds(network, norm)
    by_lipschitz = np.min([rival_margins(network, X, y, threat, L, own) for own, L in bounds.items()], axis=0)
    found = certify_classification(network, X, y, threat)
    assert (found.margins <= by_lipschitz.max(axis=1)).all()
    assert found.certified.sum() > (by_lipschitz.max(axis=1) < 0).sum()
    assert (found.radii[found.certified] >= 0.1).all()
    assert (found.margins >= found.clean).all()
    huge = certify_classification(network, X, y, BALLS[norm](1e6))  # all units unstable: Lipschitz bounds are better
    assert (huge.margins < local_margins(network, X, y, BALLS[norm](1e6)).max(axis=1)).any()


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("k", [1, 3])
def test_radii_grow_and_hold(rng, norm, k):
    network, X = random_network(rng, k, 20), rng.standard_normal((16, 3))
    y = (network(X) > 0).astype(int) if k == 1 else network(X).argmax(axis=1)
    given = certified_radii(network, X, y, rival_bounds(network, norm))
    found = local_radii(network, X, y, norm, given)
    assert (found >= given).all()
    assert np.median(found / given) > 1.2
    for x, label, radius in zip(X, y, found, strict=True):
        reached = attack(
            network, x[None], np.array([label]), BALLS[norm](radius), loss="margin", steps=10, random_state=0
        )
        assert not reached.success[0]
    assert (local_radii(network, X, (y + 1) % max(k, 2), norm, np.zeros(16)) == 0).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_radii_of_a_linear_network_are_the_distances(rng, norm):
    A, c, X = rng.standard_normal((3, 3)), rng.standard_normal(3), rng.standard_normal((20, 3))
    network = Network.shallow(np.eye(3), np.full(3, 1e3), A, c - 1e3 * A.sum(axis=1))  # no unit is ever off
    y = (X @ A.T + c).argmax(axis=1)
    dual = np.linalg.norm(A[y][:, None] - A[None], ord=2 if norm == "l2" else 1, axis=2)
    gaps = -(X @ A.T + c - (X @ A.T + c)[np.arange(20), y][:, None])
    distance = np.where(np.arange(3) == y[:, None], np.inf, gaps / np.where(dual > 0, dual, 1)).min(axis=1)
    found = radii_from(network, X, y, margin_bounds(network, norm), norm)
    assert (found <= distance).all()
    np.testing.assert_allclose(found, distance, rtol=0.01)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_intervals_hold_every_output(rng, outputs, activation):
    network, X = random_network(rng, outputs, activation=activation), rng.uniform(-0.7, 0.9, (20, 3))
    for threat in threats(0.3):
        low, high = local_intervals(network, X, threat)
        for _ in range(50):
            values = network(threat.sample(X, rng)).reshape(20, -1)
            assert ((low <= values) & (values <= high)).all()


def test_tables_of_regressors_use_intervals(rng):
    network, X = random_network(rng, 1, 20), rng.standard_normal((20, 3))
    y = network(X)
    table = robustness_table({"f": network}, X, y, [0.02, 0.3], random_state=0, steps=5, restarts=1)
    L = table.bounds[0]["l2"][0, 0]
    by_lipschitz = (table.radii * L) ** 2
    assert (table.certified[0] <= by_lipschitz[:, None] * (1 + 1e-9)).all()
    assert table.certified_mse[0, 0] < 0.8 * by_lipschitz[0]


def test_regions_contain_their_threats(rng):
    X = 10.0 ** rng.uniform(-8, 8, (50, 3))
    for threat in (L2Ball(1e-3), LInfBall(1e-3), LInfBall(0.1, clip=(0.0, 5.0)), Box(-1.0, 4.0)):
        for region in regions_of(threat, X):
            step = threat.sample(X, rng) - region.centre
            reached = np.linalg.norm(step, axis=1, keepdims=True) if region.is_ball else np.abs(step)
            assert (reached <= region.size).all()

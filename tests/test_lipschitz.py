"""Lipschitz certificates: attained gradient <= realized pattern <= LipSDP bound, whatever the multiplier."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linprog

from convexnn.activations import LeakyReLU, Polynomial, ReLU, Sigmoid, Tanh
from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import check_lipsdp, lipschitz, lipschitz_pairs
from convexnn.certificates.lipschitz_lmi import lmi_problem, lmi_reference
from convexnn.certificates.lipschitz_lower import best_pattern_bound, lipschitz_lower_bound
from convexnn.conic.run import mosek_refusal
from convexnn.exceptions import CertificateError, InvalidInputError, SolverError, UnsupportedModelError
from convexnn.lipsdp import maximize, stack
from convexnn.network import Network
from tests._families import few

ACTIVATIONS = [ReLU(), LeakyReLU(0.1), Tanh(), Sigmoid()]


def random_network(rng, m=None, d=None, k=1, activation="relu"):
    """Network with odd features: zero units, repeated units, units of other sizes, no bias."""
    m, d = m or int(rng.integers(1, 30)), d or int(rng.integers(1, 12))
    W, b, V = rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal((k, m))
    kind = rng.integers(6)
    if kind == 0:
        W[: m // 3], V[:, m // 2 :] = 0.0, 0.0
    elif kind == 1:
        W[m // 2 :] = W[: m - m // 2]
    elif kind == 2:
        W *= 10.0 ** rng.uniform(-8, 8, (m, 1))
    elif kind == 3:
        b[:] = 0.0
    return Network.shallow(W, b, V, rng.standard_normal(k), activation)


def realized_maximum(network):
    """Largest gradient norm over the patterns that an input realizes, each found by a linear program."""
    W, b, V = network.W, network.b, network.layers[1][0]
    best = 0.0
    for pattern in itertools.product([0.0, 1.0], repeat=len(W)):
        s = 2.0 * np.array(pattern) - 1.0
        # maximize r subject to s_i (w_i x + b_i) >= r ||w_i||, r <= 1
        A = np.column_stack([-s[:, None] * W, np.linalg.norm(W, axis=1)])
        found = linprog(np.r_[np.zeros(W.shape[1]), -1.0], A, s * b, bounds=[(None, None)] * W.shape[1] + [(None, 1.0)])
        if found.status == 0 and found.x[-1] > 1e-7:
            best = max(best, np.linalg.norm((V * np.array(pattern)) @ W, 2))
    return best


def corrupted(rng, q):
    """Multipliers an adversary would try."""
    broken = q.copy()
    broken[rng.integers(len(q))] = rng.choice([math.nan, -1.0, math.inf])
    heavy = np.abs(rng.standard_cauchy(len(q)))
    return [rng.random(len(q)), rng.permutation(q), 1e-9 * q, 1e200 * q, q**2, heavy, broken]


@pytest.mark.parametrize("block", few(range(10), 2))
def test_never_below_an_attained_gradient(block):
    """500 random networks, each also with corrupted multipliers."""
    for seed in range(50 * block, 50 * block + 50):
        rng = np.random.default_rng(seed)
        network = random_network(rng)
        certificate = lipschitz(network)
        attained = lipschitz_lower_bound(network, n_samples=200, random_state=seed)
        assert certificate.bound >= attained
        assert certificate.bound <= certificate.lower * (1 + 1e-7)
        assert lipschitz(network, method="product").bound >= attained
        for q in corrupted(rng, certificate.multiplier["q"]):
            assert check_lipsdp(network, {"q": q}) >= attained
            assert check_lipsdp(network, {"t": q[1:]}) >= attained
            assert check_lipsdp(network, {"S": rng.standard_normal((network.n_inputs, 2))}) >= attained


@pytest.mark.parametrize("seed", few(range(25), 8))
def test_sandwich_with_realized_patterns(seed):
    """sampled gradient <= largest realized pattern <= bound, for one and for several outputs."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, m=int(rng.integers(1, 6)), d=int(rng.integers(1, 4)), k=int(rng.integers(1, 4)))
    exact = realized_maximum(network)
    assert lipschitz_lower_bound(network, n_samples=500) <= exact * (1 + 1e-12)
    assert exact <= lipschitz(network).bound
    assert exact <= lipschitz(network, method="product").bound


@pytest.mark.parametrize("block", few(range(4)))
def test_several_outputs_never_below_an_attained_gradient(block):
    for seed in range(25 * block, 25 * block + 25):
        rng = np.random.default_rng(1000 + seed)
        network = random_network(rng, m=int(rng.integers(1, 15)), d=int(rng.integers(1, 8)), k=int(rng.integers(2, 5)))
        certificate = lipschitz(network, tol=1e-6)
        attained = lipschitz_lower_bound(network, n_samples=200)
        assert certificate.bound >= attained
        for q in corrupted(rng, certificate.multiplier["q"]):
            assert check_lipsdp(network, {"q": q}) >= attained
            assert check_lipsdp(network, {"t": q}) >= attained


def test_bound_is_tight_when_the_worst_pattern_is_realized():
    """Orthogonal units with positive outer weights: all active is realized, gradient norm sqrt(3); LipSDP agrees."""
    network = Network.shallow(np.eye(3), np.zeros(3), np.ones(3))
    assert lipschitz_lower_bound(network) == pytest.approx(math.sqrt(3.0), rel=1e-9)
    assert lipschitz(network).bound == pytest.approx(math.sqrt(3.0), rel=1e-8)


def test_coupled_multipliers_are_unsound_and_absent():
    """f(x) = relu(x) - relu(x - 1) has slope 1 on (0, 1).

    The coupled multiplier T = s (e_1 - e_2)(e_1 - e_2)' of some published code satisfies the matrix inequality with
    L = 0, since W'T = 0 and 2T - vv' is positive semidefinite for s = 1: that variant claims that f is constant. With
    diagonal T the value is 1, and the part of the coupled T that is diagonal proves no more.
    """
    W, v, b = np.array([[1.0], [1.0]]), np.array([1.0, -1.0]), np.array([0.0, -1.0])
    network = Network.shallow(W, b, v)
    T = np.array([[1.0, -1.0], [-1.0, 1.0]])
    M = np.block([[np.zeros((1, 1)), -W.T @ T], [-T @ W, 2 * T - np.outer(v, v)]])  # L = 0
    assert np.linalg.eigvalsh(M)[0] >= -1e-15
    assert lipschitz_lower_bound(network, np.array([[0.5]])) == pytest.approx(1.0)
    assert 1.0 <= lipschitz(network).bound <= 1.0 + 1e-8
    assert check_lipsdp(network, {"t": np.diag(T)}) >= 1.0


def coupled_value(network):
    """The unsound matrix inequality, T = sum_ij zeta_ij (e_i - e_j)(e_i - e_j)' + diagonal, by cvxpy."""
    import cvxpy as cp

    W, v = network.W, network.v
    m, d = W.shape
    square, t = cp.Variable(), cp.Variable(m, nonneg=True)
    pairs = list(itertools.combinations(range(m), 2))
    zeta = cp.Variable(len(pairs), nonneg=True)
    T = cp.diag(t)
    for z, (i, j) in zip(zeta, pairs, strict=True):
        e = np.zeros((m, 1))
        e[i], e[j] = 1.0, -1.0
        T = T + z * (e @ e.T)
    M = cp.bmat([[square * np.eye(d), -W.T @ T], [-T @ W, 2 * T - np.outer(v, v)]])
    problem = cp.Problem(cp.Minimize(square), [(M + M.T) / 2 >> 0])
    problem.solve(solver="CLARABEL")
    return math.sqrt(max(problem.value, 0.0))


@pytest.mark.slow
def test_coupled_multipliers_break_on_random_networks():
    """Some of 30 small networks attain a larger gradient than the coupled variant allows; none exceeds our bound."""
    broken = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        m = 5
        network = Network.shallow(rng.standard_normal((m, 2)), 2.0 * rng.standard_normal(m), rng.standard_normal(m))
        attained = lipschitz_lower_bound(network, n_samples=2000)
        broken += coupled_value(network) < attained * (1 - 1e-4)
        assert lipschitz(network).bound >= attained
    assert broken >= 3


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
@pytest.mark.parametrize(("m", "d", "k"), [(1, 1, 1), (6, 3, 1), (8, 3, 2)])
def test_agrees_with_the_matrix_inequality(rng, m, d, k, activation):
    W, b, V = rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal((k, m))
    network = Network.shallow(W, b, V, 0.0, activation)
    certificate, reference = lipschitz(network), lipschitz(network, method="lmi")
    assert reference.bound == pytest.approx(certificate.bound, rel=1e-6)
    assert reference.bound >= certificate.lower * (1 - 1e-12)
    assert math.sqrt(lmi_problem(network).solve(solver="CLARABEL")) == pytest.approx(certificate.bound, rel=1e-5)


def test_matrix_inequality_in_the_networks_own_scaling(rng):
    network = Network.shallow(100.0 * rng.standard_normal((6, 3)), np.zeros(6), 0.01 * rng.standard_normal(6))
    t, value = lmi_reference(network)
    assert check_lipsdp(network, {"t": t * (1 + 1e-6)}) == pytest.approx(value, rel=1e-4)
    assert lipschitz(network).bound == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
@pytest.mark.parametrize("k", [1, 3])
def test_slopes_of_the_activation_are_respected(rng, activation, k):
    W, b, V = rng.standard_normal((7, 3)), rng.standard_normal(7), rng.standard_normal((k, 7))
    network = Network.shallow(W, b, V, 0.0, activation)
    X = 3.0 * rng.standard_normal((400, 3))
    step = rng.standard_normal((400, 3)) * 10.0 ** rng.uniform(-3, 1, (400, 1))
    change = (network(X + step) - network(X)).reshape(400, k)
    ratio = np.linalg.norm(change, axis=1) / np.linalg.norm(step, axis=1)
    for method in ("lipsdp", "product"):
        assert ratio.max() <= lipschitz(network, method=method).bound * (1 + 1e-9)
    ratio = np.abs(change).max(axis=1) / np.abs(step).max(axis=1)
    for method in ("max_gradient", "product"):
        assert ratio.max() <= lipschitz(network, norm=np.inf, method=method).bound * (1 + 1e-9)


def test_sigmoid_is_a_quarter_of_its_relu_bound(rng):
    W, b, v = rng.standard_normal((7, 3)), rng.standard_normal(7), rng.standard_normal(7)
    relu, sigmoid = (lipschitz(Network.shallow(W, b, v, 0.0, name)).bound for name in ("relu", "sigmoid"))
    assert sigmoid == pytest.approx(0.25 * relu, rel=2e-8)


@pytest.mark.parametrize("k", [1, 2])
def test_symmetries(rng, k):
    W, b, V = rng.standard_normal((8, 4)), rng.standard_normal(8), rng.standard_normal((k, 8))
    value = lipschitz(Network.shallow(W, b, V)).bound
    order, a = rng.permutation(8), 10.0 ** rng.uniform(-3, 3, 8)
    Q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    same = [
        Network.shallow(W[order], b[order], V[:, order]),
        Network.shallow(W / a[:, None], b / a, V * a),
        Network.shallow(W @ Q, b, V),
        Network.shallow(W, rng.standard_normal(8), V, 7.0),  # biases never enter
        Network.shallow(W, b, -V),
    ]
    for network in same:
        assert lipschitz(network).bound == pytest.approx(value, rel=1e-7)
    assert lipschitz(Network.shallow(3.0 * W, b, V)).bound == pytest.approx(3.0 * value, rel=1e-7)


@pytest.mark.parametrize("scale", [1e-160, 1e-150, 1e140])
def test_extreme_weights(rng, scale):
    W, b, v = rng.standard_normal((6, 3)), rng.standard_normal(6), rng.standard_normal(6)
    value = lipschitz(Network.shallow(W, b, v)).bound
    for k_v in (v, np.vstack([v, v])):
        bound = lipschitz(Network.shallow(scale * W, b, scale * k_v)).bound
        factor = value * (1.0 if k_v.ndim == 1 else math.sqrt(2.0))
        assert bound > 0.0
        assert bound >= (factor * scale) * scale * (1 - 1e-7)
        assert bound <= (factor * scale) * scale * (1 + 1e-6) + 1e-320


@pytest.mark.parametrize(("inner", "outer"), [(1e200, 1e-200), (1e-200, 1e-200), (1e200, 1e200), (1e-320, 1.0)])
@pytest.mark.parametrize("k", [1, 2])
def test_weights_beyond_the_range_of_products(rng, inner, outer, k):
    """Whatever is representable is bounded, the rest is inf; nothing raises and nothing is below the truth."""
    W, V = rng.standard_normal((6, 3)), rng.standard_normal((k, 6))
    network, usual = Network.shallow(inner * W, np.zeros(6), outer * V), Network.shallow(W, np.zeros(6), V)
    for norm, method in [(2, "lipsdp"), (2, "lmi"), (2, "product"), (np.inf, "max_gradient"), (np.inf, "product")]:
        bound = lipschitz(network, norm=norm, method=method).bound
        assert 0.0 < bound
        assert bound >= lipschitz(usual, norm=norm).lower * inner * outer * (1 - 1e-6)


@pytest.mark.parametrize("k", [1, 2])
def test_one_unit_at_the_end_of_the_range(rng, k):
    """A subnormal unit changes nothing and raises nothing (warnings are errors); the slack is never nan."""
    W, V = rng.standard_normal((5, 3)), rng.standard_normal((k, 5))
    W[0] = [5e-324, -1e-322, 0.0]
    certificate = lipschitz(Network.shallow(W, np.zeros(5), V))
    usual = lipschitz(Network.shallow(W[1:], np.zeros(4), V[:, 1:]))
    assert usual.lower <= certificate.check(Network.shallow(W, np.zeros(5), V)) <= usual.bound * (1 + 1e-6)
    assert 0.0 <= certificate.slack <= certificate.bound


def test_zero_and_tiny_networks():
    zero = Network.shallow(np.zeros((3, 2)), np.ones(3), np.ones(3))
    for norm, method in [(2, "lipsdp"), (2, "product"), (np.inf, "max_gradient"), (np.inf, "product")]:
        assert lipschitz(zero, norm=norm, method=method).bound == 0.0
    assert lipschitz(Network.shallow([[2.0]], [1.0], [-3.0])).bound == pytest.approx(6.0, rel=1e-9)
    cancel = Network.shallow([[1.0, 2.0], [1.0, 2.0]], [0.0, 1.0], [1.0, -1.0])  # b_0 = 0 exactly: LipSDP = |u|
    assert lipschitz(cancel).bound == pytest.approx(math.sqrt(5.0), rel=1e-7)


def test_pairs(rng):
    network = Network.shallow(rng.standard_normal((10, 4)), rng.standard_normal(10), rng.standard_normal((3, 10)))
    L = lipschitz_pairs(network)
    np.testing.assert_array_equal(L, L.T)
    np.testing.assert_array_equal(np.diag(L), 0.0)
    assert L.max() <= math.sqrt(2.0) * lipschitz(network).bound * (1 + 1e-9)
    for a, b in itertools.combinations(range(3), 2):
        assert L[a, b] >= lipschitz_lower_bound(network.margin(a, b))
        assert L[a, b] == pytest.approx(lipschitz(network.margin(a, b)).bound, rel=1e-12)
    with pytest.raises(InvalidInputError, match="two outputs"):
        lipschitz_pairs(network.select(0))


def test_deep_networks_have_the_product_bound(rng):
    layers = tuple((rng.standard_normal(s), rng.standard_normal(s[0])) for s in [(6, 4), (5, 6), (2, 5)])
    network = Network(layers, "relu")
    certificate = lipschitz(network, method="product")
    assert certificate.method == "product_l2"
    assert certificate.bound >= lipschitz_lower_bound(network)
    assert certificate.check(network) == certificate.bound
    assert lipschitz(network, norm=np.inf).bound >= lipschitz_lower_bound(network, norm=np.inf)
    assert lipschitz_pairs(network)[0, 1] >= lipschitz_lower_bound(network.margin(0, 1))
    for method, norm in [("lipsdp", 2), ("lmi", 2), ("max_gradient", np.inf)]:
        with pytest.raises(UnsupportedModelError, match="product"):
            lipschitz(network, method=method, norm=norm)
    with pytest.raises(UnsupportedModelError):
        best_pattern_bound(network)


def test_bad_requests_are_sentences(rng):
    network = random_network(rng, 4, 2)
    with pytest.raises(InvalidInputError, match="norm must be"):
        lipschitz(network, norm=1)
    with pytest.raises(InvalidInputError, match="methods are"):
        lipschitz(network, norm=np.inf, method="lipsdp")
    with pytest.raises(SolverError, match="not installed"):
        lipschitz(network, method="lmi", solver="nonsense")
    if mosek_refusal() is not None:
        with pytest.raises(SolverError, match="(?i)mosek"):
            lipschitz(network, method="lmi", solver="mosek")
    with pytest.raises(InvalidInputError, match="norm must be"):
        lipschitz_lower_bound(network, norm=3)
    with pytest.raises(InvalidInputError, match="finite array"):
        lipschitz_lower_bound(network, np.ones((3, 5)))
    square = Network.shallow(network.W, network.b, network.v, 0.0, Polynomial(0.09, 0.5, 0.47))
    with pytest.raises(UnsupportedModelError, match="polynomial"):
        lipschitz(square)


@pytest.mark.parametrize(
    ("norm", "method", "k"),
    [
        (2, "lipsdp", 1),
        (2, "lipsdp", 3),
        (2, "lmi", 1),
        (2, "product", 2),
        (np.inf, "max_gradient", 2),
        (np.inf, "product", 1),
    ],
)
def test_certificates_travel_and_refuse_tampering(rng, tmp_path, norm, method, k):
    network = random_network(rng, 6, 3, k)
    certificate = lipschitz(network, norm=norm, method=method)
    assert certificate.threat == ("l2" if norm == 2 else "linf")
    assert 0.0 <= certificate.slack <= 1e-6 * certificate.bound
    certificate.save(tmp_path / "certificate.npz")
    loaded = Certificate.load(tmp_path / "certificate.npz")
    assert loaded.check(network) == pytest.approx(certificate.bound, rel=1e-12)
    with pytest.raises(CertificateError):
        dataclasses.replace(loaded, bound=0.9 * certificate.bound).check(network)
    with pytest.raises(CertificateError):
        loaded.check(random_network(rng, 6, 3, k))
    if loaded.multiplier:
        empty = dataclasses.replace(loaded, multiplier={})
        with pytest.raises(CertificateError):
            empty.check(network)


def test_best_pattern_is_between_sampling_and_lipsdp(rng):
    for k in (1, 3):
        network = Network.shallow(rng.standard_normal((10, 3)), rng.standard_normal(10), rng.standard_normal((k, 10)))
        V = network.layers[1][0]
        exact = max(np.linalg.norm((V * np.array(p)) @ network.W, 2) for p in itertools.product([0.0, 1.0], repeat=10))
        found = best_pattern_bound(network)
        assert found <= exact * (1 + 1e-9)
        assert found >= 0.97 * exact
        assert found <= lipschitz(network).bound


def test_lower_bound_skips_kinks():
    """At x = 0 all ReLUs tie; the all-active gradient 2 is attained nowhere: the slopes are 1 and -1 (times 1)."""
    network = Network.shallow([[1.0], [-1.0]], [0.0, 0.0], [1.0, -1.0])  # f(x) = relu(x) - relu(-x) = x
    assert lipschitz_lower_bound(network, np.zeros((1, 1)), n_samples=0) == 0.0
    assert lipschitz_lower_bound(network) == pytest.approx(1.0)


def test_inf_max_gradient_never_below_attained():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        network = random_network(rng, m=int(rng.integers(1, 12)), d=int(rng.integers(1, 8)), k=int(rng.integers(1, 3)))
        bound = lipschitz(network, norm=np.inf, tol=1e-6).bound
        assert bound >= lipschitz_lower_bound(network, norm=np.inf, n_samples=200)
        assert bound <= lipschitz(network, norm=np.inf, method="product").bound * (1 + 1e-6)


def test_networks_between_two_networks(rng):
    """F3 at the level of networks: the bound of the mean of two sets of units is at most the mean of the bounds."""
    for _ in range(20):
        U, Z = rng.standard_normal((2, 6, 3))
        ones, zeros = np.ones(6), np.zeros(6)
        left, right, middle = (lipschitz(Network.shallow(X, zeros, ones)) for X in (U, Z, 0.5 * (U + Z)))
        assert middle.lower <= 0.5 * (left.bound + right.bound)


def test_check_accepts_the_factor(rng):
    network = random_network(rng, 12, 4)
    factor = maximize(stack(network.W, network.v)).factor
    assert check_lipsdp(network, {"S": factor}) == pytest.approx(lipschitz(network).bound, rel=1e-7)
    assert check_lipsdp(network, {}) == math.inf

"""The LipSDP kernel: value against brute force, a certificate for every multiplier, gradients, extreme scales."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError
from convexnn.lipsdp import (
    gradient,
    gradient_vector,
    maximize,
    maximize_linf,
    maximize_vector,
    multiplier_from_factor,
    multiplier_from_t,
    multiplier_from_t_vector,
    stack,
    stack_rounded,
    t_from_multiplier,
    t_from_multiplier_vector,
    upper_bound,
    upper_bound_linf,
    upper_bound_vector,
)

SLOPES = [(0.0, 1.0), (0.01, 1.0), (0.0, 0.25), (-0.2, 0.7), (1.0, 1.0)]


def weights(rng, m, d, k=None):
    """Random W (m, d) and v (m,) or V (k, m)."""
    shape = (m,) if k is None else (k, m)
    return rng.standard_normal((m, d)) / np.sqrt(d), rng.standard_normal(shape) / np.sqrt(m)


def pattern_maximum(W, V, slopes=(0.0, 1.0), order=2):
    """Largest gradient norm over all patterns of extreme slopes, realizable or not."""
    V = np.atleast_2d(V)
    patterns = itertools.product(slopes, repeat=len(W))
    return max(np.linalg.norm((V * np.array(p)) @ W, order) for p in patterns)


def factorless_bound(W, v, q):
    """The bound as the formula says it, in plain float64."""
    B = stack(W, v)
    return 0.5 * math.sqrt(q.sum() * np.linalg.eigvalsh((B.T / q) @ B)[-1])


@pytest.mark.parametrize("slopes", SLOPES)
def test_rows_give_every_gradient(rng, slopes):
    """(b_0 + sum s_i b_i) / 2 with s_i = +-1 is the gradient with slopes lo or hi."""
    W, v = weights(rng, 5, 3)
    B = stack(W, v, slopes)
    s = rng.choice([-1.0, 1.0], 5)
    delta = np.where(s > 0, slopes[1], slopes[0])
    np.testing.assert_allclose(0.5 * (B[0] + s @ B[1:]), (v * delta) @ W, atol=1e-14)


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize(("m", "d"), [(1, 1), (1, 4), (6, 1), (7, 3), (5, 9), (9, 9)])
def test_value_lies_between_patterns_and_their_gaussian_rounding_factor(rng, m, d, slopes):
    """max pattern <= LipSDP <= sqrt(pi / 2) max pattern (Gaussian rounding of the factor)."""
    W, v = weights(rng, m, d)
    result = maximize(stack(W, v, slopes))
    best = pattern_maximum(W, v, slopes)
    assert result.upper >= best
    assert result.lower <= math.sqrt(math.pi / 2) * best * (1 + 1e-12)
    assert result.lower <= result.upper <= result.lower * (1 + 1e-8)


@pytest.mark.parametrize(("m", "d"), [(20, 4), (100, 10), (60, 30), (30, 100), (400, 6), (1000, 40)])
def test_certified_gap(rng, m, d):
    result = maximize(stack(*weights(rng, m, d)))
    assert result.upper <= result.lower * (1 + 1e-8)
    assert np.linalg.norm(result.factor) == pytest.approx(1.0)
    assert result.multiplier.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("m", "d"), [(50, 5), (100, 10), (200, 20)])
def test_tighter_tolerance_is_reached(rng, m, d):
    result = maximize(stack(*weights(rng, m, d)), tol=1e-10)
    assert result.upper <= result.lower * (1 + 1e-10)


def test_warm_start_needs_few_steps(rng):
    W, v = weights(rng, 200, 10)
    cold = maximize(stack(W, v))
    near = stack(W + 1e-6 * rng.standard_normal(W.shape), v)
    warm = maximize(near, start=cold.factor)
    assert warm.iterations < cold.iterations
    assert warm.upper <= warm.lower * (1 + 1e-8)


def test_a_start_of_low_rank_is_escaped(rng):
    """One column gives a local value only; the certificate sees it and the rank grows."""
    B = stack(*weights(rng, 300, 10))
    result = maximize(B, start=np.eye(10, 1))
    assert result.upper <= result.lower * (1 + 1e-8)
    assert result.factor.shape[1] > 1


def test_hand_cases():
    # f = relu(x) - relu(x - 1): b_0 = 0, b_1 = 1, b_2 = -1, so LipSDP = (0 + 1 + 1) / 2 = 1, the true constant
    assert maximize(stack([[1.0], [1.0]], [1.0, -1.0])).upper == pytest.approx(1.0, rel=1e-9)
    # one unit: b_0 = b_1 = v w, LipSDP = |v| |w|
    assert maximize(stack([[3.0, 4.0]], [-2.0])).upper == pytest.approx(10.0, rel=1e-9)
    # orthogonal units of one sign: all active is the worst pattern, sqrt(1 + 1)
    assert maximize(stack(np.eye(2), [1.0, 1.0])).upper >= math.sqrt(2.0)
    # identity activation: the gradient is constant
    assert maximize(stack([[1.0, 2.0], [0.0, 1.0]], [1.0, 1.0], (1.0, 1.0))).upper == pytest.approx(math.sqrt(10.0))


def test_zero_weights():
    result = maximize(np.zeros((4, 3)))
    assert (result.lower, result.upper) == (0.0, 0.0)
    assert upper_bound(np.zeros((4, 3)), np.zeros(4)) == 0.0


def test_zero_and_repeated_units_change_nothing(rng):
    W, v = weights(rng, 12, 4)
    value = maximize(stack(W, v)).upper
    with_zeros = maximize(
        stack(np.vstack([W, np.zeros((3, 4)), W[:2]]), np.concatenate([v, [1.0, 2.0, 0.0], [0.0, 0.0]]))
    )
    assert with_zeros.upper == pytest.approx(value, rel=2e-8)
    split = maximize(stack(np.vstack([W, W]), np.concatenate([0.5 * v, 0.5 * v])))
    assert split.upper == pytest.approx(value, rel=2e-8)  # u_i halved and doubled: the same sum of norms


@pytest.mark.parametrize("scale", [1e-150, 1e-75, 1e75, 1e150])
def test_scale_is_taken_out(rng, scale):
    B = stack(*weights(rng, 30, 5))
    result, scaled = maximize(B), maximize(B * scale)
    assert scaled.upper / scale == pytest.approx(result.upper, rel=1e-8)
    assert upper_bound(B * scale, result.multiplier) == pytest.approx(scale * result.upper, rel=1e-12)


def test_units_of_very_different_size(rng):
    W, v = weights(rng, 40, 6)
    sizes = 10.0 ** np.linspace(-160, 0, 40)
    result = maximize(stack(sizes[:, None] * W, v))
    assert result.upper <= result.lower * (1 + 1e-8)
    assert maximize(np.array([[1e300], [1e-300], [1e300]])).upper == pytest.approx(1e300)


@pytest.mark.parametrize("scale", [1e-200, 1e-150, 1e150])
def test_rows_of_extreme_networks_do_not_vanish(rng, scale):
    """Products v_i w_i below or above the range of float64 are carried by the exponent."""
    W, v = weights(rng, 6, 3)
    rows, extreme = stack_rounded(W, v), stack_rounded(W * scale, v * scale)
    assert np.abs(extreme.B).max() >= 0.1
    assert maximize(extreme.B).upper * 2.0 ** (
        extreme.exponent - rows.exponent - 2 * math.log2(scale)
    ) == pytest.approx(maximize(rows.B).upper, rel=1e-6)


def test_row_errors_are_covered(rng):
    B = stack(*weights(rng, 10, 4))
    error = np.full(11, 1e-3)
    q = multiplier_from_factor(B, maximize(B).factor)
    bound = upper_bound(B, q, error)
    for _ in range(50):
        shift = rng.standard_normal(B.shape)
        shift *= error[:, None] / np.linalg.norm(shift, axis=1, keepdims=True)
        assert upper_bound(B + shift, q) <= bound


@pytest.mark.parametrize("seed", range(30))
def test_every_multiplier_proves_a_bound(seed):
    rng = np.random.default_rng(seed)
    W, v = weights(rng, int(rng.integers(1, 8)), int(rng.integers(1, 6)))
    B, best = stack(W, v), pattern_maximum(W, v)
    good = maximize(B).multiplier
    candidates = [
        rng.random(len(good)) + 1e-12,
        rng.permutation(good),
        1e-30 * good,
        1e30 * good,
        good + 1e-9,
        multiplier_from_factor(B, rng.standard_normal((B.shape[1], 2))),
        multiplier_from_factor(B, 1e200 * rng.standard_normal((B.shape[1], 1))),
        10.0 ** rng.uniform(-300, 300, len(good)),
        multiplier_from_t(v, t_from_multiplier(v, good)),
    ]
    for q in candidates:
        assert upper_bound(B, q) >= best


@pytest.mark.parametrize("corrupt", [math.nan, math.inf, -1e-300, 0.0])
def test_invalid_multipliers_prove_nothing(rng, corrupt):
    B = stack(*weights(rng, 5, 3))
    q = maximize(B).multiplier.copy()
    q[2] = corrupt
    assert upper_bound(B, q) == math.inf
    assert upper_bound(B, q[:-1]) == math.inf
    assert upper_bound(B, math.nan) == math.inf


def test_invalid_factors_prove_nothing(rng):
    B = stack(*weights(rng, 5, 3))
    for S in (np.full((3, 2), math.nan), np.ones((4, 2)), np.ones(3)):
        assert upper_bound(B, multiplier_from_factor(B, S)) == math.inf


def test_bad_rows_are_refused():
    with pytest.raises(InvalidInputError, match="finite matrix"):
        maximize(np.array([[math.nan]]))
    with pytest.raises(InvalidInputError, match="shape"):
        stack(np.ones((3, 2)), np.ones(4))
    with pytest.raises(InvalidInputError, match="nan or inf"):
        stack_rounded(np.full((2, 2), math.inf), np.ones(2))
    with pytest.raises(InvalidInputError, match="start"):
        maximize(np.ones((3, 2)), start=np.ones((3, 1)))


def test_woodbury_identity(rng):
    """F1: T (2T - v v')^-1 T = T / 2 + v v' / (4 tau), tau = 1 - 1/2 sum v_i^2 / t_i."""
    _, v = weights(rng, 6, 3)
    t = 4.0 * v**2 * 6 * (1.0 + rng.random(6))
    T, tau = np.diag(t), 1.0 - 0.5 * np.sum(v**2 / t)
    left = T @ np.linalg.solve(2 * T - np.outer(v, v), T)
    np.testing.assert_allclose(left, 0.5 * T + 0.25 * np.outer(v, v) / tau, rtol=1e-10)


def test_multiplier_and_t_prove_the_same_bound(rng):
    W, v = weights(rng, 8, 3)
    q = maximize(stack(W, v)).multiplier
    t = t_from_multiplier(v, q)
    T = np.diag(t)
    paper = math.sqrt(np.linalg.eigvalsh(W.T @ T @ np.linalg.solve(2 * T - np.outer(v, v), T) @ W)[-1])
    assert paper == pytest.approx(factorless_bound(W, v, q), rel=1e-7)
    np.testing.assert_allclose(multiplier_from_t(v, t), q, atol=1e-14)
    assert np.isnan(multiplier_from_t(v, -t)).any()


@pytest.mark.parametrize("slopes", SLOPES[:4])
def test_gradient_is_the_derivative(rng, slopes):
    W, v = weights(rng, 15, 4)
    result = maximize(stack(W, v, slopes), tol=1e-12)
    dW, dv = gradient(W, v, result.factor, slopes)
    A, a, h = rng.standard_normal(W.shape), rng.standard_normal(v.shape), 1e-5
    plus, minus = (maximize(stack(W + s * A, v + s * a, slopes), 1e-12).lower for s in (h, -h))
    assert np.vdot(dW, A) + dv @ a == pytest.approx((plus - minus) / (2 * h), rel=1e-6)


def test_midpoint_convexity_and_homogeneity(rng):
    """F3: LipSDP is a norm of the units u_i = v_i w_i."""
    for _ in range(40):
        U, Z = rng.standard_normal((2, 9, 3))
        value = [maximize(stack(X, np.ones(9))) for X in (U, Z, 0.5 * (U + Z))]
        assert value[2].lower <= 0.5 * (value[0].upper + value[1].upper)
        assert maximize(stack(-3.0 * U, np.ones(9))).upper == pytest.approx(3.0 * value[0].upper, rel=2e-8)


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize(("m", "d", "k"), [(1, 1, 1), (1, 3, 2), (6, 3, 2), (7, 2, 5), (5, 8, 3)])
def test_vector_value_and_patterns(rng, m, d, k, slopes):
    W, V = weights(rng, m, d, k)
    result = maximize_vector(W, V, slopes=slopes)
    best = pattern_maximum(W, V, slopes)
    assert best <= result.upper * (1 + 1e-14)
    assert result.lower <= math.pi / 2 * best * (1 + 1e-12)
    assert result.lower <= result.upper <= result.lower * (1 + 1e-8)
    start = rng.standard_normal((d, d + k)), rng.standard_normal((k, d + k))
    walked = maximize_vector(W, V, start=start, slopes=slopes)  # from given factors: quasi-Newton steps, not Newton's
    assert walked.upper == pytest.approx(result.upper, rel=1e-7)
    assert walked.lower <= result.upper * (1 + 1e-14)
    assert result.lower <= walked.upper * (1 + 1e-14)


def test_one_output_agrees_in_both_forms(rng):
    for m, d in [(20, 4), (10, 30), (200, 8)]:
        W, V = weights(rng, m, d, 1)
        assert maximize_vector(W, V).upper == pytest.approx(maximize(stack(W, V[0])).upper, rel=5e-8)


@pytest.mark.parametrize("seed", range(20))
def test_every_vector_multiplier_proves_a_bound(seed):
    rng = np.random.default_rng(seed)
    W, V = weights(rng, int(rng.integers(1, 7)), int(rng.integers(1, 6)), int(rng.integers(1, 4)))
    best, good = pattern_maximum(W, V), maximize_vector(W, V).multiplier
    assert upper_bound_vector(W, V, good) >= best * (1 - 1e-14)
    wild = 10.0 ** rng.uniform(-200, 200, len(good))
    for q in (rng.random(len(good)) + 1e-9, rng.permutation(good), 1e-3 * good, 1e20 * good, wild):
        assert upper_bound_vector(W, V, q) >= best
    for bad in (math.nan, -1.0, 0.0, math.inf):
        assert upper_bound_vector(W, V, np.where(np.arange(len(good)) == 0, bad, good)) == math.inf
    assert upper_bound_vector(W, V, np.append(good, 1.0)) == math.inf


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_vector_scaling_of_units(rng, scale):
    """(w / a, a v) is the same network, also near the limits of float64."""
    W, V = weights(rng, 9, 4, 3)
    value = maximize_vector(W, V)
    a = np.where(np.arange(9) % 2, scale, 1.0 / scale)
    rescaled = maximize_vector(W / a[:, None], V * a)
    assert rescaled.upper == pytest.approx(value.upper, rel=1e-7)
    assert maximize_vector(W * 1e100, V * 1e-30).upper == pytest.approx(1e70 * value.upper, rel=1e-7)


def test_vector_zero_units_and_zero_network(rng):
    W, V = weights(rng, 6, 3, 2)
    value = maximize_vector(W, V).upper
    padded = maximize_vector(np.vstack([W, np.zeros((2, 3)), W[:1]]), np.hstack([V, np.ones((2, 2)), np.zeros((2, 1))]))
    assert padded.upper == pytest.approx(value, rel=1e-7)
    assert maximize_vector(np.zeros((3, 2)), np.ones((2, 3))).upper == 0.0


@pytest.mark.parametrize("slopes", SLOPES[:4])
def test_vector_t_and_q_are_the_same_certificate(rng, slopes):
    W, V = weights(rng, 8, 3, 2)
    result = maximize_vector(W, V, slopes=slopes)
    t = t_from_multiplier_vector(result.multiplier, result.upper * (1 + 1e-9), slopes)
    assert upper_bound_vector(W, V, multiplier_from_t_vector(W, V, t, slopes), slopes) == pytest.approx(
        result.upper, rel=1e-7
    )
    assert np.isnan(multiplier_from_t_vector(W, V, 1e-6 * t, slopes)).all()


@pytest.mark.parametrize("slopes", SLOPES[:4])
def test_vector_gradient_is_the_derivative(rng, slopes):
    W, V = weights(rng, 15, 4, 3)
    result = maximize_vector(W, V, tol=1e-10, slopes=slopes)
    dW, dV = gradient_vector(W, V, result.factors, slopes)
    A, C, h = rng.standard_normal(W.shape), rng.standard_normal(V.shape), 1e-4
    plus, minus = (maximize_vector(W + s * A, V + s * C, 1e-10, slopes=slopes).lower for s in (h, -h))
    assert np.vdot(dW, A) + np.vdot(dV, C) == pytest.approx((plus - minus) / (2 * h), rel=1e-4)


@pytest.mark.parametrize(("m", "d"), [(1, 1), (1, 4), (6, 1), (7, 3), (5, 9)])
def test_linf_value_and_patterns(rng, m, d):
    """max pattern <= value <= 1.783 max pattern (Grothendieck's constant); every multiplier proves a bound."""
    W, v = weights(rng, m, d)
    B, best = stack(W, v), pattern_maximum(W, v, order=np.inf)
    result = maximize_linf(B)
    assert best <= result.upper * (1 + 1e-14)
    assert result.lower <= 1.783 * best
    assert result.upper <= result.lower * (1 + 1e-7)
    for _ in range(5):
        assert upper_bound_linf(B, rng.random(m + 1) + 1e-9, rng.random(d) + 1e-9) >= best
    for bad in (math.nan, -1.0):
        assert upper_bound_linf(B, np.full(m + 1, bad), result.y) == math.inf
        assert upper_bound_linf(B, result.q, np.full(d, bad)) == math.inf


def test_linf_zero_network():
    assert maximize_linf(np.zeros((3, 2))).upper == 0.0


@pytest.mark.slow
def test_large_networks_within_their_time(rng):
    """Process time; the floors are 1 s for 10,000 x 50 and 60 s for 10,000 x 784 on one core."""
    import time

    W, v = weights(rng, 10_000, 50)
    before = time.process_time()
    result = maximize(stack(W, v), tol=1e-7)
    assert result.upper <= result.lower * (1 + 1e-7)
    assert time.process_time() - before < 2.0

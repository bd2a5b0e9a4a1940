"""Optimized slopes and tensions: between samples and CROWN, optimal for the relaxation, right for any multiplier."""

from __future__ import annotations

import time

import numpy as np
import pytest
from _propagation import ACTIVATIONS, random_network, random_query, signs_at, with_signs

from convexnn.activations import Activation, LeakyReLU, ReLU, Tanh
from convexnn.exceptions import CertificateError
from convexnn.network import Network
from convexnn.propagation import ALPHA_CROWN, CROWN, IBP, Effort, InputSet, Query, crown_bounds
from convexnn.propagation.backward import Choice
from convexnn.propagation.crown import last_layer
from convexnn.propagation.slopes import SlopeProblem
from convexnn.threats import L2Ball, LInfBall

each_activation = pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)


def problem_of(query):
    """The slope problem of the rows."""
    layers = crown_bounds(query).layers(query)
    return SlopeProblem(layers, query.inputs, *last_layer(query, layers[-1].reach))


def bound_of(query, **effort):
    """What the evidence of a descent proves."""
    return ALPHA_CROWN.check(query, ALPHA_CROWN.propose(query, Effort(**effort)).multiplier)


@each_activation
def test_intervals_crown_optimized_slopes_samples(activation, rng):
    for _ in range(3):
        query, X = random_query(rng, activation)
        values = query.values(X)
        found, linear = bound_of(query, max_iter=8), CROWN.check(query, {})
        assert (found <= linear).all()
        assert (linear <= IBP.check(query, {})).all()
        assert (found >= values.max(axis=0) - 1e-13 * np.abs(values).max()).all()


@each_activation
def test_any_multiplier_gives_a_bound(activation, rng):
    for _ in range(3):
        query, X = random_query(rng, activation)
        query = query.with_signs(signs_at(rng, query, X[0], share=rng.choice([0.0, 0.5, 1.0])))
        kept = with_signs(query, X, query.signs)
        values, linear = query.values(kept), CROWN.check(query, {})
        good = ALPHA_CROWN.propose(query, Effort(max_iter=3)).multiplier
        tensions = {f"row{r}/tension/{k}": np.zeros(m) for r in range(2) for k, m in enumerate(query.network.n_hidden)}
        for power in (0, 150, 307):
            bad = {}
            for key, value in {**good, **tensions}.items():
                noise = rng.standard_normal(value.shape) * 10.0**power
                bad[key] = np.where(rng.random(value.shape) < 0.1, rng.choice([np.nan, np.inf, -np.inf]), noise)
            found = ALPHA_CROWN.check(query, bad)
            assert (found <= linear).all()
            assert (found >= values.max(axis=0) - 1e-13 * np.abs(values).max()).all()


def test_wrong_shapes_are_refused(rng):
    query, _ = random_query(rng, ReLU())
    for key, wrong in (("row0/slopes/0", np.zeros(99)), ("row1/tension/0", np.zeros((2, 2)))):
        with pytest.raises(CertificateError, match=key):
            ALPHA_CROWN.check(query, {key: wrong})


@each_activation
def test_gradients_are_derivatives(activation, rng):
    for _ in range(6):
        query, X = random_query(rng, activation)
        query = query.with_signs(signs_at(rng, query, X[0]))
        problem = problem_of(query)
        shapes = [(query.n_rows, m) for m in query.network.n_hidden]
        choice = Choice([rng.random(s) for s in shapes], [0.1 * rng.standard_normal(s) for s in shapes])
        value, gradient, _ = problem.value_and_gradient(choice)
        moves = Choice(*([rng.standard_normal(s) for s in shapes] for _ in range(2)))
        rate = sum(
            (g * m).sum(axis=1)
            for ours, theirs in ((gradient.shares, moves.shares), (gradient.tensions, moves.tensions))
            for g, m in zip(ours, theirs, strict=True)
        )

        def moved(t, choice=choice, moves=moves):
            pairs = ((choice.shares, moves.shares), (choice.tensions, moves.tensions))
            return Choice(*([a + t * b for a, b in zip(*pair, strict=True)] for pair in pairs))

        t = 1e-6
        ahead, behind = (problem.value_and_gradient(moved(sign * t))[0] for sign in (1, -1))
        size = 1e-6 + np.abs(value) + np.abs(rate)
        # one-sided differences bracket the derivative of a piecewise smooth function where it has no kink
        slopes = np.stack([(ahead - value) / t, (value - behind) / t])
        smooth = np.abs(slopes[0] - slopes[1]) <= 1e-3 * size
        assert (np.abs(slopes.mean(axis=0) - rate) <= 2e-3 * size)[smooth].all()
        assert smooth.mean() >= 0.3


def test_the_computed_value_is_what_the_check_proves(rng):
    for _ in range(10):
        query, _ = random_query(rng, LeakyReLU(0.2))
        value, _, points = problem_of(query).value_and_gradient(Choice.none(len(query.network.n_hidden)))
        linear = CROWN.check(query, {})
        assert (linear <= value + 1e-9 * (1.0 + np.abs(value))).all()
        low, high = query.inputs.bounding_box()
        assert ((points >= low) & (points <= high)).all()


def triangle_value(query, r, slopes_below=0.0):
    """The triangle relaxation with these bounds and signs, by a generic solver."""
    import cvxpy as cp

    inputs, low = query.inputs, slopes_below
    x = cp.Variable(len(inputs.centre))
    rows = [cp.norm(x - inputs.centre) <= inputs.radius] if inputs.has_ball else []
    rows += [x >= inputs.lower, x <= inputs.upper] if inputs.has_box else []
    h = x
    for k, layer in enumerate(crown_bounds(query).layers(query)):
        s, z = layer.W @ h + layer.b, cp.Variable(len(layer.b))
        chord, start = layer.lines.above, np.maximum(layer.lower, low * layer.lower)
        rows += [z >= s, z >= low * s, z <= start + cp.multiply(chord, s - layer.lower)]
        if query.signs is not None:
            rows.append(cp.multiply(query.signs[k].astype(float), s) >= 0)
        h = z
    W, b = query.network.layers[-1]
    problem = cp.Problem(cp.Maximize((query.weights[r] @ W) @ h + query.weights[r] @ b + query.offset[r]), rows)
    problem.solve(solver="CLARABEL")
    return problem.value


@pytest.mark.slow
@pytest.mark.parametrize(
    "threat", [LInfBall(0.3), L2Ball(0.6), L2Ball(0.6, clip=(-0.5, 0.5)), LInfBall(0.5, clip=(0, 1))]
)
@pytest.mark.parametrize("hidden", [(12,), (9, 7)], ids=str)
def test_best_slopes_reach_the_triangle_relaxation(threat, hidden, rng):
    for activation in (ReLU(), LeakyReLU(0.1)):
        sizes = (6, *hidden, 3)
        layers = [
            (rng.standard_normal((o, i)), 0.2 * rng.standard_normal(o)) for i, o in zip(sizes, sizes[1:], strict=False)
        ]
        network, x = Network(layers, activation), 0.3 * rng.random(6)
        query = Query.of_rivals(network, x, 0, threat)
        before = CROWN.check(query, {})
        signed = query.with_signs(signs_at(rng, query, x, share=0.4))
        for asked in (query, signed):
            found = ALPHA_CROWN.check(
                asked, ALPHA_CROWN.propose(asked, Effort(max_iter=800), crown_bounds(asked)).multiplier
            )
            for r in range(2):
                optimum = triangle_value(asked, r, activation.slopes[0])
                assert optimum - 1e-5 <= found[r] <= optimum + 0.01 * max(before[r] - optimum, 0.1)


def test_all_signs_known_is_a_linear_network():
    # f = relu(x0) + relu(x1) on |x|_2 <= 1 with x0 >= 0 >= x1 is x0: its maximum is 1, and that of x1 - ... below
    network = Network.shallow(np.eye(2), np.zeros(2), [1.0, 1.0])
    query = Query(network, InputSet.around(np.zeros(2), L2Ball(1.0)), np.ones((1, 1)), np.zeros(1))
    signed = query.with_signs((np.array([1, -1], dtype=np.int8),))
    assert bound_of(signed) == pytest.approx([1.0], abs=1e-9)
    # the same around (-1, 1) with radius 1.2: x0 >= 0 and x1 <= 0 are 1.41 away, so nothing is left
    far = Query(network, InputSet.around(np.array([-1.0, 1.0]), L2Ball(1.2)), np.ones((1, 1)), np.zeros(1))
    far = far.with_signs((np.array([1, -1], dtype=np.int8),))
    # tensions see it: the bound falls far below the values that x0 has there
    assert bound_of(far, max_iter=60)[0] < 0.0


def test_stops(rng):
    network = random_network(rng, ReLU(), hidden=(2, 3), width=20)
    query = Query.of_rivals(network, rng.standard_normal(network.n_inputs), 0, L2Ball(0.5))
    best = bound_of(query)
    below = ALPHA_CROWN.propose(query, Effort(stop_below=float(best.max()) + 1.0))
    assert below.status == "below"
    assert below.iterations == 1
    attained = query.values(query.inputs.centre[None])[0]
    hopeless = ALPHA_CROWN.propose(query, Effort(stop_below=float(attained.min()) - 1.0))
    assert hopeless.status == "hopeless"
    assert hopeless.iterations == 1
    assert hopeless.points.shape == (2, network.n_inputs)
    late = ALPHA_CROWN.propose(query, Effort(deadline=time.monotonic()))
    assert late.status == "time_limit"
    assert (ALPHA_CROWN.check(query, late.multiplier) <= CROWN.check(query, {})).all()


def test_a_radius_of_zero_is_the_value_at_the_sample(rng):
    for activation in ACTIVATIONS:
        network = random_network(rng, activation)
        x = rng.standard_normal(network.n_inputs)
        query = Query.of_rivals(network, x, 0, L2Ball(0.0))
        assert bound_of(query, max_iter=2) == pytest.approx(query.values(x[None])[0], abs=1e-9)


def test_huge_sets_give_finite_or_infinite_bounds_never_nan(rng):
    for radius in (1e6, 1e200):
        for activation in (ReLU(), Tanh(), ACTIVATIONS[-1]):
            network = random_network(rng, activation)
            query = Query.of_rivals(network, np.zeros(network.n_inputs), 0, LInfBall(radius))
            found = bound_of(query, max_iter=3)
            assert not np.isnan(found).any()
            with np.errstate(all="ignore"):
                values = query.values(np.full((1, network.n_inputs), radius))[0]
            assert (found >= values - 1e-9 * np.abs(values))[np.isfinite(values)].all()


def test_other_activations_are_refused_in_words(rng):
    class Odd(Activation):
        name = "odd"

    network = random_network(rng, ReLU())
    query = Query.of_rivals(Network(network.layers, Odd()), np.zeros(network.n_inputs), 0, L2Ball(1.0))
    for certifier in (IBP, CROWN, ALPHA_CROWN):
        assert "not 'odd'" in certifier.refusal(query)
        assert certifier.refusal(Query.of_rivals(network, np.zeros(network.n_inputs), 0, L2Ball(1.0))) is None

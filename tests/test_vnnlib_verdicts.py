"""Verdicts on properties: against enumeration on tiny networks, inverted properties, ties, corners, limits."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from convexnn.exceptions import InvalidInputError
from convexnn.exchange import Case, Property
from convexnn.network import Network
from convexnn.verification.properties import verify_property
from convexnn.verification.property_attack import Rows, climb, pull_back
from convexnn.verification.property_bounds import BoxBounds
from convexnn.verification.property_points import is_unsafe
from convexnn.verification.property_strong import best_weights
from tests._shared import require_shared

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "sigmoid", "polynomial", "identity")


def made(rng, sizes, activation="relu"):
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return Network([(rng.normal(size=(m, d)), rng.normal(size=m)) for d, m in pairs], activation)


def case(rng, d, k, q, height, mixed=False, centre=None):
    middle = rng.normal(size=d) if centre is None else centre
    half, rows = rng.random(d), rng.normal(size=(q, k))
    inner = rng.normal(size=(q, d)) if mixed else np.zeros((q, d))
    return Case(middle - half, middle + half, rows, height * np.abs(rng.normal(size=q)), inner)


def exact(network, one):
    """Largest smallest row over the box of a case: shallow ReLU networks, a linear program for every sign pattern."""
    W, b, d = network.W, network.b, network.n_inputs
    V, c = network.layers[-1]
    best = -np.inf
    for signs in itertools.product((0.0, 1.0), repeat=len(b)):
        on = np.array(signs)
        A = one.rows @ (V * on) @ W + one.input_rows
        offset = one.rows @ (V @ (on * b) + c) + one.offset
        side = np.where(on, -1.0, 1.0)[:, None]
        rows = np.vstack([np.hstack([-A, np.ones((len(A), 1))]), np.hstack([side * W, np.zeros((len(b), 1))])])
        limits = np.concatenate([offset, -side[:, 0] * b])
        bounds = [*zip(one.lower, one.upper, strict=True), (None, None)]
        found = linprog(np.append(np.zeros(d), -1.0), A_ub=rows, b_ub=limits, bounds=bounds)
        best = max(best, -found.fun) if found.status == 0 else best
    return best


def check(network, prop, result):
    """What must hold of every result."""
    if result.status == "violated":
        X, Y = result.counterexample[None], result.outputs[None]
        assert prop.cases[result.case].contains(X, Y)[0]
        np.testing.assert_array_equal(network(X).reshape(1, -1), Y)
    if result.status == "holds":
        assert (result.bounds < 0).all()
        assert all(result.methods)
    assert (result.lower <= result.bounds).all() or result.status == "violated"
    assert (result.status == "unknown") == bool(result.reason)


@pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 12))])
def test_attack_below_exact_below_bound(seed):
    rng = np.random.default_rng(seed)
    for _ in range(3):
        d, k, m = (int(n) for n in rng.integers(1, (3, 4, 6)))
        network = made(rng, (d, m, k))
        shared = rng.normal(size=d) if rng.random() < 0.5 else None
        cases = [case(rng, d, k, int(rng.integers(1, 4)), -1.5, rng.random() < 0.3, shared) for _ in range(2)]
        prop = Property(tuple(cases), d, k)
        truth = np.array([exact(network, one) for one in prop.cases])
        result = verify_property(network, prop, random_state=0)
        check(network, prop, result)
        assert result.status == ("violated" if truth.max() >= 0 else "holds")
        looked = np.isfinite(result.bounds)
        assert (truth[looked] <= result.bounds[looked] + 1e-9).all()
        assert (result.lower <= truth + 1e-9).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_and_depth(rng, activation):
    for depth in (1, 2, 3):
        network = made(rng, (2, *[5] * depth, 2), activation)
        for height in (-4.0, -1.0, 0.5):
            prop = Property(tuple(case(rng, 2, 2, 2, height, mixed) for mixed in (False, True)), 2, 2)
            result = verify_property(network, prop, max_boxes=100, random_state=0)
            check(network, prop, result)
            X = [c.lower + (c.upper - c.lower) * rng.random((2000, 2)) for c in prop.cases]
            worst = [c.values(x, network(x)).min(axis=1).max() for c, x in zip(prop.cases, X, strict=True)]
            assert result.status != "holds" or max(worst) < 0
            assert (np.array(worst) <= result.bounds).all()


def test_a_property_and_its_opposite(rng):
    """``f >= a`` and ``f <= a`` cannot both be unreachable; outside the range of f one holds, one is violated."""
    network = made(rng, (2, 6, 5, 1))
    X = rng.uniform(-1, 1, (20_000, 2))
    low, high = network(X).min(), network(X).max()
    ends = np.full(2, -1.0), np.full(2, 1.0)

    def status(sign, level):
        prop = Property((Case(*ends, [[sign]], [-sign * level]),), 2, 1)
        return verify_property(network, prop, random_state=0).status

    for level in (low - 1.0, low - 0.05, 0.5 * (low + high), high + 0.05, high + 1.0):
        assert status(1.0, level) == ("violated" if level < high else "holds")
        assert status(-1.0, level) == ("violated" if level > low else "holds")


def test_rows_together_are_stronger_than_each_alone():
    """``y0 >= 0.5`` and ``y1 >= 0.5`` with y0 = relu(x), y1 = relu(-x): each is reachable, both are not."""
    network = Network.shallow([[1.0], [-1.0]], [0.0, 0.0], np.eye(2), [0.0, 0.0])
    both = Property((Case([-1.0], [1.0], np.eye(2), [-0.5, -0.5]),), 1, 2)
    result = verify_property(network, both, random_state=0)
    # y0 + y1 = |x| <= 1 is not enough for 0.5 + 0.5; the halves [-1, 0] and [0, 1] have y0 = 0 and y1 = 0
    assert (result.status, result.methods) == ("holds", ("bisection",))
    higher = Property((Case([-1.0], [1.0], np.eye(2), [-0.75, -0.75]),), 1, 2)
    result = verify_property(network, higher, random_state=0)
    assert (result.status, result.methods, result.n_boxes) == ("holds", ("rows",), 1)  # y0 + y1 <= 1 < 1.5
    for i in range(2):
        one = Property((Case([-1.0], [1.0], np.eye(2)[[i]], [-0.5]),), 1, 2)
        assert verify_property(network, one).status == "violated"


def test_ties_strict_rows_and_cases_without_rows():
    network = Network.shallow([[1.0]], [0.0], [1.0])  # relu(x)
    box = {"lower": [-2.0], "upper": [-1.0], "rows": [[1.0]], "offset": [0.0]}
    tie = verify_property(network, Property((Case(**box),), 1, 1))
    assert (tie.status, tie.rigorous) == ("violated", True)  # relu(x) >= 0 holds with equality everywhere
    strict = verify_property(network, Property((Case(**box, strict=[True]),), 1, 1), max_boxes=50)
    assert strict.status == "unknown"  # relu(x) > 0 is unreachable, but its closure is not
    assert "50 boxes" in strict.reason
    empty = Case([-2.0], [3.0], np.empty((0, 1)), [])
    reached = verify_property(network, Property((empty,), 1, 1))
    assert (reached.status, reached.case) == ("violated", 0)
    assert verify_property(network, Property((), 1, 1)).status == "holds"


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_counterexamples_are_judged_in_exact_arithmetic(rng, activation):
    """With the level at the float64 value of f itself, exact arithmetic decides; tanh and sigmoid are not rational."""
    network = made(rng, (2, 4, 1), activation)
    sure = set()
    for x in rng.normal(size=(10, 2)):
        level = network(x[None])[0]
        above = Case(x, x, [[1.0]], [-level + 1e-9])
        assert is_unsafe(network, above, x)
        assert not is_unsafe(network, Case(x, x, [[1.0]], [-level - 1e-9]), x)
        both = [is_unsafe(network, Case(x, x, [[sign]], [-sign * level]), x) for sign in (1.0, -1.0)]
        strict = [is_unsafe(network, Case(x, x, [[sign]], [-sign * level], strict=[True]), x) for sign in (1.0, -1.0)]
        assert sum(strict) <= 1
        sure.add(sum(both))
    assert sure == {0} if activation in ("tanh", "sigmoid") else sure <= {1, 2}  # one side, or both at an exact tie


def test_a_box_of_one_point():
    network = Network.shallow([[1.0, 2.0]], [0.5], [1.0])
    point = np.array([1.0, 1.0])  # f = 3.5
    for level, status in ((3.25, "violated"), (3.75, "holds")):
        prop = Property((Case(point, point, [[1.0]], [-level]),), 2, 1)
        assert verify_property(network, prop).status == status
    tie = Property((Case(point, point, [[1.0]], [-3.5]),), 2, 1)
    assert verify_property(network, tie).status == "violated"


def test_limits_are_kept_and_named(rng):
    network = made(rng, (3, 12, 12, 2), "tanh")
    X = rng.uniform(-1, 1, (5000, 3))
    top = (network(X) @ [1.0, -1.0]).max()
    close = Property((Case(-np.ones(3), np.ones(3), [[1.0, -1.0]], [-top - 1e-3]),), 3, 2)
    late = verify_property(network, close, time_limit=0.0)
    assert (late.status, late.reason, late.n_boxes) == ("unknown", "time limit", 0)
    few = verify_property(network, close, max_boxes=20, random_state=0)
    assert few.status != "unknown" or "20 boxes were not enough" in few.reason
    assert few.lower[0] <= few.bounds[0]
    for wrong in ({"time_limit": -1.0}, {"time_limit": np.nan}, {"method": "magic"}):
        with pytest.raises(InvalidInputError):
            verify_property(network, close, **wrong)
    with pytest.raises(InvalidInputError, match="2 inputs and 1 outputs"):
        verify_property(network, Property((), 2, 1))


def test_named_methods_and_many_inputs(rng):
    network = made(rng, (14, 8, 3))
    X = rng.uniform(-0.3, 0.3, (4000, 14))
    margin = network(X) @ [1.0, -1.0, 0.0]
    bounds = {}
    for method in ("crown", "alpha_crown", "branch_and_bound", "auto"):
        prop = Property((Case(np.full(14, -0.3), np.full(14, 0.3), [[1.0, -1.0, 0.0]], [-margin.max() - 1.0]),), 14, 3)
        result = verify_property(network, prop, method=method, max_boxes=60, random_state=0)
        check(network, prop, result)
        bounds[method] = result.bounds[0] + margin.max() + 1.0
    assert min(bounds.values()) >= margin.max()


def test_multipliers_of_any_kind_give_bounds(rng):
    """The combination of rows is bounded for any nonnegative weights, and nan gives nothing."""
    network = made(rng, (2, 5, 3))
    one = case(rng, 2, 3, 3, -1.0, mixed=True)
    rows, box = Rows.of([one]), BoxBounds.over(network, one.lower, one.upper)
    X = one.lower + (one.upper - one.lower) * rng.random((3000, 2))
    weights = np.vstack([rng.random((20, 3)), 1e8 * rng.random((5, 3)), 1e-300 * rng.random((5, 3)), np.zeros((1, 3))])
    found = box.of_combinations(rows, weights)
    assert (found >= (one.values(X, network(X)) @ weights.T).max(axis=0)).all()
    broken = box.of_combinations(rows, np.array([[np.nan, 1.0, 1.0], [np.inf, 0.0, 0.0]]))
    assert (broken == np.inf).all()


def linear_minimax(rng, d=20, q=4):
    """Rows that are linear in x on a box, and their largest smallest value by a linear program."""
    A, b = rng.normal(size=(q, d)), rng.normal(size=q)
    network = Network([(np.eye(d), np.zeros(d)), (A, b)], "identity")
    one = Case(-np.ones(d), np.ones(d), np.eye(q), np.zeros(q))
    found = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.hstack([-A, np.ones((q, 1))]),
        b_ub=b,
        bounds=[(-1, 1)] * d + [(None, None)],
    )
    return network, one, -found.fun


def test_attacks_settle_where_rows_balance(rng):
    for _ in range(2):
        network, one, best = linear_minimax(rng)
        start = rng.uniform(-1, 1, (4, 20))
        found = climb(network, Rows.of([one]), (one.lower, one.upper), np.zeros(4, dtype=int), start, 100)
        assert best - 0.1 * abs(best) <= found.values.max() <= best + 1e-9
        assert (np.abs(found.points) <= 1).all()


def test_the_best_combination_of_rows_is_found(rng):
    """Minimax: for linear rows the best combination has the largest value that the rows attain together."""
    network, one, best = linear_minimax(rng)
    shifted = Case(one.lower, one.upper, one.rows, np.full(4, -best - 0.5))
    rows = Rows.of([shifted])
    found = best_weights(network, rows, 0, (one.lower, one.upper), np.zeros((1, 20)))
    assert found.weights.min() >= 0
    assert found.weights.sum() == pytest.approx(1.0)
    (bound,) = BoxBounds.over(network, one.lower, one.upper).of_combinations(rows, found.weights[None])
    assert -0.5 - 1e-9 <= bound <= -0.4
    assert found.value <= bound + 1e-9
    result = verify_property(network, Property((shifted,), 20, 4), random_state=0)
    assert result.status == "holds"
    raised = Case(one.lower, one.upper, one.rows, np.full(4, -best + 0.5))
    assert verify_property(network, Property((raised,), 20, 4), random_state=0).status == "violated"


def test_gradients_of_combinations(rng):
    network = made(rng, (3, 5, 4, 2), "tanh")
    X, weights = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    found = pull_back(network, X, weights)
    np.testing.assert_allclose(found, np.einsum("nk,nkd->nd", weights, network.gradient(X)), atol=1e-12)


def test_results_do_not_depend_on_repetition(rng):
    network = made(rng, (2, 6, 2))
    prop = Property(tuple(case(rng, 2, 2, 2, -1.0) for _ in range(3)), 2, 2)
    one, two = (replace(verify_property(network, prop, random_state=3), seconds={}) for _ in range(2))
    assert one == two


@pytest.mark.slow
def test_classification_properties_of_a_real_network():
    net, points = (
        np.load(require_shared("models", name))
        for name in ("mnist_mlp_784-50-10_lipsdp_nobias.npz", "mnist_sdp200_testpoints.npz")
    )
    network = Network([(net["W0"], net["b0"]), (net["W1"], net["b1"])])
    statuses = []
    for x, label in zip(points["X"][:10], points["y"][:10], strict=True):
        prop = Property.of_classification(x, int(label), 0.03, n_outputs=10, clip=(0.0, 1.0))
        result = verify_property(network, prop, time_limit=20.0, random_state=0)
        check(network, prop, result)
        statuses.append(result.status)
    assert statuses.count("unknown") == 0
    assert {"holds", "violated"} <= set(statuses)

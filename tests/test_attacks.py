"""Attacks: points inside their sets, values recomputed, exact on linear networks, below every bound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn.attacks import ATTACKS, FGSM, PGD, Attack, attack, linear_maximizer
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.losses import get_loss
from convexnn.network import Network
from convexnn.threats import Box, L2Ball, LInfBall

# Those two know polynomial networks only: test_quadratic_attacks.py.
METHODS = sorted(set(ATTACKS) - {"exact", "coordinate"})
CLIP = (-1.5, 1.5)
THREATS = {
    "l2": L2Ball(0.7),
    "linf": LInfBall(0.4),
    "l2 clipped": L2Ball(0.7, clip=CLIP),
    "linf clipped": LInfBall(0.4, clip=CLIP),
    "box": Box([-1.5] * 3, [1.5] * 3),
}
each_method = pytest.mark.parametrize("method", METHODS)
each_threat = pytest.mark.parametrize("threat", THREATS.values(), ids=THREATS)
each_kind = pytest.mark.parametrize("kind", ["regression", "vector", "binary", "classes"])


def relu_network(rng, d=3, m=12, k=1, hidden=()):
    sizes = (d, m, *hidden, k)
    layers = [
        (rng.standard_normal((out, inp)) / np.sqrt(inp), 0.5 * rng.standard_normal(out))
        for inp, out in itertools.pairwise(sizes)
    ]
    return Network(layers)


def linear_network(rng, d=3, m=4):
    """Active everywhere in reach (huge biases), hence linear there; with its slope."""
    W, v = rng.standard_normal((m, d)), rng.standard_normal(m)
    return Network.shallow(W, np.full(m, 100.0), v, -100 * v.sum()), W.T @ v


def case(rng, kind, n=15, d=3):
    """A network, inputs inside the clip, and targets."""
    X = np.clip(rng.standard_normal((n, d)), *CLIP)
    if kind == "regression":
        return relu_network(rng, d), X, rng.standard_normal(n)
    if kind == "vector":
        return relu_network(rng, d, k=3, hidden=(6,)), X, rng.standard_normal((n, 3))
    if kind == "binary":
        return relu_network(rng, d), X, rng.integers(0, 2, n)
    return relu_network(rng, d, k=4), X, rng.integers(0, 4, n)


def value_of(network, kind, X, y):
    f = network(X)
    if kind in ("regression", "vector"):
        return ((f - y) ** 2).reshape(len(X), -1).sum(axis=1)
    if kind == "binary":
        return -(2 * y - 1) * f
    own = f[np.arange(len(X)), y]
    others = np.array(f)
    others[np.arange(len(X)), y] = -np.inf
    return others.max(axis=1) - own


def wrong(network, kind, X, y):
    f = network(X)
    return (f > 0) != y if kind == "binary" else f.argmax(axis=1) != y


# -- evidence ---------------------------------------------------------------------------------------------------------


@each_method
@each_threat
@each_kind
def test_points_are_inside_and_values_are_recomputed(rng, method, threat, kind):
    network, X, y = case(rng, kind)
    result = attack(network, X, y, threat, method=method, steps=10, restarts=2, random_state=0)
    assert threat.contains(result.X_adv, X).all()
    np.testing.assert_allclose(result.values, value_of(network, kind, result.X_adv, y), rtol=1e-12)
    np.testing.assert_allclose(result.clean_values, value_of(network, kind, X, y), rtol=1e-12)
    assert (result.values >= result.clean_values).all()
    assert result.values.mean() > result.clean_values.mean()
    if kind in ("regression", "vector"):
        assert result.success is None
    else:
        np.testing.assert_array_equal(result.success, wrong(network, kind, result.X_adv, y))
        assert (result.success >= wrong(network, kind, X, y)).all()
    assert (result.method, result.threat) == (method, threat)


class Liar(Attack):
    """Proposes points far outside, NaN among them."""

    name = "liar"

    def propose(self, problem):
        yield problem.X + 1e6
        yield np.full_like(problem.X, np.nan)
        yield problem.X - 1e6


@each_threat
def test_a_lying_attack_is_brought_back(rng, threat):
    network, X, y = case(rng, "regression")
    result = attack(network, X, y, threat, method=Liar())
    assert threat.contains(result.X_adv, X).all()
    assert (result.values >= result.clean_values).all()
    assert np.isfinite(result.values).all()


@each_method
@each_kind
@pytest.mark.parametrize("make", [L2Ball, LInfBall])
def test_radius_zero_is_clean(rng, method, kind, make):
    network, X, y = case(rng, kind)
    result = attack(network, X, y, make(0.0), method=method, random_state=0)
    np.testing.assert_array_equal(result.X_adv, X)
    np.testing.assert_array_equal(result.values, result.clean_values)


# -- exact answers ----------------------------------------------------------------------------------------------------


@each_method
@pytest.mark.parametrize(("make", "dual"), [(L2Ball, 2), (LInfBall, 1)])
def test_linear_regression_is_attacked_exactly(rng, method, make, dual):
    network, slope = linear_network(rng)
    X, y = rng.standard_normal((20, 3)), rng.standard_normal(20)
    result = attack(network, X, y, make(0.3), method=method, random_state=0)
    # max |<g, d> + e| over a ball is |e| + radius |g|_dual
    reach = np.abs(network(X) - y) + 0.3 * np.linalg.norm(slope, dual)
    np.testing.assert_allclose(result.values, reach**2, rtol=1e-9)


@each_method
def test_linear_classifier_is_attacked_exactly(rng, method):
    V, W = rng.standard_normal((3, 4)), rng.standard_normal((4, 3))
    network = Network(((W, np.zeros(4)), (V, rng.standard_normal(3))), "identity")
    X, y = rng.standard_normal((20, 3)), rng.integers(0, 3, 20)
    result = attack(network, X, y, L2Ball(0.5), method=method, random_state=0)
    f, A = network(X), V @ W
    reach = np.array(
        [
            max(f[i, t] - f[i, y[i]] + 0.5 * np.linalg.norm(A[t] - A[y[i]]) for t in range(3) if t != y[i])
            for i in range(20)
        ]
    )
    np.testing.assert_allclose(result.values, reach, rtol=1e-9)


@each_threat
def test_linear_maximizer_attains_the_support(rng, threat):
    X = np.clip(rng.standard_normal((200, 3)), *CLIP)
    G = rng.standard_normal((200, 3)) * np.array([1.0, 1e-3, 10.0])
    G[:5] = 0
    G[5:10, 1:] = 0
    points = linear_maximizer(threat, G, X)
    assert threat.contains(points, X).all()
    gain = ((points - X) * G).sum(axis=1)
    if threat.norm == "l2" and threat.clip is not None:
        for _ in range(300):  # support is only an upper bound here; no sampled point does better
            assert (((threat.sample(X, rng) - X) * G).sum(axis=1) <= gain + 1e-9).all()
        # pushing the maximizer further along g and projecting back must not gain either
        pushed = threat.project(points + 0.01 * G, X)
        assert (((pushed - X) * G).sum(axis=1) <= gain + 1e-6).all()
        assert (gain <= threat.support(G, X) + 1e-9).all()
    else:
        np.testing.assert_allclose(gain, threat.support(G, X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("threat", [LInfBall(0.5), L2Ball(0.6), L2Ball(0.6, clip=(-1, 1)), Box([-1, -1], [1, 1])])
@pytest.mark.parametrize("kind", ["regression", "binary", "classes"])
def test_grid_search_finds_nothing_much_worse(rng, threat, kind):
    """In the plane: no grid point of the set is much worse than the point found, on every sample."""
    axis = np.linspace(-1.0, 1.0, 41)
    for _ in range(2):
        network, X, y = case(rng, kind, n=6, d=2)
        X = np.clip(X, -1, 1)
        found = attack(network, X, y, threat, random_state=0, restarts=10)
        for i in range(len(X)):
            offsets = np.array(list(itertools.product(axis, axis)))
            centre = np.repeat(X[i : i + 1], len(offsets), axis=0)
            points = threat.project(offsets if threat.norm == "box" else centre + offsets, centre)
            grid = value_of(network, kind, points, np.repeat(y[i : i + 1], len(points), axis=0)).max()
            assert found.values[i] >= grid - 0.02 * max(1.0, abs(grid))


@each_method
@pytest.mark.parametrize("hidden", [(), (8,)])
def test_below_the_product_bound(rng, method, hidden):
    for _ in range(8):
        network = relu_network(rng, hidden=hidden)
        bound = np.prod([np.linalg.norm(W, 2) for W, _ in network.layers])
        X, y = rng.standard_normal((10, 3)), rng.standard_normal(10)
        result = attack(network, X, y, L2Ball(0.5), method=method, steps=15, restarts=2, random_state=0)
        moved = np.abs(network(result.X_adv) - network(X))
        assert (moved <= 0.5 * bound * (1 + 1e-9)).all()
        assert (np.sqrt(result.values) <= np.abs(network(X) - y) + 0.5 * bound * (1 + 1e-9)).all()


def test_both_signs_of_the_error(rng):
    network, slope = linear_network(rng)
    X = np.zeros((2, 3))
    y = network(X) + np.array([0.01, -0.01])
    result = attack(network, X, y, L2Ball(1.0), method="fgsm")
    np.testing.assert_allclose(np.sqrt(result.values), np.linalg.norm(slope) + 0.01, rtol=1e-9)
    assert np.sign(network(result.X_adv) - y).tolist() == [-1, 1]


@each_method
def test_perfect_fit_is_attacked(rng, method):
    # the gradient of the squared error vanishes where f(x) = y; the network's does not
    network, slope = linear_network(rng)
    X = rng.standard_normal((5, 3))
    result = attack(network, X, network(X), L2Ball(1.0), method=method)
    np.testing.assert_allclose(np.sqrt(result.values), np.linalg.norm(slope), rtol=1e-6)


def test_flat_start_is_left_by_restarts():
    # f = relu(x_1 - 1/2) is flat at 0: one step finds nothing, restarts find the best point of the ball, f = 1/2
    network = Network.shallow([[1.0, 0.0]], [-0.5], [1.0])
    X, y = np.zeros((1, 2)), np.zeros(1)
    assert attack(network, X, y, L2Ball(1.0), method="fgsm").values[0] == 0
    assert attack(network, X, y, L2Ball(1.0), random_state=0).values[0] == pytest.approx(0.25, rel=1e-3)


def test_tiny_gradients_are_followed():
    network = Network.shallow([[1e-170, 0.0]], [0.0], [1e-130])
    result = attack(network, np.zeros((1, 2)), [0], L2Ball(1.0), random_state=0)
    assert result.X_adv[0, 0] == pytest.approx(1.0)


# -- symmetries -------------------------------------------------------------------------------------------------------


@each_method
@each_threat
@each_kind
def test_a_sample_does_not_depend_on_its_batch(rng, method, threat, kind):
    network, X, y = case(rng, kind)
    settings = {"method": method, "steps": 10, "restarts": 3, "random_state": 7}
    whole = attack(network, X, y, threat, **settings)
    part = np.array([3, 11, 4])
    np.testing.assert_allclose(
        attack(network, X[part], y[part], threat, **settings).values, whole.values[part], rtol=1e-6
    )
    alone = attack(network, X[[4]], y[[4]], threat, **settings)
    np.testing.assert_allclose(alone.values, whole.values[[4]], rtol=1e-6)


@each_threat
@each_kind
def test_more_restarts_and_pgd_over_fgsm_are_never_weaker(rng, threat, kind):
    network, X, y = case(rng, kind)
    before = attack(network, X, y, threat, method="fgsm").values
    for restarts in (1, 2, 5):
        values = attack(network, X, y, threat, steps=10, restarts=restarts, random_state=1).values
        assert (values >= before).all()
        before = values


def test_seed_decides_and_the_global_state_is_not_touched(rng):
    network, X, y = case(rng, "regression")
    state = np.random.get_state()[1].copy()
    first = attack(network, X, y, L2Ball(0.5), steps=5, random_state=3)
    again = attack(network, X, y, L2Ball(0.5), steps=5, random_state=3)
    other = attack(network, X, y, L2Ball(0.5), steps=5, random_state=4)
    np.testing.assert_array_equal(first.X_adv, again.X_adv)
    assert (first.X_adv != other.X_adv).any()
    assert (np.random.get_state()[1] == state).all()
    for seed in (None, np.random.default_rng(0), np.random.RandomState(0)):
        assert attack(network, X, y, L2Ball(0.5), steps=2, random_state=seed).values.shape == (15,)


def test_inputs_are_not_written_to(rng):
    network, X, y = case(rng, "regression")
    X.flags.writeable = y.flags.writeable = False
    result = attack(network, X, y, L2Ball(0.5), steps=3, random_state=0)
    assert not np.shares_memory(result.X_adv, X)


# -- models and losses ------------------------------------------------------------------------------------------------


def test_every_kind_of_model_gives_the_same_attack(rng):
    network, X, y = case(rng, "regression")
    expected = attack(network, X, y, L2Ball(0.5), random_state=0)
    np.testing.assert_allclose(attack(network.to_torch(), X, y, L2Ball(0.5), random_state=0).values, expected.values)
    with pytest.raises(UnsupportedModelError, match="Expected a Network"):
        attack("network", X, y, L2Ball(0.5))


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_sklearn_regressor_in_raw_units(rng):
    X = rng.standard_normal((60, 2)) * [1, 100]
    y = (X[:, 0] > 0).astype(int)  # integers 0 / 1, still a regressor
    model = make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(8,), max_iter=60, random_state=0)).fit(
        X, y
    )
    result = attack(model, X, y, LInfBall(0.2), steps=5, random_state=0)
    assert result.success is None
    np.testing.assert_allclose(result.values, (model.predict(result.X_adv) - y) ** 2, rtol=1e-8)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("names", [("no", "yes"), ("a", "b", "c")])
def test_sklearn_classifier_with_its_own_labels(rng, names):
    y = rng.integers(0, len(names), 80)
    X = 2 * np.eye(3)[y] + 0.7 * rng.standard_normal((80, 3))
    labels = np.array(names)[y]
    model = MLPClassifier(hidden_layer_sizes=(8,), max_iter=150, random_state=0).fit(X, labels)
    result = attack(model, X, labels, L2Ball(0.8), random_state=0)
    np.testing.assert_array_equal(result.success, model.predict(result.X_adv) != labels)
    assert result.success.mean() > np.mean(model.predict(X) != labels)
    with pytest.raises(InvalidInputError, match="class labels"):
        attack(model, X, y, L2Ball(0.8))


@pytest.mark.parametrize("name", ["hinge", "squared_hinge", "logistic", "multi_margin"])
def test_margin_losses_grow_with_the_margin(rng, name):
    kind = "classes" if name == "multi_margin" else "binary"
    network, X, y = case(rng, kind)
    by_loss = attack(network, X, y, L2Ball(0.5), loss=name, random_state=0)
    by_margin = attack(network, X, y, L2Ball(0.5), loss="margin", random_state=0)
    signed = y if kind == "classes" else 2.0 * y - 1
    loss = get_loss(name)
    np.testing.assert_allclose(by_loss.values, loss.value(network(by_loss.X_adv), signed), rtol=1e-12)
    assert (by_loss.values >= by_loss.clean_values).all()
    np.testing.assert_allclose(by_loss.values, loss.value(network(by_margin.X_adv), signed), rtol=1e-3, atol=1e-6)


def test_what_counts_as_classification(rng):
    network, X, _ = case(rng, "binary")
    many = relu_network(rng, k=3)
    ones = np.ones(len(X))
    assert attack(network, X, ones.astype(int), L2Ball(0.1), steps=2).success is not None
    assert attack(network, X, ones.astype(bool), L2Ball(0.1), steps=2).success is not None
    assert attack(network, X, ones, L2Ball(0.1), steps=2).success is None
    assert attack(network, X, 2 * ones.astype(int), L2Ball(0.1), steps=2).success is None
    assert attack(network, X, ones, L2Ball(0.1), steps=2, loss="margin").success is not None
    assert attack(network, X, -ones.astype(int), L2Ball(0.1), steps=2, loss="squared").success is None
    assert attack(many, X, ones, L2Ball(0.1), steps=2).success is not None
    assert attack(many, X, rng.standard_normal((15, 3)), L2Ball(0.1), steps=2).success is None


def test_labels_minus_one_and_zero_are_one_class(rng):
    network, X, y = case(rng, "binary")
    by_index = attack(network, X, y, L2Ball(0.3), random_state=0)
    by_sign = attack(network, X, 2 * y - 1, L2Ball(0.3), random_state=0)
    np.testing.assert_array_equal(by_index.values, by_sign.values)


def test_box_away_from_the_sample(rng):
    # a region need not hold the sample: points come from the box all the same
    network, X, y = case(rng, "regression")
    box = Box([5.0] * 3, [6.0] * 3)
    result = attack(network, X, y, box, random_state=0)
    assert box.contains(result.X_adv, X).all()


# -- what a user can get wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": [[np.nan, 0, 0]]}, "X is not usable"),
        ({"X": np.zeros((0, 3))}, "X is not usable"),
        ({"X": np.zeros(3)}, "X is not usable"),
        ({"X": np.zeros((1, 4))}, "takes 3 inputs"),
        ({"y": [1.0, 2.0]}, "one row per row of X"),
        ({"y": [np.inf]}, "y holds NaN"),
        ({"y": ["a"]}, "y must hold numbers"),
        ({"y": np.zeros((1, 2))}, "1 output"),
        ({"y": [3], "loss": "margin"}, "0 / 1 or -1 / \\+1"),
        ({"loss": "absolute"}, "Unknown loss"),
        ({"loss": "multi_margin", "y": [1]}, "does not fit a network with one output"),
        ({"threat": 0.5}, "threat must be"),
        ({"threat": Box([0.0, 0.0], [1.0, 1.0])}, "does not fit inputs with 3 columns"),
        ({"threat": LInfBall(0.1, clip=(5, 6))}, "no point in the threat set"),
        ({"method": "deepfool"}, "Unknown attack 'deepfool'"),
        ({"steps": 0}, "steps must be"),
        ({"restarts": 1.5}, "restarts must be"),
        ({"random_state": "one"}, "random_state must be"),
        ({"random_state": -3}, "random_state must be"),
    ],
)
def test_bad_input_is_a_sentence(rng, changes, message):
    network = relu_network(rng)
    arguments = {"X": [[0.0, 0, 0]], "y": [0.5], "threat": L2Ball(0.1)} | changes
    X, y, threat = (arguments.pop(name) for name in ("X", "y", "threat"))
    with pytest.raises(InvalidInputError, match=message):
        attack(network, X, y, threat, **arguments)


def test_bad_class_is_named(rng):
    with pytest.raises(InvalidInputError, match="class labels"):
        attack(relu_network(rng, k=3), np.zeros((2, 3)), [0, 3], L2Ball(0.1))


def test_attacks_are_values():
    assert PGD(steps=3) == PGD(steps=3, restarts=5)
    assert FGSM() == FGSM()
    assert "steps=3" in repr(PGD(steps=3))

"""The whole job of classifiers: train, attack, certify; attacked and certified accuracies enclose the truth."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.preprocessing import StandardScaler

from convexnn.certificates.classification import certify_classification, margin_bounds, radii_from
from convexnn.certificates.lipschitz import lipschitz_pairs
from convexnn.estimators import SafeSNNClassifier
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.threats import Box, L2Ball, LInfBall

REGULARIZERS = ("lipschitz", "l2", "gated", "adversarial", "margin")


def table(load, n):
    X, y = load(return_X_y=True)
    keep = np.random.default_rng(0).permutation(len(X))[:n]
    return StandardScaler().fit_transform(X[keep][:, :6]), y[keep]


def robust(regularizer, norm=2, **parameters):
    chosen = {"lam": 1e-2, "radius": 0.3 if norm == 2 else 0.1, "norm": norm, "start": "random", "max_iter": 60}
    return SafeSNNClassifier(8, regularizer=regularizer, random_state=0, **(chosen | parameters))


@pytest.mark.parametrize(
    ("regularizer", "norm", "load"),
    [
        ("lipschitz", 2, load_breast_cancer),
        ("margin", np.inf, load_iris),
        *(pytest.param(kind, 2, load_breast_cancer, marks=pytest.mark.slow) for kind in REGULARIZERS[1:]),
        *(pytest.param(kind, np.inf, load_breast_cancer, marks=pytest.mark.slow) for kind in REGULARIZERS[3:]),
        *(pytest.param(kind, 2, load_iris, marks=pytest.mark.slow) for kind in ("lipschitz", "adversarial", "margin")),
    ],
)
def test_main_job(regularizer, norm, load):
    X, y = table(load, 80)
    train, test = slice(0, 60), slice(60, None)
    model = robust(regularizer, norm).fit(X[train], y[train])
    assert model.objective_ < 0.9 * model.start_objective_
    clean = model.score(X[test], y[test])
    assert clean >= 0.8
    for threat in (L2Ball(0.3), LInfBall(0.1), Box(X[test].min(axis=0), X[test].max(axis=0))):
        found = model.certify(X[test], y[test], threat)
        attacked = model.attack(X[test], y[test], threat, steps=10, restarts=1, random_state=0)
        assert found.certified_accuracy <= np.mean(~attacked.success) <= clean == found.clean_accuracy
        assert not (found.certified & attacked.success).any()
        assert (attacked.values <= found.margins + 1e-9).all()
        assert (found.clean <= found.margins).all()
    assert model.certify(X[test], y[test], L2Ball(0.3)).certified_accuracy > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("load", [load_breast_cancer, load_iris])
def test_robust_training_pays(load):
    """At its own radius the certified-margin objective certifies at least as much as plain weight decay does."""
    X, y = table(load, 80)
    plain, margin = (robust(kind, max_iter=100).fit(X, y) for kind in ("l2", "margin"))
    certified = [model.certify(X, y, L2Ball(0.3)).certified_accuracy for model in (plain, margin)]
    assert certified[1] >= certified[0]


@pytest.mark.parametrize("norm", [2, np.inf])
@pytest.mark.parametrize("k", [1, 3])
def test_no_point_within_the_radius_is_misclassified(rng, norm, k):
    net = Network.shallow(rng.normal(size=(6, 3)), rng.normal(size=6), rng.normal(size=(k, 6)), rng.normal(size=k))
    X = rng.normal(size=(20, 3))
    scores = net(X).reshape(20, -1)
    y = (scores[:, 0] > 0).astype(int) if k == 1 else scores.argmax(axis=1)
    name = "l2" if norm == 2 else "linf"
    radii = radii_from(net, X, y, margin_bounds(net, name), name)
    assert (radii > 0).all()
    for _ in range(200):
        step = rng.normal(size=X.shape) if norm == 2 else rng.choice([-1.0, 1.0], size=X.shape)
        moved = X + radii[:, None] * step / np.linalg.norm(step, ord=norm, axis=1, keepdims=True)
        scores = net(moved).reshape(20, -1)
        assert ((scores[:, 0] > 0) == y).all() if k == 1 else (scores.argmax(axis=1) == y).all()
    # a ball of that radius is certified up to rounding
    ball = L2Ball if norm == 2 else LInfBall
    one = radii.argmin()
    inside = certify_classification(net, X[one : one + 1], y[one : one + 1], ball(radii[one] * (1 - 1e-6)))
    assert inside.certified.all()


def test_radii_of_one_unit_are_exact():
    # f = 2 relu(3 x + 4 z), Lipschitz constant 10 (l2) and 14 (linf): at (1, 1) f - 7 = 7, distance .7 and .5
    net = Network.shallow([[3.0, 4.0]], [0.0], [2.0], -7.0)
    X, y = np.array([[1.0, 1.0]]), np.array([1])
    for name, expected in (("l2", 0.7), ("linf", 0.5)):
        assert radii_from(net, X, y, margin_bounds(net, name), name)[0] == pytest.approx(expected, rel=1e-6)
    assert radii_from(net, X, 1 - y, margin_bounds(net, "l2"), "l2")[0] == 0


def test_pairs_are_what_certifies(rng):
    net = Network.shallow(rng.normal(size=(8, 4)), rng.normal(size=8), rng.normal(size=(3, 8)))
    np.testing.assert_array_equal(margin_bounds(net, "l2")["l2"], lipschitz_pairs(net))
    assert set(margin_bounds(net, "linf")) == {"l2", "linf"}
    known = {"l2": np.full((3, 3), 7.0)}
    assert margin_bounds(net, "l2", known) == known
    with pytest.raises(InvalidInputError, match="norm"):
        margin_bounds(net, "l1")


def test_huge_scales_and_the_zero_network(rng):
    X, y = rng.normal(size=(10, 3)), rng.integers(2, size=10)
    for scale in (1e-3, 1e3):
        model = SafeSNNClassifier(4, start="random", lam=1e-3, random_state=0).fit(scale * X, y)
        found = model.certify(scale * X, y, L2Ball(0.01 * scale))
        attacked = model.attack(scale * X, y, L2Ball(0.01 * scale), random_state=0)
        assert not (found.certified & attacked.success).any()
    flat = SafeSNNClassifier(4, start="random", lam=1e9, random_state=0).fit(X, y)
    right = flat.predict(X) == y
    # a constant: nothing ever changes where the label is the predicted one
    assert flat.certify(X, y, L2Ball(10.0)).certified.tolist() == right.tolist()

"""Certificates of polynomial networks: attack <= exact <= certificate, tables and estimators included."""

import numpy as np
import pytest

from convexnn.activations import Polynomial
from convexnn.attacks import attack
from convexnn.certificates.polynomial import (
    certify_polynomial,
    certify_polynomial_regression,
    polynomial_interval,
    polynomial_margins,
)
from convexnn.estimators import PolynomialSNNClassifier, PolynomialSNNRegressor
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.threats import Box, L2Ball, LInfBall
from tests._families import few

THREATS = [L2Ball(0.5), LInfBall(0.2), Box([-1.0] * 3, [2.0] * 3), L2Ball(0.5, clip=(-1.0, 1.0)), L2Ball(0.0)]


def network(rng, k, m=5, d=3):
    weights = rng.normal(size=(m, d)), rng.normal(size=m), rng.normal(size=(k, m)), rng.normal(size=k)
    return Network.shallow(*weights, activation=Polynomial(0.2, 0.4, -0.1))


@pytest.mark.parametrize("k", few([4, 1, 2], 2))
@pytest.mark.parametrize("threat", THREATS, ids=repr)
def test_attacks_stay_below_and_the_exact_one_attains(rng, k, threat):
    net, X = network(rng, k), rng.uniform(-1, 1, size=(30, 3))
    labels = rng.integers(0, max(k, 2), 30)
    bound = polynomial_margins(net, X, labels, threat)
    found = attack(net, X, labels, threat, method="pgd", loss="margin", random_state=0)
    assert (found.values <= bound).all()
    if threat.norm == "l2" and threat.clip is None:
        exact = attack(net, X, labels, threat, method="exact", loss="margin")
        assert (exact.values <= bound).all()
        np.testing.assert_allclose(exact.values, bound, rtol=1e-9, atol=1e-9)
    certified = certify_polynomial(net, X, labels, threat)
    np.testing.assert_array_equal(certified.margins, bound)
    np.testing.assert_array_equal(certified.clean, found.clean_values)
    assert not found.success[certified.certified].any()
    assert certified.certified_accuracy <= certified.clean_accuracy


@pytest.mark.parametrize("threat", THREATS, ids=repr)
def test_intervals_hold_and_are_attained(rng, threat):
    net, X, y = network(rng, 1), rng.uniform(-1, 1, size=(20, 3)), rng.normal(size=20)
    certified = certify_polynomial_regression(net, X, y, threat)
    samples = np.array([net(threat.sample(X, rng)) for _ in range(300)])
    assert (certified.lower <= samples.min(axis=0)).all()
    assert (samples.max(axis=0) <= certified.upper).all()
    found = attack(net, X, y, threat, loss="squared", random_state=0)
    assert (found.values <= certified.certified).all()
    if threat.norm == "l2" and threat.clip is None:
        exact = attack(net, X, y, threat, method="exact", loss="squared")
        np.testing.assert_allclose(exact.values, certified.certified, rtol=1e-8)
    pair = network(rng, 2)
    lower, upper = polynomial_interval(pair, X, threat)
    assert lower.shape == (20, 2)
    outputs = pair(threat.sample(X, rng))
    assert ((lower <= outputs) & (outputs <= upper)).all()


def test_bad_threats_are_sentences(rng):
    with pytest.raises(InvalidInputError, match="threat"):
        polynomial_margins(network(rng, 2), np.zeros((1, 3)), [0], 0.5)


@pytest.mark.parametrize("k", [2, 3])
def test_estimators_certify_what_no_attack_breaks(rng, k):
    names = np.array(["ash", "birch", "cedar"])
    own = np.arange(60) % k
    X, y = rng.normal(size=(60, 3)) + 2 * np.eye(k, 3)[own], names[own]
    model = PolynomialSNNClassifier(0.3).fit(X, y)
    threat = L2Ball(0.3)
    certified, exact = model.certify(X, y, threat), model.attack(X, y, threat)
    assert exact.method == "exact"
    np.testing.assert_array_equal(certified.certified, ~exact.success)  # nothing between attack and certificate
    radii = model.certified_radius(X, y)
    np.testing.assert_array_equal(radii > 0, model.predict(X) == y)
    np.testing.assert_array_equal(radii > 0.3, certified.certified)
    right = np.flatnonzero(radii > 0)
    for factor, broken in ((1 - 1e-9, False), (1 + 1e-6, True)):
        for i in right[:10]:
            found = model.attack(X[[i]], y[[i]], L2Ball(factor * radii[i]))
            assert found.success[0] == broken
    with pytest.raises(InvalidInputError, match="oak"):
        model.certify(X, np.full(60, "oak"), threat)
    with pytest.raises(ValueError, match="inconsistent"):
        model.certified_radius(X, y[:-1])


def test_regressors_certify_intervals(rng):
    X = rng.normal(size=(40, 3))
    y = 3 * X[:, 0] ** 2 + X[:, 1] + 20
    model = PolynomialSNNRegressor(0.2, standardize=True, lam=1e-3).fit(X, y)
    certified = model.certify(X, y, L2Ball(0.2))
    np.testing.assert_allclose(model.attack(X, y, L2Ball(0.2)).values, certified.certified, rtol=1e-8)
    lower, upper = model.certified_interval(X, L2Ball(0.2))
    np.testing.assert_array_equal(lower, certified.lower)
    assert ((lower < model.predict(X)) & (model.predict(X) < upper)).all()
    # the training loss is the certified error: standardized targets, worst case of each sample
    loss = certified.certified_mse / y.var()
    assert loss < model.objective_ < 1.5 * loss

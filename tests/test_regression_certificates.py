"""Attack <= certified for regressors, by the Lipschitz bound."""

import numpy as np
import pytest

from convexnn.attacks import attack
from convexnn.certificates.classification import certify_classification
from convexnn.certificates.lipschitz import lipschitz
from convexnn.certificates.regression import certified_interval, certified_squared_error, certify_regression, reach
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network
from convexnn.threats import Box, L2Ball, LInfBall


def random_network(rng, d=3, m=7):
    return Network.shallow(rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal(m), 0.5)


THREATS = [L2Ball(0.3), LInfBall(0.2), Box(-1.0, 1.5), L2Ball(0.5, clip=(-1, 1)), LInfBall(0.5, clip=(-1, 1))]


@pytest.mark.parametrize("threat", THREATS, ids=lambda t: f"{t.norm}-{getattr(t, 'clip', None) is not None}")
def test_attack_is_below_certificate(rng, threat):
    for _ in range(10):
        network = random_network(rng)
        X, y = np.clip(rng.standard_normal((6, 3)), -1, 1), rng.standard_normal(6)
        certificate = lipschitz(network)
        attacked = attack(network, X, y, threat, steps=20, restarts=2, random_state=0)
        report = certify_regression(network, X, y, threat, certificate)
        assert (report.clean <= report.certified).all()
        assert (attacked.values <= report.certified).all()
        outputs = network(attacked.X_adv)
        assert ((report.lower <= outputs) & (outputs <= report.upper)).all()
        assert report.certified_mse == report.certified.mean()


def test_a_radius_alone_is_no_threat(rng):
    network = random_network(rng)
    with pytest.raises(InvalidInputError, match="L2Ball, LInfBall or Box, got 0.1"):
        certify_regression(network, np.zeros((1, 3)), np.zeros(1), 0.1, lipschitz(network))


def test_reach_by_hand():
    X = np.zeros((1, 4))
    assert reach(X, L2Ball(0.3)) == pytest.approx([0.3])
    assert reach(X, LInfBall(0.3)) == pytest.approx([0.6])  # 0.3 sqrt(4)
    assert reach(X, Box(-1.0, 2.0)) == pytest.approx([4.0])  # the far corner (2, 2, 2, 2)


def test_tight_on_a_linear_network(rng):
    # f(x) = relu(w'x + 10) with all points far on the active side is linear: the l2 worst case is attained
    w = np.array([[3.0, 4.0]])
    network = Network.shallow(w, [100.0], [1.0], -100.0)
    X, y = rng.standard_normal((5, 2)), np.zeros(5)
    certified = certified_squared_error(network, X, y, L2Ball(0.5), lipschitz(network))
    # slope 5, radius 0.5: the output moves by 2.5 either way
    np.testing.assert_allclose(certified, (np.abs(network(X)) + 2.5) ** 2, rtol=1e-7)


def test_wrong_certificates_are_refused(rng):
    network, other = random_network(rng), random_network(rng)
    X = rng.standard_normal((2, 3))
    with pytest.raises(CertificateError, match="another network"):
        certified_interval(network, X, L2Ball(1.0), lipschitz(other))
    from dataclasses import replace

    certificate = lipschitz(network)
    with pytest.raises(CertificateError, match="proves"):
        certified_interval(network, X, L2Ball(1.0), replace(certificate, bound=certificate.bound / 2))
    with pytest.raises(InvalidInputError, match="Lipschitz"):
        certified_interval(network, X, L2Ball(1.0), replace(certificate, quantity="margin"))


def test_radius_zero_is_clean(rng):
    network = random_network(rng)
    X, y = rng.standard_normal((4, 3)), rng.standard_normal(4)
    report = certify_regression(network, X, y, L2Ball(0.0), lipschitz(network))
    assert (report.certified >= report.clean).all()
    np.testing.assert_allclose(report.certified, report.clean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("threat", [L2Ball, LInfBall, lambda r: L2Ball(r, clip=(-1e9, 1e9)), lambda r: Box(-r, r)])
def test_rounding_cannot_lift_an_attack_above_the_certificate(rng, threat):
    # active units of one sign: the bound is attained, so only rounding stands between attack and certificate
    for _ in range(25):
        scale, radius, offset = 10.0 ** rng.integers(-8, 9, size=3)
        d, m = rng.integers(1, 4, size=2)
        network = Network.shallow(np.abs(rng.standard_normal((m, d))), offset * rng.random(m), rng.random(m))
        X, y = scale * rng.standard_normal((3, d)), rng.standard_normal(3)
        sets = threat(radius)
        X = sets.project(X, np.zeros_like(X)) if sets.norm == "box" else X
        attacked = attack(network, X, y, sets, steps=3, restarts=1, random_state=0)
        report = certify_regression(network, X, y, sets, lipschitz(network))
        assert (attacked.values <= report.certified).all()
        outputs = network(attacked.X_adv)
        assert ((report.lower <= outputs) & (outputs <= report.upper)).all()


def test_results_print_what_was_found(rng):
    network = Network.shallow(np.eye(2), np.zeros(2), np.ones(2))
    X = np.array([[1.0, 1.0], [2.0, 0.5]])
    found = attack(network, X, np.zeros(2), L2Ball(0.1), random_state=0)
    report = certify_regression(network, X, np.zeros(2), L2Ball(0.1), lipschitz(network))
    assert str(found).startswith("pgd, L2Ball(0.1): mean 5.125 clean, at least")
    assert str(report).startswith("2 samples: mean squared error 5.125 clean, <= ")
    lower, upper = (float(str(text).split()[-2]) for text in (found, report))
    assert 5.125 < lower <= found.values.mean() <= report.certified_mse <= upper
    assert str(attack(network, X, np.array([1, 0]), L2Ball(0.1), random_state=0)).endswith("misclassified: 1 of 2")
    labels = np.array([1, 0])
    assert str(certify_classification(network, X, labels, L2Ball(0.1))) == "2 samples: 1 right, 1 certified (l2)"

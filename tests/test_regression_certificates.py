"""Attack <= certified for regressors, by the Lipschitz bound."""

import numpy as np
import pytest

from convexnn.attacks import attack
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
        assert (attacked.values <= report.certified * (1 + 1e-12)).all()
        outputs = network(attacked.X_adv)
        assert ((report.lower <= outputs) & (outputs <= report.upper)).all()
        assert report.certified_mse == report.certified.mean()


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
    np.testing.assert_array_equal(report.certified, report.clean)

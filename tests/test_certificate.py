"""Certificates: only what the multiplier proves, for the network it names, under the method it names."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from convexnn import certificate as module
from convexnn.certificate import Certificate, register_check, registered_methods
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network


def toy(network: Network, multiplier) -> float:
    """Lipschitz constant of a shallow ReLU network: sum |v_i| |w_i| / t_i times max t, valid for every t > 0."""
    t = multiplier["t"]
    if not (t > 0).all():
        return np.inf
    return float(np.abs(network.v) @ (np.linalg.norm(network.W, axis=1) / t) * t.max())


def signed(network: Network, multiplier) -> float:
    """A bound that may be negative, such as that of a network on a region where it is below zero."""
    return float(multiplier["value"][0])


@pytest.fixture(autouse=True)
def _toy_methods(monkeypatch) -> None:
    monkeypatch.setattr(module, "_CHECKS", dict(module._CHECKS))
    monkeypatch.setattr(module, "_CLAIMS", dict(module._CLAIMS))
    register_check("toy", toy, quantity="lipschitz", threat="l2")
    register_check("signed", signed)


@pytest.fixture
def network(rng) -> Network:
    return Network.shallow(rng.standard_normal((5, 3)), rng.standard_normal(5), rng.standard_normal(5))


def certify(network: Network, t=None) -> Certificate:
    multiplier = {"t": np.ones(len(network.b)) if t is None else np.asarray(t, dtype=float)}
    return Certificate(
        quantity="lipschitz",
        bound=toy(network, multiplier),
        slack=0.0,
        threat="l2",
        method="toy",
        multiplier=multiplier,
        fingerprint=network.fingerprint(),
        lower=1e-3,
        details={"units": np.int64(5), "note": "toy"},
    )


def negative(value: float, claimed: float, network: Network) -> Certificate:
    return replace(
        certify(network), method="signed", bound=claimed, lower=np.nan, multiplier={"value": np.array([value])}
    )


def test_a_true_claim_checks(network) -> None:
    certificate = certify(network)
    assert certificate.check(network) == certificate.bound
    assert {"toy", "signed"} <= set(registered_methods())
    assert str(certificate) == f"lipschitz (l2) <= {certificate.bound:.8g} by toy, float64+slack"


def test_every_multiplier_proves_something(network, rng) -> None:
    product = certify(network).bound
    for _ in range(20):
        assert certify(network, rng.uniform(0.1, 3.0, size=5)).check(network) >= product - 1e-12
    assert certify(network, -np.ones(5)).check(network) == np.inf


def test_a_looser_claim_is_still_true_and_a_tighter_one_is_not(network) -> None:
    certificate = certify(network)
    assert replace(certificate, bound=2 * certificate.bound).check(network) == certificate.bound
    for factor in (0.5, 0.999, 1 - 1e-6):
        with pytest.raises(CertificateError, match="not the claimed"):
            replace(certificate, bound=factor * certificate.bound).check(network)


def test_tampered_multipliers_do_not_prove_the_claim(network) -> None:
    certificate = certify(network)
    for t in ([1, 1, 1, 1, 5.0], [1, 1, 1, 1, 0.0], [1, 1, 1, 1, np.nan]):
        with pytest.raises(CertificateError):
            replace(certificate, multiplier={"t": np.array(t)}).check(network)


def test_a_claim_about_another_quantity_or_norm_is_refused(network) -> None:
    for change in ({"threat": "linf"}, {"quantity": "margin"}):
        with pytest.raises(CertificateError, match="a toy certificate is about lipschitz .l2."):
            replace(certify(network), **change).check(network)


@pytest.mark.parametrize(
    "change", [{"arithmetic": "exact"}, {"slack": -1.0}, {"slack": np.nan}, {"lower": 1e9}], ids=str
)
def test_what_no_check_proves_cannot_be_claimed(network, change) -> None:
    with pytest.raises(CertificateError, match="exact|contradicts itself"):
        replace(certify(network), **change).check(network)


@pytest.mark.parametrize("bound", [3.73531924434, 1.00000000001e-7, 9.9999999999e20, -3.73531924434, np.inf])
def test_the_printed_bound_is_rounded_up(network, bound) -> None:
    printed = float(str(replace(certify(network), bound=bound)).split("<=")[1].split()[0])
    assert bound <= printed
    assert printed == pytest.approx(bound, rel=1e-7)


def test_nan_is_no_bound(network) -> None:
    with pytest.raises(CertificateError, match="nan"):
        replace(certify(network), bound=np.nan).check(network)
    with pytest.raises(CertificateError, match="nan"):
        negative(np.nan, 1.0, network).check(network)


def test_an_infinite_claim_is_empty_but_true(network) -> None:
    assert replace(certify(network), bound=np.inf).check(network) < np.inf
    with pytest.raises(CertificateError):
        replace(certify(network), bound=-np.inf).check(network)


def test_negative_bounds_check_on_the_right_side(network) -> None:
    assert negative(-1.0, -1.0, network).check(network) == -1.0
    assert negative(-1.0, -0.5, network).check(network) == -1.0
    with pytest.raises(CertificateError):
        negative(-1.0, -1.1, network).check(network)


def test_another_network_is_refused(network) -> None:
    certificate = certify(network)
    other = Network.shallow(network.W, network.b, np.nextafter(network.v, 9.0))
    with pytest.raises(CertificateError, match="another network"):
        certificate.check(other)
    certificate.check(Network(network.layers))  # the same one, built again


def test_an_unknown_method_is_refused_with_the_known_ones(network) -> None:
    with pytest.raises(CertificateError, match=r"'oracle'; known: .*toy"):
        replace(certify(network), method="oracle").check(network)


def test_files_give_the_certificate_back(network, tmp_path) -> None:
    for bound in (certify(network).bound, np.inf, 0.1 + 0.2):
        certificate = replace(certify(network), bound=bound, lower=np.nan)
        loaded = Certificate.load(certificate.save(tmp_path / "claim.npz"))
        assert loaded.bound == bound
        assert np.isnan(loaded.lower)
        for name in ("quantity", "slack", "threat", "method", "fingerprint", "arithmetic"):
            assert getattr(loaded, name) == getattr(certificate, name)
        assert loaded.details == {"units": 5, "note": "toy"}
        np.testing.assert_array_equal(loaded.multiplier["t"], certificate.multiplier["t"])
    assert Certificate.load(certify(network).save(tmp_path / "claim.npz")).check(network) == certify(network).bound


def test_a_saved_claim_that_was_lowered_does_not_check(network, tmp_path) -> None:
    certificate = certify(network)
    path = replace(certificate, bound=0.9 * certificate.bound).save(tmp_path / "claim.npz")
    with pytest.raises(CertificateError, match="not the claimed"):
        Certificate.load(path).check(network)


def test_certificates_pickle(network) -> None:
    assert pickle.loads(pickle.dumps(certify(network))).check(network) == certify(network).bound


def test_unusable_files_are_refused(network, tmp_path) -> None:
    path = certify(network).save(tmp_path / "claim.npz")
    header, arrays = module.read_archive(path, format=module.FORMAT, version=module.VERSION)
    for name, value in (("bound", "low"), ("bound", None), ("details", 3), ("slack", [])):
        module.write_archive(path, header | {name: value}, arrays)
        with pytest.raises(InvalidInputError, match="valid certificate"):
            Certificate.load(path)
    module.write_archive(path, {key: value for key, value in header.items() if key != "fingerprint"}, arrays)
    with pytest.raises(InvalidInputError, match="fingerprint"):
        Certificate.load(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InvalidInputError, match="not a readable"):
        Certificate.load(path)
    with pytest.raises(InvalidInputError, match=r"convexnn\.certificate"):
        Certificate.load(network.save(tmp_path / "network.npz"))

"""Complex multipliers are refused like any other malformed ones: the real part of a proof is no proof."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convexnn import CertificateError, InvalidInputError, LInfBall, Network, certify, lipschitz, region_bound
from convexnn.certificate import Certificate
from convexnn.lipsdp import (
    multiplier_from_factor,
    multiplier_from_t,
    multiplier_from_t_vector,
    stack,
    upper_bound,
    upper_bound_linf,
    upper_bound_vector,
)
from convexnn.lipsdp.deep_bound import upper_bound_deep
from convexnn.lipsdp.max_cut import upper_bound_max_cut
from convexnn.propagation import Effort, InputSet, Query
from convexnn.regions import Polytope, ellipsoid
from convexnn.regions.check import proved_bound
from convexnn.regions.folding import folded_units
from convexnn.regions.ridges import ridges
from convexnn.regions.splits import read_splits
from convexnn.relaxations.quadratic_outputs import bound_quadratic, check_quadratic
from convexnn.relaxations.quadratic_specification import QuadraticSpec
from convexnn.verification.registry import get_certifier

W, V = np.array([[1.0, 2.0], [-1.0, 0.5]]), np.array([[1.0, -0.5], [0.25, 1.0]])
ONE, TWO = Network.shallow(W, [0.1, 0.2], V[0], 0.3), Network.shallow(W, [0.1, 0.2], V, [0.0, 0.1])
DEEP = Network(((W, np.zeros(2)), (V, np.zeros(2)), (V, np.zeros(2))), "relu")
SQUARE = Polytope(np.vstack([np.eye(2), -np.eye(2)]), np.ones(4))
BALL = ellipsoid(np.zeros(2), np.ones(2))

CERTIFICATES = {
    "lipsdp": lambda: (ONE, lipschitz(ONE)),
    "lipsdp, outputs": lambda: (TWO, lipschitz(TWO)),
    "max_gradient": lambda: (ONE, lipschitz(ONE, norm=np.inf)),
    "deep_lipsdp": lambda: (DEEP, lipschitz(DEEP)),
    "chain": lambda: (ONE, region_bound(ONE, BALL, method="chain")),
    **{
        f"region, {name}": lambda name=name: (ONE, region_bound(ONE, BALL, method=name))
        for name in ("sdp", "paired", "splits", "alpha_crown", "lp")
    },
    "polytope": lambda: (ONE, region_bound(ONE, SQUARE)),
}


def imaginary(values):
    return np.asarray(values) * (1.0 + 1e-3j)


@pytest.mark.parametrize("make", CERTIFICATES.values(), ids=CERTIFICATES)
def test_certificates_refuse_them(make) -> None:
    network, found = make()
    assert found.check(network) == found.bound
    for key, values in found.multiplier.items():
        changed: Certificate = replace(found, bound=np.inf, multiplier={**found.multiplier, key: imaginary(values)})
        with pytest.raises(CertificateError, match=f"{key!r} holds complex numbers; expected real ones"):
            changed.check(network)


@pytest.mark.parametrize("method", ["alpha_crown", "lp"])
def test_local_certificates_refuse_them(method) -> None:
    X = np.array([[1.0, -0.5]])
    y = TWO(X).argmax(axis=1)
    report = certify(TWO, X, y, LInfBall(0.01), method=method, keep_evidence=True)
    (local,) = report.certificates(TWO, X, y)
    local.check(TWO)
    proofs = tuple(
        replace(one, multiplier={key: imaginary(values) for key, values in one.multiplier.items()})
        for one in local.proofs
    )
    assert any(one.multiplier for one in proofs)
    with pytest.raises(InvalidInputError, match="centre holds complex numbers"):
        replace(local.inputs, centre=imaginary(local.inputs.centre))
    for changed in ({"proofs": proofs}, {"weights": imaginary(local.weights)}, {"offset": imaginary(local.offset)}):
        with pytest.raises(CertificateError, match="complex"):
            replace(local, **changed).check(TWO)


def test_bounds_of_rows_prove_nothing_from_them() -> None:
    rows, q, error = stack(W, V[0]), imaginary(np.ones(3)), np.zeros(3)
    found = [
        upper_bound(rows, q), upper_bound(rows, q, error), upper_bound_linf(rows, q, np.ones(2)),
        upper_bound_linf(rows, np.ones(3), imaginary(np.ones(2))), upper_bound_max_cut(rows, imaginary(np.ones(5))),
        upper_bound_vector(W, V, imaginary(np.ones(2))), upper_bound_deep([W, V, V], imaginary(np.ones(4))),
    ]  # fmt: skip
    assert found == [np.inf] * len(found)
    for proposed in (multiplier_from_t(V[0], imaginary(np.ones(2))), multiplier_from_factor(rows, imaginary(np.eye(2))),
                     multiplier_from_t_vector(W, V, imaginary(np.ones(2)))):  # fmt: skip
        assert np.isnan(proposed).any()


def test_regions_and_layers_prove_nothing_from_them() -> None:
    parts = ridges(folded_units(ONE, BALL, np.ones(1), None))
    zero = np.zeros(2)
    assert proved_bound(parts, imaginary(zero + 1), zero) == proved_bound(parts, zero, imaginary(zero)) == np.inf
    assert read_splits(imaginary([[-1.0, 0.0]]), 2) is None
    box, spec = InputSet.box(-np.ones(2), np.ones(2)), QuadraticSpec(np.diag([0.0, 0.0, 0.0, 1.0]), 2)
    found = bound_quadratic(ONE, box, spec)
    assert check_quadratic(ONE, box, spec, found.multiplier) == found.bound
    used = [key for key, values in found.multiplier.items() if np.any(values)]
    assert used
    for key in used:
        changed = {**found.multiplier, key: imaginary(found.multiplier[key])}
        assert check_quadratic(ONE, box, spec, changed) == np.inf
    with pytest.raises(InvalidInputError, match="complex"):
        QuadraticSpec(1j * np.eye(4), 2)


def test_a_method_that_does_not_apply_checks_nothing():
    """Prices of the triangle relaxation bound kinked units: on a smooth network they would give a false number."""
    smooth = Network.shallow(W, [0.1, 0.2], V, [0.0, 0.1], activation="tanh")
    query = Query.of_rivals(smooth, np.zeros(2), 0, LInfBall(0.5))
    kinked = Query.of_rivals(TWO, np.zeros(2), 0, LInfBall(0.5))
    certifier = get_certifier("lp")
    evidence = certifier.propose(kinked, Effort()).multiplier
    assert np.isfinite(certifier.check(kinked, evidence)).all()
    assert (certifier.check(query, evidence) == np.inf).all()

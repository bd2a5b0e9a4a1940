"""The checkers that tests/mutants.py changes, and the claims that must notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import lipschitz
from convexnn.exceptions import CertificateError
from convexnn.network import Network
from convexnn.propagation import Effort
from convexnn.verification.certificates import certificate_of
from convexnn.verification.registry import get_certifier
from tests import checker_claims as claims
from tests.certifier_cases import random_network
from tests.checker_rigorous import rigorous_claims
from tests.checker_training import training_claims
from tests.mutants import as_tests

Tests = list[Callable[[], Iterator[str]]]

R = "convexnn.rigorous:"
TARGETS: dict[str, tuple[str, ...]] = {
    **{
        R + name: ("rigorous",)
        for name in (
            "gamma", "round_up", "sum_up", "product_up", "sqrt_up", "ldexp_up", "power_of_two", "norm_up",
            "row_norms_up", "column_sums", "max_eigenvalue", "gram_max_eigenvalue",
            "spectral_norm_up", "is_psd_exact",
        )
    },
    "convexnn.rigorous.eigenvalues:_proved_eigenvalue": ("rigorous",),
    "convexnn.certificate:Certificate.check": ("tampering",),
    "convexnn.certificate:Certificate._refuse_other_claims": ("tampering",),
    "convexnn.verification.certificates:LocalCertificate.check": ("local tampering",),
    "convexnn.certificates.lipschitz:check_lipsdp": ("lipschitz",),
    "convexnn.certificates.lipschitz:check_product_l2": ("lipschitz",),
    "convexnn.certificates.deep_lipschitz:check_deep_lipsdp": ("lipschitz",),
    "convexnn.certificates.max_gradient:check_max_gradient": ("lipschitz",),
    "convexnn.lipsdp.scalar:upper_bound": ("lipschitz",),
    "convexnn.lipsdp.vector:upper_bound_vector": ("lipschitz",),
    "convexnn.lipsdp.linf:upper_bound_linf": ("lipschitz",),
    "convexnn.lipsdp.deep_bound:upper_bound_deep": ("lipschitz",),
    "convexnn.regions.check:majorant_offsets": ("regions",),
    "convexnn.regions.check:quadratic_maximum": ("regions",),
    "convexnn.regions.check:_with_rho": ("regions",),
    "convexnn.regions.check:proved_bound": ("regions",),
    "convexnn.relaxations.prices:priced_bounds": ("certifiers",),
    "convexnn.relaxations.lipschitz_bounds:_check": ("certifiers",),
    "convexnn.relaxations.quadratic_outputs:check_quadratic": ("quadratic",),
    "convexnn.relaxations.quadratic_outputs:_proved": ("quadratic",),
    "convexnn.restrictions.base:ConeProgram.lower_bound": ("programs",),
    "convexnn.restrictions.polynomial_evidence:proved_bound": ("training",),
    "convexnn.restrictions.robust_relu_dual:lower_bound": ("training",),
    "convexnn.restrictions.robust_relu_dual:stationarity": ("training",),
    "convexnn.restrictions.robust_relu_dual:into_ball": ("training",),
    "convexnn.restrictions.certified_margin_dual:margin_lower_bound": ("training",),
    "convexnn.restrictions.certified_margin_dual:_stationarity": ("training",),
    "convexnn.restrictions.certified_margin_dual:norm_functional": ("training",),
    "convexnn.global_gap.l2_bound:DualBound.of": ("global",),
    "convexnn.global_gap.l2_bound:DualBound.lower": ("global",),
    "convexnn.global_gap.lipschitz_bound:DualBound.of": ("global",),
    "convexnn.global_gap.lipschitz_bound:DualBound.lower": ("global",),
}  # fmt: skip

SEEDS = (0, 1)
MAKERS = {
    "rigorous": rigorous_claims,
    "lipschitz": claims.lipschitz_claims,
    "regions": claims.region_claims,
    "certifiers": claims.certifier_claims,
    "quadratic": claims.quadratic_claims,
    "programs": claims.program_claims,
    "training": training_claims,
    "global": claims.global_claims,
}


def found_by(name: str) -> Tests:
    """Tests of one kind, with evidence that the honest library has proposed."""
    if name in MAKERS:
        return as_tests([claim for seed in SEEDS for claim in MAKERS[name](np.random.default_rng(seed))])
    return [tampering if name == "tampering" else local_tampering]


def refused(certificate, network, what: str) -> Iterator[str]:
    try:
        certificate.check(network)
    except CertificateError:
        return
    yield f"{what} was accepted"


def tampering() -> Iterator[str]:
    """Certificates whose statement was changed after it was proved."""
    rng = np.random.default_rng(3)
    network, other = (random_network(rng, (3, 4, 1)) for _ in range(2))
    honest = lipschitz(network)
    if not honest.check(network) <= honest.bound * (1 + 1e-12):
        yield "the recomputed bound is above the claimed one"
    twice = replace(honest, bound=2.0 * honest.bound)
    if not twice.check(network) < 1.5 * honest.bound:
        yield "a loose claim is not recomputed"
    changes = {
        "bound": 0.999 * honest.bound, "quantity": "weight", "threat": "linf", "arithmetic": "exact", "method": "magic",
        "slack": -1.0, "lower": 1.01 * honest.bound, "fingerprint": "0" * 64,
        "multiplier": {"q": -honest.multiplier["q"]},
    }  # fmt: skip
    for name, value in changes.items():
        yield from refused(replace(honest, **{name: value}), network, f"another {name}")
    for name, value in (("bound", np.nan), ("slack", np.nan), ("bound", -np.inf)):
        yield from refused(replace(honest, **{name: value}), network, f"{name} {value}")
    yield from refused(honest, other, "another network")
    open_claim = replace(honest, bound=np.inf, multiplier={"q": np.array([np.nan])}, lower=np.nan)
    if open_claim.check(network) != np.inf:
        yield "no multiplier proves something"
    free = Certificate("anything", np.inf, 0.0, "l2", "unbounded_slopes", {}, network.fingerprint())
    yield from refused(free, network, "a quantity that the method does not bound")


def local_tampering() -> Iterator[str]:
    """Certificates about a set of inputs whose numbers were changed after they were proved."""
    query = claims.point_query(np.random.default_rng(4))
    certifier = get_certifier("crown")
    honest = certificate_of(query, certifier.propose(query, Effort(), None))
    network = query.network
    if not (honest.check(network) <= honest.bounds).all():
        yield "recomputed bounds are above the claimed ones"
    below = honest.bounds - 1e-3
    for place in range(len(below)):
        changed = honest.bounds.copy()
        changed[place] = below[place]
        yield from refused(replace(honest, bounds=changed), network, f"a smaller bound of row {place}")
    yield from refused(replace(honest, bounds=np.full(2, np.nan)), network, "a bound that is no number")
    other = Network(tuple((W, b + 1e-9) for W, b in network.layers))
    yield from refused(honest, other, "another network")
    yield from refused(replace(honest, proofs=()), network, "a claim without proof")
    exact = replace(honest, arithmetic="exact", bounds=honest.bounds + 1e-6)
    if not np.isfinite(exact.check(network)).all():
        yield "the exact check proves nothing"

"""Sabotage: corrupted evidence never proves a false bound, and corrupted checkers are found out.

The claims and their truths are in tests/checker_*.py; `make mutants` plants every mistake, this file some of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convexnn.certificate import _CHECKS, registered_methods
from convexnn.certificates.region import region_bound
from convexnn.exceptions import CertificateError
from convexnn.network import Network
from convexnn.regions import rotated_box
from tests.certifier_cases import random_network
from tests.checker_claims import global_claims
from tests.checkers import Claim, complaints, covers
from tests.mutant_equivalents import EQUIVALENT
from tests.mutant_targets import CHECKERS, MAKERS, TARGETS, found_by, local_tampering, tampering
from tests.mutants import Mutant, function_of, killed, mutants

QUICK = (
    "rigorous",
    "rounding",
    "edges",
    "dual",
    "majorants",
    "chain",
    "layers",
    "parts",
    "lipschitz",
    "quadratic",
    "programs",
    "training",
)


@pytest.mark.parametrize("kind", QUICK)
def test_no_evidence_proves_what_is_false(kind) -> None:
    rng = np.random.default_rng(11)
    claims = list(MAKERS[kind](rng))
    assert len(claims) >= 2
    assert [found for claim in claims for found in complaints(claim, rng)] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regions", "certifiers", "global", "training"])
@pytest.mark.parametrize("seed", [1, 2])
def test_no_evidence_proves_what_is_false_about_sets_and_training(kind, seed) -> None:
    rng = np.random.default_rng(seed)
    others = list(MAKERS[kind](np.random.default_rng(seed + 100)))  # weights and multipliers of other networks
    for claim, other in zip(MAKERS[kind](rng), others, strict=True):
        assert list(complaints(claim, rng, other.evidence)) == []


def test_changed_statements_are_refused() -> None:
    assert [*tampering(), *local_tampering()] == []


@pytest.mark.parametrize("method", ["region_lp", "region_arrow"])
def test_prices_of_kinked_units_prove_nothing_of_smooth_ones(method) -> None:
    """``tanh(x) - x / 2`` is 0.27 inside [0, 2] and at most zero at the ends, where prices look."""
    network = Network([(np.array([[1.0], [0.01]]), np.zeros(2)), (np.array([[1.0, -50.0]]), np.zeros(1))], "tanh")
    honest = region_bound(network, rotated_box(np.ones(1), np.ones(1)), method="crown")
    prices = {**honest.multiplier, "0/evidence/row0/price0": np.array([0.48, -48.0])}
    forged = replace(honest, method=method, bound=0.1, lower=np.nan, multiplier=prices)
    with pytest.raises(CertificateError, match="tanh"):
        forged.check(network)


def test_huge_multipliers_of_global_bounds_prove_nothing_and_say_so() -> None:
    for claim in global_claims(np.random.default_rng(5)):
        for factor in (1e160, 1e300):
            wrong = {name: factor * (1.0 + np.abs(values)) for name, values in claim.evidence.items()}
            with np.errstate(all="ignore"):
                answer = claim.check(wrong)[0]
            assert answer <= 0.0  # minus a lower bound: the trivial one is at least zero
            assert claim.complaint(wrong) is None


def test_truths_are_compared_without_rounding() -> None:
    third = 1.0 / 3.0
    assert covers(np.nextafter(third, 1.0), third, 1, 0.0)
    assert not covers(third, np.nextafter(third, 1.0), 1, 0.0)
    assert not covers(np.nan, 0.0, 1, 0.0)
    assert covers(np.inf, np.inf, 1, 0.0)
    assert not covers(1e308, np.inf, 1, 0.0)
    assert not covers(-2.0, 3.0, 2, 0.0)


def test_every_registered_check_stands_on_targets_and_every_target_is_a_function() -> None:
    assert set(registered_methods()) == set(CHECKERS)
    assert {target for targets in CHECKERS.values() for target in targets} <= set(TARGETS)
    assert all(function_of(where).__code__ for where in TARGETS)


@pytest.mark.slow
def test_every_registered_check_has_claims() -> None:
    rng = np.random.default_rng(7)
    names = {claim.name.partition(",")[0] for kind in ("lipschitz", "regions") for claim in MAKERS[kind](rng)}
    assert set(CHECKERS) - names == {"lmi", "unbounded_slopes"}
    assert _CHECKS["lmi"] is _CHECKS["lipsdp"]
    assert _CHECKS["unbounded_slopes"](random_network(rng, (2, 3, 1)), {}) == np.inf


def test_equivalent_mutants_are_named_as_they_are_made() -> None:
    for where, reasons in EQUIVALENT.items():
        made = {name for mutant in mutants(where) for name in mutant.names}
        assert set(reasons) <= made, f"{where} is written differently now: {set(reasons) - made}"
        assert all(len(reason) > 20 for reason in reasons.values())


#: Mistakes that must be found: function, what stands there, what it becomes.
NAMED = [
    ("convexnn.rigorous.rounding:round_up", "math.nextafter(x, math.inf)", "x"),
    ("convexnn.rigorous.eigenvalues:max_eigenvalue", "scaled + error", "scaled - error"),
    ("convexnn.rigorous.eigenvalues:_proved_eigenvalue", "lam + lack", "lam - lack"),
    ("convexnn.rigorous.rationals:is_psd_exact", "pivot < 0", "pivot >= 0"),
    ("convexnn.certificate:Certificate.check", "self.lower > self.bound", "self.lower <= self.bound"),
    ("convexnn.certificate:Certificate.check", "network.fingerprint() != self.fingerprint",
     "network.fingerprint() == self.fingerprint"),
    ("convexnn.verification.certificates:LocalCertificate.check", "found <= self.bounds", "found > self.bounds"),
    ("convexnn.lipsdp.scalar:upper_bound", "rows / root[:, None]", "rows * root[:, None]"),
    ("convexnn.lipsdp.scalar:upper_bound", "exponent - 1", "exponent + 1"),
    ("convexnn.rigorous.rounding:norm_up", "values.size + 2", "values.size - 2"),
    ("convexnn.rigorous.eigenvalues:_lack_of", "2.0", "1.0"),
    ("convexnn.rigorous.eigenvalues:_lack_of", "2.0", "4.0"),
    ("convexnn.certificates.lipschitz:check_product_l2", "len(norms) - 1", "len(norms) + 1"),
    ("convexnn.certificates.lipschitz:check_product_linf", "np.abs(row)", "row"),
    ("convexnn.certificates.max_gradient:check_max_gradient", "max", "min"),
    ("convexnn.lipsdp.vector:upper_bound_vector", "high - low", "high + low"),
    ("convexnn.lipsdp.linf:upper_bound_linf", "spread / left", "spread * left"),
    ("convexnn.lipsdp.deep_bound:upper_bound_deep", "len(layers) - 1", "len(layers) + 1"),
    ("convexnn.restrictions.polynomial_evidence:proved_bound", "max", "min"),
    ("convexnn.restrictions.robust_relu_dual:into_ball", "largest > 0", "largest <= 0"),
    ("convexnn.regions.check:majorant_offsets", "al - q", "al + q"),
    ("convexnn.regions.check:majorant_offsets", "k - be", "k + be"),
    ("convexnn.regions.check:_with_rho", "A - np.diag(rho)", "A + np.diag(rho)"),
    ("convexnn.relaxations.quadratic_outputs:check_quadratic", "np.maximum(y, 0.0)", "np.minimum(y, 0.0)"),
    ("convexnn.relaxations.quadratic_outputs:_proved", "rows.combine(y) - rows.objective",
     "rows.combine(y) + rows.objective"),
    ("convexnn.global_gap.l2_bound:DualBound.lower", "theta * self.linear - theta * theta * self.quadratic",
     "theta * self.linear + theta * theta * self.quadratic"),
]  # fmt: skip


def planted_mistake(where: str, before: str, after: str) -> Mutant:
    wanted = f"{before} -> {after}"
    found = [
        mutant for mutant in mutants(where) if mutant.text == wanted or (before in mutant.text and after in mutant.text)
    ]
    assert found, f"{where} no longer holds {before!r}; name another mistake"
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize(("where", "before", "after"), NAMED, ids=[f"{w.partition(':')[2]}: {b}" for w, b, _ in NAMED])
def test_named_mistakes_are_found(where, before, after) -> None:
    tests = [test for name in TARGETS[where] for test in found_by(name)]
    honest = function_of(where).__code__
    assert killed(planted_mistake(where, before, after), tests) is not None
    assert function_of(where).__code__ is honest


def test_an_honest_function_survives_and_is_put_back() -> None:
    where = "convexnn.rigorous.rounding:sqrt_up"
    function = function_of(where)
    same = Mutant(where, 0, "x -> x", function.__code__)
    assert killed(same, found_by("rigorous")[:12]) is None


def test_a_claim_that_proves_nothing_is_a_complaint() -> None:
    empty = Claim("empty", {"x": np.ones(1)}, lambda _e: [np.inf], lambda _e: [0])
    assert "proves nothing" in next(complaints(empty, np.random.default_rng(0)))
    short = Claim("short", {"x": np.ones(1)}, lambda _e: [], lambda _e: [0])
    assert "0 answers" in next(complaints(short, np.random.default_rng(0)))

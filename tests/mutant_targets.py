"""The checkers that tests/mutants.py changes, and the claims that must notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np

from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import lipschitz
from convexnn.certificates.region import region_bound
from convexnn.exceptions import CertificateError
from convexnn.network import Network
from convexnn.propagation import Effort
from convexnn.regions import rotated_box
from convexnn.verification.certificates import certificate_of
from convexnn.verification.registry import get_certifier
from tests import checker_claims as claims
from tests.certifier_cases import random_network
from tests.checker_chain import chain_claims
from tests.checker_duals import part_claims
from tests.checker_edges import edge_claims
from tests.checker_global import dual_claims
from tests.checker_layers import layer_claims
from tests.checker_majorants import majorant_claims
from tests.checker_regions import region_claims
from tests.checker_rigorous import rigorous_claims
from tests.checker_rounding import sharp_claims
from tests.checker_training import training_claims
from tests.mutants import as_tests

Tests = list[Callable[[], Iterator[str]]]

R = "convexnn.rigorous."
_MAJORANTS = ("majorants", "regions/region_paired,", "regions/region_sdp,", "regions/region_sdp_tight,")
TARGETS: dict[str, tuple[str, ...]] = {
    **{
        R + name: ("rounding", "rigorous", "chain/semi")
        for name in (
            "rounding:gamma", "rounding:round_up", "rounding:sum_up", "rounding:product_up", "rounding:sqrt_up",
            "rounding:ldexp_up", "rounding:power_of_two", "rounding:norm_up", "rounding:row_norms_up",
            "rounding:column_sums", "eigenvalues:max_eigenvalue", "eigenvalues:_proved_eigenvalue",
            "eigenvalues:_lack_of", "eigenvalues:gram_max_eigenvalue", "eigenvalues:spectral_norm_up",
            "eigenvalues:lack_of_definiteness", "rationals:fraction_up", "rationals:fraction_down",
            "rationals:is_psd_exact",
        )
    },
    "convexnn.certificate:Certificate.check": ("tampering",),
    "convexnn.certificate:Certificate._refuse_other_claims": ("tampering",),
    "convexnn.verification.certificates:LocalCertificate.check": ("local tampering",),
    "convexnn.certificates.lipschitz:check_lipsdp": ("lipschitz/lipsdp",),
    "convexnn.certificates.lipschitz:check_product_l2": ("lipschitz/product_l2", "edges/product_l2"),
    "convexnn.certificates.lipschitz:check_product_linf": ("lipschitz/product_linf", "edges/product_linf"),
    "convexnn.certificates.lipschitz:_body_norm": ("edges/pairs",),
    "convexnn.certificates.deep_lipschitz:check_deep_lipsdp": ("lipschitz/deep_lipsdp",),
    "convexnn.certificates.max_gradient:check_max_gradient": ("lipschitz/max_gradient",),
    "convexnn.lipsdp.scalar:upper_bound": ("chain", "lipschitz/lipsdp", "edges"),
    "convexnn.lipsdp.vector:upper_bound_vector": ("lipschitz/lipsdp", "edges"),
    "convexnn.lipsdp.linf:upper_bound_linf": ("chain", "lipschitz/max_gradient", "edges"),
    "convexnn.lipsdp.deep_bound:upper_bound_deep": ("lipschitz/deep_lipsdp", "edges"),
    "convexnn.regions.check:majorant_offsets": _MAJORANTS,
    "convexnn.regions.check:quadratic_maximum": _MAJORANTS,
    "convexnn.regions.check:_with_rho": _MAJORANTS,
    "convexnn.regions.check:proved_bound": _MAJORANTS,
    "convexnn.regions.exact:exact_bound": ("regions/region_paired_exact", "regions/region_sdp_tight_exact"),
    "convexnn.regions.folding:folded_query": ("layers", "regions/region_crown", "regions/region_ibp",
                                                   "regions/region_lp"),
    "convexnn.propagation.backward:upper_bounds": ("layers", "regions/region_crown", "regions/region_ibp"),
    "convexnn.propagation.crown:checked_rows": ("layers", "regions/region_crown", "regions/region_ibp"),
    "convexnn.relaxations.arrow.evidence:check_arrow": ("regions/region_arrow",),
    "convexnn.branching.check:check": ("regions/region_branch_and_bound",),
    "convexnn.regions.chain:chain_bound": ("regions/region_chain",),
    "convexnn.regions.chain:_proved": ("chain", "regions/region_chain",),
    "convexnn.regions.splits:splits_bound": ("chain", "regions/region_splits,",),
    "convexnn.regions.splits:divided": ("regions/region_splits,",),
    "convexnn.regions.splits:exact_splits_bound": ("regions/region_splits_exact",),
    "convexnn.regions.facets:sum_of_tops": ("layers", "regions/region_facets",),
    "convexnn.regions.facets:_top": ("layers", "regions/region_facets",),
    "convexnn.regions.facets:exact_sum_of_tops": ("regions/region_facets",),
    "convexnn.regions.polytope_facets:polytope_value": ("chain", "regions/region_facets_polytope",),
    "convexnn.regions.polytope_facets:exact_polytope_value": ("regions/region_facets_polytope_exact",),
    "convexnn.regions.polytope_support:support_up": ("layers", "regions/region_facets_polytope",),
    "convexnn.regions.polytope_support:exact_support": ("regions/region_facets_polytope_exact",),
    "convexnn.relaxations.prices:priced_bounds": ("layers", "certifiers",),
    "convexnn.relaxations.lipschitz_bounds:_check": ("chain/values", "certifiers"),
    "convexnn.relaxations.quadratic_outputs:check_quadratic": ("quadratic",),
    "convexnn.relaxations.quadratic_outputs:_proved": ("parts", "quadratic",),
    "convexnn.restrictions.base:ConeProgram.lower_bound": ("programs",),
    "convexnn.restrictions.polynomial_evidence:proved_bound": ("training",),
    "convexnn.restrictions.robust_relu_dual:lower_bound": ("training",),
    "convexnn.restrictions.robust_relu_dual:stationarity": ("parts", "training",),
    "convexnn.restrictions.robust_relu_dual:into_ball": ("parts", "training",),
    "convexnn.restrictions.certified_margin_dual:margin_lower_bound": ("parts", "training"),
    "convexnn.restrictions.certified_margin_dual:_stationarity": ("parts", "training",),
    "convexnn.restrictions.certified_margin_dual:norm_functional": ("parts", "training"),
    "convexnn.restrictions.certified_margin_dual:_reach_up": ("parts", "training"),
    "convexnn.restrictions.certified_margin_dual:_best_share": ("parts", "training"),
    "convexnn.global_gap.l2_bound:DualBound.of": ("dual", "global"),
    "convexnn.global_gap.l2_bound:DualBound.lower": ("dual", "global"),
    "convexnn.global_gap.lipschitz_bound:DualBound.of": ("dual",),
    "convexnn.global_gap.lipschitz_bound:DualBound.lower": ("dual",),
}  # fmt: skip

_SHALLOW = tuple("convexnn.regions.check:" + name for name in ("majorant_offsets", "quadratic_maximum", "_with_rho",
                                                               "proved_bound"))  # fmt: skip
_LIPSDP = ("convexnn.certificates.lipschitz:check_lipsdp", "convexnn.lipsdp.scalar:upper_bound",
           "convexnn.lipsdp.vector:upper_bound_vector")  # fmt: skip
_LINES = ("convexnn.regions.folding:folded_query", "convexnn.propagation.backward:upper_bounds",
          "convexnn.propagation.crown:checked_rows")  # fmt: skip
_FACETS = ("convexnn.regions.facets:sum_of_tops", "convexnn.regions.facets:_top")
#: What of the targets every registered check stands on.
CHECKERS: dict[str, tuple[str, ...]] = {
    "lipsdp": _LIPSDP,
    "lmi": _LIPSDP,
    "deep_lipsdp": ("convexnn.certificates.deep_lipschitz:check_deep_lipsdp",
                    "convexnn.lipsdp.deep_bound:upper_bound_deep"),
    "product_l2": ("convexnn.certificates.lipschitz:check_product_l2",),
    "product_linf": ("convexnn.certificates.lipschitz:check_product_linf",),
    "max_gradient": ("convexnn.certificates.max_gradient:check_max_gradient",
                     "convexnn.lipsdp.linf:upper_bound_linf"),
    "unbounded_slopes": ("convexnn.certificate:Certificate._refuse_other_claims",),  # it proves nothing
    "region_ibp": _LINES,
    "region_crown": _LINES,
    "region_alpha_crown": _LINES,
    "region_lp": ("convexnn.regions.folding:folded_query", "convexnn.relaxations.prices:priced_bounds"),
    "region_arrow": ("convexnn.relaxations.arrow.evidence:check_arrow",),
    "region_branch_and_bound": ("convexnn.branching.check:check",),
    "region_chain": ("convexnn.regions.chain:chain_bound", "convexnn.regions.chain:_proved"),
    "region_sdp": _SHALLOW,
    "region_sdp_tight": _SHALLOW,
    "region_sdp_tight_exact": ("convexnn.regions.exact:exact_bound",),
    "region_paired": _SHALLOW,
    "region_paired_exact": ("convexnn.regions.exact:exact_bound",),
    "region_splits": ("convexnn.regions.splits:splits_bound", "convexnn.regions.splits:divided"),
    "region_splits_exact": ("convexnn.regions.splits:exact_splits_bound", "convexnn.regions.splits:divided"),
    "region_facets": _FACETS,
    "region_facets_exact": ("convexnn.regions.facets:exact_sum_of_tops",),
    "region_facets_polytope": ("convexnn.regions.polytope_facets:polytope_value", *_FACETS,
                               "convexnn.regions.polytope_support:support_up"),
    "region_facets_polytope_exact": ("convexnn.regions.polytope_facets:exact_polytope_value",
                                     "convexnn.regions.polytope_support:exact_support"),
}  # fmt: skip

SEEDS = (0, 1)
MAKERS = {
    "rigorous": rigorous_claims,
    "rounding": sharp_claims,
    "lipschitz": claims.lipschitz_claims,
    "regions": region_claims,
    "certifiers": claims.certifier_claims,
    "quadratic": claims.quadratic_claims,
    "programs": claims.program_claims,
    "training": training_claims,
    "global": claims.global_claims,
    "edges": edge_claims,
    "dual": dual_claims,
    "majorants": majorant_claims,
    "layers": layer_claims,
    "chain": chain_claims,
    "parts": part_claims,
}


@cache
def claims_of(kind: str) -> tuple[claims.Claim, ...]:
    """Claims of one kind, with evidence that the honest library has proposed."""
    seeds = SEEDS[:1] if kind == "regions" else SEEDS  # many methods, some in rational numbers
    return tuple(claim for seed in seeds for claim in MAKERS[kind](np.random.default_rng(seed)))


def found_by(name: str) -> Tests:
    """Tests of one kind, or of those of a kind whose name starts with what stands behind a stroke."""
    kind, _, start = name.partition("/")
    if kind in MAKERS:
        found = [claim for claim in claims_of(kind) if claim.name.startswith(start)]
        assert found, f"no claim of {kind} starts with {start}"
        return as_tests(found)
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
    small = Network([(1e-9 * W, b) for W, b in network.layers])
    tiny = lipschitz(small)
    yield from refused(replace(tiny, bound=0.9 * tiny.bound, lower=np.nan), small, "a smaller bound of small weights")
    low = Network(((np.eye(2), np.zeros(2)), (np.ones((1, 2)), np.array([-9.0]))))
    below = region_bound(low, rotated_box(np.zeros(2), np.ones(2)), method="paired")  # x + y - 9 is negative
    if not below.check(low) == below.bound < 0.0:
        yield "a negative bound is not its own"
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
    worst = replace(honest, bounds=honest.bounds - np.array([1.0, 2.0]))
    try:
        worst.check(network)
    except CertificateError as error:
        if "row 1" not in str(error):
            yield "the row that is furthest from its proof is not named"
    rational = honest.check(network, exact=True)
    if not ((rational <= honest.check(network)) & (rational != honest.check(network))).any():
        yield "the exact check is not exact"
    if not np.array_equal(replace(honest, arithmetic="exact", bounds=honest.bounds + 1.0).check(network), rational):
        yield "an exact certificate is not checked exactly"
    exact = replace(honest, arithmetic="exact", bounds=honest.bounds + 1e-6)
    if not np.isfinite(exact.check(network)).all():
        yield "the exact check proves nothing"

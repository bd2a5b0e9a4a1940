"""Claims about networks, programs and data: see tests/checkers.py."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from convexnn.activations import Polynomial
from convexnn.certificate import _CHECKS, registered_methods
from convexnn.certificates.lipschitz import lipschitz
from convexnn.certificates.region import region_bound
from convexnn.certificates.region_facets import facet_bound
from convexnn.exceptions import InvalidInputError
from convexnn.global_gap import LipschitzMultipliers, l2_global_bound, lipschitz_global_bound, train_global
from convexnn.network import Network
from convexnn.program import Dual
from convexnn.propagation import Effort, InputSet, Query
from convexnn.regions import Region, ellipsoid, rotated_box
from convexnn.relaxations.quadratic_outputs import bound_quadratic, check_quadratic
from convexnn.relaxations.quadratic_specification import QuadraticSpec
from convexnn.solvers import solve
from convexnn.verification.exact_numbers import fraction
from convexnn.verification.registry import METHODS, get_certifier
from tests._instances import PROGRAMS, regression
from tests.certifier_cases import attained, random_case, random_network
from tests.checkers import Arrays, Claim, constant, exact

TIGHT = ("sdp_tight", "paired", "alpha_crown", "lp")
REGION_METHODS = ("sdp", "sdp_tight", "paired", "ibp", "crown", "alpha_crown", "lp")
FAST_METHODS = ("ibp", "crown", "alpha_crown", "lp", "sdp", "lipsdp", "max_gradient")


def one_unit(rng) -> Network:
    return Network(((rng.standard_normal((1, 2)), rng.standard_normal(1)), (rng.standard_normal((1, 1)), np.zeros(1))))


def slopes_on_a_line(rng, hidden=(4,)) -> Network:
    """One input, positive weights: the slope far to the right is the product of the matrices."""
    sizes = (1, *hidden, 1)
    pairs = zip(sizes, sizes[1:], strict=False)
    return Network([(np.abs(rng.standard_normal((b, a))), rng.standard_normal(b)) for a, b in pairs])


def steepest(network: Network, rng, norm: float) -> float:
    """Norm of a gradient that is attained: a lower bound on the Lipschitz constant of the outputs, in float64."""
    X = 3.0 * rng.standard_normal((400, network.n_inputs))
    G = network.gradient(X).reshape(len(X), network.n_outputs, network.n_inputs)
    return float(np.linalg.norm(G, 2, axis=(1, 2)).max() if norm == 2 else np.abs(G).sum(axis=2).max())


def lipschitz_claims(rng) -> Iterator[Claim]:
    for method in ("lipsdp", "deep_lipsdp", "product", "max_gradient"):
        norm = np.inf if method == "max_gradient" else 2
        simple = one_unit(rng)
        w, v = exact(simple.W), exact(simple.v)[0]
        true = v * v * sum(x * x for x in w) if norm == 2 else abs(v) * sum(map(abs, w))
        yield _lipschitz(simple, method, f"{method}, one unit", constant(true), power=2 if norm == 2 else 1, tight=1e-6)
        hidden = (3, 2) if method in ("deep_lipsdp", "product") else (4,)
        line = slopes_on_a_line(rng, hidden)
        product = [Fraction(1)]
        for W, _ in line.layers:
            product = [sum(a * x for a, x in zip(exact(row), product, strict=True)) for row in W]
        tight = None if method in ("product", "deep_lipsdp") else 1e-6
        yield _lipschitz(line, method, f"{method}, a line", constant(product[0]), tight=tight)
        for sizes in ((3, 6, 1), (3, 5, 2)) if method != "deep_lipsdp" else ((3, 4, 3, 2),):
            network = random_network(rng, sizes)
            yield _lipschitz(network, method, f"{method}, {sizes}", constant(steepest(network, rng, norm)), slack=1e-9)


def _lipschitz(network, method, name, truth, **how) -> Claim:
    if method == "max_gradient":
        certificate = lipschitz(network, norm=np.inf, method="max_gradient")
    else:
        certificate = lipschitz(network, method=method)
    check = _CHECKS[certificate.method]
    return Claim(name, certificate.multiplier, lambda e: [check(network, e)], truth, **how)


def region_claims(rng) -> Iterator[Claim]:
    registered_methods()
    for method in REGION_METHODS:
        for kind, region in (
            ("point", rotated_box(rng.standard_normal(2), np.zeros(2))),
            ("ball", ellipsoid(rng.standard_normal(2), np.array([[1.0, 0.3], [0.0, 0.6]]))),
            ("box", rotated_box(rng.standard_normal(2), np.array([0.5, 1.0]))),
            ("parabola", ellipsoid(rng.standard_normal(2), np.array([0.7, 0.4]))),
        ):
            if kind == "parabola" and method not in ("sdp", "sdp_tight", "paired"):
                continue  # the others bound no parabolas on balls
            (W, b), (V, c) = random_network(rng, (2, 4, 1)).layers
            network = Network(((W, b), (V, c))) if kind != "box" else one_unit(rng)
            if kind == "parabola":
                network = Network(network.layers, Polynomial(0.3, 0.5, 0.1))
            certificate = region_bound(network, region, method=method)
            place = ("kind", "center", "axes", "output")  # what is claimed; the rest is how it is proved
            said = {k: a for k, a in certificate.multiplier.items() if k.rpartition("/")[2] in place}
            proof = {k: a for k, a in certificate.multiplier.items() if k not in said}
            check = _CHECKS[certificate.method]
            yield Claim(
                f"region {method}, {kind}",
                proof,
                lambda e, check=check, network=network, said=said: [check(network, {**said, **e})],
                constant(largest(network, region, rng)),
                hostile=bool(proof),
                tight=1e-6 if kind == "point" or (kind == "box" and method in TIGHT) else None,
            )
    network = random_network(rng, (2, 4, 1))
    box = rotated_box(rng.standard_normal(2), np.array([0.4, 0.8]))
    certificate = facet_bound(network, box)
    check = _CHECKS[certificate.method]
    yield Claim(
        "region facets",
        {},
        lambda _e: [check(network, certificate.multiplier)],
        constant(largest(network, box, rng)),
        hostile=False,
    )


def need(evidence: Arrays, name: str) -> np.ndarray:
    """An array, or a refusal: these are arguments of functions, so Python itself asks for them."""
    if name not in evidence:
        raise InvalidInputError(f"{name} is missing")
    return evidence[name]


def read_multipliers(evidence: Arrays) -> LipschitzMultipliers:
    return LipschitzMultipliers(*(need(evidence, name) for name in ("nu", "linear", "root")))


def largest(network: Network, region: Region, rng) -> Fraction:
    """Exact value of the network at the best of many points, which are inside up to rounding pulled inward."""
    E = rng.standard_normal((400, region.n_axes))
    E = np.sign(E) if region.kind == "box" else E / np.linalg.norm(E, axis=1, keepdims=True)
    X = region.image(np.vstack([np.zeros(region.n_axes), (1.0 - 1e-12) * E]))
    return max(exact_value(network, X[i]) for i in np.argsort(-network(X))[:3])


def exact_value(network: Network, x) -> Fraction:
    h = exact(x)
    for place, (W, b) in enumerate(network.layers):
        h = [
            sum(a * z for a, z in zip(exact(row), h, strict=True)) + Fraction(float(c))
            for row, c in zip(W, b, strict=True)
        ]
        if place < len(network.layers) - 1:
            h = [activated(network.activation, z) for z in h]
    return h[0]


def activated(activation, z: Fraction) -> Fraction:
    if isinstance(activation, Polynomial):
        return sum(Fraction(c) * z**k for k, c in enumerate((activation.c, activation.b, activation.a)))
    return max(z, Fraction(0))


def certifier_claims(rng, names=FAST_METHODS, cases=4) -> Iterator[Claim]:
    for name in names:
        certifier, made = get_certifier(name), 0
        while made < cases:
            query = point_query(rng) if made == 0 else random_case(rng, small=True).query
            if certifier.refusal(query) is not None:
                continue
            values = attained(query, rng)
            if values is None:
                continue
            made += 1
            evidence = certifier.propose(query, Effort(max_iter=40), None)
            yield Claim(
                f"certifier {name}",
                evidence.multiplier,
                lambda e, certifier=certifier, query=query: certifier.check(query, e),
                constant(*(fraction(one) for one in values)),
                hostile=METHODS[name].rigorous and bool(evidence.multiplier),
                tight=1e-6 if made == 1 else None,
            )


def point_query(rng) -> Query:
    """A set of one point: every relaxation is exact there, up to rounding."""
    network, x = random_network(rng, (2, 3, 2)), rng.standard_normal(2)
    return Query(network, InputSet.box(x, x), [[1.0, -1.0], [-1.0, 1.0]], [0.0, 0.0])


def quadratic_claims(rng) -> Iterator[Claim]:
    for depth in ((2, 3, 2), (2, 3, 3, 2)):
        network, inputs = random_network(rng, depth), InputSet.box(-np.ones(2), np.ones(2))
        spec = QuadraticSpec.reconstruction(2)
        found = bound_quadratic(network, inputs, spec, starts=4)
        yield Claim(
            f"quadratic specification {depth}",
            found.multiplier,
            lambda e, network=network, inputs=inputs, spec=spec: [check_quadratic(network, inputs, spec, e)],
            constant(found.lower),
            slack=1e-9,
            tight=1.0,
        )


def program_claims(rng, names=tuple(PROGRAMS)) -> Iterator[Claim]:
    for name in names:
        program = PROGRAMS[name](*regression(int(rng.integers(100)), n=12, d=2, p=4))
        solution = solve(program, tol=1e-9)
        arrays = {"residual": solution.dual.residual, "rows": solution.dual.rows}
        if solution.dual.matrix is not None:
            arrays["matrix"] = solution.dual.matrix
        yield Claim(
            f"lower bound of {name}",
            arrays,
            lambda e, program=program: [
                -program.lower_bound(Dual(need(e, "residual"), e.get("rows"), e.get("matrix")))
            ],
            constant(-solution.objective),
            slack=1e-12,
            tight=1e-7,
        )


def global_claims(rng) -> Iterator[Claim]:
    X, y, start = regression(int(rng.integers(100)), n=8, d=1, p=4)
    lam = 0.05
    best = train_global(X, y, lam, tol=1e-4, random_state=0)
    network, reached = best.network, float(best.objective)
    nu = 2.0 * (network(X) - y) / len(y)
    yield Claim(
        "global bound, weight decay",
        {"nu": nu},
        lambda e: [-l2_global_bound(X, y, lam, need(e, "nu")).lower],
        constant(-reached),
        slack=1e-9,
        tight=1e-3,
    )
    program = PROGRAMS["joint"](X, y, start, lam)
    solution = solve(program, tol=1e-8)
    reached = program.network_objective(program.decode(solution.z))
    multipliers = LipschitzMultipliers.from_dual(solution.dual, 1)
    arrays = {"nu": multipliers.nu, "linear": multipliers.linear, "root": multipliers.root}
    yield Claim(
        "global bound, Lipschitz",
        arrays,
        lambda e: [-lipschitz_global_bound(X, y, lam, read_multipliers(e), time_limit=5.0).lower],
        constant(-reached),
        slack=1e-9,
    )

"""Claims about networks, programs and data: see tests/checkers.py."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from convexnn.certificate import _CHECKS
from convexnn.certificates.lipschitz import lipschitz
from convexnn.exceptions import InvalidInputError
from convexnn.global_gap import LipschitzMultipliers, l2_global_bound, lipschitz_global_bound, train_global
from convexnn.network import Network
from convexnn.program import Dual
from convexnn.propagation import Effort, InputSet, Query
from convexnn.relaxations.quadratic_outputs import bound_quadratic, check_quadratic
from convexnn.relaxations.quadratic_specification import QuadraticSpec
from convexnn.solvers import solve
from convexnn.verification.exact_numbers import fraction
from convexnn.verification.registry import METHODS, get_certifier
from tests._instances import PROGRAMS, regression
from tests.certifier_cases import attained, random_case, random_network
from tests.checkers import Arrays, Claim, constant, exact

LIPSCHITZ = (
    ("lipsdp", 2),
    ("lmi", 2),
    ("deep_lipsdp", 2),
    ("product", 2),
    ("product", np.inf),
    ("max_gradient", np.inf),
)
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
    for method, norm in LIPSCHITZ:
        simple = one_unit(rng)
        w, v = exact(simple.W), exact(simple.v)[0]
        true = v * v * sum(x * x for x in w) if norm == 2 else abs(v) * sum(map(abs, w))
        yield _lipschitz(simple, method, norm, "one unit", constant(true), power=2 if norm == 2 else 1, tight=1e-6)
        hidden = (3, 2) if method in ("deep_lipsdp", "product") else (4,)
        line = slopes_on_a_line(rng, hidden)
        product = [Fraction(1)]
        for W, _ in line.layers:
            product = [sum(a * x for a, x in zip(exact(row), product, strict=True)) for row in W]
        tight = None if method == "product" else 1e-6
        yield _lipschitz(line, method, norm, "a line", constant(product[0]), tight=tight)
        for sizes in ((3, 6, 1), (3, 5, 2)) if method != "deep_lipsdp" else ((3, 4, 3, 2),):
            network = random_network(rng, sizes)
            yield _lipschitz(network, method, norm, f"{sizes}", constant(steepest(network, rng, norm)), slack=1e-9)


def _lipschitz(network, method, norm, name, truth, **how) -> Claim:
    certificate = lipschitz(network, norm=norm, method=method)
    check = _CHECKS[certificate.method]
    named = f"{certificate.method}, {name}"
    return Claim(named, certificate.multiplier, lambda e: [check(network, e)], truth, **how)


def need(evidence: Arrays, name: str) -> np.ndarray:
    """An array, or a refusal: these are arguments of functions, so Python itself asks for them."""
    if name not in evidence:
        raise InvalidInputError(f"{name} is missing")
    return evidence[name]


def read_multipliers(evidence: Arrays) -> LipschitzMultipliers:
    return LipschitzMultipliers(*(need(evidence, name) for name in ("nu", "linear", "root")))


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

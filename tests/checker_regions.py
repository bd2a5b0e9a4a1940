"""Claims about bounds of networks on regions and polytopes, one for every registered method: see tests/checkers.py."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import numpy as np

from convexnn.activations import LeakyReLU, Polynomial
from convexnn.certificate import _CHECKS, Certificate, registered_methods
from convexnn.certificates.region import region_bound
from convexnn.certificates.region_methods import CERTIFIERS, EXACT, METHODS
from convexnn.network import Network
from convexnn.regions import Polytope, Region, ellipsoid, rotated_box
from tests.certifier_cases import random_network
from tests.checkers import Claim, constant, exact

TIGHT = ("sdp_tight", "paired", "alpha_crown", "lp", "arrow", "branch_and_bound", "chain", "splits", "facets")
POLYTOPES = ("region_facets_polytope", "region_facets_polytope_exact")
STATED = ("kind", "center", "axes", "output", "A", "b", "box")  # what is claimed; the rest is how it is proved


def region_claims(rng) -> Iterator[Claim]:
    registered_methods()
    for method in METHODS:
        for kind, network, region in cases(rng, method):
            for arithmetic in ("float64+slack", "exact") if method in EXACT else ("float64+slack",):
                certificate = region_bound(network, region, method=method, arithmetic=arithmetic)
                yield claim_of(certificate, network, largest(network, region, rng), kind, method in TIGHT)
    A = np.vstack([np.eye(2), -np.eye(2), np.ones((1, 2))])
    cut = Polytope(
        A, np.r_[1.0, 1.0, 0.5, 1.0, 0.5]
    )  # a part of a square, without a corner: its points of eighths are exact
    grid = [np.array(p) / 8.0 for p in product(range(-8, 9), repeat=2)]
    inner = [x for x in grid if x[0] >= -0.5 and x.sum() <= 0.5]
    square = rotated_box(np.zeros(2), np.ones(2))
    network = random_network(rng, (2, 4, 1))
    for arithmetic in ("float64+slack", "exact"):
        found = region_bound(network, cut, method="facets", arithmetic=arithmetic)
        yield claim_of(found, network, max(exact_value(network, x) for x in inner), "polytope", False)
        for place, one in ridges_of_one_direction().items():
            for region, points in ((cut, inner), (square, grid)):
                best = max(exact_value(one, x) for x in points)
                found = region_bound(one, region, method="facets", arithmetic=arithmetic)
                yield claim_of(found, one, best, f"largest {place}", False, exactly=True)
        hard = Network.shallow(
            [[2.0, -2.5], [0.375, -0.625], [-0.5, -0.25], [-2.0, -0.25], [-0.875, 3.375], [0.25, -0.375]],
            [-0.125, -0.375, -0.5, -0.25, 0.25, -0.125],
            [1.0, -0.25, 0.0, 1.5, 0.5, -0.5],
            0.0,
        )  # two parts are enough
        tree = region_bound(hard, square, method="splits", arithmetic=arithmetic, tol=1e-4)
        yield claim_of(tree, hard, largest(hard, square, rng), "a tree", False)


def ridges_of_one_direction() -> dict[str, Network]:
    """Functions of the first input alone with kinks at eighths: directions bound them exactly."""
    W = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    return {
        "at the upper end": Network.shallow(W, [-0.25, -0.5, 0.125], [2.0, 1.0, -0.5], 0.5),
        "at the lower end": Network.shallow(W, [-0.25, -0.5, 0.125], [0.5, 4.0, -0.5], -1.0),
        "at a kink": Network.shallow(W, [-0.125, 0.125, -0.75], [-1.0, -2.0, -1.0], 0.25),
        "at another kink": Network.shallow(W, [0.5, -0.5, 0.75], [-2.0, -1.0, 1.0], 0.25, LeakyReLU(0.25)),
    }


def cases(rng, method: str) -> Iterator[tuple[str, Network, Region]]:
    """A point, where every bound is exact; a ball; a box around one unit; a parabola, more layers where met."""
    yield "point", random_network(rng, (2, 4, 1)), rotated_box(rng.standard_normal(2), np.zeros(2))
    if method != "facets":
        ball = ellipsoid(rng.standard_normal(2), np.array([[1.0, 0.3], [0.0, 0.6]]))
        yield "ball", random_network(rng, (2, 4, 1)), ball
    line, start = rng.standard_normal((1, 2)), rng.standard_normal(1)
    one = Network(((line, start), (rng.standard_normal((1, 1)), np.zeros(1))))
    yield "box", one, rotated_box(rng.standard_normal(2), np.array([0.5, 1.0]))
    if method in ("sdp", "sdp_tight", "paired"):
        parabola = Network(random_network(rng, (2, 4, 1)).layers, Polynomial(0.3, 0.5, 0.1))
        yield "parabola", parabola, ellipsoid(rng.standard_normal(2), np.array([0.7, 0.4]))
    if method == "chain" or method in CERTIFIERS:
        yield "deep", random_network(rng, (2, 3, 2, 1)), rotated_box(rng.standard_normal(2), np.array([0.5, 1.0]))


def claim_of(
    certificate: Certificate, network: Network, truth: Fraction, kind: str, tight: bool, exactly: bool = False
) -> Claim:
    """A bound, corrupted in the arrays that prove it."""
    said = {k: a for k, a in certificate.multiplier.items() if k.rpartition("/")[2] in STATED}
    proof = {k: a for k, a in certificate.multiplier.items() if k not in said}
    check = _CHECKS[certificate.method]
    return Claim(
        f"{certificate.method}, {kind}",
        proof,
        lambda e: [check(network, {**said, **e})],
        constant(truth),
        hostile=bool(proof),
        tight=1e-6 if exactly or kind == "point" or (kind == "box" and tight) else None,
    )


def largest(network: Network, region: Region, rng) -> Fraction:
    """Exact value of the network at the best of many points, which are inside up to rounding pulled inward."""
    E = rng.standard_normal((400, region.n_axes))
    E = np.sign(E) if region.kind == "box" else E / np.linalg.norm(E, axis=1, keepdims=True)
    X = region.image(np.vstack([np.zeros(region.n_axes), (1.0 - 1e-12) * E]))
    return max(exact_value(network, X[i]) for i in np.argsort(-network(X))[:3])


def exact_value(network: Network, x) -> Fraction:
    """First output at x over the rational numbers."""
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
    """ReLU, LeakyReLU and polynomials."""
    if isinstance(activation, Polynomial):
        return sum(Fraction(c) * z**k for k, c in enumerate((activation.c, activation.b, activation.a)))
    return max(z, Fraction(getattr(activation, "slope", 0.0)) * z)

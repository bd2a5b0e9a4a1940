"""Claims about training programs with multipliers of their own: polynomial, robust ReLU and certified-margin ones.

The truth is the objective of a feasible point, recomputed from the data: no lower bound on the optimum is above it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from convexnn.network import Network
from convexnn.patterns import extract
from convexnn.program import Dual, PolynomialDual
from convexnn.restrictions import PolynomialProgram
from convexnn.restrictions.certified_margin import CertifiedMargin
from convexnn.restrictions.robust_relu import RobustRelu
from convexnn.restrictions.robust_relu_dual import RobustDual
from convexnn.solvers import solve
from tests.checker_claims import need
from tests.checkers import Arrays, Claim, constant

KINDS: dict[str, tuple[type, tuple[str, ...], tuple[str, ...]]] = {  # what a dual must hold, and what it may
    "polynomial": (PolynomialDual, ("slopes", "shifts"), ("variances", "directions")),
    "robust": (RobustDual, ("slopes", "attacks", "shares"), ("rows",)),
    "margin": (Dual, ("residual", "rows"), ("matrix",)),
}


def training_claims(rng) -> Iterator[Claim]:
    for name, kind, program, solver in programs(rng):
        solution = solve(program, solver=solver, tol=1e-7)
        _, musts, options = KINDS[kind]
        found = {key: getattr(solution.dual, key) for key in (*musts, *options)}
        yield Claim(
            f"lower bound of {name}",
            {key: np.asarray(array) for key, array in found.items() if array is not None},
            lambda e, program=program, kind=kind, fixed=solution.dual: [-program.lower_bound(read(kind, e, fixed))],
            constant(-program.objective(solution.z)),
            slack=1e-12,
            tight=1e-5,
            floor=1e-2,
        )


def read(kind: str, evidence: Arrays, found: Any) -> Any:
    """Multipliers of the kind; the groups of directions are integers, which no corruption leaves: they stay."""
    made, musts, options = KINDS[kind]
    parts = [need(evidence, name) for name in musts] + [evidence.get(name) for name in options]
    if kind == "polynomial" and "directions" in evidence:
        return made(*parts, found.groups)
    return made(*parts)


def programs(rng) -> Iterator[tuple[str, str, Any, str]]:
    """Small programs: every loss that is binary or not, both norms, with and without constraints on the units."""
    X = rng.standard_normal((8, 2))
    y = np.where(X[:, 0] + X[:, 1] ** 2 > 1.0, 1.0, -1.0)
    y[:2] = 1.0, -1.0
    for loss, radius in (("squared_hinge", 0.3), ("hinge", 0.1), ("logistic", 0.0), ("huber", 0.2)):
        program = PolynomialProgram(X, y, lam=0.02, loss=loss, radius=radius)
        yield f"polynomial, {loss}, radius {radius}", "polynomial", program, "auto"
    network = Network.shallow(rng.standard_normal((3, 2)), 0.3 * rng.standard_normal(3), rng.standard_normal(3), 0.1)
    for loss, norm, stable in (("hinge", 2.0, False), ("squared_hinge", math.inf, True), ("logistic", 2.0, True)):
        program = RobustRelu(X, y, extract(network, X), 0.02, 0.1, norm=norm, loss=loss, stable=stable)
        yield f"robust ReLU, {loss}, l{norm:g}, stable {stable}", "robust", program, "clarabel"
    three = np.arange(8) % 3
    outputs = Network.shallow(network.W, network.b, rng.standard_normal((3, 3)), np.zeros(3))
    for loss, norm, net, labels in (
        ("hinge", 2, outputs, three),
        ("squared_hinge", np.inf, network, (y > 0).astype(int)),
    ):
        program = CertifiedMargin.at(net, X, labels, radius=0.1, norm=norm, lam=0.02, loss=loss)
        yield f"certified margin, {loss}, l{norm:g}", "margin", program, "clarabel"

"""Claims about chains of quadratic forms, trees of parts and other short checks, as in tests/checker_majorants.py.

``f <= -S_00 + max_w { g'w - w'M w }`` with every entry of S known up to E: where M is a multiple of the identity (after
scaling by powers of two) the maximum is known whatever point is proposed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from unittest import mock

import numpy as np

from convexnn.lipsdp import linf, scalar
from convexnn.network import Network
from convexnn.propagation import InputSet, Query
from convexnn.regions import Polytope, chain
from convexnn.regions.polytope_facets import exact_polytope_value, polytope_value
from convexnn.regions.splits import LEAF, splits_bound
from convexnn.relaxations import lipschitz_bounds
from convexnn.rigorous import is_psd_exact
from tests.checker_majorants import ridges_of
from tests.checker_rounding import U, g, two_sided
from tests.checkers import Claim, constant, exact


def chain_claims(rng) -> Iterator[Claim]:
    yield from known_forms()
    yield from uncertain_forms()
    yield from trees()
    yield from polytopes()
    yield Claim("what is handed over", {}, handed_over, constant(*[0] * 8), hostile=False)
    yield from added()
    yield Claim("semidefinite floats", {}, lambda _e: [0.0 if held else -1.0 for held in (
        is_psd_exact(np.eye(2)), is_psd_exact([[1.0, 1.0], [1.0, 1.0]]), not is_psd_exact([[0.5, 1.0], [1.0, 1.0]]),
        not is_psd_exact([[math.inf]]), not is_psd_exact([[math.nan]]))], constant(*[0] * 5),
        hostile=False)  # fmt: skip


def form(fixed: np.ndarray, pairs: int = 1) -> chain.Chain:
    """A chain whose multipliers all have the form zero, or cancel in the corner of the last unit."""
    N = len(fixed)
    left, right = np.zeros((2 * pairs, N)), np.zeros((2 * pairs, N))
    return chain.Chain(left, right, np.arange(2 * pairs), fixed, 1, 0, np.zeros(2 * pairs))


def at_point(made: chain.Chain, y: np.ndarray, point: np.ndarray | None) -> list[float]:
    with np.errstate(all="ignore"):
        if point is None:
            return [chain._proved(made, y)]
        with mock.patch.object(chain, "cho_solve", return_value=point):
            return [chain._proved(made, y)]


def known_forms() -> Iterator[Claim]:
    for n, away, sign in product((1, 2, 40), (None, 0.0, 0.5, -1.0), (1.0, -1.0, 0.0)):
        powers = 4.0 ** np.array([0, 20, -20])[np.arange(n) % 3] * (
            1.0 if n > 1 else 2.0**-40
        )  # each becomes a quarter
        slope = sign * np.where(np.arange(n) % 4 == 3, -6.0, 2.0) * np.sqrt(powers)
        fixed = np.block([[np.array([[-3.0]]), -0.5 * slope[None]], [-0.5 * slope[:, None], np.diag(powers)]])
        made, y = form(fixed), np.zeros(2)
        E, own = g(18) * 2, 0.5 * slope / np.sqrt(powers)  # of the scaled variable: g, and M = 1/4
        point = None if away is None else 2.0 * own * 1.0 + away
        w, h = exact(2.0 * own if point is None else point), exact(own)
        true = 3 + sum(4 * x * x / 4 for x in h)
        size = [abs(b) + abs(a) / 2 for a, b in zip(w, h, strict=True)]
        need = E * 3 + sum(abs(a) * (g(2 * n) * s + E * abs(b)) + E * a * a / 4 for a, s, b in
                           zip(w, size, h, strict=True))  # fmt: skip
        left = [abs(b - a / 2) for a, b in zip(w, h, strict=True)]
        need += sum(
            2 * r * (g(n) * s + E * abs(b) + E * abs(a) / 2) for a, b, r, s in zip(w, h, left, size, strict=True)
        )
        need += E * sum(r * r for r in left) * 4
        most = Fraction(3e-12) * (4 + sum(s * (abs(a) + 1) for a, s in zip(w, size, strict=True)) + sum(left)) * n
        yield two_sided(f"a form of {n}, {away} away", lambda given=(made, y, point): at_point(*given), [true + need],
                        [true + need + most])  # fmt: skip
    n = 40  # rows with many terms of both signs
    for sign in (1.0, -1.0):
        M, w = (n + 1.0) * np.eye(n) - np.ones((n, n)), np.full(n, sign)
        fixed = np.block([[np.array([[0.0]]), -w[None]], [-w[:, None], M]])
        scale = 2.0 ** -math.frexp(math.sqrt(n))[1]
        X = Fraction(int(np.abs(M).sum()))
        need = 2 * g(18) * (2 * n + X) + g(2 * n) * (2 * n + 2 * X)
        given = form(fixed), np.zeros(2), w / scale
        yield two_sided("a form of many terms", lambda given=given: at_point(*given), [n + need],
                        [n + Fraction(1e-9) * n])  # fmt: skip


def uncertain_forms() -> Iterator[Claim]:
    """Multipliers that cancel: the matrix is known up to much of itself, the best point is far away."""
    left = np.array([[0.0, 1.0], [0.0, -1.0]])
    right = np.abs(left)
    y = np.full(2, 2.0**45)
    made = chain.Chain(left, right, np.arange(2), np.zeros((2, 2)), 1, 0, np.zeros(2))
    spread = float(made.error(y)[1, 1])
    for share in (2.0**-6, 2.0**-3, 1.0):
        m = spread * (1.0 + share)
        fixed = np.array([[0.0, -0.5], [-0.5, m]])
        one = chain.Chain(left, right, np.arange(2), fixed, 1, 0, np.zeros(2))
        E = Fraction(float(one.error(y)[1, 1]))
        if not m > E:
            continue
        off = Fraction(float(one.error(y)[0, 1]))
        true = (1 + 2 * off) ** 2 / (4 * (Fraction(m) - E)) + Fraction(float(one.error(y)[0, 0]))
        yield two_sided(f"a form that is known up to {share}", lambda one=one: at_point(one, y, np.zeros(1)), [true],
                        [true * (1 + Fraction(1e-9))])  # fmt: skip
    yield two_sided("a form of nothing", lambda: at_point(form(np.diag([0.0, 1.0])), np.zeros(2), None), [Fraction(0)],
                    [Fraction(1e-290)])  # fmt: skip


def trees() -> Iterator[Claim]:
    """``f = k a`` on two sides of zero, the larger value on the second or on the first."""
    for k in (1.0, -1.0):
        parts = ridges_of(np.ones((1, 1)), 0.0, k, 0.0, -1.0, 1.0, 1.0)
        evidence = {"tree": np.array([[0.0, 0.0], [LEAF, 0.0], [LEAF, 0.0]]), "curvature": np.zeros((2, 1)),
                    "slope": np.zeros((2, 1)), "rho": np.zeros((2, 1))}  # fmt: skip
        yield two_sided("parts of a line", lambda parts=parts, evidence=evidence: [splits_bound(parts, evidence)],
                        [Fraction(1)], [1 + 100 * U])  # fmt: skip


def polytopes() -> Iterator[Claim]:
    """Directions that the box bounds best, and others that the rows do."""
    A = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]])
    cut = Polytope(A, np.array([1.0, 1.0, 1.0, 1.0, 0.5]))
    network = Network.shallow([[1.0, 1.0], [1.0, 0.0]], [-0.25, 0.5], [1.0, 2.0], 0.0)
    for wrong in (1.0, 3.0):
        lam = np.zeros((2, 2, 5))
        lam[0, 0, 4] = lam[1, 0, 0] = wrong
        true = exact_polytope_value(network, cut, lam)
        yield two_sided("ranges of directions", lambda lam=lam: [polytope_value(network, cut, lam)], [Fraction(true)],
                        [Fraction(true) + Fraction(1e-12)])  # fmt: skip


def added() -> Iterator[Claim]:
    """The value at the centre, the rise and what the rounding of the rows may add: three times one here."""
    network = Network([(np.array([[1.0]]), np.ones(1)), (np.array([[1.0]]), np.zeros(1))])
    query = Query(network, InputSet.box(np.zeros(1), np.zeros(1)), np.ones((1, 1)), [0.0])

    def found() -> list[float]:
        with (
            mock.patch.object(lipschitz_bounds, "_rounding", return_value=np.ones(1)),
            mock.patch.object(lipschitz_bounds, "_rise_in_ball", return_value=1.0),
        ):
            return lipschitz_bounds._check(query, {}, False).tolist()

    yield two_sided("values at the centre", found, [Fraction(3)], [3 + 200 * U])


def handed_over(_evidence) -> list[float]:
    """The error that covers the roundings of ``E = B / roots``: two of every entry, in l1 four; -1 where it is not."""
    held = []
    rows = np.array([[3.0, -1.0], [2.0, 0.5]])
    for share in (2.0**-40, 1.0):
        weights = np.array([1.0, share])
        for module, call, count in ((scalar, lambda q: scalar.upper_bound(rows, q), 2),
                                    (linf, lambda q: linf.upper_bound_linf(rows, q, q), 4)):  # fmt: skip
            with mock.patch.object(module, "gram_max_eigenvalue", return_value=1.0) as given:
                call(weights)
            E, error = given.call_args.args
            square = sum(x * x for x in exact(E))
            held += [Fraction(error) ** 2 >= (count * U) ** 2 * square, Fraction(error) ** 2 <= (99 * U) ** 2 * square]
    return [0.0 if one else -1.0 for one in held]

"""Claims about regions/check.py at the level of arrays: pieces of one variable, quadratics of known maximum.

The numbers are exact in float64, so what a bound adds to the truth is its allowance for rounding: it must be at least
what the roundings of other numbers of the same sizes can add up to (``need``), and not much more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from unittest import mock

import numpy as np

from convexnn.regions import check
from convexnn.regions.ridges import Ridges
from tests.checker_rounding import U, g, two_sided
from tests.checkers import Claim, exact

INF = math.inf
FLOOR = Fraction(2) ** -990
BIG, EPS = 2.0**20, 2.0**-53
CURVES = [
    (1.0, 0.0),
    (0.0, -1.0),
    (-1.0, 0.0),
    (BIG + 1.0, BIG),
    (-BIG, -BIG - 1.0),
    (0.0, 2.0),
    (-3.0, -1.0),
    (0.0, 0.0),
]
SLOPES = [(0.0, 0.0), (0.0, 2.0**-60), (1.0, 1.0 - 16.0 * EPS), (1.0, 1.0 - EPS), (1.0 - EPS, 1.0), (BIG + 1.0, BIG),
          (BIG, BIG + 1.0), (-BIG, -BIG - 1.0), (-2.0, 0.0), (0.0, -2.0), (0.25, 0.0),
          (0.0, 2.0**-540), (0.0, 2.0**-1009)]  # fmt: skip
LEVELS = (0.0, 1.0, -1.0, 2.0**-70)
RANGES = [(-1.0, 1.0), (-1.0, 0.0), (0.0, 1.0), (-4.0, 4.0), (-INF, INF), (-INF, 5.0), (-INF, -3.0), (3.0, INF),
          (-5.0, INF), (-0.125, 0.25)]  # fmt: skip
REACH = 2.0


def majorant_claims(rng) -> Iterator[Claim]:
    yield from pieces()
    yield from quadratics()
    yield from any_point()
    yield from sums()


def ridges_of(V, q, k, e, low, high, reach=REACH, kind="box", offset=0.0) -> Ridges:
    """One piece a group and one that does not exist."""
    G = len(V)
    none = np.full(G, INF)
    columns = [np.column_stack([np.broadcast_to(x, G), np.full(G, 9.0)]) for x in (q, k, e)]
    ends = np.column_stack([np.broadcast_to(low, G), none]), np.column_stack([np.broadcast_to(high, G), -none])
    return Ridges(np.asarray(V), np.broadcast_to(reach, G) + np.zeros(G), *columns, *ends, offset, kind)


def pieces() -> Iterator[Claim]:
    """``sup q a^2 + k a + e - al a^2 - be a`` over an interval: at an end, or where the derivative vanishes."""
    cases = list(product(CURVES, SLOPES, LEVELS, RANGES))
    al, q, be, k, e, low, high = np.array([(*c, *s, z, *r) for c, s, z, r in cases]).T
    parts = ridges_of(np.ones((len(al), 1)), q, k, e, low, high)
    sides = [piece(*(float(x) for x in row)) for row in zip(al, q, be, k, e, low, high, strict=True)]
    yield two_sided("majorant offsets", lambda: check.majorant_offsets(parts, al, be).tolist(),
                    [one for one, _ in sides], [one for _, one in sides])  # fmt: skip


def piece(al, q, be, k, e, low, high) -> tuple[Fraction, Fraction]:
    low = min(high, -REACH) if math.isinf(low) else low
    high, whole = (max(low, REACH), True) if math.isinf(high) else (high, False)
    al, q, be, k, e, low, high = (Fraction(x) for x in (al, q, be, k, e, low, high))
    A, B = al - q, k - be
    size_A, size_B = abs(al) + abs(q), abs(k) + abs(be)

    def value(a: Fraction) -> Fraction:
        return (B - A * a) * a + e

    least = max(value(a) + U * (5 * abs(A) * a * a + 4 * abs(B * a) + abs(e)) for a in (low, high))
    most = max(value(a) + 20 * U * (size_A * a * a + size_B * abs(a) + abs(e)) for a in (low, high))
    if A > 0:
        s = B / A / 2
        spread = 5 * U * (size_B / A + (1 + size_A / A) * abs(B / A))
        share = 24 * U + 8 * U * size_A / A + (8 * U * size_B / abs(B) if B else 0)
        if low <= s <= high:
            lost = U * (5 * (value(s) - e) + abs(value(s))) if value(s) > e else 0
            least = max(least, value(s) + max(lost - FLOOR, 0))
        if low - spread <= s <= high + spread and share < Fraction(1, 2):
            most = max(most, value(s) + 2 * share * (value(s) - e) + 16 * U * abs(e))
        elif low - spread <= s <= high + spread:
            most = max(most, *(B * a + e + 20 * U * (size_B * abs(a) + abs(e)) for a in (low, high)))
    return least, most + FLOOR


#: Kind, directions, curvature, gradient, multipliers, the maximum and the relative accuracy of the bound.
QUADRATICS = [
    ("box", [[1.0]], [1.0], [0.0], None, 1, 1e-2),
    ("box", [[1.0]], [1.0], [0.0], [1.0], 1, 1e-9),
    ("ball", [[1.0]], [1.0], [0.0], None, 1, 1e-9),
    ("box", [[1.0]], [0.0], [3.0], None, 3, 1e-9),
    ("box", [[1.0]], [2.0**40], [0.0], [2.0**40], 2**40, 1e-9),
    ("box", [[1.0]], [-2.0], [4.0], [0.0], 2, 1e-12),
    ("box", [[1.0]], [1.0], [2.0], [2.0], 3, 1e-12),
    ("box", [[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0], [0.0, 2.0], [1.0, 0.0], 2, 1e-9),
    ("box", [[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0], [0.0, -2.0], [1.0, 0.0], 2, 1e-9),
    ("ball", [[1.0, 0.0]], [-1.0], [0.0, 0.0], None, 0, 1e-9),
    ("ball", [[1.0, 1.0]], [-1.0], [-2.0, -2.0], None, 1, 1e-4),
    ("ball", [[1.0, 0.0], [0.0, 1.0]], [2.0, 2.0], [3.0, -4.0], None, 7, 1e-9),
    ("box", [[1.0, 1.0]], [1.0], [0.0, 0.0], [2.0, 2.0], 4, 1e-9),
    ("ball", [[2.0]], [0.0], [0.0], None, 0, 1e-12),
    ("box", [[1.0], [1.0]], [BIG + 1.0, -BIG], [0.0], [1.0], 1, 1e-6),
]  # fmt: skip


def quadratics() -> Iterator[Claim]:
    for kind, V, al, gradient, rho, true, share in QUADRATICS:
        given = [np.asarray(x) for x in (V, al, gradient)] + [kind, None if rho is None else np.asarray(rho)]
        # a sum of G products of three numbers each, and two roundings of what the multipliers leave of the diagonal
        total = sum(abs(Fraction(c)) * sum(map(abs, exact(v))) ** 2 for c, v in zip(al, V, strict=True))
        size = total if kind == "box" else sum(abs(Fraction(c)) * sum(x * x for x in exact(v))
                                               for c, v in zip(al, V, strict=True))  # fmt: skip
        need = g(len(al) + 2) * size
        yield two_sided(f"quadratic {kind}, {al}, {gradient}", lambda given=given: [check.quadratic_maximum(*given)],
                        [true + need], [true + Fraction(share) * max(1, abs(true))])  # fmt: skip
    yield beyond_float64()


def beyond_float64() -> Claim:
    one, wide = np.ones(1), np.array([[1e200]])

    def found(_evidence) -> list[float]:
        with np.errstate(all="ignore"):
            held = [check.quadratic_maximum(wide, one, one, kind, one) for kind in ("box", "ball")]
            held.append(check.quadratic_maximum(np.ones((1, 1)), one, np.array([INF]), "box", one))
        return [0.0 if x == INF else -1.0 for x in held]

    return Claim("quadratics beyond float64", {}, found, lambda _e: [0, 0, 0], hostile=False)


def any_point() -> Iterator[Claim]:
    """The point of the bound is proposed: what another one adds is paid for; exactly, of equal eigenvalues."""
    for n, away, size in product((1, 2, 40), (0.0, 0.5, 2.0**-20, None), (4.0, -4.0, 0.0, -BIG)):
        A, gradient, rho = -2.0 * np.eye(n), np.where(np.arange(n) % 3 == 1, -size, size), np.full(n, 2.0)
        point = np.zeros(n) if away is None else gradient / 8.0 + away
        # rho - e'Ke at K = 4: rho, g'y + y'My and |g + 2 M y|^2 / 16
        y, h = exact(point), exact(gradient)
        sizes = [abs(b) + 8 * abs(a) for a, b in zip(y, h, strict=True)]
        total = sum(abs(a) * b for a, b in zip(y, sizes, strict=True))
        left = sum(abs(b - 8 * a) * c for a, b, c in zip(y, h, sizes, strict=True))
        need = g(2 * n) * total + 4 * U * n + left * g(n) / 8
        true = 2 * n + n * Fraction(size) ** 2 / 16 + need
        most = Fraction(1e-11) * (3 * n + total + left)
        for kind, less in (("box", 0), ("ball", 2 * n - 2)):
            yield two_sided(f"any point, {kind} of {n}, {away} from {size}",
                            lambda given=(A, gradient, rho, kind, INF), point=point: [at_point(point, given)],
                            [true - less], [true - less + most])  # fmt: skip
    least = 2.0**-960, 2.0**-980
    yield two_sided("numbers of underflow", lambda: [check._with_rho(
        np.array([[-least[0]]]), np.array([least[1]]), np.zeros(1), "box", INF)[0]],
        [Fraction(least[1]) ** 2 / Fraction(least[0]) / 4], [FLOOR])  # fmt: skip


def at_point(point: np.ndarray, given: tuple) -> float:
    """The bound of a point that was proposed."""
    with mock.patch.object(check, "cho_solve", return_value=point):
        return check._with_rho(*given)[0]


def sums() -> Iterator[Claim]:
    """Forms of one variable that add up: ``sum_g (k_g - 0) v_g e`` under majorants of the same slopes."""
    for G, none in ((1, False), (2, False), (24, False), (2, True)):
        k = np.where(np.arange(G) % 3 == 1, 5.0, -5.0 if none else -3.0)
        V = (np.full(G, 2.0) if none else np.where(np.arange(G) % 2, -1.0, 2.0))[:, None]
        slope = abs(sum(a * b for a, b in zip(exact(k), exact(V), strict=True)))
        reach = np.abs(V[:, 0])
        size = sum(abs(a * b) for a, b in zip(exact(k), exact(V), strict=True))
        for kind, rho in (("box", None), ("box", np.ones(1)), ("ball", np.ones(7)), ("ball", None)):
            given = kind == "box" and rho is not None and not none
            true = 1 + (1 + slope * slope / 4 if given else slope)  # of rho = 1, else of the best one
            parts = ridges_of(V, 0.0, k, 0.0, -reach, reach, reach, kind, 1.0)
            yield two_sided(f"a sum of {G} lines, {kind}", lambda parts=parts, k=k, rho=rho: [
                check.proved_bound(parts, 0.0 * k, k, rho)], [true + g(G) * size],
                [true + Fraction(1e-12) * (1 + size)])  # fmt: skip

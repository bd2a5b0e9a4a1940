"""Claims where one rounding decides: inputs that lose as much as the derivation allows, and limits on what is added.

Every claim has two sides, both rational: the bound is not below the truth, and not above what its derivation adds. So a
constant that is too small is found as well as one that is too large.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np

from convexnn import rigorous
from convexnn.rigorous import eigenvalues
from tests.checkers import Arrays, Claim, constant, exact

U = Fraction(1, 2**53)
ULP = 2 * U  # of numbers just above one


def g(n: int) -> Fraction:
    """``n u / (1 - n u)``."""
    return n * U / (1 - n * U)


def two_sided(name: str, bounds: Callable[[], list[Any]], truths: list[Fraction], limits: list[Fraction]) -> Claim:
    """Bounds between truths and limits; squares are taken by the caller, whose fractions are compared."""

    def both(_evidence: Arrays) -> list[Any]:
        found = [Fraction(one) for one in bounds()]
        return [*found, *(-one for one in found)]

    return Claim(name, {}, both, constant(*truths, *(-one for one in limits)), hostile=False, both=True)


def sharp_claims(rng) -> Iterator[Claim]:
    yield from scalars(rng)
    yield from norms(rng)
    yield from sums()
    yield from large_errors(rng)
    yield from factorizations()
    yield Claim("semidefinite, all small matrices", {}, wrong_answers, constant(0), hostile=False)
    yield Claim("statements about single numbers", {}, statements, constant(*[0] * len(statements({}))), hostile=False)


def scalars(rng) -> Iterator[Claim]:
    x = [float(v) for v in rng.lognormal(size=40)]
    true = [Fraction(v) for v in x]
    counts = [1, 2, 3, 7, 50, 999]
    yield two_sided(
        "gamma",
        lambda: [rigorous.gamma(n) for n in counts],
        [g(n) for n in counts],
        [g(n) * (1 + 2 * ULP) for n in counts],
    )
    yield two_sided(
        "round_up",
        lambda: [rigorous.round_up(v) for v in x],
        [t * (1 + U) for t in true],
        [t * (1 + ULP) for t in true],
    )
    whole = sum(true) - 3
    yield two_sided("sum_up", lambda: [rigorous.sum_up([*x, -3.0])], [whole], [whole + 4 * U * abs(whole)])
    pairs = [math.prod(true[i : i + 3]) for i in range(37)]
    yield two_sided(
        "product_up", lambda: [rigorous.product_up(*x[i : i + 3]) for i in range(37)], pairs,
        [p * (1 + 3 * U) ** 3 for p in pairs],
    )  # fmt: skip
    yield two_sided(
        "sqrt_up", lambda: [Fraction(rigorous.sqrt_up(v)) ** 2 for v in x], true, [t * (1 + 3 * U) ** 2 for t in true]
    )
    scales = [-1070, -1022, -30, 0, 5]
    yield two_sided(
        "ldexp_up", lambda: [rigorous.ldexp_up(v, e) for v in x for e in scales],
        [t * Fraction(2) ** e for t in true for e in scales],
        [t * Fraction(2) ** e + (2 * Fraction(2) ** -1074 if e < -900 else 0) for t in true for e in scales],
    )  # fmt: skip
    thirds = [Fraction(n, 3) for n in (1, 2, -1, -2, 7)]
    yield two_sided("fraction_up", lambda: [rigorous.fraction_up(t) for t in thirds], thirds,
                    [t + ULP * abs(t) for t in thirds])  # fmt: skip
    yield two_sided("fraction_down", lambda: [-rigorous.fraction_down(t) for t in thirds], [-t for t in thirds],
                    [-t + ULP * abs(t) for t in thirds])  # fmt: skip


def swallowed(n: int, first: float = 1.0) -> np.ndarray:
    """One number and n - 1 squares that a sum in order loses: half an ulp of it each, almost."""
    half = U if first < math.sqrt(2.0) else 2 * U
    return np.r_[first, np.full(n - 1, math.sqrt(half) * (1.0 - 2.0**-50))]


def norms(rng) -> Iterator[Claim]:
    columns = [swallowed(n) for n in range(1, 8)] + [rng.uniform(1.9, 2.0, n) for n in (1, 1, 1, 1, 2, 3, 100)]
    columns += [swallowed(4, first) for first in rng.uniform(1.4143, 1.45, 40)]
    squares = [sum(v * v for v in exact(x)) for x in columns]
    limits = [s * (1 + g(2 * len(x) + 10)) for x, s in zip(columns, squares, strict=True)]
    yield two_sided(
        "norm_up, one by one", lambda: [Fraction(rigorous.norm_up(x)) ** 2 for x in columns], squares, limits
    )
    wide = [s * (1 + g(3 * len(x) + 16)) for x, s in zip(columns, squares, strict=True)]
    yield two_sided(
        "row_norms_up, one by one", lambda: [Fraction(float(rigorous.row_norms_up(x[None])[0])) ** 2 for x in columns],
        squares, wide,
    )  # fmt: skip
    short = rng.uniform(1.9, 2.0, (200, 1))
    ends = [Fraction(float(v)) for v in short[:, 0]]
    yield two_sided("row_norms_up of numbers", lambda: rigorous.row_norms_up(short).tolist(), ends,
                    [v * (1 + g(9)) for v in ends])  # fmt: skip
    yield two_sided("norm_up of numbers", lambda: [rigorous.norm_up(v) for v in short], ends,
                    [v * (1 + g(9)) for v in ends])  # fmt: skip


def tied(levels: int) -> np.ndarray:
    """``2**levels`` numbers whose tree of sums loses half an ulp on every level."""
    column = np.zeros((2**levels, 1))
    column[0] = 1.0
    column[[2**level for level in range(levels)]] = 2.0**-53
    return column


def sums() -> Iterator[Claim]:
    for levels in (1, 2, 6):
        column = tied(levels)
        lost = sum(exact(column)) - 1

        def error(column=column) -> list[Any]:
            sums, error = rigorous.column_sums(column)
            return [float(error[0]), *(exact(sums))]

        yield two_sided(f"column_sums, {levels} ties", error, [lost, Fraction(1)],
                        [2 * g(levels) * (1 + 4 * lost), Fraction(1)])  # fmt: skip
    chunks = 257  # the first chunk sums to one, each of the others is lost in it
    long = np.full((chunks * rigorous.CHUNK, 1), 2.0**-31)
    long[: rigorous.CHUNK] = 0.0
    long[0] = 1.0
    true = 1 + (chunks - 1) * rigorous.CHUNK * Fraction(2) ** -62
    yield two_sided("gram, chunks that are lost", lambda: [rigorous.gram_max_eigenvalue(long)], [true],
                    [true * (1 + 2 * g(chunks + rigorous.CHUNK))])  # fmt: skip
    yield two_sided("gram, few rows", lambda: [rigorous.gram_max_eigenvalue(np.array([[3.0], [4.0], [12.0]]))],
                    [Fraction(169)], [169 * (1 + g(12))])  # fmt: skip
    yield two_sided("gram, a wide matrix", lambda: [rigorous.gram_max_eigenvalue(np.eye(2, 400))], [Fraction(1)],
                    [1 + 2 * g(270)])  # fmt: skip


def large_errors(rng) -> Iterator[Claim]:
    """A perturbation so large that the bound of the matrix itself is below its rounding."""
    error = 2.0**54
    for G in (np.eye(2), np.array([[2.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])):
        true = Fraction(error) + int(np.linalg.eigvalsh(G)[-1].round())
        limits = [true * (1 + 4 * U)]
        yield two_sided("max_eigenvalue, large error", lambda G=G: [rigorous.max_eigenvalue(G, error)], [true], limits)
        yield two_sided("gram, large error", lambda G=G: [rigorous.gram_max_eigenvalue(G, error)], [true**2],
                        [true**2 * (1 + 16 * U)])  # fmt: skip
        lowest = Fraction(error) + int((-np.linalg.eigvalsh(G)[0]).round())
        yield two_sided("lack_of_definiteness, large error", lambda G=G: [rigorous.lack_of_definiteness(G, error)],
                        [max(lowest, Fraction(0))], [lowest + 4 * U * error + 2])  # fmt: skip


def lowest(M: np.ndarray) -> Fraction:
    """Smallest eigenvalue of a matrix with one number on its diagonal and one beside it."""
    n, diagonal, beside = len(M), Fraction(float(M[0, 0])), Fraction(float(M[1, 0]))
    return min(diagonal - beside, diagonal + (n - 1) * beside)


def twice(n: int) -> Fraction:
    """What twice Rump's criterion allows: eigenvalues down to minus this times the trace."""
    return 2 * g(n + 1) / (1 - g(n + 1))


def worst_factorization(A: np.ndarray, **_: Any) -> tuple[np.ndarray, int]:
    """Completes whenever twice Rump's criterion allows it."""
    n = len(A)
    return A, int(lowest(A) + twice(n) * n * Fraction(float(A[0, 0])) < 0)


def factorizations() -> Iterator[Claim]:
    """``c 11'`` has the eigenvalues ``c n`` and zero: bounds by the worst factorization and by the honest one."""
    for n in (2, 3, 50):
        for c in (1.0, 0.75):
            G, true = np.full((n, n), c), Fraction(c) * n
            limit = true * (1 + 2 * g(n + 4) * (n - 1) + 12 * n * U)
            yield two_sided(
                f"worst factorization of {n}", lambda G=G: [bound_of_the_worst(G)], [true], [limit * (1 + 4 * n * U)]
            )
            yield two_sided(f"factorization of {n}", lambda G=G: [rigorous.max_eigenvalue(G)], [true], [limit])
        yield from lacks(n)
    yield almost_equal()


def almost_equal() -> Claim:
    """``[[d, e], [e, d]]``, e just above what is added to d: the worst factorization lets it pass, an ulp decides."""
    d, t = 0.75, 2.0**-52
    e = t * (1.0 + 2.0 * float(twice(2)) * (1.0 - 2.0**-40) // 2.0**-52 * 2.0**-52)

    def bound() -> float:
        told = np.full(2, d + t - 3.0 * 2.0**-53)  # the step adds 3 units in the last place
        with (
            mock.patch.object(eigenvalues, "dpotrf", worst_factorization),
            mock.patch.object(eigenvalues, "eigvalsh", return_value=told),
        ):
            return rigorous.max_eigenvalue([[d, e], [e, d]])

    true = Fraction(d) + Fraction(e)
    return two_sided("an ulp above the proposal", lambda: [bound()], [true], [true + 4 * U])


def bound_of_the_worst(G: np.ndarray) -> float:
    """Least bound on the largest eigenvalue of ``c 11'`` by proposals around the lowest that the worst one accepts."""
    n, found = len(G), []

    def proposed(A: np.ndarray, step: int, **_: Any) -> np.ndarray:
        room = twice(n)
        lam = Fraction(float(A[0, 0])) * n * (1 + room) / (1 + room * n)
        return np.full(n, float(lam / (1 + 2 * n * U)) * (1.0 + step * 2.0**-52))

    for step in range(-3, 4):
        with (
            mock.patch.object(eigenvalues, "dpotrf", worst_factorization),
            mock.patch.object(eigenvalues, "eigvalsh", lambda A, step=step, **_: proposed(A, step)),
        ):
            found.append(rigorous.max_eigenvalue(G))
    return min(found)


def lacks(n: int) -> Iterator[Claim]:
    """``11' - s I`` lacks exactly s: as much as the worst factorization lets pass, and as the second step takes."""
    most = n * n + int(twice(n) / U) * n

    def worst(s: float) -> float:
        with mock.patch.object(eigenvalues, "dpotrf", worst_factorization):
            return rigorous.lack_of_definiteness(np.ones((n, n)) - s * np.eye(n))

    sizes = [k * 2.0**-53 for k in range(most - 4, most + 4)]
    true = [Fraction(s) for s in sizes]
    more = 2 * g(n + 4) * n * (1 + 200 * n * n * U) + 8 * U
    limits = [n * n * U + more, *[64 * n * n * U + more] * 7]
    yield two_sided(f"lack of definiteness of {n}", lambda: [worst(s) for s in sizes], true, [max(limits)] * 8)
    whole = np.ones((n, n))
    yield two_sided(f"no lack of {n}", lambda: [rigorous.lack_of_definiteness(whole)], [Fraction(0)], limits[:1])
    sunk = n * n * 2.0**-53  # less than an ulp of the error beside it
    yield two_sided(f"small lack and an error of {n}",
                    lambda: [rigorous.lack_of_definiteness(whole - sunk * np.eye(n), 2.0**20)],
                    [Fraction(sunk) + 2**20], [Fraction(sunk) + 2**20 * (1 + 4 * U)])  # fmt: skip
    missing = 24 * n * n * 2.0**-53
    yield two_sided(f"some lack of {n}", lambda: [rigorous.lack_of_definiteness(whole - missing * np.eye(n))],
                    [Fraction(missing)], limits[1:2])  # fmt: skip
    eye, limits = np.eye(n), [1 + 40 * n * U, 2 + 80 * n * U, 80 * n * n * U]
    yield two_sided(f"minus one of {n}", lambda: [rigorous.lack_of_definiteness(s * eye) for s in (-1.0, -2.0, 3.0)],
                    [Fraction(1), Fraction(2), Fraction(0)], limits)  # fmt: skip


def wrong_answers(_evidence: Arrays) -> list[Any]:
    """Minus the number of small integer matrices whose semidefiniteness is told wrong; principal minors decide."""
    wrong = 0
    for a, b, c in itertools.product((0, 1, 2), repeat=3):
        for x, y, z in itertools.product((-1, 0, 1), repeat=3):
            minors = (a, b, c, a * b - x * x, a * c - y * y, b * c - z * z)
            whole = a * b * c + 2 * x * y * z - a * z * z - b * y * y - c * x * x
            truth = all(minor >= 0 for minor in (*minors, whole))
            wrong += rigorous.is_psd_exact([[a, 9, 9], [x, b, 9], [y, z, c]]) is not truth
    wrong += rigorous.is_psd_exact([[-1.0]]) or rigorous.is_psd_exact([[math.inf]])
    return [-wrong]


def statements(_evidence: Arrays) -> list[Any]:
    """0 for every statement that holds, -1 for one that does not."""
    r, inf, nan = rigorous, math.inf, math.nan
    zeros = r.column_sums(np.zeros((5, 2)))
    held = [
        r.gamma(2**52) == inf, r.gamma(2**52 - 1) < inf, r.gamma(0) == 0.0,
        r.ldexp_up(1.0, -3) == 0.125, r.ldexp_up(1.0, -1021) == 2.0**-1021, r.ldexp_up(inf, 0) == inf,
        r.gram_max_eigenvalue(np.eye(2), -1.0) == inf, r.gram_max_eigenvalue(np.eye(2), nan) == inf,
        r.gram_max_eigenvalue([[nan]]) == inf, r.gram_max_eigenvalue(np.zeros((2, 3))) == 0.0,
        r.lack_of_definiteness(np.eye(2), -1.0) == inf, r.lack_of_definiteness(np.eye(2), inf) == inf,
        r.lack_of_definiteness([[nan]]) == inf, r.lack_of_definiteness(np.zeros((0, 0))) == 0.0,
        r.lack_of_definiteness(np.zeros((0, 0)), 2.0) == 2.0,
        not zeros[0].any() and not zeros[1].any(), not r.column_sums(np.ones((1, 2)))[1].any(),
        r.fraction_up(Fraction(10) ** 400) == inf, r.fraction_down(-(Fraction(10) ** 400)) == -inf,
        r.fraction_up(-(Fraction(10) ** 400)) == -sys.float_info.max,
        r.fraction_down(Fraction(10) ** 400) == sys.float_info.max,
        r.fraction_up(Fraction(1, 4)) == 0.25 == r.fraction_down(Fraction(1, 4)),
        r.power_of_two([0.75, -0.5]) == 0, r.power_of_two([-1.0]) == 1,
    ]  # fmt: skip
    return [0 if one else -1 for one in held]

"""Claims about convexnn/rigorous.py: the truth is recomputed in rational arithmetic from the same numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from convexnn import rigorous
from tests.checkers import Arrays, Claim, Numbers, exact, finite

SCALES = (1.0, 1e-160, 1e160, 1e-308, 1e300, 1e-323)


def rigorous_claims(rng) -> Iterator[Claim]:
    for claim in _claims(rng):
        largest = float(np.abs(claim.evidence["x"]).max(initial=0.0))
        far = "tiny" in claim.name or not 1e-100 < largest < 1e100  # products leave the range of floats
        loose = far or claim.name in ("column_sums", "is_psd_exact", "powers and constants", "spectral_norm_up, a row")
        yield replace(claim, whole=True, tight=None if loose else 1e-9, floor=0.0 if claim.power == 1 else 1e-300)


def _claims(rng) -> Iterator[Claim]:
    for scale in SCALES:
        x, y = scale * rng.standard_normal(7), np.abs(rng.standard_normal(3)) * scale ** (1 / 3)
        tall, row = scale * rng.standard_normal((5, 2)), scale * rng.standard_normal((1, 4))
        yield Claim("sum_up", {"x": x}, lambda e: [rigorous.sum_up(e["x"])], total)
        yield Claim("product_up", {"x": y}, lambda e: [rigorous.product_up(*np.ravel(e["x"]).tolist())], product)
        yield Claim(
            "sqrt_up", {"x": y[:1]}, lambda e: [rigorous.sqrt_up(float(v)) for v in np.ravel(e["x"])], nonneg, 2
        )
        yield Claim("norm_up", {"x": tall}, lambda e: [rigorous.norm_up(e["x"])], square, 2)
        yield Claim("row_norms_up", {"x": tall}, row_norms, row_squares, 2, hostile=False)
        yield Claim("column_sums", {"x": tall}, column_ends, column_truth, hostile=False)
        yield Claim("spectral_norm_up, a row", {"x": row}, spectral_norm, top_row, 2, hostile=False)
        yield Claim("ldexp_up", {"x": y}, lambda e: [rigorous.ldexp_up(float(v), -3) for v in np.ravel(e["x"])], eighth)
        yield Claim("round_up", {"x": x}, lambda e: [rigorous.round_up(float(v)) for v in np.ravel(e["x"])], values)
    for n in (1, 2, 3, 6):
        integers = rng.integers(-9, 10, n).astype(float)
        yield Claim("max_eigenvalue, rank one", {"x": integers}, outer_eigenvalue, square_of_integers, hostile=False)
        A = rng.standard_normal((n, n))
        yield Claim(
            "max_eigenvalue", {"x": A + A.T}, lambda e: [rigorous.max_eigenvalue(e["x"])], rayleigh, hostile=False
        )
        yield Claim("max_eigenvalue below", {"x": -(A @ A.T) - np.eye(n)}, eigenvalue, rayleigh, hostile=False)
        yield Claim("max_eigenvalue, tiny", {"x": 1e-320 * (A + A.T)}, eigenvalue, rayleigh, hostile=False)
        yield Claim("gram_max_eigenvalue", {"x": integers[:, None]}, gram, square_of_integers, hostile=False)
        yield Claim("gram with error", {"x": integers[:, None]}, gram_with_error, enlarged, hostile=False)
        yield Claim("max_eigenvalue with error", {"x": A + A.T}, eigenvalue_with_error, shifted, hostile=False)
        yield Claim("is_psd_exact", {"x": A}, semidefinite, lambda _e: [0, 0, 0, 0], hostile=False)
    chunked = rng.integers(-9, 10, (2 * rigorous.CHUNK + 3, 1)).astype(float)
    yield Claim("gram_max_eigenvalue, chunks", {"x": chunked}, gram, square_of_integers, hostile=False)
    yield Claim("powers and constants", {"x": np.ones(1)}, lambda _e: constants(), lambda _e: [0] * len(constants()))


def roots(e: Arrays) -> Numbers:
    return [rigorous.sqrt_up(float(v)) for v in np.ravel(e["x"])]


def values(e: Arrays) -> Numbers:
    return [Fraction(float(v)) if math.isfinite(v) else math.inf if math.isnan(v) else v for v in np.ravel(e["x"])]


def nonneg(e: Arrays) -> Numbers:
    return [Fraction(float(v)) if math.isfinite(v) and v >= 0 else math.inf for v in np.ravel(e["x"])]


def eighth(e: Arrays) -> Numbers:
    return [v if isinstance(v, float) else v / 8 for v in nonneg(e)]


def total(e: Arrays) -> Numbers:
    return [sum(exact(e["x"]), Fraction(0)) if finite(e["x"]) else math.inf]


def product(e: Arrays) -> Numbers:
    factors = nonneg(e)
    return [math.inf if math.inf in factors else math.prod(factors)]


def square(e: Arrays) -> Numbers:
    return [sum(v * v for v in exact(e["x"])) if finite(e["x"]) else math.inf]


def row_norms(e: Arrays) -> Numbers:
    return rigorous.row_norms_up(e["x"])


def row_squares(e: Arrays) -> Numbers:
    return [sum(v * v for v in exact(row)) for row in e["x"]]


def column_ends(e: Arrays) -> Numbers:
    """Both ends of every column's interval, the lower ones with their sign turned."""
    sums, error = (exact(part) for part in rigorous.column_sums(e["x"]))
    return [s + d for s, d in zip(sums, error, strict=True)] + [d - s for s, d in zip(sums, error, strict=True)]


def column_truth(e: Arrays) -> Numbers:
    sums = [sum(exact(column), Fraction(0)) for column in e["x"].T]
    return sums + [-s for s in sums]


def spectral_norm(e: Arrays) -> Numbers:
    return [rigorous.spectral_norm_up(e["x"])]


def top_row(e: Arrays) -> Numbers:
    """A spectral norm is at least every row's norm."""
    return [max(row_squares(e))]


def eigenvalue(e: Arrays) -> Numbers:
    return [rigorous.max_eigenvalue(e["x"])]


def outer_eigenvalue(e: Arrays) -> Numbers:
    return [rigorous.max_eigenvalue(np.outer(e["x"], e["x"]))]


def square_of_integers(e: Arrays) -> Numbers:
    return [sum(v * v for v in exact(e["x"]))]


def rayleigh(e: Arrays) -> Numbers:
    """Exact Rayleigh quotient of the best float64 vector: short of the eigenvalue by a rounding squared."""
    G = np.tril(e["x"]) + np.tril(e["x"], -1).T
    with np.errstate(all="ignore"):
        _, vectors = np.linalg.eigh(G)
    u = exact(vectors[:, -1])
    quotient = sum(
        a * sum(Fraction(float(g)) * b for g, b in zip(row, u, strict=True)) for a, row in zip(u, G, strict=True)
    )
    return [quotient / sum(a * a for a in u)]


ERROR = 0.37


def gram(e: Arrays) -> Numbers:
    return [rigorous.gram_max_eigenvalue(e["x"])]


def gram_with_error(e: Arrays) -> Numbers:
    return [rigorous.gram_max_eigenvalue(e["x"], ERROR)]


def enlarged(e: Arrays) -> Numbers:
    """``(|x| + error)^2`` is reached; the root from below in 200 bits."""
    s, shift = square_of_integers(e)[0], 2**200
    root = Fraction(math.isqrt(int(s * shift * shift)), shift)
    return [(root + Fraction(ERROR)) ** 2]


def eigenvalue_with_error(e: Arrays) -> Numbers:
    return [rigorous.max_eigenvalue(e["x"], ERROR)]


def shifted(e: Arrays) -> Numbers:
    return [rayleigh(e)[0] + Fraction(ERROR)]


def semidefinite(e: Arrays) -> Numbers:
    """1 where the answer is right and -1 where it is not."""
    n = len(e["x"])
    L = [[Fraction(float(v)) for v in row] for row in np.tril(e["x"])]
    gram = [[sum(a * b for a, b in zip(p, q, strict=True)) for q in L] for p in L]  # exactly semidefinite
    less = [[v - (i == j == 0) * 100 for j, v in enumerate(row)] for i, row in enumerate(gram)]
    corner = [[Fraction(i + j == n - 1 and n > 1) for j in range(n)] for i in range(n)]  # eigenvalues 1 and -1
    asked = [(gram, True), (less, False), (corner, n == 1), ([[math.nan] * n] * n, False)]
    return [1 if rigorous.is_psd_exact(np.array(M, dtype=object)) is truth else -1 for M, truth in asked]


def constants() -> list[int]:
    """1 for every statement about single numbers that holds, -1 for one that does not."""
    r = rigorous
    held = [
        r.gamma(2**53) == math.inf,
        Fraction(r.gamma(100)) >= Fraction(100, 2**53 - 100),
        r.gamma(10) < 1e-14,
        r.power_of_two([]) == 0 == r.power_of_two([0.0]),
        r.power_of_two([3.0, -5.0]) == 3,
        r.power_of_two([math.inf]) == 0,
        r.round_up(0.0) == 0.0,
        r.round_up(math.nan) == math.inf,
        r.sum_up([]) == 0.0,
        r.sum_up([1.7e308, 1.7e308]) == math.inf,
        r.product_up(0.0, 5.0) == 0.0,
        r.product_up(-1.0, 2.0) == math.inf,
        r.product_up(1e-300, 1e-300) > 0.0,
        r.sqrt_up(-1.0) == math.inf == r.sqrt_up(math.nan),
        r.ldexp_up(1.0, 5000) == math.inf,
        r.ldexp_up(1.0, -5000) > 0.0,
        r.ldexp_up(0.0, 3) == 0.0,
        r.ldexp_up(-1.0, 3) == math.inf,
        r.norm_up(np.zeros((2, 2))) == 0.0,
        r.norm_up([]) == 0.0,
        r.max_eigenvalue(np.zeros((3, 3)), 0.5) == 0.5,
        r.max_eigenvalue(np.zeros((0, 0))) == 0.0,
        r.max_eigenvalue([[2.0]]) == 2.0,
        2.0 < r.max_eigenvalue([[1.0]], 1.0) < 2.1,
        r.max_eigenvalue([[1.0]], -1.0) == math.inf == r.max_eigenvalue([[1.0]], math.nan),
        r.max_eigenvalue(-np.eye(3)) < 0,
        r.max_eigenvalue(np.eye(3)) < 1.0 + 1e-12,
        r.gram_max_eigenvalue(np.zeros((0, 2))) == 0.0,
        r.gram_max_eigenvalue(np.eye(2), math.inf) == math.inf,
        r.spectral_norm_up([[math.inf]]) == math.inf,
        r.spectral_norm_up(np.eye(3)) < 1.0 + 1e-12,
        not (r.row_norms_up(np.zeros((2, 3))) != 0).any(),
        bool((r.column_sums(np.ones((300, 1)))[1] < 1e-11).all()),
    ]
    return [1 if one else -1 for one in held]

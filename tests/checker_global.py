"""Claims about the parts of the global Lipschitz bound: every number against the same formula in rational numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from fractions import Fraction
from itertools import product

import numpy as np

from convexnn.global_gap import LipschitzMultipliers, l2_bound
from convexnn.global_gap.lipschitz_bound import DualBound
from convexnn.restrictions.rows import DistinctRows, distinct_rows
from tests.checker_rounding import U, g, two_sided
from tests.checkers import Claim, exact


def dual_claims(rng) -> Iterator[Claim]:
    yield from weight_decay()
    yield from single_parts()
    yield from allowances()
    for shift, factor in ((0.0, 1.0), (3.0, 1.0), (1e6, 1e-3), (0.0, 1.7)):
        yield from parts(rng, shift, factor)
    yield from values()


def parts(rng, shift: float, factor: float) -> Iterator[Claim]:
    """The linear term of centred targets, the loss, the price of ``R``, whose inverse is known, and the length of h."""
    n, lam = 6, 0.3
    rows = distinct_rows(rng.standard_normal((n, 2)), rng.standard_normal(n) + shift)
    nu = factor * np.array([3.1, -1.0, -2.3, 5.0, -4.0, 0.7])  # its mean goes; what is left of it is paid for
    root, h = np.array([[2.0, 1.0], [1.0, 1.0]]), np.array([3.0, -4.0])  # |R^-1|^2 = 1 + 1 + 1 + 4
    y, w, v = exact(rows.y), exact(rows.weight), exact(nu - nu.mean())
    mean = sum(a * b for a, b in zip(w, y, strict=True))
    centred = [a - mean for a in y]
    linear = -sum(a * b for a, b in zip(v, centred, strict=True))
    size = sum(abs(a) * (abs(b) + abs(c)) for a, b, c in zip(v, centred, y, strict=True))
    loss = sum(a * a / (4 * b) for a, b in zip(v, w, strict=True))
    left = abs(sum(v)) * max(map(abs, centred))
    true = [left - linear, loss, 7 / Fraction(lam), Fraction(5)]
    limits = [left - linear + 400 * U * size, loss * (1 + 100 * U), true[2] * (1 + 10_000 * U), 5 + 40 * U]

    def bounds() -> list[float]:
        found = DualBound.of(rows, lam, LipschitzMultipliers(nu, h, root))
        return [-found.linear, found.loss, found.price, found.floor]

    yield two_sided(f"parts of the global bound, targets near {shift:g}", bounds, true, limits)


def values() -> Iterator[Claim]:
    """``constant + linear^2 / (4 (loss + price c^2))`` c the larger of kappa and the floor; or the constant."""
    for bound, kappa in (
        (DualBound(0.5, 3.0, 0.7, 0.9, 1.3), 1.7), (DualBound(0.5, 3.0, 0.7, 0.9, 1.3), 1.1),
        (DualBound(0.5, 3.0, 0.7, 0.9, 0.0), 0.0), (DualBound(0.1, 0.3, 0.6, 0.2, 0.5), 0.7),
        (DualBound(0.5, 3.0, 0.7, np.inf, 1.3), 1.7), (DualBound(0.5, -3.0, 0.7, 0.9, 1.3), 1.7),
        (DualBound(0.5, 3.0, 0.0, 0.9, 0.0), 0.0), (DualBound(0.0, 3.0, 0.0, 1e-3, 1e-3), 3.0),
    ):  # fmt: skip
        constant, linear, loss, price, floor = astuple(bound)
        c = max(Fraction(kappa), Fraction(floor))
        proved = linear > 0 and np.isfinite(price) and (loss > 0 or c > 0)
        above = Fraction(linear) ** 2 / (4 * (Fraction(loss) + Fraction(price) * c * c)) if proved else Fraction(0)
        true = Fraction(constant) + above
        yield two_sided(f"global bound at {kappa}", lambda bound=bound, kappa=kappa: [-bound.lower(kappa)], [-true],
                        [-Fraction(constant) - above * (1 - 60 * U) + 2 * U])  # fmt: skip


def rows_of(y, weight, error) -> DistinctRows:
    """Rows 3, 0, 0, ... of one input with a bias: their lengths are known."""
    n = len(y)
    none, all_of = np.arange(n), np.ones(n, bool)
    X = np.r_[0.75, np.zeros(n - 1)][:, None]
    arrays = (np.asarray(part, dtype=float) for part in (y, weight))
    return DistinctRows(X, *arrays, 0.0, none, none, none, all_of, np.broadcast_to(error, n) + np.zeros(n))


FAR = 2.0**60
CASES = [  # targets, weights, multipliers, errors of the targets
    ([1.0, 5.0, -3.0, 2.0], [0.25] * 4, [3.0, -1.0, -7.0, 5.0], 0.0),
    ([1.0, 5.0, -3.0, 2.0], [0.25] * 4, [3.0, -1.0, -7.0, 5.0], [0.5, 2.0, 1.0, 0.25]),
    ([1.0, 5.0, -3.0, 2.0], [0.25] * 4, [3.0, -1.0, -7.0, -2.0], [0.5, 2.0, 1.0, 0.25]),
    ([1.0, 5.0, -3.0, 2.0], [0.25] * 4, [-3.0, -1.0, -7.0, -2.0], 0.0),
    ([0.0, 10.0, 10.0, 10.0], [0.25] * 4, [3.0, 1.0, 4.0, -2.0], 0.0),
    ([FAR, FAR + 256.0, FAR - 256.0, FAR + 512.0], [0.25] * 4, [3.0, -1.0, -7.0, 5.0], 0.0),
    ([2.0**30, -(2.0**30), 0.0, 0.0], [0.25] * 4, [0.0, 0.0, 1.0, 2.0], 0.0),
    ([0.0, 1.0], [2.0**-60, 1.0], [0.0, 5.0], 0.0),
    ([4.0, 4.0], [0.5, 0.5], [3.0, -3.0], 1.0),
    ([4.0, 4.0], [0.5, 0.5], [-3.0, -3.0], 1.0),
    ([1.0, 5.0, -3.0, 2.0], [0.25] * 4, [0.0, -3.0, 3.0, 0.0], 0.0),
    ([2.0**55, 0.3, 0.7, -0.2], [2.0**-60, 0.5, 0.25, 0.25], [0.0, 3.0, -1.0, -2.0], 0.0),
    ([2.0**55, 0.3, 0.7, -0.2], [2.0**-60, 0.5, 0.25, 0.25], [0.0, -3.0, 1.0, 2.0], 0.0),
]


def single_parts() -> Iterator[Claim]:
    """The loss of multipliers whose squares lie among the smallest numbers, and the price of one root."""
    small = 1.2 * 2.0**-537  # its square is a number and not quite half of the next one
    rows = rows_of([1.0, -1.0], [0.5, 0.5], 0.0)
    for lam in (0.3, 3.0, 7.0):

        def found(lam=lam) -> list[float]:
            bound = DualBound.of(rows, lam, LipschitzMultipliers(np.array([small, -small]), np.ones(1), np.eye(1)))
            return [bound.loss, bound.price]

        yield two_sided("parts of small multipliers", found, [Fraction(small) ** 2, 1 / Fraction(lam)],
                        [9 * Fraction(2) ** -1074, (1 + 200 * U) / Fraction(lam)])  # fmt: skip


def weight_decay() -> Iterator[Claim]:
    """``-nu'y``, ``1/4 sum nu^2 / weight`` and what centring can add, of targets known up to an error."""
    for y, weight, nu, error in CASES:
        rows, multipliers, n = rows_of(y, weight, error), np.asarray(nu), len(y)
        t, w, v, e = exact(y), exact(weight), exact(nu), exact(rows.mean_error)
        mean = sum(a * b for a, b in zip(t, w, strict=True))
        centred, total = [a - mean for a in t], sum(v)
        products = [a * b for a, b in zip(v, centred, strict=True)]
        linear = sum(products) + g(n) * sum(map(abs, products)) + abs(total) * g(n) * max(map(abs, centred))
        linear += sum(abs(a) * b for a, b in zip(v, e, strict=True)) + abs(total) * max(e)
        first = abs(centred[0]) * sum(map(abs, v))
        most = 2 * abs(total) * (max(map(abs, centred)) + max(e)) + 99 * U * n * (
            first + sum(map(abs, products)) + max(map(abs, v)) * (max(map(abs, centred)) + max(e) * n))  # fmt: skip
        squares = sum(a * a / b for a, b in zip(v, w, strict=True)) / 4
        least = max(squares * (1 + g(n)) - abs(total) ** 2 / 4, squares * (1 + g(n)) if not total else Fraction(0))
        lengths = w[0] * Fraction(5, 4) + sum(w[1:])

        def parts(rows=rows, multipliers=multipliers) -> list[float]:
            found = l2_bound.DualBound.of(rows, 0.5, multipliers)
            return [-found.linear, found.quadratic, found.drift]

        yield two_sided(f"parts of the bound of weight decay, {nu}", parts,
                        [linear, least, abs(total) * lengths * (1 + U)],
                        [linear + most, squares * (1 + 200 * U) + total**2 * (1 + 99 * U) + U,
                         abs(total) * lengths * (1 + 99 * U) + 99 * U])  # fmt: skip


def allowances() -> Iterator[Claim]:
    """The linear term of multipliers whose sum is not zero after centring, and of targets far from zero."""
    off = np.array([0.1, 0.7, 0.4])
    tiny = 2.0**-40
    for sign, spread in product((1.0, -1.0), (0.0, 0.25)):
        for y, weight, nu in (
            ([0.0, 1.0, 2.0**40], [0.5, 0.5 - tiny, tiny], sign * off),
            ([2.0**40, 1.0, 0.0], [tiny, 0.5 - tiny, 0.5], sign * off[::-1]),
            ([0.0, -1.0, -(2.0**40)], [0.5, 0.5 - tiny, tiny], sign * off),
            ([0.0, 8.0, 8.0, 8.0], [0.25] * 4, sign * np.array([4.0, -1.0, -2.0, -1.0])),
            ([-8.0, -16.0, -8.0, -8.0], [0.25] * 4, sign * np.array([4.0, -1.0, -2.0, -1.0])),
            ([-(2.0**50), 4.0 - 2.0**50], [0.5, 0.5], sign * np.array([1.0, -1.0])),
            ([2.0**55, 0.3, 0.7, -0.2], [2.0**-60, 0.5, 0.25, 0.25], sign * np.array([0.0, 3.0, -1.0, -2.0])),
        ):
            rows = rows_of(y, weight, spread)
            n, v = len(y), exact(nu - nu.mean())
            mean = sum(a * b for a, b in zip(exact(y), exact(weight), strict=True))
            centred = [a - mean for a in exact(y)]
            products = [a * b for a, b in zip(v, centred, strict=True)]
            size = sum(map(abs, products))
            far = sum(abs(a) * abs(b) for a, b in zip(v, exact(y), strict=True))
            need = g(n) * size + abs(sum(v)) * max(map(abs, centred)) + Fraction(spread) * sum(map(abs, v))
            most = (
                99 * U * n * (size + far + sum(map(abs, v)) * abs(exact(y)[0]))
                + need
                + Fraction(spread) * sum(map(abs, v))
            )

            def found(rows=rows, nu=nu) -> list[float]:
                return [-DualBound.of(rows, 1.0, LipschitzMultipliers(nu, np.ones(1), np.eye(1))).linear]

            yield two_sided("centred multipliers", found, [sum(products) + need], [sum(products) + need + most])

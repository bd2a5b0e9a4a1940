"""Claims about the parts of the global Lipschitz bound: every number against the same formula in rational numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from fractions import Fraction

import numpy as np

from convexnn.global_gap import LipschitzMultipliers
from convexnn.global_gap.lipschitz_bound import DualBound
from convexnn.restrictions.rows import distinct_rows
from tests.checker_rounding import U, two_sided
from tests.checkers import Claim, exact


def dual_claims(rng) -> Iterator[Claim]:
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

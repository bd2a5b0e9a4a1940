"""Claims about parts of dual bounds of training programs and quadratic outputs, as in tests/checker_majorants.py."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from types import SimpleNamespace
from unittest import mock

import numpy as np

from convexnn.losses import get_loss
from convexnn.program import Dual
from convexnn.relaxations import quadratic_outputs
from convexnn.restrictions import certified_margin_dual as margin
from convexnn.restrictions.robust_relu_dual import RobustDual, into_ball, stationarity
from convexnn.restrictions.robust_relu_terms import RobustTerms
from convexnn.rigorous import gamma
from tests.checker_rounding import U, g, two_sided
from tests.checkers import Claim, exact


def part_claims(rng) -> Iterator[Claim]:
    yield from violations()
    yield from attacks(rng)
    yield from quadratic_parts()
    yield from reaches()
    yield from shares()
    yield from margins()
    yield from functionals()
    yield from wholes()


def violations() -> Iterator[Claim]:
    """What is left of a unit in the bias alone: the rest is within what the attack may take, or zero.

    One unit of direction 2 and the rows (x, 1) of length 5/4 or 1; a margin of weight a takes ``a (2)`` of it.
    """
    for n, wide, signs, e, rows in (
        (1, 1, [1.0], 0.0, None), (1, 1, [-1.0], 0.0, None), (2, 1, [1.0, 1.0], 3.0, None), (60, 1, [1.0], 0.0, None),
        (1, 60, [1.0], 0.0, None), (1, 1, [2.0**40], 2.0**30, None), (1, 1, [0.0], 0.0, None), (1, 1, [0.0], 0.0, 5.0),
        (2, 1, [-1.0, -3.0], 2.0, 1.0), (1, 1, [1.0, -1.0], 3.0, None),
    ):  # fmt: skip
        m = len(signs)
        X = np.hstack([np.zeros((n, wide)), np.ones((n, 1))])
        terms = RobustTerms(
            X, np.ones((n, 1)), np.array([[2.0]]), np.zeros(m, int), np.where(np.asarray(signs) > 0, 0, -1),
            np.where(np.asarray(signs) > 0, -1, 0), np.ones(m), 2.0**31, 2.0, get_loss("hinge"), 0.5,
        )  # fmt: skip
        attack = np.hstack([np.full((m, 1), e), np.zeros((m, wide - 1))])
        given = None if rows is None else np.full((n, 1), rows)
        dual = RobustDual(np.ones(m), attack, np.ones((n, 1)), given)
        # plus: -a 2 (x + e); minus: a 2 (x + e), its share is one and its slope too; rows pull by their number
        pull = [-2 * Fraction(s) for s in signs]
        kappa = n * Fraction(rows or 0.0)
        bias, along = sum(pull) - kappa, abs(sum(p * Fraction(e) for p in pull))
        reach = kappa * 2**31
        size = sum(abs(p) * (1 + Fraction(e)) for p in pull) + kappa
        if along > reach:  # the length of both parts; here one of them is zero
            bias, along = (bias, 0) if not e else (None, along - reach)
        true = abs(bias) if bias is not None else along
        need = g(max(n, m, wide)) * (size + reach)
        weights = np.abs(np.asarray(signs))
        yield two_sided(f"violation of stationarity, {n} rows, {signs}", lambda given=(terms, dual, weights): [
            stationarity(*given).item()], [true + need],
            [(true if bias is not None else 2 * true) * (1 + 200 * U) + abs(sum(pull)) * (bias is None)
             + 9 * g(2 * (n + m + wide) + 32) * (size + reach) + Fraction(2) ** -900])  # fmt: skip


def attacks(rng) -> Iterator[Claim]:
    """Attacks of any size are inside the ball afterwards, and nearly as long as they may be."""
    for radius, scale in ((0.3, 1.0), (1.7, 1e-3), (1e-3, 1e200), (0.3, 0.2)):
        given = scale * rng.standard_normal((40, 3))

        def squares(given=given, radius=radius) -> list[Fraction]:
            return [sum(x * x for x in exact(row)) for row in into_ball(given, radius, 2.0)]

        ball = Fraction(radius) ** 2
        least = [min(ball, sum(x * x for x in exact(row))) for row in given]
        yield two_sided(f"attacks in a ball of {radius}", lambda squares=squares: [-x for x in squares()],
                        [-min(one * (1 + 20 * U), ball) for one in least],
                        [-one * (1 - Fraction(1e-12)) for one in least])  # fmt: skip


def quadratic_parts() -> Iterator[Claim]:
    """``b'y + slack'|y| + delta |a|^2`` with a form that is minus its objective, known up to its rounding."""
    for y, level, slack, square, objective, error in (
        ([3.0, -2.0], [5.0, 7.0], [0.0, 0.0], 3.0, 0.0, 0.0),
        ([-3.0, -2.0], [2.0**20, 2.0**21], [0.0, 0.0], 3.0, 0.0, 0.0),
        ([-3.0, 2.0], [0.0, 0.0], [1.0, 2.0], 3.0, 0.0, 0.0),
        ([1.0], [0.0], [0.0], 3.0, 4.0, 0.0),
        ([1.0], [0.0], [0.0], 3.0, 4.0, 0.5),
        ([2.0], [0.0], [0.0], 3.0, -4.0, 0.0),
        ([4.0], [0.0], [0.0], 3.0, -4.0, 0.0),
        ([0.25] * 16, [0.0] * 16, [0.0] * 16, 3.0, -4.0, 0.0),
        ([4.0], [0.0], [0.0], 3.0, -4.0, 2.0 * gamma(17) * 8.0),
        ([2.0] * 3, [0.0] * 3, [0.0] * 3, 3.0, -1.0, 2.0**-20),
    ):
        # one number: the form of the multipliers is minus their sum where the objective is negative, else zero
        form = -float(sum(y)) if objective < 0 else 0.0
        rows = SimpleNamespace(
            combine=lambda _y, form=form: np.array([[form]]), objective=np.array([[objective]]),
            level=np.asarray(level),
            absolute=lambda _y, form=form: np.array([[abs(form)]]), objective_error=np.array([[error]]),
            objective_slack=0.25, slack=np.asarray(slack), square=square,
        )  # fmt: skip
        v = exact(y)
        top = sum(a * b for a, b in zip(v, exact(level), strict=True)) + Fraction(0.25)
        top += sum(abs(a) * b for a, b in zip(v, exact(slack), strict=True))
        size = sum(abs(a) * abs(b) for a, b in zip(v, exact(level), strict=True))
        lack, sizes = (
            Fraction(objective) - Fraction(form) + Fraction(error),
            abs(Fraction(objective)) + abs(Fraction(form)),
        )
        repair = max(lack + g(len(y) + 1) * sizes, 0) * Fraction(square) if sizes or error else Fraction(0)
        given = rows, np.asarray(y)
        yield two_sided(f"a quadratic output, {y}", lambda given=given: [quadratic_outputs._proved(*given)],
                        [top + repair + U * size],
                        [top + repair + Fraction(1e-8) * (1 + abs(top) + repair) + 99 * U * size])  # fmt: skip


def reaches() -> Iterator[Claim]:
    """``max_i |R_i|_{Z^-1} sqrt(s(Z))`` of ``Z = V diag(s) V'``: V a reflection, or with an inverse that is known."""
    for side, spectrum, R in (
        (1.0, [4.0, 1.0], [[6.0, -4.0], [2.0, 1.0]]),
        (-1.0, [4.0, 1.0], [[-6.0, -4.0], [2.0, 1.0]]),
        (-1.0, [2.0**-30, 2.0**30], [[-1.0, 2.0]]),
        (1.0, [4.0, 4.0], [[-(2.0**20), 2.0**20]]),
        (1.0, [4.0, 4.0], [[-(2.0**-20), 0.0]]),
    ):
        s = exact(spectrum)
        length = max(sum(x * x / y for x, y in zip(exact(row), s, strict=True)) for row in R)
        given = np.array(R), side * np.eye(2), np.array(spectrum)
        for norm, size in ((2, sum(s)), (np.inf, max(s))):
            # 2 gamma(10) of the products, 4 of V'V, one of the sum, one of the root of s(Z), 32 + 8 units of the rest
            yield two_sided(f"reach of a multiplier, {norm}", lambda given=given, norm=norm: [
                Fraction(margin._reach_up(*given, norm)) ** 2], [length * size * (1 + 2 * (8 * g(10) + 40 * U))],
                [length * size * (1 + 2 * (8 * g(10) + 70 * U))])  # fmt: skip
    for c in (2.0**-6, -(2.0**-6), 2.0**-3):
        V, R, s = np.array([[1.0, c], [0.0, 1.0]]), np.array([[30.0, -40.0]]), np.array([1.0, 4.0])
        along = np.abs(R[0] @ V)
        first = along + along @ np.array([[0.0, abs(c)], [abs(c), c * c]])
        terms = (first + 2.0 * (2.0 * c * c + c**4) * np.hypot(*along)) / np.array([1.0, 2.0])
        formula = Fraction(float(np.hypot(*terms) * np.sqrt(1.0 + 4.0 * c * c + 4.0)))
        size = Fraction(5 + 4 * c * c)
        true = ((30 + 40 * Fraction(c)) ** 2 + Fraction(40) ** 2 / 4) * size
        yield two_sided("reach of a crooked multiplier", lambda given=(R, V, s): [margin._reach_up(*given, 2)],
                        [formula * (1 - Fraction(1e-13))], [formula * (1 + Fraction(1e-12))])  # fmt: skip
        yield two_sided("length of a crooked multiplier", lambda given=(R, V, s): [
            Fraction(margin._reach_up(*given, 2)) ** 2], [true], [2 * true])  # fmt: skip
    far = np.array([[1.0, 1.0], [0.0, 1.0]])
    bad = [(far, [1.0, 1.0]), (np.eye(2), [0.0, 1.0]), (np.eye(2), [np.inf, 1.0])]
    yield Claim("reach without proof", {}, lambda _e: [
        0.0 if np.isinf(margin._reach_up(np.ones((1, 2)), V, np.array(s), 2)) else -1.0 for V, s in bad],
        lambda _e: [0, 0, 0], hostile=False)  # fmt: skip


def shares() -> Iterator[Claim]:
    """``-sum weight l*(-theta slopes / weight)`` at the best theta: at the limit, at one, or between."""
    slopes, weight = np.array([[0.25, 0.5], [0.0, 0.125]]), np.array([[0.5, 0.5], [0.25, 0.25]])
    a, w = exact(slopes), exact(weight)
    for loss, limit in (("hinge", 0.25), ("hinge", 0.5), ("squared_hinge", 0.25), ("squared_hinge", 4.0)):
        best = Fraction(limit)
        if loss == "squared_hinge":
            best = min(best, 2 * sum(a) / sum(x * x / y for x, y in zip(a, w, strict=True)))
        square = sum(x * x / y for x, y in zip(a, w, strict=True)) if loss == "squared_hinge" else 0
        true = best * sum(a) - best**2 * square / 4
        size = best * sum(a) + best**2 * square / 4
        yield two_sided(f"the best share of {loss} up to {limit}", lambda loss=loss, limit=limit: [
            -margin._best_share(get_loss(loss), slopes, weight, limit)], [-true + g(6) * size],
            [-true + Fraction(1e-12) * (1 + size)])  # fmt: skip
    huge, one = np.full((1, 1), 1e200), np.ones((1, 1))
    yield two_sided("the best share of huge multipliers", lambda: [
        -margin._best_share(get_loss("squared_hinge"), huge, one, 4.0)], [Fraction(-1)], [Fraction(0)])  # fmt: skip


def margins() -> Iterator[Claim]:
    """What is left for the weights to pay, of three classes and rows of integers, and how far it may be off."""
    rng = np.random.default_rng(2)
    for n, k, far, sign in (
        (7, 3, 0.0, 1.0), (7, 3, 2.0**30, 1.0), (7, 3, 2.0**30, -1.0), (7, 3, -(2.0**30), 1.0),
        (5, 3, 0.0, 1.0), (7, 3, 0.0, -1.0), (60, 3, 0.0, 1.0), (3, 20, 0.0, 1.0),
        (3, 40, 0.0, 1.0), (3, 3, 2.0**60, 0.0), (3, 3, -(2.0**60), 0.0),
    ):  # fmt: skip
        p = 2
        X = np.hstack([rng.integers(-4, 5, (n, 2)).astype(float) + far, np.ones((n, 1))])
        D, S = (rng.random((n, p)) < 0.6).astype(float), np.where(rng.random((n, p)) < 0.5, 1.0, -1.0)
        directions = 0.5 * sign * rng.integers(-2, 3, (p, k))
        labels = np.arange(n) % k
        rivals = np.array([[c for c in range(k) if c != label] for label in labels])
        contrasts = np.eye(k)[labels][:, None] - np.eye(k)[rivals]
        terms = SimpleNamespace(contrasts=contrasts, n_classes=k, radius=0.0, members=())
        slopes, rows = (
            abs(sign) * rng.integers(0, 4, (n, k - 1)) * (n != 5),
            abs(sign) * rng.integers(0, 3, (n, p)) * (n < 60),
        )
        geometry = margin.MarginGeometry(X, D, S, directions)

        def sides(terms=terms, geometry=geometry, slopes=slopes, rows=rows) -> list[float]:
            Z, error = margin._stationarity(terms, geometry, Dual(np.zeros(1), rows), slopes)
            return [*(Z + error).ravel(), *(error - Z).ravel()]

        true = ((D * ((slopes[:, :, None] * contrasts).sum(axis=1) @ directions.T) + S * rows).T @ X).ravel()
        centre = np.append(0.5 * (X[:, :-1].max(axis=0) + X[:, :-1].min(axis=0)), 0.0)
        size = (D * slopes.sum(axis=1)[:, None] * 2.0 + np.abs(S) * rows).T @ np.abs(X - centre)
        least = exact(np.tile(2.0**-1074 * (1.0 + np.abs(centre)), p))
        need = [g(n + k) * x + U * abs(y) + z for x, y, z in zip(exact(size), exact(true), least, strict=True)]
        most = [
            200 * U * (x + abs(y) + 60 * abs(Fraction(far)) + 1) for x, y in zip(exact(size), exact(true), strict=True)
        ]
        both = [*exact(true), *(-x for x in exact(true))]
        yield two_sided("stationarity of margins", sides, [x + y for x, y in zip(both, need * 2, strict=True)],
                        [x + y + z for x, y, z in zip(both, need * 2, most * 2, strict=True)])  # fmt: skip
        if k == 3 and sign:
            yield pulled(terms, geometry, slopes, rows, both)


def pulled(terms, geometry, slopes, rows, both) -> Claim:
    """The same less ``(v'c) (R_0 + R_i)`` of one pair of classes, whose mass is rounded down."""
    terms = SimpleNamespace(
        **{
            **vars(terms),
            "radius": 0.3,
            "members": (0,),
            "norm": 2,
            "n_classes": 3,
            "pair_of": np.zeros(slopes.shape, int),
            "differences": np.array([[1.0, -1.0, 0.0]]),
        }
    )
    R = 2.0**20 * np.array([[5.0, -30.0], [-7.0, 31.0], [2.0, -6.0]])  # fmt: skip
    mass = Fraction(0.3) * sum(exact(slopes))
    coefficients = exact(geometry.directions @ terms.differences[0])
    parts = [[Fraction(x) + Fraction(y) for x, y in zip(R[0], row, strict=True)] for row in R[1:]]
    moved = [[c * x for x in part] + [Fraction(0)] for c, part in zip(coefficients, parts, strict=True)]
    sized = [[abs(c) * (abs(Fraction(x)) + abs(Fraction(y))) for x, y in zip(R[0], row, strict=True)] + [Fraction(0)]
             for c, row in zip(coefficients, R[1:], strict=True)]  # fmt: skip
    shift, need = [sum(x, []) for x in (moved, sized)]
    true = [x - y for x, y in zip(both, shift + [-z for z in shift], strict=True)]
    near = [x + 3 * U * y for x, y in zip(true, need * 2, strict=True)]

    def found() -> list[Fraction]:
        with mock.patch.object(margin, "norm_functional", return_value=R) as given:
            Z, error = margin._stationarity(terms, geometry, Dual(np.zeros(1), rows, np.zeros((1, 5, 5))), slopes)
        matrix, weight, d, norm = given.call_args.args
        assert (matrix.shape, d, norm) == ((5, 5), 2, 2)
        return [-Fraction(float(weight)), *map(Fraction, (Z + error).ravel()), *map(Fraction, (error - Z).ravel())]

    far = 1 + Fraction(float(np.abs(geometry.X).max()))
    most = [x + 99 * U * (y + abs(x) + 400 * far) for x, y in zip(true, need * 2, strict=True)]
    return two_sided("stationarity of margins and a pair", found, [-mass, *near], [-mass * (1 - 20 * U), *most])


def functionals() -> Iterator[Claim]:
    """Rows R of a pair Z, R: ``max_i |R_i|_{Z^-1} sqrt(s(Z)) <= weight / 2``, nearly so where it was more before."""
    for Z, R, weight in (
        ([[4.0, 0.0], [0.0, 1.0]], [[3.0, -4.0], [1.0, 1.0]], 2.0),
        ([[2.0**-40, 0.0], [0.0, 2.0**-42]], [[3.0, -4.0], [1.0, 1.0]], 3.0),
        ([[4.0, 0.0], [0.0, 1.0]], [[2.0**-8, 2.0**-9], [0.0, 2.0**-10]], 8.0),
        ([[4.0, 0.0], [0.0, 1.0]], [[3.0, -4.0], [1.0, 1.0]], 0.0),
    ):  # fmt: skip
        matrix = np.zeros((4, 4))
        matrix[:2, :2], matrix[2:, :2] = Z, -np.array(R)
        for norm in (2, np.inf):

            def found(matrix=matrix, weight=weight, norm=norm, Z=Z) -> list[Fraction]:
                rows = margin.norm_functional(matrix, weight, 2, norm)
                s = exact(np.diag(Z))
                size = sum(s) if norm == 2 else max(s)
                length = max(sum(x * x / y for x, y in zip(exact(row), s, strict=True)) for row in rows)
                return [-4 * length * size]

            small = weight == 8.0
            true = 4 * max(sum(x * x / y for x, y in zip(exact(row), exact(np.diag(Z)), strict=True)) for row in R)
            true *= sum(exact(np.diag(Z))) if norm == 2 else max(exact(np.diag(Z)))
            most = true if small else Fraction(weight) ** 2
            yield two_sided("rows of a multiplier", found, [-most * (1 + Fraction(1e-4))],
                            [-most * (1 - Fraction(1e-4))])  # fmt: skip


def wholes() -> Iterator[Claim]:
    """The bound of all parts together: theta is at most ``2 lam`` over the largest length left, errors added."""
    for Z, error, length in (([[-3.0, 4.0], [1.0, 0.0]], 0.0, 5.0), ([[-2.0, 3.0], [1.0, 0.0]], 1.0, 5.0)):
        terms = SimpleNamespace(lam=0.25, loss=get_loss("hinge"), share=1.0, n_classes=2,
                                rows=SimpleNamespace(weight=np.array([0.5, 0.5])))  # fmt: skip
        slopes, parts = np.array([[0.25], [0.25]]), (np.array(Z), np.full((2, 2), error))

        def found(terms=terms, slopes=slopes, parts=parts) -> list[float]:
            with (
                mock.patch.object(margin, "_is_usable", return_value=True),
                mock.patch.object(margin, "balanced_flow", return_value=slopes),
                mock.patch.object(margin, "_stationarity", return_value=parts),
            ):
                return [-margin.margin_lower_bound(terms, None, Dual(slopes, np.zeros(1)))]

        true = -Fraction(1, 2) * 2 * Fraction(0.25) / Fraction(length)
        yield two_sided("bound of multipliers", found, [true], [true * (1 - 400 * U)])

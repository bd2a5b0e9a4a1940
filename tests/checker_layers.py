"""Claims about one pass through the layers: lines, prices, folding, ranges and directions, against rational numbers.

As in tests/checker_majorants.py the numbers are exact in float64, so that what a bound adds is its allowance: at least
what roundings of numbers of these sizes can add up to, and not much more.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from convexnn.activations import LeakyReLU
from convexnn.network import Network
from convexnn.propagation import InputSet, Query
from convexnn.propagation.backward import Choice, Layer, upper_bounds
from convexnn.propagation.crown import check_interval, checked_rows, interval_rows, row_bounds
from convexnn.propagation.layer_bounds import LayerBounds, crown_bounds
from convexnn.propagation.lines import ROUNDINGS
from convexnn.regions import ellipsoid, rotated_box
from convexnn.regions.facets import Directions, sum_of_tops
from convexnn.regions.folding import folded_layer, folded_query
from convexnn.regions.polytope_support import support_up
from convexnn.relaxations.prices import priced_bounds
from tests.checker_rounding import U, g, two_sided
from tests.checkers import Claim, exact

LEAST = Fraction(2) ** -1074  # the smallest number of float64
VANISHING = 2.0**-600  # the square is none


def layer_claims(rng) -> Iterator[Claim]:
    yield from passes()
    yield from best_of_all()
    yield from foldings(rng)
    yield from prices()
    yield from ranges()
    yield from directions()


def rational(A) -> list[list[Fraction]]:
    return [exact(row) for row in np.atleast_2d(A)]


def dot(a, b) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def times(a, W) -> list[Fraction]:
    """``a W`` of rational rows."""
    return [dot(a, column) for column in zip(*W, strict=True)]


# -- backward passes --------------------------------------------------------------------------------------------------
def layer(W, b, low, high, reach, activation) -> Layer:
    W = np.asarray(W, dtype=float)
    network = Network(((W, np.asarray(b, dtype=float)), (np.ones((1, len(W))), np.zeros(1))), activation)
    return Layer.of(network, 0, np.asarray(low, float), np.asarray(high, float), np.asarray(reach, float))


def passes() -> Iterator[Claim]:
    one = np.ones(1)
    first = layer([[1.0, -2.0], [3.0, 1.0]], [1.0, -1.0], [-1.0, -4.0], [3.0, 4.0], [1.0, 1.0], "relu")
    second = layer([[2.0, -1.0], [-1.0, 1.0]], [0.0, 3.0], [-4.0, -2.0], [4.0, 2.0], [3.0, 4.0], "relu")
    shares = np.array([[0.5, 1.0], [0.25, 0.0]])
    tension = np.array([[0.5, -1.0], [-2.0, 0.0]])
    free = Choice((shares, None), (None, tension))
    A, c = np.array([[1.0, -2.0], [-3.0, 0.5]]), np.array([-(2.0**30), 5.0])
    square = InputSet.box(-np.ones(2), np.ones(2))
    yield backward("two layers", [first, second], square, A, c, None)
    yield backward("two layers, chosen lines", [first, second], square, A, c, free)
    many = 600
    wide = layer(np.where(np.arange(many) % 2, -1.0, 2.0)[:, None], np.zeros(many), np.full(many, -2.0),
                 np.full(many, 2.0), one, "relu")  # fmt: skip
    line = InputSet.box(-one, one)
    yield backward("many units", [wide], line, np.where(np.arange(many) % 3, 1.0, -2.0)[None], np.zeros(1), None)
    identity = [layer([[1.0]], [0.0], -one, one, one, "identity")] * 200
    yield backward("many layers", identity, line, np.ones((1, 1)), np.zeros(1), None)
    small = layer([[VANISHING]], [0.0], [0.0], [VANISHING], one, "relu")
    yield two_sided("weights whose products vanish",
                    lambda: upper_bounds([small], line, np.array([[VANISHING]]), np.zeros(1)).tolist(),
                    [Fraction(VANISHING) ** 2], [Fraction(2) ** -900])  # fmt: skip
    yield backward("negative weights", [first], square, np.array([[-1.0, 0.0]]), np.zeros(1), None)
    long = layer([[1.0]], [0.0], [-(2.0**60)], [2.0**60], one, "relu")  # what vanishes comes back times 2^60
    yield two_sided("no weight at all", lambda: upper_bounds([long], line, np.zeros((1, 1)), np.zeros(1)).tolist(),
                    [LEAST * 2**60], [Fraction(2) ** -900])  # fmt: skip


def backward(name, layers, inputs, A, c, choice) -> Claim:
    """Slopes are those of the layers, any are valid; the rest is recomputed."""
    truths, limits = [], []
    widest = max(max(one.W.shape) for one in layers)
    for row in range(len(A)):
        now, offset, total = A[row : row + 1], Fraction(c[row]), abs(Fraction(c[row]))
        for k in reversed(range(len(layers))):
            one = layers[k]
            shares = None if choice is None or choice.shares[k] is None else choice.shares[k][row : row + 1]
            D = now * one.slopes(now, shares)
            if choice is not None and choice.tensions[k] is not None:
                D = D + choice.tensions[k][row]
            a, d, b = exact(now), exact(D), exact(one.b)
            for j, (low, high) in enumerate(zip(exact(one.lower), exact(one.upper), strict=True)):
                corners = [low, high, *([Fraction(0)] if low < 0 < high else [])]
                act = (lambda s: s) if one.activation.name == "identity" else (lambda s: max(s, Fraction(0)))
                offset += max(a[j] * act(s) - d[j] * s for s in corners) + d[j] * b[j]
                reach = max(abs(low), abs(high))
                total += abs(a[j]) * reach + abs(d[j]) * (reach + abs(b[j]))
            now = D @ one.W  # small integers
        low, high = exact(inputs.lower), exact(inputs.upper)
        top = offset + sum(max(x * p, x * q) for x, p, q in zip(exact(now), low, high, strict=True))
        truths.append(top + g(ROUNDINGS + widest + 3 * len(layers)) * total)
        limits.append(top + 8 * g(ROUNDINGS + 2 * (widest + 6) + 10 * len(layers)) * (2 * total + abs(top)) * 2)
    return two_sided(f"backward pass, {name}", lambda: upper_bounds(layers, inputs, A, c, choice).tolist(), truths,
                     limits)  # fmt: skip


def best_of_all() -> Iterator[Claim]:
    """The best of intervals, lines, and chosen lines, each of which is the best one of some row."""
    rng = np.random.default_rng(6)
    layers = [(rng.integers(-3, 4, size=size).astype(float), rng.integers(-2, 3, size=size[0]).astype(float))
              for size in ((4, 2), (3, 4), (2, 3))]  # fmt: skip
    network = Network(layers)
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [-1.0, -1.0]])
    query = Query(network, InputSet.box(-np.ones(2), np.ones(2)), weights, np.zeros(len(weights)))
    known, choices = crown_bounds(query), []
    for share in (0.0, 0.75):
        choices.append(Choice(tuple(np.full((len(weights), n), share) for n in network.n_hidden), (None, None)))
    plain = [check_interval(query, {}), row_bounds(query, known), interval_rows(query, known)]
    for choice in (None, *choices):
        parts = plain if choice is None else [*plain, row_bounds(query, known, choice)]
        best = [min(exact(values)) for values in zip(*parts, strict=True)]
        yield two_sided("the best of several", lambda choice=choice: checked_rows(query, {}, choice).tolist(), best,
                        best)  # fmt: skip


# -- regions in the unit variable -------------------------------------------------------------------------------------
def foldings(rng) -> Iterator[Claim]:
    """What the rounding of the first layer can become at the output: ``|c| |W_3| |W_2| error``."""
    hidden = [rng.standard_normal((3, 2)), rng.standard_normal((4, 3))]
    one = Network([(np.array([[1.0, 0.5]]), np.ones(1)), (np.array([[3.0]]), np.zeros(1))])
    ten = Network([one.layers[0], (np.ones((10, 1)), np.zeros(10))])
    cases = [(one, np.array([-1.0])), (ten, np.where(np.arange(10) % 2, 1.0, -3.0))]
    for activation, scale in (("relu", 1.0), (LeakyReLU(0.25), 1.0), ("relu", 2.0**-1000)):
        last = scale * rng.standard_normal((2, 4))
        network = Network([*((W, rng.standard_normal(len(W))) for W in hidden), (last, np.zeros(2))], activation)
        cases += [(network, np.array([-1.0, 2.0])), (network, np.array([0.0, -1.0]))]
    ball = ellipsoid(rng.standard_normal(2), np.array([[1.0, 0.3], [0.0, 0.6]]))
    for network, output in cases:
        for region in (ball, rotated_box(rng.standard_normal(2), np.array([0.3, 0.7]))):
            reached, count = exact(folded_layer(network, region)[2]), len(output) + 1
            for W, _ in network.layers[1:]:
                reached, count = [dot(map(abs, row), reached) for row in rational(W)], count + W.shape[1] + 3
            true = dot(map(abs, exact(output)), reached)
            yield two_sided("rounding of folding", lambda n=network, r=region, c=output: [folded_query(n, r, c)[1]],
                            [true * (1 + g(count))], [true * (1 + g(200)) + Fraction(2) ** -980])  # fmt: skip


# -- prices -----------------------------------------------------------------------------------------------------------
def prices() -> Iterator[Claim]:
    for inputs, units, outputs, size in ((2, 2, 1, 1), (1, 60, 1, 1), (1, 1, 60, 0), (2, 3, 2, 1)):
        W = np.where(np.add.outer(np.arange(units), np.arange(inputs)) % 2, -2.0, 1.0)
        b, V = np.where(np.arange(units) % 2, 1.0, -3.0), size * np.where(np.arange(units) % 3, -1.0, 4.0)
        network = Network([(W, b), (np.tile(V, (outputs, 1)), np.full(outputs, -1.0))])
        query = Query(network, InputSet.box(-np.ones(inputs), 2.0 * np.ones(inputs)),
                      np.where(np.arange(outputs) % 2, -1.0, 2.0)[None], [3.0])  # fmt: skip
        low, high = np.full(units, -9.0), np.full(units, 7.0)
        for nu in (np.zeros(units), np.where(np.arange(units) % 2, 1.5, -2.0)):
            # Fractions of small integers
            c, v = exact(query.weights[0]), rational(network.layers[1][0])
            a, price, bias = times(c, v), exact(nu), exact(b)
            terms = [max(x * max(s, 0) - p * s for s in (-9, 7, 0)) for x, p in zip(a, price, strict=True)]
            form = times(price, rational(W))
            top = 3 - sum(c) + sum(terms) + dot(price, bias) + sum(max(-x, 2 * x) for x in form)
            size = 3 + sum(map(abs, c)) + sum(7 * abs(x) + 9 * abs(p) for x, p in zip(a, price, strict=True))
            size += dot(map(abs, price), map(abs, bias)) + 2 * sum(map(abs, form))
            yield two_sided(f"prices, {inputs}, {units}, {outputs}", lambda q=query, low=low, high=high, nu=nu:
                            priced_bounds(q, LayerBounds((low,), (high,)), [nu[None]]).tolist(),
                            [top + g(inputs + units + outputs) * size],
                            [top + 16 * g(inputs + units + outputs + 16) * (size + 60 * sum(map(abs, c)))])  # fmt: skip
    one = Network([(np.zeros((1, 1)), np.zeros(1)), (np.zeros((1, 1)), np.zeros(1))])
    nothing = Query(one, InputSet.box(-np.ones(1), np.ones(1)), np.ones((1, 1)), [0.0])
    full, empty = (LayerBounds((np.array([x]),), (np.zeros(1),)) for x in (0.0, 1.0))
    yield two_sided("prices of nothing", lambda: priced_bounds(nothing, full, [np.zeros((1, 1))]).tolist(),
                    [Fraction(0)], [Fraction(1e-290)])  # fmt: skip
    yield Claim("prices without inputs", {}, lambda _e: [
        0.0 if (priced_bounds(nothing, empty, [np.zeros((1, 1))]) == -np.inf).all() else -1.0], lambda _e: [0],
        hostile=False)  # fmt: skip


# -- polytopes and directions -----------------------------------------------------------------------------------------
def ranges() -> Iterator[Claim]:
    """``b.lam + sum_j max(r_j lower_j, r_j upper_j)`` with ``r = u - A'lam``."""
    wide = np.where(np.arange(60) % 2, -1.0, 3.0)
    for A, b, u, lam, low, high in (
        ([[1.0, -2.0], [3.0, 1.0]], [-4.0, 5.0], [-1.0, 2.0], [2.0, 1.0], [-3.0, -1.0], [1.0, 7.0]),
        ([[-5.0]], [2.0], [-7.0], [3.0], [-9.0], [0.5]),
        ([[-5.0]], [-2.0], [-7.0], [3.0], [-0.5], [8.0]),
        ([[2.0]], [-2.0], [-6.0], [0.0], [-8.0], [0.0]),
        ([[1.0]], [-1e6], [1.0], [1.0], [-1.0], [1.0]),
        ([[-1e6]], [0.0], [-1e6], [1.0], [-1.0], [1.0]),
        ([[2.0]], [0.0], [0.0], [0.0], [0.0], [2.0**20]),
        ([[2.0]], [0.0], [0.0], [0.0], [0.0], [2.0**-40]),
        ([[VANISHING]], [0.0], [0.0], [VANISHING], [-(2.0**90)], [2.0**90]),
        ([wide], [-1.0], np.ones(60), [1.0], -np.ones(60), np.full(60, 2.0)),
        ([np.zeros(5)], [0.0], np.zeros(5), [1.0], np.zeros(5), np.full(5, 2.0**-40)),
        (wide[:, None], wide, [1.0], np.ones(60), [-1.0], [2.0]),
    ):  # fmt: skip
        A, b, u, lam, low, high = (np.asarray(x, dtype=float) for x in (A, b, u, lam, low, high))
        m, d = A.shape
        weights, reach = exact(lam), [max(-x, y) for x, y in zip(exact(low), exact(high), strict=True)]
        rest = [x - y for x, y in zip(exact(u), times(weights, rational(A)), strict=True)]
        ends = zip(rest, exact(low), exact(high), strict=True)
        top = dot(weights, exact(b)) + sum(max(r * x, r * y) for r, x, y in ends)
        own = [abs(x) + y for x, y in zip(exact(u), times(weights, rational(np.abs(A))), strict=True)]
        sizes = dot(weights, map(abs, exact(b))) + dot(map(abs, rest), reach)
        need = g(m + d) * sizes + g(m) * dot(own, reach) + LEAST * sum(reach) / 2
        most = 16 * g(m + d + 8) * (sizes + dot(own, reach)) + Fraction(2) ** -990 * (1 + m + d) * (1 + sum(reach))
        yield two_sided("ranges over a polytope", lambda given=((A, b), u[None], lam[None], (low, high)):
                        support_up(*given).tolist(), [top + need], [top + most])  # fmt: skip


def directions() -> Iterator[Claim]:
    """``max sum_j v_j act(s_j a + b_j)`` between two numbers: at an end or at a kink."""
    leaky = LeakyReLU(0.75)
    for s, b, v, low, high, activation in (
        ([1.0, -1.0, 1.0], [-1.0, 2.0, 0.5], [-3.0, -2.0, -5.0], -3.0, 4.0, "relu"),
        ([1.0, -1.0, 1.0], [-1.0, 2.0, 0.5], [3.0, 2.0, -5.0], -3.0, 4.0, "relu"),
        ([1.0, -1.0, 1.0], [-1.0, 2.0, 0.5], [-3.0, 2.0, -5.0], -3.0, 4.0, leaky),
        ([1.0], [0.0], [-1e300], 0.0, 0.0, "relu"),
        ([1.0], [0.0], [1e300], 0.0, 0.0, leaky),
        ([1.0], [0.0], [-1e300], 0.0, 0.0, leaky),
        ([1.0], [0.0], [VANISHING], 0.0, VANISHING, "relu"),
        ([1.0], [0.0], [-VANISHING], -VANISHING, 0.0, leaky),
        ([1.0], [0.0], [-1e300], -(2.0**-1074), -(2.0**-1074), LeakyReLU(0.25)),
        ([1.0], [-1.0], [2.0], -1.0, 0.5, "relu"),
    ):
        network = Network.shallow(np.asarray(s)[:, None], b, v, 0.0, activation)
        leak = Fraction(getattr(network.activation, "slope", 0.0))
        points = [Fraction(low), Fraction(high)]
        points += [k for k in (-x * y for x, y in zip(exact(s), exact(b), strict=True)) if low < k < high]

        def terms(a, s=s, b=b, v=v, leak=leak) -> list[Fraction]:
            inputs = [x * a + y for x, y in zip(exact(s), exact(b), strict=True)]
            return [w * max(z, leak * z) for w, z in zip(exact(v), inputs, strict=True)]

        sized = [(sum(terms(a)), sum(map(abs, terms(a)))) for a in points]
        least = max(t + g(len(s) + 2) * size for t, size in sized)
        most = max(t + 8 * g(len(s) + 8) * size for t, size in sized)
        most += Fraction(2) ** -980 + Fraction(2) ** -1020 * sum(map(abs, exact(v)))
        if activation == "relu" and low == -1.0:
            most = Fraction(0)  # no unit is active: exact
        parts = Directions.of(network)
        yield two_sided(f"directions {s}, {v}", lambda p=parts, low=low, high=high: [
            sum_of_tops(p, np.array([low]), np.array([high]))], [least], [most * (1 + 8 * U)])  # fmt: skip

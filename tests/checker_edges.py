"""Claims about Lipschitz bounds at the level of arrays: rows that are known up to an error, zero rows, bad shapes.

Rows on a line with positive entries add up: LipSDP of ``b_1, ..., b_m`` is half the sum of their lengths, whatever the
multiplier that is asked to prove it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from convexnn.activations import LeakyReLU, Sigmoid
from convexnn.certificate import _CHECKS
from convexnn.certificates.lipschitz import _body_norm, lipschitz, lipschitz_pairs
from convexnn.lipsdp.linf import upper_bound_linf
from convexnn.lipsdp.scalar import upper_bound
from convexnn.lipsdp.vector import upper_bound_vector
from convexnn.network import Network
from tests.checkers import Arrays, Claim, constant, exact


def edge_claims(rng) -> Iterator[Claim]:
    for scale in (1.0, 2.0**-40, 2.0**40):
        for spread in (0.0, 0.25):
            yield from uncertain_rows(scale * (0.5 + rng.random(3)), scale * spread * rng.random(3))
    for activation in ("relu", LeakyReLU(0.3)):
        yield from positive_lines(rng, activation)
    yield from sigmoids(rng)
    yield from pairs(rng)
    yield Claim("statements about bounds", {}, statements, constant(*[0] * len(statements({}))), hostile=False)


def uncertain_rows(b: np.ndarray, error: np.ndarray) -> Iterator[Claim]:
    """Rows b (m, 1), each up to its error away: the largest sums are those of ``b + error``."""
    true = (sum(exact(b)) + sum(exact(error))) / 2
    q, rows = b + error, b[:, None]
    certain = not error.any()
    for corrupted in (1.0, 1e250, rng_like(b)):
        multiplier = q * corrupted
        yield Claim("rows of one input", {"q": multiplier}, lambda e: [upper_bound(rows, e["q"], error)],
                    constant(true), whole=True, floor=0.0,
                    tight=1e-9 if certain and isinstance(corrupted, float) else None)  # fmt: skip
    yield Claim("rows of one input, l1", {"q": 1e250 * q, "y": 1e250 * np.ones(1)},
                lambda e: [upper_bound_linf(rows, e["q"], e["y"], error)], constant(true), whole=True, floor=0.0,
                tight=1e-9 if certain else None)  # fmt: skip
    wide = np.column_stack([b, np.zeros_like(b), 2.0 * b])  # lengths in l1 are three times b; one input is not used
    evidence = {"q": q, "y": np.array([1.0, 1e-3, 2.0])}
    yield Claim("rows of three inputs, l1", evidence,
                lambda e: [upper_bound_linf(wide, e["q"], e["y"], error)],
                constant(true + sum(exact(b))), whole=True, floor=0.0, tight=1e-9 if certain else None)  # fmt: skip


def rng_like(b: np.ndarray) -> np.ndarray:
    """Shares over six decades."""
    return 10.0 ** np.linspace(-6.0, 0.0, len(b))


def positive_lines(rng, activation) -> Iterator[Claim]:
    """One input, two outputs that grow as 3 to 4: right of all kinks the slope is five times the sum of products."""
    w, c = 0.5 + rng.random(4), 0.5 + rng.random(4)
    network = Network([(w[:, None], rng.standard_normal(4)), (np.outer([3.0, 4.0], c), np.zeros(2))], activation)
    true = [5 * sum(a * b for a, b in zip(exact(w), exact(c), strict=True))]
    for scale in (1.0, 1e-100, 1e100):
        q = 5.0 * scale * c / w
        yield Claim("two outputs on a line", {"q": q},
                    lambda e: [upper_bound_vector(w[:, None], network.layers[1][0], e["q"], slopes_of(activation))],
                    constant(*true), whole=True, slack=1e-15, tight=1e-9 if scale == 1.0 else None)  # fmt: skip
    certificate = lipschitz(network)
    yield Claim("certificate of two outputs", certificate.multiplier,
                lambda e: [_CHECKS["lipsdp"](network, e)], constant(*true), slack=1e-15, tight=1e-5)  # fmt: skip
    for norm, method in ((2, "lipsdp"), (np.inf, "max_gradient"), (2, "product")):
        one = Network([(w[:, None], np.zeros(4)), (c[None], np.zeros(1))], activation)
        found = lipschitz(one, norm=norm, method=method)
        check = _CHECKS[found.method]
        yield Claim(f"{found.method}, a line of {activation}", found.multiplier,
                    lambda e, check=check, one=one: [check(one, e)], constant(true[0] / 5), slack=1e-15,
                    tight=None if method == "product" else 1e-5)  # fmt: skip


def slopes_of(activation) -> tuple[float, float]:
    return (0.0, 1.0) if activation == "relu" else (activation.slope, 1.0)


def sigmoids(rng) -> Iterator[Claim]:
    """One unit in every layer: the slope at zero is the product of the weights and of quarters."""
    for depth in (1, 2, 3):
        weights = rng.standard_normal(depth + 1)
        network = Network([(np.array([[w]]), np.zeros(1)) for w in weights], Sigmoid())
        true = abs(math.prod(exact(weights))) / 4**depth
        centred = [(W, b - 0.5 * W[:, 0] * (place > 0)) for place, (W, b) in enumerate(network.layers)]
        network = Network(centred, Sigmoid())  # the values at zero are halves: every unit stands at its steepest point
        for norm, method in ((2, "product"), (np.inf, "product"), (2, "deep_lipsdp"), (2, "lipsdp")):
            if method == "lipsdp" and depth > 1:
                continue
            certificate = lipschitz(network, norm=norm, method=method)
            check = _CHECKS[certificate.method]
            yield Claim(f"{certificate.method}, {depth} sigmoids", certificate.multiplier,
                        lambda e, check=check, network=network: [check(network, e)], constant(true), tight=1e-6,
                        floor=0.0)  # fmt: skip


def pairs(rng) -> Iterator[Claim]:
    """Two outputs of opposite signs above sigmoids, or above ReLU units that grow together: slopes that are reached."""
    weights = rng.standard_normal(3)
    first, second, last = (np.array([[w]]) for w in weights)
    steep = Network(
        [(first, np.zeros(1)), (second, -0.5 * second[0]), (np.vstack([last, -last]), np.zeros(2))], Sigmoid()
    )
    true = abs(math.prod(exact(weights))) / 8  # twice the slope, over four squared
    for norm in (2, np.inf):
        yield Claim(f"pairs of classes, {norm}", {}, lambda _e, norm=norm: [lipschitz_pairs(steep, norm=norm)[0, 1]],
                    constant(true), hostile=False, tight=1e-6, floor=0.0)  # fmt: skip
    one, two, top = (0.5 + rng.random(size) for size in ((2, 2), (2, 2), (1, 2)))
    line = Network([(one, np.zeros(2)), (two, np.zeros(2)), (np.vstack([top, -top]), np.zeros(2))])
    gradient = [2 * sum(Fraction(t) * Fraction(a) * Fraction(b) for t, row in zip(top[0], two, strict=True)
                        for a, b in zip(row, one[:, k], strict=True)) for k in range(2)]  # fmt: skip
    yield Claim("pairs of a line, l1", {}, lambda _e: [lipschitz_pairs(line, norm=np.inf)[0, 1]],
                constant(sum(gradient)), hostile=False)  # fmt: skip
    for norm in (2, np.inf):  # hidden layers: of sigmoids, and of units that are all active near zero
        yield Claim("pairs, hidden sigmoids", {}, lambda _e, norm=norm: [_body_norm(steep, norm)],
                    constant(abs(math.prod(exact(weights[:2]))) / 16), hostile=False, tight=1e-9,
                    floor=0.0)  # fmt: skip
    signed = Network([(np.array([[3.0, -4.0], [1.0, 1.0]]), np.full(2, 9.0)), (np.ones((2, 2)), np.zeros(2))])
    yield Claim("pairs, hidden units that are active", {}, lambda _e: [_body_norm(signed, n) for n in (2, np.inf)],
                constant(5, 7), hostile=False, tight=1e-9)  # fmt: skip
    yield Claim("pairs of a line, l2", {}, lambda _e: [lipschitz_pairs(line)[0, 1]],
                constant(sum(g * g for g in gradient)), power=2, hostile=False)  # fmt: skip


def statements(_evidence: Arrays) -> list[int]:
    """0 for every statement that holds, -1 for one that does not."""
    inf, B = math.inf, np.array([[1.0, 0.0], [0.0, 0.0]])
    W, V, q = np.ones((2, 1)), np.ones((1, 2)), np.ones(2)
    held = [
        upper_bound(B, q, np.ones(1)) == inf,
        upper_bound(B, np.ones(3)) == inf,
        upper_bound(B, q, -q) == inf,
        0.5 <= upper_bound(B, [1.0, 0.0]) < 0.5 + 1e-12,
        upper_bound(B, q, [0.0, 1.0]) >= 1.0,
        upper_bound(np.zeros((2, 2)), q) == 0.0,
        upper_bound([[math.nan, 1.0]], [1.0]) == inf,
        upper_bound_linf(B, q, q, np.ones(1)) == inf,
        upper_bound_linf(B, q, [1.0]) == inf,
        upper_bound_linf(B, q, -q) == inf == upper_bound_linf(B, -q, q),
        upper_bound_linf(B, q, q, -q) == inf,
        upper_bound_linf(B, [1.0, -1.0], q) == inf == upper_bound_linf(B, q, [1.0, -1.0]),
        upper_bound_linf(B, q, q, [0.0, -1.0]) == inf,
        upper_bound_linf([[1.0, 1.0], [1.0, 1.0]], [1.0, 0.0], q) == inf,
        upper_bound_linf([[1.0, 1.0], [1.0, 1.0]], q, [1.0, 0.0]) == inf,
        0.5 <= upper_bound_linf(B, [1.0, 0.0], [1.0, 0.0]) < 0.5 + 1e-12,
        upper_bound_linf(B, q, q, [0.0, 1.0]) >= 1.0,
        upper_bound_linf(np.zeros((2, 2)), q, q) == 0.0,
        upper_bound_vector(W, V, -q) == inf == upper_bound_vector(W, V, [1.0, math.nan]),
        upper_bound_vector(W, V, [1.0, inf]) == inf == upper_bound_vector(W, V, np.ones(3)),
        upper_bound_vector(0.0 * W, V, q) == 0.0,
        upper_bound_vector(W, V, [1.0, 0.0]) == inf,
        Fraction(upper_bound_vector(W, V, q)) >= 2,
    ]
    return [0 if one else -1 for one in held]

"""Random networks, sets and exact values: for the tests of certifiers and examples/benchmarks/certifier_soundness.py.

Values at points are rational numbers and points are inside the set as rational arithmetic sees it, so that bounds are
compared with the truth without any tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from convexnn.activations import LeakyReLU
from convexnn.network import Network
from convexnn.propagation import Query
from convexnn.threats import Box, L2Ball, LInfBall
from convexnn.verification.exact_bounds import act
from convexnn.verification.exact_numbers import rational, rationals

SETS = ("l2", "l2 clipped", "linf", "linf clipped", "box", "l2 point", "linf point")


def random_network(rng, sizes, activation="relu") -> Network:
    """Weights of variance 1 / inputs and small biases."""
    pairs = zip(sizes, sizes[1:], strict=False)
    layers = [(rng.standard_normal((b, a)) / np.sqrt(a), 0.3 * rng.standard_normal(b)) for a, b in pairs]
    return Network(layers, activation)


@dataclass(frozen=True, eq=False)
class Case:
    """A query that is meant to hurt, and what it is made of."""

    query: Query
    kind: str
    small: bool


def hurt(rng, W: np.ndarray, b: np.ndarray) -> None:
    """Dead, always-active, duplicated and constant units, columns without weight, in place."""
    size = np.abs(W).sum(axis=1).max() + np.abs(b).max()
    unit, other = rng.integers(len(b), size=2)
    match rng.integers(7):
        case 0:
            b[unit] = -5.0 * size  # dead: inputs lie in [-1, 2]
        case 1:
            b[unit] = 5.0 * size
        case 2:
            W[unit], b[unit] = W[other], b[other]
        case 3:
            W[unit] = 0.0
        case 4:
            W[:, rng.integers(W.shape[1])] = 0.0
        case 5:
            W[unit], b[unit] = -W[other], -b[other]


def random_case(rng, *, small: bool) -> Case:
    """One to three hidden layers of one to twenty units (ten in all when small), scales over six decades, any set."""
    depth = int(rng.integers(1, 4))
    widest = 10 // depth if small else 20
    sizes = [int(rng.integers(1, 6)), *rng.integers(1, widest + 1, size=depth).tolist(), int(rng.integers(1, 5))]
    slope = 0.0 if rng.random() < 0.6 else float(rng.choice([0.01, 0.3, 0.9]))
    layers = []
    for a, b in zip(sizes, sizes[1:], strict=False):
        scale = 10.0 ** rng.uniform(-3, 3) if rng.random() < 0.3 else 1.0
        W, bias = scale * rng.standard_normal((b, a)), scale * 0.4 * rng.standard_normal(b)
        if len(layers) < depth:
            hurt(rng, W, bias)
        layers.append((W, bias))
    network = Network(layers, LeakyReLU(slope) if slope else "relu")
    kind, x = str(rng.choice(SETS)), rng.random(sizes[0])
    radius = 0.0 if kind.endswith("point") else 10.0 ** rng.uniform(-2, 0.5)
    clip = (0.0, 1.0) if kind.endswith("clipped") else None
    low = np.where(rng.random(sizes[0]) < 0.2, x, x - radius)  # some coordinates may be fixed
    threat = (
        Box(low, x + radius * (low < x))
        if kind == "box"
        else {"l2": L2Ball, "linf": LInfBall}[kind.split()[0]](radius, clip)
    )
    query = Query.of_rivals(network, x, int(rng.integers(max(2, network.n_outputs))), threat)
    if rng.random() < 0.2:
        weights = rng.standard_normal((2, network.n_outputs))
        query = Query(network, query.inputs, weights, rng.standard_normal(2))
    if rng.random() < 0.1:
        query, kind = query.with_signs(signs_at(rng, query)), kind + " with signs"
    return Case(query, f"{depth} layers, {kind}", sum(network.n_hidden) <= 10)


def signs_at(rng, query: Query):
    """Signs that hold at a point of the set, for a third of the units."""
    x = query.inputs.project(query.inputs.centre[None] + 0.1 * rng.standard_normal((1, query.network.n_inputs)))
    values = query.network.pre_activations(x)
    return tuple((np.where(z[0] >= 0, 1, -1) * (rng.random(z.shape[1]) < 0.3)).astype(np.int8) for z in values)


def exact_row_values(query: Query, x) -> np.ndarray:
    """``weights f(x) + offset`` as rational numbers, shape (q,); piecewise linear networks."""
    h = rationals(x)
    for W, b in query.network.layers[:-1]:
        h = act(query.network.activation, rationals(W) @ h + rationals(b))
    W, b = query.network.layers[-1]
    return rationals(query.weights) @ (rationals(W) @ h + rationals(b)) + rationals(query.offset)


def contains(query: Query, x) -> bool:
    """Whether a point is in the set and has the signs of the query, in rational arithmetic."""
    inputs = query.inputs
    if not ((inputs.lower <= x) & (x <= inputs.upper)).all():
        return False
    if inputs.has_ball:
        step, radius = rationals(x) - rationals(inputs.centre), rational(float(inputs.radius))
        if (step * step).sum() > radius * radius:
            return False
    h = rationals(x)
    for (W, b), sign in zip(query.network.layers[:-1], query.signs or (), strict=False):
        s = rationals(W) @ h + rationals(b)
        if any(value * rational(int(wanted)) < rational(0) for value, wanted in zip(s, sign, strict=True)):
            return False
        h = act(query.network.activation, s)
    return True


def inside(query: Query, z) -> np.ndarray | None:
    """A point of the set near z; None where not even the centre (clipped) is one."""
    inputs = query.inputs
    anchor = np.clip(inputs.centre, inputs.lower, inputs.upper)
    x = np.clip(inputs.project(np.asarray(z, dtype=float)[None])[0], inputs.lower, inputs.upper)
    for part in (0.0, 2.0**-52, 2.0**-48, 2.0**-40, 2.0**-20, 1.0):
        moved = np.clip(anchor + (1.0 - part) * (x - anchor), inputs.lower, inputs.upper)
        if contains(query, moved):
            return moved
    return None


def _candidates(query: Query, rng, starts: int) -> np.ndarray:
    """Corners, and vertices of the set that follow gradients."""
    inputs, d = query.inputs, query.network.n_inputs
    low, high = inputs.bounding_box()
    found = [inputs.centre[None], np.where(np.array(list(product([False, True], repeat=d))), low, high)]
    X = low + (high - low) * rng.random((starts, d))
    for _ in range(6):
        G = query.network.gradient(inputs.project(X)).reshape(len(X), -1, d)
        rows = rng.integers(query.n_rows, size=len(X))
        X = inputs.maximizer(np.einsum("nk,nkd->nd", query.weights[rows], G))
        found.append(X)
    return np.vstack(found)


def attained(query: Query, rng, extra=(), starts: int = 8) -> np.ndarray | None:
    """Rational LOWER bounds on the maxima, attained at points of the set, shape (q,); None where no point was found.

    The best three float64 candidates of every row are evaluated.
    """
    X = np.vstack([_candidates(query, rng, starts), *(p for p in extra if p.size and np.isfinite(p).all())])
    order = np.argsort(-query.values(query.inputs.project(X)), axis=0)[:3].ravel()
    best = None
    for place in dict.fromkeys(order.tolist()):
        x = inside(query, X[place])
        if x is not None:
            values = exact_row_values(query, x)
            best = values if best is None else np.maximum(best, values)
    return best


def corrupted(rng, multiplier: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> Iterator[tuple[str, dict]]:
    """Multipliers that nobody should believe: scaled, flipped, noisy, not finite, permuted, of others, missing."""
    changes = {
        "scaled": lambda v: v * 10.0 ** rng.uniform(-3, 3),
        "zero": lambda v: v * 0.0,
        "flipped": lambda v: -v,
        "noise": lambda v: v + (np.abs(v).max(initial=0.1)) * rng.standard_normal(v.shape),
        "huge": lambda v: v * 1e200,
        "overflowing": lambda v: np.full(v.shape, 1.7e308),
        "nan": lambda v: np.where(rng.random(v.shape) < 0.3, np.nan, v),
        "inf": lambda v: np.where(rng.random(v.shape) < 0.3, np.inf, v),
        "minus inf": lambda v: np.where(rng.random(v.shape) < 0.3, -np.inf, v),
        "permuted": lambda v: rng.permutation(v.ravel()).reshape(v.shape),
        "short": lambda v: v.ravel()[:-1],
        "deep": lambda v: v[None],
    }
    for name, change in changes.items():
        yield name, {key: change(np.asarray(value, dtype=float)) for key, value in multiplier.items()}
        some = [key for key in multiplier if rng.random() < 0.4]
        yield (
            f"{name} in part",
            {**multiplier, **{key: change(np.asarray(multiplier[key], dtype=float)) for key in some}},
        )
    yield "of another sample", dict(other)
    yield "of two samples", {**multiplier, **{key: other[key] for key in other if rng.random() < 0.5}}
    yield "missing in part", {key: multiplier[key] for key in multiplier if rng.random() < 0.6}
    yield "none", {}

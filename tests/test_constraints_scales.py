"""Constrained training whatever the units, the order and the repetition of the data; work of proofs and its budget."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from convexnn.constraints import ConstrainedOptions, ConstrainedTraining, Monotone, SlopeBounds, train_constrained
from convexnn.constraints.pieces import pieces_of
from convexnn.constraints.proofs import CHEAP_WORK, NODE_WORK, Limits, proved_slope
from convexnn.constraints.slopes import all_patterns_slope, smallest_slope
from convexnn.constraints.vertices import Arrangement
from convexnn.network import Network
from convexnn.patterns import sample_gates


def data(n: int = 20) -> tuple[np.ndarray, np.ndarray, Network]:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (n, 2))
    W, b = sample_gates(X, 4, random_state=0)
    return X, np.sin(4 * X[:, 0]) + X[:, 0] + 0.5 * X[:, 1] ** 2, Network.shallow(W, b, np.ones(len(W)))


def train(X: np.ndarray, y: np.ndarray, start: Network, **settings: Any) -> ConstrainedTraining:
    wanted = settings.pop("wanted", Monotone(0))
    options = ConstrainedOptions(rounds=1)
    found = train_constrained(X, y, wanted, start=start, options=options, **{"lam": 1e-3, **settings})
    assert found.guarantees.hold
    assert found.lower_bound <= found.objective
    return found


def steepest(network: Network, X: np.ndarray, scale: np.ndarray) -> tuple[float, float]:
    """Smallest and largest slope found, in units of the scaled feature: random points, then small steps downhill."""
    rng = np.random.default_rng(1)
    Z = X[rng.integers(len(X), size=3000)] / scale + rng.standard_normal((3000, 2)) * rng.choice(
        [0.1, 1, 30], (3000, 1)
    )
    slopes = network.gradient(Z * scale)[:, 0] * scale[0]
    for sign in (1.0, -1.0):
        near = Z[np.argsort(sign * slopes)[:20]]
        tries = np.concatenate([near + step * rng.standard_normal(near.shape) for step in (0.01, 0.1, 0.5)])
        slopes = np.concatenate([slopes, network.gradient(tries * scale)[:, 0] * scale[0]])
    return float(slopes.min()), float(slopes.max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "regularizer"), [((1e4, 1e4), "lipschitz"), ((1e6, 1.0), "l2"), ((1e-3, 1e3), "lipschitz")]
)
def test_features_of_any_size_have_tight_programs(scale: tuple[float, float], regularizer: str) -> None:
    X, y, start = data()
    s = np.array(scale)
    W, b = start.W / s, start.b
    bounds = SlopeBounds(0, -1 / s[0], 1 / s[0])
    found = train(X * s, y, Network.shallow(W, b, start.v), wanted=bounds, regularizer=regularizer)
    assert [item.name for item in found.programs][:3] == ["free", "necessary", "sufficient"]
    assert max(item.gap for item in found.programs[:3]) < 1e-5
    low, high = steepest(found.network, X * s, s)
    assert -1 - 1e-9 <= low <= high <= 1 + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("regularizer", ["lipschitz"])
def test_order_repetition_and_constant_columns_do_not_matter(regularizer: str) -> None:
    X, y, start = data(10)
    plain = train(X, y, start, regularizer=regularizer)
    order = np.random.default_rng(2).permutation(len(X))
    swapped = Network.shallow(start.W[:, ::-1], start.b, start.v)
    for found in (
        train(X[order], y[order], start, regularizer=regularizer),
        train(np.vstack([X, X]), np.r_[y, y], start, regularizer=regularizer),
        train(X[:, ::-1], y, swapped, wanted=Monotone(1), regularizer=regularizer),
    ):
        assert found.lower_bound == pytest.approx(plain.lower_bound, rel=1e-5)
        assert found.objective >= plain.lower_bound * (1 - 1e-9)
    # a column of zeros: units cannot use it, the program is the same
    padded = Network.shallow(np.c_[start.W, np.zeros(len(start.W))], start.b, start.v)
    wider = train(np.c_[X, np.zeros(len(X))], y, padded, wanted=[Monotone(0), Monotone(2)], regularizer=regularizer)
    assert wider.lower_bound == pytest.approx(plain.lower_bound, rel=1e-5)


def network(units: int, d: int) -> Network:
    rng = np.random.default_rng(3)
    return Network.shallow(rng.standard_normal((units, d)), rng.standard_normal(units), rng.standard_normal(units))


def test_work_counts_what_a_vertex_costs() -> None:
    pieces = pieces_of(network(18, 8))
    plane = Arrangement(pieces, np.eye(8)[0], None)
    # 43 758 vertices, each an inverse of order 8 and 18 hyperplanes with 8 numbers: beyond "vertices x hyperplanes"
    assert plane.work == math.comb(18, 8) * (10 * 18 + 8 * 64) > CHEAP_WORK
    limits = Limits()
    bound, _, how = proved_slope(pieces, np.eye(8)[0], None, limits=limits)
    assert "sets of sides" in how
    assert bound == smallest_slope(pieces, np.eye(8)[0]).bound
    assert limits.work == math.inf


@pytest.mark.slow
def test_a_budget_is_used_up_and_leaves_valid_bounds() -> None:
    pieces, e = pieces_of(network(18, 8)), np.eye(8)[0]
    whole, _, _ = proved_slope(pieces, e, None)
    limits = Limits(work=2 * NODE_WORK)
    cut, _, how = proved_slope(pieces, e, None, limits=limits)
    assert all_patterns_slope(pieces, e) <= cut <= whole
    assert limits.spent
    assert how.split()[0] in {"1", "2"}
    X, y, start = data(12)
    short = train_constrained(X, y, Monotone(0), lam=1e-3, start=start, options=ConstrainedOptions(max_work=0.0))
    assert short.guarantees.hold
    assert short.source == "sufficient"

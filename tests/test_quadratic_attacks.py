"""The exact attack on polynomial networks: never beaten, inside the ball, and refused where it is not exact."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn import Box, L2Ball, LInfBall, Network, Polynomial, UnsupportedModelError, attack, robustness_table
from convexnn.quadratic.duels import worst_margin_bounds
from tests._families import few


def network_of(rng: np.random.Generator, d: int, k: int) -> Network:
    W, b, V = rng.standard_normal((6, d)), rng.standard_normal(6), rng.standard_normal((k, 6))
    return Network.shallow(W, b, V, rng.standard_normal(k), Polynomial(0.3, 0.5, 0.2))


@pytest.mark.parametrize("radius", few([0.0, 1e-12, 0.3, 1e6], [1e-12, 0.3]))
@pytest.mark.parametrize("task", ["binary", "hinge", "classes", "regression"])
def test_no_attack_beats_it(task: str, radius: float, rng: np.random.Generator) -> None:
    k = 3 if task == "classes" else 1
    network, X = network_of(rng, 4, k), rng.standard_normal((30, 4))
    y = rng.standard_normal(30) if task == "regression" else rng.integers(0, max(k, 2), 30)
    options = {"loss": "hinge" if task == "hinge" else None, "random_state": 0}
    exact = attack(network, X, y, L2Ball(radius), method="exact", **options)
    assert L2Ball(radius).contains(exact.X_adv, X).all()
    other = attack(network, X, y, L2Ball(radius), method="pgd", **options)
    best = attack(network, X, y, L2Ball(radius), method="best", **options)
    size = np.maximum(1.0, np.abs(exact.values))
    assert (exact.values >= other.values - 1e-12 * size).all()
    assert (best.values >= exact.values).all()
    if task in ("binary", "classes"):
        certified = -worst_margin_bounds(network, X, y, radius)
        # the attacked point is rounded: in a ball of radius 1e-12 that is one part in 1e4 of the radius
        assert (exact.values <= certified + 1e-15 * size).all()
        assert (certified <= exact.values + 1e-8 * size).all()


def test_exact_accuracy_is_never_above_that_of_pgd(rng: np.random.Generator) -> None:
    network, X = network_of(rng, 5, 3), rng.standard_normal((100, 5))
    y = network(X).argmax(axis=1)
    exact = attack(network, X, y, L2Ball(0.2), method="exact")
    certified = worst_margin_bounds(network, X, y, 0.2) > 0
    assert (certified == ~exact.success).all()
    assert (exact.success >= attack(network, X, y, L2Ball(0.2), random_state=0).success).all()
    assert 0 < certified.sum() < 100


def test_what_is_not_exact_is_refused_in_words(rng: np.random.Generator) -> None:
    X, square = np.zeros((2, 4)), network_of(rng, 4, 3)
    cases = [
        (Network.shallow(np.ones((2, 4)), np.zeros(2), np.ones(2)), np.zeros(2), L2Ball(1.0), None, "activation"),
        (square, [0, 1], L2Ball(1.0, clip=(0, 1)), None, "without clip"),
        (square, [0, 1], LInfBall(1.0), None, "L2Ball"),
        (square, [0, 1], Box(-np.ones(4), np.ones(4)), None, "L2Ball"),
        (square, np.zeros((2, 3)), L2Ball(1.0), None, "one output"),
        (square, [0, 1], L2Ball(1.0), "multi_margin", "losses"),
    ]
    for network, y, threat, loss, message in cases:
        with pytest.raises(UnsupportedModelError, match=message):
            attack(network, X, y, threat, method="exact", loss=loss)
        attack(network, X, y, threat, method="best", loss=loss, random_state=0)


@pytest.mark.parametrize("task", ["binary", "classes", "regression"])
def test_robustness_tables_certify_what_the_attack_reaches(task: str, rng: np.random.Generator) -> None:
    network, X = network_of(rng, 4, 3 if task == "classes" else 1), rng.standard_normal((40, 4))
    outputs = network(X)
    y = outputs + 0.1 if task == "regression" else outputs.argmax(axis=1) if outputs.ndim == 2 else outputs > 0
    y = y if task == "regression" else y.astype(int)
    table = robustness_table({"polynomial": network}, X, y, [0.0, 0.1, 0.4], random_state=0, restarts=1)
    np.testing.assert_allclose(table.certified, table.attacked, rtol=1e-8, atol=1e-9)
    assert np.isinf(table.lipschitz).all()
    box = robustness_table({"polynomial": network}, X, y, [0.1], norm="linf", random_state=0, restarts=1)
    assert (box.certified >= box.attacked).all()
    assert np.isfinite(box.certified).all()

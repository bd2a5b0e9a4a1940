"""ConeStructure: adjoints, gradient and intercept are those of the functions they belong to."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.structure import ConeStructure, FixedSpectral, GroupNorm, JointSpectral

SIZES = [(12, 3, 5), (1, 1, 1), (4, 6, 9), (7, 2, 1)]


def make(rng: np.random.Generator, n: int, d: int, p: int, *, cones: bool = True, ridge: float = 0.3) -> ConeStructure:
    X = np.hstack([rng.standard_normal((n, d)), np.ones((n, 1))])
    D = (rng.random((n, p)) < 0.5).astype(float)
    S = rng.choice((-1.0, 1.0), size=p) * (2 * D - 1) if cones else np.zeros((n, p))
    weight = rng.random(n) + 0.1
    return ConeStructure(
        X=X, y=rng.standard_normal(n), weight=weight / weight.sum(), constant=0.7, D=D, S=S, ridge=ridge, n_weights=d,
        coupling=GroupNorm(0.1),
    )  # fmt: skip


@pytest.fixture(params=SIZES, ids=str)
def structure(request, rng) -> ConeStructure:
    return make(rng, *request.param)


def draw(structure: ConeStructure, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((structure.D.shape[1], structure.X.shape[1]))


def test_predictions_follow_the_formula(structure, rng) -> None:
    U = draw(structure, rng)
    for k, row in enumerate(structure.X):
        assert structure.raw_predict(U)[k] == pytest.approx(
            sum(D * (row @ u) for D, u in zip(structure.D[k], U, strict=True))
        )
    assert structure.weight @ structure.predict(U) == pytest.approx(0, abs=1e-12)
    assert structure.weight @ structure.y_centred == pytest.approx(0, abs=1e-12)


def test_adjoint_of_the_predictions(structure, rng) -> None:
    U, p = draw(structure, rng), rng.standard_normal(len(structure.X))
    assert structure.predict(U) @ p == pytest.approx(np.sum(U * structure.adjoint(p)))
    # weights are not felt by the network: centred predictions have no component there
    np.testing.assert_allclose(structure.adjoint(structure.weight), 0, atol=1e-12)


def test_adjoint_of_the_slack(structure, rng) -> None:
    U, rows = draw(structure, rng), rng.standard_normal(structure.S.shape)
    assert np.sum(structure.slack(U) * rows) == pytest.approx(np.sum(U * structure.slack_adjoint(rows)))


def test_slack_is_nonnegative_exactly_on_the_cones(structure, rng) -> None:
    U = draw(structure, rng)
    z, sign = structure.X @ U.T, structure.S * (2 * structure.D - 1)  # sign of each unit, on every row
    inside = np.where(structure.D > 0, sign * z >= 0, sign * z <= 0)
    np.testing.assert_array_equal(structure.slack(U) >= 0, inside)


def test_gradient_agrees_with_finite_differences(structure, rng) -> None:
    U, direction = draw(structure, rng), draw(structure, rng)

    def objective(V):
        return structure.loss(V) + structure.bias_penalty(V)

    # quadratic: central differences are exact up to rounding
    slope = (objective(U + direction) - objective(U - direction)) / 2
    assert np.sum(structure.gradient(U) * direction) == pytest.approx(slope)


def test_the_intercept_is_the_best_one(structure, rng) -> None:
    U = draw(structure, rng)

    def loss(c):
        return structure.weight @ (structure.raw_predict(U) + c - structure.y) ** 2 + structure.constant

    best = structure.intercept(U)
    assert loss(best) == pytest.approx(structure.loss(U))
    assert loss(best) <= min(loss(best + 1e-3), loss(best - 1e-3))


def test_the_loss_of_zero_is_the_variance_of_the_targets(structure) -> None:
    zero = np.zeros((structure.D.shape[1], structure.X.shape[1]))
    variance = structure.weight @ (structure.y - structure.weight @ structure.y) ** 2 + structure.constant
    assert structure.loss(zero) == pytest.approx(variance)
    assert structure.bias_penalty(zero) == 0


def test_repeated_rows_equal_weights(rng) -> None:
    structure = make(rng, 6, 2, 4)
    index = np.r_[np.arange(6), 0, 0, 3]
    copies = np.bincount(index)
    repeated = ConeStructure(
        structure.X[index], structure.y[index], (structure.weight / copies)[index], structure.constant,
        structure.D[index], structure.S[index], structure.ridge, 2, structure.coupling,
    )  # fmt: skip
    U = draw(structure, rng)
    assert repeated.loss(U) == pytest.approx(structure.loss(U))
    np.testing.assert_allclose(repeated.gradient(U), structure.gradient(U))


def test_cones_may_be_dropped(rng) -> None:
    assert make(rng, 5, 2, 3).has_cones
    gated = make(rng, 5, 2, 3, cones=False)
    assert not gated.has_cones
    assert not gated.slack(draw(gated, rng)).any()


def test_structures_compare_and_hash_by_identity(rng) -> None:
    # fields are arrays: comparing them entry by entry would raise
    a, b = make(rng, 5, 2, 3), make(rng, 5, 2, 3)
    assert a != b
    assert len({a, b, a}) == 2
    q = FixedSpectral(1.0, np.ones(3))
    assert len({q, FixedSpectral(1.0, np.ones(3))}) == 2
    assert GroupNorm(1.0) == GroupNorm(1.0)
    assert JointSpectral(1.0) != GroupNorm(1.0)

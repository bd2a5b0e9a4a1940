"""Training by alternating directions: the matrix of the dual, multipliers from majorants, and networks proved safe."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError
from convexnn.regions import Region, ellipsoid, rotated_box
from convexnn.training.region_admm import largest_found, train_region_admm, unit_map
from convexnn.training.region_admm_options import RegionADMMOptions
from convexnn.training.region_admm_run import DualBlocks, UnitWeights, multipliers

torch = pytest.importorskip("torch")

KINDS = ("ball", "box")
SHORT = RegionADMMOptions(hidden_units=9, iterations=8, inner_steps=10, batch_size=64, evaluate_every=4, random_state=0)


def weights_of(seed: int, h: int = 7, r: int = 3) -> UnitWeights:
    rng = np.random.default_rng(seed)
    return UnitWeights(rng.standard_normal((h, r)), rng.standard_normal(h), rng.standard_normal(h), 0.3)


def matrix_of(weights: UnitWeights, y: tuple[np.ndarray, ...], gamma: float, kind: str) -> DualBlocks:
    parts = (weights.W, weights.b, weights.c, weights.c0)
    theta, duals = (tuple(torch.tensor(a, dtype=torch.float64) for a in group) for group in (parts, y))
    return DualBlocks.of(theta, duals, gamma, kind)


def around(region: Region, size: float = 1.5):  # type: ignore[no-untyped-def]
    """Draws positive samples: the region's surface, blown up around its center."""
    return lambda n, rng: region.center + size * (region.sample_surface(n, rng) - region.center)


@pytest.mark.parametrize("kind", KINDS)
def test_the_matrix_is_the_identity_of_the_proof(kind: str) -> None:
    # v'S v = gamma - f - lam'z - mu'(z - a) - sum rho_j (1 - e_j^2), term by term, at any point and any multipliers
    weights, rng, gamma = weights_of(1), np.random.default_rng(2), 0.7
    lam, mu, nu = rng.random((3, 7))
    rho = rng.random(3 if kind == "box" else 1)
    M = matrix_of(weights, (lam, mu, nu, rho), gamma, kind).matrix().numpy()
    for e in 2.0 * rng.standard_normal((20, 3)):
        a = weights.W @ e + weights.b
        z = np.maximum(a, 0.0)
        v = np.r_[1.0, e, z]
        left = np.sum(rho * (1.0 - e**2)) if kind == "box" else rho[0] * (1.0 - e @ e)
        expected = gamma - weights(e[None])[0] - lam @ z - mu @ (z - a) - left
        assert v @ M @ v == pytest.approx(expected, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_distances_leave_out_only_what_is_always_zero(kind: str) -> None:
    rng = np.random.default_rng(3)
    y = (*rng.random((3, 7)), rng.random(3 if kind == "box" else 1))
    blocks = matrix_of(weights_of(4), y, 0.1, kind)
    target = torch.tensor(rng.standard_normal((11, 11)))
    target = target + target.T
    free = np.zeros((11, 11), dtype=bool)
    free[0], free[:, 0], free[1:4, 4:], free[4:, 1:4] = True, True, True, True
    np.fill_diagonal(free, True)
    expected = float((((blocks.matrix() - target).numpy()) ** 2)[free].sum())
    assert float(blocks.distance(target)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_majorants_are_multipliers(kind: str, seed: int) -> None:
    # the matrix of the best majorants is semidefinite at their bound, and not a little below it
    weights = weights_of(10 + seed)
    found = weights.majorants(kind, tol=1e-6)
    y = multipliers(weights, found)
    assert min(part.min() for part in y) >= 0.0
    np.testing.assert_allclose(y[2] / 4.0, found.curvature)
    np.testing.assert_allclose((weights.c + y[0] - y[1]) / 2.0 + y[2] / 2.0 * weights.b, found.slope, atol=1e-12)
    scale = 1e-5 * max(1.0, abs(found.bound))
    lowest = [
        np.linalg.eigvalsh(matrix_of(weights, (*y[:3], y[3][:1] if kind == "ball" else y[3]), gamma, kind).matrix())[0]
        for gamma in (found.bound + scale, found.bound - 100.0 * scale)
    ]
    assert lowest[0] >= -1e-9
    assert lowest[1] < 0.0


@pytest.mark.parametrize(
    "region",
    [
        ellipsoid([1.0, -2.0, 0.5], [0.5, 2.0, 1.0]),
        rotated_box([0.0, 3.0, 1.0], np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]),
    ],
    ids=["ellipsoid", "rotated box"],
)
def test_networks_are_proved_safe(region: Region) -> None:
    found = train_region_admm(region, around(region), options=SHORT)
    assert found.bound < 0
    assert found.check() == pytest.approx(found.bound)
    assert found.lower <= found.bound
    points = np.vstack(
        [region.sample(2000, np.random.default_rng(1)), region.sample_surface(2000, np.random.default_rng(2))]
    )
    assert found.network(points).max() <= found.bound
    assert found.accuracy >= found.start_accuracy
    assert found.method == "admm"
    assert found.status == "shifted"


def test_the_start_is_feasible_and_kept_without_a_shift() -> None:
    region = ellipsoid(np.zeros(3), np.ones(3))
    found = train_region_admm(region, around(region, 2.0), options=SHORT, iterations=0, shift=False, tolerance=0.25)
    assert found.status == "safe"
    assert found.steps == 0
    assert found.bound == pytest.approx(-0.25, abs=1e-3)  # the start is put at the tolerance
    shifted = train_region_admm(region, around(region, 2.0), options=SHORT, iterations=0, tolerance=0.25)
    assert shifted.status == "shifted"
    assert -1e-6 < shifted.bound < 0


def test_negative_samples_and_labels_are_used() -> None:
    region = ellipsoid(np.zeros(2), np.ones(2))
    rng = np.random.default_rng(0)
    X = np.vstack([rng.standard_normal((40, 2)) + 4.0, rng.standard_normal((40, 2)) - 4.0])
    y = np.r_[np.ones(40), np.zeros(40)]
    found = train_region_admm(region, X, y, options=SHORT, iterations=4)
    assert found.bound < 0
    assert 0.0 <= found.rejected <= 1.0


def test_runs_are_cut_and_repeated() -> None:
    region = ellipsoid(np.zeros(2), np.ones(2))
    rows: list[dict[str, float]] = []
    stopped = train_region_admm(
        region, around(region), options=SHORT, callback=lambda row: rows.append(row) or len(rows) > 1
    )
    assert stopped.status == "stopped"
    assert [row["step"] for row in rows] == [0.0, 4.0]
    late = train_region_admm(region, around(region), options=SHORT, time_limit=0.0)
    assert late.status == "time_limit"
    assert late.bound < 0
    again = train_region_admm(region, around(region), options=SHORT, callback=lambda row: row["step"] >= 4)
    np.testing.assert_array_equal(again.network.W, stopped.network.W)


def test_the_ascent_finds_the_maximum_of_a_ridge() -> None:
    region = ellipsoid([1.0, 0.0], [2.0, 1.0])
    network = UnitWeights(np.array([[1.0, 0.0]]), np.zeros(1), np.ones(1), 0.0)
    from convexnn.network import Network

    ridge = Network.shallow(network.W, network.b, network.c, 0.0)
    # relu(x_1) on the ellipse is largest at x_1 = 1 + 2
    assert largest_found(ridge, region, np.random.default_rng(0)) == pytest.approx(3.0)


@pytest.mark.parametrize(
    "region", [ellipsoid([0.0, 0.0], [1.0, 0.0]), rotated_box([0.0, 0.0], np.ones((2, 1))), "ball"], ids=str
)
def test_regions_that_do_not_span_the_inputs_are_refused(region: object) -> None:
    with pytest.raises(InvalidInputError, match=r"axes|Region"):
        unit_map(region)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "setting",
    [
        {"penalty": 0.0},
        {"iterations": -1},
        {"tolerance": -1.0},
        {"inner_steps": 0},
        {"callback": 3},
        {"dual_rate": np.nan},
    ],
    ids=str,
)
def test_settings_that_cannot_be_used_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        RegionADMMOptions(**setting)  # type: ignore[arg-type]


@pytest.mark.slow
def test_training_ends_safe_without_a_shift() -> None:
    # the tuned penalty, outer sphere 1.3; the random start accepts hardly anything under the same proof
    region = ellipsoid(np.zeros(3), np.ones(3))
    found = train_region_admm(region, around(region, 1.3), iterations=50, shift=False, random_state=0)
    assert found.status == "safe"
    assert found.history[-1]["residual"] < 0.1 * max(row["residual"] for row in found.history)
    assert found.accuracy > 0.8
    assert found.start_accuracy < 0.3

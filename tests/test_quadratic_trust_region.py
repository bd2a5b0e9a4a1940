"""Trust regions: optimality by weak duality in every case, smoothed minima by their derivatives and their bias."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError
from convexnn.quadratic.trust_region import minimize_over_ball, smoothed_over_ball


def rows_of(kind: str, rng: np.random.Generator, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    L, g = rng.standard_normal((n, d)), rng.standard_normal((n, d))
    rows, lowest = np.arange(n), L.argmin(axis=1)
    if kind == "hard":
        g *= 0.1
        g[rows, lowest] = 0.0
    elif kind == "near hard":
        g *= 0.1
        g[rows, lowest] = 10.0 ** -rng.uniform(3, 250, n)
    elif kind == "repeated":
        L, g = np.round(L), 0.3 * g
        g[L == L.min(axis=1, keepdims=True)] = 0.0
    elif kind == "convex":
        L, g = np.abs(L) + 0.5, 0.3 * g
    elif kind == "flat":
        L = np.zeros_like(L)
    elif kind == "zero":
        L, g = np.zeros_like(L), np.zeros_like(g)
    elif kind == "nearly full":  # the other coordinates fill the ball but for 1e-12: Newton grows by 3/2 a step
        L = np.ones_like(L)
        L[:, 0], g[:] = 0.0, np.sqrt((1.0 - 1e-12) / max(d - 1, 1))
        g[:, 0] = 1e-10
        L -= 1.0 * (d > 1)
    return L, g


KINDS = ("generic", "hard", "near hard", "repeated", "convex", "flat", "zero", "nearly full")


def duality_gap(L: np.ndarray, g: np.ndarray, r: np.ndarray, sphere: bool) -> np.ndarray:
    """Value of the step minus a lower bound from its multiplier, in units of the problem; checks feasibility."""
    found = minimize_over_ball(L, g, r, sphere=sphere)
    shifted = L - L.min(axis=1, keepdims=True) + found.excesses[:, None]
    ratio = np.divide(g, shifted, out=np.zeros_like(g), where=shifted > 0)
    assert (g[shifted == 0] == 0).all()
    assert sphere or (found.multipliers >= -1e-15 * np.abs(L).max(axis=1)).all()
    length = np.linalg.norm(found.steps, axis=1)
    assert (length <= r * (1 + 1e-14)).all()
    assert not sphere or (length >= r * (1 - 1e-14)).all()
    scale = np.abs(L).max(axis=1) * r**2 + np.abs(g).max(axis=1) * r
    dual = -(g * ratio).sum(axis=1) - found.multipliers * r**2
    return (found.values - dual) / np.where(scale > 0, scale, 1.0)


@pytest.mark.parametrize("sphere", [False, True])
@pytest.mark.parametrize("d", [1, 2, 15])
@pytest.mark.parametrize("kind", KINDS)
def test_minima_have_no_duality_gap(kind: str, d: int, sphere: bool, rng: np.random.Generator) -> None:
    # Weak duality: -sum g^2/(L + mu) - mu r^2 is a lower bound for every admissible mu, so a gap of zero proves both.
    L, g = rows_of(kind, rng, 300, d)
    radius = np.where(rng.random(300) < 0.5, 1.0, rng.uniform(0.01, 3.0, 300))
    assert np.abs(duality_gap(L, g, radius, sphere)).max() <= 1e-13


@pytest.mark.parametrize("radius", [0.0, 1e-12, 1e6])
@pytest.mark.parametrize("scale", [1e-100, 1e-3, 1e3, 1e100])
def test_units_do_not_matter(scale: float, radius: float, rng: np.random.Generator) -> None:
    # L -> s L / r^2, g -> s g / r is the unit problem with values times s and steps times r.
    L, g = rng.standard_normal((50, 6)), rng.standard_normal((50, 6))
    unit = minimize_over_ball(L, g, 1.0)
    if radius == 0:
        found = minimize_over_ball(scale * L, scale * g, 0.0)
        assert not found.steps.any()
        assert not found.values.any()
        assert (found.multipliers >= 0).all()
        return
    found = minimize_over_ball(scale * L / radius**2, scale * g / radius, radius)
    np.testing.assert_allclose(found.steps, radius * unit.steps, rtol=1e-9, atol=1e-12 * radius)
    np.testing.assert_allclose(found.values, scale * unit.values, rtol=1e-11)


@pytest.mark.parametrize("nu", [1e-6, 1e-2, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_smoothed_minima_are_expected_values_of_random_steps(kind: str, nu: float, rng: np.random.Generator) -> None:
    L, g = rows_of(kind, rng, 200, 7)
    exact, smooth = minimize_over_ball(L, g, 0.8), smoothed_over_ball(L, g, 0.8, nu)
    spread = (smooth.steps**2 + smooth.variances).sum(axis=1)
    assert (spread <= 0.64 * (1 + 1e-12)).all()
    expected = (L * (smooth.steps**2 + smooth.variances) + 2 * g * smooth.steps).sum(axis=1)
    assert (expected >= exact.values - 1e-12).all()
    assert (expected <= exact.values + 8 * nu * (1 + 1e-9) + 1e-9).all()


def test_smoothed_minima_are_differentiable_where_exact_ones_are_not(rng: np.random.Generator) -> None:
    L, g = rows_of("hard", rng, 20, 5)
    dL, dg, step = rng.standard_normal(L.shape), rng.standard_normal(g.shape), 1e-6
    smooth = smoothed_over_ball(L, g, 0.8, 0.05)
    up, down = (smoothed_over_ball(L + s * dL, g + s * dg, 0.8, 0.05).values for s in (step, -step))
    slope = ((smooth.steps**2 + smooth.variances) * dL + 2 * smooth.steps * dg).sum(axis=1)
    np.testing.assert_allclose((up - down) / (2 * step), slope, rtol=1e-6, atol=1e-7)


def test_smoothed_minima_at_radius_zero_and_at_extreme_units(rng: np.random.Generator) -> None:
    L, g = rng.standard_normal((10, 4)), rng.standard_normal((10, 4))
    still = smoothed_over_ball(L, g, 0.0, 0.1)
    assert not still.steps.any()
    assert not still.variances.any()
    assert not still.values.any()
    unit = smoothed_over_ball(L, g, 0.7, 1e-3)
    for scale in (1e-100, 1e100):
        found = smoothed_over_ball(scale * L, scale * g, 0.7, scale * 1e-3)
        np.testing.assert_allclose(found.steps, unit.steps, rtol=1e-10)
        np.testing.assert_allclose(found.variances, unit.variances, rtol=1e-10)


def test_bad_input_is_refused() -> None:
    L, g = np.ones(2), np.ones((3, 2))
    for arguments in ((L, g, -1.0), (L, g, np.inf), (L, g, [1.0, 2.0]), (np.ones(3), g, 1.0), (L * np.nan, g, 1.0)):
        with pytest.raises(InvalidInputError):
            minimize_over_ball(*arguments)
    for smoothing in (0.0, -1.0, np.nan):
        with pytest.raises(InvalidInputError):
            smoothed_over_ball(L, g, 1.0, smoothing)

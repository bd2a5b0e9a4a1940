"""Differentiable upper bounds on balls: majorants against brute force, gradients against differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convexnn.training.region_evaluation import ascent, polished
from convexnn.training.region_frame import UnitBall
from convexnn.training.region_majorants_torch import Groups, ball_maximum, offsets, region_maximum


def random_groups(rng: np.random.Generator, n: int, m: int, d: int, *, positive: bool = False) -> Groups:
    U, b, c = rng.standard_normal((n, d)), rng.standard_normal((n, m)), rng.standard_normal((n, m))
    S = np.where(rng.random((n, m)) < 0.5, -1.0, 1.0)
    al, be = rng.uniform(0.2, 3.0, (1, n)), rng.standard_normal((1, n))
    return Groups(*(torch.as_tensor(a) for a in (U, S, b, np.abs(c) if positive else c, al, be)))


@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_offsets_are_the_smallest(rng: np.random.Generator, m: int) -> None:
    groups = random_groups(rng, 20, m, 2)
    al, be, de = groups.al[0], groups.be[0], offsets(groups, 0)
    a = torch.linspace(-12, 12, 24001, dtype=torch.float64)[:, None]
    excess = (groups.ridges(a.expand(-1, 20)) - al * a * a - be * a).max(dim=0).values
    assert (de >= excess - 1e-12).all()  # above everywhere
    torch.testing.assert_close(de, excess, rtol=0.0, atol=1e-2)  # and touching, up to the grid


def test_ball_maximum_bounds_and_meets_the_sphere(rng: np.random.Generator) -> None:
    for shift in (0.0, -8.0):  # inner maximum too
        A = rng.standard_normal((4, 4))
        A, g = torch.as_tensor(A + A.T + shift * np.eye(4)), torch.as_tensor(rng.standard_normal(4))
        e = rng.standard_normal((200_000, 4))
        e = torch.as_tensor(e / np.linalg.norm(e, axis=1, keepdims=True) * rng.random((len(e), 1)) ** 0.25)
        found = float(((e @ A) * e).sum(dim=1).add(e @ g).max())
        exact, smooth = (float(ball_maximum(A, g, s)) for s in (0.0, 0.1))
        assert found <= exact <= smooth
        assert exact - found < 0.03 * (1.0 + abs(exact))


def test_gradients_are_those_of_the_smoothed_bound(rng: np.random.Generator) -> None:
    groups = random_groups(rng, 5, 2, 3)
    ball = UnitBall(rng.standard_normal((3, 3)), rng.standard_normal(3))
    names = ("U", "b", "c", "al", "be")

    def value(parts: dict[str, torch.Tensor]) -> torch.Tensor:
        return region_maximum(Groups(S=groups.S, **parts), ball, 0, 0.05, smooth_value=True)

    parts = {name: getattr(groups, name).clone().requires_grad_(True) for name in names}
    value(parts).backward()
    for name in names:
        step = torch.as_tensor(rng.standard_normal(parts[name].shape))
        moved = [{**parts, name: parts[name] + sign * 1e-6 * step} for sign in (1.0, -1.0)]
        difference = float((value(moved[0]) - value(moved[1])).detach()) / 2e-6
        along = float((parts[name].grad * step).sum())
        assert abs(difference - along) < 1e-4 * (1.0 + abs(along))


@pytest.mark.slow
def test_polishing_and_ascent_close_in(rng: np.random.Generator) -> None:
    ball = UnitBall(None, None)
    for positive in (True, False):
        groups = random_groups(rng, 8, 2, 3, positive=positive)
        better = polished(groups, (ball,))
        before, after = (float(region_maximum(g, ball, 0, 0.0)) for g in (groups, better))
        lower = ascent(groups, ball, 0)
        assert lower <= after <= before
        assert after < before - 0.1  # random majorants are far from the best

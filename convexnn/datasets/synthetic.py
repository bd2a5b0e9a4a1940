"""Synthetic data with a known answer."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError

Array = NDArray[np.float64]


def make_adversarial_spheres(
    n_samples: int = 1000,
    d: int = 10,
    *,
    norm: float = 2,
    radius: float = 1.3,
    inner_share: float = 0.5,
    random_state: Any = None,
) -> tuple[Array, NDArray[np.int64]]:
    """Two classes: the ball of radius 1 and a sphere around it, so that the right answer is known everywhere.

    Class 0 is uniform in ``|x| <= 1``, class 1 uniform on ``|x| = radius``; half of the samples each by default (one
    more of class 0 when ``n_samples`` is odd), shuffled. The rule ``|x| > (1 + radius) / 2`` for class 1 makes no
    error, not even under perturbations smaller than ``(radius - 1) / 2`` in the same norm.

    Implements: Gilmer et al. (2018), Adversarial Spheres, with the inner sphere filled.

    Parameters
    ----------
    n_samples : int
    d : int
        Dimension.
    norm : {2, inf}
        2: round balls; ``numpy.inf``: cubes, class 1 uniform on the surface of the cube.
    radius : float
        Of the outer sphere in ``norm``, above 1.
    inner_share : float, default=0.5
        Share of class 0, from 0 (the outer sphere only) to 1; the number of its samples is rounded up.
    random_state : int, numpy Generator, RandomState or None

    Returns
    -------
    X : array, shape (n_samples, d)
    y : array of int, shape (n_samples,)
        0 on the inner ball, 1 on the outer sphere.
    """
    _check_count(n_samples, "n_samples")
    _check_count(d, "d")
    if not (_is_number(norm) and norm in (2, np.inf)):
        raise InvalidInputError(f"norm must be 2 or numpy.inf, got {norm!r}.")
    if not (_is_number(radius) and math.isfinite(radius) and radius > 1):
        raise InvalidInputError(f"radius must be finite and above 1, the radius of the inner ball, got {radius!r}.")
    if not (_is_number(inner_share) and 0 <= inner_share <= 1):
        raise InvalidInputError(f"inner_share must be a number from 0 to 1, got {inner_share!r}.")
    rng = _generator(random_state)
    # the number of outer samples among the first i is floor(i * (1 - inner_share)): for a half 0, 1, 0, 1, ...
    y = rng.permutation(np.diff(np.floor(np.arange(n_samples + 1) * (1.0 - inner_share) + 1e-9)))
    directions = _surface(n_samples, d, norm, rng)
    length = np.where(y == 1, radius, rng.random(n_samples) ** (1 / d))
    return directions * length[:, None], y.astype(np.int64)


def make_rastrigin(
    n_samples: int = 500,
    d: int = 2,
    *,
    noise: float = 0.0,
    low: float = -5.12,
    high: float = 5.12,
    random_state: Any = None,
) -> tuple[Array, Array]:
    """Regression on the Rastrigin function ``10 d + sum_j x_j^2 - 10 cos(2 pi x_j)``, wavy with its minimum 0 at 0.

    Parameters
    ----------
    n_samples : int
    d : int
        Dimension.
    noise : float
        Standard deviation of Gaussian noise on the targets.
    low, high : float
        Inputs are uniform in the box ``low <= x_j <= high``.
    random_state : int, numpy Generator, RandomState or None

    Returns
    -------
    X : array, shape (n_samples, d)
    y : array, shape (n_samples,)
    """
    _check_count(n_samples, "n_samples")
    _check_count(d, "d")
    if not (_is_number(noise) and math.isfinite(noise) and noise >= 0):
        raise InvalidInputError(f"noise must be a finite number >= 0, got {noise!r}.")
    if not (all(_is_number(end) and math.isfinite(end) for end in (low, high)) and low < high):
        raise InvalidInputError(f"The inputs need low < high, both finite, got {low!r} and {high!r}.")
    rng = _generator(random_state)
    X = rng.uniform(low, high, size=(n_samples, d))
    y = 10.0 * d + (X**2 - 10.0 * np.cos(2 * np.pi * X)).sum(axis=1)
    return X, y + noise * rng.standard_normal(n_samples)


def _surface(n: int, d: int, norm: float, rng: np.random.Generator) -> Array:
    """Points uniform on the surface of the unit ball of the norm, shape (n, d)."""
    if norm == 2:
        points = rng.standard_normal((n, d))
        return points / np.linalg.norm(points, axis=1, keepdims=True)
    points = rng.uniform(-1.0, 1.0, size=(n, d))
    points[np.arange(n), rng.integers(d, size=n)] = rng.choice((-1.0, 1.0), size=n)
    return points


def _check_count(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InvalidInputError(f"{name} must be a positive integer, got {value!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _generator(random_state: Any) -> np.random.Generator:
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31 - 1, size=4))
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"random_state must be an int, a Generator or None, got {random_state!r}.") from error

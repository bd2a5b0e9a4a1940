"""Lower bounds that show how tight a bound is: attained gradients (of the network) and patterns (of LipSDP)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.certificates.lipschitz import slopes_of
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.lipsdp import maximize_vector
from convexnn.network import Network, as_network

Array = NDArray[np.float64]
KINKED = ("relu", "leaky_relu")
ROUNDING = 1e-10  # relative distance from a kink, and relative amount by which an attained norm is lowered


def lipschitz_lower_bound(
    network: Any,
    X: ArrayLike | None = None,
    *,
    norm: float = 2,
    n_samples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> float:
    """Largest gradient norm attained at sampled points: a lower bound on the Lipschitz constant of the network itself.

    Points so close to a kink of a ReLU that rounding could pick the wrong side are left out.

    Parameters
    ----------
    network : Network or model
        Any depth, any number of outputs.
    X : array_like, shape (n, d), optional
        Points to look at besides the random ones, raw input units.
    norm : {2, inf}, default 2
        Norm of inputs and outputs: spectral norm of the gradient, or its largest absolute row sum.
    n_samples : int, default 2000
        Random points: normal, at several scales, around the origin and around X.
    random_state : int, Generator or None, default 0
        Source of the random points.

    Returns
    -------
    bound : float
        Lower bound (float64, lowered by 1e-10 of itself); 0.0 when no point was usable.
    """
    network = as_network(network)
    if norm not in (2, np.inf):
        raise InvalidInputError(f"norm must be 2 or inf, got {norm!r}.")
    points = _points(network, X, n_samples, np.random.default_rng(random_state))
    best = 0.0
    for start in range(0, len(points), 512):
        block = points[start : start + 512]
        block = block[_off_kinks(network, block)]
        if len(block):
            J = network.gradient(block).reshape(len(block), network.n_outputs, network.n_inputs)
            best = max(best, float(np.max(np.linalg.norm(J, norm, axis=(1, 2)))))
    return best * (1.0 - ROUNDING)


def best_pattern_bound(
    network: Any, *, n_samples: int = 200, random_state: int | np.random.Generator | None = 0
) -> float:
    """Largest gradient norm (l2) over activation patterns found by rounding, whether or not an input realizes them.

    A lower bound on LipSDP, hence on every bound that LipSDP can prove. It is NOT a lower bound on the Lipschitz
    constant of the network, unless the pattern found is realized by an input (always when the rows of W are
    independent).

    Random directions are rounded through the optimal factors of LipSDP to slopes, each improved by switching all slopes
    to the better end until nothing changes, and the best by switching single units.

    Implements: Goemans and Williamson (1995), randomized rounding, for the LipSDP relaxation.

    Parameters
    ----------
    network : Network or model
        One hidden layer, any number of outputs.
    n_samples : int, default 200
        Random roundings.
    random_state : int, Generator or None, default 0
        Source of the random directions.

    Returns
    -------
    bound : float
        Lower bound on LipSDP (float64, lowered by 1e-10 of itself).
    """
    network = as_network(network)
    if not network.is_shallow:
        raise UnsupportedModelError(
            f"Patterns of one hidden layer are needed; this network has {len(network.layers) - 1}."
        )
    slopes = slopes_of(network)
    W, V = network.W, network.layers[1][0]
    X, Y = maximize_vector(W, V, 1e-4, slopes=slopes).factors
    G = np.random.default_rng(random_state).standard_normal((X.shape[1], n_samples))
    best, pattern = 0.0, np.full(len(W), slopes[1])
    for x, y in zip((X @ G).T, (Y @ G).T, strict=True):
        value, found = _switch_all(W, V, x, y, slopes)
        if value > best:
            best, pattern = value, found
    if V.shape[0] == 1:
        best = max(best, _switch_single(W, V[0], pattern, slopes))
    return best * (1.0 - ROUNDING)


def _switch_all(W: Array, V: Array, x: Array, y: Array, slopes: tuple[float, float]) -> tuple[float, Array]:
    """Alternate between the best slopes for directions (x, y) and the best directions for the slopes: never worse."""
    value, pattern = 0.0, np.zeros(len(W))
    for _ in range(50):
        pattern = np.where((y @ V) * (W @ x) > 0.0, slopes[1], slopes[0])
        J = (V * pattern) @ W
        if len(V) == 1:
            x, y, new = J[0], np.ones(1), float(np.linalg.norm(J))
        else:
            left, sizes, right = np.linalg.svd(J, full_matrices=False)
            x, y, new = right[0], left[:, 0], float(sizes[0])
        if new <= value * (1.0 + 1e-12):
            break
        value = new
    return value, pattern


def _switch_single(W: Array, v: Array, pattern: Array, slopes: tuple[float, float]) -> float:
    """Switch the single unit that raises the gradient norm most, until none does (one output)."""
    U = v[:, None] * W
    squares = np.einsum("ij,ij->i", U, U)
    gradient = pattern @ U
    for _ in range(2 * len(U)):
        change = np.where(pattern == slopes[1], slopes[0] - slopes[1], slopes[1] - slopes[0])
        gain = 2.0 * change * (U @ gradient) + change**2 * squares
        i = int(np.argmax(gain))
        if gain[i] <= 1e-12 * float(gradient @ gradient):
            break
        pattern[i] += change[i]
        gradient = gradient + change[i] * U[i]
    return float(np.linalg.norm(np.where(pattern > 0.5 * sum(slopes), slopes[1], slopes[0]) @ U))


def _points(network: Network, X: ArrayLike | None, n_samples: int, rng: np.random.Generator) -> Array:
    """Given points, normal points at the scales of the kinks, and small steps around the given points."""
    d, (W, b) = network.n_inputs, network.layers[0]
    sizes = np.linalg.norm(W, axis=1)
    offsets = np.abs(b[sizes > 0.0]) / sizes[sizes > 0.0]
    scale = float(np.median(offsets)) if offsets.size and np.median(offsets) > 0.0 else 1.0
    radii = scale * rng.choice([0.1, 1.0, 3.0, 30.0], size=(n_samples, 1))
    points = radii * rng.standard_normal((n_samples, d))
    if X is None:
        return points
    given = np.asarray(X, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != d or not np.isfinite(given).all():
        raise InvalidInputError(f"X must be a finite array of shape (n, {d}), got shape {given.shape}.")
    if not len(given):
        return points
    steps = 0.1 * (given.std(axis=0) + 1e-3) * points / scale
    return np.concatenate([given, given[rng.integers(len(given), size=n_samples)] + steps, points])


def _off_kinks(network: Network, X: Array) -> NDArray[np.bool_]:
    """Points where the sign of every pre-activation is certain (all points for smooth activations)."""
    sure = np.ones(len(X), dtype=bool)
    if network.activation.name not in KINKED:
        return sure
    size = np.abs(X)
    for (W, b), z in zip(network.layers[:-1], network.pre_activations(X), strict=True):
        size = size @ np.abs(W).T + np.abs(b)
        matters = np.any(W != 0.0, axis=1)
        sure &= np.all(np.abs(z) > ROUNDING * size, axis=1, where=matters[None])
    return sure

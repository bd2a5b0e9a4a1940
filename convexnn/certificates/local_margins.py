"""Worst margins of shallow (Leaky)ReLU networks near each sample, where not every unit can switch.

One line below every unit that helps a margin and two lines above every unit that hurts it bound the margin on a ball
or box by numbers that are valid for every slope of the lines. The best slopes of the units that hurt are known, those
of the others are found by Frank-Wolfe steps; the bound is recomputed from the slopes with outward rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import LeakyReLU, ReLU
from convexnn.certificates.local_regions import Region, regions_of
from convexnn.certificates.regression import evaluation_error, largest_size
from convexnn.inputs import class_indices, real_array, whole_number
from convexnn.network import Network
from convexnn.rigorous import UNIT, gamma
from convexnn.threats import Threat

Array = NDArray[np.float64]
Index = NDArray[np.intp]

#: Frank-Wolfe steps on the slopes; a handful reaches the best slopes to three digits of the gain.
STEPS = 6
#: Rounds of the bisection for radii, which leave one percent, and the steps in each.
ROUNDS, ROUND_STEPS = 8, 3
#: Numbers of one array that is formed for a part of the samples.
CHUNK_SIZE = 400_000


@dataclass(frozen=True, eq=False)
class Gaps:
    """Differences ``f_plus - f_minus`` of outputs, P of them for each sample; the output -1 is the constant zero.

    Attributes
    ----------
    plus, minus : array of int, shape (n, P)
    """

    plus: Index
    minus: Index

    @classmethod
    def of_rivals(cls, labels: Index, n_outputs: int) -> Gaps:
        """``f_y - f_t`` for every other class t in order; with one output, ``f`` for the class 1, else ``-f``."""
        if n_outputs == 1:
            positive = labels[:, None] == 1
            return cls(np.where(positive, 0, -1), np.where(positive, -1, 0))
        rivals = np.nonzero(np.arange(n_outputs) != labels[:, None])[1].reshape(len(labels), n_outputs - 1)
        return cls(np.broadcast_to(labels[:, None], rivals.shape), rivals)

    @classmethod
    def of_outputs(cls, n: int, n_outputs: int) -> Gaps:
        """``f_1, ..., f_k, -f_1, ..., -f_k``."""
        own, zero = np.arange(n_outputs), np.full(n_outputs, -1)
        plus, minus = np.concatenate([own, zero]), np.concatenate([zero, own])
        return cls(np.broadcast_to(plus, (n, 2 * n_outputs)), np.broadcast_to(minus, (n, 2 * n_outputs)))

    def __getitem__(self, rows: slice | Index) -> Gaps:
        """Those of some samples."""
        return Gaps(self.plus[rows], self.minus[rows])

    def differences(self, outputs: Array) -> Array:
        """``outputs[plus] - outputs[minus]`` of arrays (n, k), one row a sample, shape (n, P)."""
        padded = np.hstack([outputs, np.zeros((len(outputs), 1))])
        found: Array = np.take_along_axis(padded, self.plus, axis=1) - np.take_along_axis(padded, self.minus, axis=1)
        return found

    def sums(self, sizes: Array) -> Array:
        """``sizes[plus] + sizes[minus]`` of arrays (n, k), shape (n, P)."""
        padded = np.hstack([sizes, np.zeros((len(sizes), 1))])
        found: Array = np.take_along_axis(padded, self.plus, axis=1) + np.take_along_axis(padded, self.minus, axis=1)
        return found

    def weights(self, V: Array) -> Array:
        """Outer weights of every difference, shape (n, P, m), from those of the outputs (k, m)."""
        padded = np.vstack([V, np.zeros((1, V.shape[1]))])
        found: Array = padded[self.plus] - padded[self.minus]
        return found


def has_local_bounds(network: Network) -> bool:
    """Whether the network is of the kind met here: one hidden layer of ReLU or LeakyReLU units."""
    return network.is_shallow and isinstance(network.activation, ReLU | LeakyReLU)


def lower_bounds(network: Network, gaps: Gaps, region: Region, slopes: ArrayLike) -> Array:
    """Lower bounds on ``f_plus - f_minus`` over the region of every sample, for ANY slopes, rounded down.

    With ``B = v_plus - v_minus``, ``z = w_i'x + b_i`` at the centre, ``rho`` the largest ``|w_i'e|`` in the region and
    its support function ``h``, for ReLU units::

        sum_{B > 0} B T z - sum_{B < 0} |B| max(z + (1 - T) rho, T rho) - h(sum_i B_i T_i w_i) + c_plus - c_minus

    A leaky unit is a linear one and ``1 - slope`` times a ReLU.

    Implements: convexnn, Proposition 1 of docs/theory/robust_relu.md, with slopes of its own for every difference.

    Parameters
    ----------
    network : Network
        Shallow, ReLU or LeakyReLU.
    gaps : Gaps
    region : Region
        n balls or boxes.
    slopes : array, shape (n, P, m)
        Moved into [0, 1]; nan counts as 0.

    Returns
    -------
    array, shape (n, P)
        ``-inf`` where nothing finite could be computed.
    """
    low, W, b = network.activation.slopes[0], network.W, network.b
    V, c = network.layers[1]
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        T = np.clip(np.nan_to_num(np.asarray(slopes, dtype=float)), 0.0, 1.0)
        B, z, rho = gaps.weights(V), (region.centre @ W.T + b)[:, None], region.spread(W)[:, None]
        above = np.maximum(z + (1.0 - T) * rho, T * rho)
        values = low * z + (1.0 - low) * np.where(B > 0, T * z, above)
        steepest = region.support((B * (low + (1.0 - low) * T)) @ W)
        offsets = np.broadcast_to(c, (len(B), len(c)))
        bound = (B * values).sum(axis=2) - steepest + gaps.differences(offsets)
        # every number above is at most this, whatever the order of the sums
        size = (np.abs(region.centre) @ np.abs(W).T + np.abs(b))[:, None] + 3.0 * rho
        total = (np.abs(B) * size).sum(axis=2) + gaps.sums(np.abs(offsets))
        bound -= 2.0 * gamma(W.shape[0] + 2 * W.shape[1] + 40) * total
        # products that underflow
        scale = (1.0 + np.abs(B).sum(axis=2)) * (1.0 + np.abs(W).sum()) * (1.0 + region.extent[:, None])
        bound -= np.finfo(float).tiny * scale
    return np.where(np.isfinite(bound), bound, -np.inf)


def propose_slopes(network: Network, gaps: Gaps, region: Region, steps: int = STEPS) -> Array:
    """Slopes with nearly the largest lower bounds, shape (n, P, m).

    A unit that hurts has the slope of its chord, which is best whatever the others do. For the units that help the
    bound is concave, its best response to an attack ``e`` is the pattern at ``x + e``, and Frank-Wolfe steps with exact
    line search move towards it.

    Implements: convexnn, Proposition 6 of docs/theory/robust_relu.md.
    """
    low, W = network.activation.slopes[0], network.W
    with np.errstate(all="ignore"):
        B, z, rho = gaps.weights(network.layers[1][0]), region.centre @ W.T + network.b, region.spread(W)
        chord = np.where(rho > np.abs(z), 0.5 + 0.5 * (z / rho), z >= 0)[:, None]
        z, rho = z[:, None], rho[:, None]
        T = np.where(B > 0, (z >= 0).astype(float), chord)
        free = (B > 0) & (np.abs(z) < rho)
        A = (1.0 - low) * B
        G = (low * B + A * T) @ W
        for _ in range(steps if free.any() else 0):
            best = z + region.attack(G) @ W.T >= 0
            move = np.where(free, best - T, 0.0)
            change = (A * move) @ W
            length = region.best_step(G, change, (A * move * z).sum(axis=2))
            T, G = T + length[..., None] * move, G + length[..., None] * change
    return np.asarray(T)


def worst_gaps(network: Network, X: Array, gaps: Gaps, region: Region, steps: int = STEPS) -> Array:
    """Lower bounds at proposed slopes, shape (n, P): of real numbers, not of float64 outputs."""
    parts = _parts(len(X), gaps.plus.shape[1] * max(network.W.shape))
    found = [_part(network, gaps[rows], region[rows], steps) for rows in parts]
    return np.concatenate(found) if found else np.empty(gaps.plus.shape)


def local_margins(network: Network, X: ArrayLike, y: ArrayLike, threat: Threat, steps: int = STEPS) -> Array:
    """Upper bounds on ``f_t - f_y`` for every rival class t of each sample over its threat set, rounding included.

    Parameters
    ----------
    network : Network
        Shallow, ReLU or LeakyReLU.
    X : array, shape (n, d)
        Raw input units.
    y : int array, shape (n,)
        Class indices 0..k-1; with one output, 1 is the class where it is positive.
    threat : Threat
        Of balls with clip, the better of ball and box counts. The sample counts as one of its perturbations.
    steps : int
        Frank-Wolfe steps on the slopes.

    Returns
    -------
    array, shape (n, k - 1), or (n, 1) with one output
        Rivals in the order of their classes; below zero for all rivals is certified.
    """
    gaps = Gaps.of_rivals(class_indices(y, network.n_outputs), network.n_outputs)
    return -_with_rounding(network, real_array(X, "X"), gaps, threat, whole_number(steps, "steps", 0))


def local_intervals(network: Network, X: ArrayLike, threat: Threat, steps: int = STEPS) -> tuple[Array, Array]:
    """Intervals that contain every output on each threat set, two arrays of shape (n, k), rounding included.

    Parameters
    ----------
    network : Network
        Shallow, ReLU or LeakyReLU.
    X : array, shape (n, d)
    threat : Threat
        As in :func:`local_margins`.
    steps : int
        Improvements of the slopes.

    Returns
    -------
    lower, upper : array, shape (n, k)
    """
    points, steps = real_array(X, "X"), whole_number(steps, "steps", 0)
    gaps = Gaps.of_outputs(len(points), network.n_outputs)
    found = _with_rounding(network, points, gaps, threat, steps)
    return found[:, : network.n_outputs], -found[:, network.n_outputs :]


def local_radii(network: Network, X: ArrayLike, y: ArrayLike, norm: str, radii: Array) -> Array:
    """Certified radii, at least those given: bisection for the largest radius at which the local bound certifies.

    Parameters
    ----------
    network : Network
        Shallow, ReLU or LeakyReLU.
    X : array, shape (n, d)
    y : int array, shape (n,)
    norm : {"l2", "linf"}
    radii : array, shape (n,)
        Certified by other means; up to eight times as much is tried where this is positive and finite.
    """
    points, labels = np.asarray(X, dtype=float), class_indices(y, network.n_outputs)
    open_rows = np.flatnonzero((radii > 0) & (radii < 1e100))
    gaps, inputs = Gaps.of_rivals(labels[open_rows], network.n_outputs), points[open_rows]
    low, factor = radii[open_rows].astype(float), 8.0
    for _ in range(ROUNDS):
        factor = np.sqrt(factor)
        tried = low * factor
        region = Region.around(inputs, tried, norm)
        size = np.abs(inputs) + tried[:, None]
        bound = worst_gaps(network, inputs, gaps, region, ROUND_STEPS) - _rounding(network, gaps, size)
        low = np.where((bound > 0).all(axis=1), tried, low)
    found = radii.astype(float)
    found[open_rows] = low
    return found


def _with_rounding(network: Network, X: Array, gaps: Gaps, threat: Threat, steps: int) -> Array:
    """Lower bounds that float64 outputs keep as well, at perturbed points and at the sample."""
    bounds = [worst_gaps(network, X, gaps, region, steps) for region in regions_of(threat, X)]
    best = np.minimum(np.max(bounds, axis=0), gaps.differences(network(X).reshape(len(X), network.n_outputs)))
    with np.errstate(over="ignore", invalid="ignore"):
        found = best - _rounding(network, gaps, largest_size(X, threat)) - 4.0 * UNIT * np.abs(best)
    return np.where(np.isfinite(found), found, -np.inf)


def _rounding(network: Network, gaps: Gaps, size: Array) -> Array:
    """Twice what float64 outputs may differ by from the real ones where |x| <= size, for every difference."""
    return np.asarray(2.0 * gaps.sums(evaluation_error(network, size)))


def _part(network: Network, gaps: Gaps, region: Region, steps: int) -> Array:
    return lower_bounds(network, gaps, region, propose_slopes(network, gaps, region, steps))


def _parts(n: int, width: int) -> Iterator[slice]:
    step = max(1, CHUNK_SIZE // max(width, 1))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))

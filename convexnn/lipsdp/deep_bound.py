"""Rigorous upper bound on the Lipschitz constant of a deep network from any multiplier of its matrix inequality."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.inputs import real_or_nan
from convexnn.lipsdp.deep import normalized_layers
from convexnn.rigorous import gamma, ldexp_up, max_eigenvalue, norm_up, product_up, spectral_norm_up, sqrt_up

Array = NDArray[np.float64]

LARGEST = (
    2.0**200
)  # multipliers are clipped to [1 / LARGEST, LARGEST]: any multiplier is valid, and no product underflows
UNDERFLOW = 2.0**-700  # what products below the range of normal numbers may have lost, after scaling
MARGINS = (1e-12, 1e-9, 1e-6)  # relative distances from the boundary of the matrix inequality that are tried


def upper_bound_deep(weights: Sequence[Array], t: ArrayLike, slopes: tuple[float, float] = (0.0, 1.0)) -> float:
    """Rigorous upper bound (l2) on the Lipschitz constant of a deep network from any multiplier ``t >= 0``.

    For ``D M(s, t) D >= -delta I`` with a diagonal D and M of `convexnn.lipsdp.deep`, every pair of inputs satisfies

        |f(x) - f(y)|^2 <= (s + delta sum_k r_k^2) |x - y|^2,    r_k >= |D_k^{-1} (x^k - y^k)| / |x - y|,

    with r_k from the product of the norms of the layers before k. The s tried are those at which M is singular in
    float64 plus a little; delta is proved by `convexnn.rigorous.max_eigenvalue`, the rounding of M included.

    Implements: convexnn, Proposition 2 of docs/theory/deep.md; from Fazlyab et al. (2019), several hidden layers.

    Parameters
    ----------
    weights : sequence of arrays
        W_0 (h_1, d), ..., W_H (k, h_H).
    t : array_like, shape (sum of hidden units,)
        Multipliers in the scaling of `convexnn.lipsdp.deep.normalized_layers`; need not be optimal.
    slopes : pair of float, default (0, 1)
        Interval of the slopes, finite.

    Returns
    -------
    bound : float
        Upper bound, never above the product of the norms; ``inf`` when t is negative, nan or of another shape.
    """
    layers, exponent = normalized_layers(weights)
    multiplier = real_or_nan(t)
    units = sum(len(W) for W in layers[:-1])
    if multiplier.shape != (units,) or not np.isfinite(multiplier).all() or (multiplier < 0.0).any():
        return math.inf
    if not all(np.isfinite(W).all() for W in layers):
        return math.inf
    if any(not W.any() for W in layers):
        return 0.0
    slope = max(abs(value) for value in slopes)
    product = product_up(*[spectral_norm_up(W) for W in layers], *[slope] * (len(layers) - 1))
    form = _Form(layers, np.clip(multiplier, 1.0 / LARGEST, LARGEST), slopes)
    least = form.least()
    squares = [form.proved(least * (1.0 + margin)) for margin in MARGINS] if math.isfinite(least) else [math.inf]
    return ldexp_up(min(product, sqrt_up(min(squares))), exponent)


def plain_bound_deep(weights: Sequence[Array], t: Array, slopes: tuple[float, float] = (0.0, 1.0)) -> float:
    """The bound of `upper_bound_deep` in plain float64; proves nothing."""
    layers, exponent = normalized_layers(weights)
    slope = max(abs(value) for value in slopes)
    product = float(np.prod([np.linalg.norm(W, 2) for W in layers])) * slope ** (len(layers) - 1)
    if not product:
        return 0.0
    least = _Form(layers, np.clip(t, 1.0 / LARGEST, LARGEST), slopes).least()
    return float(np.ldexp(min(product, math.sqrt(least)), exponent))


class _Form:
    """The matrix M(s, t), its value at s = 0, and a bound on the rounding of each of its entries."""

    def __init__(self, layers: list[Array], t: Array, slopes: tuple[float, float]) -> None:
        self.layers, self.slopes, self.d = layers, slopes, layers[0].shape[1]
        low, high = slopes
        order = self.d + len(t)
        self.M, self.size = np.zeros((order, order)), np.zeros((order, order))
        begin, used = 0, 0
        for W in layers[:-1]:
            here, there = slice(begin, begin + W.shape[1]), slice(begin + W.shape[1], begin + W.shape[1] + len(W))
            weight = t[used : used + len(W)]
            self._add(there, there, np.diag(2.0 * weight), np.diag(2.0 * weight))
            cross = weight[:, None] * W * (low + high)
            self._add(there, here, -cross, weight[:, None] * np.abs(W) * (abs(low) + abs(high)))
            if low * high != 0.0:
                A = np.abs(W)
                own = 2.0 * low * high * (W.T @ (weight[:, None] * W))
                self._add(here, here, own, 2.0 * abs(low * high) * (A.T @ (weight[:, None] * A)))
            begin, used = begin + W.shape[1], used + len(W)
        last = layers[-1]
        self._add(slice(begin, order), slice(begin, order), -last.T @ last, np.abs(last).T @ np.abs(last))

    def _add(self, rows: slice, columns: slice, block: Array, size: Array) -> None:
        self.M[rows, columns] += block
        self.size[rows, columns] += size
        if rows != columns:
            self.M[columns, rows] += block.T
            self.size[columns, rows] += size.T

    def least(self) -> float:
        """Smallest s with M(s, t) >= 0 in float64; ``inf`` where the hidden block is not positive definite."""
        d = self.d
        hidden, cross = self.M[d:, d:], self.M[d:, :d]
        scale = 1.0 / np.sqrt(np.maximum(np.diagonal(self.size)[d:], np.finfo(float).tiny))
        try:
            factor = np.linalg.cholesky(hidden * scale[:, None] * scale)
        except np.linalg.LinAlgError:
            return math.inf
        E = np.linalg.solve(factor, cross * scale[:, None])
        value = float(np.linalg.eigvalsh(E.T @ E - self.M[:d, :d])[-1])
        return max(value, 2.0**-400) if math.isfinite(value) else math.inf

    def proved(self, s: float) -> float:
        """Proved bound on the square of the Lipschitz constant at this s."""
        diagonal = np.diagonal(self.size).copy()
        diagonal[: self.d] += s
        power = np.clip(-np.frexp(diagonal)[1] // 2, -300, 300)
        M, size = self.M.copy(), self.size
        M[np.diag_indices(self.d)] += s
        scaled = np.ldexp(np.ldexp(M, power[:, None]), power)
        size = np.ldexp(np.ldexp(size + np.diag(np.where(np.arange(len(M)) < self.d, s, 0.0)), power[:, None]), power)
        longest = max(max(W.shape) for W in self.layers)
        rounding = product_up(2.0 * gamma(longest + 16), norm_up(size)) + len(M) * UNDERFLOW
        delta = max_eigenvalue(-scaled, rounding)
        if delta <= 0.0:
            return s
        return math.nextafter(s + product_up(delta, self._reach(power)), math.inf)

    def _reach(self, power: NDArray[np.intc]) -> float:
        """Upper bound on ``sum_k |D_k^{-1} (x^k - y^k)|^2`` for inputs at distance one."""
        slope = max(abs(value) for value in self.slopes)
        total, reach, begin = 0.0, 1.0, 0
        for W in self.layers:
            stretch = ldexp_up(reach, int(-power[begin : begin + W.shape[1]].min()))
            total = math.nextafter(total + product_up(stretch, stretch), math.inf)
            reach, begin = product_up(reach, slope, spectral_norm_up(W)), begin + W.shape[1]
        return total

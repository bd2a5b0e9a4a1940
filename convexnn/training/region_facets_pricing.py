"""Directions that separate samples from a polyhedral region: facet normals, found by ascent from dense random starts.

The support function of a box, a rotated box or any zonotope is a polyhedral norm, so that the largest mean of
``|u.x|`` over it, a convex function over a polyhedral norm, lies at vertices of the polar body: facet normals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.regions.region import Region

Array = NDArray[np.float64]

FLAT = 1e-9  # half lengths below this share of the longest one, or of the samples' spread, count as zero
THICKNESS = 1e-3  # of flat regions in training, as a share of the samples' spread: no division by zero
SHARPNESS = 10.0  # of the weights of samples that directions cover already
JUDGED = 4000  # samples that directions are chosen by


@dataclass(frozen=True, eq=False)
class FacetFrame:
    """Coordinates ``y = scale (x - center)`` in which a box has about unit size on all sides; its axes stay unknown.

    Attributes
    ----------
    center : array, shape (d,)
    scale : array, shape (d, d)
        Symmetric: the inverse root of ``axes axes'``. A rotation of the unit box changes nothing here.
    generators : array, shape (d, r)
        The region in these coordinates is ``{generators e : |e|_inf <= 1}``.
    """

    center: Array
    scale: Array
    generators: Array

    @classmethod
    def of(cls, region: Region, samples: Array) -> FacetFrame:
        """Frame of a box; where it is flat, the spread of the samples (n, d) is the unit."""
        axes = np.diag(region.axes) if region.axes.ndim == 1 else np.array(region.axes)
        P, lengths, _ = np.linalg.svd(axes) if region.axes.ndim == 2 else (np.eye(len(axes)), region.axes, None)
        lengths = np.r_[lengths, np.zeros(len(axes) - len(lengths))] if len(lengths) < len(axes) else lengths
        spread = np.sqrt(np.mean(((samples - region.center) @ P) ** 2, axis=0))
        flat = lengths <= FLAT * np.maximum(lengths.max(initial=0.0), spread)
        unit = np.where(flat, np.where(spread > 0, spread, 1.0), lengths)
        scale = (P / unit) @ P.T
        return cls(region.center, scale, np.hstack([scale @ axes, THICKNESS * P[:, flat]]))

    def into(self, X: Array) -> Array:
        """Coordinates (n, d) of inputs (n, d)."""
        return np.asarray((X - self.center) @ self.scale)

    def support(self, U: Array) -> Array:
        """Support function ``max u.y`` of the region for rows of U (n, d), shape (n,)."""
        return np.asarray(np.abs(U @ self.generators).sum(axis=1))

    def normalized(self, U: Array) -> Array:
        """Rows with support function one."""
        return np.asarray(U / np.maximum(self.support(U), np.finfo(float).tiny)[:, None])


def dense_directions(n: int, d: int, rng: np.random.Generator) -> Array:
    """Random unit rows without any preferred axis, shape (n, d)."""
    U = rng.standard_normal((n, d))
    return np.asarray(U / np.maximum(np.linalg.norm(U, axis=1, keepdims=True), np.finfo(float).tiny))


def priced(frame: FacetFrame, Y: Array, starts: Array, steps: int, rng: np.random.Generator) -> Array:
    """Directions with locally largest ``mean |u.y| / h(u)``, h the support function, by Adam from each start.

    Every local maximum is a facet normal of the region (for almost all samples); the ratio of a direction whose
    facet separates all samples by the factor R is R.

    Implements: convexnn, Proposition 2 of theory/region_facets.md, facet normals as maxima.

    Parameters
    ----------
    frame : FacetFrame
    Y : array, shape (n, d)
        Samples in the frame; each counts by its direction only, so that far ones do not outvote near ones.
    starts : array, shape (k, d)
    steps : int
    rng : numpy Generator

    Returns
    -------
    array, shape (k, d)
        With support function one.
    """
    away = Y / np.maximum(np.linalg.norm(Y, axis=1, keepdims=True), np.finfo(float).tiny) * np.sqrt(Y.shape[1])
    U = np.array(starts)
    mean, square = np.zeros_like(U), np.zeros_like(U)
    for step in range(steps):
        batch = away if len(away) <= 256 else away[rng.integers(len(away), size=256)]
        gradient = _ratio_gradient(frame.generators, batch, U)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        size = np.sqrt(square / (1.0 - 0.999 ** (step + 1))) + 1e-12
        U += (0.02 * (1.0 - step / steps) + 1e-4) * mean / (1.0 - 0.9 ** (step + 1)) / size
        U /= np.maximum(np.linalg.norm(U, axis=1, keepdims=True), np.finfo(float).tiny)
    return frame.normalized(U)


def _ratio_gradient(generators: Array, Y: Array, U: Array) -> Array:
    """Gradient of ``mean |u.y| / |generators'u|_1`` at every row of U."""
    A, H = Y @ U.T, U @ generators
    top, h = np.abs(A).mean(axis=0), np.maximum(np.abs(H).sum(axis=1), np.finfo(float).tiny)
    rise = np.sign(A).T @ Y / len(Y)
    return np.asarray((rise - (top / h)[:, None] * (np.sign(H) @ generators.T)) / h[:, None])


def excess(U: Array, Y: Array) -> Array:
    """How far samples lie beyond the region along normalized directions, ``max(|u.y| - 1, 0)``, shape (n, k)."""
    return np.maximum(np.abs(Y @ U.T) - 1.0, 0.0)


def covering(U: Array, Y: Array, count: int) -> Array:
    """A choice of ``count`` of the directions such that every sample is seen by one that sees it well.

    Greedy: the next direction is the one with the largest weighted excess, and samples weigh less the better they are
    seen already. The excess is relative to the best direction of a sample, so that near samples count like far ones.

    Parameters
    ----------
    U : array, shape (k, d)
        Normalized directions, ``k >= count``.
    Y : array, shape (n, d)
    count : int

    Returns
    -------
    array, shape (count, d)
    """
    seen = excess(U, Y)
    seen /= np.maximum(seen.max(axis=1, keepdims=True), np.finfo(float).tiny)
    score = np.zeros(len(Y))
    chosen: list[int] = []
    for _ in range(count):
        value = np.exp(-SHARPNESS * (score - score.min())) @ seen
        value[chosen] = -1.0
        chosen.append(int(np.argmax(value)))
        score += seen[:, chosen[-1]]
    return U[chosen]


def threshold_below(U: Array, Y: Array) -> float:
    """Start of the units below their facets: one minus a tenth of the median excess of the samples, (0, 1]."""
    seen = excess(U, Y[:JUDGED]).max(axis=1)
    typical = float(np.median(seen[seen > 0])) if (seen > 0).any() else 0.0
    return max(1.0 - 0.1 * typical, 0.5)


def facet_directions(
    frame: FacetFrame, Y: Array, count: int, candidates: int, steps: int, rng: np.random.Generator
) -> Array:
    """Directions (count, d) from ``candidates`` starts a direction; samples that none sees get starts of their own.

    Parameters
    ----------
    frame : FacetFrame
    Y : array, shape (n, d)
        Samples to be accepted, in the frame.
    count, candidates, steps : int
    rng : numpy Generator
    """
    d = Y.shape[1]
    judged = Y if len(Y) <= JUDGED else Y[rng.choice(len(Y), JUDGED, replace=False)]
    U = priced(frame, Y, dense_directions(max(candidates, 1) * count, d, rng), steps, rng)
    for _ in range(2):
        unseen = judged[excess(U, judged).max(axis=1) <= 0.0]
        if not len(unseen):
            break
        U = np.vstack([U, priced(frame, unseen, dense_directions(2 * count, d, rng), steps, rng)])
    return covering(U, judged, count)

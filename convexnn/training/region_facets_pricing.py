"""Directions that separate samples from a polyhedral region: facet normals, found by ascent from dense random starts.

The support function of a box, a rotated box or any zonotope is a polyhedral norm, so that the largest mean of
``|u.x|`` over it, a convex function over a polyhedral norm, lies at vertices of the polar body: facet normals. Regions
without a center of symmetry have frames with one side: ``max(u.x, 0)`` takes the place of ``|u.x|``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from convexnn.regions.region import Region

Array = NDArray[np.float64]

FLAT = 1e-9  # half lengths below this share of the longest one, or of the samples' spread, count as zero
THICKNESS = 1e-3  # of flat regions in training, as a share of the samples' spread: no division by zero
SHARPNESS = 10.0  # of the weights of samples that directions cover already
JUDGED = 4000  # samples that directions are chosen by


class Frame(Protocol):
    """Coordinates of a region of about unit size, and its support function there.

    Attributes
    ----------
    sides : int
        2 where the region is symmetric about its center, and facets come in opposite pairs; else 1.
    """

    @property
    def sides(self) -> int:  # noqa: D102
        ...

    @property
    def center(self) -> Array:  # noqa: D102
        ...

    @property
    def scale(self) -> Array:  # noqa: D102
        ...

    def into(self, X: Array) -> Array:  # noqa: D102
        ...

    def touched(self, U: Array) -> Array:  # noqa: D102
        ...

    def normalized(self, U: Array) -> Array:  # noqa: D102
        ...


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
    sides: int = 2

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

    def touched(self, U: Array) -> Array:
        """Points y of the region with the largest ``u.y``, shape (n, d)."""
        return np.asarray(np.sign(U @ self.generators) @ self.generators.T)

    def normalized(self, U: Array) -> Array:
        """Rows with support function one."""
        return np.asarray(U / np.maximum(self.support(U), np.finfo(float).tiny)[:, None])


def dense_directions(n: int, d: int, rng: np.random.Generator) -> Array:
    """Random unit rows without any preferred axis, shape (n, d)."""
    U = rng.standard_normal((n, d))
    return np.asarray(U / np.maximum(np.linalg.norm(U, axis=1, keepdims=True), np.finfo(float).tiny))


def priced(frame: Frame, Y: Array, starts: Array, steps: int, rng: np.random.Generator) -> Array:
    """Directions with locally largest ``mean |u.y| / h(u)``, h the support function, by Adam from each start.

    Every local maximum is a facet normal of the region (for almost all samples); the ratio of a direction whose
    facet separates all samples by the factor R is R.

    Implements: convexnn, Proposition 2 of theory/region_facets.md, facet normals as maxima.

    Parameters
    ----------
    frame : Frame
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
        gradient = _ratio_gradient(frame, batch, U)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        size = np.sqrt(square / (1.0 - 0.999 ** (step + 1))) + 1e-12
        U += (0.02 * (1.0 - step / steps) + 1e-4) * mean / (1.0 - 0.9 ** (step + 1)) / size
        U /= np.maximum(np.linalg.norm(U, axis=1, keepdims=True), np.finfo(float).tiny)
    return frame.normalized(U)


def _ratio_gradient(frame: Frame, Y: Array, U: Array) -> Array:
    """Gradient of ``mean |u.y| / h(u)``, or of ``mean max(u.y, 0) / h(u)``, at every row of U."""
    A, reached = Y @ U.T, frame.touched(U)
    h = np.maximum((U * reached).sum(axis=1), np.finfo(float).tiny)
    top = _beyond(A, frame.sides).mean(axis=0)
    rise = (np.sign(A) if frame.sides == 2 else (A > 0).astype(float)).T @ Y / len(Y)
    return np.asarray((rise - (top / h)[:, None] * reached) / h[:, None])


def _beyond(A: Array, sides: int) -> Array:
    return np.abs(A) if sides == 2 else np.maximum(A, 0.0)


def excess(U: Array, Y: Array, sides: int = 2) -> Array:
    """How far samples lie beyond the region along normalized directions, ``max(|u.y| - 1, 0)``, shape (n, k)."""
    return np.maximum(_beyond(Y @ U.T, sides) - 1.0, 0.0)


def covering(U: Array, Y: Array, count: int, sides: int = 2) -> Array:
    """A choice of ``count`` of the directions such that every sample is seen by one that sees it well.

    Greedy: the next direction is the one with the largest weighted excess, and samples weigh less the better they are
    seen already. The excess is relative to the best direction of a sample, so that near samples count like far ones.

    Parameters
    ----------
    U : array, shape (k, d)
        Normalized directions, ``k >= count``.
    Y : array, shape (n, d)
    count : int
    sides : int
        Of the frame.

    Returns
    -------
    array, shape (count, d)
    """
    seen = excess(U, Y, sides)
    seen /= np.maximum(seen.max(axis=1, keepdims=True), np.finfo(float).tiny)
    score = np.zeros(len(Y))
    chosen: list[int] = []
    for _ in range(count):
        value = np.exp(-SHARPNESS * (score - score.min())) @ seen
        value[chosen] = -1.0
        chosen.append(int(np.argmax(value)))
        score += seen[:, chosen[-1]]
    return U[chosen]


def threshold_below(U: Array, Y: Array, sides: int = 2) -> float:
    """Start of the units below their facets: one minus a tenth of the median excess of the samples, (0, 1]."""
    seen = excess(U, Y[:JUDGED], sides).max(axis=1)
    typical = float(np.median(seen[seen > 0])) if (seen > 0).any() else 0.0
    return max(1.0 - 0.1 * typical, 0.5)


def facet_directions(
    frame: Frame, Y: Array, count: int, candidates: int, steps: int, rng: np.random.Generator
) -> Array:
    """Directions (count, d) from ``candidates`` starts a direction; samples that none sees get starts of their own.

    Parameters
    ----------
    frame : Frame
    Y : array, shape (n, d)
        Samples to be accepted, in the frame.
    count, candidates, steps : int
    rng : numpy Generator
    """
    d = Y.shape[1]
    judged = Y if len(Y) <= JUDGED else Y[rng.choice(len(Y), JUDGED, replace=False)]
    U = priced(frame, Y, dense_directions(max(candidates, 1) * count, d, rng), steps, rng)
    for _ in range(2):
        unseen = judged[excess(U, judged, frame.sides).max(axis=1) <= 0.0]
        if not len(unseen):
            break
        U = np.vstack([U, priced(frame, unseen, dense_directions(2 * count, d, rng), steps, rng)])
    return covering(U, judged, count, frame.sides)

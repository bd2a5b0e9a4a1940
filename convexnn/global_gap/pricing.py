"""Directions in which ``|F|`` is large: multi-start ascent on the sphere, then the exact maximum over a cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.global_gap.kappa import ReducedRows, response
from convexnn.restrictions.cones import project
from convexnn.values import ByValue

Array = NDArray[np.float64]

STEPS = 40
#: Candidates that cell ascent improves.
POLISHED = 16
#: Cells tried across the walls on which a cell's maximum lies.
NEIGHBOURS = 4
TIE = 1e-9


@dataclass(frozen=True, eq=False)
class Candidates(ByValue):
    """Unit vectors (k, r), best first, the sign of F there and ``|F|``."""

    directions: Array
    signs: Array
    values: Array

    @property
    def best(self) -> float:
        """The largest ``|F|``, zero when there is no candidate."""
        return float(self.values.max(initial=0.0))

    def mapped(self, basis: Array) -> Candidates:
        """In the coordinates of the original rows."""
        return Candidates(self.directions @ basis, self.signs, self.values)

    def above(self, level: float) -> Candidates:
        """Those with ``|F| > level``."""
        keep = self.values > level
        return Candidates(self.directions[keep], self.signs[keep], self.values[keep])


def candidates(reduced: ReducedRows, directions: Array, signs: Array) -> Candidates:
    """Candidates from directions (normalized here), one for each cell and sign, best first."""
    size = np.linalg.norm(directions, axis=1, keepdims=True)
    W = directions / np.where(size > 0, size, 1.0)
    values = signs * response(reduced.rows, reduced.nu, W)
    order = np.argsort(-values, kind="stable")
    cells = np.packbits(np.column_stack([W @ reduced.rows.T > 0, signs > 0])[order], axis=1)
    first = np.unique(cells, axis=0, return_index=True)[1]
    order = order[np.sort(first)]
    return Candidates(W[order], signs[order], values[order])


def local_search(reduced: ReducedRows, rng: np.random.Generator, seeds: Array, starts: int = 200) -> Candidates:
    """Ascent of F and -F from random directions, from the rows and from ``seeds``.

    ``w -> G(w) / |G(w)|`` with G the gradient of F: on a cell that contains its own gradient it ends at once, at walls
    it swings, so every other step is a shorter one; the best direction of every start is kept.

    Parameters
    ----------
    reduced : ReducedRows
    rng : Generator
    seeds : array, shape (k, r)
    starts : int
        Random directions.

    Returns
    -------
    Candidates
    """
    rows, nu = reduced.rows, reduced.nu
    drawn = rng.standard_normal((starts, reduced.rank))
    W0 = np.vstack([drawn / np.linalg.norm(drawn, axis=1, keepdims=True), _unit(seeds.reshape(-1, reduced.rank))])
    found = [_ascend(rows, sign * nu, W0) for sign in (1.0, -1.0)]
    signs = np.repeat([1.0, -1.0], len(W0))
    return candidates(reduced, np.vstack(found), signs)


def _unit(W: Array) -> Array:
    size = np.linalg.norm(W, axis=1, keepdims=True)
    kept: Array = (W / np.where(size > 0, size, 1.0))[size[:, 0] > 0]
    return kept


def _ascend(rows: Array, c: Array, W: Array) -> Array:
    best, height = W.copy(), response(rows, c, W)
    for k in range(STEPS):
        G = ((W @ rows.T > 0) * c) @ rows
        size = np.linalg.norm(G, axis=1, keepdims=True)
        step = G / np.where(size > 0, size, 1.0)
        W = step if k % 3 == 0 else W + step * (0.5 if k % 2 else 0.5 / (1 + k / 4))
        W = W / np.maximum(np.linalg.norm(W, axis=1, keepdims=True), 1e-300)
        values = response(rows, c, W)
        better = values > height
        best[better], height[better] = W[better], values[better]
        W = np.where((values > 0.5 * height)[:, None], W, best)
    return best


def cell_ascent(reduced: ReducedRows, start: Candidates, rng: np.random.Generator) -> Candidates:
    """Best point of the cell of every candidate, then of cells across its walls as long as that helps.

    Over the cell of a pattern F is linear, ``g'w``, and its maximum over unit vectors is the length of the projection
    of g on the cell's cone.
    """
    found, signs = [], []
    for w, sign in zip(start.directions[:POLISHED], start.signs[:POLISHED], strict=True):
        found.append(_climb(reduced.rows, sign * reduced.nu, w, rng))
        signs.append(sign)
    directions = np.vstack([*found, start.directions]) if found else start.directions
    return candidates(reduced, directions, np.concatenate([signs, start.signs]))


def _climb(rows: Array, c: Array, w: Array, rng: np.random.Generator) -> Array:
    w, value = _cell_best(rows, c, w)
    size = np.linalg.norm(rows, axis=1)
    for _ in range(8):
        walls = rows[np.abs(rows @ w) <= TIE * size]
        if not len(walls):
            break
        for _ in range(NEIGHBOURS):
            across = w + 1e-6 * (rng.standard_normal(len(walls)) @ walls) / np.linalg.norm(walls)
            trial, height = _cell_best(rows, c, across)
            if height > value * (1 + 1e-12):
                w, value = trial, height
                break
        else:
            break
    return w


def _cell_best(rows: Array, c: Array, w: Array) -> tuple[Array, float]:
    signs = np.where(rows @ w >= 0, 1.0, -1.0)
    g = (c * (signs > 0)) @ rows
    best = project(signs[:, None] * rows, g)
    size = float(np.linalg.norm(best))
    return (best / size, size) if size > 0 else (w / np.linalg.norm(w), 0.0)

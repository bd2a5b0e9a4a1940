"""Quadratic functions over boxes: local search from above, rigorous bounds from any diagonal multipliers from below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.quadratic.form import QuadraticForm
from convexnn.quadratic.spectrum import UNDERFLOW
from convexnn.rigorous import TINY, UNIT, gamma, norm_up, row_norms_up

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

SWEEPS = 50
CHUNK = 2_000_000  # entries of the matrices that are looked at together


@dataclass(frozen=True, eq=False)
class Boxes:
    """The problems ``min s f(c + delta)`` over ``|delta_k| <= e_k``, one a row.

    Attributes
    ----------
    form : QuadraticForm
    centres, halves : array, shape (n, d)
        c, and e >= 0.
    signs : array, shape (n,)
        -1 / +1.
    """

    form: QuadraticForm
    centres: Array = field(repr=False)
    halves: Array = field(repr=False)
    signs: Array = field(repr=False)

    @classmethod
    def between(cls, form: QuadraticForm, lower: Array, upper: Array, signs: Array) -> Boxes:
        """Boxes that hold all points between two arrays (n, d), and what rounding may add to such points."""
        centres = 0.5 * lower + 0.5 * upper
        halves = np.maximum(np.maximum(upper - centres, centres - lower), 0.0)
        spread = np.nextafter(halves + 8.0 * UNIT * (np.abs(centres) + halves), np.inf)
        return cls(form, centres, np.where(halves > 0, spread, 0.0), signs)

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.centres)

    def take(self, rows: Indices) -> Boxes:
        """Some of the boxes."""
        return replace(self, centres=self.centres[rows], halves=self.halves[rows], signs=self.signs[rows])

    @property
    def slopes(self) -> Array:
        """``s (Q c + q)``, shape (n, d): half of the gradients at the centres."""
        return self.signs[:, None] * (self.centres @ self.form.Q + self.form.q)

    @property
    def values(self) -> Array:
        """``s f(c)``, shape (n,)."""
        return self.signs * self.form.values(self.centres)

    def values_at(self, steps: Array) -> Array:
        """``s f(c + delta)``, shape (n,)."""
        return self.signs * self.form.values(self.centres + steps)

    def units(self) -> tuple[Array, Array]:
        """Matrices (n, d, d) and slopes (n, d) in the coordinates ``delta / e``, in which the box is the unit box."""
        scaled = self.signs[:, None] * self.halves
        return scaled[:, :, None] * self.form.Q * self.halves[:, None, :], self.slopes * self.halves

    def chunks(self) -> Iterator[Indices]:
        """Rows in groups whose matrices fit in memory."""
        size = max(1, CHUNK // max(1, self.centres.shape[1] ** 2))
        return (np.arange(start, min(start + size, len(self))) for start in range(0, len(self), size))


def coordinate_descent(boxes: Boxes, starts: Array) -> tuple[Array, Array]:
    """Steps that no change of one coordinate improves, from given starts; the values never rise on the way.

    Parameters
    ----------
    boxes : Boxes
    starts : array, shape (n, d)
        Steps; clipped to the boxes.

    Returns
    -------
    steps : array, shape (n, d)
    values : array, shape (n,)
        ``s f(c + step)``: UPPER bounds on the minima.
    """
    e, s, Q = boxes.halves, boxes.signs, boxes.form.Q
    steps = np.clip(np.nan_to_num(starts), -e, e)
    slopes = boxes.slopes + s[:, None] * (steps @ Q)
    size = np.abs(boxes.form.Q).max() * e.max(axis=1) + np.abs(slopes).max(axis=1)
    for _ in range(SWEEPS):
        moved = np.zeros(len(steps))
        for k in range(Q.shape[0]):
            curvature = s * Q[k, k]
            rest = slopes[:, k] - curvature * steps[:, k]
            inner = np.divide(-rest, curvature, out=np.zeros_like(rest), where=curvature > 0)
            end = np.where(
                rest > 0, -e[:, k], np.where(rest < 0, e[:, k], np.where(steps[:, k] < 0, -1.0, 1.0) * e[:, k])
            )
            best = np.where(curvature > 0, np.clip(inner, -e[:, k], e[:, k]), end)
            change = best - steps[:, k]
            steps[:, k] = best
            slopes += (s * change)[:, None] * Q[k]
            moved = np.maximum(moved, np.abs(change) * np.maximum(np.abs(slopes[:, k]), np.abs(curvature * change)))
        if (moved <= 1e-14 * size * e.max(axis=1)).all():
            break
    return steps, boxes.values_at(steps)


def diagonal_bounds(boxes: Boxes, multipliers: Array) -> Array:
    """Rigorous LOWER bounds on the minima over boxes from diagonal multipliers, rounding included.

    For every ``D >= 0`` and every step ``t``, in the coordinates of the unit box and with ``A = s Q + diag(D)``::

        min s f >= s f(c) + 2 g't + t'A t - sum D - 2 |g + A t| (sqrt(d) + |t|) - max(0, -min eig A) (sqrt(d) + |t|)^2

    which is ``s f(c) - g'A^{-1}g - sum D`` at ``t = -A^{-1} g`` where A is positive definite: the bound of Shor.

    Implements: convexnn, Proposition 6 of docs/theory/quadratic_worst_cases.md.

    Parameters
    ----------
    boxes : Boxes
    multipliers : array, shape (n, d)
        In the units of ``s f``; negative numbers and nan count as zero.

    Returns
    -------
    bounds : array, shape (n,)
        For the function that is meant by the form, wherever a step of the box ends; ``-inf`` where nothing is proved.
    """
    found = np.full(len(boxes), -np.inf)
    D = np.where(multipliers > 0, np.minimum(multipliers, np.finfo(float).max), 0.0)
    for rows in boxes.chunks():
        found[rows] = _bounds_of(boxes.take(rows), D[rows])
    lengths = row_norms_up(boxes.halves)
    return np.nextafter(found - boxes.form.rounding_at(boxes.centres, lengths), -np.inf)


def _bounds_of(boxes: Boxes, D: Array) -> Array:
    form, d = boxes.form, boxes.centres.shape[1]
    relative = 2.0 * gamma(8 * d + 80)
    with np.errstate(all="ignore"):
        Q, g = boxes.units()
        change = _change(Q, g, D, relative)
        lengths, widest = row_norms_up(boxes.centres), boxes.halves.max(axis=1)
        own, matrix = norm_up(form.q), norm_up(form.Q)
        slope = (matrix * lengths + own) * np.sqrt(d) * widest
        size = np.abs(boxes.values) + (matrix * lengths + 2.0 * own) * lengths + abs(form.h)
        scale = 1.0 + lengths + widest + matrix + own + D.max(axis=1)
        rounding = relative * (np.abs(change) + slope + size) + d * d * UNDERFLOW * scale * scale * scale
        bounds = boxes.values + change - rounding
    return np.where(np.isfinite(bounds), bounds, -np.inf)


def _change(Q: Array, g: Array, D: Array, relative: float) -> Array:
    """Lower bounds (n,) on ``2 g't + t'Q t`` over unit boxes, from rows scaled to size one by powers of two."""
    d = g.shape[1]
    size = np.maximum(np.maximum(np.abs(Q).max(axis=(1, 2)), np.abs(g).max(axis=1)), D.max(axis=1))
    exponent = np.where(np.isfinite(size) & (size > 0), np.frexp(size)[1], 0)
    g, D = np.ldexp(g, -exponent[:, None]), np.ldexp(D, -exponent[:, None])
    A = np.ldexp(Q, -exponent[:, None, None]) + D[:, :, None] * np.eye(d)
    finite = np.isfinite(size) & np.isfinite(A).all(axis=(1, 2)) & np.isfinite(g).all(axis=1)
    A[~finite] = np.eye(d)
    t = _solutions(A, g)
    residual = g + np.einsum("nij,nj->ni", A, t)
    frobenius = np.sqrt(np.einsum("nij,nij->n", A, A))
    reach = np.sqrt(d) + np.linalg.norm(t, axis=1)
    terms = (residual + g) * t
    loss = 2.0 * np.linalg.norm(residual, axis=1) * reach + _indefiniteness(A, frobenius) * reach * reach
    largest = (np.linalg.norm(g, axis=1) + frobenius * reach) * reach
    spent = np.abs(terms).sum(axis=1) + D.sum(axis=1) + loss + largest + TINY
    found = np.ldexp(terms.sum(axis=1) - D.sum(axis=1) - (loss + relative * spent), exponent)
    return np.where(finite, found, -np.inf)


def _solutions(A: Array, g: Array) -> Array:
    """``-A^{-1} g`` or something near it, shape (n, d)."""
    try:
        t = -np.linalg.solve(A, g[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        values, V = np.linalg.eigh(A)
        part = np.einsum("nji,nj->ni", V, g)
        cut = np.maximum(values, 1e-14 * np.abs(values).max(axis=1, keepdims=True) + 1e-300)
        t = -np.einsum("nij,nj->ni", V, part / cut)
    return np.where(np.isfinite(t).all(axis=1, keepdims=True), t, 0.0)


def _indefiniteness(A: Array, frobenius: Array) -> Array:
    """Upper bounds on ``max(0, -min eig A)`` from computed decompositions and their residuals, shape (n,)."""
    values, V = np.linalg.eigh(A)
    d = A.shape[1]
    relative = 4.0 * gamma(2 * d + 16)
    rebuilt = (V * values[:, None, :]) @ np.swapaxes(V, 1, 2)
    difference, skewed = A - rebuilt, np.swapaxes(V, 1, 2) @ V - np.eye(d)
    error = np.sqrt(np.einsum("nij,nij->n", difference, difference)) * (1.0 + relative)
    skew = np.sqrt(np.einsum("nij,nij->n", skewed, skewed)) * (1.0 + relative) + relative * d
    lowest = np.maximum(-values[:, 0], 0.0) * (1.0 + skew)
    return lowest + error + relative * (frobenius + np.abs(values).sum(axis=1) * (1.0 + skew))

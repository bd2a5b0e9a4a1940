"""Margins of a polynomial classifier as quadratic functions: each class against each rival, samples of both at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.inputs import class_indices
from convexnn.network import Network
from convexnn.quadratic.boxes import Boxes, diagonal_bounds
from convexnn.quadratic.diagonal import best_diagonal
from convexnn.quadratic.form import QuadraticForm

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Duel:
    """Samples of two classes and the difference of their scores; ``s f > 0`` is classified right between the two.

    Attributes
    ----------
    form : QuadraticForm
        ``f_a - f_b``, or the only output.
    rows : int array, shape (t,)
        Samples with label a or b.
    signs : array, shape (t,)
        +1 for samples of a (with one output: of class 1), else -1.
    rivals : int array, shape (t,)
        The other class of each.
    """

    form: QuadraticForm
    rows: Indices = field(repr=False)
    signs: Array = field(repr=False)
    rivals: Indices = field(repr=False)


def duels(network: Network, labels: ArrayLike) -> Iterator[Duel]:
    """Every pair of classes that has samples, one eigendecomposition each: at most k (k - 1) / 2.

    Parameters
    ----------
    network : Network
        One hidden layer, polynomial or identity activation.
    labels : int array, shape (n,)
        Class indices 0..k-1; with one output, class 1 is where it is positive.
    """
    y = class_indices(labels, network.n_outputs)
    if network.n_outputs == 1:
        yield Duel(QuadraticForm.of_network(network), np.arange(len(y)), np.where(y == 1, 1.0, -1.0), 1 - y)
        return
    for a in range(network.n_outputs):
        for b in range(a + 1, network.n_outputs):
            rows = np.flatnonzero((y == a) | (y == b))
            if len(rows):
                first = y[rows] == a
                weights = np.eye(network.n_outputs)[a] - np.eye(network.n_outputs)[b]
                form = QuadraticForm.of_network(network, weights)
                yield Duel(form, rows, np.where(first, 1.0, -1.0), np.where(first, b, a))


def worst_margins(network: Network, X: ArrayLike, labels: ArrayLike, radius: ArrayLike) -> tuple[Array, Array]:
    """Exact worst margins ``min over rivals and |delta|_2 <= radius of (f_y - f_k)(x + delta)`` and worst points.

    Implements: convexnn, Proposition 2 of docs/theory/quadratic_worst_cases.md, for all pairs of classes.

    Parameters
    ----------
    network : Network
        One hidden layer, polynomial or identity activation.
    X : array, shape (n, d)
    labels : int array, shape (n,)
        Class indices.
    radius : float or array, shape (n,)
        Nonnegative, l2.

    Returns
    -------
    margins : array, shape (n,)
        Positive where no perturbation changes a right prediction.
    points : array, shape (n, d)
    """
    inputs = np.asarray(X, dtype=float)
    radii = np.broadcast_to(np.asarray(radius, dtype=float), len(inputs))
    margins, points = np.full(len(inputs), np.inf), inputs.copy()
    for duel in duels(network, labels):
        values, found = duel.form.worst_case(inputs[duel.rows], duel.signs, radii[duel.rows])
        worse = values < margins[duel.rows]
        margins[duel.rows[worse]], points[duel.rows[worse]] = values[worse], found[worse]
    return margins, points


def worst_margin_bounds(network: Network, X: ArrayLike, labels: ArrayLike, radius: ArrayLike) -> Array:
    """Rigorous LOWER bounds (n,) on the worst margins of :func:`worst_margins`, rounding included.

    Implements: convexnn, Proposition 3 of docs/theory/quadratic_worst_cases.md, for all pairs of classes.
    """
    inputs = np.asarray(X, dtype=float)
    radii = np.broadcast_to(np.asarray(radius, dtype=float), len(inputs))
    bounds = np.full(len(inputs), np.inf)
    for duel in duels(network, labels):
        found = duel.form.worst_case_bounds(inputs[duel.rows], duel.signs, radii[duel.rows])
        bounds[duel.rows] = np.minimum(bounds[duel.rows], found)
    return bounds


def box_margin_bounds(network: Network, labels: ArrayLike, lower: Array, upper: Array) -> Array:
    """Rigorous LOWER bounds (n,) on the worst margins between two arrays (n, d): the best diagonal of each sample.

    Implements: convexnn, Proposition 6 of docs/theory/quadratic_worst_cases.md, for all pairs of classes.
    """
    bounds = np.full(len(lower), np.inf)
    for duel in duels(network, labels):
        boxes = Boxes.between(duel.form, lower[duel.rows], upper[duel.rows], duel.signs)
        found = diagonal_bounds(boxes, best_diagonal(boxes)[0])
        bounds[duel.rows] = np.minimum(bounds[duel.rows], found)
    return bounds


def box_output_bounds(network: Network, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Rigorous intervals of every output between two arrays (n, d), two arrays of shape (n, k)."""
    ends = []
    for weights in np.eye(network.n_outputs):
        form = QuadraticForm.of_network(network, weights)
        sides = [Boxes.between(form, lower, upper, np.full(len(lower), sign)) for sign in (1.0, -1.0)]
        ends.append([diagonal_bounds(boxes, best_diagonal(boxes)[0]) for boxes in sides])
    low, high = np.array(ends).transpose(1, 2, 0)
    return low, -high

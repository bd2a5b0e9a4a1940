"""New units by their price: which unit that the network does not have lowers the objective fastest.

With the multipliers of a solved program, adding a small unit ``s relu(w'x + b)`` of merged size alpha changes the
objective by ``alpha`` times its reduced cost (docs/theory/pattern_search.md, Proposition 2)::

    Lipschitz:  s (F(w, b) + p_0'w) + lam^(1/2) |w|_M         F(w, b) = sum_k p_k relu(w'x_k + b)
    l2:         s F(w, b) + 2 lam |(w, b)|

A negative reduced cost is a way down. Its most negative directions are searched from data-driven starts; nothing is
claimed when none is found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.global_gap.lipschitz_pricing import RampProblem, climb, sweep
from convexnn.search.task import Cells, SearchPoint

Array = NDArray[np.float64]

#: Directions from which prices are climbed, and how many when those find nothing.
STARTS, THOROUGH = 200, 1000
#: Eigenvalues of the metric below this share of the largest are raised to it.
FLOOR = 1e-6
#: A price has to exceed one by this to count.
ABOVE = 1e-5
#: Relative disturbance that gives a unit on a boundary a cell with an interior.
DISTURBANCE = 1e-4
#: Size of a new unit relative to the largest unit.
SEED_SIZE = 1e-6


@dataclass(frozen=True)
class PricedUnits:
    """Units with their prices, best first.

    Attributes
    ----------
    prices : array, shape (k,)
        Above 1 the unit lowers the objective.
    directions : array, shape (k, d + 1)
        ``(w, b)`` of length one, in the coordinates of the program.
    signs : array, shape (k,)
        Sign of the outer weight.
    """

    prices: Array
    directions: Array
    signs: Array


def price(point: SearchPoint, rng: np.random.Generator, starts: int = STARTS) -> PricedUnits:
    """Local maxima of the price of a new unit, each distinct direction and sign as often as it was met.

    Implements: docs/theory/pattern_search.md, Proposition 2.
    """
    found = _lipschitz(point, rng, starts) if point.solution.dual is not None else None
    if found is None:
        return PricedUnits(np.zeros(0), np.zeros((0, point.structure.X.shape[1])), np.zeros(0))
    order = np.argsort(-found.prices, kind="stable")
    length = np.maximum(np.linalg.norm(found.directions, axis=1, keepdims=True), 1e-300)
    return PricedUnits(found.prices[order], (found.directions / length)[order], found.signs[order])


def new_cells(point: SearchPoint, taken: Cells, most: int, rng: np.random.Generator) -> Cells:
    """Cells of the best priced units that are not taken yet, at most ``most`` of them, none when none pays."""
    for starts in (STARTS, THOROUGH):
        priced = price(point, rng, starts)
        pays = priced.prices > 1 + ABOVE
        if pays.any():
            break
    directions, signs = priced.directions[pays], priced.signs[pays]
    directions = directions + DISTURBANCE * rng.standard_normal(directions.shape)
    size = SEED_SIZE * np.linalg.norm(point.solution.z, axis=1).max(initial=0.0)
    cells = Cells(directions @ point.structure.X.T >= 0, signs, size * signs[:, None] * directions)
    return unseen(Cells(cells.D.T, cells.s, cells.U), taken, most)


def unseen(cells: Cells, taken: Cells, most: int) -> Cells:
    """The first ``most`` cells that are neither taken nor repeated, and active somewhere."""
    seen = set(taken.keys())
    chosen: list[int] = []
    for i, key in enumerate(cells.keys()):
        if len(chosen) >= most:
            break
        if key not in seen and cells.D[:, i].any():
            seen.add(key)
            chosen.append(i)
    return cells.select(np.array(chosen, dtype=np.intp))


def data_directions(X: Array, count: int, rng: np.random.Generator) -> Array:
    """Normals of hyperplanes between random pairs of rows of X (n, d), shape (at most count, d)."""
    first, second = rng.integers(len(X), size=(2, count))
    between = X[first] - X[second]
    length = np.linalg.norm(between, axis=1)
    return np.asarray(between[length > 0] / length[length > 0, None])


def _lipschitz(point: SearchPoint, rng: np.random.Generator, starts: int) -> PricedUnits | None:
    """Directions in the metric of the matrix multiplier; the bias is found exactly over its knots."""
    dual, s, d = point.solution.dual, point.structure, point.structure.n_weights
    if d == s.X.shape[1]:
        return _l2(point, rng, starts)
    if dual is None or dual.matrix is None:
        return None
    values, vectors = np.linalg.eigh(dual.matrix[:d, :d])
    if not values[-1] > 0:
        return None
    root = vectors * np.sqrt(np.maximum(values, FLOOR * values[-1]))
    inverse = vectors / np.sqrt(np.maximum(values, FLOOR * values[-1]))
    p0 = -0.5 * (dual.matrix[d, :d] + dual.matrix[:d, d])
    problem = RampProblem(
        points=s.X[:, :d] @ inverse,
        nu=point.slopes,
        linear=inverse.T @ p0,
        basis=np.eye(d),
        middle=np.zeros(d),
        stretch=1.0,
        slack=0.0,
    )
    between = data_directions(s.X[:, :d], starts // 2, rng) @ root
    E = np.vstack([between, point.solution.z[point.alive, :d] @ root, rng.standard_normal((starts - starts // 2, d))])
    E = E[np.linalg.norm(E, axis=1) > 0] if d > 1 else np.ones((1, 1))
    ramps = climb(problem, sweep(problem, E / np.linalg.norm(E, axis=1, keepdims=True)))
    weights = ramps.E @ inverse.T
    prices = ramps.values / np.sqrt(point.program.lam)
    return PricedUnits(prices, np.column_stack([weights, ramps.b]), -ramps.signs)


def _l2(point: SearchPoint, rng: np.random.Generator, starts: int) -> PricedUnits:
    """Directions on the sphere of ``(w, b)``, both signs, by projected ascent."""
    s = point.structure
    X = s.X[:, :-1]
    between = data_directions(X, starts // 2, rng)
    place = np.einsum("ij,ij->i", between, X[rng.integers(len(X), size=len(between))])
    own = point.solution.z[point.alive]
    E = np.vstack([np.column_stack([between, -place]), own, rng.standard_normal((starts - starts // 2, s.X.shape[1]))])
    E = E[np.linalg.norm(E, axis=1) > 0]
    E, signs = np.vstack([E, E]), np.repeat([1.0, -1.0], len(E))
    values, E = ascend_sphere(s.X, point.slopes, -signs, E)
    return PricedUnits(values / (2 * point.program.lam), E, signs)


def ascend_sphere(X: Array, p: Array, tau: Array, E: Array, rounds: int = 40) -> tuple[Array, Array]:
    """Ascent of ``tau_j sum_k p_k relu(x_k'e_j)`` over unit vectors e_j; each ends no lower than it began.

    Parameters
    ----------
    X : array, shape (n, d)
    p : array, shape (n,)
    tau : array, shape (k,)
        Signs.
    E : array, shape (k, d)
        Nonzero starts.

    Returns
    -------
    values : array, shape (k,)
    E : array, shape (k, d)
    """
    E = E / np.linalg.norm(E, axis=1, keepdims=True)
    gradient = tau[:, None] * (((E @ X.T > 0) * p) @ X)
    values = np.einsum("ij,ij->i", gradient, E)  # F is homogeneous
    step = np.ones(len(E))
    for _ in range(rounds):
        length = np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-300)
        trial = (1 - step)[:, None] * E + step[:, None] * gradient / length
        trial /= np.maximum(np.linalg.norm(trial, axis=1, keepdims=True), 1e-300)
        slope = tau[:, None] * (((trial @ X.T > 0) * p) @ X)
        new = np.einsum("ij,ij->i", slope, trial)
        better = new > values
        E[better], values[better], gradient[better] = trial[better], new[better], slope[better]
        step = np.where(better, np.minimum(1.0, 1.5 * step), 0.4 * step)
    return values, E

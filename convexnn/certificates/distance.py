"""Distance of samples to the decision boundary of polynomial classifiers: exact, and a rigorous lower version."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.attacks.objectives import BinaryMargin, build_objective
from convexnn.attacks.registry import as_inputs
from convexnn.network import Network, as_network
from convexnn.quadratic.boundary import nearest_zero
from convexnn.quadratic.duels import Duel, duels

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

#: Radii that are tried against the rigorous bound: factors of the distance, from the first that could hold.
FACTORS = (1.0 - 1e-13, 1.0 - 1e-12, 1.0 - 1e-11, 1.0 - 1e-10, 1.0 - 1e-8, 1.0 - 1e-5, 0.99, 0.5, 1e-2, 1e-5)
#: The same where there is no boundary, in units of the size of the sample (at least one).
SIZES = tuple(10.0**power for power in (12, 9, 6, 5, 4, 3, 2, 1, 0, -1, -2, -4, -8))


@overload
def distance_to_boundary(model: Any, X: ArrayLike, y: ArrayLike, *, return_points: Literal[False] = ...) -> Array: ...


@overload
def distance_to_boundary(
    model: Any, X: ArrayLike, y: ArrayLike, *, return_points: Literal[True]
) -> tuple[Array, Array]: ...


def distance_to_boundary(
    model: Any, X: ArrayLike, y: ArrayLike, *, return_points: bool = False
) -> Array | tuple[Array, Array]:
    """Exact l2 distance of each sample to the nearest input that is not classified as its label.

    Polynomial networks are quadratic functions, whose zero sets have nearest points that one equation in one unknown
    gives. With several classes the distance is the least over the rivals. Exact up to rounding, not a bound: see
    :func:`certified_radius` for one.

    Implements: convexnn, Proposition 5 of docs/theory/quadratic_worst_cases.md, for all rival classes.

    Parameters
    ----------
    model : Network, torch.nn.Module, fitted sklearn MLP, fitted estimator or Pipeline
        One hidden layer with a polynomial (or identity) activation; scalers of a Pipeline are folded in.
    X : array-like, shape (n, d)
        Raw input units.
    y : array-like, shape (n,)
        Labels: the model's ``classes_``, else 0..k-1; with one output 0 / 1 or -1 / +1.
    return_points : bool, default False
        Return the nearest points on the boundary as well.

    Returns
    -------
    distances : array, shape (n,)
        l2, raw input units; 0 for misclassified samples, ``inf`` where no input is classified otherwise.
    points : array, shape (n, d)
        Only with ``return_points``: nearest points, the samples themselves at distance 0, nan at distance ``inf``.

    Raises
    ------
    InvalidInputError
        For NaN, wrong shapes, unknown labels, or a regressor.
    UnsupportedModelError
        When the model is not a quadratic function; :func:`convexnn.attack` searches any model for a nearer point.
    """
    network, inputs, labels = read_classifier(model, X, y)
    distances, points = np.full(len(inputs), np.inf), np.full(inputs.shape, np.nan)
    for duel in duels(network, labels):
        _, local = duel.form.local(inputs[duel.rows], duel.signs)
        nearest = nearest_zero(local.value, local.linear, local.curvature)
        nearer = nearest.distances < distances[duel.rows]
        rows = duel.rows[nearer]
        distances[rows] = nearest.distances[nearer]
        points[rows] = inputs[rows] + nearest.steps[nearer] @ duel.form.spectrum.vectors.T
    return (distances, points) if return_points else distances


def certified_radius(model: Any, X: ArrayLike, y: ArrayLike) -> Array:
    """Rigorous LOWER bounds on the distances of :func:`distance_to_boundary`, rounding included.

    Radii just below the distance are tried against the weak duality bound with outward rounding, and the first that is
    proved is returned. The statement is about the real-valued network of the float64 weights: no perturbation up to the
    radius changes its prediction.

    Implements: convexnn, Propositions 3 and 5 of docs/theory/quadratic_worst_cases.md.

    Parameters
    ----------
    model : Network, torch.nn.Module, fitted sklearn MLP, fitted estimator or Pipeline
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
        As in :func:`distance_to_boundary`.

    Returns
    -------
    radii : array, shape (n,)
        l2, raw input units; 0 where the sample is misclassified or nothing is proved. Always finite: where there is no
        boundary at all, a large radius is proved.
    """
    network, inputs, labels = read_classifier(model, X, y)
    radii = np.full(len(inputs), np.inf)
    for duel in duels(network, labels):
        radii[duel.rows] = np.minimum(radii[duel.rows], _proved_radii(duel, inputs[duel.rows]))
    return radii


def read_classifier(model: Any, X: ArrayLike, y: ArrayLike) -> tuple[Network, Array, Indices]:
    """Network, inputs (n, d) and class indices (n,) of a classifier, read as :func:`convexnn.attack` reads them."""
    network = as_network(model)
    inputs = as_inputs(X, network.n_inputs)
    objective: Any = build_objective(model, y, len(inputs), network.n_outputs, "margin")
    labels = objective.y > 0 if isinstance(objective, BinaryMargin) else objective.y
    return network, inputs, np.asarray(labels).astype(np.intp)


def _proved_radii(duel: Duel, X: Array) -> Array:
    """Radii (t,) at which the bound of a duel is positive; zero where none was found."""
    _, local = duel.form.local(X, duel.signs)
    nearest = nearest_zero(local.value, local.linear, local.curvature)
    endless = np.isinf(nearest.distances)
    unit = np.where(endless, np.maximum(1.0, np.linalg.norm(X, axis=1)), nearest.distances)
    radii, left = np.zeros(len(X)), np.flatnonzero(nearest.distances > 0)
    for factors in ((0, FACTORS), (1, SIZES)):
        rows = left[endless[left] == factors[0]]
        for factor in factors[1]:
            if not len(rows):
                break
            tried = factor * unit[rows]
            bounds = duel.form.worst_case_bounds(
                X[rows], duel.signs[rows], tried, None if factors[0] else nearest.excesses[rows]
            )
            radii[rows] = np.where(bounds > 0, tried, 0.0)
            rows = rows[~(bounds > 0)]
    return radii

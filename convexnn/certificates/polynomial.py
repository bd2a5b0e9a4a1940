"""What holds for polynomial networks under attack: worst margins and intervals of outputs, exact over l2 balls.

Quadratic functions have no Lipschitz constant, and need none: the worst case over a ball is a trust region. Other sets
of perturbations are met by the smallest ball around the sample that holds them, and by the best diagonal multipliers of
the smallest box.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.attacks.objectives import BinaryMargin, ClassMargin
from convexnn.certificates.classification import CertifiedClassification
from convexnn.certificates.distance import certified_radius
from convexnn.certificates.regression import CertifiedRegression, largest_size, reach
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.quadratic.duels import box_margin_bounds, box_output_bounds, worst_margin_bounds
from convexnn.quadratic.form import QuadraticForm
from convexnn.rigorous import UNIT, gamma
from convexnn.threats import Threat

Array = NDArray[np.float64]


def ball_around(X: Array, threat: Threat) -> Array:
    """Radii of l2 balls that hold the threat sets, the rounding of perturbed points included, shape (n,)."""
    if not isinstance(threat, Threat):
        raise InvalidInputError(f"threat must be an L2Ball, LInfBall or Box, got {threat!r}.")
    distance = reach(X, threat)
    size = np.linalg.norm(largest_size(X, threat), axis=1)
    return np.where(distance > 0, distance + 2.0 * gamma(X.shape[1] + 8) * (distance + size), 0.0)


def polynomial_margins(network: Network, X: Array, labels: ArrayLike, threat: Threat) -> Array:
    """Upper bounds on ``max_{t != y} f_t - f_y`` over each threat set, exact up to rounding for l2 balls, shape (n,).

    Implements: docs/theory/polynomial_multiclass.md, Proposition 2, with proved worst cases of pairs.

    Parameters
    ----------
    network : Network
        One hidden layer, polynomial or identity activation.
    X : array, shape (n, d)
    labels : int array, shape (n,)
        Class indices; with one output, 1 is the class where it is positive.
    threat : Threat
    """
    margins = -worst_margin_bounds(network, X, labels, ball_around(X, threat))
    if threat.norm == "l2":
        return margins
    return np.minimum(margins, -box_margin_bounds(network, labels, *threat.bounding_box(X)))


def polynomial_interval(network: Network, X: Array, threat: Threat) -> tuple[Array, Array]:
    """Intervals that contain every output over each threat set, exact up to rounding for l2 balls, shape (n, k)."""
    radii, ends = ball_around(X, threat), []
    for output in range(network.n_outputs):
        form = QuadraticForm.of_network(network, np.eye(network.n_outputs)[output])
        ends.append([form.worst_case_bounds(X, 1.0, radii), -form.worst_case_bounds(X, -1.0, radii)])
    lower, upper = np.array(ends).transpose(1, 2, 0)
    if threat.norm == "l2":
        return lower, upper
    low, high = box_output_bounds(network, *threat.bounding_box(X))
    return np.maximum(lower, low), np.minimum(upper, high)


def certify_polynomial(network: Network, X: ArrayLike, y: ArrayLike, threat: Threat) -> CertifiedClassification:
    """Worst margins of a polynomial classifier over threat sets: exact for l2 balls, bounds for other sets.

    Parameters
    ----------
    network : Network
    X : array, shape (n, d)
        Raw input units.
    y : int array, shape (n,)
        Class indices 0..k-1; with one output, 1 is the class where it is positive.
    threat : Threat

    Returns
    -------
    CertifiedClassification
        ``radii`` are l2, the distances to the nearest misclassified input, rounded down; ``bounds`` is empty: no
        Lipschitz constant is involved.
    """
    points, labels = np.asarray(X, dtype=float), np.asarray(y, dtype=np.intp)
    objective = ClassMargin(labels) if network.n_outputs > 1 else BinaryMargin(np.where(labels == 1, 1.0, -1.0))
    clean = objective.value(network(points).reshape(len(points), -1))
    margins = polynomial_margins(network, points, labels, threat)
    radii = certified_radius(network, points, labels)
    return CertifiedClassification(clean, margins, margins < 0, radii, "l2", {})


def certify_polynomial_regression(network: Network, X: ArrayLike, y: Any, threat: Threat) -> CertifiedRegression:
    """Intervals and squared errors of a polynomial regressor over threat sets: exact for l2 balls, bounds for others.

    Returns
    -------
    CertifiedRegression
        ``lipschitz`` is infinite: a quadratic function has no such constant.
    """
    points, target = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    lower, upper = (end[:, 0] for end in polynomial_interval(network, points, threat))
    worst = np.maximum(np.abs(upper - target), np.abs(lower - target)) ** 2 * (1.0 + 8.0 * UNIT)
    return CertifiedRegression(lower, upper, (network(points) - target) ** 2, worst, np.inf)

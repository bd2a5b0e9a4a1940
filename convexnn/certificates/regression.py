"""What a certified Lipschitz bound says about a regressor under attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.certificate import Certificate
from convexnn.decimals import written
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.rigorous import UNIT, gamma
from convexnn.threats import Threat

Array = NDArray[np.float64]


def reach(X: ArrayLike, threat: Threat, norm: str = "l2") -> Array:
    """Largest distance from each sample to a point of its threat set, raw input units.

    Exact for balls and boxes without clip, an upper bound with one.

    Parameters
    ----------
    X : array, shape (n, d)
    threat : Threat
    norm : {"l2", "linf"}
        Norm of the distance.

    Returns
    -------
    array, shape (n,)
    """
    points = np.asarray(X, dtype=float)
    lower, upper = threat.bounding_box(points)
    sides = np.maximum(np.abs(upper - points), np.abs(points - lower))
    corner: Array = np.linalg.norm(sides, ord=np.inf if norm == "linf" else 2, axis=1)
    return np.minimum(corner, float(threat.radius)) if threat.norm == "l2" else corner  # type: ignore[attr-defined]


def certified_interval(network: Network, X: ArrayLike, threat: Threat, certificate: Certificate) -> tuple[Array, Array]:
    """Intervals that contain every output of the network on each threat set.

    ``|f(x') - f(x)| <= L |x' - x|_2`` for every ``x'``, with ``L`` recomputed from the certificate's multiplier.
    The rounding of the outputs and of the perturbed points is covered, so float64 outputs lie inside as well.

    Implements: docs/theory/choosing_lam.md, Proposition 3.

    Parameters
    ----------
    network : Network
        Scalar output.
    X : array, shape (n, d)
        Raw input units.
    threat : Threat
        Any norm; its Euclidean reach is used.
    certificate : Certificate
        Of the l2 Lipschitz constant of ``network``.

    Returns
    -------
    lower, upper : array, shape (n,)

    Raises
    ------
    InvalidInputError
        When ``threat`` is no threat, or the certificate is not of the l2 Lipschitz constant.
    CertificateError
        When the certificate is about another network or does not check.
    """
    return _interval(network, np.asarray(X, dtype=float), threat, _checked_bound(network, threat, certificate))


def _checked_bound(network: Network, threat: Threat, certificate: Certificate) -> float:
    """The Lipschitz bound (l2), recomputed; refuses what is no threat or no such certificate."""
    if not isinstance(threat, Threat):
        raise InvalidInputError(f"threat must be an L2Ball, LInfBall or Box, got {threat!r}.")
    if certificate.quantity != "lipschitz" or certificate.threat != "l2":
        raise InvalidInputError(
            f"An l2 Lipschitz certificate is needed, this one bounds {certificate.quantity} ({certificate.threat})."
        )
    return certificate.check(network)


def _interval(network: Network, points: Array, threat: Threat, bound: float) -> tuple[Array, Array]:
    centre, width = network(points), output_reach(points, threat, bound)
    width = (width + 2.0 * evaluation_error(network, largest_size(points, threat))[:, 0]) * (1.0 + 8.0 * UNIT)
    slack = 2.0 * UNIT * (np.abs(centre) + width)
    return centre - width - slack, centre + width + slack


def largest_size(X: Array, threat: Threat) -> Array:
    """Largest absolute value of each coordinate over a sample and its threat set, shape (n, d)."""
    return np.asarray(np.maximum(np.abs(X), np.abs(threat.bounding_box(X)).max(axis=0)))


def output_reach(X: Array, threat: Threat, bound: Any, norm: str = "l2") -> Array:
    """``bound`` times the reach of each sample, the rounding of the perturbed points covered.

    Parameters
    ----------
    X : array, shape (n, d)
    threat : Threat
    bound : float, or array that broadcasts against (n,)
        Lipschitz bounds, inputs in ``norm``.
    norm : {"l2", "linf"}

    Returns
    -------
    array, shape (n,), or the shape of ``bound``
        Zero exactly where the threat set is the sample alone or the bound is zero.
    """
    distance = reach(X, threat, norm)
    size = np.linalg.norm(largest_size(X, threat), axis=1)
    rounded = distance + 2.0 * gamma(X.shape[1] + 8) * (distance + size)
    rates, spread = np.broadcast_arrays(bound, np.where(distance > 0, rounded, 0.0))
    return np.asarray(np.multiply(rates, spread, out=np.zeros(rates.shape), where=(spread > 0) & (rates > 0)))


def evaluation_error(network: Network, size: Array) -> Array:
    """Bound on ``|computed - exact|`` of every output wherever ``|x| <= size`` entrywise, shape (n, k)."""
    slope, offset = max(map(abs, network.activation.slopes)), abs(float(network.activation(np.zeros(1))[0]))
    *hidden, (V, c) = network.layers
    error = np.zeros_like(size)
    for W, b in hidden:
        total = size @ np.abs(W).T + np.abs(b)
        error = slope * (error @ np.abs(W).T + gamma(W.shape[1] + 2) * total)
        size = offset + slope * total
        error += 8.0 * UNIT * size
    total = size @ np.abs(V).T + np.abs(c)
    bound: Array = error @ np.abs(V).T + gamma(V.shape[1] + 2) * total
    return 1.01 * bound  # the rounding of this computation and second-order terms


def certified_squared_error(network: Network, X: ArrayLike, y: Any, threat: Threat, certificate: Certificate) -> Array:
    """Upper bound on the squared error of each sample under any perturbation in its threat set.

    Parameters
    ----------
    network : Network
        Scalar output.
    X : array, shape (n, d)
    y : array, shape (n,)
    threat : Threat
    certificate : Certificate
        Of the l2 Lipschitz constant of ``network``.

    Returns
    -------
    array, shape (n,)
        At least the squared error that any attack in the threat set reaches, rounding included.
    """
    return certify_regression(network, X, y, threat, certificate).certified


@dataclass(frozen=True)
class CertifiedRegression:
    """What holds for every perturbation in the threat set of each sample.

    Attributes
    ----------
    lower, upper : array, shape (n,)
        Interval that contains every output on the threat set.
    clean : array, shape (n,)
        Squared error without perturbation.
    certified : array, shape (n,)
        Upper bound on the squared error under any perturbation.
    lipschitz : float
        The recomputed Lipschitz bound (l2) behind it.
    """

    lower: Array
    upper: Array
    clean: Array
    certified: Array
    lipschitz: float

    @property
    def certified_mse(self) -> float:
        """Mean of ``certified``: no attack reaches a larger mean squared error."""
        return float(self.certified.mean())

    def __str__(self) -> str:
        """Clean and certified error in one line."""
        mse = written(self.certified_mse, 6)
        return f"{len(self.clean)} samples: mean squared error {self.clean.mean():.6g} clean, <= {mse} certified"


def certify_regression(
    network: Network, X: ArrayLike, y: Any, threat: Threat, certificate: Certificate
) -> CertifiedRegression:
    """Certified output intervals and squared errors of a regressor; see :func:`certified_interval`."""
    bound = _checked_bound(network, threat, certificate)
    points = np.asarray(X, dtype=float)
    lower, upper = _interval(network, points, threat, bound)
    target = np.asarray(y, dtype=float)
    worst = np.maximum(np.abs(upper - target), np.abs(lower - target)) ** 2 * (1.0 + 8.0 * UNIT)
    return CertifiedRegression(lower, upper, (network(points) - target) ** 2, worst, bound)

"""What certified Lipschitz bounds say about a classifier under attack: worst margins and certified radii.

A classifier with several outputs predicts the largest; with one output, the second class where it is positive. The
margin of a sample is ``max_{t != y} f_t - f_y`` (one output: ``-f`` for the second class, ``f`` for the first), as
in :mod:`convexnn.attacks`: positive where the sample is misclassified.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import lipschitz, lipschitz_pairs
from convexnn.certificates.regression import evaluation_error, largest_size, output_reach
from convexnn.inputs import class_indices
from convexnn.network import Network
from convexnn.rigorous import UNIT, product_up, sqrt_up
from convexnn.threats import Threat

Array = NDArray[np.float64]

NORMS: dict[str, float] = {"l2": 2, "linf": np.inf}


def rival_bounds(network: Network, norm: str = "l2", certificate: Certificate | None = None) -> Array:
    """Certified Lipschitz bounds of all margins ``f_a - f_b``, inputs in ``norm``.

    Parameters
    ----------
    network : Network
    norm : {"l2", "linf"}
        Norm of the inputs where no certificate is given.
    certificate : Certificate, optional
        Of the Lipschitz constant ``L`` of the whole network, outputs in its own norm. All margins then have
        the bound ``sqrt(2) L`` (l2) or ``2 L`` (linf); without it, every pair has a bound of its own, which is tighter.

    Returns
    -------
    L : array, shape (k, k)
        Upper bounds, symmetric, zero diagonal; shape (1, 1) with one output, whose margin is the output itself.

    Raises
    ------
    CertificateError
        When the certificate is about another network or does not check.
    """
    if network.n_outputs == 1:
        found = lipschitz(network, norm=NORMS[norm]) if certificate is None else certificate
        return np.array([[found.check(network)]])
    if certificate is None:
        return lipschitz_pairs(network, norm=NORMS[norm])
    factor = sqrt_up(2.0) if certificate.threat == "l2" else 2.0
    same = np.eye(network.n_outputs, dtype=bool)
    return np.where(same, 0.0, product_up(factor, certificate.check(network)))


def certified_margins(
    network: Network, X: ArrayLike, y: ArrayLike, threat: Threat, bounds: Array, norm: str = "l2"
) -> Array:
    """Upper bound on the margin ``max_{t != y} f_t - f_y`` of each sample on its threat set; negative is certified.

        max_t (f_t - f_y)(x) + L_ty |x' - x|

    Parameters
    ----------
    network : Network
    X : array, shape (n, d)
        Raw input units.
    y : int array, shape (n,)
        Class indices 0..k-1; with one output, 1 is the class where it is positive.
    threat : Threat
        Any; its reach in ``norm`` is used.
    bounds : array, shape (k, k)
        Of :func:`rival_bounds`.
    norm : {"l2", "linf"}
        Norm of the inputs in ``bounds``.

    Returns
    -------
    array, shape (n,)
        At least the margin that any attack in the threat set reaches, rounding included.
    """
    worst: Array = rival_margins(network, X, y, threat, bounds, norm).max(axis=1)
    return worst


def rival_margins(
    network: Network, X: ArrayLike, y: ArrayLike, threat: Threat, bounds: Array, norm: str = "l2"
) -> Array:
    """The bounds of :func:`certified_margins` for every rival class in order, shape (n, k - 1), one output: (n, 1)."""
    points = np.asarray(X, dtype=float)
    gaps, rates, rounding = rival_gaps(network, points, y, bounds, largest_size(points, threat))
    rise = output_reach(points, threat, rates.T, norm).T * (1.0 + 8.0 * UNIT)
    return np.asarray(gaps + (rise + 2.0 * rounding))


def certified_radii(network: Network, X: ArrayLike, y: ArrayLike, bounds: Array) -> Array:
    """Radius within which no perturbation changes a right prediction: ``min_t (f_y - f_t)(x) / L_yt``.

    Implements: Tsuzuku, Sato & Sugiyama (2018), Proposition 1, arXiv 1802.04034, with a bound for every pair of
    classes in place of ``sqrt(2) L``.

    Parameters
    ----------
    network : Network
    X : array, shape (n, d)
    y : int array, shape (n,)
        As in :func:`certified_margins`.
    bounds : array, shape (k, k)
        Of :func:`rival_bounds`; the radius is in the norm of its inputs.

    Returns
    -------
    array, shape (n,)
        LOWER bounds on the distance to the nearest misclassified input, raw input units; 0 where the sample itself is
        misclassified, ``inf`` where nothing ever changes.
    """
    points = np.asarray(X, dtype=float)
    gaps, rates, rounding = rival_gaps(network, points, y, bounds, np.abs(points))
    room = np.maximum(-gaps - rounding, 0.0) * (1.0 - 8.0 * UNIT)
    with np.errstate(over="ignore"):
        radii = np.divide(room, rates, out=np.where(room > 0, np.inf, 0.0), where=rates > 0)
    radii = np.where(rates > 0, np.minimum(radii, np.finfo(float).max), radii)
    least: Array = radii.min(axis=1)
    return least


def rival_gaps(network: Network, X: Array, y: ArrayLike, bounds: Array, size: Array) -> tuple[Array, Array, Array]:
    """Differences ``f_t - f_y`` to every rival class, their Lipschitz bounds, and their rounding where |x| <= size.

    All of shape (n, k - 1), or (n, 1) with one output.
    """
    labels = class_indices(y, network.n_outputs)
    outputs, error = network(X).reshape(len(labels), -1), evaluation_error(network, size)
    if network.n_outputs == 1:
        return np.where(labels[:, None] == 1, -outputs, outputs), np.full_like(outputs, bounds[0, 0]), error
    rivals = np.arange(network.n_outputs) != labels[:, None]
    own, shape = labels[:, None], (len(labels), network.n_outputs - 1)
    gaps = outputs - np.take_along_axis(outputs, own, axis=1)
    rounding = error + np.take_along_axis(error, own, axis=1) + 4.0 * UNIT * np.abs(gaps)
    return tuple(part[rivals].reshape(shape) for part in (gaps, bounds[labels], rounding))

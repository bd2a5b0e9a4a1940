"""What is certified about a classifier under a threat, by Lipschitz and by local bounds: one call, one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.certificates.local_margins import has_local_bounds, local_margins, local_radii
from convexnn.certificates.margins import NORMS, certified_radii, rival_bounds, rival_margins
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.threats import Threat

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CertifiedClassification:
    """What holds for every perturbation in the threat set of each sample.

    The margin is ``max_{t != y} f_t - f_y`` (one output: ``-f`` for the second class, ``f`` for the first): positive
    where the sample is misclassified.

    Attributes
    ----------
    clean : array, shape (n,)
        Margins without perturbation.
    margins : array, shape (n,)
        UPPER bounds on the margin under any perturbation.
    certified : array of bool, shape (n,)
        Whether no perturbation changes the right prediction of the sample; False proves nothing.
    radii : array, shape (n,)
        LOWER bounds on the distance to the nearest misclassified input in ``norm``; 0 where misclassified.
    norm : str
        ``"l2"`` or ``"linf"``, of the radii.
    bounds : mapping of str to array
        Lipschitz bounds of the margins, (k, k), by the norm of the inputs. They hold everywhere; shallow (Leaky)ReLU
        networks have bounds of their own near every sample, and the better one counts.
    """

    clean: Array = field(repr=False)
    margins: Array = field(repr=False)
    certified: NDArray[np.bool_] = field(repr=False)
    radii: Array = field(repr=False)
    norm: str
    bounds: Mapping[str, Array] = field(repr=False)

    @property
    def clean_accuracy(self) -> float:
        """Fraction of samples classified right without perturbation; ties are wrong."""
        return float((self.clean < 0).mean())

    @property
    def certified_accuracy(self) -> float:
        """Fraction of samples that no perturbation changes: a LOWER bound on the robust accuracy."""
        return float(self.certified.mean())

    def __str__(self) -> str:
        """Clean and certified accuracy in one line."""
        right, certified = int((self.clean < 0).sum()), int(self.certified.sum())
        return f"{len(self.clean)} samples: {right} right, {certified} certified ({self.norm})"


def certify_classification(
    network: Network, X: ArrayLike, y: ArrayLike, threat: Threat, bounds: Mapping[str, Array] | None = None
) -> CertifiedClassification:
    """Worst margins of a classifier over threat sets, from Lipschitz bounds of every pair of classes and local bounds.

    Shallow ReLU and LeakyReLU networks are bounded near each sample as well (:func:`local_margins`), rival by rival the
    better bound counts. The sample counts as one of its perturbations.

    Parameters
    ----------
    network : Network
    X : array, shape (n, d)
        Raw input units.
    y : int array, shape (n,)
        Class indices 0..k-1; with one output, 1 is the class where it is positive.
    threat : Threat
        An l2 ball is met by l2 bounds; another set by the better of the l2 and the linf bounds, sample by sample.
    bounds : mapping of str to array, optional
        Of :func:`rival_bounds`, by norm, where they are known already.

    Returns
    -------
    CertifiedClassification

    Raises
    ------
    InvalidInputError
        When ``threat`` is no threat, or labels are no class indices.
    """
    if not isinstance(threat, Threat):
        raise InvalidInputError(f"threat must be an L2Ball, LInfBall or Box, got {threat!r}.")
    known = margin_bounds(network, "l2" if threat.norm == "l2" else "linf", bounds)
    points = np.asarray(X, dtype=float)
    margins = largest_margins(network, points, y, threat, known)
    norm = "l2" if threat.norm == "l2" else "linf"
    radii = radii_from(network, points, y, known, norm)
    if threat.norm in NORMS and getattr(threat, "clip", None) is None:
        radii = np.where(margins < 0, np.maximum(radii, float(threat.radius)), radii)  # type: ignore[attr-defined]
    return CertifiedClassification(_margins(network, points, y), margins, margins < 0, radii, norm, known)


def largest_margins(network: Network, X: Array, y: ArrayLike, threat: Threat, bounds: Mapping[str, Array]) -> Array:
    """Upper bounds on the margins over threat sets, shape (n,): for every rival the least over all bounds known."""
    found = [rival_margins(network, X, y, threat, L, norm) for norm, L in bounds.items()]
    if has_local_bounds(network):
        found.append(local_margins(network, X, y, threat))
    worst: Array = np.min(found, axis=0).max(axis=1)
    return worst


def margin_bounds(network: Network, norm: str, known: Mapping[str, Array] | None = None) -> dict[str, Array]:
    """Lipschitz bounds of all margins that speak of perturbations in ``norm``: l2, and for linf also linf."""
    if norm not in NORMS:
        raise InvalidInputError(f"norm must be one of {tuple(NORMS)}, got {norm!r}.")
    given = known or {}
    names = ["l2"] if norm == "l2" else ["l2", "linf"]
    return {name: given[name] if name in given else rival_bounds(network, name) for name in names}


def radii_from(network: Network, X: Array, y: ArrayLike, bounds: Mapping[str, Array], norm: str) -> Array:
    """Certified radii in ``norm``, the best over the bounds; an l2 bound speaks of linf radii through sqrt(d).

    For shallow (Leaky)ReLU networks up to eight times as large where local bounds prove it.
    """
    shrink = np.nextafter(1.0 / np.sqrt(X.shape[1]), 0.0) * (1.0 - 4.0 * np.finfo(float).eps)
    found = []
    for own, L in bounds.items():
        radii = certified_radii(network, X, y, L)
        found.append(radii * shrink if own == "l2" and norm == "linf" else radii)
    best: Array = np.max(found, axis=0)
    return local_radii(network, X, y, norm, best) if has_local_bounds(network) else best


def _margins(network: Network, X: Array, y: ArrayLike) -> Array:
    labels, outputs = np.asarray(y, dtype=np.intp), network(X).reshape(len(X), -1)
    if network.n_outputs == 1:
        return np.where(labels == 1, -outputs[:, 0], outputs[:, 0])
    own = np.take_along_axis(outputs, labels[:, None], axis=1)[:, 0]
    rivals = np.where(np.arange(network.n_outputs) == labels[:, None], -np.inf, outputs)
    return np.asarray(rivals.max(axis=1) - own)

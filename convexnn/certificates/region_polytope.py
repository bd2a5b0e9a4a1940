"""Upper bounds of a network on polytopes, by linear programming duality; see :func:`convexnn.region_bound`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from convexnn.certificate import Certificate, register_check
from convexnn.certificates.region_methods import ROUNDED, chosen_method, rounded
from convexnn.exceptions import CertificateError, InvalidInputError, UnsupportedModelError
from convexnn.network import Network
from convexnn.regions.facets import Directions
from convexnn.regions.polytope import Polytope
from convexnn.regions.polytope_facets import exact_polytope_value, polytope_value, proposed_ranges

Array = NDArray[np.float64]

QUANTITY, THREAT = "region maximum", "region"
METHOD, EXACT = "region_facets_polytope", "region_facets_polytope_exact"
KEYS = ("A", "b", "box", "proof", "multipliers")


def polytope_bound(network: Network, polytope: Polytope, *, method: str, arithmetic: str = ROUNDED) -> Certificate:
    """``region_bound(network, polytope, method="facets")``: ``f(x) <= bound`` for all x of a polytope.

    Parameters
    ----------
    network : Network
        One hidden layer of ReLU or LeakyReLU units, one output.
    polytope : Polytope
    method : {"facets", "auto"}
    arithmetic : {"float64+slack", "exact"}

    Returns
    -------
    Certificate
        With the inequalities, the multipliers of the box and those of the ranges of all directions.

    Raises
    ------
    InvalidInputError
        For other methods and other dimensions.
    """
    if method not in ("facets", "auto"):
        raise InvalidInputError(f"Polytopes are bounded by method='facets' alone, got method={method!r}.")
    chosen_method(network, "facets", arithmetic)
    if polytope.n_inputs != network.n_inputs:
        raise InvalidInputError(
            f"The region has {polytope.n_inputs} coordinates, the network takes {network.n_inputs} inputs."
        )
    lam, points = proposed_ranges(network, polytope)
    given = not len(polytope.proof)
    box = np.stack(polytope.box) if given else np.zeros((0, polytope.n_inputs))
    parts = (polytope.A, polytope.b, box, polytope.proof, lam)
    multiplier = dict(zip(KEYS, parts, strict=True))
    bound = _check(network, multiplier, exact=arithmetic == "exact")
    X = np.vstack([polytope.center, points])
    X = X[polytope.contains(X)]
    lower = min(float(np.max(network(X), initial=-np.inf)), bound)
    solved = len(points) == 2 * len(lam)
    details = {"status": "optimal" if solved else "stopped", "directions": float(len(lam))}
    return Certificate(QUANTITY, bound, 0.0, THREAT, EXACT if arithmetic == "exact" else METHOD, multiplier,
                       network.fingerprint(), arithmetic, lower, details)  # fmt: skip


def certified_polytope(certificate: Certificate) -> Polytope:
    """The polytope that a certificate of :func:`polytope_bound` is about.

    Raises
    ------
    CertificateError
        When it holds none, or does not prove that it is bounded.
    """
    if certificate.method not in (METHOD, EXACT):
        raise CertificateError(f"A certificate of method {certificate.method!r} is about no polytope.")
    return _polytope(certificate.multiplier)


def _polytope(multiplier: Mapping[str, Array]) -> Polytope:
    try:
        return Polytope.stored(*(np.asarray(multiplier[key], dtype=np.float64) for key in ("A", "b", "proof", "box")))
    except (KeyError, ValueError, TypeError, InvalidInputError) as error:
        raise CertificateError(f"The certificate describes no polytope: {error}") from error


def _check(network: Network, multiplier: Mapping[str, Array], *, exact: bool) -> float:
    """Upper bound from the arrays of a certificate alone: any multipliers give one, wrong shapes a refusal."""
    if set(multiplier) != set(KEYS):
        raise CertificateError(f"A certificate of a polytope holds {KEYS}, not {sorted(multiplier)}.")
    polytope = _polytope(multiplier)
    if polytope.n_inputs != network.n_inputs:
        raise CertificateError(
            f"The polytope has {polytope.n_inputs} coordinates, the network {network.n_inputs} inputs."
        )
    try:
        expected = (len(Directions.of(network).rows), 2, len(polytope.b))
        lam = np.asarray(multiplier["multipliers"], dtype=np.float64)
        if lam.shape != expected:
            raise CertificateError(f"The multipliers of the directions need shape {expected}, got {lam.shape}.")
        if not exact:
            return polytope_value(network, polytope, lam)
        found = exact_polytope_value(network, polytope, lam)
        return found if isinstance(found, float) else rounded(found)
    except (ValueError, TypeError, UnsupportedModelError) as error:
        raise CertificateError(f"The certificate states nothing that can be checked: {error}") from error


register_check(METHOD, partial(_check, exact=False), quantity=QUANTITY, threat=THREAT)
register_check(EXACT, partial(_check, exact=True), quantity=QUANTITY, threat=THREAT, arithmetic="exact")

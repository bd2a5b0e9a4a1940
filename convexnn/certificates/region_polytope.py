"""Upper bounds of a network on polytopes, by linear programming duality; see :func:`convexnn.region_bound`."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray

from convexnn.certificate import Certificate, register_check
from convexnn.certificates.region_lower import consistent, evaluation_slack
from convexnn.certificates.region_methods import ROUNDED, chosen_method, rounded
from convexnn.exceptions import CertificateError, InvalidInputError, UnsupportedModelError
from convexnn.network import Network
from convexnn.regions.facets import Directions
from convexnn.regions.polytope import Polytope
from convexnn.regions.polytope_facets import exact_polytope_value, polytope_value, proposed_ranges
from convexnn.rigorous import TINY, gamma

Array = NDArray[np.float64]

QUANTITY, THREAT = "region maximum", "region"
METHOD, EXACT = "region_facets_polytope", "region_facets_polytope_exact"
INWARD = (1e-13, 1e-9)  # shares of the way to the center
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
    lower = consistent(_attained(network, polytope, points), bound)
    solved = len(points) == 2 * len(lam)
    details = {"status": "optimal" if solved else "stopped", "directions": float(len(lam))}
    return Certificate(QUANTITY, bound, 0.0, THREAT, EXACT if arithmetic == "exact" else METHOD, multiplier,
                       network.fingerprint(), arithmetic, lower, details)  # fmt: skip


def _attained(network: Network, polytope: Polytope, points: Array) -> float:
    """Largest value at points that lie in the polytope exactly, rounded down; vertices are moved inward for that."""
    center = polytope.center
    X = np.vstack([center, points, *(center + (1.0 - step) * (points - center) for step in INWARD)])
    X = np.clip(X, *polytope.box)
    X = X[[_lies_in(polytope, x) for x in X]]
    if not len(X):
        return -np.inf
    size = np.maximum(np.abs(polytope.lower), np.abs(polytope.upper))
    slack = evaluation_slack(network, np.ones(1), size, np.zeros_like(size))
    value = float(np.max(network(X)))
    return value - slack if np.isfinite(value) else -np.inf


def _lies_in(polytope: Polytope, x: Array) -> bool:
    """``A x <= b`` over the rational numbers; the box is kept by clipping, or follows from the rows."""
    terms = polytope.A * x
    room, size = polytope.b - terms.sum(axis=1), np.abs(terms).sum(axis=1) + np.abs(polytope.b)
    error = 2.0 * gamma(len(x) + 4) * size + (len(x) + 2) * TINY
    if not np.isfinite(size).all() or (room < -error).any():
        return False
    point = [Fraction(value) for value in x.tolist()]
    near = room <= error
    pairs = zip(polytope.A[near].tolist(), polytope.b[near].tolist(), strict=True)
    return all(sum(Fraction(a) * t for a, t in zip(row, point, strict=True)) <= Fraction(end) for row, end in pairs)


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

"""Upper bounds of a network on whole regions: balls, ellipsoids, boxes, rotated boxes, and unions of these."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.certificate import Certificate, register_check
from convexnn.certificates.region_lower import attained, consistent
from convexnn.certificates.region_methods import EXACT, METHODS, Question, chosen_method, evaluated, propose
from convexnn.certificates.region_polytope import polytope_bound
from convexnn.exceptions import CertificateError, InvalidInputError, UnsupportedModelError
from convexnn.inputs import positive_number
from convexnn.network import Network, as_network
from convexnn.regions.polytope import Polytope
from convexnn.regions.region import BALL, BOX, Region, as_regions

Array = NDArray[np.float64]
Multiplier = Mapping[str, Array]

QUANTITY, THREAT = "region maximum", "region"


def region_bound(
    model: Any,
    region: Any,
    *,
    method: str = "auto",
    output: int | tuple[int, int] = 0,
    tol: float = 1e-7,
    time_limit: float = np.inf,
    arithmetic: str = "float64+slack",
) -> Certificate:
    """Upper bound on one output of a network over a whole region: ``f(x) <= bound`` for ALL x of the region.

    Parameters
    ----------
    model : Network, torch module, fitted sklearn MLP or estimator
    region : Region, L2Ball, LInfBall, Box, or a list of these; or a Polytope
        Balls of threats are around the origin; for a list, their union, the largest bound counts. Raw input units.
    method : str, default "auto"
        One hidden layer: "sdp" is the semidefinite program of the paper, "sdp_tight" adds what is known about the range
        of every unit, "paired" treats units with parallel weights together as well (never looser). Boxes and one
        output: "facets", the sum of the maxima of all directions, for networks whose units are dead or alone there.
        "splits" is "paired" on smaller and smaller parts of the range of a direction, until the bound meets the attack
        to 1e-5 or time is up (networks of few inputs; never looser than "paired", the tolerance aside).
        Any network: "ibp", "crown", "alpha_crown", "lp", "branch_and_bound", "arrow", the semidefinite relaxation of
        several layers, and "chain", the same without bounds on the layers (never better). "auto" is "paired" for one
        hidden layer, "arrow" for deeper ReLU networks, else "alpha_crown".
    output : int or (int, int), default 0
        The output, or the difference of the first and the second.
    tol : float, default 1e-7
        Relative gap at which the optimization stops; it does not change what is proved.
    time_limit : float
        Seconds after which the best bound so far is returned; they are shared out over a union.
    arithmetic : {"float64+slack", "exact"}
        "exact" proves the bound over the rational numbers ("sdp_tight", "paired", "facets"; up to about 60
        dimensions; "splits" up to about 10).

    Returns
    -------
    Certificate
        ``bound`` holds for the real-valued network of the float64 weights, rounding included, and can be checked again
        from the certificate alone; ``lower`` is the largest value found in the region, rounded down.
        ``details["gap"]`` of the semidefinite methods says by how much at most other multipliers could do better
        (float64, not proved).

    Raises
    ------
    InvalidInputError
        For unknown methods, regions that do not fit, or a network that the method cannot treat.
    CertificateError
        When the bound is below a value that was attained, rounding included: a defect that is never hidden.
    """
    network = as_network(model)
    tol = positive_number(tol, "tol", zero=True)
    time_limit = positive_number(time_limit, "time_limit", zero=True, infinite=True)
    if isinstance(region, Polytope) and _output_weights(network, output).any():
        return polytope_bound(network, region, method=method, arithmetic=arithmetic)
    members = as_regions(region, network.n_inputs)
    chosen, exact = chosen_method(network, method, arithmetic), arithmetic == "exact"
    weights = _output_weights(network, output)
    begin = time.monotonic()
    multiplier: dict[str, Array] = {"output": weights}
    bound, lower, details, statuses = -np.inf, -np.inf, dict[str, Any](), []
    for i, one in enumerate(members):
        asked = Question(network, one, weights, chosen, exact)
        proposal = propose(asked, tol, begin + time_limit * (i + 1) / len(members))
        place = {"center": one.center, "axes": one.axes, "kind": np.array([float(one.kind == BOX)])}
        multiplier |= {f"{i}/{key}": value for key, value in {**place, **proposal.evidence}.items()}
        found = evaluated(asked, proposal.evidence)
        statuses.append(proposal.details["status"])
        if found > bound:
            bound, details = found, proposal.details
        lower = max(lower, proposal.lower, attained(network, one, weights, starts=proposal.points))
    details = {"regions": float(len(members)), **details}
    details["status"] = next((s for s in statuses if s not in ("optimal", "linear")), statuses[0])
    name = f"region_{chosen}" + ("_exact" if exact else "")
    return Certificate(QUANTITY, bound, 0.0, THREAT, name, multiplier, network.fingerprint(), arithmetic,
                       consistent(lower, bound), details)  # fmt: skip


def certified_regions(certificate: Certificate) -> tuple[Region, ...]:
    """The regions that a certificate of :func:`region_bound` is about.

    Raises
    ------
    CertificateError
        When it holds none, or is about something else.
    """
    if (certificate.quantity, certificate.threat) != (QUANTITY, THREAT):
        raise CertificateError(f"A certificate of {certificate.quantity} ({certificate.threat}) is about no region.")
    return tuple(_region(member) for member in _members(certificate.multiplier))


def _output_weights(network: Network, output: int | tuple[int, int]) -> Array:
    weights = np.zeros(network.n_outputs)
    chosen = (output,) if isinstance(output, int | np.integer) else tuple(output)
    if not (
        len(chosen) in (1, 2) and all(0 <= i < network.n_outputs for i in chosen) and len(set(chosen)) == len(chosen)
    ):
        raise InvalidInputError(f"output must be one or two outputs of 0 to {network.n_outputs - 1}, got {output!r}.")
    weights[list(chosen)] = (1.0, -1.0)[: len(chosen)]
    return weights


def _check(network: Network, multiplier: Multiplier, *, method: str, exact: bool) -> float:
    """Upper bound over all regions of a certificate, from its arrays alone."""
    try:
        weights = checked_output(network, multiplier)
        questions = ((Question(network, _region(m), weights, method, exact), m) for m in _members(multiplier))
        return max(evaluated(*one) for one in questions)
    except (KeyError, ValueError, IndexError, TypeError, InvalidInputError, UnsupportedModelError) as error:
        raise CertificateError(f"The certificate states nothing that can be checked: {error}") from error


def checked_output(network: Network, multiplier: Multiplier) -> Array:
    """The weights of the outputs: of one output, or of the difference of two, and of nothing else.

    Raises
    ------
    CertificateError
        For other weights: a certificate says nothing else about what it bounds.
    """
    weights = np.asarray(multiplier["output"], dtype=np.float64)
    if weights.shape != (network.n_outputs,) or sorted(weights[weights != 0].tolist()) not in ([1.0], [-1.0, 1.0]):
        raise CertificateError("The certificate is neither about one output of the network nor about two of them.")
    return weights


def _members(multiplier: Multiplier) -> list[dict[str, Array]]:
    found: dict[str, dict[str, Array]] = {}
    for key, values in multiplier.items():
        head, slash, rest = key.partition("/")
        if slash:
            found.setdefault(head, {})[rest] = np.asarray(values, dtype=np.float64)
    if not found:
        raise CertificateError("The certificate is about no region.")
    return list(found.values())


def _region(stored: Multiplier) -> Region:
    try:
        return Region(stored["center"], stored["axes"], BOX if float(np.ravel(stored["kind"])[0]) else BALL)
    except (KeyError, IndexError, InvalidInputError) as error:
        raise CertificateError(f"The certificate describes no region: {error}") from error


for _method in METHODS:
    register_check(f"region_{_method}", partial(_check, method=_method, exact=False), quantity=QUANTITY, threat=THREAT)
for _method in EXACT:
    register_check(
        f"region_{_method}_exact", partial(_check, method=_method, exact=True), quantity=QUANTITY, threat=THREAT,
        arithmetic="exact",
    )  # fmt: skip

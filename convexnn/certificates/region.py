"""Upper bounds of a network on whole regions: balls, ellipsoids, boxes, rotated boxes, and unions of these."""

from __future__ import annotations

import time
from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Identity, LeakyReLU, Polynomial, ReLU
from convexnn.certificate import Certificate, register_check
from convexnn.certificates.region_lower import attained
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network, as_network
from convexnn.propagation.query import Certifier, Effort
from convexnn.regions.check import ball_multiplier, units_bound
from convexnn.regions.exact import exact_bound
from convexnn.regions.folding import folded_query, folded_units
from convexnn.regions.newton import best_majorants
from convexnn.regions.region import BALL, BOX, Region, as_regions
from convexnn.regions.ridges import ridges
from convexnn.rigorous import sum_up

Array = NDArray[np.float64]
Multiplier = Mapping[str, Array]

QUANTITY, THREAT = "region maximum", "region"
MAJORANTS = {"sdp": (False, False), "sdp_tight": (False, True), "paired": (True, True)}  # grouped, tight
CERTIFIERS = ("ibp", "crown", "alpha_crown", "lp", "branch_and_bound", "arrow")
METHODS = (*MAJORANTS, *CERTIFIERS)
LIFTS = (0.0, 1e-12, 1e-10, 1e-8, 1e-6)


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
    region : Region, L2Ball, LInfBall, Box, or a list of these
        Balls of threats are around the origin; for a list, their union, the largest bound counts. Raw input units.
    method : str, default "auto"
        One hidden layer: "sdp" is the semidefinite program of the paper, "sdp_tight" adds what is known about the range
        of every unit, "paired" treats units with parallel weights together as well (never looser). Any network: "ibp",
        "crown", "alpha_crown", "lp", "branch_and_bound", and "arrow", the semidefinite relaxation of several layers.
        "auto" is "paired" for one hidden layer of ReLU, LeakyReLU or polynomial units, "arrow" for deeper ReLU
        networks, else "alpha_crown".
    output : int or (int, int), default 0
        The output, or the difference of the first and the second.
    tol : float, default 1e-7
        Relative gap at which the optimization stops; it does not change what is proved.
    time_limit : float
        Seconds after which the best bound so far is returned.
    arithmetic : {"float64+slack", "exact"}
        "exact" proves the bound over the rational numbers ("sdp_tight" and "paired"; up to about 60 dimensions).

    Returns
    -------
    Certificate
        ``bound`` holds for the real-valued network of the float64 weights, rounding included, and can be checked again
        from the certificate alone; ``lower`` is the largest value that was found in the region.

    Raises
    ------
    InvalidInputError
        For unknown methods, regions that do not fit, or a network that the method cannot treat.
    """
    network = as_network(model)
    members = as_regions(region, network.n_inputs)
    chosen = _chosen_method(network, method, arithmetic)
    weights = _output_weights(network, output)
    deadline = time.monotonic() + time_limit
    multiplier: dict[str, Array] = {"output": weights}
    bounds: list[float] = []
    details: dict[str, Any] = {}
    for i, one in enumerate(members):
        evidence, details = _propose(network, one, weights, chosen, (tol, deadline), arithmetic == "exact")
        stored = {"center": one.center, "axes": one.axes, "kind": np.array([float(one.kind == BOX)]), **evidence}
        multiplier |= {f"{i}/{key}": value for key, value in stored.items()}
        bounds.append(_member_bound(network, stored, weights, chosen, arithmetic == "exact"))
    bound = max(bounds)
    lower = max(attained(network, one, weights) for one in members)
    name = f"region_{chosen}" + ("_exact" if arithmetic == "exact" else "")
    return Certificate(QUANTITY, bound, 0.0, THREAT, name, multiplier, network.fingerprint(), arithmetic,
                       min(lower, bound), {"regions": float(len(members)), **details})  # fmt: skip


def certified_regions(certificate: Certificate) -> tuple[Region, ...]:
    """The regions that a certificate of :func:`region_bound` is about.

    Raises
    ------
    CertificateError
        When it holds none.
    """
    return tuple(_region(member) for member in _members(certificate.multiplier))


def _chosen_method(network: Network, method: str, arithmetic: str) -> str:
    pieces = isinstance(network.activation, ReLU | LeakyReLU | Polynomial | Identity) and network.is_shallow
    if method == "auto":
        deep = "arrow" if isinstance(network.activation, ReLU | LeakyReLU) else "alpha_crown"
        method = "paired" if pieces else deep
    if method == "sdp" and not network.is_shallow:
        method = "arrow"
    if method not in METHODS:
        raise InvalidInputError(f"Unknown method {method!r}; expected 'auto' or one of {METHODS}.")
    if method in MAJORANTS and not pieces:
        raise InvalidInputError(f"{method!r} needs one hidden layer of ReLU, LeakyReLU or polynomial units.")
    if arithmetic not in ("float64+slack", "exact"):
        raise InvalidInputError(f"arithmetic must be 'float64+slack' or 'exact', got {arithmetic!r}.")
    if arithmetic == "exact" and (method not in ("sdp_tight", "paired") or network.n_outputs != 1):
        raise InvalidInputError("Exact bounds are for 'sdp_tight' and 'paired' and networks with one output.")
    return method


def _output_weights(network: Network, output: int | tuple[int, int]) -> Array:
    weights = np.zeros(network.n_outputs)
    chosen = (output,) if isinstance(output, int | np.integer) else tuple(output)
    if not (
        len(chosen) in (1, 2) and all(0 <= i < network.n_outputs for i in chosen) and len(set(chosen)) == len(chosen)
    ):
        raise InvalidInputError(f"output must be one or two outputs of 0 to {network.n_outputs - 1}, got {output!r}.")
    weights[list(chosen)] = (1.0, -1.0)[: len(chosen)]
    return weights


def _propose(
    network: Network, region: Region, weights: Array, method: str, effort: tuple[float, float], exact: bool
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Evidence for one region."""
    tol, deadline = effort
    if method in CERTIFIERS:
        query, _ = folded_query(network, region, weights)
        certifier = _certifier(method)
        refusal = certifier.refusal(query)
        if refusal is not None:
            raise InvalidInputError(f"{method!r} does not apply: {refusal}")
        evidence = certifier.propose(query, Effort(tol=max(tol, 1e-6), deadline=deadline))
        plain = {f"evidence/{key}": np.asarray(a, dtype=float) for key, a in evidence.multiplier.items()
                 if isinstance(a, np.ndarray | float | int | list)}  # fmt: skip
        return plain, {"status": evidence.status}
    grouped, tight = MAJORANTS[method]
    groups = None if grouped else np.arange(len(network.layers[0][1]))
    units = folded_units(network, region, weights, groups)
    found = best_majorants(ridges(units, tight=tight), tol=tol, deadline=deadline)
    stored = {
        "groups": units.groups.astype(float),
        "curvature": found.curvature,
        "slope": found.slope,
        "rho": found.rho,
    }
    if exact:
        stored["rho"] = _exact_rho(network, region, stored, found.bound)
    return stored, {"status": found.status, "iterations": float(found.iterations)}


def _exact_rho(network: Network, region: Region, stored: dict[str, Array], known: float) -> Array:
    """Multipliers of the region with which the rational proof succeeds, lifted as little as possible."""
    rho = stored["rho"]
    if region.kind == BALL:
        V = region.first_layer(*network.layers[0])[0][np.unique(stored["groups"], return_index=True)[1]]
        rho = ball_multiplier(V, stored["curvature"], stored["slope"])
    best, least = rho, np.inf
    for lift in LIFTS:
        trial = rho + lift * (float(np.max(rho)) or 1.0)
        bound = _exact(network, region, {**stored, "rho": trial})
        if bound < least:
            best, least = trial, bound
        if least <= known + 1e-9 * abs(known):
            break
    return best


def _exact(network: Network, region: Region, stored: Multiplier) -> float:
    found = exact_bound(
        network, region, stored["groups"].astype(int), stored["curvature"], stored["slope"], stored["rho"]
    )
    if found is None:
        return np.inf
    bound = float(found)
    return bound if Fraction(bound) >= found else float(np.nextafter(bound, np.inf))


def _member_bound(network: Network, stored: Multiplier, weights: Array, method: str, exact: bool) -> float:
    """The bound of one region, recomputed from its evidence."""
    region = _region(stored)
    if region.n_inputs != network.n_inputs:
        raise CertificateError(f"A region has {region.n_inputs} coordinates, the network {network.n_inputs} inputs.")
    if method in CERTIFIERS:
        query, changed = folded_query(network, region, weights)
        evidence = {key.removeprefix("evidence/"): a for key, a in stored.items() if key.startswith("evidence/")}
        return sum_up([float(_certifier(method).check(query, evidence)[0]), changed])
    groups = np.asarray(stored["groups"])
    if groups.shape != (len(network.layers[0][1]),) or not np.isin(groups, np.arange(groups.size)).all():
        raise CertificateError("The groups of a certificate do not number the units of the network.")
    if exact:
        return _exact(network, region, stored)
    units = folded_units(network, region, weights, groups.astype(np.intp))
    return units_bound(units, stored["curvature"], stored["slope"], stored["rho"], tight=MAJORANTS[method][1])


def _check(network: Network, multiplier: Multiplier, *, method: str, exact: bool) -> float:
    """Upper bound over all regions of a certificate, from its arrays alone."""
    try:
        weights = np.asarray(multiplier["output"], dtype=np.float64)
        if weights.shape != (network.n_outputs,) or not np.isfinite(weights).all():
            raise CertificateError("The weights of the outputs do not fit the network.")
        return max(_member_bound(network, stored, weights, method, exact) for stored in _members(multiplier))
    except (KeyError, ValueError, IndexError, TypeError, InvalidInputError) as error:
        raise CertificateError(f"The certificate states nothing that can be checked: {error}") from error


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


def _certifier(method: str) -> Certifier:
    from importlib import import_module

    places = {"ibp": ("propagation.crown", "IBP"), "crown": ("propagation.crown", "CROWN"),
              "alpha_crown": ("propagation.alpha_crown", "ALPHA_CROWN"), "lp": ("relaxations.linear", "LP"),
              "branch_and_bound": ("branching.certifier", "BRANCH_AND_BOUND"),
              "arrow": ("relaxations.arrow.certifier", "SDP")}  # fmt: skip
    module, name = places[method]
    certifier: Certifier = getattr(import_module(f"convexnn.{module}"), name)
    return certifier


for _method in METHODS:
    register_check(f"region_{_method}", partial(_check, method=_method, exact=False), quantity=QUANTITY, threat=THREAT)
for _method in ("sdp_tight", "paired"):
    register_check(
        f"region_{_method}_exact", partial(_check, method=_method, exact=True), quantity=QUANTITY, threat=THREAT,
        arithmetic="exact",
    )  # fmt: skip

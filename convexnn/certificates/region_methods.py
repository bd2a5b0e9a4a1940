"""The methods of region bounds: which networks each takes, the evidence it proposes, and the bound of any evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Identity, LeakyReLU, Polynomial, ReLU, Sigmoid, Tanh
from convexnn.certificates.region_lower import attained
from convexnn.exceptions import CertificateError, InvalidInputError, UnsupportedModelError
from convexnn.network import Network
from convexnn.propagation.query import Certifier, Effort
from convexnn.regions.chain import chain_bound
from convexnn.regions.chain_solver import best_chain
from convexnn.regions.check import ball_multiplier, units_bound
from convexnn.regions.exact import ExactRidges, exact_bound
from convexnn.regions.facets import exact_facet_value, facet_value
from convexnn.regions.folding import folded_query, folded_units
from convexnn.regions.newton import best_majorants
from convexnn.regions.region import BALL, BOX, Region
from convexnn.regions.ridges import COARSE, ridges
from convexnn.regions.splits import exact_splits_bound, read_splits, splits_bound
from convexnn.regions.splitting import split_region
from convexnn.rigorous import fraction_up, sum_up

Array = NDArray[np.float64]
Multiplier = Mapping[str, Array]

MAJORANTS = {"sdp": (False, False), "sdp_tight": (False, True), "paired": (True, True)}  # grouped, tight
CERTIFIERS = ("ibp", "crown", "alpha_crown", "lp", "branch_and_bound", "arrow")
SHALLOW = (*MAJORANTS, "splits")
METHODS = (*MAJORANTS, *CERTIFIERS, "facets", "chain", "splits")
EXACT = ("sdp_tight", "paired", "facets", "splits")
ROUNDED = "float64+slack"
TOLERANCE = 1e-5  # of branching: more is a matter of many parts
STARTS = 200  # of attacks before branching: a maximum that is missed keeps many parts open
LIFTS = (0.0, 1e-12, 1e-10, 1e-8, 1e-6)


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked about one region.

    Attributes
    ----------
    network : Network
    region : Region
    output : array, shape (k,)
        Weights of the outputs.
    method : str
    exact : bool
    """

    network: Network
    region: Region
    output: Array
    method: str
    exact: bool


@dataclass(frozen=True, eq=False)
class Proposal:
    """Evidence for one region, what is worth printing, points of the unit variable for attacks (n, r), a value."""

    evidence: dict[str, Array]
    details: dict[str, Any]
    points: Array = field(default_factory=lambda: np.zeros((0, 0)))
    lower: float = -np.inf


def chosen_method(network: Network, method: str, arithmetic: str) -> str:
    """The method that "auto" stands for, or the one asked for.

    Raises
    ------
    InvalidInputError
        For an unknown method, and one that cannot treat the network.
    """
    kinked = isinstance(network.activation, ReLU | LeakyReLU)
    smooth = isinstance(network.activation, Tanh | Sigmoid)
    pieces = network.is_shallow and (kinked or smooth or isinstance(network.activation, Polynomial | Identity))
    if method == "auto":
        method = "paired" if pieces else ("arrow" if kinked else "alpha_crown")
    if method == "sdp" and not network.is_shallow:
        method = "arrow"
    if method not in METHODS:
        raise InvalidInputError(f"Unknown method {method!r}; expected 'auto' or one of {METHODS}.")
    if method in SHALLOW and not pieces:
        raise InvalidInputError(f"{method!r} needs one hidden layer.")
    if method == "sdp" and smooth:
        raise InvalidInputError("'sdp' has no bounds on the units, which tanh and sigmoid need: use 'sdp_tight'.")
    if method == "chain" and not kinked:
        raise InvalidInputError(f"'chain' is for ReLU and LeakyReLU units, not {network.activation.name}.")
    if method == "facets" and not (network.is_shallow and kinked and network.n_outputs == 1):
        raise UnsupportedModelError("'facets' is for one hidden layer of ReLU or LeakyReLU units and one output.")
    if arithmetic not in (ROUNDED, "exact"):
        raise InvalidInputError(f"arithmetic must be 'float64+slack' or 'exact', got {arithmetic!r}.")
    if arithmetic == "exact" and (method not in EXACT or network.n_outputs != 1 or smooth):
        raise InvalidInputError(
            f"Exact bounds are for {EXACT}, networks with one output, and units that are rational functions."
        )
    return method


def propose(asked: Question, tol: float, deadline: float) -> Proposal:
    """Evidence of the method, from whatever solver it has."""
    region, method = asked.region, asked.method
    if method == "facets":
        if region.kind != BOX:
            raise InvalidInputError("'facets' is for boxes and rotated boxes, not for balls; use 'paired'.")
        return Proposal({}, {"status": "optimal"})
    if method in MAJORANTS:
        return _majorants(asked, tol, deadline)
    if method == "splits":
        return _splits(asked, tol, deadline)
    query, _ = folded_query(asked.network, region, asked.output)
    if method == "chain":
        found = best_chain(query, tol=tol, deadline=deadline)
        details = {"status": found.status, "iterations": float(found.iterations), "gap": found.gap}
        return Proposal(dict(found.multiplier), details)
    certifier = certifier_of(method)
    refusal = certifier.refusal(query)
    if refusal is not None:
        raise InvalidInputError(f"{method!r} does not apply: {refusal}")
    evidence = certifier.propose(query, Effort(tol=max(tol, 1e-6), deadline=deadline))
    plain = {f"evidence/{key}": np.asarray(a, dtype=float) for key, a in evidence.multiplier.items()
             if isinstance(a, np.ndarray | float | int | list)}  # fmt: skip
    points = evidence.points if evidence.points.ndim == 2 else np.zeros((0, 0))
    return Proposal(plain, {"status": evidence.status}, points)


def _majorants(asked: Question, tol: float, deadline: float) -> Proposal:
    grouped, tight = MAJORANTS[asked.method]
    groups = None if grouped else np.arange(len(asked.network.layers[0][1]))
    units = folded_units(asked.network, asked.region, asked.output, groups)
    found = best_majorants(ridges(units, tight=tight, cells=COARSE), tol=tol, deadline=deadline)
    stored = {"groups": units.groups.astype(float), "curvature": found.curvature, "slope": found.slope,
              "rho": found.rho}  # fmt: skip
    if asked.exact:
        stored["rho"] = exact_rho(asked, stored, found.bound)
    details = {"status": found.status, "iterations": float(found.iterations), "gap": found.gap}
    return Proposal(stored, details, found.point[None])


def _splits(asked: Question, tol: float, deadline: float) -> Proposal:
    units = folded_units(asked.network, asked.region, asked.output, None)

    def attack(point: Array) -> float:
        return attained(asked.network, asked.region, asked.output, n=2, steps=25, starts=point[None])

    known = attained(asked.network, asked.region, asked.output, n=STARTS)
    parts = ridges(units, cells=COARSE), ridges(units)
    found = split_region(*parts, attack, lower=known, tol=max(tol, TOLERANCE), deadline=deadline)
    details = {"status": found.status, "leaves": float(found.leaves), "gap": found.bound - found.lower}
    stored = {"groups": units.groups.astype(float), **found.evidence}
    if asked.exact:
        stored["rho"] = _exact_levels(asked, stored, found.bound)
    return Proposal(stored, details, found.point[None], found.lower)


def _exact_levels(asked: Question, stored: Multiplier, known: float) -> Array:
    """Multipliers of the region for every part of a tree, with which its rational proof succeeds, (leaves, r)."""
    parts = ExactRidges.of(asked.network, asked.region, stored["groups"].astype(np.intp))
    leaves = read_splits(stored["tree"], len(parts.directions)) or []
    found = []
    for ranges, al, be, rho in zip(leaves, stored["curvature"], stored["slope"], stored["rho"], strict=True):
        start = np.broadcast_to(rho, (asked.region.n_axes,))
        if parts.nothing(ranges):
            found.append(start)
            continue
        start = _best_level(asked, {**stored, "curvature": al, "slope": be, "rho": start})
        found.append(_lifted(start, partial(parts.bound, al, be, ranges=ranges), known))
    return np.array(found)


def exact_rho(asked: Question, stored: Multiplier, known: float) -> Array:
    """Multipliers of the region with which the rational proof succeeds, lifted as little as possible.

    Parameters
    ----------
    asked : Question
    stored : mapping
        Majorants: "groups", "curvature", "slope", "rho".
    known : float
        Their bound in float64: once it is reached, no more is tried.
    """
    start = _best_level(asked, stored)
    return _lifted(start, lambda rho: exact_majorants(asked, {**stored, "rho": rho}), known)


def _best_level(asked: Question, stored: Multiplier) -> Array:
    """Multipliers of a ball that are best for stored majorants, in float64; those of a box as they are."""
    if asked.region.kind != BALL:
        return stored["rho"]
    V = asked.region.first_layer(*asked.network.layers[0])[0]
    V = V[np.unique(stored["groups"], return_index=True)[1]]
    return ball_multiplier(V, stored["curvature"], stored["slope"])


def _lifted(rho: Array, value: Callable[[Array], Fraction | None], known: float) -> Array:
    """The best of some slightly larger multipliers; the first one that is as good as what is known."""
    best, least = rho, np.inf
    for lift in LIFTS:
        trial = rho + lift * (float(np.max(rho)) or 1.0)
        bound = rounded(value(trial))
        if bound < least:
            best, least = trial, bound
        if least <= known + 1e-9 * abs(known):
            break
    return best


def exact_majorants(asked: Question, stored: Multiplier) -> Fraction | None:
    """The rational bound of stored majorants."""
    groups = stored["groups"].astype(int)
    return exact_bound(asked.network, asked.region, groups, stored["curvature"], stored["slope"], stored["rho"])


def rounded(found: Fraction | None) -> float:
    """A rational number rounded up once; None proves nothing."""
    return np.inf if found is None else fraction_up(found)


def evaluated(asked: Question, stored: Multiplier) -> float:
    """The bound that evidence proves, whatever it holds; ``inf`` for none.

    Raises
    ------
    CertificateError
        For arrays that do not fit.
    """
    network, region, method = asked.network, asked.region, asked.method
    if region.n_inputs != network.n_inputs:
        raise CertificateError(f"A region has {region.n_inputs} coordinates, the network {network.n_inputs} inputs.")
    if method == "facets":
        return _facets(asked)
    if method == "chain" or method in CERTIFIERS:
        query, changed = folded_query(network, region, asked.output)
        if method == "chain":
            return sum_up([chain_bound(query, stored), changed])
        certifier = certifier_of(method)
        refusal = certifier.refusal(query)  # prices and forms are those of kinked units: smooth ones they do not bound
        if refusal is not None:
            raise CertificateError(f"The method {method!r} proves nothing here: {refusal}")
        evidence = {key.removeprefix("evidence/"): a for key, a in stored.items() if key.startswith("evidence/")}
        return sum_up([float(certifier.check(query, evidence)[0]), changed])
    groups = np.asarray(stored["groups"])
    if groups.shape != (len(network.layers[0][1]),) or not np.isin(groups, np.arange(groups.size)).all():
        raise CertificateError("The groups of a certificate do not number the units of the network.")
    if asked.exact and method == "splits":
        return rounded(exact_splits_bound(ExactRidges.of(network, region, groups.astype(np.intp)), stored))
    if asked.exact:
        return rounded(exact_majorants(asked, stored))
    units = folded_units(network, region, asked.output, groups.astype(np.intp))
    if method == "splits":
        return splits_bound(ridges(units), stored)
    return units_bound(units, stored["curvature"], stored["slope"], stored["rho"], tight=MAJORANTS[method][1])


def _facets(asked: Question) -> float:
    if asked.region.kind != BOX or not (asked.output == 1.0).all():
        raise CertificateError("Bounds by directions are about the output of a network on a box.")
    if asked.exact:
        return rounded(exact_facet_value(asked.network, asked.region))
    return facet_value(asked.network, asked.region)


def certifier_of(method: str) -> Certifier:
    """The certifier behind a method, imported when it is needed."""
    places = {"ibp": ("propagation.crown", "IBP"), "crown": ("propagation.crown", "CROWN"),
              "alpha_crown": ("propagation.alpha_crown", "ALPHA_CROWN"), "lp": ("relaxations.linear", "LP"),
              "branch_and_bound": ("branching.certifier", "BRANCH_AND_BOUND"),
              "arrow": ("relaxations.arrow.certifier", "SDP")}  # fmt: skip
    module, name = places[method]
    certifier: Certifier = getattr(import_module(f"convexnn.{module}"), name)
    return certifier

"""Region bounds by branch and bound on the pieces of the units: at every leaf some units are on one side of a kink.

A leaf needs majorants only on the pieces that are left there, so that its bound is never above that of its parent, and
the gap of separable quadratics closes as leaves multiply. Best bound first; for networks with one hidden layer.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.certificate import Certificate, register_check
from convexnn.certificates.region import QUANTITY, THREAT, checked_output
from convexnn.certificates.region_lower import attained
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network, as_network
from convexnn.regions.check import majorant_offsets, proved_bound
from convexnn.regions.folding import folded_units
from convexnn.regions.newton import Majorants, best_majorants
from convexnn.regions.region import BALL, BOX, Region, as_region
from convexnn.regions.ridges import Ridges, ridges

Array = NDArray[np.float64]
Pieces = tuple[NDArray[np.intp], NDArray[np.intp]]  # first and last piece of each group, shape (G,)

METHOD = "region_split"
KEYS = ("center", "axes", "kind", "groups", "tree", "curvature", "slope", "rho")
LEAF_TOL = 1e-5
ONE_OUTPUT = np.ones(1)


def split_bound(
    model: Any, region: Any, *, tol: float = 1e-6, time_limit: float = 60.0, max_leaves: int = 100_000
) -> Certificate:
    """Upper bound of a network with one hidden layer and one output on a region, by splitting units at their kinks.

    Parameters
    ----------
    model : Network or what :func:`as_network` takes
        ReLU or LeakyReLU units.
    region : Region, L2Ball, LInfBall or Box
        One region, raw input units.
    tol : float
        Relative gap to the best value found at which the search ends.
    time_limit : float
        Seconds; the best bound so far is proved whenever the search ends.
    max_leaves : int

    Returns
    -------
    Certificate
        With a tree of splits and majorants for every leaf; ``details`` hold the number of leaves and "status":
        "optimal" when the gap is closed, else "time_limit", "max_leaves" or "no_kinks" (the worst leaf has none left).

    Raises
    ------
    InvalidInputError
        For other networks.
    """
    network = as_network(model)
    if not network.is_shallow or network.n_outputs != 1:
        raise InvalidInputError("Splitting units is for networks with one hidden layer and one output.")
    one = as_region(region, network.n_inputs)
    units = folded_units(network, one, ONE_OUTPUT, None)

    def best_of(E: Array) -> float:
        return float(network(one.image(E)).max())

    parts, deadline = ridges(units, tight=True), time.monotonic() + time_limit
    search = _Search(parts, attained(network, one, ONE_OUTPUT), deadline, best_of)
    status = search.run(tol, max_leaves)
    stored = {"center": one.center, "axes": one.axes, "kind": np.array([float(one.kind == BOX)])}
    stored |= {"groups": units.groups.astype(float), **search.evidence()}
    multiplier = {"output": ONE_OUTPUT, **{f"0/{key}": value for key, value in stored.items()}}
    bound = _check(network, multiplier)
    details = {"regions": 1.0, "status": status, "leaves": float(len(search.leaves))}
    return Certificate(QUANTITY, bound, 0.0, THREAT, METHOD, multiplier, network.fingerprint(), "float64+slack",
                       min(search.lower, bound), details)  # fmt: skip


@dataclass(eq=False)
class _Leaf:
    """What is left of the pieces, and the majorants that prove the bound."""

    pieces: Pieces
    found: Majorants


@dataclass(eq=False)
class _Search:
    """The tree: rows (group, last piece to the left, left row, right row); leaves have group -1 and their number."""

    parts: Ridges
    lower: float
    deadline: float
    best_of: Callable[[Array], float]
    rows: list[list[int]] = field(default_factory=list)
    leaves: dict[int, _Leaf] = field(default_factory=dict)

    def run(self, tol: float, max_leaves: int) -> str:
        """Split the leaf with the largest bound until the gap is closed."""
        G, P = self.parts.lower.shape
        first = _Leaf(
            (np.zeros(G, dtype=np.intp), np.full(G, P - 1)),
            best_majorants(self.parts, tol=LEAF_TOL, deadline=self.deadline),
        )
        self.rows, self.leaves = [[-1, 0, 0, 0]], {0: first}
        queue, done = [(-first.found.bound, 0)], -np.inf
        while queue:
            worst = max(-queue[0][0], done)
            if worst - self.lower <= tol * max(abs(worst), abs(self.lower)):
                return "optimal"
            if done >= -queue[0][0]:
                break
            if len(self.leaves) >= max_leaves:
                return "max_leaves"
            if time.monotonic() >= self.deadline:
                return "time_limit"
            bound, row = heapq.heappop(queue)
            chosen = self._kink(self.leaves[row])
            if chosen is None:  # as good as it gets
                done = max(done, -bound)
                continue
            for child in self._split(row, *chosen):
                heapq.heappush(queue, (-self.leaves[child].found.bound, child))
        return "no_kinks"

    def _split(self, row: int, group: int, last: int) -> tuple[int, int]:
        leaf = self.leaves.pop(row)
        children = len(self.rows), len(self.rows) + 1
        self.rows[row] = [group, last, *children]
        for child, side in zip(children, (0, 1), strict=True):
            first, end = (ends.copy() for ends in leaf.pieces)
            (end if side == 0 else first)[group] = last + side
            known = leaf.found.curvature, leaf.found.slope
            found = best_majorants(_left(self.parts, (first, end)), tol=LEAF_TOL, deadline=self.deadline, start=known)
            self.rows.append([-1, 0, 0, 0])
            self.leaves[child] = _Leaf((first, end), found)
            self._attack(found.point)
        return children

    def _attack(self, point: Array) -> None:
        """Values at the relaxed maximizer and where it points to."""
        size = np.linalg.norm(point) if self.parts.kind == BALL else np.abs(point).max(initial=0.0)
        if np.isfinite(size) and size > 0:
            inside = point / max(size, 1.0) * (1.0 - 1e-12)
            self.lower = max(self.lower, self.best_of(np.array([inside, point / size * (1.0 - 1e-12)])))

    def _kink(self, leaf: _Leaf) -> tuple[int, int] | None:
        """Group and piece where the majorants are farthest above the network, on average over the relaxed maximizer."""
        parts = _left(self.parts, leaf.pieces)
        al, be = leaf.found.curvature, leaf.found.slope
        mean, spread = _moments(parts, leaf.found)
        above = majorant_offsets(parts, al, be) + al * (mean**2 + spread**2) + be * mean
        below = 0.5 * (_values(parts, mean - spread) + _values(parts, mean + spread))
        gaps = np.where(parts.exists.sum(axis=1) > 1, above - below, -np.inf)
        group = int(np.argmax(gaps))
        if not np.isfinite(gaps[group]):
            return None
        there = np.flatnonzero(parts.exists[group])
        kinks = parts.upper[group, there[:-1]]
        return group, int(there[int(np.argmin(np.abs(kinks - mean[group])))])

    def evidence(self) -> dict[str, Array]:
        """Arrays of the certificate."""
        for number, row in enumerate(self.leaves):
            self.rows[row] = [-1, number, 0, 0]
        found = [leaf.found for leaf in self.leaves.values()]
        return {
            "tree": np.array(self.rows, dtype=np.float64),
            "curvature": np.array([one.curvature for one in found]),
            "slope": np.array([one.slope for one in found]),
            "rho": np.array([one.rho for one in found]),
        }


def _left(parts: Ridges, pieces: Pieces) -> Ridges:
    """The ridges with fewer pieces."""
    number = np.arange(parts.lower.shape[1])[None]
    kept = (number >= pieces[0][:, None]) & (number <= pieces[1][:, None])
    return replace(parts, lower=np.where(kept, parts.lower, np.inf), upper=np.where(kept, parts.upper, -np.inf))


def _values(parts: Ridges, a: Array) -> Array:
    """Largest of the pieces' lines at a (G,), each moved to the nearest point of its interval."""
    with np.errstate(invalid="ignore"):
        at = np.clip(a[:, None], parts.lower, parts.upper)
        lines = parts.curves * at * at + parts.slopes * at + parts.intercepts
    distance = np.where(parts.exists, np.abs(at - a[:, None]), np.inf)
    nearest = distance <= distance.min(axis=1, keepdims=True)
    return np.asarray(np.where(nearest & parts.exists, lines, -np.inf).max(axis=1))


def _moments(parts: Ridges, found: Majorants) -> tuple[Array, Array]:
    """Mean and standard deviation of every group's variable over the relaxed maximizer, shape (G,)."""
    V = parts.directions
    mean = V @ found.point
    K = np.diag(found.rho) - (V.T * found.curvature) @ V
    w, Q = np.linalg.eigh(0.5 * (K + K.T))
    weight = 1.0 / np.maximum(w - min(w[0], 0.0), 1e-6 * max(abs(w[-1]), 1e-300))
    room = max(1.0 - float(found.point @ found.point), 0.0) if parts.kind == BALL else 1.0
    return mean, np.sqrt(room / weight.sum() * ((V @ Q) ** 2 @ weight))


def _check(network: Network, multiplier: Mapping[str, Array]) -> float:
    """The largest bound of the leaves, from the arrays alone.

    Implements: convexnn, Proposition 4 of docs/theory/region_training.md.
    """
    try:
        if set(multiplier) != {"output", *(f"0/{key}" for key in KEYS)}:
            raise CertificateError("A certificate of split units holds one region and its evidence, nothing else.")
        checked_output(network, multiplier)
        stored = {key: np.asarray(multiplier[f"0/{key}"], dtype=np.float64) for key in KEYS}
        kind = BOX if float(np.ravel(stored["kind"])[0]) else BALL
        region = Region(stored["center"], stored["axes"], kind)
        groups, tree = stored["groups"], stored["tree"]
        if region.n_inputs != network.n_inputs or not network.is_shallow or network.n_outputs != 1:
            raise CertificateError("The region or the network does not fit a certificate of split units.")
        if groups.shape != (network.n_hidden[0],) or not np.isin(groups, np.arange(groups.size)).all():
            raise CertificateError("The groups of a certificate do not number the units of the network.")
        parts = ridges(folded_units(network, region, ONE_OUTPUT, groups.astype(np.intp)), tight=True)
        return max(_leaf_bound(parts, stored, pieces, number) for pieces, number in _walk(parts, tree))
    except (KeyError, ValueError, IndexError, TypeError, OverflowError, InvalidInputError) as error:
        raise CertificateError(f"The certificate states nothing that can be checked: {error}") from error


def _walk(parts: Ridges, tree: Array) -> list[tuple[Pieces, int]]:
    """The pieces that are left at each leaf, and its number; the leaves of a tree cover everything."""
    if tree.ndim != 2 or tree.shape[1] != 4 or not np.isfinite(tree).all() or (tree != np.round(tree)).any():
        raise CertificateError("A tree of splits has four whole numbers a row.")
    G, P = parts.lower.shape
    rows, leaves = tree.astype(np.int64), []
    waiting = [(0, (np.zeros(G, dtype=np.intp), np.full(G, P - 1)))]
    while waiting:
        row, pieces = waiting.pop()
        group, last, *children = (int(x) for x in rows[row])
        if group < 0:
            leaves.append((pieces, last))
            continue
        if group >= G or not all(row < child < len(rows) for child in children):
            raise CertificateError("A tree of splits leads nowhere.")
        for child, side in zip(children, (0, 1), strict=True):
            first, end = (ends.copy() for ends in pieces)
            if side == 0:
                end[group] = min(end[group], last)
            else:
                first[group] = max(first[group], last + 1)
            waiting.append((child, (first, end)))
        if len(waiting) + len(leaves) > len(rows):
            raise CertificateError("A tree of splits uses a row twice.")
    return leaves


def _leaf_bound(parts: Ridges, stored: Mapping[str, Array], pieces: Pieces, number: int) -> float:
    if not 0 <= number < len(stored["curvature"]):
        raise CertificateError("A leaf of the tree has no majorants.")
    left = _left(parts, pieces)
    if not left.exists.any(axis=1).all():
        return -np.inf  # no point of the region is there
    return proved_bound(left, stored["curvature"][number], stored["slope"][number], stored["rho"][number])


register_check(METHOD, _check, quantity=QUANTITY, threat=THREAT)

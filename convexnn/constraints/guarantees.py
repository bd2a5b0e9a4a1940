"""What is proved about a network, constraint by constraint, recomputed from its weights alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.certificate import Certificate
from convexnn.certificates.region import certified_regions, region_bound
from convexnn.constraints.pieces import Pieces, pieces_of
from convexnn.constraints.proofs import RATIONAL, Limits, proved_slope
from convexnn.constraints.shape import resolve
from convexnn.constraints.slopes import MAX_NODES
from convexnn.constraints.values import (
    Concave,
    Constraint,
    Convex,
    Even,
    FixedGradient,
    FixedValue,
    Invariant,
    LowerBound,
    Monotone,
    Odd,
    SlopeBounds,
    UpperBound,
)
from convexnn.decimals import DOWN, UP, exactly, written
from convexnn.exceptions import CertificateError
from convexnn.inputs import whole_number
from convexnn.network import Network, as_network
from convexnn.regions.region import as_regions
from convexnn.rigorous import fraction_down, fraction_up
from convexnn.values import ByValue

Array = NDArray[np.float64]

#: Deviation, relative to ``1 + |value|``, up to which a fixed value or gradient counts as kept; it is always stated.
FIXED_TOLERANCE = 1e-8


@dataclass(frozen=True, eq=False)
class Guarantee(ByValue):
    """A proved bound on one property of one network.

    Attributes
    ----------
    constraint : Constraint
    claim : str
        The property in words.
    quantity : str
        What is bounded.
    bound : float
        Proved: the quantity is at least this (``relation`` ">=", rounded down) or at most this ("<=", rounded up);
        ``-inf`` or ``inf`` when nothing could be proved.
    relation : {">=", "<="}
    required : float
        What the constraint asks of the quantity.
    method : str
        How it was proved.
    fingerprint : str
        Of the network.
    certificate : Certificate or None
        Of a bound over a region.
    max_nodes : int
        Effort of the search that proved a slope; the check allows as much.
    """

    constraint: Constraint
    claim: str
    quantity: str
    bound: float
    relation: str
    required: float
    method: str
    fingerprint: str = field(repr=False)
    certificate: Certificate | None = field(default=None, repr=False)
    max_nodes: int = field(default=MAX_NODES, repr=False)

    @property
    def holds(self) -> bool:
        """Whether what is proved is enough."""
        return self.bound >= self.required if self.relation == ">=" else self.bound <= self.required

    @property
    def statement(self) -> tuple[str, str, str, float]:
        """All but the bound that the constraint alone decides: claim, quantity, relation, required."""
        return self.claim, self.quantity, self.relation, self.required

    def check(self, network: Network, *, max_nodes: int | None = None) -> float:
        """Recompute the bound from the weights of a network (and the multipliers of a region's certificate).

        Parameters
        ----------
        network : Network
        max_nodes : int, optional
            Effort for slopes; by default as much as the guarantee took. Less may refuse a true guarantee.

        Returns
        -------
        float
            The recomputed bound.

        Raises
        ------
        CertificateError
            For another network, a statement that is not the one of the constraint, and when the weights do not prove
            the claimed bound.
        """
        if network.fingerprint() != self.fingerprint:
            raise CertificateError("The guarantee is about another network: the fingerprints differ.")
        if self.certificate is not None:
            bound = self._region_bound(network)
            found = [replace(_about_region(network, self.constraint, self.certificate), bound=bound)]
        else:
            effort = self.max_nodes if max_nodes is None else max_nodes
            found = list(guarantees(network, self.constraint, max_nodes=effort))
        values = [item.bound for item in found if item.statement == self.statement]
        if not values:
            raise CertificateError("The guarantee states something else than its constraint asks for.")
        worse = [v for v in values if not (v >= self.bound if self.relation == ">=" else v <= self.bound)]
        if worse:
            raise CertificateError(
                f"The weights prove {self.quantity} {self.relation} {worse[0]:.10g}, not the claimed {self.bound:.10g}."
            )
        return values[0]

    def _region_bound(self, network: Network) -> float:
        assert self.certificate is not None
        constraint = self.constraint
        if not isinstance(constraint, UpperBound | LowerBound):
            raise CertificateError("A certificate of a region belongs to an upper or a lower bound.")
        if certified_regions(self.certificate) != as_regions(constraint.region, network.n_inputs):
            raise CertificateError("The certificate is about other regions than the constraint.")
        if isinstance(constraint, UpperBound):
            return self.certificate.check(network)
        return -self.certificate.check(-network)

    def __str__(self) -> str:
        """One line: the property, what is proved, by what."""
        side = DOWN if self.relation == ">=" else UP
        shown = written(self.bound, 4, side) if math.isfinite(self.bound) else "nothing"
        verdict = "" if self.holds else "NOT PROVED: "
        asked = f"{self.relation} {exactly(self.required)}"
        return f"{verdict}{self.claim}; proved: {self.quantity} {self.relation} {shown} (asked: {asked}), {self.method}"


@dataclass(frozen=True)
class Guarantees(Sequence[Guarantee]):
    """Guarantees of one network, printed one a line."""

    items: tuple[Guarantee, ...]

    @property
    def hold(self) -> bool:
        """Whether all of them hold."""
        return all(item.holds for item in self.items)

    def check(self, network: Network) -> None:
        """Check all of them again; raises :class:`CertificateError` at the first that fails."""
        for item in self.items:
            item.check(network)

    def __getitem__(self, index: Any) -> Any:
        """One guarantee, or some of them."""
        return self.items[index]

    def __len__(self) -> int:
        """How many."""
        return len(self.items)

    def __str__(self) -> str:
        """One line each."""
        return "\n".join(str(item) for item in self.items)


def guarantees(
    model: Any, constraints: Any, *, feature_names: Sequence[str] | None = None, max_nodes: int = MAX_NODES
) -> Guarantees:
    """Prove what can be proved of the constraints for a given shallow ReLU network with one output.

    Slopes, curvature, symmetries and values are decided over the rational numbers that the float64 weights are; bounds
    over regions come with the certificate of :func:`convexnn.region_bound`. Nothing depends on how the network came.

    Implements: docs/theory/shape_constraints.md, Theorem 1.

    Parameters
    ----------
    model : Network, torch module, fitted sklearn MLP or estimator
        One hidden ReLU layer, one output.
    constraints : Constraint or sequence of them
    feature_names : sequence of str or None
    max_nodes : int, default 5000
        Effort for slopes of networks with many inputs; less effort never gives a wrong bound. A guarantee carries it,
        and its check takes as much.

    Returns
    -------
    Guarantees
        Constraint by constraint; ``holds`` says whether what is proved suffices.
    """
    network, max_nodes = as_network(model), whole_number(max_nodes, "max_nodes", 0)
    pieces = pieces_of(network)
    found: list[Guarantee] = []
    for item in resolve(constraints, network.n_inputs, feature_names):
        found += list(_of(network, pieces, item, max_nodes))
    return Guarantees(tuple(found))


def _of(network: Network, pieces: Pieces, item: Constraint, max_nodes: int) -> Iterator[Guarantee]:
    if isinstance(item, Monotone | SlopeBounds):
        yield from _slopes(network, pieces, item, max_nodes)
    elif isinstance(item, UpperBound | LowerBound):
        yield _over_region(network, item)
    else:
        yield _simple(network, pieces, item)


def _slopes(network: Network, pieces: Pieces, item: Monotone | SlopeBounds, max_nodes: int) -> Iterator[Guarantee]:
    bounds = item.bounds if isinstance(item, Monotone) else item
    axis = np.eye(network.n_inputs)[int(bounds.feature)]
    place = "everywhere" if bounds.domain is None else "inside the box"
    for low, sign in ((bounds.low, 1.0), (-bounds.high, -1.0)):
        if low == -math.inf:
            continue
        proved, _, how = proved_slope(pieces, sign * axis, bounds.domain, target=low, limits=Limits(max_nodes))
        relation = ">=" if sign > 0 else "<="
        if isinstance(item, Monotone):
            claim = f"f is {'nondecreasing' if item.sign > 0 else 'nonincreasing'} in feature {item.feature} {place}"
        else:
            claim = f"df/dx{item.feature} {relation} {exactly(sign * low)} {place}"
        quantity = f"{'smallest' if sign > 0 else 'largest'} slope in feature {bounds.feature}"
        yield Guarantee(
            item, claim, quantity, sign * fraction_down(proved) + 0.0, relation, sign * low + 0.0, how,
            network.fingerprint(), max_nodes=max_nodes,
        )  # fmt: skip


def _simple(network: Network, pieces: Pieces, item: Constraint) -> Guarantee:
    mark = network.fingerprint()
    if isinstance(item, Convex | Concave):
        sign = 1 if isinstance(item, Convex) else -1
        least = min((sign * jump for jump in pieces.kinks.values()), default=Fraction(0))
        word = "convex" if sign > 0 else "concave"
        bound = sign * fraction_down(least)
        relation, name = (">=", "smallest") if sign > 0 else ("<=", "largest")
        return Guarantee(item, f"f is {word}", f"{name} kink", bound + 0.0, relation, 0.0, RATIONAL, mark)
    if isinstance(item, FixedValue):
        bound = fraction_up(abs(pieces.at(item.point) - Fraction(item.value)))
        claim = f"f{_listed(item.point)} = {exactly(item.value)}"
        allowed = FIXED_TOLERANCE * (1.0 + abs(item.value))
        return Guarantee(item, claim, "deviation of the value", bound, "<=", allowed, RATIONAL, mark)
    if isinstance(item, FixedGradient):
        low, high = pieces.gradients_at(item.point)
        wanted = [Fraction(entry) for entry in item.gradient.tolist()]
        off = max(max(abs(a - w), abs(b - w)) for a, b, w in zip(low, high, wanted, strict=True))
        claim = f"grad f{_listed(item.point)} = {_listed(item.gradient)}"
        allowed = FIXED_TOLERANCE * (1.0 + float(np.abs(item.gradient).max()))
        return Guarantee(item, claim, "deviation of the gradient", fraction_up(off), "<=", allowed, RATIONAL, mark)
    return _symmetry(network, pieces, item)


def _symmetry(network: Network, pieces: Pieces, item: Constraint) -> Guarantee:
    d = network.n_inputs
    if isinstance(item, Invariant):
        matrices, character, claim = list(item.matrices), 1.0, f"f(Gx) = f(x) for {len(item.matrices)} matrices"
    elif isinstance(item, Even | Odd):
        character = 1.0 if isinstance(item, Even) else -1.0
        matrices, claim = [-np.eye(d)], "f(-x) = f(x)" if character > 0 else "f(-x) = -f(x)"
    else:
        raise CertificateError(f"No check is known for {type(item).__name__}.")
    broken = sum(pieces.moved(G, character) != pieces for G in matrices)
    return Guarantee(
        item, claim, "symmetries that fail", float(broken), "<=", 0.0, f"unique form in {RATIONAL}",
        network.fingerprint(),
    )  # fmt: skip


def _over_region(network: Network, item: UpperBound | LowerBound) -> Guarantee:
    asked = network if isinstance(item, UpperBound) else -network
    return _about_region(network, item, region_bound(asked, item.region))


def _about_region(network: Network, item: Any, certificate: Certificate) -> Guarantee:
    upper = isinstance(item, UpperBound)
    relation, word = ("<=", "largest") if upper else (">=", "smallest")
    bound = certificate.bound if upper else -certificate.bound
    claim = f"f {relation} {exactly(item.value)} on the region"
    return Guarantee(
        item, claim, f"{word} value on the region", bound, relation, float(item.value), certificate.method,
        network.fingerprint(), certificate,
    )  # fmt: skip


def _listed(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"

"""Demands of all constraints together: slopes, curvature, a group, fixed points, caps; contradictions are refused."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    _OfFeature,
)
from convexnn.exceptions import InvalidInputError
from convexnn.regions.region import Region, as_regions
from convexnn.threats import Box

Array = NDArray[np.float64]

#: Largest group of symmetries: the network has that many times the units.
MAX_GROUP = 64


@dataclass(frozen=True)
class SlopeDemand:
    """``direction' grad f >= low`` in the interior of the domain, everywhere for None."""

    direction: Array
    low: float
    domain: Box | None = None


@dataclass(frozen=True)
class Cap:
    """``sign f <= sign value`` on one region."""

    region: Region
    value: float
    sign: float


@dataclass(frozen=True)
class Shape:
    """All demands on a function of d inputs.

    Attributes
    ----------
    matrices : array, shape (g, d, d)
        A group with the identity first: ``f(G x) = character(G) f(x)``.
    characters : array, shape (g,)
    curvature : int
        +1 convex, -1 concave, 0 either.
    slopes : tuple of SlopeDemand
        Closed under the group.
    values : tuple of FixedValue
    gradients : tuple of FixedGradient
    caps : tuple of Cap
    """

    n_inputs: int
    matrices: Array
    characters: Array
    curvature: int = 0
    slopes: tuple[SlopeDemand, ...] = ()
    values: tuple[FixedValue, ...] = ()
    gradients: tuple[FixedGradient, ...] = ()
    caps: tuple[Cap, ...] = ()

    @property
    def is_odd(self) -> bool:
        """Whether some character is -1: then constants are excluded."""
        return bool((self.characters < 0).any())

    @property
    def projector(self) -> Array:
        """Matrix (d, d) that maps a linear term on the nearest one with the symmetry."""
        mean: Array = np.einsum("g,gij->ji", self.characters, self.matrices) / len(self.matrices)
        return mean

    @property
    def anchors(self) -> Array:
        """Points at which something is fixed, shape (r, d)."""
        points = [value.point for value in self.values] + [gradient.point for gradient in self.gradients]
        return np.unique(np.array(points), axis=0) if points else np.zeros((0, self.n_inputs))


def resolve(constraints: Any, n_inputs: int, feature_names: Sequence[str] | None = None) -> tuple[Constraint, ...]:
    """Constraints with features as numbers, checked one by one against the number of inputs.

    Raises
    ------
    InvalidInputError
        For something that is no constraint, or does not fit the inputs.
    """
    alone = isinstance(constraints, Constraint | type)
    if not alone and not isinstance(constraints, Iterable):
        raise InvalidInputError(
            f"constraints must be a constraint such as Monotone(0) or a sequence of them, got {constraints!r:.60}."
        )
    given = (constraints,) if alone else tuple(constraints)
    found: list[Constraint] = []
    for item in given:
        if not isinstance(item, Constraint):
            name = f"the class {item.__name__}" if isinstance(item, type) else type(item).__name__
            raise InvalidInputError(f"Expected constraints such as Monotone(0), got {name}.")
        found.append(item.resolved(feature_names, n_inputs) if isinstance(item, _OfFeature) else item)
        _require_inputs(found[-1], n_inputs)
    return tuple(found)


def _require_inputs(item: Constraint, d: int) -> None:
    size = d
    if isinstance(item, FixedValue | FixedGradient):
        size = len(item.point)
    elif isinstance(item, Invariant):
        size = item.matrices.shape[1]
    if size != d:
        raise InvalidInputError(f"{type(item).__name__} is about {size} inputs, but X has {d} columns.")
    if isinstance(item, UpperBound | LowerBound):
        as_regions(item.region, d)
    domain = getattr(item, "domain", None)
    if domain is not None:
        low, high = np.broadcast_to(domain.lower, (d,)), np.broadcast_to(domain.upper, (d,))
        if (low >= high).any():
            raise InvalidInputError("The domain of a bound on slopes needs an interior: lower < upper everywhere.")


def shape_of(constraints: Sequence[Constraint], n_inputs: int) -> Shape:
    """Demands of resolved constraints.

    Raises
    ------
    InvalidInputError
        When two of them contradict each other, or leave constants or linear functions only.
    """
    matrices, characters = _group(constraints, n_inputs)
    kinds = {type(item) for item in constraints}
    if {Convex, Concave} <= kinds:
        raise InvalidInputError("Convex and Concave together leave only affine functions; fit a linear model.")
    curvature = 1 if Convex in kinds else -1 if Concave in kinds else 0
    if curvature and (characters < 0).any():
        raise InvalidInputError("Odd together with Convex or Concave leaves only linear functions; fit a linear model.")
    slopes = _closed_slopes(constraints, n_inputs, matrices, characters)
    _refuse_contradicting_slopes(slopes)
    values = tuple(item for item in constraints if isinstance(item, FixedValue))
    gradients = tuple(item for item in constraints if isinstance(item, FixedGradient))
    shape = Shape(n_inputs, matrices, characters, curvature, slopes, values, gradients, _caps(constraints, n_inputs))
    _refuse_contradicting_points(shape)
    return shape


def _group(constraints: Sequence[Constraint], d: int) -> tuple[Array, Array]:
    generators: list[tuple[Array, float]] = []
    for item in constraints:
        if isinstance(item, Even | Odd):
            generators.append((-np.eye(d), 1.0 if isinstance(item, Even) else -1.0))
        if isinstance(item, Invariant):
            generators += [(matrix, 1.0) for matrix in item.matrices]
    found = {np.eye(d).tobytes(): (np.eye(d), 1.0)}
    front = list(found.values())
    while front:
        grown = [(G @ H + 0.0, chi * psi) for G, chi in front for H, psi in generators]
        front = []
        for G, chi in grown:
            known = found.get(G.tobytes())
            if known is not None and known[1] != chi:
                raise InvalidInputError("The symmetries ask for f = -f: the only such function is zero.")
            if known is None:
                found[G.tobytes()] = (G, chi)
                front.append((G, chi))
        if len(found) > MAX_GROUP:
            raise InvalidInputError(f"The symmetries generate more than {MAX_GROUP} matrices; ask for fewer of them.")
    return np.array([G for G, _ in found.values()]), np.array([chi for _, chi in found.values()])


def _closed_slopes(
    constraints: Sequence[Constraint], d: int, matrices: Array, characters: Array
) -> tuple[SlopeDemand, ...]:
    """One-sided demands; ``f(Gx) = chi f(x)`` turns one in direction e into one in direction ``chi G e``."""
    found: dict[tuple[bytes, bytes], SlopeDemand] = {}
    for item in constraints:
        bounds = item.bounds if isinstance(item, Monotone) else item
        if not isinstance(bounds, SlopeBounds):
            continue
        axis = np.eye(d)[int(bounds.feature)]
        for direction, low in ((axis, bounds.low), (-axis, -bounds.high)):
            if low == -math.inf:
                continue
            for G, chi in zip(matrices, characters, strict=True):
                demand = SlopeDemand(chi * (G @ direction) + 0.0, low, _moved(bounds.domain, G))
                key = demand.direction.tobytes(), _corner_bytes(demand.domain)
                if key not in found or found[key].low < low:
                    found[key] = demand
    return tuple(found.values())


def _moved(domain: Box | None, G: Array) -> Box | None:
    if domain is None:
        return None
    low, high = G @ np.broadcast_to(domain.lower, len(G)), G @ np.broadcast_to(domain.upper, len(G))
    return Box(np.minimum(low, high), np.maximum(low, high))


def _corner_bytes(domain: Box | None) -> bytes:
    return b"" if domain is None else domain.lower.tobytes() + domain.upper.tobytes()


def _refuse_contradicting_slopes(slopes: Sequence[SlopeDemand]) -> None:
    for i, one in enumerate(slopes):
        for other in slopes[:i]:
            opposite = np.array_equal(one.direction, -other.direction)
            same = _corner_bytes(one.domain) == _corner_bytes(other.domain) or None in (one.domain, other.domain)
            feature = int(np.flatnonzero(one.direction)[0])
            if opposite and same and one.low + other.low > 0:
                raise InvalidInputError(
                    f"The constraints ask of feature {feature} for a slope above {max(one.low, -other.low):g} and "
                    f"below {min(one.low, -other.low):g} at once."
                )
            if opposite and same and one.low + other.low == 0:
                raise InvalidInputError(
                    f"The slope of f in feature {feature} would be {one.low + 0.0:g} everywhere (symmetries count): "
                    "f would not depend on it but for that term; drop that column, or one of the constraints."
                )


def _caps(constraints: Sequence[Constraint], d: int) -> tuple[Cap, ...]:
    return tuple(
        Cap(region, item.value, 1.0 if isinstance(item, UpperBound) else -1.0)
        for item in constraints
        if isinstance(item, UpperBound | LowerBound)
        for region in as_regions(item.region, d)
    )


def _refuse_contradicting_points(shape: Shape) -> None:
    for i, one in enumerate(shape.values):
        for G, chi in zip(shape.matrices, shape.characters, strict=True):
            for other in (*shape.values[:i], one):
                if np.array_equal(G @ other.point, one.point) and chi * other.value != one.value:
                    raise InvalidInputError(
                        f"The constraints (and symmetries) ask for two values at {one.point}: "
                        f"{chi * other.value:g} and {one.value:g}."
                    )
        for other in (*shape.values[:i], *shape.values[i + 1 :]):
            rise = _least_rise(shape.slopes, other.point, one.point)
            apart = not np.array_equal(one.point, other.point)
            if apart and rise > one.value - other.value + 1e-12 * (1 + abs(rise)):
                raise InvalidInputError(
                    f"The bounds on slopes contradict the values {other.value:g} at {other.point} and {one.value:g} at "
                    f"{one.point}: f rises by at least {rise:g} from the one to the other."
                )
        for cap in shape.caps:
            if cap.sign * one.value > cap.sign * cap.value and cap.region.contains(one.point[None])[0]:
                raise InvalidInputError(
                    f"f({one.point}) = {one.value:g} contradicts the bound {cap.value:g} on a region with that point."
                )
    for gradient in shape.gradients:
        for demand in shape.slopes:
            inside = demand.domain is None or bool(
                ((gradient.point > demand.domain.lower) & (gradient.point < demand.domain.upper)).all()
            )
            if inside and float(demand.direction @ gradient.gradient) < demand.low:
                raise InvalidInputError(f"The gradient at {gradient.point} contradicts the bounds on slopes.")


def _least_rise(slopes: Sequence[SlopeDemand], start: Array, end: Array) -> float:
    """Lower bound on ``f(end) - f(start)`` from the slopes along the coordinates that change; ``-inf`` without."""
    total = 0.0
    for j, step in enumerate((end - start).tolist()):
        if step:
            axis = np.sign(step) * np.eye(len(start))[j]
            lows = [s.low for s in slopes if s.domain is None and np.array_equal(s.direction, axis)]
            total += abs(step) * max(lows, default=-math.inf)
    return total

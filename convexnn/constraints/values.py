"""What a user may demand of a network: small frozen values, one class a property.

Features are numbers, or names where feature names are known. Everything is in raw input and output units.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import is_one_of, real_array
from convexnn.threats import Box
from convexnn.values import ByValue

Array = NDArray[np.float64]


def _vector(values: ArrayLike, name: str, ndim: int = 1) -> Array:
    array = real_array(values, name).copy()
    if array.ndim != ndim or not array.size or not np.isfinite(array).all():
        raise InvalidInputError(f"{name} must be a finite array with {ndim} dimension(s), got shape {array.shape}.")
    array.flags.writeable = False
    return array


def _number(value: Any, name: str, *, infinite: bool = False) -> float:
    if (
        not isinstance(value, numbers.Real)
        or isinstance(value, bool)
        or math.isnan(float(value))
        or (math.isinf(float(value)) and not infinite)
    ):
        raise InvalidInputError(f"{name} must be a {'' if infinite else 'finite '}number, got {value!r}.")
    return float(value)


@dataclass(frozen=True, eq=False)
class Constraint(ByValue):
    """Base class of all constraints on a network."""


@dataclass(frozen=True, eq=False)
class _OfFeature(Constraint):
    feature: int | str

    def resolved(self, names: Sequence[str] | None, n_features: int) -> _OfFeature:
        """The same with the number of the feature, counted from the front."""
        return replace(self, feature=feature_number(self.feature, names, n_features))


@dataclass(frozen=True, eq=False)
class SlopeBounds(_OfFeature):
    """``low <= df/dx_feature <= high`` (``low < high``) everywhere, or in the interior of ``domain``.

    Parameters
    ----------
    feature : int or str
        Number of the feature, or its name where names are known.
    low, high : float
        Output units per unit of the feature; infinite for no bound.
    domain : Box or None
        Where it has to hold; None for all inputs.
    """

    low: float = -math.inf
    high: float = math.inf
    domain: Box | None = None

    def __post_init__(self) -> None:
        """Refuse bounds that leave nothing."""
        low, high = _number(self.low, "low", infinite=True), _number(self.high, "high", infinite=True)
        if low >= high or low == math.inf or high == -math.inf:
            raise InvalidInputError(
                f"Slopes need low < high, got {low:g} and {high:g}; for one fixed slope subtract that times the "
                "feature from y and drop the column."
            )
        if self.domain is not None and not isinstance(self.domain, Box):
            raise InvalidInputError(f"domain must be a Box or None, got {type(self.domain).__name__}.")


@dataclass(frozen=True, eq=False)
class Monotone(_OfFeature):
    """f is nondecreasing (``sign=1``) or nonincreasing (``sign=-1``) in a feature, everywhere or inside ``domain``.

    Parameters
    ----------
    feature : int or str
        Number of the feature, or its name where names are known.
    sign : {1, -1}, default=1
        Nondecreasing or nonincreasing.
    domain : Box or None, default=None
        Where it has to hold; None for all inputs.
    """

    sign: int = 1
    domain: Box | None = None

    def __post_init__(self) -> None:
        """Refuse other signs."""
        if self.sign not in (1, -1):
            raise InvalidInputError(f"sign must be 1 (nondecreasing) or -1 (nonincreasing), got {self.sign!r}.")
        if self.domain is not None and not isinstance(self.domain, Box):
            raise InvalidInputError(f"domain must be a Box or None, got {type(self.domain).__name__}.")

    @property
    def bounds(self) -> SlopeBounds:
        """The same as bounds on the slope."""
        low, high = (0.0, math.inf) if self.sign > 0 else (-math.inf, 0.0)
        return SlopeBounds(self.feature, low, high, self.domain)


@dataclass(frozen=True, eq=False)
class Convex(Constraint):
    """f is a convex function of all inputs together."""


@dataclass(frozen=True, eq=False)
class Concave(Constraint):
    """f is a concave function of all inputs together."""


@dataclass(frozen=True, eq=False)
class _OverRegion(Constraint):
    region: Any
    value: float

    def __post_init__(self) -> None:
        """Refuse values that are no number."""
        _number(self.value, "value")


@dataclass(frozen=True, eq=False)
class UpperBound(_OverRegion):
    """``f(x) <= value`` for all x of a region.

    Parameters
    ----------
    region : Region, L2Ball, LInfBall, Box, or a sequence of these
        As in :func:`convexnn.region_bound`; for a sequence, all of its members.
    value : float
        Output units.
    """


@dataclass(frozen=True, eq=False)
class LowerBound(_OverRegion):
    """``f(x) >= value`` for all x of a region.

    Parameters
    ----------
    region : Region, L2Ball, LInfBall, Box, or a sequence of these
        As in :class:`UpperBound`.
    value : float
        Output units.
    """


@dataclass(frozen=True, eq=False)
class Even(Constraint):
    """``f(-x) = f(x)`` for all x."""


@dataclass(frozen=True, eq=False)
class Odd(Constraint):
    """``f(-x) = -f(x)`` for all x."""


@dataclass(frozen=True, eq=False, init=False)
class Invariant(Constraint):
    """``f(G x) = f(x)`` for all x and for every product of the given signed permutation matrices.

    Parameters
    ----------
    matrices : array, shape (d, d) or (k, d, d)
        One entry -1 or +1 in every row and column, zeros elsewhere: exchanges and mirrors of coordinates.
    """

    matrices: Array

    def __init__(self, matrices: ArrayLike) -> None:
        given = real_array(matrices, "matrices")
        stack = _vector(given[None] if given.ndim == 2 else given, "matrices", 3)
        signed = np.isin(stack, (-1.0, 0.0, 1.0)).all() and stack.shape[1] == stack.shape[2]
        if not signed or (np.abs(stack).sum(axis=1) != 1).any() or (np.abs(stack).sum(axis=2) != 1).any():
            raise InvalidInputError(
                "Invariant takes signed permutation matrices (d, d): one entry -1 or +1 in every row and column, else "
                "zero. Rotate the inputs so that the symmetry exchanges or mirrors coordinates."
            )
        object.__setattr__(self, "matrices", stack)


@dataclass(frozen=True, eq=False, init=False)
class FixedValue(Constraint):
    """``f(point) = value`` (up to the rounding of one output bias, which is stated).

    Parameters
    ----------
    point : array-like, shape (n_features,)
        Raw input units.
    value : float, default=0.0
        Output units.
    """

    point: Array
    value: float

    def __init__(self, point: ArrayLike, value: float = 0.0) -> None:
        object.__setattr__(self, "point", _vector(np.atleast_1d(np.asarray(point)), "point"))
        object.__setattr__(self, "value", _number(value, "value"))


@dataclass(frozen=True, eq=False, init=False)
class FixedGradient(Constraint):
    """``grad f(point) = gradient`` (up to the rounding of the weights, which is stated).

    Parameters
    ----------
    point : array-like, shape (n_features,)
        Raw input units.
    gradient : array-like, shape (n_features,)
        Output units per unit of each feature.
    """

    point: Array
    gradient: Array

    def __init__(self, point: ArrayLike, gradient: ArrayLike) -> None:
        object.__setattr__(self, "point", _vector(np.atleast_1d(np.asarray(point)), "point"))
        object.__setattr__(self, "gradient", _vector(np.atleast_1d(np.asarray(gradient)), "gradient"))
        if self.point.shape != self.gradient.shape:
            raise InvalidInputError(
                f"point and gradient must have one shape, got {self.point.shape} and {self.gradient.shape}."
            )


def feature_number(feature: Any, names: Sequence[str] | None, n_features: int) -> int:
    """Number of a feature given as a number or a name.

    Raises
    ------
    InvalidInputError
        For a name that is not there, or a number out of range.
    """
    if isinstance(feature, str):
        known = [] if names is None else [str(name) for name in names]
        if feature not in known:
            hint = f"the names are {known}" if known else "no names are known: fit on a data frame or give its number"
            raise InvalidInputError(f"There is no feature {feature!r}; {hint}.")
        return known.index(feature)
    if isinstance(feature, bool) or not isinstance(feature, int | np.integer) or not 0 <= feature < n_features:
        raise InvalidInputError(f"A feature is a name or a number from 0 to {n_features - 1}, got {feature!r}.")
    return int(feature)


def monotone_constraints(
    monotonic_cst: Any, n_features: int, feature_names: Sequence[str] | None = None
) -> tuple[Monotone, ...]:
    """Constraints of a ``monotonic_cst`` as scikit-learn's tree models take it.

    Parameters
    ----------
    monotonic_cst : None, array-like of int, shape (n_features,), or mapping of feature name to int
        +1 nondecreasing, -1 nonincreasing, 0 no constraint; a feature left out of a mapping has none.
    n_features : int
    feature_names : sequence of str or None
        Names of the columns, for a mapping.

    Returns
    -------
    tuple of Monotone

    Raises
    ------
    InvalidInputError
        For wrong shapes, values other than -1, 0, 1, or names that are not there.
    """
    if monotonic_cst is None:
        return ()
    if isinstance(monotonic_cst, Mapping):
        if feature_names is None:
            raise InvalidInputError(
                "monotonic_cst names features, but X has no feature names; give an array, or fit on a data frame, in a "
                'Pipeline with set_output(transform="pandas").'
            )
        pairs = [(feature_number(name, feature_names, n_features), value) for name, value in monotonic_cst.items()]
    else:
        try:
            values = np.asarray(monotonic_cst)
        except ValueError as error:
            raise InvalidInputError(
                f"monotonic_cst has rows of different lengths; expected {n_features} numbers -1, 0 or 1, one a feature."
            ) from error
        if values.shape != (n_features,):
            raise InvalidInputError(
                f"monotonic_cst has shape {values.shape}, but X has {n_features} features; give one value a feature."
            )
        pairs = list(enumerate(values.tolist()))
    strange = [value for _, value in pairs if not is_one_of(value, (-1, 0, 1))]
    if strange:
        raise InvalidInputError(f"monotonic_cst must hold -1, 0 or 1, got {strange[0]!r}.")
    return tuple(Monotone(number, int(value)) for number, value in sorted(pairs) if value)

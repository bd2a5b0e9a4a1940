"""Arrays that users hand over, as float64, or a sentence that says what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from convexnn.exceptions import CertificateError, InvalidInputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

#: Numbers above this overflow when they are squared and summed.
LARGEST = 1e150


def as_floats(values: Any, name: str, *, largest: float = LARGEST) -> NDArray[np.float64]:
    """Real numbers as a float64 array of any shape; NaN and infinity pass.

    Parameters
    ----------
    values : array-like
        Dense; numbers in any type, order and layout, or objects that are numbers.
    name : str
        What the numbers are called in an error.
    largest : float
        Finite entries above this are refused.

    Raises
    ------
    InvalidInputError
        For sparse, complex, ragged or textual data, and for numbers whose squares overflow.
    """
    array = real_array(values, name)
    size = np.abs(array)
    if np.isfinite(size).all() and size.max(initial=0.0) > largest:
        raise InvalidInputError(f"{name} holds numbers above {largest:g}, whose squares overflow; rescale it")
    return array


def real_array(values: Any, name: str) -> NDArray[np.float64]:
    """Real numbers of any size and shape as float64: :func:`as_floats` without a largest one.

    Raises
    ------
    InvalidInputError
        For sparse, complex, ragged or textual data, numbers written as text included.
    """
    if issparse(values):
        raise InvalidInputError(f"{name} is a sparse matrix; expected a dense array, such as its toarray()")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidInputError(f"{name} has rows of different lengths; expected an array of numbers") from error
    if np.iscomplexobj(array):
        raise InvalidInputError(f"{name} holds complex numbers; expected real ones")
    text = next((x for x in array.flat if isinstance(x, str | bytes)), None) if array.dtype.kind in "OSUT" else None
    if text is not None:
        raise InvalidInputError(f"{name} must hold numbers, not text such as {str(text)[:30]!r}; convert it first")
    if array.dtype.kind not in "biufO":
        raise InvalidInputError(f"{name} must hold numbers; got an array of dtype {array.dtype}")
    try:
        return array.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"{name} must hold numbers; no array of floats: {error}") from error


def as_number(value: Any, name: str) -> float:
    """One real number; NaN and infinity pass.

    Raises
    ------
    InvalidInputError
        For anything else; so are numbers written as text, arrays of one number, and True and False.
    """
    array = real_array(value, name)
    if array.ndim or isinstance(value, bool | np.bool_):
        raise InvalidInputError(f"{name} must be a number, got {value!r:.60}.")
    return float(array)


def positive_number(value: Any, name: str, *, zero: bool = False, infinite: bool = False) -> float:
    """One number above zero, or zero where that is allowed; finite unless ``infinite``.

    Raises
    ------
    InvalidInputError
    """
    number = as_number(value, name)
    if not (number > 0 or (zero and number == 0)) or (math.isinf(number) and not infinite):
        expected = f"{'number' if infinite else 'finite number'} {'>=' if zero else '>'} 0"
        raise InvalidInputError(f"{name}={value!r} was given; expected a {expected}")
    return number


def whole_number(value: Any, name: str, least: int = 1) -> int:
    """One integer of at least ``least``, also as a float such as 3.0.

    Raises
    ------
    InvalidInputError
    """
    number = as_number(value, name)
    if not math.isfinite(number) or number != int(number) or number < least:
        raise InvalidInputError(f"{name}={value!r} was given; expected an integer of at least {least}")
    return int(number)


def seconds_or_none(value: Any, name: str = "time_limit") -> float | None:
    """Seconds, at least zero and perhaps infinitely many, or None for no limit.

    Raises
    ------
    InvalidInputError
    """
    return None if value is None else positive_number(value, f"{name} (seconds, or None)", zero=True, infinite=True)


def generator_of(random_state: Any) -> np.random.Generator:
    """Generator of anything that numpy seeds one with.

    Raises
    ------
    InvalidInputError
    """
    try:
        if isinstance(random_state, bool | str | bytes | float):
            raise TypeError("no seed")
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"random_state must be None, an integer >= 0 or a Generator, got {random_state!r:.60}."
        ) from error


def is_one_of(value: Any, options: Collection[Any]) -> bool:
    """Whether a value is one of these; False also for what cannot be compared, such as arrays, and for True and False.

    Parameters
    ----------
    value : object
    options : collection
        Of numbers, names or None.
    """
    try:
        return not isinstance(value, bool | np.bool_) and not isinstance(value, np.ndarray) and bool(value in options)
    except (TypeError, ValueError):
        return False


def real_or_nan(values: Any) -> NDArray[np.float64]:
    """A multiplier as float64; NaN, which proves nothing, in place of complex numbers: they have no part to use.

    Raises
    ------
    TypeError, ValueError
        For what numpy makes no floats of.
    """
    array = np.asarray(values)
    return np.full(array.shape, np.nan) if np.iscomplexobj(array) else array.astype(np.float64, copy=False)


def multipliers_of(evidence: T, *, whole: tuple[str, ...] = ()) -> T | None:
    """The same value with every array of numbers in float64, so that no arithmetic is done in a narrower type.

    Parameters
    ----------
    evidence : dataclass
        Fields are arrays, or None.
    whole : tuple of str
        Fields that stay what they are, such as indices.

    Returns
    -------
    dataclass or None
        None where a field is no array of real numbers.
    """
    found: dict[str, Any] = {}
    for item in fields(evidence):
        given = getattr(evidence, item.name)
        if given is None or item.name in whole:
            continue
        try:
            found[item.name] = real_array(given, item.name)
        except InvalidInputError:
            return None
    return replace(evidence, **found)


def class_indices(labels: Any, n_outputs: int, *, n: int | None = None, present: int = 1) -> NDArray[np.intp]:
    """Class indices (n,) of a network with so many outputs; with one output there are two classes.

    Parameters
    ----------
    labels : array-like or tensor, shape (n,)
        Integers, booleans, or floats that are integers.
    n_outputs : int
    n : int, optional
        Number of samples, checked.
    present : int
        Least number of different classes; one asks for nothing, not even for samples.

    Raises
    ------
    InvalidInputError
    """
    y, classes = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels), max(n_outputs, 2)
    rows = "one a sample" if n is None else f"one for each of the {n} rows of X"
    usable = y.ndim == 1 and y.dtype.kind in "biuf" and np.isin(y, np.arange(classes)).all()
    if not usable or n not in (None, len(y)):
        raise InvalidInputError(f"y must hold class indices 0 to {classes - 1}, {rows}; got {_shown(y)}.")
    if present > 1 and len(np.unique(y)) < present:
        raise InvalidInputError("y holds one class only; a classifier needs samples of two.")
    return y.astype(np.intp)


def _shown(y: NDArray[Any]) -> str:
    return f"an array of shape {y.shape} and type {y.dtype}" + (
        f" with the values {y[:5].tolist()} ..." if y.ndim else ""
    )


def refuse_complex(multiplier: Mapping[str, Any]) -> None:
    """CertificateError for arrays of complex numbers, whose real part proves nothing."""
    found = next((name for name, values in multiplier.items() if np.iscomplexobj(values)), None)
    if found is not None:
        raise CertificateError(f"The multiplier {found!r} holds complex numbers; expected real ones.")

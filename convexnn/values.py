"""Equality of values that hold arrays: field by field, arrays by their entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np


class ByValue:
    """Mixin for frozen dataclasses (``eq=False``): equal when all fields are; NaN equals NaN.

    The hash sees what is neither array nor container, which equal values share.
    """

    def __eq__(self, other: object) -> bool:
        """Same type and equal fields."""
        if type(self) is not type(other):
            return NotImplemented
        return all(_same(getattr(self, item.name), getattr(other, item.name)) for item in fields(self))  # type: ignore[arg-type]

    def __hash__(self) -> int:
        """Hash of the type and its plain fields."""
        plain = [getattr(self, item.name) for item in fields(self)]  # type: ignore[arg-type]
        return hash((type(self), *(repr(value) for value in plain if isinstance(value, (str, int)))))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return a is not None and b is not None and _same_arrays(np.asarray(a), np.asarray(b))
    return bool(a == b) or bool(a != a and b != b)  # NaN


def _same_arrays(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f"))

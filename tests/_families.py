"""Families of tests over a list of cases: some members run in the quick suite, all of them in the whole one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest


def few(cases: Iterable[Any] | Mapping[str, Any], keep: int | Iterable[Any] = 1) -> list[Any]:
    """Values for ``parametrize``, all but the kept ones marked slow.

    Parameters
    ----------
    cases : values, or names with values; names become the ids.
    keep : how many of the first stay quick, or which ones (names of a mapping, else values).
    """
    named = dict(cases) if isinstance(cases, Mapping) else {value: value for value in cases}
    quick = list(named)[:keep] if isinstance(keep, int) else list(keep)
    unknown = [key for key in quick if key not in named]
    assert not unknown, f"no such case: {unknown}"
    ids = {key: key for key in named} if isinstance(cases, Mapping) else dict.fromkeys(named)
    slow = pytest.mark.slow
    return [pytest.param(named[key], id=ids[key], marks=() if key in quick else slow) for key in named]

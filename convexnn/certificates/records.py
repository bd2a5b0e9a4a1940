"""Columns of numbers as a pandas frame or a CSV file; what a table writes down, one row a result."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convexnn.exceptions import InvalidInputError

Columns = Mapping[str, Sequence[Any]]


def flat(**columns: Any) -> dict[str, list[Any]]:
    """Arrays that broadcast against each other as columns of equal length, first axis slowest."""
    spread = np.broadcast_arrays(*(np.asarray(values) for values in columns.values()))
    return {name: values.ravel().tolist() for name, values in zip(columns, spread, strict=True)}


def as_frame(columns: Mapping[str, Any]) -> Any:
    """A :class:`pandas.DataFrame`; needs pandas."""
    try:
        import pandas as pd
    except ImportError as error:
        raise InvalidInputError("Data frames need the package pandas; run `pip install pandas`.") from error
    return pd.DataFrame(dict(columns))


def write_csv(columns: Columns, path: str | os.PathLike[str]) -> Path:
    """Comma-separated values with all digits and a header; returns the path."""
    target = Path(path)
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return target

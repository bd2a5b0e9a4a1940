"""From checked values to arrays: categories become numbers, rows become splits, all of it becomes a Bunch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from convexnn.datasets.tables import Table
from convexnn.exceptions import InvalidInputError

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

N_SPLITS = 10
SPLIT_SEED = 0


@dataclass(frozen=True)
class Coded:
    """Features as numbers.

    Parameters
    ----------
    data : array, shape (n, d)
    names : list of str
        One per column.
    categories : dict of str to list of str
        Of each categorical feature, in the order of its codes.
    """

    data: Array
    names: list[str]
    categories: dict[str, list[str]]


def encode(table: Table, values: Mapping[str, list[str]], features: Sequence[str], encoding: str) -> Coded:
    """Features of a table as numbers; text is coded by its place in the categories, or by one column for each."""
    columns: list[Array] = []
    names: list[str] = []
    categories: dict[str, list[str]] = {}
    for feature in features:
        column = table.column(feature)
        if not (column.text or column.categories):
            columns.append(np.array([float(value) for value in values[feature]]))
            names.append(feature)
            continue
        kinds = list(column.categories) or sorted(set(values[feature]))
        codes = np.array([kinds.index(value) for value in values[feature]])
        categories[feature] = kinds
        onehot = encoding == "onehot"
        columns.extend(np.eye(len(kinds))[codes].T if onehot else [codes.astype(float)])
        names.extend([f"{feature}={kind}" for kind in kinds] if onehot else [feature])
    return Coded(np.column_stack(columns), names, categories)


def check_split(split: int | None, *, required: bool = False) -> None:
    """Refuse what is not the number of a split."""
    if split is None and not required:
        return
    if isinstance(split, bool) or not isinstance(split, (int, np.integer)) or not 0 <= split < N_SPLITS:
        raise InvalidInputError(f"split must be an integer from 0 to {N_SPLITS - 1}, got {split!r}.")


def ten_fold_rows(n: int, split: int) -> tuple[Rows, Rows]:
    """Sorted training and test rows of one of ten fixed splits; every row is a test row in exactly one."""
    # RandomState, because numpy promises that its stream never changes; default_rng's may
    parts = np.array_split(np.random.RandomState(SPLIT_SEED).permutation(n), N_SPLITS)
    return np.sort(np.concatenate(parts[:split] + parts[split + 1 :])), np.sort(parts[split])


def make_bunch(
    data: Array,
    target: NDArray[Any],
    feature_names: list[str],
    target_name: str,
    *,
    rows: tuple[Rows, Rows] | None,
    return_X_y: bool,
    as_frame: bool,
    **details: Any,
) -> Any:
    """Bunch of a data set, or the arrays alone; pandas objects if asked for."""
    X, y, frame = _framed(data, target, feature_names, target_name) if as_frame else (data, target, None)
    parts = {} if rows is None else _parts(X, y, rows)
    if return_X_y:
        return tuple(parts.values()) if parts else (X, y)
    numbers = {} if rows is None else {"train": rows[0], "test": rows[1]}
    return Bunch(
        data=X,
        target=y,
        frame=frame,
        feature_names=list(feature_names),
        target_names=[target_name],
        **numbers,
        **parts,
        **details,
    )


def _parts(X: Any, y: Any, rows: tuple[Rows, Rows]) -> dict[str, Any]:
    (train, test), (X, y) = rows, (getattr(X, "iloc", X), getattr(y, "iloc", y))
    return {"X_train": X[train], "y_train": y[train], "X_test": X[test], "y_test": y[test]}


def _framed(data: Array, target: NDArray[Any], feature_names: list[str], target_name: str) -> tuple[Any, Any, Any]:
    import pandas as pd

    X = pd.DataFrame(data, columns=feature_names)
    y = pd.Series(target, name=target_name)
    return X, y, pd.concat([X, y], axis=1)

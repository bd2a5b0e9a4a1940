"""Data and networks from files, with errors that say where."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.network import Network

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Data:
    """Rows to learn from: inputs, one target, and where they came from."""

    X: Array
    y: Array
    features: tuple[str, ...]
    target: str
    source: str

    def __str__(self) -> str:
        """Source and sizes on one line."""
        return f"{self.source}: {len(self.X)} rows, {self.X.shape[1]} features, target {self.target!r}"


def load_network(path: str) -> Network:
    """Read a network saved by convexnn (``.npz``) or a fully connected ONNX model (``.onnx``)."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".npz", ".onnx"):
        raise InvalidInputError(f"A network is an .npz file of convexnn or an .onnx file, got {path!r}.")
    return Network.from_onnx(path) if suffix == ".onnx" else Network.load(path)


def load_data(path: str | None, bundled: str | None = None, target: str | None = None) -> Data:
    """Read a csv or npz file, or a bundled data set; exactly one of ``path`` and ``bundled`` is given.

    Raises
    ------
    InvalidInputError
        For unreadable, ragged, missing or non-numeric data; names line and column.
    """
    if (path is None) == (bundled is None):
        raise InvalidInputError("Give either a data file or --data diabetes.")
    if target is not None and (path is None or Path(path).suffix.lower() == ".npz"):
        raise InvalidInputError("--target is for csv files; other data come with their target.")
    if path is None:
        return _diabetes()
    if Path(path).suffix.lower() == ".npz":
        return _from_npz(path)
    return _from_csv(path, target)


def _diabetes() -> Data:
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    return Data(
        np.asarray(bunch.data, dtype=float),
        np.asarray(bunch.target, dtype=float),
        tuple(bunch.feature_names),
        "disease progression",
        "diabetes (scikit-learn), raw units",
    )


def _from_npz(path: str) -> Data:
    try:
        with np.load(path, allow_pickle=False) as file:
            X, y = np.asarray(file["X"], dtype=float), np.asarray(file["y"], dtype=float)
    except (KeyError, ValueError, EOFError, BadZipFile) as error:
        raise InvalidInputError(f"{path} must be an npz file with numeric arrays X and y: {error}.") from error
    if X.ndim != 2 or y.shape != (len(X),) or not X.size:
        raise InvalidInputError(f"{path}: expected X (n, d) and y (n,), got {X.shape} and {y.shape}.")
    if not (np.isfinite(X).all() and np.isfinite(y).all()):
        raise InvalidInputError(f"{path}: X or y holds NaN or infinite values.")
    return Data(X, y, tuple(f"x{j + 1}" for j in range(X.shape[1])), "y", path)


def _from_csv(path: str, target: str | None) -> Data:
    lines = _read_lines(path)
    header = None if all(_is_number(cell) for cell in lines[0][1]) else lines.pop(0)[1]
    if not lines:
        raise InvalidInputError(f"{path} has a header but no rows.")
    width = len(lines[0][1]) if header is None else len(header)
    names = [cell.strip() for cell in header] if header else [f"column {j + 1}" for j in range(width)]
    values = np.array([_numbers(path, number, cells, names) for number, cells in lines])
    column = _target_column(names, target)
    if width < 2:
        raise InvalidInputError(f"{path} has one column; at least one feature and a target are needed.")
    return Data(
        np.delete(values, column, axis=1),
        values[:, column],
        tuple(name for j, name in enumerate(names) if j != column),
        names[column],
        path,
    )


def _read_lines(path: str) -> list[tuple[int, list[str]]]:
    """Non-empty lines with their numbers, split at the separator that the first of them uses."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not a text file in UTF-8: {error}.") from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=first.count)
    try:
        rows = csv.reader(text.splitlines(), delimiter=separator, skipinitialspace=True, strict=True)
        lines = [(rows.line_num, row) for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InvalidInputError(f"{path} is not a readable csv file: {error}.") from error
    if not lines:
        raise InvalidInputError(f"{path} is empty.")
    return lines


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()  # an empty cell is a missing number, not a name
    return True


def _numbers(path: str, line: int, cells: list[str], names: list[str]) -> list[float]:
    if len(cells) != len(names):
        raise InvalidInputError(f"{path}, line {line}: expected {len(names)} values, got {len(cells)}.")
    values = []
    for name, cell in zip(names, cells, strict=True):
        if not cell.strip():
            raise InvalidInputError(f"{path}, line {line}: {name!r} is missing; fill it or drop the row.")
        try:
            values.append(float(cell))
        except ValueError as error:
            raise InvalidInputError(f"{path}, line {line}: {name!r} is {cell!r}, expected a number.") from error
        if not np.isfinite(values[-1]):
            raise InvalidInputError(f"{path}, line {line}: {name!r} is {cell!r}, expected a finite number.")
    return values


def _target_column(names: list[str], target: str | None) -> int:
    if target is None:
        return len(names) - 1
    if target in names:
        return names.index(target)
    if target.isdigit() and 1 <= int(target) <= len(names):
        return int(target) - 1
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    raise InvalidInputError(f"There is no column {target!r}; the columns are {shown}.")

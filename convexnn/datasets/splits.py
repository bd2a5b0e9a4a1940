"""The ten fixed splits of the uci_datasets collection, read from a folder that holds its tables and masks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.datasets.bunches import N_SPLITS, check_split, make_bunch
from convexnn.exceptions import DatasetError, InvalidInputError

Array = NDArray[np.float64]
PathLike = str | os.PathLike[str]

_COMMON = """
Origin: UCI Machine Learning Repository, licence CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), in the
numeric version of the uci_datasets collection (T. W. Evans, https://github.com/treforevans/uci_datasets): rows
shuffled, the mean taken off every column, five digits kept. Every row is a test row in exactly one of the ten splits.

Quirks
------
"""


@dataclass(frozen=True)
class _Numeric:
    """One table of the collection, the last column the target."""

    file: str
    n_rows: int
    features: tuple[str, ...]
    target: str
    quirks: str

    @property
    def description(self) -> str:
        title = f"Splits of {self.file}"
        return f"{title}\n{'=' * len(title)}\n{_COMMON}{self.quirks}"


_SERVO = _Numeric(
    "servo",
    167,
    ("motor", "screw", "pgain", "vgain"),
    "log(class)",
    "The target is log(class), the logarithm of the rise time. Letters A to E stand as 0 to 4, less their mean.\n",
)
_MACHINE = _Numeric(
    "machine",
    209,
    ("vendor", "MYCT", "MMIN", "MMAX", "CACH", "CHMIN", "CHMAX"),
    "log(PRP)",
    "The target is log(PRP). A vendor number stands in front of the six features. In the two rows of the vendor Wang\n"
    "this number and MYCT are run together (29 and 480 became 29480), so that the rest stands one column to the left:\n"
    "their CHMAX is PRP and their target log(ERP). The other 207 rows are those of UCI's machine.data.\n",
)
_SOLAR = _Numeric(
    "solar",
    1066,
    (
        "class",
        "largest_spot_size",
        "spot_distribution",
        "activity",
        "evolution",
        "past_activity",
        "historically_complex",
        "hc_past",
        "area",
        "area_largest",
    ),
    "C",
    "The target is the number of C-class flares. Letters stand as places in the alphabet, less their mean. The last\n"
    "feature is constant, and only 244 rows of features are distinct.\n",
)
_WINE = _Numeric(
    "wine",
    1599,
    (
        "fixed_acidity",
        "volatile_acidity",
        "citric_acid",
        "residual_sugar",
        "chlorides",
        "free_sulfur_dioxide",
        "total_sulfur_dioxide",
        "density",
        "pH",
        "sulphates",
        "quality",
    ),
    "alcohol",
    "The target is ALCOHOL, not the tasters' score: quality is the last feature.\n",
)
_TABLES = {"servo": _SERVO, "machine": _MACHINE, "solar": _SOLAR, "solar_flare": _SOLAR}
_TABLES |= {"wine": _WINE, "wine_quality": _WINE}


def load_split(name: str, split: int, folder: PathLike, *, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """One of the ten fixed 90/10 splits of servo, machine, solar or wine in the uci_datasets collection.

    The numbers are not those of the original tables, which ``fetch_servo`` and its like read: every column has its
    mean taken off. Servo's target is log(class) and machine's log(PRP); wine's target is **alcohol**, and quality is a
    feature; solar's last feature is constant and only 244 of its rows of features are distinct; machine has a vendor
    number as first feature and two rows shifted by one column, with log(ERP) as target. See ``DESCR``.

    Parameters
    ----------
    name : {"servo", "machine", "solar", "wine"}
        Also ``"solar_flare"`` and ``"wine_quality"``.
    split : int
        0 to 9.
    folder : path
        Holds ``<name>.csv`` (no header, target last) and ``<name>_test_mask.csv`` (ten columns, 1 = test row), itself
        or in ``splits`` or ``data/splits``.
    return_X_y : bool
        Whether to return ``(X_train, y_train, X_test, y_test)`` instead of a Bunch.
    as_frame : bool
        Whether data and targets are pandas objects; needs pandas.

    Returns
    -------
    Bunch
        ``X_train``, ``y_train``, ``X_test``, ``y_test``; ``train`` and ``test`` row numbers in ``data`` and ``target``;
        ``feature_names``, ``target_names``, ``frame``, ``filename``, ``DESCR``.

    Raises
    ------
    InvalidInputError
        The name or the number of the split is unknown.
    DatasetError
        A file is absent, or its shape or a value is not what it should be; the message names row and column.
    """
    if name not in _TABLES:
        raise InvalidInputError(f"name must be one of {', '.join(map(repr, _TABLES))}, got {name!r}.")
    check_split(split, required=True)
    table = _TABLES[name]
    path = _find(Path(folder).expanduser(), table)
    values = _numbers(path, (table.n_rows, len(table.features) + 1))
    mask = _test_mask(path.with_name(f"{table.file}_test_mask.csv"), table.n_rows)[:, split]
    return make_bunch(
        values[:, :-1].copy(),
        values[:, -1].copy(),
        list(table.features),
        table.target,
        rows=(np.flatnonzero(~mask), np.flatnonzero(mask)),
        return_X_y=return_X_y,
        as_frame=as_frame,
        filename=str(path),
        DESCR=table.description,
    )


def _find(folder: Path, table: _Numeric) -> Path:
    places = (folder, folder / "splits", folder / "data" / "splits")
    for place in places:
        # the mask tells the numeric table from the original one of the same name
        if (place / f"{table.file}_test_mask.csv").exists():
            return place / f"{table.file}.csv"
    raise DatasetError(
        f"There is no {table.file}_test_mask.csv in {', '.join(map(str, places))}. Name the folder that holds the "
        "tables and masks of the uci_datasets collection."
    )


def _test_mask(path: Path, n_rows: int) -> NDArray[np.bool_]:
    mask = _numbers(path, (n_rows, N_SPLITS))
    wrong = np.argwhere((mask != 0) & (mask != 1))
    if len(wrong):
        row, column = wrong[0]
        raise DatasetError(f"{path}, row {row + 1}, column {column + 1}: {mask[row, column]:g} is neither 0 nor 1.")
    often = np.flatnonzero(mask.sum(axis=1) != 1)
    if len(often):
        row = often[0]
        raise DatasetError(
            f"{path}, row {row + 1}: a test row in {mask[row].sum():g} of {N_SPLITS} splits, expected 1."
        )
    return mask == 1


def _numbers(path: Path, shape: tuple[int, int]) -> Array:
    """A table of finite numbers of a known shape."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text ({error}).") from error
    if len(lines) != shape[0]:
        raise DatasetError(f"{path} holds {len(lines)} rows, expected {shape[0]}.")
    return np.array([_row(line, row, shape[1], path) for row, line in enumerate(lines, start=1)])


def _row(line: str, row: int, width: int, path: Path) -> list[float]:
    cells = line.split(",")
    if len(cells) != width:
        raise DatasetError(f"{path}, row {row}: {len(cells)} values, expected {width}.")
    return [_number(cell, row, column, path) for column, cell in enumerate(cells, start=1)]


def _number(cell: str, row: int, column: int, path: Path) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise DatasetError(f"{path}, row {row}, column {column}: {cell.strip()!r} is not a finite number.")
    return number

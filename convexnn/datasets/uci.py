"""UCI data sets of the regression experiments, downloaded once or read from a local file, every value checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from convexnn.datasets.bunches import check_split, encode, make_bunch, ten_fold_rows
from convexnn.datasets.cache import load_values
from convexnn.datasets.catalog import MACHINE, SERVO, SOLAR_FLARE, WINE_QUALITY
from convexnn.datasets.tables import Table, to_csv
from convexnn.exceptions import InvalidInputError

PathLike = str | os.PathLike[str]

ENCODINGS = ("ordinal", "onehot")


@dataclass(frozen=True)
class _Request:
    """What the four functions have in common."""

    data_home: PathLike | None
    download_if_missing: bool
    return_X_y: bool
    as_frame: bool
    split: int | None
    source: str | None
    path: PathLike | None


def fetch_servo(
    *,
    data_home: PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    split: int | None = None,
    source: str | None = None,
    path: PathLike | None = None,
    encoding: str = "ordinal",
) -> Any:
    """Servo: rise time of a servomechanism from two kinds of parts and two gains (167 rows, UCI, CC BY 4.0).

    Parameters
    ----------
    data_home : path or None
        Cache folder; None: ``CONVEXNN_DATA``, else ``~/convexnn_data``.
    download_if_missing : bool
        Whether to download what is not in the cache.
    return_X_y : bool
        Whether to return ``(data, target)``, with ``split`` ``(X_train, y_train, X_test, y_test)``, instead of a Bunch.
    as_frame : bool
        Whether data and target are pandas objects; needs pandas.
    split : int or None
        Number 0 to 9 of a fixed split into 90 % training and 10 % test rows. The test rows of the ten splits are the
        parts of ``numpy.random.RandomState(0).permutation(167)`` cut by ``numpy.array_split``.
    source : str or None
        Address of UCI's archive or of the bare file on a mirror; None: archive.ics.uci.edu.
    path : path or None
        Local file to read instead, past the cache: a CSV with header, UCI's ``servo.data`` or its zip archive.
    encoding : {"ordinal", "onehot"}
        Of ``motor`` and ``screw``: A to E as 0 to 4, or as five columns of 0 and 1 each.

    Returns
    -------
    Bunch
        ``data`` (167, 4) or (167, 12), ``target`` (167,) the rise time ``class``, ``feature_names``, ``target_names``,
        ``categories``, ``frame`` (None unless ``as_frame``), ``filename``, ``sha256`` of the table, ``DESCR``; with
        ``split`` also ``train``, ``test``, ``X_train``, ``y_train``, ``X_test``, ``y_test``.

    Raises
    ------
    DatasetError
        The network, the cache or a file fails, or a value is not what it should be; the message names row and column.

    Examples
    --------
    >>> from convexnn.datasets import fetch_servo
    >>> servo = fetch_servo(split=0)  # doctest: +SKIP
    >>> servo.X_train.shape  # doctest: +SKIP
    (150, 4)
    """
    _check_encoding(encoding, ENCODINGS)
    request = _Request(data_home, download_if_missing, return_X_y, as_frame, split, source, path)
    return _fetch(SERVO, request, SERVO.features, encoding)


def fetch_machine(
    *,
    data_home: PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    split: int | None = None,
    source: str | None = None,
    path: PathLike | None = None,
    encoding: str = "drop",
) -> Any:
    """Computer Hardware: published relative performance of processors (209 rows, UCI, CC BY 4.0).

    Parameters
    ----------
    data_home, download_if_missing, return_X_y, as_frame, split, source
        As in :func:`fetch_servo`, with 209 rows.
    path : path or None
        Local file to read instead: a CSV with header, UCI's ``machine.data`` or its zip archive.
    encoding : {"drop", "ordinal", "onehot"}
        Of the vendor: left out, its place in the sorted list of the 30 vendors, or thirty columns of 0 and 1.

    Returns
    -------
    Bunch
        As of :func:`fetch_servo`: ``data`` (209, 6), (209, 7) or (209, 36), ``target`` (209,) ``PRP``.

    Raises
    ------
    DatasetError
        The network, the cache or a file fails, or a value is not what it should be; the message names row and column.
    """
    _check_encoding(encoding, ("drop", *ENCODINGS))
    request = _Request(data_home, download_if_missing, return_X_y, as_frame, split, source, path)
    features = MACHINE.features if encoding == "drop" else ("VendorName", *MACHINE.features)
    return _fetch(MACHINE, request, features, encoding)


def fetch_solar_flare(
    *,
    data_home: PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    split: int | None = None,
    source: str | None = None,
    path: PathLike | None = None,
    encoding: str = "ordinal",
) -> Any:
    """Solar Flare: number of C-class flares of a spot group in the next 24 hours (1066 rows, UCI, CC BY 4.0).

    Parameters
    ----------
    data_home, download_if_missing, return_X_y, as_frame, split, source
        As in :func:`fetch_servo`, with 1066 rows.
    path : path or None
        Local file to read instead: a CSV with header, UCI's ``flare.data2`` or its zip archive.
    encoding : {"ordinal", "onehot"}
        Of ``class``, ``largest_spot_size`` and ``spot_distribution``: letters numbered in the order of the origin's
        documentation (see ``categories``), or one column of 0 and 1 per letter.

    Returns
    -------
    Bunch
        As of :func:`fetch_servo`: ``data`` (1066, 10) or (1066, 24), ``target`` (1066,) the number of C-class flares.
        ``area_largest`` is constant and only 244 rows of features are distinct.

    Raises
    ------
    DatasetError
        The network, the cache or a file fails, or a value is not what it should be; the message names row and column.
    """
    _check_encoding(encoding, ENCODINGS)
    request = _Request(data_home, download_if_missing, return_X_y, as_frame, split, source, path)
    return _fetch(SOLAR_FLARE, request, SOLAR_FLARE.features, encoding)


def fetch_wine_quality(
    *,
    data_home: PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    split: int | None = None,
    source: str | None = None,
    path: PathLike | None = None,
) -> Any:
    """Wine Quality: tasters' score of red wines from eleven measurements (1599 rows, UCI, CC BY 4.0).

    Parameters
    ----------
    data_home, download_if_missing, return_X_y, as_frame, split, source
        As in :func:`fetch_servo`, with 1599 rows.
    path : path or None
        Local file to read instead: a CSV with header, UCI's ``winequality-red.csv`` or its zip archive.

    Returns
    -------
    Bunch
        As of :func:`fetch_servo`: ``data`` (1599, 11), ``target`` (1599,) the score ``quality``, 3 to 8.

    Raises
    ------
    DatasetError
        The network, the cache or a file fails, or a value is not what it should be; the message names row and column.
    """
    request = _Request(data_home, download_if_missing, return_X_y, as_frame, split, source, path)
    return _fetch(WINE_QUALITY, request, WINE_QUALITY.features, "ordinal")


def _fetch(table: Table, request: _Request, features: tuple[str, ...], encoding: str) -> Any:
    check_split(request.split)
    values, filename = load_values(
        table,
        data_home=request.data_home,
        download_if_missing=request.download_if_missing,
        source=request.source,
        path=request.path,
    )
    coded = encode(table, values, features, encoding)
    digest = sha256(to_csv(values)).hexdigest()
    known = "equal to" if digest == table.sha256 else "different from"
    return make_bunch(
        coded.data,
        np.array([float(value) for value in values[table.target]]),
        coded.names,
        table.target,
        rows=None if request.split is None else ten_fold_rows(table.n_rows, request.split),
        return_X_y=request.return_X_y,
        as_frame=request.as_frame,
        categories=coded.categories,
        filename=str(filename),
        sha256=digest,
        DESCR=f"{table.description}\nThis copy is {known} the one for which these notes were written.\n",
    )


def _check_encoding(encoding: str, allowed: tuple[str, ...]) -> None:
    if encoding not in allowed:
        raise InvalidInputError(f"encoding must be one of {', '.join(map(repr, allowed))}, got {encoding!r}.")

"""Files of the package: an ``.npz`` of plain arrays with a JSON header; never pickle."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convexnn.exceptions import InvalidInputError

HEADER = "header"


def write_archive(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, Any]) -> Path:
    """Write a JSON header and named arrays to ``path`` (exactly that name) and return it."""
    target = Path(path)
    with target.open("wb") as file:
        np.savez(file, **{HEADER: np.array(json.dumps(header))}, **{name: np.asarray(a) for name, a in arrays.items()})
    return target


def read_archive(path: str | os.PathLike[str], *, format: str, version: int) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: A002
    """Header and arrays of a file written by :func:`write_archive`.

    Raises
    ------
    InvalidInputError
        When the file is damaged, holds pickled objects, or is of another format or version.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            header = json.loads(str(file[HEADER]))
            arrays = {name: file[name] for name in file.files if name != HEADER}
    except FileNotFoundError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInputError(f"{path} is not a readable {format} file: {error}") from error
    found = (header.get("format"), header.get("version")) if isinstance(header, dict) else None
    if found != (format, version):
        raise InvalidInputError(f"{path} is not a {format} file of version {version}; its header says {found}.")
    return header, arrays

"""Files of the package: an ``.npz`` of plain arrays with a JSON header; never pickle."""

from __future__ import annotations

import io
import json
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convexnn.exceptions import InvalidInputError

HEADER = "header"
RESERVED = {HEADER, "file", "allow_pickle"}  # the last two are arguments of numpy.savez
MAX_BYTES = 2**32  # of all arrays of a file together, unpacked: a small file must not fill the memory
PLAIN_KINDS = "biufU"  # bool, integers, real floats, text: what the archives of this package hold
# everything that numpy, zipfile and json raise on files that were damaged or made to hurt
READ_ERRORS = (
    AttributeError, EOFError, IndexError, KeyError, MemoryError, OSError, OverflowError, RuntimeError, SyntaxError,
    TypeError, ValueError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def write_archive(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, Any]) -> Path:
    """Write a JSON header and named arrays to ``path`` (exactly that name) and return it.

    Nothing is written when a value has no plain form; numpy numbers in the header become JSON numbers.
    """
    members: dict[str, Any] = {HEADER: np.array(json.dumps(header, default=_plain))}
    for name, values in arrays.items():
        members[name] = np.asarray(values)
        if name in RESERVED or members[name].dtype.kind not in PLAIN_KINDS:
            raise InvalidInputError(f"The array {name!r} of dtype {members[name].dtype} cannot be stored.")
    buffer = io.BytesIO()
    np.savez(buffer, **members)
    target = Path(path)
    target.write_bytes(buffer.getvalue())
    return target


def replace_archive(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write an archive in one move: an interrupt leaves the earlier file whole."""
    target = Path(path)
    part = target.with_name(target.name + ".part")
    write_archive(part, header, arrays)
    os.replace(part, target)


def read_checkpoint(
    path: str | os.PathLike[str],
    fingerprint: str,
    *,
    format: str,  # noqa: A002
    version: int,
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Header and arrays of the checkpoint of the run with this fingerprint; None where there is none yet.

    Raises
    ------
    InvalidInputError
        When the file is damaged or belongs to another run, or when there is no folder for it.
    """
    try:
        header, arrays = read_archive(path, format=format, version=version)
    except FileNotFoundError:
        if not Path(path).parent.is_dir():  # said before the work, not after it
            raise InvalidInputError(f"The folder of the checkpoint {path} does not exist; create it first.") from None
        return None
    if header.get("fingerprint") != fingerprint:
        raise InvalidInputError(
            f"The checkpoint {path} belongs to a run with other data, regions, settings, sizes, seed or start; "
            "delete it or choose another path."
        )
    return header, arrays


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise InvalidInputError(f"A {type(value).__name__} cannot be stored in the header of a file.")


def read_archive(path: str | os.PathLike[str], *, format: str, version: int) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: A002
    """Header and arrays of a file written by :func:`write_archive`.

    Raises
    ------
    InvalidInputError
        When the file is damaged, holds pickled objects, or is of another format or version.
    """
    try:
        with Path(path).open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            size = sum(member.file_size for member in file.zip.infolist())
            if size > MAX_BYTES:
                raise ValueError(f"it unpacks to {size} bytes, more than {MAX_BYTES}")
            header = json.loads(str(file[HEADER]))
            arrays = {name: file[name] for name in file.files if name != HEADER}
        odd = [name for name, values in arrays.items() if values.dtype.kind not in PLAIN_KINDS]
    except FileNotFoundError:
        raise
    except READ_ERRORS as error:
        raise InvalidInputError(f"{path} is not a readable {format} file: {error}") from error
    if odd:
        raise InvalidInputError(f"{path} is not a readable {format} file: {odd} are no plain arrays.")
    found = (header.get("format"), header.get("version")) if isinstance(header, dict) else None
    if found != (format, version):
        raise InvalidInputError(f"{path} is not a {format} file of version {version}; its header says {found}.")
    return header, arrays

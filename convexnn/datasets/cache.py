"""Files of the data sets: read from the cache or a path, or downloaded, checked and only then put into the cache."""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from convexnn.datasets.tables import Table, parse, to_csv
from convexnn.exceptions import DatasetError, InvalidInputError

FOLDER_VARIABLE = "CONVEXNN_DATA"
TIMEOUT = 30.0  # seconds without an answer
MAX_BYTES = 20_000_000  # the tables have at most 100 kB: what is larger is something else
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)
SEAL = b"# sha256 of the following lines: "

Values = dict[str, list[str]]
PathLike = str | os.PathLike[str]


def get_data_home(data_home: PathLike | None = None) -> Path:
    """Folder in which downloaded data sets are kept; it is not created here.

    Parameters
    ----------
    data_home : path or None
        None: the folder named by the environment variable ``CONVEXNN_DATA``, else ``~/convexnn_data``.

    Returns
    -------
    pathlib.Path

    Examples
    --------
    >>> from convexnn.datasets import get_data_home
    >>> get_data_home("here").name
    'here'
    """
    named = data_home if data_home is not None else os.environ.get(FOLDER_VARIABLE) or "~/convexnn_data"
    return Path(named).expanduser()


def load_values(
    table: Table,
    *,
    data_home: PathLike | None,
    download_if_missing: bool,
    source: str | None,
    path: PathLike | None,
) -> tuple[Values, Path]:
    """Checked values of a table and the file they come from."""
    if path is not None:
        if source is not None:
            raise InvalidInputError(f"Give path (a local file) or source (an address), not both: {path}, {source}.")
        return read_local(Path(path).expanduser(), table), Path(path).expanduser()
    cached = get_data_home(data_home) / f"{table.name}.csv"
    if not cached.exists():
        if not download_if_missing:
            raise DatasetError(
                f"{table.name} is not in the cache: there is no {cached}. Allow download_if_missing=True, "
                f"or name a local copy of {table.member} with path=."
            )
        download(table, source or table.url, cached)
    return read_cached(cached, table), cached


def read_local(path: Path, table: Table) -> Values:
    """Values of a table in a file of the user: a CSV with header, UCI's own file or UCI's zip archive."""
    if path.suffix.lower() == ".zip":
        return parse(_member(path, table, str(path)), table, f"{table.member} in {path}")
    return parse(_read(path), table, str(path))


def read_cached(path: Path, table: Table) -> Values:
    """Values of a table in the cache; its seal, where it has one, holds the bytes that follow."""
    try:
        content = _read(path)
        first, _, rest = content.partition(b"\n")
        if first.startswith(SEAL) and sha256(rest).hexdigest().encode() != first[len(SEAL) :].strip():
            raise DatasetError(f"{path} was altered or cut short after it was written (its sha256 differs).")
        return parse(content, table, str(path))
    except DatasetError as error:
        raise DatasetError(f"The cached file is not usable. {error} Delete {path} and call again.") from error


def download(table: Table, url: str, target: Path) -> None:
    """Download a table, check it whole, and only then put it at its place in the cache, in one step.

    The file in the cache is the table as comma-separated text with a header, below a first line with its sha256.
    """
    with tempfile.TemporaryDirectory(prefix="convexnn-") as folder:
        arrived = Path(folder) / "download"
        _request(table, url, arrived, target)
        is_archive = urlsplit(url).path.lower().endswith(".zip")
        content = _member(arrived, table, url) if is_archive else _read(arrived)
    body = to_csv(parse(content, table, url))
    try:
        _write(target, SEAL + sha256(body).hexdigest().encode() + b"\n" + body)
    except OSError as error:
        raise DatasetError(
            f"{table.name} was downloaded but {target} cannot be written ({error}). Choose another folder by "
            f"data_home= or the environment variable {FOLDER_VARIABLE}."
        ) from error


def _request(table: Table, url: str, arrived: Path, target: Path) -> None:
    if urlsplit(url).scheme not in ("http", "https"):
        raise InvalidInputError(f"source must be an http or https address, got {url!r}; local files go to path=.")
    import pooch

    try:
        pooch.HTTPDownloader(timeout=TIMEOUT)(url, str(arrived), None)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{table.name} could not be downloaded from {url} ({type(error).__name__}: {error}). Without a network, "
            f"name a local copy of {table.member} with path=, or put one at {target}."
        ) from error


def _member(archive: Path, table: Table, origin: str) -> bytes:
    """Content of the file that holds the table in a zip archive."""
    try:
        with zipfile.ZipFile(archive) as opened:
            found = [info for info in opened.infolist() if info.filename.rpartition("/")[2] == table.member]
            if not found:
                raise DatasetError(f"{origin} holds no {table.member}, only {', '.join(opened.namelist())}.")
            if found[0].file_size > MAX_BYTES:
                raise DatasetError(
                    f"{table.member} in {origin} has {found[0].file_size} bytes, at most {MAX_BYTES} expected."
                )
            return opened.read(found[0])
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(f"{origin} cannot be read ({error.strerror or error}).") from error
    except BROKEN_ZIP as error:
        raise DatasetError(f"{origin} is no usable zip archive ({error}); the download may be broken.") from error


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DatasetError(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} expected.")
        return path.read_bytes()
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror or error}).") from error


def _write(target: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)

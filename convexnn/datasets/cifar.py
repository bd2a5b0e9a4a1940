"""CIFAR-10 from its binary archive: downloaded once, checked by its SHA-256, read without pickle."""

from __future__ import annotations

import os
import tarfile
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from convexnn.datasets.cache import get_data_home
from convexnn.exceptions import DatasetError, InvalidInputError

PathLike = str | os.PathLike[str]
Bytes = NDArray[np.uint8]

SIDE, CHANNELS = 32, 3
RECORD = 1 + CHANNELS * SIDE * SIDE  # label, then 1024 red, 1024 green and 1024 blue values, row by row
TIMEOUT = 60.0  # seconds without an answer
FOLDER = "cifar-10-batches-bin"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DESCRIPTION = """CIFAR-10: small color images of ten classes
===========================================
Krizhevsky, A. (2009). Learning multiple layers of features from tiny images. https://www.cs.toronto.edu/~kriz/cifar.html

60 000 images of 32 x 32 pixels, three channels, values 0 to 255, 6 000 a class; 50 000 to train, 10 000 to test.
The images come from the web; they are loaded for research, their rights are with their owners.
"""


@dataclass(frozen=True)
class Archive:
    """The archive as it is expected.

    Parameters
    ----------
    url : str
    sha256 : str
        Of the whole archive.
    rows : int
        Images in each of the six files.
    """

    url: str
    sha256: str
    rows: int


CIFAR10 = Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    rows=10_000,
)
TRAINING = tuple(f"{FOLDER}/data_batch_{number}.bin" for number in range(1, 6))
TESTING = (f"{FOLDER}/test_batch.bin",)
BROKEN = (tarfile.TarError, EOFError, zlib.error, OSError)


def fetch_cifar10(
    *,
    data_home: PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    source: str | None = None,
    path: PathLike | None = None,
) -> Any:
    """CIFAR-10: 60 000 color images of 32 x 32 pixels, ten classes (170 MB).

    The archive is kept as it was downloaded and its SHA-256 is compared at every call, so a truncated or altered file
    is refused. Nothing is unpickled and nothing is unpacked to disk.

    Parameters
    ----------
    data_home : path or None
        Cache folder; None: ``CONVEXNN_DATA``, else ``~/convexnn_data``.
    download_if_missing : bool
        Whether to download what is not in the cache.
    return_X_y : bool
        Whether to return ``(X_train, y_train, X_test, y_test)`` instead of a Bunch.
    source : str or None
        Address of a mirror of ``cifar-10-binary.tar.gz``; None: www.cs.toronto.edu.
    path : path or None
        Local copy of ``cifar-10-binary.tar.gz`` to read instead, past the cache; it is checked in the same way.

    Returns
    -------
    Bunch
        ``X_train`` (50000, 3, 32, 32) and ``X_test`` (10000, 3, 32, 32), uint8, channels first as torch takes them;
        ``y_train`` (50000,) and ``y_test`` (10000,), classes 0 to 9; ``target_names``, ``filename``, ``DESCR``.

    Raises
    ------
    DatasetError
        The network, the cache or the archive fails, or a label is not what it should be.

    Examples
    --------
    >>> from convexnn.datasets import fetch_cifar10
    >>> cifar = fetch_cifar10()  # doctest: +SKIP
    >>> cifar.X_train.shape  # doctest: +SKIP
    (50000, 3, 32, 32)
    """
    archive = _archive(data_home, download_if_missing, source, path)
    batches = _read(archive)
    parts = [_arrays([batches[name] for name in names]) for names in (TRAINING, TESTING)]
    (X_train, y_train), (X_test, y_test) = parts
    if return_X_y:
        return X_train, y_train, X_test, y_test
    return Bunch(
        X_train=X_train,
        y_train=y_train,
        X_test=X_test,
        y_test=y_test,
        target_names=list(CLASSES),
        filename=str(archive),
        DESCR=DESCRIPTION,
    )


def _archive(data_home: PathLike | None, download: bool, source: str | None, path: PathLike | None) -> Path:
    """The checked archive, in the cache or elsewhere."""
    if path is not None:
        if source is not None:
            raise InvalidInputError(f"Give path (a local file) or source (an address), not both: {path}, {source}.")
        return _checked(Path(path).expanduser(), "Download it again")
    cached = get_data_home(data_home) / "cifar-10-binary.tar.gz"
    if not cached.exists():
        if not download:
            raise DatasetError(
                f"CIFAR-10 is not in the cache: there is no {cached}. Allow download_if_missing=True, or name a local "
                "copy of cifar-10-binary.tar.gz with path=."
            )
        _download(source or CIFAR10.url, cached)
    return _checked(cached, f"Delete {cached} and call again")


def _checked(path: Path, advice: str) -> Path:
    try:
        with path.open("rb") as file:
            digest = sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror or error}).") from error
    if digest.hexdigest() != CIFAR10.sha256:
        raise DatasetError(
            f"{path} is not the archive of CIFAR-10, or only a part of it (its sha256 differs). {advice}."
        )
    return path


def _download(url: str, target: Path) -> None:
    """Download the archive, check it whole, and only then put it at its place, in one step."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise InvalidInputError(f"source must be an http or https address, got {url!r}; local files go to path=.")
    import pooch

    partial = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        pooch.HTTPDownloader(timeout=TIMEOUT)(url, str(partial), None)
        os.replace(_checked(partial, "The download may be broken"), target)
    except DatasetError:
        raise
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"CIFAR-10 could not be downloaded from {url} to {target} ({type(error).__name__}: {error}). Without a "
            "network, name a local copy of cifar-10-binary.tar.gz with path=."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _read(archive: Path) -> dict[str, Bytes]:
    """Records of the six files, each of shape (rows, 3073)."""
    size, found = CIFAR10.rows * RECORD, {}
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                if member.name not in TRAINING + TESTING:
                    continue
                file = opened.extractfile(member) if member.isfile() and member.size == size else None
                if file is None:
                    raise DatasetError(
                        f"{member.name} in {archive} has {member.size} bytes, expected {size} in a file."
                    )
                found[member.name] = np.frombuffer(file.read(), dtype=np.uint8).reshape(CIFAR10.rows, RECORD)
    except DatasetError:
        raise
    except (*BROKEN, ValueError) as error:
        raise DatasetError(f"{archive} is no usable archive ({type(error).__name__}: {error}).") from error
    missing = sorted(set(TRAINING + TESTING) - set(found))
    if missing:
        raise DatasetError(f"{archive} holds no {', '.join(missing)}.")
    for name, records in found.items():
        wrong = np.flatnonzero(records[:, 0] >= len(CLASSES))
        if len(wrong):
            raise DatasetError(
                f"Image {wrong[0]} of {name} in {archive} has the label {records[wrong[0], 0]}, not 0 to 9."
            )
    return found


def _arrays(batches: list[Bytes]) -> tuple[Bytes, NDArray[np.intp]]:
    """Images (n, 3, 32, 32) and labels (n,)."""
    records = np.concatenate(batches)
    return records[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE).copy(), records[:, 0].astype(np.intp)

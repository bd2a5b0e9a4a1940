"""The CIFAR-10 loader on fabricated archives of its format, without a network."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from convexnn import DatasetError, InvalidInputError
from convexnn.datasets import cifar, fetch_cifar10

ROWS = 4


def records(rng, rows=ROWS):
    data = rng.integers(0, 256, (rows, 3073), dtype=np.uint8)
    data[:, 0] = np.arange(rows) % 10
    return data


def packed(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def batches(rng):
    return {name: records(rng) for name in cifar.TRAINING + cifar.TESTING}


@pytest.fixture
def expect(monkeypatch):
    """Say which archive is the true one."""

    def told(content):
        monkeypatch.setattr(
            cifar,
            "CIFAR10",
            replace(cifar.CIFAR10, sha256=sha256(content).hexdigest(), rows=ROWS, url="http://127.0.0.1/c"),
        )
        return content

    return told


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVEXNN_DATA", str(tmp_path / "home"))
    return tmp_path / "home"


def content_of(batches, **changes):
    files = {name: data.tobytes() for name, data in batches.items()} | {f"{cifar.FOLDER}/batches.meta.txt": b"cat\n"}
    return packed({name: body for name, body in (files | changes).items() if body is not None})


def test_the_bytes_arrive_where_they_belong(tmp_path, batches, expect):
    file = tmp_path / "cifar.tar.gz"
    file.write_bytes(expect(content_of(batches)))
    bunch = fetch_cifar10(path=file)
    assert bunch.X_train.shape == (5 * ROWS, 3, 32, 32)
    assert bunch.X_test.dtype == np.uint8
    third = batches[cifar.TRAINING[2]]
    # second image of the third file: green value in row 5, column 7
    assert bunch.X_train[2 * ROWS + 1, 1, 5, 7] == third[1, 1 + 1024 + 5 * 32 + 7]
    assert bunch.y_train[2 * ROWS + 1] == third[1, 0]
    np.testing.assert_array_equal(bunch.y_test, batches[cifar.TESTING[0]][:, 0])
    X_train, y_train, X_test, y_test = fetch_cifar10(path=file, return_X_y=True)
    np.testing.assert_array_equal(X_train, bunch.X_train)
    assert (len(y_train), len(X_test), len(y_test)) == (5 * ROWS, ROWS, ROWS)
    assert bunch.X_train.flags.writeable
    assert len(bunch.target_names) == 10


def test_a_truncated_or_altered_archive_is_refused(tmp_path, batches, expect):
    good = expect(content_of(batches))
    for number, content in enumerate(
        [good[:-1], good[: len(good) // 2], good[:100] + b"x" + good[101:], good + b" ", b""]
    ):
        file = tmp_path / f"{number}.tar.gz"
        file.write_bytes(content)
        with pytest.raises(DatasetError, match="sha256 differs"):
            fetch_cifar10(path=file)
    with pytest.raises(DatasetError, match="cannot be read"):
        fetch_cifar10(path=tmp_path / "absent.tar.gz")


def test_what_is_inside_is_checked_even_where_the_sum_agrees(tmp_path, batches, expect):
    first, wrong = cifar.TRAINING[0], records(np.random.default_rng(1))
    wrong[2, 0] = 10
    cases = {
        "holds no .*data_batch_1": content_of(batches, **{first: None}),
        "expected": content_of(batches, **{first: b"short"}),
        "Image 2 of .* label 10": content_of(batches, **{first: wrong.tobytes()}),
        "no usable archive": b"no archive",
        "no usable": gzip.compress(b"no tar file, but long enough to be read as one" * 50),
        "no usable arch": content_of(batches)[:2000],
    }
    for number, (said, content) in enumerate(cases.items()):
        file = tmp_path / f"{number}.tar.gz"
        file.write_bytes(expect(content))
        with pytest.raises(DatasetError, match=said):
            fetch_cifar10(path=file)


def test_a_link_in_the_archive_is_no_file(tmp_path, batches, expect):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(cifar.TRAINING[0])
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    file = tmp_path / "link.tar.gz"
    file.write_bytes(expect(buffer.getvalue()))
    with pytest.raises(DatasetError, match="expected"):
        fetch_cifar10(path=file)


def test_downloads_are_checked_before_they_are_kept(monkeypatch, cache, batches, expect):
    import pooch

    good = expect(content_of(batches))
    sent = [good[:-5], good]

    class Downloader:
        def __init__(self, **_):
            pass

        def __call__(self, url, output_file, _):
            with open(output_file, "wb") as file:
                file.write(sent.pop(0))

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
    with pytest.raises(DatasetError, match="not in the cache"):
        fetch_cifar10(download_if_missing=False)
    with pytest.raises(DatasetError, match="sha256 differs"):
        fetch_cifar10()
    assert not list(cache.iterdir())
    assert len(fetch_cifar10().y_test) == ROWS
    assert [file.name for file in cache.iterdir()] == ["cifar-10-binary.tar.gz"]
    assert len(fetch_cifar10(download_if_missing=False).y_test) == ROWS  # from the cache: nothing left to send
    (cache / "cifar-10-binary.tar.gz").write_bytes(good[:-1])
    with pytest.raises(DatasetError, match="Delete"):
        fetch_cifar10()


def test_without_a_network_the_sentence_says_what_to_do(cache):
    with pytest.raises(DatasetError, match="path="):
        fetch_cifar10(source="http://127.0.0.1:9/cifar-10-binary.tar.gz")
    assert not list(cache.iterdir())
    with pytest.raises(InvalidInputError, match="http"):
        fetch_cifar10(source="ftp://example.org/c")
    with pytest.raises(InvalidInputError, match="not both"):
        fetch_cifar10(source="http://example.org/c", path="here")

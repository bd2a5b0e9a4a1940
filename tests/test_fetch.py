"""Downloaded data sets: what arrives is checked whole, kept once, and nothing half-written stays anywhere.

A server on the loopback address takes the place of the repository; its tables are made here.
"""

from __future__ import annotations

import io
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import pytest

from convexnn.datasets import (
    fetch_machine,
    fetch_servo,
    fetch_solar_flare,
    fetch_wine_quality,
    get_data_home,
    load_split,
)
from convexnn.datasets.catalog import MACHINE, SERVO, SOLAR_FLARE, WINE_QUALITY
from convexnn.datasets.tables import Column, Table
from convexnn.exceptions import ConvexNNError, DatasetError, InvalidInputError
from tests._shared import require_shared

FETCH = {
    "servo": (fetch_servo, SERVO),
    "machine": (fetch_machine, MACHINE),
    "solar_flare": (fetch_solar_flare, SOLAR_FLARE),
    "wine_quality": (fetch_wine_quality, WINE_QUALITY),
}
each_table = pytest.mark.parametrize("name", FETCH)


# ----- made tables, written as UCI writes them


def made_column(column: Column, n: int, rng: np.random.Generator) -> list[str]:
    if column.text:
        return [f"{column.name}-{k % 30}" for k in range(n)]
    if column.categories:
        return [str(value) for value in rng.choice(column.categories, n)]
    if column.integer:
        return [str(value) for value in rng.integers(int(column.low), int(column.high) + 1, n)]
    return [f"{value:.4f}" for value in rng.uniform(column.low + 1e-3, column.high - 1e-3, n)]


def made_rows(table: Table) -> list[list[str]]:
    rng = np.random.default_rng(7)
    columns = [made_column(column, table.n_rows, rng) for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def raw(table: Table, rows: list[list[str]] | None = None) -> str:
    """Text in the format of the repository: commas, spaces below a line of stars, or semicolons below a header."""
    rows = made_rows(table) if rows is None else rows
    if table is SOLAR_FLARE:
        return "*** DATA2 ***\r\n" + "".join(" ".join(row) + " \r\n" for row in rows)
    if table is WINE_QUALITY:
        header = ";".join(f'"{name.replace("_", " ")}"' for name in table.names)
        return header + "\n" + "".join(";".join(row) + "\n" for row in rows)
    return "".join(",".join(row) + "\n" for row in rows) + "\n"


def with_header(table: Table, rows: list[list[str]] | None = None) -> str:
    rows = made_rows(table) if rows is None else rows
    return "\n".join(",".join(row) for row in [list(table.names), *rows]) + "\n"


def zipped(table: Table, content: str | None = None, member: str | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Index", "something else")
        archive.writestr(member or table.member, raw(table) if content is None else content)
    return out.getvalue()


# ----- a repository on this machine


class Repository:
    """Answers with ``files[path]``; counts the requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.server = HTTPServer(("127.0.0.1", 0), partial(_Handler, self))

    def put(self, name: str, content: bytes) -> str:
        self.files[f"/{name}"] = content
        return f"http://127.0.0.1:{self.server.server_address[1]}/{name}"


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, repository: Repository, *args) -> None:
        self.repository = repository
        super().__init__(*args)

    def do_GET(self) -> None:
        self.repository.requests.append(self.path)
        content = self.repository.files.get(self.path)
        self.send_response(404 if content is None else 200)
        cut = self.path.startswith("/cut")
        self.send_header("Content-Length", str(len(content or b"") + (1000 if cut else 0)))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def repository() -> Iterator[Repository]:
    repository = Repository()
    thread = threading.Thread(target=repository.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield repository
    finally:
        repository.server.shutdown()
        thread.join()
        repository.server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and no proxy between the test and its server."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CONVEXNN_DATA", str(folder))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    return folder


def content(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


# ----- success


@each_table
def test_a_table_is_downloaded_once_then_read_from_the_cache(name: str, repository: Repository, cache: Path) -> None:
    fetch, table = FETCH[name]
    url = repository.put("table.zip", zipped(table))
    first = fetch(source=url)
    assert content(cache) == [f"{name}.csv"]
    again = fetch(source=url)
    assert repository.requests == ["/table.zip"]
    np.testing.assert_array_equal(first.data, again.data)
    assert first.data.shape == (table.n_rows, len(table.features))
    assert first.filename == str(cache / f"{name}.csv")
    place = table.names.index(table.target)
    np.testing.assert_array_equal(first.target, [float(row[place]) for row in made_rows(table)])
    assert first.target_names == [table.target]
    assert first.data.dtype == first.target.dtype == np.float64
    assert "CC BY 4.0" in first.DESCR
    assert "different from the one" in first.DESCR  # the table is a made one
    assert first.sha256 != table.sha256


@each_table
def test_every_format_gives_the_same_table(name: str, tmp_path: Path, repository: Repository, cache: Path) -> None:
    fetch, table = FETCH[name]
    backwards = [list(reversed(row)) for row in [list(table.names), *made_rows(table)]]
    texts = {
        table.member: raw(table).encode(),
        "header.csv": with_header(table).encode(),
        "marked.csv": b"\xef\xbb\xbf" + with_header(table).replace("\n", "\r\n").encode(),
        "reordered.csv": "".join(",".join(row) + "\n" for row in backwards).encode(),
        "by_hand.zip": zipped(table),
    }
    bunches = []
    for file, written in texts.items():
        (tmp_path / file).write_bytes(written)
        bunches.append(fetch(path=tmp_path / file))
    assert content(cache) == []  # a local file is read where it lies
    bunches.append(fetch(source=repository.put("mirror/bare.txt", raw(table).encode())))
    assert len({bunch.sha256 for bunch in bunches}) == 1
    for bunch in bunches[1:]:
        np.testing.assert_array_equal(bunch.data, bunches[0].data)
    # the file of the cache is itself such a local file
    assert fetch(path=bunches[-1].filename).sha256 == bunches[0].sha256


def test_the_default_address_is_the_public_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Downloader:
        def __init__(self, **options) -> None:
            assert options["timeout"] > 0

        def __call__(self, url, output_file, pooch) -> None:
            asked.append(url)
            table = next(table for _, table in FETCH.values() if table.url == url)
            Path(output_file).write_bytes(zipped(table))

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
    for fetch, _ in FETCH.values():
        fetch()
    assert asked == [table.url for _, table in FETCH.values()]
    assert all(url.startswith("https://archive.ics.uci.edu/static/public/") for url in asked)


def test_the_cache_folder_is_the_named_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, repository) -> None:
    assert get_data_home() == tmp_path / "cache"
    fetch_servo(source=repository.put("servo.zip", zipped(SERVO)), data_home=tmp_path / "named")
    assert content(tmp_path / "named") == ["servo.csv"]
    assert content(tmp_path / "cache") == []
    monkeypatch.delenv("CONVEXNN_DATA")
    assert get_data_home() == Path.home() / "convexnn_data"
    assert get_data_home("~/x") == Path.home() / "x"


def test_a_copy_put_by_hand_into_the_cache_is_read(cache: Path) -> None:
    cache.mkdir()
    (cache / "servo.csv").write_text(raw(SERVO))
    assert fetch_servo(download_if_missing=False).data.shape == (167, 4)


# ----- encodings and forms


def test_letters_are_coded_as_documented(tmp_path: Path) -> None:
    path = tmp_path / "servo.data"
    path.write_text(raw(SERVO))
    motor = [row[0] for row in made_rows(SERVO)]
    ordinal, onehot = fetch_servo(path=path), fetch_servo(path=path, encoding="onehot")
    np.testing.assert_array_equal(ordinal.data[:, 0], ["ABCDE".index(letter) for letter in motor])
    assert onehot.feature_names[:2] == ["motor=A", "motor=B"]
    assert onehot.data.shape == (167, 12)
    np.testing.assert_array_equal(onehot.data[:, :5] @ np.arange(5), ordinal.data[:, 0])
    np.testing.assert_array_equal(onehot.data[:, :10].sum(axis=1), 2.0)
    np.testing.assert_array_equal(onehot.data[:, 10:], ordinal.data[:, 2:])
    assert ordinal.categories["screw"] == list("ABCDE")


def test_solar_letters_follow_the_documented_order(tmp_path: Path) -> None:
    path = tmp_path / "flare.data2"
    path.write_text(raw(SOLAR_FLARE))
    solar = fetch_solar_flare(path=path)
    for place, order in enumerate(["ABCDEFH", "XRSAHK", "XOIC"]):
        expected = [order.index(row[place]) for row in made_rows(SOLAR_FLARE)]
        np.testing.assert_array_equal(solar.data[:, place], expected)
    assert fetch_solar_flare(path=path, encoding="onehot").data.shape == (1066, 24)


@pytest.mark.parametrize("title", ["*** DATA2 ***", "DATA2: regions of 1978, in 13 columns", "DATA2", ""])
def test_solar_may_open_with_a_title(title: str, tmp_path: Path) -> None:
    path = tmp_path / "flare.data2"
    path.write_text(title + "\n" + raw(SOLAR_FLARE).partition("\n")[2])
    assert fetch_solar_flare(path=path).data.shape == (1066, 10)
    path.write_text("one title\nanother title\n" + raw(SOLAR_FLARE).partition("\n")[2])
    with pytest.raises(DatasetError, match="line 1: 2 values and no header"):
        fetch_solar_flare(path=path)


def test_vendors_are_dropped_numbered_or_spread(tmp_path: Path) -> None:
    path = tmp_path / "machine.data"
    path.write_text(raw(MACHINE))
    dropped = fetch_machine(path=path)
    assert dropped.feature_names == ["MYCT", "MMIN", "MMAX", "CACH", "CHMIN", "CHMAX"]  # neither ERP nor Model
    numbered, spread = fetch_machine(path=path, encoding="ordinal"), fetch_machine(path=path, encoding="onehot")
    np.testing.assert_array_equal(numbered.data[:, 1:], dropped.data)
    np.testing.assert_array_equal(spread.data[:, :30].argmax(axis=1), numbered.data[:, 0])
    vendors = sorted({row[0] for row in made_rows(MACHINE)})
    assert spread.feature_names[:30] == [f"VendorName={vendor}" for vendor in vendors]


@each_table
def test_frames_and_pairs_hold_the_same_numbers(name: str, tmp_path: Path) -> None:
    fetch, table = FETCH[name]
    path = tmp_path / "table.csv"
    path.write_text(with_header(table))
    bunch, framed = fetch(path=path), fetch(path=path, as_frame=True)
    X, y = fetch(path=path, return_X_y=True)
    np.testing.assert_array_equal(X, bunch.data)
    np.testing.assert_array_equal(y, bunch.target)
    assert bunch.frame is None
    assert isinstance(framed.data, pd.DataFrame)
    assert framed.target.name == table.target
    assert list(framed.frame.columns) == [*bunch.feature_names, table.target]
    np.testing.assert_array_equal(framed.data.to_numpy(), X)
    assert isinstance(fetch(path=path, as_frame=True, return_X_y=True)[1], pd.Series)


def test_the_ten_splits_are_disjoint_and_cover(tmp_path: Path) -> None:
    path = tmp_path / "servo.data"
    path.write_text(raw(SERVO))
    bunches = [fetch_servo(path=path, split=k) for k in range(10)]
    np.testing.assert_array_equal(np.sort(np.concatenate([bunch.test for bunch in bunches])), np.arange(167))
    for bunch in bunches:
        assert len(bunch.test) in (16, 17)
        np.testing.assert_array_equal(np.sort(np.r_[bunch.train, bunch.test]), np.arange(167))
        np.testing.assert_array_equal(bunch.X_train, bunch.data[bunch.train])
        np.testing.assert_array_equal(bunch.y_test, bunch.target[bunch.test])
    # the stream of RandomState is frozen: these are the test rows wherever numpy runs
    np.testing.assert_array_equal(bunches[0].test, np.sort(np.random.RandomState(0).permutation(167)[:17]))
    parts = fetch_servo(path=path, split=3, return_X_y=True, as_frame=True)
    for part, key in zip(parts, ("X_train", "y_train", "X_test", "y_test"), strict=True):
        np.testing.assert_array_equal(part.to_numpy(), bunches[3][key])


# ----- the network, the archive and the cache fail


def test_an_unreachable_network_is_a_clear_error(cache: Path) -> None:
    with pytest.raises(DatasetError, match=r"could not be downloaded from https://archive\.ics\.uci\.edu.*path="):
        fetch_servo()  # the suite refuses every connection that leaves this machine
    assert content(cache) == []


def test_a_closed_port_is_a_clear_error(repository: Repository, cache: Path) -> None:
    with pytest.raises(DatasetError, match="could not be downloaded from http://127.0.0.1:1/"):
        fetch_wine_quality(source="http://127.0.0.1:1/wine.zip")
    with pytest.raises(DatasetError, match="404"):
        fetch_wine_quality(source=repository.put("there.zip", b"").replace("there", "not-there"))
    assert content(cache) == []


def test_the_error_is_one_of_ours_and_of_the_system() -> None:
    with pytest.raises(ConvexNNError):
        fetch_servo()
    with pytest.raises(OSError, match="Without a network, name a local copy of servo.data"):
        fetch_servo()


def test_a_download_that_is_cut_short_leaves_nothing(repository: Repository, cache: Path) -> None:
    with pytest.raises(DatasetError, match="could not be downloaded"):
        fetch_servo(source=repository.put("cut.zip", zipped(SERVO)[:500]))
    assert content(cache) == []


ARCHIVES = [
    (b"<html>please log in</html>", "no usable zip archive"),
    (zipped(SERVO)[:-40], "no usable zip archive"),
    (b"PK" + bytes(200) + zipped(SERVO)[202:], "no usable zip archive"),
    (zipped(SERVO)[:200] + bytes(range(100)) + zipped(SERVO)[300:], "no usable zip archive"),
    (zipped(SERVO, member="other.data"), "holds no servo.data, only Index, other.data"),
    (zipped(SERVO, content=""), "empty"),
    (b"", "no usable zip archive"),
]


@pytest.mark.parametrize(("archive", "said"), ARCHIVES)
def test_a_broken_archive_leaves_nothing(archive: bytes, said: str, repository: Repository, cache: Path) -> None:
    with pytest.raises(DatasetError, match=said):
        fetch_servo(source=repository.put("servo.zip", archive))
    assert content(cache) == []
    fetch_servo(source=repository.put("servo.zip", zipped(SERVO)))  # and the next call succeeds
    assert content(cache) == ["servo.csv"]


def test_without_permission_to_download_the_cache_is_all(repository: Repository, cache: Path) -> None:
    with pytest.raises(DatasetError, match="servo is not in the cache.*download_if_missing=True"):
        fetch_servo(source=repository.put("servo.zip", zipped(SERVO)), download_if_missing=False)
    assert repository.requests == []
    assert content(cache) == []


def test_a_failing_write_leaves_nothing(repository, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("convexnn.datasets.cache.os.replace", fail)
    with pytest.raises(DatasetError, match="cannot be written .*No space left"):
        fetch_servo(source=repository.put("servo.zip", zipped(SERVO)))
    assert content(cache) == []


def test_an_interrupted_download_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self, url, output_file, pooch) -> None:
        Path(output_file).write_bytes(b"PK half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_servo()
    assert content(cache) == []


def altered(text: bytes) -> bytes:
    """One digit of the last row changed: still a value that the column allows."""
    at = text.rstrip().rfind(b",") - 1
    return text[:at] + (b"2" if text[at : at + 1] != b"2" else b"3") + text[at + 1 :]


CORRUPTIONS: list[Callable[[bytes], bytes]] = [
    altered,
    lambda text: text[: len(text) // 2],
    lambda text: b"",
    lambda text: text.partition(b"\n")[2].replace(b",", b"\xff", 1),
    lambda text: text.partition(b"\n")[2][:-200],
]


@pytest.mark.parametrize("corrupt", CORRUPTIONS)
def test_a_corrupt_cached_file_is_named_for_deletion(corrupt, repository: Repository, cache: Path) -> None:
    url = repository.put("servo.zip", zipped(SERVO))
    fetch_servo(source=url)
    path = cache / "servo.csv"
    path.write_bytes(corrupt(path.read_bytes()))
    damaged = path.read_bytes()
    with pytest.raises(DatasetError, match=re.escape(f"Delete {path}")):
        fetch_servo(source=url)
    assert path.read_bytes() == damaged  # a file that may be the user's own is not overwritten
    assert len(repository.requests) == 1
    path.unlink()
    assert fetch_servo(source=url).data.shape == (167, 4)


# ----- wrong schema, wrong values: row and column are named


def changed(table: Table, row: int, column: str, value: str) -> list[list[str]]:
    rows = made_rows(table)
    rows[row - 1][table.names.index(column)] = value
    return rows


BAD_VALUES = [
    ("servo", 3, "motor", "Q", "'Q' is not one of A, B, C, D, E"),
    ("servo", 167, "pgain", "7", r"7 lies outside \[3, 6\]"),
    ("servo", 1, "vgain", "2.5", "2.5 is not an integer"),
    ("servo", 4, "pgain", "0_4", "'0_4' is not a number"),
    ("servo", 2, "class", "nan", "nan lies outside"),
    ("servo", 2, "class", "inf", "inf lies outside"),
    ("servo", 9, "screw", "", "the value is missing"),
    ("machine", 100, "MYCT", "fast", "'fast' is not a number"),
    ("machine", 5, "VendorName", "?", "the value is missing"),
    ("solar_flare", 1066, "C", "9", "9 lies outside"),
    ("solar_flare", 8, "spot_distribution", "c", "'c' is not one of X, O, I, C"),
    ("wine_quality", 12, "density", "9978", "9978 lies outside"),
    ("wine_quality", 1599, "quality", "-1", "-1 lies outside"),
]


@pytest.mark.parametrize(("name", "row", "column", "value", "said"), BAD_VALUES)
def test_a_bad_value_is_named_by_row_and_column(name, row, column, value, said, tmp_path: Path) -> None:
    fetch, table = FETCH[name]
    path = tmp_path / "table.csv"
    path.write_text(with_header(table, changed(table, row, column, value)))
    with pytest.raises(DatasetError, match=rf"table\.csv, row {row} \(line {row + 1}\), column '{column}': {said}"):
        fetch(path=path)


@each_table
def test_a_missing_column_is_named_and_nothing_is_kept(name: str, repository: Repository, cache: Path) -> None:
    fetch, table = FETCH[name]
    rows = [list(table.names), *made_rows(table)]
    text = "".join(",".join(row[:1] + row[2:]) + "\n" for row in rows)
    with pytest.raises(DatasetError, match=rf"wrong columns: missing \['{table.names[1]}'\]"):
        fetch(source=repository.put("table.csv", text.encode()))
    bare = "".join(",".join(row[1:]) + "\n" for row in rows[1:])
    with pytest.raises(DatasetError, match=f"{len(table.names) - 1} values and no header; expected {len(table.names)}"):
        fetch(source=repository.put("table.data", bare.encode()))
    assert content(cache) == []


SCHEMAS = [
    (lambda rows: [[*rows[0], "extra"], *[[*row, "1"] for row in rows[1:]]], r"unknown \['extra'\]"),
    (lambda rows: [["motor", *rows[0]], *[["A", *row] for row in rows[1:]]], r"repeated \['motor'\]"),
    (lambda rows: rows[:-1], "holds 166 rows, but servo has 167"),
    (lambda rows: [*rows, rows[-1]], "holds 168 rows, but servo has 167"),
    (lambda rows: [*rows[:5], rows[5][:-1], *rows[6:]], r"row 5 \(line 6\): 4 values, expected 5"),
    (lambda rows: rows[:1], "holds 0 rows"),
]


@pytest.mark.parametrize(("change", "said"), SCHEMAS)
def test_a_wrong_schema_says_what_was_expected(change, said: str, tmp_path: Path) -> None:
    rows = change([list(SERVO.names), *made_rows(SERVO)])
    path = tmp_path / "servo.csv"
    path.write_text("\n".join(",".join(row) for row in rows))
    with pytest.raises(DatasetError, match=said):
        fetch_servo(path=path)


def test_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "winequality-red.csv"
    path.write_text(raw(WINE_QUALITY))
    with pytest.raises(DatasetError, match="12 values and no header; expected 5 columns"):
        fetch_servo(path=path)


def test_files_that_are_not_tables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        fetch_servo(path=tmp_path / "absent.csv")
    with pytest.raises(DatasetError, match="cannot be read"):
        fetch_servo(path=tmp_path / "absent.zip")
    with pytest.raises(DatasetError, match="cannot be read"):
        fetch_servo(path=tmp_path)
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DatasetError, match="not a text file"):
        fetch_servo(path=tmp_path / "picture.csv")
    (tmp_path / "servo.data").write_text(raw(SERVO))
    monkeypatch.setattr("convexnn.datasets.cache.MAX_BYTES", 100)
    with pytest.raises(DatasetError, match="at most 100"):
        fetch_servo(path=tmp_path / "servo.data")
    (tmp_path / "servo.zip").write_bytes(zipped(SERVO))
    with pytest.raises(DatasetError, match="at most 100"):
        fetch_servo(path=tmp_path / "servo.zip")


BAD_ARGUMENTS = [
    ({"encoding": "letters"}, "encoding must be one of 'ordinal', 'onehot'"),
    ({"split": 10}, "split must be an integer from 0 to 9"),
    ({"split": True}, "split must be"),
    ({"source": "ftp://example.org/servo.zip"}, "http or https"),
    ({"source": "http://127.0.0.1/servo.zip", "path": "servo.data"}, "not both"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD_ARGUMENTS)
def test_bad_arguments_are_named(arguments, said: str, cache: Path) -> None:
    with pytest.raises(InvalidInputError, match=said):
        fetch_servo(**arguments)
    assert content(cache) == []


# ----- the real files, where they lie beside the repository

REAL = [
    (fetch_servo, "servo.csv", SERVO),
    (fetch_machine, "machine.csv", MACHINE),
    (fetch_solar_flare, "solar_flare.csv", SOLAR_FLARE),
    (fetch_wine_quality, "winequality_red.csv", WINE_QUALITY),
]


@pytest.mark.parametrize(("fetch", "file", "table"), REAL)
def test_the_real_tables_check(fetch, file: str, table: Table) -> None:
    bunch = fetch(path=require_shared("data", file))
    assert len(bunch.target) == {"servo": 167, "machine": 209, "solar_flare": 1066, "wine_quality": 1599}[table.name]
    assert bunch.sha256 == table.sha256
    assert "equal to the one" in bunch.DESCR


def test_the_quirks_of_the_real_tables_are_as_told() -> None:
    X, C = fetch_solar_flare(path=require_shared("data", "solar_flare.csv"), return_X_y=True)
    assert len(np.unique(X, axis=0)) == 244
    assert np.ptp(X[:, -1]) == 0
    assert (C.min(), C.max(), np.median(C)) == (0, 8, 0)
    wine = fetch_wine_quality(path=require_shared("data", "winequality_red.csv"))
    assert len(np.unique(np.c_[wine.data, wine.target], axis=0)) == 1599 - 240
    machine = fetch_machine(path=require_shared("data", "machine.csv"), encoding="onehot")
    assert len(machine.categories["VendorName"]) == 30


# ----- the splits of the collection

SPLITS = [("servo", 167, 4), ("machine", 209, 7), ("solar", 1066, 10), ("wine", 1599, 11)]


@pytest.mark.parametrize(("name", "n", "d"), SPLITS)
def test_the_splits_of_the_collection_are_disjoint_and_cover(name: str, n: int, d: int) -> None:
    folder = require_shared("data", "splits")
    seen = np.zeros(n, dtype=int)
    for k in range(10):
        bunch = load_split(name, k, folder)
        assert bunch.X_train.shape[1] == bunch.X_test.shape[1] == d == len(bunch.feature_names)
        assert abs(len(bunch.y_test) - n / 10) < 1
        np.testing.assert_array_equal(np.sort(np.r_[bunch.train, bunch.test]), np.arange(n))
        np.testing.assert_array_equal(bunch.data[bunch.train], bunch.X_train)
        seen[bunch.test] += 1
    assert (seen == 1).all()
    parts = load_split(name, 9, folder.parent, return_X_y=True, as_frame=True)
    np.testing.assert_array_equal(parts[3].to_numpy(), bunch.y_test)
    assert parts[0].columns.tolist() == bunch.feature_names


def sorted_rows(rows: np.ndarray) -> np.ndarray:
    rounded = np.round(rows - rows.mean(axis=0), 2)
    return rounded[np.lexsort(rounded.T)]


def collection(name: str) -> np.ndarray:
    bunch = load_split(name, 0, require_shared("data", "splits"))
    return np.c_[bunch.data, bunch.target]


def test_the_collection_holds_the_original_rows_with_the_told_changes() -> None:
    servo = fetch_servo(path=require_shared("data", "servo.csv"))
    np.testing.assert_allclose(
        sorted_rows(np.c_[servo.data, np.log(servo.target)]), sorted_rows(collection("servo")), atol=0.011
    )
    wine = fetch_wine_quality(path=require_shared("data", "winequality_red.csv"))
    original = np.c_[wine.data[:, :-1], wine.target, wine.data[:, -1]]  # quality a feature, alcohol the target
    for j in range(12):  # column by column: rounding to five digits changes the order of equal rows
        ours, theirs = np.sort(original[:, j] - original[:, j].mean()), np.sort(collection("wine")[:, j])
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=2e-3 * np.std(theirs))


def test_solar_letters_of_the_collection_are_places_in_the_alphabet() -> None:
    solar = fetch_solar_flare(path=require_shared("data", "solar_flare.csv"))
    data = solar.data.copy()
    for place, feature in enumerate(("class", "largest_spot_size", "spot_distribution")):
        letters = np.array([ord(letter) - ord("A") for letter in solar.categories[feature]])
        data[:, place] = letters[data[:, place].astype(int)]
    theirs = collection("solar")
    assert len(np.unique(theirs[:, :-1], axis=0)) == 244
    assert np.ptp(theirs[:, -2]) == 0
    np.testing.assert_allclose(sorted_rows(np.c_[data, solar.target]), sorted_rows(theirs), atol=0.011)


def test_two_rows_of_machine_are_shifted_in_the_collection() -> None:
    machine = fetch_machine(path=require_shared("data", "machine.csv"))
    theirs = collection("machine")
    shifted = theirs[:, 0] > 1000
    assert shifted.sum() == 2
    original, kept = np.c_[machine.data, np.log(machine.target)][:-2], theirs[~shifted, 1:]  # wang stands last
    kept_min = kept.min(axis=0)
    ours, rest = np.sort(original - original.min(axis=0), axis=0), np.sort(kept - kept_min, axis=0)
    # the other 207 rows are those of the original, up to five digits
    np.testing.assert_allclose(rest[:, :6], ours[:, :6], rtol=1e-3, atol=2)
    np.testing.assert_allclose(rest[:, 6], ours[:, 6], atol=1e-3)
    raw_features, target = theirs[shifted, 6] - kept_min[5], theirs[shifted, 7] - kept_min[6] + original.min(axis=0)[6]
    # wang's vs-100: 480, 512, 8000, 32, 0, 0 with PRP 67 and ERP 47
    np.testing.assert_allclose(raw_features, [67, 45], atol=0.1)
    np.testing.assert_allclose(np.exp(target), [47, 25], atol=0.1)


def made_collection(folder: Path, values: np.ndarray, mask: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    np.savetxt(folder / "servo.csv", values, delimiter=",", fmt="%.5g")
    np.savetxt(folder / "servo_test_mask.csv", mask, delimiter=",", fmt="%g")
    return folder


def test_a_made_collection_is_read_and_its_faults_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    values, mask = rng.standard_normal((167, 5)), np.eye(10)[np.arange(167) % 10]
    made_collection(tmp_path / "good" / "data" / "splits", values, mask)
    X_train, y_train, X_test, y_test = load_split("servo", 4, tmp_path / "good", return_X_y=True)
    np.testing.assert_allclose(X_test, values[4::10, :4], rtol=1e-4)
    assert (len(y_train), len(X_train), len(y_test)) == (150, 150, 17)

    missing = values.copy()
    missing[6, 2] = np.nan
    faults = {
        "row 7, column 3: 'nan' is not a finite number": (missing, mask),
        "holds 166 rows, expected 167": (values[1:], mask),
        "row 1: 4 values, expected 5": (values[:, 1:], mask),
        "row 3, column 3: 2 is neither 0 nor 1": (values, mask + np.outer(np.arange(167) == 2, np.eye(10)[2])),
        "row 1: a test row in 2 of 10 splits": (values, np.maximum(mask, np.outer(np.arange(167) == 0, np.eye(10)[5]))),
    }
    for number, (said, tables) in enumerate(faults.items()):
        with pytest.raises(DatasetError, match=said):
            load_split("servo", 0, made_collection(tmp_path / str(number), *tables))


def test_an_absent_collection_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no wine_test_mask.csv in"):
        load_split("wine", 0, tmp_path)
    (tmp_path / "wine_test_mask.csv").write_text("0")
    with pytest.raises(DatasetError, match=r"wine\.csv cannot be read"):
        load_split("wine_quality", 0, tmp_path)
    with pytest.raises(InvalidInputError, match="name must be one of 'servo'"):
        load_split("iris", 0, tmp_path)
    with pytest.raises(InvalidInputError, match="split must be"):
        load_split("wine", None, tmp_path)  # type: ignore[arg-type]

"""Files: what was written comes back, nothing is unpickled, and damage of any kind is one clear error."""

from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest

from convexnn.archive import read_archive, write_archive
from convexnn.certificate import Certificate
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network

HEADER = {"format": "test", "version": 1}


@pytest.fixture
def saved(tmp_path):
    return Network.shallow([[1.0, 2.0], [3.0, 4.0]], [0.0, 1.0], [1.0, -1.0], 0.5).save(tmp_path / "network.npz")


def read(path):
    return read_archive(path, format="test", version=1)


def test_header_and_arrays_come_back(tmp_path, rng) -> None:
    arrays = {
        "a": rng.standard_normal((3, 2)),
        "flags": np.array([True, False]),
        "n": np.arange(3),
        "t": np.array("x"),
    }
    header = HEADER | {"nested": {"list": [1, 2.5, None, "ä"]}, "numpy": np.float64(0.1), "count": np.int64(3)}
    path = write_archive(tmp_path / "plain", header, arrays)
    assert path == tmp_path / "plain"
    found, back = read(path)
    assert found == HEADER | {"nested": header["nested"], "numpy": 0.1, "count": 3}
    assert set(back) == set(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(back[name], values)


@pytest.mark.parametrize(
    ("header", "arrays"),
    [
        (HEADER, {"a": np.array([object()])}),
        (HEADER, {"a": np.array([1j])}),
        (HEADER, {"header": np.ones(2)}),
        (HEADER, {"file": np.ones(2)}),
        (HEADER | {"x": object()}, {}),
    ],
)
def test_what_has_no_plain_form_is_refused_and_an_old_file_stays(header, arrays, tmp_path) -> None:
    path = write_archive(tmp_path / "file.npz", HEADER, {"a": np.ones(2)})
    with pytest.raises(InvalidInputError, match="stored"):
        write_archive(path, header, arrays)
    assert read(path)[1]["a"].tolist() == [1.0, 1.0]


def test_a_missing_file_is_a_missing_file(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        Network.load(tmp_path / "absent.npz")


class Trap:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickles_are_never_opened(tmp_path) -> None:
    sprung = tmp_path / "sprung"
    inside = tmp_path / "inside.npz"
    header = np.array(json.dumps({"format": "convexnn.network", "version": 1}))
    np.savez(inside, header=header, W0=np.array([Trap(sprung)], dtype=object))
    bare = tmp_path / "bare.npz"
    bare.write_bytes(pickle.dumps(Trap(sprung)))
    for path in (inside, bare):
        with pytest.raises(InvalidInputError, match=r"not a readable convexnn\.network file"):
            Network.load(path)
    assert not sprung.exists()


def other_file(tmp_path, kind: str):
    path = tmp_path / f"{kind}.npz"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an archive")
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme", "hello")
    elif kind == "no header":
        np.savez(path, W0=np.ones((1, 1)))
    elif kind == "header is no json":
        np.savez(path, header=np.array("{"))
    elif kind == "header is a list":
        np.savez(path, header=np.array("[1, 2]"))
    elif kind == "header is a number":
        np.savez(path, header=np.array(1.5))
    elif kind == "nested header":
        np.savez(path, header=np.array("[" * 100_000))
    elif kind == "complex":
        header = json.dumps({"format": "convexnn.network", "version": 1})
        np.savez(path, header=np.array(header), W0=np.ones((1, 1)) * 1j)
    return path


KINDS = [
    "empty", "text", "npy", "zip", "no header", "header is no json", "header is a list", "header is a number",
    "nested header", "complex",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_other_files_are_refused(kind, tmp_path) -> None:
    with pytest.raises(InvalidInputError, match=r"convexnn\.network file"):
        Network.load(other_file(tmp_path, kind))


def test_a_small_file_cannot_fill_the_memory(tmp_path, monkeypatch) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, header=np.array(json.dumps(HEADER)), zeros=np.zeros(200_000))
    assert path.stat().st_size < 10_000
    assert read(path)[1]["zeros"].shape == (200_000,)
    monkeypatch.setattr("convexnn.archive.MAX_BYTES", 100_000)
    with pytest.raises(InvalidInputError, match=r"unpacks to 16\d+ bytes"):
        read(path)


def test_a_folder_is_refused(tmp_path) -> None:
    with pytest.raises(InvalidInputError, match="not a readable"):
        Network.load(tmp_path)


def test_files_of_another_kind_or_version_are_named(saved, tmp_path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"not a convexnn\.certificate file of version 1; its header says .*network"
    ):
        Certificate.load(saved)
    path = write_archive(tmp_path / "new.npz", {"format": "convexnn.network", "version": 2}, {})
    with pytest.raises(InvalidInputError, match="its header says .* 2"):
        Network.load(path)


def test_every_truncation_is_refused(saved, tmp_path) -> None:
    content = saved.read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(InvalidInputError):
            Network.load(path)


def test_damaged_bytes_give_the_same_network_or_an_error(saved, tmp_path, rng) -> None:
    network, content = Network.load(saved), saved.read_bytes()
    path = tmp_path / "damaged.npz"
    for position in range(int(rng.integers(5)), len(content), 5):
        damaged = bytearray(content)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(damaged))
        try:
            assert Network.load(path) == network  # a byte that carries no meaning, such as a date
        except InvalidInputError:
            continue


def rewritten(path, tmp_path, *, header=None, **arrays):
    """The archive with some members replaced (None removes one)."""
    found, members = read_archive(path, format="convexnn.network", version=1)
    members = {name: value for name, value in (members | arrays).items() if value is not None}
    return write_archive(tmp_path / "rewritten.npz", found | (header or {}), members)


TAMPERED = [
    ({"W0": np.array([[np.nan, 2.0], [3.0, 4.0]])}, "NaN"),
    ({"b1": np.array([np.inf])}, "NaN or inf"),
    ({"W1": None}, "W1"),
    ({"W0": np.ones((2, 2, 2))}, "2 dimension"),
    ({"W0": np.ones((3, 2))}, "bias of length"),
    ({"W0": np.array([["1", "2"], ["3", "4"]])}, "must hold numbers"),
    ({"header": {"n_layers": 1}}, "got 1 layer"),
    ({"header": {"n_layers": 3}}, "W2"),
    ({"header": {"n_layers": "many"}}, "valid network"),
    ({"header": {"n_layers": None}}, "valid network"),
    ({"header": {"activation": "softmax"}}, "softmax"),
    ({"header": {"activation": None}}, "None"),
    ({"header": {"parameters": [0.5]}}, "parameters"),
    ({"header": {"parameters": None}}, "valid network"),
    ({"header": {"activation": "leaky_relu", "parameters": [3.0]}}, "slope"),
]


@pytest.mark.parametrize(("change", "named"), TAMPERED)
def test_unusable_contents_are_named(change, named, saved, tmp_path) -> None:
    with pytest.raises(InvalidInputError, match=named):
        Network.load(rewritten(saved, tmp_path, **change))

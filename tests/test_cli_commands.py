"""The commands region, path, safe, report, convert and show: against the library, and what they refuse."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from convexnn.certificate import Certificate
from convexnn.certificates.region import region_bound
from convexnn.cli import main
from convexnn.datasets import make_adversarial_spheres
from convexnn.network import Network
from convexnn.threats import Box, L2Ball


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def network(rng):
    network = Network.shallow(rng.standard_normal((5, 2)), rng.standard_normal(5), rng.standard_normal(5))
    network.save("net.npz")
    return network


@pytest.fixture
def ask(capsys):
    def call(line: str) -> dict:
        main([*shlex.split(line), "--json"])
        return json.loads(capsys.readouterr().out)

    return call


def sentence(line: str, capsys) -> str:
    assert main(shlex.split(line)) == 2
    return capsys.readouterr().err


# -- region ----------------------------------------------------------------------------------------


def test_region_bounds_are_those_of_the_library(network, ask, rng) -> None:
    ball, box = ask("region net.npz --radius 0.7"), ask("region net.npz --lower -1 0 --upper 1 --method crown")
    assert ball["bound"] == region_bound(network, L2Ball(0.7)).bound
    assert box["bound"] == region_bound(network, Box(np.array([-1.0, 0.0]), np.ones(2)), method="crown").bound
    E = rng.standard_normal((2000, 2))
    values = network(0.7 * E / np.linalg.norm(E, axis=1, keepdims=True))
    assert ball["lower"] <= ball["bound"]
    assert values.max() <= ball["bound"]
    assert ball["verdict"] is None
    assert ball["exit_code"] == 0


def test_region_verdicts_are_exit_codes(network, ask, capsys) -> None:
    found = ask("region net.npz --radius 0.7 --method ibp")
    lower, bound = found["lower"], found["bound"]
    assert lower < bound
    for below, verdict, code in (
        (bound + 1e-6, "proved", 0),
        (lower, "falsified", 1),
        (0.5 * (lower + bound), "unknown", 3),
    ):
        answer = ask(f"region net.npz --radius 0.7 --method ibp --below {below!r}")
        assert (answer["verdict"], answer["exit_code"]) == (verdict, code)
        assert main(shlex.split(f"region net.npz --radius 0.7 --method ibp --below {below!r}")) == code
        assert verdict in capsys.readouterr().out


def test_region_around_a_center_and_between_outputs(ask, rng) -> None:
    network = Network(
        [(rng.standard_normal((4, 3)), rng.standard_normal(4)), (rng.standard_normal((2, 4)), np.zeros(2))]
    )
    network.save("net.npz")
    point = ask("region net.npz --norm inf --center 0.5 -1 2e-1 --radius 0 --of 1 --minus 0 --save cert.npz")
    value = network(np.array([[0.5, -1.0, 0.2]]))[0]
    assert point["bound"] == pytest.approx(value[1] - value[0], rel=1e-9)
    checked = ask("check cert.npz net.npz")["checks"][0]
    assert checked["holds"]
    outputs, region = checked["about"]  # a certificate of a smaller region is another statement
    assert "- f_0 + f_1 of 2 outputs" in outputs
    assert "center [ 0.5, -1. , 0.2], axes [0., 0., 0.]" in region
    assert ask("show cert.npz")["certificate"]["quantity"] == "region maximum"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("", "Give either --radius"),
        ("--radius 1 --lower 0 --upper 1", "Give either --radius"),
        ("--lower 0", "needs --lower and --upper"),
        ("--lower 1 --upper 0", "at most"),
        ("--radius -1", "nonnegative"),
        ("--radius nan", "nonnegative"),
        ("--radius 1 --center 1 2 3", "needs 2 numbers"),
        ("--radius 1 --below nan", "finite"),
        ("--radius 1 --method magic", "magic"),
        ("--radius 1 --of 7", "output"),
    ],
)
def test_regions_that_mean_nothing_are_refused(network, options, word, capsys) -> None:
    assert word in sentence(f"region net.npz {options}", capsys)


# -- convert and show ------------------------------------------------------------------------------


def test_convert_there_and_back_changes_nothing(network, ask, rng) -> None:
    assert ask("convert net.npz net.onnx")["largest_change"] == 0.0
    assert ask("convert net.onnx back.npz")["largest_change"] == 0.0
    assert Network.load("back.npz") == network
    assert ask("show net.onnx")["network"]["fingerprint"] == network.fingerprint()
    rounded = ask("convert net.npz single.onnx --dtype float32")["largest_change"]
    assert 0 < rounded <= 2.0**-24 * max(np.abs(network.W).max(), np.abs(network.b).max(), np.abs(network.v).max())


def test_convert_and_show_refuse(network, capsys) -> None:
    assert ".onnx" in sentence("convert net.npz net.pt", capsys)
    assert "no folder" in sentence("convert net.npz no/net.onnx", capsys)
    assert "nowhere.npz" in sentence("show nowhere.npz", capsys)
    Path("bad.npz").write_bytes(b"no archive")
    assert "neither a network" in sentence("show bad.npz", capsys)
    Path("bad.onnx").write_bytes(b"no graph")
    assert "Traceback" not in sentence("show bad.onnx", capsys)


# -- path, safe, report ----------------------------------------------------------------------------


@pytest.mark.slow
def test_path_goes_down_and_writes(network, ask, rng) -> None:
    X = rng.standard_normal((20, 2))
    np.savez("data.npz", X=X, y=np.abs(X[:, 0]))
    options = "--network net.npz --lams 0.01 0.1 1 --csv path.csv --plot path.png --networks nets"
    record = ask(f"path data.npz {options}")
    rows = record["rows"]
    assert [row["lam"] for row in rows] == [1.0, 0.1, 0.01]
    assert all(row["gap"] <= 1e-6 for row in rows)
    losses = [row["loss"] for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert [Network.load(file).n_inputs for file in record["files"]] == [2, 2, 2]
    with open("path.csv", encoding="utf-8") as file:
        assert len(file.readlines()) == 4
    assert Path("path.png").read_bytes()[:4] == b"\x89PNG"


def test_path_refuses_before_any_work(network, capsys) -> None:
    np.savez("data.npz", X=np.zeros((4, 3)), y=np.zeros(4))
    assert "no folder" in sentence("path data.npz --csv no/where.csv", capsys)
    assert "features" in sentence("path data.npz --network net.npz", capsys)


@pytest.mark.slow
def test_safe_writes_a_network_and_its_proof(ask, capsys) -> None:
    X, y = make_adversarial_spheres(400, 3, random_state=0)
    np.savez("points.npz", X=X, y=y)
    record = ask("safe points.npz --radius 1 --max-iter 60")
    assert record["bound"] < 0
    assert record["accuracy"] > 0.7
    proof, network = Certificate.load("certificate.npz"), Network.load("network.npz")
    assert proof.check(network) == pytest.approx(record["bound"], rel=1e-9)
    assert main(["check", "certificate.npz", "network.npz"]) == 0
    capsys.readouterr()
    assert "no folder" in sentence("safe points.npz --radius 1 --output no/net.npz", capsys)
    assert "needs 3 numbers" in sentence("safe points.npz --radius 1 --center 1 2", capsys)


def test_report_writes_page_and_table(ask, rng, capsys) -> None:
    network = Network(
        [(rng.standard_normal((4, 3)), rng.standard_normal(4)), (rng.standard_normal((3, 4)), np.zeros(3))]
    )
    network.save("net.npz")
    X = rng.random((4, 3))
    np.savez("points.npz", X=X, y=network(X).argmax(axis=1))
    line = "report --model net.npz --data points.npz --radius 0.01 0.2 --method crown"
    record = ask(f"{line} --html page.html --csv table.csv")
    attacked, certified = np.array(record["attack_error"]), np.array(record["certified_error"])[:, :, 0]
    assert attacked.shape == certified.shape == (1, 2)
    assert (attacked <= certified).all()
    assert "<html" in Path("page.html").read_text(encoding="utf-8")
    assert "no folder" in sentence(f"{line} --html no/page.html", capsys)
    assert "different file names" in sentence(f"{line.replace('net.npz', 'net.npz net.npz')}", capsys)

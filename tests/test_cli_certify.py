"""``convexnn certify``: exit codes, tables and JSON, files written, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from convexnn.cli import main
from convexnn.exchange import Case, Property, read_vnnlib, write_vnnlib
from convexnn.network import Network
from convexnn.threats import L2Ball
from convexnn.verification import CertificationReport, certify


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def network():
    """The classes are the signs of the one input: f_1 - f_0 = x, so the margin of x is |x|."""
    network = Network.shallow([[1.0], [-1.0]], [0.0, 0.0], [[0.0, 1.0], [1.0, 0.0]], [0.0, 0.0])
    network.save("net.npz")
    network.to_onnx("net.onnx", np.float64)
    return network


def data(*points, name="data.npz", labels=None):
    X = np.array(points, dtype=float)[:, None]
    y = (X[:, 0] > 0).astype(int) if labels is None else labels
    np.savez(name, X=X, y=y)
    return X, y


def prop(level, name="p.vnnlib"):
    """Unsafe is ``f_1 >= level`` for x in [0, 1], where f_1 = x."""
    write_vnnlib(name, Property((Case([0.0], [1.0], [[0.0, 1.0]], [-level]),), 1, 2))


def run(*words):
    return main(["certify", *words])


# -- properties -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["net.npz", "net.onnx"])
@pytest.mark.parametrize(("level", "code", "word"), [(1.5, 0, "unsat"), (0.5, 1, "sat")])
def test_a_property_and_its_exit_code(network, capsys, model, level, code, word):
    if model.endswith("onnx"):
        pytest.importorskip("onnx")
    prop(level)
    assert run("--model", model, "--property", "p.vnnlib", "--counterexample", "ce.txt") == code
    shown = capsys.readouterr()
    assert f"\n{word}: The property" in shown.out
    assert shown.err == ""
    lines = (read := Path("ce.txt").read_text()).splitlines()
    assert lines[0] == word
    if code:
        x, y0, y1 = (float(line.strip("()").split()[1]) for line in lines[1:])
        assert [y0, y1] == network(np.array([[x]]))[0].tolist()
        assert 0 <= x <= 1
        assert y1 >= level
    else:
        assert read == "unsat\n"


def test_a_property_as_json(network, capsys):
    prop(0.5)
    assert run("--model", "net.npz", "--property", "p.vnnlib", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["verdict"], found["case"], found["rigorous"]) == ("violated", "sat", 0, True)
    assert found["network"] == network.fingerprint()
    assert found["counterexample"]["y"] == network(np.array([found["counterexample"]["x"]]))[0].tolist()
    prop(1.5)
    assert run("--model", "net.npz", "--property", "p.vnnlib", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counterexample"] is None
    assert found["bounds"][0] < 0


def test_an_unknown_property_exits_with_three(network, capsys):
    prop(0.5)
    assert run("--model", "net.npz", "--property", "p.vnnlib", "--time-limit", "0", "--counterexample", "ce.txt") == 3
    assert "unknown: Unknown: time limit." in capsys.readouterr().out
    assert Path("ce.txt").read_text() == "unknown\n"


# -- samples --------------------------------------------------------------------------------------


def test_samples_and_their_exit_codes(network, capsys):
    data(0.5, -0.7, 2.0)
    assert run("--model", "net.npz", "--data", "data.npz", "--radius", "0.4") == 0
    assert "certified      3   100.0%" in capsys.readouterr().out
    assert run("--model", "net.npz", "--data", "data.npz", "--radius", "0.6", "--norm", "inf") == 1
    out = capsys.readouterr().out
    assert "falsified      1" in out
    assert "certified 0.6666 <= robust <= 0.6667" in out
    # the nearest point of the other class lies outside of the clip
    assert run("--model", "net.npz", "--data", "data.npz", "--radius", "0.6", "--clip", "-3", "3") == 1
    data(0.5)
    assert run("--model", "net.npz", "--data", "data.npz", "--radius", "0.6", "--clip", "0.1", "3") == 0
    assert run("--model", "net.npz", "--data", "data.npz", "--radius", "0.4", "--time-limit", "0") == 3


def test_samples_as_json_and_as_lines(network, capsys):
    X, y = data(0.5, -0.7, 0.1)
    words = ("--model", "net.npz", "--data", "data.npz", "--radius", "0.3", "--output", "run.jsonl")
    assert run(*words, "--json") == 1
    shown = capsys.readouterr()
    assert shown.err == ""
    found = json.loads(shown.out)
    assert found["counts"] == {"certified": 2, "falsified": 1, "unknown": 0}
    assert [verdict["status"] for verdict in found["verdicts"]] == ["certified", "certified", "falsified"]
    assert abs(found["verdicts"][2]["counterexample"][0] - 0.1) <= 0.3
    assert found["threat"] == {"type": "L2Ball", "radius": 0.3, "clip": None}
    assert found["certified_accuracy"] <= found["robust_accuracy"] <= found["clean_accuracy"]
    report = certify(network, X, y, L2Ball(0.3), output="run.jsonl", random_state=0)  # goes on with the file
    assert isinstance(report, CertificationReport)
    assert report.statuses == ["certified", "certified", "falsified"]
    assert len(Path("run.jsonl").read_text().splitlines()) == 4
    assert run(*words[:5], "0.2", *words[6:]) == 2  # another radius: the file is of another run
    assert "another run" in capsys.readouterr().err


def test_certificates_are_written_and_check(network, capsys):
    data(0.5, -0.7, 0.1)
    words = ("--model", "net.npz", "--data", "data.npz", "--radius", "0.3", "--certificates", "proofs")
    assert run(*words) == 1
    assert "certificates: 2 file(s) in proofs" in capsys.readouterr().out
    assert main(["check", "proofs", "net.npz"]) == 0
    assert main(["check", "proofs", "net.onnx"]) == 0
    assert main(["lipschitz", "net.onnx"]) == 0


def test_data_from_csv_and_long_tables(network, capsys):
    X, y = data(*np.linspace(1, 2, 40))
    np.savetxt("data.csv", np.column_stack([y, X]), delimiter=",", header="class,x", comments="")
    words = ("--model", "net.npz", "--data", "data.csv", "--target", "class", "--radius", "0.5")
    assert run(*words) == 0
    assert "verdict" not in capsys.readouterr().out
    assert run(*words, "--verbose") == 0
    out = capsys.readouterr().out
    assert "verdict" in out
    assert "39" in out


def test_bounds_in_tables_are_rounded_outward(network, capsys):
    for x in (0.512345, 0.512365):  # the worst margins -0.412345 and -0.412365: the second would round to -0.4124
        data(x)
        assert run("--model", "net.npz", "--data", "data.npz", "--radius", "0.1", "--method", "crown") == 0
        assert "-0.4123  crown" in capsys.readouterr().out


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "net.npz"), "Give either --property or --data"),
        (("--model", "net.npz", "--data", "data.npz", "--property", "p.vnnlib"), "Give either"),
        (("--model", "net.npz", "--data", "data.npz"), "--data needs --radius"),
        (("--model", "net.npz", "--property", "p.vnnlib", "--radius", "1"), "--radius is for --data"),
        (("--model", "net.npz", "--data", "data.npz", "--radius", "1", "--counterexample", "c"), "is for --property"),
        (("--model", "net.pt", "--data", "data.npz", "--radius", "1"), "an .npz file of convexnn or an .onnx file"),
        (("--model", "ghost.npz", "--data", "data.npz", "--radius", "1"), "There is no file"),
        (("--model", "net.npz", "--data", "data.npz", "--radius", "-1"), "radius must be finite"),
        (("--model", "net.npz", "--data", "data.npz", "--radius", "1", "--method", "magic"), "Unknown method 'magic'"),
        (("--model", "net.npz", "--data", "data.npz", "--radius", "1", "--clip", "2", "1"), "lower <= upper"),
        (("--model", "net.npz", "--data", "wide.npz", "--radius", "1"), "has 2 features, the network takes 1"),
        (("--model", "net.npz", "--data", "odd.npz", "--radius", "1"), "abel"),
        (("--model", "net.npz", "--data", "data.npz", "--radius", "1", "--output", "no/dir.jsonl"), "no folder"),
        (("--model", "net.npz", "--property", "bad.vnnlib"), "bad.vnnlib, line 1, column 1"),
        (("--model", "net.npz", "--property", "other.vnnlib"), "2 inputs and 1 outputs, the network has 1 and 2"),
        (("--model", "broken.npz", "--property", "p.vnnlib"), "broken.npz"),
    ],
)
def test_what_cannot_be_used_exits_with_two(network, capsys, words, message):
    data(0.5)
    prop(1.5)
    np.savez("wide.npz", X=np.ones((2, 2)), y=np.ones(2))
    data(0.5, name="odd.npz", labels=np.array([0.5]))
    write_vnnlib("other.vnnlib", Property((), 2, 1))
    for name, text in (("bad.vnnlib", "(assert"), ("broken.npz", "not a network")):
        Path(name).write_text(text)
    assert run(*words) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.startswith("convexnn: ")
    assert shown.out == ""


def test_graphs_that_are_no_networks_exit_with_two(capsys):
    pytest.importorskip("onnx")
    from tests._graphs import graph

    Path("soft.onnx").write_bytes(graph([("Softmax", "x", "y")], (1, 2)))
    data(0.5)
    assert run("--model", "soft.onnx", "--data", "data.npz", "--radius", "1") == 2
    assert "(Softmax) is not supported" in capsys.readouterr().err


def test_help_and_usage(capsys):
    assert main(["certify", "--help"]) == 0
    assert "3   neither proved nor falsified" in capsys.readouterr().out
    assert run() == 2
    assert run("--model", "n", "--data", "d", "--norm", "1", "--radius", "1") == 2


def test_written_properties_are_those_that_were_asked(network):
    prop(1.5)
    assert read_vnnlib("p.vnnlib").cases[0].offset.tolist() == [-1.5]

"""``--json`` on every command: one valid object on stdout, whatever happens; completion, help and progress."""

from __future__ import annotations

import io
import json
import logging
import math
import shlex
import shutil
import subprocess
import time

import numpy as np
import pytest

from convexnn.certificates.lipschitz import lipschitz
from convexnn.cli import main
from convexnn.cli.completion import SCRIPTS, commands
from convexnn.cli.define_proofs import COMMANDS as PROOFS
from convexnn.cli.define_tools import COMMANDS as TOOLS
from convexnn.cli.define_training import COMMANDS as TRAININGS
from convexnn.cli.output import Output
from convexnn.cli.parser import UsageError, build_parser
from convexnn.cli.progress import Heartbeat
from convexnn.cli.records import Record, plain
from convexnn.exceptions import SolverError
from convexnn.network import Network
from convexnn.verification.progress import _Lines

ALL = (*TRAININGS, *PROOFS, *TOOLS)
EVERYWHERE = {"convexnn", "schema", "command", "exit_code", "error", "warnings", "elapsed_seconds"}


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def strict(text: str) -> dict:
    """The one object of a text; NaN and Infinity are refused."""
    return json.loads(text, parse_constant=refuse)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    Network.shallow(rng.standard_normal((5, 2)), rng.standard_normal(5), rng.standard_normal(5)).save("net.npz")
    np.savez("data.npz", X=rng.standard_normal((8, 2)), y=rng.standard_normal(8))


@pytest.fixture
def ask(capsys):
    def call(line: str) -> tuple[dict, str]:
        code = main([*shlex.split(line), "--json"])
        shown = capsys.readouterr()
        record = strict(shown.out)
        assert set(record) >= EVERYWHERE
        assert record["exit_code"] == code
        assert record["schema"] == 1
        assert (record["error"] is None) == (code in (0, 3))
        return record, shown.err

    return call


# -- the object ------------------------------------------------------------------------------------


def test_numbers_that_json_does_not_know_are_words() -> None:
    record = Record("x", {"a": np.array([1.0, np.inf, -np.inf, np.nan]), "b": np.float32(0.5), "c": np.int64(3)})
    found = strict(record.text("1", 0, 0.1))
    assert found["a"] == [1.0, "inf", "-inf", "nan"]
    assert [float(one) for one in found["a"][1:3]] == [math.inf, -math.inf]
    assert (found["b"], found["c"]) == (0.5, 3)
    assert plain({"flag": np.True_, "place": (1, None)}) == {"flag": True, "place": [1, None]}
    with pytest.raises(TypeError, match="no place in a record"):
        plain(object())


def test_lipschitz_record_brackets_and_saves(ask) -> None:
    record, err = ask("lipschitz net.npz --save cert.npz")
    assert not err
    assert record["command"] == "lipschitz"
    assert 0 < record["lower"] <= record["upper"] == lipschitz(Network.load("net.npz")).bound
    assert record["network"]["sizes"] == [2, 5, 1]
    checked, _ = ask(f"check {record['certificate']} net.npz")
    assert [one["holds"] for one in checked["checks"]] == [True]
    assert checked["checks"][0]["bound"] == pytest.approx(record["upper"], rel=1e-12)


def test_a_refused_certificate_is_an_error_in_the_object(ask, rng) -> None:
    ask("lipschitz net.npz --save cert.npz")
    Network.shallow(rng.standard_normal((5, 2)), np.zeros(5), np.ones(5)).save("other.npz")
    record, err = ask("check cert.npz other.npz")
    assert record["exit_code"] == 1
    assert "another network" in record["error"]
    assert [one["holds"] for one in record["checks"]] == [False]
    assert err == f"convexnn: {record['error']}\n"


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        ("check nowhere.npz net.npz", 2, "nowhere.npz"),
        ("lipschitz net.txt", 2, ".onnx"),
        ("fit data.npz --lam much", 2, "--lam"),
        ("region net.npz", 2, "--radius"),
        ("nonsense", 2, "nonsense"),
        ("show data.npz", 2, "neither a network"),
    ],
)
def test_errors_are_in_the_object(ask, line, code, word) -> None:
    record, err = ask(line)
    assert record["exit_code"] == code
    assert word in record["error"]
    assert "Traceback" not in err


def test_attack_record_is_a_sandwich(ask) -> None:
    record, _ = ask("attack net.npz data.npz --radius 0.1 0.3 --steps 3 --restarts 1")
    assert [row["radius"] for row in record["rows"]] == [0.1, 0.3]
    assert all(row["clean"] <= row["attacked"] <= row["certified"] for row in record["rows"])


@pytest.mark.parametrize(("words", "held_out"), [("", False), ("--test-size 0.25", True)])
def test_rows_that_were_not_held_out_are_not_called_so(ask, words, held_out) -> None:
    record, _ = ask(f"fit data.npz --hidden-units 2 --start random --lam 1 --standardize {words}")
    assert record["held_out"] is held_out


def test_warnings_are_in_the_object_and_quiet_hides_them(capsys) -> None:
    for quiet in (False, True):
        output = Output(build_parser().parse_args(["solvers", "--json", *(["--quiet"] if quiet else [])]))
        output.warn(UserWarning("convexnn: the  time is up."))
        assert output.record.warnings == ["the time is up."]
        assert capsys.readouterr().err == ("" if quiet else "warning: the time is up.\n")


def test_solvers_and_completion_have_records(ask) -> None:
    assert {one["name"] for one in ask("solvers")[0]["solvers"]} >= {"interior_point", "clarabel"}
    assert "complete -F _convexnn convexnn" in ask("completion bash")[0]["script"]


def test_every_command_has_examples_that_parse() -> None:
    for definition in ALL:
        lines = [line.strip() for line in definition.examples.strip().splitlines()]
        assert len(lines) >= 2, definition.name
        found = [part for line in lines for part in parts(line)]
        assert any(part[1] == definition.name for part in found), definition.name
        for part in found:
            build_parser().parse_args(part[1:])


def parts(line: str) -> list[list[str]]:
    """The calls of convexnn in a line of shell."""
    words, calls = shlex.split(line.replace("<(", " ").replace(")", " "), comments=True), []
    for place, word in enumerate(words):
        if word == "convexnn":
            rest = words[place:]
            ends = [i for i, one in enumerate(rest) if one in ("&&", "|", ">")]
            calls.append(rest[: min(ends, default=len(rest))])
    return calls


def test_negative_numbers_are_no_options() -> None:
    parsed = build_parser().parse_args(["region", "n.npz", "--center", "-1e-3", "-.5", "-2", "--below", "-1E+2"])
    assert parsed.center == [-1e-3, -0.5, -2.0]
    assert parsed.below == -100.0
    with pytest.raises(UsageError):
        build_parser().parse_args(["region", "n.npz", "--bel", "1"])  # no abbreviations: scripts would break


def test_out_of_memory_and_failed_solvers_are_sentences(ask, monkeypatch) -> None:
    for error in (MemoryError("8 GiB"), SolverError("It failed."), ImportError("No module named 'x'")):

        def fail(*_args, error=error, **_options):
            raise error

        monkeypatch.setattr("convexnn.cli.commands.certify_lipschitz", fail)
        record, _ = ask("lipschitz net.npz")
        assert record["exit_code"] == 1
        assert str(error).rstrip(".") in record["error"]


def test_an_interrupt_is_an_exit_code(ask, monkeypatch) -> None:
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("convexnn.cli.commands.certify_lipschitz", stop)
    assert ask("lipschitz net.npz")[0]["exit_code"] == 130


# -- completion ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SCRIPTS)
def test_scripts_name_every_command_and_option(shell) -> None:
    text = SCRIPTS[shell](list(commands()))
    for command in commands():
        assert command.name in text
        for option in command.options:
            assert all(name.lstrip("-") in text for name in option.names)


def test_bash_completes() -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    ask = 'complete_at() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _convexnn; echo "${{COMPREPLY[*]}}"; }}\n{}'
    calls = [
        ('complete_at convexnn "ce"', "certify"),
        ('complete_at convexnn fit "--reg"', "--regularizer"),
        ('complete_at convexnn certify --norm ""', "2 inf l2 linf"),
        ('complete_at convexnn completion "f"', "fish"),
        ('complete_at convexnn check "net"', "net.npz"),
        ('complete_at convexnn fit --lam "--re"', ""),
    ]
    script = SCRIPTS["bash"](list(commands())) + ask.format("\n".join(call for call, _ in calls))
    done = subprocess.run([bash, "--norc", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [answer for _, answer in calls]


# -- progress --------------------------------------------------------------------------------------


def test_a_heartbeat_writes_lines_and_stops() -> None:
    lines: list[str] = []
    with Heartbeat("training", lines.append, first=0.01, last=0.02):
        limit = time.monotonic() + 20.0
        while len(lines) < 2 and time.monotonic() < limit:
            time.sleep(0.01)
    count = len(lines)
    assert count >= 2
    assert all(line.startswith("training: ") and line.endswith(" s") for line in lines)
    time.sleep(0.05)
    assert len(lines) == count


def test_a_short_task_says_nothing_in_a_log_file(capsys) -> None:
    with Output().working("training"):
        pass
    assert capsys.readouterr().err == ""


def test_certification_logs_at_most_a_line_in_so_many_seconds(caplog) -> None:
    class Verdict:
        status = "certified"

    with caplog.at_level(logging.INFO, "convexnn.progress"):
        for show in (_Lines(50, pause=3600.0), _Lines(2, pause=0.0)):
            for _ in range(2):
                show(Verdict())
    assert [record.getMessage() for record in caplog.records] == [
        "certify: 1 of 2 samples, 1 certified, 0 falsified, 0 unknown",
        "certify: 2 of 2 samples, 2 certified, 0 falsified, 0 unknown",
    ]


def test_output_survives_a_closed_stdout(monkeypatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    Output().write("lost")
    assert main(["solvers", "--json"]) == 0


def test_a_reader_that_has_gone_is_an_exit_code(monkeypatch) -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    for options in ([], ["--json"]):
        monkeypatch.setattr("sys.stdout", Gone())
        assert main(["solvers", *options]) == 141

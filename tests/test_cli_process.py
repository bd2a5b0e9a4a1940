"""The command line as a process: pipes that break, Ctrl-C, log files, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from convexnn.network import Network

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "convexnn"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    layers = [(rng.standard_normal((8, 4)), rng.standard_normal(8)), (rng.standard_normal((3, 8)), np.zeros(3))]
    network = Network(layers)
    network.save("net.npz")
    X = rng.random((60, 4))
    np.savez("points.npz", X=X, y=network(X).argmax(axis=1))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)


def test_exit_codes_and_streams_of_a_process() -> None:
    done = run("lipschitz", "net.npz", "--json", "--verbose")
    assert done.returncode == 0
    record = json.loads(done.stdout)
    assert record["upper"] > 0
    assert "<= L <=" in done.stderr  # the text goes to stderr
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    missing = run("lipschitz", "nowhere.npz")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr == "convexnn: There is no file nowhere.npz.\n"


def test_a_pipe_that_breaks_ends_the_process_without_a_word() -> None:
    reader, writer = os.pipe()
    process = subprocess.Popen([*COMMAND, "lipschitz", "net.npz"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    os.close(reader)  # nobody reads from the start on
    _, err = process.communicate(timeout=120)
    assert process.returncode == 141
    assert err == ""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at the memory of the process in /proc")
@pytest.mark.parametrize("kilobytes", [60_000, 300_000], ids=["while it imports", "at work"])
def test_ctrl_c_ends_with_130_and_without_traceback(kilobytes) -> None:
    X = np.random.default_rng(0).standard_normal((3000, 10))
    np.savez("data.npz", X=X, y=np.abs(X).sum(axis=1))
    command = [*COMMAND, "path", "data.npz", "--hidden-units", "200", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120.0
    while resident(process.pid) < kilobytes and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err
    # 0: the interrupt ended a training early; -2: Python itself ends so where an import was interrupted, shells say 130
    assert process.returncode in (0, 130, -signal.SIGINT)
    if out:
        said = 130 if process.returncode == -signal.SIGINT else process.returncode
        assert json.loads(out)["exit_code"] == said


def resident(pid: int) -> int:
    """Kilobytes of memory."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("VmRSS")), 0)

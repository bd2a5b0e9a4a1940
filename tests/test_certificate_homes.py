"""Checks are found whatever was imported before: a certificate needs its file, its network and nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from convexnn.certificate import HOMES
from convexnn.certificates.region import region_bound
from convexnn.network import Network
from convexnn.threats import L2Ball

PACKAGE = Path(__file__).resolve().parents[1] / "convexnn"
PROGRAM = """
import sys
from convexnn.certificate import Certificate
from convexnn.network import Network
print(Certificate.load(sys.argv[1]).check(Network.load(sys.argv[2])))
"""


def test_every_module_that_registers_a_check_is_a_home() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "register_check" not in text:
            continue
        calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
        if any(isinstance(call.func, ast.Name) and call.func.id == "register_check" for call in calls):
            found.add(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    assert found == set(HOMES)


@pytest.mark.slow
def test_a_region_certificate_checks_in_a_process_that_imported_nothing_else(tmp_path, rng) -> None:
    network = Network.shallow(rng.standard_normal((4, 2)), rng.standard_normal(4), rng.standard_normal(4))
    certificate = region_bound(network, L2Ball(1.0))
    files = [str(certificate.save(tmp_path / "cert.npz")), str(network.save(tmp_path / "net.npz"))]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *files], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(certificate.bound, rel=1e-9)
    assert np.isfinite(certificate.bound)

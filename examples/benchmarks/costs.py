"""Time and memory of the main calls against rows n, inputs d and units p: the small table of docs/results/costs.md.

    python examples/benchmarks/costs.py --table docs/results/costs.md

Every entry is a process of its own with one thread. CPU seconds, of the call alone; memory is the growth of the
process over what it held before the call, at its peak.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

CASES = [
    ("weight decay program", "l2", [(300, 10, 50), (1000, 10, 50), (3000, 10, 50), (1000, 30, 50), (1000, 10, 150)]),
    (
        "joint Lipschitz program",
        "joint",
        [(300, 10, 50), (1000, 10, 50), (3000, 10, 50), (1000, 30, 50), (1000, 10, 150)],
    ),
    ("polynomial classifier, radius 0.2", "polynomial", [(300, 10, 0), (1000, 10, 0), (1000, 30, 0)]),
    ("LipSDP of one network", "lipsdp", [(0, 10, 50), (0, 10, 200), (0, 100, 200)]),
    ("certify by crown, a sample", "crown", [(20, 64, 50), (20, 64, 200)]),
    ("certify by sdp (l2), a sample", "sdp", [(20, 64, 50), (20, 64, 200)]),
]

HEAD = """# Costs, measured

Written by `examples/benchmarks/costs.py`: a process an entry, one thread, CPU seconds of the call alone on a machine
that others used as well, and the growth of memory at its peak (imports are done before). `n` rows, `d` inputs, `p`
hidden units; Gaussian data, programs to a verified gap of 1e-6 (polynomial: 1e-3). For what grows how, see
[](../guide/costs_and_limits.md).

| call | n | d | p | CPU s | MiB |
|---|---:|---:|---:|---:|---:|
"""


def problem(n, d, p):
    """Gaussian inputs, a noisy teacher, and a network of random units."""
    import numpy as np

    from convexnn import Network

    rng = np.random.default_rng(0)
    X = rng.standard_normal((max(n, 1), d))
    y = np.maximum(X @ rng.standard_normal((d, 5)) / d**0.5, 0).sum(axis=1) + 0.1 * rng.standard_normal(len(X))
    W, b, v = rng.standard_normal((max(p, 1), d)), rng.standard_normal(max(p, 1)), rng.standard_normal(max(p, 1))
    network = Network.shallow(W / d**0.5, b, v / len(v))
    return X, y, network


def call(kind, n, d, p):
    """The call that is measured, its data at hand, and the number of times it repeats its work."""
    import numpy as np

    import convexnn
    from convexnn.restrictions import LipschitzProgram, ReluGroupLasso

    X, y, network = problem(n, d, p)
    labels = (network(X) > 0).astype(int)
    programs = {"l2": ReluGroupLasso, "joint": LipschitzProgram}
    if kind in programs:
        program = programs[kind](X, y, convexnn.extract(network, X), lam=1e-2, start=network)
        return lambda: convexnn.solve(program, solver="interior_point", tol=1e-6), 1
    if kind == "polynomial":
        return lambda: convexnn.PolynomialSNNClassifier(0.2, tol=1e-3).fit(X, y > np.median(y)), 1
    if kind == "lipsdp":
        return lambda: convexnn.lipschitz(network), 1
    options = convexnn.CertifyOptions(early_stop=False, steps=1, restarts=1)
    ball = convexnn.L2Ball(0.1)
    return lambda: convexnn.certify(network, X, labels, ball, method=kind, options=options, random_state=0), n


def measure(kind, n, d, p):
    """CPU seconds and MiB of one call."""
    call(kind, 20, 4, 4)[0]()  # imports, and what is compiled once
    function, times = call(kind, n, d, p)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    function()
    seconds = (time.process_time() - began) / times
    return {"seconds": seconds, "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def child(kind, size):
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps([kind, *size])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", default="bench_output/costs.md")
    parser.add_argument("--quick", action="store_true", help="the smallest size of every call")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*json.loads(arguments.one))))
        return
    lines = []
    print(*HEAD.splitlines()[-2:], sep="\n")
    for name, kind, sizes in CASES:
        for n, d, p in sizes[: 1 if arguments.quick else None]:
            found = child(kind, (n, d, p))
            rows = "" if kind in ("lipsdp", "crown", "sdp") else n
            lines.append(f"| {name} | {rows} | {d} | {p or ''} | {found['seconds']:.2g} | {found['mib']:.0f} |")
            print(lines[-1], flush=True)
    path = Path(arguments.table)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""
Networks that are safe on a whole region: every figure of the results page
==========================================================================

Adversarial Spheres: a network must be negative on the whole unit ball (D2) or unit box (Dinf), proved, and positive on
the sphere (cube) of radius R around it. Accuracy, proved recall, tightness and time of the trainers; the bounds of the
paper (Soletskyi & Dalrymple 2024, arXiv 2409.09687) against linear ones before and after training; their growth in d.

    python examples/reproduce_global_safety.py --quick              # a minute
    python examples/reproduce_global_safety.py --write              # up to five seeds, d up to 500; writes the page
    python examples/reproduce_global_safety.py --only "dense d=10"  # some lines; --seeds, --minutes limit the work

Every run is kept in ``bench_output/global_safety.jsonl`` as soon as it ends and not made again; ``--write`` stores
``docs/results/global_safety.md`` and its figures from what is there. The page says which runs are missing.
"""

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

from global_safety_parts.cases import all_cases
from global_safety_parts.page import figures, page
from global_safety_parts.rows import Rows, run_jobs, run_starts, scaling

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"


def main():
    """Measure what is missing, print the page, and store it when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="d = 5 and 10, one seed")
    parser.add_argument("--write", action="store_true", help="store docs/results/global_safety.md and its figures")
    parser.add_argument("--seeds", type=int, default=None, help="5; 1 with --quick")
    parser.add_argument("--minutes", type=float, default=60.0, help="wall time after which no further training starts")
    parser.add_argument("--only", action="append", default=[], help="words that the name of a line must hold")
    parser.add_argument("--rows", type=Path, default=None, help="where runs are kept")
    options = parser.parse_args()
    name = "global_safety_quick.jsonl" if options.quick else "global_safety.jsonl"
    rows = Rows(options.rows or ROOT / "bench_output" / name)
    seeds = options.seeds if options.seeds is not None else 1 if options.quick else 5
    importlib.import_module("torch")  # its seconds are not those of the first row
    cases = all_cases(options.quick)
    chosen = [case for case in cases if all(word in case.label.split() for o in options.only for word in o.split())]
    run_jobs(rows, chosen, seeds, time.monotonic() + 60.0 * options.minutes)
    if options.only:
        return
    run_starts(rows, (5, 10) if options.quick else (5, 10, 20, 40), seeds)
    sizes = (5, 10, 20) if options.quick else (5, 10, 20, 40, 80)
    found = {norm: scaling(rows, norm, sizes, 3 if options.quick else 5) for norm in ("2", "inf")}
    text = page(rows, cases, found)
    print(text)
    if options.write:
        (RESULTS / "global_safety.md").write_text(text, encoding="utf-8")
        figures(rows, cases, found, RESULTS)


if __name__ == "__main__":
    main()

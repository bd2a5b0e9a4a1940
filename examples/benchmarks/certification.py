"""
Certification of given networks: our methods against generic solvers and auto_LiRPA
===================================================================================

How tight is the bound of each method on the worst margin, how many points does it certify, and what does it cost?
One question a point: the runner-up class against the true one. All run in one process with one thread; methods of the
same relaxation get the same pre-activation bounds and the same tolerance, 1e-4. Bounds of ours are recomputed from
evidence with outward rounding; those of peers are the words of solvers. Ratios are CPU seconds a question over those of
our method that computes the same thing, on the questions that the peer was given time for.

    python examples/benchmarks/certification.py --quick                  # a minute: digits, three points
    python examples/benchmarks/certification.py --models DIR             # also the networks of a folder
    python examples/benchmarks/certification.py --models DIR --write docs/results/certification.md

A file that is written keeps the lines of cases and methods that this run does not measure.

auto_LiRPA takes part where it can be imported (``pip install auto_LiRPA``), SDP-FO as published where an interpreter
that can import jax_verify is given (``--sdp-fo-python``, see ``certification_parts/published_sdp_fo.py``); otherwise
the page says why not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from certification_parts.cases import Case, digits_cases, given_cases
from certification_parts.curves import BUDGETS, races
from certification_parts.elsewhere import COMPILED, PUBLISHED, published
from certification_parts.measure import Row, measured, our_rows
from certification_parts.peers import generic, lirpa, mixed_integer, triangle, warm_up
from certification_parts.tables import Run, counted, markdown

#: Peer -> our method that computes the same thing.
SAME = {
    "SDP, cvxpy + Clarabel": "sdp",
    "SDP, cvxpy + Clarabel, all units kept": "sdp",
    "SDP, cvxpy + SCS": "sdp",
    **{f"SDP-FO, {steps:,} steps": "sdp" for steps in BUDGETS},
    PUBLISHED: "sdp",
    COMPILED: "sdp",
    "LP, cvxpy + Clarabel": "lp",
    "MILP, scipy + HiGHS": "branch_and_bound",
    "auto_LiRPA IBP": "ibp",
    "auto_LiRPA CROWN": "crown",
    "auto_LiRPA alpha-CROWN": "alpha_crown",
}
#: cvxpy needs minutes for semidefinite programs with 784 inputs.
GENERIC_INPUTS = 100
#: Half a minute a question: the program as it was published, without substitution of stable units.
AS_PUBLISHED = ("digits nat linf 0.05", "digits nat l2 0.6")


def peer_rows(case: Case, queries: Sequence, seconds: float, words: Sequence[str] = ()) -> tuple[list[Row], str]:
    """Peers that know the case, and why auto_LiRPA is not among them."""
    peers, reason = lirpa()
    if case.network.n_inputs <= GENERIC_INPUTS:
        peers |= {
            "SDP, cvxpy + Clarabel": generic("CLARABEL", True),
            "SDP, cvxpy + SCS": generic("SCS", True),
            "LP, cvxpy + Clarabel": triangle,
        }
    if case.name in AS_PUBLISHED:
        peers["SDP, cvxpy + Clarabel, all units kept"] = generic("CLARABEL", False)
    if case.threat.norm != "l2":
        peers["MILP, scipy + HiGHS"] = mixed_integer
    chosen = {name: bound for name, bound in peers.items() if _asked(name, words)}
    rows = [measured(case.name, name, bound, queries, peer=True, seconds=seconds) for name, bound in chosen.items()]
    return rows, reason


def _asked(name: str, words: Sequence[str]) -> bool:
    return not words or any(word in name for word in words)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    options = _parser().parse_args(arguments)
    warm_up()
    cases = digits_cases()[:: 3 if options.quick else 1] + (given_cases(options.models) if options.models else [])
    cases = [case for case in cases if not options.only or any(word in case.name for word in options.only)]
    run = Run(SAME)
    for case in cases:
        began = time.monotonic()
        queries = case.pairs(3 if options.quick else options.points if case.network.n_inputs < 100 else 3)
        run.rows += our_rows(case, queries, options.seconds)
        rows, run.missing["auto_LiRPA"] = peer_rows(case, queries, options.seconds, options.peers)
        run.rows += rows
        if _asked(PUBLISHED, options.peers) and case.threat.norm == "linf" and case.network.n_inputs <= GENERIC_INPUTS:
            rows, run.missing["jax_verify"] = published(case.name, queries, options.sdp_fo_python)
            run.rows += rows
        ours = run.own(case.name, "sdp")
        raced = not options.peers or "SDP-FO" in options.peers
        if raced and ours is not None and case.network.n_inputs <= GENERIC_INPUTS:
            rows, found = races(case.name, queries, ours, options.seconds)
            run.rows += rows
            run.races += found
        run.counts.append(counted(case, 20 if options.quick else options.count))
        print(f"{case.name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        _write(run, options)  # after every case, so that nothing is lost
    print(markdown(run))


def _write(run: Run, options: argparse.Namespace) -> None:
    if options.write:
        earlier = options.write.read_text(encoding="utf-8") if options.write.exists() else ""
        options.write.write_text(markdown(run, earlier), encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(run.as_record(), indent=1), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="three of the digits cases, three points")
    parser.add_argument("--models", type=Path, help="folder with the networks and points of the 784-input cases")
    parser.add_argument("--points", type=int, default=10, help="questions for each digits case")
    parser.add_argument("--count", type=int, default=100, help="points for the counts of certify()")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds for one method on one case")
    parser.add_argument("--only", nargs="*", default=(), help="cases whose name holds one of these words")
    parser.add_argument("--peers", nargs="*", default=(), help="peers whose name holds one of these words")
    parser.add_argument("--sdp-fo-python", type=Path, help="interpreter that can import jax_verify, for digits in linf")
    parser.add_argument("--write", type=Path, help="write the tables to this markdown file")
    parser.add_argument("--json", type=Path, help="write every number to this JSON file")
    return parser


if __name__ == "__main__":
    main()

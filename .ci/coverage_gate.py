"""Hold the figures of coverage.json against the goals: lines of the package, branches of the parts that prove.

Only what the test process runs is counted; commands that tests start as processes of their own run code that other
tests run as well.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LINES = 95.0  # per cent of the lines of the package
COMPLETE = ("convexnn/rigorous/", "convexnn/certificates/")  # every line and every branch


def share(files: Mapping[str, Any]) -> tuple[int, int]:
    """Lines that were run, and all of them."""
    sums = [file["summary"] for file in files.values()]
    return sum(one["covered_lines"] for one in sums), sum(one["num_statements"] for one in sums)


def missed(report: Mapping[str, Any]) -> Iterator[str]:
    """One sentence for every goal that is missed; a goal that nothing was measured for counts as missed."""
    files = {name.replace("\\", "/"): file for name, file in report["files"].items()}
    covered, total = share(files)
    if not total or 100.0 * covered / total < LINES:
        yield f"{covered} of {total} lines are run, the goal is {LINES:.0f} %: test what the list above shows"
    if not report.get("meta", {}).get("branch_coverage"):
        yield "branches were not measured: run pytest with --cov-branch"
    for start in COMPLETE:
        if not any(name.startswith(start) for name in files):
            yield f"no file of {start} was measured: tell .ci/coverage_gate.py where it went"
    for name, file in files.items():
        lines, branches = file["missing_lines"], file.get("missing_branches", [])
        if name.startswith(COMPLETE) and (lines or branches):
            yield f"{name}: lines {lines or '-'}, branches {branches or '-'} are not run: test or delete them"


def main(path: str) -> int:
    """Print the share, the files with the least of it, and what is missed; 1 when a goal is missed."""
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    covered, total = share(report["files"])
    print(f"lines: {covered} of {total}, {100.0 * covered / max(total, 1):.1f} % (goal {LINES:.0f} %)")
    for name, file in sorted(report["files"].items(), key=lambda item: item[1]["summary"]["percent_covered"])[:15]:
        print(f"  {file['summary']['percent_covered']:6.1f} %  {name}")
    found = list(missed(report))
    print("\n".join(found or ["all goals are met"]))
    return int(bool(found))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: coverage_gate.py coverage.json")
    sys.exit(main(sys.argv[1]))

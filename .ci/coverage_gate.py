"""Hold the figures of coverage.json against the goals: lines of the package, branches of the parts that prove."""

from __future__ import annotations

import json
import sys
from pathlib import Path

LINES = 95.0  # per cent of the lines of the package
COMPLETE = ("convexnn/rigorous/", "convexnn/certificates/")  # every line and every branch


def main() -> int:
    """Print what is missing; 1 when a goal is missed."""
    files = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["files"]
    total = sum(file["summary"]["num_statements"] for file in files.values())
    covered = sum(file["summary"]["covered_lines"] for file in files.values())
    share = 100.0 * covered / total
    print(f"lines: {covered} of {total}, {share:.1f} % (goal {LINES:.0f} %)")
    for name, file in sorted(files.items(), key=lambda item: item[1]["summary"]["percent_covered"])[:15]:
        print(f"  {file['summary']['percent_covered']:6.1f} %  {name}")
    missed = share < LINES
    for name, file in files.items():
        lines, branches = file["missing_lines"], file.get("missing_branches", [])
        if name.startswith(COMPLETE) and (lines or branches):
            missed = True
            print(f"{name}: lines {lines or '-'}, branches {branches or '-'} are not run")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())

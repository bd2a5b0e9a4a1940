"""Code blocks of README.md and docs/: Python blocks of a page run one after the other, shell blocks are parsed.

A block is left out by a comment on the line before it, with the reason: ``<!-- not run: needs a GPU -->``. Names that a
page takes for granted (data, a network) are made by a comment before the block: ``<!-- setup``, code, ``-->``.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from convexnn.cli.parser import build_parser

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = {"_build", "api", "auto_examples"}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"] + sorted(
    path for path in (ROOT / "docs").rglob("*.md") if not WRITTEN & set(path.relative_to(ROOT / "docs").parts)
)
FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+?) -->\n)?```(?P<kind>python|bash|console|sh)\n(?P<code>.*?)```", re.S
)
SETUP = re.compile(r"<!-- setup\n(?P<code>.*?)-->", re.S)
PROGRAMS = {"make", "pip", "python", "python3", "git", "source", "cd", "cat", "export", "convexnn"}


@dataclass(frozen=True)
class Block:
    kind: str
    code: str
    line: int
    reason: str | None


def blocks(page: Path, *kinds: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [
        Block(m["kind"], m["code"], text[: m.start("code")].count("\n"), m["reason"]) for m in FENCE.finditer(text)
    ]
    found += [Block("setup", m["code"], text[: m.start("code")].count("\n"), None) for m in SETUP.finditer(text)]
    return sorted((block for block in found if block.kind in kinds), key=lambda block: block.line)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


SHELLS = [page for page in PAGES if blocks(page, "bash", "console", "sh")]
PYTHONS = [page for page in PAGES if blocks(page, "python")]


@pytest.mark.parametrize("page", SHELLS, ids=name)
def test_commands_of_shell_blocks_are_understood(page) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    for block in blocks(page, "bash", "console", "sh"):
        for line in block.code.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if not words or block.reason:
                continue
            assert words[0].rpartition("/")[2] in PROGRAMS, f"{name(page)}, line {block.line}: {line}"
            if words[0] == "make":
                assert {word for word in words[1:] if "=" not in word} <= targets, line
            for place, word in enumerate(words):
                if word == "convexnn" and (place == 0 or words[place - 1] in ("&&", ";", "|")):
                    call = words[place + 1 :]
                    ends = [i for i, one in enumerate(call) if one in ("&&", "|", ">", ";", ">>")]
                    call = call[: min(ends, default=len(call))]
                    if not {"--help", "--version"} & set(call):
                        build_parser().parse_args(call)


@pytest.mark.parametrize("page", PYTHONS, ids=name)
def test_python_blocks_compile(page) -> None:
    for block in blocks(page, "python", "setup"):
        compile(block.code, f"{name(page)}:{block.line}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_are_left_out_with_a_reason(page) -> None:
    text = page.read_text(encoding="utf-8")
    reasons = re.findall(r"<!-- not run:(.*?)-->", text)
    assert all(len(reason.split()) >= 2 for reason in reasons)
    assert len(reasons) == sum(match["reason"] is not None for match in FENCE.finditer(text)), (
        "a marker without a block"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", PYTHONS, ids=name)
def test_python_blocks_run(page, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page, "python", "setup"):
        if block.reason is None:
            exec(compile(block.code, f"{name(page)}:{block.line}", "exec"), space)

"""Verdicts as JSON lines: written and flushed one by one, so that a run that was killed resumes where it stopped."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.verification.audit import audit
from convexnn.verification.encoding import BROKEN, verdict_of, verdict_record
from convexnn.verification.task import Task
from convexnn.verification.verdict import Verdict

FORMAT = "convexnn.certification.lines"
VERSION = 1

#: Fields of the header that must agree, and what they are called in an error.
FIELDS = {
    "network": "network", "data": "data", "threat": "threat set", "method": "method", "options": "options",
    "seed": "random_state",
}  # fmt: skip


class Stream:
    """A file of verdicts: a header, then one line a sample.

    Parameters
    ----------
    path : path-like or None
        None writes nothing.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = None if path is None else Path(path)
        self._file: IO[str] | None = None

    def __enter__(self) -> Stream:
        """The stream itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def header(self) -> dict[str, Any] | None:
        """Header of the existing file; None where there is no file, or one without a whole first line."""
        if self.path is None or not self.path.exists():
            return None
        lines = _whole_lines(self.path)
        if not lines:
            return None
        try:
            found = json.loads(lines[0])
        except ValueError as error:
            raise InvalidInputError(f"{self.path} is not a file of verdicts: {error}") from error
        if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (FORMAT, VERSION):
            raise InvalidInputError(f"{self.path} is not a file of verdicts of version {VERSION}.")
        return found

    def begin(self, header: Mapping[str, Any], task: Task, resume: bool) -> list[Verdict]:
        """Open the file and return the verdicts it holds already, each checked again.

        A sample that is said to be certified, but without evidence that is rigorous, is decided anew: its line goes.

        Raises
        ------
        InvalidInputError
            When the file is about something else; the message says what differs.
        CertificateError
            When a stored verdict does not hold.
        """
        if self.path is None:
            return []
        known = self.header() if resume else None
        done: list[Verdict] = []
        if known is not None:
            _refuse_other_runs(self.path, known, header)
            lines = _whole_lines(self.path)
            done = [_read_line(self.path, i, line, task) for i, line in enumerate(lines[1:], start=2)]
            _refuse_gaps(self.path, done, bool(header["options"]["keep_evidence"]))
            proved = [one.status != "certified" or (one.rigorous and one.evidence is not None) for one in done]
            kept = [lines[0], *(line for line, whole in zip(lines[1:], proved, strict=True) if whole)]
            done = [verdict for verdict, whole in zip(done, proved, strict=True) if whole]
            if len(kept) < len(lines):
                _rewrite(self.path, kept)
            else:
                _cut(self.path, lines)
            self._file = self.path.open("a", encoding="utf-8")
        else:
            self._file = self.path.open("w", encoding="utf-8")
            self._write({"format": FORMAT, "version": VERSION, **header})
        return done

    def append(self, verdict: Verdict) -> None:
        """Write one verdict; it is on its way to the disk when this returns."""
        if self._file is not None:
            self._write(verdict_record(verdict))

    def _write(self, record: Mapping[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()


def _whole_lines(path: Path) -> list[str]:
    """Lines that end: what was being written when a run was killed is dropped."""
    try:
        return path.read_bytes().decode("utf-8").split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not a file of verdicts: {error}") from error


def _cut(path: Path, lines: list[str]) -> None:
    """Take a partial last line off, so that the next one starts at its own."""
    size = sum(len(line.encode("utf-8")) + 1 for line in lines)
    if size < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(size)


def _rewrite(path: Path, lines: list[str]) -> None:
    """Replace a file by these lines, in one move."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    beside.replace(path)


def _read_line(path: Path, number: int, line: str, task: Task) -> Verdict:
    try:
        verdict = verdict_of(json.loads(line))
    except CertificateError:
        raise
    except BROKEN as error:
        raise InvalidInputError(f"Line {number} of {path} does not hold a verdict: {error!r}") from error
    audit(task, verdict)
    return verdict


def _refuse_gaps(path: Path, done: list[Verdict], with_evidence: bool) -> None:
    """Raise where a sample has two verdicts, or where the evidence is gone that the run kept."""
    twice = {index for index, times in Counter(verdict.index for verdict in done).items() if times > 1}
    if twice:
        raise InvalidInputError(f"{path} holds several verdicts of sample {min(twice)}: no run writes such a file.")
    for verdict in done if with_evidence else ():
        if verdict.status == "certified" and verdict.rigorous and verdict.evidence is None:
            raise InvalidInputError(f"{path} should hold the evidence of sample {verdict.index}, which is missing.")


def _refuse_other_runs(path: Path, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    plain = json.loads(json.dumps(dict(wanted)))
    other = [name for key, name in FIELDS.items() if known.get(key) != plain.get(key)]
    if other:
        raise InvalidInputError(
            f"{path} holds the verdicts of another run (other {', '.join(other)}); choose another file, or "
            f"resume=False to write it anew."
        )

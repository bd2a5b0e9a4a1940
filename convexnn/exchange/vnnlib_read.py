"""VNN-LIB files (the competition's subset of SMT-LIB, version 1) as properties."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.exchange.formulas import Alternatives, Condition, Name, Reader
from convexnn.exchange.properties import Case, Property
from convexnn.exchange.s_expressions import Group, Symbol, Text

Array = NDArray[np.float64]
VARIABLE = re.compile(r"([XY])_(0|[1-9]\d{0,6})")
IGNORED = {"set-logic", "set-info", "set-option", "check-sat", "get-model", "get-value", "exit"}

#: Size of the largest text, and of all boxes and rows of a property together.
MAX_BYTES, MAX_ENTRIES = 2**28, 2**27


def read_vnnlib(path: str | os.PathLike[str]) -> Property:
    """The property of a VNN-LIB file, plain or compressed (``.gz``); see :func:`parse_vnnlib`."""
    source = Path(path)
    with (gzip.open if source.suffix == ".gz" else open)(source, "rb") as file:
        try:
            content = file.read(MAX_BYTES + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InvalidInputError(f"{path} is not a readable compressed file: {error}") from error
    if len(content) > MAX_BYTES:
        raise InvalidInputError(f"{path} holds more than {MAX_BYTES} bytes.")
    try:
        return parse_vnnlib(content.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not a text file in UTF-8: {error}") from error


def parse_vnnlib(text: str, label: str = "The property") -> Property:
    """The property that a VNN-LIB text says: inputs ``X_i``, outputs ``Y_j``, assertions that describe the unsafe set.

    Conditions are ``<= >= < > =`` between linear expressions, joined by ``and``, ``or`` and ``not``; alternatives
    become cases. Numbers are read as the nearest float64, and the property is about these. A bound on one input goes
    to the box of a case, every other condition is a row of it.

    Parameters
    ----------
    text : str
    label : str
        Name of the text in errors.

    Raises
    ------
    InvalidInputError
        Names line and column; or the input without bounds.
    """
    source = Text(text, label)
    names: dict[str, Name] = {}
    reader, asserted = Reader(source, names), []
    for group in source.groups():
        if group.head in ("declare-const", "declare-fun"):
            name, variable = _declared(source, group, names)
            names[name] = variable
        elif group.head == "assert":
            if len(group.items) != 2:
                raise source.error(group.start, "(assert ...) needs one condition.")
            asserted.append(reader.alternatives(group.items[1]))
        elif group.head not in IGNORED:
            hint = " (VNN-LIB version 2 is not read)" if "version" in group.head or "network" in group.head else ""
            raise source.error(group.start, f"the command {group.head[:40]!r} is not known{hint}.")
    sizes = {kind: _count(source, names, kind) for kind in "XY"}
    return _property(source, reader.conjunction(asserted, 0), sizes["X"], sizes["Y"])


def _declared(source: Text, group: Group, names: dict[str, Name]) -> tuple[str, Name]:
    words = [item.text if isinstance(item, Symbol) else "()" for item in group.items[1:]]
    if len(words) < 2 or words[1:] not in (["Real"], ["()", "Real"]):
        raise source.error(group.start, "expected (declare-const X_i Real).")
    match = VARIABLE.fullmatch(words[0])
    if match is None:
        raise source.error(group.start, f"{words[0][:40]!r} is not the name X_i of an input or Y_j of an output.")
    if words[0] in names:
        raise source.error(group.start, f"{words[0]} is declared twice.")
    return words[0], (match[1], int(match[2]))


def _count(source: Text, names: dict[str, Name], kind: str) -> int:
    indices = {index for letter, index in names.values() if letter == kind}
    if not indices:
        raise InvalidInputError(f"{source.label} declares no {kind}_0.")
    missing = next((i for i in range(len(indices)) if i not in indices), None)
    if missing is not None:
        raise InvalidInputError(f"{source.label} declares {kind}_{max(indices)} but not {kind}_{missing}.")
    return len(indices)


@dataclass
class _Region:
    """Conditions sorted: bounds of single inputs, and rows."""

    lower: Array
    upper: Array
    rows: list[Condition] = field(default_factory=list)

    def add(self, condition: Condition) -> None:
        used = [(name, value) for name, value in condition.form.coefficients.items() if value != 0.0]
        if len(used) != 1 or used[0][0][0] != "X":
            self.rows.append(condition)
            return
        (_, index), slope = used[0]
        bound, exact = -condition.form.constant / slope, abs(slope) == 1.0
        if slope > 0:
            end = bound if exact else np.nextafter(bound, -np.inf)
            self.lower[index] = max(self.lower[index], end)
        else:
            end = bound if exact else np.nextafter(bound, np.inf)
            self.upper[index] = min(self.upper[index], end)
        if condition.strict or not exact:  # the box is closed, and rounded outward: the row says the rest
            self.rows.append(condition)


def _property(source: Text, alternatives: Alternatives, d: int, k: int) -> Property:
    cases: list[Case] = []
    entries = 0
    for conditions in alternatives:
        region = _Region(np.full(d, -np.inf), np.full(d, np.inf))
        for condition in conditions:
            region.add(condition)
        if (region.lower > region.upper).any():
            continue  # no input at all
        for ends, word in ((region.lower, "lower"), (region.upper, "upper")):
            if not np.isfinite(ends).all():
                first = int(np.flatnonzero(~np.isfinite(ends))[0])
                raise InvalidInputError(
                    f"{source.label}: the input X_{first} has no {word} bound; boxes must be bounded."
                )
        entries += 2 * d + len(region.rows) * (d + k + 2)
        if entries > MAX_ENTRIES:
            raise InvalidInputError(f"{source.label} has too many alternatives for {d} inputs; split it.")
        cases.append(_case(region, d, k))
    return Property(tuple(cases), d, k)


def _case(region: _Region, d: int, k: int) -> Case:
    rows = {"X": np.zeros((len(region.rows), d)), "Y": np.zeros((len(region.rows), k))}
    for i, condition in enumerate(region.rows):
        for (kind, index), value in condition.form.coefficients.items():
            rows[kind][i, index] = value
    offset = np.array([condition.form.constant for condition in region.rows], dtype=np.float64)
    strict = np.array([condition.strict for condition in region.rows], dtype=bool)
    return Case(region.lower, region.upper, rows["Y"], offset, rows["X"], strict)

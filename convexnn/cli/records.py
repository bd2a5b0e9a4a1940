"""One JSON object for each command: what is in it whatever the command, and how numbers are written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

#: Changes when a field is renamed, removed or changes its meaning; new fields do not change it.
SCHEMA = 1


def plain(value: Any) -> Any:
    """A value as JSON has it: arrays as lists, paths as text, numbers that are not finite as "inf", "-inf", "nan"."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a record")


@dataclass
class Record:
    """What a command found; the fields of the command are between those that every command has."""

    command: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None

    def text(self, version: str, exit_code: int, seconds: float) -> str:
        """The JSON object, with a line break at its end."""
        content = {
            "convexnn": version,
            "schema": SCHEMA,
            "command": self.command,
            **plain(self.fields),
            "exit_code": exit_code,
            "error": self.error,
            "warnings": self.warnings,
            "elapsed_seconds": round(seconds, 3),
        }
        return json.dumps(content, allow_nan=False, indent=1) + "\n"

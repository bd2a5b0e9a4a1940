"""Verdicts, threats and evidence as plain values: what JSON lines and archives hold."""

from __future__ import annotations

import base64
import io
import math
import operator
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.propagation import Evidence
from convexnn.threats import Box, L2Ball, LInfBall, Threat
from convexnn.verification.verdict import Verdict

Array = NDArray[np.float64]

BALLS: dict[str, Any] = {"L2Ball": L2Ball, "LInfBall": LInfBall}
BROKEN = (
    AttributeError, CertificateError, KeyError, TypeError, ValueError, OverflowError, EOFError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


def number(value: float) -> float | str:
    """A float as JSON has it; what is not finite in words."""
    return float(value) if math.isfinite(value) else str(float(value))


def numbers(values: Any) -> Any:
    """Floats or nested lists of them as JSON has them."""
    array = np.asarray(values, dtype=float)
    return number(float(array)) if array.ndim == 0 else [numbers(row) for row in array]


def threat_record(threat: Threat) -> dict[str, Any]:
    """Type and numbers of a threat.

    Raises
    ------
    InvalidInputError
        For threats of other types, which have no plain form.
    """
    name = type(threat).__name__
    if isinstance(threat, Box):
        return {"type": name, "lower": numbers(threat.lower), "upper": numbers(threat.upper)}
    if type(threat) not in BALLS.values():
        raise InvalidInputError(f"A threat of type {name} cannot be stored; use L2Ball, LInfBall or Box.")
    clip = getattr(threat, "clip", None)
    ends = None if clip is None else [numbers(end) for end in clip]
    return {"type": name, "radius": float(threat.radius), "clip": ends}  # type: ignore[attr-defined]


def threat_of(record: Mapping[str, Any]) -> Threat:
    """The threat of a record."""
    if record["type"] == "Box":
        return Box(np.array(record["lower"], dtype=float), np.array(record["upper"], dtype=float))
    clip = record["clip"]
    ends = None if clip is None else tuple(np.array(end, dtype=float) for end in clip)
    return BALLS[record["type"]](float(record["radius"]), ends)


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON has it."""
    point = verdict.counterexample
    return {
        "index": int(verdict.index),
        "label": int(verdict.label),
        "status": verdict.status,
        "clean": number(verdict.clean),
        "margin": number(verdict.margin),
        "lower": number(verdict.lower),
        "method": verdict.method,
        "rigorous": bool(verdict.rigorous),
        "reason": verdict.reason,
        "seconds": {stage: float(spent) for stage, spent in verdict.seconds.items()},
        "bounds": numbers(verdict.bounds),
        "counterexample": None if point is None else numbers(point),
        "evidence": None if verdict.evidence is None else evidence_record(verdict.evidence),
    }


def verdict_of(record: Mapping[str, Any]) -> Verdict:
    """The verdict of a record; CertificateError where its numbers contradict each other."""
    point, evidence = record["counterexample"], record["evidence"]
    return Verdict(
        index=operator.index(record["index"]),
        label=operator.index(record["label"]),
        status=str(record["status"]),
        clean=float(record["clean"]),
        margin=float(record["margin"]),
        lower=float(record["lower"]),
        method=str(record["method"]),
        rigorous=_flag(record["rigorous"]),
        reason=str(record["reason"]),
        seconds={str(stage): float(spent) for stage, spent in record["seconds"].items()},
        bounds=np.array(record["bounds"], dtype=float).reshape(-1),
        counterexample=None if point is None else np.array(point, dtype=float).reshape(-1),
        evidence=None if evidence is None else evidence_of(evidence),
    )


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"a flag is true or false, not {value!r}")
    return value


def evidence_record(evidence: Evidence) -> dict[str, Any]:
    """Method and multiplier, the arrays compressed and written in base 64."""
    buffer = io.BytesIO()
    names = sorted(evidence.multiplier)
    arrays = {f"a{i}": np.asarray(evidence.multiplier[name], dtype=float) for i, name in enumerate(names)}
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"method": evidence.method, "status": evidence.status, "names": names, "arrays": content}


def evidence_of(record: Mapping[str, Any]) -> Evidence:
    """The evidence of a record; iterations, points and details are not kept."""
    content = base64.b64decode(record["arrays"], validate=True)
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        multiplier = {str(name): np.asarray(file[f"a{i}"], dtype=float) for i, name in enumerate(record["names"])}
    return Evidence(str(record["method"]), multiplier, str(record["status"]))

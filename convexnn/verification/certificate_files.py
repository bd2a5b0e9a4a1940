"""Local certificates in files: plain arrays, a JSON header, and a digest over both.

The digest shows accidents and careless changes; it is no secret, so nothing is believed because of it: the statement is
checked against the network and the bounds are recomputed all the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.archive import read_archive, write_archive
from convexnn.certificate import FORMAT, Certificate
from convexnn.exceptions import InvalidInputError
from convexnn.propagation import InputSet
from convexnn.threats import Box, L2Ball, LInfBall, Threat
from convexnn.verification.certificates import About, LocalCertificate, Proof

Array = NDArray[np.float64]

VERSION = 2  # of the format "convexnn.certificate"; version 1 holds claims about a whole network
NORMS = {"l2": L2Ball, "linf": LInfBall, "box": Box}
STATEMENT = ("lower", "upper", "centre", "radius", "weights", "offset", "bounds")


def write(certificate: LocalCertificate, path: str | os.PathLike[str]) -> Path:
    """Write the certificate; the same certificate gives the same arrays and the same digest."""
    header, arrays = _header(certificate), _arrays(certificate)
    return write_archive(path, {**header, "digest": digest(header, arrays)}, arrays)


def read(path: str | os.PathLike[str]) -> LocalCertificate:
    """Read what :func:`write` wrote.

    Raises
    ------
    InvalidInputError
        When the file is damaged or altered, of another kind, or does not hold what it must.
    """
    header, arrays = read_archive(path, format=FORMAT, version=VERSION)
    plain = {key: value for key, value in header.items() if key != "digest"}
    if header.get("digest") != digest(plain, arrays):
        raise InvalidInputError(f"{path} was altered after it was written: its digest does not fit its contents.")
    try:
        return _certificate(plain, arrays)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"{path} does not hold a valid certificate: {error}") from error


def load_certificate(path: str | os.PathLike[str]) -> Certificate | LocalCertificate:
    """The certificate of a file, about a whole network or about one sample; it proves nothing until it is checked."""
    try:
        return Certificate.load(path)
    except InvalidInputError:
        try:
            read_archive(path, format=FORMAT, version=VERSION)
        except InvalidInputError:
            pass
        else:
            return read(path)
        raise


def digest(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    """SHA-256 over the header and the names, types, shapes and bytes of the arrays."""
    found = hashlib.sha256(json.dumps(header, sort_keys=True, default=np.ndarray.tolist).encode())
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        found.update(f"|{name}|{values.dtype.str}|{values.shape}|".encode())
        found.update(values.tobytes())
    return found.hexdigest()


def _header(certificate: LocalCertificate) -> dict[str, Any]:
    about, threat = certificate.about, certificate.about.threat
    radius = getattr(threat, "radius", None)
    return {
        "format": FORMAT,
        "version": VERSION,
        "quantity": "rows of outputs over a set of inputs",
        "fingerprint": certificate.fingerprint,
        "arithmetic": certificate.arithmetic,
        "methods": [proof.method for proof in certificate.proofs],
        "index": None if about.index is None else int(about.index),
        "label": None if about.label is None else int(about.label),
        "norm": None if threat is None else threat.norm,
        "threat_radius": None if radius is None else repr(float(radius)),
        "hidden_layers_with_signs": 0 if certificate.signs is None else len(certificate.signs),
        "details": json.loads(json.dumps(dict(certificate.details), default=np.ndarray.tolist)),
    }


def _arrays(certificate: LocalCertificate) -> dict[str, NDArray[Any]]:
    inputs, about = certificate.inputs, certificate.about
    arrays: dict[str, NDArray[Any]] = {
        "lower": inputs.lower,
        "upper": inputs.upper,
        "centre": inputs.centre,
        "radius": np.asarray(float(inputs.radius)),
        "weights": certificate.weights,
        "offset": certificate.offset,
        "bounds": certificate.bounds,
    }
    if about.point is not None:
        arrays["point"] = np.asarray(about.point, dtype=np.float64)
    clip = getattr(about.threat, "clip", None)
    if clip is not None:
        arrays["clip_lower"], arrays["clip_upper"] = (np.asarray(end, dtype=np.float64) for end in clip)
    for place, signs in enumerate(certificate.signs or ()):
        arrays[f"signs{place}"] = np.asarray(signs, dtype=np.int8)
    for place, proof in enumerate(certificate.proofs):
        arrays[f"rows{place}"] = np.asarray(proof.rows, dtype=np.int64)
        for name, values in proof.multiplier.items():
            arrays[f"multiplier{place}/{name}"] = np.asarray(values, dtype=np.float64)
    return arrays


def _certificate(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> LocalCertificate:
    lower, upper, centre, radius, weights, offset, bounds = (_floats(arrays, name) for name in STATEMENT)
    count = int(header["hidden_layers_with_signs"])
    signs = tuple(_integers(arrays, f"signs{place}").astype(np.int8) for place in range(count)) if count else None
    proofs = tuple(_proof(str(method), place, arrays) for place, method in enumerate(_strings(header["methods"])))
    label, index = (None if header[key] is None else int(header[key]) for key in ("label", "index"))
    point = _floats(arrays, "point") if "point" in arrays else None
    if radius.shape:  # numpy before 2.4 makes a number of an array of one entry
        raise ValueError(f"the radius must be one number, got an array of shape {radius.shape}")
    inputs = InputSet(lower, upper, centre, float(radius))
    return LocalCertificate(
        inputs=inputs,
        weights=weights,
        offset=offset,
        bounds=bounds,
        proofs=proofs,
        fingerprint=str(header["fingerprint"]),
        arithmetic=str(header["arithmetic"]),
        signs=signs,
        about=About(index, label, point, _threat(header, arrays, inputs)),
        details=dict(header["details"]),
    )


def _threat(header: Mapping[str, Any], arrays: Mapping[str, Any], inputs: InputSet) -> Threat | None:
    if header["norm"] is None:
        return None
    clip = (_floats(arrays, "clip_lower"), _floats(arrays, "clip_upper")) if "clip_lower" in arrays else None
    kind = NORMS[str(header["norm"])]
    return Box(inputs.lower, inputs.upper) if kind is Box else kind(float(header["threat_radius"]), clip)


def _proof(method: str, place: int, arrays: Mapping[str, Any]) -> Proof:
    start = f"multiplier{place}/"
    names = [name for name in arrays if name.startswith(start)]
    multiplier = {name.removeprefix(start): _floats(arrays, name) for name in names}
    return Proof(method, _integers(arrays, f"rows{place}").astype(np.intp), multiplier)


def _strings(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"the methods must be a list of names, got {values!r}")
    return values


def _floats(arrays: Mapping[str, Any], name: str) -> Array:
    values = arrays[name]
    if values.dtype.kind != "f":
        raise ValueError(f"the array {name!r} must hold floats, got {values.dtype}")
    return np.asarray(values, dtype=np.float64)


def _integers(arrays: Mapping[str, Any], name: str) -> NDArray[np.int64]:
    values = arrays[name]
    if values.dtype.kind not in "iu":
        raise ValueError(f"the array {name!r} must hold integers, got {values.dtype}")
    return np.asarray(values, dtype=np.int64)

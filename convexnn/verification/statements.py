"""What a local certificate states: whether its arrays and its words make sense together, and the statement in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convexnn.decimals import exactly, written
from convexnn.exceptions import CertificateError
from convexnn.network import Network
from convexnn.propagation import InputSet, Query
from convexnn.threats import LInfBall

if TYPE_CHECKING:
    from convexnn.verification.certificates import LocalCertificate

Array = NDArray[np.float64]


def refuse_statement(certificate: LocalCertificate, network: Network) -> None:
    """Raise CertificateError when the certificate states nothing about the network, or contradicts itself."""
    with np.errstate(all="ignore"):  # huge numbers overflow to inf, which is refused or harmless
        problem = _of_set(certificate.inputs, network.n_inputs) or _of_rows(certificate, network)
        problem = problem or _of_proofs(certificate) or _of_words(certificate, network)
    if problem is not None:
        raise CertificateError(f"The certificate states nothing that can be checked: {problem}")


def _of_set(inputs: InputSet, d: int) -> str | None:
    arrays = {"lower": inputs.lower, "upper": inputs.upper, "centre": inputs.centre}
    for name, values in arrays.items():
        if values.shape != (d,):
            return f"{name} has shape {values.shape}, the network takes {d} inputs."
        if np.iscomplexobj(values) or np.isnan(values).any():
            return f"{name} holds NaN or complex numbers."
    if not (np.isfinite(inputs.centre).all() and inputs.radius >= 0):
        return f"the ball needs a finite centre and a nonnegative radius, got radius {inputs.radius}."
    if not (inputs.lower <= inputs.upper).all() or (inputs.lower == np.inf).any() or (inputs.upper == -np.inf).any():
        return "the box is empty."
    if not (inputs.has_ball or inputs.has_box):
        return "the set of inputs is neither a box nor a ball."
    nearest = np.clip(inputs.centre, inputs.lower, inputs.upper)
    if inputs.has_ball and not np.linalg.norm(nearest - inputs.centre) <= inputs.radius:
        return "the ball does not meet the box."
    return None


def _of_rows(certificate: LocalCertificate, network: Network) -> str | None:
    weights, offset, bounds = certificate.weights, certificate.offset, certificate.bounds
    if any(map(np.iscomplexobj, (weights, offset, bounds))):
        return "weights, offset and bounds must be real, and one of them holds complex numbers."
    q = len(weights) if weights.ndim == 2 else 0
    if q == 0 or weights.shape != (q, network.n_outputs) or offset.shape != (q,) or bounds.shape != (q,):
        return (
            f"weights, offset and bounds must have shapes (q, {network.n_outputs}), (q,) and (q,) with q > 0, "
            f"got {weights.shape}, {offset.shape} and {bounds.shape}."
        )
    if not (np.isfinite(weights).all() and np.isfinite(offset).all()):
        return "weights and offset must be finite."
    if np.isnan(bounds).any() or (bounds == -np.inf).any():
        return "the claimed bounds must be numbers or inf."
    if certificate.signs is not None and (
        tuple(np.shape(signs) for signs in certificate.signs) != tuple((m,) for m in network.n_hidden)
        or any(not np.isin(signs, (-1, 0, 1)).all() for signs in certificate.signs)
    ):
        return f"the signs must be -1, 0 or 1, in arrays of lengths {network.n_hidden}."
    return None


def _of_proofs(certificate: LocalCertificate) -> str | None:
    for proof in certificate.proofs:
        rows = proof.rows
        if rows.ndim != 1 or not len(rows) or ((rows < 0) | (rows >= len(certificate.weights))).any():
            return f"a proof by {proof.method!r} is about rows that do not exist: {rows}."
        if len(np.unique(rows)) < len(rows):
            return f"a proof by {proof.method!r} names a row twice: {rows}."
    if certificate.arithmetic not in ("float64+slack", "exact"):
        return f"the arithmetic {certificate.arithmetic!r} is not known."
    return None


def _of_words(certificate: LocalCertificate, network: Network) -> str | None:
    """Words that the arrays contradict: the class, the point, the threat."""
    about = certificate.about
    if about.point is not None and (about.point.shape != (network.n_inputs,) or not np.isfinite(about.point).all()):
        return f"the sample must be {network.n_inputs} finite numbers."
    if about.threat is not None:
        if about.point is None:
            return "a threat without a sample."
        try:
            meant = InputSet.around(about.point, about.threat)
        except (ValueError, IndexError) as error:
            return f"there is no threat set around the sample: {error}"
        if meant != certificate.inputs:
            return f"the set of inputs is not that of {about.threat!r} around the sample."
    if about.label is None:
        return None
    if not 0 <= about.label < max(network.n_outputs, 2):
        return f"there is no class {about.label}."
    rivals = Query.of_rivals(network, certificate.inputs.centre, about.label, LInfBall(0.0)).weights
    if not np.array_equal(rivals, certificate.weights) or certificate.offset.any():
        return f"the rows are not the margins of the rivals of class {about.label}."
    return None


def describe(certificate: LocalCertificate, bounds: Array, arithmetic: str | None = None) -> str:
    """The statement in words, with these bounds (rounded up), the largest first; several lines."""
    order = np.argsort(-bounds)
    lines = [f"For {_set_in_words(certificate)}:"]
    lines += [f"  {_row_in_words(certificate, int(row))} <= {written(bounds[row], 8)}" for row in order]
    if certificate.about.label is not None and (bounds < 0).all():
        lines.append(f"so every one of these inputs is given the class {certificate.about.label}")
    lines.append(f"by {', '.join(certificate.methods) or 'nothing'}, {arithmetic or certificate.arithmetic}")
    return "\n".join(lines)


def _set_in_words(certificate: LocalCertificate) -> str:
    inputs, about = certificate.inputs, certificate.about
    number = "" if about.index is None else f" (number {about.index}, as claimed)"
    name = ("the centre in the file" if about.point is None else "the sample in the file") + number
    pieces = []
    if inputs.has_ball:
        pieces.append(f"|x - {name}|_2 <= {exactly(inputs.radius)}")
    elif about.threat is not None and about.threat.norm == "linf":
        pieces.append(f"|x - {name}|_inf <= {exactly(about.threat.radius)}")  # type: ignore[attr-defined]
    else:
        pieces.append(f"lower <= x <= upper of the file{number}")
    if inputs.has_ball or (about.threat is not None and about.threat.norm == "linf"):
        clip = (inputs.lower, inputs.upper) if inputs.has_ball else getattr(about.threat, "clip", None)
        pieces += _clip_in_words(clip)
    if certificate.signs is not None:
        fixed = sum(int(np.count_nonzero(signs)) for signs in certificate.signs)
        pieces.append(f"{fixed} units with the signs of the file")
    return f"every x with {', '.join(pieces)}"


def _clip_in_words(clip: tuple[Array, Array] | None) -> list[str]:
    if clip is None or not np.isfinite(np.concatenate([np.ravel(end) for end in clip])).any():
        return []
    low, high = np.ravel(clip[0]), np.ravel(clip[1])
    if np.ptp(low) == 0 and np.ptp(high) == 0:
        return [f"every input in [{exactly(low[0])}, {exactly(high[0])}]"]
    return ["inside the box of the file"]


def _row_in_words(certificate: LocalCertificate, row: int) -> str:
    weights, offset = certificate.weights[row], float(certificate.offset[row])
    terms = [(float(weights[k]), f"f_{k}(x)") for k in np.argsort(-weights, kind="stable") if weights[k]]
    if not terms:
        return exactly(offset)
    if len(terms) > 6:
        return f"row {row} of weights f(x) + offset"
    words = "".join(_term(value, name, first=place == 0) for place, (value, name) in enumerate(terms))
    return words + (f" {'+' if offset > 0 else '-'} {exactly(abs(offset))}" if offset else "")


def _term(value: float, name: str, *, first: bool) -> str:
    sign = ("-" if value < 0 else "") if first else (" - " if value < 0 else " + ")
    size = "" if abs(value) == 1 else f"{exactly(abs(value))} "
    return f"{sign}{size}{name}"

"""Stored verdicts are believed after they were checked again: counterexamples, and bounds where evidence was kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.verification.registry import get_certifier
from convexnn.verification.rounding import margin_rounding
from convexnn.verification.task import Task, surely_inside
from convexnn.verification.verdict import Verdict

Array = NDArray[np.float64]


def audit(task: Task, verdict: Verdict) -> None:
    """Verify a verdict about one of the samples of a task.

    The sample is evaluated again: its margin must be the stored one, and no bound may contradict it. A counterexample
    must lie in the set without tolerance, with the stored margin up to float64 rounding. Evidence is checked again and
    must prove the stored margin and bounds. A certified sample without evidence is nothing that a caller may believe.

    Raises
    ------
    CertificateError
        When something does not hold.
    """
    row = verdict.index
    if not 0 <= row < len(task) or int(task.labels[row]) != verdict.label:
        raise CertificateError(f"The verdict of sample {row} has the label {verdict.label}, which the data have not.")
    rivals = max(task.network.n_outputs - 1, 1)
    if verdict.bounds.shape != (rivals,):
        raise CertificateError(f"The verdict of sample {row} needs one bound for each of its {rivals} rivals.")
    if not (verdict.bounds <= verdict.margin).all():
        raise CertificateError(f"The verdict of sample {row} has a margin below the bounds of its rivals.")
    if reason := _what_is_wrong_with_the_sample(task, verdict):
        raise CertificateError(f"The verdict of sample {row} does not hold: {reason}.")
    if verdict.counterexample is not None and (reason := _what_is_wrong(task, verdict, verdict.counterexample)):
        raise CertificateError(f"The counterexample of sample {row} does not hold: {reason}.")
    if verdict.evidence is not None and verdict.status == "certified" and verdict.rigorous:
        _check_evidence(task, verdict)


def _check_evidence(task: Task, verdict: Verdict) -> None:
    query = task.query(verdict.index)
    evidence = verdict.evidence
    assert evidence is not None
    try:
        found = get_certifier(evidence.method).check(query, evidence.multiplier)
    except InvalidInputError as error:
        raise CertificateError(f"The evidence of sample {verdict.index} cannot be checked: {error}") from error
    if (found > verdict.bounds + 1e-9 * np.abs(verdict.bounds)).any():
        raise CertificateError(f"The evidence of sample {verdict.index} does not prove the bounds of all its rivals.")
    margin = np.max(found + margin_rounding(query, task.X[verdict.index], task.threat))
    if not margin <= verdict.margin + 1e-12 * abs(verdict.margin) or not margin < 0:
        raise CertificateError(
            f"The evidence of sample {verdict.index} proves a margin below {margin:.10g}, not {verdict.margin:.10g}."
        )


def _what_is_wrong_with_the_sample(task: Task, verdict: Verdict) -> str:
    """The sample is a point of its set (but for clips and fixed boxes): what it says about the maximum."""
    one = task.take([verdict.index])
    again = float(one.margins(one.X)[0])
    spare = 2.0 * float(margin_rounding(task.query(verdict.index), one.X[0], task.threat).max())
    if not np.isfinite([again, spare]).all():
        return ""
    if not abs(verdict.clean - again) <= spare:
        return f"the margin of the sample itself is {again:.6g}, not {verdict.clean:.6g}"
    if surely_inside(task.threat, one.X, one.X)[0] and (
        verdict.lower < again - spare or (again >= 0 and verdict.status != "falsified")
    ):
        return f"the sample itself has the margin {again:.6g}"
    return ""


def _what_is_wrong(task: Task, verdict: Verdict, point: Array) -> str:
    one = task.take([verdict.index])
    if point.shape != (task.X.shape[1],) or not np.isfinite(point).all():
        return f"it has shape {point.shape} or holds numbers that are not finite"
    if not surely_inside(task.threat, point[None], one.X)[0]:
        return "it is outside of the threat set"
    again = float(one.margins(point[None])[0])
    spare = 2.0 * float(margin_rounding(task.query(verdict.index), one.X[0], task.threat).max())
    if again < -spare or abs(again - verdict.lower) > spare:
        return f"its margin is {again:.6g}, not {verdict.lower:.6g}"
    return ""

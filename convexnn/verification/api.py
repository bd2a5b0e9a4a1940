"""``certify``: one call for a verdict on every sample."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from convexnn.attacks.registry import as_seed
from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_number
from convexnn.threats import Threat
from convexnn.verification.encoding import threat_record
from convexnn.verification.plan import CertifyOptions, Options, Plan, choose_plan
from convexnn.verification.progress import reporting
from convexnn.verification.report import CertificationReport
from convexnn.verification.running import Run, end_of
from convexnn.verification.stream import Stream
from convexnn.verification.task import Task, read_task
from convexnn.verification.verdict import Verdict


def certify(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    threat: Threat,
    *,
    method: str | Sequence[str] = "auto",
    n_jobs: int | None = None,
    time_limit: float | None = None,
    sample_time_limit: float | None = 60.0,
    output: str | os.PathLike[str] | None = None,
    resume: bool = True,
    keep_evidence: bool = False,
    options: CertifyOptions | None = None,
    random_state: Any = None,
    verbose: int = 0,
) -> CertificationReport:
    """Whether the threat set of each sample holds a misclassified point: a verdict on every sample, with evidence.

    Every sample is attacked first. "auto" then tries bounds in order of cost until the sample is decided: intervals,
    CROWN, alpha-CROWN, the semidefinite relaxation, an attack from its moments, branch and bound, and for boxes a
    mixed-integer program; polynomial networks with one hidden layer are decided exactly. A bound is believed after the
    check of its method has recomputed it; a sample is certified when its bound plus the rounding of float64 evaluations
    is below zero, and falsified by a point that lies in the set without any tolerance and is misclassified in float64.

    Parameters
    ----------
    model : Network, torch.nn.Module, fitted sklearn MLP, fitted estimator or Pipeline
        A classifier; with ``classes_``, these are the labels in ``y``.
    X : array-like, shape (n, d)
        Raw input units.
    y : array-like, shape (n,)
        Labels: the model's ``classes_``, else 0..k-1; with one output 0 / 1 or -1 / +1, where ``f > 0`` is the second.
    threat : Threat
        :class:`~convexnn.threats.L2Ball`, ``LInfBall`` or ``Box``, with or without clip; raw input units.
    method : str or sequence of str, default "auto"
        One of :func:`convexnn.verification.methods`, or several that are tried in order. A sample that the attack
        breaks is not bounded, unless ``options.early_stop`` is False.
    n_jobs : int, optional
        Jobs of joblib, on any backend (loky, threading, Dask by ``joblib.parallel_config("dask")``). Verdicts do not
        depend on it, but for time limits.
    time_limit : float, optional
        Wall seconds of the whole run; samples that are not decided by then are unknown.
    sample_time_limit : float or None, default 60
        Wall seconds of the methods on one sample.
    output : path-like, optional
        File of JSON lines: a header and one line for each finished sample, flushed at once.
    resume : bool, default True
        Go on with the file of a run that was stopped; every stored verdict is checked again, so the file holds the
        multipliers: a sample that is certified there without any is decided anew. A file about another network, other
        data, another threat, method or seed is refused. False writes it anew.
    keep_evidence : bool, default False
        Keep the multipliers in the report, from which anybody can recompute the bounds.
    options : CertifyOptions, optional
    random_state : int, Generator, RandomState or None
        Of the random starts; without one, a resumed run takes that of its file.
    verbose : int, default 0
        1 shows a progress bar on terminals.

    Returns
    -------
    CertificationReport
        An interrupt (Ctrl-C) ends the run early with what is known; the other samples are unknown.

    Raises
    ------
    InvalidInputError
        For NaN, wrong shapes, unknown labels or methods, a regressor, an empty or unbounded threat set, or a file of
        another run.
    UnsupportedModelError
        When the model gives no network.
    CertificateError
        When a stored verdict does not hold, or a bound and an attack contradict each other.
    """
    began = time.monotonic()
    _check_limits(time_limit, sample_time_limit)
    end = end_of(time_limit)
    with Stream(output) as stream:
        task = read_task(model, X, y, threat, _seed(stream, resume, random_state))
        chosen = options or CertifyOptions()
        plan = choose_plan(task.network, threat, method, chosen)
        limit = np.inf if sample_time_limit is None else float(sample_time_limit)
        asked = Options(**asdict(chosen), sample_time_limit=limit, keep_evidence=keep_evidence)
        settings = asked if output is None else replace(asked, keep_evidence=True)  # a file is read again by its proofs
        stored = stream.begin(_header(task, plan, method, asked), task, resume)
        drops = not keep_evidence
        known = {one.index: replace(one, evidence=None) if drops else one for one in stored}
        with reporting(verbose, len(task)) as show:

            def finished(verdict: Verdict) -> None:
                stream.append(verdict)
                show(verdict)

            for verdict in known.values():
                show(verdict)
            found = Run(task, settings, plan, n_jobs, end, drops).verdicts(set(known), finished)
    merged = known | found
    return CertificationReport(
        verdicts=tuple(merged[index] for index in range(len(task))),
        network_fingerprint=task.network.fingerprint(),
        data_digest=task.data_digest(),
        threat=threat,
        method=_name(method),
        seconds=time.monotonic() - began,
        classes=_classes(model),
        n_inputs=task.X.shape[1],
    )


def _check_limits(*limits: float | None) -> None:
    for limit in limits:
        if limit is not None and not as_number(limit, "A time limit (seconds, or None)") >= 0:
            raise InvalidInputError(f"Time limits are nonnegative seconds or None, got {limit!r}.")


def _seed(stream: Stream, resume: bool, random_state: Any) -> int:
    """The seed of the run; without one, that of the file it goes on with."""
    known = stream.header() if resume and random_state is None else None
    stored = None if known is None else known.get("seed")
    return as_seed(stored if isinstance(stored, int) else random_state)


def _header(task: Task, plan: Plan, method: str | Sequence[str], settings: Options) -> dict[str, Any]:
    """What a run is about; time limits may differ between the parts of a run."""
    options = {key: value for key, value in asdict(settings).items() if key != "sample_time_limit"}
    return {
        "network": task.network.fingerprint(),
        "data": task.data_digest(),
        "threat": threat_record(task.threat),
        "method": _name(method),
        "stages": list(plan.names),
        "options": options,
        "seed": task.seed,
        "n_samples": len(task),
    }


def _name(method: str | Sequence[str]) -> str:
    return method if isinstance(method, str) else "+".join(method)


def _classes(model: Any) -> tuple[Any, ...]:
    """Labels as plain values; empty where they are 0, 1, ... or where there are none."""
    found = getattr(model, "classes_", None)
    values = () if found is None else tuple(np.asarray(found).tolist())
    return () if values == tuple(range(len(values))) else values

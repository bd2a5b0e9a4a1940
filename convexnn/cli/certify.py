"""``convexnn certify``: verdicts on the samples of a file, or on a VNN-LIB property.

Exit codes: 0 everything is certified (the property holds), 1 something is falsified (the property is violated), 2 the
arguments or files cannot be used, 3 something stays unknown and nothing is falsified, 130 interrupted.
"""

from __future__ import annotations

from argparse import Namespace
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convexnn.cli.codes import DONE, INTERRUPTED, REFUSED, UNKNOWN
from convexnn.cli.data import Data, load_data, load_network
from convexnn.cli.output import Output
from convexnn.decimals import written
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network
from convexnn.report import Sheet
from convexnn.threats import L2Ball, LInfBall, Threat

if TYPE_CHECKING:
    from convexnn.verification import CertificationReport
    from convexnn.verification.properties import PropertyResult

#: Up to so many samples are shown one by one.
SHOWN = 30

SAMPLES_ONLY = ("radius", "clip", "target", "output", "certificates")
PROPERTY_ONLY = ("counterexample",)


def certify(arguments: Namespace, output: Output) -> int:
    """Certify a network around samples, or against a property."""
    _check_arguments(arguments)
    try:
        network = load_network(arguments.model)
    except UnsupportedModelError as error:  # a file that cannot be used, like any other
        raise InvalidInputError(str(error)) from error
    if arguments.property is not None:
        return _property(arguments, output, network)
    return _samples(arguments, output, network)


def _check_arguments(arguments: Namespace) -> None:
    """Refuse combinations that mean nothing, and names that could only fail after the work."""
    if (arguments.property is None) == (arguments.data is None):
        raise InvalidInputError("Give either --property or --data.")
    other, kind = (PROPERTY_ONLY, "--property") if arguments.property is None else (SAMPLES_ONLY, "--data")
    stray = [f"--{name}" for name in other if getattr(arguments, name) is not None]
    if stray:
        raise InvalidInputError(f"{stray[0]} is for {kind}.")
    if arguments.data is not None and arguments.radius is None:
        raise InvalidInputError("--data needs --radius.")
    for name in (arguments.output, arguments.counterexample, arguments.certificates):
        if name is not None and not Path(name).absolute().parent.is_dir():
            raise InvalidInputError(f"There is no folder {Path(name).parent} to write {Path(name).name} into.")


def _outward(value: float, upward: bool) -> str:
    """Four digits, rounded up for upper bounds and down for lower bounds."""
    return written(value, 4, upward) if np.isfinite(value) else str(value)


# -- properties -----------------------------------------------------------------------------------


def _property(arguments: Namespace, output: Output, network: Network) -> int:
    from convexnn.exchange import counterexample_text, read_vnnlib
    from convexnn.verification.properties import verify_property

    prop = read_vnnlib(arguments.property)
    options = {"method": arguments.method, "time_limit": arguments.time_limit, "random_state": arguments.seed}
    with output.working("verifying"):
        result = verify_property(network, prop, **options)
    if arguments.counterexample is not None:
        text = counterexample_text(result.counterexample, result.outputs, result.word)
        Path(arguments.counterexample).write_text(text, encoding="utf-8")
    output.result(**_property_record(arguments, network, result))
    _show_property(arguments, output, network, result)
    return {"holds": DONE, "violated": REFUSED}.get(result.status, UNKNOWN)


def _property_record(arguments: Namespace, network: Network, result: PropertyResult) -> dict[str, Any]:
    from convexnn.verification.encoding import numbers

    found: dict[str, Any] | None = None
    if result.counterexample is not None:
        found = {"x": numbers(result.counterexample), "y": numbers(result.outputs)}
    return {
        "model": str(arguments.model),
        "network": network.fingerprint(),
        "property": str(arguments.property),
        "status": result.status,
        "verdict": result.word,
        "reason": result.reason,
        "counterexample": found,
        "case": result.case,
        "rigorous": result.rigorous,
        "bounds": numbers(result.bounds),
        "lower": numbers(result.lower),
        "methods": list(result.methods),
        "n_boxes": result.n_boxes,
        "seconds": dict(result.seconds),
    }


def _show_property(arguments: Namespace, output: Output, network: Network, result: PropertyResult) -> None:
    output.say(f"{network}. {arguments.property}: {len(result.bounds)} unsafe case(s).")
    order = np.argsort(-result.bounds, kind="stable")[: SHOWN if not arguments.verbose else None]
    rows = tuple(
        (str(i), _outward(result.lower[i], False), _outward(result.bounds[i], True), result.methods[i] or "open")
        for i in sorted(order)
    )
    output.say("Of each case the largest value of its smallest row; below zero the case is unreachable.")
    output.table(Sheet("", ("case", "attack >=", "bound <=", "closed by"), rows))
    spent = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in result.seconds.items())
    output.say(f"{result.n_boxes} box(es); {spent}.")
    sentence = {
        "holds": "The property holds: no unsafe case is reachable, proved for the real-valued network.",
        "violated": f"The property is violated: case {result.case} is reached by a point of its box"
        + (", in exact arithmetic as well." if result.rigorous else ", in float64 arithmetic."),
        "unknown": f"Unknown: {result.reason}.",
    }[result.status]
    output.say(f"{result.word}: {sentence}")
    if arguments.counterexample is not None:
        output.say(f"verdict and counterexample: {arguments.counterexample}")


# -- samples --------------------------------------------------------------------------------------


def _samples(arguments: Namespace, output: Output, network: Network) -> int:
    from convexnn.verification import certify as certify_samples

    data = load_data(arguments.data, target=arguments.target)
    if data.X.shape[1] != network.n_inputs:
        raise InvalidInputError(f"{data.source} has {data.X.shape[1]} features, the network takes {network.n_inputs}.")
    with _progress(output):
        report = certify_samples(
            network,
            data.X,
            data.y,
            _threat(arguments),
            method=arguments.method,
            n_jobs=arguments.jobs,
            time_limit=arguments.time_limit,
            sample_time_limit=arguments.sample_time_limit,
            output=arguments.output,
            keep_evidence=arguments.certificates is not None,
            random_state=arguments.seed,
            verbose=int(not output.quiet),
        )
    written = _write_certificates(arguments, network, data, report)
    output.result(**_samples_record(arguments, report), certificates=written)
    _show_samples(arguments, output, network, data, report)
    if arguments.certificates is not None:
        output.say(f"certificates: {written} file(s) in {arguments.certificates}")
    if arguments.output is not None:
        output.say(f"verdicts: {arguments.output}")
    if any(verdict.reason.startswith("interrupted") for verdict in report.verdicts):
        return INTERRUPTED
    return REFUSED if report.counts["falsified"] else UNKNOWN if report.counts["unknown"] else DONE


def _progress(output: Output) -> AbstractContextManager[Any]:
    """The library shows a bar on a terminal; in a log file a line now and then."""
    if output.verbose:
        return output.following()
    return nullcontext() if output.quiet else output.following("convexnn.progress")


def _threat(arguments: Namespace) -> Threat:
    kind = L2Ball if arguments.norm in ("2", "l2") else LInfBall
    threat: Threat = kind(arguments.radius, None if arguments.clip is None else tuple(arguments.clip))
    return threat


def _write_certificates(arguments: Namespace, network: Network, data: Data, report: CertificationReport) -> int:
    """One file for each certified sample whose evidence can be checked again."""
    if arguments.certificates is None:
        return 0
    from convexnn.propagation import Query
    from convexnn.verification.certificates import About, certificate_of, save_certificates

    found = []
    for verdict in report.verdicts:
        if verdict.status == "certified" and verdict.evidence is not None:
            point = data.X[verdict.index]
            query = Query.of_rivals(network, point, verdict.label, report.threat)
            about = About(verdict.index, verdict.label, point, report.threat)
            found.append(certificate_of(query, verdict.evidence, about=about))
    return len(save_certificates(found, arguments.certificates))


def _samples_record(arguments: Namespace, report: CertificationReport) -> dict[str, Any]:
    from convexnn.verification.encoding import threat_record, verdict_record

    verdicts = []
    for verdict in report.verdicts:
        record = verdict_record(verdict)
        del record["evidence"]
        verdicts.append(record)
    return {
        "model": str(arguments.model),
        "network": report.network_fingerprint,
        "data": str(arguments.data),
        "threat": threat_record(report.threat),
        "method": report.method,
        "n_samples": report.n_samples,
        "counts": report.counts,
        "clean_accuracy": report.clean_accuracy,
        "certified_accuracy": report.certified_accuracy,
        "robust_accuracy": report.robust_accuracy,
        "seconds": report.seconds,
        "verdicts": verdicts,
    }


def _show_samples(
    arguments: Namespace, output: Output, network: Network, data: Data, report: CertificationReport
) -> None:
    output.say(f"{network}. {data.source}: {report.n_samples} samples.")
    if arguments.verbose or report.n_samples <= SHOWN:
        rows = tuple(
            (str(v.index), str(v.label), v.status, _outward(v.lower, False), _outward(v.margin, True), v.method, spent)
            for v, spent in ((v, v.total_seconds) for v in report.verdicts)
        )
        title = "Largest margin f_t - f_y over each set; certified below zero"
        output.table(Sheet(title, ("sample", "class", "verdict", "attack", "bound", "method", "seconds"), rows))
    for line in str(report).split("\n"):
        output.say(line)

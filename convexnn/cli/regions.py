"""``convexnn region``: an output of a network on a whole ball, cube or box."""

from __future__ import annotations

from argparse import Namespace

import numpy as np

from convexnn.certificate import Certificate
from convexnn.cli.codes import DONE, REFUSED, UNKNOWN
from convexnn.cli.data import load_network
from convexnn.cli.describe import network_record
from convexnn.cli.output import Output
from convexnn.decimals import DOWN, written
from convexnn.exceptions import InvalidInputError
from convexnn.regions import Region, as_region, ellipsoid, rotated_box
from convexnn.threats import Box

WORDS = {
    "proved": "proved, for every point",
    "falsified": "falsified, a point that is not was found",
    "unknown": "unknown, no proof and no such point was found",
}


def region(arguments: Namespace, output: Output) -> int:
    """Bound an output over a region and compare the bound with the threshold."""
    from convexnn.certificates.region import region_bound

    network = load_network(arguments.network)
    place = read_region(arguments, network.n_inputs)
    if arguments.below is not None and not np.isfinite(arguments.below):
        raise InvalidInputError(f"--below needs a finite number, got {arguments.below}.")
    with output.working("bounding"):
        certificate = region_bound(
            network,
            place,
            method=arguments.method,
            output=arguments.of if arguments.minus is None else (arguments.of, arguments.minus),
            time_limit=np.inf if arguments.time_limit is None else arguments.time_limit,
            arithmetic="exact" if arguments.exact else "float64+slack",
        )
    bound = certificate.check(network)
    verdict = _verdict(certificate.lower, bound, arguments.below)
    output.result(
        network=network_record(network),
        region={"kind": place.kind, "center": place.center, "axes": place.axes},
        outputs=[arguments.of] if arguments.minus is None else [arguments.of, arguments.minus],
        bound=bound,
        lower=certificate.lower,
        below=arguments.below,
        verdict=verdict,
        method=certificate.method,
        arithmetic=certificate.arithmetic,
        certificate=None,
    )
    _show(arguments, output, certificate, bound, f"{network} on a {place.kind} in {place.n_inputs} dimensions")
    if verdict is not None:
        output.say(f"below {arguments.below:.10g}: {WORDS[verdict]}")
    return {"proved": DONE, "falsified": REFUSED, "unknown": UNKNOWN, None: DONE}[verdict]


def _verdict(lower: float, bound: float, below: float | None) -> str | None:
    if below is None:
        return None
    return "proved" if bound < below else "falsified" if lower >= below else "unknown"


def _show(arguments: Namespace, output: Output, certificate: Certificate, bound: float, what: str) -> None:
    name = f"f_{arguments.of}" + ("" if arguments.minus is None else f" - f_{arguments.minus}")
    output.say(f"{what}, raw input units")
    output.say(f"{written(certificate.lower, 8, DOWN)} <= max {name} <= {written(bound, 8)}")
    output.say(f"below: a point that was found; above: {certificate.method}, {certificate.arithmetic}, for ALL points")
    if arguments.save is not None:
        path = certificate.save(arguments.save)
        output.result(certificate=path)
        output.say(f"certificate: {path}")


def read_region(arguments: Namespace, n_inputs: int) -> Region:
    """The ball, cube or box of the arguments."""
    box = getattr(arguments, "lower", None) is not None or getattr(arguments, "upper", None) is not None
    if box == (arguments.radius is not None):
        raise InvalidInputError("Give either --radius (with --norm and --center) or --lower and --upper.")
    if box:
        if arguments.lower is None or arguments.upper is None or arguments.center is not None:
            raise InvalidInputError("A box needs --lower and --upper, and no --center.")
        low, high = (_vector(arguments, name, n_inputs) for name in ("lower", "upper"))
        if not (low <= high).all():
            raise InvalidInputError("--lower must be at most --upper in every coordinate.")
        return as_region(Box(low, high), n_inputs)
    if not 0 <= arguments.radius < np.inf:
        raise InvalidInputError(f"--radius must be nonnegative and finite, got {arguments.radius}.")
    center = np.zeros(n_inputs) if arguments.center is None else _vector(arguments, "center", n_inputs)
    kind = ellipsoid if arguments.norm in ("2", "l2") else rotated_box
    return kind(center, np.full(n_inputs, arguments.radius))


def _vector(arguments: Namespace, name: str, n_inputs: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = np.array(getattr(arguments, name), dtype=float)
    if len(values) not in (1, n_inputs):
        raise InvalidInputError(f"--{name} needs {n_inputs} numbers (or one for all), got {len(values)}.")
    return np.array(np.broadcast_to(values, (n_inputs,)))

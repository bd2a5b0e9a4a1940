"""The command ``check``: saved certificates, one or a folder of them, recomputed for a saved network."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from convexnn.certificate import Certificate
from convexnn.certificates.region import QUANTITY, certified_regions, checked_output
from convexnn.certificates.region_polytope import EXACT, METHOD, certified_polytope
from convexnn.cli.codes import DONE
from convexnn.cli.data import load_network
from convexnn.cli.describe import network_record
from convexnn.cli.output import Output
from convexnn.decimals import written
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network
from convexnn.verification.certificate_files import load_certificate
from convexnn.verification.statements import describe


def check(arguments: Namespace, output: Output) -> int:
    """Recompute the bounds of saved certificates for a saved network; refuse with exit code 1."""
    try:
        network = load_network(arguments.network)
    except InvalidInputError as error:  # a damaged file proves nothing
        raise CertificateError(f"Refused: {error}") from error
    path = Path(arguments.certificate)
    output.result(network=network_record(network), exact=bool(arguments.exact))
    if path.is_dir():
        return _folder(path, network, arguments.exact, output)
    output.result(checks=[_refusal(path, "not checked")])
    try:
        words, found = _checked(path, network, arguments.exact)
    except CertificateError as error:
        output.result(checks=[_refusal(path, str(error))])
        raise
    output.result(checks=[found])
    output.say(words)
    return DONE


def _refusal(path: Path, reason: str) -> dict[str, Any]:
    return {"file": path, "holds": False, "reason": reason}


def _folder(folder: Path, network: Network, exact: bool, output: Output) -> int:
    """Check every certificate of a folder; all are looked at before the command fails."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise InvalidInputError(f"There is no certificate (*.npz) in the folder {folder}.")
    checks: list[dict[str, Any]] = []
    with output.working("checking"):
        for path in paths:
            try:
                words, found = _checked(path, network, exact)
                output.say(f"{path.name}: holds\n{words}")
                checks.append(found)
            except CertificateError as error:
                output.say(f"{path.name}: REFUSED. {error}")
                checks.append(_refusal(path, str(error)))
    output.result(checks=checks)
    refused = sum(not one["holds"] for one in checks)
    output.say(f"{len(paths) - refused} of {len(paths)} certificates hold for {network}")
    if refused:
        raise CertificateError(f"{refused} of {len(paths)} certificates in {folder} are refused.")
    return DONE


def _checked(path: Path, network: Network, exact: bool) -> tuple[str, dict[str, Any]]:
    """What a certificate states and what was recomputed; CertificateError when it does not hold."""
    try:
        certificate = load_certificate(path)
    except InvalidInputError as error:
        raise CertificateError(f"Refused: {error}") from error
    found: dict[str, Any] = {"file": path, "holds": True, "claimed": certificate.bound}
    if isinstance(certificate, Certificate):
        if exact:
            raise CertificateError("Refused: exact checks are for certificates about one sample, this one is not.")
        bound = certificate.check(network)
        claim = f"{certificate.quantity} ({certificate.threat})"
        found |= {"quantity": certificate.quantity, "threat": certificate.threat, "bound": bound}
        about = region_words(certificate, network) if certificate.quantity == QUANTITY else []
        found |= {"about": about} if about else {}
        lines = [str(certificate), *about, f"recomputed for {network}: {claim} <= {written(bound, 10)}"]
        return "\n".join(lines), found
    bounds = certificate.check(network, exact=exact)
    words = describe(certificate, bounds, "exact" if exact else certificate.arithmetic)
    found |= {"quantity": "rows of outputs over a set of inputs", "index": certificate.about.index, "bound": bounds}
    return f"{words}\nrecomputed for {network}; claimed: at most {written(certificate.bound, 10)}", found


def region_words(certificate: Certificate, network: Network) -> list[str]:
    """What a certificate over regions is about, from its own arrays: a smaller region would be another statement."""
    if certificate.method in (METHOD, EXACT):
        return ["about f_0 of 1 outputs, on", f"  {region_line(certified_polytope(certificate))}"]
    weights = checked_output(network, certificate.multiplier)
    terms = "".join(f"{'+' if weights[k] > 0 else '-'} f_{k} " for k in weights.nonzero()[0]).removeprefix("+ ")
    regions = [region_line(one) for one in certified_regions(certificate)]
    return [f"about {terms.strip()} of {network.n_outputs} outputs, on", *(f"  {line}" for line in regions)]


def region_line(region: Any) -> str:
    """Kind, centre and axes of a region in one line, long arrays shortened in the middle."""
    parts = {name: values for name, values in vars(region).items() if isinstance(values, np.ndarray)}
    shown = (f"{name} {np.array2string(values, threshold=12, separator=', ')}" for name, values in parts.items())
    words = ", ".join(" ".join(text.split()) for text in shown)
    return f"{getattr(region, 'kind', type(region).__name__.lower())}: {words}"

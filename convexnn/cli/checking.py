"""The command ``check``: saved certificates, one or a folder of them, recomputed for a saved network."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from convexnn.certificate import Certificate
from convexnn.cli.data import load_network
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
    if not path.is_dir():
        output.say(_checked(path, network, arguments.exact))
        return 0
    return _folder(path, network, arguments.exact, output)


def _folder(folder: Path, network: Network, exact: bool, output: Output) -> int:
    """Check every certificate of a folder; all are looked at before the command fails."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise InvalidInputError(f"There is no certificate (*.npz) in the folder {folder}.")
    refused = 0
    for path in paths:
        try:
            output.say(f"{path.name}: holds\n{_checked(path, network, exact)}")
        except CertificateError as error:
            refused += 1
            output.say(f"{path.name}: REFUSED. {error}")
    output.say(f"{len(paths) - refused} of {len(paths)} certificates hold for {network}")
    if refused:
        raise CertificateError(f"{refused} of {len(paths)} certificates in {folder} are refused.")
    return 0


def _checked(path: Path, network: Network, exact: bool) -> str:
    """What a certificate states and what was recomputed; CertificateError when it does not hold."""
    try:
        certificate = load_certificate(path)
    except InvalidInputError as error:
        raise CertificateError(f"Refused: {error}") from error
    if isinstance(certificate, Certificate):
        if exact:
            raise CertificateError("Refused: exact checks are for certificates about one sample, this one is not.")
        bound = certificate.check(network)
        claim = f"{certificate.quantity} ({certificate.threat})"
        return f"{certificate}\nrecomputed for {network}: {claim} <= {written(bound, 10)}"
    bounds = certificate.check(network, exact=exact)
    words = describe(certificate, bounds, "exact" if exact else certificate.arithmetic)
    return f"{words}\nrecomputed for {network}; claimed: at most {written(certificate.bound, 10)}"

"""The commands around it: ``show``, ``convert`` and ``solvers``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np

from convexnn.certificate import Certificate
from convexnn.cli.data import load_network
from convexnn.cli.describe import network_record
from convexnn.cli.output import Output
from convexnn.decimals import written
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.report import Sheet
from convexnn.verification.certificate_files import load_certificate


def show(arguments: Namespace, output: Output) -> int:
    """Say what is in a file."""
    path = Path(arguments.file)
    try:
        network = load_network(arguments.file)
    except InvalidInputError as error:
        if path.suffix.lower() != ".npz" or not path.is_file():
            raise
        _show_certificate(path, output, error)
        return 0
    norms = ", ".join(f"{np.linalg.norm(W, 2):.4g}" for W, _ in network.layers)
    output.result(kind="network", file=path, network=network_record(network))
    output.say(f"{network}\nspectral norms of the layers (not rounded outward): {norms}")
    output.say(f"fingerprint: {network.fingerprint()}")
    return 0


def _show_certificate(path: Path, output: Output, reason: InvalidInputError) -> None:
    try:
        certificate = load_certificate(path)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path} holds neither a network ({reason}) nor a certificate ({error}).") from error
    output.say(f"{certificate}\nA claim; convexnn check {path} NETWORK recomputes it.")
    output.say(f"fingerprint of its network: {certificate.fingerprint}")
    about = {"bound": certificate.bound, "arithmetic": certificate.arithmetic, "fingerprint": certificate.fingerprint}
    if isinstance(certificate, Certificate):
        about |= {"quantity": certificate.quantity, "threat": certificate.threat, "method": certificate.method}
    output.result(kind="certificate", file=path, certificate=about)


def convert(arguments: Namespace, output: Output) -> int:
    """Write a network in the format that the name of the target asks for."""
    network, target = load_network(arguments.network), Path(arguments.target)
    if target.suffix.lower() not in (".npz", ".onnx"):
        raise InvalidInputError(f"The target must end in .npz or .onnx, got {arguments.target!r}.")
    if not target.absolute().parent.is_dir():
        raise InvalidInputError(f"There is no folder {target.parent} to write {target.name} into.")
    if target.suffix.lower() == ".npz":
        network.save(target)
    else:
        network.to_onnx(target, np.dtype(arguments.dtype))
    change = _largest_change(network, load_network(arguments.target))
    output.result(network=network_record(network), file=target, largest_change=change)
    output.say(f"{network}: {target}\nlargest change of a weight: {written(change, 3)}")
    return 0


def _largest_change(network: Network, other: Network) -> float:
    """Of weights and biases."""
    pairs = zip(network.layers, other.layers, strict=True)
    return max(float(np.abs(a - b).max(initial=0.0)) for one, two in pairs for a, b in zip(one, two, strict=True))


def solvers(arguments: Namespace, output: Output) -> int:
    """List the solvers."""
    from convexnn.solvers import available_solvers

    del arguments
    found = list(available_solvers())
    rows = tuple((r.name, _yes(r.installed), _yes(r.licensed), r.version or None, r.kind) for r in found)
    output.table(Sheet("Solvers", ("solver", "installed", "licensed", "version", "kind"), rows))
    fields = ("name", "installed", "licensed", "usable", "version", "kind")
    output.result(solvers=[{field: getattr(one, field) for field in fields} for one in found])
    return 0


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"

"""``convexnn report``: robust error of classifiers against the radius."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from convexnn.cli.commands import check_inputs
from convexnn.cli.data import load_data, load_network
from convexnn.cli.describe import data_record, network_record
from convexnn.cli.output import Output
from convexnn.exceptions import InvalidInputError
from convexnn.report import robust_error_report, to_csv


def report(arguments: Namespace, output: Output) -> int:
    """Attack and certify networks at several radii; write the table and the page."""
    for name in (arguments.html, arguments.csv):
        if name is not None and not Path(name).absolute().parent.is_dir():
            raise InvalidInputError(f"There is no folder {Path(name).parent} to write {Path(name).name} into.")
    names = [Path(one).stem for one in arguments.model]
    if len(set(names)) < len(names):
        raise InvalidInputError(f"The networks need different file names, got {', '.join(names)}.")
    networks = {name: load_network(one) for name, one in zip(names, arguments.model, strict=True)}
    data = load_data(arguments.data, target=arguments.target)
    for network in networks.values():
        check_inputs(network, data)
    with output.working("attacking and certifying"):
        found = robust_error_report(
            networks,
            data.X,
            data.y,
            arguments.radius,
            norm="l2" if arguments.norm in ("2", "l2") else "linf",
            clip=None if arguments.clip is None else tuple(arguments.clip),
            methods=arguments.method,
            random_state=arguments.seed,
        )
    output.table(found.sheet())
    output.result(
        data=data_record(data),
        networks={name: network_record(network) for name, network in networks.items()},
        norm=found.norm,
        radii=found.radii,
        methods=found.methods,
        clean_error=found.clean_error,
        attack_error=found.attack_error,
        certified_error=found.certified_error,
    )
    if arguments.csv is not None:
        Path(arguments.csv).write_text(to_csv(found.sheet()), encoding="utf-8")
        output.say(f"table: {arguments.csv}")
    if arguments.html is not None:
        output.say(f"page: {found.to_html(arguments.html)}")
    return 0

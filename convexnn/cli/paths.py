"""``convexnn path``: one convex program at many weights."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from convexnn.cli.commands import check_inputs, save_figure
from convexnn.cli.data import Data, load_data, load_network
from convexnn.cli.describe import data_record, network_record
from convexnn.cli.output import Output
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.paths import RegularizationPath
from convexnn.paths import path as solve_path
from convexnn.report import Sheet, to_csv


def path(arguments: Namespace, output: Output) -> int:
    """Solve one program at many weights, show and write what was found."""
    for name in (arguments.csv, arguments.plot):
        if name is not None and not Path(name).absolute().parent.is_dir():
            raise InvalidInputError(f"There is no folder {Path(name).parent} to write {Path(name).name} into.")
    data = load_data(arguments.data, arguments.bundled, arguments.target)
    network = _start(arguments, output, data)
    output.say(f"{data}. Patterns of {network}.")
    with output.working("following the path"):
        found = solve_path(
            data.X,
            data.y,
            network,
            regularizer=arguments.regularizer,
            lams=arguments.lams,
            n_lams=arguments.n_lams,
            lam_ratio=arguments.lam_ratio,
            between=arguments.between,
            solver=arguments.solver,
            tol=arguments.tol,
            max_iter=arguments.max_iter,
            verbose=arguments.verbose,
            time_limit=arguments.time_limit,
        )
    sheet, rows = _tabled(found)
    gap = float(found.gaps_between.max(initial=0.0))
    output.table(sheet)
    output.say(f"Largest gap at a weight {found.gaps.max():.1e}, between two weights at most {gap:.3g} (proved).")
    output.result(data=data_record(data), network=network_record(network), regularizer=found.regularizer, rows=rows)
    output.result(gaps_between=found.gaps_between)
    _write(arguments, output, found, sheet)
    return 0


def _start(arguments: Namespace, output: Output, data: Data) -> Network:
    """The network whose patterns are used."""
    if arguments.network is not None:
        network = load_network(arguments.network)
        check_inputs(network, data)
        return network
    from convexnn.training import pretrain

    with output.working("pretraining"):
        return pretrain(data.X, data.y, hidden_units=arguments.hidden_units, random_state=arguments.seed).network


def _tabled(found: RegularizationPath) -> tuple[Sheet, list[dict[str, Any]]]:
    columns = ("lam", "objective", "lower_bound", "gap", "loss", "penalty", "units", "status")
    rows = [
        {
            "lam": float(lam),
            "objective": float(objective),
            "lower_bound": float(lower),
            "gap": float(gap),
            "loss": float(loss),
            "penalty": float(penalty),
            "units": int(np.count_nonzero((one.v != 0) & (one.W.any(axis=1) | (one.b != 0)))),
            "status": solution.status,
        }
        for lam, objective, lower, gap, loss, penalty, one, solution in zip(
            found.lams, found.objectives, found.lower_bounds, found.gaps, found.losses, found.penalties,
            found.networks, found.solutions, strict=True,
        )
    ]  # fmt: skip
    cells = tuple(tuple(row[column] for column in columns) for row in rows)
    return Sheet("", tuple(column.replace("_", " ") for column in columns), cells), rows


def _write(arguments: Namespace, output: Output, found: RegularizationPath, sheet: Sheet) -> None:
    if arguments.csv is not None:
        Path(arguments.csv).write_text(to_csv(sheet), encoding="utf-8")
        output.say(f"table: {arguments.csv}")
    if arguments.plot is not None:
        from convexnn.plotting import PathDisplay

        save_figure(lambda ax: PathDisplay.from_path(found, ax=ax), arguments.plot)
        output.say(f"picture: {arguments.plot}")
    if arguments.networks is not None:
        folder = Path(arguments.networks)
        folder.mkdir(parents=True, exist_ok=True)
        files = [one.save(folder / f"{place:03d}.npz") for place, one in enumerate(found.networks)]
        output.result(files=files)
        output.say(f"networks, in the order of the table: {folder}")

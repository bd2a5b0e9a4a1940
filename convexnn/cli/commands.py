"""The commands, except ``demo``: read, call the library, show, write."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import lipschitz as certify_lipschitz
from convexnn.certificates.lipschitz_lower import lipschitz_lower_bound
from convexnn.cli.data import Data, load_data, load_network
from convexnn.cli.describe import data_record, network_record, program_record, robustness_record, stages_record
from convexnn.cli.output import Output
from convexnn.decimals import DOWN, written
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.program import Solution
from convexnn.report import (
    TRUTHS,
    Stage,
    robustness_sheet,
    robustness_table,
    stage_sheet,
    stage_table,
    to_csv,
    to_markdown,
    to_text,
)

Array = NDArray[np.float64]
Rows = tuple[Array, Array]
WRITERS = {".md": to_markdown, ".csv": to_csv, ".txt": to_text}


def fit(arguments: Namespace, output: Output) -> int:
    """Train a network on data and write it."""
    from convexnn.estimators import SafeSNNRegressor

    _check_paths(arguments)
    data = load_data(arguments.data, arguments.bundled, arguments.target)
    train, test, scaler = _prepare(data, arguments)
    output.say(f"{data}.")
    output.result(data=data_record(data))
    model = SafeSNNRegressor(
        arguments.hidden_units,
        regularizer=arguments.regularizer,
        lam=arguments.lam,
        start=arguments.start,
        method=arguments.method,
        tol=arguments.tol,
        max_iter=arguments.max_iter,
        time_limit=arguments.time_limit,
        solver=arguments.solver,
        random_state=arguments.seed,
        verbose=int(arguments.verbose),
    )
    began = time.perf_counter()
    with output.working("training"):
        model.fit(*train)
    seconds = time.perf_counter() - began
    _say_improvement(output, model.start_objective_, model.objective_, model.solution_)
    stage = Stage("fitted", model.network_, seconds, model.solution_)
    _report(arguments, output, [stage], train, test)
    if scaler is not None:
        output.say("Radii and Lipschitz bounds of the table are in standard deviations of the inputs.")
    network = model.network_ if scaler is None else model.network_.fold_scaling(scaler)
    _write_results(arguments, output, network, model.lipschitz_ if scaler is None else None)
    return 0


def refine(arguments: Namespace, output: Output) -> int:
    """Improve a saved network by a convex program and write the result."""
    from convexnn.model_parts import split_model
    from convexnn.refinement import refine as refine_model

    _check_paths(arguments)
    network = load_network(arguments.network)
    data = load_data(arguments.data, arguments.bundled, arguments.target)
    check_inputs(network, data)
    output.say(f"{network}. {data}.")
    output.result(data=data_record(data))
    options = {name: getattr(arguments, name) for name in ("solver", "tol", "max_iter", "time_limit", "verbose")}
    began = time.perf_counter()
    with output.working("refining"):
        result = refine_model(
            network,
            data.X,
            data.y,
            regularizer=arguments.regularizer,
            lam=arguments.lam,
            method=arguments.method,
            layers=arguments.layers,
            **options,
        )
    seconds = time.perf_counter() - began
    _say_improvement(output, result.before, result.after, result.solution)
    parts = split_model(network, arguments.layers)
    if not parts.whole:
        output.say("The table is about the last two layers, on the features that the layers before them compute.")
    rows = (parts.body(data.X), data.y)
    stages = [Stage("before", parts.head, 0.0), Stage("after", result.network, seconds, result.solution)]
    _report(arguments, output, stages, rows, rows)
    _write_results(arguments, output, result.model, result.certificate if parts.whole else None)
    return 0


def lipschitz(arguments: Namespace, output: Output) -> int:
    """Print a bracket around the Lipschitz constant of a saved network."""
    network = load_network(arguments.network)
    near = None if arguments.near is None else load_data(arguments.near, target=arguments.target)
    if near is not None:
        check_inputs(network, near)
    with output.working("bounding"):
        certificate = certify_lipschitz(network, method=arguments.method)
    upper = certificate.check(network)
    lower = lipschitz_lower_bound(network, None if near is None else near.X)
    output.result(network=network_record(network), norm="l2", lower=lower, upper=upper, method=certificate.method)
    output.say(f"{network}, l2 norm, input units of the network")
    output.say(f"{written(lower, 8, DOWN)} <= L <= {written(upper, 8)}")
    output.say(f"below: a gradient attained at a sampled point; above: {certificate.method}, from its multiplier")
    if arguments.save is not None:
        path = certificate.save(arguments.save)
        output.result(certificate=path)
        output.say(f"certificate: {path}")
    return 0


def attack(arguments: Namespace, output: Output) -> int:
    """Attack a saved network on data and show what is certified beside it."""
    network = load_network(arguments.network)
    data = load_data(arguments.data, arguments.bundled, arguments.target)
    check_inputs(network, data)
    output.say(f"{network}. {data}.")
    with output.working("attacking"):
        table = robustness_table(
            {Path(arguments.network).stem: network},
            data.X,
            data.y,
            arguments.radius,
            norm=arguments.norm,
            steps=arguments.steps,
            restarts=arguments.restarts,
            random_state=arguments.seed,
        )
    sheet = robustness_sheet(table)
    output.table(sheet)
    output.result(network=network_record(network), data=data_record(data), **robustness_record(table))
    if arguments.csv is not None:
        Path(arguments.csv).write_text(to_csv(sheet), encoding="utf-8")
        output.say(f"table: {arguments.csv}")
    if arguments.plot is not None:
        from convexnn.plotting import RobustnessCurveDisplay

        save_figure(lambda ax: RobustnessCurveDisplay.from_table(table, ax=ax), arguments.plot)
        output.say(f"curve: {arguments.plot}")
    return 0


# -- shared ---------------------------------------------------------------------------------------


def save_figure(draw: Any, path: str | Path, size: tuple[float, float] = (6.4, 4.4)) -> None:
    """Draw on the axes of a figure of its own, without a window or pyplot, and write it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(figure.subplots())
    try:
        figure.savefig(path, dpi=200)
    except ValueError as error:
        raise InvalidInputError(f"The picture {path} cannot be written: {error}") from error


def _check_paths(arguments: Namespace) -> None:
    """Refuse names that could only fail after the work."""
    if arguments.report is not None and Path(arguments.report).suffix not in WRITERS:
        raise InvalidInputError(f"The report must end in {', '.join(WRITERS)}, got {arguments.report!r}.")
    for name in (arguments.output, arguments.certificate, arguments.report):
        if name is not None and not Path(name).parent.is_dir():
            raise InvalidInputError(f"There is no folder {Path(name).parent} to write {Path(name).name} into.")


def check_inputs(network: Network, data: Data) -> None:
    """Refuse data with another number of features than the network takes."""
    if data.X.shape[1] != network.n_inputs:
        raise InvalidInputError(
            f"{data.source} has {data.X.shape[1]} features beside the target, the network takes {network.n_inputs}."
        )


def _prepare(data: Data, arguments: Namespace) -> tuple[Rows, Rows, Any]:
    """Training rows, test rows (the same without a hold-out), and the scaler if one was asked for."""
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    share = arguments.test_size
    if not 0 <= share < 1:
        raise InvalidInputError(f"--test-size must be in [0, 1), got {share}.")
    train = test = (data.X, data.y)
    if share > 0:
        try:
            X, X_test, y, y_test = train_test_split(data.X, data.y, test_size=share, random_state=arguments.seed)
        except ValueError as error:
            raise InvalidInputError(f"The rows cannot be split: {error}") from error
        train, test = (X, y), (X_test, y_test)
    if not arguments.standardize:
        return train, test, None
    scaler = StandardScaler().fit(train[0])
    scaled = (scaler.transform(train[0]), train[1])
    return scaled, scaled if test is train else (scaler.transform(test[0]), test[1]), scaler


def _say_improvement(output: Output, before: float, after: float, solution: Solution | None) -> None:
    output.result(
        start_objective=before, objective=after, program=None if solution is None else program_record(solution)
    )
    output.say(f"training objective: {before:.8g} at the start, {after:.8g} now")
    if solution is not None:
        output.say(f"convex program: {solution.status}, verified relative gap {solution.gap:.2e}, {solution.solver}")


def _report(arguments: Namespace, output: Output, stages: list[Stage], train: Rows, test: Rows) -> None:
    with output.working("attacking and certifying"):
        table = stage_table(stages, train, test, arguments.radius, lam=arguments.lam, random_state=0)
    output.result(lam=arguments.lam, held_out=train is not test, **stages_record(table))
    sheet = stage_sheet(table)
    output.table(sheet)
    if train is test:
        output.say("No rows were held out: the test columns are about the training rows.")
    for truth in TRUTHS:
        output.say(truth)
    if arguments.report is not None:
        Path(arguments.report).write_text(WRITERS[Path(arguments.report).suffix](sheet), encoding="utf-8")
        output.say(f"report: {arguments.report}")


def _write_results(arguments: Namespace, output: Output, network: Network, certificate: Certificate | None) -> None:
    path = network.save(arguments.output)
    output.say(f"network: {path}")
    proof = certify_lipschitz(network) if certificate is None else certificate
    bound = proof.check(network)
    output.say(f"L <= {written(bound, 8)} in the input units of the saved network")
    output.result(network={**network_record(network), "file": path}, lipschitz=bound, certificate=None)
    if arguments.certificate is not None:
        saved = proof.save(arguments.certificate)
        output.result(certificate=saved)
        output.say(f"certificate: {saved}")

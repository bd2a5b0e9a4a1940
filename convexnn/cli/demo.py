"""``convexnn demo``: the whole way on scikit-learn's diabetes data, from rows to a certificate checked from disk."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import lipschitz
from convexnn.cli.codes import INTERRUPTED
from convexnn.cli.commands import save_figure
from convexnn.cli.data import load_data
from convexnn.cli.describe import stages_record
from convexnn.cli.output import Output
from convexnn.decimals import written
from convexnn.network import Network
from convexnn.patterns import extract
from convexnn.plotting import PatternDisplay, RobustnessCurveDisplay
from convexnn.program import Program, Solution
from convexnn.report import TRUTHS, Stage, StageTable, stage_sheet, stage_table, to_csv, to_markdown
from convexnn.restrictions import LipschitzProgram, ReluGroupLasso
from convexnn.solvers import solve
from convexnn.training import pretrain
from convexnn.training.alternating import alternating_minimization

Array = NDArray[np.float64]

RADII = (0.05, 0.1, 0.2, 0.4)
ROUNDS, PATIENCE = 10, 60.0  # of the alternating minimization, which comes ever more slowly closer to the joint optimum
UNITS = "standardized units"
QUICK = {"hidden_units": 8, "epochs": 60, "steps": 10, "restarts": 1}
FULL = {"epochs": 1000, "steps": 50, "restarts": 3}


@dataclass(frozen=True, eq=False)
class _Task:
    """The data of the demo and how it is run."""

    train: tuple[Array, Array]
    test: tuple[Array, Array]
    lam: float
    lam_l2: float
    hidden_units: int
    epochs: int
    seed: int


def demo(arguments: Namespace, output: Output) -> int:
    """Pretrain, solve, certify, attack, save, and check what was saved."""
    began = time.perf_counter()
    settings = {"hidden_units": arguments.hidden_units, **FULL, **(QUICK if arguments.quick else {})}
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    task = _standardized(output, arguments, settings)
    stages: list[Stage] = []
    code = 0
    try:
        for stage in _stages(task, output):
            stages.append(stage)
            output.say(f"  {stage.name}: {stage.seconds:.1f} s")
    except KeyboardInterrupt:
        if not stages:
            raise
        output.error("Interrupted; what follows is about the stages that were finished.")
        code = INTERRUPTED
    with output.working("attacking and certifying"):
        table = stage_table(
            stages,
            task.train,
            task.test,
            RADII,
            lam=task.lam,
            lam_l2=task.lam_l2,
            random_state=task.seed,
            steps=settings["steps"],
            restarts=settings["restarts"],
        )
    output.result(folder=folder, lam=task.lam, lam_l2=task.lam_l2, units=UNITS, **stages_record(table))
    output.say()
    _show(output, table, _single_precision(stages[-1].network, task.test[0]))
    _write(folder, task, stages, table)
    _check_again(output, folder)
    output.say(f"All files are in {folder}. The demo took {time.perf_counter() - began:.0f} s.")
    return code


def _standardized(output: Output, arguments: Namespace, settings: dict[str, Any]) -> _Task:
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    data = load_data(None, "diabetes")
    X, X_test, y, y_test = train_test_split(data.X, data.y, test_size=0.25, random_state=arguments.seed)
    inputs, target = StandardScaler().fit(X), StandardScaler().fit(y[:, None])
    output.say(f"{data}; {len(X)} rows to train on, {len(X_test)} to test on.")
    output.say(
        "Features and target are standardized with mean and deviation of the training rows: errors, Lipschitz "
        "bounds and radii are in these standardized units (predicting the mean has an MSE of about 1)."
    )
    return _Task(
        train=(inputs.transform(X), target.transform(y[:, None])[:, 0]),
        test=(inputs.transform(X_test), target.transform(y_test[:, None])[:, 0]),
        lam=arguments.lam,
        lam_l2=arguments.lam_l2,
        hidden_units=settings["hidden_units"],
        epochs=settings["epochs"],
        seed=arguments.seed,
    )


def _stages(task: _Task, output: Output) -> Iterator[Stage]:
    """Stages one by one; an interrupt inside one ends the iteration after the last finished stage."""
    X, y = task.train
    output.say(f"Adam trains {task.hidden_units} hidden units; a fifth of the training rows chooses the best network.")
    with output.working("pretraining"):
        trained = pretrain(
            X, y, hidden_units=task.hidden_units, epochs=task.epochs, validation=0.2, random_state=task.seed
        )
    yield Stage("pretrained", trained.network, trained.seconds)
    _stop_if(trained.status)
    start, patterns = trained.network, extract(trained.network, X)
    output.say(f"  {patterns}: every stage below starts from this network and keeps its patterns")
    yield _convex("l2 convex", lambda: ReluGroupLasso(X, y, patterns, task.lam_l2, start=start), start, output)
    began = time.perf_counter()
    with output.working("alternating minimization"):
        result = alternating_minimization(start, X, y, lam=task.lam, max_rounds=ROUNDS, time_limit=PATIENCE)
    yield Stage("alternating", result.network, time.perf_counter() - began, result.solution)
    output.say(
        f"    {len(result.history)} rounds, {result.status.replace('_', ' ')}; the joint program needs no rounds"
    )
    _stop_if(result.status)
    yield _convex("joint", lambda: LipschitzProgram(X, y, patterns, task.lam, start=start), start, output)


def _convex(name: str, build: Callable[[], Program], start: Network, output: Output) -> Stage:
    began = time.perf_counter()
    with output.working(name):
        program = build()
        solution = solve(program, tol=1e-7)
    _stop_if(solution.status)
    return Stage(name, _never_worse(program, solution, start), time.perf_counter() - began, solution)


def _never_worse(program: Program, solution: Solution, start: Network) -> Network:
    """The decoded solution, or the start when that is better by the program's own objective."""
    network = program.decode(solution.z)
    return min((network, start), key=program.network_objective)


def _stop_if(status: str) -> None:
    if status == "interrupted":
        raise KeyboardInterrupt


def _single_precision(network: Network, X: Array) -> float:
    """Largest difference between float32 inference in torch and the network, on the rows of ``X``."""
    import torch

    with torch.no_grad():
        single = network.to_torch(torch.float32)(torch.from_numpy(X).float())
    return float(np.abs(single.double().numpy()[:, 0] - network(X)).max())


def _show(output: Output, table: StageTable, single: float) -> None:
    output.table(stage_sheet(table))
    output.say()
    for truth in TRUTHS:
        output.say(f"* {truth}")
    output.say(f"  On the test rows the outputs of the last network in float32 differ by at most {single:.1e}.")
    output.say()


def _write(folder: Path, task: _Task, stages: list[Stage], table: StageTable) -> None:
    sheet, robustness = stage_sheet(table), table.robustness
    (folder / "table.csv").write_text(to_csv(sheet), encoding="utf-8")
    (folder / "table.md").write_text(to_markdown(sheet), encoding="utf-8")
    last = stages[-1].network
    last.save(folder / "network.npz")
    lipschitz(last).save(folder / "certificate.npz")
    save_figure(lambda ax: RobustnessCurveDisplay.from_table(robustness, ax=ax, units=UNITS), folder / "robustness.png")
    patterns = extract(stages[0].network, task.train[0])
    save_figure(lambda ax: PatternDisplay.from_patterns(patterns, ax=ax), folder / "patterns.png")


def _check_again(output: Output, folder: Path) -> None:
    """Read network and certificate back and recompute the bound from the files alone."""
    network, certificate = Network.load(folder / "network.npz"), Certificate.load(folder / "certificate.npz")
    bound, claimed = written(certificate.check(network), 8), written(certificate.bound, 8)
    output.say(f"Checked again from disk: {network}, lipschitz (l2) <= {bound}, claimed {claimed}.")
    output.say(f"To do it yourself: convexnn check {folder / 'certificate.npz'} {folder / 'network.npz'}")

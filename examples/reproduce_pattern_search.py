"""
Pattern search after the convex step: how far below the joint program?
======================================================================

A convex training program is optimal for its patterns. How much is left in the patterns, from a start by ADMM and from
one by exact LipSDP-gradient training, and would longer training have found it in the same time?

100 units, ``lam = 0.01``, ten fixed splits of servo and machine. For every start: the joint program, the pattern search
from it, and training that goes on from the same start for as much CPU time as the search took, with the joint program
behind it.

    python examples/reproduce_pattern_search.py --data FOLDER --output FOLDER [--trials 10] [--rounds 8] [--jobs 1]

``--data`` holds ``splits/<name>.csv`` and ``splits/<name>_test_mask.csv``. Every trial is written as soon as it is
done; an interrupted run resumes where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
from datetime import date
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np
from joblib import Parallel, delayed

from convexnn import Network, extract, pattern_search, pretrain, solve
from convexnn.datasets import load_split
from convexnn.restrictions import LipschitzProgram
from convexnn.search import TrainingObjective
from convexnn.training import ADMMTrainer, LipschitzTrainer

DATASETS = ("servo", "machine")
STARTS = {"ADMM": (ADMMTrainer, 4000), "LipGrad": (LipschitzTrainer, 2000)}
LAM, UNITS = 0.01, 100


def load(name: str, trial: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Training rows of a split, standardized."""
    X, y, _, _ = load_split(name, trial, folder, return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()


def train(X: np.ndarray, y: np.ndarray, trainer: object, epochs: int, **options: object) -> Network:
    """A network trained on the Lipschitz-regularized objective; short budgets are part of the experiment."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pretrain(X, y, method=trainer, epochs=epochs, **options).network


def joint(X: np.ndarray, y: np.ndarray, network: Network) -> Network:
    """Solution of the joint program of the network's patterns."""
    program = LipschitzProgram(X, y, extract(network, X), LAM, start=network)
    return program.decode(solve(program).z)


def longer(X: np.ndarray, y: np.ndarray, network: Network, seconds: float, seed: int) -> tuple[Network, float]:
    """Exact-gradient training that goes on from the network for about so many CPU seconds; those it really took."""
    trainer = LipschitzTrainer(lam=LAM)
    began = time.process_time()
    train(X, y, trainer, 200, start=network, random_state=seed)
    epochs = max(200, round(200 * seconds / (time.process_time() - began)))
    began = time.process_time()
    found = train(X, y, trainer, epochs, start=network, random_state=seed)
    return found, time.process_time() - began


def run_trial(name: str, trial: int, label: str, folder: Path, settings: dict[str, int]) -> dict[str, object]:
    """One split and one start, as plain numbers."""
    X, y = load(name, trial, folder)
    objective = TrainingObjective(X, y, None, "lipschitz", LAM)
    method, epochs = STARTS[label]
    epochs = epochs // settings["shorter"]
    start = train(X, y, method(lam=LAM), epochs, hidden_units=settings["units"], random_state=trial)
    began = time.process_time()
    solved = joint(X, y, start)
    after_joint = time.process_time()
    found = pattern_search(start, X, y, lam=LAM, rounds=settings["rounds"], random_state=trial)
    after_search = time.process_time()
    trained, seconds = longer(X, y, start, after_search - after_joint, trial)
    return {
        "dataset": name,
        "trial": trial,
        "start": label,
        "settings": settings,
        "values": {
            "start": objective(start),
            "joint": objective(solved),
            "search": objective(found.network),
            "longer": objective(trained),
            "longer + joint": objective(joint(X, y, trained)),
        },
        "seconds": {"joint": after_joint - began, "search": after_search - after_joint, "longer": seconds},
        "units": int((found.network.v != 0).sum()),
        "status": found.status,
        "history": [(s.move, s.round, s.tried, s.objective, s.accepted, s.seconds) for s in found.history],
    }


def finished(case: tuple[str, int, str], data: Path, output: Path, settings: dict[str, int]) -> dict:
    """A trial: read when it is there with the same settings, else run and written (whole or not at all)."""
    name, trial, label = case
    path = output / f"{name}_{trial}_{label}.json"
    if path.exists():
        result = json.loads(path.read_text())
        if result["settings"] == settings:
            return result
    result = json.loads(json.dumps(run_trial(name, trial, label, data, settings)))
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(result))
    partial.replace(path)
    print(f"{name} {trial} {label}: {result['seconds']}", file=sys.stderr, flush=True)
    return result


def row(name: str, label: str, trials: list[dict]) -> str:
    """One line of the table."""
    values = {key: np.array([t["values"][key] for t in trials]) for key in trials[0]["values"]}
    seconds = {key: np.mean([t["seconds"][key] for t in trials]) for key in ("joint", "search", "longer")}
    against = {key: 100 * (1 - values[key] / values["joint"]) for key in ("search", "longer", "longer + joint")}
    s = against["search"]
    below, never = int((values["search"] < values["joint"]).sum()), len(trials)
    wins = int((values["search"] < values["longer + joint"]).sum())
    cells = [
        name,
        label,
        *(f"{values[key].mean():.5f}" for key in ("start", "joint", "search")),
        f"{s.mean():.2f} ({s.min():.2f} to {s.max():.2f})",
        f"{below} of {never}",
        f"{seconds['joint']:.1f}",
        f"{seconds['search']:.1f}",
        f"{against['longer'].mean():+.2f}",
        f"{against['longer + joint'].mean():+.2f}",
        f"{seconds['longer']:.1f}",
        f"{wins} of {never}",
    ]
    return "| " + " | ".join(cells) + " |"


def moves_row(move: str, trials: list[dict]) -> str:
    """How often a move was tried and accepted, and what it brought."""
    tried = accepted = 0
    gain = total = 0.0
    for trial in trials:
        steps = trial["history"]
        for before, step in zip(steps, steps[1:], strict=False):
            drop = before[3] - step[3]
            total += drop if step[1] else 0.0
            if step[0] == move and step[1]:
                tried, accepted, gain = tried + 1, accepted + bool(step[4]), gain + drop
    return f"| {move} | {tried} | {100 * accepted / max(tried, 1):.0f} % | {100 * gain / max(total, 1e-300):.0f} % |"


def report(results: dict[tuple[str, str], list[dict]]) -> str:
    """The tables as markdown."""
    head = (
        "| data set | start | objective of the start | joint | search | search below joint, % (min to max) | below | "
        "joint CPU s | search CPU s | longer training below joint, % | and joint behind it, % | CPU s | search wins |"
    )
    lines = [head, "|---|---|" + "---:|" * 11]
    lines += [row(name, label, trials) for (name, label), trials in results.items()]
    lines += ["", "| move | tried | accepted | share of all that was gained |", "|---|---:|---:|---:|"]
    every = [trial for trials in results.values() for trial in trials]
    lines += [moves_row(move, every) for move in ("price", "flip", "replace", "descend")]
    steps = [step for trial in every for step in trial["history"] if step[1]]
    lines += ["", f"Moves accepted: {sum(bool(s[4]) for s in steps)} of {len(steps)}."]
    rises = sum(b[3] > a[3] for t in every for a, b in zip(t["history"], t["history"][1:], strict=False))
    above = sum(t["values"]["search"] > t["values"]["joint"] for t in every)
    lines += [f"Searches that ended above the joint program: {above} of {len(every)}; steps that rose: {rises}."]
    for name in DATASETS:
        a, b = (np.array([t["values"]["search"] for t in results.get((name, label), [])]) for label in STARTS)
        if len(a) and len(a) == len(b):
            apart = 100 * np.abs(a - b) / np.minimum(a, b)
            lines += [f"Both starts end within {apart.max():.2f} % (mean {apart.mean():.2f} %) on {name}."]
    return "\n".join(lines)


def main() -> None:
    """Run what is not there yet and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few units and epochs, to see that it runs")
    chosen = parser.parse_args()
    settings = {"units": UNITS, "rounds": chosen.rounds, "shorter": 1}
    if chosen.quick:
        settings = {"units": 10, "rounds": 2, "shorter": 20}
    chosen.output.mkdir(parents=True, exist_ok=True)
    cases = [(name, trial, label) for trial in range(chosen.trials) for name in DATASETS for label in STARTS]
    done = Parallel(n_jobs=chosen.jobs)(delayed(finished)(case, chosen.data, chosen.output, settings) for case in cases)
    results: dict[tuple[str, str], list[dict]] = {}
    for name in DATASETS:
        for label in STARTS:
            results[name, label] = [t for t in done if (t["dataset"], t["start"]) == (name, label)]
    print(f"Run on {date.today()}, {platform.machine()}, one thread; {chosen.trials} splits, {settings}.\n")
    print(report(results))


if __name__ == "__main__":
    main()

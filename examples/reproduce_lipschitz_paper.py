"""
Convex training of Lipschitz-regularized shallow networks: Table 1 and Figure 1
===============================================================================

Does the convex step improve a trained network, by how much, and what is left after a strong start?

Runs the experiments of Yin & Lesage-Landry (arXiv 2606.19652) on servo, machine, solar, wine and rastrigin,
100 hidden units, and adds what the paper does not have: the joint program, exact LipSDP-gradient training, long
Adam training. Computed and published figures are printed side by side. The paper leaves scalings, learning rates,
radii and regularization weights open; the settings used here stand in ``SETTINGS``.

    python examples/reproduce_lipschitz_paper.py --data FOLDER --output FOLDER [--jobs 2] [--trials 10] [--quick]

``--data`` holds ``splits/<name>.csv`` and ``splits/<name>_test_mask.csv`` (target last; one mask column a split).
Every trial is written to its own file as soon as it is done; an interrupted run resumes where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np
from joblib import Parallel, delayed

from convexnn import ActivationPatterns, Network, extract, pretrain, solve
from convexnn.certificates.robustness import robustness_table
from convexnn.datasets import make_rastrigin
from convexnn.refinement import TrainingObjective
from convexnn.restrictions import LipschitzProgram, ReluGroupLasso
from convexnn.training import ADMMTrainer, AdversarialTrainer, LipschitzTrainer
from convexnn.training.alternating import alternating_minimization

DATASETS = ("servo", "machine", "solar", "rastrigin", "wine")

# Table 1 as printed: objective reductions in percent, (min, max, avg).
PUBLISHED = {
    ("servo", "C-l2"): (20.76, 25.42, 23.71),
    ("servo", "samp-l2"): (16.10, 14.42, 14.00),
    ("machine", "C-l2"): (9.07, 11.08, 9.74),
    ("machine", "samp-l2"): (4.89, 5.24, 5.63),
    ("solar", "C-l2"): (2.84, 4.27, 3.76),
    ("solar", "samp-l2"): (-3.84, -1.94, -3.21),
    ("rastrigin", "C-l2"): (3.70, 3.93, 3.88),
    ("rastrigin", "samp-l2"): (-9.04, -13.48, -13.06),
    ("wine", "C-l2"): (1.19, 2.13, 1.56),
    ("wine", "samp-l2"): (-74.60, -82.83, -75.55),
    ("servo", "C-lip"): (3.84, 6.59, 5.92),
    ("servo", "samp-lip"): (-10.31, -55.02, -27.18),
    ("machine", "C-lip"): (5.85, 8.28, 7.46),
    ("machine", "samp-lip"): (-2.57, -21.03, -10.32),
    ("solar", "C-lip"): (2.67, 5.28, 3.74),
    ("solar", "samp-lip"): (-3.60, -5.57, -3.95),
    ("rastrigin", "C-lip"): (4.40, 3.17, 3.89),
    ("rastrigin", "samp-lip"): (-93.43, -125.24, -109.45),
    ("wine", "C-lip"): (3.50, 7.20, 5.55),
    ("wine", "samp-lip"): (-91.15, -124.66, -101.83),
}
L2_METHODS = ("C-l2", "samp-l2", "Adam start, C-l2")
LIP_METHODS = ("C-lip", "samp-lip", "joint", "samp-joint", "LipGrad", "LipGrad + C-lip", "LipGrad + joint")
ORIGINAL_METHODS = ("original + C-lip", "original + joint")


@dataclass(frozen=True)
class Settings:
    """What the paper leaves open, and what ``--quick`` makes small."""

    units: int = 100
    lam_l2: float = 1e-3
    lam_lipschitz: float = 1e-2
    sgd_steps: int = 20000
    sgd_batch: int = 32
    sgd_rate: float = 0.02
    adam_epochs: int = 3000
    adversarial_epochs: int = 600
    adversarial_radius: float = 0.1
    admm_epochs: int = 4000
    admm_original_epochs: int = 20000
    lipschitz_epochs: int = 2000
    alternating_rounds: int = 5
    radii: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4)
    attack_steps: int = 30
    attack_restarts: int = 3
    rastrigin_rows: int = 400
    rastrigin_range: float = 1.5
    tol: float = 1e-6


SETTINGS = Settings()
QUICK = replace(
    SETTINGS,
    units=12,
    sgd_steps=400,
    adam_epochs=200,
    adversarial_epochs=60,
    admm_epochs=200,
    admm_original_epochs=400,
    lipschitz_epochs=150,
    alternating_rounds=2,
    radii=(0.1, 0.3),
    attack_steps=10,
    attack_restarts=1,
    rastrigin_rows=80,
)


def load(name: str, trial: int, folder: Path | None, settings: Settings) -> tuple[np.ndarray, ...]:
    """Training and test arrays of one trial, standardized on the training rows (constant columns dropped)."""
    if name == "rastrigin":
        edge = settings.rastrigin_range
        X, y = make_rastrigin(settings.rastrigin_rows, 2, low=-edge, high=edge, random_state=trial)
        test = np.zeros(len(X), dtype=bool)
        test[: len(X) // 10] = True
    else:
        table = np.loadtxt(folder / "splits" / f"{name}.csv", delimiter=",")
        test = np.loadtxt(folder / "splits" / f"{name}_test_mask.csv", delimiter=",")[:, trial].astype(bool)
        X, y = table[:, :-1], table[:, -1]
    spread = X[~test].std(axis=0)
    kept = spread > 0
    X = (X[:, kept] - X[~test][:, kept].mean(axis=0)) / spread[kept]
    y = (y - y[~test].mean()) / y[~test].std()
    return X[~test], y[~test], X[test], y[test]


def doubled_sample(network: Network, rng: np.random.Generator) -> Network:
    """Half of the units, each with both signs of its outer weight: the paper's samp- pattern sets."""
    half = rng.permutation(len(network.b))[: len(network.b) // 2]
    W, b, v = network.W[half], network.b[half], np.abs(network.v[half])
    return Network.shallow(np.vstack([W, W]), np.r_[b, b], np.r_[v, -v], network.c)


class Trial:
    """One data set, one split, one seed."""

    def __init__(self, name: str, trial: int, folder: Path | None, settings: Settings) -> None:
        self.name, self.seed, self.settings = name, trial, settings
        self.X, self.y, self.X_test, self.y_test = load(name, trial, folder, settings)
        self.rng = np.random.default_rng(1000 + trial)
        self.values: dict[str, float] = {}
        self.gaps: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.networks: dict[str, Network] = {}

    # -- training ---------------------------------------------------------------------------------
    def train(self, method: object, **options: object) -> Network:
        """A pretrained network; divergence and short budgets are part of the experiment, not warnings."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = pretrain(
                self.X, self.y, hidden_units=self.settings.units, method=method, random_state=self.seed, **options
            )
        return result.network

    def sgd(self) -> Network:
        """Plain mini-batch SGD with weight decay, as long as the paper's baseline plausibly was."""
        s = self.settings
        epochs = max(1, round(s.sgd_steps * s.sgd_batch / len(self.X)))
        return self.train(
            "sgd",
            epochs=epochs,
            batch_size=s.sgd_batch,
            learning_rate=s.sgd_rate,
            momentum=0.0,
            schedule="constant",
            lam=s.lam_l2,
        )

    def pgd(self) -> Network:
        """Adversarial training in standardized units."""
        s = self.settings
        trainer = AdversarialTrainer(radius=s.adversarial_radius, steps=5)
        return self.train(trainer, epochs=s.adversarial_epochs)

    def admm(self, start: Network | None = None) -> Network:
        """ADMM, from an own weight-decay start or from a given network."""
        s = self.settings
        trainer = ADMMTrainer(lam=s.lam_lipschitz, **({} if start is None else {"warm_up": 0.0}))
        return self.train(trainer, epochs=s.admm_epochs, **({} if start is None else {"start": start}))

    # -- objectives -------------------------------------------------------------------------------
    def objective(self, regularizer: str) -> TrainingObjective:
        """The non-convex objective, recomputed from a network."""
        lam = self.settings.lam_l2 if regularizer == "l2" else self.settings.lam_lipschitz
        return TrainingObjective(self.X, self.y, None, regularizer, lam)

    def record(self, label: str, network: Network, regularizer: str) -> None:
        """Keep the network and its recomputed objective."""
        self.networks[label] = network
        self.values[label] = self.objective(regularizer)(network)

    def convex(self, label: str, start: Network, regularizer: str, patterns: ActivationPatterns | None = None) -> None:
        """Solve the convex program of the start's patterns (or of given ones)."""
        began = time.perf_counter()
        kind = ReluGroupLasso if regularizer == "l2" else LipschitzProgram
        own = patterns is None
        program = kind(
            self.X,
            self.y,
            extract(start, self.X) if own else patterns,
            lam=self.objective(regularizer).lam,
            start=start,
        )
        solution = solve(program, tol=self.settings.tol)
        self.gaps[label], self.seconds[label] = solution.gap, time.perf_counter() - began
        self.record(label, program.decode(solution.z), regularizer)

    def alternate(self, label: str, start: Network) -> None:
        """Algorithm 1."""
        began = time.perf_counter()
        result = alternating_minimization(
            start, self.X, self.y, lam=self.settings.lam_lipschitz, max_rounds=self.settings.alternating_rounds
        )
        self.seconds[label] = time.perf_counter() - began
        self.record(label, result.network, "lipschitz")

    # -- the experiments --------------------------------------------------------------------------
    def l2_half(self) -> None:
        """Table 1, left: weight decay, from SGD; and from long Adam training."""
        self.record("SGD", self.networks["sgd"], "l2")
        self.convex("C-l2", self.networks["sgd"], "l2")
        sampled = doubled_sample(self.networks["sgd"], self.rng)
        self.convex("samp-l2", sampled, "l2")
        adam = self.train("adam", epochs=self.settings.adam_epochs, lam=self.settings.lam_l2)
        self.record("Adam", adam, "l2")
        self.convex("Adam start, C-l2", adam, "l2")

    def lipschitz_half(self) -> None:
        """Table 1, right: Lipschitz regularization, from ADMM; and from the exact LipSDP gradient."""
        admm = self.networks["admm"]
        self.record("ADMM", admm, "lipschitz")
        self.alternate("C-lip", admm)
        self.convex("joint", admm, "lipschitz")
        sampled = doubled_sample(admm, self.rng)
        self.alternate("samp-lip", sampled)
        self.convex("samp-joint", sampled, "lipschitz")
        original = self.train(
            ADMMTrainer(lam=self.settings.lam_lipschitz, mode="original"), epochs=self.settings.admm_original_epochs
        )
        self.record("original", original, "lipschitz")
        self.alternate("original + C-lip", original)
        self.convex("original + joint", original, "lipschitz")
        gradient = self.train(LipschitzTrainer(lam=self.settings.lam_lipschitz), epochs=self.settings.lipschitz_epochs)
        self.record("LipGrad", gradient, "lipschitz")
        self.alternate("LipGrad + C-lip", gradient)
        self.convex("LipGrad + joint", gradient, "lipschitz")

    def figure(self) -> dict[str, object]:
        """Figure 1: squared test error of base, base+ADMM, base+C-lip (and base+joint) under attack."""
        models: dict[str, Network] = {}
        for base in ("sgd", "pgd", "admm"):
            network = self.networks[base]
            models[base] = network
            models[f"{base}+ADMM"] = self.admm(network)
            for label, improve in (("C-lip", self.alternate), ("joint", self.joint)):
                if base == "admm":
                    models[f"{base}+{label}"] = self.networks[label]
                else:
                    improve(f"{base}+{label}", network)
                    models[f"{base}+{label}"] = self.networks[f"{base}+{label}"]
        models["LipGrad"], models["LipGrad+joint"] = self.networks["LipGrad"], self.networks["LipGrad + joint"]
        s = self.settings
        table = robustness_table(
            models,
            self.X_test,
            self.y_test,
            s.radii,
            steps=s.attack_steps,
            restarts=s.attack_restarts,
            random_state=self.seed,
        )
        return {
            "names": list(table.names),
            "radii": table.radii.tolist(),
            "clean": table.clean_mse.tolist(),
            "attacked": table.attacked_mse.tolist(),
            "certified": table.certified_mse.tolist(),
            "lipschitz": table.lipschitz.tolist(),
        }

    def joint(self, label: str, network: Network) -> None:
        """The joint program from a network."""
        self.convex(label, network, "lipschitz")

    def run(self) -> dict[str, object]:
        """Everything of one trial, as plain numbers."""
        began = time.perf_counter()
        self.networks = {"sgd": self.sgd(), "pgd": self.pgd(), "admm": self.admm()}
        self.l2_half()
        self.lipschitz_half()
        figure = self.figure()
        for base in ("sgd", "pgd"):
            self.values[base] = self.objective("lipschitz")(self.networks[base])
        return {
            "dataset": self.name,
            "trial": self.seed,
            "settings": asdict(self.settings),
            "values": self.values,
            "gaps": self.gaps,
            "seconds": self.seconds | {"trial": time.perf_counter() - began},
            "figure": figure,
        }


def run_trial(name: str, trial: int, folder: Path | None, settings: Settings, output: Path) -> dict[str, object]:
    """Read a finished trial with the same settings, or run it and write it (whole or not at all)."""
    path = output / f"{name}_{trial}.json"
    if path.exists():
        stored = json.loads(path.read_text())
        if stored["settings"] == json.loads(json.dumps(asdict(settings))):
            return stored
    result = json.loads(json.dumps(Trial(name, trial, folder, settings).run()))
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(result, indent=1))
    partial.replace(path)
    print(f"{name} trial {trial}: {result['seconds']['trial']:.0f} s", file=sys.stderr, flush=True)
    return result


# -- tables ----------------------------------------------------------------------------------------
def reductions(trials: list[dict], method: str) -> np.ndarray:
    """Objective reductions of every trial in percent of its own baseline."""
    baseline = "Adam" if method.startswith("Adam") else ("SGD" if method.endswith("l2") else "ADMM")
    for start in ("LipGrad", "original"):
        if method.startswith(f"{start} +"):
            baseline = start
    return np.array([100 * (1 - t["values"][method] / t["values"][baseline]) for t in trials])


def table(results: dict[str, list[dict]], methods: tuple[str, ...], title: str) -> str:
    """Markdown table of computed and published reductions."""
    lines = [
        f"### {title}",
        "",
        "| data set | method | min % | max % | avg % | published min / max / avg % |",
        "|---|---|---:|---:|---:|---|",
    ]
    for name, trials in results.items():
        for method in methods:
            values = reductions(trials, method)
            published = PUBLISHED.get((name, method))
            shown = "-" if published is None else " / ".join(f"{value:+.2f}" for value in published)
            lines.append(
                f"| {name} | {method} | {values.min():+.2f} | {values.max():+.2f} | {values.mean():+.2f} | {shown} |"
            )
    return "\n".join(lines)


def baselines(results: dict[str, list[dict]]) -> str:
    """Mean objectives of the starts and of the best convex results."""
    labels = ("sgd", "pgd", "original", "ADMM", "LipGrad", "joint", "LipGrad + joint")
    lines = [
        "### Lipschitz-regularized objective, mean over trials",
        "",
        "| data set | " + " | ".join(labels) + " |",
        "|---|" + "---:|" * len(labels),
    ]
    for name, trials in results.items():
        means = (np.mean([t["values"][label] for t in trials]) for label in labels)
        lines.append(f"| {name} | " + " | ".join(f"{value:.4f}" for value in means) + " |")
    return "\n".join(lines)


def ratio_table(results: dict[str, list[dict]]) -> str:
    """How the joint program compares with Algorithm 1 on the same networks and patterns."""
    lines = [
        "### Joint program against Algorithm 1, same ADMM networks and patterns",
        "",
        "| data set | C-lip avg % | joint avg % | ratio | worst verified gap | C-lip s | joint s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, trials in results.items():
        alternating, joint = reductions(trials, "C-lip").mean(), reductions(trials, "joint").mean()
        gap = max(t["gaps"]["joint"] for t in trials)
        times = [np.median([t["seconds"][label] for t in trials]) for label in ("C-lip", "joint")]
        lines.append(
            f"| {name} | {alternating:.2f} | {joint:.2f} | {joint / alternating:.2f} | {gap:.1e} "
            f"| {times[0]:.2f} | {times[1]:.2f} |"
        )
    return "\n".join(lines)


def figure_table(results: dict[str, list[dict]]) -> str:
    """Figure 1 in numbers: medians over the trials of clean and attacked test error."""
    blocks = ["### Test mean squared error under l2 attack (median over trials; attacks are lower bounds)", ""]
    for name, trials in results.items():
        first = trials[0]["figure"]
        blocks += [
            f"**{name}** (standardized units)",
            "",
            "| model | L (certified) | clean | " + " | ".join(f"r = {r:g}" for r in first["radii"]) + " |",
            "|---|---:|---:|" + "---:|" * len(first["radii"]),
        ]
        for index, model in enumerate(first["names"]):
            clean = np.median([t["figure"]["clean"][index] for t in trials])
            bound = np.median([t["figure"]["lipschitz"][index] for t in trials])
            attacked = np.median([t["figure"]["attacked"][index] for t in trials], axis=0)
            cells = " | ".join(f"{value:.4f}" for value in attacked)
            blocks.append(f"| {model} | {bound:.3f} | {clean:.4f} | {cells} |")
        blocks.append("")
    return "\n".join(blocks)


def checks(results: dict[str, list[dict]]) -> str:
    """The promises, counted over all trials."""
    trials = [trial for group in results.values() for trial in group]
    pairs = [("C-l2", "SGD"), ("Adam start, C-l2", "Adam"), ("C-lip", "ADMM"), ("joint", "ADMM"), ("joint", "C-lip")]
    pairs += [("LipGrad + C-lip", "LipGrad"), ("LipGrad + joint", "LipGrad"), ("LipGrad + joint", "LipGrad + C-lip")]
    pairs += [("original + C-lip", "original"), ("original + joint", "original + C-lip")]
    pairs += [(f"{base}+{label}", base) for base in ("sgd", "pgd") for label in ("C-lip", "joint")]
    lines = ["### Promises, counted over all trials", ""]
    for after, before in pairs:
        worse = sum(t["values"][after] > t["values"][before] * (1 + 2e-6) for t in trials)
        lines.append(f"- {after} above {before}: {worse} of {len(trials)} trials")
    curves = [np.column_stack([t["figure"]["clean"], t["figure"]["attacked"]]) for t in trials]
    falling = sum(int((np.diff(curve, axis=1) < 0).any()) for curve in curves)
    above = sum(int((np.array(t["figure"]["attacked"]) > np.array(t["figure"]["certified"])).any()) for t in trials)
    lines.append(f"- attacked error not monotone in the radius, or below the clean error: {falling} of {len(trials)}")
    lines.append(f"- attacked error above the certified error: {above} of {len(trials)}")
    return "\n".join(lines)


def plot(results: dict[str, list[dict]], path: Path) -> None:
    """Figure 1: one panel per data set and start, medians over trials."""
    from matplotlib.figure import Figure

    bases, styles = ("sgd", "pgd", "admm"), {"": "-", "+ADMM": "--", "+C-lip": "-.", "+joint": ":"}
    colors = {"": "#555555", "+ADMM": "#0072b2", "+C-lip": "#d55e00", "+joint": "#009e73"}
    figure = Figure(figsize=(10, 2.3 * len(results)), layout="constrained")
    axes = np.atleast_2d(figure.subplots(len(results), len(bases), sharex=True, squeeze=False))
    for row, (name, trials) in zip(axes, results.items(), strict=True):
        shown = trials[0]["figure"]
        for ax, base in zip(row, bases, strict=True):
            for suffix, style in styles.items():
                index = shown["names"].index(base + suffix)
                curve = np.median(
                    [[t["figure"]["clean"][index], *t["figure"]["attacked"][index]] for t in trials], axis=0
                )
                label = base.upper() + suffix
                ax.plot([0, *shown["radii"]], curve, style, color=colors[suffix], label=label, linewidth=1.8)
            ax.set_title(f"{name}, start {base.upper()}", fontsize=9)
            ax.legend(fontsize=7, frameon=False)
        row[0].set_ylabel("adversarial test MSE", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("attack radius (l2, standardized units)", fontsize=8)
    figure.savefig(path, dpi=130)


def report(results: dict[str, list[dict]], settings: Settings) -> str:
    """The whole result as Markdown."""
    count = len(next(iter(results.values())))
    lines = [
        f"Run on {date.today().isoformat()}, {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, numpy {np.__version__}; {count} trials a data set.",
        "",
        "Settings: " + ", ".join(f"{key} = {value}" for key, value in asdict(settings).items()) + ".",
        "",
        table(results, L2_METHODS, "Table 1, left: weight decay, reduction of the objective against SGD"),
        "",
        table(results, LIP_METHODS, "Table 1, right: Lipschitz regularization, reduction against ADMM"),
        "",
        "Rows `LipGrad + ...` are reductions against LipGrad itself, `Adam start, C-l2` against Adam.",
        "",
        table(
            results,
            ORIGINAL_METHODS,
            "The same from ADMM with the settings of its published code (a 50th of its epochs), reduction against it",
        ),
        "",
        baselines(results),
        "",
        ratio_table(results),
        "",
        checks(results),
        "",
        figure_table(results),
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run, stream, tabulate, plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--data", type=Path, help="folder with splits/<name>.csv; without it only rastrigin runs")
    parser.add_argument("--output", type=Path, default=Path("lipschitz_results"))
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=None)
    parser.add_argument("--trials", type=int, default=None, help="at most 10 for the fixed splits")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small networks and budgets: shows that it runs")
    arguments = parser.parse_args(argv)
    settings = QUICK if arguments.quick else SETTINGS
    trials = arguments.trials or (2 if arguments.quick else 10)
    names = arguments.datasets or (DATASETS if arguments.data else ("rastrigin",))
    arguments.output.mkdir(parents=True, exist_ok=True)
    jobs = [(name, trial) for trial in range(trials) for name in names]
    found = Parallel(n_jobs=arguments.jobs)(
        delayed(run_trial)(name, trial, arguments.data, settings, arguments.output) for name, trial in jobs
    )
    results = {name: [row for row in found if row["dataset"] == name] for name in names}
    text = report(results, settings)
    (arguments.output / "tables.md").write_text(text + "\n")
    plot(results, arguments.output / "figure1.png")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

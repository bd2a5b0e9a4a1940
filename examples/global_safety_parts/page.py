"""The results page and its figures, from the rows that are there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from global_safety_parts.cases import METHODS, TEST, Case, shows_bounds
from global_safety_parts.rows import NAMES, Rows, xavier_bounds

Scaling = dict[str, tuple[dict[int, dict[str, float]], dict[str, float]]]
Done = dict[Case, list[dict[str, Any]]]
TINY = 1e-200


def mean(values: Iterable[float]) -> str:
    """Mean with four digits; nothing for no number."""
    numbers = [value for value in values if np.isfinite(value)]
    return f"{np.mean(numbers):.4f}" if numbers else ""


def training_table(done: Done) -> str:
    """One line a case: means over its seeds."""
    lines = [
        "| data | R | trainer | d | units | seeds | accuracy | worst seed | acc at start | recall (proved) "
        "| bound / attack | accuracy if the attack were the bound | CPU s | proof: clock s | proof |",
        "|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|",
    ]
    for case, rows in done.items():
        columns = {name: [row[name] for row in rows] for name in rows[0] if name != "bounds"}
        values = [f"D{case.norm}", f"{case.radius:g}", case.method, case.d, rows[0]["units"], len(rows)]
        values += [f"**{mean(columns['accuracy'])}**", f"{min(columns['accuracy']):.4f}"]
        values += [mean(columns[name]) for name in ("start", "recall", "ratio", "attainable")]
        values += [f"{np.mean(columns['cpu']):.1f}", f"{np.mean(columns['proof']):.2f}"]
        values += ["exact" if all(columns["exact"]) else "float64"]
        lines.append("| " + " | ".join(map(str, values)) + " |")
    return "\n".join(lines)


def trained_bounds(rows: Rows, done: Done) -> str:
    """Every bound over the attack, at random weights and after training (seed 0, plain D2 and Dinf)."""
    lines = [
        "| data | network | d | attack | " + " | ".join(METHODS.values()) + " |",
        "|-|-|-|-|" + "-|" * len(METHODS),
    ]
    for label, norm, d, found in bounds_shown(rows, done):
        ratios = " | ".join(_ratio(found[name], found["attack"]) for name in METHODS)
        lines.append(f"| D{norm} | {label} | {d} | {found['attack']:.4g} | {ratios} |")
    return "\n".join(lines)


def bounds_shown(rows: Rows, done: Done) -> list[tuple[str, str, int, dict[str, float]]]:
    """Network, norm, d and bounds: random networks first, then trained ones by trainer."""
    shown = [(case, row[0]) for case, row in done.items() if shows_bounds(case, 0) and "bounds" in row[0]]
    sizes = sorted({(case.norm, case.d) for case, _ in shown})
    found = [("Xavier, random", norm, d, xavier_bounds(rows, norm, d, 0)) for norm, d in sizes]
    trained = sorted((case.norm, case.method, case.d, row["bounds"]) for case, row in shown)
    return found + [(f"{method}, trained", norm, d, bounds) for norm, method, d, bounds in trained]


def _ratio(bound: float, attack: float) -> str:
    if attack > 1e-9:
        return f"{bound / attack:.3f}"
    return f"({bound:.3g})" if bound > TINY else f"(< {TINY:g})"


def scaling_table(found: Scaling) -> str:
    """Means and exponents."""
    lines = ["| region | d | attack | " + " | ".join(METHODS.values()) + " |", "|-|-|" + "-|" * len(NAMES)]
    for norm, (table, fits) in found.items():
        for d, row in table.items():
            lines.append(f"| l{norm} | {d} | " + " | ".join(f"{row[name]:.3f}" for name in NAMES) + " |")
        lines.append(f"| l{norm} | **exponent** | " + " | ".join(f"**{fits[name]:.2f}**" for name in NAMES) + " |")
    return "\n".join(lines)


def starts_table(rows: Rows) -> str:
    """Accuracy of starts before any training, their majorants optimized."""
    found = [row for row in rows.all() if row["kind"] == "start"]
    names = list(dict.fromkeys(row["name"] for row in found))
    lines = ["| start (D2, R = 1.3, h = 3d) | " + " | ".join(f"d = {d}" for d in (5, 10, 20, 40)) + " |", "|-|-|-|-|-|"]
    for name in names:
        cells = (mean(r["accuracy"] for r in found if r["name"] == name and r["d"] == d) for d in (5, 10, 20, 40))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def said(cases: list[Case], done: Done, seeds: int) -> str:
    """A sentence about the runs that are missing."""
    count, short = sum(map(len, done.values())), [case for case in cases if len(done.get(case, [])) < seeds]
    none = [case.label for case in cases if case not in done]
    text = f"{count} trainings; {len(short)} of {len(cases)} lines have fewer than {seeds} seeds (column *seeds*)."
    return text + (f" Not run: {'; '.join(none)}." if none else "")


def page(rows: Rows, cases: list[Case], found: Scaling) -> str:
    """The text of the page."""
    done = rows.training(cases)
    everything = [row for group in done.values() for row in group]
    loads = [row["load"] for row in everything] or [0.0]
    return TEXT.format(
        training=training_table(done),
        starts=starts_table(rows),
        bounds=trained_bounds(rows, done),
        scaling=scaling_table(found),
        said=said(cases, done, 5),
        test=TEST,
        cpu=sum(row.get("spent", 0.0) for row in rows.all()),
        loads=f"{min(loads):.0f} to {max(loads):.0f}",
        cores=os.cpu_count(),
    )


def figures(rows: Rows, cases: list[Case], found: Scaling, folder: Path) -> None:
    """Laws of growth; bounds over the attack before and after training."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(1, 2, figsize=(9.2, 3.6))
    for axis, (norm, (table, fits)) in zip(axes, found.items(), strict=True):
        for name, label in {"attack": "attack", **METHODS}.items():
            line = "k:" if name == "attack" else ".-"
            axis.loglog(list(table), [table[d][name] for d in table], line, label=f"{label}: d^{fits[name]:.2f}")
        axis.set(xlabel="d", ylabel="bound on max f", title={"2": "l2 ball", "inf": "linf ball"}[norm])
        axis.legend(frameon=False, fontsize="small")
    _store(drawing, folder / "global_safety.png")
    shown = [entry for entry in bounds_shown(rows, rows.training(cases)) if entry[1] == "2"]
    labels = [name for name in dict.fromkeys(entry[0] for entry in shown)]
    drawing, axes = plt.subplots(1, len(labels), figsize=(3.1 * len(labels), 3.4), sharey=True, squeeze=False)
    for axis, label in zip(axes[0], labels, strict=True):
        for name in ("sdp", "sdp_tight", "alpha_crown", "lp"):
            points = [(d, bounds[name] / bounds["attack"]) for own, _, d, bounds in shown if own == label]
            line = ".--" if name in ("sdp_tight", "lp") else ".-"
            axis.loglog(*zip(*sorted(points), strict=True), line, label=METHODS[name])
        sizes = sorted({d for own, _, d, _ in shown if own == label})
        axis.set_xticks(sizes, labels=map(str, sizes))
        axis.set_xticks([], minor=True)
        axis.set(xlabel="d", title=f"D2: {label}")
    axes[0, 0].set(ylabel="bound / attack")
    axes[0, 0].legend(frameon=False, fontsize="small")
    _store(drawing, folder / "global_safety_ratios.png")


def _store(drawing: Any, path: Path) -> None:
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)


TEXT = """# Safe on a whole region: results

Written by `examples/reproduce_global_safety.py --write` from runs of {cpu:.0f} CPU seconds together, one thread each,
the load of the machine {loads} on {cores} cores. {said}

## Adversarial Spheres

`f < 0` on the whole unit ball (D2) or unit box (Dinf; "turned": in random axes) is proved for every network below:
recall 1 is a theorem about the stored weights, not a measurement. *Proof*: over the rational numbers ("exact"), or in
float64 with outward rounding. *Accuracy*: share of {test} fresh points on the sphere or cube of radius R with `f > 0`,
mean over seeds. *Acc at start*: the same bound on the weights before training, the control for designed starts.
*Bound / attack*: proved bound over the largest value found on the region, both without the output bias; empty where all
units are off on the region and both are zero. Settings are fixed by trainer and d, on other draws; nothing is chosen by
seed. Trainers: `pairs`, `dense` (one majorant a unit: the paper's bound; 3,000 steps), `dense, split` (branch and bound
on the units at the end, at most five minutes on the clock) and `layers` (two hidden layers, 2,000 steps) are
`train_safe_region`, `admm` is `train_region_admm` (the paper's way, reconstructed), `facets` is `train_region_facets`.
CPU seconds include the proof, whose seconds on the clock of the busy machine stand beside them.

{training}

## Starts

Accuracy before any training, the bias shifted by the best bound that the trainer's majorants prove; means over five
seeds. The last line encodes the answer (the thresholds of the best quantizer of a Gaussian with three levels) and is
shown as a control: no trainer starts there.

{starts}

## Semidefinite against linear bounds, before and after training

Every bound over the attack (1 is exact), without the output bias, seed 0, h = 3d; in brackets the bound itself where
the attack is zero. Random networks have no biases. The bound of the pairs trainer (one majorant for parallel units) is
not among these: its ratio is in the table above.

{bounds}

![Bound over attack, random and trained networks](global_safety_ratios.png)

## Bounds of random networks against the dimension

Xavier weights, no biases, h = 3d, unit regions, means over networks; exponents by least squares in logarithms over the
dimensions shown. Theorem 2.1: the semidefinite bound is O(1) on the ball and O(sqrt d) on the box; Theorem 2.2 and its
proof in [](../theory/global_safety.md): linear bounds grow at least like sqrt d on the ball, like d on the box.

{scaling}

![Bounds against the dimension](global_safety.png)
"""

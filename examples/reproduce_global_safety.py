"""
Networks that are safe on a whole region: every figure of the results page
==========================================================================

Adversarial Spheres: a network must be negative on the whole unit ball (D2) or unit box (Dinf), proved, and positive on
the sphere (cube) of radius R around it. Accuracy, proved recall, tightness and time of four trainers; the bounds of the
paper (Soletskyi & Dalrymple 2024, arXiv 2409.09687) against linear ones before and after training; their growth in d.

``python examples/reproduce_global_safety.py --quick`` takes a minute; without it the full table of five seeds, d up to
100. ``--write`` stores ``docs/results/global_safety.md`` and its figure. Jobs run seed by seed; those that do not fit
into ``--minutes`` are left out, and the page says which.
"""

import argparse
import importlib
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np

from convexnn.certificates.region import region_bound
from convexnn.network import Network
from convexnn.regions import ellipsoid, rotated_box
from convexnn.training import train_safe_region
from convexnn.training.region_admm import largest_found, train_region_admm
from convexnn.training.region_facets import FacetOptions, train_region_facets

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
TEST = 20_000
METHODS = {"sdp": "SDP (paper)", "sdp_tight": "SDP, tight", "alpha_crown": "alpha-CROWN", "lp": "LP", "crown": "CROWN"}


# %%
# The two regions, and the points outside of them.
def unit_region(norm, d):
    """The unit ball of l2 or linf."""
    return (ellipsoid if norm == "2" else rotated_box)(np.zeros(d), np.ones(d))


def outer(region, radius):
    """Draws uniform points of the sphere or cube of that radius."""
    return lambda n, rng: radius * region.sample_surface(n, rng)


def turned(region, seed):
    """The same box in random axes: nothing about the coordinates helps."""
    d = region.n_inputs
    return rotated_box(np.zeros(d), np.linalg.qr(np.random.default_rng([seed, 9]).standard_normal((d, d)))[0])


# %%
# Trainers by name. All settings are the defaults of the library, fixed before this run on other draws: nothing is
# chosen here, neither by d nor by seed.
def train(method, region, draw, units, seed):
    """One training, proved."""
    if method == "admm":
        return train_region_admm(region, draw, hidden_units=units, random_state=seed)
    if method == "facets":
        return train_region_facets(draw, None, region, FacetOptions(hidden_units=units, random_state=seed))
    return train_safe_region(region, draw, method=method, hidden_units=units, random_state=seed)


def outcome(case, seed):
    """Accuracy on fresh points, at the start, proof, tightness and time of one run."""
    norm, radius, method, d, factor = case
    region = unit_region(norm.removesuffix(" turned"), d)
    region = turned(region, seed) if norm.endswith("turned") else region
    draw = outer(region, radius)
    cpu = time.process_time()
    run = train(method, region, draw, factor * d, seed)
    cpu = time.process_time() - cpu
    fresh = draw(TEST, np.random.default_rng([seed, 77]))
    inside = np.vstack([f(5000, np.random.default_rng([seed, 78])) for f in (region.sample, region.sample_surface)])
    shift = float(run.network.c)
    lower = max(run.lower, float(run.network(inside).max()))
    return {
        "accuracy": float(np.mean(run.network(fresh) > 0)),
        "start": run.start_accuracy,
        "recall": 1.0 if run.check() < 0 else np.nan,
        "ratio": (run.bound - shift) / (lower - shift) if lower - shift > 1e-9 * abs(shift) else np.nan,
        "attainable": float(np.mean(run.network(fresh) > lower)),
        "cpu": cpu,
        "proof": run.proof_seconds,
        "run": run,
        "region": region,
    }


# %%
# Bounds of one network, by the names of METHODS; the attack is a lower bound.
def bounds_of(network, region, names):
    """Dictionary of bounds minus the output bias, and the largest value found."""
    bias = float(network.c)
    plain = Network.shallow(network.W, network.b, network.v, 0.0)
    certificates = {name: region_bound(plain, region, method=name) for name in names}
    found = {name: float(certificate.bound) for name, certificate in certificates.items()}
    known = max(float(certificate.lower) for certificate in certificates.values())
    points = np.vstack(
        [region.sample(5000, np.random.default_rng(5)), region.sample_surface(5000, np.random.default_rng(6))]
    )
    attack = max(known, largest_found(plain, region, np.random.default_rng(7)), float(plain(points).max()))
    return found | {"attack": attack, "bias": bias}


def xavier(d, seed):
    """The random network of the theorems: h = 3 d, no biases."""
    rng, h = np.random.default_rng([seed, d]), 3 * d
    W = rng.standard_normal((h, d)) * np.sqrt(2 / (d + h))
    return Network.shallow(W, np.zeros(h), rng.standard_normal(h) * np.sqrt(2 / (h + 1)), 0.0)


def scaling(norm, sizes, seeds):
    """Means of the bounds of Xavier networks for every d, and the fitted exponents."""
    table = {}
    for d in sizes:
        rows = [bounds_of(xavier(d, seed), unit_region(norm, d), METHODS) for seed in range(seeds)]
        table[d] = {name: float(np.mean([row[name] for row in rows])) for name in ("attack", *METHODS)}
    logs = np.log([float(d) for d in sizes])
    fits = {name: np.polyfit(logs, np.log([table[d][name] for d in sizes]), 1) for name in ("attack", *METHODS)}
    return table, {name: float(slope) for name, (slope, _) in fits.items()}


def figure(found, path):
    """Bounds against d on logarithmic axes, with the fitted exponents in the legend."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(1, len(found), figsize=(4.6 * len(found), 3.6), squeeze=False)
    for axis, (norm, (table, fits)) in zip(axes[0], found.items(), strict=True):
        for name, label in {"attack": "attack", **METHODS}.items():
            line = "k:" if name == "attack" else ".-"
            axis.loglog(list(table), [table[d][name] for d in table], line, label=f"{label}: d^{fits[name]:.2f}")
        axis.set(xlabel="d", ylabel="bound on max f", title={"2": "l2 ball", "inf": "linf ball"}[norm])
        axis.legend(frameon=False, fontsize="small")
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)


# %%
# Tables.
def cases(quick):
    """Norm, radius, method, d, h / d, in the order of one round of seeds."""
    sizes = (5, 10) if quick else (5, 10, 20, 40)
    found = [("2", 1.3, "pairs", d, 3) for d in sizes]
    found += [(norm, 1.3, "facets", d, 3) for norm in ("inf", "inf turned") for d in sizes if d != 10]
    found += [("2", 1.3, method, d, 3) for method in ("dense", "admm") for d in sizes]
    if not quick:
        found += [("2", 1.2, "pairs", d, 3) for d in sizes]
        found += [("2", 1.3, "dense", d, factor) for factor in (6, 10) for d in sizes]
        found += [("inf", 1.3, "admm", 5, 3), ("2", 1.3, "pairs", 100, 3)]
        found += [("inf", 1.3, "facets", 100, 3), ("2", 1.3, "dense", 100, 3)]
    return found


def mean(values):
    """Mean with four digits; nothing for no number."""
    values = [value for value in values if np.isfinite(value)]
    return f"{np.mean(values):.4f}" if values else ""


def training_table(done):
    """One line a case: means over its seeds."""
    lines = [
        "| data | R | trainer | d | h | seeds | accuracy | worst seed | acc at start | recall (proved) "
        "| bound / attack | accuracy if the attack were the bound | CPU s | of it proof |",
        "|-|-|-|-|-|-|-|-|-|-|-|-|-|-|",
    ]
    for (norm, radius, method, d, _), rows in done.items():
        column = {key: [row[key] for row in rows] for key in rows[0] if key not in ("run", "region")}
        units, worst = rows[0]["run"].network.W.shape[0], min(column["accuracy"])
        values = [
            f"D{norm}",
            f"{radius:g}",
            method,
            d,
            units,
            len(rows),
            f"**{mean(column['accuracy'])}**",
            f"{worst:.4f}",
        ]
        values += [mean(column[name]) for name in ("start", "recall", "ratio", "attainable")]
        values += [f"{np.mean(column['cpu']):.1f}", f"{np.mean(column['proof']):.2f}"]
        lines.append("| " + " | ".join(map(str, values)) + " |")
    return "\n".join(lines)


def trained_bounds(done):
    """Every bound over the attack, at random weights and after training (seed 0, plain D2 and Dinf)."""
    lines = [
        "| data | network | d | attack | " + " | ".join(METHODS.values()) + " |",
        "|-|-|-|-|" + "-|" * len(METHODS),
    ]
    for (norm, radius, method, d, factor), rows in done.items():
        if norm not in ("2", "inf") or factor != 3 or radius != 1.3 or d > 40:
            continue
        pairs = [(f"{method}, trained", rows[0]["run"].network)]
        pairs = [("Xavier, random", xavier(d, 0)), *pairs] if method in ("pairs", "facets") else pairs
        for label, network in pairs:
            found = bounds_of(network, unit_region(norm, d), METHODS)
            ratios = " | ".join(_ratio(found[name], found["attack"]) for name in METHODS)
            lines.append(f"| D{norm} | {label} | {d} | {found['attack']:.4g} | {ratios} |")
    return "\n".join(lines)


def _ratio(bound, attack):
    return f"{bound / attack:.3f}" if attack > 1e-9 else f"({bound:.3g})"


def scaling_table(found):
    """Means and exponents."""
    names = ("attack", *METHODS)
    lines = ["| region | d | attack | " + " | ".join(METHODS.values()) + " |", "|-|-|" + "-|" * len(names)]
    for norm, (table, fits) in found.items():
        for d, row in table.items():
            lines.append(f"| l{norm} | {d} | " + " | ".join(f"{row[name]:.3f}" for name in names) + " |")
        lines.append(f"| l{norm} | **exponent** | " + " | ".join(f"**{fits[name]:.2f}**" for name in names) + " |")
    return "\n".join(lines)


def run_jobs(jobs, seeds, deadline):
    """Seed by seed, case by case, until the time is over; results by case, and what was left out."""
    importlib.import_module("torch")  # its seconds are not those of the first row
    done, left = {}, []
    for seed in range(seeds):
        for case in jobs:
            if time.monotonic() > deadline:
                left.append((case, seed))
                continue
            row = outcome(case, seed)
            done.setdefault(case, []).append(row)
            print(
                f"{case} seed {seed}: {row['accuracy']:.4f} (start {row['start']:.4f}), {row['cpu']:.1f} s", flush=True
            )
    return {case: done[case] for case in jobs if case in done}, left


def said(jobs, left, seeds):
    """A sentence about the jobs that were left out."""
    if not left:
        return f"All {len(jobs) * seeds} jobs were run."
    missing = [case for case in jobs if sum(c == case for c, _ in left) == seeds]
    names = "; ".join(f"D{c[0]} R={c[1]:g} {c[2]} d={c[3]} h={c[4]}d" for c in missing)
    text = f"{len(left)} of {len(jobs) * seeds} jobs did not fit into the time of this run (column *seeds*)."
    return text + (f" Left out entirely: {names}." if missing else "")


def main():
    """Print the tables, and store them when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="d = 5 and 10, one seed")
    parser.add_argument("--write", action="store_true", help="store docs/results/global_safety.md and .png")
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=60.0, help="wall time after which no further training starts")
    options = parser.parse_args()
    seeds = options.seeds or (1 if options.quick else 5)
    began, cpu = time.monotonic(), time.process_time()
    sizes = (5, 10, 20) if options.quick else (5, 10, 20, 40, 80) if seeds >= 5 else (5, 10, 20, 40)
    found = {norm: scaling(norm, sizes, max(seeds, 3)) for norm in ("2", "inf")}
    print(scaling_table(found), flush=True)
    jobs = cases(options.quick)
    done, left = run_jobs(jobs, seeds, began + 60.0 * options.minutes)
    page = TEXT.format(
        training=training_table(done),
        bounds=trained_bounds(done),
        scaling=scaling_table(found),
        left=said(jobs, left, seeds),
        networks=max(seeds, 3),
        test=TEST,
        cpu=time.process_time() - cpu,
        load=os.getloadavg()[0],
        cores=os.cpu_count(),
    )
    print(page)
    if options.write:
        (RESULTS / "global_safety.md").write_text(page, encoding="utf-8")
        figure(found, RESULTS / "global_safety.png")


TEXT = """# Safe on a whole region: results

Written by `examples/reproduce_global_safety.py --write` in {cpu:.0f} CPU seconds, one thread, load of the machine at
the end {load:.1f} on {cores} cores. {left}

## Adversarial Spheres

`f < 0` on the whole unit ball (D2) or unit box (Dinf; "turned": in random axes) is proved for every network below:
recall 1 is a theorem about the stored weights, not a measurement. *Accuracy*: share of {test} fresh points on the
sphere or cube of radius R with `f > 0`, mean over seeds. *Acc at start*: the same bound on the weights before training,
the control for designed starts. *Bound / attack*: proved bound over the largest value found on the region, both without
the output bias; empty where all units are off on the region and both are zero. All settings are the library's defaults,
fixed on other draws; nothing is chosen by case. Trainers: `pairs` and `dense` are `train_safe_region`, `admm` is
`train_region_admm` (the paper's way, reconstructed), `facets` is `train_region_facets`.

{training}

## Semidefinite against linear bounds, before and after training

Every bound over the attack (1 is exact), without the output bias, seed 0; in brackets the bound itself where the attack
is zero. Random networks have no biases. The bound of the pairs trainer (one majorant for parallel units) is not among
these: its ratio is in the table above.

{bounds}

## Bounds of random networks against the dimension

Xavier weights, no biases, h = 3d, unit regions, mean of {networks} networks; exponents by least squares in logarithms
over the dimensions shown. Theorem 2.1: the semidefinite bound is O(1) on the ball and O(sqrt d) on the box; Theorem 2.2
and its proof in [](../theory/global_safety.md): linear bounds grow at least like sqrt d on the ball, like d on the box.

{scaling}

![Bounds against the dimension](global_safety.png)
"""

if __name__ == "__main__":
    main()

"""
Certified margins on digits: one program for all classes, or one net a class and certification afterwards?
===========================================================================================================

scikit-learn's 8x8 digits, pixels in [0, 1], split into fitting, validation and test rows. All contestants have as many
hidden units, and all are certified by the same pairwise Lipschitz bounds (LipSDP for l2, max-gradient for linf):

* program M, ``train_certified_margin`` with ten outputs, at the radius it is judged at
* one-vs-rest with weight decay: ten nets with one output, squared hinge, joined into one network
* one-vs-rest with the Lipschitz penalty (exact LipSDP gradient), the same otherwise
* one-vs-rest of binary programs M at the radius, joined

Every contestant tries as many weights ``lam``; the one with the highest certified accuracy on the validation rows is
judged on the test rows, where PGD also attacks every point.

    python examples/certified_margin_digits.py [--output FOLDER] [--units 60] [--seeds 1] [--threats l2:0.5 linf:0.1]
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from convexnn import L2Ball, LInfBall, Network, attack, pretrain
from convexnn.certificates.margins import certified_radii, rival_bounds
from convexnn.restrictions.certified_margin_terms import MarginTerms
from convexnn.training import LipschitzTrainer, MarginOptions, train_certified_margin

CLASSES, EPOCHS, STEPS = 10, 400, 1000
THREATS = [("l2", 0.25), ("l2", 0.5), ("l2", 0.75), ("linf", 0.05), ("linf", 0.1)]
LAMS = {
    "program M": (1e-4, 1e-3, 1e-2),
    "one-vs-rest, binary programs M": (1e-4, 1e-3, 1e-2),
    "one-vs-rest, weight decay": (1e-3, 3e-3, 1e-2),
    "one-vs-rest, Lipschitz": (1e-3, 1e-2, 1e-1),
}
#: What is trained once and judged at every radius, for its training knows of none.
RADIUS_FREE = ("one-vs-rest, weight decay", "one-vs-rest, Lipschitz")


@dataclass(frozen=True)
class Data:
    """Rows and labels of the three parts."""

    fit: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]

    @classmethod
    def split(cls, seed: int) -> Data:
        """64 % fitting, 16 % validation, 20 % test, stratified."""
        X, y = load_digits(return_X_y=True)
        rest, test, y_rest, y_test = train_test_split(X / 16, y, test_size=0.2, stratify=y, random_state=seed)
        fit, val, y_fit, y_val = train_test_split(rest, y_rest, test_size=0.2, stratify=y_rest, random_state=seed)
        return cls((fit, y_fit), (val, y_val), (test, y_test))


def joined(networks: list[Network]) -> Network:
    """One network whose outputs are those of several networks with one output."""
    W, b = np.vstack([net.W for net in networks]), np.hstack([net.b for net in networks])
    V, at = np.zeros((len(networks), len(b))), 0
    for row, net in zip(V, networks, strict=True):
        row[at : at + len(net.b)] = net.v
        at += len(net.b)
    return Network.shallow(W, b, V, np.array([net.c for net in networks]))


def quick_start(X: np.ndarray, y: np.ndarray, units: int, loss: str, seed: int) -> Network:
    """A network after a few epochs of Adam, where program M starts."""
    return pretrain(X, y, hidden_units=units, loss=loss, epochs=20, lam=1e-4, random_state=seed).network


def train(name: str, data: Data, lam: float, threat: tuple[str, float], units: int, seed: int) -> Network:
    """A contestant with one weight."""
    X, y = data.fit
    norm, radius = (2 if threat[0] == "l2" else np.inf), threat[1]
    if name == "program M":
        options = MarginOptions(radius=radius, norm=norm, lam=lam, max_iter=STEPS, random_state=seed)
        return train_certified_margin(quick_start(X, y, units, "cross_entropy", seed), X, y, options).network
    networks = []
    for label in range(CLASSES):
        own, size = (y == label).astype(int), units // CLASSES
        if name == "one-vs-rest, binary programs M":
            options = MarginOptions(radius=radius, norm=norm, lam=lam, max_iter=STEPS, random_state=seed, convex=False)
            start = quick_start(X, own, size, "squared_hinge", seed)
            networks.append(train_certified_margin(start, X, own, options).network)
        elif name == "one-vs-rest, Lipschitz":
            method, settings = LipschitzTrainer(lam=lam), {}
        else:
            method, settings = "adam", {"lam": lam}
        if name in RADIUS_FREE:
            options = {"hidden_units": size, "loss": "squared_hinge", "epochs": EPOCHS, "random_state": seed}
            networks.append(pretrain(X, own, method=method, **options, **settings).network)
    return joined(networks)


def pair_bounds(network: Network, norm: str) -> np.ndarray:
    """Certified Lipschitz bounds of all margins; those for linf to a gap of 1e-3, in a fraction of the time."""
    if norm == "l2":
        return rival_bounds(network, norm)
    rows, labels = np.eye(CLASSES, network.n_inputs), np.arange(CLASSES)
    terms = MarginTerms.of(rows, labels, CLASSES, radius=0.0, norm=norm)
    bounds = np.zeros((CLASSES, CLASSES))
    bounds[tuple(terms.members.T)] = terms.bounds(network.W, network.v).upper
    return bounds + bounds.T


def certified(network: Network, part: tuple[np.ndarray, np.ndarray], norm: str, radius: float) -> np.ndarray:
    """Which points have a certificate at the radius."""
    return certified_radii(network, *part, pair_bounds(network, norm)) >= radius


def judged(network: Network, data: Data, norm: str, radius: float, seed: int) -> dict[str, float]:
    """Accuracies on the test rows; no attack may break a certified point."""
    X, y = data.test
    safe = certified(network, data.test, norm, radius)
    ball = (L2Ball if norm == "l2" else LInfBall)(radius)
    survived = ~attack(network, X, y, ball, steps=40, restarts=5, random_state=seed).success
    return {
        "clean": float((network(X).argmax(axis=1) == y).mean()),
        "attacked": float(survived.mean()),
        "certified": float(safe.mean()),
        "broken": int((safe & ~survived).sum()),
    }


def contest(seed: int, units: int, threats: list[tuple[str, float]]) -> list[dict[str, object]]:
    """All contestants at these threats on one split."""
    data, rows, trained = Data.split(seed), [], {}
    for norm, radius in threats:
        for name, lams in LAMS.items():
            free = name in RADIUS_FREE
            candidates, seconds = {}, 0.0
            for lam in lams:
                key = (name, lam) if free else (name, lam, norm, radius)
                if key not in trained:
                    began = time.process_time()
                    network = train(name, data, lam, (norm, radius), units, seed)
                    trained[key] = network, time.process_time() - began
                candidates[lam] = trained[key][0]
                seconds += trained[key][1]
            scores = {lam: certified(net, data.validation, norm, radius).mean() for lam, net in candidates.items()}
            lam = max(scores, key=lambda one: scores[one])
            row = {"seed": seed, "norm": norm, "radius": radius, "contestant": name, "lam": lam, "seconds": seconds}
            rows.append(row | judged(candidates[lam], data, norm, radius, seed))
            print(line(rows[-1]), flush=True)
    return rows


def line(row: dict[str, object]) -> str:
    """One row of the table in Markdown."""
    shares = " | ".join(f"{100 * float(row[key]):.1f}" for key in ("clean", "attacked", "certified"))
    cells = f"{row['norm']} {row['radius']:g} | {row['contestant']} | {row['lam']:g} | {shares}"
    return f"| {row['seed']} | {cells} | {row['broken']} | {row['seconds']:.0f} |"


def threat(text: str) -> tuple[str, float]:
    """Norm and radius of a word such as l2:0.5."""
    norm, radius = text.split(":")
    return norm, float(radius)


def main() -> None:
    """Run the contest and write its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--units", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threats", nargs="+", type=threat, default=THREATS, help="norm:radius, as in l2:0.5")
    options = parser.parse_args()
    print("| seed | threat | contestant | lam | clean % | under PGD % | certified % | broken | CPU s |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(options.seeds):
            rows += contest(seed, options.units, options.threats)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "certified_margin_digits.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

"""The training problems: data, a network for its patterns, sampled gates, and the programs around them."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from convexnn.datasets import load_split, make_rastrigin
from convexnn.exceptions import DatasetError
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract, sample_gates
from convexnn.program import Program
from convexnn.restrictions import LipschitzProgram, LipschitzRestriction, ReluGroupLasso

ROOT = Path(__file__).resolve().parents[3]
KINDS = ("joint", "(12)", "l2")
SPLITS = ("servo", "machine", "solar", "wine")
CASES = ("diabetes", *SPLITS, "rastrigin", "synthetic 1k", "synthetic 10k", "synthetic 100k")
#: Rows of the synthetic problems.
SIZES = {"synthetic 1k": 1_000, "synthetic 10k": 10_000, "synthetic 100k": 100_000}
UNITS, LAM = 100, 1e-2


@dataclass(frozen=True)
class Case:
    """Standardized data, the network whose patterns the Lipschitz programs take, and the gates of the l2 program."""

    X: np.ndarray
    y: np.ndarray
    network: Network
    gates: tuple[np.ndarray, np.ndarray]

    def patterns(self) -> ActivationPatterns:
        """Every sampled gate with both signs."""
        W, b = self.gates
        D = self.X @ W.T + b > 0
        return ActivationPatterns(np.hstack([D, D]), np.repeat([1.0, -1.0], len(W)))

    def program(self, kind: str) -> Program:
        """The program of a kind; building it merges repeated rows."""
        if kind == "joint":
            return LipschitzProgram(self.X, self.y, extract(self.network, self.X), LAM, start=self.network)
        if kind == "(12)":
            return LipschitzRestriction.at(self.network, self.X, self.y, LAM)
        return ReluGroupLasso(self.X, self.y, self.patterns(), LAM)

    def with_all_rows(self, program: Program) -> Program:
        """The same program stated on the rows as they came, repetitions included, for cvxpy only."""
        merged = program.structure()
        shift = merged.X[0, :-1] - program.rows.X[0]
        X = np.hstack([self.X + shift, np.ones((len(self.X), 1))])
        place = np.empty(len(X), dtype=int)
        place[program.rows.used] = program.rows.inverse
        everything = replace(
            merged,
            X=X,
            y=self.y,
            weight=np.full(len(X), 1 / len(X)),
            constant=0.0,
            D=merged.D[place],
            S=merged.S[place],
        )
        other = object.__new__(type(program))
        other.__dict__.update(program.__dict__)
        other._structure = everything
        return other

    def save(self, path: Path) -> None:
        """Write the problem for the processes that solve it."""
        net, (W, b) = self.network, self.gates
        np.savez(path, X=self.X, y=self.y, W=net.W, b=net.b, v=net.v, c=net.c, gate_W=W, gate_b=b)

    def save_for_pyscnn(self, path: Path, bias: float) -> None:
        """Write the l2 program in the words of ``pyscnn_worker.py``; it knows no output bias and is given the best."""
        W, b = self.gates
        np.savez(path, X=self.X, y=self.y, W=W, b=b, lam=LAM, c=bias)

    def has_repeated_rows(self) -> bool:
        """Whether merging equal rows makes the program smaller."""
        return len(np.unique(self.X, axis=0)) < len(self.X)

    @classmethod
    def load(cls, path: Path) -> Case:
        """Read what :meth:`save` wrote."""
        with np.load(path) as file:
            network = Network.shallow(file["W"], file["b"], file["v"], float(file["c"]))
            return cls(file["X"], file["y"], network, (file["gate_W"], file["gate_b"]))


def make(name: str, folder: str | None) -> Case | None:
    """The problem of a name; None where its data is not at hand."""
    data = _data(name, folder)
    if data is None:
        return None
    X, y = data
    X = X[:, X.std(axis=0) > 0]
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
    W, b = sample_gates(X, UNITS, random_state=0)
    return Case(X, y, _pretrained(X, y), (W, b))


def _data(name: str, folder: str | None) -> tuple[np.ndarray, np.ndarray] | None:
    if name == "diabetes":
        return load_diabetes(return_X_y=True)
    if name == "rastrigin":
        return make_rastrigin(500, 2, random_state=0)
    if name in SIZES:
        return _synthetic(SIZES[name])
    named = os.environ.get("CONVEXNN_SHARED")
    for base in [folder] if folder else [*([named] if named else []), ROOT.parent / "shared"]:
        try:
            return load_split(name, 0, base, return_X_y=True)[:2]
        except DatasetError:
            continue
    return None


def _synthetic(n: int, d: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """A sum of three ridge functions and noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    return X, np.sin(X[:, 0]) + np.abs(X[:, 1]) + 0.5 * X[:, 2] * (X[:, 3] > 0) + 0.1 * rng.normal(size=n)


def _pretrained(X: np.ndarray, y: np.ndarray) -> Network:
    """A network trained by Adam, fewer epochs on more rows."""
    epochs = max(2, min(200, 200_000 // len(X)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPRegressor(
            hidden_layer_sizes=(UNITS,), alpha=1e-4, learning_rate_init=1e-2, max_iter=epochs, random_state=0
        )
        return Network.from_sklearn(model.fit(X, y))

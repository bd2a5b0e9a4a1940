"""Random training problems that a solver would rather not see: bad scales, ties, duplicates, dead units."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from convexnn.exceptions import SolverWarning
from convexnn.losses import get_loss
from convexnn.network import Network
from convexnn.patterns import extract
from convexnn.program import Program, Solution
from convexnn.restrictions import (
    GatedGroupLasso,
    LipschitzProgram,
    LipschitzRestriction,
    ReluGroupLasso,
    VectorGatedGroupLasso,
    VectorGroupLasso,
    VectorLipschitzProgram,
)
from convexnn.solvers import solve

#: Words with which a run may end that did not reach its tolerance.
HONEST = ("stalled", "inaccurate", "max_iter", "time_limit", "interrupted")
LOSSES = ("huber", "squared_hinge", "hinge", "logistic")


@dataclass(frozen=True)
class Hostile:
    """One problem: data, the network to start from, and the weight of the regularizer."""

    seed: int
    X: np.ndarray
    y: np.ndarray
    network: Network
    lam: float

    def programs(self) -> Iterator[Program]:
        """All programs with scalar output around the network."""
        patterns = extract(self.network, self.X)
        yield LipschitzProgram(self.X, self.y, patterns, self.lam, start=self.network)
        # with all outer weights zero there is no LipSDP multiplier to hold fixed
        if np.any((self.network.v != 0) & self.network.W.any(axis=1)):
            yield LipschitzRestriction.at(self.network, self.X, self.y, self.lam)
        yield ReluGroupLasso(self.X, self.y, patterns, self.lam, start=self.network)
        yield GatedGroupLasso(self.X, self.y, patterns, self.lam, start=self.network)

    def with_other_losses(self) -> Iterator[Program]:
        """The programs with a loss of the seed's choice other than the squared one."""
        patterns, name = extract(self.network, self.X), LOSSES[self.seed % len(LOSSES)]
        y = np.where(self.y >= np.median(self.y), 1.0, -1.0) if get_loss(name).binary else self.y
        options = {"start": self.network, "loss": name}
        yield LipschitzProgram(self.X, y, patterns, self.lam, **options)
        yield ReluGroupLasso(self.X, y, patterns, self.lam, **options)
        yield GatedGroupLasso(self.X, y, patterns, self.lam, **options)

    def vector(self) -> tuple[Network, list[Program]]:
        """A network with several outputs and the programs around it."""
        rng = np.random.default_rng(self.seed)
        outputs = int(rng.choice([1, 2, 3]))
        W, b = self.network.layers[0]
        V = self.network.v * rng.normal(size=(outputs, len(W)))
        network = Network([(W, b), (V, rng.normal(size=outputs))])
        Y = self.y[:, None] * rng.choice([1.0, -1.0, 0.5], size=outputs) + 0.1 * rng.normal(size=(len(self.X), outputs))
        kinds = (VectorLipschitzProgram, VectorGroupLasso, VectorGatedGroupLasso)
        return network, [kind.at(network, self.X, Y, self.lam) for kind in kinds]


def hostile(seed: int) -> Hostile:
    """The problem of a seed; everything about it is random, and every vice has its chance."""
    rng = np.random.default_rng(seed)
    X = _inputs(rng)
    y = _targets(rng, X)
    return Hostile(seed, X, y, _network(rng, X, y), 10 ** rng.uniform(-4, 1))


def _inputs(rng: np.random.Generator) -> np.ndarray:
    n, d = int(rng.choice([1, 2, 5, 12, 25])), int(rng.choice([1, 1, 2, 3, 5]))
    X = rng.normal(size=(n, d))
    if rng.random() < 0.3:  # repeated rows
        X = X[rng.integers(n, size=n)]
    if rng.random() < 0.2:  # ties on a grid
        X = np.round(X)
    if rng.random() < 0.2:  # rank deficient
        X = X[:, :1] @ rng.normal(size=(1, d))
    if rng.random() < 0.2:  # a constant column
        X[:, rng.integers(d)] = rng.choice([0.0, 1.0, -3.0])
    if rng.random() < 0.3:  # columns of different units
        X = X * 10 ** rng.uniform(-3, 3, size=d)
    if rng.random() < 0.2:  # far from the origin
        X = X + 10 ** rng.uniform(-1, 2) * rng.normal(size=d)
    return X * 10 ** rng.choice([-3.0, 0.0, 0.0, 0.0, 3.0])


def _targets(rng: np.random.Generator, X: np.ndarray) -> np.ndarray:
    kind = rng.choice(["smooth", "noise", "labels", "constant"], p=[0.4, 0.3, 0.2, 0.1])
    scaled = X / max(np.abs(X).max(), 1e-300)
    y = {
        "smooth": np.sin(3 * scaled[:, 0]) + 0.1 * rng.normal(size=len(X)),
        "noise": rng.normal(size=len(X)),  # also on repeated rows: they conflict
        "labels": rng.choice([-1.0, 1.0], size=len(X)),
        "constant": np.full(len(X), 0.7),
    }[kind]
    return y * 10 ** rng.choice([-3.0, 0.0, 0.0, 0.0, 3.0]) + rng.choice([0.0, 0.0, 100.0])


def _network(rng: np.random.Generator, X: np.ndarray, y: np.ndarray) -> Network:
    m, d = int(rng.choice([1, 2, 4, 8, 30])), X.shape[1]
    size = np.abs(X).max() or 1.0
    W, b = rng.normal(size=(m, d)) / size, rng.normal(size=m)
    v = rng.normal(size=m) * (np.std(y) or 1.0) / m
    if rng.random() < 0.3:  # boundaries through data points: ties up to roundoff
        for i in range(m):
            b[i] = -W[i] @ X[rng.integers(len(X))]
    fate = rng.random(m)
    vice = rng.random() < 0.5
    W[vice & (fate < 0.1)] = 0.0  # a unit that is constant
    v[vice & (fate > 0.1) & (fate < 0.2)] = 0.0
    b[vice & (fate > 0.2) & (fate < 0.35)] = 100.0  # always active
    b[vice & (fate > 0.35) & (fate < 0.5)] = -100.0  # never active
    dead = vice & (fate > 0.5) & (fate < 0.6)
    W[dead], b[dead], v[dead] = 0.0, 0.0, 0.0
    if rng.random() < 0.3:  # copies
        copy = rng.integers(m, size=m)
        W, b, v = W[copy], b[copy], v[copy]
    scale = 10 ** rng.choice([-3.0, 0.0, 0.0, 3.0])
    return Network.shallow(W * scale, b * scale, v / scale, float(np.mean(y)))


def solve_quietly(program: Program, **options) -> Solution:
    """Solve with warnings about units left out and fallbacks allowed, all others errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", SolverWarning)
        return solve(program, **options)


def complaints(program: Program, network: Network, solution: Solution, tol: float) -> list[str]:
    """What is wrong with a solution; empty when nothing is."""
    found = []
    allowed = 0.0 if program.start is None or solution.is_optimal else program.violation(program.start)  # ties
    if solution.violation > min(allowed, 1e-9):
        found.append(f"violation {solution.violation:.1e}")
    if not np.isfinite(solution.objective):
        found.append(f"objective {solution.objective}")
    if (solution.status == "optimal") != (solution.gap <= tol):
        found.append(f"status {solution.status} at gap {solution.gap:.1e}")
    if solution.status not in ("optimal", *HONEST):
        found.append(f"status {solution.status}")
    roundoff = 1e-9 * abs(solution.objective) + 1e-13 * program.scale
    if solution.lower_bound > solution.objective + roundoff:
        found.append(f"lower bound {solution.lower_bound!r} above the objective {solution.objective!r}")
    if program.start is not None and solution.objective > program.objective(program.start) + roundoff:
        found.append(f"objective {solution.objective!r} above that of the start {program.objective(program.start)!r}")
    if not isinstance(
        program, GatedGroupLasso | VectorGatedGroupLasso
    ):  # a relaxation: its networks pay for the cones afterwards
        before, after = program.network_objective(network), program.network_objective(program.decode(solution.z))
        if after > before + roundoff:
            found.append(f"network {after!r} worse than its start {before!r}")
    return found

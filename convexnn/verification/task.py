"""What is to be certified: a network, labelled samples and the threat set around each of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.attacks import Attack, AttackProblem
from convexnn.attacks.objectives import BinaryMargin, ClassMargin
from convexnn.attacks.registry import check_threat
from convexnn.certificates.distance import read_classifier
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.propagation import InputSet, Query
from convexnn.rigorous import gamma
from convexnn.threats import L2Ball, LInfBall, Threat

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Task:
    """Samples to certify.

    Attributes
    ----------
    network : Network
    X : array, shape (n, d)
        Raw input units.
    labels : int array, shape (n,)
        Class indices; with one output 1 is the class where it is positive.
    threat : Threat
    index : int array, shape (n,)
        Place of each sample in the whole run.
    seed : int
        Of the attacks' random starts, which all samples share.
    """

    network: Network
    X: Array
    labels: Indices
    threat: Threat
    index: Indices
    seed: int

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.X)

    def take(self, rows: Sequence[int] | Indices) -> Task:
        """Some of the samples."""
        chosen = np.asarray(rows, dtype=np.intp)
        return replace(self, X=self.X[chosen], labels=self.labels[chosen], index=self.index[chosen])

    def query(self, row: int) -> Query:
        """The margins of a sample against its rivals."""
        return Query.of_rivals(self.network, self.X[row], int(self.labels[row]), self.threat)

    def sample_seed(self, row: int) -> int:
        """A seed of the sample's own, the same in whatever order samples are run."""
        return int(np.random.SeedSequence([self.seed, int(self.index[row])]).generate_state(1)[0])

    def problem(self) -> AttackProblem:
        """The same as an attack sees it."""
        return AttackProblem(self.network, self.X, self.threat, margin_of(self.network, self.labels), self.seed)

    def margins(self, points: Array) -> Array:
        """``max_{t != y} f_t - f_y`` at one point a sample, shape (n,), each evaluated on its own.

        One by one, because a matrix product may round a row differently in another company.
        """
        rows = [self.take([i]).problem() for i in range(len(self))]
        values = [problem.objective.value(problem.outputs(points[i : i + 1])) for i, problem in enumerate(rows)]
        return np.concatenate(values) if values else np.empty(0)

    def data_digest(self) -> str:
        """SHA-256 of samples and labels."""
        digest = hashlib.sha256(np.array(self.X.shape, dtype="<i8").tobytes())
        digest.update((self.X + 0.0).astype("<f8").tobytes() + self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


def margin_of(network: Network, labels: Indices) -> Any:
    """What attacks maximize: the margin of the strongest rival."""
    return BinaryMargin(np.where(labels == 1, 1.0, -1.0)) if network.n_outputs == 1 else ClassMargin(labels)


def read_task(model: Any, X: ArrayLike, y: ArrayLike, threat: Threat, seed: int) -> Task:
    """The task of a model and labelled data; what cannot be certified is refused in words.

    Raises
    ------
    InvalidInputError
        For NaN, wrong shapes, unknown labels, a regressor, unbounded threat sets, or samples whose set is empty.
    UnsupportedModelError
        When the model gives no network.
    """
    if hasattr(model, "predict") and getattr(model, "classes_", None) is None:
        raise InvalidInputError(f"certify needs a classifier, and this {type(model).__name__} has no classes_.")
    network, inputs, labels = read_classifier(model, X, y)
    check_threat(threat, inputs)
    for i, x in enumerate(inputs):
        try:
            InputSet.around(x, threat)
        except InvalidInputError as error:
            raise InvalidInputError(f"Sample {i}: {error}") from error
    return Task(network, inputs, labels, threat, np.arange(len(inputs)), seed)


def attacked(task: Task, attack: Attack) -> tuple[Array, Array]:
    """Points strictly inside the sets that an attack found, shape (n, d), and their margins (n,); ``-inf`` without."""
    return strictly(task, attack(task.problem()).X_adv)


#: Parts of the way back to a point that is surely inside.
SHRINK = tuple(2.0**-power for power in (52, 50, 46, 42, 36, 30, 20, 10))


def surely_inside(threat: Threat, Z: Array, X: Array) -> NDArray[np.bool_]:
    """Whether rows of Z lie in the sets around those of X in exact arithmetic, shape (n,); never a false yes.

    Distances of a ball are a little above the computed ones; those of a box are compared with the rounding error of
    the difference.
    """
    inside = threat.contains(Z, X, 0.0)
    with np.errstate(all="ignore"):
        if isinstance(threat, L2Ball):
            length = np.linalg.norm((Z - X) / max(threat.radius, np.finfo(float).smallest_subnormal), axis=1)
            return np.asarray(inside & ((Z == X).all(axis=1) | (length * (1.0 + 2.0 * gamma(Z.shape[1] + 8)) <= 1.0)))
        if isinstance(threat, LInfBall):
            step = Z - X
            back = Z - step
            rest = (Z - (step + back)) + (back - X)  # Z - X = step + rest without rounding
            edge = (np.abs(step) == threat.radius) & (np.sign(step) * rest > 0)
            return np.asarray(inside & ~edge.any(axis=1))
    return inside


def strictly(task: Task, points: Array) -> tuple[Array, Array]:
    """Points (n, d) moved into their sets until nothing but zero tolerance is needed, and their margins (n,).

    The margin is ``-inf`` where not even the projected sample is in the set without tolerance.
    """
    X, threat = task.X, task.threat
    anchor = np.where(threat.contains(X, X, 0.0)[:, None], X, threat.project(X, X))
    found = threat.project(points, X)
    inside = surely_inside(threat, found, X)
    for part in SHRINK:
        if inside.all():
            break
        found = np.where(inside[:, None], found, anchor + (1.0 - part) * (found - anchor))
        inside = surely_inside(threat, found, X)
    found = np.where(inside[:, None], found, anchor)
    inside = surely_inside(threat, found, X)
    return found, np.where(inside, task.margins(found), -np.inf)

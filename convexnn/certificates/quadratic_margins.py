"""Worst margins of polynomial classifiers over balls and boxes: exact, or bracketed by a bound and an attack."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.attacks.base import Attack, AttackProblem
from convexnn.attacks.objectives import build_objective
from convexnn.attacks.registry import check_threat
from convexnn.certificates.distance import read_classifier
from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_number
from convexnn.network import Network
from convexnn.quadratic.boxes import Boxes, coordinate_descent, diagonal_bounds
from convexnn.quadratic.branching import branch_and_bound
from convexnn.quadratic.diagonal import best_diagonal, common_diagonal
from convexnn.quadratic.duels import Duel, duels
from convexnn.threats import L2Ball, Threat

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

METHODS = ("auto", "exact", "common", "diagonal", "branch_and_bound")

#: "auto" branches up to so many inputs.
BRANCHING_INPUTS = 12


@dataclass(frozen=True, eq=False)
class QuadraticCertification:
    """Worst margins ``max_{t != y} f_t - f_y`` of a polynomial classifier from both sides; negative is right.

    Attributes
    ----------
    clean : array, shape (n,)
        Without perturbation.
    reached : array, shape (n,)
        At ``X_adv``, re-evaluated: LOWER bounds on the worst margins.
    margins : array, shape (n,)
        Rigorous UPPER bounds on the worst margins of the real-valued network.
    certified : array of bool, shape (n,)
        ``margins < 0``: no perturbation changes the right prediction.
    broken : array of bool, shape (n,)
        ``X_adv`` is misclassified; never together with ``certified``.
    X_adv : array, shape (n, d)
        Worst points found, in the threat sets.
    threat : Threat
    method : str
    seconds : float
    """

    clean: Array = field(repr=False)
    reached: Array = field(repr=False)
    margins: Array = field(repr=False)
    certified: Flags = field(repr=False)
    broken: Flags = field(repr=False)
    X_adv: Array = field(repr=False)
    threat: Threat
    method: str
    seconds: float

    @property
    def certified_accuracy(self) -> float:
        """Fraction that is certified: a LOWER bound on the robust accuracy."""
        return float(self.certified.mean())

    @property
    def attacked_accuracy(self) -> float:
        """Fraction that is not broken: an UPPER bound on the robust accuracy."""
        return 1.0 - float(self.broken.mean())

    @property
    def gap(self) -> Array:
        """``margins - reached`` >= 0 up to rounding, shape (n,)."""
        return self.margins - self.reached


def certify_quadratic(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    threat: Threat,
    *,
    method: str = "auto",
    time_limit: float | None = None,
) -> QuadraticCertification:
    """Worst margins of a polynomial classifier over threat sets, with worst points.

    Parameters
    ----------
    model : Network, torch.nn.Module, fitted estimator or Pipeline
        One hidden layer with a polynomial (or identity) activation.
    X : array-like, shape (n, d)
        Raw input units.
    y : array-like, shape (n,)
        Labels: the model's ``classes_``, else 0..k-1; with one output 0 / 1 or -1 / +1.
    threat : Threat
        ``L2Ball``, ``LInfBall`` or ``Box``, with or without clip.
    method : {"auto", "exact", "common", "diagonal", "branch_and_bound"}
        "exact": trust regions for l2 balls, branch and bound to the end for boxes. For boxes "common" takes a diagonal
        of multipliers for all samples, "diagonal" the best of each (the relaxation of Shor), and "branch_and_bound"
        splits the boxes until the margin is known to 1e-6 of its size or the time is over. "auto" is "exact" for l2
        balls; for boxes "diagonal", and where that leaves the sign open and there are at most 12 inputs, branch and
        bound until the sign is known. A clipped l2 ball is certified as a ball or as a box, whichever is better.
    time_limit : float, optional
        Seconds for all branch and bound together; where it ends early, the bracket stays wide and honest.

    Returns
    -------
    QuadraticCertification

    Raises
    ------
    InvalidInputError
        For NaN, wrong shapes, unknown labels or methods, empty or unbounded threat sets, "exact" for clipped l2 balls.
    UnsupportedModelError
        When the model is not a quadratic function.
    """
    started = time.monotonic()
    if method not in METHODS:
        raise InvalidInputError(f"method must be one of {METHODS}, got {method!r}.")
    if time_limit is not None and not as_number(time_limit, "time_limit (seconds, or None)") >= 0:
        raise InvalidInputError(f"time_limit must be None or nonnegative seconds, got {time_limit!r}.")
    if method == "exact" and isinstance(threat, L2Ball) and threat.clip is not None:
        raise InvalidInputError("The exact worst case over a clipped l2 ball is not known; use method='auto'.")
    network, inputs, labels = read_classifier(model, X, y)
    check_threat(threat, inputs)
    search = _Search(network, inputs, threat, method, None if time_limit is None else started + time_limit)
    margins, points = search.run(labels)
    objective = build_objective(network, labels, len(inputs), network.n_outputs, "margin")
    found = _Found(points)(AttackProblem(network, inputs, threat, objective, 0))
    wrong = np.asarray(found.success)
    return QuadraticCertification(
        clean=found.clean_values,
        reached=found.values,
        margins=margins,
        certified=(margins < 0) & ~wrong,
        broken=wrong,
        X_adv=found.X_adv,
        threat=threat,
        method=method,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True, eq=False)
class _Found(Attack):
    """Points that were found elsewhere, (n, d) each; the base of all attacks verifies them."""

    points: tuple[Array, ...]

    name = "certification"

    def propose(self, problem: AttackProblem) -> Iterator[Array]:
        del problem
        yield from self.points


@dataclass(frozen=True, eq=False)
class _Search:
    """Bounds and points of every pair of classes, by one method."""

    network: Network
    X: Array
    threat: Threat
    method: str
    end: float | None

    def run(self, labels: NDArray[np.intp]) -> tuple[Array, tuple[Array, ...]]:
        """Upper bounds on the margins (n,), and candidate points, one set a pair of classes."""
        margins, points = np.full(len(self.X), -np.inf), []
        for duel in duels(self.network, labels):
            lower, found = self._pair(duel)
            margins[duel.rows] = np.maximum(margins[duel.rows], -lower)
            candidate = self.X.copy()
            candidate[duel.rows] = found
            points.append(candidate)
        return margins, tuple(points)

    def _pair(self, duel: Duel) -> tuple[Array, Array]:
        """Lower bounds on ``s f`` and points, for the rows of a duel."""
        if not isinstance(self.threat, L2Ball):
            return self._boxes(duel)
        X, radius = self.X[duel.rows], float(self.threat.radius)
        lower = duel.form.worst_case_bounds(X, duel.signs, radius)
        points = duel.form.worst_case(X, duel.signs, radius)[1]
        if self.threat.clip is None:
            return lower, points
        boxed, _ = self._boxes(duel)
        return np.maximum(lower, boxed), points

    def _boxes(self, duel: Duel) -> tuple[Array, Array]:
        ends = self.threat.bounding_box(self.X[duel.rows])
        boxes = Boxes.between(duel.form, *ends, duel.signs)
        if self.method in ("exact", "branch_and_bound"):
            found = branch_and_bound(boxes, time_limit=self._left())
            return found.lower, found.points
        multipliers, steps = self._multipliers(boxes)
        lower = diagonal_bounds(boxes, multipliers)
        moved, upper = coordinate_descent(boxes, steps)
        points = boxes.centres + moved
        open_ = np.flatnonzero((lower <= 0) & (upper >= 0))
        if self.method == "auto" and len(open_) and self.X.shape[1] <= BRANCHING_INPUTS:
            tree = branch_and_bound(boxes.take(open_), time_limit=self._left(), decide=True)
            lower[open_] = np.maximum(lower[open_], tree.lower)
            points[open_] = np.where((tree.upper < upper[open_])[:, None], tree.points, points[open_])
        return lower, points

    def _multipliers(self, boxes: Boxes) -> tuple[Array, Array]:
        if self.method == "common":
            return common_diagonal(boxes), -np.sign(boxes.slopes) * boxes.halves
        return best_diagonal(boxes)

    def _left(self) -> float | None:
        return None if self.end is None else max(0.0, self.end - time.monotonic())

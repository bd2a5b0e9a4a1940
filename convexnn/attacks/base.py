"""The contract of an attack: proposals from anywhere, evidence from here.

An attack proposes points; :meth:`Attack.__call__` projects them into the threat set, drops what is not in it,
recomputes the value from the network in float64 and keeps the worst point of each sample. The unperturbed
sample is the first candidate, so no attack ends below it. What is found is a LOWER bound on the worst case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from convexnn.attacks.objectives import Goal, Objective
from convexnn.decimals import DOWN, written
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.threats import L2Ball, Threat

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AttackResult:
    """Worst points found; ``values`` are LOWER bounds on the worst case over the threat set.

    Parameters
    ----------
    X_adv : array, shape (n, d)
        One point of the threat set per sample.
    values : array, shape (n,)
        Squared error (regression), margin ``max_{t != y} f_t - f_y`` (classification; ``-y f`` for one output)
        or the asked loss at ``X_adv``.
    clean_values : array, shape (n,)
        The same at the unperturbed samples.
    success : array of bool, shape (n,), or None
        Whether ``X_adv`` is misclassified; None for regression.
    method : str
    threat : Threat
    """

    X_adv: Array = field(repr=False)
    values: Array = field(repr=False)
    clean_values: Array = field(repr=False)
    success: NDArray[np.bool_] | None = field(repr=False)
    method: str
    threat: Threat

    def __str__(self) -> str:
        """What was found, in one line."""
        found = f"mean {self.clean_values.mean():.6g} clean, at least {written(self.values.mean(), 6, DOWN)} attacked"
        broken = "" if self.success is None else f"; misclassified: {int(self.success.sum())} of {len(self.success)}"
        return f"{self.method}, {self.threat}: {found}{broken}"


@dataclass(frozen=True, eq=False)
class AttackProblem:
    """What an attack sees.

    Parameters
    ----------
    network : Network
    X : array, shape (n, d)
    threat : Threat
    objective : Objective
    seed : int
    """

    network: Network
    X: Array
    threat: Threat
    objective: Objective
    seed: int

    def outputs(self, X: Array) -> Array:
        """Outputs as a matrix, shape (n, k)."""
        return self.network(X).reshape(len(X), -1)

    def slope(self, X: Array, goal: Goal) -> tuple[Array, Array]:
        """Outputs (n, k) and the gradient (n, d) of ``<goal(outputs), f(x)>`` with the goal held fixed.

        The chain rule layer by layer; the same slopes as ``Network.gradient`` (ties are active).
        """
        act, pre = self.network.activation, self.network.pre_activations(X)
        V, c = self.network.layers[-1]
        outputs = act(pre[-1]) @ V.T + c
        gradient = goal(outputs) @ V
        for (W, _), z in zip(reversed(self.network.layers[:-1]), reversed(pre), strict=True):
            gradient = (gradient * act.derivative(z)) @ W
        return outputs, gradient


class Attack:
    """Base of the attacks: subclasses propose, this class verifies."""

    name: ClassVar[str] = ""

    def propose(self, problem: AttackProblem) -> Iterator[Array]:
        """Candidate points, arrays of shape (n, d), as many as the attack likes."""
        raise NotImplementedError

    def __call__(self, problem: AttackProblem) -> AttackResult:
        """Run the attack and verify what it proposes.

        Raises
        ------
        InvalidInputError
            When the threat set of a sample is empty (the clip excludes the whole ball).
        """
        X, threat, objective = problem.X, problem.threat, problem.objective
        best = np.where(threat.contains(X, X, 0.0)[:, None], X, threat.project(X, X))
        values = objective.value(problem.outputs(best))
        for proposal in self.propose(problem):
            candidate = threat.project(proposal, X)
            reached = objective.value(problem.outputs(candidate))
            better = (reached > values) & threat.contains(candidate, X)
            best[better], values[better] = candidate[better], reached[better]
        if not (inside := threat.contains(best, X)).all():
            raise InvalidInputError(f"Sample {int(np.argmin(inside))} has no point in the threat set: {threat!r}.")
        outputs = problem.outputs(best)
        clean = objective.value(problem.outputs(X))
        return AttackResult(best, objective.value(outputs), clean, objective.success(outputs), self.name, threat)


def linear_maximizer(threat: Threat, G: Array, X: Array) -> Array:
    """Point of each set with the largest ``<g, x' - x>``, exact for samples inside their set.

    Parameters
    ----------
    threat : Threat
    G, X : array, shape (n, d)

    Returns
    -------
    points : array, shape (n, d)
        Corner of the box (``norm`` "linf" or "box"), or the point ``clip(x + mu g)`` on the sphere ("l2").
    """
    lower, upper = threat.bounding_box(X)
    corner = np.where(G > 0, upper, np.where(G < 0, lower, X))
    if threat.norm != "l2":
        return corner
    return threat.project(_fill(G, X, corner, cast(L2Ball, threat).radius), X)


def _fill(G: Array, X: Array, corner: Array, radius: float) -> Array:
    """``x + mu g`` with coordinates stopped at the corner and ``mu`` such that the distance is the radius."""
    limit = np.abs(corner - X)
    size = np.abs(G) / np.maximum(np.abs(G).max(axis=1, keepdims=True), np.finfo(float).tiny)
    full = np.zeros(G.shape, dtype=bool)
    length = np.zeros_like(G)
    for _ in range(G.shape[1]):
        rest = np.maximum(radius**2 - (limit**2 * full).sum(axis=1, keepdims=True), 0.0)
        norm = np.linalg.norm(size * ~full, axis=1, keepdims=True)
        mu = np.sqrt(rest) / np.where(norm > 0, norm, np.inf)
        length = np.where(full, limit, mu * size)
        beyond = (length > limit) & ~full
        if not beyond.any():
            break
        full |= beyond
    return X + np.sign(G) * np.minimum(length, limit)

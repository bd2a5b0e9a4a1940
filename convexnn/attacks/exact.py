"""The exact worst case of polynomial networks over l2 balls: an attack that no other attack can beat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convexnn.attacks.base import Attack, AttackProblem
from convexnn.attacks.objectives import BinaryMargin, ClassMargin, SquaredError
from convexnn.exceptions import UnsupportedModelError
from convexnn.quadratic.duels import worst_margins
from convexnn.quadratic.form import QuadraticForm, is_quadratic
from convexnn.threats import L2Ball

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Exact(Attack):
    """The worst point of each l2 ball, for networks that are quadratic functions; the base verifies it like any other.

    Margins of any number of classes (every rival in turn), losses of a single output, squared errors of a single
    output (both signs of the error).

    Implements: convexnn, Proposition 2 of docs/theory/quadratic_worst_cases.md.

    Parameters
    ----------
    required : bool, default True
        Whether a problem that cannot be solved exactly is an error; else nothing is proposed for it.
    """

    required: bool = True

    name: ClassVar[str] = "exact"

    def propose(self, problem: AttackProblem) -> Iterator[Array]:
        """The worst points, one set, or two for squared errors.

        Raises
        ------
        UnsupportedModelError
            Where ``required`` and the worst case is not that of a quadratic function over an l2 ball.
        """
        reason = why_not_exact(problem)
        if reason and self.required:
            raise UnsupportedModelError(f"method='exact' {reason}; use 'best' for a lower bound on the worst case.")
        if not reason:
            yield from _worst_points(problem)


def why_not_exact(problem: AttackProblem) -> str:
    """What stands in the way of an exact worst case, in words; empty when nothing does."""
    threat, objective, network = problem.threat, problem.objective, problem.network
    if not is_quadratic(network):
        return f"needs one hidden layer with a polynomial or identity activation, got {network!r}"
    if not isinstance(threat, L2Ball) or threat.clip is not None:
        return f"needs an L2Ball without clip, got {threat!r}"
    if isinstance(objective, SquaredError) and network.n_outputs > 1:
        return "knows the squared error of one output only"
    if isinstance(objective, ClassMargin) and objective.loss is not None:
        return "knows margins of several classes, not losses of them"
    return ""


def _worst_points(problem: AttackProblem) -> Iterator[Array]:
    X, radius, objective = problem.X, float(problem.threat.radius), problem.objective  # type: ignore[attr-defined]
    if isinstance(objective, SquaredError):
        form = QuadraticForm.of_network(problem.network)
        yield from (form.worst_case(X, sign, radius)[1] for sign in (1.0, -1.0))
    elif isinstance(objective, BinaryMargin | ClassMargin):
        labels = objective.y > 0 if isinstance(objective, BinaryMargin) else objective.y
        yield worst_margins(problem.network, X, labels.astype(np.intp), radius)[1]

"""Every function that re-verifies evidence, with honest evidence and a truth that no valid answer is below.

Used by tests/test_sabotage.py (corrupted evidence) and tests/mutants.py (corrupted checkers). Truths are rational
numbers wherever a bound can be tight, so that a rounding which is left out shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from convexnn.exceptions import ConvexNNError
from tests.certifier_cases import corrupted

Arrays = Mapping[str, np.ndarray]
Numbers = Sequence[Any]
REFUSALS = (ConvexNNError,)


@dataclass(frozen=True, eq=False)
class Claim:
    """Evidence, the check that reads it, and what is true.

    ``check`` gives upper bounds (of a lower bound its negative); ``truth`` gives numbers that none of them may be
    below, from the evidence where that is the data itself. ``power`` 2 compares squares; ``slack`` is the relative
    accuracy of a truth in float64.
    """

    name: str
    evidence: Arrays
    check: Callable[[Arrays], Numbers]
    truth: Callable[[Arrays], Numbers]
    power: int = 1
    slack: float = 0.0
    hostile: bool = True
    tight: float | None = None  # honest answers exceed the truth by at most this, relative to it or to ``floor``
    floor: float = 1.0
    both: bool = False  # answers come with their negatives, whose truths are limits: other answers may be better
    whole: bool = False  # the arrays are arguments of a function: without one of them there is no call

    def complaint(self, evidence: Arrays) -> str | None:
        """What is wrong with the answer to this evidence; None when it is valid or refused."""
        if self.whole and not evidence.keys() >= self.evidence.keys():
            return None
        try:
            with np.errstate(all="ignore"):
                answers = list(self.check(evidence))
        except REFUSALS:
            return None
        least = list(self.truth(evidence))
        if len(answers) != len(least):
            return f"{self.name}: {len(answers)} answers instead of {len(least)}"
        for answer, value in zip(answers, least, strict=True):
            if not covers(answer, value, self.power, self.slack):
                return f"{self.name}: {float(answer)!r} is below {float(value)!r}"
        return None

    def answers(self) -> np.ndarray:
        """What the evidence proves as it was proposed."""
        with np.errstate(all="ignore"):
            return np.array([float(one) for one in self.check(self.evidence)])

    def honest(self) -> str | None:
        """As `complaint`, for the evidence as it was proposed, which must prove something."""
        found = self.complaint(self.evidence)
        if found is None:
            answers = self.answers()
            found = None if np.isfinite(answers).all() else f"{self.name}: honest evidence proves nothing"
        if found is None and self.tight is not None:
            truths = np.array([float(one) for one in self.truth(self.evidence)])
            truths = truths if self.power == 1 else np.sqrt(truths)
            if (answers - truths > self.tight * np.maximum(np.abs(truths), self.floor)).any():
                found = f"{self.name}: {answers} is far above {truths}"
        return found


def covers(answer: Any, value: Any, power: int, slack: float) -> bool:
    """Whether an upper bound is at least a number; exact where both are finite."""
    if isinstance(answer, float | np.floating):
        if np.isnan(answer):
            return False
        if np.isinf(answer):
            return bool(answer > 0)
    if isinstance(value, float | np.floating) and not np.isfinite(value):
        return not value > 0
    bound, least = Fraction(answer) ** power, Fraction(value)
    return (power == 1 or answer >= 0) and bound + Fraction(slack) * abs(least) >= least


def complaints(claim: Claim, rng: np.random.Generator, other: Arrays | None = None) -> Iterator[str]:
    """What honest and corrupted evidence brings to light."""
    found = claim.honest()
    if found is not None:
        yield f"honest: {found}"
    if not claim.hostile:
        return
    with np.errstate(all="ignore"):
        wrong = list(corrupted(rng, claim.evidence, claim.evidence if other is None else other))
    for kind, arrays in wrong:
        found = claim.complaint(arrays)
        if found is not None:
            yield f"{kind}: {found}"


def constant(*values: Any) -> Callable[[Arrays], Numbers]:
    """A truth that does not depend on the evidence."""
    return lambda _evidence: values


def exact(values: Any) -> list[Fraction]:
    """Fractions of finite floats."""
    return [Fraction(float(one)) for one in np.ravel(values)]


def finite(values: Any) -> bool:
    """Whether all numbers are finite."""
    return bool(np.isfinite(np.asarray(values, dtype=float)).all())

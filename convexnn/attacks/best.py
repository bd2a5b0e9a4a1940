"""Several attacks in one: the worst point that any of them found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convexnn.attacks.base import Attack, AttackProblem
from convexnn.exceptions import InvalidInputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BestOf(Attack):
    """Every attack in turn; each sample keeps its worst point, so the result is never weaker than one of them.

    Parameters
    ----------
    attacks : sequence of Attack
    """

    attacks: tuple[Attack, ...]

    name: ClassVar[str] = "best"

    def __post_init__(self) -> None:
        """Keep a tuple; refuse what is not an attack."""
        object.__setattr__(self, "attacks", tuple(self.attacks))
        if not self.attacks or not all(isinstance(part, Attack) for part in self.attacks):
            raise InvalidInputError(f"BestOf needs one Attack or more, got {self.attacks!r}.")

    def propose(self, problem: AttackProblem) -> Iterator[Array]:
        """What the attacks propose, one attack after the other."""
        for part in self.attacks:
            yield from part.propose(problem)

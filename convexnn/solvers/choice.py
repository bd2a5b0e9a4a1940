"""Which of the own solvers ``solver="auto"`` takes: by what the interior point method would need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convexnn.quadratic.structure import QuadraticStructure
from convexnn.structure import ConeStructure, GroupNorm

#: Bytes that the interior point method may take.
MOST_MEMORY = 4 * 2.0**30
#: Seconds that it may take, on one core of ordinary speed.
MOST_SECONDS = 600.0
#: What a run takes: iterations, floating-point operations a second, arrays of the size of the cone rows.
ITERATIONS, SPEED, ROW_ARRAYS = 25, 2e10, 16
#: A cone row costs as much as so many operations of a matrix product in every iteration: it waits for memory.
ROW_COST = 3000


@dataclass(frozen=True)
class Effort:
    """Rough memory (bytes) and time (seconds) of a run of the interior point method."""

    memory: float
    seconds: float

    @property
    def is_affordable(self) -> bool:
        """Whether both are within what ``"auto"`` allows."""
        return self.memory <= MOST_MEMORY and self.seconds <= MOST_SECONDS


def is_quadratic(structure: Any) -> bool:
    """Whether a structure is that of a polynomial network, for column generation."""
    return isinstance(structure, QuadraticStructure)


def interior_point_effort(structure: ConeStructure) -> Effort:
    """Estimate from the sizes alone: rows n, units p, inputs d.

    The order of the linear system is ``min(n + rank, p (d + 1))``, see ``newton_system``; every iteration forms the
    Gram matrices of all units as well.
    """
    n, p = structure.D.shape
    width = structure.X.shape[1]
    variables = p * width
    rank = 0 if isinstance(structure.coupling, GroupNorm) else width * (width + 1) // 2
    order = min(n + rank, variables)
    entries = order * order if order == variables else order * order + 2 * (n + rank) * variables
    memory = 8.0 * (entries + ROW_ARRAYS * n * p + n * width * (width + 1) / 2)
    operations = order**3 / 3 + n * p * (ROW_COST + width**2) + (0 if order == variables else order**2 * variables)
    return Effort(memory, ITERATIONS * operations / SPEED)

"""Which of the two proofs of a slope is made, and how much work all proofs of a fit together may be.

Visiting the vertices costs what can be said before: their number times what one takes. The search over sets of sides
costs what it costs, most of the time far less in many inputs and far more in few.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from convexnn.constraints.pieces import Pieces
from convexnn.constraints.slopes import MAX_NODES, Search, smallest_slope
from convexnn.constraints.vertices import MAX_WORK, Arrangement
from convexnn.threats import Box

Array = NDArray[np.float64]

#: Numbers handled while one set of sides is tried (a linear program), in the unit of ``Arrangement.work``.
NODE_WORK = 700_000
#: Work up to which the vertices are visited without a search before: a few tenths of a second.
CHEAP_WORK = 15_000_000
RATIONAL = "rational arithmetic"


@dataclass
class Limits:
    """How much work proofs may be, and what is left of it.

    Parameters
    ----------
    max_nodes : int
        Sets of sides that one proof may try.
    deadline : float
        Of ``time.monotonic``.
    work : float
        Numbers that all proofs together may handle; each takes off what it was.
    """

    max_nodes: int = MAX_NODES
    deadline: float = math.inf
    work: float = math.inf

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        return self.work <= 0 or time.monotonic() > self.deadline

    def nodes(self, work: float) -> int:
        """Sets of sides that may be tried for so much work, at least one."""
        allowed = min(work, self.work) / NODE_WORK
        return self.max_nodes if allowed >= self.max_nodes else max(1, int(allowed))


def proved_slope(
    pieces: Pieces, direction: Array, domain: Box | None, *, target: float = math.inf, keep: int = 1,
    limits: Limits | None = None,
) -> tuple[Fraction, NDArray[np.bool_], str]:  # fmt: skip
    """Proved smallest slope, the active kinks of the pieces that have it, and how it was found.

    Few vertices are visited at once. Else the search over sets of sides comes first, with as much work as the vertices
    would be; where it ends without the target and without the smallest slope, the vertices follow if their work is
    below ``MAX_WORK`` and what is left. Beyond that the search is all there is.

    Parameters
    ----------
    pieces : Pieces
    direction : array, shape (d,)
    domain : Box or None
    target : float
        The search over sets of sides stops once this is proved.
    keep : int
        How many of the worst pieces to name.
    limits : Limits, optional
        What is proved within them is valid; the work is taken off.
    """
    left = limits or Limits()
    vertices = Arrangement(pieces, direction, domain)
    affordable = vertices.work <= min(MAX_WORK, left.work)
    if affordable and vertices.work <= CHEAP_WORK:
        visited = vertices.smallest(keep, left.deadline)
        left.work -= vertices.work
        if visited is not None:
            return visited.bound, visited.active, f"{visited.count} vertices in {RATIONAL}"
        affordable = False
    goal = Fraction(target) if math.isfinite(target) else None
    nodes = left.nodes(vertices.work if affordable else math.inf)
    found = smallest_slope(pieces, direction, domain, Search(goal, keep, nodes, left.deadline))
    left.work -= NODE_WORK * (found.nodes + 1)
    done = goal is not None and found.bound >= goal or (found.exact and len(found.active) >= keep)
    if affordable and not done and vertices.work <= left.work:
        visited = vertices.smallest(keep, left.deadline)
        left.work -= vertices.work
        if visited is not None:
            return visited.bound, visited.active, f"{visited.count} vertices in {RATIONAL}"
    return found.bound, found.active, f"{found.nodes} sets of sides in {RATIONAL}"

"""Measurements: CPU and wall seconds of one method on a list of questions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from convexnn import Network, attack
from convexnn.exceptions import ConvexNNError
from convexnn.propagation import Effort, Query
from convexnn.propagation.layer_bounds import crown_bounds
from convexnn.verification import get_certifier, methods
from convexnn.verification.registry import is_there

Bound = Callable[[Query], float]


@dataclass(frozen=True)
class Row:
    """One method on the first questions of a case; ``inf`` where it gave no bound."""

    case: str
    method: str
    peer: bool
    bounds: list[float] = field(repr=False)
    cpu: list[float] = field(repr=False)
    wall: list[float] = field(repr=False)
    note: str = ""

    @property
    def points(self) -> int:
        """Number of questions."""
        return len(self.bounds)

    def as_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measured(case: str, method: str, bound: Bound, queries: Sequence[Query], *, peer: bool, seconds: float) -> Row:
    """Ask the questions in order until ``seconds`` of CPU time are spent."""
    bounds, cpu, wall, note = [], [], [], ""
    for query in queries:
        began, clock = time.process_time(), time.monotonic()
        try:
            bounds.append(float(bound(query)))
        except (ConvexNNError, RuntimeError) as error:  # a peer that fails has no bound
            bounds.append(float("inf"))
            note = str(error)
        cpu.append(time.process_time() - began)
        wall.append(time.monotonic() - clock)
        if sum(cpu) > seconds:
            break
    return Row(case, method, peer, bounds, cpu, wall, note)


def our_rows(case: Any, queries: Sequence[Query], seconds: float) -> list[Row]:
    """Every method of ours that does not refuse the questions, to full accuracy (no stop at the sign)."""
    rows = [_attack_row(case, queries)]
    for name in methods():
        if not is_there(name) or get_certifier(name).refusal(queries[0]) is not None:
            continue
        if name in ("milp", "quadratic"):  # the mixed-integer program stands with the solvers it is the word of
            continue
        certifier = get_certifier(name)

        def bound(query: Query, certifier: Any = certifier) -> float:
            bounds = None if certifier.name == "ibp" else crown_bounds(query)
            effort = Effort(tol=1e-4, deadline=time.monotonic() + 60.0)
            evidence = certifier.propose(query, effort, bounds)
            return float(certifier.check(query, evidence.multiplier)[0])

        rows.append(measured(case.name, name, bound, queries, peer=False, seconds=seconds))
    return rows


def _attack_row(case: Any, queries: Sequence[Query]) -> Row:
    """Margins of the same pairs of classes that 20 restarts of PGD reach."""

    def reached(query: Query) -> float:
        *hidden, (W, b) = query.network.layers
        margin = Network((*hidden, (query.weights @ W, query.weights @ b + query.offset)), query.network.activation)
        x = query.inputs.centre[None] if query.inputs.has_ball else None
        point = case.X[np.newaxis, _index(case, query)] if x is None else x
        return float(attack(margin, point, [0], case.threat, steps=40, restarts=20, random_state=0).values[0])

    return measured(case.name, "attack", reached, queries, peer=False, seconds=np.inf)


def _index(case: Any, query: Query) -> int:
    """The sample around which the box of a query lies."""
    low, high = query.inputs.bounding_box()
    return int(np.flatnonzero(((case.X >= low) & (case.X <= high)).all(axis=1))[0])

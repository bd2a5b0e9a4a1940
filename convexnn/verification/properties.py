"""``verify_property``: whether a network reaches an unsafe set, by attacks, bounds and bisection of the inputs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.attacks.registry import as_seed
from convexnn.exceptions import InvalidInputError
from convexnn.exchange import Property
from convexnn.inputs import as_number, whole_number
from convexnn.network import Network, as_network
from convexnn.values import ByValue
from convexnn.verification.property_points import is_unsafe
from convexnn.verification.property_search import Group, Limits, Search
from convexnn.verification.registry import get_certifier

Array = NDArray[np.float64]

WORDS = {"holds": "unsat", "violated": "sat", "unknown": "unknown"}


@dataclass(frozen=True, eq=False)
class PropertyResult(ByValue):
    """Whether a property holds, with what shows it.

    Attributes
    ----------
    status : {"holds", "violated", "unknown"}
        Holds: no input of a case has all rows >= 0, for the real-valued network, proved with outward rounding.
        Violated: ``counterexample`` lies in the box of ``case`` without any tolerance, and its rows are ``>= 0`` in
        float64.
    counterexample : array, shape (d,), or None
    outputs : array, shape (k,), or None
        Of the network at the counterexample.
    case : int or None
        Of the counterexample.
    rigorous : bool
        For a counterexample: whether its rows are proved ``>= 0`` for the real-valued network as well.
    bounds : array, shape (cases,)
        UPPER bounds on the largest smallest row over each box; all below zero when the property holds.
    lower : array, shape (cases,)
        LOWER bounds on the same, found by attacks; ``inf`` for a case without rows.
    methods : tuple of str
        What closed each case: "rows", a method, or "bisection"; empty for open ones.
    n_boxes : int
        Boxes that were bounded.
    seconds : mapping of str to float
        Wall seconds by stage.
    reason : str
        Why the verdict is unknown.
    """

    status: str
    counterexample: Array | None
    outputs: Array | None
    case: int | None
    rigorous: bool
    bounds: Array
    lower: Array
    methods: tuple[str, ...]
    n_boxes: int
    seconds: Mapping[str, float] = field(repr=False)
    reason: str = ""

    @property
    def word(self) -> str:
        """The verdict in the words of the competition: "unsat", "sat" or "unknown"."""
        return WORDS[self.status]

    def __str__(self) -> str:
        """The verdict in a sentence; arrays are in the attributes."""
        what = {
            "holds": f"no unsafe case is reachable; the largest bound is {self.bounds.max(initial=-np.inf):.4g}",
            "violated": f"case {self.case} is reached by counterexample",
            "unknown": self.reason,
        }[self.status]
        return f"{self.status} ({self.word}): {what}"


def verify_property(
    model: Any,
    prop: Property,
    *,
    method: str = "auto",
    time_limit: float | None = None,
    max_boxes: int = 50_000,
    random_state: Any = None,
) -> PropertyResult:
    """Whether a network reaches one of the unsafe sets of a property: attack <= truth <= bound.

    Every case is attacked. A case is closed when a row, or a convex combination of its rows, is proved negative on the
    box: by backward linear bounds, then by stronger methods on the best combination, then by bisecting the box. With
    few inputs the bisection comes first.

    Parameters
    ----------
    model : Network, or anything that :func:`convexnn.as_network` reads
    prop : Property
        From :func:`convexnn.exchange.read_vnnlib`, or built.
    method : str, default "auto"
        Of :func:`convexnn.verification.methods`, used on whole boxes in place of the automatic choice.
    time_limit : float, optional
        Wall seconds.
    max_boxes : int, default 50000
        Boxes that bisection may look at.
    random_state : int, Generator, RandomState or None
        Of the starting points of the attacks.

    Raises
    ------
    InvalidInputError
        When sizes do not fit.
    """
    network = as_network(model)
    if (network.n_inputs, network.n_outputs) != (prop.n_inputs, prop.n_outputs):
        raise InvalidInputError(
            f"The property is about {prop.n_inputs} inputs and {prop.n_outputs} outputs, "
            f"the network has {network.n_inputs} and {network.n_outputs}."
        )
    max_boxes = whole_number(max_boxes, "max_boxes")
    if time_limit is not None and not as_number(time_limit, "time_limit (seconds, or None)") >= 0:
        raise InvalidInputError(f"A time limit is a nonnegative number of seconds or None, got {time_limit!r}.")
    if method != "auto":
        get_certifier(method)
    deadline = np.inf if time_limit is None else time.monotonic() + time_limit
    limits = Limits(method, deadline, max_boxes, np.random.default_rng(as_seed(random_state)))
    search = Search(network, limits, _groups(prop))
    search.run()
    return _result(network, prop, search)


def _groups(prop: Property) -> list[Group]:
    """Cases with the same box are looked at together."""
    found: dict[bytes, list[int]] = {}
    for index, case in enumerate(prop.cases):
        found.setdefault((case.lower + 0.0).tobytes() + (case.upper + 0.0).tobytes(), []).append(index)
    return [Group.of([prop.cases[i] for i in indices], indices) for indices in found.values()]


def _result(network: Network, prop: Property, search: Search) -> PropertyResult:
    bounds, lower = np.full(len(prop.cases), np.inf), np.full(len(prop.cases), -np.inf)
    methods = [""] * len(prop.cases)
    for group in search.groups:
        bounds[group.indices], lower[group.indices] = group.bounds, group.lower
        for index, name in zip(group.indices, group.methods, strict=True):
            methods[index] = name
    point, case = search.counterexample, search.violated
    outputs, rigorous, status = None, False, "unknown"
    if point is not None and case is not None:
        status, outputs = "violated", network(point[None]).reshape(-1)
        rigorous = is_unsafe(network, prop.cases[case], point)
    elif (bounds < 0).all():
        status, rigorous = "holds", True
    reason = search.stopped if status == "unknown" else ""
    return PropertyResult(
        status, point, outputs, case, rigorous, bounds, lower, tuple(methods), search.n_boxes, search.seconds, reason
    )

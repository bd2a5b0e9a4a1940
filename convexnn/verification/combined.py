"""Evidence of several methods as one: each decided some of the rows of a query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.propagation import Certifier, Effort, Evidence, Query
from convexnn.propagation.query import Check
from convexnn.verification.registry import get_certifier

Array = NDArray[np.float64]

#: Methods by the number that stands for them in evidence; new ones are added at the end.
NUMBERED = (
    "ibp", "crown", "alpha_crown", "lp", "max_gradient", "lipsdp", "sdp", "sdp_first_order", "milp", "branch_and_bound",
    "quadratic",
)  # fmt: skip

Part = tuple[tuple[int, ...], Evidence]


def combine(parts: Sequence[Part], n_rows: int) -> Evidence:
    """One evidence about all rows from parts ``(rows, evidence about these rows)``; a part about all stays as it is."""
    if len(parts) == 1 and parts[0][0] == tuple(range(n_rows)):
        return parts[0][1]
    multiplier: dict[str, Array] = {}
    for i, (rows, evidence) in enumerate(parts):
        multiplier[f"{i}/rows"] = np.asarray(rows, dtype=float)
        multiplier[f"{i}/method"] = np.array([float(NUMBERED.index(evidence.method))])
        multiplier |= {f"{i}/{key}": np.asarray(value) for key, value in evidence.multiplier.items()}
    names = tuple(evidence.method for _, evidence in parts)
    return Evidence("combined", multiplier, status="combined", details={"methods": names})


def check(query: Query, multiplier: Mapping[str, Array]) -> Array:
    """Upper bounds (q,): for every row the least over the parts that speak of it, ``inf`` where none does.

    Parameters
    ----------
    query : Query
    multiplier : mapping of str to array
        ``"<i>/rows"``, ``"<i>/method"`` and the multiplier of part i; what cannot be read proves nothing.

    Raises
    ------
    CertificateError
        When a part has a multiplier of a wrong shape.
    """
    best = np.full(query.n_rows, np.inf)
    for rows, evidence in parts_of(multiplier, query.n_rows):
        found = np.asarray(
            get_certifier(evidence.method).check(query.rows(list(rows)), evidence.multiplier), dtype=float
        )
        if found.shape != (len(rows),):
            raise CertificateError(f"The check of {evidence.method} gave bounds of shape {found.shape}.")
        best[list(rows)] = np.fmin(best[list(rows)], found)
    return best


def parts_of(multiplier: Mapping[str, Array], n_rows: int) -> Iterator[Part]:
    """Parts ``(rows, evidence about these rows)`` of a combined multiplier; those that cannot be read are left out."""
    for i in sorted({key.partition("/")[0] for key in multiplier}):
        own = {key.partition("/")[2]: value for key, value in multiplier.items() if key.partition("/")[0] == i}
        rows, method = _whole(own.pop("rows", None), n_rows), _whole(own.pop("method", None), len(NUMBERED))
        if len(rows) and len(method) == 1 and len(set(rows)) == len(rows):
            yield tuple(rows), Evidence(NUMBERED[method[0]], own)


def _whole(values: object, count: int) -> list[int]:
    """Indices 0..count-1 as they stand in a float array; none where one is not such an index."""
    numbers = np.asarray(values if values is not None else [], dtype=float).ravel()
    if not np.isin(numbers, np.arange(count)).all():
        return []
    return [int(number) for number in numbers]


def _propose(query: Query, effort: Effort, bounds: object = None) -> Evidence:
    del query, effort, bounds
    raise InvalidInputError("'combined' is evidence of other methods; ask for method='auto'.")


def _welcome(_: Query) -> None:
    """No refusal."""


# the parts have checks of their own methods, and these refuse for themselves
COMBINED = Certifier("combined", _propose, Check(check, refusal=_welcome), lambda _: "it proposes nothing of its own")

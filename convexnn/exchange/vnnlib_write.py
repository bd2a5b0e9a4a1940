"""Properties as VNN-LIB files, and counterexamples in the format of the competition."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exchange.properties import Case, Property

Array = NDArray[np.float64]


def write_vnnlib(path: str | os.PathLike[str], prop: Property) -> Path:
    """Write a property so that reading it gives the same numbers, and return the path.

    Parameters
    ----------
    path : path
    prop : Property
    """
    target = Path(path)
    target.write_text("\n".join(_lines(prop)) + "\n", encoding="utf-8")
    return target


def _lines(prop: Property) -> Iterator[str]:
    yield f"; unsafe set of a network with {prop.n_inputs} inputs and {prop.n_outputs} outputs"
    yield from (f"(declare-const X_{i} Real)" for i in range(prop.n_inputs))
    yield from (f"(declare-const Y_{j} Real)" for j in range(prop.n_outputs))
    if not prop.cases:
        yield "(assert false)"
        return
    first = prop.cases[0]
    shared = all(
        np.array_equal(case.lower, first.lower) and np.array_equal(case.upper, first.upper) for case in prop.cases
    )
    if shared:
        yield from (f"(assert {bound})" for bound in _bounds(first))
    bodies = [[*([] if shared else _bounds(case)), *_rows(case)] for case in prop.cases]
    if len(bodies) == 1:
        yield from (f"(assert {condition})" for condition in bodies[0])
        return
    yield "(assert (or"
    yield from (f"  (and {' '.join(body)})" if body else "  true" for body in bodies)
    yield "))"


def _number(value: float) -> str:
    return repr(float(value) + 0.0)  # no signed zeros


def _bounds(case: Case) -> Iterator[str]:
    for i, (low, high) in enumerate(zip(case.lower, case.upper, strict=True)):
        yield f"(>= X_{i} {_number(low)})"
        yield f"(<= X_{i} {_number(high)})"


def _rows(case: Case) -> Iterator[str]:
    for row, input_row, offset, strict in zip(case.rows, case.input_rows, case.offset, case.strict, strict=True):
        named = [(f"Y_{j}", row[j]) for j in np.flatnonzero(row)]
        named += [(f"X_{i}", input_row[i]) for i in np.flatnonzero(input_row)]
        yield _row(named, float(offset), ">" if strict else ">=")


def _row(named: list[tuple[str, float]], offset: float, sign: str) -> str:
    """One condition, in the short forms that every reader knows where there is one."""
    if len(named) == 1 and named[0][1] == 1.0:
        return f"({sign} {named[0][0]} {_number(-offset)})"
    if len(named) == 1 and named[0][1] == -1.0:
        return f"({sign.replace('>', '<')} {named[0][0]} {_number(offset)})"
    if offset == 0.0 and sorted(value for _, value in named) == [-1.0, 1.0]:
        (small,), (large,) = ([name for name, value in named if value == target] for target in (-1.0, 1.0))
        return f"({sign} {large} {small})"
    terms = " ".join(f"(* {_number(value)} {name})" for name, value in named)
    total = f"(+ {terms})" if named else "0.0"
    return f"({sign} {total} {_number(-offset)})"


def counterexample_text(x: ArrayLike | None, y: ArrayLike | None, verdict: str = "sat") -> str:
    """What the competition asks for: the verdict, then every input and output with its value.

    Parameters
    ----------
    x : array, shape (d,), or None
        Without it only the verdict is written.
    y : array, shape (k,), or None
    verdict : str
        "sat", "unsat" or "unknown".
    """
    if x is None or y is None:
        return f"{verdict}\n"
    entries = [f"(X_{i} {_number(value)})" for i, value in enumerate(np.asarray(x).ravel())]
    entries += [f"(Y_{j} {_number(value)})" for j, value in enumerate(np.asarray(y).ravel())]
    return f"{verdict}\n(" + "\n".join(entries) + ")\n"

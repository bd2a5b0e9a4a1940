"""Guard in front of generic conic solvers: what a cvxpy program would take is estimated before it is compiled.

A dense matrix inequality of order M has M (M + 1) / 2 entries, and an interior point method that keeps their block
needs the square of that: 2 GB at M = 110, 120 GB at M = 310. The machine should not find out by swapping. A sparse one
is split into its cliques, as Clarabel does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError, SolverError

if TYPE_CHECKING:
    import cvxpy

#: Environment variable with the allowed memory in GiB, "inf" to switch the guard off.
VARIABLE = "CONVEXNN_MEMORY_LIMIT"
GIB = 2.0**30
#: Bytes that a nonzero of the constraint matrix takes in cvxpy's compilation and in the solver together (measured).
PER_NONZERO = 200.0
#: Bytes per square of the number of entries of a matrix inequality, for solvers that keep the dense block (measured).
PER_SQUARED_ENTRY = 50.0
#: Orders above this are taken as dense.
MOST_SPARSE = 3000

_LIMIT: ContextVar[float | None] = ContextVar("convexnn_memory_limit", default=None)


@contextmanager
def memory_limit(gib: float) -> Iterator[None]:
    """Allow reference programs up to ``gib`` GiB within a ``with`` block of this thread; ``inf`` allows everything.

    Without it the limit is the environment variable ``CONVEXNN_MEMORY_LIMIT`` (GiB), else what the machine has free.
    """
    token = _LIMIT.set(_checked(gib) * GIB)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def _checked(gib: Any) -> float:
    try:
        value = float(gib)
    except (TypeError, ValueError):
        value = math.nan
    if not value > 0:
        raise InvalidInputError(f"A memory limit in GiB must be a positive number or inf, got {gib!r}.")
    return value


def available_memory() -> float:
    """Bytes that may still be taken: the limit that was set, else what is free here; inf where that is not known."""
    limit = _LIMIT.get()
    if limit is not None:
        return limit
    if VARIABLE in os.environ:
        return _checked(os.environ[VARIABLE]) * GIB
    return min(_free_on_machine(), _free_in_group())


def _free_on_machine() -> float:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return 1024.0 * float(found["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        pass
    try:  # no /proc: half of the physical memory
        return 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return math.inf


def _free_in_group(root: str = "/sys/fs/cgroup") -> float:
    """Bytes left in the control group of a container."""
    try:
        most = (Path(root) / "memory.max").read_text(encoding="ascii").strip()
        used = (Path(root) / "memory.current").read_text(encoding="ascii").strip()
        return math.inf if most == "max" else max(float(most) - float(used), 0.0)
    except (OSError, ValueError):
        return math.inf


def estimated_memory(problem: cvxpy.Problem, solver: str) -> float:
    """Bytes that compiling and solving a problem will take at the least, from its expressions alone; a rough figure.

    Parameters
    ----------
    problem : cvxpy.Problem
        Not compiled by this.
    solver : str
        SCS keeps no dense block of a matrix inequality; the others are counted with one.
    """
    known: dict[int, float] = {}
    entries = sum(nonzeros(argument, known) for part in problem.constraints for argument in part.args)
    memory = PER_NONZERO * (entries + nonzeros(problem.objective.expr, known))
    for pattern in _matrix_patterns(problem):
        memory += PER_NONZERO * _triangle(len(pattern))
        if solver.lower() != "scs":
            memory += PER_SQUARED_ENTRY * sum(_triangle(order) ** 2 for order in clique_orders(pattern))
    return memory


def _triangle(order: int) -> float:
    return order * (order + 1) / 2


def _matrix_patterns(problem: cvxpy.Problem) -> list[NDArray[np.bool_]]:
    """Entries of every matrix inequality that may differ from zero: those that do at random values of the variables."""
    import cvxpy as cp

    inequalities = [part.args[0] for part in problem.constraints if isinstance(part, cp.constraints.PSD)]
    dense = [np.ones(each.shape, dtype=bool) for each in problem.variables() if each.attributes["PSD"]]
    kept = {variable: variable.value for each in inequalities for variable in each.variables()}
    rng = np.random.default_rng(0)
    try:
        for variable in kept:
            variable.save_value(rng.uniform(0.5, 1.0, variable.shape))
        return dense + [np.asarray(each.value != 0) for each in inequalities]
    finally:
        for variable, value in kept.items():
            variable.save_value(value)


def clique_orders(pattern: NDArray[np.bool_]) -> list[int]:
    """Orders of the cliques that a sparse matrix inequality can be split into, by elimination of least degree."""
    size = len(pattern)
    if size > MOST_SPARSE or pattern.all():
        return [size]
    neighbors = [int.from_bytes(np.packbits(row, bitorder="little").tobytes(), "little") for row in pattern | pattern.T]
    left = set(range(size))
    cliques: list[int] = []
    for _ in range(size):
        vertex = min(left, key=lambda k: (neighbors[k] & ~(1 << k)).bit_count())
        clique = neighbors[vertex] | 1 << vertex
        if not any(clique & ~other == 0 for other in cliques):
            cliques.append(clique)
        left.remove(vertex)
        for k in left:
            if clique >> k & 1:
                neighbors[k] = (neighbors[k] | clique) & ~(1 << vertex)
    return [clique.bit_count() for clique in cliques]


def nonzeros(expression: Any, known: dict[int, float]) -> float:
    """About how many (entry, variable) pairs an expression has: what it adds to the constraint matrix.

    Parameters
    ----------
    expression : cvxpy.Expression
    known : dict
        Figures of expressions that were met before, by identity.
    """
    if id(expression) not in known:
        known[id(expression)] = _count(expression, known)
    return known[id(expression)]


def _count(expression: Any, known: dict[int, float]) -> float:
    arguments = list(expression.args)
    if not arguments:
        return float(expression.size) if expression.variables() else 0.0
    counts = [nonzeros(each, known) for each in arguments]
    if type(expression).__name__ == "MulExpression" and len(arguments) == 2:
        left, right = arguments
        rows = left.shape[0] if left.ndim == 2 else 1
        columns = right.shape[1] if right.ndim == 2 else 1
        return counts[0] * columns + counts[1] * rows  # every entry of one factor meets the other's rows or columns
    together = sum(counts)
    if len(arguments) == 1 and arguments[0].size:  # an index keeps a share, a promotion repeats, a sum keeps all
        ratio = expression.size / arguments[0].size
        is_index = type(expression).__name__ in ("index", "special_index")
        return together * ratio if is_index or ratio > 1 and type(expression).__name__ == "Promote" else together
    return together


def require_memory(problem: cvxpy.Problem, solver: str, instead: str) -> None:
    """Raise before a problem is compiled that this machine could not hold.

    Parameters
    ----------
    problem : cvxpy.Problem
    solver : str
    instead : str
        The structured alternative, as the beginning of a sentence.

    Raises
    ------
    SolverError
    """
    need = estimated_memory(problem, solver)
    if need > available_memory():
        _require(need, max(map(len, _matrix_patterns(problem)), default=0), solver, instead)


def require_room(entries: float, orders: Sequence[int], solver: str, instead: str) -> None:
    """Raise before a program that is stated without cvxpy is handed to a solver that this machine could not hold.

    Parameters
    ----------
    entries : float
        Nonzeros of the constraint matrix.
    orders : sequence of int
        Of dense matrix inequalities.
    solver, instead : str
        As in :func:`require_memory`.

    Raises
    ------
    SolverError
    """
    squares = 0.0 if solver.lower() == "scs" else PER_SQUARED_ENTRY
    need = PER_NONZERO * entries
    need += sum(PER_NONZERO * _triangle(order) + squares * _triangle(order) ** 2 for order in orders)
    _require(need, max(orders, default=0), solver, instead)


def _require(need: float, largest: int, solver: str, instead: str) -> None:
    free = available_memory()
    if need <= free:
        return
    why = f" (matrix inequalities up to order {largest})" if largest else ""
    raise SolverError(
        f"This program would take about {need / GIB:.2g} GiB in {solver.lower()}{why}; {free / GIB:.2g} GiB are free. "
        f"{instead}, or allow it by `with convexnn.memory.memory_limit(gib)` or the environment variable {VARIABLE}."
    )

"""Projected descent on slopes and tensions of backward linear bounds, all rows at once; nothing here is believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation.backward import Choice
from convexnn.propagation.query import Effort, Signs
from convexnn.propagation.slopes import SlopeProblem

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Attained = Callable[[Array], Array]

#: Length of the first steps in units of a share; of n steps the last has ``LAST / n`` of it.
FIRST_STEP, LAST = 0.3, 0.3
#: Memories of the running mean and of the running square: short, since a descent has tens of steps.
MEAN, SQUARE = 0.75, 0.9
#: Share of the tolerance that the last steps must gain to go on, once this share of all steps is done.
SETTLED, PATIENCE = 0.1, 0.8
#: Steps between two looks at the true outputs and at the progress.
LOOK = 10


@dataclass
class Variables:
    """Shares and scaled tensions of some rows with their running moments, one array (q, units) a layer.

    A tension is ``sign * scale * value`` with ``value >= 0``; the scale is that of the weights of the row in the layer.
    """

    values: list[Array]
    factors: list[Array | None]
    moments: list[Array] = field(default_factory=list)
    squares: list[Array] = field(default_factory=list)

    @classmethod
    def start(cls, problem: SlopeProblem, signs: Signs | None) -> Variables:
        """The slopes that are good for all and no tension."""
        shares: list[Array] = []
        factors: list[Array | None] = []
        A = problem.A
        for k in range(len(problem.layers) - 1, -1, -1):
            layer = problem.layers[k]
            shares.insert(0, layer.shares(A))
            sign = None if signs is None else np.asarray(signs[k], dtype=np.float64)
            scale = np.max(np.abs(A), axis=1, keepdims=True, initial=0.0)
            factors.insert(0, None if sign is None or not sign.any() else np.where(scale > 0, scale, 1.0) * sign)
            A = (A * layer.slopes(A)) @ layer.W
        tensions = [np.zeros_like(share) for share, factor in zip(shares, factors, strict=True) if factor is not None]
        values = shares + tensions
        zeros = [np.zeros_like(value) for value in values]
        return cls(values, factors, zeros, [zero.copy() for zero in zeros])

    def choice(self) -> Choice:
        """What the backward pass needs."""
        rest = iter(self.values[len(self.factors) :])
        tensions = [None if factor is None else factor * next(rest) for factor in self.factors]
        return Choice(self.values[: len(self.factors)], tensions)

    def rows(self, index: Index) -> Variables:
        """Those of some rows."""
        factors = [None if factor is None else factor[index] for factor in self.factors]
        parts = (self.values, self.moments, self.squares)
        values, moments, squares = ([array[index] for array in part] for part in parts)
        return Variables(values, factors, moments, squares)

    def step(self, gradient: Choice, length: float, number: int) -> None:
        """One step of Adam, projected: shares into [0, 1], tensions to nonnegative multiples of their signs."""
        n = len(self.factors)
        pairs = zip(self.factors, gradient.tensions, strict=True)
        scaled = [f * g for f, g in pairs if f is not None and g is not None]
        slopes = [G for G in gradient.shares if G is not None] + scaled
        for i, G in enumerate(slopes):
            self.moments[i] = MEAN * self.moments[i] + (1.0 - MEAN) * G
            self.squares[i] = SQUARE * self.squares[i] + (1.0 - SQUARE) * G * G
            mean, square = self.moments[i] / (1.0 - MEAN**number), self.squares[i] / (1.0 - SQUARE**number)
            moved = self.values[i] - length * mean / (np.sqrt(square) + 1e-300)
            self.values[i] = np.clip(moved, 0.0, 1.0 if i < n else np.inf)


@dataclass
class Descent:
    """What a descent found: the best choice of every row, its value (not rounded), and how it ended.

    Attributes
    ----------
    best : array, shape (q,)
    variables : Variables
        Of all rows, at their best, for the units that are alive.
    live : list of int arrays
        Which these are in each layer.
    points : array, shape (q, d)
        Worst inputs of the relaxation there.
    done : array of bool, shape (q,)
        Rows that are below the target, or cannot be.
    hopeless : array of bool, shape (q,)
        Rows that are not below the target at some input.
    status : str
    iterations : int
    """

    best: Array
    variables: Variables
    live: list[Index]
    points: Array
    done: NDArray[np.bool_]
    hopeless: NDArray[np.bool_]
    status: str = "max_iter"
    iterations: int = 0

    @classmethod
    def start(cls, variables: Variables, live: list[Index], shape: tuple[int, int]) -> Descent:
        """Nothing found yet."""
        none = np.zeros(shape[0], dtype=bool)
        rows = variables.rows(np.arange(shape[0]))
        return cls(np.full(shape[0], np.inf), rows, live, np.zeros(shape), none, none.copy())

    def choice(self, units: Sequence[int]) -> Choice:
        """The best shares and tensions for all units, given their numbers in each layer; nan for the dead ones."""
        found = self.variables.choice()

        def widen(values: Array | None, k: int) -> Array | None:
            if values is None:
                return None
            wide = np.full((len(values), units[k]), np.nan)
            wide[:, self.live[k]] = values
            return wide

        pairs = (found.shares, found.tensions)
        return Choice(*([widen(values, k) for k, values in enumerate(part)] for part in pairs))

    def keep(self, rows: Index, value: Array, variables: Variables, points: Array, target: float) -> None:
        """Store what is better than before."""
        better = value < self.best[rows]
        self.best[rows] = np.where(better, value, self.best[rows])
        for mine, new in zip(self.variables.values, variables.values, strict=True):
            mine[rows[better]] = new[better]
        self.points[rows[better]] = points[better]
        self.done[rows] |= self.best[rows] < target - 1e-9 * np.maximum(1.0, np.abs(self.best[rows]))


def descend(
    problem: SlopeProblem, signs: Signs | None, effort: Effort, steps: int, attained: Attained | None = None
) -> Descent:
    """Small bounds by projected descent with shrinking steps; the best of every row is kept.

    Parameters
    ----------
    problem : SlopeProblem
    signs : tuple of arrays, optional
        Of the query: where they are not zero, tensions are optimized too.
    effort : Effort
        A row rests once it is below ``stop_below``, or known not to be; with ``first_failure`` that ends the descent.
    steps : int
        When the effort says nothing.
    attained : callable, optional
        True values of the rows at inputs, (n, d) to (n, q).
    """
    problem, live = problem.without_dead(signs)
    state = Variables.start(problem, None if signs is None else tuple(s[u] for s, u in zip(signs, live, strict=False)))
    total = steps if effort.max_iter is None else max(effort.max_iter, 1)
    target = -np.inf if effort.stop_below is None else effort.stop_below
    found = Descent.start(state, live, (len(problem.A), problem.inputs.centre.size))
    rows, seen = np.arange(len(problem.A)), np.full(len(problem.A), np.inf)
    with np.errstate(all="ignore"):
        for number in range(1, total + 1):
            value, gradient, points = problem.rows(rows).value_and_gradient(state.choice())
            found.keep(rows, value, state, points, target)
            found.iterations = number
            if number % LOOK == 1:
                _look(found, rows, target, attained)
            found.status = _ended(found, seen, effort, number, total)
            if found.status != "max_iter":
                break
            seen = found.best.copy() if number % LOOK == 0 else seen
            state.step(gradient, FIRST_STEP * min(LAST / total, 1.0) ** (number / total), number)
            if found.done[rows].any():
                left = ~found.done[rows]
                state, rows = state.rows(np.flatnonzero(left)), rows[left]
    return found


def _look(found: Descent, rows: Index, target: float, attained: Attained | None) -> None:
    """Rows that are not below the target at the worst input of the relaxation give up."""
    if attained is None or target == -np.inf:
        return
    reached = attained(found.points[rows])[np.arange(len(rows)), rows]
    found.hopeless[rows] = reached >= target
    found.done[rows] |= found.hopeless[rows]


def _ended(found: Descent, seen: Array, effort: Effort, number: int, total: int) -> str:
    """The status with which the descent ends, "max_iter" where it goes on."""
    if found.done.all() or (effort.first_failure and found.hopeless.any()):
        return "hopeless" if found.hopeless.any() else "below"
    if effort.out_of_time():
        return "time_limit"
    if number % LOOK or number < PATIENCE * total:  # long steps gain nothing for a while
        return "max_iter"
    going = ~found.done
    gain = (seen - found.best)[going] / np.maximum(1.0, np.abs(found.best[going]))
    return "optimal" if np.all(gain <= SETTLED * effort.tol) else "max_iter"

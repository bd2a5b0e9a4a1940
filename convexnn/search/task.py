"""What stays fixed during a search, and how a proposal becomes a point: solve, decode, recompute the objective."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError, SolverError, SolverWarning
from convexnn.losses import Squared, get_loss
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.program import Solution
from convexnn.restrictions.base import ConeProgram
from convexnn.restrictions.catalog import PROGRAMS
from convexnn.restrictions.rows import DistinctRows, distinct_rows
from convexnn.search.objective import TrainingObjective
from convexnn.search.options import SearchOptions
from convexnn.solvers import solve
from convexnn.structure import ConeStructure

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: A unit with a smaller share of the regularizer than this times the largest share is dead.
DEAD = 1e-5


@dataclass(frozen=True, eq=False)
class Cells:
    """A proposal: one cell (pattern and sign) a unit, and a point in or near them.

    Attributes
    ----------
    D : array of bool, shape (n, p)
        On the distinct rows.
    s : array, shape (p,)
    U : array, shape (p, d + 1)
        Merged units in the coordinates of the program.
    """

    D: Bool
    s: Array
    U: Array

    def __len__(self) -> int:
        """Count the units."""
        return len(self.s)

    def select(self, index: NDArray[np.intp] | Bool) -> Cells:
        """The units ``index``."""
        return Cells(self.D[:, index], self.s[index], self.U[index])

    def joined(self, other: Cells) -> Cells:
        """All units of both, without summing anything."""
        return Cells(np.hstack([self.D, other.D]), np.r_[self.s, other.s], np.vstack([self.U, other.U]))

    def keys(self) -> list[bytes]:
        """One name a cell: equal names, equal cells."""
        packed = np.packbits(np.vstack([self.D, self.s[None] > 0]), axis=0).T
        return [row.tobytes() for row in packed]

    def merged(self) -> Cells:
        """One unit a cell: the units of a cell summed, which no norm minds and no prediction notices."""
        first: dict[bytes, int] = {}
        target = [first.setdefault(key, len(first)) for key in self.keys()]
        U = np.zeros((len(first), self.U.shape[1]))
        np.add.at(U, target, self.U)
        keep = np.unique(target, return_index=True)[1]
        return Cells(self.D[:, keep], self.s[keep], U)


@dataclass(frozen=True, eq=False)
class SearchPoint:
    """A solved program, its network and the network's own objective."""

    program: ConeProgram
    solution: Solution
    network: Network
    value: float

    @cached_property
    def structure(self) -> ConeStructure:
        """Data, patterns and regularizer on the distinct rows."""
        return self.program.structure()

    @property
    def cells(self) -> Cells:
        """Cells and units of the solution."""
        return Cells(self.program.patterns.D, self.program.patterns.s, self.solution.z)

    @cached_property
    def slopes(self) -> Array:
        """Multiplier p of the prediction equation, sum zero: ``2 om (f - y)``, shape (n,)."""
        s, dual = self.structure, self.solution.dual
        p = self.program.residual_multiplier(self.solution.z) if dual is None else dual.residual
        centred: Array = p - s.weight * p.sum()
        return centred

    @cached_property
    def shares(self) -> Array:
        """What each unit weighs in the regularizer, up to a factor, shape (p,)."""
        dual, k = self.solution.dual, self.structure.n_weights
        weights = self.solution.z[:, :k]
        if dual is None or dual.matrix is None:
            shares: Array = np.linalg.norm(weights, axis=1)
            return shares
        M = dual.matrix[:k, :k]
        return np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", weights, M + 1e-9 * np.trace(M) * np.eye(k), weights), 0.0))

    @property
    def alive(self) -> Bool:
        """Which units have a share, shape (p,)."""
        living: Bool = self.shares > DEAD * self.shares.max(initial=0.0)
        return living


@dataclass(frozen=True, eq=False)
class SearchTask:
    """Data, objective, solver and limits of one search.

    Attributes
    ----------
    objective : TrainingObjective
        Judges every network, on the data as they were given.
    options : SearchOptions
    max_units : int
        Most hidden units of a network that may be accepted.
    width : int
        Networks are filled up with zero units to this number.
    deadline : float
        Of ``time.perf_counter``; infinite without a time limit.
    """

    objective: TrainingObjective
    options: SearchOptions
    max_units: int
    width: int
    deadline: float

    @cached_property
    def rows(self) -> DistinctRows:
        """The distinct rows, as the programs see them."""
        target = self.objective
        return distinct_rows(target.X, target.y, target.sample_weight, with_targets=not self.is_squared)

    @property
    def is_squared(self) -> bool:
        """Whether the loss is the squared one: then rows of equal inputs are one row."""
        return isinstance(get_loss(self.objective.loss), Squared)

    @property
    def expired(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() >= self.deadline

    def original(self, D: Bool) -> Bool:
        """Patterns of the rows as given from those of the distinct rows; never active on rows of weight zero."""
        full = np.zeros((len(self.objective.X), D.shape[1]), dtype=bool)
        full[self.rows.used] = D[self.rows.inverse]
        return full

    def program(self, D: Bool, s: Array) -> ConeProgram:
        """The convex program of the cells ``(D, s)`` on the distinct rows."""
        target, fresh = self.objective, self.rows.fresh
        first = np.maximum.accumulate(np.where(fresh, np.arange(len(fresh)), 0))  # equal inputs have one pattern
        return PROGRAMS[target.regularizer](
            target.X,
            target.y,
            ActivationPatterns(self.original(D[first]), s),
            lam=target.lam,
            sample_weight=target.sample_weight,
            loss=target.loss,
        )

    def solve(self, cells: Cells) -> SearchPoint | None:
        """Solve the program of the cells from their point; None when there is no usable solution."""
        options = self.options
        program = self.program(cells.D, cells.s)
        left = self.deadline - time.perf_counter()
        # a proposal is only worth what the accept test says: no generic solver has to stand in for a hard one
        solver = "interior_point" if options.solver == "auto" else options.solver
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SolverWarning)
                solution = solve(
                    program,
                    solver=solver,
                    tol=options.tol,
                    max_iter=options.max_iter,
                    time_limit=max(left, 1e-3) if np.isfinite(left) else None,
                    start=cells.U,
                )
        except (SolverError, InvalidInputError):
            return None
        return self.point(program, solution)

    def solve_patterns(self, network: Network) -> SearchPoint | None:
        """Solve the program of the network's own patterns."""
        active = (network.W != 0).any(axis=1) & (network.v != 0)
        if not active.any():
            return None
        trimmed = Network.shallow(network.W[active], network.b[active], network.v[active], network.c)
        D = trimmed.pre_activations(self.rows.X)[0] >= 0
        s = np.where(trimmed.v >= 0, 1.0, -1.0)
        program = self.program(D, s)
        return self.solve(Cells(D, s, program.merge(trimmed)).merged())

    def point(self, program: ConeProgram, solution: Solution) -> SearchPoint | None:
        """The solution with its network, judged by the network alone; None when it holds no finite numbers."""
        if not np.isfinite(solution.z).all():
            return None
        network = tidy(program.decode(solution.z), self.width)
        return SearchPoint(program, solution, network, self.objective(network))


def tidy(network: Network, width: int) -> Network:
    """Without zero units, then with as many zero units as make up ``width``; the function is the same."""
    used = (network.W.any(axis=1) | (network.b != 0)) & (network.v != 0)
    more = max(width - int(used.sum()), 0 if used.any() else 1)
    W = np.vstack([network.W[used], np.zeros((more, network.n_inputs))])
    return Network.shallow(W, np.r_[network.b[used], np.zeros(more)], np.r_[network.v[used], np.zeros(more)], network.c)

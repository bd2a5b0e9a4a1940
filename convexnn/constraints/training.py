"""``train_constrained``: the network with guaranteed properties, and what the guarantee costs at most and at least."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.constraints.caps import CapProgram
from convexnn.constraints.finish import finished
from convexnn.constraints.guarantees import Guarantees, guarantees
from convexnn.constraints.layout import Layout, Point, layout_of
from convexnn.constraints.program import Demands, Solved, solve_shape
from convexnn.constraints.proofs import Limits
from convexnn.constraints.repair import resized, violations
from convexnn.constraints.rows import anchor_rows, joined, necessary_rows, no_rows, worst_rows
from convexnn.constraints.shape import resolve, shape_of
from convexnn.constraints.values import Constraint
from convexnn.exceptions import InvalidInputError
from convexnn.inputs import is_one_of, positive_number, seconds_or_none, whole_number
from convexnn.losses import Loss
from convexnn.network import Network, as_network
from convexnn.patterns import sample_gates
from convexnn.restrictions.rows import check_inputs
from convexnn.training import Trainer, pretrain
from convexnn.values import ByValue

Array = NDArray[np.float64]

REGULARIZERS = ("l2", "lipschitz")


@dataclass(frozen=True)
class ConstrainedOptions:
    """How a constrained network is searched for.

    Parameters
    ----------
    rounds : int, default 4
        Rounds of pieces that are added to the necessary program, and of sizes fitted after each.
    tol : float, default 1e-6
        Relative gap asked of every convex program; the gap that is published is recomputed.
    close : float, default 1e-4
        Relative distance of the best network to the lower bound at which the search stops.
    max_nodes : int, default 5000
        Effort of one proof of a slope for networks with many inputs.
    max_work : float, default 1e9
        Effort of all proofs of slopes while better networks are searched for, in numbers handled: some 15 ns each.
        The rounds end when it is spent; what is the best network then is proved once more and returned.
    solver : {"clarabel", "scs", "mosek"}
    time_limit : float or None
        Seconds; the sufficient program is always solved, and the network that is returned always proved.
    """

    rounds: int = 4
    tol: float = 1e-6
    close: float = 1e-4
    max_nodes: int = 5000
    max_work: float = 1e9
    solver: str = "clarabel"
    time_limit: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, before any work is done."""
        for name in ("rounds", "max_nodes"):
            object.__setattr__(self, name, whole_number(getattr(self, name), name, 0))
        positive_number(self.tol, "tol")
        positive_number(self.close, "close", zero=True)
        positive_number(self.max_work, "max_work", zero=True, infinite=True)
        seconds_or_none(self.time_limit)


@dataclass(frozen=True, eq=False)
class ConstrainedTraining(ByValue):
    """A network that provably keeps its constraints, with a bracket of the best one.

    Attributes
    ----------
    network : Network
    guarantees : Guarantees
        One or two lines a constraint; all hold.
    objective : float
        Training objective of ``network``: mean loss plus ``lam`` times the regularizer.
    lower_bound : float
        Proved: no network on these cells (that is differentiable at the data) which keeps the constraints has a
        smaller objective. From the program that asks the constraints at the data alone.
    free_objective, free_lower_bound : float
        The optimum on the same cells without any constraint lies between the two.
    programs : tuple of Solved
        The convex programs, with verified gaps: "free", "necessary", "sufficient" and those with pieces added.
    source : str
        Where the network came from: "sufficient", "necessary" or "pieces k", plain or with "sizes" fitted.
    seconds : float
    """

    network: Network
    guarantees: Guarantees
    objective: float
    lower_bound: float
    free_objective: float
    free_lower_bound: float
    programs: tuple[Solved, ...] = field(repr=False)
    source: str
    seconds: float

    @property
    def gap(self) -> float:
        """Relative distance of the objective to the lower bound of all networks on these cells."""
        return max(self.objective - self.lower_bound, 0.0) / max(abs(self.objective), 1e-300)

    @property
    def price(self) -> tuple[float, float]:
        """What the constraints cost: the optimum with them minus the one without lies between these, same cells."""
        lowest = max(self.lower_bound - self.free_objective, 0.0)
        return lowest, self.objective - self.free_lower_bound

    def __str__(self) -> str:
        """Objective, bracket and guarantees."""
        return (
            f"{self.network} objective {self.objective:.6g}; best with these constraints on these cells >= "
            f"{self.lower_bound:.6g}; without constraints {self.free_objective:.6g}\n{self.guarantees}"
        )


def train_constrained(
    X: ArrayLike,
    y: ArrayLike,
    constraints: Any,
    *,
    lam: float = 1e-2,
    regularizer: str = "l2",
    start: Any = "random",
    hidden_units: int = 50,
    loss: str | Loss = "squared",
    sample_weight: ArrayLike | None = None,
    feature_names: Sequence[str] | None = None,
    random_state: Any = None,
    options: ConstrainedOptions | None = None,
) -> ConstrainedTraining:
    """Train a shallow ReLU network with a linear term that provably keeps the given constraints, everywhere.

    Minimizes ``mean loss + lam sum_i (|(w_i, b_i)|^2 + v_i^2)`` on the cells of a start network, by convex programs:
    one whose points surely keep the constraints, one that asks them at the data alone (a lower bound), and rounds that
    add pieces on which the latter fails. The best network whose constraints are proved from its weights is returned.

    Implements: docs/theory/shape_constraints.md, Theorem 1.

    Parameters
    ----------
    X : array-like, shape (n, d)
        Raw units.
    y : array-like, shape (n,)
    constraints : Constraint or sequence of them
        :class:`Monotone`, :class:`SlopeBounds`, :class:`Convex`, :class:`Concave`, :class:`UpperBound`,
        :class:`LowerBound`, :class:`Even`, :class:`Odd`, :class:`Invariant`, :class:`FixedValue`,
        :class:`FixedGradient`, in any combination that is not contradictory.
    lam : float, default 1e-2
    regularizer : {"l2", "lipschitz"}
        What ``lam`` weighs: the sum of squares as above, or the square of LipSDP, an upper bound on the Lipschitz
        constant, of the network with equal hyperplanes as one unit and what is affine as a linear term.
    start : "random", name of a trainer, Trainer, Network or model, default "random"
        Only the cells of its hidden units matter: the start itself usually breaks the constraints. "random" samples
        gates.
    hidden_units : int, default 50
        Of a sampled or trained start; the network may have up to twice as many (a sign each), times the order of the
        group of symmetries, and two for the linear term.
    loss : str or Loss, default "squared"
    sample_weight : array-like, shape (n,), optional
    feature_names : sequence of str or None
        For constraints that name features.
    random_state : int or None
    options : ConstrainedOptions or None

    Returns
    -------
    ConstrainedTraining

    Raises
    ------
    InvalidInputError
        For contradictory constraints, or when no network on these cells was found that keeps them.
    """
    began = time.perf_counter()
    chosen = options or ConstrainedOptions()
    inputs = check_inputs(X)
    if not is_one_of(regularizer, REGULARIZERS):
        raise InvalidInputError(f"regularizer={regularizer!r} was given; expected one of {', '.join(REGULARIZERS)}.")
    asked = resolve(constraints, inputs.shape[1], feature_names)
    shape = shape_of(asked, inputs.shape[1])
    gates = _gates(start, inputs, y, hidden_units, loss, sample_weight, random_state)
    settings: dict[str, Any] = {"lam": lam, "sample_weight": sample_weight, "loss": loss}
    settings["lipschitz"] = regularizer == "lipschitz"
    free_layout = layout_of(inputs, y, gates, shape_of((), inputs.shape[1]), **settings)
    layout = layout_of(inputs, y, gates, shape, **settings)
    run = _Run(layout, asked, chosen, began)
    free = run.solve(Demands("free", no_rows(free_layout)), free_layout)
    run.search()
    found = run.proved()
    if found is None:
        raise InvalidInputError(_refusal(run))
    network, proofs, objective, source = found
    return ConstrainedTraining(
        network, proofs, objective, min(run.lower, objective),
        math.inf if free is None else free.objective, -math.inf if free is None else free.lower_bound,
        tuple(run.programs), source, time.perf_counter() - began,
    )  # fmt: skip


def _gates(
    start: Any, X: Array, y: ArrayLike, units: int, loss: Any, sample_weight: ArrayLike | None, random_state: Any
) -> Network:
    if isinstance(start, str) and start == "random":
        W, b = sample_gates(X, units, random_state=random_state)
        return Network.shallow(W, b, np.ones(len(W)))
    if isinstance(start, str | Trainer):
        result = pretrain(
            X, y, hidden_units=units, method=start, loss=loss, sample_weight=sample_weight, random_state=random_state
        )
        return result.network
    return as_network(start)


def _refusal(run: _Run) -> str:
    solved = [item.name for item in run.programs]
    if "necessary" not in solved:
        return (
            "The constraints cannot be kept on these cells, not even at the data: they contradict each other or the "
            "cells are too few; raise hidden_units or drop a constraint."
        )
    broken = "; ".join(str(item) for item in run.failed) or "the sufficient program has no feasible point"
    return f"No network was found whose constraints could be proved: {broken}. Raise hidden_units or drop a constraint."


class _Run:
    """Programs in turn; the best network with proofs is kept."""

    def __init__(
        self, layout: Layout, asked: tuple[Constraint, ...], options: ConstrainedOptions, began: float
    ) -> None:
        self.layout, self.asked, self.options = layout, asked, options
        left = math.inf if options.time_limit is None else options.time_limit - (time.perf_counter() - began)
        self.limits = Limits(options.max_nodes, time.monotonic() + left, options.max_work)
        self.programs: list[Solved] = []
        self.kept: list[tuple[Network, float, str]] = []  # every one better than the one before
        self.failed: list[Any] = []
        self.lower = -math.inf

    @property
    def best(self) -> float:
        """Objective of the best network so far."""
        return self.kept[-1][1] if self.kept else math.inf

    def proved(self) -> tuple[Network, Guarantees, float, str] | None:
        """The best network whose guarantees hold, as they are proved from its weights alone."""
        for network, objective, source in reversed(self.kept):
            proofs = guarantees(network, self.asked, max_nodes=self.options.max_nodes)
            if proofs.hold:
                return network, proofs, objective, source
            self.failed = [item for item in proofs if not item.holds]
        return None

    def solve(self, demands: Demands, layout: Layout | None = None) -> Solved | None:
        """Solve a program and keep its numbers."""
        o = self.options
        solved = solve_shape(layout or self.layout, demands, solver=o.solver, tol=o.tol, time_limit=o.time_limit)
        if solved is not None:
            self.programs.append(solved)
        return solved

    def search(self) -> None:
        """Necessary and sufficient program, then rounds of pieces."""
        anchors = anchor_rows(self.layout)
        rows = joined(anchors, necessary_rows(self.layout))
        necessary = self.solve(Demands("necessary", rows))
        if necessary is None:
            return
        self.lower = necessary.lower_bound
        self._sufficient(anchors, necessary.point)
        self._offer(necessary.point, "necessary")
        point, cuts = necessary.point, no_rows(self.layout)
        for number in range(1, self.options.rounds + 1):
            if not self.layout.shape.slopes or self._done():
                return
            found = violations(self.layout, point, self.limits)
            cuts = joined(cuts, found.rows)
            self._sized(point, f"{'necessary' if number == 1 else f'pieces {number - 1}'}, sizes")
            if self._done():
                return
            solved = self.solve(Demands(f"pieces {number}", joined(rows, cuts)))
            if solved is None:
                return
            point = solved.point
            self._offer(point, f"pieces {number}")
        self._sized(point, f"pieces {self.options.rounds}, sizes")

    def _sufficient(self, anchors: Any, guess: Point) -> None:
        """The program whose points surely keep everything; caps in rounds of better slopes."""
        layout = self.layout
        P = layout.structure.D.shape[1]
        caps = tuple(CapProgram(cap, layout.all_signs, np.full(P, 0.5)) for cap in layout.shape.caps)
        for number in range(4 if caps else 1):
            caps = tuple(cap.best_tau(layout.spread(guess.U), guess.linear, guess.constant) for cap in caps)
            name = "sufficient" if not number else f"sufficient {number + 1}"
            solved = self.solve(Demands(name, anchors, worst_rows(layout), caps))
            if solved is None:
                return
            better = solved.objective < self.best * (1 - self.options.close)
            self._offer(solved.point, name)
            if not better or self._late():
                return
            guess = solved.point

    def _sized(self, point: Point, source: str) -> None:
        """Fit the sizes of the units on their fixed hyperplanes until no piece breaks a demand."""
        rows = necessary_rows(self.layout) if self.layout.shape.caps else no_rows(self.layout)
        current: Point | None = point
        for _ in range(10):
            assert current is not None
            found = violations(self.layout, current, self.limits)
            if found.worst <= 0 and current is not point:
                break
            rows = joined(rows, found.rows)
            current = resized(self.layout, point, rows)
            if current is None or self._late():
                return
        assert current is not None
        self._offer(current, source)

    def _offer(self, point: Point, source: str) -> None:
        if self.layout.objective(point) > self.best * (1 + 1e-6):
            return  # what is repaired is no better than what is not
        network = finished(self.layout, point, self.limits)
        if network is None:
            return
        objective = self.layout.network_objective(network)
        if objective < self.best:
            self.kept.append((network, objective, source))

    def _done(self) -> bool:
        near = bool(self.kept) and self.best - self.lower <= self.options.close * abs(self.best)
        return near or self._late()

    def _late(self) -> bool:
        return self.limits.spent

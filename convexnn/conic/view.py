"""A program as a cvxpy problem with named variables: add constraints, solve, decode into a network with evidence."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.conic.run import OPTIONS, accuracy_of, mosek_refusal, require_usable, run_problem
from convexnn.exceptions import InvalidInputError, SolverError, SolverWarning, UnsupportedModelError
from convexnn.network import Network
from convexnn.program import FEASIBILITY_TOLERANCE, Program, Solution, evaluate, relative_gap

if TYPE_CHECKING:
    import cvxpy

    from convexnn.conic.stated import Stated

Array = NDArray[np.float64]

ENDINGS = {"optimal": "solved", "optimal_inaccurate": "inaccurate", "user_limit": "max_iter"}


@dataclass(frozen=True)
class Decoded:
    """A network read from the variables of a solved problem, with everything about it recomputed.

    Attributes
    ----------
    network : Network
        The network that the variables represent, with the output bias of the solver when constraints were added.
    solution : Solution
        ``objective`` is recomputed from the data. ``lower_bound`` holds for the program WITHOUT the added constraints,
        hence also for the one with them; multipliers of added constraints are not read. ``violation`` includes the
        added constraints.
    constraint_violation : float
        Largest violation of an added constraint at the decoded point, in the constraint's own units.
    mismatch : float
        Largest difference between the network and :attr:`CvxpyProgram.predictions` on the data: what a constraint on
        predictions may be off by. ``inf`` for programs without such predictions.
    """

    network: Network
    solution: Solution
    constraint_violation: float
    mismatch: float


@dataclass(frozen=True, eq=False)
class CvxpyProgram:
    """A training program as a cvxpy problem to which constraints can be added.

    Made by ``program.as_cvxpy()``.

    Attributes
    ----------
    program : Program
        What was stated; it evaluates every point that is decoded.
    base : cvxpy.Problem
        The statement without added constraints.
    added : tuple of cvxpy.Constraint
        Constraints of the user.

    Examples
    --------
    Training that never decreases in the first feature, anywhere: every merged unit ``u_i = v_i (w_i, b_i)`` has a
    nonnegative first weight.

    >>> import numpy as np
    >>> from convexnn.patterns import sample
    >>> from convexnn.restrictions import ReluGroupLasso
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((30, 2))
    >>> y = X[:, 0] + 0.3 * rng.standard_normal(30)
    >>> stated = ReluGroupLasso(X, y, sample(X, 8, random_state=0).with_both_signs(), lam=0.01).as_cvxpy()
    >>> U = stated.variables["U"]
    >>> monotone = stated.with_constraints([U[:, 0] >= 0])
    >>> solution = monotone.solve()
    >>> network = monotone.decode().network
    >>> bool((network.v * network.W[:, 0] >= -1e-7).all())
    True

    Equal mean predictions for two groups of samples:

    >>> group = rng.random(30) < 0.5
    >>> f = stated.predictions
    >>> fair = stated.with_constraints([f[group].mean() == f[~group].mean()])
    >>> fair.solve().objective >= stated.solve().lower_bound
    True
    """

    program: Stated
    base: cvxpy.Problem
    added: tuple[cvxpy.Constraint, ...] = ()
    _problem: list[Any] = field(default_factory=list, repr=False)

    # -- what a user builds on -----------------------------------------------------------------------
    @property
    def problem(self) -> cvxpy.Problem:
        """The cvxpy problem, added constraints last; solving it by hand and then decoding is fine."""
        import cvxpy as cp

        if not self._problem:
            whole = cp.Problem(self.base.objective, [*self.base.constraints, *self.added]) if self.added else self.base
            self._problem.append(whole)
        return self._problem[0]

    @property
    def variables(self) -> dict[str, cvxpy.Variable]:
        """The named variables; :attr:`meanings` says what they are."""
        found = self.base.var_dict
        return {name: found[name] for name in self._names(found)}

    @property
    def meanings(self) -> dict[str, str]:
        """Meaning of every named variable."""
        return self._names(self.base.var_dict)

    def _names(self, found: Mapping[str, Any]) -> dict[str, str]:
        known = self.program.cvxpy_names
        stems = {name: name if name in known else name.rstrip("0123456789") for name in found}
        return {name: known[stem] for name, stem in stems.items() if stem in known}

    @property
    def predictions(self) -> cvxpy.Expression:
        """Predictions of the network on the rows of X, in their order, affine in the variables; (n,) or (n, k).

        Rows with weight zero are no part of the program and left out.
        """
        return self.program.cvxpy_predictions(self.variables)[self.program.rows.inverse]

    def slopes(self, feature: int) -> cvxpy.Expression:
        """Derivatives of the predictions by one feature at the rows of X; same shapes as the predictions.

        At a sample on the boundary of two linear pieces it is the derivative on one of them.
        """
        d = int(self.program.rows.X.shape[1])
        if not 0 <= feature < d:
            raise InvalidInputError(f"feature={feature!r} was given; expected an index from 0 to {d - 1}.")
        return self.program.cvxpy_slopes(self.variables, feature)[self.program.rows.inverse]

    def with_constraints(self, constraints: Iterable[cvxpy.Constraint]) -> CvxpyProgram:
        """The program with more constraints, on the same variables; this one stays as it is.

        Parameters
        ----------
        constraints : iterable of cvxpy constraints
            In :attr:`variables`, :attr:`predictions`, :meth:`slopes` and variables of one's own. They must be convex
            (cvxpy's DCP rules), else :class:`InvalidInputError`.
        """
        import cvxpy as cp

        found = tuple(constraints)
        for constraint in found:
            if not isinstance(constraint, cp.Constraint):
                raise InvalidInputError(f"A cvxpy constraint was expected, such as U >= 0; got {constraint!r}.")
            if not constraint.is_dcp():
                raise InvalidInputError(f"The constraint {constraint} is not convex by cvxpy's rules (DCP).")
        return CvxpyProgram(self.program, self.base, (*self.added, *found))

    # -- solving ---------------------------------------------------------------------------------------
    def solve(
        self,
        *,
        solver: str = "auto",
        tol: float = 1e-6,
        max_iter: int = 200,
        time_limit: float | None = None,
        relaxation: Solution | None = None,
        verbose: int = 0,
    ) -> Solution:
        """Solve by a generic conic solver and recompute the evidence; :meth:`decode` gives the network.

        Parameters
        ----------
        solver : {"auto", "clarabel", "scs", "mosek"}
            A named solver never falls back; ``"auto"`` takes MOSEK when a licence can be checked out, then Clarabel,
            then SCS, each with a :class:`SolverWarning` when the one before failed.
        tol : float
            Relative gap to ask for.
        max_iter : int
        time_limit : float, optional
            Seconds inside the solver.
        relaxation : Solution, optional
            Of the same program without added constraints; its multipliers, checked again, often prove more.
        verbose : int

        Returns
        -------
        Solution
            ``status`` is ``"constrained"`` when the solver ended well and the point is feasible, but the bound of the
            program without the added constraints is not within ``tol``: nothing more is claimed.

        Raises
        ------
        SolverError
            When the constraints cannot be met together, or no solver could handle the problem.
        """
        began = time.perf_counter()
        accuracy = accuracy_of(tol, self._program.scale)
        for name in self._solvers(solver):
            try:
                require_usable(name)
                run_problem(self.problem, name, OPTIONS[name](accuracy, max_iter, time_limit), verbose)
            except SolverError as error:
                if solver != "auto" or name == "scs":
                    raise
                warnings.warn(f"{error}; trying the next solver", SolverWarning, stacklevel=2)
                continue
            break
        self._refuse_unsolvable(name)
        seconds = time.perf_counter() - began
        return self.decode(tol=tol, relaxation=relaxation, seconds=seconds, solver=name).solution

    def _solvers(self, solver: str) -> list[str]:
        if solver == "auto":
            return [name for name in ("mosek", "clarabel", "scs") if name != "mosek" or mosek_refusal() is None]
        if solver not in OPTIONS:
            raise InvalidInputError(
                f"solver={solver!r} was given; a problem with added constraints needs one of {('auto', *OPTIONS)}"
            )
        return [solver]

    def _refuse_unsolvable(self, solver: str) -> None:
        status = str(self.problem.status)
        if status in ENDINGS:
            return
        added = f"its {len(self.added)} added constraints" if self.added else "no added constraints"
        advice = "the constraints contradict each other" if "infeasible" in status else "rescale the data"
        raise SolverError(f"{solver} reports {status!r} for {self._name} with {added}; {advice}")

    # -- reading ---------------------------------------------------------------------------------------
    def decode(
        self,
        *,
        tol: float = 1e-6,
        relaxation: Solution | None = None,
        seconds: float = math.nan,
        solver: str = "",
    ) -> Decoded:
        """Network of the values that the variables have, with objective, bound, gap and violation recomputed.

        The units are moved into their cones first (the variables then hold the moved values).

        Parameters
        ----------
        tol : float
            Relative gap up to which the status is ``"optimal"``.
        relaxation : Solution, optional
            See :meth:`solve`.
        seconds, solver
            What is told of the run.

        Raises
        ------
        SolverError
            When the variables have no values yet.
        """
        if any(variable.value is None for variable in self.base.variables()):
            raise SolverError(f"{self._name} has no values yet; call solve() first")
        word = ENDINGS.get(str(self.problem.status), "inaccurate")
        proposal = self.program.cvxpy_proposal(self.base, word, solver)
        solution = evaluate(self._program, proposal, seconds=seconds, tol=tol)
        network, variables = self._program.decode(proposal.z), self.variables
        if self.added:
            c = np.asarray(variables["c"].value, dtype=float) if "c" in variables else None
            network, raised = self.program.with_output_bias(proposal.z, network, c)
            solution = replace(solution, objective=solution.objective + raised)
        for name, value in self.program.cvxpy_values(proposal.z, network).items():
            variables[name].save_value(value)
        worst = max((_violation(constraint) for constraint in self.added), default=0.0)
        if relaxation is not None:
            solution = self._with_bound(solution, relaxation)
        return Decoded(network, self._judged(solution, worst, word, tol), worst, self._mismatch(network))

    def _with_bound(self, solution: Solution, relaxation: Solution) -> Solution:
        """The better one of two bounds of the program without added constraints, both from multipliers."""
        if relaxation.dual is None:
            return solution
        bound = self._program.lower_bound(relaxation.dual)
        better = bound > solution.lower_bound
        return replace(solution, dual=relaxation.dual, lower_bound=bound) if better else solution

    def _judged(self, solution: Solution, worst: float, word: str, tol: float) -> Solution:
        """Gap, violation and status with the added constraints."""
        gap = relative_gap(solution.objective, solution.lower_bound, self._program.scale)
        violation = max(solution.violation, worst)
        status = solution.status
        if self.added or solution.gap != gap:
            feasible = violation <= FEASIBILITY_TOLERANCE
            constrained = "constrained" if word == "solved" else word
            status = ("optimal" if gap <= tol else constrained) if feasible else "inaccurate"
        notes = solution.notes
        if self.added:
            notes = (*notes, f"lower_bound is that of the program without the {len(self.added)} added constraint(s)")
        every_width = solution.scope == "global" and gap <= tol
        return replace(
            solution,
            gap=gap,
            violation=violation,
            status=status,
            notes=notes,
            scope="global" if every_width and status == "optimal" else "patterns",
            global_gap=gap if math.isfinite(solution.global_gap) else math.inf,
        )

    def _mismatch(self, network: Network) -> float:
        X = self.program.rows.X
        try:
            stated = self.program.cvxpy_predictions(self.variables).value
        except UnsupportedModelError:
            return math.inf
        return float(np.abs(network(X) - np.reshape(stated, network(X).shape)).max())

    @property
    def _program(self) -> Program:
        return self.program  # type: ignore[return-value]

    @property
    def _name(self) -> str:
        return repr(self._program.name)

    def __repr__(self) -> str:
        """The program, its variables and how many constraints were added."""
        names = ", ".join(f"{name} {variable.shape}" for name, variable in self.variables.items())
        return f"CvxpyProgram({self._name}; {names}; {len(self.added)} added constraint(s))"


def _violation(constraint: Any) -> float:
    value = np.max(np.abs(np.asarray(constraint.violation(), dtype=float)), initial=0.0)
    return float(value) if math.isfinite(value) else math.inf

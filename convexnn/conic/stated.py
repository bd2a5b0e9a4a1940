"""What a program that is stated in cvxpy offers besides the statement, so that constraints can be added."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convexnn.conic.view import CvxpyProgram
from convexnn.exceptions import UnsupportedModelError
from convexnn.network import Network
from convexnn.program import Proposal

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]


class Stated(ABC):
    """Base of the programs that can be stated in cvxpy.

    A sub-class states the problem, reads a solved one, and says how the network it decodes predicts in terms of the
    variables. :meth:`as_cvxpy` makes of that what a user works with.
    """

    #: Meaning and shape of every named variable of :meth:`cvxpy_problem`.
    cvxpy_names: ClassVar[Mapping[str, str]] = {}
    #: Values of z that the rows of data have: DistinctRows.
    rows: Any

    @abstractmethod
    def cvxpy_problem(self) -> cvxpy.Problem:
        """The program as the paper states it, with named variables and labelled constraints."""

    @abstractmethod
    def read_cvxpy(self, problem: cvxpy.Problem) -> tuple[Array, Any]:
        """Point and multipliers of a solved problem made by :meth:`cvxpy_problem`."""

    @abstractmethod
    def cvxpy_values(self, z: Array, network: Network) -> dict[str, Array]:
        """Values of the named variables that say which network it is, at a point and its decoded network."""

    def as_cvxpy(self) -> CvxpyProgram:
        """The program for cvxpy: named variables, to which constraints can be added, solved and decoded.

        Returns
        -------
        CvxpyProgram
            With ``problem``, ``variables``, ``predictions``, ``slopes``, ``with_constraints``, ``solve``, ``decode``.

        Raises
        ------
        SolverError
            When the statement is too large for a generic solver; the error says how large.
        """
        return CvxpyProgram(self, self.cvxpy_problem())

    # -- what the network computes, in the variables -------------------------------------------------
    def cvxpy_predictions(self, variables: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Predictions on the distinct rows, (n,) with one output, else (n, k); affine in the variables."""
        raise UnsupportedModelError(
            f"{self._title} has no predictions that are affine in its variables: its network is bounded on every ball "
            "and not tied to one pattern at the samples; constrain the variables themselves"
        )

    def cvxpy_slopes(self, variables: Mapping[str, Any], feature: int) -> Any:  # noqa: ARG002
        """Derivatives by one feature on the distinct rows, shapes as of the predictions."""
        raise UnsupportedModelError(
            f"{self._title} has no derivatives at the samples that are affine in its variables; constrain the "
            "variables themselves"
        )

    @property
    def _title(self) -> str:
        return f"The {getattr(self, 'name', 'program')}"

    # -- verified evaluation with the output bias of the solver ---------------------------------------
    def with_output_bias(self, z: Array, network: Network, c: Array | None) -> tuple[Network, float]:  # noqa: ARG002
        """Network of a point with output bias ``c``, and by how much that raises the objective of the point.

        Programs whose points hold the output bias have nothing to do; the others take the best one otherwise.
        """
        return network, 0.0

    def cvxpy_proposal(self, problem: cvxpy.Problem, status: str, solver: str) -> Proposal:
        """What a solved problem proposes."""
        z, dual = self.read_cvxpy(problem)
        statistics = problem.solver_stats
        iterations = int(statistics.num_iters or 0) if statistics is not None else 0
        return Proposal(z, dual, status, iterations, solver)

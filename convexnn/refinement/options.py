"""How a network is refined: one frozen value, checked before any work is done."""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import numpy as np

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import positive_number, whole_number
from convexnn.losses import Loss
from convexnn.restrictions.loss_bounds import scalar_loss
from convexnn.solvers import require_solver

REGULARIZERS = ("lipschitz", "l2", "gated")
METHODS = ("joint", "alternating")


@dataclass(frozen=True)
class RefineOptions:
    """How a network is refined; the keywords of :func:`refine`.

    Parameters
    ----------
    regularizer : {"lipschitz", "l2", "gated"}
        Squared LipSDP bound (l2), or weight decay; ``"gated"`` solves without cones first (for estimators).
    lam : float
        Weight of the regularizer, positive.
    method : {"joint", "alternating"}
        One convex program, or Algorithm 1 of the paper.
    pattern_search : int
        Rounds of :func:`convexnn.pattern_search` after the convex solve.
    solver : str
        A name of :func:`convexnn.available_solvers`, or ``"auto"``.
    tol : float
        Relative gap between the program's objective and its verified lower bound.
    max_iter : int
        Iterations of the solver.
    time_limit : float, optional
        Seconds for the whole refinement.
    verbose : int
    loss : str or Loss
        Of every output; -1 / +1 targets for margin losses.
    sweeps : int
        Passes over the layers of a network with several hidden layers.
    """

    regularizer: str = "lipschitz"
    lam: float = 1e-2
    method: str = "joint"
    pattern_search: int = 0
    solver: str = "auto"
    tol: float = 1e-6
    max_iter: int = 200
    time_limit: float | None = None
    verbose: int = 0
    loss: str | Loss = "squared"
    sweeps: int = 3

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, before any work is done."""
        if self.regularizer not in REGULARIZERS:
            raise InvalidInputError(f"regularizer must be one of {REGULARIZERS}, got {self.regularizer!r}.")
        if self.method not in METHODS:
            raise InvalidInputError(f"method must be one of {METHODS}, got {self.method!r}.")
        if not (isinstance(self.lam, numbers.Real) and np.isfinite(self.lam) and self.lam > 0):
            raise InvalidInputError(f"lam must be positive and finite, got {self.lam!r}.")
        if not isinstance(self.pattern_search, numbers.Integral) or self.pattern_search < 0:
            raise InvalidInputError(f"pattern_search must be 0 or more rounds, got {self.pattern_search!r}.")
        if not isinstance(self.sweeps, numbers.Integral) or self.sweeps < 1:
            raise InvalidInputError(f"sweeps must be 1 or more, got {self.sweeps!r}.")
        if self.time_limit is not None and not (isinstance(self.time_limit, numbers.Real) and self.time_limit >= 0):
            raise InvalidInputError(f"time_limit must be None or seconds >= 0, got {self.time_limit!r}.")
        for name in ("lam", "pattern_search", "sweeps", "time_limit"):
            if isinstance(getattr(self, name), bool):
                raise InvalidInputError(f"{name} must be a number, got {getattr(self, name)!r}.")
        positive_number(self.tol, "tol")
        object.__setattr__(self, "max_iter", whole_number(self.max_iter, "max_iter"))
        scalar_loss(self.loss)
        require_solver(self.solver)

"""Settings and results of certified-margin training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.program import Solution
from convexnn.training.options import require_count, require_number
from convexnn.training.stage import TrainingStage

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MarginOptions:
    """Settings of :func:`train_certified_margin`.

    Parameters
    ----------
    radius : float, default=0.1
        Of the ball in which samples are to keep their class, raw input units; 0 is plain margin training.
    norm : {2, inf}, default=2
        Of the ball.
    lam : float, default=0.0
        Weight of ``2 sum_i |v_i| |(w_i, b_i)|``, raw units.
    loss : str, default="squared_hinge"
        "hinge", "squared_hinge" or "logistic", of the certified margin, averaged over the rivals.
    sample_weight : array-like, shape (n,), optional
    tol : float, default=1e-5
        Relative gap asked of the convex program where that is solved.
    max_iter : int, default=2000
        Gradient steps in all.
    learning_rate : float, default=0.01
        First step size, in coordinates where inputs have unit size.
    fresh_start : bool, default=True
        Also descend from random units (as many as the network has) for a quarter of the steps, and go on with whichever
        is better: a network trained without a margin may be a poor place to start.
    convex : "auto" or bool, default="auto"
        Solve the convex program at the patterns of the last network; "auto" where that is small.
    extra_patterns : int, default=0
        Sampled activation patterns, each in both directions of every output, that the convex program may use beside
        those of the network: the result may then have more units than the start.
    time_limit : float, optional
        Seconds; the best network so far is returned with status "time_limit".
    device : str, default="auto"
        Accepted for the sake of the other trainers; everything here runs in numpy on the CPU.
    random_state : int, Generator, RandomState or None
    verbose : int, default=0
        1 logs a line a stage to the logger ``convexnn`` at level INFO.
    """

    radius: float = 0.1
    norm: Any = 2
    lam: float = 0.0
    loss: Any = "squared_hinge"
    sample_weight: Any = None
    tol: float = 1e-5
    max_iter: int = 2000
    learning_rate: float = 0.01
    fresh_start: bool = True
    convex: bool | str = "auto"
    extra_patterns: int = 0
    time_limit: float | None = None
    device: str = "auto"
    random_state: Any = None
    verbose: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot be carried out; the others are checked with the data."""
        require_count("max_iter", self.max_iter, least=0)
        require_count("extra_patterns", self.extra_patterns, least=0)
        require_number("learning_rate", self.learning_rate, positive=True)
        require_number("tol", self.tol, positive=True)
        require_number("radius", self.radius)
        require_number("lam", self.lam)
        if self.time_limit is not None:
            require_number("time_limit", self.time_limit)
        if self.convex not in (True, False, "auto"):
            raise InvalidInputError(f"convex must be True, False or 'auto', got {self.convex!r}.")


@dataclass(frozen=True, eq=False)
class MarginTraining:
    """Outcome of :func:`train_certified_margin`.

    Attributes
    ----------
    network : Network
        Never worse than the network that was given.
    before, after : float
        Certified-margin objective of the given and of the returned network: upper bounds on their robust losses.
    solution : Solution or None
        Of the convex program at the patterns of the last network, where it was solved: its gap concerns these patterns
        and output directions.
    history : tuple of TrainingStage
        Of the stages "start", "rescaled", "constant", "descent", "fresh descent" and "convex"; objectives never rise.
    status : str
        "finished", "trivial" (finished, and no network was found that beats the best constant one), "time_limit" or
        "interrupted".
    bounds : array, shape (P,)
        Certified Lipschitz bounds of the margins of ``network``, in the order of ``pairs``.
    pairs : array of int, shape (P, 2)
        Classes (a, b) of the bounds.
    seconds : float
    """

    network: Network
    before: float
    after: float
    solution: Solution | None
    history: tuple[TrainingStage, ...] = field(repr=False)
    status: str
    bounds: Array = field(repr=False)
    pairs: NDArray[np.intp] = field(repr=False)
    seconds: float

    @property
    def is_trivial(self) -> bool:
        """Whether the network is constant: the radius is so large that nothing better was found."""
        return not (self.bounds > 0).any()

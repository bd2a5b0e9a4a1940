"""What is asked of a certifier, and what it hands over: a question about one sample, and evidence anybody can check."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_number, positive_number, refuse_complex, whole_number
from convexnn.network import Network
from convexnn.propagation.input_set import InputSet
from convexnn.threads import one_thread
from convexnn.threats import Threat
from convexnn.values import ByValue

Array = NDArray[np.float64]
Signs = tuple[NDArray[np.int8], ...]


@dataclass(frozen=True, eq=False)
class Query(ByValue):
    """Upper bounds are wanted on ``weights f(x) + offset`` over a set of inputs, one a row.

    Attributes
    ----------
    network : Network
    inputs : InputSet
    weights : array, shape (q, k)
        Rows of a classifier at a sample of class y are ``e_t - e_y``: the margins of its rivals.
    offset : array, shape (q,)
    signs : tuple of int8 arrays (units,), one a hidden layer, or None
        +1 restricts the inputs to those where the unit has a pre-activation >= 0, -1 to those with <= 0, 0 leaves it.
    """

    network: Network
    inputs: InputSet
    weights: Array
    offset: Array
    signs: Signs | None = None

    def __post_init__(self) -> None:
        """Refuse rows and sets that do not fit the network."""
        object.__setattr__(self, "weights", np.asarray(self.weights, dtype=np.float64))
        object.__setattr__(self, "offset", np.asarray(self.offset, dtype=np.float64))
        d, k = self.network.n_inputs, self.network.n_outputs
        if self.weights.ndim != 2 or self.weights.shape[1] != k or self.offset.shape != (len(self.weights),):
            raise InvalidInputError(
                f"Rows of a query need weights (q, {k}) and an offset (q,), got {self.weights.shape} and "
                f"{self.offset.shape}."
            )
        if self.inputs.centre.shape != (d,):
            raise InvalidInputError(f"The set has {len(self.inputs.centre)} inputs, the network {d}.")

    @classmethod
    def of_rivals(cls, network: Network, x: ArrayLike, label: int, threat: Threat) -> Query:
        """``f_t - f_y`` for every rival t in order; with one output ``-f`` for the class 1, ``f`` for the class 0."""
        k = network.n_outputs
        if k == 1:
            weights = np.array([[-1.0 if label == 1 else 1.0]])
        else:
            rivals = [t for t in range(k) if t != label]
            weights = np.zeros((k - 1, k))
            weights[np.arange(k - 1), rivals] = 1.0
            weights[:, label] = -1.0
        return cls(network, InputSet.around(x, threat), weights, np.zeros(len(weights)))

    @property
    def n_rows(self) -> int:
        """Number of bounds wanted."""
        return len(self.weights)

    def values(self, X: Array) -> Array:
        """``weights f(x) + offset`` in float64 at points (n, d), shape (n, q)."""
        outputs = self.network(X).reshape(len(X), -1)
        return np.asarray(outputs @ self.weights.T + self.offset)

    def rows(self, index: Any) -> Query:
        """The query of some of its rows."""
        chosen = np.atleast_1d(np.arange(self.n_rows)[index])
        return replace(self, weights=self.weights[chosen], offset=self.offset[chosen])

    def with_signs(self, signs: Signs | None) -> Query:
        """The same question on the part of the set with these signs."""
        if signs is not None and tuple(len(s) for s in signs) != self.network.n_hidden:
            raise InvalidInputError(f"signs must have shapes {self.network.n_hidden}, one array a hidden layer.")
        return replace(self, signs=signs)


@dataclass(frozen=True)
class Effort:
    """How hard a certifier tries; none of this can make a bound wrong.

    Attributes
    ----------
    tol : float
        Relative gap at which optimization stops.
    max_iter : int or None
        Iterations (None: the method's own).
    stop_below : float or None
        Stop as soon as a row's bound is below this; also stop once it is clear that it cannot be reached.
    deadline : float
        ``time.monotonic()`` after which the best bound so far is returned.
    first_failure : bool
        Stop the whole query at the first row that does not get below ``stop_below``; later rows are then left alone
        (their bounds may be ``inf``).
    seed : int
    """

    tol: float = 1e-4
    max_iter: int | None = None
    stop_below: float | None = None
    deadline: float = np.inf
    first_failure: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, before any work is done."""
        positive_number(self.tol, "tol", zero=True)
        object.__setattr__(self, "seed", whole_number(self.seed, "seed", 0))
        if self.max_iter is not None:
            object.__setattr__(self, "max_iter", whole_number(self.max_iter, "max_iter", 0))
        for name in ("stop_below", "deadline"):
            value = getattr(self, name)
            if value is not None and math.isnan(as_number(value, name)):
                raise InvalidInputError(f"{name} must be a number, got nan.")

    def out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline


@dataclass(frozen=True, eq=False)
class Evidence(ByValue):
    """What a certifier hands over; only the check of its method turns it into bounds.

    Attributes
    ----------
    method : str
    multiplier : mapping of str to array
        Plain float64 arrays. ANY arrays give a valid bound (possibly ``inf``); bad ones a loose one.
    status : str
        "optimal", "below" (stopped early, below the target), "hopeless" (stopped, the relaxation cannot reach the
        target), "max_iter", "time_limit" or "failed: ..." in words.
    iterations : int
    points : array, shape (n, d)
        Inputs worth a try for an attack (need not be in the set); may be empty.
    details : mapping
        Anything worth printing; never used by a check.
    """

    method: str
    multiplier: Mapping[str, Array] = field(repr=False)
    status: str = "optimal"
    iterations: int = 0
    points: Array = field(default_factory=lambda: np.empty((0, 0)), repr=False)
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Quiet:
    """A function that runs without numpy's warnings, heavy ones on one BLAS thread; pickles like the function."""

    function: Callable[..., Any]
    heavy: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns."""
        with np.errstate(all="ignore"), one_thread(self.heavy):
            return self.function(*args, **kwargs)


@dataclass(frozen=True)
class Check(Quiet):
    """A check that never sees what it cannot judge: complex numbers, networks that its method refuses."""

    refusal: Callable[[Query], str | None] = field(kw_only=True)

    def __call__(self, query: Query, multiplier: Mapping[str, Any]) -> Any:
        """Bounds, ``inf`` where the method does not apply; CertificateError for a multiplier with complex numbers."""
        if self.refusal(query) is not None:
            return np.full(query.n_rows, np.inf)
        refuse_complex(multiplier)
        return super().__call__(query, multiplier)


@dataclass(frozen=True)
class Certifier:
    """One method: a heavy proposal and a small check.

    Attributes
    ----------
    name : str
    propose : callable (query, effort, bounds) -> Evidence
        ``bounds`` are LayerBounds known already, or None.
    check : callable (query, multiplier) -> array, shape (q,)
        Rigorous upper bounds from any multiplier, outward rounding included; ``inf`` where nothing is proved.
    refusal : callable (query) -> str or None
        Why the method does not apply (a sentence), or None.
    """

    name: str
    propose: Callable[..., Evidence]
    check: Callable[[Query, Mapping[str, Array]], Array]
    refusal: Callable[[Query], str | None]

    def __post_init__(self) -> None:
        """Numbers that overflow on the way end as ``inf``; numpy is not asked to warn of them."""
        for name in ("propose", "refusal"):
            function = getattr(self, name)
            quiet = function if isinstance(function, Quiet) else Quiet(function, name == "propose")
            object.__setattr__(self, name, quiet)
        if not isinstance(self.check, Check):
            object.__setattr__(self, "check", Check(self.check, refusal=self.refusal))

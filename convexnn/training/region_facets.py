"""``train_region_facets``: networks that are proved never to accept a point of a box or a rotated box."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import Activation, LeakyReLU, ReLU, get_activation
from convexnn.attacks.registry import as_seed
from convexnn.certificate import Certificate
from convexnn.certificates.region_facets import facet_bound
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.regions.polytope import Polytope
from convexnn.regions.region import BOX, Region, as_regions
from convexnn.threads import one_thread
from convexnn.training.options import require_count, require_number
from convexnn.training.region_facets_fit import Pairs, Schedule, fitted
from convexnn.training.region_facets_frame import PolytopeFrame
from convexnn.training.region_facets_pricing import (
    FacetFrame,
    Frame,
    dense_directions,
    facet_directions,
    threshold_below,
)
from convexnn.training.region_facets_proof import (
    arithmetic_for,
    assembled,
    lower_bound,
    polytope_lower_bound,
    shifted,
)
from convexnn.training.region_options import RegionTraining
from convexnn.training.region_samples import RegionSamples, Sampler

Array = NDArray[np.float64]

ARITHMETICS = ("auto", "float64+slack", "exact")
DENSE, FOUND, JOINT = 0.0, 1.0, 2.0
ROUNDS = 4  # of the search on polytopes, until no new vertex is met


@dataclass(frozen=True)
class FacetOptions:
    """Settings of :func:`train_region_facets`.

    Parameters
    ----------
    hidden_units : int, optional
        An even number is used: units come in opposite pairs. By default three an input.
    activation : {"relu", "leaky_relu"} or ReLU or LeakyReLU, default="relu"
    candidates : int, default=8
        Dense random starts a pair. More find rare facets more surely.
    pricing_steps : int, default=600
        Steps of the ascent from every start.
    directions : array-like, shape (n, d), optional
        Directions of the pairs, raw input coordinates, in place of the search: for what somebody knows already, and
        for controls.
    threshold : float, optional
        Where units begin to be active at the start, as a share of their largest pre-activation on the region; by
        default one minus a tenth of the typical excess of the samples. From small values training does not find back.
    steps : int, default=300
        Of the joint training.
    batch_size : int, default=256
        Samples of each class a step.
    learning_rate : float, default=0.01
        Of biases and output weights; directions move at a fifth of it.
    negative_weight : float, default=1.0
        Of the negative samples outside of the region, against one for the positive ones.
    evaluate_every : int, default=100
        Steps between evaluations: the best network evaluated comes back.
    arithmetic : {"auto", "float64+slack", "exact"}, default="auto"
        Of the final proof; "auto" is exact where that takes seconds.
    time_limit : float, optional
        Seconds of the joint training; the best network so far comes back with status "time_limit".
    random_state : int, Generator, RandomState or None
    """

    hidden_units: int | None = None
    activation: str | Activation = "relu"
    candidates: int = 8
    pricing_steps: int = 600
    directions: Any = field(default=None, compare=False, repr=False)
    threshold: float | None = None
    steps: int = 300
    batch_size: int = 256
    learning_rate: float = 1e-2
    negative_weight: float = 1.0
    evaluate_every: int = 100
    arithmetic: str = "auto"
    time_limit: float | None = None
    random_state: Any = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot be carried out."""
        if self.hidden_units is not None:
            require_count("hidden_units", self.hidden_units, least=2)
        for name in ("candidates", "batch_size", "evaluate_every"):
            require_count(name, getattr(self, name))
        for name in ("pricing_steps", "steps"):
            require_count(name, getattr(self, name), least=0)
        require_number("learning_rate", self.learning_rate, positive=True)
        for name in ("negative_weight", "threshold", "time_limit"):
            if getattr(self, name) is not None:
                require_number(name, getattr(self, name))
        if self.arithmetic not in ARITHMETICS:
            raise InvalidInputError(f"arithmetic must be one of {ARITHMETICS}, got {self.arithmetic!r}.")
        if not isinstance(get_activation(self.activation), ReLU | LeakyReLU):
            raise InvalidInputError(f"activation must be ReLU or LeakyReLU, got {self.activation!r}.")

    def replace(self, **changes: Any) -> FacetOptions:
        """Copy with some settings changed."""
        return dataclasses.replace(self, **changes)

    @property
    def leak(self) -> float:
        """Slope of the activation below zero."""
        activation = get_activation(self.activation)
        return activation.slope if isinstance(activation, LeakyReLU) else 0.0


def train_region_facets(
    region: Any,
    X: ArrayLike | Sampler,
    y: ArrayLike | None = None,
    *,
    options: FacetOptions | None = None,
    **settings: Any,
) -> RegionTraining:
    """Train a network that is proved never to accept a point of a box, rotated box or polytope.

    Pairs of opposite units start at facets of the region, which are found from dense random directions (nothing is told
    about the axes), and are then trained jointly with ``f = g - B(g)``, B the interval bound of all pairs. On a box
    that bound is exact as soon as no unit is active on it. The stored network satisfies ``f < 0`` on the whole region:
    proved from its float64 weights.

    The accepted set is the outside of a convex body around the region, so that samples to be accepted can lie on
    all of its sides, at any distance, but not in dents.

    Implements: convexnn, section 3 of theory/region_facets.md.

    Parameters
    ----------
    region : Region, LInfBall, Box or Polytope
        A Region is of kind "box"; any center, half lengths of any size (also zero), any matrix of axes. Of a polytope
        the search asks for extreme points in chosen directions only; single units take the place of pairs.
    X : array-like, shape (n, d), or callable
        Raw input units; a callable takes a number and a generator and returns that many rows, or rows and labels.
    y : array-like, shape (n,), optional
        1 is to be accepted, 0 rejected; by default all are to be accepted. Negative samples inside the region are
        not needed.
    options : FacetOptions, optional
    **settings
        Fields of :class:`FacetOptions`, which win.

    Returns
    -------
    RegionTraining
        With one certificate. ``start_accuracy`` is that of the dense random directions (or of the given ones) under
        the same proof; the history has a stage: 0 start, 1 facets found, 2 joint training. Before the joint training
        each stage is judged twice, with units that begin just below their facets and at them.

    Raises
    ------
    InvalidInputError
        For samples, regions or settings that cannot be used.
    """
    chosen = _options(options, settings)
    import torch  # noqa: F401  # before one_thread, which limits the thread pools that are there

    began, cpu = time.perf_counter(), time.process_time()
    seed = as_seed(chosen.random_state)
    with one_thread():
        run = _run(X, y, region, chosen, seed)
        run.train()
        start = time.perf_counter()
        network, certificate = run.proved()
    ended = time.perf_counter()
    judged = run.samples.evaluation
    rejected = float(np.mean(network(judged.negative) < 0)) if len(judged.negative) else math.nan
    return RegionTraining(
        network,
        (certificate,),
        certificate.bound,
        run.lower(network, np.random.default_rng([seed, 4])),
        tuple(run.history),
        max(row["accuracy"] for row in run.history if row["stage"] == DENSE),
        float(np.mean(network(judged.positive) > 0)),
        rejected,
        run.status,
        int(run.history[-1]["step"]),
        ended - began,
        time.process_time() - cpu,
        ended - start,
        "facets",
    )


def _options(options: FacetOptions | None, settings: dict[str, Any]) -> FacetOptions:
    chosen = FacetOptions() if options is None else options
    if not isinstance(chosen, FacetOptions):
        raise InvalidInputError(f"options must be a FacetOptions or None, got {type(options).__name__}.")
    try:
        return chosen.replace(**settings)
    except TypeError as error:
        raise InvalidInputError(f"Unknown setting of FacetOptions: {error}") from error


@dataclass(eq=False)
class _Run:
    """What is needed on the way, and the best pairs so far."""

    region: Region | Polytope
    samples: RegionSamples
    frame: Frame
    options: FacetOptions
    rng: np.random.Generator
    history: list[dict[str, float]] = field(default_factory=list)
    best: tuple[float, Pairs | None] = (-math.inf, None)
    status: str = "finished"
    began: float = 0.0

    def train(self) -> None:
        """Dense start, facets, joint training; the best pairs are kept."""
        options, d = self.options, self.region.n_inputs
        count = max((options.hidden_units or 3 * d) // self.frame.sides, 1)
        self.began = time.perf_counter()
        U = dense_directions(count, d, self.rng) if options.directions is None else self._given()
        Y = self.frame.into(self.samples.usable.positive)
        pairs = self._started(DENSE, self.frame.normalized(U), Y)
        if options.directions is None and options.pricing_steps:
            U, Y = self._found(count)
            pairs = self._started(FOUND, U, Y)
        plan = Schedule(options.steps, options.learning_rate, options.negative_weight, options.evaluate_every)
        if options.steps:
            fitted(pairs, self.frame, self._batch, plan, lambda step, now: self._look(JOINT, step, now))

    def _found(self, count: int) -> tuple[Array, Array]:
        """Facets in the frame, and the samples in it; the frame of a polytope learns its vertices on the way."""
        chosen = self.options.candidates, self.options.pricing_steps, self.rng
        for _ in range(ROUNDS):
            Y = self.frame.into(self.samples.usable.positive)
            U = facet_directions(self.frame, Y, count, *chosen)
            if not isinstance(self.frame, PolytopeFrame) or (frame := self.frame.refined(U)) is self.frame:
                break
            self.frame = frame
        return self.frame.snapped(U) if isinstance(self.frame, PolytopeFrame) else U, Y

    def lower(self, network: Network, rng: np.random.Generator) -> float:
        """Largest value that is met on the region."""
        if isinstance(self.region, Polytope):
            return polytope_lower_bound(network, self.region, rng)
        return lower_bound(network, self.region, rng)

    def _started(self, stage: float, U: Array, Y: Array) -> Pairs:
        """Pairs just below their facets; the same pairs at their facets, where none is active, are judged as well."""
        given = self.options.threshold
        sides = self.frame.sides
        below = Pairs.of(U, threshold_below(U, Y, sides) if given is None else given, self.options.leak, sides)
        for pairs in (below, *([Pairs.of(U, 1.0, self.options.leak, sides)] if given is None else [])):
            self._look(stage, 0, pairs)
        return below

    def _given(self) -> Array:
        U = np.asarray(self.options.directions, dtype=np.float64)
        if U.ndim != 2 or U.shape[1] != self.region.n_inputs or not np.isfinite(U).all() or not U.any(axis=1).all():
            raise InvalidInputError(f"directions must be finite nonzero rows of {self.region.n_inputs} numbers.")
        return np.asarray(np.linalg.solve(self.frame.scale, U.T).T)

    def _batch(self) -> tuple[Array, Array]:
        rows = self.samples.batch(self.options.batch_size, self.rng)
        return self.frame.into(rows.positive), self.frame.into(rows.negative)

    def _look(self, stage: float, step: int, pairs: Pairs) -> bool:
        """Judge pairs by their proved bound; whether the time is over."""
        network = assembled(pairs, self.frame, get_activation(self.options.activation))
        bound, judged = facet_bound(network, self.region).bound, self.samples.evaluation
        accuracy = float(np.mean(network(judged.positive) > bound))
        rejected = float(np.mean(network(judged.negative) < bound)) if len(judged.negative) else math.nan
        merit = accuracy if math.isnan(rejected) else 0.5 * (accuracy + rejected)
        seconds = time.perf_counter() - self.began
        self.history.append(
            {"stage": stage, "step": float(step), "seconds": seconds, "bound": bound}
            | {"accuracy": accuracy, "rejected": rejected}
        )
        if math.isfinite(bound) and merit >= self.best[0]:
            self.best = merit, pairs
        over = self.options.time_limit is not None and seconds >= self.options.time_limit
        if over and stage == JOINT and step < self.options.steps:
            self.status = "time_limit"
        return over

    def proved(self) -> tuple[Network, Certificate]:
        """The best network, shifted below zero on the region, and the proof."""
        pairs = self.best[1]
        if pairs is None:
            raise InvalidInputError("No finite bound was met: the numbers of samples or region are too large.")
        network = assembled(pairs, self.frame, get_activation(self.options.activation))
        arithmetic = self.options.arithmetic
        if arithmetic == "auto":
            arithmetic = arithmetic_for(self.region, len(pairs.U))
        values = network(self.samples.usable.positive) - network(self.region.center[None])
        return shifted(
            network, float(np.mean(np.abs(values))), lambda f: facet_bound(f, self.region, arithmetic=arithmetic)
        )


def _run(X: Any, y: Any, region: Any, options: FacetOptions, seed: int) -> _Run:
    """Check samples and region."""
    rng = np.random.default_rng([seed, 3])
    if isinstance(region, Polytope):
        samples = RegionSamples.of(X, y, (region,), seed)
        return _Run(region, samples, PolytopeFrame.of(region, rng), options, rng)
    regions = as_regions(region, _n_inputs(region, X))
    if len(regions) > 1 or regions[0].kind != BOX:
        raise InvalidInputError(
            "Facets are those of one box, rotated box or Polytope; balls, ellipsoids and unions have train_safe_region."
        )
    samples = RegionSamples.of(X, y, regions, seed)
    return _Run(regions[0], samples, FacetFrame.of(regions[0], samples.usable.positive), options, rng)


def _n_inputs(region: Any, X: Any) -> int:
    if isinstance(region, Region):
        return region.n_inputs
    if callable(X):
        raise InvalidInputError("With a callable X give a Region, which tells the number of inputs.")
    shape = np.shape(X)
    if len(shape) != 2:
        raise InvalidInputError(f"X must have shape (n, d), got {shape}.")
    return int(shape[1])

"""train_safe_region: networks that are proved negative on whole balls and ellipsoids, trained under that proof."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from convexnn.attacks.registry import as_seed
from convexnn.exceptions import InvalidInputError
from convexnn.regions.region import Region, as_regions
from convexnn.training.region_direct import RATE as DENSE_RATE
from convexnn.training.region_direct import direct_start
from convexnn.training.region_evaluation import ascent, polished
from convexnn.training.region_frame import UnitFrame
from convexnn.training.region_layers import RATE as LAYERS_RATE
from convexnn.training.region_layers import Layers, LayersStart, layers_start
from convexnn.training.region_layers_proof import proved_layers
from convexnn.training.region_loop import RegionRun, started
from convexnn.training.region_majorants_torch import Groups
from convexnn.training.region_model import RegionStart
from convexnn.training.region_options import RegionOptions, RegionTraining
from convexnn.training.region_pairs import RATE as PAIRS_RATE
from convexnn.training.region_pairs import pairs_start
from convexnn.training.region_proof import ProofEffort, power_of_two, proved, raw_network
from convexnn.training.region_samples import RegionSamples, Sampler

Array = NDArray[np.float64]

METHODS = ("pairs", "dense")
FINAL_STARTS, FINAL_STEPS = 256, 100


def train_safe_region(
    region: Any,
    X: ArrayLike | Sampler,
    y: ArrayLike | None = None,
    *,
    method: str = "pairs",
    options: RegionOptions | None = None,
    **settings: Any,
) -> RegionTraining:
    """Train a network that is proved negative on a whole region, and positive on as many samples as it can.

        f = g - B(g),   B(g) >= max of g over the region, for any weights and any majorants,

    so every step is a safe network and no sample of the region is needed. The stored float64 weights are proved again
    at the end, the shift of the output bias included.

    Parameters
    ----------
    region : Region, L2Ball, or a sequence of them
        Balls and ellipsoids in raw input units, where ``f < 0`` is to hold everywhere; of several, on all.
    X : array-like of shape (n, d), or callable
        Samples, raw input units; or ``X(n, rng)`` that draws n rows, or a pair of rows and labels.
    y : array-like, shape (n,), optional
        1: to be accepted (``f > 0``), 0: to be rejected; by default all are to be accepted. Negative samples inside of
        the region are of no use and left out.
    method : {"pairs", "dense"}, default="pairs"
        Parallel units with a majorant for each direction, or units without structure with one majorant each (the
        semidefinite bound of the paper). Two hidden layers (``hidden_layers=(h, m)``) have no such structure.
    options : RegionOptions, optional
    **settings
        Fields of :class:`RegionOptions`, which win.

    Returns
    -------
    RegionTraining

    Raises
    ------
    InvalidInputError
        For samples, regions or settings that cannot be used; for boxes.

    Warns
    -----
    ConvergenceWarning
        When the run was interrupted, ran out of time or diverged; the safe network so far comes back.

    Notes
    -----
    The bound is that of Soletskyi & Dalrymple (2024), arXiv 2409.09687, and for pairs a tighter one; training through
    the bound instead of the augmented Lagrangian of that paper is Proposition 2 of docs/theory/region_training.md.
    """
    chosen = _options(options, settings)
    if method not in METHODS:
        raise InvalidInputError(f"method must be one of {METHODS}, got {method!r}.")
    clocks = time.perf_counter(), time.process_time()
    seed = as_seed(chosen.random_state)
    regions = as_regions(region, _n_inputs(region, X))
    samples = RegionSamples.of(X, y, regions, seed)
    frame = UnitFrame.of(regions, samples.usable.positive)
    start, rate = _start(method, chosen, samples, len(frame.center), seed)
    run = started(frame, samples, chosen, start, seed, rate)
    run.run()
    with run.few_threads():
        return _finished(run, regions, method, clocks)


def _options(options: RegionOptions | None, settings: dict[str, Any]) -> RegionOptions:
    chosen = RegionOptions() if options is None else options
    if not isinstance(chosen, RegionOptions):
        raise InvalidInputError(f"options must be a RegionOptions or None, got {type(options).__name__}.")
    try:
        return chosen.replace(**settings)
    except TypeError as error:
        raise InvalidInputError(f"Unknown setting of RegionOptions: {error}") from error


def _n_inputs(region: Any, X: Any) -> int:
    """Number of inputs: of the region where it says so, else of the samples."""
    first = region[0] if isinstance(region, (list, tuple)) and region else region
    if isinstance(first, Region):
        return first.n_inputs
    shape = np.shape(X) if not callable(X) else np.shape(_rows(X(1, np.random.default_rng(0))))
    if len(shape) != 2:
        raise InvalidInputError(f"X must have shape (n, d), got {shape}.")
    return int(shape[1])


def _rows(drawn: Any) -> Any:
    return drawn[0] if isinstance(drawn, tuple) else drawn


def _start(
    method: str, options: RegionOptions, samples: RegionSamples, d: int, seed: int
) -> tuple[RegionStart | LayersStart, float]:
    rng = np.random.default_rng([seed, 0])
    free = options.free_signs if options.free_signs is not None else len(samples.usable.negative) > 0
    units, tight = options.units(d), options.start == "tight"
    if options.hidden_layers is not None and options.is_deep:
        first, second = options.hidden_layers
        return layers_start(d, (first, second), rng, tight=tight, free_signs=free), LAYERS_RATE
    if method == "dense":
        start, rate = direct_start(d, units, rng, tight=tight, free_signs=free), DENSE_RATE
    else:
        start, rate = pairs_start(d, units, options.units_per_direction, rng, tight=tight, free_signs=free), PAIRS_RATE
    return replace(start, leak=options.leak), rate


def _finished(run: RegionRun, regions: tuple[Region, ...], method: str, clocks: tuple[float, float]) -> RegionTraining:
    """Tighten the majorants, prove, and judge the stored network."""
    began = time.perf_counter()
    groups = polished(run.model.exact_groups(), run.frame.balls)
    chosen = run.options
    effort = ProofEffort(chosen.arithmetic, chosen.finish, chosen.finish_seconds)
    scale, margin = run.output_scale(groups)
    factor = power_of_two(scale)
    if isinstance(groups, Layers):
        network, certificates = proved_layers(groups, run.frame, factor, regions, effort, factor * margin)
    elif isinstance(groups, Groups):
        network, certificates = proved(raw_network(groups, run.frame, scale), regions, effort, factor * margin)
    took = time.perf_counter() - began
    bias = float(network.layers[-1][1][0])
    lower = max(ascent(groups, ball, run.seed, starts=FINAL_STARTS, steps=FINAL_STEPS) for ball in run.frame.balls)
    judged = run.samples.evaluation
    rejected = float(np.mean(network(judged.negative) < 0)) if len(judged.negative) else math.nan
    _warn(run)
    return RegionTraining(
        network=network,
        certificates=certificates,
        bound=max(float(certificate.bound) for certificate in certificates),
        lower=max([factor * lower + bias, *(c.lower for c in certificates if not math.isnan(c.lower))]),
        history=tuple(run.history),
        start_accuracy=run.history[0]["accuracy"] if run.history else math.nan,
        accuracy=float(np.mean(network(judged.positive) > 0)),
        rejected=rejected,
        status=run.status,
        steps=run.step,
        seconds=time.perf_counter() - clocks[0],
        cpu_seconds=time.process_time() - clocks[1],
        proof_seconds=took,
        method="layers" if chosen.is_deep else method,
    )


def _warn(run: RegionRun) -> None:
    done = f"after {run.step} of {run.options.steps} steps; the best safe network so far is returned."
    messages = {
        "time_limit": f"Training stopped at the time limit of {run.options.time_limit} s {done}",
        "interrupted": f"Training was interrupted {done}",
        "diverged": f"Training diverged {done} Lower learning_rate ({run.rate:g}).",
    }
    if run.status in messages:
        warnings.warn(messages[run.status], ConvergenceWarning, stacklevel=4)

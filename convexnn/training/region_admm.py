"""Alternating directions for networks that are safe on a region: weights, multipliers and a semidefinite slack in turn.

    min loss(theta)   with   S(theta, y) = S,   S >= 0,   y = (lam, mu, nu, rho),   lam, mu, rho >= 0,

where S(theta, y) is the matrix of the dual of the semidefinite bound of Soletskyi & Dalrymple (2024), arXiv 2409.09687,
at the bound ``-tolerance``. Where the equation holds, ``f <= -tolerance`` on the whole region. At a finite residual it
does not hold, so that a network comes back only with a proof of its own. The authors' code is not public: step sizes,
loss and order of the updates are a reconstruction.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.attacks.registry import as_seed
from convexnn.certificate import Certificate
from convexnn.certificates.region import region_bound
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.regions.region import BALL, Region
from convexnn.threads import one_thread
from convexnn.training.region_admm_options import RegionADMMOptions
from convexnn.training.region_admm_run import ADMMRun, UnitWeights
from convexnn.training.region_options import RegionTraining
from convexnn.training.region_samples import RegionSamples, Sampler

Array = NDArray[np.float64]

MARGIN, TRIES = 1e-9, 12  # relative, of the shift; it grows fourfold a try


def train_region_admm(
    region: Region,
    X: ArrayLike | Sampler,
    y: ArrayLike | None = None,
    *,
    options: RegionADMMOptions | None = None,
    **settings: Any,
) -> RegionTraining:
    """Train a dense network against the semidefinite bound by alternating directions: the baseline of the paper.

    Weights and multipliers of the bound take steps of Adam on loss plus augmented Lagrangian, then the slack is
    projected onto the semidefinite matrices, then the multiplier of the residual moves. The start is feasible: its
    multipliers come from the best majorants. Nothing of this is believed: evaluated networks are bounded anew, the best
    one is shifted by its proved bound, and the stored network has ``f < 0`` on the whole region by a certificate.

    With pairs of units, :func:`train_safe_region` accepts more at less cost and needs no penalty; its dense networks,
    which have the same bound, are about as good as these: see results/global_safety.md.

    Implements: Soletskyi and Dalrymple (2024), training by alternating directions, reconstructed.

    Parameters
    ----------
    region : Region
        One ball, ellipsoid, box or rotated box in raw input units, with as many independent axes as inputs.
    X : array-like, shape (n, d), or callable
        Raw input units; a callable takes a number and a generator and returns that many rows, or rows and labels.
    y : array-like, shape (n,), optional
        1 is to be accepted, 0 rejected; by default all are to be accepted. Points of the region's surface are drawn
        as further negative samples.
    options : RegionADMMOptions, optional
    **settings
        Fields of :class:`RegionADMMOptions`, which win.

    Returns
    -------
    RegionTraining
        ``history`` rows: step (iterations), seconds, loss, residual, bound (proved, of the network without shift),
        accuracy (share of positive samples above it), unshifted_accuracy (above zero). ``status``: "safe" when the
        network is negative on the region as it was trained, "shifted" when its bound was subtracted from the output
        bias; "time_limit", "interrupted", "stopped" and "diverged" (always shifted) when the run was cut.

    Raises
    ------
    InvalidInputError
        For samples, regions or settings that cannot be used, and when no network can be proved safe.
    """
    chosen = (RegionADMMOptions() if options is None else options).replace(**settings)
    wall, cpu, seed = time.perf_counter(), time.process_time(), as_seed(chosen.random_state)
    inverse, center = unit_map(region)
    samples = RegionSamples.of(X, y, (region,), seed)

    def draw(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        rows = samples.batch(n, rng)
        negative = np.vstack([region.sample_surface(n, rng), rows.negative])
        return (rows.positive - center) @ inverse.T, (negative - center) @ inverse.T

    with one_thread():
        run = ADMMRun(draw, (samples.evaluation.positive - center) @ inverse.T, chosen, region.kind, seed)
        weights, found = run.run()
        began = time.perf_counter()
        as_trained = found.bound < 0 and not chosen.shift
        network, certificate = proved_network(weights, inverse, center, region, shift=not as_trained)
    proof_seconds = time.perf_counter() - began
    status = ("safe" if float(network.c) == weights.c0 else "shifted") if run.status == "finished" else run.status
    judged = samples.evaluation
    rejected = float(np.mean(network(judged.negative) < 0)) if len(judged.negative) else math.nan
    return RegionTraining(
        network=network,
        certificates=(certificate,),
        bound=certificate.bound,
        lower=largest_found(network, region, np.random.default_rng([seed, 4])),
        history=tuple(run.history),
        start_accuracy=run.start_accuracy,
        accuracy=float(np.mean(network(judged.positive) > 0)),
        rejected=rejected,
        status=status,
        steps=run.done * chosen.inner_steps,
        seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
        proof_seconds=proof_seconds,
        method="admm",
    )


def unit_map(region: Region) -> tuple[Array, Array]:
    """Matrix (d, d) and center (d,) of ``e = inverse (x - center)``.

    Raises
    ------
    InvalidInputError
        When the axes do not span the inputs.
    """
    if not isinstance(region, Region):
        raise InvalidInputError(f"region must be a Region (ellipsoid, rotated_box), got {type(region).__name__}.")
    axes = np.diag(region.axes) if region.axes.ndim == 1 else np.array(region.axes)
    if axes.shape[0] != axes.shape[1] or np.linalg.matrix_rank(axes) < len(axes):
        raise InvalidInputError("The alternating trainer needs a region with as many independent axes as inputs.")
    return np.asarray(np.linalg.inv(axes)), np.array(region.center)


def proved_network(
    weights: UnitWeights, inverse: Array, center: Array, region: Region, *, shift: bool
) -> tuple[Network, Certificate]:
    """The network in raw inputs, with ``f < 0`` on the region proved for its stored float64 weights.

    Parameters
    ----------
    weights : UnitWeights
    inverse : array, shape (d, d)
    center : array, shape (d,)
    region : Region
    shift : bool
        Subtract the proved bound from the output bias; without, the bound must be negative already, and is subtracted
        only when the proof in raw inputs disagrees.

    Raises
    ------
    InvalidInputError
        When no bound below zero is proved.
    """
    W = weights.W @ inverse
    b, bias = weights.b - W @ center, weights.c0
    network = Network.shallow(W, b, weights.c, bias)
    certificate = region_bound(network, region, method="sdp")
    if certificate.bound < 0 and not shift:
        return network, certificate
    bound = certificate.bound
    for attempt in range(TRIES):
        margin = 4.0**attempt * MARGIN * max(abs(bound), abs(bias), np.finfo(float).tiny)
        network = Network.shallow(W, b, weights.c, bias - bound - margin)
        certificate = region_bound(network, region, method="sdp")
        if certificate.bound < 0:
            return network, certificate
    raise InvalidInputError("The network could not be shifted below zero: its numbers are too large.")


def largest_found(network: Network, region: Region, rng: np.random.Generator, starts: int = 128) -> float:
    """Largest value met on a region by moving to where the gradient points; for convex f it never falls."""
    E, best = region.coordinates(region.sample_surface(starts, rng))[0], -math.inf
    for _ in range(40):
        X = region.image(E)
        best = max(best, float(np.max(network(X))))
        G = network.gradient(X)
        slope = G * region.axes if region.axes.ndim == 1 else G @ region.axes
        step = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-300)
        E = step if region.kind == BALL else np.sign(slope)
    return best

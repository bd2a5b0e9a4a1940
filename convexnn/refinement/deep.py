"""Layer-by-layer convex refinement of ReLU networks with any number of hidden layers: never worse, step by step."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import lipschitz
from convexnn.exceptions import InvalidInputError, SolverError
from convexnn.losses import Loss
from convexnn.model_parts import ModelParts, deep_model
from convexnn.network import Network
from convexnn.patterns import extract
from convexnn.refinement.deep_newton import LayerNewton
from convexnn.refinement.options import RefineOptions
from convexnn.restrictions.catalog import PROGRAMS
from convexnn.restrictions.deep_layer import DeepLayerProgram, deep_loss, weight_decay
from convexnn.restrictions.loss_bounds import scalar_loss
from convexnn.solvers import solve
from convexnn.threads import one_thread

Array = NDArray[np.float64]

SMOOTH = ("squared", "huber", "squared_hinge", "logistic")
MOST_STEPS = 80  # of the interior point method for a layer; more have not helped where these did not do
SMALL = 2000  # weights of a layer up to which threads cost more than they bring
MARGINAL = 1e-7  # relative progress of a sweep below which another one is not worth its time


@dataclass(frozen=True)
class DeepObjective:
    """``sum_i weight_i sum_c loss(f_c(x_i), y_ic) + lam R(f)``, recomputed from the network alone.

    R is the square of the certified LipSDP bound (l2) of the whole network, or the sum of all squared weights and
    hidden biases.
    """

    X: Array
    Y: Array
    weight: Array
    loss: Loss
    regularizer: str
    lam: float

    def __call__(self, network: Network) -> float:
        """Objective of ``network``."""
        F = network(self.X).reshape(self.Y.shape)
        return deep_loss(self.loss, F, self.Y, self.weight) + self.lam * self.penalty(network)

    def penalty(self, network: Network) -> float:
        """R of ``network``."""
        if self.regularizer == "l2":
            return weight_decay(network)
        bound = lipschitz(network, method="deep_lipsdp").bound
        return bound * bound  # infinite where ** would raise


@dataclass(frozen=True)
class DeepRefinement:
    """A refined deep model and the evidence for it.

    Attributes
    ----------
    model : object
        Same type as the model that came in.
    network : Network
        The refined network.
    before, after : float
        Training objective of the network that came in and of the one that goes out; ``after <= before`` always.
    certificate : Certificate
        Lipschitz bound (l2) of ``network``.
    history : list of dict
        One row a step: ``stage``, ``objective``, ``seconds``, ``solver`` (how the step's solve ended), ``accepted``;
        the objective never rises.
    status : str
        ``"improved"``, ``"unchanged"``.
    """

    model: Any
    network: Network
    before: float
    after: float
    certificate: Certificate = field(repr=False)
    history: list[dict[str, Any]] = field(repr=False)
    status: str

    @property
    def reduction(self) -> float:
        """Relative reduction of the objective, in [0, 1]."""
        return 0.0 if self.before <= 0 else (self.before - self.after) / self.before


class _Sweeps:
    """Best network so far, and the steps that offer others."""

    def __init__(self, network: Network, objective: DeepObjective, options: RefineOptions) -> None:
        self.network, self.objective, self.options = network, objective, options
        self.began = time.perf_counter()
        self.deadline = math.inf if options.time_limit is None else self.began + options.time_limit
        self.value = objective(network)
        self.history: list[dict[str, Any]] = []
        self.record("start", "", True)

    def record(self, stage: str, solver: str, accepted: bool) -> None:
        """Add a row to the history."""
        seconds = time.perf_counter() - self.began
        row = {"stage": stage, "objective": self.value, "seconds": seconds, "solver": solver, "accepted": accepted}
        self.history.append(row)

    def offer(self, network: Network, stage: str, solver: str) -> bool:
        """Keep ``network`` when it is strictly better."""
        with np.errstate(over="ignore", invalid="ignore"):
            value = self.objective(network)
        better = value < self.value  # false for nan
        if better:
            self.network, self.value = network, value
        self.record(stage, solver, better)
        return better

    def layer(self, layer: int) -> str:
        """One layer's program from the best network; how it ended."""
        target = self.objective
        if self._is_lift(layer):
            return self._last_two()
        program = DeepLayerProgram(
            self.network, target.X, target.Y, layer, target.loss, target.regularizer, target.lam, target.weight
        )
        stage = f"layer {layer}"
        try:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                steps = min(self.options.max_iter, MOST_STEPS)
                found = LayerNewton(program).solve(self.options.tol, steps, self.deadline)
        except np.linalg.LinAlgError:
            self.record(stage, "failed", False)
            return "failed"
        if np.isfinite(found.theta).all():
            self.offer(program.decode(found.theta), stage, found.status)
        else:
            self.record(stage, "failed", False)
        return found.status

    def _is_lift(self, layer: int) -> bool:
        """Whether the product of the last two layers is one convex program that the other solvers know."""
        return (
            self.objective.regularizer == "l2" and layer == len(self.network.layers) - 2 and self.network.n_outputs == 1
        )

    def _last_two(self) -> str:
        """Last two layers jointly, weight decay and one output: the program of a shallow network on their inputs."""
        target, depth = self.objective, len(self.network.layers) - 2
        inputs = np.maximum(self.network.pre_activations(target.X)[depth - 1], 0.0) if depth else target.X
        head = Network(self.network.layers[depth:], self.network.activation)
        left = None if math.isinf(self.deadline) else max(self.deadline - time.perf_counter(), 1e-3)
        options, y = self.options, target.Y[:, 0]
        try:
            program = PROGRAMS["l2"](
                inputs,
                y,
                extract(head, inputs),
                lam=target.lam,
                sample_weight=target.weight,
                loss=target.loss,
                start=head,
            )
            found = solve(program, solver=options.solver, tol=options.tol, max_iter=options.max_iter, time_limit=left)
        except (SolverError, InvalidInputError):
            self.record("last two layers", "failed", False)
            return "failed"
        if np.isfinite(found.z).all():
            layers = (*self.network.layers[:depth], *program.decode(found.z).layers)
            self.offer(Network(layers, self.network.activation), "last two layers", found.status)
        return found.status

    def idle(self) -> None:
        """Units that are zero at every sample get zero weights; with weight decay, units are balanced."""
        network = without_idle_units(self.network, self.objective.X)
        if self.objective.regularizer == "l2":
            network = balanced(network)
        if network != self.network:
            self.offer(network, "idle units", "")

    def run(self) -> None:
        """Sweeps from the output layer to the first, until nothing moves, the time is over or an interrupt."""
        with one_thread(max(W.size for W, _ in self.network.layers) <= SMALL):
            self._run()

    def _run(self) -> None:
        self.idle()
        for _ in range(self.options.sweeps):
            before = self.value
            for layer in reversed(range(len(self.network.layers))):
                if time.perf_counter() > self.deadline or self.layer(layer) == "interrupted":
                    return
                if self.objective.regularizer == "l2":
                    self.idle()
            if before - self.value <= MARGINAL * before:
                return


def refine_deep(
    network: Network, X: Array, Y: Array, options: RefineOptions, *, weight: Array | None = None
) -> DeepRefinement:
    """Refine a ReLU network with any number of hidden layers on checked arrays; see `convexnn.refinement.refine`.

    Implements: convexnn, Proposition 3 of docs/theory/deep.md (each step is never worse).

    Parameters
    ----------
    network : Network
        ReLU.
    X : array, shape (n, d)
    Y : array, shape (n, k)
        Targets, one column an output; -1 and +1 for margin losses.
    options : RefineOptions
        ``loss`` must be smooth: "squared", "huber", "squared_hinge" or "logistic".
    weight : array, shape (n,), optional
        Nonnegative weights of the samples; they are divided by their sum.

    Returns
    -------
    DeepRefinement
    """
    state = _Sweeps(network, deep_objective(X, Y, options, weight), options)
    try:
        state.run()
    except KeyboardInterrupt:
        state.record("interrupted", "interrupted", False)
    return DeepRefinement(
        model=state.network,
        network=state.network,
        before=state.history[0]["objective"],
        after=state.value,
        certificate=lipschitz(state.network, method="deep_lipsdp"),
        history=state.history,
        status="unchanged" if state.network is network else "improved",
    )


def deep_objective(X: Array, Y: Array, options: RefineOptions, weight: Array | None = None) -> DeepObjective:
    """The objective that `refine_deep` lowers."""
    loss = scalar_loss(options.loss)
    if loss.name not in SMOOTH:
        raise InvalidInputError(f"Layers are refined with a smooth loss, one of {SMOOTH}, got {loss.name!r}.")
    if loss.binary and not np.isin(Y, (-1.0, 1.0)).all():
        raise InvalidInputError(f"The loss {loss.name!r} needs targets -1 and +1, one column an output.")
    share = np.full(len(X), 1.0 / len(X)) if weight is None else weight / weight.sum()
    return DeepObjective(X, Y, share, loss, options.regularizer, options.lam)


def stored_deep(found: DeepRefinement, parts: ModelParts, model: Any, objective: DeepObjective) -> DeepRefinement:
    """The refinement as the model's own precision holds it; the model itself where rounding ate what was gained."""
    changed = parts.put_back(found.network)
    again = deep_model(changed)
    network = found.network if again is None else again.head
    if network == found.network:
        return replace(found, model=changed)
    after = objective(network)
    if after > found.before:
        certificate = lipschitz(parts.head, method="deep_lipsdp")
        return replace(
            found, model=model, network=parts.head, after=found.before, certificate=certificate, status="unchanged"
        )
    certificate = lipschitz(network, method="deep_lipsdp")
    return replace(found, model=changed, network=network, after=after, certificate=certificate)


def without_idle_units(network: Network, X: Array) -> Network:
    """The network with zero weights before and after hidden units that are zero at every row of X."""
    layers = [(W.copy(), b.copy()) for W, b in network.layers]
    for k, z in enumerate(network.pre_activations(X)):
        idle = (z <= 0).all(axis=0)
        layers[k][0][idle], layers[k][1][idle] = 0.0, 0.0
        layers[k + 1][0][:, idle] = 0.0
    return Network(layers, network.activation)


def balanced(network: Network) -> Network:
    """The same ReLU function with least weight decay over the scales of its hidden units (ten rounds)."""
    layers = [(W.copy(), b.copy()) for W, b in network.layers]
    for _ in range(10):
        for (W, b), (V, _) in zip(layers[:-1], layers[1:], strict=True):
            inner, outer = np.sqrt((W**2).sum(axis=1) + b**2), np.sqrt((V**2).sum(axis=0))
            used = (inner > 0) & (outer > 0)
            scale = np.sqrt(np.divide(outer, inner, out=np.ones_like(inner), where=used))
            W *= scale[:, None]
            b *= scale
            V /= scale
    return Network(layers, network.activation)

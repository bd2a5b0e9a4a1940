"""First-order steps on the certified-margin objective of a network, all weights free; nothing here is believed.

The Lipschitz bounds enter by their values and gradients at factors that follow the weights by power steps
(:mod:`convexnn.lipsdp.pairs`), so a step costs little more than one of plain training. Who calls certifies.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convexnn.lipsdp.pairs import follow, pair_gradients, pair_values, random_factors, shaken
from convexnn.losses import MarginLoss

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Layers = tuple[Array, Array, Array, Array]  # W (m, d), b (m,), V (k, m), c (k,)

#: Rows of a step, and from how many rows on.
BATCH, FULL_BATCH = 1024, 4096
#: Power steps before the first step, and steps between two shakes of the factors.
FIRST_POWER_STEPS, SHAKE_EVERY = 30, 100
MOMENTUM, MEMORY = 0.9, 0.999


class MarginObjective(Protocol):
    """What is read of ``convexnn.restrictions.certified_margin_terms.MarginTerms``."""

    @property
    def rows(self) -> Any: ...  # noqa: D102

    @property
    def labels(self) -> Indices: ...  # noqa: D102

    @property
    def radius(self) -> float: ...  # noqa: D102

    @property
    def norm(self) -> float: ...  # noqa: D102

    @property
    def lam(self) -> float: ...  # noqa: D102

    @property
    def loss(self) -> MarginLoss: ...  # noqa: D102

    @property
    def share(self) -> float: ...  # noqa: D102

    @property
    def differences(self) -> Array: ...  # noqa: D102

    @property
    def contrasts(self) -> Array: ...  # noqa: D102

    @property
    def pair_of(self) -> Indices: ...  # noqa: D102


@dataclass(frozen=True)
class Schedule:
    """How a descent spends its steps.

    Parameters
    ----------
    steps : int
    rate : float
        First step size of Adam, in coordinates where inputs have unit size; falls to zero along a cosine.
    warm_up : float
        Share of the steps in which the radius grows from zero to its value.
    report_every : int
        Steps between two networks that are handed out.
    """

    steps: int
    rate: float = 0.01
    warm_up: float = 0.3
    report_every: int = 200

    def rate_at(self, step: int) -> float:
        """Step size of a step (0-based)."""
        return self.rate * 0.5 * (1.0 + math.cos(math.pi * step / self.steps))

    def radius_share(self, step: int) -> float:
        """Part of the radius that counts in a step."""
        return min(1.0, step / max(self.warm_up * self.steps, 1.0))


@dataclass(frozen=True, eq=False)
class Scaled:
    """Coordinates in which the sizes of the inputs do not matter: ``W' = unit W`` and ``b' = b + W centre``."""

    centre: Array
    unit: float

    @classmethod
    def of(cls, X: Array, weight: Array) -> Scaled:
        """Weighted mean of the rows, and the root mean square of their entries around it."""
        centre = weight @ X
        largest = float(np.abs(X - centre).max())
        if not largest > 0:
            return cls(centre, 1.0)
        return cls(centre, largest * math.sqrt(float(weight @ (((X - centre) / largest) ** 2).mean(axis=1))))

    def of_raw(self, layers: Layers) -> list[Array]:
        """Coordinates of raw layers, units balanced."""
        W, b, V, c = layers
        inner = np.hstack([W * self.unit, (b + W @ self.centre)[:, None]])
        sizes, lengths = np.linalg.norm(inner, axis=1), np.linalg.norm(V, axis=0)
        ratio = np.where((sizes > 0) & (lengths > 0), np.sqrt(lengths / np.where(sizes > 0, sizes, 1.0)), 1.0)
        inner = inner * ratio[:, None]
        return [inner[:, :-1], inner[:, -1].copy(), V / np.where(ratio > 0, ratio, 1.0), c.copy()]

    def raw(self, coordinates: list[Array]) -> Layers:
        """Raw layers."""
        W = coordinates[0] / self.unit
        return W, coordinates[1] - W @ self.centre, coordinates[2], coordinates[3]

    def pulled(self, gradient: Layers) -> list[Array]:
        """Gradient in the coordinates from the gradient in the raw layers."""
        dW, db, dV, dc = gradient
        return [(dW - db[:, None] * self.centre) / self.unit, db, dV, dc]


def value_and_gradient(
    terms: MarginObjective, layers: Layers, factors: Array, radius: float, batch: Indices | None = None
) -> tuple[float, Layers]:
    """Objective with the bounds replaced by their values at ``factors``, and its gradient (a subgradient at kinks).

    Parameters
    ----------
    terms : MarginObjective
    layers : tuple of array
        W (m, d), b (m,), V (k, m), c (k,), raw.
    factors : array, shape (P, d, r)
        Normalized.
    radius : float
    batch : array of int, optional
        Rows to use, as a sample of all.

    Returns
    -------
    value : float
        At most the objective (on all rows and at the radius of the terms).
    gradient : tuple of array
        In the layers.
    """
    W, b, V, c = layers
    part = slice(None) if batch is None else batch
    X, contrasts, pair = terms.rows.X[part], terms.contrasts[part], terms.pair_of[part]
    weight = terms.share * terms.rows.weight[part]
    weight = weight if batch is None else weight * (len(terms.labels) / len(X))
    H = X @ W.T + b
    R = np.maximum(H, 0.0)
    gaps = np.matmul(contrasts, (R @ V.T + c)[:, :, None])[:, :, 0]
    A = terms.differences @ V
    margins = gaps - radius * pair_values(W, A, factors)[pair]
    ones = np.ones_like(margins)
    value = float(weight @ terms.loss.value(margins, ones).sum(axis=1))
    slopes = weight[:, None] * terms.loss.gradient(margins, ones)
    df = np.matmul(slopes[:, None, :], contrasts)[:, 0]
    dH = (df @ V) * (H > 0)
    rates: Array = np.bincount(pair.ravel(), -radius * slopes.ravel(), minlength=len(A)).astype(float)
    dW, dA = pair_gradients(W, A, factors, rates)
    gradient = [dW + dH.T @ X, dH.sum(axis=0), terms.differences.T @ dA + df.T @ R, df.sum(axis=0)]
    if terms.lam:
        value += _add_decay(terms.lam, layers, gradient)
    return value, (gradient[0], gradient[1], gradient[2], gradient[3])


def _add_decay(lam: float, layers: Layers, gradient: list[Array]) -> float:
    """Add the gradient of ``2 lam sum |v_i| |(w_i, b_i)|`` and return its value."""
    W, b, V, _ = layers
    inner, outer = np.sqrt((W**2).sum(axis=1) + b**2), np.linalg.norm(V, axis=0)
    ratio = np.divide(outer, inner, out=np.zeros_like(inner), where=inner > 0)
    gradient[0] += 2 * lam * ratio[:, None] * W
    gradient[1] += 2 * lam * ratio * b
    gradient[2] += 2 * lam * np.divide(inner, outer, out=np.zeros_like(inner), where=outer > 0) * V
    return 2 * lam * float(inner @ outer)


@dataclass(eq=False)
class MarginDescent:
    """Adam on the objective, with factors that follow the weights.

    Parameters
    ----------
    terms : MarginObjective
    layers : tuple of array
        Where to start, raw.
    schedule : Schedule
    seed : int
        Of the batches of large data sets.
    deadline : float
        Of ``time.perf_counter``: the last network is handed out there.
    """

    terms: MarginObjective
    layers: Layers
    schedule: Schedule
    seed: int = 0
    deadline: float = math.inf
    factors: Array = field(init=False)

    def __post_init__(self) -> None:
        """Bring the factors near those of the start."""
        with np.errstate(over="ignore", invalid="ignore"):
            A = self.terms.differences @ self.layers[2]
        first = random_factors(len(A), self.layers[0].shape[1], self.terms.norm)
        with np.errstate(all="ignore"):
            self.factors = follow(self.layers[0], A, first, self.terms.norm, FIRST_POWER_STEPS)

    def run(self) -> Iterator[Layers]:
        """Networks on the way, the last one included; ``factors`` belong to the one just handed out."""
        terms, plan = self.terms, self.schedule
        scaled = Scaled.of(terms.rows.X, terms.rows.weight)
        with np.errstate(all="ignore"):
            z = scaled.of_raw(self.layers)
        first, second = [np.zeros_like(part) for part in z], [np.zeros_like(part) for part in z]
        rng, n = np.random.default_rng(self.seed), len(terms.labels)
        for step in range(plan.steps):
            layers = scaled.raw(z)
            batch = None if n <= FULL_BATCH else rng.choice(n, BATCH, replace=False)
            radius = terms.radius * plan.radius_share(step)
            with np.errstate(all="ignore"):  # a divergence ends the descent
                self.factors = self._followed(layers, step)
                _, raw = value_and_gradient(terms, layers, self.factors, radius, batch)
                gradient = scaled.pulled(raw)
            if not all(np.isfinite(part).all() for part in gradient):
                return
            for j, part in enumerate(gradient):
                first[j] = MOMENTUM * first[j] + (1 - MOMENTUM) * part
                second[j] = MEMORY * second[j] + (1 - MEMORY) * part**2
                size = np.sqrt(second[j] / (1 - MEMORY ** (step + 1)))
                z[j] = z[j] - plan.rate_at(step) * first[j] / (1 - MOMENTUM ** (step + 1)) / (size + 1e-12)
            late = time.perf_counter() >= self.deadline
            if (step + 1) % plan.report_every == 0 or step + 1 == plan.steps or late:
                self.layers = scaled.raw(z)
                if not all(np.isfinite(part).all() for part in self.layers):
                    return
                yield self.layers
            if late:
                return

    def _followed(self, layers: Layers, step: int) -> Array:
        A = self.terms.differences @ layers[2]
        if step % SHAKE_EVERY or step + FIRST_POWER_STEPS > self.schedule.steps:
            return follow(layers[0], A, self.factors, self.terms.norm)
        return follow(layers[0], A, shaken(self.factors, self.terms.norm, step), self.terms.norm, FIRST_POWER_STEPS)


def random_layers(terms: MarginObjective, n_units: int, seed: int) -> Layers:
    """Random units of the usual size in the coordinates of :class:`Scaled`, output biases zero."""
    rng = np.random.default_rng(seed)
    d, k = terms.rows.X.shape[1], terms.differences.shape[1]
    W = rng.standard_normal((n_units, d)) * math.sqrt(2.0 / d)
    V = rng.standard_normal((k, n_units)) / math.sqrt(n_units)
    return Scaled.of(terms.rows.X, terms.rows.weight).raw([W, np.zeros(n_units), V, np.zeros(k)])

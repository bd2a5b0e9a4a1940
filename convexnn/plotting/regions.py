"""Networks that are safe on a region: their scores along rays out of it, and their bounds while they were trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.network import as_network
from convexnn.plotting.style import GRAY, PALE, PALETTE, axes, quiet, spans_decades
from convexnn.regions.polytope import Polytope
from convexnn.regions.region import BALL, Region, as_regions

Array = NDArray[np.float64]

PANELS = ("bound", "accuracy")


class RegionScoreDisplay:
    """Scores of a network along rays from the center of a region: below zero inside, as far as rays can show.

    The rays are examples; the dashed line is the proof, for all points of the region.

    Parameters
    ----------
    size : array, shape (k,)
        Distances from the center, in units of the region: 1 is its surface.
    scores : array, shape (n, k)
        One row a ray.
    bound : float
        Proved upper bound on the region, ``inf`` when there is none.
    samples : pair of arrays, shape (m,), or None
        Sizes and scores of samples.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    band_ : matplotlib PolyCollection
        From the lowest to the highest ray.
    line_ : matplotlib Line2D
        The median ray.
    bound_ : matplotlib Line2D or None
    """

    def __init__(
        self, size: ArrayLike, scores: ArrayLike, bound: float = math.inf, samples: tuple[Any, Any] | None = None
    ) -> None:
        self.size, self.scores, self.bound = np.asarray(size, dtype=float), np.asarray(scores, dtype=float), bound
        if self.scores.ndim != 2 or not len(self.scores) or self.scores.shape[1:] != self.size.shape:
            raise InvalidInputError(
                f"scores must have shape (rays, {len(self.size)}), one column a distance, got {self.scores.shape}."
            )
        self.samples = None if samples is None else tuple(np.asarray(part, dtype=float) for part in samples)

    @classmethod
    def from_network(
        cls,
        network: Any,
        region: Any,
        X: ArrayLike | None = None,
        *,
        bound: float = math.inf,
        reach: float = 2.0,
        n_rays: int = 200,
        random_state: int = 0,
        ax: Any = None,
    ) -> RegionScoreDisplay:
        """Draw a network with one output.

        Parameters
        ----------
        network : Network or any model that :func:`convexnn.as_network` takes
        region : Region, L2Ball, LInfBall, Box or Polytope
        X : array-like, shape (n, d), optional
            Samples, drawn at their size in the region's units.
        bound : float
            Proved upper bound on the region.
        reach : float
            Length of the rays, in units of the region.
        n_rays : int
            Random directions; those of a box go to uniform points of its surface, those of a polytope are uniform.
        random_state : int
        ax : matplotlib Axes, optional
        """
        net = as_network(network)
        if net.n_outputs != 1:
            raise InvalidInputError(f"The scores of one output can be drawn; the network has {net.n_outputs}.")
        if not (math.isfinite(reach) and reach > 0) or n_rays < 1:
            raise InvalidInputError(f"reach must be positive and n_rays at least 1, got {reach!r} and {n_rays!r}.")
        members = _members(region, net.n_inputs)
        if len(members) > 1:
            raise InvalidInputError(f"Rays start in one region, {len(members)} were given; draw them one by one.")
        size, scores = _along_rays(net, members[0], reach, n_rays, np.random.default_rng(random_state))
        samples = None
        if X is not None:
            points = np.asarray(X, dtype=float)
            samples = (_sizes(members[0], points), net(points))
        return cls(size, scores, bound, samples).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: ArrayLike | None = None, *, member: int = 0, **options: Any
    ) -> RegionScoreDisplay:
        """Draw a fitted :class:`convexnn.SafeRegionClassifier` on its region.

        Parameters
        ----------
        estimator : SafeRegionClassifier
        X : array-like, shape (n, d), optional
            Samples.
        member : int
            Which region of a union.
        **options
            Of :meth:`from_network`.
        """
        network = estimator.safe_network_
        members = _members(estimator.region, network.n_inputs)
        certificate = estimator.region_certificates_[member]
        return cls.from_network(network, members[member], X, bound=certificate.bound, **options)

    def plot(self, ax: Any = None) -> RegionScoreDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes(ax, (6.0, 3.8))
        self.ax_.axvspan(0, 1, color=PALE, zorder=0, label="region")
        self.ax_.axhline(0, color=GRAY, linewidth=0.8)
        low, middle, high = np.quantile(self.scores, (0.0, 0.5, 1.0), axis=0)
        self.band_ = self.ax_.fill_between(
            self.size, low, high, color=PALETTE[0], alpha=0.25, linewidth=0, label=f"{len(self.scores)} rays"
        )
        (self.line_,) = self.ax_.plot(self.size, middle, color=PALETTE[0], label="median ray")
        if self.samples is not None:
            self.ax_.scatter(*self.samples, s=6, color=PALETTE[2], alpha=0.5, linewidth=0, label="samples")
        self.bound_ = None
        if math.isfinite(self.bound):
            (self.bound_,) = self.ax_.plot(
                [0, 1], [self.bound] * 2, color=PALETTE[1], linestyle=(0, (4, 2)), label="proved bound"
            )
        self.ax_.set_xlim(0, float(self.size.max()))
        self.ax_.set_xlabel("distance from the center (1: surface of the region)")
        self.ax_.set_ylabel("score")
        self.ax_.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=5, frameon=False, fontsize="small", borderaxespad=0.2,
            columnspacing=1.2, handlelength=1.4,
        )  # fmt: skip
        quiet(self.ax_)
        return self


class RegionTrainingDisplay:
    """Bound and attack of a network on its region while it was trained: the truth lies between them.

    Parameters
    ----------
    history : sequence of mapping
        ``history`` of a region training: step, bound, lower (best attack), accuracy (with the bound), attainable (the
        same if the bound were what the attack found).
    panel : {"bound", "accuracy"}
        What is drawn.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    lines_ : list of matplotlib Line2D
    """

    def __init__(self, history: Sequence[Mapping[str, Any]], *, panel: str = "bound") -> None:
        if panel not in PANELS:
            raise InvalidInputError(f"panel must be one of {PANELS}, got {panel!r}.")
        if not history:
            raise InvalidInputError("The history is empty; nothing can be drawn.")
        self.history, self.panel = [dict(row) for row in history], panel

    @classmethod
    def from_training(cls, training: Any, *, panel: str = "bound", ax: Any = None) -> RegionTrainingDisplay:
        """Draw a result of :func:`convexnn.training.train_safe_region`, or anything with ``history``."""
        return cls(training.history, panel=panel).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, *, panel: str = "bound", ax: Any = None) -> RegionTrainingDisplay:
        """Draw ``history_`` of a fitted :class:`convexnn.SafeRegionClassifier`."""
        return cls(estimator.history_, panel=panel).plot(ax=ax)

    def values(self, name: str) -> Array:
        """One entry of all rows, NaN where a row does not have it, shape (k,)."""
        return np.array([float(row.get(name, math.nan)) for row in self.history])

    def plot(self, ax: Any = None) -> RegionTrainingDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes(ax, (6.0, 3.8))
        pairs = {
            "bound": (("bound", "proved bound"), ("lower", "best attack")),
            "accuracy": (("attainable", "if attack = bound"), ("accuracy", "proved")),
        }[self.panel]
        steps = self.values("step")
        upper, lower = (self.values(name) for name, _ in pairs)
        self.ax_.fill_between(steps, lower, upper, color=PALETTE[5], alpha=0.25, linewidth=0)
        self.lines_ = [
            self.ax_.plot(steps, values, color=PALETTE[k], marker="o", markersize=3, label=label)[0]
            for k, (values, (_, label)) in enumerate(zip((upper, lower), pairs, strict=True))
        ]
        if self.panel == "bound" and spans_decades(np.concatenate([upper, lower])):
            self.ax_.set_yscale("log")
        self.ax_.set_xlabel("step")
        self.ax_.set_ylabel("largest value of g on the region" if self.panel == "bound" else "accepted share")
        self.ax_.legend(frameon=False, fontsize="small")
        quiet(self.ax_)
        return self


def _members(region: Any, n_inputs: int) -> tuple[Region, ...] | tuple[Polytope]:
    alone = region[0] if isinstance(region, list | tuple) and len(region) == 1 else region
    return (alone,) if isinstance(alone, Polytope) and alone.n_inputs == n_inputs else as_regions(region, n_inputs)


def _along_rays(
    network: Any, region: Region | Polytope, reach: float, n_rays: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    center = region.center
    if isinstance(region, Polytope):
        ends = rng.standard_normal((n_rays, region.n_inputs)) * (region.upper - region.lower)
        ends /= _polytope_sizes(region, center, ends)[:, None]
    else:
        ends = region.sample_surface(n_rays, rng) - center
    size = np.linspace(0.0, reach, 201)
    points = center + size[None, :, None] * ends[:, None, :]
    return size, network(points.reshape(-1, region.n_inputs)).reshape(n_rays, len(size))


def _sizes(region: Region | Polytope, X: Array) -> Array:
    """Sizes of points in the units of a region, NaN off its span, shape (n,)."""
    if isinstance(region, Polytope):
        return _polytope_sizes(region, region.center, X - region.center)
    E, missed = region.coordinates(X)
    size = np.linalg.norm(E, axis=1) if region.kind == BALL else np.abs(E).max(axis=1)
    return np.where(missed <= 1e-9 * (1.0 + np.abs(X).max(axis=1)), size, math.nan)


def _polytope_sizes(region: Polytope, center: Array, D: Array) -> Array:
    """How often the way from the center to the surface goes into steps D (n, d), shape (n,)."""
    rises = np.hstack([D @ region.A.T, D, -D])
    rooms = np.concatenate([region.b - region.A @ center, region.upper - center, center - region.lower])
    return np.asarray((rises / np.maximum(rooms, np.finfo(float).tiny)).max(axis=1))

"""The decision regions of a classifier in a plane, and the balls in which its predictions are certified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.plotting.style import GRAY, PALETTE, axes

Array = NDArray[np.float64]
NORMS = ("l2", "linf")


@dataclass(frozen=True, eq=False)
class Plane:
    """A grid in two features, the others held fixed.

    Attributes
    ----------
    first, second : array, shape (g, g)
        The two features on the grid.
    classes : int array, shape (g, g)
        Index of the predicted class in ``labels``.
    labels : array, shape (k,)
        The classes, in the order of their indices.
    """

    first: Array
    second: Array
    classes: NDArray[np.intp]
    labels: NDArray[Any]


class DecisionBoundaryDisplay:
    """Decision regions in two features, samples, and their certified balls.

    Parameters
    ----------
    plane : Plane
        Predictions on a grid.
    points : array, shape (n, 2), or None
        Samples in the two features.
    targets : int array, shape (n,), or None
        Class index of every sample.
    radii : array, shape (n,), or None
        Certified radius of every sample, in the units of the features; 0 draws none.
    norm : {"l2", "linf"}
        A ball is a disk or a square.
    names : pair of str
        Of the two features.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    balls_ : matplotlib PatchCollection or None
        The certified balls.
    """

    def __init__(
        self,
        plane: Plane,
        points: ArrayLike | None = None,
        targets: ArrayLike | None = None,
        radii: ArrayLike | None = None,
        *,
        norm: str = "l2",
        names: tuple[str, str] = ("feature 0", "feature 1"),
    ) -> None:
        if norm not in NORMS:
            raise InvalidInputError(f"norm must be one of {NORMS}, got {norm!r}.")
        self.plane, self.norm, self.names = plane, norm, names
        self.points = None if points is None else np.asarray(points, dtype=float)
        self.targets = None if targets is None else np.asarray(targets, dtype=np.intp)
        self.radii = None if radii is None else _checked_radii(radii, self.points)

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        features: tuple[int, int] = (0, 1),
        radii: ArrayLike | str | None = None,
        norm: str = "l2",
        grid_resolution: int = 200,
        ax: Any = None,
    ) -> DecisionBoundaryDisplay:
        """Draw a fitted classifier around samples.

        Parameters
        ----------
        model : fitted classifier
            Anything with ``predict`` and ``classes_``.
        X : array-like, shape (n, d)
            With more than two columns the picture is the plane through the mean of the samples, and the samples are
            drawn where they fall on it.
        y : array-like, shape (n,), optional
            Labels, for the colors of the samples.
        features : pair of int
            The two columns.
        radii : array-like, shape (n,), or "certified", optional
            Certified radii; "certified" stands for ``model.certified_radius(X, y)`` in l2 and needs ``y``. Only with
            two columns, where the balls are what is drawn.
        norm : {"l2", "linf"}
            Of the radii.
        grid_resolution : int
            Points a side.
        ax : matplotlib Axes, optional

        Raises
        ------
        InvalidInputError
            For columns that are not there, and for radii with more than two columns: a section of a ball around a
            point that does not lie in the plane is not the ball that was certified.
        """
        samples = np.asarray(X, dtype=float)
        _check_features(samples, features)
        if radii is not None and samples.shape[1] != 2:
            raise InvalidInputError(
                f"Certified balls can be drawn for two columns, X has {samples.shape[1]}; leave out radii."
            )
        if isinstance(radii, str):
            radii = _certified_radii(model, X, y, radii, norm)
        margin = 0.0 if radii is None else float(np.max(_finite(radii), initial=0.0))
        plane = _predicted(model, samples, features, grid_resolution, margin)
        targets = None if y is None else _indices(plane.labels, y)
        columns = getattr(X, "columns", None)
        names = tuple(f"feature {k}" if columns is None else str(columns[k]) for k in features)
        display = cls(plane, samples[:, list(features)], targets, radii, norm=norm, names=(names[0], names[1]))
        return display.plot(ax=ax)

    def plot(self, ax: Any = None) -> DecisionBoundaryDisplay:
        """Draw on ``ax``, or on a new figure."""
        from matplotlib.colors import ListedColormap

        self.figure_, self.ax_ = axes(ax, (5.2, 4.4))
        count = len(self.plane.labels)
        colors = [PALETTE[k % len(PALETTE)] for k in range(count)]
        levels = np.arange(count + 1) - 0.5
        self.ax_.contourf(
            self.plane.first,
            self.plane.second,
            self.plane.classes,
            levels=levels,
            cmap=ListedColormap(colors),
            alpha=0.18,
        )
        for k in range(count - 1 if count == 2 else count):
            inside = (self.plane.classes == k).astype(float)
            if 0 < inside.mean() < 1:
                self.ax_.contour(self.plane.first, self.plane.second, inside, levels=[0.5], colors=GRAY, linewidths=1)
        self.balls_ = self._draw_balls(colors)
        self._draw_points(colors)
        self.ax_.set_xlabel(self.names[0])
        self.ax_.set_ylabel(self.names[1])
        if self.balls_ is not None:
            self.ax_.set_aspect("equal")
        return self

    def _draw_points(self, colors: list[str]) -> None:
        if self.points is None:
            return
        if self.targets is None:
            self.ax_.scatter(*self.points.T, s=14, color=GRAY, zorder=3)
            return
        for k, label in enumerate(self.plane.labels):
            chosen = self.points[self.targets == k]
            self.ax_.scatter(*chosen.T, s=14, color=colors[k], edgecolor="white", linewidth=0.4, label=label, zorder=3)
        self.ax_.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize="small")

    def _draw_balls(self, colors: list[str]) -> Any:
        """Balls in the colors of their samples."""
        if self.radii is None or self.points is None:
            return None
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Circle, Rectangle

        patches: list[Any] = []
        edges = [GRAY] * len(self.points) if self.targets is None else [colors[k] for k in self.targets]
        drawn = (self.radii > 0) & np.isfinite(self.radii)
        for point, radius in zip(self.points[drawn], self.radii[drawn], strict=True):
            if self.norm == "l2":
                patches.append(Circle((point[0], point[1]), radius))
            else:
                patches.append(Rectangle((point[0] - radius, point[1] - radius), 2 * radius, 2 * radius))
        edges = [edge for edge, kept in zip(edges, drawn, strict=True) if kept]
        balls = PatchCollection(patches, facecolor="none", edgecolor=edges, linewidth=0.7, alpha=0.6)
        return self.ax_.add_collection(balls)


def _certified_radii(model: Any, X: ArrayLike, y: ArrayLike | None, radii: str, norm: str) -> Array:
    if radii != "certified" or norm != "l2" or y is None or not hasattr(model, "certified_radius"):
        raise InvalidInputError(
            f'radii="certified" needs y, norm="l2" and a model with certified_radius; got radii={radii!r}, '
            f"norm={norm!r}, y {'missing' if y is None else 'given'}, {type(model).__name__}."
        )
    return np.asarray(model.certified_radius(X, y), dtype=float)


def _finite(radii: ArrayLike) -> Array:
    values = np.asarray(radii, dtype=float)
    return values[np.isfinite(values)]


def _checked_radii(radii: ArrayLike, points: Array | None) -> Array:
    values = np.asarray(radii, dtype=float)
    if points is None or values.shape != (len(points),):
        raise InvalidInputError(f"radii must hold one number for each sample, got shape {values.shape}.")
    if np.isnan(values).any() or (values < 0).any():
        raise InvalidInputError("radii must be nonnegative.")
    return values


def _check_features(X: Array, features: tuple[int, int]) -> None:
    wrong = X.ndim != 2 or len(features) != 2 or any(not 0 <= k < X.shape[1] for k in features)
    if wrong or features[0] == features[1] or not len(X):
        raise InvalidInputError(f"features must name two columns of X, got {features!r} for shape {X.shape}.")


def _indices(labels: NDArray[Any], y: ArrayLike) -> NDArray[np.intp]:
    targets = np.asarray(y)
    unknown = set(np.unique(targets).tolist()) - set(labels.tolist())
    if unknown:
        raise InvalidInputError(f"y holds labels that the model does not know: {sorted(map(str, unknown))}.")
    order = np.argsort(labels)
    found: NDArray[np.intp] = order[np.searchsorted(labels[order], targets)]
    return found


def _predicted(model: Any, X: Array, features: tuple[int, int], resolution: int, margin: float) -> Plane:
    """Predictions on a grid a little larger than the samples and their balls."""
    labels = getattr(model, "classes_", None)
    if labels is None:
        raise InvalidInputError(f"A fitted classifier with classes_ is needed, got {type(model).__name__}.")
    sides = []
    for k in features:
        low, high = X[:, k].min(), X[:, k].max()
        room = 0.08 * (high - low or max(1.0, abs(high))) + margin
        sides.append(np.linspace(low - room, high + room, resolution))
    first, second = np.meshgrid(*sides)
    grid = np.tile(X.mean(axis=0), (first.size, 1))
    grid[:, features[0]], grid[:, features[1]] = first.ravel(), second.ravel()
    known = np.asarray(labels)
    return Plane(first, second, _indices(known, model.predict(grid)).reshape(first.shape), known)

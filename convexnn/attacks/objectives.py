"""What an attack maximizes: the squared error of a regressor, the margin (or a loss) of a classifier.

An objective gives the value of outputs ``(n, k)`` and a list of goals. A goal maps outputs to a direction
``(n, k)`` in output space along which the attack climbs; several goals cover the ways a value can grow (both
signs of an error, several rival classes).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_floats
from convexnn.losses import LOSSES, Hinge, Logistic, Loss, MultiMargin, SquaredHinge, get_loss

Array = NDArray[np.float64]
Goal = Callable[[Array], Array]
RIVALS = 3  # rival classes attacked one by one: the strongest at the clean point


class Objective(Protocol):
    """A per-sample quantity to maximize."""

    def value(self, outputs: Array) -> Array:
        """Value of each sample, shape (n,), from outputs (n, k)."""

    def goals(self, clean: Array) -> list[Goal]:
        """Directions to climb, given the outputs at the unperturbed inputs."""

    def success(self, outputs: Array) -> NDArray[np.bool_] | None:
        """Whether each sample is misclassified; None for regression."""


@dataclass(frozen=True, eq=False)
class SquaredError:
    """``|f(x') - y|^2``, summed over outputs.

    Parameters
    ----------
    y : array, shape (n, k)
    """

    y: Array

    def value(self, outputs: Array) -> Array:
        """Squared error of each sample."""
        total: Array = ((outputs - self.y) ** 2).sum(axis=1)
        return total

    def goals(self, clean: Array) -> list[Goal]:
        """Away from the target along the clean error, along its opposite, and (several outputs) the error itself."""
        error = clean - self.y
        size = np.linalg.norm(error, axis=1, keepdims=True)
        direction = np.where(size > 0, error / np.where(size > 0, size, 1.0), 1.0)
        fixed: list[Goal] = [lambda _: direction, lambda _: -direction]
        return fixed if clean.shape[1] == 1 else [*fixed, lambda outputs: outputs - self.y]

    def success(self, outputs: Array) -> None:
        """Undefined for regression."""
        del outputs


@dataclass(frozen=True, eq=False)
class BinaryMargin:
    """``-y f(x')`` of a scalar network, or a margin loss of it; positive values are misclassified.

    Parameters
    ----------
    y : array, shape (n,)
        -1 / +1.
    loss : Loss, optional
        A decreasing function of ``y f`` whose value is reported instead of the margin.
    """

    y: Array
    loss: Loss | None = None

    def value(self, outputs: Array) -> Array:
        """Margin (or loss) of each sample."""
        f = outputs[:, 0]
        return -self.y * f if self.loss is None else self.loss.value(f, self.y)

    def goals(self, clean: Array) -> list[Goal]:
        """Towards the other class."""
        del clean
        return [lambda _: -self.y[:, None]]

    def success(self, outputs: Array) -> NDArray[np.bool_]:
        """Whether the predicted class (second when ``f > 0``) is not the label."""
        wrong: NDArray[np.bool_] = (outputs[:, 0] > 0) != (self.y > 0)
        return wrong


@dataclass(frozen=True, eq=False)
class ClassMargin:
    """``max_{t != y} f_t(x') - f_y(x')``, or a loss of the scores; positive margins are misclassified.

    Parameters
    ----------
    y : int array, shape (n,)
        Class indices.
    loss : Loss, optional
        A loss of the scores that is reported instead of the margin.
    """

    y: NDArray[np.intp]
    loss: Loss | None = None

    def _gaps(self, outputs: Array) -> Array:
        rows = np.arange(len(outputs))
        gaps = outputs - outputs[rows, self.y][:, None]
        gaps[rows, self.y] = -np.inf
        return gaps

    def value(self, outputs: Array) -> Array:
        """Margin (or loss) of each sample."""
        if self.loss is not None:
            return self.loss.value(outputs, self.y.astype(float))
        margin: Array = self._gaps(outputs).max(axis=1)
        return margin

    def goals(self, clean: Array) -> list[Goal]:
        """Towards each of the strongest rival classes in turn.

        Implements: Gowal et al. (2019), the multi-targeted attack of section 3, arXiv 1910.09338.
        """
        ranked = np.argsort(-self._gaps(clean), axis=1, kind="stable")
        return [self._towards(ranked[:, r], clean.shape[1]) for r in range(min(clean.shape[1] - 1, RIVALS))]

    def _towards(self, rival: NDArray[np.intp], k: int) -> Goal:
        direction = np.eye(k)[rival] - np.eye(k)[self.y]
        return lambda _: direction

    def success(self, outputs: Array) -> NDArray[np.bool_]:
        """Whether the predicted class (the first of the largest scores) is not the label."""
        wrong: NDArray[np.bool_] = outputs.argmax(axis=1) != self.y
        return wrong


def build_objective(model: Any, y: ArrayLike, n: int, n_outputs: int, loss: str | Loss | None) -> Objective:
    """Objective of a model, its targets and an optional loss.

    Parameters
    ----------
    model : object
        Its ``classes_``, where it has them, are the labels.
    y : array-like, shape (n,) or (n, k)
    n : int
        Number of samples.
    n_outputs : int
        Outputs of the model's network.
    loss : str or Loss, optional
        "squared", "margin" or a classification loss. None decides: models with ``classes_`` and networks with
        several outputs and one label per row are classifiers; so are scalar networks when ``y`` holds integers,
        booleans, of {0, 1} or {-1, +1} only; everything else is a regression.
    """
    targets = _targets(y, n)
    chosen = loss if loss is not None else "margin" if _is_classification(model, targets, n_outputs) else "squared"
    name = chosen.name if isinstance(chosen, Loss) else chosen
    if name == "squared":
        return SquaredError(_regression_targets(targets, n, n_outputs))
    if name != "margin" and name not in LOSSES:
        raise InvalidInputError(f"Unknown loss {loss!r}; expected 'margin' or one of {sorted(LOSSES)}.")
    measure = None if name == "margin" else get_loss(chosen)
    if n_outputs == 1:
        _require_kind(measure, (Hinge, SquaredHinge, Logistic), "a network with one output")
        return BinaryMargin(_signs(model, targets), measure)
    _require_kind(measure, (MultiMargin,), f"a network with {n_outputs} outputs")
    return ClassMargin(_indices(model, targets, n_outputs), measure)


def _targets(y: ArrayLike, n: int) -> NDArray[Any]:
    targets = np.asarray(y)
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim not in (1, 2) or len(targets) != n:
        raise InvalidInputError(f"y must have one row per row of X ({n}), got shape {targets.shape}.")
    return targets


def _is_classification(model: Any, y: NDArray[Any], n_outputs: int) -> bool:
    if getattr(model, "classes_", None) is not None:
        return True
    if hasattr(model, "predict"):  # an estimator without classes is a regressor
        return False
    if n_outputs > 1:
        return y.ndim == 1
    if y.dtype.kind not in "biu":
        return False
    return bool(np.isin(y, (0, 1)).all() or np.isin(y, (-1, 1)).all())


def _regression_targets(y: NDArray[Any], n: int, n_outputs: int) -> Array:
    values = as_floats(y, "y").reshape(n, -1)
    if values.shape[1] != n_outputs:
        raise InvalidInputError(f"The network has {n_outputs} output(s), but y has {values.shape[1]} column(s).")
    if not np.isfinite(values).all():
        raise InvalidInputError("y holds NaN or infinite values.")
    return values


def _signs(model: Any, y: NDArray[Any]) -> Array:
    classes = getattr(model, "classes_", None)
    if classes is not None:
        return np.where(_positions(y, _as_many(classes, 2, 1)) == 1, 1.0, -1.0)
    known = (np.array([0, 1]), np.array([-1, 1]))
    for pair in known:
        if y.ndim == 1 and np.isin(y, pair).all():
            return np.where(y == pair[1], 1.0, -1.0)
    raise InvalidInputError("A network with one output classifies labels 0 / 1 or -1 / +1; y holds other values.")


def _indices(model: Any, y: NDArray[Any], n_outputs: int) -> NDArray[np.intp]:
    classes = getattr(model, "classes_", None)
    return _positions(y, np.arange(n_outputs) if classes is None else _as_many(classes, n_outputs, n_outputs))


def _as_many(classes: Any, expected: int, n_outputs: int) -> NDArray[Any]:
    if len(classes) != expected:
        raise InvalidInputError(
            f"A network with {n_outputs} output(s) tells {expected} classes apart, but there are {len(classes)} labels."
        )
    return np.asarray(classes)


def _positions(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.intp]:
    if y.ndim != 1 or not np.isin(y, classes).all():
        raise InvalidInputError(f"y must hold one of the {len(classes)} class labels per row: {classes.tolist()}.")
    order = np.argsort(classes)
    found: NDArray[np.intp] = order[np.searchsorted(classes, y, sorter=order)]
    return found


def _require_kind(measure: Loss | None, kinds: tuple[type[Loss], ...], what: str) -> None:
    if measure is not None and not isinstance(measure, kinds):
        names = ", ".join(kind.name for kind in kinds)
        raise InvalidInputError(f"The loss {measure.name!r} does not fit {what}; use 'margin' or: {names}.")
